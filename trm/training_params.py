"""Parameters that systems share: of models and their recursion, of training, of arms; and the checks of schedules."""

import os
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trm import supervision
from trm.params import MissingHardware, Params, did_you_mean


class ModelParams(BaseModel):
    """Base of the parameters that define a model: frozen, unknown names refused. A chapter's schema inherits them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CycleParams(ModelParams):
    """Recursion over the tokens of a sequence, with a loss after every H-cycle: what chapters 06 and 07 share."""

    backprop: Literal["last", "per_cycle", "full"] = Field("full", description="how far gradients flow back")
    schedule: str = Field(
        "linear",
        description="per-cycle loss weights (deep supervision); none: only the last",
        examples=supervision.schedule_names(),
    )
    supervision_weight: float = Field(0.5, ge=0, le=10, description="weight of the H-cycles before the last")
    activation_checkpointing: bool = Field(False, description="recompute activations in the backward pass")


class BlockConstants(ModelParams):
    """Settings of `trm.layers.Block` that no chapter offers as parameters."""

    inner_multiple: int = Field(8, ge=1, description="inner widths are rounded up to a multiple of it")
    norm_eps: float = Field(1e-5, gt=0, description="epsilon of the norms")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary embedding")


class Training(Params):
    """How any model is trained."""

    batch_size: int = Field(48, ge=1, description="examples per optimizer step, over all processes")
    grad_accumulation: int = Field(1, ge=1, description="micro-batches per process")
    max_steps: int = Field(1000, ge=1, description="optimizer steps")
    optimizer: Literal["adamw", "adam_atan2", "soap"] = Field("adamw", description="update rule")
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
    backend: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="device; auto: CUDA where there is one; mps: an Apple GPU, in float32"
    )
    compile: bool = Field(False, description="torch.compile of the network")
    eval_interval: int = Field(100, ge=1, description="steps between evaluations on the validation part")
    log_interval: int = Field(20, ge=1, description="steps between records of history.jsonl")
    checkpoint_interval: int = Field(200, ge=1, description="steps between checkpoints")
    early_stopping_patience: int = Field(0, ge=0, description="evaluations without gain before stopping; 0: off")

    @property
    def device(self) -> str:
        """Where `backend` computes: "cuda", "mps" or "cpu"; "cpu" for xla too, whose devices accelerate does not see."""
        if self.backend == "mps":
            return "mps"
        return "cuda" if self.backend not in ("cpu", "xla") and torch.cuda.is_available() else "cpu"

    @model_validator(mode="after")
    def _device_is_there(self) -> Self:
        cuda = torch.cuda.is_available()
        if self.backend == "cuda" and not cuda:
            raise MissingHardware("parameter 'backend' = 'cuda': this torch sees no CUDA device; use 'auto' or 'cpu'")
        if self.backend == "mps":
            if not torch.backends.mps.is_available():
                raise MissingHardware("parameter 'backend' = 'mps': this torch sees no Apple GPU; use 'auto' or 'cpu'")
            if self.precision != "float32" or self.compile:
                raise ValueError("parameter 'backend' = 'mps' requires precision 'float32' and compile False")
        if self.precision == "float16" and (self.backend in ("cpu", "xla") or not cuda):
            raise MissingHardware("parameter 'precision' = 'float16' requires CUDA; else use 'float32' or 'bfloat16'")
        return self

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> Self:
        if self.batch_size % (self.grad_accumulation * world_size()):
            raise ValueError(
                f"parameter 'batch_size' = {self.batch_size} must be a multiple of grad_accumulation * processes = "
                f"{self.grad_accumulation} * {world_size()}"
            )
        return self


class RecursiveTraining(Training):
    """How a recursive model is trained: what is logged of each cycle."""

    compute_gradient_stats: bool = Field(False, description="log the gradient norm after each cycle")
    log_per_step_losses: bool = Field(True, description="log the loss after each cycle")


def subset(config: type, params: Any, **given: Any) -> Any:
    """`config` (a dataclass or pydantic class) with the values of `params` that have its names, and those `given`.

    Raises:
        TypeError: a field of `config` is neither in `params` nor given.
    """
    names = getattr(config, "model_fields", None) or config.__dataclass_fields__
    missing = [name for name in names if name not in given and not hasattr(params, name)]
    if missing:
        raise TypeError(f"{config.__name__} needs {', '.join(missing)}, which {type(params).__name__} lacks")
    return config(**{name: getattr(params, name) for name in names if name not in given}, **given)


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
        hint = did_you_mean(value, known)
        raise ValueError(f"no such schedule; {hint} Allowed: {', '.join(known)}, or a list such as '0.2, 1'") from None
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


class ArmTraining(RecursiveTraining):
    """Training of an arm: named changes to the parameters of a chapter, whose class has `arm` and attention heads."""

    ARMS: ClassVar[dict[str, dict[str, Any]]]  # what each arm changes
    FREE: ClassVar[tuple[str, ...]] = ()  # parameters that an arm changes whatever they are

    _known_schedule = field_validator("schedule", check_fields=False)(known_schedule)

    @field_validator("arm", "baseline_arm", check_fields=False)
    @classmethod
    def _known_arm(cls, value: str) -> str:
        if value and value not in cls.ARMS:
            raise ValueError(f"no arm {value!r}; there are {', '.join(cls.ARMS)}")
        return value

    @model_validator(mode="after")
    def _agrees_with_arm(self) -> Self:
        if (width := self.hidden_size) % (unit := 2 * self.num_heads):
            raise ValueError(f"parameter 'hidden_size' = {width} must be a multiple of 2 * num_heads = {unit}")
        for name, value in self.ARMS.get(self.arm, {}).items():
            own, default = getattr(self, name), type(self).model_fields[name].default
            if name not in self.FREE and own not in (value, default):
                raise ValueError(f"parameter {name!r} = {own!r} contradicts arm {self.arm!r}; leave one of them out")
        return self

    def of_arm(self, arm: str) -> Self:
        """These parameters with the changes of `arm`; "": as they are."""
        return self.model_copy(update=self.ARMS.get(arm, {}))
