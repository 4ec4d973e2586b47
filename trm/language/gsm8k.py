"""GSM8K (arXiv 2110.14168): school problems in words, as lines of JSON: a folder, a file, or `hub:openai/gsm8k:main`.

    {"question": "...", "answer": "... 48/2 = <<48/2=24>>24 clips in May.\\n... <<48+24=72>>72 ...\\n#### 72"}

A folder holds train.jsonl and test.jsonl (also .xz, .gz); of the training part every tenth problem is for validation. Of a file
every tenth is for validation and the one before it for test. A problem that comes again, in its part or after it in test, is
passed over.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from trm.errors import UserError
from trm.language.text import TextError, records
from trm.latent.data import Exercise

NUMBER = r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
LONGEST = 1000  # characters of a number; what goes on for longer is none
CALCULATION = re.compile(rf"<<({NUMBER})([-+*/])({NUMBER})=({NUMBER})>>")  # of two numbers; longer ones are none


def read_number(text: str, first: bool = False) -> Fraction | None:
    """The number that a text ends with (`first`: begins with), or the one after `####` or in `\\boxed{}` if there is such:
    "so $1,234.50." is 1234.5; None where there is none."""
    for marked in (r"####\s*(.*)", r"\\boxed\{([^{}]*)\}"):
        if found := re.findall(marked, text):
            text = found[-1]
            break
    numbers = re.findall(rf"(?<![\w.]){NUMBER}(?:\s*/\s*\d+)?", text.replace("\u2212", "-"))
    if not numbers:
        return None
    found_number = numbers[0 if first else -1]
    if len(found_number) > LONGEST:
        return None
    whole, _, below = re.sub(r"[$,\s]", "", found_number).partition("/")
    return Fraction(whole) / int(below) if below and int(below) else Fraction(whole)


def exercises(source: str, part: str) -> Iterator[Exercise]:
    """The problems of "train", "valid" or "test".

    Raises:
        UserError: nothing there, no such fields, or an answer without `####`; the message names the line.
    """
    alone = not source.startswith("hub:") and not Path(source).expanduser().is_dir()
    for_test, seen, found = part == "test" and not alone, set(), False
    if for_test and _place(source, "train"):
        seen = {question for _, question, _ in _rows(source, "train")}
    for _, question, answer in _rows(source, "test" if for_test else "train"):
        if question in seen:
            continue
        seen.add(question)
        found = True
        place = {0: "valid", 9: "test" if alone else "train"}.get(len(seen) % 10, "train")
        if for_test or place == part:
            yield _exercise(question, answer)
    if not found:
        raise UserError(f"{source}: holds no problem for {part}")


def _rows(source: str, split: str) -> Iterator[tuple[str, str, str]]:
    """(where it stands, question, answer) of each line."""
    where = _place(source, split)
    if not where:
        raise UserError(f"{source}: holds no {split}.jsonl (or .jsonl.xz, .jsonl.gz)")
    for place, row in records(where, split):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("question", "answer")):
            raise TextError(f"{place}: wanted are the fields question and answer, as GSM8K has them")
        if "####" not in row["answer"] or read_number(row["answer"]) is None:
            raise TextError(f"{place}: the answer does not end with #### and a number")
        yield place, row["question"], row["answer"]


def _place(source: str, split: str) -> str:
    """The file of a split; "" where a folder holds none."""
    folder = Path(source).expanduser()
    if source.startswith("hub:") or not folder.is_dir():
        return source
    files = (folder / f"{split}{end}" for end in (".jsonl", ".jsonl.xz", ".jsonl.gz"))
    return next((str(file) for file in files if file.exists()), "")


def _exercise(question: str, answer: str) -> Exercise:
    chain, _, said = answer.rpartition("####")
    plain = re.sub(r"<<[^>]*>>", "", chain).strip()
    calculations = [match.groups() for match in CALCULATION.finditer(chain)]
    return Exercise(question, plain, said.strip().replace(",", ""), tuple(calculations), max(chain.count("<<"), 1))
