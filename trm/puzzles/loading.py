"""Trained TRMs: those that ship with the package, and those that a run saved."""

import json
from pathlib import Path

from trm.checkpoint import PRETRAINED, load_pretrained
from trm.errors import UserError
from trm.halting import UNROLLED
from trm.model import TRM
from trm.puzzles.grid import SHAPES
from trm.puzzles.unrolled import UnrolledTRM


def load_model(folder: str | Path, device: str = "cpu") -> TRM:
    """The model that `save_pretrained` wrote into `folder`, in evaluation mode, on `device`.

    Raises:
        UserError: there is no whole model.
    """
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no model (config.json and model.safetensors): {error}") from error
    unrolled = isinstance(config, dict) and config.get("halting") in UNROLLED
    return load_pretrained(UnrolledTRM if unrolled else TRM, folder, device)


def shipped_model(puzzle: str, device: str = "cpu") -> tuple[TRM, dict]:
    """The model that ships for "6x6" or "9x9", and how it was trained: the parameters that split its data, and more.

    Raises:
        UserError: none ships for that size.
    """
    folder = PRETRAINED / f"sudoku_{puzzle}"
    if not folder.exists():
        known = ", ".join(sorted(path.name.removeprefix("sudoku_") for path in PRETRAINED.glob("sudoku_*")))
        raise UserError(
            f"no model ships for {puzzle} puzzles, only for {known}; train one with chapter 04 and give model_path"
        )
    return load_model(folder, device), json.loads((folder / "training.json").read_text())


def model_and_training(params) -> tuple[TRM, dict]:
    """The model that a chapter asks for, `model_path` or the one that ships for `puzzle`, on the device it asks for, and
    how it was trained: from training.json beside a shipped one, from params.json above one that a run saved, else {}.

    Raises:
        UserError: there is none, or it is for puzzles of another size.
    """
    device = params.device
    if params.model_path:
        model, about = load_model(params.model_path, device), Path(params.model_path).resolve().parent / "params.json"
        training = json.loads(about.read_text())["params"] if about.exists() else {}
    else:
        model, training = shipped_model(params.puzzle, device)
    cells = SHAPES[params.puzzle].cells
    if model.config.seq_len != cells:
        raise UserError(
            f"the model in {params.model_path} is for {model.config.seq_len} cells, and puzzles of {params.puzzle} have "
            f"{cells}; set the parameter puzzle to the size it was trained on"
        )
    return model, training


def check_split(training: dict, params) -> None:
    """See to it that no puzzle on which a model was trained is taken for a test or validation puzzle.

    training: data_path, seed, valid_size and test_size of its training, as `model_and_training` gives them. Data from
    another file, and models of which nothing is known, are their user's to judge.

    Raises:
        UserError: the same data, split in another way.
    """
    if not training or Path(params.data_path).name != Path(training["data_path"]).name:
        return
    names = ("seed", "valid_size", "test_size")
    worse = [name for name in names if getattr(params, name) != training[name]]
    if worse == ["test_size"] and not params.data_path and params.test_size <= training["test_size"]:
        return  # the pack has a fixed test part, of which this takes fewer
    if worse:
        wanted = ", ".join(f"{name} {training[name]}" for name in worse)
        raise UserError(
            f"the model was trained on a part of these puzzles, and with another split it would be tested on them; "
            f"give {wanted}, or train another model and give its folder as model_path"
        )
