"""`trm parse`: sentences to dependency trees, from the command line."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from trm.checkpoint import PRETRAINED, load_pretrained
from trm.errors import UserError
from trm.parsing.evaluate import parse
from trm.parsing.model import Parser
from trm.parsing.treebank import Sentence, TreebankError, tree_fault, word_lines
from trm.text_files import read_stdin, read_text

SHIPPED = PRETRAINED / "parser"
LONGEST = 4000  # words of a sentence: scores of arcs are words x words
TOGETHER = 500  # sentences that are parsed before they are printed

USAGE = """Parse sentences: texts that are cut into words by spaces, one per line, or CoNLL-U, whose heads and labels are
replaced (the enhanced heads of column 9 stay). The result is CoNLL-U."""


@dataclass(frozen=True)
class Lines:
    """A sentence of the input: its lines, in columns (a comment is one), and the places of those that hold its words."""

    lines: list[list[str]]
    words: list[int]
    where: str

    @classmethod
    def of_text(cls, text: str, where: str) -> "Lines":
        """Words between spaces."""
        words = text.split()
        lines = [[str(i), word, *"_" * 8] for i, word in enumerate(words, 1)]
        return cls([[f"# text = {' '.join(words)}"], *lines], list(range(1, len(words) + 1)), where)

    @property
    def sentence(self) -> Sentence:
        """Its words, with the heads and labels that stand in it, if they do."""
        rows = [self.lines[i] for i in self.words]
        try:
            words = Sentence.of([row[1] for row in rows])
        except TreebankError as error:
            raise TreebankError(f"{self.where}: {error}") from None
        heads = tuple(int(row[6]) if re.fullmatch("[0-9]{1,9}", row[6]) else -1 for row in rows)
        return Sentence(words.words, tuple(row[3] for row in rows), heads, tuple(row[7] for row in rows))

    def with_tree(self, parsed: Sentence) -> str:
        """CoNLL-U with the heads and labels of a parsed sentence."""
        lines = [list(line) for line in self.lines]
        for place, head, label in zip(self.words, parsed.heads, parsed.labels):
            lines[place][6:8] = str(head), label
        return "\n".join("\t".join(line) for line in lines) + "\n"


def read_lines(text: str, name: str) -> Iterator[Lines]:
    """The sentences of CoNLL-U, or of a text with one sentence per line. TreebankError: neither; file and line are named."""
    numbered = list(enumerate(text.splitlines(), 1))
    if not any("\t" in line for _, line in numbered):
        for number, line in numbered:
            if line.strip() and not line.startswith("# "):
                yield Lines.of_text(line, f"{name}, line {number}")
        return
    for filled, block in groupby(numbered, key=lambda pair: bool(pair[1].strip())):
        if filled:
            yield _conllu(list(block), name)


def _conllu(block: list[tuple[int, str]], name: str) -> Lines:
    words = [number - block[0][0] for number, _ in word_lines(block, name)]
    lines = [[line] if line.startswith("#") else line.split("\t") for _, line in block]
    return Lines(lines, words, f"{name}, line {block[0][0]}")


def tree_lines(sentence: Sentence) -> str:
    """A tree for the terminal: a word per line below its head, indented, with its label; siblings in the order of the text."""
    children: dict[int, list[int]] = {}
    for place, head in enumerate(sentence.heads, 1):
        children.setdefault(head, []).append(place)
    lines, waiting = [], [(place, "", "", "") for place in reversed(children.get(0, []))]
    while waiting:
        place, before, branch, below = waiting.pop()
        lines.append(f"{before}{branch}{sentence.words[place - 1]}  ({sentence.labels[place - 1]})")
        own = children.get(place, [])
        for child in reversed(own):
            last = child == own[-1]
            waiting.append((child, before + below, "└─ " if last else "├─ ", "   " if last else "│  "))
    return "\n".join(lines) + "\n"


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = argparse.ArgumentParser("trm parse", description=USAGE)
    options.add_argument("input", nargs="*", help="sentences or files (names with a suffix or slash; - or none: stdin)")
    options.add_argument(
        "--model",
        help="folder of a parser, such as arms/standard/best in a run of chapter 05 (default: the one for English that ships)",
        metavar="DIR",
    )
    printed = options.add_mutually_exclusive_group()
    printed.add_argument("--tree", action="store_true", help="draw the trees instead of CoNLL-U")
    printed.add_argument("--score", action="store_true", help="print UAS and LAS against the input's trees instead")
    given = options.parse_args(words)
    found = [lines for lines in _input(given.input) if lines.words]
    sentences = [lines.sentence for lines in found]
    for lines, sentence in zip(found, sentences):
        if len(sentence.words) > LONGEST:
            raise UserError(f"{lines.where}: {len(sentence.words)} words; at most {LONGEST} fit in memory, split it")
        if given.score and (fault := _fault(sentence)):
            raise UserError(f"{lines.where}: cannot be scored: {fault}")
    if not found:
        raise UserError("nothing to parse: give a sentence, a file, or text on stdin")
    model = load_pretrained(Parser, given.model or SHIPPED)
    right = [0, 0, 0]
    for start in range(0, len(found), TOGETHER):
        some = slice(start, start + TOGETHER)
        for lines, gold, parsed in zip(found[some], sentences[some], parse(model, sentences[some])):
            if given.score:
                heads = [a == b for a, b in zip(gold.heads, parsed.heads)]
                both = [h and a == b for h, a, b in zip(heads, gold.plain_labels, parsed.plain_labels)]
                right = [a + b for a, b in zip(right, (len(heads), sum(heads), sum(both)))]
            else:
                print(tree_lines(parsed) if given.tree else lines.with_tree(parsed))
    if given.score:
        print(f"{right[0]} words: UAS {right[1] / right[0]:.2%}, LAS {right[2] / right[0]:.2%}")
    return 0


def _fault(sentence: Sentence) -> str:
    """Why a sentence has no tree to compare with, "" where it has."""
    if min(sentence.heads) < 0:
        return "a word has no head (column 7)"
    if "_" in sentence.labels:
        return "a word has no label (column 8)"
    if set(sentence.words) == {"_"}:
        return "every word is '_': the text was removed for its licence"
    return tree_fault(sentence.heads)


def _input(given: list[str]) -> Iterator[Lines]:
    """The sentences of the arguments, each a text or a file, or of stdin."""
    if given in ([], ["-"]):
        yield from read_lines(read_stdin(TreebankError), "stdin")
        return
    for number, text in enumerate(given, 1):
        if re.fullmatch(r"\S*[/\\]\S*|\S*\.\w+", text):
            yield from read_lines(read_text(text, TreebankError), text)
        else:
            yield Lines.of_text(text, f"sentence {number}")
