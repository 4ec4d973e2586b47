"""How parameters reach a chapter: flat, typed, checked before anything is computed.

A chapter's parameters cell gives the defaults; papermill (`-p name value`, `-f file.yaml`), the command line of the
paired script (the same flags) or an edit in JupyterLab changes them; `from_notebook` checks the lot in one go.
"""

import ast
import difflib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from trm import supervision
from trm.errors import UserError, show_user_errors_plainly

# Names that the guides of the five original systems use for what is called otherwise here.
ALIASES = {
    "deep_supervision_schedule": "schedule",
    "deep_supervision_weight": "supervision_weight",
    "learning_rate": "lr",
    "global_batch_size": "batch_size",
    "subsample_size": "train_size",
    "ema_rate": "ema_decay",
    "lr_warmup_steps": "warmup_steps",
    "torch_compile": "compile",
    "prefetch_factor": "prefetch",
}


class ParameterError(UserError):
    """A parameter that is unknown, of the wrong kind or out of range."""


class HardwareError(ParameterError):
    """Parameters that are right, but not for this machine."""


class MissingHardware(ValueError):
    """What a schema raises where this machine lacks what the parameters ask for."""


class Params(BaseModel):
    """What all chapters share: where a run writes, its seed, and how it is checked. Frozen; unknown names refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, coerce_numbers_to_str=True
    )

    seed: int = Field(0, ge=0, lt=2**31, description="one seed for everything random")
    output_dir: str = Field("", description="folder of the run; empty: outputs/<chapter>/<run id>")
    resume: bool = Field(False, description="go on from the last checkpoint of the same run")
    time_limit: float = Field(0, ge=0, description="minutes of training after which to pause; 0: none")
    log_with: str = Field("none", description="none, tensorboard, wandb or another tracker of accelerate")
    wandb_project: str = Field("trm", description="project name for the tracker")
    wandb_run_name: str = Field("", description="name of the run for the tracker; empty: the run id")

    # Parameters that cannot change a result, so that they are no part of the run id.
    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = frozenset(
        {"output_dir", "resume", "time_limit", "log_with", "wandb_project", "wandb_run_name"}
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_papermill_means_it(cls, value: Any, info: ValidationInfo) -> Any:
        """papermill makes 123 and lists of what was meant as text, and leaves "1e3" as text; a flag is no number."""
        kind = cls.model_fields[info.field_name].annotation
        if kind is str and isinstance(value, (list, tuple)):
            return ", ".join(map(str, value))
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError("a number is wanted, not true or false")
        if kind is int and isinstance(value, str) and re.fullmatch(r"\s*[+-]?[\d.]+[eE][+-]?\d+\s*", value):
            return float(value)
        return value

    @field_validator("log_with")
    @classmethod
    def _tracker_is_there(cls, value: str) -> str:
        if value != "none":
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

            if value not in LOGGER_TYPE_TO_CLASS:
                raise ValueError(f"allowed are none, {', '.join(LOGGER_TYPE_TO_CLASS)}")
            if value not in [tracker.value for tracker in get_available_trackers()]:
                raise ValueError(f"its package is missing; try `pip install {value}`")
        return value

    @classmethod
    def create(cls, values: dict[str, Any]) -> Self:
        """Check `values` (aliases allowed, text coerced) and make the parameters.

        Raises:
            ParameterError: one message with every fault: the name, what is allowed, the nearest known name.
            HardwareError: nothing is wrong but that this machine lacks a device.
        """
        faults, named = [], {}
        for name, value in values.items():
            known = ALIASES.get(name, name)
            if known not in cls.model_fields:
                near = difflib.get_close_matches(name, [*cls.model_fields, *ALIASES], n=1)
                hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(sorted(cls.model_fields))
                faults.append(f"unknown parameter {name!r}: {hint}")
            elif known in named:
                faults.append(f"parameter {known!r} is given twice (also as its other name {name!r})")
            else:
                named[known] = value
        if not faults:
            try:
                return cls(**named)
            except ValidationError as error:
                faults = [cls._say(fault) for fault in error.errors()]
                causes = [fault.get("ctx", {}).get("error") for fault in error.errors()]
                if all(isinstance(cause, MissingHardware) for cause in causes):
                    raise HardwareError("\n".join(faults)) from None
        raise ParameterError("\n".join(faults))

    @classmethod
    def _say(cls, fault: dict) -> str:
        message = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            return message
        name = str(fault["loc"][0])
        what = cls.model_fields[name].description
        return f"parameter {name!r} = {fault['input']!r}: {message} ({what})"

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """Parameters of the running chapter, from `globals()` after its parameters cell.

        In a notebook the names assigned in the parameters cell and in the cell that papermill injects after it count,
        those that do not exist included, so that a slip of the pen is found. In a script the command line counts:
        `-p name value` and `-f file.yaml`, as with papermill.
        """
        given = {}
        if "In" in namespace and "get_ipython" in namespace:
            names = _names_in_parameter_cells(namespace["In"], {*cls.model_fields, *ALIASES})
            given = {name: namespace[name] for name in names if name in namespace}
            other_names = {ALIASES[name] for name in given if name in ALIASES}  # an injected alias beats the default
            given = {name: value for name, value in given.items() if name not in other_names}
        elif Path(sys.argv[0]).name == Path(namespace.get("__file__", "")).name:
            show_user_errors_plainly()
            given = from_command_line(sys.argv[1:])
        settled = {ALIASES.get(name, name) for name in given}
        defaults = {name: namespace[name] for name in cls.model_fields if name in namespace and name not in settled}
        return cls.create({**defaults, **given})

    def result_values(self) -> dict[str, Any]:
        """The parameters that can change a result, which the run id is made of."""
        return {name: value for name, value in self.model_dump().items() if name not in self.NOT_IN_RUN_ID}


def _plainly_assigned(source: str) -> list[str]:
    """Names assigned by a cell that holds nothing but `name = value` lines; none for any other cell."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    plain = [
        s for s in body if isinstance(s, ast.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], ast.Name)
    ]
    return [s.targets[0].id for s in plain] if len(plain) == len(body) else []


def _names_in_parameter_cells(cells: list[str], known: set[str]) -> list[str]:
    """Names assigned in the newest cell of parameters and in the newest that papermill injected."""
    names = {"defaults": [], "injected": []}
    for source in cells:
        assigned = _plainly_assigned(source)
        if source.lstrip().startswith("# Parameters"):
            names["injected"] = assigned
        elif known & set(assigned):
            names["defaults"] = assigned
    return names["defaults"] + names["injected"]


def from_command_line(arguments: list[str]) -> dict[str, Any]:
    """Values of `-p name value` and `-f file.yaml`, the flags of papermill; `-p` wins over `-f`.

    Raises:
        ParameterError: another flag, a missing value, a file that cannot be read.
    """
    from_files, given, rest = {}, {}, list(arguments)
    while rest:
        flag = rest.pop(0)
        if flag in ("-p", "--parameters") and len(rest) >= 2:
            name, value = rest.pop(0), rest.pop(0)
            given[name] = value
        elif flag in ("-f", "--parameters_file") and rest:
            from_files |= read_yaml(rest.pop(0))
        else:
            raise ParameterError(f"cannot read {flag!r} on the command line; use -p NAME VALUE or -f FILE.yaml")
    return {**from_files, **given}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file of parameters as a dict.

    Raises:
        ParameterError: the file is missing or is no mapping of names to values.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ParameterError(f"parameters file {path}: {error}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"parameters file {path}: wants lines of the form `name: value`")
    return values


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
