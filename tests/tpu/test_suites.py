"""The suites as plans, the timetable, and the comparison of backends."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from trm import lock
from trm.sweep.spec import SweepError, read_sweeps
from trm.tpu import compare, figures
from trm.tpu.plan import SLICES
from trm.tpu.suites import GUIDE_DAYS, cases_of, suite_plans, timetable


@pytest.fixture(scope="module")
def plans():
    return suite_plans("tpu_quickstart, scaling_research", SLICES["v4-64"], 0.4)


def test_every_configuration_has_its_plan(plans):
    sweeps = read_sweeps()
    assert len(cases_of("scaling_research", "core", "exp01")) == len(cases_of("scaling_research", "core")) == 58
    for name in ("tpu_quickstart", "scaling_research"):
        assert list(plans.loc[plans["sweep"] == name, "case"]) == list(sweeps[name].cases)
    assert (plans["days"] > 0).all() and (plans["memory_gib"] > 0).all()


def test_those_that_cannot_run_are_named_with_what_fixes_them(plans):
    wrong = plans[plans["fault"] != ""].set_index("case")
    assert wrong["mend"].to_dict() == {"exp07f": "grad_accumulation: 2", "exp08c": "precision: bfloat16"}


def test_sweeps_of_other_chapters_are_refused():
    with pytest.raises(SweepError, match="'compressor' is not a sweep of chapter 04"):
        suite_plans("compressor", SLICES["v4-8"], 0.4)


def test_the_timetable_by_hand():
    def plans(*days):
        return pd.DataFrame({"case": ["a", "b", "c"], "days": days})

    parts = {"core": ["a", "b"], "contributions": ["c"], "prioritised": ["a"]}
    chips, host = (plans(1.0, 2.0, 4.0), plans(4.0, 8.0, 12.0)), (plans(10.0, 10.0, 10.0), plans(10.0, 10.0, 12.0))
    table = timetable(chips, host, parts).set_index("what")
    assert list(table["chips_days"]) == [3.0, 4.0, 7.0, 6.0, 1.0]
    assert list(table["days"]) == [20.0, 10.0, 30.0, 8.0, 2.5]
    assert table["guide_days"].to_dict() == GUIDE_DAYS


def test_parity_by_hand_and_that_figures_draw(plans):
    measured = pd.DataFrame(
        {"training": name, "xla/devices": devices, "step": step, "train/total_loss": 2.0 / step + apart * step,
         "xla/compiles": devices and 20 + devices, "xla/compiles_after_warmup": devices and devices // 8}
        for name, devices, apart in (("processor", None, 0.0), ("one device", 1, 1e-6), ("all devices", 8, -2e-6))
        for step in (1, 2)
    )  # fmt: skip
    found = compare.parity(measured)
    assert (found.devices, found.steps, found.compiles, found.compiles_after_warmup) == (8, 2, 28, 1)
    assert found.max_abs == pytest.approx(6e-6)  # at step 2: +2e-6 and -4e-6
    assert found.max_relative == pytest.approx(6e-6 / (1 - 4e-6))
    figures.parity(compare.losses(measured))
    figures.roofline(plans, SLICES["v4-64"])
    assert len(figures.step_bounds(plans, most=5).axes[0].patches) == 4 * 5


def test_trainings_get_folders_that_another_process_may_hold(tmp_path, monkeypatch):
    """The chapter holds its own folder while the trainings run, each in a process of its own."""
    hold = "import sys; from pathlib import Path; from trm import lock; lock.hold(Path(sys.argv[1]))"
    really, backends = subprocess.run, []

    def train(command, **options):
        folder = Path(command[command.index("output_dir") + 1])
        really([sys.executable, "-c", hold, str(folder)], check=True)
        backends.append(command[command.index("backend") + 1])
        record = {"step": 1, "train/total_loss": 2.0, "train/grad_norm": 1.0, "train/halted": 0}
        (folder / "history.jsonl").write_text(json.dumps(record), encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps({"xla/devices": 8}), encoding="utf-8")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(compare, "torch_xla_is_here", lambda: True)
    monkeypatch.setattr(compare, "version", lambda name: "2.9.0")
    monkeypatch.setattr(compare.subprocess, "run", train)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "run").mkdir()
    lock.hold(tmp_path / "run")
    try:
        table = compare.compare(1, 8)
    finally:
        lock.release(tmp_path / "run")
    assert backends == ["cpu", "xla", "xla"] and list(table["training"]) == ["processor", "one device", "all devices"]
    assert not list((tmp_path / "temporary").iterdir())
