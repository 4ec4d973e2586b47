"""What chapter 09 says of its tables."""

import pandas as pd
import pytest

from trm.errors import UserError
from trm.tpu import figures as tpu_plots
from trm.tpu import findings as tpu_findings
from trm.tpu.slices import SLICES


def measured():
    rows = []
    for name, devices, apart in (("processor", None, 0.0), ("one device", 1, 1e-6), ("all devices", 8, -2e-6)):
        rows += [
            {"training": name, "xla/devices": devices, "step": step, "train/total_loss": 2.0 / step + apart * step,
             "xla/compiles": devices and 20 + devices, "xla/compiles_after_warmup": devices and devices // 8,
             "torch_xla": "2.9.0", "date": "2026-01-01"}
            for step in (1, 2)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def test_parity_by_hand():
    found = tpu_findings.parity(measured())
    assert (found.devices, found.steps, found.compiles, found.compiles_after_warmup) == (8, 2, 28, 1)
    assert found.max_abs == pytest.approx(6e-6)  # at step 2: +2e-6 and -4e-6
    assert found.max_relative == pytest.approx(6e-6 / (1 - 4e-6))
    assert list(tpu_findings.losses(measured())) == ["processor", "one device", "all devices"]


def test_the_timetable_by_hand():
    def plans(*days):
        return pd.DataFrame({"case": ["a", "b", "c"], "days": days})

    parts = {"core": ["a", "b"], "contributions": ["c"], "prioritised": ["a"]}
    chips, host = (plans(1.0, 2.0, 4.0), plans(4.0, 8.0, 12.0)), (plans(10.0, 10.0, 10.0), plans(10.0, 10.0, 12.0))
    table = tpu_findings.timetable(chips, host, parts).set_index("what")
    assert list(table["chips_days"]) == [3.0, 4.0, 7.0, 6.0, 1.0]
    assert list(table["days"]) == [20.0, 10.0, 30.0, 8.0, 2.5]
    assert list(table["guide_days"]) == [103, 36, 139, 35, 15]


@pytest.mark.parametrize("days, text", [(1 / 1440, "1 minute"), (0.25, "6.0 hours"), (3, "3.0 days")])
def test_durations(days, text):
    assert tpu_findings.duration(days) == text


def test_a_table_that_is_none_says_what_makes_it(tmp_path):
    with pytest.raises(UserError, match="measure yes"):
        tpu_findings.read_measured(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column 'training'"):
        tpu_findings.read_measured(tmp_path / "other.csv")


def test_tables_are_written_and_read_again(tmp_path):
    plan = pd.DataFrame({"case": ["a"], "days": [1 / 3]})
    tpu_findings.write_tables(str(tmp_path / "new"), plan, plan, plan, None)
    assert not (tmp_path / "new" / "09_xla.csv").exists()
    tpu_findings.write_tables(str(tmp_path / "new"), plan, plan, plan, measured())
    assert tpu_findings.parity(tpu_findings.read_measured(tmp_path / "new" / "09_xla.csv")) == tpu_findings.parity(
        measured()
    )


def test_figures_have_labels_and_every_chip():
    figure = tpu_plots.slices(SLICES["v4-8"], SLICES["v4-64"])
    assert [len(ax.collections[0]._offsets3d[0]) for ax in figure.axes] == [4, 32]
    hosts = [len({tuple(colour) for colour in ax.collections[0].get_facecolor()}) for ax in figure.axes]
    assert hosts == [1, 8]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in tpu_plots.parity(tpu_findings.losses(measured())).axes)


def test_sentences_name_what_is_wrong_and_what_bounds():
    plans = pd.DataFrame({"case": ["a", "b", "c"], "fault": ["", "too big", "odd"], "mend": ["", "cut: 2", ""],
                          "memory_gib": [1.0, 40.0, 2.0], "bound": ["host", "memory", "host"],
                          "compute_seconds": [0.001, 0.002, 0.01], "memory_seconds": [0.002, 0.2, 0.001],
                          "network_seconds": [0.0, 0.0, 0.003], "host_seconds": [0.1, 0.1, 0.3]})  # fmt: skip
    said = tpu_findings.what_runs(plans, SLICES["v4-8"])
    assert (
        "**1 of 3** run as they are written" in said and "by 4 chips, and the largest wants 1.0 GiB of the 32" in said
    )
    assert said.endswith("The others: **b** (too big; cut: 2), **c** (odd; nothing mends it).")
    assert "The others" not in tpu_findings.what_runs(plans[:1], SLICES["v4-8"])
    said = tpu_findings.what_bounds(plans, 0.4)
    assert "**2 by host, 1 by memory**; of the chips alone: 2 by memory, 1 by compute" in said
    assert "take 2.0 to 200 ms at best, tracing them 100 to 300 ms" in said


def test_what_it_takes_by_hand():
    times = pd.DataFrame({"what": ["both"], "guide_days": [139], "chips_days": [0.25], "days": [7.5]})
    baseline = pd.Series({"days": 0.5, "compute_seconds": 0.0012, "step_seconds": 0.3})
    said = tpu_findings.what_it_takes(times, baseline, 0.4, 2.0)
    assert "**6.0 hours**" in said and "**7.5 days**" in said and "**12.0 hours**" in said
    assert "in 7 minutes" in said  # 0.5 days, of which 0.003 of 0.3 s a step are the chips'
    assert "0.10% of its peak" in said
