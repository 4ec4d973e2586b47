"""Where the numbers of a training go: history.jsonl always, a tracker of accelerate when asked, and what a reader sees."""

import base64
import html
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from trm.params import Params
from trm.run import Run

# What a line of progress shows beside the loss, where it was evaluated.
SHOWN = {
    "valid/cell_accuracy": "blank cells",
    "valid/exact_accuracy": "exactly right",
    "valid/uas": "UAS",
    "valid/las": "LAS",
    "valid/accuracy": "right",
}
WAIT = 2.0  # seconds between two pictures of a progress, and between two lines where nobody watches
DRAWING = 0.015  # share of the time that drawing may take


def kernel() -> Any:
    """The kernel that executes this notebook; None in a script."""
    return getattr(sys.modules["IPython"].get_ipython(), "kernel", None) if "IPython" in sys.modules else None


def say(markdown: str) -> None:
    """Show a finding: Markdown in a notebook, with the same words as plain text for what shows no Markdown."""
    text = markdown.replace("**", "").strip()
    if not kernel():
        return print(text, flush=True)
    from IPython.display import display

    display({"text/markdown": markdown, "text/plain": text}, raw=True)


class Tracker:
    """Sends every record to history.jsonl and to the trackers of `accelerator`."""

    def __init__(self, run: Run, accelerator: Accelerator, params: Params):
        self.run, self.accelerator = run, accelerator
        if params.log_with != "none" and run.main:
            name = params.wandb_run_name or run.id
            options = {"wandb": {"name": name, "dir": str(run.dir)}} if params.log_with == "wandb" else {}
            accelerator.init_trackers(params.wandb_project, config=params.model_dump(), init_kwargs=options)

    def log(self, record: dict[str, Any]) -> None:
        """Keep one record; `step` counts optimizer steps, all other values are numbers under slash-names."""
        self.run.log(record)
        values = {name: value for name, value in record.items() if name != "step"}
        self.accelerator.log(values, step=record["step"])

    def keep_model(self, folder: Path) -> None:
        """Send a saved model to W&B as an artifact, where that is a tracker; others keep numbers alone."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "wandb" and self.run.main:
                tracker.tracker.log_artifact(str(folder), name=f"{self.run.chapter}-{self.run.id}", type="model")

    def close(self) -> None:
        """Flush the trackers (accelerate's own `end_training` would also end the processes' group)."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


class Progress:
    """What a reader sees while a model trains: one line that names the arm, with the time left, and in a notebook a curve.

    In JupyterLab both stand in one place; `close` takes the curve away, as the chapter draws it. In a terminal the line
    stands on stderr. Anywhere else (papermill, a log file) an evaluation prints it. `draw(history) -> figure` makes the curve.
    """

    def __init__(self, max_steps: int, draw: Callable[[list[dict]], Any] | None = None, name: str = ""):
        self.max_steps, self.draw, self.prefix = max_steps, draw, f"{name}: " if name else ""
        self.history: list[dict] = []
        self.latest: dict[str, Any] = {}
        self.shown, self.next_curve = time.monotonic() - WAIT, 0.0
        self.line = self.curve = ""
        self.handle = None
        shell = kernel()  # papermill's takes no input: nobody watches it
        self.notebook = bool(shell) and shell.get_parent().get("content", {}).get("allow_stdin", False)
        self.terminal = tqdm.status_printer(sys.stderr) if not shell and sys.stderr.isatty() else None

    def __call__(self, record: dict[str, Any]) -> None:
        """Show a record of the history."""
        self.history.append(record)
        self.latest |= record
        evaluated = any(name.startswith("valid/") for name in record)
        waited = time.monotonic() - self.shown
        if self.terminal or waited >= WAIT and (self.notebook or evaluated) or waited >= 30:
            self._show()

    def close(self) -> None:
        """Leave the last line alone."""
        if self.history:
            self.draw, self.curve = None, ""
            self._show()
            if self.terminal:
                print(file=sys.stderr)

    def _show(self) -> None:
        before, self.line = self.line, self._text()
        if self.terminal:
            self.terminal(self.line)
        elif self.notebook:
            self._display()
        elif self.line != before:
            print(self.line, flush=True)
        self.shown = time.monotonic()

    def _text(self) -> str:
        parts = [f"loss {self.latest.get('train/total_loss', float('nan')):.3f}"]
        parts += [f"{label} {self.latest[name]:.3f}" for name, label in SHOWN.items() if name in self.latest]
        bar = "|{bar}| " if self.terminal or self.notebook else ""
        return tqdm.format_meter(
            self.latest["step"], self.max_steps, self.latest["train/seconds"], prefix=self.prefix, postfix=", ".join(parts),
            bar_format=f"{{desc}}{{percentage:3.0f}}% {bar}step {{n_fmt}}/{{total_fmt}}, {{remaining}} left{{postfix}}",
            ncols=shutil.get_terminal_size().columns - 1 if self.terminal else None, ascii=bool(self.terminal),
        )  # fmt: skip

    def _display(self) -> None:
        """Display the line and the curve, in place of those before."""
        from IPython.display import display

        evaluations = sum("valid/" in "".join(record) for record in self.history)
        if self.draw and evaluations > 1 and time.monotonic() >= self.next_curve:
            self._draw()
        content = {"text/plain": self.line}
        if self.curve:
            content["text/html"] = f"<pre>{html.escape(self.line)}</pre>{self.curve}"
        if self.handle is None:
            self.handle = display(content, display_id=True, raw=True)
        else:
            self.handle.update(content, raw=True)

    def _draw(self) -> None:
        """Draw the curve on an axis of all steps, so seldom that it takes a small share of the time."""
        from trm.plots import png

        started = time.monotonic()
        figure = self.draw(self.history)
        for ax in figure.axes:
            ax.set_xlim(0, self.max_steps)
        self.curve = f'<img src="data:image/png;base64,{base64.b64encode(png(figure)).decode()}">'
        ended = time.monotonic()
        self.next_curve = ended + (ended - started) / DRAWING
