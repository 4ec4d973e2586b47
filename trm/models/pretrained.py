"""Trained models: those that ship with the package, and those that a run saved."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

from trm.errors import UserError
from trm.models.trm import TRM
from trm.models.unrolled import UNROLLED, UnrolledTRM

SHIPPED = Path(__file__).parent / "shipped"


def load_model(folder: str | Path) -> TRM:
    """The model that `save_pretrained` wrote into `folder`, in evaluation mode.

    Raises:
        UserError: there is no whole model.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = UnrolledTRM if config.get("halting") in UNROLLED else TRM
        with redirect_stdout(io.StringIO()):  # the mixin announces itself
            return kind.from_pretrained(folder).eval()
    except Exception as error:  # safetensors, json and the hub's mixin each raise their own
        raise UserError(f"{folder} holds no model (config.json and model.safetensors): {error}") from error


def shipped_model(puzzle: str) -> tuple[TRM, dict]:
    """The model that ships for "6x6" or "9x9", and how it was trained: the parameters that split its data, and more.

    Raises:
        UserError: none ships for that size.
    """
    folder = SHIPPED / f"sudoku_{puzzle}"
    if not folder.exists():
        known = ", ".join(sorted(path.name.removeprefix("sudoku_") for path in SHIPPED.iterdir()))
        raise UserError(
            f"no model ships for {puzzle} puzzles, only for {known}; train one with chapter 04 and give model_path"
        )
    return load_model(folder), json.loads((folder / "training.json").read_text())


def check_split(training: dict, params) -> None:
    """See to it that no puzzle on which a shipped model was trained is taken for a test or validation puzzle.

    training: its training.json: data_path (the file's name alone), seed, valid_size, test_size. Data from another file
    than that one are its user's to judge.

    Raises:
        UserError: the same data, split in another way.
    """
    if Path(params.data_path).name != training["data_path"]:
        return
    names = ("seed", "valid_size", "test_size")
    worse = [name for name in names if getattr(params, name) != training[name]]
    if worse == ["test_size"] and not params.data_path and params.test_size <= training["test_size"]:
        return  # the pack has a fixed test part, of which this takes fewer
    if worse:
        wanted = ", ".join(f"{name} {training[name]}" for name in worse)
        raise UserError(
            f"the model that ships was trained on a part of these puzzles, and with another split it would be tested on "
            f"them; keep {wanted}, or train a model of your own and give model_path"
        )
