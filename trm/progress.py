"""Where the numbers of a run go besides its folder: a tracker of accelerate when asked, and what a reader sees."""

import base64
import html
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import matplotlib.image
from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tqdm import tqdm

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


def say(markdown: str, text: str = "") -> None:
    """Show a finding: Markdown in a notebook, with `text` (empty: the same words) for what shows no Markdown."""
    text = text or markdown.replace("**", "").strip()
    if not kernel():
        return print(text, flush=True)
    from IPython.display import display

    display({"text/markdown": markdown, "text/plain": text}, raw=True)


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
                image = matplotlib.image.imread(path)[None, ..., :3]  # (1, H, W, 3)
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
    """What a reader sees while a model trains: one line that names the arm, with the time left, and in a notebook a curve.

    In JupyterLab both stand in one place from `start` on; `close` takes the curve away, as the chapter draws it. In a terminal
    the line stands on stderr. Anywhere else (papermill, a log file) an evaluation prints it. `draw(history) -> figure` makes
    the curve once there are two evaluations; until then, and without it, the curve is that of the training loss.
    """

    def __init__(self, max_steps: int, draw: Callable[[list[dict]], Any] | None = None, name: str = ""):
        self.max_steps, self.draw, self.prefix = max_steps, draw, f"{name}: " if name else ""
        self.history: list[dict] = []
        self.latest: dict[str, Any] = {"step": 0, "train/seconds": 0.0}
        self.closed = False
        self.shown, self.next_curve = time.monotonic() - WAIT, 0.0
        self.line = self.curve = ""
        self.handle = None
        shell = kernel()  # papermill's takes no input: nobody watches it
        self.notebook = bool(shell) and shell.get_parent().get("content", {}).get("allow_stdin", False)
        self.terminal = tqdm.status_printer(sys.stderr) if not shell and sys.stderr.isatty() else None

    def start(self, step: int = 0, seconds: float = 0.0) -> None:
        """Show, where a reader watches, that the training is about to begin, after `step` steps: data and model may take a
        while."""
        self.latest |= {"step": step, "train/seconds": seconds}
        if self.handle is None and self.notebook:
            self._show()
            self.next_curve = 0.0  # the first values need not wait

    def tick(self, step: int, seconds: float) -> None:
        """Move the line between two records: `step` optimizer steps have taken `seconds`."""
        self.latest |= {"step": step, "train/seconds": seconds}
        if (self.notebook or self.terminal) and time.monotonic() - self.shown >= WAIT:
            self._show()

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
        self.closed, self.curve = True, ""
        if self.history or self.handle:
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
        parts = [f"loss {self.latest['train/total_loss']:.3f}"] if "train/total_loss" in self.latest else []
        parts += [f"{label} {self.latest[name]:.3f}" for name, label in SHOWN.items() if name in self.latest]
        bar = "|{bar}| " if self.terminal or self.notebook else ""
        return tqdm.format_meter(
            self.latest["step"], self.max_steps or None, self.latest["train/seconds"],
            prefix=self.prefix, postfix=", ".join(parts),
            bar_format=f"{{desc}}{{percentage:3.0f}}% {bar}step {{n_fmt}}/{{total_fmt}}, {{remaining}} left{{postfix}}",
            ncols=shutil.get_terminal_size().columns - 1 if self.terminal else None, ascii=bool(self.terminal),
        )  # fmt: skip

    def _display(self) -> None:
        """Display the line and the curve, in place of those before."""
        from IPython.display import display

        if not self.closed and time.monotonic() >= self.next_curve:
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
        from trm.plots import png, training_loss

        started = time.monotonic()
        evaluations = sum("valid/" in "".join(record) for record in self.history)
        figure = (self.draw if self.draw and evaluations > 1 else training_loss)(self.history)
        for ax in figure.axes:
            ax.set_xlim(0, self.max_steps or None)
        self.curve = f'<img src="data:image/png;base64,{base64.b64encode(png(figure)).decode()}">'
        ended = time.monotonic()
        self.next_curve = ended + (ended - started) / DRAWING
