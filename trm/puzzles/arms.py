"""From a table of arms, seeds and evaluations to a comparison: means, deviations, and what may be said of them."""

import re

import numpy as np
import pandas as pd
from scipy import stats

BASELINE = "none"


def compare(table: pd.DataFrame, target: float) -> pd.DataFrame:
    """One row an arm: test accuracies (mean and standard deviation over the seeds), network applications an example
    until the validation accuracy first reached `target` (mean over the seeds that did), how many seeds did, final loss,
    and the difference to the arm "none" with the p-value of Welch's t-test.

    table: columns arm, seed, compute, valid/exact_accuracy, test/exact_accuracy, train/supervised_loss, ...
    """
    last = table.groupby(["arm", "seed"], sort=False).last()
    rows = {}
    for arm, group in last.groupby("arm", sort=False):
        exact = group["test/exact_accuracy"]
        curves = table[(table["arm"] == arm) & (table["valid/exact_accuracy"] >= target)]
        first = curves.groupby("seed")["compute"].min()
        rows[arm] = {
            "exact mean": exact.mean(),
            "exact std": exact.std(),
            "cells mean": group["test/cell_accuracy"].mean(),
            f"compute to {target:.0%}": first.mean(),
            "seeds there": f"{len(first)}/{len(group)}",
            "final loss": group[_last_cycle(table)].mean(),
        }
        baseline = last.loc[BASELINE, "test/exact_accuracy"] if BASELINE in last.index.get_level_values(0) else exact
        rows[arm]["minus none"] = exact.mean() - baseline.mean()
        several = len(exact) > 1 and len(baseline) > 1 and arm != BASELINE
        rows[arm]["p"] = stats.ttest_ind(exact, baseline, equal_var=False).pvalue if several else np.nan
    return pd.DataFrame(rows).T.infer_objects().sort_values("exact mean", ascending=False)


def _last_cycle(table: pd.DataFrame) -> str:
    """Column of the loss after the last H-cycle: the one loss that means the same in every arm."""
    return loss_columns(table)[-1]


def loss_columns(table: pd.DataFrame) -> list[str]:
    """Columns of the losses after each H-cycle, in the order of the cycles."""
    columns = [c for c in table if c.startswith("train/deep_supervision/")]
    return sorted(columns, key=lambda name: int(re.search(r"step_(\d+)_", name)[1]))


def verdict(comparison: pd.DataFrame, table: pd.DataFrame, target: float) -> str:
    """What the comparison says, in sentences whose numbers come from it."""
    seeds = table["seed"].nunique()
    best = comparison.index[0]
    top = comparison.loc[best]
    text = (
        f"Of {len(comparison)} arms over {seeds} seed{'s' if seeds > 1 else ''} at equal compute, **{best}** solves most "
        f"unseen puzzles: {top['exact mean']:.1%}" + (f" ± {top['exact std']:.1%}" if seeds > 1 else "") + ". "
    )
    if BASELINE in comparison.index and best != BASELINE:
        base = comparison.loc[BASELINE]
        text += f"Without deep supervision it is {base['exact mean']:.1%}"
        text += f" ± {base['exact std']:.1%}. " if seeds > 1 else ". "
    if seeds > 1:
        threshold = 0.05 / max(len(comparison) - 1, 1)  # Bonferroni: many arms are held against one
        sure = [arm for arm in comparison.index if comparison.loc[arm, "p"] < threshold]
        text += (
            f"Told apart from the baseline at p < {threshold:.3f} (5 % shared among the arms): {', '.join(sure)}. "
            if sure
            else "**Measured: no arm can be told apart from the baseline** with these seeds. "
        )
    columns = loss_columns(table)
    final = table.groupby(["arm", "seed"]).last()[columns]
    ordered = (np.diff(final.to_numpy(), axis=1) <= 0).all(1).mean()
    text += (
        f"In {ordered:.0%} of the runs the losses at the end fall from each H-cycle to the next: an earlier loss that is "
        "higher than a later one is the healthy case, not a fault."
    )
    return text
