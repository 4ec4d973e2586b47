"""What chapter 12 trains: mazes, small tasks that are made of arrays, and ARC or made-up tasks of its kind.

One class of parameters serves all of them: what a task changes in the chapter's defaults stands in `TASKS`, and what is given
for the chapter holds for every task that is trained.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from trm.arms import train_arm
from trm.model import TRM
from trm.puzzles import any_puzzle, arc_training
from trm.puzzles.any_puzzle import AnyPuzzle, TokenSplits, make_model
from trm.puzzles.arc import COLOURS, LARGEST
from trm.puzzles.arc_training import Arc, ArcSplits
from trm.puzzles.solve import load_model
from trm.run import Run, write_atomically
from trm.trainer import Trainer
from trm.training_params import arm_names

# Task -> what it changes in the defaults of the chapter.
TASKS = {
    "maze": {},
    "addition": {"train_size": 20_000, "max_steps": 600},
    "closure": {"train_size": 20_000, "max_steps": 800},
    "arc": {"num_aug": 3, "puzzle_tokens": 1, "puzzle_lr": 0.02, "H_cycles": 2, "halt_max_steps": 2, "eval_steps": 2,
            "act_weight": 0.5, "weight_decay": 0.1, "max_steps": 1200, "eval_interval": 400},
}  # fmt: skip
# Made-up tasks of ARC are as many as they are, whatever sizes are given.
MADE_UP = {"largest": 3, "train_size": 0, "valid_size": 0, "test_size": 400}


class OwnTasks(AnyPuzzle):
    """Chapter 12: a TRM on mazes, on small tasks that are made of arrays, and on ARC."""

    COMPUTED_BY: ClassVar[str] = "trm.puzzles.own_tasks"

    tasks: str = Field("maze, addition, closure, arc", description=f"what is trained, of {', '.join(TASKS)}")
    arc_path: str = Field("", description="ARC: folder as for `trm.puzzles.arc_training`; empty: tasks made up in code")
    largest: int = Field(10, ge=2, le=LARGEST, description="ARC: side of the canvas; tasks of larger grids are skipped")
    num_aug: int = Field(8, ge=0, description="symmetries of each training maze (1 to 8); ARC: variants of each task")
    max_steps: int = Field(1600, ge=1, description="optimizer steps")
    train_size: int = Field(2000, ge=0, description="training puzzles, or tasks of ARC (0: all)")
    valid_size: int = Field(128, ge=0, description="validation puzzles, or training tasks of ARC that are judged")
    eval_steps: int = Field(6, ge=1, description="supervision steps in evaluation; more than in training is allowed")
    act_weight: float = Field(0.0, ge=0, description="weight of the halting loss; 0: all take all supervision steps")
    H_cycles: int = Field(1, ge=1, description="H-cycles: answers refined in one supervision step")
    batch_size: int = Field(32, ge=1, description="examples per optimizer step, over all processes")
    optimizer: Literal["adamw", "adam_atan2", "soap"] = Field("soap", description="update rule")
    lr: float = Field(8e-3, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(0.5, ge=0, description="decoupled weight decay")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    lr_min_ratio: float = Field(0.05, ge=0, le=1, description="share of the rate left at the end of a cosine")

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, value: str) -> str:
        names = arm_names(value)
        if not names or set(names) - set(TASKS) or len(set(names)) < len(names):
            raise ValueError(f"give some of {', '.join(TASKS)}, separated by commas, each once")
        return value

    @model_validator(mode="after")
    def _fits_any_puzzle(self) -> Self:
        for name in arm_names(self.tasks):
            self.of(name)
        return self

    def of(self, task: str, data_path: str = "") -> AnyPuzzle | Arc:
        """The parameters of one task: those of the chapter, with what `TASKS` changes where the chapter has its defaults.

        data_path: the folder of the task, where the chapter's own is not meant. ParameterError: what the task refuses.
        """
        kind = Arc if task == "arc" else AnyPuzzle
        values = self.model_dump() | TASKS[task] | self.changed()
        if task == "arc" and not self.arc_path:
            values |= MADE_UP
        folder = {"arc": self.arc_path, "maze": self.data_path}.get(task, "unmade")
        return kind.create({name: values[name] for name in kind.model_fields} | {"data_path": data_path or folder})


@dataclass
class TrainedTask:
    """A trained task: what it was trained with and on, its averaged weights, how training went, and its last validation."""

    params: AnyPuzzle | Arc
    data: TokenSplits | ArcSplits
    model: TRM
    history: list[dict]
    metrics: dict[str, float]


def train(run: Run, task: str, data_path: str = "") -> TrainedTask | None:
    """Train the model of one task in arms/`task` of a run of the chapter; None where `time_limit` paused it, or where the
    chapter's `tasks` do not name it. data_path: the folder of a task that is made of arrays, or of made-up tasks of ARC."""
    if task not in arm_names(run.params.tasks):
        return None
    params, kind = run.params.of(task, data_path), arc_training if task == "arc" else any_puzzle
    data = kind.load(params)

    def make_trainer(params: AnyPuzzle | Arc, own: Run) -> Trainer:
        return kind.make_trainer(make_model(params, data), params, own, data)

    def after(trainer: Trainer) -> dict[str, float]:
        with trainer.ema.averaged() as averaged:
            trainer.run.save_model(averaged, "model")
        return {"model/parameters": sum(p.numel() for p in averaged.parameters())}

    result = train_arm(run, task, params, make_trainer, after)
    if result is None:
        return None
    model = load_model(result.folder / "model", params.device)
    last = {name: value for record in result.history for name, value in record.items() if name.startswith("valid/")}
    return TrainedTask(params, data, model, result.history, result.metrics | last)


# --- tasks of ARC's kind, made up ---------------------------------------------------------------------------------------


def _framed(grid: np.ndarray, colour: int) -> np.ndarray:
    found = grid.copy()
    found[[0, -1]] = found[:, [0, -1]] = colour
    return found


def rules(colour: int, other: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The rules of made-up tasks, for two colours of 1 to 9: name -> grid to grid."""
    return {
        "mirror": np.fliplr,
        "fill": lambda grid: np.where(grid == 0, colour, grid),
        "frame": partial(_framed, colour=colour),
        "recolour": lambda grid: np.where(grid > 0, colour, 0),
        "swap": lambda grid: np.where(grid == colour, other, np.where(grid == other, colour, grid)),
    }


def make_up_arc(
    folder: str | Path, side: int = MADE_UP["largest"], training: int = 4, shown: int = 5, seed: int = 0
) -> dict[str, str]:
    """Write made-up tasks as training.json and evaluation.json: for every rule `training` tasks and one that is judged, each
    of `shown` pairs and one to be answered, on grids of side x side cells. Returns task -> rule."""
    rng, named = np.random.default_rng(seed), {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part, count in (("training", training), ("evaluation", 1)):
        tasks = {}
        for number in range(count):
            for name in rules(1, 2):
                colour, other = (1 + rng.permutation(COLOURS - 1)[:2]).tolist()
                grids = rng.choice([0, 0, colour, other], (shown + 1, side, side))
                pairs = [{"input": g.tolist(), "output": rules(colour, other)[name](g).tolist()} for g in grids]
                tasks[f"{part}-{name}-{number}"] = {"train": pairs[:-1], "test": pairs[-1:]}
                named[f"{part}-{name}-{number}"] = name
        write_atomically(Path(folder) / f"{part}.json", json.dumps(tasks))
    return named
