"""Figures of chapters 02, 03, 04 and 12: grids, weights of schedules, halting rules, test-time compute, arms."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trm.plots import INK, legend_below, tidy
from trm.plots import RIGHT as GREEN
from trm.plots import WRONG as RED

BLUE = "#4477aa"
BESIDE = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "frameon": False}  # a legend right of its axes
ARM_COLOURS = {  # of chapter 02's arms, schedule:weight/backprop
    "none": INK, "none/last": "#c0392b", "linear": "#4477aa", "linear:1": "#66ccee", "exponential": "#1b7f3b",
    "constant": "#aa3377", "decay": "#cc8800", "curriculum": "#8c6d4f",
}  # fmt: skip
SPARE_COLOURS = ("#7a5fc0", "#e377c2", "#88aa55", "#999999", "#e8937c", "#2a9d8f")


def grid_lines(ax: Axes, n: int, box: tuple[int, int]) -> None:
    """The lines of an empty grid of n x n cells, thick around boxes of `box` (rows, columns), and no axes."""
    for line in range(n + 1):
        for draw, size in ((ax.axhline, box[0]), (ax.axvline, box[1])):
            draw(line, color=INK, linewidth=1.8 if line % size == 0 else 0.5)
    ax.set(xlim=(0, n), ylim=(n, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def draw_grid(ax: Axes, question: np.ndarray, box: tuple[int, int], answer: np.ndarray, truth: np.ndarray) -> None:
    """A Sudoku grid: clues black and bold, cells of `answer` green where they agree with `truth` and red where not."""
    n = int(round(len(question) ** 0.5))
    grid_lines(ax, n, box)
    for cell in range(n * n):
        row, column = divmod(cell, n)
        if question[cell]:
            text, style = question[cell], {"weight": "bold", "color": INK}
        else:
            right = answer[cell] in (0, truth[cell])
            text, style = answer[cell] or "", {"color": GREEN if right else RED}
            if not right:
                ax.add_patch(plt.Rectangle((column, row), 1, 1, color="#fadbd8", zorder=0))
        ax.text(column + 0.5, row + 0.54, text, ha="center", va="center", fontsize=54 / n, **style)


def grids(
    questions: np.ndarray,
    box: tuple[int, int],
    answers: np.ndarray | None = None,
    truths: np.ndarray | None = None,
    titles: Sequence[str] = (),
) -> Figure:
    """Sudoku grids, six in a row. questions, answers (default: none), truths: (M, T) digits, 0 = blank; box: its (rows,
    columns)."""
    if answers is None:
        answers = truths = np.zeros_like(questions)
    rows, width = -(-len(questions) // 6), min(6, len(questions))
    figure, axes = plt.subplots(rows, width, figsize=(1.5 * width, 1.65 * rows), squeeze=False)
    for ax in axes.flat[len(questions) :]:
        ax.axis("off")
    for ax, question, answer, truth in zip(axes.flat, questions, answers, truths):
        draw_grid(ax, question, box, answer, truth)
    for ax, title in zip(axes.flat, titles):
        ax.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.6)
    return figure


def accuracy_by_step(exact: np.ndarray, cells: np.ndarray, trained_steps: int) -> Figure:
    """Accuracy after each supervision step at test time; a line marks how many steps training used."""
    figure, ax = plt.subplots(figsize=(6, 3.3))
    steps = np.arange(1, len(exact) + 1)
    ax.plot(steps, np.stack((cells, exact), 1), marker="o", markersize=4, label=["blank cells", "whole puzzles"])
    ax.axvline(trained_steps, color="grey", linestyle=":", label="steps in training")
    ax.set(xlabel="supervision steps at test time", ylabel="test accuracy", ylim=(0, 1.02), xticks=steps)
    ax.legend()
    return tidy(figure)


def weight_curves(weights: dict[str, Sequence[float]]) -> Figure:
    """Normalised weights of the H-cycles for each schedule, as small multiples that share their axes."""
    rows = -(-len(weights) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(10, 1.9 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes.flat, weights.items()):
        ax.bar(range(len(values)), np.asarray(values) / np.sum(values), color=BLUE)
        ax.set_title(name, fontsize=10)
    for ax in axes.flat[len(weights) :]:
        ax.axis("off")
    figure.supxlabel("H-cycle", fontsize=10)
    figure.supylabel("weight / sum", fontsize=10)
    return tidy(figure)


def arm_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per arm, the same in every figure for those of `ARM_COLOURS`; others take the spare ones in turn."""
    others = [name for name in dict.fromkeys(names) if name not in ARM_COLOURS]
    return ARM_COLOURS | {name: SPARE_COLOURS[i % len(SPARE_COLOURS)] for i, name in enumerate(others)}


def arms(table: pd.DataFrame, metric: str, label: str, over: str = "flops") -> Figure:
    """Learning curves of arms: mean over the seeds, a band of one standard deviation where there are several."""
    names = list(table["arm"].unique())
    colours = arm_colours(names)
    figure, ax = plt.subplots(figsize=(9, 4))
    for name in names:
        group = table[table["arm"] == name].groupby(over)[metric].agg(["mean", "std"])
        ax.plot(group.index, group["mean"], label=name, color=colours[name])
        if group["std"].notna().any():
            ax.fill_between(
                group.index, group["mean"] - group["std"], group["mean"] + group["std"], color=colours[name], alpha=0.12
            )
    ax.set(xlabel="training FLOPs", ylabel=label, ylim=(-0.02, 1.02))
    ax.legend(**BESIDE)
    return tidy(figure)


def cycles_of_arms(table: pd.DataFrame, H_cycles: int) -> Figure:
    """Loss and gradient norm at each H-cycle at the end of training, one line per arm (mean over the seeds)."""
    last = table.groupby(["arm", "seed"], sort=False).last().groupby("arm", sort=False).mean(numeric_only=True)
    colours = arm_colours(last.index)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    templates = ("train/deep_supervision/step_{}_loss", "train/gradients/step_{}_grad_norm_mean")
    labels = ("training loss (nats per cell)", "gradient norm of one example")
    for ax, template, label in zip(axes, templates, labels):
        for arm, row in last.iterrows():
            cycles = [i for i in range(H_cycles) if row.get(template.format(i), 0) > 0]
            ax.plot(cycles, [row[template.format(i)] for i in cycles], marker="o", label=arm, color=colours[arm])
        drawn = any(len(line.get_xdata()) for line in ax.lines)  # a run shorter than `log_interval` has logged nothing
        ax.set(xlabel="H-cycle", ylabel=label, xticks=range(H_cycles), yscale="log" if drawn else "linear")
    axes[1].legend(**BESIDE)
    return tidy(figure)


RULES = {
    "fixed": {"color": RED, "label": "fixed depth", "linestyle": "--", "marker": "x", "markersize": 4},
    "q_halt": {"color": GREEN, "label": "halting head"},
    "q_margin": {"color": GREEN, "label": "halting head"},
    "halt_probability": {"color": BLUE, "label": "probability to have halted"},
    "halt_mass": {"color": "#8888cc", "label": "sum of the probabilities"},
    "entropy": {"color": "#aa3377", "label": "entropy of the answer"},
    "residual": {"color": "#cc8800", "label": "change of the state"},
    "stable": {"color": "#66ccee", "label": "answer unchanged"},
    "is_valid": {"color": INK, "label": "oracle: answer is valid", "marker": "*"},
    "random": {"color": "#bbbbbb", "label": "random"},
}


def _log_steps(ax: Axes, largest: float) -> None:
    """A logarithmic axis of supervision steps, with the numbers written out."""
    ax.set_xscale("log")
    base = 4 if largest <= 512 else 16
    ticks = [1, 2, 3, 4, 6, 8, 12, 16] if largest <= 16 else [base**i for i in range(10) if base**i <= largest * 1.5]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.tick_params(axis="x", labelsize=8)
    ax.figure.supxlabel("mean supervision steps per puzzle", fontsize=10)


def rule_curves(
    curves: pd.DataFrame, chosen: tuple[float, float] | None = None, mark: str = "chosen on validation"
) -> Figure:
    """Accuracy against mean steps, one line per rule, one panel per label; the point `chosen` (steps, accuracy) is marked, and
    called `mark` in the legend."""
    labels = list(curves["label"].unique())
    rows, columns = -(-len(labels) // 2), min(len(labels), 2)
    size = (8, 4.2) if len(labels) == 1 else (9, 3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat[len(labels) :]:
        ax.axis("off")
    for ax, label in zip(axes.flat, labels):
        panel = curves[curves["label"] == label]
        for rule, group in panel.groupby("rule", sort=False):
            ax.plot(*group.sort_values("mean_steps")[["mean_steps", "accuracy"]].to_numpy().T, **RULES[rule])
        if chosen:
            ax.plot(*chosen, "o", markersize=10, markerfacecolor="none", color="black", label=mark)
        ax.set_title(label)
        _log_steps(ax, panel["mean_steps"].max())
    for ax in axes[:, 0]:
        ax.set_ylabel("puzzles solved")
    if len(labels) == 1:
        axes[0, 0].legend(**BESIDE)
    else:
        legend_below(figure, axes[0, 0])
    return tidy(figure)


def stopping_steps(steps: np.ndarray, exact: np.ndarray, difficulty: np.ndarray, name: str, max_steps: int) -> Figure:
    """Left how many puzzles stop at each step, solved and not; right the mean stopping step by difficulty, with its
    standard error and the number of puzzles. steps, exact, difficulty: (N,)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    bins = np.arange(1, max_steps + 2) - 0.5
    left.hist([steps[exact], steps[~exact]], bins, stacked=True, color=[GREEN, RED], label=["solved", "not solved"])
    left.set(xlabel="step at which the rule stops", ylabel="puzzles")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend()
    table = pd.DataFrame({"x": difficulty, "steps": steps}).groupby("x")["steps"].agg(["mean", "sem", "size"])
    table = table[table["size"] >= 5]
    right.errorbar(range(len(table)), table["mean"], table["sem"].fillna(0), marker="o", capsize=3, color=GREEN)
    right.set_xticks(range(len(table)), [f"{x:g}\n({n})" for x, n in zip(table.index, table["size"])])
    right.set(xlabel=f"{name} (number of puzzles)", ylabel="mean stopping step")
    return tidy(figure)


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Accuracy against the halting head's probability; the size of a point is the number of answers (bins of fewer than ten
    are left out). tables: name -> table of `trm.puzzles.halting_study.calibration`."""
    figure, ax = plt.subplots(figsize=(5, 4))
    ax.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    for (name, table), colour in zip(tables.items(), plt.cm.viridis(np.linspace(0.1, 0.85, len(tables)))):
        table = table[table["count"] >= 10]
        ax.plot(table["probability"], table["right"], color=colour, linewidth=1, label=name)
        size = 10 + 150 * table["count"] / table["count"].max()
        ax.scatter(table["probability"], table["right"], s=size, color=colour, alpha=0.6)
    ax.set(xlabel="probability by the halting head", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="upper left", fontsize=8)
    return tidy(figure)


# Style of each selection among attempts, as in `trm.puzzles.attempts.SELECTIONS`; the oracle takes a correct one.
SELECTIONS = {
    "confidence": GREEN, "residual": "#cc8800", "agreement": BLUE, "cell vote": "#66ccee", "rule check": INK,
    "oracle": "#bbbbbb",
}  # fmt: skip


STARTED = {"symmetry": "other symmetries", "noise": "noise"}


def compute_curves(table: pd.DataFrame, selections: Sequence[str] = tuple(SELECTIONS)) -> Figure:
    """Puzzles solved against test-time compute, one row of panels per start that was tried, one column per label.

    Lines are means over the seeds. table: rows of `trm.puzzles.halting_study.compute_curve`.
    """
    labels = list(table["label"].unique())
    starts = {kind: name for kind, name in STARTED.items() if kind in set(table["kind"])}
    size = (3.4 * len(labels) + 2, 3.2 * len(starts))
    figure, axes = plt.subplots(len(starts), len(labels), figsize=size, squeeze=False, sharex=True, sharey="col")
    means = table.fillna({"selection": ""}).groupby(["label", "kind", "selection", "compute"])["accuracy"].mean()
    for column, label in zip(axes.T, labels):
        column[0].set_title(label)
        for ax, start in zip(column, starts):
            ax.plot(means[label, "steps", ""], "x--", color=RED, label="more steps")
            for selection in (s for s in selections if (label, start, s) in means.index):
                style = {"color": SELECTIONS[selection], "linestyle": ":" if selection == "oracle" else "-"}
                ax.plot(means[label, start, selection], marker="o", markersize=4, label=selection, **style)
            _log_steps(ax, table["compute"].max())
    for ax, start in zip(axes[:, 0], starts.values()):
        ax.set_ylabel(f"puzzles solved,\nattempts from {start}")
    if len(labels) > 2:  # beside it would leave no place for the numbers on the axes
        legend_below(figure, axes[-1, 0])
    else:
        axes[0, -1].legend(*axes[-1, 0].get_legend_handles_labels(), **BESIDE)
    return tidy(figure)


def steps_and_restarts(table: pd.DataFrame, flops: dict[str, int]) -> Figure:
    """Puzzles solved against the compute of a puzzle, by more steps and by restarts until an answer is valid: one panel per
    label. table: rows of `compute_curve` and of `retry_rows`; flops: of a supervision step, by label."""
    labels = [label for label in table["label"].unique() if label in flops]
    figure, axes = plt.subplots(1, len(labels), figsize=(3.4 * len(labels) + 2, 3.2), squeeze=False, sharey=True)
    for ax, label in zip(axes[0], labels):
        part = table[table["label"] == label]
        for kind, style in (("steps", {"fmt": "x--", "color": RED}), ("until valid", {"fmt": "o-", "color": BLUE})):
            by_compute = part[part["kind"] == kind].groupby("compute")["accuracy"].mean()
            name = {"steps": "more steps", "until valid": "restarts until valid"}[kind]
            ax.plot(by_compute.index * flops[label] / 1e9, by_compute, style.pop("fmt"), label=name, **style)
        ax.set(title=label, xscale="log", xlabel="GFLOPs per puzzle")
    axes[0, 0].set_ylabel("puzzles solved")
    axes[0, -1].legend(**BESIDE)
    return tidy(figure)


def halting_arms(table: pd.DataFrame) -> Figure:
    """Accuracy and mean steps of each arm under the rule it was taught, and its accuracy with all steps: means over the seeds
    with standard deviations. table: rows of `trm.puzzles.halting_study.arm_row`."""
    arms = table.groupby("arm", sort=False)[["taught_mean_steps", "taught_accuracy", "accuracy_all_steps"]]
    mean, std = arms.mean(), arms.std().fillna(0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 0.5 + 0.34 * max(len(mean), 5)), sharey=True)
    y = np.arange(len(mean))[::-1]
    for ax, column, style in (
        (left, "taught_accuracy", {"color": GREEN, "label": "stopped by its own rule"}),
        (left, "accuracy_all_steps", {"color": RED, "label": "after all steps", "markerfacecolor": "none"}),
        (right, "taught_mean_steps", {"color": GREEN}),
    ):
        ax.errorbar(mean[column], y, xerr=std[column], fmt="o", capsize=3, **style)
    left.set(xlabel="puzzles solved", yticks=y, yticklabels=list(mean.index), xlim=(0, 1.02))
    right.set(xlabel="mean supervision steps per puzzle", xlim=(0, 1.03 * right.dataLim.x1))
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, frameon=False, fontsize=9)
    return tidy(figure)


def halting_front(table: pd.DataFrame, front: pd.DataFrame) -> Figure:
    """Accuracy against mean steps: a dot per arm under its own rule, a line from it to the entropy rule on the same model
    (means over the seeds, colour by method), and arm q under its rules. table: `arm_row`s; front: the `rule_curve`s of arm q
    with a column seed."""
    figure, ax = plt.subplots(figsize=(8, 4.2))
    grid = np.geomspace(1, front["mean_steps"].max(), 60)
    for rule, curves in front.groupby("rule", sort=False):
        lines = [np.interp(grid, *c.sort_values("mean_steps")[["mean_steps", "accuracy"]].T.to_numpy())
                 for _, c in curves.groupby("seed")]  # fmt: skip
        ax.plot(grid, np.mean(lines, 0), **RULES[rule] | {"marker": "", "label": f"q: {RULES[rule]['label']}"})
    means = table.groupby("arm", sort=False)[
        ["taught_mean_steps", "taught_accuracy", "taught_entropy_same_steps"]
    ].mean()
    colours = {"act": BLUE, "ponder": "#aa3377", "graves": "#cc8800", "q|annealed|depth": GREEN}
    for method, colour in colours.items():
        some = means[means.index.str.match(f"({method})")]
        steps, own, entropy = some.to_numpy().T
        ax.vlines(steps, own, entropy, color=colour, linewidth=0.8)
        ax.plot(steps, own, "o", color=colour, markersize=5, label=method.replace("|", ", "))
    ax.plot([], [], color=INK, linewidth=0.8, label="to entropy, same model")
    ax.set(xlabel="mean supervision steps per puzzle", ylabel="puzzles solved")
    ax.legend(**BESIDE)
    return tidy(figure)


def ponder_sweep(table: pd.DataFrame) -> Figure:
    """Mean steps and accuracy under the taught rule against `ponder_coef`, for the arms act:<coefficient>: one dot per seed,
    a line through the means. The shaded range is the one that Pointer-over-Heads recommends."""
    sweep = table[table["arm"].str.match(r"act:")].sort_values("ponder_coef")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    labels = {"taught_mean_steps": "mean supervision steps", "taught_accuracy": "puzzles solved"}
    for ax, (column, label) in zip(axes, labels.items()):
        ax.axvspan(1e-4, 5e-3, color="#eeeeee")
        ax.plot(sweep["ponder_coef"], sweep[column], "o", color=BLUE, markersize=4)
        ax.plot(sweep.groupby("ponder_coef")[column].mean(), color=BLUE)
        ax.set(xscale="log", xlabel="ponder_coef (nats per step)", ylabel=label)
    return tidy(figure)


def _panels(count: int, size: float) -> tuple[Figure, np.ndarray]:
    """So many axes without ticks, six in a row."""
    rows, width = -(-count // 6), min(6, count)
    figure, axes = plt.subplots(rows, width, figsize=(size * width, (size + 0.2) * rows), squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, axes.flat[:count]


MAZE_COLOURS = ("#ffffff", INK, "#f4f4f4", "#cfe3cf", "#cfe3cf")  # of pad, wall, open, S, G


def mazes(
    inputs: np.ndarray, answers: np.ndarray, truths: np.ndarray | None = None, titles: Sequence[str] = ()
) -> Figure:
    """Mazes, six in a row, with the path of `answers`: green where `truths` have it too (None: everywhere), red where they do
    not; a cross where they have one that the answer lacks. All (M, T) token ids of `trm.puzzles.maze`."""
    truths = answers if truths is None else truths
    side, path = round(inputs.shape[1] ** 0.5), len(MAZE_COLOURS)
    figure, axes = _panels(len(inputs), 1.5)
    for ax, question, answer, truth in zip(axes, inputs, answers, truths):
        picture = np.array([to_rgb(c) for c in MAZE_COLOURS])[question]
        picture[(answer == path) & (truth == path)] = to_rgb("#7fbf8f")
        picture[(answer == path) & (truth != path)] = to_rgb("#e58b80")
        ax.imshow(picture.reshape(side, side, 3), interpolation="nearest")
        for token, text in ((3, "S"), (4, "G")):
            for row, column in np.argwhere(question.reshape(side, side) == token):
                ax.text(column, row, text, ha="center", va="center", fontsize=60 / side, color=INK)
        for row, column in np.argwhere(((truth == path) & (answer != path)).reshape(side, side)):
            ax.text(column, row, "×", ha="center", va="center", fontsize=60 / side, color=RED)
    for ax, title in zip(axes, titles):
        ax.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.6)
    return figure


# The colours 0 to 9 of ARC, as its own pages show them.
ARC_COLOURS = (
    "#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25",
)  # fmt: skip


def arc_grids(grids: Sequence[np.ndarray], titles: Sequence[str] = ()) -> Figure:
    """Grids of ARC, (rows, columns) of colours 0 to 9 each, six in a row; an empty one leaves its place empty."""
    figure, axes = _panels(len(grids), 1.4)
    for ax, grid in zip(axes, grids):
        if grid.size:
            ax.imshow(grid, cmap=ListedColormap(ARC_COLOURS), vmin=0, vmax=9, interpolation="nearest")
            ax.set(xticks=np.arange(grid.shape[1] + 1) - 0.5, yticks=np.arange(grid.shape[0] + 1) - 0.5)
            ax.set(xticklabels=[], yticklabels=[])
            ax.grid(color="#666666", linewidth=0.5)
            ax.tick_params(length=0)
    for ax, title in zip(axes, titles):
        ax.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.6)
    return figure


def steps_of_tasks(
    by_step: dict[str, np.ndarray], halted: dict[str, tuple[float, float]], trained_steps: int
) -> Figure:
    """Share of examples that are exactly right after each supervision step at test time, one line per task; a star where a
    halting head stops them. halted: task -> (that share, mean steps), of tasks that have one."""
    figure, ax = plt.subplots(figsize=(7.5, 3.3))
    for name, values in by_step.items():
        (line,) = ax.plot(np.arange(1, len(values) + 1), values, marker="o", markersize=4, label=name)
        if name in halted:
            ax.plot(*halted[name][::-1], "*", markersize=13, color=line.get_color())
    if halted:
        ax.plot([], [], "*", color=INK, markersize=9, label="stopped by halting head")
    ax.axvline(trained_steps, color="grey", linestyle=":", label="most steps in training")
    ax.set(xlabel="supervision steps at test time", ylabel="exactly right", ylim=(0, 1.04))
    ax.legend(**BESIDE)
    return tidy(figure)
