"""Sudoku puzzles to train and test on: the packs that ship, a user's files, or the hub; batches with augmentation."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from trm.errors import UserError
from trm.puzzles import sudoku
from trm.puzzles.exact import SEVERAL, UNDECIDED, judge
from trm.puzzles.sudoku import PACKS, PUZZLES, SHAPES, Shape, tokens, transform
from trm.puzzles.text import Question, read_questions
from trm.text_files import open_text, reading

ENDINGS = (".csv", ".csv.gz", ".csv.xz")
COLUMNS = ("source", "question", "answer", "rating")
OTHER_NAMES = {"puzzle": "question", "quizzes": "question", "solution": "answer", "solutions": "answer"}
HEADER = "question,answer (or puzzle,solution; or quizzes,solutions)"
FIELDS = ("questions", "answers", "ratings", "splits", "given_groups")  # of a PuzzleSet, one row per puzzle
LINES_AT_ONCE = 200_000  # Sudoku-Extreme has 3.8 million lines
JUDGED = 1_000  # of each `LINES_AT_ONCE`, whether their answers are the only ones: up to ten seconds


class PuzzleFileError(UserError):
    """A file of puzzles that cannot be used; the message names file, line and fix."""


@dataclass(frozen=True)
class PuzzleSet:
    """Puzzles of one shape, row by row."""

    shape: Shape
    questions: np.ndarray  # (N, T) uint8 digits, 0 = blank
    answers: np.ndarray  # (N, T) uint8 digits
    ratings: np.ndarray  # (N,) float
    splits: np.ndarray | None = None  # (N,) text, the file's own `split` column
    given_groups: np.ndarray | None = None  # (N,) int64, the file's own `grid_group` column

    def __len__(self) -> int:
        return len(self.questions)

    @cached_property  # computed when asked for: a split of millions of puzzles needs it for few of them
    def groups(self) -> np.ndarray:
        """What must stay on one side of a split: (N,) int64, equal for symmetric duplicates.

        `given_groups`, else the fingerprint of the solution grid (9x9) or a hash of the puzzle's canonical form (6x6 has
        only 49 solution grids up to symmetry, so there puzzles are kept apart, not grids).
        """
        if self.given_groups is not None:
            return self.given_groups
        if self.shape.size > 6:
            return sudoku.grid_fingerprint(self.shape, self.answers)
        return sudoku.hash_columns(*sudoku.canonical_form(self.shape, self.questions).T).view(np.int64)

    def subset(self, rows: np.ndarray) -> "PuzzleSet":
        """The puzzles at `rows` (indices or a mask), in that order."""
        part = {name: values[rows] for name in FIELDS if (values := getattr(self, name)) is not None}
        if "groups" in self.__dict__:  # known already
            part["given_groups"] = self.groups[rows]
        return replace(self, **part)

    @property
    def clues(self) -> np.ndarray:
        """Clues of each puzzle: (N,)."""
        return (self.questions > 0).sum(1)


@dataclass(frozen=True)
class Splits:
    """Three parts that share no group. `dropped`: training puzzles left out because a test puzzle has their group."""

    train: PuzzleSet
    valid: PuzzleSet
    test: PuzzleSet
    dropped: int = 0


def read_puzzles(path: str | Path) -> PuzzleSet:
    """Read the format of Sudoku-Extreme, `source,question,answer,rating` (.csv, .csv.gz, .csv.xz), or `HEADER`; or puzzles
    without answers, as `trm solve` takes them (`text.read_questions`), which the exact solver answers.

    Blanks are '.', '0', '_' or '*'. Used if present: `rating`, `grid_group` (whole numbers: what must not be split) and
    `split` (train or test). Fields are separated by commas, semicolons or tabs. Empty lines are skipped. That a puzzle has no
    other answer is checked where the solver answers it, else for `JUDGED` lines, evenly spaced, of each `LINES_AT_ONCE`.

    Raises:
        PuzzleFileError: file, line (the header is line 1), what is wrong, and the fix; its sister PuzzleTextError, where a
            file without a header holds what is not a puzzle.
    """
    with open_text(path, PuzzleFileError) as file:
        header = file.readline()
    if re.fullmatch(r"#.*|\[.*|[\d.*_|+\s-]+", header.strip()):  # no header: puzzles alone
        return _answered(read_questions(path))
    if not header.strip():
        raise PuzzleFileError(f"{path}, line 1: is empty; it must be the header, {HEADER}")
    options = dict(dtype=str, keep_default_na=False, skip_blank_lines=False, chunksize=LINES_AT_ONCE)
    packing = {".gz": "gzip", ".xz": "xz"}.get(Path(path).suffix)
    try:
        with reading(path, PuzzleFileError):
            return _joined(
                pd.read_csv(path, sep=max(",;\t", key=header.count), compression=packing, **options), str(path)
            )
    except pd.errors.ParserError as error:
        line = re.search(r"line (\d+)", str(error))
        what = f", line {line[1]}: more columns than the header has" if line else ': a quotation mark (") is not closed'
        raise PuzzleFileError(f"{path}{what}; every line must have the columns of the header") from None


def _answered(questions: list[Question]) -> PuzzleSet:
    """Puzzles of one shape, each with the answer that the exact solver finds."""
    shape = questions[0].shape
    for question in questions:
        if question.shape != shape:
            sizes = f"{question.shape.name}, after puzzles of {shape.name}"
            raise PuzzleFileError(f"{question.where}: {sizes}; one size a file")
    answers = [_only_answer(shape, question.digits, question.where) for question in questions]
    grids = np.array([question.digits for question in questions], np.uint8)
    return PuzzleSet(shape, grids, np.array(answers, np.uint8), np.zeros(len(grids)))


def _only_answer(shape: Shape, question, where: str) -> list[int]:
    """The answer of a question, T digits. PuzzleFileError: it has none, or several, or the exact solver gave up."""
    status, why, answer = judge(shape, question)
    if status == UNDECIDED:
        raise PuzzleFileError(f"{where}: {why}; give its answer in a column `answer`, or remove it")
    if status:
        raise PuzzleFileError(f"{where}: {status}{f' ({why})' * bool(why)}; fix or remove it")
    return answer


def _joined(tables: Iterable[pd.DataFrame], name: str) -> PuzzleSet:
    """The puzzles of all tables, which are pieces of one file; `name` is what messages call it."""
    parts, lines, line, shape = [], [], 2, None
    for table in tables:
        names = table.columns.str.strip().str.lower()
        table.columns = [OTHER_NAMES.get(column, column) for column in names]
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus columns of all lines for an index
            raise PuzzleFileError(f"{name}, line 2: more columns than the header has; every line must have those")
        part, numbers = _checked(table, name, line, shape)
        parts.append(part)
        lines.append(numbers)
        shape, line = part.shape, line + len(table)
    parts = [part for part in parts if len(part)]
    if not parts:
        raise PuzzleFileError(f"{name}: no puzzles after the header")
    puzzles = _concatenated(parts)
    _refuse_other_answers(puzzles, np.concatenate(lines), name)
    return puzzles


def _refuse_other_answers(puzzles: PuzzleSet, lines: np.ndarray, name: str) -> None:
    """PuzzleFileError: a question stands twice, with different answers. lines: (N,) where the puzzles stand in the file."""
    question, answer = (sudoku.hash_columns(*grids.T) for grids in (puzzles.questions, puzzles.answers))
    order = question.argsort(kind="stable")
    other = np.flatnonzero((np.diff(question[order]) == 0) & (answer[order][1:] != answer[order][:-1]))
    if other.size:
        first, second = lines[order[other[0]]], lines[order[other[0] + 1]]
        what = f"the question of line {first} again, with another answer; fix or remove one"
        raise PuzzleFileError(f"{name}, line {second}: {what}")


def _checked(table: pd.DataFrame, name: str, first_line: int, shape: Shape | None) -> tuple[PuzzleSet, np.ndarray]:
    """The puzzles in a table of text columns, after all checks, and the line of each, (N,)."""
    for column in ("question", "answer", "rating", "split", "grid_group"):
        if (count := (table.columns == column).sum()) > 1 or not count and column == "question":
            raise PuzzleFileError(f"{name}, line 1: {count} columns for the {column}; the header must have {HEADER}")
    table = table.fillna("")  # a line with too few columns
    line = np.arange(first_line, first_line + len(table))
    filled = (table.iloc[:, 0] != "").to_numpy()
    if not filled.all():  # an empty line has nothing in any column
        filled = (table != "").any(axis=1).to_numpy()
        table, line = table[filled], line[filled]

    def fail(bad: np.ndarray, what: str, values: np.ndarray | None = None) -> None:
        """Name the first line that is `bad`, (N,) or (N, T); {} in `what` is its position or its entry of `values`."""
        if bad.any():
            row = int(bad.reshape(len(bad), -1).any(1).argmax())
            value = bad[row].argmax() + 1 if values is None else values[row]
            raise PuzzleFileError(f"{name}, line {line[row]}: {what.format(value)}")

    lengths = table["question"].str.len().to_numpy()
    if shape is None:
        cells = lengths[0] if len(table) else SHAPES["6x6"].cells  # any, for an empty table
        shape = next((shape for shape in SHAPES.values() if shape.cells == cells), None)
        if shape is None:
            fail(lengths == cells, "the question has {} characters; puzzles have 16, 36 or 81", lengths)

    def grid(column: str, least: int) -> np.ndarray:  # (N, T) digits
        lengths = table[column].str.len().to_numpy()
        wrong = lengths != shape.cells
        fail(wrong, f"the {column} has {{}} characters, {shape.cells} expected; fix or remove it", lengths)
        text = "".join(table[column]).encode("ascii", "replace")
        letters = np.frombuffer(text, np.uint8).reshape(-1, shape.cells)
        blank = np.isin(letters, list(b"._*"))
        digits = np.where(blank, 0, letters - np.uint8(ord("0")))  # other letters wrap to large numbers
        bad = (digits < least) | (digits > shape.size)
        allowed = f"[1-{shape.size}]" if least else f"[.0-{shape.size}]"
        fail(bad, f"the {column} has a character outside {allowed} at position {{}}; fix or remove it")
        return digits

    questions = grid("question", 0)
    if "answer" in table:
        answers = grid("answer", 1)
        clash = (questions > 0) & (questions != answers)
        fail(clash, "the answer contradicts the question at position {}; fix or remove it")
        repeats = ~sudoku.is_solution(shape, questions, answers)
        fail(repeats, "the answer repeats a digit in a row, column or box; fix or remove it")
        for row in np.unique(np.linspace(0, len(line) - 1, min(len(line), JUDGED)).astype(int)):
            status, why, _ = judge(shape, questions[row].tolist())
            if status == SEVERAL:
                raise PuzzleFileError(f"{name}, line {line[row]}: {status} ({why}); add clues or remove it")
    else:
        places = (f"{name}, line {number}" for number in line)
        found = [_only_answer(shape, question, where) for question, where in zip(questions.tolist(), places)]
        answers = np.array(found, np.uint8).reshape(questions.shape)
    if "rating" not in table:
        table = table.assign(rating="0")
    ratings = pd.to_numeric(table["rating"], errors="coerce").to_numpy(float)
    fail(~np.isfinite(ratings), "the rating {!r} is not a number; write 0 if unknown", table["rating"].to_numpy())
    groups = None
    if "grid_group" in table:
        number = pd.to_numeric(table["grid_group"], errors="coerce").to_numpy(float)
        whole = (abs(number) < 2**53) & (number == np.round(number))
        fail(~whole, "the grid_group is not a whole number; fix it or leave the column out")
        groups = number.astype(np.int64)
    splits = table["split"].to_numpy(str) if "split" in table else None
    return PuzzleSet(shape, questions, answers, ratings, splits, groups), line


def load(
    puzzle: str = "6x6", data_path: str = "", train_size: int = 0, valid_size: int = 256, test_size: int = 1000, seed=0
) -> Splits:
    """Puzzles to train on, to watch, and to test on.

    Args:
        puzzle: "4x4", "6x6", "6x6-hard" or "9x9"; the shape of what a file holds must agree.
        data_path: empty: the pack that ships, with its fixed test part (the first `test_size` of it are taken); a file:
            by its own `split` column, else split here, by group; a folder: its train.csv and test.csv (also .gz, .xz);
            "hub:NAME": a data set of the hub, such as hub:sapientinc/sudoku-extreme, fetched by `datasets`.
        train_size: so many of the training puzzles, drawn by `seed`; 0: all. The validation part is taken out before.
        test_size: so many of the test puzzles, the same for every seed; 0: all, where the test part is given.

    No group (see `PuzzleSet.groups`) stands on two sides: training puzzles that share one with a test puzzle are left out.
    Several paths with commas between them: each is split by itself, and the parts are joined; a path that stands there twice
    gives its training puzzles twice.
    """
    if len(paths := list_paths(data_path)) > 1:
        split = {path: load(puzzle, path, train_size, valid_size, test_size, seed) for path in dict.fromkeys(paths)}
        return _joined_splits([split[path] for path in paths], list(split.values()))
    if puzzle not in PUZZLES:
        raise PuzzleFileError(f"no puzzle {puzzle!r}; there are {', '.join(PUZZLES)}")
    if min(train_size, valid_size, test_size) < 0:
        raise PuzzleFileError("train_size, valid_size and test_size must be at least 0")
    where, test = data_path or "the pack", None
    if not data_path:
        train = read_puzzles(PACKS / f"sudoku_{puzzle}.csv.xz")
        train = replace(train, given_groups=np.arange(len(train)))  # known to hold no symmetric duplicates
    elif data_path.startswith("hub:"):
        train, test = _from_hub(data_path.removeprefix("hub:"))
    elif Path(data_path).is_dir():
        train, test = (read_puzzles(_in_folder(Path(data_path), part)) for part in ("train", "test"))
    else:
        train = read_puzzles(data_path)
    if test is None and train.splits is not None and {"train", "test"} <= set(train.splits):
        train, test = (train.subset(train.splits == part) for part in ("train", "test"))
    for part in (train, test or train):
        if part.shape != PUZZLES[puzzle].shape:
            raise PuzzleFileError(f"{data_path} holds {part.shape.name} puzzles; set the parameter puzzle to it")
    if test is None:
        if not test_size:
            raise PuzzleFileError(f"test_size 0: {where} has no test part; say how many puzzles to test on")
        train, test = _take(train, test_size, np.random.default_rng(0), "test_size", where)
    elif len(test) < test_size:
        raise PuzzleFileError(f"test_size {test_size}: there are only {len(test)} test puzzles")
    elif test_size:  # files may be sorted, by source or rating
        order = np.random.default_rng(0).permutation(len(test)) if data_path else np.arange(len(test))
        test = test.subset(order[:test_size])
    if (train.given_groups is None) != (test.given_groups is None):  # numbers of one file mean nothing in another
        train, test = replace(train, given_groups=None), replace(test, given_groups=None)
    if train_size and len(train) > (enough := max(4 * (train_size + valid_size), 50_000)):  # spares grouping millions
        train = train.subset(np.random.default_rng([seed, 1]).permutation(len(train))[:enough])
    duplicates = np.isin(train.groups, test.groups)
    if duplicates.all():
        raise PuzzleFileError(f"every training puzzle of {where} is a symmetric duplicate of a test puzzle")
    train = train.subset(~duplicates)
    train, valid = _take(train, valid_size, np.random.default_rng([seed, 2]), "valid_size", where)
    if train_size > len(train):
        raise PuzzleFileError(f"train_size {train_size}: only {len(train)} puzzles are left for training")
    if train_size:
        train = train.subset(np.random.default_rng([seed, 3]).permutation(len(train))[:train_size])
    return Splits(train, valid, test, int(duplicates.sum()))


def list_paths(data_path: str) -> list[str]:
    """The paths in a `data_path`: what stands between its commas, or itself where a file is really called so."""
    return [data_path] if Path(data_path).exists() else [path.strip() for path in data_path.split(",")]


def _joined_splits(with_repeats: list[Splits], each: list[Splits]) -> Splits:
    """Training parts of `with_repeats`, validation and test parts of `each`; by the answers, whatever numbers files give."""
    train, valid, test = (
        _concatenated([replace(getattr(splits, part), given_groups=None) for splits in chosen])
        for part, chosen in (("train", with_repeats), ("valid", each), ("test", each))
    )
    held_out = np.isin(train.groups, np.concatenate((valid.groups, test.groups)))
    return Splits(train.subset(~held_out), valid, test, sum(s.dropped for s in each) + int(held_out.sum()))


def _concatenated(parts: list[PuzzleSet]) -> PuzzleSet:
    columns = {field: [getattr(part, field) for part in parts] for field in FIELDS}
    return PuzzleSet(
        parts[0].shape, **{k: None if any(x is None for x in v) else np.concatenate(v) for k, v in columns.items()}
    )


def _take(puzzles: PuzzleSet, size: int, rng, name: str, where: str) -> tuple[PuzzleSet, PuzzleSet]:
    """(the others, `size` puzzles): whole groups are taken out, in random order, until there are `size` puzzles."""
    if size >= len(puzzles):
        raise PuzzleFileError(f"{name} {size}: {where} has only {len(puzzles)} puzzles to take them from")
    if not size:
        return puzzles, puzzles.subset(np.arange(0))
    _, group = np.unique(puzzles.groups, return_inverse=True)
    rank = rng.permutation(group.max() + 1)[group]  # (N,) a random rank for each group
    order = rank.argsort(kind="stable")
    cut = rank[order[size - 1]]  # what is left of the last group is on neither side
    if cut == rank.max():
        kinds = f"only {cut + 1} puzzles" if cut else "all one puzzle"
        what = f"the {len(puzzles)} puzzles of {where} are {kinds} up to symmetry (of 9x9, solution grids are counted)"
        raise PuzzleFileError(f"{name} {size}: {what}")
    return puzzles.subset(rank > cut), puzzles.subset(order[:size])


def _in_folder(folder: Path, part: str) -> Path:
    found = [path for ending in ENDINGS if (path := folder / f"{part}{ending}").exists()]
    if not found:
        raise PuzzleFileError(f"{folder.absolute()} has no {part}.csv (nor .csv.gz, .csv.xz)")
    return found[0]


def _from_hub(name: str) -> tuple[PuzzleSet, PuzzleSet]:
    """The train and test parts of a data set of the hub, which has the four columns and no others."""
    from datasets import Features, Value, load_dataset

    try:  # all text: an answer of 81 digits would be taken for a number, and one too large
        found = load_dataset(name, features=Features({column: Value("string") for column in COLUMNS}))
    except Exception as error:
        what = f"hub:{name} could not be loaded ({error.__cause__ or error}); is there a network, is the name right?"
        raise PuzzleFileError(what) from error
    if missing := {"train", "test"} - set(found):
        raise PuzzleFileError(f"hub:{name} has no part {' and '.join(sorted(missing))}, only {', '.join(found)}")

    parts = {part: found[part].to_pandas(batch_size=LINES_AT_ONCE, batched=True) for part in ("train", "test")}
    return tuple(_joined((t.astype(str) for t in tables), f"hub:{name}, {part}") for part, tables in parts.items())


def solver_baselines(puzzles: PuzzleSet) -> dict[str, float]:
    """What the solvers do with these puzzles: accuracies of naked and hidden singles alone, as those of a model (a puzzle
    is solved if it is filled as its answer; of blank cells the share is counted), and CPU seconds per puzzle of both."""
    seconds, filled = {}, {}
    for name, solve in {"exact": partial(sudoku.solutions, limit=1), "singles": sudoku.solve_by_singles}.items():
        start = time.process_time()
        filled[name] = [solve(puzzles.shape, question) for question in puzzles.questions]
        seconds[f"{name}/seconds_per_puzzle"] = (time.process_time() - start) / len(puzzles)
    right = np.array(filled["singles"]) == puzzles.answers
    cells = right[puzzles.questions == 0].mean()
    return {"singles/exact_accuracy": float(right.all(1).mean()), "singles/cell_accuracy": float(cells), **seconds}


class PuzzleBatches:
    """step -> the global batch of that step, {"inputs", "labels"}: (B, T) int64 token ids each.

    A pure function of (seed, step): a resumed run needs no more than its step. Puzzles are drawn with replacement, each
    under a symmetry: with `num_aug` 0 a fresh random one, else one of the puzzle itself and `num_aug` variants fixed by
    (seed, puzzle's row, variant). Of the blank cells of each a random number, at most `reveal_clues`, is filled in.
    """

    def __init__(self, puzzles: PuzzleSet, batch_size: int, seed: int = 0, num_aug: int = 0, reveal_clues: int = 0):
        if not len(puzzles):
            raise UserError("no puzzles to make batches of")
        self.reveal_clues = reveal_clues
        self.puzzles, self.batch_size, self.seed, self.num_aug = puzzles, batch_size, seed, num_aug

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, step])
        shape = self.puzzles.shape
        numbers = sudoku.random_numbers(shape)
        rows = rng.integers(0, len(self.puzzles), self.batch_size)
        grids = np.stack((self.puzzles.questions[rows], self.puzzles.answers[rows]), 1)  # (B, 2, T)
        if self.num_aug == 0:
            grids = transform(shape, grids, rng.random((self.batch_size, numbers)))
        else:
            variant = rng.integers(0, self.num_aug + 1, self.batch_size)[:, None]
            bits = sudoku.hash_columns([self.seed], rows[:, None], variant, np.arange(numbers))  # (B, numbers)
            turned = transform(shape, grids, (bits >> np.uint64(11)) / 2.0**53)
            grids = np.where(variant[:, :, None] == 0, grids, turned)
        question, answer = grids[:, 0], grids[:, 1]
        if self.reveal_clues:
            given = rng.integers(0, self.reveal_clues + 1, (self.batch_size, 1))
            order = np.where(question == 0, rng.random(question.shape), 1.0).argsort(1).argsort(1)  # blank cells first
            question = np.where(order < given, answer, question)
        return {"inputs": tokens(question), "labels": tokens(answer)}
