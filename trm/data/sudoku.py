"""Sudoku puzzles to train and test on: the packs that ship, a user's files, or the hub; batches with augmentation.

One reader serves all: the format of Sudoku-Extreme, `source,question,answer,rating`, in which the packs are written too.
"""

import lzma
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from trm.data.sudoku_grid import (
    SHAPES,
    Shape,
    augment,
    canonical_form,
    grid_fingerprint,
    hash_columns,
    is_solution,
    random_numbers,
    tokens,
    transform,
)
from trm.errors import UserError

PACKS = Path(__file__).parent / "packs"
ENDINGS = (".csv", ".csv.gz", ".csv.xz")
COLUMNS = ("source", "question", "answer", "rating")


class PuzzleFileError(UserError):
    """A file of puzzles that cannot be used; the message names file, line and mend."""


@dataclass(frozen=True)
class PuzzleSet:
    """Puzzles of one shape, row by row.

    questions, answers: (N, T) uint8 digits, 0 = blank. ratings: (N,) float. sources: (N,) text. groups: (N,) int64,
    puzzles that must stay on one side of a split. splits: (N,) text or None, the file's own `split` column.
    """

    shape: Shape
    questions: np.ndarray
    answers: np.ndarray
    ratings: np.ndarray
    sources: np.ndarray
    groups: np.ndarray
    splits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.questions)

    def subset(self, rows: np.ndarray) -> "PuzzleSet":
        """The puzzles at `rows` (indices or a mask), in that order."""
        names = ("questions", "answers", "ratings", "sources", "groups")
        part = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **part, splits=None if self.splits is None else self.splits[rows])

    @property
    def clues(self) -> np.ndarray:
        """Clues of each puzzle: (N,)."""
        return (self.questions > 0).sum(1)


@dataclass(frozen=True)
class Splits:
    """Three parts that share no group. `dropped` counts the training puzzles left out because a test puzzle is their twin."""

    train: PuzzleSet
    valid: PuzzleSet
    test: PuzzleSet
    dropped: int = 0


def read_csv(path: str | Path, groups: bool = True) -> PuzzleSet:
    """Read `source,question,answer,rating` (.csv, .csv.gz, .csv.xz; '.' or '0' is a blank; extra columns allowed).

    Used if present: `grid_group` (what must not be split) and `split` (train or test). Without `grid_group` the groups
    are our own: the solution grid's fingerprint (9x9) or the puzzle's canonical form (smaller: 6x6 has only 49 solution
    grids up to symmetry). `groups=False` skips that and numbers the rows, for a list known to hold no twins.

    Raises:
        PuzzleFileError: file, line (the header is line 1), what is wrong, and the mend.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except FileNotFoundError:
        raise PuzzleFileError(f"{path}: no such file; give a {', '.join(ENDINGS)} file with {','.join(COLUMNS)}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        raise PuzzleFileError(f"{path}: cannot be read to its end ({error}); fetch the file again") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise PuzzleFileError(f"{path}: {error}; every line wants the columns of the header") from None
    return _checked(table, str(path), groups)


def _checked(table: pd.DataFrame, name: str, groups: bool = True) -> PuzzleSet:
    """The puzzles in a table of text columns, after all checks; `name` is what messages call it."""
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise PuzzleFileError(f"{name}, line 1: no column {', '.join(missing)}; the header wants {','.join(COLUMNS)}")
    if not len(table):
        raise PuzzleFileError(f"{name}: no puzzles after the header")

    def fail(bad: np.ndarray, what) -> None:
        if bad.any():
            row = int(bad.argmax())
            raise PuzzleFileError(f"{name}, line {row + 2}: {what(row)}")

    by_cells = {shape.cells: shape for shape in SHAPES.values()}
    shape = by_cells.get(len(table["question"].iloc[0]))
    if shape is None:
        length = len(table["question"].iloc[0])
        raise PuzzleFileError(f"{name}, line 2: the question has {length} characters; puzzles have 16, 36 or 81")
    grids = {}
    for column, allowed, blank in (("question", f".0-{shape.size}", True), ("answer", f"1-{shape.size}", False)):
        text = table[column]
        lengths = text.str.len().to_numpy()
        fail(
            lengths != shape.cells,
            lambda row, c=column, n=lengths: f"the {c} has {n[row]} characters, {shape.cells} expected; mend or drop it",
        )
        wide = np.array(text.tolist(), dtype=f"U{shape.cells}").view(np.uint32).reshape(-1, shape.cells)
        digits = np.where(wide == ord("."), ord("0"), wide).astype(np.int64) - ord("0")
        bad = (digits < 0) | (digits > shape.size) | (not blank and digits == 0)
        fail(
            bad.any(1),
            lambda row, c=column, b=bad, a=allowed: (
                f"the {c} has a character outside [{a}] at position {int(b[row].argmax()) + 1}; mend or drop it"
            ),
        )
        grids[column] = digits.astype(np.uint8)
    questions, answers = grids["question"], grids["answer"]
    clash = (questions > 0) & (questions != answers)
    fail(
        clash.any(1),
        lambda row: f"the answer contradicts the question at position {int(clash[row].argmax()) + 1}; mend or drop it",
    )
    fail(
        ~is_solution(shape, questions, answers),
        lambda row: "the answer repeats a digit in a row, column or box; mend or drop it",
    )
    ratings = pd.to_numeric(table["rating"], errors="coerce").to_numpy(float)
    fail(np.isnan(ratings), lambda row: f"the rating {table['rating'].iloc[row]!r} is no number; write 0 if unknown")
    if "grid_group" in table:
        ids = pd.factorize(table["grid_group"])[0].astype(np.int64)
    elif not groups:
        ids = np.arange(len(table))
    else:
        ids = _groups(shape, questions, answers)
    splits = table["split"].to_numpy(str) if "split" in table else None
    return PuzzleSet(shape, questions, answers, ratings, table["source"].to_numpy(str), ids, splits)


def _groups(shape: Shape, questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """What must not be split: (N,) int64, equal for twins up to symmetry in any file."""
    if shape.size > 6:
        return grid_fingerprint(shape, answers)
    return hash_columns(*canonical_form(shape, questions).T).view(np.int64)


def load(
    puzzle: str = "6x6",
    data_path: str = "",
    train_size: int = 0,
    valid_size: int = 256,
    test_size: int = 1000,
    seed: int = 0,
) -> Splits:
    """Puzzles to train on, to watch, and to test on.

    Args:
        puzzle: "4x4", "6x6" or "9x9"; what a file holds must agree.
        data_path: empty: the pack that ships, with its fixed test part; a file: split here, by group; a folder: its
            train.csv and test.csv (also .gz, .xz); "hub:NAME": a data set of the hub, such as
            hub:sapientinc/sudoku-extreme, fetched by `datasets`.
        train_size: so many of the training puzzles, drawn by `seed`; 0: all. The validation part is taken out before.

    No group (see `read_csv`) stands on two sides. The packs hold no two puzzles that are the same up to symmetry; 6x6
    has only 49 solution grids up to symmetry, so there puzzles, not grids, are kept apart.

    Raises:
        PuzzleFileError: unreadable or wrong data, or fewer puzzles than asked for.
    """
    shape = SHAPES[puzzle]
    if not data_path:
        whole = read_csv(PACKS / f"sudoku_{puzzle}.csv.xz", groups=False)
        train, test = whole.subset(whole.splits == "train"), whole.subset(whole.splits == "test")
    elif data_path.startswith("hub:"):
        train, test = _from_hub(data_path.removeprefix("hub:"))
    elif Path(data_path).is_dir():
        train, test = (read_csv(_in_folder(Path(data_path), part)) for part in ("train", "test"))
    else:
        whole = read_csv(data_path)
        if whole.splits is not None and {"train", "test"} <= set(whole.splits):
            train, test = whole.subset(whole.splits == "train"), whole.subset(whole.splits == "test")
        else:
            rest, test = _take(whole, test_size, np.random.default_rng([seed, 1]), "test_size", data_path)
            train = rest
    if train.shape != shape:
        raise PuzzleFileError(f"{data_path} holds {train.shape.name} puzzles; set the parameter puzzle to it")
    if len(test) < test_size:
        raise PuzzleFileError(f"test_size {test_size}: there are only {len(test)} test puzzles")
    test = test.subset(np.arange(test_size)) if not data_path else _sample(test, test_size, seed)
    twins = np.isin(train.groups, test.groups)
    train = train.subset(~twins)
    train, valid = _take(train, valid_size, np.random.default_rng([seed, 2]), "valid_size", data_path or "the pack")
    if train_size > len(train):
        raise PuzzleFileError(f"train_size {train_size}: only {len(train)} puzzles are left for training")
    if train_size:
        train = train.subset(np.random.default_rng([seed, 3]).permutation(len(train))[:train_size])
    return Splits(train, valid, test, int(twins.sum()))


def _sample(puzzles: PuzzleSet, size: int, seed: int) -> PuzzleSet:
    """`size` puzzles drawn by `seed`."""
    return puzzles.subset(np.random.default_rng([seed, 4]).permutation(len(puzzles))[:size])


def _take(puzzles: PuzzleSet, size: int, rng: np.random.Generator, name: str, where: str) -> tuple[PuzzleSet, PuzzleSet]:
    """(the others, `size` puzzles): whole groups are taken out, in random order, until there are `size` puzzles."""
    if size >= len(puzzles):
        raise PuzzleFileError(f"{name} {size}: {where} has only {len(puzzles)} puzzles to take them from")
    _, group = np.unique(puzzles.groups, return_inverse=True)
    rank = rng.permutation(group.max() + 1)[group]  # (N,) a random rank for each group
    order = rank.argsort(kind="stable")
    cut = rank[order[size - 1]]  # the group in which the size-th puzzle lies goes over whole
    return puzzles.subset(rank > cut), puzzles.subset(order[:size])


def _in_folder(folder: Path, part: str) -> Path:
    for ending in ENDINGS:
        if (folder / f"{part}{ending}").exists():
            return folder / f"{part}{ending}"
    raise PuzzleFileError(f"{folder} has no {part}.csv (nor .csv.gz, .csv.xz)")


def _from_hub(name: str) -> tuple[PuzzleSet, PuzzleSet]:
    """The train and test parts of a data set of the hub."""
    from datasets import load_dataset

    try:
        found = load_dataset(name)
    except Exception as error:
        raise PuzzleFileError(f"hub:{name} could not be loaded ({error}); is there a network, and is the name right?") from error
    return tuple(_checked(found[part].to_pandas().astype(str), f"hub:{name}, {part}") for part in ("train", "test"))


class PuzzleBatches:
    """step -> the global batch of that step, {"inputs", "labels"}: (B, T) int64 token ids each.

    A pure function of (seed, step): a resumed run needs no more than its step, and several processes take their rows
    of the same batch. Puzzles are drawn with replacement, each under a symmetry: with `num_aug` 0 a fresh random one,
    else one of the puzzle itself and `num_aug` variants fixed by (seed, puzzle, variant).
    """

    def __init__(self, puzzles: PuzzleSet, batch_size: int, seed: int = 0, num_aug: int = 0):
        self.puzzles, self.batch_size, self.seed, self.num_aug = puzzles, batch_size, seed, num_aug

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, step])
        rows = rng.integers(0, len(self.puzzles), self.batch_size)
        questions, answers, shape = self.puzzles.questions[rows], self.puzzles.answers[rows], self.puzzles.shape
        if self.num_aug == 0:
            questions, answers = augment(shape, questions, answers, rng)
        else:
            variant = rng.integers(0, self.num_aug + 1, self.batch_size)
            column = np.arange(random_numbers(shape))
            bits = hash_columns(np.full(1, self.seed), rows[:, None], variant[:, None], column)  # (B, numbers)
            uniform = (bits >> np.uint64(11)).astype(np.float64) / 2**53
            turned = transform(shape, np.stack((questions, answers), 1), uniform)
            original = (variant == 0)[:, None]
            questions = np.where(original, questions, turned[:, 0])
            answers = np.where(original, answers, turned[:, 1])
        return {"inputs": tokens(questions), "labels": tokens(answers)}
