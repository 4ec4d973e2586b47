"""The experiments of the two suites: what varies in each, and whether it matters more than the seed.

Tables are those of `trm sweep results NAME --csv FILE`: one row per run, with sweep, case, seed, run_id, parameters, metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats

from trm.errors import UserError
from trm.stats import compare_all, paired, read_table

ACCURACY, LOSS, COST = "test/exact_accuracy", "test/loss", "flops/training"
# Columns of numbers that a table must have, and their limits; sizes are checked where a table has them.
NUMBERS = {"model/parameters": (1, np.inf), "train/puzzles": (1, np.inf), ACCURACY: (0, 1), LOSS: (0, np.inf),
           COST: (0, np.inf), "flops/answer": (0, np.inf)}  # fmt: skip
NEEDED = ["sweep", "case", "seed", "run_id", *NUMBERS]


@dataclass(frozen=True)
class Experiment:
    """Cases that differ along one axis."""

    name: str
    title: str
    cases: str  # pattern of their names
    x: str = ""  # the column that varies; "" for cases that are kinds, not sizes
    label: str = ""  # of the axis, with its unit

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Its rows of a table of runs."""
        return runs[runs["case"].str.fullmatch(self.cases)]


EXPERIMENTS = [
    Experiment("exp01", "1 · width", "exp01.", "model/parameters", "parameters"),
    Experiment("exp02", "2 · latent steps", "exp02.", "L_cycles", "L_cycles"),
    Experiment("exp03", "3 · H-cycles", "exp03.", "H_cycles", "H_cycles"),
    Experiment("exp04", "4 · layers or recursion", "exp04.", "num_layers", "layers (layers × L_cycles held)"),
    Experiment("exp05", "5a · training puzzles", "exp05[a-f]", "train/puzzles", "training puzzles"),
    Experiment("exp05 aug", "5b · variants", "exp05[g-k]", "num_aug", "variants of each puzzle"),
    Experiment("exp06", "6 · supervision steps", "exp06.", "halt_max_steps", "halt_max_steps"),
    Experiment("exp07", "7 · batch", "exp07.", "batch_size", "examples per step (as many in all)"),
    Experiment("exp08", "8 · precision", "exp08."),
    Experiment("exp09", "9 · averaged weights", "exp09.", "ema_decay", "decay of the average (0: none)"),
    Experiment("exp10", "10 · optimizer", "exp10."),
    Experiment("tn_sweep", "T and n (TPU quick start)", "e2_2_.*", COST, "training FLOPs"),
    Experiment("quick start", "other experiments of the TPU quick start", "e1_[13].*|e2_[134].*|e3_.*|e4_.*"),
    Experiment("contributions", "contributions", "baseline|contrib.*"),
]

LIMITS = {e.x: (0, np.inf) for e in EXPERIMENTS if e.x} | NUMBERS


def read_runs(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Tables of runs, one under the other.

    Raises:
        UserError: a file cannot be read, has no rows, lacks a column, or has an impossible value: file, column and line.
    """
    tables = []
    for path in paths:
        try:
            table = read_table(path, NEEDED)
        except UserError as error:
            raise UserError(f"{error}; `trm sweep results NAME --csv FILE` writes a table of runs") from None
        if table.empty:
            raise UserError(f"{path}: no runs after the header")
        for name, (low, high) in LIMITS.items():
            values = pd.to_numeric(table.get(name, pd.Series(1.0, table.index)), errors="coerce")
            bad = np.flatnonzero(~(values.between(low, high) & np.isfinite(values)))
            if len(bad):
                raise UserError(f"{path}, line {bad[0] + 2}: {name} = {table[name].iloc[bad[0]]} cannot be right")
        tables.append(table.astype({"case": str, "run_id": str}))
    if not tables:
        raise UserError("no table of runs was named")
    return pd.concat(tables, ignore_index=True)


def present(runs: pd.DataFrame) -> list[Experiment]:
    """The experiments of which the table has two cases or more, and the column that varies."""
    return [e for e in EXPERIMENTS if e.of(runs)["case"].nunique() > 1 and (not e.x or e.x in runs)]


def axis_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Whether each axis matters more than the seed, judged on the accuracy after the last step.

    Returns one row per experiment: best and worst case by mean accuracy, their difference and the standard deviation over
    seeds (pooled over the cases), in points, omega squared (0 at least), and p of a one-way analysis of variance. NaN where no
    case has two runs that differ.
    """
    rows = {}
    for experiment in present(runs):
        part = experiment.of(runs)
        cases, values = part.groupby("case")[ACCURACY], part[ACCURACY]
        means = cases.agg(lambda of_case: of_case.to_numpy().mean())
        within, freedom = ((values - cases.transform("mean")) ** 2).sum(), len(values) - len(means)
        total = ((values - values.mean()) ** 2).sum()
        noise, p, explained = within / freedom if freedom else np.nan, np.nan, np.nan
        if freedom and within > 1e-12 * max(total, 1e-12):
            p = scipy.stats.f_oneway(*(group for _, group in cases)).pvalue
            explained = max((total - within - (len(means) - 1) * noise) / (total + noise), 0)
        rows[experiment.name] = {
            "best": means.idxmax(), "best accuracy": means.max(), "worst": means.idxmin(), "worst accuracy": means.min(),
            "difference": 100 * (means.max() - means.min()), "deviation over seeds": 100 * np.sqrt(noise),
            "explained": explained, "p": p,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("experiment")


def against_baseline(runs: pd.DataFrame, experiment: Experiment, baseline: str) -> pd.DataFrame:
    """Every case of an experiment against `baseline`, paired by seed and corrected for their number (`stats.compare_all`), in
    points of accuracy; and FLOPs, the training compute as a multiple of the baseline's."""
    part = experiment.of(runs)
    flops = part.groupby("case")[COST].mean()
    table = compare_all(part.assign(**{ACCURACY: 100 * part[ACCURACY]}), ACCURACY, baseline, key="case")
    return table.assign(FLOPs=flops / flops[baseline])


def against_width(runs: pd.DataFrame, experiment: Experiment, metric: str = LOSS, cost: str = COST) -> pd.DataFrame:
    """Every case of an experiment against a model of another width (exp01) with the same FLOPs: what these bring there.

    The metric of such a model is that of the widths, of the same seed, on straight lines between the logarithms of cost and
    metric. Returns one row per case within the FLOPs of the widths: FLOPs as a multiple of those of the narrowest model, and
    the metric's ratio to that of the width, paired by seed and corrected for the number of rows, with interval, p, mde, seeds.
    """
    widths = next(e for e in EXPERIMENTS if e.name == "exp01").of(runs)
    curves = {seed: rows.sort_values(cost) for seed, rows in widths.groupby("seed")}
    low, high = widths[cost].min(), widths[cost].max()
    found = {}
    for case, rows in experiment.of(runs).groupby("case"):
        rows = rows[rows["seed"].isin(curves)].set_index("seed")
        if len(rows) > 1 and rows[cost].between(low, high).all():
            as_wide = [
                np.interp(np.log(row[cost]), np.log(curves[seed][cost]), np.log(curves[seed][metric]))
                for seed, row in rows.iterrows()
            ]
            found[case] = rows[cost].mean() / low, rows[metric], pd.Series(np.exp(as_wide), rows.index)
    table = {}
    for case, (flops, own, as_wide) in found.items():
        one = paired(own, as_wide, ratio=True, tests=len(found))
        table[case] = {"FLOPs": flops, "ratio": one.effect, "low": one.low, "high": one.high, "p": one.p, "mde": one.mde,
                       "seeds": one.seeds}  # fmt: skip
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("case")


def configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with every distinct configuration once, under the first of its names: cases of a sweep whose parameters are equal
    but for the seed are one."""
    known = {"sweep", "case", "cell", "seed", "state", "run_id", "code"}
    parameters = [name for name in runs if "/" not in name and name not in known] or ["case", "cell"]
    keys = runs[["sweep", *parameters]].map(repr).agg("\0".join, axis=1)
    again = runs.assign(key=keys).duplicated(["key", "seed"])
    return runs.assign(case=runs.groupby(keys)["case"].transform("first"))[~again]


def summarise(runs: pd.DataFrame, by: str, metric: str) -> pd.DataFrame:
    """Mean, std (n - 1; NaN for one) and n of a metric over the runs of each configuration (column `by`), in order of
    appearance. Raises UserError where a seed is there twice for a configuration."""
    if runs.duplicated([by, "seed"]).any():
        raise UserError(f"a seed is there twice for the same {by}: a run counts once")
    groups = runs.groupby(by, sort=False)[metric]
    # Rounding can carry a mean outside its values; then configurations of equal cost would no longer be equal.
    mean = groups.mean().clip(groups.min(), groups.max())
    return pd.DataFrame({"mean": mean, "std": groups.std(), "n": groups.size()})
