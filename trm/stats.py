"""The one place where a difference between runs is judged.

A table has one row per run, with a column that names its arm and a column `seed`. Arms are compared seed by seed (paired
t-test): `compare` gives effect, 95 % interval, p and the minimum detectable effect. One vocabulary for all of the book:
*significant* means that the corrected p is below 0.05. What is drawn again for a bootstrap are the test examples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, stats

from trm.errors import UserError
from trm.text_files import reading

LEVEL = 0.05  # p below it is significant
POWER = 0.8  # of the minimum detectable effect


def read_table(path: Path | str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV table of runs that has `columns`.

    Raises:
        UserError: the file cannot be read or lacks a column; both are named.
    """
    try:
        with reading(path):
            table = pd.read_csv(path)
    except UserError:
        raise
    except ValueError as error:  # pandas' errors of parsing
        raise UserError(f"{path}: cannot be read as a table ({' '.join(str(error).split())})") from None
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    return table


@dataclass(frozen=True)
class Comparison:
    """An arm compared with a baseline, paired by seed. low, high, p and mde are NaN where all differences are equal."""

    arm_mean: float  # over the seeds that both have
    baseline_mean: float
    effect: float  # mean of arm - baseline; for ratios the geometric mean of arm / baseline
    low: float  # interval of the effect
    high: float
    p: float  # two-sided, of the paired t-test, times the number of comparisons (Bonferroni), at most 1
    mde: float  # minimum detectable effect: what such a test finds in 80 % of the cases (in log for ratios)
    seeds: int  # that both have
    ratio: bool = False

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below 0.05."""
        return self.p < LEVEL

    @property
    def sign(self) -> int:
        """1 or -1 where the effect is significant, else 0."""
        return int(np.sign(self.effect - self.ratio)) if self.significant else 0

    def say(self, unit: str = "points", digits: int = 1) -> str:
        """The comparison in words, as "+3.1 points (95 % interval +1.2 to +5.0, p = 0.003, 10 seeds)". unit: "points" for
        shares from 0 to 1; any other is written after the numbers."""
        if self.ratio:
            numbers = [f"{x:.{digits + 1}f}" for x in (self.effect, self.low, self.high)]
            unit = "times"
        else:
            scale = 100 if unit == "points" else 1
            numbers = [f"{scale * x:+.{digits}f}" for x in (self.effect, self.low, self.high)]
        if not np.isfinite(self.p):
            return f"{numbers[0]} {unit} (the same for each of {self.seeds} seeds)"
        p = f"p = {self.p:.2g}" if self.p >= 1e-4 else "p < 0.0001"
        return f"{numbers[0]} {unit} (95 % interval {numbers[1]} to {numbers[2]}, {p}, {self.seeds} seeds)"


def paired(arm: pd.Series, baseline: pd.Series, ratio: bool = False, tests: int = 1) -> Comparison:
    """Compare two arms, each a metric indexed by seed. ratio: compare the logarithms, and give the effect as arm / baseline.
    tests: how many comparisons share the 5 %; interval and p are corrected for them.

    Raises:
        UserError: fewer than two seeds in common, a seed twice, values that are not finite (for a ratio: positive).
    """
    if not (arm.index.is_unique and baseline.index.is_unique):
        raise UserError("a seed is there twice in an arm: index each arm by its seed, one run each")
    both = pd.concat({"arm": arm, "baseline": baseline}, axis=1, join="inner").sort_index().astype(float)
    if len(both) < 2:
        raise UserError(f"a paired comparison takes two seeds or more that both arms have; there are {len(both)}")
    if not np.isfinite(both.to_numpy()).all() or ratio and not (both > 0).all(axis=None):
        raise UserError("a comparison takes finite values (a ratio: positive ones); leave failed runs out of both arms")
    values = np.log(both) if ratio else both
    gain = values["arm"] - values["baseline"]
    low = high = p = mde = np.nan
    if np.ptp(gain) > 1e-12 * values.abs().to_numpy().max():
        test = stats.ttest_rel(values["arm"], values["baseline"])
        low, high = test.confidence_interval(1 - LEVEL / tests)
        p = min(test.pvalue * tests, 1.0)
        mde = minimum_detectable_effect(float(gain.std()), len(gain), LEVEL / tests)
    back = np.exp if ratio else float
    effect, low, high = (float(back(x)) for x in (gain.mean(), low, high))
    means = both.mean()
    return Comparison(float(means["arm"]), float(means["baseline"]), effect, low, high, float(p), mde, len(both), ratio)


def minimum_detectable_effect(deviation: float, seeds: int, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true mean difference that a paired t-test over `seeds` seeds finds in `power` of the cases.

    deviation: sample standard deviation of the differences. Source: the noncentral t distribution.
    """
    freedom = seeds - 1
    t = stats.t.ppf(1 - level / 2, freedom)

    def missed(shift: float) -> float:
        return stats.nct.sf(t, freedom, shift) - power

    return float(optimize.brentq(missed, 0, 20 * t) * deviation / np.sqrt(seeds))


def by_seed(rows: pd.DataFrame, metric: str, arm: str, key: str = "arm") -> pd.Series:
    """`metric` of one arm, indexed by seed.

    Raises:
        UserError: the table has no such column, or no such arm.
    """
    if missing := [name for name in (key, "seed", metric) if name not in rows]:
        raise UserError(f"no column {', '.join(missing)} in the table; it has {', '.join(map(str, rows.columns))}")
    part = rows[rows[key].astype(str) == str(arm)]
    if part.empty:
        raise UserError(f"no rows of {arm!r} in the table; there are {', '.join(map(str, rows[key].unique()))}")
    values = pd.to_numeric(part[metric], errors="coerce")
    if (bad := part[metric][values.isna() & part[metric].notna()]).size:
        raise UserError(f"column {metric} of {arm!r} holds {bad.iloc[0]!r}, which is not a number")
    return values.set_axis(part["seed"])


def compare(
    rows: pd.DataFrame, metric: str, arm: str, baseline: str, *, key: str = "arm", ratio: bool = False, tests: int = 1
) -> Comparison:
    """`metric` of `arm` against `baseline` in a table of runs, paired by seed. Arguments and errors as in `paired`."""
    return paired(by_seed(rows, metric, arm, key), by_seed(rows, metric, baseline, key), ratio, tests)


def compare_all(
    rows: pd.DataFrame, metric: str, baseline: str, arms: Sequence[str] = (), *, key: str = "arm", ratio: bool = False
) -> pd.DataFrame:
    """Every arm against `baseline`, corrected for their number: a table indexed by arm with mean, std, effect, low, high, p,
    mde, seeds; arms with fewer than two seeds in common have no effect. The baseline stands first."""
    names = list(arms) or [str(name) for name in rows[key].unique() if str(name) != baseline]
    found = {}
    for name in (baseline, *names):
        values = by_seed(rows, metric, name, key)
        found[name] = {"mean": values.mean(), "std": values.std(), "seeds": len(values)}
        shared = values.index.intersection(by_seed(rows, metric, baseline, key).index)
        if name != baseline and len(shared) > 1:
            one = compare(rows, metric, name, baseline, key=key, ratio=ratio, tests=len(names))
            found[name] |= {field: getattr(one, field) for field in ("effect", "low", "high", "p", "mde")}
    columns = ["mean", "std", "seeds", "effect", "low", "high", "p", "mde"]
    return pd.DataFrame(found).T.reindex(columns=columns).astype({"seeds": int}).rename_axis(key)


def summary_table(rows: pd.DataFrame, metrics: Sequence[str], key: str | Sequence[str] = "arm") -> pd.DataFrame:
    """Mean and standard deviation over the seeds of each metric, and the number of seeds, in order of appearance."""
    groups = rows.groupby(key if isinstance(key, str) else list(key), sort=False, dropna=False)
    table = pd.DataFrame({"seeds": groups["seed"].nunique()})
    for metric in metrics:
        table[metric] = groups[metric].mean()
        table[f"{metric} std"] = groups[metric].std()
    return table


def bootstrap_ci(
    statistic: Callable[[np.ndarray], float],
    examples: int,
    resamples: int = 2000,
    coverage: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic over test examples that are drawn again with replacement.

    statistic: counts (resamples, examples) of how often each example was drawn -> (resamples,).
    """
    counts = np.random.default_rng(seed).multinomial(examples, np.full(examples, 1 / examples), resamples)
    tail = (1 - coverage) / 2
    low, high = np.quantile(statistic(counts), [tail, 1 - tail])
    return float(low), float(high)


def interval(values: Sequence[float], coverage: float = 0.95) -> tuple[float, float]:
    """The t-interval of a mean: (low, high); NaN for fewer than two values or values that are all equal."""
    values = np.asarray(values, float)
    if len(values) < 2 or np.ptp(values) == 0:
        return np.nan, np.nan
    low, high = stats.t.interval(coverage, len(values) - 1, values.mean(), stats.sem(values))
    return float(low), float(high)
