"""What the sweep engine costs beyond plain papermill, and what two jobs at a time bring.

    python tests/benchmarks/sweep_overhead.py [--runs 6] [--steps 150]

Overhead: CPU-seconds (user and system, all processes) of `--runs` runs through `python -m trm.sweep run --jobs 1`, its own
start included, less those of as many plain papermill calls with the same parameters, divided by the runs. Throughput: runs
a second of two jobs of one thread each over those of one job of one thread. All in one run of this script.
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
    values = {"max_steps": options.steps, "test_size": 200, "eval_interval": 1000}
    with tempfile.TemporaryDirectory() as folder:
        sweep, seeds = Path(folder) / "s.yaml", list(range(options.runs))
        content = {"notebook": "04_trm_train", "base": values, "seeds": seeds, "scales": {"smoke": {}}}
        sweep.write_text(json.dumps(content))  # JSON is YAML

        def engine(jobs: int) -> list[str]:
            return [sys.executable, "-m", "trm.sweep", "run", str(sweep), "--scale", "smoke", "--jobs", str(jobs),
                    "--threads", "1", "--outputs", f"{folder}/jobs{jobs}"]  # fmt: skip

        plain = [
            [sys.executable, "-m", "papermill", str(ROOT / "book" / "04_trm_train.ipynb"), f"{folder}/{seed}.ipynb",
             "--no-progress-bar", "-y", json.dumps(values | {"seed": seed, "output_dir": f"{folder}/{seed}"})]
            for seed in seeds
        ]  # fmt: skip
        wall, cpu = {}, {}
        wall["papermill"], cpu["papermill"] = measured(*plain)
        wall["one"], cpu["one"] = measured(engine(1))
        wall["two"], cpu["two"] = measured(engine(2))
    overhead = (cpu["one"] - cpu["papermill"]) / options.runs
    print(
        f"papermill alone: {cpu['papermill'] / options.runs:.1f} CPU-seconds a run ({wall['papermill']:.0f} s in all)"
    )
    print(f"overhead of the engine: {overhead:+.2f} CPU-seconds a run over {options.runs} runs")
    print(f"two jobs of one thread: {wall['one'] / wall['two']:.2f} times the throughput of one")


if __name__ == "__main__":
    main()
