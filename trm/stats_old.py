"""From runs to numbers: errors that can be fitted, means over seeds, arms compared seed by seed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from trm.errors import UserError


def error_rate(accuracy: ArrayLike, items: ArrayLike) -> np.ndarray:
    """Share of errors (wrong + 1/2) / (items + 1) of an accuracy (share from 0 to 1) over `items` test items: never 0 or 1.

    Raises:
        UserError: an accuracy outside 0..1, fewer items than one.
    """
    accuracy, items = np.asarray(accuracy, dtype=float), np.asarray(items, dtype=float)
    if not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise UserError("an accuracy is a share from 0 to 1")
    if not ((items >= 1) & (items < np.inf)).all():
        raise UserError("an accuracy needs the number of test items it was measured on, 1 or more")
    return (items * (1 - accuracy) + 0.5) / (items + 1)


def logit_error(accuracy: ArrayLike, items: ArrayLike) -> np.ndarray:
    """logit of `error_rate`, in nats: the empirical logit, which the half counts rid of most of its bias (Haldane 1956).

    accuracy, items (n,) -> (n,); errors as in `error_rate`.
    """
    return special.logit(error_rate(accuracy, items))


def error_odds(accuracy: ArrayLike, items: ArrayLike) -> np.ndarray:
    """exp of `logit_error`, (wrong + 1/2) / (right + 1/2): the y to fit, positive and unbounded. (n,), (n,) -> (n,)."""
    return np.exp(logit_error(accuracy, items))


def summarise(runs: pd.DataFrame, by: str | Sequence[str], metric: str) -> pd.DataFrame:
    """Mean, std (n - 1 in it; NaN for one) and n of a metric over the rows of each configuration, in order of appearance.

    runs: a row a run. by: the columns that make a configuration; a column "seed" may then appear but once in each.

    Raises:
        UserError: a column is missing, a value is no finite number, a seed is there twice.
    """
    by = [by] if isinstance(by, str) else list(by)
    if missing := [name for name in (*by, metric) if name not in runs]:
        raise UserError(f"no column {', '.join(missing)} in the runs; there are {', '.join(map(str, runs.columns))}")
    if bad := int((~np.isfinite(pd.to_numeric(runs[metric], errors="coerce"))).sum()):
        raise UserError(f"{metric} is not a finite number in {bad} of {len(runs)} runs; leave failed runs out")
    if "seed" in runs and runs.duplicated([*by, "seed"]).any():
        raise UserError(f"a seed is there twice for the same {', '.join(by)}: a run counts once")
    groups = runs.groupby(by if len(by) > 1 else by[0], sort=False, dropna=False)[metric]
    # Rounding can carry a mean outside its values; then configurations of equal cost would no longer be equal.
    mean = groups.mean().clip(groups.min(), groups.max())
    return pd.DataFrame({"mean": mean, "std": groups.std(), "n": groups.size()})


def paired_difference(a: pd.Series, b: pd.Series, coverage: float = 0.95) -> dict[str, float]:
    """a - b of two arms matched by seed (the index): mean, t-interval low and high, p-value (two-sided), n, unmatched seeds.

    Where all differences are the same there is no spread to judge by: interval and p are NaN.

    Raises:
        UserError: fewer than two seeds in common, a seed twice in an arm, values that are not finite.
    """
    if not (a.index.is_unique and b.index.is_unique):
        raise UserError("a seed is there twice in an arm: index each arm by its seed, one run each")
    both = pd.concat({"a": a, "b": b}, axis=1, join="inner").astype(float)
    if len(both) < 2:
        raise UserError(f"a paired difference takes two seeds or more that both arms have; there are {len(both)}")
    if not np.isfinite(both.to_numpy()).all():
        raise UserError("a paired difference takes finite values; leave failed runs out of both arms")
    gain = both["a"] - both["b"]
    low = high = p = np.nan
    if np.ptp(gain) > 1e-12 * both.abs().to_numpy().max():
        test = stats.ttest_rel(both["a"], both["b"])
        (low, high), p = test.confidence_interval(coverage), test.pvalue
    unmatched = len(a.index.symmetric_difference(b.index))
    return {"mean": gain.mean(), "low": low, "high": high, "p": p, "n": len(both), "unmatched": unmatched}


def read_rows(path: Path, wanted: Sequence[str], sweep: str) -> pd.DataFrame:
    """The rows of several runs together, as `trm.sweep results SWEEP --rows FILE` writes them.

    Raises:
        UserError: it cannot be read, or lacks one of the columns that are wanted.
    """
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from None
    if missing := [name for name in wanted if name not in rows]:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; make it with `python -m trm.sweep results {sweep} --rows FILE`"
        )
    return rows


def curves(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns in which a row keeps whole curves, as numbers with spaces between, point by point: arm, seed and the `names`."""
    names = list(names)
    found = rows[["arm", "seed", *names]].copy()
    found[names] = found[names].map(lambda text: [float(part) for part in str(text).split()])
    return found.explode(names, ignore_index=True).astype(dict.fromkeys(names, float))
