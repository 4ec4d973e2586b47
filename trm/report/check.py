"""`trm report --check`: every chapter is executed twice at smoke scale, and both executions must give the same numbers."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from trm.diff import Pairs, is_time, pairs, texts, unequal
from trm.errors import UserError
from trm.report.html import Book
from trm.text_files import read_json

FOLDER = ".check"  # of outputs/; hidden, so that no page of the book shows one of these executions


@dataclass(frozen=True)
class Outcome:
    """What two executions of a chapter came to: the first line of an error, or the metrics that differ."""

    seconds: float
    error: str = ""
    compared: int = 0  # metrics
    unequal: Pairs = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The outcome in words, with a line for each metric that differs."""
        if self.error:
            return f"FAILED: {self.error}"
        if not self.unequal:
            return f"the same {self.compared} numbers"
        values = [f"\n    {name}: {' and '.join(texts(*both))}" for name, both in self.unequal.items()]
        return f"DIFFERENT: {len(values)} of {self.compared} numbers{''.join(values)}"


def check_chapter(books: Sequence[Book], chapter: str, scale: str = "smoke") -> Outcome:
    """Execute a chapter in each of two books, and compare all final metrics but times and speeds."""
    started = time.monotonic()
    try:
        metrics = [read_json(book.execute(chapter, scale).folder / "metrics.json") for book in books]
    except UserError as error:
        return Outcome(time.monotonic() - started, str(error).splitlines()[0])
    found = {name: both for name, both in pairs(*metrics).items() if not is_time(name)}
    return Outcome(time.monotonic() - started, "", len(found), unequal(found))


def check(book: Book) -> int:
    """Check every chapter, and print a line for each and one for all; the exit code: 0 where all run and give the same numbers
    twice, else 1."""
    # Which number of threads is the fastest depends on what else the machine does, and the rounding of sums on that number.
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = book.outputs / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    books = [Book(book.root, folder / name) for name in ("first", "second")]
    outcomes: dict[str, Outcome] = {}
    for number, chapter in enumerate(book.chapters, 1):
        print(f"[{number}/{len(book.chapters)}] {chapter}  ", end="", flush=True)
        outcomes[chapter] = found = check_chapter(books, chapter)
        print(f"{found.seconds:.0f} s  {found.text}", flush=True)
    failed = [name for name, found in outcomes.items() if found.error]
    differ = [name for name, found in outcomes.items() if found.unequal]
    ran = len(outcomes) - len(failed)
    print(f"{ran} of {len(outcomes)} chapters run, {ran - len(differ)} of {ran} give the same numbers on a second run")
    for what, names in (("failed", failed), ("different", differ)):
        if names:
            print(f"{what}: {', '.join(names)}; both runs are kept in {folder}")
    return int(bool(failed or differ))
