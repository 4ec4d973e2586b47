"""The parts of the race that need no checkout of the official code, and its own side in a tiny form."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.benchmarks import time_to_accuracy as race
from trm.puzzles.dataset import load


class Clock:
    """A clock that is told the time."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(target, limit, solved_at, cost):
    """A run of steps of 0.1 s and evaluations of `cost` seconds per slice; `solved_at` second all of 100 puzzles are solved."""
    clock = Clock()
    watch, step = race.Watch(target, limit, clock), 0

    def right(part):
        clock.now += cost
        return part.stop - part.start if clock.now >= solved_at else 0

    while not watch.over:
        clock.now, step = clock.now + 0.1, step + 1
        watch.look(step, right, 100)
    return watch.row()


def test_evaluations_take_a_bounded_share_and_come_ever_more_seldom():
    free, dear = run(0.95, 100, 90, 0.0), run(0.95, 100, 90, 2.0)
    assert free["reached"] and dear["reached"] and 90 <= free["seconds"] < 95 and free["evaluating"] == 0
    times = np.array([seconds for seconds, _, _ in free["evaluations"]])
    gaps = np.diff(times)
    assert gaps.min() > 0.999 and (gaps > 0.0499 * times[:-1]).all() and (gaps < 0.05 * times[:-1] + 1.2).all()
    assert dear["evaluating"] <= race.EVALUATING * dear["seconds"] + 4 and dear["steps"] < free["steps"]


def test_a_run_ends_at_its_limit():
    row = run(0.95, 20, 1000, 0.0)
    assert not row["reached"] and 20 <= row["seconds"] < 20.2 and row["evaluations"][-1][1] == row["steps"]


def test_a_training_that_ends_between_two_evaluations_is_evaluated():
    clock = Clock()
    watch = race.Watch(0.95, 100, clock)
    for step, last in ((1, False), (2, True)):
        clock.now += 0.1
        watch.look(step, lambda part: part.stop - part.start, 100, last)
    assert watch.evaluations == [(0.2, 2, 1.0)] and watch.over


def test_an_evaluation_ends_where_the_target_is_out_of_reach():
    seen = []

    def right(part):
        seen.append(part)
        return 44

    assert race.Watch(0.9, 1)._accuracy(right, 500) == 0.88 and len(seen) == 9  # 54 of 450 are wrong then
    assert race.Watch(0.88, 1)._accuracy(right, 500) == 0.88 and len(seen) == 19


def test_a_group_of_the_export_is_a_puzzle_and_its_variants(tmp_path):
    data = load("4x4", test_size=10, valid_size=10)
    race.export(data, tmp_path, num_aug=3, seed=0)
    arrays = {path.stem: np.load(path) for path in tmp_path.glob("train/*.npy")}
    inputs, labels = arrays["all__inputs"], arrays["all__labels"]
    assert (
        inputs.shape == labels.shape == (4 * len(data.train), 16) and (inputs[0::4] == data.train.questions + 1).all()
    )
    assert arrays["all__group_indices"].tolist() == list(range(0, len(inputs) + 1, 4))
    assert ((inputs == labels) | (inputs == 1)).all() and (inputs[1::4] != inputs[0::4]).any()
    assert json.loads((tmp_path / "test" / "dataset.json").read_text(encoding="utf-8"))["total_puzzles"] == 10


def test_a_file_without_a_test_part_is_split(tmp_path):
    pack = load("4x4", test_size=10, valid_size=10).train
    lines = ["".join(map(str, q)) + "," + "".join(map(str, a)) for q, a in zip(pack.questions[:60], pack.answers[:60])]
    path = tmp_path / "puzzles.csv"
    path.write_text("source,question,answer,rating\n" + "".join(f"x,{line},0\n" for line in lines), encoding="utf-8")
    given = {"data_path": str(path), "valid_size": 5, "test_size": 7}
    _, data = race.load_data({"params": given, "pack": "4x4", "seed": 0})
    assert len(data.valid) == 5 and len(data.test) == 7


def row(seconds, reached=True, threads=1, steps=10):
    return {"seconds": seconds, "reached": reached, "threads": threads, "steps": steps}


def test_medians_and_censoring():
    late = row(60.0, False)
    found = race.summary([row(2.0), row(4.0), late], [row(20.0), row(40.0), row(30.0)], 60.0)
    assert (found["ours_seconds"], found["official_seconds"], found["ratio"]) == (4.0, 30.0, 7.5)
    assert not found["censored"]
    found = race.summary([row(4.0)] * 3, [row(20.0), late, late], 60.0)
    assert (found["official_seconds"], found["official_steps"], found["ratio"]) == (60.0, None, 15.0) and found[
        "censored"
    ]
    found = race.summary([late], [], 60.0)
    assert found["ours_seconds"] is found["ratio"] is None and not found["censored"]
    assert race.better([row(60, False, 1, 5), row(60, False, 2, 9)])["threads"] == 2
    assert race.better([row(60, False, 1, 5), row(70, True, 2)])["threads"] == 2


TINY = ["-p", "hidden_size", "8", "-p", "eval_steps", "1", "-p", "valid_size", "8"]


@pytest.mark.slow
def test_our_side_and_a_campaign_that_goes_on(tmp_path):
    """A target of 0 is reached by the first evaluation; a cut-off line is dropped, and what is there is not run again."""
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, race.__file__, "--pack", "4x4", "--target", "0", "--limit", "30", "--ours-only", *TINY]
    printed = []
    for seeds in ("1", "2"):
        done = subprocess.run([*command, "--seeds", seeds, "--out", out], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout.splitlines()[-1]))
        out.write_text(out.read_text(encoding="utf-8") + '{"side": "ou', encoding="utf-8")
    rows = race.read_rows(out)
    assert [row["seed"] for row in rows] == [0, 1] and all(row["reached"] and row["steps"] for row in rows)
    assert printed[0]["ours_seconds"] == rows[0]["seconds"] and printed[0]["ratio"] is None
