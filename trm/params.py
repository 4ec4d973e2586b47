"""The schema of every chapter's parameters; `trm.params_base` says how they reach it.

A chapter's class adds to, or changes the defaults of, the one it builds on: Params, Training, TrmTrain, then the chapter.
"""

import difflib
import os
import re
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from trm import supervision
from trm.halting import UNROLLED
from trm.params_base import MissingHardware, ParameterError, Params, from_command_line, read_yaml

__all__ = [
    "Compression",
    "DeepSupervision",
    "Halting",
    "ParameterError",
    "Params",
    "ReasoningLM",
    "Report",
    "ScalingLaws",
    "Training",
    "TrmTrain",
    "from_command_line",
    "read_yaml",
]


class Training(Params):
    """How any model is trained."""

    batch_size: int = Field(48, ge=1, description="examples an optimizer step, over all processes")
    grad_accumulation: int = Field(1, ge=1, description="parts that a process cuts its batch into")
    max_steps: int = Field(1000, ge=1, description="optimizer steps; what ends a run")
    optimizer: Literal["adamw", "adam_atan2"] = Field("adamw", description="update rule")
    lr: float = Field(4e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("constant", description="rate after the warm-up")
    lr_min_ratio: float = Field(0.0, ge=0, le=1, description="share of the rate left at the end of a cosine")
    warmup_steps: int = Field(20, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay of the second moment")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="float16 on CUDA only")
    backend: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    compile: bool = Field(False, description="torch.compile of the network")
    eval_interval: int = Field(100, ge=1, description="steps between evaluations on the validation part")
    log_interval: int = Field(20, ge=1, description="steps between records of history.jsonl")
    checkpoint_interval: int = Field(200, ge=1, description="steps between checkpoints")
    early_stopping_patience: int = Field(0, ge=0, description="evaluations without gain that end a run; 0: never")
    compute_gradient_stats: bool = Field(False, description="gradient norm at each H-cycle")
    log_per_step_losses: bool = Field(True, description="loss after each H-cycle")

    @property
    def device(self) -> str:
        """Where `backend` computes: "cuda" or "cpu"."""
        return "cuda" if self.backend != "cpu" and torch.cuda.is_available() else "cpu"

    @model_validator(mode="after")
    def _device_is_there(self) -> Self:
        cuda = torch.cuda.is_available()
        if self.backend == "cuda" and not cuda:
            raise MissingHardware("parameter 'backend' = 'cuda': this torch sees no CUDA device; use 'auto' or 'cpu'")
        if self.precision == "float16" and (self.backend == "cpu" or not cuda):
            raise MissingHardware("parameter 'precision' = 'float16' wants CUDA; on a CPU use 'float32' or 'bfloat16'")
        return self

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> Self:
        if self.batch_size % (self.grad_accumulation * world_size()):
            raise ValueError(
                f"parameter 'batch_size' = {self.batch_size} must be a multiple of grad_accumulation * processes = "
                f"{self.grad_accumulation} * {world_size()}"
            )
        return self


class TrmTrain(Training):
    """Chapter 04: train a TRM on Sudoku."""

    puzzle: Literal["4x4", "6x6", "9x9"] = Field("6x6", description="size of the puzzles")
    data_path: str = Field("", description="file or folder of puzzles, or hub:<dataset>; empty: those that ship")
    train_size: int = Field(0, ge=0, description="puzzles to train on; 0: all")
    valid_size: int = Field(128, ge=1, description="puzzles, kept out of training, for the live curve")
    test_size: int = Field(1000, ge=1, description="puzzles of the final test")
    eval_steps: int = Field(12, ge=1, description="supervision steps in evaluation; more than in training is allowed")
    num_aug: int = Field(0, ge=0, description="variants of a puzzle by symmetry; 0: unlimited")

    hidden_size: int = Field(64, ge=2, description="width D")
    num_layers: int = Field(1, ge=1, description="blocks of the shared network")
    expansion: float = Field(2.0, gt=0, description="expansion of the SwiGLUs")
    inner_multiple: int = Field(8, ge=1, description="inner widths are rounded up to a multiple of it")
    mixer: Literal["mlp", "attention"] = Field("mlp", description="how positions are mixed")
    num_heads: int = Field(4, ge=1, description="attention heads")
    puzzle_tokens: int = Field(0, ge=0, description="learned tokens put before the puzzle")
    H_cycles: int = Field(2, ge=1, description="answers refined in one supervision step")
    L_cycles: int = Field(2, ge=1, description="latent refinements before each answer")
    halt_max_steps: int = Field(6, ge=1, description="most supervision steps")
    halt_exploration_prob: float = Field(0.3, ge=0, le=1, description="chance that an early stop is put off")
    halt_exploration_end: float = Field(0.0, ge=0, le=1, description="what that chance is annealed to")
    halt_exploration_anneal_steps: int = Field(0, ge=0, description="optimizer steps of annealing; 0: none")
    halting: Literal["q", "q_continue", "act", "ponder", "graves"] = Field("q", description="how stopping is learned")
    ponder_coef: float = Field(1e-3, ge=0, description="price of thinking in act, ponder and graves")
    ponder_prior: float = Field(0.2, gt=0, lt=1, description="in ponder: chance to halt at a step, a priori")
    every_step_weight: float = Field(
        1.0, ge=0, description="in act, ponder and graves: weight of the loss of every step"
    )
    depth_curriculum: str = Field("", description="H_cycles x L_cycles from a share of training, as 1x1@0, 2x2@0.5")
    initial_noise: float = Field(0.0, ge=0, description="deviation of the random part of the first answer state")
    loss_type: Literal["softmax", "stablemax"] = Field("softmax", description="cross-entropy of the answer")
    act_weight: float = Field(0.5, ge=0, description="weight of the halting head's loss")

    schedule: str = Field("linear", description="weights over the H-cycles")
    supervision_weight: float = Field(1.0, ge=0, le=10, description="weight of the H-cycles before the last")
    step_schedule: str = Field("uniform", description="weights over the supervision steps")
    step_weight: float = Field(0.5, ge=0, le=10, description="weight of the supervision steps before the last")
    curriculum_enabled: bool = Field(False, description="bring supervision_weight in by and by")
    curriculum_start_step: int = Field(0, ge=0, description="weight 0 until here")
    curriculum_end_step: int = Field(200, ge=0, description="full weight from here")
    backprop: Literal["last", "per_cycle", "full"] = Field("full", description="how far gradients flow")
    activation_checkpointing: bool = Field(False, description="compute activations again instead of keeping them")

    @field_validator("schedule", "step_schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        known = supervision.schedule_names()
        try:
            if value not in known:
                supervision.parse_weights(value)
        except ValueError:
            near = difflib.get_close_matches(value, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"no such schedule; {hint}Allowed: {', '.join(known)}, or a list such as '0.2, 0.5, 1'"
            ) from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule != supervision.ADAPTIVE:
            self._check_weights("schedule", self.schedule, self.H_cycles, self.supervision_weight)
        if self.step_schedule == supervision.ADAPTIVE:
            raise ValueError(
                "parameter 'step_schedule': 'adaptive' needs the losses of all steps at once, and supervision steps are "
                "taken one optimizer step each; use it as 'schedule'"
            )
        self._check_weights("step_schedule", self.step_schedule, self.halt_max_steps, self.step_weight)
        self._check_depth_curriculum()
        if self.halting in UNROLLED and not self.every_step_weight and not self.act_weight:
            raise ValueError(
                "parameters 'every_step_weight' and 'act_weight' are both 0: there is nothing to learn from"
            )
        if self.mixer == "attention" and self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"parameter 'hidden_size' = {self.hidden_size} must be a multiple of 2 * num_heads = {2 * self.num_heads}"
            )
        if self.curriculum_enabled and self.curriculum_end_step < self.curriculum_start_step:
            raise ValueError("parameter 'curriculum_end_step' must not be smaller than 'curriculum_start_step'")
        return self

    def _check_depth_curriculum(self) -> None:
        try:
            stages = supervision.depth_stages(self.depth_curriculum, self.max_steps)
        except ValueError as error:
            raise ValueError(f"parameter 'depth_curriculum': {error}") from None
        own = [self.H_cycles, self.L_cycles]
        if stages and stages[-1][1:] != own:
            raise ValueError(
                f"parameter 'depth_curriculum' = {self.depth_curriculum!r} must end with H_cycles x L_cycles, which is "
                f"{own[0]}x{own[1]} and what evaluation uses"
            )
        for _, H, _ in stages:
            if self.schedule != supervision.ADAPTIVE:
                self._check_weights("schedule", self.schedule, H, self.supervision_weight)

    def _check_weights(self, name: str, schedule: str, steps: int, weight: float) -> None:
        try:
            last = supervision.step_weights(schedule, steps, weight)[-1]
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
        if name == "schedule" and self.curriculum_enabled and not last:
            raise ValueError("parameter 'schedule': with the curriculum the last step must have a weight")


class DeepSupervision(TrmTrain):
    """Chapter 02: compare schedules. The parameters of chapter 04, which every arm shares, and which arms to train."""

    arms: str = Field("none, linear, uniform, none/last", description="schedule or schedule/backprop of each arm")
    num_seeds: int = Field(1, ge=1, description="seeds of each arm")
    target_accuracy: float = Field(0.5, gt=0, le=1, description="validation accuracy whose first step is reported")
    table: str = Field("", description="file to write the results to, such as book/results/02_deep_supervision.csv")

    H_cycles: int = Field(3, ge=1, description="answers refined in one supervision step")
    eval_steps: int = Field(6, ge=1, description="supervision steps in evaluation; more than in training is allowed")
    max_steps: int = Field(
        400, ge=1, description="optimizer steps of fully back-propagated arms; the others get equal compute"
    )
    eval_interval: int = Field(50, ge=1, description="steps between evaluations on the validation part")
    compute_gradient_stats: bool = Field(True, description="gradient norm at each H-cycle")

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, value: str) -> str:
        names = arm_names(value)
        if not names or len(set(names)) < len(names):
            raise ValueError("wants names with commas between, each once, such as 'none, linear, none/last'")
        for name in names:
            schedule, backprop = split_arm(name)
            if schedule != CURRICULUM:
                cls._known_schedule(schedule)
            if backprop not in ("last", "per_cycle", "full"):
                raise ValueError(f"arm {name!r}: after the slash stands last, per_cycle or full")
        return value

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        for name in arm_names(self.arms):
            if split_arm(name)[0] not in (CURRICULUM, supervision.ADAPTIVE):
                self._check_weights("arms", split_arm(name)[0], self.H_cycles, self.supervision_weight)
        return self


class Halting(TrmTrain):
    """Chapter 03: when to stop thinking. What is asked of a trained model, and the parameters of chapter 04 for the arms."""

    model_path: str = Field("", description="folder of a trained model; empty: the one that ships for the puzzle")
    tolerance: float = Field(0.003, ge=0, le=1, description="accuracy that a rule may lose against all steps")
    more_steps: int = Field(64, ge=1, description="supervision steps of thinking longer")
    restarts: int = Field(16, ge=1, description="attempts at each puzzle")
    restart_size: int = Field(120, ge=1, description="test puzzles for thinking longer and for restarts")
    early_steps: int = Field(250, ge=0, description="optimizer steps of a model trained for a short time; 0: none")
    arms: str = Field("q, act", description="ways to learn to stop, see HALTING_ARMS; empty: none are trained")
    num_seeds: int = Field(1, ge=1, description="seeds of each arm, and of the model trained for a short time")
    label: str = Field("", description="name of the data in the tables; empty: the puzzle's size")
    tables: str = Field("", description="folder to write the tables to, such as book/results")

    valid_size: int = Field(1000, ge=1, description="puzzles, kept out of training, to choose thresholds on")
    test_size: int = Field(2000, ge=1, description="puzzles of the final test")
    eval_steps: int = Field(16, ge=2, description="supervision steps that rules are held against")
    max_steps: int = Field(400, ge=1, description="optimizer steps of an arm; those that cost more a step take fewer")
    eval_interval: int = Field(200, ge=1, description="steps between evaluations on the validation part")

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, value: str) -> str:
        for arm in arm_names(value):
            name, _, coef = arm.partition(":")
            if name.strip() not in HALTING_ARMS:
                raise ValueError(
                    f"no arm {name!r}; there are {', '.join(HALTING_ARMS)}, also with a ponder_coef: act:5e-3"
                )
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
            raise ValueError(
                f"parameter 'more_steps' = {self.more_steps} must be at least eval_steps = {self.eval_steps}"
            )
        return self


class ReasoningLM(Training):
    """The language model that ships: `python -m trm.training.reasoning_lm`."""

    hidden_size: int = Field(192, ge=32, description="width D")
    num_layers: int = Field(4, ge=1, description="blocks")
    min_steps: int = Field(2, ge=1, description="fewest steps of a problem")
    max_problem_steps: int = Field(6, ge=1, description="most steps of a problem")
    question_weight: float = Field(0.1, ge=0, le=1, description="weight of the prompt's tokens in the loss")
    valid_size: int = Field(100, ge=1, description="problems, kept out of training, for the live curve")
    test_size: int = Field(2000, ge=1, description="problems of the final test")
    batch_size: int = Field(64, ge=1, description="examples an optimizer step, over all processes")
    max_steps: int = Field(4000, ge=1, description="optimizer steps; what ends a run")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="decoupled weight decay")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    eval_interval: int = Field(250, ge=1, description="steps between evaluations on the validation part")
    checkpoint_interval: int = Field(500, ge=1, description="steps between checkpoints")
    early_stopping_patience: int = Field(1, ge=0, description="evaluations without gain that end a run; 0: never")

    @model_validator(mode="after")
    def _steps_in_order(self) -> Self:
        if self.min_steps > self.max_problem_steps:
            raise ValueError(
                f"parameter 'min_steps' = {self.min_steps} must not exceed max_problem_steps = {self.max_problem_steps}"
            )
        return self


COMPRESSORS = ("tied", "untied", "affine", "nonlinear", "task_aware")


class Compression(Training):
    """Chapter 01: compress the hidden states of a language model."""

    lm: str = Field("", description="language model, hub name or path, or package:NAME; empty: the one that ships")
    layer: int = Field(-1, description="whose states: 1 the first block's, -1 what the head reads")
    stage: Literal["1a", "1b", "both"] = Field(
        "both", description="1a: ordinary text; 1b: thinking, from the 1a compressor; both: 1a, then 1b at d_compressed"
    )
    init_from: str = Field("", description="run folder of the 1a compressors that 1b begins with; empty: this run's")
    text_path: str = Field(
        "", description="ordinary text: .txt, .jsonl or hub:NAME; empty: answers of the shipped generator"
    )
    cot_path: str = Field("", description="thinking: .txt, .jsonl or hub:NAME; empty: chains of the shipped generator")
    text_column: str = Field("", description="field of the texts; empty: text, question or generations")
    num_samples: int = Field(2000, ge=1, description="sequences to train on")
    eval_samples: int = Field(200, ge=1, description="sequences to watch, and as many to test on")
    max_seq_length: int = Field(128, ge=2, description="most tokens of a sequence")
    skip_first: int = Field(1, ge=0, description="first tokens of a sequence whose states do not count")
    cache: bool = Field(True, description="keep the states on disk; else they are computed again each epoch")
    cache_dir: str = Field("", description="where, for other runs to find; empty: in this run's folder, until it ends")

    d_compressed: int = Field(32, ge=1, description="size K of the compressed state")
    sweep_d_values: str = Field(
        "4, 8, 16, 32, 64", description="sizes K of the trade-off curve; empty: d_compressed alone"
    )
    arms: str = Field("tied, nonlinear, task_aware", description="compressors trained by gradient descent at each K")
    expansion: float = Field(2.0, gt=0, description="inner width of the MLPs of nonlinear, in D")
    num_epochs: int = Field(5, ge=1, description="most passes over the sequences")
    batch_size: int = Field(32, ge=1, description="sequences an optimizer step, over all processes")
    lr: float = Field(2e-2, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    max_steps: int = Field(0, ge=0, description="optimizer steps of each compressor; 0: num_epochs says")
    eval_interval: int = Field(0, ge=0, description="steps between evaluations on the validation part; 0: an epoch")
    checkpoint_interval: int = Field(0, ge=0, description="steps between checkpoints; 0: an epoch")
    early_stopping: bool = Field(True, description="stop after early_stopping_patience epochs without gain")
    early_stopping_patience: int = Field(3, ge=1, description="evaluations without gain that end a run")
    use_wandb: bool = Field(False, description="the same as log_with wandb")
    problems: int = Field(64, ge=1, description="arithmetic problems that the shipped language model is tried on")

    @field_validator("sweep_d_values")
    @classmethod
    def _sizes(cls, value: str) -> str:
        try:
            sizes = [int(part) for part in value.split(",") if part.strip()]
        except ValueError:
            raise ValueError("wanted are whole numbers with commas, such as 4, 8, 16") from None
        if any(size < 1 for size in sizes) or len(set(sizes)) < len(sizes):
            raise ValueError("each size must be at least 1, and be named once")
        return value

    @field_validator("arms")
    @classmethod
    def _known_compressors(cls, value: str) -> str:
        for arm in arm_names(value):
            if arm not in COMPRESSORS:
                raise ValueError(f"no compressor {arm!r}; there are {', '.join(COMPRESSORS)}")
            if arm_names(value).count(arm) > 1:
                raise ValueError(f"compressor {arm!r} is named twice")
        return value

    @property
    def sizes(self) -> list[int]:
        """The sizes K that are compared, smallest first."""
        return sorted(int(part) for part in self.sweep_d_values.split(",") if part.strip()) or [self.d_compressed]

    @property
    def stages(self) -> list[str]:
        """The stages whose texts are read, in order."""
        return ["1a", "1b"] if self.stage == "both" else [self.stage]

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = Params.NOT_IN_RUN_ID | {"use_wandb", "cache", "cache_dir"}

    @model_validator(mode="before")
    @classmethod
    def _wandb(cls, values: dict) -> dict:
        wanted = str(values.get("use_wandb", False)).strip().lower() in ("true", "t", "1", "yes", "y", "on")
        if wanted and values.get("log_with", "none") not in ("none", "wandb"):
            raise ValueError("parameter 'use_wandb' = True says wandb, and 'log_with' another tracker; choose one")
        return values | ({"log_with": "wandb"} if wanted else {})

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Self:
        if self.init_from and self.stage != "1b":
            raise ValueError("parameter 'init_from' is where stage 1b begins; give stage 1b with it")
        return self


class ScalingLaws(Params):
    """Chapter 10: what the runs of a sweep say of scaling. Nothing is trained."""

    results: str = Field(
        "", description="tables of `trm.sweep results --csv`, with commas between; empty: the committed ones"
    )
    coverage: float = Field(0.9, gt=0, lt=1, description="coverage of the intervals")
    resamples: int = Field(400, ge=10, description="draws of each bootstrap")


class Report(Params):
    """Chapter 11: the claims of the guides against what was measured. Nothing is trained."""

    claims: str = Field("", description="file of claims; empty: book/claims.yaml")
    results: str = Field("", description="folder of tables that they are held against; empty: book/results")


ALL_STEPS = 10**9  # as many as the arm trains for
CGAR = "by thirds"  # the stages of `supervision.cgar_stages`

# What an arm of chapter 03 changes in the parameters of chapter 04.
HALTING_ARMS = {
    "q": {"halting": "q"},
    "q_continue": {"halting": "q_continue"},
    "annealed": {
        "halting": "q",
        "halt_exploration_prob": 0.5,
        "halt_exploration_end": 0.0,
        "halt_exploration_anneal_steps": ALL_STEPS,
    },
    "depth": {"halting": "q", "depth_curriculum": CGAR},
    "act": {"halting": "act"},
    "act_alone": {"halting": "act", "every_step_weight": 0.0, "act_weight": 1.0},
    "ponder": {"halting": "ponder", "ponder_coef": 0.01},
    "graves": {"halting": "graves"},
}


CURRICULUM = "curriculum"  # an arm: the linear schedule, brought in by and by


def arm_names(arms: str) -> list[str]:
    """The names in a list such as "none, linear/last"."""
    return [name.strip() for name in arms.split(",") if name.strip()]


def split_arm(arm: str) -> tuple[str, str]:
    """(schedule, backprop) of an arm; backprop is "full" where the arm does not say."""
    schedule, _, backprop = arm.partition("/")
    return schedule.strip(), backprop.strip() or "full"


def world_size() -> int:
    """Processes that train together, as `accelerate launch` and torchrun say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


# The schema of each chapter's parameters.
CHAPTERS: dict[str, type[Params]] = {
    "01_compressor": Compression,
    "02_deep_supervision": DeepSupervision,
    "03_act_halting": Halting,
    "04_trm_train": TrmTrain,
    "10_scaling_laws": ScalingLaws,
    "11_report": Report,
}
