"""Figures of the chapter on halting: from tables and arrays to matplotlib."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.plots import tidy

# One colour and name for each rule, in every figure.
RULES = {
    "q_halt": ("#1b7f3b", "halting head"),
    "q_margin": ("#1b7f3b", "halting head"),
    "halt_probability": ("#4477aa", "chance to have halted"),
    "halt_mass": ("#8888cc", "sum of the chances"),
    "entropy": ("#aa3377", "entropy of the answer"),
    "residual": ("#cc8800", "change of the state"),
    "stable": ("#66ccee", "answer unchanged"),
    "obeys": ("#222222", "rules of the puzzle"),
    "random": ("#bbbbbb", "random"),
}


def _log_steps(ax, largest: float) -> None:
    """A logarithmic axis of steps, with the numbers written out."""
    ax.set_xscale("log")
    ticks = [1, 2, 3, 4, 6, 8, 12, 16] if largest <= 16 else [4**i for i in range(10) if 4**i <= largest * 1.5]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()


def rule_curves(curves: pd.DataFrame, fixed: Sequence[float], chosen: dict[str, float] | None = None) -> Figure:
    """Accuracy against mean steps: a line for each rule, fixed depth (S,) as crosses, the chosen rule as a star.

    curves: columns rule, mean_steps, accuracy. chosen: {"mean_steps", "accuracy"}.
    """
    figure, ax = plt.subplots(figsize=(8, 4.2))
    for rule, group in curves.groupby("rule", sort=False):
        if rule not in RULES:
            continue
        colour, name = RULES[rule]
        group = group.sort_values("mean_steps")
        marker = "*" if len(group) == 1 else None
        ax.plot(group["mean_steps"], group["accuracy"], color=colour, label=name, linewidth=1.6, marker=marker)
    ax.plot(np.arange(1, len(fixed) + 1), fixed, "x--", color="#c0392b", label="fixed depth", linewidth=1, markersize=5)
    if chosen:
        ax.plot(
            chosen["mean_steps"], chosen["accuracy"], "o", markersize=10, markerfacecolor="none", color="black",
            label="chosen on validation",
        )  # fmt: skip
    ax.set(xlabel="mean supervision steps a puzzle", ylabel="puzzles solved", ylim=(None, 1.01))
    _log_steps(ax, len(fixed))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return tidy(figure)


def stopping_steps(steps: np.ndarray, exact: np.ndarray, difficulty: np.ndarray, name: str, max_steps: int) -> Figure:
    """Left how many puzzles stop at each step, solved and not; right the mean stopping step by difficulty, with its
    standard error and the number of puzzles. steps, exact, difficulty: (N,)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    bins = np.arange(1, max_steps + 2) - 0.5
    parts = [steps[exact], steps[~exact]]
    left.hist(parts, bins, stacked=True, color=["#1b7f3b", "#c0392b"], label=["solved", "not solved"])
    left.set(xlabel="step at which the rule stops", ylabel="puzzles")
    left.legend()
    table = pd.DataFrame({"x": difficulty, "steps": steps}).groupby("x")["steps"].agg(["mean", "sem", "size"])
    table = table[table["size"] >= 5]
    table.index = table.index.astype(int) if (table.index % 1 == 0).all() else table.index
    right.errorbar(
        [str(x) for x in table.index], table["mean"], table["sem"].fillna(0), marker="o", capsize=3, color="#1b7f3b"
    )
    right.set_xticks(range(len(table)), [f"{x}\n({n})" for x, n in zip(table.index, table["size"])])
    right.set(xlabel=f"{name} (number of puzzles)", ylabel="mean stopping step")
    return tidy(figure)


def histograms(steps: dict[str, np.ndarray], max_steps: int) -> Figure:
    """How many puzzles stop at each step, a panel for each threshold. steps: name -> (N,)."""
    figure, axes = plt.subplots(1, len(steps), figsize=(10, 2.4), sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes[0], steps.items()):
        ax.hist(values, np.arange(1, max_steps + 2) - 0.5, color="#1b7f3b")
        ax.set(xlabel="step", title=f"threshold {name}: {values.mean():.1f} steps")
        ax.title.set_fontsize(9)
    axes[0, 0].set_ylabel("puzzles that stop")
    return tidy(figure)


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Share of right answers against the halting head's probability; the size of a point is how many answers it has
    (bins of fewer than ten are left out)."""
    figure, ax = plt.subplots(figsize=(5, 4))
    ax.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    colours = plt.cm.viridis(np.linspace(0.1, 0.85, len(tables)))
    for (name, table), colour in zip(tables.items(), colours):
        table = table[table["count"] >= 10]  # fewer say nothing
        ax.plot(table["probability"], table["right"], color=colour, linewidth=1, label=name)
        size = 10 + 150 * table["count"] / table["count"].max()
        ax.scatter(table["probability"], table["right"], s=size, color=colour, alpha=0.6)
    ax.set(
        xlabel="probability that the answer is right, says the head",
        ylabel="share that is right",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    ax.legend(loc="upper left", fontsize=8)
    return tidy(figure)


SELECTION_COLOURS = {
    "confidence": "#1b7f3b", "residual": "#cc8800", "agreement": "#4477aa", "cell vote": "#66ccee",
    "rule check": "#222222", "oracle": "#bbbbbb",
}  # fmt: skip


def thinking_longer(table: pd.DataFrame) -> Figure:
    """Puzzles solved against compute: more steps, and attempts by each selection; mean over the seeds in the table.

    table: columns kind, selection, seed, compute, accuracy (see `trm.puzzles.halting_study.longer_and_again`).
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
    mean = table.groupby(["kind", "selection", "compute"], dropna=False)["accuracy"].mean().reset_index()
    steps = mean[mean["kind"] == "steps"]
    for ax, kind in zip(axes, ("symmetry", "noise")):
        ax.plot(steps["compute"], steps["accuracy"], "x--", color="#c0392b", label="more steps")
        for selection, group in mean[mean["kind"] == kind].groupby("selection", sort=False):
            style = ":" if selection == "oracle" else "-"
            ax.plot(group["compute"], group["accuracy"], style, marker="o", markersize=4, label=selection,
                    color=SELECTION_COLOURS[selection])  # fmt: skip
        start = {"symmetry": "another symmetry", "noise": "noise on the first state"}[kind]
        ax.set(xlabel="supervision steps a puzzle", title=f"attempts start from {start}")
        _log_steps(ax, table["compute"].max())
    axes[0].set_ylabel("puzzles solved")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return tidy(figure)


def arms(table: pd.DataFrame) -> Figure:
    """Each way of learning to stop: accuracy and mean steps under the rule it was taught, means over the seeds with
    standard deviations; a cross where all steps lead. table: rows of `trm.puzzles.halting_study.arm_row`."""
    stats = table.groupby("arm", sort=False)[["taught_mean_steps", "taught_accuracy", "accuracy_all_steps"]].agg(
        ["mean", "std"]
    )
    names = list(stats.index)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 0.5 + 0.34 * max(len(names), 5)), sharey=True)
    y = np.arange(len(names))[::-1]

    def bars(ax, column, colour, label, **style):
        mean, std = stats[column]["mean"], stats[column]["std"].fillna(0)
        ax.errorbar(mean, y, xerr=std, fmt="o", capsize=3, color=colour, label=label, **style)

    bars(left, "taught_accuracy", "#1b7f3b", "stopped by its own rule")
    bars(left, "accuracy_all_steps", "#c0392b", "after all steps", markerfacecolor="none")
    bars(right, "taught_mean_steps", "#1b7f3b", "stopped by its own rule")
    left.set(xlabel="puzzles solved", yticks=y, yticklabels=names, xlim=(0, 1.02))
    right.set(xlabel="mean supervision steps a puzzle", xlim=(0, None))
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False, fontsize=9)
    return tidy(figure)


def ponder_sweep(table: pd.DataFrame) -> Figure:
    """Mean steps (left) and accuracy (right) under the taught rule against `ponder_coef`, for the arms act:<coefficient>;
    a dot a seed, a line through the means. The shaded range is that of the guide to Pointer-over-Heads."""
    sweep = table[table["arm"].str.match(r"act:")].sort_values("ponder_coef")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, column, label in zip(
        axes, ("taught_mean_steps", "taught_accuracy"), ("mean supervision steps", "puzzles solved")
    ):
        ax.axvspan(1e-4, 5e-3, color="#eeeeee")
        ax.plot(sweep["ponder_coef"], sweep[column], "o", color="#4477aa", markersize=4)
        mean = sweep.groupby("ponder_coef")[column].mean()
        ax.plot(mean.index, mean, color="#4477aa")
        ax.set(xscale="log", xlabel="ponder_coef (nats a step)", ylabel=label)
    return tidy(figure)


def rule_curves_of_all(curves: pd.DataFrame) -> Figure:
    """`rule_curves` without fixed depth, a panel for each label. curves: columns label, rule, mean_steps, accuracy."""
    labels = list(curves["label"].unique())
    figure, axes = plt.subplots(1, len(labels), figsize=(3.6 * len(labels) + 1.6, 3.6), squeeze=False)
    for ax, label in zip(axes[0], labels):
        for rule, group in curves[curves["label"] == label].groupby("rule", sort=False):
            if rule == "fixed":
                style = {"color": "#c0392b", "label": "fixed depth", "linestyle": "--", "marker": "x", "markersize": 4}
            else:
                style = {"color": RULES[rule][0], "label": RULES[rule][1], "marker": "*" if len(group) == 1 else None}
            group = group.sort_values("mean_steps")
            ax.plot(group["mean_steps"], group["accuracy"], **style)
        ax.set(xlabel="mean supervision steps a puzzle", title=label)
        _log_steps(ax, curves["mean_steps"].max())
    axes[0, 0].set_ylabel("puzzles solved")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return tidy(figure)


def longer_of_all(table: pd.DataFrame) -> Figure:
    """Puzzles solved against compute for each label: more steps, attempts by agreement, by rule check; mean of seeds."""
    labels = list(table["label"].unique())
    figure, axes = plt.subplots(1, len(labels), figsize=(3.4 * len(labels) + 2, 3.4), squeeze=False)
    lines = {
        "more steps": (table["kind"] == "steps", "#c0392b"),
        "attempts, by confidence": ((table["kind"] == "symmetry") & (table["selection"] == "confidence"), "#1b7f3b"),
        "attempts, by agreement": ((table["kind"] == "symmetry") & (table["selection"] == "agreement"), "#4477aa"),
        "attempts, by rule check": ((table["kind"] == "symmetry") & (table["selection"] == "rule check"), "#222222"),
        "noise, by rule check": ((table["kind"] == "noise") & (table["selection"] == "rule check"), "#bbbbbb"),
    }
    for ax, label in zip(axes[0], labels):
        for name, (which, colour) in lines.items():
            group = table[which & (table["label"] == label)].groupby("compute")["accuracy"].agg(["mean", "std"])
            ax.errorbar(
                group.index, group["mean"], group["std"].fillna(0), color=colour, label=name, marker="o", markersize=3
            )
        ax.set(xlabel="supervision steps a puzzle", title=label)
        _log_steps(ax, table["compute"].max())
    axes[0, 0].set_ylabel("puzzles solved")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return tidy(figure)
