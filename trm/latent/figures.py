"""Figures of chapter 07: what latents learn to say, problems thought through, accuracy against steps and against time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.latent.data import Exercise
from trm.latent.findings import TIMES, WAYS, by_steps
from trm.plots import RIGHT, WRONG, series, tidy

LOOKS = {  # colour and marker
    "chain": ("#aa3377", "*"),
    "thoughts": ("#c0392b", "D"),
    "answer_alone": ("#e59866", "v"),
    "no_thinking": ("#222222", "s"),
    "pause": ("#ccaa33", "P"),
    "mean": ("#bbbbbb", "x"),
    "ridge": ("#888888", "+"),
    "shuffled": ("#555555", "1"),
    "read_off": ("#1b7f3b", "^"),
    "direct": ("#4477aa", "o"),
    "direct_alone": ("#99bbdd", "h"),
}


def progress(history: Sequence[dict]) -> Figure:
    """How often each latent says the total of its step, and the answers right, as training goes on: shares of the validation
    problems. history: its records so far."""
    figure, ax = plt.subplots(figsize=(7, 3.2))
    found = {name for record in history for name in record if name.startswith("valid/latent_")}
    for which in sorted(int(name.removeprefix("valid/latent_")) for name in found):
        color, name = plt.get_cmap("viridis")(0.9 * (which - 1) / max(len(found) - 1, 1)), f"valid/latent_{which}"
        ax.plot(*series(history, name), color=color, marker="o", markersize=3, label=f"latent {which} says its total")
    ax.plot(*series(history, "valid/accuracy"), color="#c0392b", linewidth=2, label="answer right")
    ax.set(xlabel="optimizer steps", ylabel="share of validation problems", ylim=(-0.02, 1.02))
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return tidy(figure)


def thoughts(one: Exercise, found: Sequence[Sequence[Sequence[tuple[str, float]]]]) -> Figure:
    """A problem's latents, cycle by cycle, as the word they say: green where it is the total of its step (or the answer, after
    the last), the paler the less sure. found: for each cycle and latent, (word, its share), the largest first."""
    cycles, count = len(found), len(found[0])
    wanted = [done[-1] for done in one.calculations][-count:] + [one.answer] * max(count - len(one.calculations), 0)
    figure, ax = plt.subplots(figsize=(1.6 + 1.1 * count, 1.1 + 0.5 * cycles))
    for cycle, latents in enumerate(found):
        for i, best in enumerate(latents):
            text, share = best[0]
            good = text.strip() == wanted[i]
            ax.add_patch(plt.Rectangle((i, cycle), 1, 1, color=RIGHT if good else WRONG, alpha=0.05 + 0.4 * share))
            ax.text(i + 0.5, cycle + 0.5, f"{text.strip()}", ha="center", va="center", fontsize=11)
            ax.text(i + 0.95, cycle + 0.85, f"{share:.2f}", ha="right", va="center", fontsize=6, color="#555555")
    steps = ["".join(done[:3]) + "=" + done[3] for done in one.calculations][-count:]
    ax.set_xticks(np.arange(count) + 0.5, [*steps, *["(answer)"] * (count - len(steps))], fontsize=8)
    ax.set_yticks(np.arange(cycles) + 0.5, [f"{cycle + 1}" for cycle in range(cycles)])
    ax.set(
        xlim=(0, count), ylim=(cycles, 0), ylabel="H-cycle", xlabel="latents, and the step of the chain each stands for"
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
    tidy(figure)
    ax.grid(False)
    return figure


def steps(rows: pd.DataFrame) -> Figure:
    """Right answers against the number of steps of a problem, a line a way, bars of one deviation over seeds."""
    figure, ax = plt.subplots(figsize=(9, 4))
    table = by_steps(rows)
    for way, part in table.groupby(level="way", sort=False):
        color, marker = LOOKS.get(way, ("#555555", "."))
        spread = 100 * part.std() if len(part) > 1 else None
        ax.errorbar(
            part.columns,
            100 * part.mean(),
            spread,
            color=color,
            marker=marker,
            markersize=5,
            capsize=3,
            label=WAYS.get(way, way),
        )
    ax.set_xticks(list(table.columns))
    ax.set(xlabel="steps of the problem", ylabel="right answers (%)", ylim=(0, 102))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return tidy(figure)


def times(rows: pd.DataFrame) -> Figure:
    """Right answers against the time that one takes, a point a way: one problem at a time, and 64 at once."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
    for ax, (name, said) in zip(panels, TIMES.items()):
        known = rows[rows[name].notna()] if name in rows else rows.iloc[:0]
        for way, part in known.groupby("way", sort=False):
            color, marker = LOOKS.get(way, ("#555555", "."))
            ax.plot(
                part[name].mean(),
                100 * part["accuracy"].mean(),
                marker,
                color=color,
                markersize=9,
                label=WAYS.get(way, way),
            )
        ax.set(xlabel=f"ms for an answer{said.removeprefix('ms')}", xlim=(0, None), ylim=(0, 102))
    panels[0].set(ylabel="right answers (%)")
    if panels[1].get_legend_handles_labels()[0]:
        panels[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return tidy(figure)


def constancy(found: dict[str, Sequence[float]]) -> Figure:
    """How much of a state is the same for every problem, after each block. found: what it is -> a share a block."""
    figure, ax = plt.subplots(figsize=(5.5, 2.8))
    for (name, shares), style in zip(found.items(), ("-o", "--s", ":^")):
        ax.plot(range(1, len(shares) + 1), shares, style, label=name)
    ax.set_xticks(range(1, len(shares) + 1))
    ax.set(xlabel="block of the language model", ylabel="share that is constant", ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize=8)
    return tidy(figure)
