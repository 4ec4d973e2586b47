"""How any model is trained: the parameters that all training chapters share."""

import difflib
import importlib.util
import os
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from trm import supervision
from trm.params.base import MissingHardware, Params


class Training(Params):
    """How any model is trained."""

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = Params.NOT_IN_RUN_ID | {"prefetch"}
    TRAINS_ON_XLA: ClassVar[bool] = False

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
    backend: Literal["auto", "cpu", "cuda", "xla"] = Field(
        "auto", description="where to compute; xla: TPUs, chapter 04"
    )
    compile: bool = Field(False, description="torch.compile of the network; XLA compiles all in any case")
    prefetch: int = Field(0, ge=0, description="batches that a thread makes ahead; 0: none")
    eval_interval: int = Field(100, ge=1, description="steps between evaluations on the validation part")
    log_interval: int = Field(20, ge=1, description="steps between records of history.jsonl")
    checkpoint_interval: int = Field(200, ge=1, description="steps between checkpoints")
    early_stopping_patience: int = Field(0, ge=0, description="evaluations without gain that end a run; 0: never")
    compute_gradient_stats: bool = Field(False, description="gradient norm at each H-cycle")
    log_per_step_losses: bool = Field(True, description="loss after each H-cycle")

    @property
    def device(self) -> str:
        """Where `backend` computes: "cuda" or "cpu"; "cpu" for xla too, whose devices accelerate does not see."""
        return "cuda" if self.backend not in ("cpu", "xla") and torch.cuda.is_available() else "cpu"

    @model_validator(mode="after")
    def _device_is_there(self) -> Self:
        cuda = torch.cuda.is_available()
        if self.backend == "xla":
            self._xla_is_there()
        if self.backend == "cuda" and not cuda:
            raise MissingHardware("parameter 'backend' = 'cuda': this torch sees no CUDA device; use 'auto' or 'cpu'")
        if self.precision == "float16" and (self.backend in ("cpu", "xla") or not cuda):
            raise MissingHardware("parameter 'precision' = 'float16' wants CUDA; elsewhere use 'float32' or 'bfloat16'")
        return self

    def _xla_is_there(self) -> None:
        if not self.TRAINS_ON_XLA:
            raise ValueError("parameter 'backend' = 'xla' is for chapter 04 alone; here use 'auto', 'cpu' or 'cuda'")
        if importlib.util.find_spec("torch_xla") is None:
            raise MissingHardware(
                "parameter 'backend' = 'xla' wants torch_xla, which is not installed; requirements-tpu.txt is for an "
                "environment that has it"
            )

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> Self:
        if self.batch_size % (self.grad_accumulation * world_size()):
            raise ValueError(
                f"parameter 'batch_size' = {self.batch_size} must be a multiple of grad_accumulation * processes = "
                f"{self.grad_accumulation} * {world_size()}"
            )
        return self


def arm_names(arms: str) -> list[str]:
    """The names in a list such as "none, linear/last"."""
    return [name.strip() for name in arms.split(",") if name.strip()]


def world_size() -> int:
    """Processes that train together, as `accelerate launch` and torchrun say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def known_schedule(value: str) -> str:
    """`value`, if it names a schedule of weights or is a list of them; for the validators of schemas.

    Raises:
        ValueError: with the nearest known name.
    """
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


def checked_weights(name: str, schedule: str, steps: int, weight: float) -> list[float]:
    """The weights that the schedule in parameter `name` gives so many steps.

    Raises:
        ValueError: it gives none for them; the message names the parameter.
    """
    try:
        return supervision.step_weights(schedule, steps, weight)
    except ValueError as error:
        raise ValueError(f"parameter {name!r}: {error}") from None
