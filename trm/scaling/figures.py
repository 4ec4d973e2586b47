"""Figures of chapter 10: error along each axis, fitted laws, the Pareto front."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from trm.escape import in_figure
from trm.plots import tidy
from trm.scaling.experiments import ACCURACY, Experiment, present, summarise
from trm.scaling.laws import Fit

DOT, MEAN, LAW = "#9aa7b4", "#1f4e79", "#c0392b"
CASES = {  # what cases of kinds change, as in params/sweeps/scaling_research.yaml
    "exp08a": "08a: float32",
    "exp08b": "08b: bfloat16",
    "exp10a": "10a: Adam-atan2",
    "exp10b": "10b: AdamW",
    "exp10c": "10c: beta2 0.999",
    "exp10d": "10d: betas 0.95, 0.98",
    "exp10e": "10e: no weight decay",
    "contrib01a": "01a: shallow until 0.6",
    "contrib01b": "01b: shallow until 0.3",
    "contrib02a": "02a: exploration to 0",
    "contrib02b": "02b: exploration to 0.1",
    "contrib03": "03: more steps at test",
    "contrib04": "04: initial noise",
    "contrib05": "05: first steps weigh most",
    "contrib06": "06: full gradients",
    "contrib07": "07: puzzle tokens",
    "contrib08": "08: constant rate",
}


def _panels(number: int, columns: int, width: float, height: float, label: str) -> tuple[Figure, np.ndarray]:
    """A grid of panels that share the vertical axis `label`; those that are not needed are hidden."""
    rows = -(-number // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, sharey=True)
    for ax in panels.flat[number:]:
        ax.set_visible(False)
    for ax in panels[:, 0]:
        ax.set_ylabel(label)
    return figure, panels.flat


def _size_axis(ax: Axes, x: Iterable[float], label: str) -> None:
    """A logarithmic axis with a tick at each size."""
    values = sorted(set(x))
    ax.set(xscale="log", xlabel=label)
    ax.set_xticks(values, map(EngFormatter(places=0, sep=""), values), fontsize=7, rotation=45 * (max(values) >= 100))
    ax.minorticks_off()


def axes_of(runs: pd.DataFrame, experiments: Sequence[Experiment]) -> Figure:
    """One panel per experiment: the error of every run (grey), mean and standard deviation over the seeds (blue)."""
    figure, panels = _panels(len(experiments), 3, 2.85, 2.7, "unsolved test puzzles (%)")
    for ax, experiment in zip(panels, experiments):
        part = experiment.of(runs).assign(error=lambda table: 1 - table[ACCURACY])
        table = summarise(part, "case", "error")
        sizes = bool(experiment.x) and experiment.x != "ema_decay"
        x = pd.Series(range(len(table)), index=table.index, dtype=float)
        values = part.groupby("case", sort=False)[experiment.x].mean() if experiment.x else x
        x = values if sizes else x
        ax.scatter(part["case"].map(x), 100 * part["error"], color=DOT, s=14, zorder=2)
        order = x.sort_values().index
        ax.errorbar(x[order], 100 * table["mean"][order], yerr=100 * table["std"][order].fillna(0), color=MEAN, marker="o",
                    markersize=4, capsize=3, linestyle="-" if sizes else "", linewidth=1.2, zorder=3)  # fmt: skip
        if sizes:
            _size_axis(ax, x, experiment.label)
        else:
            kinds = [in_figure(CASES.get(name, name)) for name in table.index]
            names = [f"{v:g}" for v in values] if experiment.x else kinds
            slanted = {} if experiment.x else {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
            ax.set_xticks(range(len(table)), names, fontsize=8, **slanted)
            ax.set_xlabel(experiment.label)
        ax.set_title(experiment.title, fontsize=10)
        ax.set_ylim(top=103)  # of 100 %: a mean with its deviation may exceed it
    tidy(figure).set_layout_engine("constrained")  # the names of kinds lengthen their own row alone
    return figure


def laws(studies: dict[str, tuple[np.ndarray, np.ndarray, Fit]], labels: Sequence[str]) -> Figure:
    """Loss against one size on logarithmic axes, one panel per study, with the form that the runs support.
    studies: title -> (x (n,), y (n,), the fit)."""
    figure, panels = _panels(len(studies), min(len(studies), 2), 4.6, 3.1, "cross-entropy (nats per blank cell)")
    for ax, label, (title, (x, y, law)) in zip(panels, labels, studies.items()):
        ax.scatter(x, y, color=DOT, s=16, zorder=2)
        means = pd.Series(np.log(y)).groupby(np.asarray(x)).mean()
        ax.plot(means.index, np.exp(means), "o", color=MEAN, markersize=4, zorder=3)
        grid = np.geomspace(min(x), max(x), 100)
        ax.plot(grid, law.predict(grid), color=LAW, label=law.form)
        ax.set(yscale="log", title=title)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        _size_axis(ax, x, label)
        ax.legend(fontsize=8)
    return tidy(figure)


def named(runs: pd.DataFrame) -> dict[str, str]:
    """Case -> its name and what it changes, for cases of a known experiment."""
    short, names = EngFormatter(places=1, sep=""), dict(CASES)
    for experiment in present(runs):
        if experiment.x and not experiment.x.startswith("flops"):
            for case, value in experiment.of(runs).groupby("case")[experiment.x].mean().items():
                words = short(value) if value >= 1000 else f"{value:g}"
                names[case] = f"{case}: {experiment.x.split('/')[-1]} {words}"
    return names


def pareto(fronts: dict[str, tuple[pd.DataFrame, pd.Series]]) -> Figure:
    """Error against cost, one panel per cost: every configuration, the front as a line, and its numbered members named
    below with their share. fronts: label of the cost -> what `pareto.front` and `pareto.membership` return."""
    figure, panels = _panels(len(fronts), len(fronts), 4.7, 3.8, "unsolved test puzzles (%)")
    for ax, (label, (table, share)) in zip(panels, fronts.items()):
        on = table[table["on_front"]]
        ax.errorbar(table["cost"], 100 * table["error"], yerr=100 * table["error_std"].fillna(0), fmt="o", color=DOT,
                    markersize=4, linewidth=0.8, zorder=2)  # fmt: skip
        ax.step(on["cost"], 100 * on["error"], where="post", color=LAW, linewidth=1.2, zorder=3)
        ax.plot(on["cost"], 100 * on["error"], "o", color=LAW, markersize=5, zorder=4)
        members = []
        for i, (name, row) in enumerate(on.iterrows(), 1):
            # numbers above right and below left in turn, because members can lie close to each other
            place = {"xytext": (3, 4)} if i % 2 else {"xytext": (-3, -4), "ha": "right", "va": "top"}
            at = row["cost"], 100 * row["error"]
            halo = [withStroke(linewidth=2, foreground="white")]
            ax.annotate(str(i), at, textcoords="offset points", fontsize=8, path_effects=halo, zorder=5, **place)
            members.append(
                Line2D([], [], linestyle="", color=LAW, marker=f"${i}$", label=f"{in_figure(name)} ({share[name]:.0%})")
            )
        ax.legend(handles=members, loc="upper left", bbox_to_anchor=(-0.12, -0.22), ncols=2, fontsize=7, frameon=False,
                  columnspacing=1, handletextpad=0.3)  # fmt: skip
        ax.set(xscale="log", xlabel=label)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(-6, 106)
    return tidy(figure)
