"""Steps of a compressor's training with `torch.compile` and without, as `-p compile True` trains it.

    python tests/benchmarks/compressor_compile.py [--rounds 9] [--table book/results/01_compile.csv]

A step: forward, backward and AdamW on 1,024 states in float32, of the width of the model that ships and of SmolLM3-3B. Both
run in turn, ten steps a round. The first step, which compiles, is left out.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

from trm.compressor.model import Compressor
from trm.run import write_atomically

COMPRESSORS = [
    ("shipped", "tied", 192, 32),
    ("shipped", "nonlinear", 192, 32),
    ("SmolLM3-3B", "tied", 2048, 256),
]  # D, K
STATES, STEPS = 1024, 10


def stepper(kind: str, D: int, K: int, states: torch.Tensor, compiled: bool):
    """A function that takes one optimizer step."""
    torch.manual_seed(0)
    model = Compressor(D, K, kind)
    if compiled:
        model.compile(dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        torch.nn.functional.mse_loss(model(states), states).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(rounds: int) -> pd.DataFrame:
    """A row for each round and way: model, kind, arm (eager or compiled), round, processor seconds of ten steps."""
    rows = []
    for name, kind, D, K in COMPRESSORS:
        torch._dynamo.reset()
        states = torch.randn(STATES, D)
        ways = {way: stepper(kind, D, K, states, way == "compiled") for way in ("eager", "compiled")}
        for step in ways.values():
            step()
        for round_ in range(rounds):
            for way, step in ways.items():
                started = time.process_time()
                for _ in range(STEPS):
                    step()
                about = {"model": name, "kind": kind, "arm": way, "round": round_}
                rows.append(about | {"seconds": time.process_time() - started})
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--table", type=Path, help="CSV file for the rows")
    given = options.parse_args()
    table = measure(given.rounds)
    if given.table:
        write_atomically(given.table, table.to_csv(index=False, float_format="%.4g"))
    by_round = table.pivot(index=["model", "kind", "round"], columns="arm", values="seconds")
    ratios = (by_round["compiled"] / by_round["eager"]).groupby(["model", "kind"], sort=False)
    print(ratios.agg(["min", "median", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
