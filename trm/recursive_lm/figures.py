"""Figures of chapter 06: accuracy by number of steps, learning, losses after each cycle, more cycles at test time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm.escape import in_figure
from trm.language.stories import Problem
from trm.plots import RIGHT, series, tidy

ARMS = {  # colour, marker, label
    "recursive": ("#c0392b", "D", "recursive"),
    "last_only": ("#e59866", "v", "recursive, loss on the last answer alone"),
    "looped": ("#1b7f3b", "^", "looped"),
    "random_loops": ("#82c09a", "P", "looped, number of loops drawn"),
    "same_parameters": ("#4477aa", "o", "plain, same parameters"),
    "same_compute": ("#222222", "s", "plain, same compute"),
    "chain": ("#aa3377", "*", "plain, writes its chain"),
}


LEGEND = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "fontsize": 8, "frameon": False}


def _look(arm: str) -> tuple[str, str, str]:
    return ARMS.get(arm, ("#c0392b", "D", arm.replace("_", " ")))


def _lines(ax: Axes, rows: pd.DataFrame, prefix: str, scale: float = 1.0) -> None:
    """The columns `prefix`/N over N, one line per arm that has them: mean over seeds, bars of one standard deviation."""
    columns = sorted((c for c in rows if c.startswith(f"{prefix}/")), key=lambda c: int(c.split("/")[1]))
    for arm, part in rows.groupby("arm", sort=False):
        part = scale * part[columns].dropna(axis=1, how="all")
        if not part.empty:
            color, marker, label = _look(arm)
            places, spread = [int(c.split("/")[1]) for c in part], part.std() if len(part) > 1 else None
            ax.errorbar(places, part.mean(), spread, color=color, marker=marker, markersize=5, label=label, capsize=3)
    ax.set_xticks([int(c.split("/")[1]) for c in columns])


def steps(rows: pd.DataFrame, trained: int) -> Figure:
    """Accuracy over the number of steps of a problem, one line per arm; grey: longer than in training."""
    figure, ax = plt.subplots(figsize=(9, 4))
    _lines(ax, rows, "accuracy", 100)
    longest = max(ax.get_xticks())
    if trained < longest:
        ax.axvspan(trained + 0.5, longest + 0.5, color="#eeeeee", zorder=0)
    ax.set(xlabel="steps of the problem", ylabel="accuracy (%)", ylim=(0, None))
    ax.legend(**LEGEND)
    return tidy(figure)


def learning(curves: pd.DataFrame, over: str = "compute", label: str = "share of the training's compute") -> Figure:
    """Validation accuracy and loss in training. curves: arm, seed, `over`, valid/exact_accuracy, valid/loss."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.4))
    for ax, (name, said, scale) in zip(panels, (("exact_accuracy", "%", 100), ("loss", "nats per token", 1))):
        for arm, runs in curves.groupby("arm", sort=False):
            color, marker, named = _look(arm)
            for i, (_, part) in enumerate(runs.groupby("seed")):
                style = {"color": color, "marker": marker, "markersize": 3, "label": None if i else named}
                ax.plot(part[over], scale * part[f"valid/{name}"], **style)
        ax.set(xlabel=label, ylabel=f"validation {name.removeprefix('exact_')} ({said})")
    if len(curves):
        panels[-1].legend(**LEGEND)
    return tidy(figure)


def progress(history: Sequence[dict]) -> Figure:
    """The curve that grows while an arm trains. history: its records so far."""
    points = {name: series(history, name)[1] for name in ("valid/exact_accuracy", "valid/loss")}
    points["step"] = series(history, "valid/loss")[0]
    return learning(pd.DataFrame({"arm": "training", "seed": 0, **points}), "step", "optimizer step")


def losses(rows: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Left: test loss after each H-cycle, of the arms with several. Right: validation loss of the recursion in training, with
    and without deep supervision."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    _lines(left, rows[rows["loss/2"].notna()], "loss")
    left.set(xlabel="H-cycle", ylabel="test loss (nats per token)")
    pair = curves[curves["arm"].isin(["recursive", "last_only"])]
    for (arm, _), part in pair.groupby(["arm", "seed"], sort=False):
        right.plot(part["compute"], part["valid/loss"], color=_look(arm)[0])
    right.set(xlabel="share of the training's compute", ylabel="validation loss (nats per token)")
    right.legend(*left.get_legend_handles_labels(), **LEGEND)
    return tidy(figure)


def cycles(table: pd.DataFrame, trained: int) -> Figure:
    """Accuracy over H-cycles at test time, one line per arm. table: arm, seed, part (a panel each), cycles/H; a dotted line
    stands at the number `trained` with."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.4))
    for ax, (name, part) in zip(panels, table.groupby("part", sort=False)):
        _lines(ax, part, "cycles", 100)
        ax.axvline(trained, color="#999999", linestyle=":", linewidth=1)
        places = ax.get_xticks()
        ax.set_xscale("log", base=2)
        ax.set_xticks(places, [f"{n:.0f}" for n in places])
        ax.set(xlabel="H-cycles at test time", ylabel="accuracy (%)", title=name, ylim=(0, None))
    panels[-1].legend(**LEGEND)
    return tidy(figure)


def top_tokens(problem: Problem, tokens: Sequence[Sequence[tuple[str, float]]], trained: int) -> Figure:
    """Probabilities of the most likely answers after each H-cycle; green: the right one. tokens: for each cycle (text,
    probability), best first. Cycles beyond the `trained` ones stand right of the dotted line."""
    figure, ax = plt.subplots(figsize=(1.2 + 1.3 * len(tokens), 3))
    for cycle, best in enumerate(tokens, 1):
        for rank, (text, p) in enumerate(best):
            x = cycle + (rank - (len(best) - 1) / 2) * 0.28
            ax.bar(x, p, 0.26, color=RIGHT if text.strip() == str(problem.answer) else "#bbbbbb")
            ax.annotate(
                in_figure(text.strip()), (x, p), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8
            )
    if len(tokens) > trained:
        ax.axvline(trained + 0.5, color="#999999", linestyle=":", linewidth=1)
    ax.set(xlabel="H-cycle", ylabel="probability", xticks=range(1, len(tokens) + 1), ylim=(0, 1.1 * ax.dataLim.y1))
    ax.set_title(f"{in_figure(problem.chain)} the answer is {problem.answer}", fontsize=9)
    return tidy(figure)
