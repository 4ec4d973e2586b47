"""Sudoku: the grid and its rules, the symmetries of puzzles, hashes up to symmetry, solvers, and a generator.

    python -m trm.puzzles.sudoku 6x6        # makes the pack of 6x6 puzzles that ships, as sudoku_6x6.csv.xz
    python -m trm.puzzles.sudoku 6x6-hard   # the pack that singles do not solve (minutes)

Puzzles are uint8 arrays (N, T) of digits, row-major, 0 for a blank, T = size * size cells. Grid, symmetries and hashes work
on whole arrays. The solver works on one puzzle, as exact cover: one Python integer holds all candidates (bit d * T + cell:
digit d + 1 may stand in the cell), and shifts of that integer check a constraint in all its places at once.
"""

import argparse
import lzma
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from pathlib import Path

import numpy as np

from trm.errors import UserError, show_user_errors_plainly

PAD, BLANK = 0, 1  # token ids; digit d has id d + 1
PACKS = Path(__file__).parent / "packs"


@dataclass(frozen=True)
class Shape:
    """A Sudoku grid whose boxes have `box_rows` rows and `box_cols` columns (6x6: 2 rows of 3)."""

    name: str  # its key in `SHAPES`
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
    def square(self) -> bool:
        """Whether boxes are square, so that transposing is a symmetry."""
        return self.box_rows == self.box_cols

    @property
    def vocab_size(self) -> int:
        """Token ids: pad, blank and the digits."""
        return self.size + 2


SHAPES = {shape.name: shape for shape in (Shape("4x4", 2, 2), Shape("6x6", 2, 3), Shape("9x9", 3, 3))}


@dataclass(frozen=True)
class Pack:
    """Minimal puzzles of one shape, in a file that ships."""

    shape: Shape
    count: int  # puzzles
    test: int  # how many of them, from the first, are the test part
    seed: int = 0  # of the generator
    hard: bool = False  # only puzzles that singles do not solve, without symmetric duplicates of the shape's other pack


PUZZLES = {  # what the parameter `puzzle` may be; 4x4 has 36 minimal puzzles up to symmetry
    "4x4": Pack(SHAPES["4x4"], 36, 12),
    "6x6": Pack(SHAPES["6x6"], 14_000, 2_000),
    "6x6-hard": Pack(SHAPES["6x6"], 10_000, 2_000, seed=1, hard=True),
    "9x9": Pack(SHAPES["9x9"], 5_500, 1_000),
}


def tokens(digits: np.ndarray) -> np.ndarray:
    """Digits (0 = blank) as int64 token ids of the same shape: blank 1, digit d as d + 1."""
    return np.asarray(digits).astype(np.int64) + BLANK


def digits(token_ids: np.ndarray) -> np.ndarray:
    """Token ids as uint8 digits of the same shape; pad and blank both become 0."""
    return np.maximum(np.asarray(token_ids) - BLANK, 0).astype(np.uint8)


def is_solution(shape: Shape, questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Whether each answer satisfies the constraints and keeps the clues: (..., T), (..., T) -> (...,) bool.

    Answers may hold any numbers, such as a model's output.
    """
    questions, answers = np.asarray(questions), np.asarray(answers)
    size, lead = shape.size, answers.shape[:-1]
    in_range = (answers >= 1) & (answers <= size)
    bits = np.left_shift(1, np.where(in_range, answers, 0).astype(np.int64))  # (..., T)
    boxed = bits.reshape(*lead, shape.box_cols, shape.box_rows, shape.box_rows, shape.box_cols)  # bands, stacks
    grid = bits.reshape(*lead, size, size)
    good = ((questions == 0) | (questions == answers)).all(-1)
    for houses in (grid, grid.swapaxes(-1, -2), boxed.swapaxes(-2, -3)):
        seen = np.bitwise_or.reduce(houses.reshape(*lead, size, size), axis=-1)  # (..., size)
        good &= (seen == (1 << (size + 1)) - 2).all(-1)
    return good


# A symmetry relabels the digits and moves the cells: it permutes the bands, the rows within each band, the stacks and the
# columns within each stack, and, where boxes are square, may transpose. It maps solutions to solutions.


@lru_cache
def line_permutations(lines: int, per_group: int) -> np.ndarray:
    """All orders of `lines` rows (or columns) that keep groups of `per_group` together: (P, lines), identity first."""
    count = lines // per_group
    within = np.array(list(product(permutations(range(per_group)), repeat=count)))  # (I, count, per_group)
    groups = np.array(list(permutations(range(count))))  # (O, count)
    return (per_group * groups[:, None, :, None] + within).reshape(-1, lines)


def random_numbers(shape: Shape) -> int:
    """How many uniform numbers pick one symmetry: rows, columns, whether to transpose, one key per digit."""
    return 3 + shape.size


def symmetries(shape: Shape, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetry that each row of uniform numbers picks: which cell goes where, and the new digits.

    uniform: (B, random_numbers(shape)) floats in [0, 1). All symmetries have the same probability.
    Returns cells (B, T), the old cell of each new one, and relabel (B, size + 1), the new digits.
    """
    size = shape.size
    row_orders, col_orders = line_permutations(size, shape.box_rows), line_permutations(size, shape.box_cols)
    rows = row_orders[(uniform[:, 0] * len(row_orders)).astype(np.intp)]  # (B, size)
    cols = col_orders[(uniform[:, 1] * len(col_orders)).astype(np.intp)]
    cells = size * rows[:, :, None] + cols[:, None, :]
    if shape.square:
        cells = np.where((uniform[:, 2] < 0.5)[:, None, None], cells.swapaxes(1, 2), cells)
    relabel = np.zeros((len(uniform), size + 1), np.uint8)  # blank stays 0
    relabel[:, 1:] = uniform[:, 3:].argsort(1) + 1
    return cells.reshape(len(uniform), -1), relabel


def transform(shape: Shape, grids: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Apply to the K grids of each row (question, answer) the symmetry that `uniform` picks: (B, K, T) -> (B, K, T) uint8."""
    cells, relabel = symmetries(shape, uniform)
    number = np.arange(len(grids))[:, None]
    moved = grids.transpose(0, 2, 1)[number, cells]  # (B, T, K)
    return relabel[number[:, :, None], moved].transpose(0, 2, 1)


def transform_back(shape: Shape, grids: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Undo `transform` with the same `uniform`: (B, K, T) digits -> (B, K, T) uint8."""
    cells, relabel = symmetries(shape, uniform)
    old = np.take_along_axis(relabel.argsort(1).astype(np.uint8)[:, None], grids.astype(np.intp), 2)
    return np.take_along_axis(old, cells.argsort(1)[:, None], 2)


def first_appearance(grids: np.ndarray, size: int) -> np.ndarray:
    """Relabel the digits of each grid (M, T) in the order in which they first appear; blanks stay 0."""
    here = grids[:, None] == np.arange(1, size + 1)[:, None]  # (M, size, T)
    first = np.where(here.any(2), here.argmax(2), grids.shape[1])
    relabel = np.zeros((len(grids), size + 1), np.uint8)
    np.put_along_axis(relabel[:, 1:], first.argsort(1, kind="stable"), np.arange(1, size + 1, dtype=np.uint8)[None], 1)
    return np.take_along_axis(relabel, grids.astype(np.intp), 1)


def canonical_form(shape: Shape, questions: np.ndarray, chunk: int = 256) -> np.ndarray:
    """The least puzzle that the symmetries make of each question: equal for two questions exactly if they are the same up
    to symmetry. (N, T) digits, 4x4 or 6x6 -> (N, T) uint8.

    "Least" compares the pattern of clues first (read as a binary number), then the digits relabelled in the order in which
    they appear. Labels do not change the pattern, so only the moves that reach the least pattern need relabelling.
    """
    if shape.size > 6:
        raise ValueError(f"no canonical form for {shape.name}: too many symmetries; use grid_fingerprint")
    size, questions = shape.size, np.asarray(questions, np.uint8)
    row_orders, col_orders = line_permutations(size, shape.box_rows), line_permutations(size, shape.box_cols)
    cells = (size * row_orders[:, None, :, None] + col_orders[None, :, None, :]).reshape(-1, shape.cells)  # (G, T)
    if shape.square:  # or transposed first, then moved
        cells = np.concatenate((cells, cells % size * size + cells // size))
    powers = 2.0 ** (shape.cells - 1 - cells.argsort(1)).T  # (T, G): what a clue in each cell adds to the binary number
    result = np.empty_like(questions)
    for start in range(0, len(questions), chunk):
        part = questions[start : start + chunk]
        pattern = (part > 0) @ powers  # (n, G), exact: less than 2^36
        owner, move = np.nonzero(pattern == pattern.min(1, keepdims=True))
        forms = first_appearance(part[owner[:, None], cells[move]], size)  # (M, T)
        order = np.lexsort((forms.view(f"S{shape.cells}").ravel(), owner))
        result[start : start + chunk] = forms[order[np.searchsorted(owner, np.arange(len(part)))]]
    return result


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: scrambles uint64 numbers, one to one."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_columns(*columns: np.ndarray) -> np.ndarray:
    """A 64-bit hash of the numbers that stand in the same place of the columns (broadcast together): uint64."""
    state = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):  # overflow is part of the hash
        for column in columns:
            state = _mix(state * np.uint64(0x9E3779B97F4A7C15) + np.asarray(column).astype(np.uint64) + np.uint64(1))
    return state


def grid_fingerprint(shape: Shape, answers: np.ndarray, chunk: int = 2048) -> np.ndarray:
    """A number that no symmetry of a solved grid changes: (N, T) solved grids -> (N,) int64.

    Different 9x9 grids nearly always get different numbers (the 49 grids of 6x6 only 40: they have too few cycle types).
    Two lines of a grid define a permutation of the digits, whose cycle lengths survive relabelling. They colour the edges
    between the lines, and rounds of Weisfeiler-Lehman refinement (each line takes up the multiset of its edges and
    neighbours) make of them a number that does not depend on the lines' order.
    """
    size, result = shape.size, np.empty(len(answers), np.int64)
    for start in range(0, len(answers), chunk):
        grid = np.asarray(answers[start : start + chunk]).reshape(-1, size, size).astype(np.intp) - 1
        sides = [_line_hash(grid, shape.box_rows), _line_hash(grid.swapaxes(1, 2), shape.box_cols)]
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


class Undecided(UserError):
    """A search that was given up."""


class Solver:
    """Depth-first search over candidates with naked and hidden singles, for one shape. See `solutions`."""

    def __init__(self, shape: Shape):
        self.size, self.cells = size, cells = shape.size, shape.cells
        self.full = (1 << size * cells) - 1
        self.plane = (1 << cells) - 1
        # for each kind of constraint: the first candidate of each of its places, and the steps to the others
        corner = [r * size + c for r in range(0, size, shape.box_rows) for c in range(0, size, shape.box_cols)]
        box = [r * size + c for r in range(shape.box_rows) for c in range(shape.box_cols)]
        planes = range(0, size * cells, cells)
        kinds = (
            (range(cells), planes),  # a cell, over its digits
            ([p + r * size for p in planes for r in range(size)], range(size)),  # a digit in a row
            ([p + c for p in planes for c in range(size)], range(0, cells, size)),  # ... in a column
            ([p + c for p in planes for c in corner], box),  # ... in a box
        )
        self.constraints = [(sum(1 << i for i in anchors), tuple(steps)) for anchors, steps in kinds]
        self.keep = [self._keep(bit) for bit in range(size * cells)]

    def _keep(self, bit: int) -> int:
        """The candidates that stay when candidate `bit` is set: all that share no place of a constraint with it, and itself."""
        out = 0
        for anchors, steps in self.constraints:
            for step in steps:
                if bit >= step and anchors >> bit - step & 1:  # the place that `bit` is in
                    out |= sum(1 << bit - step + other for other in steps)
        return self.full & ~out | 1 << bit

    def candidates(self, question) -> int:
        """The candidates left by the clues of a question: T digits, 0 = blank. A clash shows as a cell without any."""
        left = self.full
        for cell, digit in enumerate(question):
            if digit:
                left &= self.keep[(digit - 1) * self.cells + cell]
        return left

    def propagate(self, left: int, done: int) -> tuple[int, int]:
        """Set naked and hidden singles until none is left: (candidates, those set); (0, 0) if a place has none."""
        keep = self.keep
        while True:
            for anchor, steps in self.constraints:
                once = twice = 0
                for step in steps:
                    x = left >> step & anchor
                    twice |= once & x
                    once |= x
                if once != anchor:
                    return 0, 0
                single = anchor & ~twice
                new = 0
                for step in steps:
                    new |= single << step
                new &= left & ~done
                if new:
                    break
            else:
                return left, done
            done |= new
            while new:
                bit = new.bit_length() - 1
                new ^= 1 << bit
                left &= keep[bit]

    def branch_cell(self, left: int) -> int:
        """The first of the cells that have fewest candidates, but more than one."""
        at_least = [self.plane] + [0] * (self.size + 1)  # at_least[k]: the cells with k candidates or more
        for step in self.constraints[0][1]:
            x = left >> step & self.plane
            for k in range(self.size, 0, -1):
                at_least[k] |= at_least[k - 1] & x
        for k in range(2, self.size + 1):
            cells = at_least[k] & ~at_least[k + 1]
            if cells:
                return (cells & -cells).bit_length() - 1
        raise AssertionError("no cell to branch on")

    def search(self, left: int, limit: int, order=None, most: int = 0) -> tuple[list[int], int]:
        """Up to `limit` solutions, each as its T candidates, and the number of guesses (see `rating`).

        order: a rank for each candidate; the branches of a cell are tried by it instead of from the least digit. most: guesses
        after which to give up (0: never). Raises Undecided.
        """
        found, guesses, stack = [], 0, [(left, 0)]
        while stack and len(found) < limit:
            left, done = self.propagate(*stack.pop())
            if not left:
                continue
            if done.bit_count() == self.cells:
                found.append(done)
                continue
            guesses += 1
            if most and guesses > most:
                raise Undecided(f"not decided after {most} guesses")
            cell = self.branch_cell(left)
            bits = [step + cell for step in self.constraints[0][1] if left >> step + cell & 1]
            if order is not None:
                bits.sort(key=order.__getitem__)
            stack += [(left & self.keep[bit], done) for bit in reversed(bits)]
        return found, guesses

    def grid(self, done: int) -> list[int]:
        """The T digits that the candidates `done` set; 0 for a cell without one."""
        grid = [0] * self.cells
        while done:
            bit = done.bit_length() - 1
            done ^= 1 << bit
            grid[bit % self.cells] = bit // self.cells + 1
        return grid


solver = lru_cache(Solver)  # the solver of a shape, made once


def solutions(shape: Shape, question, limit: int = 2, most: int = 0) -> list[list[int]]:
    """The solutions of a question (T digits, 0 = blank), at most `limit` of them, as lists of T digits. most: see
    `Solver.search`."""
    s = solver(shape)
    return [s.grid(done) for done in s.search(s.candidates([int(d) for d in question]), limit, most=most)[0]]


def solve_by_singles(shape: Shape, question) -> list[int]:
    """What naked and hidden singles alone fill in a question (T digits, 0 = blank): T digits, cells left blank are 0.

    A naked single is a cell with one candidate, a hidden single a digit with one place in a row, column or box. Where they
    show that none exists, the question comes back.
    """
    s = solver(shape)
    question = [int(d) for d in question]
    _, done = s.propagate(s.candidates(question), 0)
    return s.grid(done) if done else question


def rating(shape: Shape, question) -> int:
    """How many guesses it takes to find the solution and to prove that it is the only one; 0 where singles are enough.

    A guess is a node of the search at which no cell has a single candidate and no house a single place for a digit, so
    that the search must branch: on the first of the cells with fewest candidates, trying them all.
    """
    s = solver(shape)
    return s.search(s.candidates([int(d) for d in question]), limit=2)[1]


def generate(shape: Shape, seed: int, index: int) -> tuple[list[int], list[int]]:
    """Minimal puzzle number `index` of a seed: (question, answer), T digits each, 0 = blank, exactly one solution.

    A random full grid loses its clues one by one, in random order; a clue stays only if the puzzle would have a second
    solution without it. Depends on (shape, seed, index) alone.
    """
    s, cells = solver(shape), shape.cells
    raw = np.random.PCG64([seed, index])  # raw bits, because numpy keeps them for ever, unlike shuffle's
    answer = s.grid(s.search(s.full, 1, raw.random_raw(shape.size * cells).tolist())[0][0])
    question = list(answer)
    for cell in raw.random_raw(cells).argsort(kind="stable").tolist():
        digit, question[cell] = question[cell], 0
        # every other solution would have another digit here, since the puzzle with this clue has just one
        others = s.candidates(question) & ~(1 << (digit - 1) * cells + cell)
        if s.search(others, 1)[0]:
            question[cell] = digit
    return question, answer


def pack_lines(puzzle: str, count: int, test: int, seed: int) -> list[str]:
    """The lines of a pack, header first: `count` minimal puzzles in order of their index, no two the same up to
    symmetry (9x9: no two with the same solution grid up to symmetry), the first `test` of them the test part."""
    pack, kept, known, start, fresh = PUZZLES[puzzle], {}, set(), 0, 0
    shape = pack.shape
    if pack.hard:
        from trm.puzzles.dataset import read_puzzles  # which imports this module

        others = read_puzzles(PACKS / f"sudoku_{shape.name}.csv.xz").questions
        known = {form.tobytes() for form in canonical_form(shape, others)}
    while len(kept) < count:
        if start - fresh > 20_000:
            raise UserError(f"there seem to be only {len(kept)} minimal {puzzle} puzzles, not {count}")
        new = [generate(shape, seed, i) for i in range(start, start + max(20, count - len(kept)))]
        start += len(new)
        new = [grids for grids in new if not pack.hard or rating(shape, grids[0])]
        questions, answers = np.array(new, np.uint8).reshape(-1, 2, shape.cells).swapaxes(0, 1)
        keys = grid_fingerprint(shape, answers) if shape.size > 6 else canonical_form(shape, questions)
        for grids, key in zip(new, keys):
            if key.tobytes() not in known and kept.setdefault(key.tobytes(), grids) is grids:
                fresh = start
    lines = ["source,question,answer,rating,split"]
    for i, grids in enumerate(list(kept.values())[:count]):
        question, answer = ("".join(map(str, grid)).replace("0", ".") for grid in grids)
        split = "test" if i < test else "train"
        lines.append(f"minimal_{puzzle},{question},{answer},{rating(shape, grids[0])},{split}")
    return lines


def main(argv: list[str] | None = None) -> None:
    """Write one pack."""
    parser = argparse.ArgumentParser(description="Make a pack of Sudoku puzzles with one solution each.")
    parser.add_argument("puzzle", choices=PUZZLES, help="pack to make")
    parser.add_argument("--out", type=Path, help="file to write, .csv or .csv.xz (default: pack's name in this folder)")
    parser.add_argument("--sizes", type=int, nargs=2, help="puzzles, and how many, from the first, are the test part")
    parser.add_argument("--seed", type=int, help="of the generator (default: the one of the pack that ships)")
    args = parser.parse_args(argv)
    out, pack = args.out or Path(f"sudoku_{args.puzzle}.csv.xz"), PUZZLES[args.puzzle]
    count, test = args.sizes or (pack.count, pack.test)
    seed = pack.seed if args.seed is None else args.seed
    if count < 1 or not 0 <= test <= count or seed < 0:
        raise UserError("--sizes PUZZLES TEST: at least 1 puzzle, 0 to all of them for test; --seed: at least 0")
    if args.puzzle == "4x4" and count > pack.count:
        raise UserError(f"--sizes {count} {test}: there are only {pack.count} minimal 4x4 puzzles")
    if not out.name.endswith((".csv", ".csv.xz")) or not out.absolute().parent.is_dir():
        raise UserError(f"--out {out.absolute()}: give a .csv or .csv.xz file in a folder that exists")
    content = "".join(line + "\n" for line in pack_lines(args.puzzle, count, test, seed)).encode()
    try:
        out.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME) if out.suffix == ".xz" else content)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None


if __name__ == "__main__":
    show_user_errors_plainly()
    main()
