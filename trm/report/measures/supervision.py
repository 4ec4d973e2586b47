"""Chapter 02's table: deep supervision, its losses and its gradients."""

from pathlib import Path

import numpy as np
import pandas as pd

from trm.puzzles.arms import loss_columns
from trm.report.verdicts import (
    CONTRADICTED,
    NOT_SUPPORTED,
    OTHER_SCALE,
    SUPPORTED,
    Measured,
    NotThere,
    against_all,
    arm,
    compare,
    enough,
    measure,
    read_table,
    share,
)

EXACT = "test/exact_accuracy"


def _gradients(table: pd.DataFrame) -> list[str]:
    return [c.replace("deep_supervision", "gradients").replace("_loss", "_grad_norm_mean") for c in loss_columns(table)]


def _distinct(ends: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The runs, those that are the same under two names once: some schedules coincide at three cycles and weight 1."""
    return ends.drop_duplicates(["seed", EXACT, *loss_columns(table)])


def _supervision(tables: Path, *arms: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Chapter 02's table, its last evaluation of each run with the gradients' geometric means in it, and its scale."""
    needed = ["step", "compute", "valid/exact_accuracy", EXACT]
    table = read_table(tables, "02_deep_supervision.csv", arms=arms, columns=needed)
    table = table.sort_values("compute", kind="stable")
    if len(loss_columns(table)) < 2 or not set(_gradients(table)) <= set(table):
        raise NotThere("02_deep_supervision.csv has no losses and gradients of several H-cycles")
    runs = table.groupby(["arm", "seed"], sort=False)
    ends = runs.tail(1).set_index(["arm", "seed"])
    with np.errstate(divide="ignore"):  # cycles without gradient: 0 stays 0
        means = np.exp(np.log(table.set_index(["arm", "seed"])[_gradients(table)]).groupby(level=[0, 1]).mean())
    ends = ends.assign(**{column: means[column] for column in means}).reset_index()
    enough(ends["seed"].nunique())
    trained = table[table["arm"].isin(arms or table["arm"])]["step"].max()
    return table, ends, f"6x6 Sudoku, {trained:,} steps{'' if arms else ' at most'}"


@measure("linear_gain", name="linear")
@measure("ramp_gain", name="ramp")
def accuracy_gain(tables: Path, name: str) -> Measured:
    """Unseen puzzles solved with a schedule, against none, at equal compute."""
    _, ends, scale = _supervision(tables, name, "none")
    found = compare(arm(ends, name, EXACT), arm(ends, "none", EXACT), (name, "none"))
    return Measured(found.verdict, "puzzles solved, " + found.text, scale, found.seeds)


@measure("linear_or_exponential")
def linear_or_exponential(tables: Path) -> Measured:
    """Does either of the two lift the baseline?"""
    _, ends, scale = _supervision(tables, "linear", "exponential", "none")
    found = [
        compare(arm(ends, name, EXACT), arm(ends, "none", EXACT), (name, "none"), tests=2)
        for name in ("linear", "exponential")
    ]
    verdicts = [one.verdict for one in found]
    verdict = next((v for v in (SUPPORTED, CONTRADICTED) if v in verdicts), NOT_SUPPORTED)
    return Measured(verdict, "puzzles solved, " + "; ".join(one.text for one in found), scale, found[0].seeds)


@measure("linear_is_best")
def linear_is_best(tables: Path) -> Measured:
    """The recommended schedule against the guide's other two."""
    _, ends, scale = _supervision(tables, "linear", "constant", "exponential")
    found = against_all(ends, "linear", ["constant", "exponential"], EXACT)
    return Measured(found.verdict, "puzzles solved, " + found.text, scale, found.seeds)


@measure("linear_learns_faster")
def linear_learns_faster(tables: Path) -> Measured:
    """The mean of the learning curve: whoever is early has more of it."""
    table, _, scale = _supervision(tables, "linear", "none")
    curve = table.groupby(["arm", "seed"])["valid/exact_accuracy"].mean().reset_index()
    column = "valid/exact_accuracy"
    found = compare(arm(curve, "linear", column), arm(curve, "none", column), ("linear", "none"))
    return Measured(found.verdict, "mean of the validation accuracy over training, " + found.text, scale, found.seeds)


@measure("loss_of_none", name="none", cycle=-1)
@measure("loss_of_cycle_0", name="linear", cycle=0)
@measure("loss_of_cycle_1", name="linear", cycle=1)
@measure("loss_of_cycle_2", name="linear", cycle=2)
def loss_from_to(tables: Path, name: str, cycle: int) -> Measured:
    """The loss at the first and at the last evaluation: of a small puzzle, where the guide speaks of a language model."""
    table, ends, scale = _supervision(tables, name)
    columns = loss_columns(table)
    if cycle >= len(columns):
        raise NotThere(f"the runs of chapter 02 have {len(columns)} H-cycles")
    starts = table[table["arm"] == name].groupby("seed")[columns[cycle]].first()
    ended = arm(ends, name, columns[cycle]).mean()
    text = f"{starts.mean():.2f} → {ended:.2f} nats a cell with the schedule {name}, from step {table['step'].min()} to the end"
    return Measured(OTHER_SCALE, text, scale, enough(len(starts)))


@measure("linear_refines")
def linear_refines(tables: Path) -> Measured:
    """Runs with the linear schedule whose losses at the end fall from each H-cycle to the next."""
    table, ends, scale = _supervision(tables, "linear")
    ends = ends[ends["arm"] == "linear"]
    hits = (np.diff(ends[loss_columns(table)], axis=1) < 0).all(1).sum()
    text = f"at the end the loss falls from each H-cycle to the next in {hits} of {len(ends)} runs with the schedule linear"
    return Measured(share(hits, len(ends)), text, scale, enough(ends["seed"].nunique()))


@measure("losses_fall")
def losses_fall(tables: Path) -> Measured:
    """The loss of every H-cycle, first evaluation against last."""
    table, _, scale = _supervision(tables)
    losses = table.groupby(["arm", "seed"])[loss_columns(table)]
    fell = (losses.last() < losses.first()).to_numpy()
    text = f"{fell.sum()} of {fell.size} losses (every run, every H-cycle) are lower at the end than at the beginning"
    return Measured(share(fell.sum(), fell.size), text, scale, enough(table["seed"].nunique()))


@measure("first_loss_is_higher_is_bad")
def first_loss_is_higher_is_bad(tables: Path) -> Measured:
    """The loss of the first H-cycle above that of the last as a bad sign: of the better half of the runs."""
    table, ends, scale = _supervision(tables)
    ends = _distinct(ends, table)
    ends = ends[ends[EXACT] >= ends[EXACT].median()]
    columns = loss_columns(table)
    hits = (ends[columns[0]] > ends[columns[-1]]).sum()
    text = (
        f"{hits} of the {len(ends)} runs that solve most end with a higher loss at the first H-cycle than at the last"
    )
    return Measured(share(len(ends) - hits, len(ends)), text, scale, ends["seed"].nunique())


@measure("loss_is_u_shaped")
def loss_is_u_shaped(tables: Path) -> Measured:
    """Runs whose loss rises after the first H-cycle. One task cannot contradict what is said of some tasks."""
    table, ends, scale = _supervision(tables)
    columns = loss_columns(table)
    ends = _distinct(ends, table)
    hits = (ends[columns[1]] > ends[columns[0]]).sum()
    text = f"the second H-cycle ends with a higher loss than the first in {hits} of {len(ends)} runs"
    verdict = share(hits, len(ends))
    return Measured(NOT_SUPPORTED if verdict == CONTRADICTED else verdict, text, scale, ends["seed"].nunique())


@measure("exponential_orders_losses")
def exponential_orders_losses(tables: Path) -> Measured:
    """How far the loss falls from the first H-cycle to the last, under the exponential schedule and the linear one."""
    table, ends, scale = _supervision(tables, "exponential", "linear")
    columns = loss_columns(table)
    ends = ends.assign(fall=ends[columns[0]] - ends[columns[-1]])
    names = ("exponential", "linear")
    found = compare(*(arm(ends, name, "fall") for name in names), names, unit="nats a cell")
    return Measured(found.verdict, "fall of the loss over the H-cycles, " + found.text, scale, found.seeds)


@measure("gradient_flows_better", name="linear", base="none", relative=False)
@measure("gradient_vanishes_less", name="linear", base="none", relative=True)
@measure("constant_mends_gradients", name="constant", base="exponential", relative=True)
@measure("ramp_mends_dilution", name="ramp", base="none", relative=True)
def gradient_gain(tables: Path, name: str, base: str, relative: bool) -> Measured:
    """The gradient at the first H-cycle (relative to that at the last), geometric mean over training."""
    table, ends, scale = _supervision(tables, name, base)
    first, *_, last = _gradients(table)
    ends = ends.assign(value=ends[first] / ends[last] if relative else ends[first])
    found = compare(arm(ends, name, "value"), arm(ends, base, "value"), (name, base), unit="times")
    what = "gradient at the first H-cycle" + (" over that at the last" if relative else "")
    return Measured(found.verdict, f"{what}, {found.text}", scale, found.seeds)


@measure("gradient_is_diluted")
def gradient_is_diluted(tables: Path) -> Measured:
    """Without deep supervision: is the gradient at the first H-cycle smaller than at the last?"""
    table, ends, scale = _supervision(tables, "none")
    first, *_, last = _gradients(table)
    names = ("first H-cycle", "the last")
    found = compare(arm(ends, "none", first), arm(ends, "none", last), names, more=False, unit="times")
    return Measured(found.verdict, "gradient without deep supervision, " + found.text, scale, found.seeds)


HEALTHY = {  # of (smallest, largest) norm at an H-cycle, geometric mean over training
    "gradients_similar": (lambda low, high: high < 10 * low, "within a factor of ten"),
    "gradients_not_small": (lambda low, high: low > 1e-6, "above 1e-6"),
    "gradients_not_large": (lambda low, high: high < 100, "below 100"),
}


def gradients_healthy(tables: Path, rule: str) -> Measured:
    """Gradient norms at every H-cycle, of the runs whose gradients are meant to flow all the way."""
    table, ends, scale = _supervision(tables)
    ends = _distinct(ends, table)
    norms = ends[~ends["arm"].str.contains("/")][_gradients(table)]
    low, high = norms.min(axis=1), norms.max(axis=1)
    holds, words = HEALTHY[rule]
    hits = int(holds(low, high).sum())
    text = f"norms at the H-cycles (mean over training) from {low.min():.2g} to {high.max():.2g}; {words} in {hits} of "
    return Measured(share(hits, len(norms)), f"{text}{len(norms)} runs", scale, enough(ends["seed"].nunique()))


for _rule in HEALTHY:
    measure(_rule, rule=_rule)(gradients_healthy)


@measure("gradients_reach_all")
def gradients_reach_all(tables: Path) -> Measured:
    """Where only the last answer is graded, a gradient at the first H-cycle has flowed through all of them."""
    table, ends, scale = _supervision(tables, "none")
    first = arm(ends, "none", _gradients(table)[0])
    hits = (first > 0).sum()
    text = f"graded at the last H-cycle alone, the first still gets a gradient in {hits} of {len(first)} runs"
    return Measured(share(hits, len(first)), f"{text} (norm {first.mean():.2g})", scale, enough(len(first)))


@measure("curriculum_calms")
def curriculum_calms(tables: Path) -> Measured:
    """How often the loss rises from one evaluation to the next in the first half of training: unrest, if there is any."""
    table, _, scale = _supervision(tables, "curriculum", "linear")
    early = table[table["compute"] <= table["compute"].max() / 2]
    rises = early.groupby(["arm", "seed"])[loss_columns(table)[-1]].agg(lambda loss: (loss.diff() > 0).sum())
    rises = rises.rename("rises").reset_index()
    names = ("curriculum", "linear")
    found = compare(*(arm(rises, name, "rises") for name in names), names, more=False, unit="rises")
    text = f"rises of the loss between evaluations in the first half of training, {found.text}"
    return Measured(found.verdict, text, scale, found.seeds)


@measure("nothing_diverges")
def nothing_diverges(tables: Path) -> Measured:
    """Is there a risk that the curriculum could lower? Runs that end with a higher loss than they began with."""
    names = ("curriculum", "linear")
    table, _, scale = _supervision(tables, *names)
    losses = table.groupby(["arm", "seed"])[loss_columns(table)[-1]]
    worse = (losses.last() >= losses.first()).astype(float)
    found = compare(worse["curriculum"], worse["linear"], names, more=False)
    return Measured(
        found.verdict, "runs that end with a higher loss than they began with, " + found.text, scale, found.seeds
    )


@measure("runs_repeat")
def runs_repeat(tables: Path) -> Measured:
    """Schedules that are the same at three cycles and weight 1, trained under the same seed: the same numbers?"""
    twins = (("constant", "uniform"), ("exponential", "exp2"), ("inverse_u", "last_two"))
    table, _, scale = _supervision(tables, *(name for pair in twins for name in pair))
    numbers = table.drop(columns=["train/seconds"], errors="ignore").set_index(["arm", "seed", "step"]).sort_index()
    same = [
        numbers.loc[a, seed].equals(numbers.loc[b, seed])
        for a, b in twins
        for seed in sorted(set(arm(table, a, "step").index) & set(arm(table, b, "step").index))
    ]
    text = f"{sum(same)} of {len(same)} runs, made again under the same seed, agree in every digit of the table"
    return Measured(share(sum(same), len(same)), text, scale, table["seed"].nunique())
