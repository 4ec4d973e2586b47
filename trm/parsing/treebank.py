"""Dependency treebanks in CoNLL-U: a file, a folder, or the hub. Errors name file and line.

Words are those of the basic trees: lines of multiword tokens (`3-4`) and of empty nodes (`8.1`) are skipped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from conllu.exceptions import ParseException
from conllu.parser import DEFAULT_FIELD_PARSERS, DEFAULT_FIELDS, parse_line

from trm.errors import UserError
from trm.text_files import open_text

# The parts, and what files call them.
PARTS = {"train": "train(ing)?", "dev": "dev(el|elopment)?|valid(ation)?", "test": "test(ing)?"}
UD_ON_THE_HUB = "universal-dependencies/universal_dependencies"
READ = {name: DEFAULT_FIELD_PARSERS[name] for name in ("id", "head")}  # all else is text


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
        """Words without a tree, to be parsed. TreebankError: a text that is not cut into words, or a word that is none."""
        if isinstance(words, str):
            raise TreebankError(f"{words!r} is one text; give a list of words, such as text.split()")
        words = tuple(words)
        for word in words:
            if not isinstance(word, str) or not word.strip() or word.encode(errors="ignore").decode() != word:
                raise TreebankError(f"{word!r} in a sentence is not a word")
        n = len(words)
        return cls(words, ("_",) * n, (0,) * n, ("_",) * n)

    @property
    def plain_labels(self) -> tuple[str, ...]:
        """Labels without their subtypes, as the CoNLL-18 evaluation compares them."""
        return tuple(label.partition(":")[0] for label in self.labels)

    @property
    def is_projective(self) -> bool:
        """Whether no two arcs cross when they are drawn above the words."""
        arcs = [(min(head, place), max(head, place)) for place, head in enumerate(self.heads, 1)]
        return not any(a < c < b < d for a, b in arcs for c, d in arcs)


def tree_fault(heads: Sequence[int] | np.ndarray) -> str:
    """Why heads (n,), 0 for the root, are not a tree with one root over words 1 to n; "" where they are."""
    n, ancestor = len(heads), np.array([0, *heads])  # (n + 1,)
    if ancestor.min() < 0 or ancestor.max() > n:
        return f"a head is outside 0 to {n}, the number of words"
    if (roots := np.count_nonzero(ancestor[1:] == 0)) != 1:
        return f"{roots} words have the head 0, one is required"
    for _ in range(n.bit_length()):  # jumps twice as far each time
        ancestor = ancestor[ancestor]
    return f"word {ancestor.max()} is its own ancestor" if ancestor.any() else ""


def read_conllu(path: str | Path, skipped: list[str] | None = None) -> list[Sentence]:
    """The sentences of a .conllu file (also .xz, .gz). skipped: a list that takes what is wrong with a broken sentence, which
    is then left out. TreebankError: without it, a sentence is broken or its heads are not a tree; the file has no sentence."""
    path = Path(path)
    if not path.name.endswith((".conllu", ".conllu.xz", ".conllu.gz")):
        raise TreebankError(f"{path}: not a .conllu file (also .conllu.xz, .conllu.gz)")
    with open_text(path, TreebankError) as file:
        numbered = [(number, line.rstrip("\n")) for number, line in enumerate(file, 1) if line[0] != "#"]
    sentences, bad = [], []
    for filled, lines in groupby(numbered, key=lambda pair: bool(pair[1].strip())):
        if filled:
            try:
                sentences.append(_sentence(list(lines), path))
            except TreebankError as error:
                if skipped is None:
                    raise
                bad.append(str(error))
    if not sentences:
        raise TreebankError(f"{path}: contains no sentence" + (f" that is whole; {bad[0]}" if bad else ""))
    if skipped is not None:
        skipped += bad
    if all(word == "_" for s in sentences for word in s.words):
        raise TreebankError(f"{path}: every word is '_': the text was removed for its licence; add it (column 2)")
    return sentences


def word_lines(lines: Iterable[tuple[int, str]], path: str | Path) -> Iterator[tuple[int, str]]:
    """Those of the numbered lines of a sentence that hold its words, in order: (number, line). Comments, multiword tokens (3-4)
    and empty nodes (8.1) are passed over. TreebankError: not ten columns, or a word that is not the next."""
    count = 0
    for number, line in lines:
        if line.startswith("#"):
            continue
        where, columns = f"{path}, line {number}", line.split("\t")
        if len(columns) != 10:
            raise TreebankError(f"{where}: has {len(columns)} columns; 10 are required, separated by tabs")
        if re.fullmatch("[0-9]+[-.][0-9]+", columns[0]):
            continue
        if not re.fullmatch("[0-9]{1,9}", columns[0]):
            raise TreebankError(f"{where}: {columns[0][:20]!r} is not the number of a word, as 1, 1-2 or 1.1")
        count += 1
        if columns[0] == "1" and count > 1:
            raise TreebankError(f"{where}: a sentence begins; an empty line is missing before it")
        if int(columns[0]) != count:
            raise TreebankError(f"{where}: word {columns[0]} instead of word {count}; renumber it")
        yield number, line


def _sentence(lines: list[tuple[int, str]], path: Path) -> Sentence:
    words = []
    for number, line in word_lines(lines, path):
        where = f"{path}, line {number}"
        try:
            token = parse_line(line, DEFAULT_FIELDS, READ)
        except (ParseException, ValueError) as error:  # also of a number of thousands of digits
            raise TreebankError(f"{where}: {error}") from None
        if token["head"] is None or token["deprel"] in ("", "_"):
            raise TreebankError(f"{where}: word {token['id']} has no head or no label (columns 7 and 8)")
        words.append((token["form"] or "_", token["upos"] or "_", token["head"], token["deprel"]))
    return _tree(words, f"{path}, lines {lines[0][0]} to {lines[-1][0]}")


def _tree(words: list[tuple[str, str, int, str]], where: str) -> Sentence:
    """The sentence of (word, tag, head, label), whose heads are checked."""
    if fault := tree_fault([head for _, _, head, _ in words]):
        raise TreebankError(f"{where}: not a tree: {fault}; fix the heads")
    return Sentence(*zip(*words))


@dataclass(frozen=True)
class Treebank:
    train: list[Sentence]
    dev: list[Sentence]
    test: list[Sentence]
    skipped: tuple[str, ...] = ()  # what was wrong with sentences that were left out

    def shared(self) -> dict[str, int]:
        """How many sentences of dev, and of test, are also in train, word for word."""
        known = {s.words for s in self.train}
        return {part: sum(s.words in known for s in getattr(self, part)) for part in ("dev", "test")}


def load_treebank(source: str, skip_bad: bool = False) -> Treebank:
    """The parts of a folder (files named for train, dev or valid, and test; train-a and train-b are joined), of one file or of
    a folder with one (80 %, 10 % and 10 %; a sentence of an earlier part is left out), or of "hub:CONFIG" (`UD_ON_THE_HUB`;
    "hub:NAME:CONFIG": another data set of that form). skip_bad: leave broken sentences out, and say which in `skipped`.
    TreebankError: a part is missing, is ambiguous or is broken."""
    skipped = [] if skip_bad else None
    if source.startswith("hub:"):
        parts = _of_hub(source.removeprefix("hub:"), skipped)
    elif (path := Path(source).expanduser()).is_dir() and len(files := conllu_files(path)) != 1:
        parts = {part: _part_of(files, part, path, skipped) for part in PARTS}
    else:
        path = files[0] if path.is_dir() else path
        parts = _cut(read_conllu(path, skipped), path)
    return Treebank(**parts, skipped=tuple(skipped or ()))


def conllu_files(folder: Path) -> list[Path]:
    """The .conllu files of a folder; what macOS leaves beside them (`._name`) is passed over."""
    return [file for file in sorted(folder.glob("[!.]*")) if ".conllu" in file.suffixes]


def part_of_name(name: str) -> str:
    """The part that a file's name says: the last of its words that names one, so that `test-suite-ud-train` is for training."""
    words = re.findall("[a-z]+", name.lower().partition(".conllu")[0])
    named = [part for word in words for part, pattern in PARTS.items() if re.fullmatch(pattern, word)]
    return named[-1] if named else ""


def _part_of(files: list[Path], part: str, folder: Path, skipped: list[str] | None) -> list[Sentence]:
    found = [path for path in files if part_of_name(path.name) == part]
    if len({re.sub(r"(-[a-z0-9])+\.", ".", path.name.lower()) for path in found}) != 1:
        names = ", ".join(path.name for path in found or files) or "none"
        what = f"one .conllu file is required for {part!r}, there are {len(found)} ({names}); rename one"
        if {part_of_name(path.name) for path in files} == {"test"}:
            what = f"there is a test part alone ({names}), which can be judged: trm parse --model FOLDER --score FILE"
            raise TreebankError(f"{folder.absolute()}: {what}; to train, add the other parts")
        raise TreebankError(f"{folder.absolute()}: {what}, or give a single file, which is cut in three")
    return [sentence for path in found for sentence in read_conllu(path, skipped)]


def _cut(sentences: list[Sentence], path: Path) -> dict[str, list[Sentence]]:
    known: set[tuple[str, ...]] = set()
    parts: dict[str, list[Sentence]] = {part: [] for part in PARTS}
    for i, sentence in enumerate(sentences):
        part = "train" if 10 * i < 8 * len(sentences) else "dev" if 10 * i < 9 * len(sentences) else "test"
        if part == "train" or sentence.words not in known:
            parts[part].append(sentence)
        known.add(sentence.words)
    if not all(parts.values()):
        raise TreebankError(f"{path}: {len(sentences)} sentences are too few to cut in three; give a folder of parts")
    return parts


def _of_hub(name: str, skipped: list[str] | None) -> dict[str, list[Sentence]]:
    from datasets import load_dataset

    name, _, config = name.rpartition(":")
    name = name or UD_ON_THE_HUB
    parts = {}
    for part, split in zip(PARTS, ("train", "validation", "test")):
        where = f"hub:{name}:{config}, {split}"
        try:
            rows = load_dataset(name, config, split=split)
        except Exception as error:  # datasets, the hub's client and the network each raise their own
            raise TreebankError(f"{where}: not readable ({error}); is there a network, is the name right?") from error
        parts[part] = []
        for i, row in enumerate(rows):
            try:
                parts[part].append(sentence_of_row(row, rows.features, f"{where}, row {i}"))
            except TreebankError as error:
                if skipped is None:
                    raise
                skipped.append(str(error))
        if not parts[part]:
            raise TreebankError(f"{where}: contains no sentence that is whole")
    return parts


def sentence_of_row(row: dict, features: dict, where: str) -> Sentence:
    """A sentence from a row of the hub's data set: tokens, upos (names or numbers), head (numbers as text), deprel."""
    try:
        tags = row["upos"]
        if tags and isinstance(tags[0], int):
            tags = [features["upos"].feature.int2str(tag) for tag in tags]
        lines = list(zip(row["tokens"], tags, row["head"], row["deprel"], strict=True))
    except (KeyError, ValueError) as error:
        raise TreebankError(f"{where}: requires tokens, upos, head and deprel for each word ({error!r})") from None
    # Multiword tokens and empty nodes have no head.
    return _tree([(word, tag, int(head), label) for word, tag, head, label in lines if str(head).isdigit()], where)
