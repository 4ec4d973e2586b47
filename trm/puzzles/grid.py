"""The Sudoku grid: shapes, rules, and the symmetries that turn one puzzle into another of the same difficulty.

Puzzles are uint8 arrays (N, T) of digits, row-major, 0 for a blank, T = size * size cells. Everything here works on
whole arrays; nothing solves or reads a puzzle.

A symmetry relabels the digits and moves the cells: it permutes the bands, the rows within each band, the stacks and the
columns within each stack, and, where boxes are square, may transpose. It maps solutions to solutions.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np

PAD, BLANK = 0, 1  # token ids; digit d has id d + 1


@dataclass(frozen=True)
class Shape:
    """A Sudoku grid whose boxes have `box_rows` rows and `box_cols` columns (6x6: 2 rows of 3)."""

    box_rows: int
    box_cols: int

    @property
    def size(self) -> int:
        """Rows, columns, boxes and digits of the grid."""
        return self.box_rows * self.box_cols

    @property
    def cells(self) -> int:
        """Cells of the grid: T, the length of a sequence."""
        return self.size**2

    @property
    def bands(self) -> int:
        """Rows of boxes."""
        return self.size // self.box_rows

    @property
    def stacks(self) -> int:
        """Columns of boxes."""
        return self.size // self.box_cols

    @property
    def square(self) -> bool:
        """True where boxes are square, so that transposing is a symmetry."""
        return self.box_rows == self.box_cols

    @property
    def vocab_size(self) -> int:
        """Token ids: pad, blank and the digits."""
        return self.size + 2

    @property
    def name(self) -> str:
        """`6x6` and the like, the key in `SHAPES`."""
        return f"{self.size}x{self.size}"


SHAPES = {"4x4": Shape(2, 2), "6x6": Shape(2, 3), "9x9": Shape(3, 3)}


def tokens(digits: np.ndarray) -> np.ndarray:
    """Digits (0 = blank) as int64 token ids of the same shape: blank 1, digit d as d + 1."""
    return np.asarray(digits).astype(np.int64) + BLANK


def digits(token_ids: np.ndarray) -> np.ndarray:
    """Token ids as uint8 digits of the same shape; pad and blank both become 0."""
    return np.maximum(np.asarray(token_ids) - BLANK, 0).astype(np.uint8)


def is_solution(shape: Shape, questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Whether each answer obeys the rules and keeps the clues of its question.

    questions, answers: (..., T) digits. Returns (...,) bool. Answers may hold anything, such as a model's output.
    """
    questions, answers = np.asarray(questions), np.asarray(answers)
    size, lead = shape.size, answers.shape[:-1]
    in_range = (answers >= 1) & (answers <= size)
    bits = np.left_shift(1, np.where(in_range, answers, 0).astype(np.int64))  # (..., T)
    boxed = bits.reshape(*lead, shape.bands, shape.box_rows, shape.stacks, shape.box_cols)
    grid = bits.reshape(*lead, size, size)
    houses = (grid, grid.swapaxes(-1, -2), boxed.swapaxes(-2, -3))
    full = (1 << (size + 1)) - 2
    good = ((questions == 0) | (questions == answers)).all(-1)
    for house in houses:
        seen = np.bitwise_or.reduce(house.reshape(*lead, size, size), axis=-1)  # (..., size)
        good &= (seen == full).all(-1)
    return good


# Symmetries


@lru_cache
def line_permutations(lines: int, per_group: int) -> np.ndarray:
    """All orders of `lines` rows (or columns) that keep groups of `per_group` together: (P, lines), identity first."""
    groups = np.arange(lines).reshape(-1, per_group)
    inner = list(permutations(range(per_group)))
    return np.array(
        [
            np.concatenate([groups[g][list(p)] for g, p in zip(outer, inners, strict=True)])
            for outer in permutations(range(len(groups)))
            for inners in product(inner, repeat=len(groups))
        ]
    )


def random_numbers(shape: Shape) -> int:
    """How many uniform numbers describe one symmetry: rows, columns, transpose, and one key a digit."""
    return 3 + shape.size


def symmetries(shape: Shape, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetry that each row of uniform numbers picks: which cell goes where, and the new digits.

    uniform: (B, random_numbers(shape)) floats in [0, 1). Independent ones give every symmetry the same chance.
    Returns cells (B, T), the old cell of each new one, and relabel (B, size + 1), the new digit of each old one.
    """
    size, batch = shape.size, len(uniform)
    row_orders, col_orders = line_permutations(size, shape.box_rows), line_permutations(size, shape.box_cols)
    rows = row_orders[(uniform[:, 0] * len(row_orders)).astype(np.intp)]  # (B, size)
    cols = col_orders[(uniform[:, 1] * len(col_orders)).astype(np.intp)]
    if shape.square:
        flip = (uniform[:, 2] < 0.5)[:, None, None]
        cells = np.where(flip, rows[:, None, :] + size * cols[:, :, None], size * rows[:, :, None] + cols[:, None, :])
    else:
        cells = size * rows[:, :, None] + cols[:, None, :]
    relabel = np.zeros((batch, size + 1), np.uint8)  # blank stays 0
    relabel[:, 1:] = uniform[:, 3:].argsort(1) + 1
    return cells.reshape(batch, -1), relabel


def transform(shape: Shape, grids: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Applies to each row of a batch the symmetry that a row of uniform numbers picks (see `symmetries`).

    grids: (B, K, T) digits; the K grids of a row (question, answer) are transformed alike. Returns (B, K, T) uint8.
    """
    cells, relabel = symmetries(shape, uniform)
    number = np.arange(len(grids))[:, None]
    moved = grids.transpose(0, 2, 1)[number, cells]  # (B, T, K)
    return relabel[number[:, :, None], moved].transpose(0, 2, 1)


def transform_back(shape: Shape, grids: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Undoes `transform` with the same `uniform`. grids (B, K, T) digits -> (B, K, T) uint8."""
    cells, relabel = symmetries(shape, uniform)
    old = np.take_along_axis(relabel.argsort(1).astype(np.uint8)[:, None], grids.astype(np.intp), 2)
    return np.take_along_axis(old, cells.argsort(1)[:, None], 2)


def augment(shape: Shape, questions: np.ndarray, answers: np.ndarray, rng: np.random.Generator):
    """One random symmetry for each row of a batch: (questions, answers), both (B, T) uint8, transformed alike."""
    grids = transform(shape, np.stack((questions, answers), 1), rng.random((len(questions), random_numbers(shape))))
    return grids[:, 0], grids[:, 1]


def first_appearance(grids: np.ndarray, size: int) -> np.ndarray:
    """Relabels the digits of each grid (M, T) in the order in which they first appear; blanks stay 0."""
    first = np.full((len(grids), size), grids.shape[1])
    for d in range(size):
        here = grids == d + 1
        first[:, d] = np.where(here.any(1), here.argmax(1), first[:, d])
    relabel = np.zeros((len(grids), size + 1), np.uint8)
    np.put_along_axis(relabel[:, 1:], first.argsort(1, kind="stable"), np.arange(1, size + 1, dtype=np.uint8)[None], 1)
    return np.take_along_axis(relabel, grids.astype(np.intp), 1)


def canonical_form(shape: Shape, questions: np.ndarray, chunk: int = 256) -> np.ndarray:
    """The least puzzle that the symmetries make of each question: the same for two questions exactly if they are the
    same up to symmetry.

    questions: (N, T) digits, 4x4 or 6x6. Returns (N, T) uint8. "Least" compares the pattern of clues first (read as a
    binary number), then the digits relabelled in the order in which they appear. The pattern does not depend on the
    labels, so only the few moves that reach the least pattern (one, unless the pattern itself is symmetric) need
    relabelling. Raises ValueError for 9x9, which has 3,359,232 moves: see `grid_fingerprint`.
    """
    if shape.size > 6:
        raise ValueError(f"no canonical form for {shape.name}: too many symmetries; use grid_fingerprint")
    size, questions = shape.size, np.asarray(questions, np.uint8)
    row_orders, col_orders = line_permutations(size, shape.box_rows), line_permutations(size, shape.box_cols)
    cells = (size * row_orders[:, None, :, None] + col_orders[None, :, None, :]).reshape(-1, shape.cells)  # (G, T)
    if shape.square:  # or transposed first, then moved
        cells = np.concatenate((cells, cells % size * size + cells // size))
    powers = 1 << np.arange(size - 1, -1, -1, dtype=np.int64)
    result = np.empty_like(questions)
    for start in range(0, len(questions), chunk):
        part = questions[start : start + chunk]
        turned = [part.reshape(-1, size, size)]
        if shape.square:
            turned.append(turned[0].swapaxes(1, 2))
        patterns = []
        for grid in turned:
            rows = (grid[:, :, col_orders] > 0) @ powers  # (n, size, C): each row's clues as a number
            pattern = np.zeros((len(grid), len(row_orders), len(col_orders)), np.int64)
            for order in row_orders.T:  # the row that comes next, under each order
                pattern = (pattern << size) | rows[:, order]
            patterns.append(pattern.reshape(len(grid), -1))
        pattern = np.concatenate(patterns, 1)  # (n, G)
        owner, move = np.nonzero(pattern == pattern.min(1, keepdims=True))
        forms = first_appearance(part[owner[:, None], cells[move]], size)  # (M, T)
        order = np.lexsort((forms.view(f"S{shape.cells}").ravel(), owner))
        result[start : start + chunk] = forms[order[np.searchsorted(owner, np.arange(len(part)))]]
    return result


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: scrambles uint64 numbers, one to one."""
    x = np.asarray(x, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_columns(*columns: np.ndarray) -> np.ndarray:
    """A 64-bit hash of the numbers that stand in the same place of the columns (broadcast together): uint64."""
    state = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):  # wrapping around is what a hash wants
        for column in columns:
            state = _mix(state * np.uint64(0x9E3779B97F4A7C15) + np.asarray(column).astype(np.uint64) + np.uint64(1))
    return state


def grid_fingerprint(shape: Shape, answers: np.ndarray, chunk: int = 2048) -> np.ndarray:
    """A number that no symmetry of a solved grid changes; different 9x9 grids nearly always get different ones (the 49
    grids of 6x6 only 40: smaller grids have too few cycle types).

    answers: (N, T) solved grids. Returns (N,) int64. Two rows of a grid define a permutation of the digits, whose cycle
    lengths survive relabelling; so do those of two columns. They colour the edges between the lines of the grid, and
    two rounds of Weisfeiler-Lehman refinement (each line takes up the multiset of its edges and neighbours) turn them
    into a number that does not depend on the lines' order.
    """
    size, answers = shape.size, np.asarray(answers)
    result = np.empty(len(answers), np.int64)
    for start in range(0, len(answers), chunk):
        grid = answers[start : start + chunk].reshape(-1, size, size).astype(np.intp) - 1
        sides = [
            _line_hash(grid, shape.box_rows),
            _line_hash(grid.swapaxes(1, 2), shape.box_cols),
        ]
        if shape.square:
            sides = list(np.sort(sides, axis=0))
        result[start : start + chunk] = hash_columns(*sides).view(np.int64)
    return result


def _line_hash(grid: np.ndarray, per_group: int) -> np.ndarray:
    """Hash of the rows of solved grids (n, size, size), digits from 0, whatever the order of groups, rows, columns."""
    n, size, _ = grid.shape
    where = grid.argsort(2)  # (n, row, digit): the digit's column
    one, two = np.triu_indices(size, 1)
    once = np.take_along_axis(grid[:, two], where[:, one], 2)  # (n, pair, digit): the digit of row two below row one's
    twice = np.take_along_axis(once, once, 2)
    # fixed points of powers 2, 3, 4 tell apart all cycle types that two rows of a 9x9 grid can have
    powers = (twice, np.take_along_axis(twice, once, 2), np.take_along_axis(twice, twice, 2))
    same_group = one // per_group == two // per_group
    kind = hash_columns(*((p == np.arange(size)).sum(2) for p in powers), same_group[None])  # (n, pair)
    edges = np.zeros((n, size, size), np.uint64)
    edges[:, one, two] = edges[:, two, one] = kind
    colour = np.zeros((n, size), np.uint64)
    other = ~np.eye(size, dtype=bool)
    for _ in range(3):  # sums of hashes stand for multisets
        colour = hash_columns(colour, (hash_columns(edges, colour[:, None, :]) * other).sum(2, dtype=np.uint64))
    return hash_columns(colour).sum(1, dtype=np.uint64)
