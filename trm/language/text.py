"""Texts: a local file, a data set of the hub by streaming, or the generator that ships; split by document.

A file of plain text (.txt, also .xz or .gz) holds documents: each begins with a line `### name`, or, where there is no such
line, an empty line ends it. A file of JSON lines (.jsonl, also .xz or .gz) holds one document a line.
"""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from trm.errors import UserError

COLUMNS = ("text", "question", "generations")  # where a text is looked for, unless told
SHORTEST, TOGETHER = 8, 16
PARTS = {"test": 9, "valid": 8}  # of each ten documents the last is for test, the one before it for validation


class TextError(UserError):
    """A source of texts that cannot be used; the message names it, the line and the mend."""


def documents(source: str, column: str = "") -> Iterator[list[str]]:
    """The documents of `source`, one by one, each a list of texts (mostly of one): a path, or "hub:NAME" or
    "hub:NAME:CONFIG" (its part train, streamed).

    column: field of JSON lines or of the hub's data set; empty: the first of `COLUMNS` that is there. A field may hold a
    text, a list of texts (which are one document, so that no split parts them), or a list of messages with `content` (a
    text together).

    Raises:
        TextError: nothing there, not readable, a line that is no JSON, no such field, or no text at all.
    """
    empty = True
    for place, document in records(source):
        found_texts = [document] if isinstance(document, str) else _field(document, column, place)
        if texts := [text for text in found_texts if text.strip()]:
            empty = False
            yield texts
    if empty:
        raise TextError(f"{source}: holds no text")


def records(source: str, split: str = "train") -> Iterator[tuple[str, Any]]:
    """What stands in `source`, as `documents` takes it, and where: an object of each JSON line, a text of each document.

    Raises:
        TextError: nothing there, not readable, a line that is no JSON.
    """
    if source.startswith("hub:"):
        return _of_hub(source.removeprefix("hub:"), split)
    return _of_file(Path(source).expanduser())


def _of_hub(name: str, split: str) -> Iterator[tuple[str, dict]]:
    from datasets import load_dataset

    name, _, config = name.partition(":")
    try:
        for i, row in enumerate(load_dataset(name, config or None, split=split, streaming=True)):
            yield f"hub:{name}, row {i}", row
    except UserError:
        raise
    except Exception as error:  # datasets, the hub's client and the network each raise their own
        what = f"hub:{name} could not be read ({error}); is there a network, is the name right?"
        raise TextError(what) from error


def _of_file(path: Path) -> Iterator[tuple[str, Any]]:
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    kind = path.with_suffix("").suffix if opener is not open else path.suffix
    if kind not in (".txt", ".jsonl"):
        raise TextError(f"{path}: wanted is a .txt or .jsonl file (also .xz, .gz), or hub:NAME")
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            if kind == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield f"{path}, line {number}", json.loads(line)
            else:
                yield from ((str(path), text) for text in _paragraphs_or_works(file))
    except json.JSONDecodeError as error:
        raise TextError(f"{path}, line {number}: is no JSON ({error}); mend or drop it") from None
    except FileNotFoundError:
        raise TextError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise TextError(f"{path}: cannot be read to its end ({error})") from None


def _paragraphs_or_works(file) -> Iterator[str]:
    """What stands between headings `### name`, if the first line is one; else what stands between empty lines."""
    works, lines = None, []
    for line in file:
        if works is None and line.strip():
            works = line.startswith("### ")
        if line.startswith("### ") if works else not line.strip():
            yield "".join(lines)
            lines = []
        else:
            lines.append(line)
    yield "".join(lines)


def _field(row: Any, column: str, place: str) -> list[str]:
    if not isinstance(row, dict):
        raise TextError(f"{place}: is no object with fields such as text")
    name = column or next((name for name in COLUMNS if name in row), "")
    if name not in row:
        raise TextError(f"{place}: no field {column or ' nor '.join(COLUMNS)}; it has {', '.join(row)}")
    value = row[name]
    if isinstance(value, list) and all(isinstance(part, dict) and "content" in part for part in value):
        return ["\n".join(str(part["content"]) for part in value)]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    raise TextError(f"{place}: the field {name} is no text, list of texts or list of messages")


def part_of(found: Iterator[list[str]], part: str) -> Iterator[str]:
    """The texts of one part. Of each ten different documents, in the order of the source, the last is for "test", the one
    before it for "valid", the others for "train". A document that occurs again is passed over."""
    seen: set[int] = set()
    for texts in found:
        if (fingerprint := hash(tuple(texts))) in seen:
            continue
        place = len(seen) % 10
        seen.add(fingerprint)
        if place == PARTS.get(part, -1) or part == "train" and place not in PARTS.values():
            yield from texts


def sequences(texts: Iterator[str], encode: Callable[[str], list[int]], length: int, count: int) -> list[np.ndarray]:
    """`count` sequences of at most `length` tokens (fewer if the texts end), one from each text in turn, `TOGETHER` texts at
    a time: a book does not crowd out the others.

    encode: text -> token ids. A rest of fewer than eight tokens is dropped. Sequences are int32: four bytes a token.
    """

    def pieces(text: str) -> Iterator[np.ndarray]:
        ids = np.array(encode(text[: 16 * length * count]), np.int32)  # more of a book is not needed
        return (ids[i : i + length] for i in range(0, len(ids), length) if len(ids) - i >= SHORTEST)

    found: list[np.ndarray] = []
    while len(found) < count and (window := [pieces(text) for text in islice(texts, TOGETHER)]):
        turns = chain.from_iterable(zip_longest(*window))
        found += islice((piece for piece in turns if piece is not None), count - len(found))
    return found


def shuffled(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Which of `count` sequences stand in the batch of `step`: (batch_size,). Each comes once an epoch in an order that (seed,
    epoch) shuffles, and some again to fill its last batch; a pure function of the step."""
    epoch, place = divmod(step, -(-count // batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return np.resize(order, -(-count // batch_size) * batch_size)[place * batch_size :][:batch_size]
