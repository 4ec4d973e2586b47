"""How parameters reach a chapter: flat, typed, checked before anything is computed.

The schema class declares every parameter once. A chapter's parameters cell shows some of them; papermill (`-p name value`,
`-f file.yaml`), the command line of the paired script (the same flags) or a line in the cell sets any of them, and
`from_notebook` checks the lot in one go.
"""

import ast
import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from trm import text_files
from trm.errors import UserError, show_user_errors_plainly

# Names that the source projects use for what is called otherwise here.
ALIASES = {
    "deep_supervision_schedule": "schedule",
    "deep_supervision_weight": "supervision_weight",
    "learning_rate": "lr",
    "global_batch_size": "batch_size",
    "gradient_accumulation_steps": "grad_accumulation",
    "subsample_size": "train_size",
    "ema_rate": "ema_decay",
    "lr_warmup_steps": "warmup_steps",
    "torch_compile": "compile",
    "prefetch_factor": "prefetch",
    "weight_schedule": "schedule",
    "data_paths": "data_path",
    "log_csv": "table",
    "run_name": "wandb_run_name",
}
# Flags of theirs that have no parameter here, and what to use.
INSTEAD = {
    "no_early_stopping": "give early_stopping_patience 0, or early_stopping False in chapter 01",
    "no_torch_compile": "compile is False unless you set it",
    "num_workers": "batches are made in the training process; chapter 04 can prefetch them (`prefetch`)",
    "log_dir": "a tracker writes into the run's folder, which output_dir chooses",
    "per_worker_batch_size": "batch_size is the global one: multiply by the number of processes",
    "sweep": "run a sweep with `trm sweep run NAME`",
    "experiment": "run an experiment with `trm sweep run NAME`",
    "data_source": "conllu_dir names a treebank; empty: sentences of the shipped grammar",
    "use_wandb": "give log_with wandb",
    "no_wandb": "log_with is none unless you set it",
    "deep_supervision_enabled": "schedule 'none' switches deep supervision off, every other schedule on",
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

    # The module whose import closure computes the results (see `trm.run.source_hash`).
    COMPUTED_BY: ClassVar[str] = "trm.trainer"
    RUN_FOLDERS: ClassVar[tuple[str, ...]] = ()  # folders and files of a run that only this chapter has
    # Parameters that cannot change a result, so that the run id leaves them out.
    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = frozenset(
        {"output_dir", "resume", "time_limit", "log_with", "wandb_project", "wandb_run_name"}
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_papermill_means_it(cls, value: Any, info: ValidationInfo) -> Any:
        """papermill makes 123 and lists of what was meant as text, and leaves "1e3" as text; a flag is not a number."""
        kind = cls.model_fields[info.field_name].annotation
        if kind is str and isinstance(value, (list, tuple)):
            return ", ".join(map(str, value))
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError("must be a number, not true or false")
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
        faults, named, given_as = [], {}, {}
        for name, value in values.items():
            known = cls._own_name(name)
            if known not in cls.model_fields:
                faults.append(f"unknown parameter {name!r}: {INSTEAD.get(name) or cls._hint(name)}")
            elif known in named:
                faults.append(f"parameter {known!r} is given twice, as {given_as[known]!r} and as {name!r}; drop one")
            else:
                named[known], given_as[known] = value, name
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
    def _own_name(cls, name: str) -> str:
        """`name`, or what it is an alias of where that is a parameter of this chapter."""
        return ALIASES[name] if name not in cls.model_fields and ALIASES.get(name) in cls.model_fields else name

    @classmethod
    def _hint(cls, name: str) -> str:
        if name in ALIASES:
            return f"this book calls it {ALIASES[name]!r}, and this chapter has no such parameter"
        known = [*cls.model_fields, *(alias for alias, own in ALIASES.items() if own in cls.model_fields)]
        return did_you_mean(str(name), known) or "known are " + ", ".join(sorted(cls.model_fields))

    @classmethod
    def _say(cls, fault: dict) -> str:
        message = plainly(fault)
        if not fault["loc"]:
            return message
        name = str(fault["loc"][0])
        what = cls.model_fields[name].description
        return f"parameter {name!r} = {fault['input']!r}: {message} ({what})"

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """Parameters of the running chapter, from `globals()` after its parameters cell; prints what differs from the
        defaults.

        In a notebook the names assigned in the parameters cell and in the cell that papermill injects after it count,
        unknown ones included, so that a typo is found. In a script the cell and the command line count: `-p name value` and
        `-f file.yaml`, as with papermill.
        """
        known = {*cls.model_fields, *ALIASES, *INSTEAD}
        given: dict[str, Any] = {}
        if "In" in namespace and "get_ipython" in namespace:
            shown, given = _cell_values(namespace["In"], known)
        elif "__file__" in namespace:
            shown, _ = _cell_values([_parameters_cell(namespace["__file__"])], known)
            if Path(sys.argv[0]).name == Path(namespace["__file__"]).name:
                show_user_errors_plainly()
                if {"-h", "--help"} & set(sys.argv[1:]):
                    print(f"usage: python {sys.argv[0]} [-p NAME VALUE ...] [-f FILE.yaml ...]\n\n{cls.describe()}")
                    sys.exit()
                given = from_command_line(sys.argv[1:])
        else:
            shown = {name: LOOK_UP for name in cls.model_fields if name in namespace}
        settled = {
            cls._own_name(name): name for name in given
        }  # what was given beats the cell, the last name an earlier one
        values = {name: value for name, value in shown.items() if cls._own_name(name) not in settled}
        values |= {name: given[name] for name in settled.values()}
        values = {name: namespace[name] if value is LOOK_UP else value for name, value in values.items()}
        params = cls.create(values)
        changed = ", ".join(f"{name} = {value!r}" for name, value in params.changed().items())
        print(f"parameters: {changed or 'the defaults'}")
        return params

    def changed(self) -> dict[str, Any]:
        """The parameters that differ from their defaults."""
        fields = type(self).model_fields
        return {name: value for name, value in self.model_dump().items() if value != fields[name].default}

    @classmethod
    def describe(cls) -> str:
        """A table of all parameters: name, type with its range or choices, default, description."""
        rows = [(name, _kind(field), repr(field.default), _meaning(field)) for name, field in cls.model_fields.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join("  ".join([*(f"{part:{w}}" for part, w in zip(row, widths)), row[3]]) for row in rows)

    def result_values(self) -> dict[str, Any]:
        """The parameters that can change a result, which the run id is made of."""
        return {name: value for name, value in self.model_dump().items() if name not in self.NOT_IN_RUN_ID}


LOOK_UP = object()  # in place of a value that is not a literal: the notebook's variable has it


def _assigned(source: str) -> tuple[dict[str, Any], bool]:
    """The names that a cell assigns at its top level with their literal values (else `LOOK_UP`), and whether it holds
    nothing but such assignments."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        body = ast.parse("\n".join(lines)).body
    except SyntaxError:
        return {}, False
    found: dict[str, Any] = {}
    assignments = [s for s in body if isinstance(s, ast.Assign) or isinstance(s, ast.AnnAssign) and s.value]
    for statement in assignments:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        try:
            value = ast.literal_eval(statement.value)
        except ValueError:
            value = LOOK_UP
        found |= {target.id: value for target in targets if isinstance(target, ast.Name)}
    return found, bool(body) and len(assignments) == len(body)


def _cell_values(cells: list[str], known: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters that the cells before the first `from_notebook` assign, and those of the newest cell that papermill injected.
    Of later cells those count that hold nothing but literals for parameters. A cell takes the place of an earlier one with
    which it shares half of the names: it is that one, edited and executed again.

    Unknown names count where a cell holds nothing but assignments, one of them to a parameter: they are typos."""
    shown: list[dict[str, Any]] = []
    injected: dict[str, Any] = {}
    begun = False
    for source in cells:
        found, plain = _assigned(source)
        if source.lstrip().startswith("# Parameters"):
            injected = found
        elif "from_notebook(" in source:
            begun = True
        elif known & set(found) and (not begun or plain and LOOK_UP not in found.values()):
            shown = [old for old in shown if 2 * len(old.keys() & found.keys()) < len(old)]
            shown.append(found if plain else {name: value for name, value in found.items() if name in known})
    return {name: value for cell in shown for name, value in cell.items()}, injected


def _parameters_cell(script: str) -> str:
    """The parameters cell of a chapter's script."""
    return Path(script).read_text(encoding="utf-8").partition('# %% tags=["parameters"]\n')[2].partition("\n# %%")[0]


def _kind(field: FieldInfo) -> str:
    """Type of a parameter, with its choices or its range: "int >= 1", "'cpu' | 'cuda'"."""
    choices = get_args(field.annotation)
    limits = [
        f"{sign} {getattr(m, name):g}"
        for m in field.metadata
        for name, sign in {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}.items()
        if hasattr(m, name)
    ]
    return " | ".join(map(repr, choices)) if choices else " ".join([field.annotation.__name__, *limits])


def _meaning(field: FieldInfo) -> str:
    """Description of a parameter, with the names that it takes, where they are known."""
    names = f" ({', '.join(field.examples)})" if field.examples else ""
    return f"{field.description or ''}{names}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest of the `known` names; "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


# Kinds of pydantic's faults whose own words are those of programmers.
PLAIN = {
    "bool_parsing": "must be True or False", "bool_type": "must be True or False", "int_type": "must be a whole number",
    "int_parsing": "must be a whole number", "int_from_float": "must be a whole number",
    "float_parsing": "must be a number", "float_type": "must be a number", "string_type": "must be text",
}  # fmt: skip


def plainly(fault: dict[str, Any]) -> str:
    """What a fault that pydantic found is."""
    return PLAIN.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")


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
            raise ParameterError(f"cannot read {flag!r}; use -p NAME VALUE or -f FILE.yaml (see --help)")
    settled = {ALIASES.get(name, name) for name in given}
    return {name: value for name, value in from_files.items() if ALIASES.get(name, name) not in settled} | given


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file of parameters as a dict.

    Raises:
        ParameterError: the file is missing or does not map names to values.
    """
    values = text_files.read_yaml(path, ParameterError)
    if not isinstance(values, dict):
        raise ParameterError(f"parameters file {path}: give lines of the form `name: value`")
    return values
