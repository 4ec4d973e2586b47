"""What the exact solver says of a Sudoku question: invalid, without a solution, with several, or its only one."""

import numpy as np

from trm.puzzles.sudoku import Shape, Undecided, solutions

INVALID, NONE, SEVERAL, UNDECIDED = "invalid", "no solution", "several solutions", "undecided"
GUESSES = 10_000  # of the exact solver, before it gives up (a few seconds)


def text_of(grid) -> str:
    """The digits of a grid as one text, '.' for a blank."""
    return "".join(map(str, grid)).replace("0", ".")


def judge(shape: Shape, question) -> tuple[str, str, list[int]]:
    """(status, why, the only solution): T digits, 0 = blank -> one of the four statuses, or "" with the solution, T digits."""
    if clash := clashing(shape, question):
        return INVALID, "the digit {} stands twice in {}".format(*clash), []
    try:
        found = solutions(shape, question, most=GUESSES)
    except Undecided:
        return UNDECIDED, "the exact solver did not decide whether it has a solution, and only one", []
    if len(found) > 1:
        return SEVERAL, "two of them: " + " and ".join(map(text_of, found)), []
    return ("", "", found[0]) if found else (NONE, "", [])


def clashing(shape: Shape, grid) -> tuple[int, str] | None:
    """A digit that stands twice in a row, column or box of a grid (T digits, 0 = blank), and where; None if none does."""
    size = shape.size
    cells = np.arange(shape.cells)
    row, column = cells // size, cells % size
    box = row // shape.box_rows * (size // shape.box_cols) + column // shape.box_cols
    for name, house in (("row", row), ("column", column), ("box", box)):
        seen = set()
        for place, digit in enumerate(grid):
            key = house[place], digit
            if digit and key in seen:
                return digit, f"{name} {house[place] + 1}"
            seen.add(key)
    return None
