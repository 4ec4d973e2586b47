"""Figures of chapter 06: accuracy by number of steps, learning, losses after each cycle, more cycles at test time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm.language.stories import Problem
from trm.plots import RIGHT, series, tidy
from trm.recursive_lm.findings import RECURSIVE, WITHOUT, by_cycles, by_steps, curves

ARMS = {  # colour, marker, name
    "recursive": ("#c0392b", "D", "recursive"),
    "as_given": ("#c0392b", "D", "as given"),
    "last_only": ("#e59866", "v", "recursive, last answer graded alone"),
    "looped": ("#1b7f3b", "^", "looped"),
    "same_parameters": ("#4477aa", "o", "plain, same parameters"),
    "same_compute": ("#222222", "s", "plain, same compute"),
    "chain": ("#aa3377", "*", "plain, writes its chain"),
}


def _look(arm: str) -> tuple[str, str, str]:
    return ARMS.get(arm, ("#555555", ".", arm))


def _lines(ax: Axes, table: pd.DataFrame, scale: float = 1.0) -> None:
    """A line an arm over the columns of a table of arm, seed: mean over seeds, bars of one deviation."""
    for arm, part in table.groupby(level="arm", sort=False):
        part = scale * part.dropna(axis=1, how="all")
        color, marker, said = _look(arm)
        spread = part.std() if len(part) > 1 else None
        ax.errorbar(part.columns, part.mean(), spread, color=color, marker=marker, markersize=5, label=said, capsize=3)
    ax.set_xticks(list(table.columns))


def _legend(ax: Axes) -> None:
    """Beside the figure, where no line is hidden; none where nothing has a name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)


def steps(rows: pd.DataFrame, learned: int) -> Figure:
    """Accuracy against the number of steps of a problem, an arm a line; grey: longer than any in training."""
    figure, ax = plt.subplots(figsize=(9, 4))
    table = by_steps(rows)
    _lines(ax, table, 100)
    if learned < max(table):
        ax.axvspan(learned + 0.5, max(table) + 0.5, color="#eeeeee", zorder=0)
    ax.set(xlabel="steps of the problem", ylabel="right answers (%)", ylim=(0, None))
    _legend(ax)
    return tidy(figure)


def learning(table: pd.DataFrame, over: str = "share", label: str = "share of the training's compute") -> Figure:
    """Accuracy and loss on validation as training goes on. table: arm, seed, `over`, accuracy, loss (`curves`)."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.4))
    for ax, (name, said, scale) in zip(panels, (("accuracy", "right (%)", 100), ("loss", "nats a token", 1))):
        for (arm, _), part in table.groupby(["arm", "seed"], sort=False):
            color, marker, named = _look(arm)
            first = part["seed"].iloc[0] == table.loc[table["arm"] == arm, "seed"].iloc[0]
            ax.plot(
                part[over], scale * part[name], color=color, marker=marker, markersize=3, label=named if first else None
            )
        ax.set(xlabel=label, ylabel=f"{said}, validation")
        _legend(panels[-1])
    return tidy(figure)


def progress(history: Sequence[dict]) -> Figure:
    """The curve that grows while an arm trains. history: its records so far."""
    seconds, accuracy = series(history, "valid/exact_accuracy", over="train/seconds")
    rows = {
        "arm": "training",
        "seed": 0,
        "seconds": seconds,
        "accuracy": accuracy,
        "loss": series(history, "valid/loss")[1],
    }
    return learning(pd.DataFrame(rows), "seconds", "seconds of training")


def losses(rows: pd.DataFrame) -> Figure:
    """Left: loss on the test part after each H-cycle, of the arms that have some. Right: the validation loss of the recursion
    with and without deep supervision as training goes on."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    cycled = rows[rows["loss/2"].notna()] if "loss/2" in rows else rows
    _lines(left, by_steps(cycled, "loss"))
    left.set(xlabel="H-cycle", ylabel="nats a token, test")
    table = curves(rows[rows["arm"].isin([RECURSIVE, WITHOUT])])
    for (arm, _), part in table.groupby(["arm", "seed"], sort=False):
        right.plot(part["share"], part["loss"], color=_look(arm)[0])
    right.set(xlabel="share of the training's compute", ylabel="nats a token, validation")
    right.legend(
        *left.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False
    )
    return tidy(figure)


def cycles(rows: pd.DataFrame, learned: int) -> Figure:
    """Accuracy against the H-cycles at test time, of the arms that have some: problems as in training, and longer ones. The
    dotted line is the number in training."""
    table = by_cycles(rows, learned)
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.4))
    for ax, name in zip(panels, ("as trained", "longer")):
        if len(table):
            _lines(ax, table.pivot_table(index=["arm", "seed"], columns="H", values=name, sort=False), 100)
            ax.axvline(rows["H_cycles"].iloc[0], color="#999999", linestyle=":", linewidth=1)
        title = f"problems of up to {learned} steps" if name == "as trained" else "longer problems"
        ax.set(xlabel="H-cycles at test time", ylabel="right answers (%)", title=title)
    _legend(panels[-1])
    return tidy(figure)


def thoughts(problem: Problem, tokens: Sequence[Sequence[tuple[str, float]]], trained: int) -> Figure:
    """A bar a candidate for the answer of a problem after each H-cycle: its probability; green where it is right. tokens: for
    each cycle (text, probability), best first. Cycles beyond the `trained` ones stand right of the dotted line."""
    figure, ax = plt.subplots(figsize=(1.2 + 1.3 * len(tokens), 3))
    for cycle, best in enumerate(tokens, 1):
        for place, (text, p) in enumerate(best):
            x = cycle + (place - (len(best) - 1) / 2) * 0.28
            ax.bar(x, p, 0.26, color=RIGHT if text.strip() == str(problem.answer) else "#bbbbbb")
            ax.text(x, p + 0.01, text.strip(), ha="center", fontsize=8)
    if len(tokens) > trained:
        ax.axvline(trained + 0.5, color="#999999", linestyle=":", linewidth=1)
    ax.set(xlabel="H-cycle", ylabel="probability", xticks=range(1, len(tokens) + 1), ylim=(0, 1.08))
    ax.set_title(f"{problem.chain} right is {problem.answer}", fontsize=9)
    return tidy(figure)
