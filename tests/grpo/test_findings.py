"""What chapter 08 says of its runs, from tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.conftest import ROOT
from trm.errors import UserError
from trm.grpo import figures as grpo_plots
from trm.grpo import findings
from trm.params import read_yaml
from trm.report import measures  # noqa: F401  (registers the measurements)
from trm.report.verdicts import CONTRADICTED, IN_PART, MEASURES, NOT_SUPPORTED, SUPPORTED, NotThere
from trm.stats_old import curves

HISTORY = [
    {"step": 10, "train/reward": 0.25, "train/kl": 0.01, "train/dead_groups": 0.5, "train/seconds": 6.0},
    {"step": 10, "valid/accuracy": 0.5, "train/seconds": 6.0},
    {"step": 20, "train/reward": 0.5, "train/kl": 0.03, "train/dead_groups": 0.25, "train/seconds": 12.0},
    {"step": 20, "valid/accuracy": 0.75, "train/seconds": 12.0},
]
METRICS = {"train/seconds": 12.0, "grpo/weights_moved": 0.125, "grpo/accuracy_before": 0.5, "grpo/accuracy_after": 0.75}
METRICS |= {"grpo/longer_before": 0.25, "grpo/longer_after": 0.125}


def table(gains):
    """gains: arm -> gain of each seed, in points; all begin at 50 %."""
    rows = []
    for arm, values in gains.items():
        for seed, gain in enumerate(values):
            row = findings.row(arm, seed, METRICS, HISTORY)
            moved = 0.0 if arm == "zero" else 0.125
            rows.append(row | {"accuracy_before": 0.5, "accuracy_after": 0.5 + gain / 100, "weights_moved": moved})
    return pd.DataFrame(rows)


def test_a_run_in_a_row_and_back(tmp_path):
    row = findings.row("GRPO", 3, METRICS, HISTORY)
    assert (row["accuracy_before"], row["accuracy_after"], row["longer_after"]) == (0.5, 0.75, 0.125)
    assert (row["dead_groups"], row["kl"], row["minutes"]) == (0.375, 0.03, 0.2)
    path = tmp_path / "rows.csv"
    pd.DataFrame([row, row | {"seed": 4}]).to_csv(path, index=False)
    points = curves(findings.read_rows(path), ("steps", "reward"))
    assert points[points["seed"] == 4][["steps", "reward"]].values.tolist() == [[10, 0.25], [20, 0.5]]
    pd.DataFrame([row]).drop(columns="reward").to_csv(path, index=False)
    with pytest.raises(UserError, match="no column reward; make it with `python -m trm.sweep results grpo"):
        findings.read_rows(path)


def test_the_gain_over_problems_is_a_paired_interval():
    draw = np.random.default_rng(0)
    before, after = draw.integers(0, 2, 200).astype(float), draw.integers(0, 2, 200).astype(float)
    change = after - before
    half = stats.t.ppf(0.975, 199) * change.std(ddof=1) / np.sqrt(200)
    found = findings.gain_over_problems(before, after)
    assert found["mean"] == pytest.approx(change.mean())
    assert found["low"] == pytest.approx(change.mean() - half) and found["high"] == pytest.approx(change.mean() + half)
    assert findings.gain_over_problems(before, before) == {"mean": 0, "low": 0, "high": 0}  # no nan for metrics.json
    row = findings.row("GRPO", 0, METRICS, HISTORY)
    said = findings.live(row, {"mean": 0.25, "low": 0.1, "high": 0.4})
    assert "became **75.0%** in 0.2 minutes: +25.0 points" in said and said.endswith("25.0% became 12.5%.")


def test_the_comparison_is_that_of_a_t_interval():
    line = findings.compare(table({"GRPO": [12, 14, 13]})).loc["GRPO"]
    half = stats.t.ppf(0.975, 2) * 1 / np.sqrt(3)
    assert [line["gain"], line["low"], line["high"]] == pytest.approx([13, 13 - half, 13 + half])
    assert [line["longer"], line["longer low"], line["longer high"]] == pytest.approx(
        [-12.5, np.nan, np.nan], nan_ok=True
    )
    assert line["std"] == pytest.approx(1) and line["seeds"] == 3 and line["after"] == pytest.approx(63)


def test_the_comparison_reads_well():
    shown = findings.levels(findings.compare(table({"GRPO": [12, 14, 13], "zero": [0]})))
    half = stats.t.ppf(0.975, 2) * 1 / np.sqrt(3)
    assert shown.loc["GRPO", "gain"] == f"+13.0 ({13 - half:+.1f} to {13 + half:+.1f})"
    assert shown.loc["GRPO", "after"] == 63 and shown.loc["zero", "gain, longer"] == "-12.5"
    assert findings.levels(pd.DataFrame()).empty


def test_verdicts():
    said = findings.verdict(table({"GRPO": [12, 14, 13], "zero": [0, 0, 0], "shuffled": [-1, 1, 0.5]}))
    assert "**GRPO** takes the greedy answers from 50.0 to 63.0 % of unseen problems (+13.0 points" in said
    assert "the ten points asked for, in 0.2 minutes" in said
    assert "With a reward that is always zero not one weight has moved." in said
    assert "A shuffled reward takes it from 50.0 to 50.2 %" in said and "no gain that can be told from none" in said
    assert "a sure gain, short of the ten points" in findings.verdict(table({"DAPO": [5, 5.5, 6]}))
    assert "cannot be told from none" in findings.verdict(table({"DAPO": [15, -5, 3]}))
    assert "nothing to learn" in findings.verdict(table({"shuffled": [5, 5.5, 6]}))
    assert ": a loss." in findings.verdict(table({"shuffled": [-5, -5.5, -6]}))
    assert "one seed, which decides nothing" in findings.verdict(table({"GRPO": [20]}))
    moved = table({"zero": [0, 0, 0]}).assign(weights_moved=0.5)
    assert "a weight has moved by up to 0.5" in findings.verdict(moved)


def test_the_algorithms_against_each_other():
    said = findings.variants(
        table({"GRPO": [12, 14, 13], "DAPO": [22, 24.5, 23], "Dr.GRPO": [14, 12, 13], "zero": [0] * 3})
    )
    assert "DAPO is better than GRPO (+10.2 points" in said and "Dr.GRPO is not to be told from GRPO" in said
    assert "zero" not in said and findings.variants(table({"DAPO": [1, 2, 3]})) == ""


def test_longer_problems():
    said = findings.longer(
        table({"GRPO": [12, 14, 13], "zero": [0, 0, 0]}).assign(longer_after=[0.1, 0.2, 0.15, 0.9, 0.9, 0.9])
    )
    half = stats.t.ppf(0.975, 2) * 5 / np.sqrt(3)
    assert "25.0% right before, 15.0% after" in said
    assert f"(-10.0 points, {-10 - half:+.1f} to {-10 + half:+.1f}, 3 seeds)" in said
    twice = table({"GRPO": [12, 14, 13], "DAPO": [12, 14, 13]}).assign(longer_after=2 * [0.1, 0.2, 0.15])
    assert findings.longer(twice) == said, "arms of one seed are no seeds of their own"
    assert findings.everything(table({"zero": [0]})) == findings.verdict(table({"zero": [0]}))
    assert findings.everything(table({"GRPO": [12, 14, 13]})).count("\n\n") == 1
    assert findings.longer(table({"zero": [0]})) == "" and "points" not in findings.longer(table({"GRPO": [1]}))


@pytest.mark.parametrize(
    "gains, longer, verdict",
    [
        ({"GRPO": [22, 24, 23], "shuffled": [-1, 1, 0]}, [25.2, 24.8, 25.1], SUPPORTED),
        ({"GRPO": [22, 24, 23], "shuffled": [-1, 1, 0]}, [12, 13, 14], IN_PART),
        ({"GRPO": [22, 24, 23], "shuffled": [21, 25, 23]}, [25.2, 24.8, 25.1], NOT_SUPPORTED),
        ({"GRPO": [-1, 1, 0.5], "shuffled": [-21, -20, -22]}, [25.2, 24.8, 25.1], NOT_SUPPORTED),
        ({"GRPO": [-22, -24, -23], "shuffled": [-32, -34, -33]}, [25.2, 24.8, 25.1], CONTRADICTED),
    ],
)
def test_the_guides_claim(tmp_path, gains, longer, verdict):
    """A gain on what was rewarded counts in part where longer problems lose, and not at all where chance gains as much."""
    rows = table(gains).assign(longer_after=[x / 100 for x in longer] + [0.25] * 3)
    rows.loc[rows["arm"] == "shuffled", "accuracy_after"] += [0.001, 0, -0.001]  # differences that vary
    rows.to_csv(tmp_path / "08_grpo.csv", index=False)
    found = MEASURES["reward_teaches"](tmp_path)
    assert found.verdict == verdict and found.seeds == 3
    assert "before" in found.text and "shuffled rewards" in found.text and "longer" in found.text
    rows[rows["seed"] < 2].to_csv(tmp_path / "08_grpo.csv", index=False)
    with pytest.raises(NotThere, match="too few seeds: 2"):
        MEASURES["reward_teaches"](tmp_path)


def test_the_committed_comparison():
    path = ROOT / "book" / "results" / "08_grpo.csv"
    if not path.exists():
        pytest.skip(f"wants {path.name}, which the sweep grpo makes")
    rows = findings.read_rows(path)
    sweep = read_yaml(ROOT / "params" / "sweeps" / "grpo.yaml")
    assert rows.groupby("arm")["seed"].apply(lambda seeds: set(seeds) == set(sweep["seeds"])).all()
    assert (
        {"GRPO", "zero", "shuffled"}
        <= set(rows["arm"])
        <= {case.get("reward", case["algorithm"]) for case in sweep["cases"].values()}
    )
    assert rows["eval_steps"].nunique() == 1, "as many answers for each arm"
    found = findings.compare(rows)
    assert rows["accuracy_before"].between(0.4, 0.6).all(), "stopped while it is right half of the time"
    assert found.loc["GRPO", "gain"] >= 10 and found.loc["GRPO", "low"] > 0
    assert found.loc["zero", "weights_moved"] == 0 and found.loc["shuffled", "low"] <= 0


def test_figures():
    rows = table({"GRPO": [12, 14, 13], "zero": [0, 0, 0]})
    assert len(grpo_plots.training(rows).axes) == 4
    assert grpo_plots.gains(findings.compare(rows), rows).axes[0].get_yticklabels()[0].get_text() == "zero"
    grpo_plots.progress(HISTORY)
    shares = pd.Series([0.5, 0.25], index=[2, 3])
    grpo_plots.by_steps(shares, shares, 2)
