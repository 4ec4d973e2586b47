"""`trm solve`: a trained model on puzzles from the command line, checked by an exact solver."""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

from trm.errors import UserError
from trm.model import TRM
from trm.puzzles.attempts import RetryResult, retry_until_valid
from trm.puzzles.dataset import PuzzleSet
from trm.puzzles.exact import INVALID, UNDECIDED, judge, text_of
from trm.puzzles.solve import check_size, load_model, shipped_model, solve
from trm.puzzles.sudoku import SHAPES, Shape, digits, is_solution, tokens
from trm.puzzles.text import PuzzleTextError, Question, parse_question, parse_questions, read_questions
from trm.text_files import read_stdin

SOLVED, NOT_SOLVED = "solved", "not solved"
EXAMPLE = ".35..12...3..24.6.....4........61..."
# std of the noise that makes tries differ, by mixer, where symmetries change nothing (chosen in chapter 03)
NOISE = {"houses": 20.0}


@dataclass
class Result:
    """What became of a puzzle."""

    question: str
    answer: str = ""  # the model's; empty where it was not asked
    status: str = ""  # one of the five above; empty: to be asked
    steps: int = 0  # supervision steps, over all tries
    tries: int = 0
    confidence: float = 0.0  # mean probability of the digits that were written into blank cells
    why: str = ""


def check(question: Question) -> Result:
    """Whether a puzzle has exactly one solution, by the exact solver: status "" where it has, and where the solver gave up."""
    status, why, _ = judge(question.shape, question.digits)
    return Result(str(question), status="" if status == UNDECIDED else status, why=why)


def retry(model: TRM, questions: list[Question], tries: int, steps: int, seed: int = 0) -> RetryResult:
    """`retry_until_valid` on puzzles of one shape; what becomes of a puzzle depends on it and the seed alone."""
    grids = np.array([q.digits for q in questions], np.uint8)
    puzzles = PuzzleSet(questions[0].shape, grids, np.zeros_like(grids), np.zeros(len(grids)))
    keys = np.array([zlib.crc32(str(q).encode()) for q in questions])
    return retry_until_valid(model, puzzles, tries, steps, seed, NOISE.get(model.config.mixer, 0.0), keys)


def solve_all(models: dict[str, TRM], questions: list[Question], tries: int, steps: int, seed: int = 0) -> list[Result]:
    """The model of each shape (its name -> model) on all puzzles that have one solution."""
    results = [check(question) for question in questions]
    for shape in SHAPES.values():
        rows = [i for i, q in enumerate(questions) if q.shape == shape and not results[i].status]
        found = retry(models[shape.name], [questions[i] for i in rows], tries, steps, seed) if rows else None
        for row, i in enumerate(rows):
            results[i].answer = text_of(found.answers[row])
            results[i].status = SOLVED if found.is_valid[row] else NOT_SOLVED
            results[i].steps, results[i].tries = int(found.steps[row]), int(found.tries[row])
            results[i].confidence = round(float(found.confidence[row]), 4)
    return results


def drawn(shape: Shape, grid) -> str:
    """A grid of digits with its boxes, for the terminal."""
    lines = []
    for r in range(shape.size):
        cells = ["." if d == 0 else str(d) for d in grid[r * shape.size : (r + 1) * shape.size]]
        boxes = [" ".join(cells[c : c + shape.box_cols]) for c in range(0, shape.size, shape.box_cols)]
        if r and r % shape.box_rows == 0:
            lines.append("-+-".join("-" * len(box) for box in boxes))
        lines.append(" | ".join(boxes))
    return "\n".join(lines)


def show_steps(model: TRM, question: Question, steps: int) -> str:
    """The answer after each supervision step of the first try, until it satisfies the constraints."""
    given = np.array([question.digits], np.uint8)
    thoughts = solve(model, torch.from_numpy(tokens(given)), steps)
    parts = []
    for step, prediction in enumerate(thoughts.predictions[0], 1):
        grid = digits(prediction.numpy())
        parts.append(f"step {step}\n{drawn(question.shape, grid)}\n")
        if is_solution(question.shape, given[0], grid):
            break
    return "\n".join(parts)


def words_of(result: Result) -> str:
    """A result in one line."""
    if result.status in (SOLVED, NOT_SOLVED):
        some = f"{result.steps} steps, {result.tries} {'try' if result.tries == 1 else 'tries'}"
        more = "" if result.status == SOLVED else ", the answer breaks the rules"
        more += f"; {result.why}" if result.why else ""
        return f"{result.answer}  {result.status}: {some}, confidence {result.confidence:.2f}{more}"
    return f"{result.question}  {result.status}" + f": {result.why}" * bool(result.why)


def main(words: list[str] | None = None) -> int:
    """Run the command: 0 where all puzzles are solved, 1 where one is not, 2 for input that cannot be used."""
    options = argparse.ArgumentParser("trm solve", description=f"Solve Sudoku puzzles, such as {EXAMPLE}")
    options.add_argument("input", nargs="*", help="16, 36 or 81 digits and blanks (.0_*), or files (- or none: stdin)")
    options.add_argument("--model", metavar="DIR", help="folder of a trained model (default: the one that ships)")
    options.add_argument("--steps", type=int, default=32, help="most supervision steps per try (default: 32)")
    options.add_argument("--tries", type=int, default=16, help="most tries, from other starts (default: 16)")
    options.add_argument("--seed", type=int, default=0, help="of the starts")
    printed = options.add_mutually_exclusive_group()
    printed.add_argument("--show", action="store_true", help="print the grid after each step of the first try")
    printed.add_argument("--json", action="store_true", help="one JSON object per puzzle")
    given = options.parse_args(words)
    try:
        if min(given.steps, given.tries, given.seed + 1) < 1:
            raise PuzzleTextError("--steps and --tries must be at least 1, --seed at least 0")
        questions = list(_input(given.input))
        if not questions:
            raise PuzzleTextError("no puzzle: give one of 16, 36 or 81 digits and blanks, a file, or text on stdin")
        models = _models(given.model, {question.shape.name for question in questions})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = solve_all(models, questions, given.tries, given.steps, given.seed)
    for question, result in zip(questions, results):
        if given.show and result.answer:
            print(show_steps(models[question.shape.name], question, given.steps))
        print(json.dumps(asdict(result)) if given.json else words_of(result))
    statuses = {result.status for result in results}
    return 2 if INVALID in statuses else int(statuses != {SOLVED})


def _models(folder: str | None, shapes: set[str]) -> dict[str, TRM]:
    """The model of each shape: the one in `folder`, or those that ship. UserError: none, or one for another size."""
    if not folder:
        try:
            return {name: shipped_model(name)[0] for name in shapes}
        except UserError as error:
            raise PuzzleTextError(f"{str(error).partition(';')[0]}; give one with --model") from None
    model = load_model(folder)
    for name in shapes:
        check_size(model, SHAPES[name], folder)
    return dict.fromkeys(shapes, model)


def _input(given: list[str]) -> Iterator[Question]:
    """The puzzles of the arguments, each a puzzle or, where it holds other characters than puzzles do, a file; or of stdin."""
    if given in ([], ["-"]):
        yield from parse_questions(read_stdin(PuzzleTextError), "stdin")
        return
    for number, text in enumerate(given, 1):
        if re.fullmatch(r"[\d._*\s|+-]*", text):
            yield parse_question(text, f"puzzle {number}")
        else:
            yield from read_questions(text)
