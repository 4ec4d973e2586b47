"""Figures of chapter 07: latents during training, one problem's latents, accuracy by steps and by time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.escape import in_figure
from trm.latent.data import Exercise
from trm.latent.state_map import block_applications
from trm.plots import RIGHT, WRONG, series, tidy

METHODS = {  # label, colour, marker
    "chain": ("written chain", "#aa3377", "*"),
    "thoughts": ("latents", "#c0392b", "D"),
    "answer_alone": ("latents without a chain loss", "#e59866", "v"),
    "no_thinking": ("answer at once", "#222222", "s"),
    "pause": ("pause vectors", "#ccaa33", "P"),
    "mean": ("mean of the latents", "#bbbbbb", "x"),
    "ridge": ("ridge regression from the prompt's last state", "#888888", "+"),
    "shuffled": ("latents of another problem", "#555555", "1"),
    "read_off": ("word nearest to the last latent, no language model", "#1b7f3b", "^"),
    "direct": ("same recursion trained without a language model", "#4477aa", "o"),
    "direct_alone": ("the same without a chain loss", "#99bbdd", "h"),
    "distill_alone": ("latents taught only the state after a chain", "#e67e22", "<"),
    "totals": ("half a chain as latents, then written", "#7d3c98", "p"),
}
BASELINES = {"constant": ("mean of the training states", ":"), "ridge": ("ridge regression", "--")}
NETWORKS = {True: ("one block, recursive", "#c0392b", "D"), False: ("other blocks, no recursion", "#4477aa", "s")}
BY_COUNT = {"chain": "0", "no_numbers": "half,\nno\nnumbers", "mean": "half,\nmean"}
SWAPPED = {
    "swapped": "goes on from\nthe other total",
    "own": "goes on from\nits own total",
    "to_the_end": "answer follows\nthe other total",
}
LEGEND = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "fontsize": 8, "frameon": False}


def progress(history: Sequence[dict]) -> Figure:
    """Accuracy of each latent's word and of the answers on validation problems, over optimizer steps."""
    figure, ax = plt.subplots(figsize=(7, 3.2))
    found = {name for record in history for name in record if name.startswith("valid/latent_")}
    for which in sorted(int(name.removeprefix("valid/latent_")) for name in found):
        color = plt.get_cmap("viridis")(0.9 * (which - 1) / max(len(found) - 1, 1))
        ax.plot(
            *series(history, f"valid/latent_{which}"), color=color, marker="o", ms=3, label=f"latent {which}: total"
        )
    ax.plot(*series(history, "valid/accuracy"), color="#c0392b", linewidth=2, label="answer")
    ax.set(xlabel="optimizer steps", ylabel="accuracy on validation problems", ylim=(0, None))
    ax.legend(**LEGEND)
    return tidy(figure)


def thoughts(one: Exercise, found: Sequence[Sequence[tuple[str, float]]]) -> Figure:
    """One problem's latents by H-cycle: the nearest word and its weight in the mixture; green where it is the label.
    found: for each cycle and latent, (word, weight)."""
    cycles, count = len(found), len(found[0])
    steps = one.calculations[-count:]
    labels = [step[-1] for step in steps] + [one.answer] * (count - len(steps))
    figure, ax = plt.subplots(figsize=(1.6 + 1.1 * count, 1.1 + 0.5 * cycles))
    for cycle, latents in enumerate(found):
        for i, (word, weight) in enumerate(latents):
            color = RIGHT if word.strip() == labels[i] else WRONG
            ax.add_patch(plt.Rectangle((i, cycle), 1, 1, color=color, alpha=0.05 + 0.4 * weight))
            ax.text(i + 0.5, cycle + 0.5, in_figure(word.strip()), ha="center", va="center", fontsize=11)
            ax.text(i + 0.95, cycle + 0.85, f"{weight:.2f}", ha="right", va="center", fontsize=6, color="#555555")
    ticks = [in_figure("".join(step[:3]) + "=" + step[3]) for step in steps] + ["(answer)"] * (count - len(steps))
    ax.set_xticks(np.arange(count) + 0.5, ticks, fontsize=8)
    ax.set_yticks(np.arange(cycles) + 0.5, range(1, cycles + 1))
    ax.set(xlim=(0, count), ylim=(cycles, 0), ylabel="H-cycle", xlabel="latents, and the step that each is taught")
    tidy(figure)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.grid(False)
    return figure


def steps(rows: pd.DataFrame) -> Figure:
    """Accuracy by number of steps, one line per method; bars of one standard deviation over seeds."""
    columns = {name: int(name.removeprefix("accuracy/")) for name in rows if name.startswith("accuracy/")}
    figure, ax = plt.subplots(figsize=(9, 4))
    for way, part in rows.groupby("way", sort=False):
        label, color, marker = METHODS.get(way, (way, "#555555", "."))
        values = 100 * part[list(columns)]
        style = {"color": color, "marker": marker, "markersize": 5, "label": label}
        ax.errorbar(list(columns.values()), values.mean(), values.std().fillna(0), capsize=3, **style)
    ax.set_xticks(list(columns.values()))
    ax.set(xlabel="steps of the problem", ylabel="accuracy (%)", ylim=(0, 102))
    ax.legend(**LEGEND)
    return tidy(figure)


def times(rows: pd.DataFrame) -> Figure:
    """Accuracy over time per answer, one point per method: in batches of 1 and of 64 problems."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
    for ax, batch in zip(panels, (1, 64)):
        for way, part in rows.dropna(subset=[f"ms/{batch}"]).groupby("way", sort=False):
            label, color, marker = METHODS.get(way, (way, "#555555", "."))
            point = part[f"ms/{batch}"].mean(), 100 * part["accuracy"].mean()
            ax.plot(*point, marker, color=color, markersize=9, label=label)
        ax.set(xlabel=f"ms per answer, batches of {batch}", xlim=(0, None), ylim=(0, 102))
    panels[0].set(ylabel="accuracy (%)")
    panels[1].legend(**LEGEND)
    return tidy(figure)


def constant_share(found: dict[str, Sequence[float]]) -> Figure:
    """Share of a state that is the same for every problem, after each block. found: name of the state -> shares."""
    figure, ax = plt.subplots(figsize=(5.5, 2.8))
    for (name, shares), style in zip(found.items(), ("-o", "--s")):
        ax.plot(range(1, len(shares) + 1), shares, style, label=name)
    ax.set_xticks(range(1, len(shares) + 1))
    ax.set(xlabel="block of the language model", ylabel="constant share", ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize=8)
    return tidy(figure)


def swaps(table: pd.DataFrame) -> Figure:
    """Right answers when latents are replaced, by slot, and answers of the other problem. table: rows of `swap_test`."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3), sharey=True)
    own = table.loc[table["by"] == "own", "accuracy"].iloc[0]
    for ax, (by, title) in zip(panels, (("other", "latents of another problem"), ("mean", "mean of the latents"))):
        part = table[table["by"] == by]
        x = np.arange(len(part))
        ax.bar(x - 0.2, 100 * part["accuracy"], 0.4, color=RIGHT, label="own answer")
        ax.bar(x + 0.2, 100 * part["other_answer"], 0.4, color=WRONG, label="the other problem's answer")
        ax.axhline(100 * own, color="#555555", linestyle=":", linewidth=1, label="no latent replaced")
        ax.set_xticks(x, part["slots"], fontsize=7)
        ax.set(title=title, xlabel="latents that are replaced")
    panels[0].set_ylabel("answers (%)")
    panels[1].legend(**LEGEND)
    return tidy(figure)


def state_map(rows: pd.DataFrame) -> Figure:
    """Distance of predictions from the true state after thinking, and accuracy of the answers read off them, over applications
    of a block; bars of one standard deviation over seeds. rows: of `map_rows`, networks among them."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    networks = rows[~rows["predictor"].isin(BASELINES)]
    for ax, metric in zip(panels, ("distance", "accuracy")):
        for name, (label, style) in BASELINES.items():
            level = rows.loc[rows["predictor"] == name, metric].mean()
            ax.axhline(level, linestyle=style, color="#777777", label=label)
        points = networks.assign(applied=block_applications(networks))
        for recursion, part in points.groupby(points["recursion"].astype(bool)):
            label, color, marker = NETWORKS[recursion]
            values = part.groupby("applied")[metric].agg(["mean", "std"]).fillna(0)
            style = {"color": color, "marker": marker, "capsize": 3, "label": label, "linewidth": 1}
            ax.errorbar(values.index, values["mean"], values["std"], **style)
        places = sorted(points["applied"].unique())
        ax.set_xscale("log", base=2)
        ax.set_xticks(places, [f"{n:.0f}" for n in places])
        ax.set(xlabel="applications of a block", ylabel=metric)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(-0.02, 1.02)
    panels[1].legend(**LEGEND)
    return tidy(figure)


def continued_chain(rows: pd.DataFrame) -> Figure:
    """Accuracy, tokens and time by how many steps of a chain are latents, and how often a swapped total is followed; bars of
    one standard deviation over seeds. rows: of `methods_by_count`, with shares swap/NAME of `follows_swap` at half."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 5.4))
    names = [BY_COUNT.get(way, way) for way in rows["way"].unique()]
    shown = {"accuracy": "accuracy", "tokens": "tokens that are generated", "ms/1": "ms per answer, one at a time"}
    for ax, (metric, label) in zip(panels.flat, shown.items()):
        values = rows.groupby("way", sort=False)[metric].agg(["mean", "std"])
        x = np.arange(len(values))
        ax.errorbar(x, values["mean"], values["std"].fillna(0), fmt="o", capsize=3, color="#7d3c98")
        ax.set_xticks(x, names, fontsize=8)
        top = 1 if metric == "accuracy" else values["mean"].max()
        ax.set(xlabel="steps that are latents", ylabel=label, xlim=(-0.5, len(x) - 0.5), ylim=(0, 1.06 * top))
    shares = rows[[f"swap/{name}" for name in SWAPPED]]
    panels[1, 1].bar(
        range(len(SWAPPED)), shares.mean(), 0.5, yerr=shares.std().fillna(0), capsize=3, color=[RIGHT, WRONG, RIGHT]
    )
    panels[1, 1].set_xticks(range(len(SWAPPED)), SWAPPED.values(), fontsize=8)
    panels[1, 1].set(ylabel="share, last total swapped", ylim=(0, 1.02))
    return tidy(figure)
