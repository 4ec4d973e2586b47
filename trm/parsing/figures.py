"""Figures of chapter 05: arms by iteration and by length of arc, learning by the clock, one sentence with its arcs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc

from trm.parsing.findings import iterations
from trm.plots import RIGHT, WRONG, series

ARMS = {  # colour, marker, name
    "one_iteration": ("#222222", "o", "one iteration"),
    "standard": ("#4477aa", "s", "standard"),
    "as_given": ("#4477aa", "s", "as given"),
    "deep_supervision": ("#c0392b", "D", "deep supervision"),
    "act_halting": ("#1b7f3b", "^", "expected loss (act)"),
    "both": ("#aa3377", "v", "both"),
    "encoder": ("#bbbbbb", "x", "encoder alone"),
    "layer": ("#888888", "+", "one plain layer"),
    "untied": ("#66ccee", "P", "plain layers, untied"),
    "transformer": ("#ccaa33", "*", "plain transformer"),
}


def _look(arm: str) -> tuple[str, str, str]:
    return ARMS.get(arm, ("#555555", ".", arm))


def learning(curves: pd.DataFrame, over: str = "minutes") -> Figure:
    """UAS and LAS on dev as training goes on. curves: columns arm, seed, `over`, dev/uas, dev/las."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True)
    for ax, (name, label) in zip(panels, (("dev/uas", "UAS"), ("dev/las", "LAS"))):
        for (arm, seed), part in curves.groupby(["arm", "seed"], sort=False):
            color, marker, said = _look(arm)
            first = seed == curves["seed"].iloc[0]
            ax.plot(
                part[over], 100 * part[name], color=color, marker=marker, markersize=3, label=said if first else None
            )
        ax.set(xlabel=f"{over} of training", ylabel=f"{label} on dev (%)")
        ax.grid(alpha=0.3)
    panels[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def progress(history: Sequence[dict]) -> Figure:
    """The curve that grows while an arm trains. history: its records so far."""
    seconds, uas = series(history, "valid/uas", over="train/seconds")
    rows = {
        "arm": "training",
        "seed": 0,
        "seconds": seconds,
        "dev/uas": uas,
        "dev/las": series(history, "valid/las")[1],
    }
    return learning(pd.DataFrame(rows), over="seconds")


def arms(rows: pd.DataFrame) -> Figure:
    """UAS of each arm on the test part: every seed a dot, the mean a bar; best on top."""
    order = rows.groupby("arm")["test/uas"].mean().sort_values().index
    figure, ax = plt.subplots(figsize=(7.5, 0.42 * len(order) + 1.0))
    for place, arm in enumerate(order):
        values = 100 * rows[rows["arm"] == arm]["test/uas"]
        color, _, _ = _look(arm)
        ax.plot(values, np.full(len(values), place), "o", color=color, alpha=0.6, markersize=5)
        ax.plot([values.mean()] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5)
    ax.set_yticks(range(len(order)), [_look(arm)[2] for arm in order])
    ax.set(xlabel="UAS on test (%)", ylim=(-0.6, len(order) - 0.4))
    ax.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    return figure


def by_iteration(rows: pd.DataFrame) -> Figure:
    """UAS, cross-entropy of the head and routing entropy after each iteration: mean over seeds, bars of one deviation."""
    panels = {
        "test/uas_per_iteration": ("UAS on test (%)", 100),
        "test/loss_per_iteration": ("cross-entropy of the head (nats)", 1),
        "test/routing_entropy_per_iteration": ("routing entropy (nats)", 1),
    }
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    for ax, (name, (label, scale)) in zip(axes, panels.items()):
        table = iterations(rows, name) * scale
        for arm, part in table.groupby(level="arm", sort=False):
            part = part.dropna(axis=1, how="all")
            if arm in ("encoder", "layer", "untied", "transformer"):
                continue
            color, marker, said = _look(arm)
            spread = part.std() if len(part) > 1 else None
            ax.errorbar(part.columns, part.mean(), spread, color=color, marker=marker, label=said, capsize=3)
        ax.set(xlabel="iteration", ylabel=label, xticks=table.columns)
        ax.grid(alpha=0.3)
    if axes[1].get_legend_handles_labels()[0]:
        axes[1].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def by_distance(rows: pd.DataFrame) -> Figure:
    """UAS by the length of the gold arc: left as it is, right the difference to one iteration (mean over seeds)."""
    columns = [name for name in rows if name.startswith("arc/")]
    table = 100 * rows.groupby("arm", sort=False)[columns].mean()
    names = [name.removeprefix("arc/") for name in columns]
    base = table.loc["one_iteration"] if "one_iteration" in table.index else table.iloc[0]
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.4))
    for arm, line in table.iterrows():
        color, marker, said = _look(arm)
        panels[0].plot(names, line, color=color, marker=marker, markersize=4, linewidth=1, label=said)
        panels[1].plot(names, line - base, color=color, marker=marker, markersize=4, linewidth=1)
    for ax, label in zip(panels, ("UAS on test (%)", f"difference to {_look(base.name)[2]} (points)")):
        ax.set(xlabel="length of the arc (words)", ylabel=label)
        ax.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, frameon=False, ncols=5, loc="lower center")
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    return figure


def ponder(rows: pd.DataFrame) -> Figure:
    """Iterations taken and UAS against the price of an iteration; every seed a dot."""
    figure, panels = plt.subplots(1, 2, figsize=(8.5, 3))
    mean = rows.groupby("ponder_coef")[["test/mean_steps", "test/uas"]].mean()
    for ax, name, scale, label in (
        (panels[0], "test/mean_steps", 1, "iterations taken"),
        (panels[1], "test/uas", 100, "UAS on test (%)"),
    ):
        ax.plot(rows["ponder_coef"], scale * rows[name], "o", color="#1b7f3b", alpha=0.5)
        ax.plot(mean.index, scale * mean[name], color="#1b7f3b")
        ax.set(xscale="log", xlabel="ponder coefficient", ylabel=label)
        ax.grid(alpha=0.3)
    figure.tight_layout()
    return figure


def draw_arcs(ax: Axes, words: Sequence[str], heads: Sequence[int], labels: Sequence[str], gold: Sequence[int]) -> None:
    """A tree above its words: green arcs agree with `gold`, red ones do not and the right one is dotted."""
    highest = 1
    for place, (head, label, right) in enumerate(zip(heads, labels, gold), 1):
        color = RIGHT if head == right else WRONG
        highest = max(
            highest, _arc(ax, place, head, color, label), _arc(ax, place, right, "#999999", "", ":") * (head != right)
        )
    for place, word in enumerate(words, 1):
        ax.text(place, -0.25, word, ha="center", va="top", fontsize=8.5, rotation=30, rotation_mode="default")
    ax.set(xlim=(0.3, len(words) + 0.7), ylim=(-1.6, highest + 0.9))
    ax.axis("off")


def _arc(ax: Axes, place: int, head: int, color: str, label: str, style: str = "-") -> float:
    """Draw the arc from `head` to `place`; returns its height."""
    if not head:
        ax.annotate("", (place, 0), (place, 1.1), arrowprops={"arrowstyle": "->", "color": color})
        ax.text(place + 0.08, 1.1, "root", fontsize=6.5, color=color)
        return 1.2
    height = 0.45 * abs(head - place) ** 0.8 + 0.35
    middle = (head + place) / 2
    ax.add_patch(
        Arc((middle, 0), abs(head - place), 2 * height, theta2=180, color=color, linestyle=style, linewidth=1.1)
    )
    ax.plot(place, 0, marker="v", color=color, markersize=4)
    ax.text(middle, height + 0.03, label, ha="center", va="bottom", fontsize=6.5, color=color)
    return height


def thoughts(
    words: Sequence[str],
    trees: Sequence[tuple[Sequence[int], Sequence[str]]],
    gold: Sequence[int],
    weights: np.ndarray,
    attention: np.ndarray,
) -> Figure:
    """A row for each iteration of one sentence of n words: its tree, where the routed heads look, and the controller's weights.

    trees: heads and labels after each iteration. weights: (S, n, N). attention: (S, n, n), of the heads as they are weighted.
    """
    S, n = len(trees), len(words)
    figure, axes = plt.subplots(S, 3, figsize=(12, 2.9 * S), squeeze=False, gridspec_kw={"width_ratios": (2.2, 1, 0.7)})
    for i, (tree, looks, heads) in enumerate(zip(axes, attention, weights)):
        draw_arcs(tree[0], words, *trees[i], gold)
        tree[0].set_title(
            f"iteration {i + 1}: {sum(h == g for h, g in zip(trees[i][0], gold))} of {n} heads right", fontsize=9
        )
        tree[1].imshow(looks, cmap="Blues", vmin=0, vmax=max(attention.max(), 1e-9))
        tree[1].set_yticks(range(n), words, fontsize=6.5)
        tree[1].set_xticks(range(n), words, fontsize=6.5, rotation=90)
        tree[1].set_title("attention of the routed heads", fontsize=9)
        image = tree[2].imshow(heads, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
        tree[2].set(xticks=range(heads.shape[1]), yticks=[], xlabel="head")
        tree[2].set_title("weight of each head", fontsize=9)
        figure.colorbar(image, ax=tree[2], fraction=0.08)
    figure.tight_layout()
    return figure
