"""Examples per second of the default 6x6 training (chapter 04), data and optimizer included, evaluation left out.

    python tests/benchmarks/throughput.py [--steps 100] [--rounds 3]

Also as a ratio: FLOP/s of its matrix products over those of one large square product measured in the same run.
"""

import argparse
import tempfile
import time

import torch

from trm.flops import step_flops
from trm.puzzles.dataset import load
from trm.puzzles.params import TrmTrain
from trm.puzzles.train import make_model, make_trainer
from trm.run import Run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data, rates, peaks = load("6x6"), [], []
    with tempfile.TemporaryDirectory() as folder:
        params = TrmTrain.create({"output_dir": folder, "max_steps": 10**6})
        trainer = make_trainer(make_model(params, data), params, Run(params, "04_trm_train"), data)
        a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
        trainer._train_step(detail=False)
        for _ in range(options.rounds):
            started = time.perf_counter()
            for _ in range(options.steps):
                trainer._train_step(detail=False)
            rates.append(options.steps * params.batch_size / (time.perf_counter() - started))
            started = time.perf_counter()
            for _ in range(20):
                a @ b
            peaks.append(20 * 2 * 1024**3 / (time.perf_counter() - started))
    flops = step_flops(trainer.model.config)
    print(f"{max(rates):.0f} examples per second, {flops * max(rates) / 1e9:.1f} GFLOP/s in matrix products")
    print(f"ratio to a square product of 1024: {flops * max(rates) / max(peaks):.3f}")


if __name__ == "__main__":
    main()
