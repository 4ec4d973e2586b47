"""Makes Sudoku puzzles with exactly one solution, and the packs of them that ship with the package.

    python -m trm.puzzles.generator 6x6

A random full grid loses its clues one by one, in random order, each staying only if the puzzle would have a second
solution without it. When every clue has been tried the puzzle is *minimal*: no clue can go.

The solver sees Sudoku as exact cover. One Python integer holds all candidates (bit d * T + cell: digit d + 1 may stand
in the cell), and each of the four kinds of constraint (a cell has a digit; a row, a column, a box has each digit) is
checked for all its places at once with shifts of that integer.
"""

import argparse
import lzma
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from trm.puzzles.grid import SHAPES, Shape, canonical_form, grid_fingerprint

PACKS = Path(__file__).parent / "packs"
# puzzles, of which the first so many are the test part; the 36 minimal ones are all that 4x4 has up to symmetry
PACK_SIZES = {"4x4": (36, 12), "6x6": (14_000, 2_000), "9x9": (5_500, 1_000)}


class Solver:
    """Depth-first search over candidates with naked and hidden singles, for one shape. See `solve`."""

    def __init__(self, shape: Shape):
        size, cells = shape.size, shape.cells
        self.shape, self.size, self.cells = shape, size, cells
        self.full = (1 << size * cells) - 1
        self.plane = (1 << cells) - 1
        # for each kind of constraint: the first candidate of each of its places, and the steps to the others
        corner = [r * size + c for r in range(0, size, shape.box_rows) for c in range(0, size, shape.box_cols)]
        box = [r * size + c for r in range(shape.box_rows) for c in range(shape.box_cols)]
        planes = range(0, size * cells, cells)
        self.kinds = [
            (sum(1 << i for i in anchors), tuple(steps))
            for anchors, steps in (
                (range(cells), planes),  # a cell, over its digits
                ([p + r * size for p in planes for r in range(size)], range(size)),  # a digit in a row
                ([p + c for p in planes for c in range(size)], range(0, cells, size)),  # ... in a column
                ([p + c for p in planes for c in corner], box),  # ... in a box
            )
        ]
        self.keep = [self._keep(bit) for bit in range(size * cells)]

    def _keep(self, bit: int) -> int:
        """The candidates that stay when candidate `bit` is set: itself and those it does not exclude."""
        shape, size, cells = self.shape, self.size, self.cells
        digit, cell = divmod(bit, cells)
        row, col = divmod(cell, size)
        out = sum(1 << p + cell for p in range(0, size * cells, cells))
        for other in range(cells):
            r, c = divmod(other, size)
            same_box = r // shape.box_rows == row // shape.box_rows and c // shape.box_cols == col // shape.box_cols
            if r == row or c == col or same_box:
                out |= 1 << digit * cells + other
        return self.full & ~out | 1 << bit

    def candidates(self, question) -> int:
        """The candidates left by the clues of a question: T digits, 0 = blank. A clash shows as a cell without any."""
        left = self.full
        for cell, digit in enumerate(question):
            if digit:
                left &= self.keep[(digit - 1) * self.cells + cell]
        return left

    def settle(self, left: int, done: int) -> tuple[int, int]:
        """Sets naked and hidden singles until none is left: (candidates, those set). (0, 0) if a place has none."""
        keep = self.keep
        while True:
            for anchor, steps in self.kinds:
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
        for step in self.kinds[0][1]:
            x = left >> step & self.plane
            for k in range(self.size, 0, -1):
                at_least[k] |= at_least[k - 1] & x
        for k in range(2, self.size + 1):
            cells = at_least[k] & ~at_least[k + 1]
            if cells:
                return (cells & -cells).bit_length() - 1
        raise AssertionError("no cell to branch on")

    def search(self, left: int, limit: int, order=None) -> tuple[list[int], int]:
        """Up to `limit` solutions, each as its T candidates, and the number of guesses (see `solve`).

        order: a rank for each candidate; the branches of a cell are tried by it instead of from the least digit.
        """
        found, guesses, stack = [], 0, [(left, 0)]
        while stack and len(found) < limit:
            left, done = self.settle(*stack.pop())
            if not left:
                continue
            if done.bit_count() == self.cells:
                found.append(done)
                continue
            guesses += 1
            cell = self.branch_cell(left)
            bits = [step + cell for step in self.kinds[0][1] if left >> step + cell & 1]
            if order is not None:
                bits.sort(key=order.__getitem__)
            stack += [(left & self.keep[bit], done) for bit in reversed(bits)]
        return found, guesses

    def grid(self, done: int) -> list[int]:
        """The T digits of a solution given as candidates."""
        answer = [0] * self.cells
        while done:
            bit = done.bit_length() - 1
            done ^= 1 << bit
            digit, cell = divmod(bit, self.cells)
            answer[cell] = digit + 1
        return answer


@lru_cache
def solver(shape: Shape) -> Solver:
    """The solver of a shape, made once."""
    return Solver(shape)


def solve(shape: Shape, question, limit: int = 2) -> list[list[int]]:
    """The solutions of a question (T digits, 0 = blank), at most `limit` of them, as lists of T digits."""
    s = solver(shape)
    return [s.grid(done) for done in s.search(s.candidates([int(d) for d in question]), limit)[0]]


def rating(shape: Shape, question) -> int:
    """How many guesses it takes to find the solution and to prove that there is no other.

    A guess is a node of the search at which no cell has a single candidate and no house a single place for a digit, so
    that the search must branch: on the first of the cells with fewest candidates, trying them all. 0 for a puzzle that
    naked and hidden singles solve.
    """
    s = solver(shape)
    return s.search(s.candidates([int(d) for d in question]), limit=2)[1]


def generate(shape: Shape, seed: int, index: int, minimal: bool = True, clues: int = 0) -> tuple[list[int], list[int]]:
    """Puzzle number `index` of a seed: (question, answer), T digits each, 0 = blank, exactly one solution.

    Depends on (shape, seed, index) alone. minimal: remove clues until none can go; else stop at `clues` of them (more
    remain if the order of removal leads to a minimal puzzle before). Raises ValueError without either.
    """
    if not minimal and not 0 < clues <= shape.cells:
        raise ValueError(f"clues must be between 1 and {shape.cells} if minimal is false, not {clues}")
    s, cells = solver(shape), shape.cells
    raw = np.random.PCG64([seed, index])  # raw bits, because numpy keeps them for ever, unlike shuffle's
    answer = s.grid(s.search(s.full, 1, raw.random_raw(shape.size * cells).tolist())[0][0])
    question, left = list(answer), cells
    for cell in raw.random_raw(cells).argsort(kind="stable").tolist():
        if not minimal and left == clues:
            break
        digit, question[cell] = question[cell], 0
        # every other solution would have another digit here, since the puzzle with this clue has just one
        others = s.candidates(question) & ~(1 << (digit - 1) * cells + cell)
        if s.search(others, 1)[0]:
            question[cell] = digit
        else:
            left -= 1
    return question, answer


def text(puzzle) -> str:
    """Digits as a line of characters, '.' for a blank."""
    return "".join(map(str, puzzle)).replace("0", ".")


def pack_lines(shape: Shape, count: int, test: int, seed: int = 0) -> list[str]:
    """The lines of a pack, header first: `count` minimal puzzles in order of their index, no two the same up to
    symmetry (9x9: no two with the same solution grid up to symmetry), the first `test` of them the test part.

    Raises ValueError if 10,000 puzzles in a row bring nothing new: 4x4 has no more than 36.
    """
    kept, seen, start, fresh = [], set(), 0, 0
    while len(kept) < count:
        if start - fresh > 10_000:
            raise ValueError(f"there seem to be only {len(kept)} minimal {shape.name} puzzles, not {count}")
        new = [generate(shape, seed, i) for i in range(start, start + max(20, count - len(kept)))]
        start += len(new)
        questions, answers = (np.array(part, np.uint8) for part in zip(*new, strict=True))
        by_grid = shape.size > 6
        keys = grid_fingerprint(shape, answers) if by_grid else canonical_form(shape, questions)
        for puzzle, key in zip(new, keys, strict=True):
            if key.tobytes() not in seen:
                seen.add(key.tobytes())
                kept.append(puzzle)
                fresh = start
    lines = ["source,question,answer,rating,split"]
    for i, (question, answer) in enumerate(kept[:count]):
        split = "test" if i < test else "train"
        lines.append(f"minimal_{shape.name},{text(question)},{text(answer)},{rating(shape, question)},{split}")
    return lines


def write_pack(path: Path, lines: list[str]) -> None:
    """Writes a pack as .csv.xz, under a temporary name first."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(lzma.compress("".join(line + "\n" for line in lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    part.replace(path)


def main(argv: list[str] | None = None) -> None:
    """The command line: writes one pack."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("puzzle", choices=SHAPES, help="shape of the grid")
    parser.add_argument("--out", type=Path, help="file to write (the pack of the package)")
    parser.add_argument("--count", type=int, help="puzzles to write (as many as the shipped pack)")
    parser.add_argument("--test", type=int, help="how many of them, from the first, are the test part")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    count, test = PACK_SIZES[args.puzzle]
    count, test = args.count or count, test if args.test is None else args.test
    out = args.out or PACKS / f"sudoku_{args.puzzle}.csv.xz"
    write_pack(out, pack_lines(SHAPES[args.puzzle], count, test, args.seed))
    print(f"{out}: {count} puzzles, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
