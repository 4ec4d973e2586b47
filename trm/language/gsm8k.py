"""GSM8K (arXiv 2110.14168), school problems in words: a folder, a file of JSON lines, or `hub:openai/gsm8k:main`.

    {"question": "...", "answer": "... 48/2 = <<48/2=24>>24 clips in May.\\n... <<48+24=72>>72 ...\\n#### 72"}

A folder holds train.jsonl and test.jsonl (also .xz, .gz). Every tenth training problem is for validation, and of a single
file the one before it for test. Repeated problems are dropped, first from test.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from trm.errors import UserError
from trm.language.text import records

NUMBER = r"-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
LONGEST = 1000  # characters of a number; a longer one is not read
CALCULATION = re.compile(rf"<<({NUMBER})([-+*/])({NUMBER})=({NUMBER})>>")  # of two numbers only

# A run of digits with points and commas, perhaps with an exponent, or a fraction of it, or one behind it; and what must not
# follow: a further part of a fraction, or a group of three digits, which may belong to it or not.
WRITTEN = (
    r"(?P<whole>[\d._,]*\d(?:[eE][-+]?\d{1,3}(?![\w]))?)"
    r"(?:\s+(?P<above>\d+)(?=\s*/))?(?:\s*/\s*(?P<below>\d+))?(?P<again>\s*/\s*\d| \d{3}(?![\d.,/]*\d))?"
)
FORMS = (  # of a number, and what its points and commas are
    (r"\d*(?:\.\d+)?", ""),
    (r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", ","),
    (r"\d{1,3}(?:\.\d{3})+,\d+", "."),
    (r"\d{1,3}(?:\.\d{3}){2,}", "."),
)


@dataclass(frozen=True)
class Exercise:
    """A problem; calculations are (total before, operation, number, total) of each step, as the chain writes them."""

    question: str
    chain: str
    answer: str
    calculations: tuple[tuple[str, str, str, str], ...]
    steps: int


def read_number(text: str, first: bool = False) -> Fraction | None:
    """The last number in `text` (`first`: the first), or that after the first `####` or in the first `\\boxed{}` where there is
    one; None where it holds none, or one that can be read in two ways, such as "1,2,3" or "1 234".

    Read are 1,234.5 and 1.234,5 and 1.234.567 (thousands in groups of three; a point alone is the decimal one), 1 234 with a
    no-break or thin space, 3.5e3, 3/4, \\frac{3}{4}, 2\\frac{1}{2}.
    """
    text = re.sub(r"(?<=\d)\s*(?=\\[dt]?frac)", " ", text.replace("\u2212", "-"))
    text = re.sub(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1/\2 ", text)
    text = re.sub(r"(?<=\d)[\u00a0\u202f\u2009](?=\d{3}(?!\d))", "_", text)  # separates thousands, and nothing else
    for marked in (r"####\s*(.*)", r"\\boxed\{([^{}]*)\}"):
        if found := re.findall(marked, text):
            text = found[0]
            break
    numbers = list(re.finditer(rf"(?<![\w.,])(?P<sign>-?\$?-?){WRITTEN}", text))
    if not numbers:
        return None
    found = numbers[0 if first else -1]
    whole, above, below = (found[name] for name in ("whole", "above", "below"))
    value = _value(whole) if len(found[0]) <= LONGEST and not found["again"] else None
    if value is None:
        return None
    if below and int(below):
        value = value + Fraction(int(above), int(below)) if above else value / int(below)
    return -value if "-" in found["sign"] else value


def _value(written: str) -> Fraction | None:
    """The value of digits with points, commas and an exponent; None where they are no number of one meaning."""
    digits, _, exponent = written.replace("_", "").lower().partition("e")
    for form, thousands in FORMS:
        if re.fullmatch(form, digits):
            plain = digits.replace(thousands, "") if thousands else digits
            return Fraction(plain.replace(",", ".")) * Fraction(10) ** int(exponent or 0)
    return None


def exercises(source: str, part: str) -> Iterator[Exercise]:
    """The problems of "train", "valid" or "test"; UserError names the line that is not one."""
    single = not source.startswith("hub:") and not Path(source).expanduser().is_dir()
    from_test, seen, empty = part == "test" and not single, set(), True
    if from_test and _file(source, "train"):
        seen = {question for question, _ in _rows(source, "train")}
    for question, answer in _rows(source, "test" if from_test else "train"):
        if question in seen:
            continue
        seen.add(question)
        empty = False
        place = {0: "valid", 9: "test" if single else "train"}.get(len(seen) % 10, "train")
        if from_test or place == part:
            chain, _, result = answer.rpartition("####")
            calculations = tuple(match.groups() for match in CALCULATION.finditer(chain))
            plain, steps = re.sub(r"<<[^>]*>>", "", chain).strip(), max(chain.count("<<"), 1)
            yield Exercise(question, plain, result.strip().replace(",", ""), calculations, steps)
    if empty:
        raise UserError(f"{source}: holds no problem for {part}")


def _rows(source: str, split: str) -> Iterator[tuple[str, str]]:
    file = _file(source, split)
    if not file:
        raise UserError(f"{source}: holds no {split}.jsonl (or .jsonl.xz, .jsonl.gz)")
    for place, row in records(file, split):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("question", "answer")):
            raise UserError(f"{place}: it requires the fields question and answer, as in GSM8K")
        if "####" not in row["answer"] or read_number(row["answer"]) is None:
            raise UserError(f"{place}: the answer does not end with #### and a number")
        yield row["question"], row["answer"]


def _file(source: str, split: str) -> str:
    """The file of a split; "" where a folder has none."""
    folder = Path(source).expanduser()
    if source.startswith("hub:") or not folder.is_dir():
        return source
    files = (folder / f"{split}{end}" for end in (".jsonl", ".jsonl.xz", ".jsonl.gz"))
    return next((str(file) for file in files if file.exists()), "")
