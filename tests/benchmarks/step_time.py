"""Time of one training step at the paper's size against the matrix products alone.

    python tests/benchmarks/step_time.py [--rounds 5] [--compile]

The step: forward, backward and AdamW at hidden 512, H=3, L=6, mixer=mlp, 81 tokens, batch 16, float32. The yardstick:
every matrix product of that step, at the exact same shapes and layouts, and nothing else. The two are run in turn and
the best round of each counts; the ratio is yardstick / step (1 would mean that nothing but products takes time).
"""

import argparse
import resource
import time

import torch

from trm.layers import inner_width
from trm.model import PAPER, TRM, TRMConfig

B, T, D, H, L, LAYERS = 16, 81, 512, 3, 6, 2


def matrix_products() -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """(how often, left, right) for every kind of product in one step, biggest first."""
    forward = H * (L + 1) * LAYERS
    trained = (L + 1) * LAYERS  # only the last H-cycle has a backward pass
    products = []
    for rows, width, inner in ((B * T, D, inner_width(D, 4, 256)), (B * D, T, inner_width(T, 4, 256))):
        x, a, h = torch.randn(rows, width), torch.randn(rows, inner), torch.randn(rows, 2 * inner)
        up, down = torch.randn(2 * inner, width), torch.randn(width, inner)
        products += [(forward, x, up.T), (forward, a, down.T)]
        products += [(trained, h, up), (trained, h.T, x), (trained, x, down), (trained, x.T, a)]
    return products


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    products = matrix_products()
    model = TRM(TRMConfig(**PAPER | {"H_cycles": H, "L_cycles": L}))
    if options.compile:
        model.net.compile(dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = {"inputs": torch.randint(1, 11, (B, T)), "labels": torch.randint(2, 11, (B, T))}
    state = None

    def step():
        nonlocal state
        out = model.loss(batch, state)
        state = out.state
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def yardstick():
        for times, left, right in products:
            out = torch.empty(left.shape[0], right.shape[1])
            for _ in range(times):
                torch.mm(left, right, out=out)

    best = {step: float("inf"), yardstick: float("inf")}
    step()  # the first one allocates and compiles
    for _ in range(options.rounds):
        for function in best:
            started = time.perf_counter()
            function()
            best[function] = min(best[function], time.perf_counter() - started)
    flops = sum(2 * n * a.shape[0] * a.shape[1] * b.shape[1] for n, a, b in products)
    print(f"step {best[step]:.3f} s, matrix products alone {best[yardstick]:.3f} s ({flops / 1e9:.0f} GFLOP, "
          f"{flops / best[yardstick] / 1e9:.0f} GFLOP/s)")  # fmt: skip
    print(f"ratio {best[yardstick] / best[step]:.3f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
