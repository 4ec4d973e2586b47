"""Figures of chapter 05: arms by iteration and by length of arc, learning curves, one sentence with its arcs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc

from trm.escape import in_figure
from trm.parsing.evaluate import Trace
from trm.plots import RIGHT, WRONG, series, tidy

ARMS = {  # colour, marker, name
    "one_iteration": ("#222222", "o", "one iteration"),
    "longer": ("#999999", "o", "one iteration, trained for longer"),
    "standard": ("#4477aa", "s", "standard"),
    "standard_longer": ("#99bbdd", "s", "standard, trained for longer"),
    "as_given": ("#4477aa", "s", "as given"),
    "deep_supervision": ("#c0392b", "D", "deep supervision"),
    "injection": ("#88bbdd", "<", "input injection"),
    "deep_injection": ("#e8937c", ">", "input injection and deep supervision"),
    "act_halting": ("#1b7f3b", "^", "expected loss (act_halting)"),
    "both": ("#aa3377", "v", "deep supervision and expected loss"),
    "encoder": ("#bbbbbb", "x", "encoder alone"),
    "layer": ("#888888", "+", "one plain layer"),
    "untied": ("#66ccee", "P", "plain layers, untied"),
    "transformer": ("#ccaa33", "*", "plain transformer"),
}
PLAIN = ("encoder", "layer", "untied", "transformer")  # arms without iterations


def _style(arm: str) -> dict:
    color, marker, name = ARMS.get(arm, ("#555555", ".", arm))
    return {"color": color, "marker": marker, "label": name, "markersize": 4}


def learning_curves(curves: pd.DataFrame, over: str = "minutes") -> Figure:
    """UAS and LAS on dev during training. curves: columns arm, seed, `over`, dev/uas, dev/las."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 3.2), sharex=True)
    for ax, metric in zip(panels, ("dev/uas", "dev/las")):
        for (arm, seed), part in curves.groupby(["arm", "seed"], sort=False):
            label = {} if seed == curves["seed"].iloc[0] else {"label": None}
            ax.plot(part[over], 100 * part[metric], **_style(arm) | label)
        ax.set(xlabel=f"{over} of training", ylabel=f"{metric[-3:].upper()} on dev (%)")
    panels[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return tidy(figure)


def progress(history: Sequence[dict]) -> Figure:
    """The curves while an arm trains. history: its records so far."""
    steps, uas = series(history, "valid/uas")
    curves = {"steps": steps, "dev/uas": uas, "dev/las": series(history, "valid/las")[1]}
    return learning_curves(pd.DataFrame(curves).assign(arm="training", seed=0), over="steps")


def arms(rows: pd.DataFrame) -> Figure:
    """UAS of each arm on test: a dot per seed, a bar at the mean; best on top."""
    order = rows.groupby("arm")["test/uas"].mean().sort_values().index
    figure, ax = plt.subplots(figsize=(7.5, 0.42 * len(order) + 1.0))
    for place, arm in enumerate(order):
        values, style = 100 * rows[rows["arm"] == arm]["test/uas"], _style(arm)
        ax.plot(values, np.full(len(values), place), "o", color=style["color"], alpha=0.6, markersize=5)
        ax.vlines(values.mean(), place - 0.3, place + 0.3, color=style["color"], linewidth=2.5)
    ax.set_yticks(range(len(order)), [_style(arm)["label"] for arm in order])
    ax.set(xlabel="UAS on test (%)", ylim=(-0.6, len(order) - 0.4))
    return tidy(figure)


def by_iteration(rows: pd.DataFrame) -> Figure:
    """UAS, cross-entropy of the head and routing entropy after each iteration: mean over seeds, bars of one std."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    labels = ("UAS on test", "cross-entropy of the head (nats)", "routing entropy (nats)")
    for ax, name, label in zip(axes, ("uas", "loss", "routing_entropy"), labels):
        columns = [column for column in rows if column.startswith(f"test/{name}_per_iteration_")]
        iterations = [int(column.rsplit("_", 1)[1]) for column in columns]
        for arm, part in rows[~rows["arm"].isin(PLAIN)].groupby("arm", sort=False):
            spread = part[columns].std() if len(part) > 1 else None
            ax.errorbar(iterations, part[columns].mean(), spread, capsize=3, **_style(arm))
        ax.set(xlabel="iteration", ylabel=label, xticks=iterations)
    if axes[2].get_legend_handles_labels()[0]:
        axes[2].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return tidy(figure)


def by_distance(rows: pd.DataFrame) -> Figure:
    """UAS by length of the gold arc: left UAS, right the difference to one iteration (mean over seeds)."""
    table = 100 * rows.groupby("arm", sort=False)[[name for name in rows if name.startswith("arc/")]].mean()
    names = [name.removeprefix("arc/") for name in table]
    base = table.loc["one_iteration"] if "one_iteration" in table.index else table.iloc[0]
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.4))
    for arm, line in table.iterrows():
        panels[0].plot(names, line, linewidth=1, **_style(arm))
        panels[1].plot(names, line - base, linewidth=1, **_style(arm))
    for ax, label in zip(panels, ("UAS on test (%)", f"difference to {_style(base.name)['label']} (points)")):
        ax.set(xlabel="length of the arc (words)", ylabel=label)
        ax.tick_params(axis="x", labelrotation=30)
    panels[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return tidy(figure)


def heads(table: pd.DataFrame) -> Figure:
    """What the heads do in each iteration (`evaluate.heads_table`): weight, attention to the word's head, distance."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.6))
    named = {
        "weight": "weight by the controller",
        "to_head": "attention to the word's head",
        "reach": "distance (words)",
    }
    for ax, (name, label) in zip(axes, named.items()):
        values = table.pivot(index="iteration", columns="head", values=name)
        image = ax.imshow(values, cmap="Blues", vmin=0, aspect="auto")
        ax.set(xlabel="head", ylabel="iteration", title=label)
        ax.set_xticks(range(values.shape[1]), values.columns)
        ax.set_yticks(range(len(values)), values.index)
        for row, column in np.ndindex(values.shape):
            value = values.iloc[row, column]
            color = "white" if value > 0.6 * np.nanmax(values) else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
        figure.colorbar(image, ax=ax, fraction=0.05)
    return tidy(figure)


def draw_arcs(ax: Axes, words: Sequence[str], heads: Sequence[int], labels: Sequence[str], gold: Sequence[int]) -> None:
    """A tree above its words: green arcs agree with `gold`; red ones do not, and the right one is dotted."""
    highest = 1.0
    for place, (head, label, right) in enumerate(zip(heads, labels, gold), 1):
        arcs = [(head, RIGHT if head == right else WRONG, label, "-")]
        arcs += [(right, "#999999", "", ":")] if head != right else []
        for start, color, text, style in arcs:
            middle, height = (start + place) / 2, 0.45 * abs(start - place) ** 0.8 + 0.35
            if start:
                arc = Arc((middle, 0), abs(start - place), 2 * height, theta2=180, color=color, linestyle=style)
                ax.add_patch(arc)
                ax.plot(place, 0, marker="v", color=color, markersize=4)
                ax.text(middle, height + 0.03, in_figure(text), ha="center", va="bottom", fontsize=6.5, color=color)
                highest = max(highest, height)
            else:
                ax.annotate("", (place, 0), (place, 1.1), arrowprops={"arrowstyle": "->", "color": color})
                ax.text(place + 0.08, 1.1, "root", fontsize=6.5, color=color)
        ax.text(place, -0.25, in_figure(words[place - 1]), ha="center", va="top", fontsize=8.5, rotation=30)
    ax.set(xlim=(0.3, len(words) + 0.7), ylim=(-1.6, highest + 0.9))
    ax.axis("off")


def iterations_of_sentence(words: Sequence[str], gold: Sequence[int], trace: Trace) -> Figure:
    """A row per iteration of one sentence: its tree, the attention of the weighted heads, the weights of the heads."""
    S, n = len(trace.trees), len(words)
    ticks = [in_figure(word) for word in words]
    figure, axes = plt.subplots(S, 3, figsize=(9, 2.4 * S), squeeze=False, gridspec_kw={"width_ratios": (2.2, 1, 0.7)})
    for i, (tree, attention, weights) in enumerate(axes):
        heads, labels = trace.trees[i]
        draw_arcs(tree, words, heads, labels, gold)
        tree.set_title(f"iteration {i + 1}: {np.equal(heads, gold).sum()} of {n} heads right", fontsize=9)
        attention.imshow(trace.attention[i], cmap="Blues", vmin=0, vmax=max(trace.attention.max(), 1e-9))
        attention.set_yticks(range(n), ticks, fontsize=6.5)
        attention.set_xticks(range(n), ticks, fontsize=6.5, rotation=90)
        attention.set_title("attention of the weighted heads", fontsize=9)
        image = weights.imshow(trace.weights[i], cmap="Oranges", vmin=0, vmax=1, aspect="auto")
        N = trace.weights.shape[-1]
        weights.set(yticks=[], xlabel="weight of each head")
        weights.set_xticks(range(N), range(1, N + 1))
        figure.colorbar(image, ax=weights, fraction=0.08)
    figure.tight_layout()
    return figure
