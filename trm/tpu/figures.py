"""Figures of chapter 09: the roofline, what bounds a step, losses on several backends."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.plots import tidy
from trm.tpu.plan import Slice

COLOURS = {"compute": "#0072b2", "memory": "#e69f00", "network": "#009e73", "host": "#999999"}
SUITES = ("#1f4e79", "#c0392b")


def roofline(plans: pd.DataFrame, on: Slice) -> Figure:
    """The highest rate of a chip that its memory allows, against FLOPs per byte; one dot per configuration, by sweep."""
    figure, ax = plt.subplots(figsize=(7, 3.8))
    x = np.geomspace(min(50, 0.8 * plans["intensity"].min()), max(700, 1.2 * plans["intensity"].max()), 200)
    peak, ridge = on.peak_flops / 1e12, on.peak_flops / on.bandwidth
    ax.plot(x, np.minimum(x / ridge, 1) * peak, color="#444444", linewidth=1.5, label="a TPU v4 chip")
    for colour, (name, part) in zip(SUITES, plans.groupby("sweep", sort=False)):
        x = part["intensity"]
        ax.scatter(x, np.minimum(x / ridge, 1) * peak, s=26, color=colour, alpha=0.75, label=name, zorder=3)
    ax.axvline(ridge, color="#999999", linestyle=":", linewidth=1)
    ax.text(ridge * 1.03, 0.42 * peak, "FLOPs per byte that\nkeep the chip busy", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="arithmetic intensity (FLOPs per byte to and from the chip's memory)",
           ylabel="highest rate (TFLOP/s per chip)")  # fmt: skip
    for axis, ticks in ((ax.xaxis, (50, 100, 200, 400, 700)), (ax.yaxis, (50, 100, 200, 275))):
        axis.set_ticks(ticks, map(str, ticks))
    ax.minorticks_off()
    ax.legend(fontsize=8, frameon=False)
    return tidy(figure)


def step_bounds(plans: pd.DataFrame, most: int = 10) -> Figure:
    """Milliseconds of a step by compute at peak, memory, network and host, for at most so many cases, short to long."""
    table = plans.drop_duplicates(["bound", *(f"{what}_seconds" for what in COLOURS)]).sort_values("step_seconds")
    table = table.iloc[np.unique(np.linspace(0, len(table) - 1, most).astype(int))].set_index("case")
    times = 1e3 * table[[f"{what}_seconds" for what in COLOURS]].set_axis(list(COLOURS), axis=1)
    ax = times.plot.barh(figsize=(7.5, 0.3 * len(table) + 1.2), color=COLOURS, width=0.8, logx=True, fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="milliseconds per step, each bound alone (logarithmic)", ylabel="")
    ax.legend(fontsize=8, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return tidy(ax.figure)


def parity(losses: pd.DataFrame) -> Figure:
    """Left: the loss of each training, step by step. Right: its relative difference from the first, and a line at 1e-4."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    first = losses.iloc[:, 0]
    difference = losses.sub(first, axis=0).abs().div(first.abs(), axis=0).clip(lower=1e-9)
    for i, name in enumerate(losses):
        left.plot(losses.index, losses[name], linewidth=4 - 1.4 * i, alpha=0.8, label=name)
        if i:
            right.plot(losses.index, difference[name], color=f"C{i}", marker="o", markersize=3, label=name)
    right.axhline(1e-4, color="#444444", linestyle="--", linewidth=1)
    left.set(ylabel="training loss (nats per cell)")
    right.set(yscale="log", ylabel=f"relative difference from the {first.name}", ylim=(5e-10, 1e-3))
    for ax in (left, right):
        ax.set_xlabel("optimizer step")
        ax.legend(fontsize=8, frameon=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
    return tidy(figure)
