"""What is said of parser arms: intervals against textbook cases, hypotheses decided as the numbers have it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trm.errors import UserError
from trm.parsing import figures as parsing_plots
from trm.parsing.findings import (
    chapter_metrics,
    compare,
    controllers,
    differences,
    iterations,
    level,
    levels,
    over_sentences,
    prices,
    read_rows,
    smallest_seen,
    verdict,
)

WORDS = np.random.default_rng(0).integers(3, 30, 400)


def made(shares, seeds=3, noise=0.001):
    """Rows of arms whose every word is right with a share of its own: arm -> share."""
    rows = []
    for arm, share in shares.items():
        for seed in range(seeds):
            draw = np.random.default_rng([seed, 7])  # the same sentences are hard for every arm
            hard = draw.random(WORDS.sum())
            lucky = share + noise * np.random.default_rng([seed, len(arm)]).normal()
            right = np.add.reduceat(hard < lucky, np.concatenate([[0], np.cumsum(WORDS)[:-1]]))
            row = {
                "arm": arm,
                "seed": seed,
                "test/uas": right.sum() / WORDS.sum(),
                "test/las": share - 0.05,
                "test/mean_steps": 3.0,
            }
            row |= {"train/epochs": 5.0, "model/parameters": 1000, "ponder_coef": 10.0 ** -(seed + 1)}
            for i in range(1, 4 if arm != "one_iteration" else 2):
                row |= {f"test/{name}_per_iteration_{i}": share for name in ("uas", "loss", "routing_entropy")}
            row |= {"arc/root": share, "arc/1": share, "arc/2": share - 0.1}
            rows.append(row | {"right": " ".join(map(str, right)), "words": " ".join(map(str, WORDS))})
    return pd.DataFrame(rows)


def test_differences_are_paired_by_seed():
    rows = made({"one_iteration": 0.8, "standard": 0.85})
    table = compare(rows)
    one, other = (rows[rows["arm"] == arm]["test/uas"].to_numpy() for arm in ("one_iteration", "standard"))
    wanted = stats.ttest_rel(other, one)
    assert table.loc["standard", "gain"] == pytest.approx((other - one).mean())
    assert table.loc["standard", "p"] == pytest.approx(wanted.pvalue)
    assert table.loc["standard", "low"] == pytest.approx(wanted.confidence_interval().low)
    assert table.index[0] == "standard" and table.loc["one_iteration", "UAS std"] == pytest.approx(one.std(ddof=1))


def test_the_interval_over_sentences_against_its_normal_limit():
    """For many sentences the bootstrap of a ratio has the spread of the delta method."""
    rows = made({"one_iteration": 0.8, "standard": 0.82}, noise=0.0)
    low, high = over_sentences(rows, "standard", "one_iteration", 4000)
    means = {
        arm: np.mean([np.array(text.split(), int) for text in part["right"]], axis=0)
        for arm, part in rows.groupby("arm")
    }
    gain = means["standard"] - means["one_iteration"]
    share = gain.sum() / WORDS.sum()
    spread = np.sqrt(((gain - share * WORDS) ** 2).sum()) / WORDS.sum()
    assert (low + high) / 2 == pytest.approx(share, abs=0.1 * spread)
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1)


def test_the_smallest_difference_is_found_in_four_of_five_cases():
    draw = np.random.default_rng(0)
    n, deviation = 4, 0.5
    t = stats.t.ppf(0.975, n - 1)
    half = t * deviation / np.sqrt(n)
    effect = smallest_seen({"mean": 0.0, "high": half, "n": n})
    samples = draw.normal(effect, deviation, (20_000, n))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    "shares, says",
    [
        ({"one_iteration": 0.80, "standard": 0.80, "deep_supervision": 0.86}, "H1: deep supervision unlocks"),
        ({"one_iteration": 0.80, "standard": 0.80, "deep_supervision": 0.80}, "Undecided: no gain is seen"),
        (
            {"one_iteration": 0.80, "standard": 0.86, "deep_supervision": 0.86},
            "whether by deep supervision, these seeds",
        ),
        ({"one_iteration": 0.80, "standard": 0.88, "deep_supervision": 0.84}, "and deep supervision hinders"),
        ({"one_iteration": 0.86, "standard": 0.80, "deep_supervision": 0.80}, "H0 stands: measured, no gain"),
    ],
)
def test_hypotheses_are_decided_by_the_numbers(shares, says):
    text = verdict(made(shares, noise=0.002), resamples=500)
    assert says in text, text
    assert "one iteration reaches" in text.lower() and "+0.35" in text


def test_one_seed_decides_nothing():
    assert "Nothing to decide" in verdict(made({"one_iteration": 0.8, "standard": 0.9}, seeds=1), 200)
    begun = made({"one_iteration": 0.8, "standard": 0.9})
    begun = begun[(begun["arm"] == "one_iteration") | (begun["seed"] == 2)]  # a sweep that has only begun
    assert "Nothing to decide" in verdict(begun, 200)
    assert "standard" not in verdict(pd.concat([begun, made({"deep_supervision": 0.8})]), 200)
    assert "Nothing to decide" in verdict(made({"standard": 0.9}), 200)
    assert "ablation/standard/uas_std" not in chapter_metrics(made({"standard": 0.9}, seeds=1))


def test_other_sentences_are_no_pairs():
    rows = made({"one_iteration": 0.8, "standard": 0.9})
    rows.loc[0, "words"] = "1 2 3"
    with pytest.raises(UserError, match="different sentences"):
        compare(rows)


def test_the_risk_is_shared_among_the_arms():
    rows = made({"one_iteration": 0.8, "standard": 0.82})
    one, four = compare(rows).loc["standard"], compare(rows, tests=4).loc["standard"]
    assert four["low"] < one["low"] and four["sentences high"] > one["sentences high"]
    assert four["smallest seen"] > one["smallest seen"] and four["p"] == one["p"]


def test_metrics_and_iterations():
    rows = made({"one_iteration": 0.8, "standard": 0.9})
    found = chapter_metrics(rows)
    own = rows[rows["arm"] == "standard"]["test/uas"]
    assert found["ablation/standard/uas_mean"] == pytest.approx(own.mean())
    assert found["ablation/standard/uas_std"] == pytest.approx(own.std())
    table = iterations(rows)
    assert table.columns.tolist() == [1, 2, 3] and table.loc[("one_iteration", 0)].isna().tolist() == [
        False,
        True,
        True,
    ]


def test_tables_for_the_page():
    comparison = compare(made({"one_iteration": 0.8, "standard": 0.9}))
    shown, against = levels(comparison), differences(comparison)
    row = comparison.loc["standard"]
    assert shown.loc["standard", "UAS %"] == f"{100 * row['UAS']:.2f} ± {100 * row['UAS std']:.2f}"
    assert against.index.tolist() == ["standard"] and against.loc["standard", "points"] == f"{100 * row['gain']:+.2f}"
    one = compare(made({"one_iteration": 0.8, "standard": 0.9}, seeds=1))
    assert differences(one).empty and "±" not in levels(one).loc["standard", "UAS %"]
    rows = made({"standard": 0.8}).assign(controller=["static", "static", "recurrent"])
    rows["gradients/controller"] = [0.1, 0.3, 0.5]
    assert controllers(rows).loc["static", "gradient norm"] == "0.200 ± 0.141"
    assert (
        level(rows.assign(**{"train/seconds": 90.0}))
        .splitlines()[0]
        .endswith("1.5 minutes (5.0 epochs, 1,000 parameters)")
    )


def test_prices_in_words():
    rows = made({"act_halting": 0.8})
    assert "The price of an iteration changes nothing**: from 0.001 to 0.1, 3.00 to 3.00" in prices(rows)
    by_price = rows.sort_values("ponder_coef")
    assert "A higher price, fewer steps" in prices(by_price.assign(**{"test/mean_steps": [3.0, 2.0, 1.0]}))
    assert "A higher price, no fewer steps" in prices(by_price.assign(**{"test/mean_steps": [1.0, 2.0, 3.0]}))


def test_tables_that_are_none(tmp_path):
    (tmp_path / "a.csv").write_text("arm,seed\nx,1\n")
    with pytest.raises(
        UserError, match="no column test/uas, test/las, right, words, minutes, dev/uas, dev/las; make it with"
    ):
        read_rows(tmp_path / "a.csv")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_rows(tmp_path / "b.csv")


def test_every_figure_can_be_drawn():
    rows = made({"one_iteration": 0.8, "standard": 0.9, "encoder": 0.7})
    history = [{"step": i, "train/seconds": 60.0 * i, "valid/uas": 0.1 * i, "valid/las": 0.1 * i} for i in range(4)]
    drawn = [
        parsing_plots.arms(rows),
        parsing_plots.by_iteration(rows),
        parsing_plots.by_distance(rows),
        parsing_plots.ponder(rows[rows["arm"] == "standard"]),
        parsing_plots.progress(history),
        parsing_plots.thoughts(
            ["a", "b", "c"],
            [([2, 0, 1], ["x", "root", "y"])],
            [2, 0, 2],
            np.ones((1, 3, 2)) / 2,
            np.ones((1, 3, 3)) / 3,
        ),
    ]
    for figure in drawn[1:5]:
        assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
    tree = drawn[-1].axes[0]
    colours = {patch.get_edgecolor()[:3] for patch in tree.patches}
    assert len(colours) == 3  # right, wrong, and what would have been right
