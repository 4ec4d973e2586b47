"""Chapter 03's tables: when to stop thinking."""

from pathlib import Path

import numpy as np
import pandas as pd

from trm.report.verdicts import (
    NOT_SUPPORTED,
    Measured,
    NotThere,
    arm,
    compare,
    measure,
    more_efficient,
    read_table,
    share,
)

HALTING_SCALE = "6x6 Sudoku, 6 steps in training"


def _halting(tables: Path, *arms: str) -> pd.DataFrame:
    columns = ["taught_accuracy", "taught_mean_steps", "taught_fixed_same_steps", "accuracy_all_steps", "ponder_coef"]
    return read_table(tables, "03_arms_6x6.csv", arms=arms, columns=columns)


@measure("expected_loss_halts")
def expected_loss_halts(tables: Path) -> Measured:
    """Stopping as the expected loss taught it, against fixed depth at as many steps; arms of a seed are averaged."""
    table = _halting(tables)
    learned = table[table["arm"].str.fullmatch("act(:.*)?")]
    means = learned.groupby("seed")[["taught_accuracy", "taught_fixed_same_steps"]].mean()
    names = ("by its own halting", "fixed depth")
    found = compare(means["taught_accuracy"], means["taught_fixed_same_steps"], names)
    steps = learned.groupby("arm")["taught_mean_steps"].mean()
    text = f"puzzles solved {found.text}; mean steps of its {len(steps)} prices from {steps.min():.1f} to {steps.max():.1f}"
    return Measured(found.verdict, text, HALTING_SCALE, found.seeds)


@measure("ponder_trades")
def ponder_trades(tables: Path, low: float = 1e-4, high: float = 5e-3, least: float = 0.1) -> Measured:
    """Do the steps fall as the price rises, in the guide's range? By a tenth of a step for ten times the price, at least."""
    table = _halting(tables)
    sweep = table[table["arm"].str.match("act:")].sort_values("ponder_coef")
    part = sweep[sweep["ponder_coef"].between(low, high)]
    if part["ponder_coef"].nunique() < 2:
        raise NotThere("03_arms_6x6.csv has fewer than two prices of the guide's range")
    slopes = {
        seed: np.polyfit(np.log10(runs["ponder_coef"]), runs["taught_mean_steps"], 1)[0]
        for seed, runs in part.groupby("seed")
    }
    found = compare(pd.Series(slopes), pd.Series(0.0, slopes), ("slope", "none"), more=False, unit="steps")
    verdict = found.verdict if abs(found.mean) >= least else NOT_SUPPORTED
    at = sweep.groupby("ponder_coef")[["taught_accuracy", "taught_mean_steps"]].mean()
    levels = [f"{coef:g}: {row.taught_accuracy:.1%} in {row.taught_mean_steps:.1f}" for coef, row in at.iterrows()]
    slope = round(found.mean, 2) + 0.0  # no minus before a zero
    text = f"puzzles solved and mean steps by price: {'; '.join(levels)}. In the guide's range, ten times the price brings "
    return Measured(verdict, f"{text}{slope:+.2f} steps", HALTING_SCALE, found.seeds)


@measure("entropy_speeds_up")
def entropy_speeds_up(tables: Path, least: float = 2.0, most_lost: float = 0.005) -> Measured:
    """Entropy halting on each kind of puzzle: two times faster or more, half a point lost or less. One model each."""
    found, pieces = [], []
    for path in sorted(tables.glob("03_summary_*.csv")):
        columns = ["accuracy_fixed", "accuracy_entropy", "speedup_entropy", "fixed_steps"]
        row = read_table(tables, path.name, "label", columns=columns, seeded=False).iloc[0]
        found.append(row.speedup_entropy >= least and row.accuracy_fixed - row.accuracy_entropy <= most_lost)
        pieces.append(f"{row.label}: {row.speedup_entropy:.1f} times faster than {row.fixed_steps} steps, "
                      f"{row.accuracy_entropy:.1%} against {row.accuracy_fixed:.1%}")  # fmt: skip
    if not found:
        raise NotThere("wants the tables 03_summary_*.csv")
    return Measured(share(sum(found), len(found)), "; ".join(pieces), "6x6 and 9x9 Sudoku, trained models", 1)


@measure("annealed_exploration")
def annealed_exploration(tables: Path) -> Measured:
    """An exploration that is annealed, against a constant one: steps taken by its own head, and puzzles solved."""
    table = _halting(tables, "annealed", "q")
    verdict, text, seeds = more_efficient(table, ["annealed"], "q", "arm", "taught_accuracy", "taught_mean_steps")
    return Measured(verdict, text, HALTING_SCALE, seeds)


@measure("depth_curriculum")
def depth_curriculum(tables: Path) -> Measured:
    """Shallow first, at equal compute."""
    table = _halting(tables, "depth", "q")
    column = "accuracy_all_steps"
    found = compare(arm(table, "depth", column), arm(table, "q", column), ("shallow first", "full depth throughout"))
    return Measured(found.verdict, "puzzles solved at equal compute, " + found.text, HALTING_SCALE, found.seeds)
