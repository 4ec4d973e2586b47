"""Pareto: fronts against the definition point by point, ties, and membership against all resamples."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trm.errors import UserError
from trm.scaling import pareto

POINTS = st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=1, max_size=25)  # few values: many ties


def by_definition(points):
    """O(n^2): on the front is what no other point dominates."""
    return [not any(c <= cost and e <= error and (c < cost or e < error) for c, e in points) for cost, error in points]


def on_front(points):
    return pareto.non_dominated(*np.array(points, dtype=float).T).tolist()


@settings(max_examples=200, deadline=None)
@given(POINTS)
def test_front_against_the_definition(points):
    assert on_front(points) == by_definition(points)


def test_ties():
    assert on_front([(1, 2), (1, 2), (2, 1), (2, 1)]) == [True] * 4  # copies are on it together
    assert on_front([(1, 2), (1, 1)]) == [False, True]  # equal cost: the smaller error
    assert on_front([(2, 1), (1, 1)]) == [False, True]  # equal error: the cheaper
    assert on_front([(1, 1), (1, 2), (0, 3), (0, 3), (2, 1)]) == [True, False, True, True, False]


def test_degenerate_arrays():
    assert pareto.non_dominated([], []).tolist() == []
    assert on_front([(3, 3)]) == [True]
    assert on_front([(1, np.inf), (2, 5), (np.inf, 5)]) == [True, True, False]
    with pytest.raises(UserError, match="NaN"):
        pareto.non_dominated([1, np.nan], [1, 2])
    with pytest.raises(UserError, match=r"both be \(n,\)"):
        pareto.non_dominated([1, 2], [1])


def table(**arms):
    """A row a run; an arm is a list of (cost, error), a pair a seed."""
    rows = [(arm, seed, *pair) for arm, pairs in arms.items() for seed, pair in enumerate(pairs)]
    return pd.DataFrame(rows, columns=["arm", "seed", "cost", "error"])


def test_front_of_means():
    runs = table(slow=[(9, 0.1), (9, 0.3)], poor=[(5, 0.5), (7, 0.7)], quick=[(1, 0.4), (1, 0.5), (1, 0.6)])
    front = pareto.front(runs, "arm")
    assert front.index.tolist() == ["quick", "poor", "slow"] and front["on_front"].tolist() == [True, False, True]
    assert front["cost"].tolist() == [1, 6, 9] and front["error"].tolist() == pytest.approx([0.5, 0.6, 0.2])
    assert front["error_std"].tolist() == pytest.approx([0.1, 0.02**0.5, 0.02**0.5])
    assert front["n"].tolist() == [3, 2, 2]


def test_equal_costs_stay_equal_whatever_the_number_of_seeds():
    """Ten runs of cost 0.1 have a mean a rounding below 0.1; that must not make the worse arm the cheaper one."""
    for few, many in itertools.product((1, 3), (3, 6, 10)):
        runs = table(good=[(0.1, 0.2)] * few, bad=[(0.1, 0.3)] * many)
        assert not pareto.front(runs, "arm").loc["bad", "on_front"]
        assert pareto.membership(runs, "arm", resamples=3)["bad"] == 0


def test_membership_against_all_resamples():
    arms = {"a": [(1, 0.5), (1, 0.7)], "b": [(2, 0.4), (2, 0.6)], "c": [(3, 0.45), (4, 0.55)], "d": [(9, 0.9)]}
    counts = dict.fromkeys(arms, 0)
    draws = []
    for arm in arms.values():
        means = [np.mean(pairs, axis=0) for pairs in itertools.product(arm, repeat=len(arm))]
        stretch = (len(arm) / (len(arm) - 1)) ** 0.5 if len(arm) > 1 else 1
        draws.append([np.mean(arm, axis=0) + stretch * (mean - np.mean(arm, axis=0)) for mean in means])
    worlds = list(itertools.product(*draws))
    for world in worlds:
        rounded = [tuple(np.round(point, 9)) for point in world]
        for arm, member in zip(arms, by_definition(rounded)):
            counts[arm] += member
    found = pareto.membership(table(**arms), "arm", resamples=2000, seed=3)
    assert found.index.tolist() == ["a", "b", "c", "d"] and found["a"] == 1 and found["d"] == 0
    assert found.equals(pareto.membership(table(**arms), "arm", resamples=2000, seed=3))
    for arm in arms:
        low, high = stats.binom(2000, counts[arm] / len(worlds)).interval(0.9999)
        assert low <= 2000 * found[arm] <= high
    assert 0.1 < found["c"] < found["b"] < 0.9


def test_a_run_counts_once():
    with pytest.raises(UserError, match="a seed is there twice"):
        pareto.front(table(a=[(1, 0.5), (1, 0.6)]).assign(seed=0), "arm")
