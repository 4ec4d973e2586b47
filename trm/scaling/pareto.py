"""Pareto: which configurations are worth their cost, and how sure that is with a few seeds.

A point is *dominated* if another is at least as good in cost and error and better in one; the front is what no other point
dominates. Copies are on the front together or not at all.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from trm.errors import UserError
from trm.scaling.experiments import summarise


def non_dominated(cost: ArrayLike, error: ArrayLike) -> np.ndarray:
    """Which points are on the front. cost (n,), error (n,), in any units -> (n,) bool. One sort, n log n.

    Raises:
        UserError: arrays of other or unequal shapes, or values that are NaN.
    """
    cost, error = np.asarray(cost, dtype=float), np.asarray(error, dtype=float)
    if cost.ndim != 1 or cost.shape != error.shape:
        raise UserError(f"cost and error must both be (n,); they are {cost.shape} and {error.shape}")
    if np.isnan(cost).any() or np.isnan(error).any():
        raise UserError("cost or error is NaN, which neither dominates nor is dominated; leave those points out")
    if not len(cost):
        return np.zeros(0, dtype=bool)
    order = np.argsort(cost, kind="stable")
    _, first, group = np.unique(cost[order], return_index=True, return_inverse=True)
    best = np.minimum.reduceat(error[order], first)  # smallest error at each cost, cheapest first
    record = np.append(True, best[1:] < np.minimum.accumulate(best)[:-1])  # smaller than at every lower cost
    on_front = np.empty(len(cost), dtype=bool)
    on_front[order] = (error[order] == best[group]) & record[group]
    return on_front


def front(runs: pd.DataFrame, by: str, cost: str = "cost", error: str = "error") -> pd.DataFrame:
    """One row per configuration (column `by` of runs), cheapest first: cost and error (means over its runs), error_std, n and
    on_front. cost, error: names of columns, in any units. Raises as `summarise` does."""
    costs, errors = summarise(runs, by, cost), summarise(runs, by, error)
    table = errors.rename(columns={"mean": "error", "std": "error_std"}).assign(cost=costs["mean"])
    return table.assign(on_front=non_dominated(table["cost"], table["error"])).sort_values("cost", kind="stable")


def membership(
    runs: pd.DataFrame, by: str, cost: str = "cost", error: str = "error", resamples: int = 1000, seed: int = 0
) -> pd.Series:
    """How often each configuration is on the front when its seeds are drawn again: shares from 0 to 1, cheapest first.

    In every resample each configuration draws n of its n runs with replacement (cost and error of a run together), and the
    front is that of the new means, whose distance from the old one is stretched by sqrt(n / (n - 1)), since a draw from few
    runs spreads too little. A configuration with one run is not drawn again. Same seed, same shares.
    """
    table, rng = front(runs, by, cost, error), np.random.default_rng(seed)
    means = []  # of each configuration, (R, 2)
    for _, group in runs.groupby(by, sort=False):
        values = group[[cost, error]].to_numpy(dtype=float)  # (n, 2)
        n, middle = len(values), values.mean(0).clip(values.min(0), values.max(0))
        drawn = values[rng.integers(n, size=(resamples, n))]  # (R, n, 2)
        drawn_mean = drawn.mean(1).clip(drawn.min(1), drawn.max(1))  # as in `summarise`, equal costs stay equal
        means.append(middle + (drawn_mean - middle) * np.sqrt(n / max(n - 1, 1)))
    share = np.mean([non_dominated(*sample.T) for sample in np.stack(means, 1)], axis=0)
    return pd.Series(share, runs[by].unique(), name="probability")[table.index]
