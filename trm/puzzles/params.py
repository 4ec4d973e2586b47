"""Parameters of chapters 02, 03 and 04: a TRM on Sudoku, and the arms that are compared."""

import importlib.util
import re
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm import supervision
from trm.halting import UNROLLED
from trm.model import TRMConfig, TRMParams
from trm.params import MissingHardware, Params
from trm.puzzles.sudoku import PUZZLES, Shape
from trm.training_params import RecursiveTraining, arm_names, checked_weights, known_schedule, world_size

ALL_STEPS = 10**9  # as many as the arm trains for
CGAR = "by thirds"  # the stages of `supervision.cgar_stages`

# What an arm of chapter 03 changes in the parameters of chapter 04.
ANNEALED = dict(halt_exploration_prob=0.5, halt_exploration_end=0.0, halt_exploration_anneal_steps=ALL_STEPS)
HALTING_ARMS = {
    "q": {"halting": "q"},
    "q_continue": {"halting": "q_continue"},
    "annealed": {"halting": "q", **ANNEALED},
    "depth": {"halting": "q", "depth_curriculum": CGAR},
    "act": {"halting": "act"},
    "act_alone": {"halting": "act", "every_step_weight": 0.0, "act_weight": 1.0},
    "ponder": {"halting": "ponder", "ponder_coef": 0.01},
    "graves": {"halting": "graves"},
}
USUAL_H = 3  # H-cycles of arm none in chapter 02, whose FLOPs all arms take
CURRICULUM = "curriculum"  # an arm of chapter 02: the linear schedule with the supervision curriculum


def split_arm(arm: str) -> tuple[str, str, str]:
    """(schedule, weight, backprop) of an arm "schedule:weight/backprop"; where it does not say, the weight is empty and
    backprop "full"."""
    schedule, _, backprop = arm.partition("/")
    schedule, _, weight = schedule.partition(":")
    return schedule.strip(), weight.strip(), backprop.strip() or "full"


class PuzzleTraining(RecursiveTraining, TRMParams):
    """A TRM on puzzles of any kind, and its training."""

    train_size: int = Field(0, ge=0, description="training puzzles; 0: all")
    valid_size: int = Field(128, ge=1, description="validation puzzles, for the learning curve")
    test_size: int = Field(1000, ge=1, description="test puzzles")
    eval_steps: int = Field(12, ge=1, description="supervision steps in evaluation; more than in training is allowed")
    depth_curriculum: str = Field("", description="H_cycles x L_cycles from a share of training, as 1x1@0, 2x2@0.5")

    _known_schedules = field_validator("schedule", "step_schedule")(known_schedule)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for H_cycles in (self.H_cycles, *self._curriculum_cycles()):
            self._check_weights("schedule", self.schedule, H_cycles)
        if self.step_schedule == supervision.ADAPTIVE:
            raise ValueError("parameter 'step_schedule': 'adaptive' needs all losses at once; use it as 'schedule'")
        checked_weights("step_schedule", self.step_schedule, self.halt_max_steps, self.step_weight)
        if self.halting in UNROLLED and not self.every_step_weight and not self.act_weight:
            raise ValueError("parameters 'every_step_weight' and 'act_weight' are both 0: the loss would be 0")
        if self.mixer == "attention" and self.hidden_size % (2 * self.num_heads):
            what = f"must be a multiple of 2 * num_heads = {2 * self.num_heads}"
            raise ValueError(f"parameter 'hidden_size' = {self.hidden_size} {what}")
        if self.puzzle_vectors > self.puzzle_tokens:
            what = f"must not be larger than puzzle_tokens = {self.puzzle_tokens}"
            raise ValueError(f"parameter 'puzzle_vectors' = {self.puzzle_vectors} {what}")
        if self.puzzle_lr and not self.puzzle_tokens:
            raise ValueError("parameter 'puzzle_lr' is for puzzle tokens; give puzzle_tokens, or puzzle_lr 0")
        if self.initial_noise and self.input_noise:
            raise ValueError("parameters 'initial_noise' and 'input_noise': give one of the two")
        if self.curriculum_enabled and self.curriculum_end_step < self.curriculum_start_step:
            raise ValueError("parameter 'curriculum_end_step' must not be smaller than 'curriculum_start_step'")
        return self

    def _curriculum_cycles(self) -> list[int]:
        try:
            stages = supervision.depth_stages(self.depth_curriculum, self.max_steps)
        except ValueError as error:
            raise ValueError(f"parameter 'depth_curriculum': {error}") from None
        if stages and stages[-1][1:] != [self.H_cycles, self.L_cycles]:
            what = f"must end with H_cycles x L_cycles = {self.H_cycles}x{self.L_cycles}"
            raise ValueError(f"parameter 'depth_curriculum' = {self.depth_curriculum!r} {what}")
        return [H_cycles for _, H_cycles, _ in stages]

    def _check_weights(self, name: str, schedule: str, H_cycles: int) -> None:
        if schedule != supervision.ADAPTIVE:
            weights = checked_weights(name, schedule, H_cycles, self.supervision_weight)
            if self.curriculum_enabled and not weights[-1]:
                raise ValueError(f"parameter {name!r}: with the curriculum the last step must have a weight")


class SudokuTraining(PuzzleTraining):
    """What chapters 02, 03 and 04 share: Sudoku."""

    COMPUTED_BY: ClassVar[str] = "trm.puzzles.train"

    puzzle: Literal["4x4", "6x6", "6x6-hard", "9x9"] = Field(
        "6x6", description="size of the puzzles; 6x6-hard: those that naked and hidden singles do not solve"
    )
    data_path: str = Field(
        "",
        description="file (answers may lack) or folder of puzzles, or hub:<dataset>; several with commas; empty: what ships",
    )
    num_aug: int = Field(0, ge=0, description="variants of a puzzle by symmetry; 0: unlimited")
    reveal_clues: int = Field(0, ge=0, description="training: most answers given as clues, a random number per puzzle")

    @model_validator(mode="after")
    def _houses_have_cells_alone(self) -> Self:
        if self.mixer == "houses" and self.puzzle_tokens:
            raise ValueError("parameter 'puzzle_tokens' must be 0 with mixer 'houses', which has cells alone")
        return self

    def trm_config(self, shape: Shape | None = None) -> TRMConfig:
        """The configuration of the model for puzzles of `shape`: that of those that `puzzle` names."""
        shape = shape or PUZZLES[self.puzzle].shape
        return TRMConfig.of(self, shape.vocab_size, shape.cells, (shape.box_rows, shape.box_cols))


class TrmTrain(SudokuTraining):
    """Chapter 04: train a TRM on Sudoku."""

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = SudokuTraining.NOT_IN_RUN_ID | {"xla_metrics_every", "prefetch"}

    backend: Literal["auto", "cpu", "cuda", "mps", "xla"] = Field(
        "auto", description="device; auto: CUDA where there is one; mps: an Apple GPU, in float32; xla: TPUs"
    )
    prefetch: int = Field(0, ge=0, description="batches to prefetch in a thread; 0: none")
    xla_metrics_every: int = Field(1000, ge=1, description="with backend xla: steps between records of XLA metrics")

    @model_validator(mode="after")
    def _xla_is_there(self) -> Self:
        if self.backend == "xla" and importlib.util.find_spec("torch_xla") is None:
            raise MissingHardware("parameter 'backend' = 'xla' needs torch_xla: install requirements-tpu.txt")
        if self.backend == "xla" and self.optimizer == "soap":
            raise ValueError("parameter 'optimizer' = 'soap' does not run on backend 'xla'; take adamw or adam_atan2")
        if self.backend == "xla" and self.puzzle_lr:
            raise ValueError("parameter 'puzzle_lr': 'backend' = 'xla' has no sparse gradients; give puzzle_lr 0")
        return self


class DeepSupervision(SudokuTraining):
    """Chapter 02: compare schedules. The arms to train, and the parameters of chapter 04 that they share."""

    arms: str = Field("none/last, none, linear", description="schedule:weight/backprop of each arm")
    num_seeds: int = Field(1, ge=1, description="seeds of each arm")
    H_cycles: int = Field(USUAL_H, ge=1, description="answers refined in one supervision step")
    eval_steps: int = Field(6, ge=1, description="supervision steps in evaluation; more than in training is allowed")
    max_steps: int = Field(400, ge=1, description="optimizer steps of arm none at 3 H-cycles; others: equal FLOPs")
    eval_interval: int = Field(50, ge=1, description="steps between evaluations on the validation part")
    supervision_weight: float = Field(0.5, ge=0, le=10, description="weight of the H-cycles before the last")
    compute_gradient_stats: bool = Field(True, description="log the gradient norm after each cycle")

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, value: str) -> str:
        names = arm_names(value)
        if not names or len(set(names)) < len(names):
            raise ValueError("give names separated by commas, each once, such as 'none, linear, none/last'")
        for name in names:
            schedule, weight, backprop = split_arm(name)
            if schedule != CURRICULUM:
                known_schedule(schedule)
            if weight and not re.fullmatch(r"\d*\.?\d+", weight):
                raise ValueError(f"arm {name!r}: after the colon stands a supervision_weight such as 0.5")
            if backprop not in ("last", "per_cycle", "full"):
                raise ValueError(f"arm {name!r}: after the slash stands last, per_cycle or full")
        return value

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        for name in arm_names(self.arms):
            if split_arm(name)[0] != CURRICULUM:
                self._check_weights("arms", split_arm(name)[0], self.H_cycles)
        return self


class WatchIt(Params):
    """Chapter 00: a trained model on one puzzle."""

    COMPUTED_BY: ClassVar[str] = "trm.puzzles.watch"

    question: str = Field(
        "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..",
        description="a puzzle of 36 or 81 digits and blanks (. 0 _ *), row by row; spaces are ignored",
    )
    model_path: str = Field("", description="folder of a trained model; empty: the one that ships for the size")
    steps: int = Field(16, ge=2, le=1024, description="supervision steps to watch")
    tries: int = Field(16, ge=1, description="most tries of 32 steps from other starts until an answer obeys the rules")


class Halting(SudokuTraining):
    """Chapter 03: halting. How a trained model is tested, and the parameters of chapter 04 for the arms."""

    COMPUTED_BY: ClassVar[str] = "trm.puzzles.halting_study"
    RUN_FOLDERS: ClassVar[tuple[str, ...]] = ("early",)

    model_path: str = Field("", description="folder of a trained model; empty: the one that ships for the puzzle")
    tolerance: float = Field(0.003, ge=0, le=1, description="accuracy that a halting rule may lose against all steps")
    more_steps: int = Field(64, ge=1, description="most supervision steps at test time")
    restarts: int = Field(16, ge=1, description="restarts: attempts per puzzle")
    restart_size: int = Field(120, ge=1, description="test puzzles for more steps and for restarts")
    retry_steps: int = Field(32, ge=1, description="most supervision steps of an attempt in restarts until it is valid")
    noises: str = Field(
        "",
        pattern=r"^[\d. ,]*$",
        description="stds of noise for restarts until valid, one chosen on validation; empty: other symmetries",
        examples=["10, 20, 40"],
    )
    early_steps: int = Field(250, ge=0, description="optimizer steps of a briefly trained model; 0: none")
    arms: str = Field("q, act", description="halting methods to train; empty: none", examples=[*HALTING_ARMS])
    num_seeds: int = Field(1, ge=1, description="seeds of each arm and of the briefly trained model")
    label: str = Field(
        "",
        pattern=r"^[\w .+-]*$",
        description="name of the data in tables (letters, digits, .+-); empty: the puzzle's size",
    )
    tables: str = Field("", description="folder for the tables, such as book/results")

    valid_size: int = Field(1000, ge=1, description="validation puzzles, to choose thresholds on")
    test_size: int = Field(2000, ge=1, description="test puzzles")
    eval_steps: int = Field(16, ge=2, description="supervision steps that rules are compared with")
    max_steps: int = Field(400, ge=1, description="optimizer steps of arm q; scaled to equal compute for the others")
    eval_interval: int = Field(200, ge=1, description="steps between evaluations on the validation part")

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, value: str) -> str:
        for arm in arm_names(value):
            name, _, coef = arm.partition(":")
            if name.strip() not in HALTING_ARMS:
                known = ", ".join(HALTING_ARMS)
                raise ValueError(f"no arm {name!r}; there are {known}, also with a ponder_coef: act:5e-3")
            if arm_names(value).count(arm) > 1:
                raise ValueError(f"arm {arm!r} is named twice")
            if coef and not re.fullmatch(r"\s*\d*\.?\d+(e-?\d+)?\s*", coef):
                raise ValueError(f"arm {arm!r}: after the colon stands a ponder_coef such as 5e-3")
        return value

    @model_validator(mode="after")
    def _fits_the_chapter(self) -> Self:
        if world_size() > 1:
            raise ValueError("this chapter is for one process; train with chapter 04 and give its model as model_path")
        if self.more_steps < self.eval_steps:
            raise ValueError(f"parameter 'more_steps' must be at least eval_steps = {self.eval_steps}")
        return self
