"""Figures of chapter 01: shapes, the spectrum of hidden states, the errors of each compressor at each size."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from trm.plots import tidy

ARMS = {  # colour, line, marker, name
    "mean": ("#bbbbbb", "-", "", "mean predictor"),
    "optimum": ("#222222", ":", "", "best linear without bias (closed form)"),
    "pca": ("#222222", "-", "", "PCA: best linear with bias (closed form)"),
    "tied": ("#4477aa", "", "o", "tied linear"),
    "untied": ("#aa3377", "", "v", "untied with bias"),
    "affine": ("#66ccee", "", "s", "tied with bias"),
    "nonlinear": ("#1b7f3b", "-", "^", "non-linear"),
    "task_aware_closed": ("#c0392b", ":", "", "task-aware (closed form)"),
    "task_aware": ("#c0392b", "-", "D", "task-aware"),
}
METRICS = {
    "mse": "mean squared error",
    "cosine_similarity": "cosine similarity",
    "centred_cosine": "centred cosine",
    "kl": "KL of the output (nats)",
    "top1_agreement": "top-1 agreement (share)",
    "ce_change": "change of cross-entropy (nats)",
}


def shapes(T: int, D: int, K: int) -> Figure:
    """Shapes of a sequence of T states before, in and after compression; heights to scale."""
    figure, ax = plt.subplots(figsize=(8, 2.4))
    for place, (name, size) in enumerate((("hidden states", D), ("compressed", K), ("reconstruction", D))):
        height = max(size / D, 0.06)
        ax.add_patch(plt.Rectangle((3 * place, -height / 2), 1.6, height, facecolor="#dde6f0", edgecolor="#1f4e79"))
        ax.text(3 * place + 0.8, 0.62, f"{name}\n[B, {T}, {size}]", ha="center", va="bottom", fontsize=9)
        if place < 2:
            ax.annotate("", (3 * place + 2.9, 0), (3 * place + 1.7, 0), arrowprops={"arrowstyle": "->"})
            ax.text(3 * place + 2.3, 0.08, "compress" if not place else "decompress", ha="center", fontsize=8)
    ax.set(xlim=(-0.2, 7.8), ylim=(-0.6, 1.0))
    ax.axis("off")
    return figure


def spectrum(spectra: dict[str, np.ndarray], sizes: Sequence[int]) -> Figure:
    """Left the eigenvalues of each covariance, right the share of variance in the first K. spectra: label -> (D,)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
    for label, values in spectra.items():
        K = np.arange(1, len(values) + 1)
        left.plot(K, values, label=label)
        right.plot(K, 100 * np.cumsum(values) / values.sum(), label=label)
    top = max(values.max() for values in spectra.values())
    left.set(xscale="log", yscale="log", xlabel="direction", ylabel="variance", ylim=(top * 1e-6, top * 2))
    right.set(ylabel="variance kept (%)")
    _mark_sizes(right, sizes)
    left.legend(fontsize=8, frameon=False)
    return tidy(figure)


def trade_off(table: pd.DataFrame) -> Figure:
    """Each of `METRICS` that `table` has against K, one line per arm: means over seeds, bars of one standard deviation."""
    metrics = {name: label for name, label in METRICS.items() if name in table and table[name].notna().any()}
    rows = -(-len(metrics) // 3)
    figure, panels = plt.subplots(rows, 3, figsize=(10.2, 2.9 * rows), squeeze=False)
    lines = {}
    for ax, (metric, label) in zip(panels.flat, metrics.items()):
        lines |= _panel(ax, table, metric)
        ax.set_title(label, fontsize=10)
        ax.set_yscale("log" if metric in ("mse", "kl") else "linear")
    for ax in panels.flat[len(metrics) :]:
        ax.set_visible(False)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 3}
    tidy(figure).legend(lines.values(), lines.keys(), frameon=False, fontsize=9, **place)
    return figure


def answers(table: pd.DataFrame, plain: float | None = None) -> Figure:
    """Share of right answers (column answers_right) against K, one line per arm; `plain`: that of the model itself."""
    figure, ax = plt.subplots(figsize=(7.6, 3.1))
    lines = _panel(ax, table, "answers_right")
    if plain is not None:
        lines["no compression"] = ax.axhline(plain, color="#bbbbbb", linewidth=1)
    ax.set_ylabel("right answers, with thinking (share)")
    ax.legend(lines.values(), lines.keys(), fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return tidy(figure)


def _panel(ax, table: pd.DataFrame, metric: str) -> dict:
    """Draw `metric` against K; returns the line of each name."""
    lines = {}
    for arm, (colour, line, marker, name) in ARMS.items():
        found = table[(table["arm"] == arm) & table[metric].notna()].groupby("K")[metric].agg(["mean", "std"])
        if len(found):
            style = {"color": colour, "marker": marker, "linestyle": line, "linewidth": 1.3, "markersize": 4}
            lines[name] = ax.errorbar(found.index, found["mean"], found["std"].fillna(0), capsize=2, **style)
    _mark_sizes(ax, sorted(table["K"].unique()))
    return lines


def _mark_sizes(ax, sizes: Sequence[int]) -> None:
    ax.set(xscale="log", xlabel="K, numbers per compressed state")
    ax.set_xticks(list(sizes), [str(K) for K in sizes])
    ax.xaxis.set_minor_locator(NullLocator())


def stages(rows: pd.DataFrame, labels: dict[str, str], arm: str = "pca") -> Figure:
    """Share of variance lost on each kind of text by a compressor fitted on each, against K. labels: stage -> its texts."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True)
    for ax, (text, name) in zip(panels, labels.items()):
        for (trained, label), colour in zip(labels.items(), ("#4477aa", "#c0392b")):
            part = rows[(rows["arm"] == arm) & (rows["trained"] == trained) & (rows["text"] == text)].sort_values("K")
            ax.plot(part["K"], 1 - part["r2"], marker="o", markersize=4, color=colour, label=f"fitted on {label}")
        ax.set(yscale="log")
        ax.set_title(f"states of {name}", fontsize=10)
        _mark_sizes(ax, sorted(rows["K"].unique()))
    panels[0].set_ylabel("variance lost (share)")
    panels[0].legend(fontsize=8, frameon=False)
    return tidy(figure)
