"""Puzzles as people write them, without answers: a puzzle per line, a grid over several lines (.sdk), a column of a table.

Blanks are '.', '0', '_' or '*'; spaces and the lines of drawn boxes ('|', '+', '-') are ignored.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trm.errors import UserError
from trm.puzzles.sudoku import SHAPES, Shape
from trm.text_files import read_text

BLANKS = ".0_*"
QUESTION = ("question", "puzzle", "quizzes")  # names of a column of puzzles
SIZES = {shape.cells: shape for shape in SHAPES.values()}
LENGTHS = "16, 36 or 81"


class PuzzleTextError(UserError):
    """A text that cannot be read as a puzzle; the message says where, what is wrong and the fix."""


@dataclass(frozen=True)
class Question:
    """A puzzle: its shape and its T digits, 0 for a blank."""

    shape: Shape
    digits: tuple[int, ...]
    where: str

    def __str__(self) -> str:
        return "".join(map(str, self.digits)).replace("0", ".")


def parse_question(text: str, where: str) -> Question:
    """The puzzle in a text of 16, 36 or 81 digits and blanks. PuzzleTextError: another length, or another character."""
    letters = re.sub(r"[\s|+-]", "", text)
    if len(letters) not in SIZES:
        raise PuzzleTextError(f"{where}: {len(letters)} characters; a puzzle has {LENGTHS} digits or blanks ({BLANKS})")
    shape = SIZES[len(letters)]
    allowed = BLANKS + "".join(map(str, range(1, shape.size + 1)))
    for place, letter in enumerate(letters, 1):
        if letter not in allowed:
            what = f"{letter!r} at position {place}; allowed are 1 to {shape.size} and blanks ({BLANKS})"
            raise PuzzleTextError(f"{where}: {what}")
    return Question(shape, tuple(0 if letter in BLANKS else int(letter) for letter in letters), where)


def parse_questions(text: str, name: str) -> Iterator[Question]:
    """The puzzles in a text: a table with a header, else lines and grids; `name` is what messages call it. Of a file with
    sections, as [Puzzle] and [State], the first is read."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    header = lines[first] if lines else ""
    delimiter = max(",;\t", key=header.count)
    columns = [column.strip().lower() for column in next(csv.reader([header], delimiter=delimiter), [])]
    if named := [column for column in columns if column in QUESTION]:
        yield from _of_table(lines[first + 1 :], delimiter, columns.index(named[0]), name, first + 1)
    else:
        yield from _of_lines(lines, name)


def _of_table(lines: Sequence[str], delimiter: str, place: int, name: str, before: int) -> Iterator[Question]:
    """The puzzles in column `place` of the lines below a header, which is line `before`."""
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                yield parse_question(row[place] if place < len(row) else "", f"{name}, line {before + rows.line_num}")
    except csv.Error as error:
        raise PuzzleTextError(f"{name}, line {before + rows.line_num}: not a line of a table ({error})") from None


def _of_lines(lines: Sequence[str], name: str) -> Iterator[Question]:
    grid, began, sections = [], 0, 0
    for number, line in enumerate(lines, 1):
        sections += line.lstrip().startswith("[")
        letters = re.sub(r"[\s|+-]", "", line)
        if not letters or line.lstrip()[0] in "#[":  # a comment or the name of a section
            continue
        if sections > 1:
            break
        if not grid and len(letters) in SIZES:
            yield parse_question(letters, f"{name}, line {number}")
            continue
        began = began or number
        if grid and len(letters) != len(grid[0]):
            what = f"{len(letters)} characters, and the lines of its grid above have {len(grid[0])}"
            raise PuzzleTextError(f"{name}, line {number}: {what}")
        grid.append(letters)
        if len(letters) not in (shape.size for shape in SHAPES.values()):
            what = f"{len(letters)} characters; a puzzle has {LENGTHS} in a line, or 4, 6 or 9 in each line of a grid"
            raise PuzzleTextError(f"{name}, line {number}: {what}")
        if len(grid) == len(letters):
            yield parse_question("".join(grid), f"{name}, line {began}")
            grid, began = [], 0
    if grid:
        what = f"a grid of {len(grid[0])} columns ends after {len(grid)} lines; add the others"
        raise PuzzleTextError(f"{name}, line {began}: {what}")


def read_questions(path: str | Path) -> list[Question]:
    """The puzzles of a text file, also .gz and .xz. PuzzleTextError: file, line, what is wrong; no puzzle at all."""
    found = list(parse_questions(read_text(path, PuzzleTextError), str(path)))
    if not found:
        raise PuzzleTextError(f"{path}: no puzzle in it; one per line, of {LENGTHS} digits and blanks ({BLANKS})")
    return found
