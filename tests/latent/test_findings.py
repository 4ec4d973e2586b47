"""What chapter 07 says of its ways of answering, from tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trm.errors import UserError
from trm.latent import figures as plots
from trm.latent.data import Exercise
from trm.latent.findings import (
    BASELINES,
    against,
    by_steps,
    chapter_metrics,
    constancy,
    curve,
    gap_recovered,
    levels,
    read_rows,
    speedup,
    verdict,
)
from trm.report import measures  # noqa: F401  (registers the measurements)
from trm.report.verdicts import CONTRADICTED, IN_PART, MEASURES, SUPPORTED, NotThere

SHARES = {"chain": 0.9, "thoughts": 0.7, "no_thinking": 0.3} | {
    name: 0.1 + 0.02 * i for i, name in enumerate(name for name in BASELINES if name != "no_thinking")
}


def made(shares=SHARES, seeds=3, times=("chain", "thoughts")):
    rows = []
    for way, share in shares.items():
        for seed in range(seeds):
            shift = (
                0.0 if way in ("chain", "no_thinking") else 0.01 * np.random.default_rng([seed, *way.encode()]).normal()
            )
            row = {"way": way, "seed": seed, "accuracy": share + shift, "tokens": 20.0 if way == "chain" else 2.0}
            row |= {f"accuracy/{n}": share + shift - 0.01 * n for n in (2, 3, 4)}
            if way in times:
                row |= {"ms/1": 60.0 if way == "chain" else 15.0, "ms/64": 8.0 if way == "chain" else 16.0}
            rows.append(row)
    return pd.DataFrame(rows)


def test_the_gap_that_is_recovered_by_hand():
    rows = made()
    own = rows[rows["way"] == "thoughts"].set_index("seed")["accuracy"]
    np.testing.assert_allclose(gap_recovered(rows), (own - 0.3) / 0.6)
    assert speedup(rows).tolist() == [4.0] * 3 and speedup(rows, "ms/64").tolist() == [0.5] * 3
    metrics = chapter_metrics(rows)
    assert metrics["latent/accuracy"] == pytest.approx(own.mean()) and metrics["latent/speedup"] == 4
    assert metrics["latent/accuracy_no_thinking"] == pytest.approx(0.3) and metrics["latent/accuracy_ridge"] < 0.3
    assert {f"latent/accuracy_{name}" for name in BASELINES} <= set(metrics)


def test_intervals_are_scipys():
    rows = made()
    one, two = (rows[rows["way"] == way].set_index("seed")["accuracy"] for way in ("thoughts", "direct"))
    interval = stats.ttest_rel(one, two).confidence_interval(0.95)
    found = against(rows, "direct")
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert np.isnan(against(rows[rows["seed"] == 0], "direct")["low"])


def test_what_is_not_beaten_is_said_first():
    said = verdict(made(SHARES | {"direct": 0.8, "read_off": 0.7})).splitlines()
    assert "direct" in said[1] + said[0] and "**worse**" in said[0] + said[1]
    assert any("read off" in line and "not told apart" in line for line in said[:2])
    assert said[2].startswith("- After latent thoughts 7") and "- Better than no thinking" in "\n".join(said)
    text = "\n".join(said)
    assert "they close **6" in text and "1/4.0 of the written chain's time (ms, one at a time)" in text
    assert "takes 2.0 times the written chain's time (ms, 64 at once)" in text
    alone = verdict(made(seeds=1))
    assert "one seed tells nothing" in alone and "(1 seed)" in alone
    assert "no way thoughts" in verdict(made({"chain": 0.9}))


def test_levels_put_the_best_first():
    table = levels(made())
    assert (
        list(table.index[:3]) == ["chain", "thoughts", "no_thinking"]
        and table.loc["chain", "right (%)"] == "90.0 ± 0.0"
    )
    assert table.loc["thoughts", "ms, one at a time"] == "15.0" and table.loc["ridge", "ms, one at a time"] == "-"


def test_ways_that_several_runs_judge_count_once(tmp_path):
    rows = made()
    pd.concat([rows, rows[rows["way"] == "chain"]]).to_csv(tmp_path / "x.csv", index=False)
    pd.testing.assert_frame_equal(read_rows(tmp_path / "x.csv"), rows, check_dtype=False)


def test_a_table_that_cannot_be_used(tmp_path):
    made().drop(columns="tokens").to_csv(tmp_path / "x.csv")
    with pytest.raises(UserError, match="no column tokens; make it with `python -m trm.sweep results latent"):
        read_rows(tmp_path / "x.csv")


@pytest.mark.parametrize(
    "changes, expected",
    [({}, SUPPORTED), ({"direct": 0.7}, IN_PART), (dict.fromkeys(BASELINES, 0.8), CONTRADICTED)],
    ids=["all", "some", "none"],
)
def test_the_claim_follows_the_table(tmp_path, changes, expected):
    made(SHARES | changes, seeds=6).to_csv(tmp_path / "07_latent_reasoning.csv", index=False)
    found = MEASURES["stands_in_for_a_chain"](tmp_path)
    assert found.verdict == expected and found.seeds == 6
    assert f"of {len(BASELINES)} baselines" in found.text and ("direct" in found.text) == (expected != SUPPORTED)


def test_a_claim_without_its_table(tmp_path):
    with pytest.raises(NotThere, match="07_latent_reasoning.csv"):
        MEASURES["stands_in_for_a_chain"](tmp_path)


def test_figures():
    rows = made()
    assert plots.steps(rows).axes and plots.times(rows).axes[0].get_xlabel().startswith(
        "ms for an answer, one at a time"
    )
    assert len(plots.steps(rows).axes[0].get_legend().get_texts()) == len(SHARES)
    one = Exercise("?", "1+2=3;3*2=6;", "6", (("1", "+", "2", "3"), ("3", "*", "2", "6")), 2)
    found = [[[("3", 0.9)], [("5", 0.5)], [("6", 0.7)]], [[("3", 0.9)], [("6", 0.5)], [("6", 0.7)]]]
    ax = plots.thoughts(one, found).axes[0]
    colours = [patch.get_facecolor()[:3] for patch in ax.patches]
    assert len(colours) == 6 and [c == colours[0] for c in colours] == [True, False, True, True, True, True]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1+2=3", "3*2=6", "(answer)"]
    history = [
        {"step": 2, "valid/accuracy": 0.5, "valid/latent_1": 0.4},
        {"step": 3},
        {"step": 4, "valid/accuracy": 0.6},
    ]
    assert plots.progress(history).axes
    assert curve(history) == {"eval_steps": "2 4", "valid/accuracy": "0.5000 0.6000"}
    text = constancy({"<x>": [0.5, 0.3, 0.1], "y": [0.5, 0.3, 0.1], "z": [0.2]})
    assert "of `<x>` and the y, 50% after the first block and 10% after the last; of the z, 20%" in text
    assert by_steps(rows).shape == (3 * len(SHARES), 3)
    assert plots.constancy({"x": [0.5, 0.1]}).axes[0].get_ylim()[1] > 1
