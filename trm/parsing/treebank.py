"""Dependency treebanks in CoNLL-U: a file, a folder, or the hub.

Words are those of the basic trees: lines of multiword tokens (`3-4`) and of empty nodes (`8.1`) are skipped. Errors name file
and line.
"""

import gzip
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import conllu
from conllu.exceptions import ParseException

from trm.errors import UserError

PARTS = ("train", "dev", "test")
OPENERS = {".xz": lzma.open, ".gz": gzip.open}
UNPARSED = {name: lambda line, place: line[place] for name in ("feats", "deps", "misc")}  # columns that are not used


class TreebankError(UserError):
    """A treebank that cannot be used; the message names the file, the line and the fix."""


@dataclass(frozen=True)
class Sentence:
    """n words with their tree: heads[i] is the head of word i + 1, 0 for the root; labels with subtypes, as `nmod:poss`."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    heads: tuple[int, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> "Sentence":
        """Words without a tree, to be parsed."""
        n = len(words)
        return cls(tuple(words), ("_",) * n, (0,) * n, ("_",) * n)

    @property
    def plain_labels(self) -> tuple[str, ...]:
        """Labels without their subtypes, as the CoNLL-18 evaluation compares them."""
        return tuple(label.partition(":")[0] for label in self.labels)

    @property
    def is_projective(self) -> bool:
        """Whether no two arcs cross when they are drawn above the words."""
        arcs = [(min(head, place), max(head, place)) for place, head in enumerate(self.heads, 1)]
        return not any(a < c < b < d for a, b in arcs for c, d in arcs)


def tree_fault(heads: Sequence[int]) -> str:
    """Why heads (0: root) are not a tree with one root over words 1 to n; "" where they are."""
    n = len(heads)
    for place, head in enumerate(heads, 1):
        if not 0 <= head <= n:
            return f"word {place} has the head {head}, and there are {n} words"
    if (roots := list(heads).count(0)) != 1:
        return f"{roots} words have the head 0, one is required"
    reached = {0}
    for place in range(1, n + 1):
        path = []
        while place not in reached and place not in path:
            path.append(place)
            place = heads[place - 1]
        if place not in reached:
            return f"word {place} is its own ancestor"
        reached.update(path)
    return ""


def read_conllu(path: str | Path) -> list[Sentence]:
    """The sentences of a .conllu file (also .xz, .gz).

    Raises:
        TreebankError: no such file, another ending, a broken line, heads that are not a tree.
    """
    path = Path(path)
    kind = path.with_suffix("").suffix if path.suffix in OPENERS else path.suffix
    if kind != ".conllu":
        raise TreebankError(f"{path}: not a .conllu file (also .conllu.xz, .conllu.gz)")
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8-sig") as file:
            sentences = [_sentence(lines, str(path)) for lines in _blocks(file)]
    except FileNotFoundError:
        raise TreebankError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise TreebankError(f"{path}: cannot be read to its end ({error})") from None
    if not sentences:
        raise TreebankError(f"{path}: contains no sentence")
    return sentences


def _blocks(file: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines of each sentence, comments left out."""
    numbered = ((number, line.rstrip("\n")) for number, line in enumerate(file, 1))
    for filled, lines in groupby(numbered, key=lambda pair: bool(pair[1].strip())):
        words = [(number, line) for number, line in lines if not line.startswith("#")]
        if filled and words:
            yield words


def _sentence(lines: list[tuple[int, str]], where: str) -> Sentence:
    for number, line in lines:
        if (columns := line.count("\t") + 1) != 10:
            raise TreebankError(f"{where}, line {number}: has {columns} columns; 10 are required, separated by tabs")
    try:
        tokens = conllu.parse("\n".join(line for _, line in lines) + "\n\n", field_parsers=UNPARSED)[0]
    except ParseException:
        raise TreebankError(_broken_line(lines, where)) from None
    words = [(number, token) for (number, _), token in zip(lines, tokens) if isinstance(token["id"], int)]
    for place, (number, token) in enumerate(words, 1):
        if token["id"] != place:
            raise TreebankError(f"{where}, line {number}: word {token['id']} instead of word {place}; renumber it")
        if token["head"] is None or not token["deprel"] or token["deprel"] == "_":
            raise TreebankError(f"{where}, line {number}: word {place} has no head or no label (columns 7 and 8)")
    heads = tuple(token["head"] for _, token in words)
    if fault := tree_fault(heads):
        raise TreebankError(f"{where}, lines {lines[0][0]} to {lines[-1][0]}: not a tree: {fault}; fix column 7")
    form, upos, deprel = (tuple(token[name] or "_" for _, token in words) for name in ("form", "upos", "deprel"))
    return Sentence(form, upos, heads, deprel)


def _broken_line(lines: list[tuple[int, str]], where: str) -> str:
    """Which line is broken, and why."""
    for number, line in lines:
        try:
            conllu.parse(line + "\n\n")
        except ParseException as error:
            return f"{where}, line {number}: {error}"
    return f"{where}, lines {lines[0][0]} to {lines[-1][0]}: not a CoNLL-U sentence"


@dataclass(frozen=True)
class Treebank:
    """Sentences of the three parts."""

    train: list[Sentence]
    dev: list[Sentence]
    test: list[Sentence]

    def shared(self) -> dict[str, int]:
        """How many sentences of dev, and of test, are also in train, word for word."""
        known = {s.words for s in self.train}
        return {part: sum(s.words in known for s in getattr(self, part)) for part in ("dev", "test")}


def load_treebank(source: str) -> Treebank:
    """The parts of a folder (a file each, with train, dev or test in its name), of one file (80 %, 10 % and 10 %; a sentence of
    an earlier part is left out), or of "hub:CONFIG" (`UD_ON_THE_HUB`; "hub:NAME:CONFIG": another data set of that form).

    Raises:
        TreebankError: a part is missing, is ambiguous or is broken.
    """
    if source.startswith("hub:"):
        return _of_hub(source.removeprefix("hub:"))
    path = Path(source).expanduser()
    if path.is_dir():
        return Treebank(**{part: read_conllu(_file_of(path, part)) for part in PARTS})
    return _cut(read_conllu(path), str(path))


def _file_of(folder: Path, part: str) -> Path:
    files = [path for path in sorted(folder.iterdir()) if ".conllu" in path.suffixes]
    found = [path for path in files if part in path.name.lower()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found or files) or "none"
        raise TreebankError(
            f"{folder}: one .conllu file is required for each of train, dev and test; for {part!r} there are {len(found)} "
            f"({names}). Rename one, or give a single file, which is cut in three"
        )
    return found[0]


def _cut(sentences: list[Sentence], where: str) -> Treebank:
    known: set[tuple[str, ...]] = set()
    parts: dict[str, list[Sentence]] = {part: [] for part in PARTS}
    for i, sentence in enumerate(sentences):
        part = PARTS[0 if 10 * i < 8 * len(sentences) else 1 if 10 * i < 9 * len(sentences) else 2]
        if part == "train" or sentence.words not in known:
            parts[part].append(sentence)
        known.add(sentence.words)
    if not all(parts.values()):
        raise TreebankError(f"{where}: {len(sentences)} sentences are too few to cut in three; give a folder of parts")
    return Treebank(**parts)


UD_ON_THE_HUB = "universal-dependencies/universal_dependencies"


def _of_hub(name: str) -> Treebank:
    from datasets import load_dataset

    name, _, config = name.rpartition(":")
    name = name or UD_ON_THE_HUB
    parts = {}
    for part, split in zip(PARTS, ("train", "validation", "test")):
        try:
            rows = load_dataset(name, config, split=split)
        except Exception as error:  # datasets, the hub's client and the network each raise their own
            what = f"hub:{name}:{config}, part {split}, could not be read ({error}); is there a network, is the name right?"
            raise TreebankError(what) from error
        where = f"hub:{name}, {split}, row"
        parts[part] = [sentence_of_row(row, rows.features, f"{where} {i}") for i, row in enumerate(rows)]
    return Treebank(**parts)


def sentence_of_row(row: dict, features: dict, where: str) -> Sentence:
    """A sentence from a row of the hub's data set: tokens, upos (names or numbers), head (numbers as text), deprel.

    Raises:
        TreebankError: a field is missing, or the heads are not a tree.
    """
    try:
        tags = row["upos"]
        if tags and isinstance(tags[0], int):
            tags = [features["upos"].feature.int2str(tag) for tag in tags]
        lines = zip(row["tokens"], tags, row["head"], row["deprel"], strict=True)
    except (KeyError, ValueError) as error:
        raise TreebankError(f"{where}: requires tokens, upos, head and deprel for each word ({error!r})") from None
    words = [line for line in lines if str(line[2]).isdigit()]  # multiword tokens and empty nodes have no head
    heads = tuple(int(line[2]) for line in words)
    if fault := tree_fault(heads):
        raise TreebankError(f"{where}: not a tree: {fault}")
    return Sentence(*(tuple(line[i] for line in words) for i in (0, 1)), heads, tuple(line[3] for line in words))
