"""What one other busy process costs on a machine of two cores.

    python tests/benchmarks/busy.py [--steps 1000] [--rounds 1]

Wall time of chapter 04's script beside a process of one busy thread, over its time alone; its time alone over that with the
number of threads left as torch chooses it; and a sweep of four short runs with `--jobs 2`, busy over alone. In turns, in one
run of this script; the load is started here and ends with it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOAD = "import time; end = time.time() + 1800\nwhile time.time() < end: sum(range(1000))"
FIXED = """
import runpy, sys, trm.threads
trm.threads.FIRST = 10**9  # no look at another number
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@contextmanager
def load(busy: bool) -> Iterator[None]:
    """One busy thread meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", LOAD]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def seconds(command: list[str], **variables: str) -> float:
    """Wall time of a command."""
    started = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"MPLBACKEND": "agg"} | variables
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="of chapter 04; its default is 1000")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = [str(ROOT / "book" / "04_trm_train.py"), "-p", "max_steps", str(options.steps), "-p", "output_dir"]
        sweep = Path(folder) / "s.yaml"
        base = {"max_steps": 200, "test_size": 200}
        content = {"notebook": "04_trm_train", "base": base, "seeds": [0, 1, 2, 3], "scales": {"smoke": {}}}
        sweep.write_text(json.dumps(content), encoding="utf-8")
        runs = [sys.executable, "-m", "trm.sweep", "run", str(sweep), "--scale", "smoke", "--jobs", "2", "--outputs"]
        commands = {
            "chapter 04": [sys.executable, *script],
            "chapter 04, threads as torch has them": [sys.executable, "-c", FIXED, *script],
            "sweep of four, --jobs 2": runs,
        }
        times: dict[tuple[str, bool], list[float]] = {}
        for turn in range(options.rounds):
            for name, command in commands.items():
                for busy in (False, True):
                    if busy and "torch" in name:
                        continue  # twenty to forty times as long
                    with load(busy):
                        target = f"{folder}/{turn}{busy}{len(times)}"
                        times.setdefault((name, busy), []).append(seconds([*command, target]))
        typical = {key: statistics.median(values) for key, values in times.items()}
        for (name, busy), value in typical.items():
            print(f"{name:40} {'busy' if busy else 'quiet':6} {value:7.1f} s")
        alone = typical["chapter 04", False]
        print(f"chapter 04, busy over quiet: {typical['chapter 04', True] / alone:.2f} (at most 2.5)")
        fixed = typical["chapter 04, threads as torch has them", False]
        print(f"chapter 04 quiet, chosen over fixed threads: {alone / fixed:.2f} (at most 1.05)")
        sweeps = typical["sweep of four, --jobs 2", True] / typical["sweep of four, --jobs 2", False]
        print(f"sweep, busy over quiet: {sweeps:.2f} (at most 2.5)")


if __name__ == "__main__":
    main()
