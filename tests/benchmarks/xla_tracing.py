"""How long a host takes to trace a step of the paper's model for XLA: no device is timed, nothing is run.

PJRT_DEVICE=CPU python tests/benchmarks/xla_tracing.py
"""

import argparse
import os
import time

os.environ.setdefault("PJRT_DEVICE", "CPU")

import torch
import torch_xla

from trm.flops import applications
from trm.model import TRM
from trm.optim import EMA, make_optimizer
from trm.params import read_yaml
from trm.puzzles.params import TrmTrain
from trm.run import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    steps = parser.parse_args().steps
    params = TrmTrain.create(read_yaml(ROOT / "params" / "04_paper.yaml") | {"batch_size": 8})
    config = params.trm_config()
    model = TRM(config).to(torch_xla.device())
    optimizer, average = make_optimizer(model, params), EMA(model, params.ema_decay)
    tokens = torch.ones(8, 81, dtype=torch.long).to(torch_xla.device())
    state, weight = model.initial_state(8), torch.tensor([0.001]).to(torch_xla.device())[0]
    torch_xla.sync()
    seconds = []
    for _ in range(steps):
        started = time.process_time()
        model.loss({"inputs": tokens, "labels": tokens}, state).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(weight)
        seconds.append(time.process_time() - started)
    median = sorted(seconds)[steps // 2]
    layers = config.num_layers * applications(config.H_cycles, config.L_cycles, config.backprop)
    span = f"{1e3 * min(seconds):.0f} to {1e3 * max(seconds):.0f}"
    print(f"{1e3 * median:.0f} ms of processor time per step, the median of {steps} ({span})")
    print(f"{1e3 * median / layers:.2f} ms per layer ({layers} layers, a backward pass counted as two)")


if __name__ == "__main__":
    main()
