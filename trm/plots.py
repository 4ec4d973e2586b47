"""Figures of the book: from records and arrays to matplotlib, no training and no model."""

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm.progress import kernel

WIDEST = 9.0  # inches of a figure; a notebook shows 100 pixels an inch
INK, RIGHT, WRONG = "#222222", "#1b7f3b", "#c0392b"  # of text; of right and wrong answers


def series(history: Sequence[dict], name: str, over: str = "step") -> tuple[list[float], list[float]]:
    """The records that hold `name`, as x = `over` and y = `name`; missing values (null) are left out."""
    found = [(record[over], record[name]) for record in history if record.get(name) is not None]
    return [x for x, _ in found], [y for _, y in found]


def training_loss(history: Sequence[dict]) -> Figure:
    """The total training loss over optimizer steps, of any training; empty axes before its first record."""
    figure, ax = plt.subplots(figsize=(6, 3))
    ax.plot(*series(history, "train/total_loss"))
    ax.set(xlabel="optimizer step", ylabel="training loss")
    return tidy(figure)


def learning_curves(history: Sequence[dict]) -> Figure:
    """Left the losses, right the accuracies on the validation part, over optimizer steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
    for name, label in (("train/supervised_loss", "answer"), ("train/act_loss", "halting")):
        left.plot(*series(history, name), label=label)
    left.set(xlabel="optimizer step", ylabel="training loss (nats per cell)", yscale="log")
    left.legend()
    for name, label in (("valid/cell_accuracy", "blank cells"), ("valid/exact_accuracy", "whole puzzles")):
        right.plot(*series(history, name), marker="o", markersize=3, label=label)
    right.set(xlabel="optimizer step", ylabel="accuracy on validation puzzles", ylim=(0, 1.02))
    right.legend()
    return tidy(figure)


def per_cycle(history: Sequence[dict], H_cycles: int, what: str = "loss") -> Figure:
    """The loss (`what="loss"`) or the gradient norm (`"gradient"`) after each H-cycle, over optimizer steps."""
    name, label = {
        "loss": ("train/deep_supervision/step_{}_loss", "training loss (nats per cell)"),
        "gradient": ("train/gradients/step_{}_grad_norm_mean", "gradient norm at the answer, one example"),
    }[what]
    figure, ax = plt.subplots(figsize=(6, 3.3))
    for i in range(H_cycles):
        ax.plot(*series(history, name.format(i)), label=f"H-cycle {i}", color=plt.cm.viridis(i / max(H_cycles, 2)))
    ax.set(xlabel="optimizer step", ylabel=label, yscale="log")
    ax.legend()
    return tidy(figure)


def tidy(figure: Figure) -> Figure:
    """Light grid, no box, not too wide for a window: the look of every figure."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(min(width, WIDEST), height)
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
        ax.set_axisbelow(True)
    figure.tight_layout()
    return figure


def legend_below(figure: Figure, ax: Axes, columns: int = 4) -> None:
    """One legend for all panels, that of `ax`, below the figure."""
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": columns, "frameon": False}
    figure.legend(*ax.get_legend_handles_labels(), **place)


def describe(figure: Figure) -> str:
    """What a figure shows, in words, for readers who do not see it: its own label (`figure.set_label("...")`), else its titles,
    what its axes measure, and the names of its lines, points and bars. Signs of formulas are left out."""
    said = [figure.get_suptitle()]
    for ax in figure.axes:
        x, y = ax.get_xlabel(), ax.get_ylabel()
        ticks = [label.get_text() for label in (*ax.get_xticklabels(), *ax.get_yticklabels())]
        ticks = [tick for tick in ticks if "mathdefault" not in tick]  # powers of ten on a logarithmic axis
        names = ax.get_legend_handles_labels()[1] + [tick for tick in ticks if re.search(r"[a-z]{2}", tick)]
        panel = [ax.get_title(), f"{y} over {x}" if x and y else x or y, ", ".join(dict.fromkeys(names))]
        said.append(": ".join(filter(None, panel)))
    words = figure.get_label() or "; ".join(dict.fromkeys(filter(None, said)))
    words = re.sub(r"[$\\{}]", "", words.replace(r"\ldots", "..."))
    return " ".join(words.split()) or "A figure"


def png(figure: Figure) -> bytes:
    """A figure as PNG, 100 pixels an inch; it is closed, else the notebook would show it a second time."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, bbox_inches="tight")
    plt.close(figure)
    return drawn.getvalue()


def explore(draw: Callable[..., Figure], **sliders: tuple[int, int, int] | ipywidgets.Widget) -> None:
    """Show `draw(**values)` under a slider for each of its arguments. The picture is replaced as a slider moves; where no
    widget is shown (a page, an executed notebook, GitHub), the first picture is. A script shows nothing.

    `ipywidgets.interact` is not used: its output area talks back while a cell runs, and papermill then waits for ever now and
    then (github.com/jupyter/nbclient/issues/312).

    sliders: argument -> (lowest, highest, first value), or any widget with a `value`.
    """
    if kernel():
        box, picture, words = slider_box(draw, **sliders)
        show_widget(box, picture, f"{words} (sliders: {', '.join(sliders)})")


def show_widget(box: ipywidgets.Widget, picture: bytes, words: str) -> None:
    """Show a widget; where none is shown, a PNG in its place, or words. A script shows nothing."""
    if kernel():
        from IPython.display import display

        fallback = {"image/png": base64.b64encode(picture).decode(), "text/plain": words}
        display(box._repr_mimebundle_() | fallback, raw=True)


def show_gif(picture: bytes, words: str) -> None:
    """Show a GIF, which moves in a notebook and on a page; `words` say what it shows. A script shows nothing."""
    if kernel():
        from IPython.display import display

        shown = {"image/gif": base64.b64encode(picture).decode(), "text/plain": words}
        display(shown, raw=True, metadata={"image/gif": {"alt": words}})


def image_tag(picture: bytes, words: str) -> str:
    """A PNG as HTML in its own size, for a widget; ipywidgets' own image has no room for what the picture shows in words."""
    data = base64.b64encode(picture).decode()
    return f'<img style="max-width: 100%" alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def slider_box(draw: Callable[..., Figure], **sliders: Any) -> tuple[ipywidgets.VBox, bytes, str]:
    """What `explore` shows: the sliders and below them the picture; the first picture as PNG, and what it shows in words."""
    controls = {
        name: ipywidgets.IntSlider(min=found[0], max=found[1], value=found[2], description=name)
        if isinstance(found, tuple)
        else found
        for name, found in sliders.items()
    }
    picture = ipywidgets.HTML()

    def redraw(_=None) -> tuple[bytes, str]:
        figure = draw(**{name: control.value for name, control in controls.items()})
        words, drawn = describe(figure), png(figure)
        picture.value = image_tag(drawn, words)
        return drawn, words

    for control in controls.values():
        control.layout.width = "min(100%, 40rem)"
        control.observe(redraw, names="value")
    return ipywidgets.VBox([*controls.values(), picture]), *redraw()


if kernel():  # figures of a notebook are sharp on every screen; beside each stands what it shows
    from matplotlib_inline.config import InlineBackend

    InlineBackend.instance(parent=kernel().shell).figure_formats = {"retina"}
    kernel().shell.display_formatter.formatters["text/plain"].for_type(
        Figure, lambda figure, printer, _: printer.text(describe(figure))
    )
