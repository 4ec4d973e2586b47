"""What chapters teach with: source shown from the package itself, and drawn diagrams."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from trm.plots import INK
from trm.progress import kernel, say

FILLS = {"state": "#dbe9f6", "net": "#fde5cd", "data": "#eeeeee", "loss": "#f8d7d3", "": "none"}


def source_of(thing: Callable | type) -> str:
    """The source of a function or class without its docstring, at the left margin."""
    text = textwrap.dedent(inspect.getsource(thing))
    (definition,) = ast.parse(text).body
    lines = text.splitlines()
    if ast.get_docstring(definition) is not None:
        words = definition.body[0]
        del lines[words.lineno - 1 : words.end_lineno]
    return "\n".join(lines)


def show_source(*things: Callable | type) -> None:
    """Show the source of functions or classes of the package, each under the name of its file. A script shows nothing."""
    for thing in things if kernel() else ():
        root = Path(__file__).parent.parent
        path = Path(inspect.getsourcefile(inspect.unwrap(thing))).relative_to(root).as_posix()  # below torch.no_grad
        source = source_of(thing)
        say(f"`{path}`\n\n```python\n{source}\n```", f"{path}\n\n{source}")


def diagram(
    boxes: dict[str, tuple[float, float, str, str]], arrows: Sequence[tuple], size: tuple[float, float] = (9.0, 3.0)
) -> Figure:
    """Boxes with arrows between them.

    boxes: name -> (x, y, text, kind of `FILLS`); an empty kind draws words without a box. arrows: (from, to), (from, to, words)
    or (from, to, words, bend), where a bend of 0.3 makes an arc.
    """
    figure, ax = plt.subplots(figsize=size)
    figure.set_label("Diagram: " + ", ".join(dict.fromkeys(text for _, _, text, _ in boxes.values())))
    ax.axis("off")
    xs, ys = zip(*((x, y) for x, y, _, _ in boxes.values()))
    ax.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.5, max(ys) + 0.5))
    drawn = {}
    for name, (x, y, text, kind) in boxes.items():
        style = {
            "boxstyle": "round,pad=0.45",
            "facecolor": FILLS[kind],
            "edgecolor": INK if kind else "none",
            "linewidth": 0.8,
        }
        drawn[name] = ax.text(x, y, text, ha="center", va="center", fontsize=9.5, color=INK, bbox=style, zorder=3)
    figure.tight_layout()
    figure.canvas.draw()  # only then do the boxes know their size, which arrows end at
    for start, end, *rest in arrows:
        words, bend = (*rest, "", 0.0)[0], rest[1] if len(rest) > 1 else 0.0
        ends = [drawn[name].get_position() for name in (start, end)]
        patches = [drawn[name].get_bbox_patch() for name in (start, end)]
        # above the boxes (zorder 3): these know their size in a saved figure only once they are drawn
        arrow = ax.add_patch(FancyArrowPatch(
            *ends, patchA=patches[0], patchB=patches[1], connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>",
            mutation_scale=11, color="#555555", linewidth=1, shrinkA=2, shrinkB=2, zorder=3.5,
        ))  # fmt: skip
        if words:
            tail, control, head = arrow.get_path().vertices[:3]  # of the curve between the boxes
            ax.annotate(words, (tail + 2 * control + head) / 4, ha="center", va="center", fontsize=8, color="#555555", zorder=4,
                        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"})  # fmt: skip
    return figure
