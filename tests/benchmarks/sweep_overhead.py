"""What the sweep engine costs beyond plain papermill, and what two jobs at a time bring.

    python tests/benchmarks/sweep_overhead.py [--runs 6] [--steps 150]

Overhead: CPU-seconds (user and system, all processes) of `--runs` runs through `python -m trm.sweep run --jobs 1`, its own
start included, less those of as many plain papermill calls with the same parameters, divided by the runs; they train for
two steps, so that the training's own noise does not drown it. Throughput: runs of `--steps` steps a second of two jobs of one
thread each over those of one job of one thread. All in one run of this script.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def measured(*commands: list[str]) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of commands, one after the other."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(
            command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    seeds = list(range(options.runs))
    with tempfile.TemporaryDirectory() as folder:

        def parameters(steps: int) -> dict:
            return {"max_steps": steps, "test_size": 200, "eval_interval": 1000}

        def engine(steps: int, jobs: int) -> list[str]:
            sweep = Path(folder) / f"steps{steps}.yaml"
            content = {"notebook": "04_trm_train", "base": parameters(steps), "seeds": seeds, "scales": {"smoke": {}}}
            sweep.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
            return [sys.executable, "-m", "trm.sweep", "run", str(sweep), "--scale", "smoke", "--jobs", str(jobs),
                    "--threads", "1", "--outputs", f"{folder}/jobs{jobs}"]  # fmt: skip

        plain = [
            [sys.executable, "-m", "papermill", str(ROOT / "book" / "04_trm_train.ipynb"), f"{folder}/{seed}.ipynb",
             "--no-progress-bar", "-y", json.dumps(parameters(2) | {"seed": seed, "output_dir": f"{folder}/{seed}"})]
            for seed in seeds
        ]  # fmt: skip
        _, alone = measured(*plain)
        _, with_engine = measured(engine(2, 1))
        one, _ = measured(engine(options.steps, 1))
        two, _ = measured(engine(options.steps, 2))
    overhead = (with_engine - alone) / options.runs
    print(f"papermill alone: {alone / options.runs:.2f} CPU-seconds a run of two steps")
    print(f"overhead of the engine: {overhead:+.2f} CPU-seconds a run over {options.runs} runs")
    print(f"two jobs of one thread: {one / two:.2f} times the throughput of one ({one:.0f} s, {two:.0f} s)")


if __name__ == "__main__":
    main()
