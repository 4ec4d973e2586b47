"""kill -9 at random moments, then resume: the numbers must be those of an unbroken run, and no run lost or doubled.

    python tests/campaigns/kills.py [--count 100] [--seed 0] [--only 04 sweep]

Each chapter that trains runs at smoke scale as a script, once unbroken; then it is killed at moments drawn uniformly from
the time that took, and started again with `resume`, until its share of `--count` is used up. A sweep of six runs, two at a
time, has its processes killed in the same way: scheduler, worker, papermill or kernel, drawn anew each time. Compared are
history.jsonl and metrics.json of the run and of its arms, without times.
"""

import argparse
import contextlib
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
TIMES = re.compile(
    r"second|decoding_over|minute|milli|hour|/ms|_ms|tokens_per|speedup|memory|faster|ratio_time|times$|share"
)
CHAPTERS = ("01", "02", "03", "04", "05", "06", "07", "08")
SWEEP = """
notebook: 04_trm_train
base: {puzzle: 4x4, valid_size: 2, test_size: 2, hidden_size: 16, batch_size: 8, num_aug: 0, eval_steps: 2,
       eval_interval: 5000, log_interval: 10, checkpoint_interval: 20, max_steps: 300}
scales: {smoke: {}}
seeds: [0, 1, 2, 3, 4, 5]
cases: {a: {}}
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


class Broken(AssertionError):
    """Numbers that differ from those of the unbroken run."""


def numbers(folder: Path) -> dict:
    """History and metrics of a run and its arms, without times."""
    found = {}
    for path in sorted([*folder.rglob("history.jsonl"), *folder.rglob("metrics.json")]):
        if "earlier-" in str(path):
            continue
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
        records = [{k: v for k, v in json.loads(line).items() if not TIMES.search(k)} for line in lines]
        found[str(path.relative_to(folder))] = records
    return found


def compare(whole: dict, broken: dict, name: str) -> None:
    """Raises Broken, with the first difference."""
    if whole.keys() != broken.keys():
        raise Broken(f"{name}: other files: {sorted(whole.keys() ^ broken.keys())}")
    for path, records in whole.items():
        if len(records) != len(broken[path]):
            raise Broken(f"{name}: {path} has {len(broken[path])} records, not {len(records)}")
        for one, two in zip(records, broken[path]):
            different = [k for k in one.keys() | two.keys() if one.get(k) != two.get(k)]
            if different:
                first = different[0]
                raise Broken(f"{name}: {path}: {first} is {two.get(first)}, not {one.get(first)}, at {one.get('step')}")


def start(command: list[str], log: Path) -> subprocess.Popen:
    """A process in a group of its own, its words in a file."""
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file, start_new_session=True)


def chapter(number: str, kills: int, draw: random.Random, folder: Path) -> str:
    """Kill the script of a chapter so many times; returns what happened in a line."""
    script = next((ROOT / "book").glob(f"{number}_*.py"))
    command = [sys.executable, str(script), "-f", str(ROOT / "params" / f"{number}_smoke.yaml"), "-p", "output_dir"]
    whole, log = folder / "whole", folder / "log.txt"
    started = time.monotonic()
    if start([*command, str(whole)], log).wait() != 0:
        raise Broken(f"{number}: the unbroken run failed, see {log}")
    lasts = time.monotonic() - started
    done, used, expected = 0, 0, numbers(whole)
    while used < kills:
        broken = folder / f"broken-{done}"
        resumed = [*command, str(broken), "-p", "resume", "True"]
        while not (broken / "metrics.json").exists():
            process = start(resumed, log)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if used < kills:
                    process.wait(draw.uniform(0.2, 1) * lasts)
                elif process.wait():
                    raise Broken(f"{number}: resuming failed, see {log}")
            if process.poll() is None:
                process.kill()
                process.wait()
                used += 1
            elif process.returncode:
                raise Broken(f"{number}: it failed by itself, see {log}")
        compare(expected, numbers(broken), number)
        done += 1
    return f"chapter {number}: {used} kills, {done} runs completed, all equal"


def sweep(kills: int, draw: random.Random, folder: Path) -> str:
    """Kill the processes of a sweep so many times; returns what happened in a line."""
    file, log = folder / "s.yaml", folder / "log.txt"
    file.write_text(SWEEP, encoding="utf-8")
    command = [sys.executable, "-m", "trm.sweep", "run", str(file), "--scale", "smoke", "--jobs", "2", "--outputs"]
    if start([*command, str(folder / "whole")], log).wait() != 0:
        raise Broken(f"the unbroken sweep failed, see {log}")
    used, kinds, rounds, starts = 0, {}, 0, 0
    while used < kills:
        target = folder / f"broken-{rounds}"
        code = 1
        while code:
            process = start([*command, str(target)], log)
            starts += 1
            while process.poll() is None and used < kills:
                time.sleep(draw.uniform(1, 12))
                kind, victim = chosen(process, draw)
                if victim and process.poll() is None:
                    victim.kill()
                    used, kinds[kind] = used + 1, kinds.get(kind, 0) + 1
            code = process.wait()
            if starts > 3 * kills + 3:
                raise Broken(f"sweep: it does not end, see {log}")
        rounds += 1
        if len(list(target.glob("*/*/metrics.json"))) != 6:
            raise Broken(f"sweep: not six complete runs in {target}")
        compare(numbers(folder / "whole"), numbers(target), "sweep")
    named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"sweep: {used} kills ({named}), {starts} starts, {6 * rounds} runs completed, all equal"


def chosen(process: subprocess.Popen, draw: random.Random) -> tuple[str, psutil.Process | None]:
    """One of the processes of a sweep: its kind, and it."""
    with contextlib.suppress(psutil.Error):
        found: dict[str, list[psutil.Process]] = {"scheduler": [psutil.Process(process.pid)]}
        for child in psutil.Process(process.pid).children(recursive=True):
            words = " ".join(child.cmdline())
            kind = "papermill" if " papermill " in words else "kernel" if "ipykernel" in words else "worker"
            if "resource_tracker" not in words:
                found.setdefault(kind, []).append(child)
        kind = draw.choice(sorted(found))
        return kind, draw.choice(found[kind])
    return "", None


def campaign(count: int, seed: int, only: list[str]) -> list[str]:
    """Share the kills among the chapters and the sweep (which gets a fifth); print a line each."""
    draw, lines = random.Random(seed), []
    chapters = [number for number in CHAPTERS if number in only or not only]
    for_sweep = 0 if only and "sweep" not in only else max(math.ceil(count / 5), 1) if chapters else count
    each = math.ceil((count - for_sweep) / len(chapters)) if chapters else 0
    for name in [*chapters, *(["sweep"] if for_sweep else [])]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                line = (
                    sweep(for_sweep, draw, Path(folder)) if name == "sweep" else chapter(name, each, draw, Path(folder))
                )
            except Broken as error:
                line = f"BROKEN {error}\n" + "\n".join((Path(folder) / "log.txt").read_text("utf-8").splitlines()[-25:])
        lines.append(line)
        print(line, flush=True)
    return lines


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="chapters such as 04, or sweep")
    options = parser.parse_args()
    return int(any(line.startswith("BROKEN") for line in campaign(options.count, options.seed, options.only)))


if __name__ == "__main__":
    sys.exit(main())
