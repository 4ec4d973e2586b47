"""Where the numbers of a training go: history.jsonl always, a tracker of accelerate when asked, and what a reader sees."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

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
    """What a reader sees while a model trains: a line of text, and in a notebook a curve that grows.

    In a notebook both stand in one place and are replaced, the line at most once a second and the figure once in
    `figure_every` seconds, so that the saved notebook stays small. In a terminal every evaluation prints a line.
    `draw(history) -> figure` makes the curve.
    """

    def __init__(self, max_steps: int, draw: Callable[[list[dict]], Any] | None = None, figure_every: float = 8.0):
        self.max_steps, self.draw, self.figure_every = max_steps, draw, figure_every
        self.history: list[dict] = []
        self.started = self.shown = self.drawn = time.monotonic()
        self.line = self.figure = None
        self.notebook = "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")

    def __call__(self, record: dict[str, Any]) -> None:
        """Show a record of the history."""
        self.history.append(record)
        evaluated = any(name.startswith("valid/") for name in record)
        now = time.monotonic()
        if self.notebook:
            if now - self.shown >= 1 or record["step"] >= self.max_steps:
                self.shown = now
                self.line = self._show(self.line, {"text/plain": self._text()}, raw=True)
            if self.draw and evaluated and now - self.drawn >= self.figure_every:
                self.drawn = now
                from matplotlib import pyplot as plt

                figure = self.draw(self.history)
                self.figure = self._show(self.figure, figure)
                plt.close(figure)
        if evaluated or not self.notebook and now - self.shown >= 10:
            self.shown = now
            print(self._text(), flush=True)

    def _text(self) -> str:
        latest: dict[str, Any] = {}
        for record in self.history[-20:]:
            latest |= record
        step, seconds = latest["step"], latest["train/seconds"]
        left = seconds / step * (self.max_steps - step)
        parts = [f"step {step}/{self.max_steps}", f"loss {latest.get('train/total_loss', float('nan')):.3f}"]
        parts += [f"{label} {latest[name]:.3f}" for name, label in SHOWN.items() if name in latest]
        return "  ".join([*parts, f"{seconds:.0f} s, {left:.0f} s left"])

    def _show(self, handle: Any, content: Any, **how: Any) -> Any:
        """Display `content`, in place of what `handle` showed before; returns the handle."""
        from IPython.display import display

        if handle is None:
            return display(content, display_id=True, **how)
        handle.update(content, **how)
        return handle
