"""Figures of chapter 10: error along each axis, fitted laws, the Pareto front."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from trm.scaling.experiments import ACCURACY, Experiment, summary
from trm.scaling.verdict import Study

DOT, MEAN, LAW = "#9aa7b4", "#1f4e79", "#c0392b"


def axes_of(runs: pd.DataFrame, experiments: Sequence[Experiment], columns: int = 3) -> Figure:
    """A panel an experiment: the error of every run (grey), mean and standard deviation over the seeds (blue)."""
    rows = -(-len(experiments) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(3.1 * columns, 2.7 * rows), squeeze=False, sharey=True)
    for ax, experiment in zip(panels.flat, experiments):
        table, part = summary(runs, experiment), experiment.of(runs)
        sizes = bool(experiment.x) and experiment.x != "ema_decay"
        x = table["x"] if sizes else pd.Series(range(len(table)), index=table.index, dtype=float)
        ax.scatter(part["case"].map(x), 100 * (1 - part[ACCURACY]), color=DOT, s=14, zorder=2)
        order = x.sort_values().index
        ax.errorbar(x[order], 100 * table["mean"][order], yerr=100 * table["std"][order].fillna(0), color=MEAN, marker="o",
                    markersize=4, capsize=3, linestyle="-" if sizes else "", linewidth=1.2, zorder=3)  # fmt: skip
        if sizes:
            _size_axis(ax, x, experiment.label)
        else:
            names = [f"{v:g}" for v in table["x"]] if experiment.x else list(table.index)
            ax.set_xticks(range(len(table)), names, fontsize=8, rotation=0 if experiment.x else 60)
            ax.set_xlabel(experiment.label)
        ax.set_title(experiment.title, fontsize=10)
        ax.grid(axis="y", alpha=0.3)
    for ax in panels.flat[len(experiments) :]:
        ax.set_visible(False)
    for ax in panels[:, 0]:
        ax.set_ylabel("unsolved test puzzles (%)")
    figure.tight_layout()
    return figure


def _size_axis(ax: Axes, x: Iterable[float], label: str) -> None:
    """A logarithmic axis with a tick at each size."""
    values = sorted(set(x))
    ax.set(xscale="log", xlabel=label)
    ax.set_xticks(values, _labels(values), fontsize=7)
    ax.minorticks_off()


def _labels(values: Sequence[float]) -> list[str]:
    """A label for each of the sorted values of a logarithmic axis, none where it would touch the one before."""
    labels, last = [], -np.inf
    span = np.log(values[-1] / values[0]) or 1
    for value in values:
        place = np.log(value) / span
        labels.append(_short(value) if place - last > 0.09 else "")
        last = place if labels[-1] else last
    return labels


def _short(value: float) -> str:
    """12,800 as 13k, 3.1e12 as 3.1T."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2g}{letter}" if value < 100 * size else f"{value / size:.0f}{letter}"
    return f"{value:g}"


def laws(studies: dict[str, tuple[np.ndarray, np.ndarray, Study]], labels: Sequence[str]) -> Figure:
    """Error odds against one size on logarithmic axes, a panel a study, with the form that the runs support; one form that
    has a lower AICc but is not enough better is dotted.

    studies: title -> (x (n,), y (n,), what was found).
    """
    rows, columns = -(-len(studies) // 2), min(len(studies), 2)
    figure, panels = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.1 * rows), squeeze=False, sharey=True)
    every = np.concatenate([y for _, y, _ in studies.values()])
    steps = (1, 2, 3, 5) if max(every) < 20 * min(every) else (1, 3)
    ticks = [m * 10.0**e for e in range(-5, 6) for m in steps if min(every) * 0.9 < m * 10.0**e < max(every) * 1.1]
    for ax, label, (title, (x, y, found)) in zip(panels.flat, labels, studies.items()):
        ax.scatter(x, y, color=DOT, s=16, zorder=2)
        means = pd.Series(np.log(y)).groupby(np.asarray(x)).mean()
        ax.plot(means.index, np.exp(means), "o", color=MEAN, markersize=4, zorder=3)
        grid = np.geomspace(min(x), max(x), 100)
        ax.plot(grid, found.fits[found.supported].predict(grid), color=LAW, label=found.supported)
        best = found.table.index[0]
        if best != found.supported:
            ax.plot(grid, found.fits[best].predict(grid), color=LAW, linestyle=":", label=f"{best} (not surely better)")
        ax.set(yscale="log", title=title)
        ax.set_yticks(ticks, [f"{v:g}" for v in ticks])
        _size_axis(ax, x, label)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    for ax in panels.flat[len(studies) :]:
        ax.set_visible(False)
    for ax in panels[:, 0]:
        ax.set_ylabel("unsolved : solved (odds)")
    figure.tight_layout()
    return figure


def pareto(fronts: dict[str, tuple[pd.DataFrame, pd.Series]]) -> Figure:
    """Error against cost, a panel a cost: every configuration, the front as a line, and its members named with the share
    of resamples in which they stay on it.

    fronts: label of the cost -> what `pareto.front` and `pareto.membership` return.
    """
    figure, panels = plt.subplots(1, len(fronts), figsize=(4.7 * len(fronts), 3.8), squeeze=False, sharey=True)
    for ax, (label, (table, share)) in zip(panels.flat, fronts.items()):
        on = table[table["on_front"]]
        ax.errorbar(table["cost"], 100 * table["error"], yerr=100 * table["error_std"].fillna(0), fmt="o", color=DOT,
                    markersize=4, linewidth=0.8, zorder=2)  # fmt: skip
        ax.step(on["cost"], 100 * on["error"], where="post", color=LAW, linewidth=1.2, zorder=3)
        ax.plot(on["cost"], 100 * on["error"], "o", color=LAW, markersize=5, zorder=4)
        for name, row in on.iterrows():
            ax.annotate(f"{name} ({share[name]:.0%})", (row["cost"], 100 * row["error"]), xytext=(4, 5), fontsize=7,
                        textcoords="offset points", rotation=25)  # fmt: skip
        ax.set(xscale="log", xlabel=label)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(y=0.15)
        ax.grid(alpha=0.3)
    panels[0, 0].set_ylabel("unsolved test puzzles (%)")
    figure.tight_layout()
    return figure
