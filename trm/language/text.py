"""Texts from a file, a data set of the hub (streamed) or the generator of stories, as token sequences; split by document.

Files: .jsonl, a document per line, or .txt, where each document begins with a line `### name`, or, without such lines, ends at
an empty line; both also packed (.xz, .gz).
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from trm.errors import UserError
from trm.language.stories import completion, problems, prompt
from trm.text_files import OPENERS, open_text, parse_json

COLUMNS = ("text", "question", "generations")  # fields that may hold the text
SHORTEST, TOGETHER = 8, 16  # tokens of a sequence; documents that are read in turn
PARTS = {"test": 9, "valid": 8}  # of every ten documents the last is for test, the one before it for validation


def documents(source: str, column: str = "") -> Iterator[list[str]]:
    """The documents of `source`, each a list of texts (mostly one).

    source: a path, "hub:NAME" or "hub:NAME:CONFIG" (its split train, streamed). column: field of JSON lines or of the data
    set; empty: the first of `COLUMNS`. It may hold a text, a list of texts, or a list of messages with `content` (one text).
    """
    empty = True
    for place, document in records(source):
        found = [document] if isinstance(document, str) else _field(document, column, place)
        if texts := [text for text in found if text.strip()]:
            empty = False
            yield texts
    if empty:
        raise UserError(f"{source}: holds no text")


def records(source: str, split: str = "train") -> Iterator[tuple[str, Any]]:
    """(place, record) of each record in `source` (see `documents`): an object per JSON line, a text per document."""
    if source.startswith("hub:"):
        return _of_hub(source.removeprefix("hub:"), split)
    return _of_file(Path(source).expanduser())


def _of_hub(name: str, split: str) -> Iterator[tuple[str, dict]]:
    from datasets import load_dataset

    name, _, config = name.partition(":")
    try:
        for i, row in enumerate(load_dataset(name, config or None, split=split, streaming=True)):
            yield f"hub:{name}, row {i}", row
    except Exception as error:  # datasets, the hub's client and the network each raise their own
        raise UserError(f"hub:{name} could not be read ({error}); check the name and the network") from error


def _of_file(path: Path) -> Iterator[tuple[str, Any]]:
    kind = path.with_suffix("").suffix if path.suffix in OPENERS else path.suffix
    if kind not in (".txt", ".jsonl"):
        raise UserError(f"{path}: give a .txt or .jsonl file (also .xz, .gz), or hub:NAME")
    with open_text(path) as file:
        if kind == ".txt":
            yield from ((str(path), text) for text in _split_documents(file))
        for number, line in enumerate(file, 1):  # of .txt nothing is left
            if line.strip():
                yield (where := f"{path}, line {number}"), parse_json(line, where)


def _split_documents(file) -> Iterator[str]:
    """Split at headings `### name` if the first line is one, else at empty lines."""
    headed, lines = None, []
    for line in file:
        if headed is None and line.strip():
            headed = line.startswith("### ")
        if line.startswith("### ") if headed else not line.strip():
            yield "".join(lines)
            lines = []
        else:
            lines.append(line)
    yield "".join(lines)


def _field(row: Any, column: str, place: str) -> list[str]:
    if not isinstance(row, dict):
        raise UserError(f"{place}: is not an object with fields such as text")
    name = column or next((name for name in COLUMNS if name in row), "")
    if name not in row:
        raise UserError(f"{place}: no field {column or ' nor '.join(COLUMNS)}; it has {', '.join(row)}")
    value = row[name]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(part, dict) and "content" in part for part in value):
        return ["\n".join(str(part["content"]) for part in value)]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    raise UserError(f"{place}: the field {name} is not a text, a list of texts or a list of messages")


def part_of(found: Iterator[list[str]], part: str) -> Iterator[str]:
    """The texts of "train", "valid" or "test": `PARTS` of every ten different documents; repeated ones are dropped."""
    seen: set[int] = set()
    for texts in found:
        if (fingerprint := hash(tuple(texts))) in seen:
            continue
        place = len(seen) % 10
        seen.add(fingerprint)
        if place == PARTS.get(part, -1) or part == "train" and place not in PARTS.values():
            yield from texts


def sequences(texts: Iterator[str], encode: Callable[[str], list[int]], length: int, count: int) -> list[np.ndarray]:
    """`count` sequences (fewer if the texts end) of at most `length` token ids, int32, one from each of `TOGETHER` texts in
    turn, so that one book does not supply them all. A rest shorter than `SHORTEST` is dropped."""

    def pieces(text: str) -> Iterator[np.ndarray]:
        ids = np.array(encode(text[: 16 * length * count]), np.int32)  # no more of a book is needed
        return (ids[i : i + length] for i in range(0, len(ids), length) if len(ids) - i >= SHORTEST)

    found: list[np.ndarray] = []
    while len(found) < count and (window := [pieces(text) for text in islice(texts, TOGETHER)]):
        turns = chain.from_iterable(zip_longest(*window))
        found += islice((piece for piece in turns if piece is not None), count - len(found))
    return found


def read_sequences(
    tokenizer, path: str, counts: dict[str, int], length: int, column="", seed=0, thinking=False
) -> dict[str, list[np.ndarray]]:
    """Sequences of at most `length` token ids: part -> at most `counts[part]` of them.

    path, column: of `documents`, split by document. An empty path: stories drawn with `seed`, with their chains of thought
    where `thinking`, split by problem.
    """
    if not path and len(tokenizer.encode("<think>", add_special_tokens=False)) != 1:
        raise UserError("only the shipped model reads the shipped texts; with another give text_path (and cot_path)")
    encode, found = partial(tokenizer.encode, add_special_tokens=bool(path), verbose=False), {}
    for part, count in counts.items():
        if path:
            texts = part_of(documents(path, column), part)
        else:
            texts = (prompt(p, thinking) + completion(p, thinking) for p in problems(part, seed))
        found[part] = sequences(texts, encode, length, count)
        if not found[part]:
            raise UserError(f"{path}: no sequence of {SHORTEST} tokens for {part}; give at least ten documents")
    return found


def shuffled(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices (batch_size,) of the sequences in the batch of `step`: each of `count` once per epoch in an order drawn from
    (seed, epoch), some twice to fill its last batch; a pure function of the step."""
    epoch, place = divmod(step, -(-count // batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return np.resize(order, -(-count // batch_size) * batch_size)[place * batch_size :][:batch_size]
