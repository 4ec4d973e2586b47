"""The arms of a chapter: variants of one training, each in a run folder of its own, at equal compute.

*Parameters of the arm -> equal FLOPs -> Run -> Trainer -> best weights -> evaluation -> row of a table.*
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trm.progress import Progress
from trm.run import Run, read_history
from trm.text_files import read_json
from trm.trainer import Trainer
from trm.training_params import Training

P = TypeVar("P", bound=Training)


@dataclass
class ArmResult:
    """A trained arm."""

    arm: str
    params: Training  # what it was trained with
    folder: Path  # of its run
    metrics: dict[str, Any]  # of its training, and what its chapter adds
    history: list[dict] = field(repr=False)
    model: Any = None  # its best weights, where the chapter loads them
    evaluation: Any = None

    @property
    def seed(self) -> int:
        """The seed it was trained with."""
        return self.params.seed

    def curve(self, **columns: str) -> list[dict[str, float]]:
        """The records of the history that hold all of `columns` (column of a table = name in the history), in order."""
        names = columns.items()
        return [{key: r[n] for key, n in names} for r in self.history if all(r.get(n) is not None for _, n in names)]


def scaled(params: P, factor: float, names: tuple[str, ...], least: int = 1) -> P:
    """`params` with the numbers of steps called `names` multiplied by `factor`, so that an arm whose steps cost more takes
    fewer, and is evaluated at the same compute."""
    changes = {key: max(round(getattr(params, key) * factor), least if getattr(params, key) else 0) for key in names}
    return params.model_copy(update=changes)


def train_arm(
    run: Run,
    name: str,
    params: Training,
    make_trainer: Callable[[Training, Run], Trainer],
    after: Callable[[Trainer], dict[str, Any]] = lambda trainer: {},
    within: str = "arms",
    draw: Callable[[list[dict]], Any] | None = None,
) -> ArmResult | None:
    """Train one arm in `within`/`name` of `run`; None where `time_limit`, which all arms share, paused it.

    An arm that is complete is read, not trained again, where `params.resume` is set.

    Args:
        params: of the arm; its folder and its share of the time are set here.
        make_trainer: (params, run of the arm) -> its trainer.
        after: what to add to the metrics when it is trained; called by every process.
        draw: of the curve that is seen while it trains (`Progress`).
    """
    folder = run.path(f"{within}/{re.sub('[/: ]+', '-', name)}/params.json").parent
    left = run.minutes_left(run.params.time_limit)
    params = params.model_copy(update={"output_dir": str(folder), "time_limit": left})
    done = folder / "metrics.json"
    if not (params.resume and done.exists()):
        own = Run(params, run.chapter)
        show = Progress(params.max_steps, draw, f"{within}/{name}".removeprefix("arms/"))
        show.start()
        with own.resumable():
            trainer = make_trainer(params, own)
        trainer.show, show.max_steps = show, trainer.params.max_steps
        metrics = trainer.fit()
        if trainer.paused:
            own.tracker.close()
            return None
        # from its last checkpoint only `after` is done again
        with own.resumable(trainer.step, trainer.params.max_steps):
            metrics |= after(trainer)
        trainer.accelerator.wait_for_everyone()  # for the first process to have written
        own.finish(metrics, quiet=True)
        trainer.accelerator.wait_for_everyone()  # for the others to read it
    return ArmResult(name, params, folder, read_json(done), read_history(folder))
