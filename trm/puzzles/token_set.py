"""Puzzles as sequences of tokens, whatever they are: a data set, its folder on disk, and batches of it.

The folder is that of the original code (HRM, TRM): `train/` and `test/`, each with dataset.json and five arrays. An *example*
is an input and its label, (T,) token ids each; examples belong to *puzzles* (one variant of one task, with an identifier that
may have an embedding of its own), puzzles to *groups* (all variants of one task). Simplified: one set per part.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from trm.errors import UserError
from trm.losses import IGNORE_INDEX
from trm.run import write_atomically
from trm.text_files import read_json

ARRAYS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")


class TokenSetError(UserError):
    """A data set that cannot be used; the message names folder, file, and what is wrong."""


class Metadata(BaseModel):
    """dataset.json; the names are the original's."""

    pad_id: int = 0
    ignore_label_id: int | None = Field(0, description="a label that carries no loss, besides padding")
    blank_identifier_id: int = 0
    vocab_size: int = Field(ge=2)
    seq_len: int = Field(ge=1)
    num_puzzle_identifiers: int = Field(1, ge=1)
    total_groups: int = Field(0, ge=0)
    mean_puzzle_examples: float = 1.0
    total_puzzles: int = Field(0, ge=0)
    sets: list[str] = ["all"]

    @classmethod
    def read(cls, folder: Path) -> "Metadata":
        """The dataset.json of a folder, such as data/train; TokenSetError where a field is missing or cannot be."""
        try:
            return cls(**read_json(folder / "dataset.json", TokenSetError))
        except ValidationError as error:
            field = error.errors()[0]
            name, own = ".".join(map(str, field["loc"])), f", not {field['input']!r}" * (field["type"] != "missing")
            raise TokenSetError(f"{folder / 'dataset.json'}: field {name!r}: {field['msg']}{own}") from None


@dataclass(frozen=True)
class TokenSet:
    """E examples of T tokens, of P puzzles in G groups."""

    inputs: np.ndarray  # (E, T) token ids
    labels: np.ndarray  # (E, T)
    puzzle_identifiers: np.ndarray  # (P,)
    puzzle_indices: np.ndarray  # (P + 1,) where the examples of each puzzle begin, and the end
    group_indices: np.ndarray  # (G + 1,) where the puzzles of each group begin, and the end
    about: Metadata

    @classmethod
    def of(
        cls, inputs: np.ndarray, labels: np.ndarray, vocab_size: int, groups: np.ndarray | None = None, **about
    ) -> "TokenSet":
        """A set of examples that are puzzles of their own. groups: (E,) equal numbers for what must stay together, in rising
        order; None: every example is a group. about: other fields of `Metadata`."""
        inputs, labels = np.asarray(inputs), np.asarray(labels)
        E = len(inputs)
        groups = np.arange(E) if groups is None else np.asarray(groups)
        if groups.shape != (E,) or (np.diff(groups) < 0).any():
            raise TokenSetError(f"groups must be ({E},) numbers that do not fall; sort the examples by them")
        starts = np.append(np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1)), E)
        facts = {"seq_len": inputs.shape[-1], "total_groups": len(starts) - 1, "total_puzzles": E}
        about = Metadata(vocab_size=vocab_size, **facts, **about)
        found = cls(
            inputs, labels, np.zeros(E, np.int32), np.arange(E + 1, dtype=np.int32), starts.astype(np.int32), about
        )
        return found.checked("the arrays")

    def __len__(self) -> int:
        return len(self.inputs)

    def example_identifiers(self) -> np.ndarray:
        """The identifier of each example's puzzle: (E,)."""
        return np.repeat(self.puzzle_identifiers, np.diff(self.puzzle_indices))

    def targets(self, rows) -> np.ndarray:
        """Labels of some examples, with `IGNORE_INDEX` where they carry no loss: (n, T) int64."""
        labels = np.asarray(self.labels[rows]).astype(np.int64)
        ignored = self.about.ignore_label_id
        return labels if ignored is None else np.where(labels == ignored, IGNORE_INDEX, labels)

    def first(self, groups: int) -> "TokenSet":
        """The first groups alone."""
        return self.between(0, groups)

    def between(self, start: int, end: int) -> "TokenSet":
        """The groups from `start` to before `end`."""
        puzzles = self.group_indices[[start, end]]
        examples = slice(*self.puzzle_indices[puzzles])
        about = self.about.model_copy(
            update={"total_groups": end - start, "total_puzzles": int(puzzles[1] - puzzles[0])}
        )
        return TokenSet(
            self.inputs[examples], self.labels[examples], self.puzzle_identifiers[slice(*puzzles)],
            self.puzzle_indices[puzzles[0] : puzzles[1] + 1] - examples.start,
            self.group_indices[start : end + 1] - puzzles[0], about,
        )  # fmt: skip

    def checked(self, where: str) -> "TokenSet":
        """Itself. TokenSetError: shapes that do not fit, ids outside the vocabulary, indices that do not rise to the end."""

        def fail(what: str) -> None:
            raise TokenSetError(f"{where}: {what}")

        for name in ARRAYS:
            values, axes = getattr(self, name), 2 if name in ARRAYS[:2] else 1
            if values.ndim != axes or values.dtype.kind not in "ui":
                fail(f"{name} must be whole numbers with {axes} axes; they are {values.dtype} {values.shape}")
        E, P, c = len(self.inputs), len(self.puzzle_identifiers), self.about
        for name in ARRAYS[:2]:
            values = getattr(self, name)
            if values.shape != (E, c.seq_len):
                fail(f"{name} must be ({E}, seq_len {c.seq_len}); they are {values.shape}")
            if E and not 0 <= values.min() <= values.max() < c.vocab_size:
                fail(
                    f"{name} hold {values.min()} to {values.max()}; token ids are 0 to {c.vocab_size - 1} (vocab_size)"
                )
        ends = {"puzzle_indices": (P, E, "examples"), "group_indices": (len(self.group_indices) - 1, P, "puzzles")}
        for name, (count, last, of) in ends.items():
            values = getattr(self, name).astype(np.int64)
            if not len(values) or len(values) != count + 1 or values[0] or values[-1] != last:
                own = f"{len(values)}" + (f" from {values[0]} to {values[-1]}" if len(values) else "")
                fail(f"{name} must be {count + 1} numbers from 0 to {last}, the number of {of}; they are {own}")
            if (bad := np.flatnonzero(np.diff(values) < 1)).size:
                fail(f"{name} must rise; entry {bad[0] + 1} is {values[bad[0] + 1]} after {values[bad[0]]}")
        known = c.num_puzzle_identifiers
        if P and not 0 <= self.puzzle_identifiers.min() <= self.puzzle_identifiers.max() < known:
            fail(f"puzzle_identifiers must be 0 to {known - 1} (num_puzzle_identifiers)")
        return self

    def save(self, folder: str | Path, identifiers: Sequence[str] = ("<blank>",)) -> None:
        """Write the set as `folder`, such as data/train; the names of the identifiers go beside it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            temporary = folder / f".{name}.npy"
            np.save(temporary, getattr(self, name), allow_pickle=False)
            temporary.replace(folder / f"{self.about.sets[0]}__{name}.npy")
        mean = len(self) / max(self.about.total_puzzles, 1)
        about = self.about.model_copy(update={"mean_puzzle_examples": mean})
        write_atomically(folder.parent / "identifiers.json", json.dumps(list(identifiers)))
        write_atomically(folder / "dataset.json", about.model_dump_json())

    @classmethod
    def load(cls, folder: str | Path) -> "TokenSet":
        """The set in a folder, such as data/train; inputs and labels stay on disk (memory-mapped). TokenSetError: a file is
        missing, cannot be read, or `checked` refuses it."""
        folder = Path(folder)
        about = Metadata.read(folder)
        if len(about.sets) != 1:
            raise TokenSetError(f"{folder / 'dataset.json'}: {len(about.sets)} sets; one is read: keep one in `sets`")
        arrays = {}
        for name in ARRAYS:
            path = folder / f"{about.sets[0]}__{name}.npy"
            try:
                arrays[name] = np.load(path, mmap_mode="r" if name in ARRAYS[:2] else None, allow_pickle=False)
            except FileNotFoundError:
                raise TokenSetError(f"{path.absolute()}: no such file") from None
            except (ValueError, OSError, EOFError) as error:
                raise TokenSetError(f"{path}: not an array of numpy ({str(error).splitlines()[0]})") from None
        return cls(**arrays, about=about).checked(str(folder))


class TokenBatches:
    """step -> the global batch of that step: inputs, labels (B, T) and puzzle_ids (B,), int64; made of seed and step.

    As in the original: the groups are shuffled each epoch, one puzzle of each is drawn, and its examples go into the batch, as
    many as fit; an epoch's last batch, which would not be full, is left out. (Where an epoch holds less than a batch, several
    make one.) With one example per puzzle the batches are the original's, number for number.
    """

    def __init__(self, data: TokenSet, batch_size: int, seed: int = 0):
        if not len(data):
            raise UserError("no examples to make batches of")
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.identifiers = data.example_identifiers()
        self.together = -(-batch_size // (len(data.group_indices) - 1))  # epochs per round
        self.begins = [0]  # step at which each round begins
        self.rounds: dict[int, list[np.ndarray]] = {}

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        while self.begins[-1] <= step:
            number = len(self.begins) - 1
            self.rounds = {number: self._round(number)}  # only the newest is kept
            self.begins.append(self.begins[-1] + len(self.rounds[number]))
        number = int(np.searchsorted(self.begins, step, side="right")) - 1
        if number not in self.rounds:
            self.rounds = {number: self._round(number)}
        rows = self.rounds[number][step - self.begins[number]]
        inputs = np.asarray(self.data.inputs[rows]).astype(np.int64)
        return {
            "inputs": inputs,
            "labels": self.data.targets(rows),
            "puzzle_ids": self.identifiers[rows].astype(np.int64),
        }

    def _round(self, number: int) -> list[np.ndarray]:
        """The rows of each batch of a round."""
        data, rng = self.data, np.random.Generator(np.random.Philox(seed=self.seed + number + 1))
        choose = np.random.default_rng([self.seed, number, 0xE7])
        order = np.concatenate([rng.permutation(len(data.group_indices) - 1) for _ in range(self.together)])
        batches, batch, size = [], [], 0
        for group in order:
            puzzle = rng.integers(data.group_indices[group], data.group_indices[group + 1])
            start, end = data.puzzle_indices[puzzle : puzzle + 2]
            count = min(end - start, self.batch_size - size)
            batch.append(start + choose.permutation(end - start)[:count])
            size += count
            if size == self.batch_size:
                batches.append(np.concatenate(batch))
                batch, size = [], 0
        return batches
