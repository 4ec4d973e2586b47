"""Chapter 00: what a trained model writes, and how sure it is, step by step, on one puzzle."""

import html
import io
from dataclasses import dataclass

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trm.errors import UserError
from trm.model import TRM
from trm.plots import INK, RIGHT, WRONG, describe, image_tag, png, tidy
from trm.puzzles.command import check, retry, words_of
from trm.puzzles.exact import text_of
from trm.puzzles.figures import grid_lines
from trm.puzzles.solve import ActiveBatch, check_size, load_model, shipped_model
from trm.puzzles.sudoku import digits, is_solution, tokens
from trm.puzzles.text import Question, parse_question

SURE, UNSURE = np.array([0.10, 0.36, 0.62]), np.array([0.80, 0.86, 0.92])  # colours of a digit by its probability


@dataclass(frozen=True)
class Watched:
    """S steps on one puzzle of T cells."""

    question: Question
    digits: np.ndarray  # (S, T)
    probability: np.ndarray  # (S, T) of the digit that is written
    halting: np.ndarray  # (S,) probability that the answer is right, by the halting head
    entropy: np.ndarray  # (S,) nats, mean over the cells
    is_valid: np.ndarray  # (S,) bool: the answer obeys the rules

    @property
    def solved_at(self) -> int:
        """The first step, from 1, whose answer obeys the rules; 0: none."""
        return int(self.is_valid.argmax()) + 1 if self.is_valid.any() else 0


def model_for(question: Question, model_path: str = "") -> TRM:
    """The model in a folder, or the one that ships for the size. UserError: none, or one for another size."""
    model = load_model(model_path) if model_path else shipped_model(question.shape.name)[0]
    check_size(model, question.shape, model_path)
    return model


@torch.no_grad()
def watch(model: TRM, question: Question, steps: int) -> Watched:
    """`steps` supervision steps of a model on a puzzle."""
    given = np.array([question.digits], np.uint8)
    batch = ActiveBatch.begin(model, torch.from_numpy(tokens(given)), None, None)
    found = []
    for _ in range(steps):
        batch, logits, signals = batch.step(model)
        answer, sure = digits(batch.predictions[0].numpy()), logits[0].float().softmax(-1).amax(-1).numpy()
        right = float(signals["q_halt"].sigmoid())
        found.append(
            (answer, sure, right, float(signals["entropy"]), bool(is_solution(question.shape, given[0], answer)))
        )
    return Watched(question, *(np.array(values) for values in zip(*found)))


def draw_step(ax: Axes, seen: Watched, step: int) -> None:
    """The grid after a step (0: before the first): clues black, digits the darker the surer, those that changed in a box."""
    shape, clues = seen.question.shape, np.array(seen.question.digits)
    n = shape.size
    grid_lines(ax, n, (shape.box_rows, shape.box_cols))
    for cell in range(n * n):
        row, column = divmod(cell, n)
        place = {"x": column + 0.5, "y": row + 0.54, "ha": "center", "va": "center", "fontsize": 120 / n}
        if clues[cell]:
            ax.text(s=clues[cell], color=INK, weight="bold", **place)
        elif step:
            sure = seen.probability[step - 1, cell]
            ax.text(s=seen.digits[step - 1, cell], color=np.clip(UNSURE + (SURE - UNSURE) * sure, 0, 1), **place)
            if step > 1 and seen.digits[step - 1, cell] != seen.digits[step - 2, cell]:
                ax.add_patch(
                    plt.Rectangle(
                        (column + 0.08, row + 0.08), 0.84, 0.84, fill=False, edgecolor="#e08a1e", linewidth=1.4
                    )
                )
    right = bool(step) and bool(seen.is_valid[step - 1])
    words = f"after step {step}: {'obeys the rules' if right else 'not yet right'}" if step else "the puzzle"
    ax.set_title(words, fontsize=11, color=RIGHT if right else INK)


def frame(seen: Watched, step: int) -> Figure:
    """One step as a figure."""
    figure, ax = plt.subplots(figsize=(4.2, 4.5))
    draw_step(ax, seen, step)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.92)
    return figure


def blank_grid(question: Question) -> Figure:
    """The puzzle alone."""
    none = np.zeros((0, question.shape.cells))
    return frame(Watched(question, none, none, *[np.zeros(0)] * 2, np.zeros(0, bool)), 0)


def animation(seen: Watched, seconds: float = 0.7) -> bytes:
    """The steps as a GIF that repeats: the puzzle, then every step until one after the first right answer, which stays."""
    from PIL import Image

    last = min(seen.solved_at + 1 if seen.solved_at else len(seen.digits), len(seen.digits))
    pictures = []
    for step in range(last + 1):
        figure = frame(seen, step)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=80)
        plt.close(figure)
        pictures.append(Image.open(drawn).convert("RGB").quantize(64))
    durations = [int(1000 * seconds)] * last + [int(4000 * seconds)]
    made = io.BytesIO()
    pictures[0].save(made, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)
    return made.getvalue()


def signals(seen: Watched, threshold: float) -> Figure:
    """How sure the model is after each step, and where rules would stop it: the halting head at 1/2, entropy at `threshold`."""
    steps = np.arange(1, len(seen.digits) + 1)
    blank = np.array(seen.question.digits) == 0
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    asked = blank if blank.any() else ~blank
    left.plot(steps, seen.probability[:, asked].mean(1), marker="o", markersize=3, label="mean probability of a digit")
    left.plot(steps, seen.halting, marker="s", markersize=3, label="halting head: is it right?")
    left.axhline(0.5, color="grey", linestyle=":", linewidth=1)
    left.set(xlabel="supervision step", ylabel="probability", ylim=(-0.02, 1.02))
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.plot(steps, seen.entropy, color="#aa3377", marker="o", markersize=3, label="entropy of the answer")
    right.axhline(threshold, color="grey", linestyle=":", linewidth=1, label="threshold")
    right.set(xlabel="supervision step", ylabel="nats per cell", yscale="log")
    for ax in (left, right):
        if seen.solved_at:
            ax.axvline(seen.solved_at, color=RIGHT, linewidth=1, label="first right answer")
        ax.legend(fontsize=8)
    return tidy(figure)


def stops(seen: Watched, threshold: float) -> dict[str, int]:
    """The step, from 1, at which each rule would stop; 0: none does."""
    rules = {"halting head above 1/2": seen.halting > 0.5, f"entropy below {threshold:g}": seen.entropy <= threshold}
    return {name: int(met.argmax()) + 1 if met.any() else 0 for name, met in rules.items()}


def puzzle_box(steps: int = 16) -> ipywidgets.VBox:
    """A grid to type a 6x6 or 9x9 puzzle into, or a text to paste one, and the button *think*: the answer under a slider of the
    steps, with a play button."""
    paste = ipywidgets.Text(
        placeholder="or paste 36 or 81 digits and blanks, and press Enter",
        continuous_update=False,
        layout=ipywidgets.Layout(width="min(100%, 36rem)"),
    )
    size = ipywidgets.ToggleButtons(
        options=[("6x6", 6), ("9x9", 9)], style=ipywidgets.ToggleButtonsStyle(button_width="4rem")
    )
    think, words = ipywidgets.Button(description="think", button_style="primary"), ipywidgets.HTML()
    picture = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="22rem", display="none"))
    slider = ipywidgets.IntSlider(min=0, max=steps, description="step", layout=ipywidgets.Layout(display="none"))
    play = ipywidgets.Play(min=0, max=steps, interval=700, layout=ipywidgets.Layout(display="none"))
    ipywidgets.jslink((play, "value"), (slider, "value"))
    grid, seen = ipywidgets.GridBox(), []

    def cells(_=None) -> None:
        one = ipywidgets.Layout(width="2.3rem", margin="0")
        grid.children = [ipywidgets.Text(layout=one) for _ in range(size.value**2)]
        grid.layout = ipywidgets.Layout(grid_template_columns=f"repeat({size.value}, 2.4rem)", grid_gap="1px")

    def pasted(change) -> None:
        try:
            question = parse_question(change["new"], "the text")
        except UserError as error:
            words.value = html.escape(str(error), quote=False) if change["new"] else ""
            return
        if question.shape.size not in (6, 9):
            words.value = "no model ships for 4x4 puzzles; give 36 or 81 cells"
            return
        size.value, words.value = question.shape.size, ""
        for box, digit in zip(grid.children, question.digits):
            box.value = str(digit or "")

    def show(_=None) -> None:
        if seen:
            figure = frame(seen[-1], slider.value)
            picture.value = image_tag(png(figure), describe(figure))

    def pressed(_) -> None:
        try:
            typed = [box.value.strip() for box in grid.children]
            if wrong := [cell for cell in typed if len(cell) > 1]:
                raise UserError(f"the grid: a cell holds {wrong[0]!r}; give it one digit, or nothing")
            question = parse_question("".join(cell or "." for cell in typed), "the grid")
            if (result := check(question)).status:
                words.value = words_of(result)
                return
            seen[:] = [watch(model_for(question), question, steps)]
        except UserError as error:
            words.value = f"<span style='color: {WRONG}'>{html.escape(str(error), quote=False)}</span>"
            return
        at = seen[-1].solved_at
        words.value = f"right after step {at}" if at else f"wrong after {steps} steps; `trm solve` tries other starts"
        for shown in (picture, slider, play):
            shown.layout.display = ""
        slider.value = at or steps
        show()

    size.observe(cells, names="value")
    paste.observe(pasted, names="value")
    slider.observe(show, names="value")
    think.on_click(pressed)
    cells()
    return ipywidgets.VBox([size, grid, paste, think, words, ipywidgets.HBox([play, slider]), picture])


__all__ = ["animation", "check", "model_for", "puzzle_box", "retry", "signals", "stops", "text_of", "watch", "words_of"]
