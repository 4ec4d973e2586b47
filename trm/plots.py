"""Figures of the book: from records and arrays to matplotlib, no training and no model."""

import io
from collections.abc import Callable, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, RIGHT, WRONG, GIVEN = "#222222", "#1b7f3b", "#c0392b", "#222222"


def series(history: Sequence[dict], name: str, over: str = "step") -> tuple[list[float], list[float]]:
    """The records that hold `name`, as x = `over` and y = `name`; missing values (null) are left out."""
    found = [(record[over], record[name]) for record in history if record.get(name) is not None]
    return [x for x, _ in found], [y for _, y in found]


def draw_grid(
    ax: Axes,
    question: np.ndarray,
    box: tuple[int, int],
    answer: np.ndarray | None = None,
    truth: np.ndarray | None = None,
) -> None:
    """A Sudoku grid. question, answer, truth: (T,) digits, 0 = blank; box: (rows, columns) of a box.

    Clues are black and bold; cells of `answer` green where they agree with `truth` and red where not.
    """
    n = int(round(len(question) ** 0.5))
    for line in range(n + 1):
        for horizontal, size in ((True, box[0]), (False, box[1])):
            draw = ax.axhline if horizontal else ax.axvline
            draw(line, color=INK, linewidth=1.8 if line % size == 0 else 0.5)
    for cell in range(n * n):
        row, column = divmod(cell, n)
        text, style = "", {}
        if question[cell]:
            text, style = str(question[cell]), {"weight": "bold", "color": GIVEN}
        elif answer is not None and answer[cell]:
            good = truth is None or answer[cell] == truth[cell]
            text, style = str(answer[cell]), {"color": RIGHT if good else WRONG}
            if not good:
                ax.add_patch(plt.Rectangle((column, row), 1, 1, color="#fadbd8", zorder=0))
        ax.text(column + 0.5, row + 0.54, text, ha="center", va="center", fontsize=66 / n, **style)
    ax.set(xlim=(0, n), ylim=(n, 0), aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def grids(
    questions: np.ndarray,
    box: tuple[int, int],
    answers: np.ndarray | None = None,
    truths: np.ndarray | None = None,
    titles: Sequence[str] = (),
    columns: int = 6,
) -> Figure:
    """Several Sudoku grids side by side, (M, T) digits each."""
    rows = -(-len(questions) // columns)
    width = min(columns, len(questions))
    figure, axes = plt.subplots(rows, width, figsize=(1.85 * width, 2.05 * rows), squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i >= len(questions):
            ax.axis("off")
            continue
        answer, truth = (None if part is None else part[i] for part in (answers, truths))
        draw_grid(ax, questions[i], box, answer, truth)
        if i < len(titles):
            ax.set_title(titles[i], fontsize=9)
    figure.tight_layout(pad=0.6)
    return figure


def learning_curves(history: Sequence[dict]) -> Figure:
    """Left the losses, right the accuracies on the validation part, over optimizer steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
    for name, label in (("train/supervised_loss", "answer"), ("train/act_loss", "halting")):
        left.plot(*series(history, name), label=label)
    left.set(xlabel="optimizer step", ylabel="training loss (nats a cell)", yscale="log")
    left.legend()
    for name, label in (("valid/cell_accuracy", "blank cells"), ("valid/exact_accuracy", "whole puzzles")):
        right.plot(*series(history, name), marker="o", markersize=3, label=label)
    right.set(xlabel="optimizer step", ylabel="accuracy on validation puzzles", ylim=(0, 1.02))
    right.legend()
    return tidy(figure)


def per_cycle(history: Sequence[dict], H_cycles: int, what: str = "loss") -> Figure:
    """The loss (`what="loss"`) or the gradient norm (`"gradient"`) after each H-cycle, over optimizer steps."""
    name, label = {
        "loss": ("train/deep_supervision/step_{}_loss", "training loss (nats a cell)"),
        "gradient": ("train/gradients/step_{}_grad_norm_mean", "gradient norm at the answer, one example"),
    }[what]
    figure, ax = plt.subplots(figsize=(6, 3.3))
    for i in range(H_cycles):
        ax.plot(*series(history, name.format(i)), label=f"H-cycle {i}", color=plt.cm.viridis(i / max(H_cycles, 2)))
    ax.set(xlabel="optimizer step", ylabel=label, yscale="log")
    ax.legend()
    return tidy(figure)


def accuracy_by_step(exact: np.ndarray, cells: np.ndarray, trained_steps: int) -> Figure:
    """Accuracy after each supervision step at test time; a line marks how many steps training used."""
    figure, ax = plt.subplots(figsize=(6, 3.3))
    steps = np.arange(1, len(exact) + 1)
    ax.plot(steps, cells, marker="o", markersize=4, label="blank cells")
    ax.plot(steps, exact, marker="o", markersize=4, label="whole puzzles")
    ax.axvline(trained_steps, color="grey", linestyle=":", label="steps in training")
    ax.set(xlabel="supervision steps at test time", ylabel="test accuracy", ylim=(0, 1.02), xticks=steps)
    ax.legend()
    return tidy(figure)


def weight_curves(weights: dict[str, Sequence[float]]) -> Figure:
    """Normalised weights of the steps for each schedule, as small multiples that share their axes."""
    columns = 4
    rows = -(-len(weights) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(10, 1.9 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes.flat, weights.items()):
        share = np.asarray(values) / np.sum(values)
        ax.bar(range(len(share)), share, color="#4477aa")
        ax.set_title(name, fontsize=10)
    for ax in axes.flat[len(weights) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("H-cycle")
    for ax in axes[:, 0]:
        ax.set_ylabel("weight / sum")
    return tidy(figure)


def tidy(figure: Figure) -> Figure:
    """Light grid, no box: the look of every figure."""
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
        ax.set_axisbelow(True)
    figure.tight_layout()
    return figure


def _colours(names: Sequence[str]) -> dict[str, tuple]:
    return {name: plt.cm.turbo(0.05 + 0.9 * i / max(len(names) - 1, 1)) for i, name in enumerate(names)}


def arms(table: pd.DataFrame, metric: str, label: str, over: str = "compute") -> Figure:
    """Learning curves of arms: mean over the seeds, a band of one standard deviation where there are several."""
    names = list(table["arm"].unique())
    colours = _colours(names)
    figure, ax = plt.subplots(figsize=(9, 4))
    for name in names:
        group = table[table["arm"] == name].groupby(over)[metric].agg(["mean", "std"])
        ax.plot(group.index, group["mean"], label=name, color=colours[name])
        if group["std"].notna().any():
            ax.fill_between(
                group.index, group["mean"] - group["std"], group["mean"] + group["std"], color=colours[name], alpha=0.12
            )
    ax.set(xlabel="network applications an example (a backward pass counts as two)", ylabel=label, ylim=(-0.02, 1.02))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return tidy(figure)


def cycles_of_arms(table: pd.DataFrame, H_cycles: int) -> Figure:
    """Loss and gradient norm at each H-cycle at the end of training, one line an arm (mean over the seeds)."""
    last = table.groupby(["arm", "seed"], sort=False).last().groupby("arm", sort=False).mean()
    colours = _colours(list(last.index))
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    templates = ("train/deep_supervision/step_{}_loss", "train/gradients/step_{}_grad_norm_mean")
    for ax, template, label in zip(axes, templates, ("training loss (nats a cell)", "gradient norm, one example")):
        for arm, row in last.iterrows():
            cycles = [i for i in range(H_cycles) if row.get(template.format(i), 0) > 0]
            ax.plot(cycles, [row[template.format(i)] for i in cycles], marker="o", label=arm, color=colours[arm])
        ax.set(xlabel="H-cycle", ylabel=label, xticks=range(H_cycles), yscale="log")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return tidy(figure)


def explore(draw: Callable[..., Figure], **sliders: tuple[int, int, int] | ipywidgets.Widget) -> ipywidgets.VBox:
    """`draw(**values)` under a slider for each of its arguments, for JupyterLab. The picture is replaced as a slider moves.

    `ipywidgets.interact` is not used: its output area talks back while a cell runs, and papermill then waits for ever now and
    then (github.com/jupyter/nbclient/issues/312).

    sliders: argument -> (lowest, highest, first value), or any widget with a `value`.
    """
    controls = {
        name: ipywidgets.IntSlider(min=found[0], max=found[1], value=found[2], description=name)
        if isinstance(found, tuple)
        else found
        for name, found in sliders.items()
    }
    picture = ipywidgets.Image(format="png")

    def redraw(_=None) -> None:
        figure = draw(**{name: control.value for name, control in controls.items()})
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=90, bbox_inches="tight")
        plt.close(figure)  # else the notebook would show it a second time
        picture.value = drawn.getvalue()

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])
