"""Where the numbers of a run go besides its folder: a tracker of accelerate when asked, and what a reader sees."""

import sys
import time
from collections.abc import Callable
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from matplotlib import pyplot as plt

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
    """The tracker of accelerate that `log_with` names, of one run: its records, and at the end its metrics and figures."""

    def __init__(self, run: Run):
        self.run, self.step, self.sink = run, 0, None
        params = run.params
        if params.log_with != "none" and run.main:
            PartialState(cpu=getattr(params, "device", "cpu") == "cpu")  # accelerate's trackers ask for it
            kind = LOGGER_TYPE_TO_CLASS[params.log_with]
            place = [str(run.path("tensorboard"))] if kind.requires_logging_directory else []
            wandb = {"name": params.wandb_run_name or run.id, "dir": str(run.dir)}
            self.sink = kind(params.wandb_project, *place, **(wandb if params.log_with == "wandb" else {}))
            self.sink.start()
            about = {"chapter": run.chapter, "run_id": run.id, "code": run.code}
            self.sink.store_init_configuration(about | params.model_dump())

    def log(self, record: dict[str, Any]) -> None:
        """Send one record; `step` counts optimizer steps, all other values are numbers under slash-names."""
        self.step = record["step"]
        if self.sink:
            self.sink.log({name: value for name, value in record.items() if name != "step"}, step=self.step)

    def finish(self, metrics: dict[str, Any], complete: bool) -> None:
        """Send the metrics and figures of a run, to W&B its best model as an artifact too, and close the tracker."""
        if not self.sink:
            return
        self.log({"step": self.step, **metrics})
        if hasattr(self.sink, "log_images"):
            layout = {"dataformats": "NHWC"} if self.run.params.log_with == "tensorboard" else {}
            for path in sorted(self.run.dir.glob("figures/*.png")):
                image = plt.imread(path)[None, ..., :3]  # (1, H, W, 3)
                self.sink.log_images({f"figures/{path.stem}": image}, step=self.step, **layout)
        if complete and self.run.params.log_with == "wandb" and (self.run.dir / "best").is_dir():
            name = f"{self.run.chapter}-{self.run.id}"
            self.sink.tracker.log_artifact(str(self.run.dir / "best"), name=name, type="model")
        self.close()

    def close(self) -> None:
        """Close the tracker; what comes later is not sent."""
        if self.sink:
            self.sink.finish()
        self.sink = None


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
