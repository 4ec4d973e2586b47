"""Checkpoints: a folder of safetensors and JSON, written under a temporary name and renamed; nothing is unpickled."""

import hashlib
import io
import json
import os
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor
from torch.optim import Optimizer

from trm.errors import UserError
from trm.text_files import read_json

Tensors = dict[str, Tensor]
PRETRAINED = Path(__file__).parent / "pretrained"  # the models that ship


class CheckpointError(UserError):
    """A checkpoint that is missing, cut off or belongs to another model."""


def save_checkpoint(folder: Path, tensors: dict[str, Tensors], facts: dict[str, Any], keep: int = 2) -> None:
    """Write `tensors` (one safetensors file per key) and facts.json as `folder`, whole or not at all; then remove all but
    the newest `keep` checkpoints beside it."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, group in tensors.items():
            save_file(
                {key: t.detach().cpu().clone().contiguous() for key, t in group.items()},
                temporary / f"{name}.safetensors",
            )
        sums = {path.name: _digest(path.read_bytes()) for path in temporary.iterdir()} | {"facts": _digest_of(facts)}
        (temporary / "facts.json").write_text(json.dumps({"facts": facts, "sha256": sums}, indent=2), encoding="utf-8")
        for path in temporary.iterdir():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint {folder} could not be written ({error}); the one before it is kept. "
            "Free some space and run the same command with `-p resume True`"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    for old in checkpoints(folder.parent)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def checkpoints(parent: Path) -> list[Path]:
    """The whole checkpoints step_N in `parent`, oldest first."""
    return sorted(p for p in parent.glob("step_*") if (p / "facts.json").exists())


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """What `save_checkpoint` wrote: the groups of tensors, on the processor, and the facts.

    Raises:
        CheckpointError: a file is missing, cut off or not as it was written (SHA-256); the message names it.
    """
    path = folder / "facts.json"
    try:
        document = json.loads(path.read_bytes())
        facts, sums = document["facts"], document["sha256"]
        if sums.pop("facts") != _digest_of(facts):
            raise ValueError("it has changed since it was written")
        groups = {}
        for name, expected in sums.items():
            path = folder / name
            data = path.read_bytes()
            if _digest(data) != expected:
                raise ValueError("it has changed since it was written")
            groups[path.stem] = load(data)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). Remove the folder {folder} to go on from the checkpoint before it, "
            "or run without `resume` to start anew"
        ) from error
    return groups, facts


def load_newest(parent: Path) -> tuple[Path, dict[str, Tensors], dict[str, Any]] | None:
    """Folder, tensors and facts of the newest checkpoint in `parent` that can be read; None: there is none at all.

    Raises:
        CheckpointError: none of those that are there can be read.
    """
    found = checkpoints(parent)
    for folder in reversed(found):
        try:
            return folder, *load_checkpoint(folder)
        except CheckpointError as error:
            if folder == found[0]:
                raise
            print(f"note: going on from the checkpoint before {folder}, which is damaged: {error.__cause__}")
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(facts: dict[str, Any]) -> str:
    return _digest(json.dumps(facts, sort_keys=True).encode())


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """The state of an optimizer as flat named tensors, `<index of parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def load_optimizer(optimizer: Optimizer, tensors: Tensors) -> None:
    """Put back what `optimizer_tensors` gave; the optimizer's own options stay."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def model_folder(folder: str | Path) -> Path:
    """`folder`, if it holds a model; else `from_pretrained` would ask the hub for it. UserError where it does not."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"{path.absolute()}: no such folder; give one with config.json and model.safetensors")
    if not (path / "config.json").is_file():
        raise UserError(f"{path.absolute()} holds no model (config.json and model.safetensors)")
    return path


def load_pretrained(kind: type, folder: str | Path, device: str = "cpu") -> Any:
    """The model of class `kind` that `save_pretrained` wrote into `folder`, in evaluation mode, on `device`.

    Raises:
        UserError: the folder lacks a whole model of that class; a weight is missing or left over.
    """
    path = model_folder(folder)
    read_json(path / "config.json")
    try:
        with redirect_stdout(io.StringIO()):  # the mixin announces itself
            return kind.from_pretrained(path, strict=True).eval().to(device)
    except ValidationError as error:
        fault = error.errors()[0]
        why = f"{'.'.join(map(str, fault['loc']))} = {str(fault['input']):.80}: {fault['msg']}"
        raise UserError(f"{folder} holds no model of this kind (config.json: {why})") from error
    except Exception as error:  # safetensors and the hub's mixin each raise their own
        why = " ".join(" ".join(str(error).splitlines()[:2]).split())  # of weights of another size, the first
        raise UserError(f"{folder} holds no model (config.json and model.safetensors): {why}") from error
