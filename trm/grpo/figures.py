"""Figures of chapter 08: what happens to rewards, to the distance from the start, and to unseen problems over time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.plots import series, tidy
from trm.stats_old import curves

COLOURS = {"GRPO": "#4477aa", "Dr.GRPO": "#c0392b", "DAPO": "#1b7f3b", "shuffled": "#ccaa33", "zero": "#888888"}
PANELS = (
    ("steps", "reward", "mean reward of samples"),
    ("steps", "kl_curve", "KL to the start (nats a token)"),
    ("steps", "dead_curve", "share of dead groups"),
    ("eval_steps", "accuracy", "greedy accuracy (validation)"),
)


def training(table: pd.DataFrame) -> Figure:
    """Reward, KL, share of dead groups and greedy accuracy against optimizer steps: a thin line for each seed, the mean of
    each arm in bold. table: rows of `trm.grpo.findings`."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.6))
    for ax, (x, y, label) in zip(axes.flat, PANELS):
        points = curves(table, (x, y))
        for arm, part in points.groupby("arm", sort=False):
            color = COLOURS.get(arm, "#555555")
            for _, one in part.groupby("seed"):
                ax.plot(one[x], one[y], color=color, alpha=0.3, linewidth=0.8)
            mean = part.groupby(x)[y].mean()
            ax.plot(mean.index, mean, color=color, linewidth=1.8, label=arm)
        ax.set(xlabel="optimizer steps", ylabel=label)
    axes[0, 0].legend(fontsize=8, frameon=False)
    return tidy(figure)


def progress(history: Sequence[dict]) -> Figure:
    """What grows while a policy trains: reward of the samples, and greedy accuracy. history: its records so far."""
    figure, ax = plt.subplots(figsize=(6, 3))
    ax.plot(*series(history, "train/reward"), color="#4477aa", label="mean reward of samples")
    ax.plot(*series(history, "valid/accuracy"), color="#1b7f3b", marker="o", label="greedy accuracy (validation)")
    ax.set(xlabel="optimizer steps", ylim=(-0.02, 1.02))
    ax.legend(frameon=False, fontsize=8)
    return tidy(figure)


def by_steps(before: pd.Series, after: pd.Series, trained: int) -> Figure:
    """Accuracy on unseen problems by their number of steps, before and after. before, after: steps -> share; trained: most
    steps of a training problem, after which a line stands."""
    figure, ax = plt.subplots(figsize=(5.5, 3))
    places = np.arange(len(before))
    for shift, values, color, label in ((-0.2, before, "#bbbbbb", "before"), (0.2, after, "#4477aa", "after")):
        ax.bar(places + shift, values, 0.38, color=color, label=label)
    ax.axvline((before.index <= trained).sum() - 0.5, color="grey", linestyle=":")
    ax.set_xticks(places, [f"{n:.0f}" for n in before.index])
    ax.set(xlabel="steps of the problem", ylabel="greedy accuracy", ylim=(0, 1.02))
    ax.legend(frameon=False)
    return tidy(figure)


def gains(comparison: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Gain of each arm in points, on problems like those of training and on longer ones: every seed a dot, the mean a bar, the
    95 % interval a line."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.5 * len(comparison) + 1), sharex=True, sharey=True)
    of_training = ("accuracy", "gain", "low", "high", "problems like those of training")
    beyond = ("longer", "longer", "longer low", "longer high", "one or two steps longer, which earned nothing")
    for ax, (name, mean, low, high, title) in zip(axes, (of_training, beyond)):
        for place, (arm, line) in enumerate(comparison[::-1].iterrows()):
            color = COLOURS.get(arm, "#555555")
            part = table[table["arm"] == arm]
            dots = 100 * (part[f"{name}_after"] - part[f"{name}_before"])
            ax.plot(dots, np.full(len(dots), place), "o", color=color, alpha=0.6, markersize=5)
            ax.plot([line[mean]] * 2, [place - 0.25, place + 0.25], color=color, linewidth=2.5)
            ax.plot([line[low], line[high]], [place, place], color=color, linewidth=1)
        ax.axvline(0, color="grey", linewidth=0.8)
        ax.set_yticks(range(len(comparison)), comparison.index[::-1])
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("gain in greedy accuracy (points)")
    return tidy(figure)
