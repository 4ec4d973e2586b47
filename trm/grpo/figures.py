"""Figures of chapter 08: rewards, KL to the start, dead groups and accuracy in training; accuracy before and after."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.plots import legend_below, series, tidy

COLOURS = {
    "GRPO": "#4477aa", "Dr.GRPO": "#c0392b", "DAPO": "#1b7f3b", "rejection_sampling": "#aa3377", "shuffled": "#ccaa33",
    "zero": "#888888", "GRPO, 2 updates": "#66ccee", "GRPO, 2 to 6 steps": "#222222",
}  # fmt: skip
PANELS = {
    "train/reward": "mean reward of samples",
    "train/kl": "KL (nats per token)",
    "train/dead_groups": "share of dead groups",
    "valid/accuracy": "greedy accuracy (validation)",
}


def training(curves: pd.DataFrame) -> Figure:
    """Reward, KL, dead groups and greedy accuracy over batches of answers: a thin line per seed, the mean of each arm in bold.
    curves: arm, seed, step (of batches) and the names of `PANELS`."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.6))
    for ax, (name, label) in zip(axes.flat, PANELS.items()):
        for arm, part in curves.dropna(subset=[name]).groupby("arm", sort=False):
            color = COLOURS.get(arm, "#555555")
            for _, one in part.groupby("seed"):
                ax.plot(one["step"], one[name], color=color, alpha=0.3, linewidth=0.8)
            mean = part.groupby("step")[name].mean()
            ax.plot(mean.index, mean, color=color, linewidth=1.8, label=arm)
        ax.set(xlabel="batches of answers", ylabel=label)
    legend_below(figure, axes[0, 0])
    return tidy(figure)


def progress(history: Sequence[dict]) -> Figure:
    """Reward of the samples and greedy accuracy while a policy trains. history: its records so far."""
    figure, ax = plt.subplots(figsize=(6, 3))
    ax.plot(*series(history, "train/reward"), color="#4477aa", label="mean reward of samples")
    ax.plot(*series(history, "valid/accuracy"), color="#1b7f3b", marker="o", label="greedy accuracy (validation)")
    ax.set(xlabel="optimizer steps", ylim=(-0.02, 1.02))
    ax.legend(frameon=False, fontsize=8)
    return tidy(figure)


def by_steps(before: pd.Series, after: pd.Series, trained: int) -> Figure:
    """Accuracy by the number of steps of unseen problems (the index), before and after; a line stands behind `trained`, the
    most steps of a training problem."""
    figure, ax = plt.subplots(figsize=(5.5, 3))
    places = np.arange(len(before))
    for shift, values, color, label in ((-0.2, before, "#bbbbbb", "before"), (0.2, after, "#4477aa", "after")):
        ax.bar(places + shift, values, 0.38, color=color, label=label)
    ax.axvline((before.index <= trained).sum() - 0.5, color="grey", linestyle=":")
    ax.set_xticks(places, [f"{n:.0f}" for n in before.index])
    ax.set(xlabel="steps of the problem", ylabel="greedy accuracy", ylim=(0, 1.02))
    ax.legend(frameon=False)
    return tidy(figure)


def gains(panels: dict[str, pd.DataFrame]) -> Figure:
    """Gain of each arm in points with its 95 % interval, a panel per title. tables: indexed by arm, effect, low, high."""
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 0.5 * len(next(iter(panels.values()))) + 1), sharey=True)
    for ax, (title, table) in zip(axes, panels.items()):
        for place, (arm, line) in enumerate(table[::-1].iterrows()):
            color = COLOURS.get(arm, "#555555")
            ax.plot(100 * line["effect"], place, "o", color=color, markersize=6)
            ax.plot([100 * line["low"], 100 * line["high"]], [place, place], color=color, linewidth=1.5)
        ax.axvline(0, color="grey", linewidth=0.8)
        ax.set_yticks(range(len(table)), table.index[::-1])
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("gain in greedy accuracy (points)")
    return tidy(figure)
