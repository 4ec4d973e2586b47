"""Chapter 06's tables: deep supervision on a language model, which is what its guide speaks of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from trm.report.verdicts import Measured, compare, enough, measure, read_table, share, with_figure

ARMS = ("recursive", "last_only")  # with deep supervision and without
SCALE = "arithmetic stories without a chain"


def _lower(what: str, values: pd.DataFrame, claimed: float) -> Measured:
    """Whether `values` (a row per seed, a column per arm) are lower with deep supervision."""
    values = values.dropna()
    found = compare(values[ARMS[0]], values[ARMS[1]], ARMS, more=False, unit="times")
    verdict = with_figure(found, claimed) if claimed else found.verdict
    return Measured(verdict, f"{what}, {found.text}", SCALE, found.seeds)


@measure("supervised_lm_faster", claimed=10 / 15)
def faster(tables: Path, claimed: float = 0.0) -> Measured:
    """Share of the compute until the validation loss reaches the lowest that both arms of a seed come to, straight lines
    between the evaluations. claimed: the guide's ratio."""
    curves, found = read_table(tables, "06_recursive_lm_curves.csv", arms=ARMS, columns=("compute", "valid/loss")), {}
    for seed, part in curves[curves["arm"].isin(ARMS)].groupby("seed"):
        level = part.groupby("arm")["valid/loss"].min().max()
        for arm, curve in part.groupby("arm"):
            low = np.minimum.accumulate(curve["valid/loss"].to_numpy())
            found[seed, arm] = np.interp(-level, -low, curve["compute"])
    return _lower("share of the compute until the loss that both come to", pd.Series(found).unstack(), claimed)


@measure("supervised_lm_lower_loss", claimed=1.5 / 1.8)
def lower(tables: Path, claimed: float = 0.0) -> Measured:
    """Loss after the last cycle on the test part. claimed: the guide's ratio."""
    rows = read_table(tables, "06_recursive_lm.csv", arms=ARMS, columns=("loss/3",))
    final = rows[rows["arm"].isin(ARMS)].pivot(index="seed", columns="arm", values="loss/3")
    return _lower("loss after the last cycle (nats a token)", final, claimed)


@measure(
    "supervised_lm_ordered", holds=lambda x: (np.diff(x, axis=1) < 0).all(1), what="they fall from each to the next"
)
@measure("supervised_lm_step0", holds=lambda x: x[:, 0] > x[:, -1], what="the first is higher than the last")
def ordered(tables: Path, holds: Callable, what: str) -> Measured:
    """Runs with deep supervision whose losses after the cycles are ordered."""
    rows = read_table(tables, "06_recursive_lm.csv", arms=ARMS, columns=("loss/1", "loss/2", "loss/3"))
    losses = rows.loc[rows["arm"] == ARMS[0], ["loss/1", "loss/2", "loss/3"]].dropna().to_numpy()
    hits, seeds = holds(losses), enough(len(losses))
    text = f"losses after each cycle {', '.join(f'{x:.3f}' for x in losses.mean(0))} nats a token; {what}"
    return Measured(share(hits.sum(), len(hits)), f"{text} in {hits.sum()} of {len(hits)} runs", SCALE, seeds)
