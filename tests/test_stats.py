"""Comparisons against scipy, simulations and numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from trm import stats
from trm.errors import UserError

ARM, BASE = pd.Series([0.5, 0.7, 0.6, 0.9]), pd.Series([0.4, 0.5, 0.6, 0.6])


def table():
    rows = [{"arm": "a", "seed": s, "y": v} for s, v in ARM.items()]
    rows += [{"arm": "b", "seed": s, "y": v} for s, v in BASE.items()]
    rows += [{"arm": "c", "seed": 0, "y": 0.1}]
    return pd.DataFrame(rows)


def test_a_comparison_is_the_paired_t_test():
    found = stats.paired(ARM, BASE)
    test = scipy_stats.ttest_rel(ARM, BASE)
    assert found.p == pytest.approx(test.pvalue) and found.seeds == 4
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.effect == pytest.approx(0.15) and found.arm_mean == pytest.approx(0.675)
    assert found.baseline_mean == pytest.approx(0.525)
    assert not found.significant and found.sign == 0


def test_seeds_are_matched_and_unmatched_ones_left_out():
    shuffled = ARM.iloc[[2, 0, 3, 1]]
    assert stats.paired(shuffled, BASE) == stats.paired(ARM, BASE)
    assert stats.paired(ARM, BASE.iloc[:3]).seeds == 3


def test_several_comparisons_share_the_level():
    one, five = stats.paired(ARM, BASE), stats.paired(ARM, BASE, tests=5)
    assert five.p == pytest.approx(min(5 * one.p, 1)) and five.effect == one.effect
    assert (five.low, five.high) == pytest.approx(tuple(scipy_stats.ttest_rel(ARM, BASE).confidence_interval(0.99)))
    assert five.mde > one.mde


def test_a_ratio_is_compared_in_logarithms():
    found = stats.paired(2 * BASE * [1, 1.1, 0.9, 1], BASE, ratio=True)
    logs = np.log([2, 2.2, 1.8, 2])
    assert found.effect == pytest.approx(np.exp(logs.mean()))
    low, high = scipy_stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert found.significant and found.sign == 1
    assert stats.paired(BASE, 2 * BASE * [1, 1.1, 0.9, 1], ratio=True).sign == -1


def test_significance_and_sign():
    better = stats.paired(BASE + [0.3, 0.31, 0.29, 0.3], BASE)
    worse = stats.paired(BASE, BASE + [0.3, 0.31, 0.29, 0.3])
    assert (better.significant, better.sign, worse.sign) == (True, 1, -1)
    assert better.say() == f"+30.0 points (95 % interval +28.7 to +31.3, p < 0.0001, {4} seeds)"


def test_equal_differences_have_no_interval():
    found = stats.paired(BASE + 0.25, BASE)
    assert np.isnan([found.low, found.high, found.p, found.mde]).all() and found.sign == 0
    assert found.say() == "+25.0 points (the same for each of 4 seeds)"


@pytest.mark.parametrize(
    "arm, base, what",
    [
        (ARM.iloc[:1], BASE, "two seeds or more"),
        (pd.concat([ARM, ARM]), BASE, "a seed is there twice"),
        (ARM.replace(0.5, np.nan), BASE, "finite"),
    ],
)
def test_what_cannot_be_compared(arm, base, what):
    with pytest.raises(UserError, match=what):
        stats.paired(arm, base)
    with pytest.raises(UserError, match="positive"):
        stats.paired(ARM, BASE - 0.5, ratio=True)


def test_the_minimum_detectable_effect_is_found_in_four_of_five_simulations():
    draw = np.random.default_rng(0)
    for seeds in (3, 10):
        effect = stats.minimum_detectable_effect(1.0, seeds)
        found = scipy_stats.ttest_1samp(draw.normal(effect, 1.0, (20_000, seeds)), 0, axis=1).pvalue < 0.05
        assert found.mean() == pytest.approx(0.8, abs=0.012)
    assert stats.paired(ARM, BASE).mde == pytest.approx(stats.minimum_detectable_effect((ARM - BASE).std(), 4))


def test_compare_reads_a_table():
    rows = table()
    assert stats.compare(rows, "y", "a", "b") == stats.paired(ARM, BASE)
    every = stats.compare_all(rows, "y", "b")
    assert list(every.index) == ["b", "a", "c"] and every["seeds"].tolist() == [4, 4, 1]
    assert every.loc["a", "p"] == pytest.approx(min(2 * stats.paired(ARM, BASE).p, 1))
    assert np.isnan(every.loc["c", "effect"]) and np.isnan(every.loc["b", "p"])
    assert every.loc["a", "std"] == pytest.approx(ARM.std())
    summary = stats.summary_table(rows, ["y"])
    assert summary.loc["a"].tolist() == pytest.approx([4, 0.675, ARM.std()])
    with pytest.raises(UserError, match="no rows of 'x' in the table; there are a, b, c"):
        stats.compare(rows, "y", "x", "b")
    with pytest.raises(UserError, match="no column z"):
        stats.compare(rows, "z", "a", "b")
    with pytest.raises(UserError, match="column y of 'a' holds '0,5', which is not a number"):
        stats.compare(
            rows.astype({"y": object}).replace({"y": {rows.loc[rows["arm"] == "a", "y"].iloc[0]: "0,5"}}), "y", "a", "b"
        )


def test_a_table_is_read_or_refused_by_name(tmp_path):
    path = tmp_path / "t.csv"
    table().to_csv(path, index=False)
    assert len(stats.read_table(path, ["arm", "y"])) == 9
    with pytest.raises(UserError, match=r"t\.csv: no column z; it has arm, seed, y"):
        stats.read_table(path, ["z"])
    path.write_bytes(b"\xff\xfe\x00a,b\n1")
    with pytest.raises(UserError, match=r"t\.csv, line 1: not UTF-8 text"):
        stats.read_table(path)
    path.write_bytes(b"a,b\n1,2\n1,2,3\n")
    with pytest.raises(UserError, match=r"t\.csv: cannot be read as a table .*line 3, saw 3.$"):
        stats.read_table(path)
    with pytest.raises(UserError, match="nowhere"):
        stats.read_table(tmp_path / "nowhere.csv")


def test_the_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(1).normal(size=200)
    low, high = stats.bootstrap_ci(lambda counts: counts @ values / 200, 200, resamples=4000)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    narrow = stats.bootstrap_ci(lambda counts: counts @ values / 200, 200, coverage=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_the_interval_of_a_mean():
    low, high = stats.interval([1.0, 2.0, 4.0])
    assert (low, high) == pytest.approx(tuple(scipy_stats.ttest_1samp([1.0, 2.0, 4.0], 0).confidence_interval()))
    assert np.isnan(stats.interval([1.0])).all() and np.isnan(stats.interval([2.0, 2.0])).all()
