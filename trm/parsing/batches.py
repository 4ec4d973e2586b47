"""Sentences as arrays: ids of words, affixes, tags and labels; and batches of sentences of similar length.

A word has an id in the vocabulary; its affixes and its shape, which unseen words have too, are rows of one hashed table.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from trm.losses import IGNORE_INDEX, pad
from trm.parsing.treebank import Sentence

PAD, UNKNOWN = 0, 1  # ids of words and tags that stand for none
AFFIX_ROWS = 8192  # of the table of affixes; row 0 is none
AFFIXES = 9  # prefixes and suffixes of 1 to 4 characters, and the shape


@dataclass(frozen=True)
class Vocabulary:
    """Words, tags and labels, whose ids are their places: words and tags from 2 (see `PAD`, `UNKNOWN`), labels from 0."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    subtypes: bool = False  # whether labels keep their subtypes

    @classmethod
    def of(cls, sentences: Sequence[Sentence], subtypes: bool = False, min_count: int = 2) -> "Vocabulary":
        """Lower-cased words that occur `min_count` times or more in `sentences`, all tags, all labels."""
        counts = Counter(word.lower() for s in sentences for word in s.words)
        words = sorted(word for word, count in counts.items() if count >= min_count)
        tags = sorted({tag for s in sentences for tag in s.tags})
        labels = sorted({label for s in sentences for label in (s.labels if subtypes else s.plain_labels)})
        return cls(tuple(words), tuple(tags), tuple(labels), subtypes)

    def encode(self, sentences: Sequence[Sentence]) -> list[dict[str, np.ndarray]]:
        """Arrays of each sentence of n words: words (n,), affixes (n, AFFIXES), tags (n,), heads (n,), labels (n,) int64;
        a label that the vocabulary lacks is `IGNORE_INDEX`."""
        word_id, tag_id = ({name: i for i, name in enumerate(n, 2)} for n in (self.words, self.tags))
        label_id = {name: i for i, name in enumerate(self.labels)}
        names = [s.labels if self.subtypes else s.plain_labels for s in sentences]
        return [
            {
                "words": np.array([word_id.get(word.lower(), UNKNOWN) for word in s.words]),
                "affixes": np.array([affixes(word) for word in s.words]),
                "tags": np.array([tag_id.get(tag, UNKNOWN) for tag in s.tags]),
                "heads": np.array(s.heads),
                "labels": np.array([label_id.get(label, IGNORE_INDEX) for label in labels]),
            }
            for s, labels in zip(sentences, names)
        ]


@lru_cache(maxsize=200_000)
def affixes(word: str) -> tuple[int, ...]:
    """Rows of the prefixes and suffixes of `word`, and of its shape: `AFFIXES` numbers, 0 where it is too short."""
    low = word.lower()
    parts = [f"{n}<{low[:n]}" if len(low) >= n else "" for n in range(1, 5)]
    parts += [f"{n}>{low[-n:]}" if len(low) >= n else "" for n in range(1, 5)]
    return tuple(1 + zlib.crc32(part.encode()) % (AFFIX_ROWS - 1) if part else 0 for part in [*parts, shape(word)])


def shape(word: str) -> str:
    """`word` with every run of capitals as X, of small letters as x, of digits as d: "McDonald's" is "XxXx'x"."""
    kinds = "".join("X" if c.isupper() else "x" if c.isalpha() else "d" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", kinds)


PADDING = {"words": PAD, "affixes": 0, "tags": PAD, "heads": IGNORE_INDEX, "labels": IGNORE_INDEX, "states": 0}


def collate(encoded: Sequence[dict[str, np.ndarray]], multiple: int = 1) -> dict[str, np.ndarray]:
    """One batch (B, T, ...), padded to its longest sentence; B is rounded up to a `multiple` with rows that hold no word."""
    rows = -(-len(encoded) // multiple) * multiple
    return {name: pad([arrays[name] for arrays in encoded], PADDING[name], rows) for name in encoded[0]}


def batch_on(device: torch.device, encoded: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """One padded batch (B, T, ...) of the arrays of B sentences, on `device`."""
    return {name: torch.from_numpy(value).to(device) for name, value in collate(encoded).items()}


def length_batches(encoded: Sequence[dict], device: torch.device, tokens: int = 4000) -> Iterator[tuple]:
    """Batches of similar length, of `tokens` tokens at most: (indices of the sentences, arrays on the device)."""
    lengths = np.array([len(arrays["words"]) for arrays in encoded])
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= tokens:
            end += 1
        yield order[start:end], batch_on(device, [encoded[i] for i in order[start:end]])
        start = end


class LengthBatches:
    """Batches of sentences of similar length: `batches(step)` is a pure function of the seed and the step.

    Each epoch, lengths get 10 % of noise, sentences are sorted by them, cut into `per_epoch` batches of about `tokens` tokens
    (or of `size` sentences), and these shuffled. Rows are filled up to a multiple of `multiple`.
    """

    def __init__(self, encoded: Sequence[dict], tokens: int, size: int = 0, seed: int = 0, multiple: int = 1):
        self.encoded, self.seed, self.multiple = encoded, seed, multiple
        self.lengths = np.array([len(arrays["words"]) for arrays in encoded])
        count = -(-len(encoded) // size) if size else -(-int(self.lengths.sum()) // tokens)
        self.per_epoch, self.by_size = min(max(count, 1), len(encoded)), bool(size)
        self.plan: tuple[int, list[np.ndarray]] = (-1, [])

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of optimizer step `step` (from 0)."""
        epoch, place = divmod(step, self.per_epoch)
        if self.plan[0] != epoch:
            self.plan = (epoch, self._epoch(epoch))
        return collate([self.encoded[i] for i in self.plan[1][place]], self.multiple)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        draw = np.random.default_rng([self.seed, epoch, 0x9A25])
        noisy = self.lengths * draw.uniform(0.9, 1.1, len(self.lengths)) + draw.uniform(0, 0.5, len(self.lengths))
        order = draw.permutation(len(noisy))
        order = order[np.argsort(noisy[order], kind="stable")]
        weight = np.ones(len(order)) if self.by_size else self.lengths[order]
        ends = np.searchsorted(np.cumsum(weight), np.linspace(0, weight.sum(), self.per_epoch + 1)[1:-1])
        least = np.arange(1, self.per_epoch)  # no batch is empty, however long a sentence
        ends = np.maximum.accumulate(np.maximum(ends, least) - least) + least
        ends = np.minimum(ends, len(order) - self.per_epoch + least)
        parts = np.split(order, ends)
        return [parts[i] for i in draw.permutation(self.per_epoch)]
