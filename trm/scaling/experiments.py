"""The experiments of the two suites as tables of runs: what varies in each, and whether it matters more than the seed.

A table has one row for every run: columns sweep, case, seed, run_id, the parameters, and the metrics; it is what
`python -m trm.sweep results NAME --csv FILE` writes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from trm.errors import UserError
from trm.stats_old import paired_difference, summarise

ACCURACY, ITEMS, COST = "test/exact_accuracy", "test/puzzles", "flops/training"
NEEDED = ["sweep", "case", "seed", "run_id", ACCURACY, ITEMS, COST, "flops/answer", "model/parameters", "train/puzzles"]


@dataclass(frozen=True)
class Experiment:
    """Cases that differ along one axis. cases: a pattern of their names; x: the column that varies ("" for cases that are
    kinds, not sizes); label: of the axis, with its unit."""

    name: str
    title: str
    cases: str
    x: str = ""
    label: str = ""

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Its rows of a table of runs."""
        return runs[runs["case"].str.fullmatch(self.cases)]


EXPERIMENTS = [
    Experiment("exp01", "1 · width", "exp01.", "model/parameters", "parameters"),
    Experiment("exp02", "2 · latent steps", "exp02.", "L_cycles", "L_cycles"),
    Experiment("exp03", "3 · answers a step", "exp03.", "H_cycles", "H_cycles"),
    Experiment("exp04", "4 · layers or recursion", "exp04.", "num_layers", "layers (layers × L_cycles held)"),
    Experiment("exp05", "5a · training puzzles", "exp05[a-f]", "train/puzzles", "training puzzles"),
    Experiment("exp05 aug", "5b · variants", "exp05[g-k]", "num_aug", "variants of each puzzle"),
    Experiment("exp06", "6 · supervision steps", "exp06.", "halt_max_steps", "halt_max_steps"),
    Experiment("exp07", "7 · batch", "exp07.", "batch_size", "examples an update (as many examples in all)"),
    Experiment("exp08", "8 · precision", "exp08."),
    Experiment("exp09", "9 · averaged weights", "exp09.", "ema_decay", "decay of the average (0: none)"),
    Experiment("exp10", "10 · optimizer", "exp10."),
    Experiment("tn_sweep", "T and n (TPU quick start)", "e2_2_.*", COST, "training FLOPs"),
    Experiment("contributions", "contributions", "baseline|contrib.*"),
]


def read_runs(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Tables of runs, one under the other.

    Raises:
        UserError: a file cannot be read, has no rows, lacks a column, or has a value that cannot be: file, column and line.
    """
    tables = []
    for path in paths:
        try:
            table = pd.read_csv(path, dtype={"case": str, "run_id": str})
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as a table of runs ({error})") from None
        missing = [name for name in NEEDED if name not in table]
        if missing:
            raise UserError(
                f"{path}: no column {', '.join(missing)}; `python -m trm.sweep results NAME --csv FILE` writes such a table"
            )
        if table.empty:
            raise UserError(f"{path}: no runs after the header")
        sizes = [e.x for e in EXPERIMENTS if e.x in table and e.x not in NEEDED]
        for name in [*NEEDED[4:], *sizes]:
            values = pd.to_numeric(table[name], errors="coerce")
            least = 1 if name in (ITEMS, "train/puzzles", "model/parameters") else 0
            bad = ~np.isfinite(values) | (values < least) | ((values > 1) if name == ACCURACY else False)
            if bad.any():
                line = int(np.flatnonzero(bad)[0])
                raise UserError(f"{path}, line {line + 2}: {name} = {table[name].iloc[line]} cannot be right")
            table[name] = values
        tables.append(table)
    if not tables:
        raise UserError("no table of runs was named")
    return pd.concat(tables, ignore_index=True)


def present(runs: pd.DataFrame) -> list[Experiment]:
    """The experiments of which the table has two cases or more, and the column that varies."""
    return [e for e in EXPERIMENTS if e.of(runs)["case"].nunique() > 1 and (not e.x or e.x in runs)]


def axis_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row an experiment: best and worst case by mean accuracy, their difference in points, the deviation over seeds
    (pooled over the cases, in points), the share of the variance that the cases explain beyond what chance would (omega
    squared; 0 at least), and the p-value of a one-way analysis of variance (Fisher; it takes errors for normal, and equally
    spread in all cases). All on the accuracy after the last step. NaN where no case has two runs that differ.
    """
    rows = []
    for experiment in present(runs):
        cases = {case: group[ACCURACY].to_numpy() for case, group in experiment.of(runs).groupby("case")}
        means = pd.Series({case: values.mean() for case, values in cases.items()})
        within = sum(((values - values.mean()) ** 2).sum() for values in cases.values())
        freedom = sum(len(values) - 1 for values in cases.values())
        total = ((np.concatenate(list(cases.values())) - np.concatenate(list(cases.values())).mean()) ** 2).sum()
        judged = freedom > 0 and within > 1e-12 * max(total, 1e-12)
        p = stats.f_oneway(*cases.values()).pvalue if judged else np.nan
        noise = within / freedom if judged else np.nan
        rows.append(
            {
                "experiment": experiment.name,
                "best": means.idxmax(),
                "best accuracy": means.max(),
                "worst": means.idxmin(),
                "worst accuracy": means.min(),
                "difference": 100 * (means.max() - means.min()),
                "deviation over seeds": 100 * np.sqrt(within / freedom) if freedom else np.nan,
                "explained": max((total - within - (len(cases) - 1) * noise) / (total + noise), 0)
                if judged
                else np.nan,
                "p": p,
            }
        )
    names = ["best", "best accuracy", "worst", "worst accuracy", "difference", "deviation over seeds", "explained", "p"]
    return pd.DataFrame(rows, columns=["experiment", *names]).set_index("experiment")


def against_baseline(runs: pd.DataFrame, experiment: Experiment, baseline: str, coverage: float) -> pd.DataFrame:
    """Each other case less `baseline`, seed by seed, in points of accuracy: mean, low, high, p, n, and the ratio of
    training FLOPs; cases with fewer than two seeds in common are left out.

    Raises:
        KeyError: the experiment has no runs of `baseline`.
    """
    rows = {}
    by_case = {case: group.set_index("seed") for case, group in experiment.of(runs).groupby("case", sort=False)}
    for case, group in by_case.items():
        if case == baseline or len(group.index.intersection(by_case[baseline].index)) < 2:
            continue
        found = paired_difference(100 * group[ACCURACY], 100 * by_case[baseline][ACCURACY], coverage)
        rows[case] = found | {"FLOPs": group[COST].mean() / by_case[baseline][COST].mean()}
    return pd.DataFrame(rows).T


def configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with every distinct configuration once, under the first of its names: cases of a sweep whose parameters are
    equal but for the seed are one. (Where a table holds no parameters, cases of different names are different.)"""
    known = {"sweep", "case", "cell", "seed", "state", "run_id", "code"}
    parameters = [name for name in runs if "/" not in name and name not in known] or ["case", "cell"]
    keys = runs[["sweep", *parameters]].map(repr).agg("\0".join, axis=1)
    return runs.assign(case=runs.groupby(keys)["case"].transform("first"))[
        ~runs.assign(key=keys).duplicated(["key", "seed"])
    ]


def summary(runs: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """A row a case: x (its size, or nothing), mean, std and n of the error 1 - accuracy, in the order of the table."""
    part = experiment.of(runs).assign(error=lambda table: 1 - table[ACCURACY])
    table = summarise(part, "case", "error")
    if experiment.x:
        table.insert(0, "x", part.groupby("case", sort=False)[experiment.x].mean())
    return table


def say_axes(table: pd.DataFrame) -> str:
    """What `axis_table` says, in a sentence or two."""
    threshold = 0.05 / max(len(table), 1)  # Bonferroni: many axes are asked
    sure = [name for name in table.index if table.loc[name, "p"] < threshold]
    unsure = [name for name in table.index if table.loc[name, "p"] >= threshold]
    unjudged = [name for name in table.index if np.isnan(table.loc[name, "p"])]
    said = [f"{name} ({table.loc[name, 'difference']:.1f} points against {table.loc[name, 'deviation over seeds']:.1f})"
            for name in sure]  # fmt: skip
    text = ""
    if said:
        text += f"The seed alone does not explain the differences (p < {threshold:.3f}, 5 % shared among {len(table)} axes) "
        text += f"in {', '.join(said)}. "
    if unsure:
        text += f"**Measured: no difference that is sure** in {', '.join(unsure)}: the seed alone may explain it. "
    if unjudged:
        text += f"Not to be judged, for want of seeds that differ: {', '.join(unjudged)}."
    return re.sub(r"\s+", " ", text).strip()
