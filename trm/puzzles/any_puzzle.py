"""A TRM on any puzzle that is a sequence of tokens: mazes, or a folder of one's own (see book/manual/own_puzzles.md)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from trm.errors import UserError
from trm.model import TRM, TRMConfig
from trm.progress import Progress
from trm.puzzles import maze
from trm.puzzles.params import PuzzleTraining
from trm.puzzles.solve import evaluate_tokens
from trm.puzzles.token_set import Metadata, TokenBatches, TokenSet
from trm.puzzles.unrolled import make_trm
from trm.run import Run
from trm.trainer import Trainer


class TokenTraining(PuzzleTraining):
    """A TRM on puzzles that are sequences of tokens and nothing more."""

    @model_validator(mode="after")
    def _has_no_houses(self) -> Self:
        if self.mixer == "houses":
            raise ValueError("parameter 'mixer' = 'houses' is for Sudoku; take 'mlp' or 'attention'")
        return self


class AnyPuzzle(TokenTraining):
    """The parameters of a TRM on mazes, or on a folder of examples."""

    COMPUTED_BY: ClassVar[str] = "trm.puzzles.any_puzzle"

    data_path: str = Field(
        "",
        description="folder with train/ and test/ in the original code's format, or a CSV of mazes; empty: mazes are generated",
    )
    side: int = Field(9, ge=5, le=101, description="side of generated mazes, odd")
    loops: int = Field(0, ge=0, description="walls opened in generated mazes, so that ways fork and meet")
    num_aug: int = Field(8, ge=1, le=8, description="rotations and reflections of each generated training maze")
    train_size: int = Field(1000, ge=0, description="training puzzles (groups of a folder); 0: all of a folder")
    test_size: int = Field(500, ge=1, description="test puzzles")

    @model_validator(mode="after")
    def _fits_any_puzzle(self) -> Self:
        if not self.data_path and not self.train_size:
            raise ValueError("parameter 'train_size' = 0 takes all of a folder; say how many mazes to generate")
        return self


@dataclass(frozen=True)
class TokenSplits:
    """Three parts that share no group."""

    train: TokenSet
    valid: TokenSet
    test: TokenSet


def load(params: AnyPuzzle) -> TokenSplits:
    """The puzzles that `params` name. Of a folder the validation part is the last groups of its train/, which are then not
    trained on. UserError: too few puzzles, or a file that cannot be used."""
    sizes = {"train": params.train_size, "valid": params.valid_size, "test": params.test_size}
    if not params.data_path:
        return TokenSplits(**maze.make(params.side, sizes, 0, params.loops, params.num_aug))  # the same for every seed
    path = Path(params.data_path).expanduser()
    if path.is_dir():
        whole, test = TokenSet.load(path / "train"), TokenSet.load(path / "test")
    else:
        every = maze.read_csv(path)
        if len(every) <= params.test_size:
            raise UserError(f"{path} holds {len(every)} mazes; test_size {params.test_size} leaves none")
        whole, test = every.between(params.test_size, len(every)), every.first(params.test_size)
    for name in ("seq_len", "vocab_size", "num_puzzle_identifiers"):
        if (one := getattr(whole.about, name)) != (other := getattr(test.about, name)):
            raise UserError(f"{path}: {name} is {one} in train/ and {other} in test/; the two must agree")
    groups = len(whole.group_indices) - 1
    size = params.train_size or groups - params.valid_size
    if size < 1 or size + params.valid_size > groups:
        asked = f"train_size {params.train_size} and valid_size {params.valid_size}"
        raise UserError(f"{path}: {groups} groups to train on; {asked} ask for more")
    test = test.first(min(params.test_size, len(test.group_indices) - 1))
    return TokenSplits(whole.first(size), whole.between(groups - params.valid_size, groups), test)


def trm_config(params: TokenTraining, about: Metadata) -> TRMConfig:
    """The configuration of the model for a data set."""
    config = TRMConfig.of(params, about.vocab_size, about.seq_len)
    return config.model_copy(update={"num_puzzles": about.num_puzzle_identifiers})


def make_model(params: TokenTraining, data: TokenSplits) -> TRM:
    """The TRM that `params` describe, for the puzzles in `data.train`; its initial weights depend on `params.seed` alone."""
    return make_trm(trm_config(params, data.train.about), params.seed)


def make_trainer(model: TRM, params: AnyPuzzle, run: Run, data: TokenSplits, show: Progress | None = None) -> Trainer:
    """A trainer of `model` on the training part, evaluated on the validation part."""
    batches = TokenBatches(data.train, params.batch_size, params.seed)

    def test(averaged: TRM) -> dict[str, float]:
        return evaluate_tokens(averaged, data.valid, params.eval_steps).metrics("valid")

    return Trainer(model, batches, params, run, evaluate=test, show=show)
