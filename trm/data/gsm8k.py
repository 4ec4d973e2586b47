"""GSM8K (arXiv 2110.14168): school problems in words, as lines of JSON: a file or folder, or `hub:openai/gsm8k:main`.

    {"question": "...", "answer": "... 48/2 = <<48/2=24>>24 clips in May.\\n... <<48+24=72>>72 ...\\n#### 72"}

A folder holds train.jsonl and test.jsonl (also .xz, .gz). Of the training part every tenth problem is for validation. Of the
problems that stand in a file twice, the later ones are passed over.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from trm.data.text import TextError, records
from trm.data.thoughts import Exercise
from trm.errors import UserError

NUMBER = r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
LONGEST = 1000  # characters of a number; what goes on for longer is none
CALCULATION = re.compile(rf"<<({NUMBER})([-+*/])({NUMBER})=({NUMBER})>>")  # of two numbers; longer ones are none


def read_number(text: str) -> Fraction | None:
    """The number that a text ends with, or the one after `####` or in `\\boxed{}` if there is such: "so $1,234.50." is 1234.5;
    None where there is none."""
    for marked in (r"####\s*(.*)", r"\\boxed\{([^{}]*)\}"):
        if found := re.findall(marked, text):
            text = found[-1]
            break
    numbers = re.findall(rf"(?<![\w.]){NUMBER}(?:\s*/\s*\d+)?", text.replace("\u2212", "-"))
    if not numbers:
        return None
    if len(numbers[-1]) > LONGEST:
        return None
    whole, _, below = re.sub(r"[$,\s]", "", numbers[-1]).partition("/")
    return Fraction(whole) / int(below) if below and int(below) else Fraction(whole)


def exercises(source: str, part: str) -> Iterator[Exercise]:
    """The problems of "train", "valid" or "test".

    Raises:
        UserError: nothing there, no such fields, or an answer without `####`; the message names the line.
    """
    held_out, seen = part == "test", set()
    for place, row in records(_place(source, "test" if held_out else "train"), "test" if held_out else "train"):
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("question"), str)
            or not isinstance(row.get("answer"), str)
        ):
            raise TextError(f"{place}: wanted are the fields question and answer, as GSM8K has them")
        if "####" not in row["answer"] or read_number(row["answer"]) is None:
            raise TextError(f"{place}: the answer does not end with #### and a number")
        if row["question"] in seen:
            continue
        seen.add(row["question"])
        if held_out or (len(seen) % 10 == 0) == (part == "valid"):
            yield _exercise(row["question"], row["answer"])
    if not seen:
        raise UserError(f"{source}: holds no problem")


def _place(source: str, part: str) -> str:
    folder = Path(source).expanduser()
    if source.startswith("hub:") or not folder.is_dir():
        return source
    for end in (".jsonl", ".jsonl.xz", ".jsonl.gz"):
        if (folder / f"{part}{end}").exists():
            return str(folder / f"{part}{end}")
    raise UserError(f"{folder}: holds no {part}.jsonl (or .jsonl.xz, .jsonl.gz)")


def _exercise(question: str, answer: str) -> Exercise:
    chain, _, said = answer.rpartition("####")
    plain = re.sub(r"<<[^>]*>>", "", chain).strip()
    calculations = [match.groups() for match in CALCULATION.finditer(chain)]
    return Exercise(question, plain, said.strip().replace(",", ""), tuple(calculations), max(chain.count("<<"), 1))
