"""ARC-AGI: tasks of a few pairs of grids, as token sequences, their variants, and answers by vote over the variants.

A grid is put on a canvas of `side` x `side` cells, 30 in the original: 0 pads, 1 marks the end of its rows and of its columns,
colours are 2 to 11. Every variant of a task (one of eight rotations and reflections, colours but black permuted) is a puzzle
with an identifier of its own, which the model may learn an embedding for: the pairs that are shown are trained on under it, and
the test inputs are answered under it. Format and vote are those of the original code (arXiv 2510.04871, section 6).
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trm.errors import UserError
from trm.puzzles.token_set import Metadata, TokenSet
from trm.run import write_atomically
from trm.text_files import parse_json, read_json, read_text

PAD, END, BLACK = 0, 1, 2  # token ids; colour c is BLACK + c
COLOURS, LARGEST = 10, 30  # numbers of colours, and of cells along the longest side of a grid
TRIES = 5  # draws per variant that is asked for, before a task is known to have fewer
SEPARATOR = "|||"  # in the names of variants: task|||t3|||0182...


@dataclass(frozen=True)
class Task:
    """Pairs of grids (input, output), each (rows, columns) uint8 of colours 0 to 9; an output that is not known is None."""

    name: str
    shown: tuple[tuple[np.ndarray, np.ndarray], ...]
    asked: tuple[tuple[np.ndarray, np.ndarray | None], ...]

    @property
    def side(self) -> int:
        """Cells along the longest side of any of its grids."""
        return max(max(grid.shape) for pair in self.shown + self.asked for grid in pair if grid is not None)

    def contents(self) -> tuple:
        """What tells variants apart: all grids, whatever the order of the pairs."""
        return tuple(sorted(tuple(_key(grid) for grid in pair) for pair in self.shown + self.asked))

    def mapped(self, name: str, variant: "Variant") -> "Task":
        """The task with all grids turned and recoloured."""
        shown, asked = (
            tuple(tuple(None if grid is None else variant.apply(grid) for grid in pair) for pair in pairs)
            for pairs in (self.shown, self.asked)
        )
        return Task(name, shown, asked)


@dataclass(frozen=True)
class Variant:
    """A rotation or reflection (0 to 7) and a permutation of the colours (10,), black first."""

    turn: int
    colours: tuple[int, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Variant":
        """One of 8 * 9! at random."""
        return cls(int(rng.integers(8)), (0, *(1 + rng.permutation(COLOURS - 1)).tolist()))

    @classmethod
    def of_name(cls, name: str) -> tuple[str, "Variant | None"]:
        """The task's name in that of a variant, and the variant; None for the task itself."""
        if SEPARATOR not in name:
            return name, None
        task, turn, colours = name.rsplit(SEPARATOR, 2)
        return task, cls(int(turn.removeprefix("t")), tuple(map(int, colours)))

    def name_of(self, task: str) -> str:
        """The name of this variant of a task."""
        return SEPARATOR.join((task, f"t{self.turn}", "".join(map(str, self.colours))))

    def apply(self, grid: np.ndarray) -> np.ndarray:
        """The grid turned and recoloured."""
        return _turned(np.array(self.colours, np.uint8)[grid], self.turn)

    def undo(self, grid: np.ndarray) -> np.ndarray:
        """The grid that `apply` makes this one of."""
        back = {1: 3, 3: 1}.get(self.turn, self.turn)  # the others undo themselves
        return np.argsort(self.colours).astype(np.uint8)[_turned(grid, back)]


def _turned(grid: np.ndarray, turn: int) -> np.ndarray:
    """Rotated by `turn` quarters to the left (0 to 3), or mirrored left to right, upside down, at either diagonal (4 to 7)."""
    if turn < 4:
        return np.rot90(grid, turn)
    return (np.fliplr(grid), np.flipud(grid), grid.T, np.fliplr(np.rot90(grid)))[turn - 4]


def _key(grid: np.ndarray | None) -> tuple:
    """What tells grids apart, and can be sorted; empty for one that is not known."""
    return () if grid is None else (grid.shape, grid.tobytes())


def read_tasks(path: str | Path) -> tuple[list[Task], list[str]]:
    """The tasks of a JSON file (`{name: {train, test}}`, also .xz and .gz; of Kaggle's files the challenges, whose solutions
    are read where they lie beside it) or of a folder with a file per task; and what was left out, each with its reason.

    Raises:
        UserError: no such file, or it is not of ARC.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        found = {file.stem: read_json(file) for file in sorted(path.glob("*.json"))}
    else:
        found = read_json(path)
        beside = path.with_name(path.name.replace("challenges", "solutions"))
        if beside != path and beside.exists():
            for name, outputs in read_json(beside).items():
                for pair, output in zip(found.get(name, {}).get("test", []), outputs):
                    pair.setdefault("output", output)
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: holds no task of ARC; give a folder of task files, or a JSON file of tasks by name")
    tasks, left_out = [], []
    for name, task in found.items():
        try:
            shown, asked = (tuple(_pair(pair, part) for pair in task[part]) for part in ("train", "test"))
            if not shown or not asked:
                raise ValueError("a task requires pairs in train and in test")
            tasks.append(Task(name, shown, asked))
        except (KeyError, TypeError, ValueError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            left_out.append(f"{path.name}, task {name}: {what}")
    return tasks, left_out


def _pair(pair: dict, part: str) -> tuple[np.ndarray, np.ndarray | None]:
    known = part == "train" or "output" in pair
    return _grid(pair["input"], f"input in {part}"), _grid(pair["output"], f"output in {part}") if known else None


def _grid(rows: list, what: str) -> np.ndarray:
    if not isinstance(rows, list) or not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(f"an {what} must be a rectangle of cells")
    grid = np.array(rows)
    if max(grid.shape) > LARGEST:
        raise ValueError(f"an {what} has {grid.shape[0]} x {grid.shape[1]} cells; at most {LARGEST} x {LARGEST} fit")
    if grid.dtype.kind not in "ui" or grid.min() < 0 or grid.max() >= COLOURS:
        raise ValueError(f"an {what} holds other cells than the colours 0 to {COLOURS - 1}")
    return grid.astype(np.uint8)


def variants(task: Task, count: int, rng: np.random.Generator) -> list[Task]:
    """The task and `count` variants of it, all different; fewer where it has no more."""
    found, known = [task], {task.contents()}
    for _ in range(TRIES * count):
        if len(found) > count:
            break
        drawn = Variant.draw(rng)
        one = task.mapped(drawn.name_of(task.name), drawn)
        if one.contents() not in known:
            known.add(one.contents())
            found.append(one)
    return found


def to_tokens(grid: np.ndarray, side: int, row: int = 0, column: int = 0) -> np.ndarray:
    """The grid on a canvas, its first cell at (row, column): (side * side,) token ids."""
    rows, columns = grid.shape
    canvas = np.full((side + 1, side + 1), PAD, np.uint8)
    canvas[row : row + rows, column : column + columns] = grid + BLACK
    canvas[row + rows, column : column + columns] = END
    canvas[row : row + rows, column + columns] = END
    return canvas[:side, :side].reshape(-1)


def from_tokens(tokens: np.ndarray, side: int) -> np.ndarray:
    """The largest rectangle of colours from the first cell of a canvas: (rows, columns) uint8, perhaps empty."""
    coloured = (tokens.reshape(side, side) >= BLACK).cumprod(1).sum(1)  # colours from the left, in each row
    widths = np.minimum.accumulate(coloured)  # of the rectangle that ends with this row
    areas = widths * np.arange(1, side + 1)
    rows = int(areas.argmax()) + 1 if areas.max() else 0
    columns = int(widths[rows - 1]) if rows else 0
    return (tokens.reshape(side, side)[:rows, :columns] - BLACK).astype(np.uint8)


@dataclass(frozen=True)
class ArcSet:
    """Pairs to train on, test inputs under every variant, the names of the identifiers, and the tasks to be judged on."""

    train: TokenSet
    test: TokenSet
    identifiers: list[str]
    tasks: list[Task]
    side: int

    def save(self, folder: str | Path) -> None:
        """Write train/, test/, identifiers.json and test_puzzles.json into `folder`, as the original's builder does."""
        folder = Path(folder)
        self.train.save(folder / "train", self.identifiers)
        self.test.save(folder / "test", self.identifiers)
        tasks = {}
        for task in self.tasks:
            parts = (("train", task.shown), ("test", task.asked))
            tasks[task.name] = {
                part: [{"input": i.tolist()} | ({} if o is None else {"output": o.tolist()}) for i, o in pairs]
                for part, pairs in parts
            }
        write_atomically(folder / "test_puzzles.json", json.dumps(tasks))

    @classmethod
    def load(cls, folder: str | Path) -> "ArcSet":
        """The set in a folder that `save` or the original's builder wrote; what it is trained on stays on disk.

        Raises:
            UserError: a file is missing, cannot be read, or does not fit the others.
        """
        folder = Path(folder)
        train, test = TokenSet.load(folder / "train"), TokenSet.load(folder / "test")
        path = folder / "identifiers.json"
        identifiers = parse_json(read_text(path), path)
        if not isinstance(identifiers, list) or len(identifiers) != train.about.num_puzzle_identifiers:
            raise UserError(f"{path}: must be a list of {train.about.num_puzzle_identifiers} names, see dataset.json")
        tasks = {task.name: task for task in read_tasks(folder / "test_puzzles.json")[0]}
        names = [Variant.of_name(identifiers[i])[0] for i in test.puzzle_identifiers[test.group_indices[:-1]]]
        side = math.isqrt(test.about.seq_len)
        if side * side != test.about.seq_len or (BLACK + COLOURS, test.about.seq_len) != (
            train.about.vocab_size,
            train.about.seq_len,
        ):
            raise UserError(f"{folder}: train/ and test/ must hold equal square canvases, of {BLACK + COLOURS} ids")
        if missing := [name for name in names if name not in tasks]:
            raise UserError(f"{folder / 'test_puzzles.json'}: task {missing[0]} is missing, or no task of ARC")
        return cls(train, test, identifiers, [tasks[name] for name in names], side)


def build(
    training: Sequence[Task], judged: Sequence[Task], num_aug: int = 1000, side: int = LARGEST, seed: int = 42
) -> ArcSet:
    """The data set of the original: all pairs of `training` and the shown ones of `judged` to train on, `num_aug` variants of
    each task, at a random place of the canvas but for one pair of each puzzle; the test inputs of `judged` at its first cell.

    Raises:
        UserError: a grid does not fit on the canvas; no task.
    """
    if not judged:
        raise UserError("ARC requires tasks to be judged on")
    for task in (*training, *judged):
        if task.side > side:
            raise UserError(f"task {task.name} has a grid of side {task.side}, the canvas {side}; give a larger side")
    rng, identifiers = np.random.default_rng(seed), ["<blank>"]
    groups = {"train": [], "test": []}
    for task, is_judged in [(t, False) for t in training] + [(t, True) for t in judged]:
        every = variants(task, num_aug, rng)
        first = len(identifiers)
        identifiers += [one.name for one in every]
        groups["train"].append([(first + i, one.shown + one.asked * (not is_judged)) for i, one in enumerate(every)])
        if is_judged:
            groups["test"].append([(first + i, one.asked) for i, one in enumerate(every)])
    sets = {part: _token_set(groups[part], side, len(identifiers), rng if part == "train" else None) for part in groups}
    return ArcSet(sets["train"], sets["test"], identifiers, list(judged), side)


def _token_set(groups: list, side: int, count: int, rng: np.random.Generator | None) -> TokenSet:
    """Groups of puzzles (identifier, pairs) as a set; rng: draws the places on the canvas, None: all at the first cell."""
    inputs, labels, ids, puzzles, ends = [], [], [], [0], [0]
    for group in groups:
        for identifier, pairs in group:
            stays = rng.integers(len(pairs)) if rng else 0
            for i, (given, answer) in enumerate(pairs):
                answer = np.zeros((1, 1), np.uint8) if answer is None else answer
                row = column = 0
                if rng and i != stays:
                    room = side - np.maximum(given.shape, answer.shape) + 1
                    row, column = rng.integers(room).tolist()
                inputs.append(to_tokens(given, side, row, column))
                labels.append(to_tokens(answer, side, row, column))
            ids.append(identifier)
            puzzles.append(len(inputs))
        ends.append(len(ids))
    about = Metadata(
        vocab_size=BLACK + COLOURS, seq_len=side * side, num_puzzle_identifiers=count, total_groups=len(groups),
        total_puzzles=len(ids), mean_puzzle_examples=len(inputs) / max(len(ids), 1),
    )  # fmt: skip
    arrays = (np.stack(inputs), np.stack(labels), *(np.array(x, np.int32) for x in (ids, puzzles, ends)))
    return TokenSet(*arrays, about).checked("the tasks")


@dataclass
class Votes:
    """Answers to the test inputs of tasks under all their variants, each turned back, with the model's confidence.

    The answers of an input are ordered by how many variants gave them, then by mean confidence (the original's rule).
    """

    identifiers: Sequence[str]
    side: int = LARGEST
    cast: dict = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))  # (task, input) -> answer -> [q]
    grids: dict = field(default_factory=dict)

    def add(self, ids: Iterable[int], inputs: np.ndarray, predictions: np.ndarray, confidence: np.ndarray) -> None:
        """Answers (N, T) to inputs (N, T) under puzzle identifiers (N,), confidence (N,) from 0 to 1."""
        for identifier, given, predicted, q in zip(ids, inputs, predictions, confidence):
            task, variant = Variant.of_name(self.identifiers[identifier])
            given, predicted = (from_tokens(np.asarray(tokens), self.side) for tokens in (given, predicted))
            if variant is not None:
                given, predicted = variant.undo(given), variant.undo(predicted)
            self.grids[_key(predicted)] = predicted
            self.cast[task, _key(given)][_key(predicted)].append(float(q))

    def ranked(self, task: str, given: np.ndarray) -> list[np.ndarray]:
        """The answers to one test input, the best first."""
        answers = self.cast.get((task, _key(given)), {})
        order = sorted(answers, key=lambda answer: (len(answers[answer]), np.mean(answers[answer])), reverse=True)
        return [self.grids[answer] for answer in order]

    def passes(self, tasks: Sequence[Task], k: int) -> np.ndarray:
        """pass@k of each task, the share of its test inputs whose answer is among the first k: (tasks,) from 0 to 1."""
        found = []
        for task in tasks:
            right = [
                any(_key(one) == _key(answer) for one in self.ranked(task.name, given)[:k])
                for given, answer in task.asked if answer is not None
            ]  # fmt: skip
            found.append(np.mean(right) if right else np.nan)
        return np.array(found)

    def submission(self, tasks: Sequence[Task], attempts: int = 2) -> dict:
        """The answers as ARC Prize's submission file has them: {task: [{"attempt_1": grid, "attempt_2": grid}]}."""
        found = {}
        for task in tasks:
            found[task.name] = []
            for given, _ in task.asked:
                best = (self.ranked(task.name, given) or [np.zeros((1, 1), np.uint8)])[:attempts]
                best += best[:1] * (attempts - len(best))
                found[task.name].append({f"attempt_{i}": grid.tolist() for i, grid in enumerate(best, 1)})
        return found


def copy_the_input(task: Task, given: np.ndarray) -> np.ndarray:
    """A baseline: the output is the input."""
    return given


def nearest_output(task: Task, given: np.ndarray) -> np.ndarray:
    """A baseline: the output that is shown for the input with most equal cells, of equal size where there is one."""

    def likeness(pair: tuple[np.ndarray, np.ndarray]) -> tuple[bool, float]:
        same = pair[0].shape == given.shape
        return same, float((pair[0] == given).mean()) if same else -abs(pair[0].size - given.size)

    return max(task.shown, key=likeness)[1]
