"""Figures of chapter 09: slices, the roofline, what bounds a step, memory, losses on several backends."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trm.plots import tidy
from trm.tpu.plan import GIB, Slice

COLOURS = {"compute": "#0072b2", "memory": "#e69f00", "network": "#009e73", "host": "#999999"}
SUITES = ("#1f4e79", "#c0392b")


def slices(*shown: Slice) -> Figure:
    """The chips of each slice at their places, coloured by host, with the links between neighbours."""
    sizes = [max(on.topology) for on in shown]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(9, 4), subplot_kw={"projection": "3d"}, width_ratios=sizes, squeeze=False
    )
    for ax, on in zip(axes[0], shown):
        X, Y, Z = on.topology
        chips = np.array([(x, y, z) for z in range(Z) for y in range(Y) for x in range(X)])
        for axis in range(3):
            for chip in chips:
                other = chip + np.eye(3, dtype=int)[axis]
                if other[axis] < on.topology[axis]:
                    ax.plot(*zip(chip, other), color="#b0b0b0", linewidth=1, zorder=1)
        host = chips[:, 2] * -(-Y // 2) + chips[:, 1] // 2  # a host has 2 x 2 chips of a layer
        ax.scatter(*chips.T, c=plt.get_cmap("tab10")(host % 10), s=120, depthshade=False, edgecolor="#333333")
        ax.set_box_aspect([max(size - 1, 0.35) for size in on.topology])
        ax.set_axis_off()
        ax.view_init(18, -58)
        hosts = f"{on.hosts} host{'s' * (on.hosts > 1)}"
        power = f"{on.chips * on.peak_flops / 1e15:.1f} PFLOP/s in bfloat16, {on.chips * on.memory / GIB:,.0f} GiB"
        ax.set_title(f"{on.name}: {on.chips} chips, {hosts}\n{power}", fontsize=10)
    figure.tight_layout()
    return figure


def roofline(plans: pd.DataFrame, on: Slice) -> Figure:
    """The highest rate of a chip that its memory allows, against FLOPs per byte; one dot per configuration, by sweep."""
    figure, ax = plt.subplots(figsize=(7, 3.8))
    x = np.geomspace(min(50, 0.8 * plans["intensity"].min()), max(700, 1.2 * plans["intensity"].max()), 200)
    roof = np.minimum(x * on.bandwidth, on.peak_flops) / 1e12
    ax.plot(x, roof, color="#444444", linewidth=1.5, label="a TPU v4 chip")
    for colour, (name, part) in zip(SUITES, plans.groupby("sweep", sort=False)):
        y = np.minimum(part["intensity"] * on.bandwidth, on.peak_flops) / 1e12
        ax.scatter(part["intensity"], y, s=26, color=colour, alpha=0.75, label=name, zorder=3)
    ridge = on.peak_flops / on.bandwidth
    ax.axvline(ridge, color="#999999", linestyle=":", linewidth=1)
    ax.text(ridge * 1.03, on.peak_flops / 1e12 * 0.42, "FLOPs per byte that\nkeep the chip busy", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="arithmetic intensity (FLOPs per byte to and from the chip's memory)",
           ylabel="highest rate (TFLOP/s per chip)")  # fmt: skip
    ax.set_xticks([50, 100, 200, 400, 700], ["50", "100", "200", "400", "700"])
    ax.set_yticks([50, 100, 200, 275], ["50", "100", "200", "275"])
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


def memory(plans: dict[str, pd.DataFrame], limit: float) -> Figure:
    """GiB per chip of every configuration, sorted, one line per slice; `limit` is what a chip has."""
    figure, ax = plt.subplots(figsize=(7, 3.2))
    for colour, (name, table) in zip(SUITES, plans.items()):
        values = np.sort(table["memory_gib"])
        ax.plot(np.arange(1, len(values) + 1), values, marker="o", markersize=3, color=colour, label=name)
    ax.axhline(limit, color="#444444", linestyle="--", linewidth=1)
    ax.text(1, limit * 1.1, f"{limit:.0f} GiB per chip", fontsize=8)
    ax.set(yscale="log", xlabel="configuration, by memory", ylabel="memory (GiB per chip)")
    ax.legend(fontsize=8, frameon=False)
    return tidy(figure)


def parity(losses: pd.DataFrame) -> Figure:
    """Left: the loss of each training, step by step. Right: its relative difference from the first."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    first = losses.columns[0]
    for i, (name, values) in enumerate(losses.items()):
        left.plot(losses.index, values, linewidth=4 - 1.4 * i, alpha=0.8, label=name)
        difference = (values - losses[first]).abs() / losses[first].abs()
        if i:
            right.plot(losses.index, difference.clip(lower=1e-9), color=f"C{i}", marker="o", markersize=3, label=name)
    right.axhline(1e-4, color="#444444", linestyle="--", linewidth=1)
    right.text(losses.index[0], 1.2e-4, "1e-4", fontsize=8)
    left.set(xlabel="optimizer step", ylabel="training loss (nats per cell)")
    right.set(yscale="log", xlabel="optimizer step", ylabel=f"relative difference from the {first}", ylim=(5e-10, 1e-3))
    for ax in (left, right):
        ax.legend(fontsize=8, frameon=False)
        ax.xaxis.get_major_locator().set_params(integer=True)
    return tidy(figure)
