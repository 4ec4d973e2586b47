"""Hidden states of a language model, streamed: no more than a batch of them is in memory, unless they are kept on disk.

A reader (`trm.language.lm.StateReader`) turns token ids into the states of one layer. Pads never count, and
neither do the first tokens of a sequence where `skip_first` says so: there models keep a few huge numbers that say nothing
(massive activations, arXiv 2402.17762).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trm.errors import UserError
from trm.language.text import shuffled
from trm.run import write_atomically

Sequences = Sequence[Sequence[int] | np.ndarray]
NOT_FINITE = (
    "batch {batch} of the hidden states holds a number that is not finite; is the model whole, and its precision wide enough "
    "(bfloat16 instead of float16)?"
)


def digest(sequences: Sequences) -> str:
    """A digest of token ids, so that states kept for some are not taken for those of others."""
    found = hashlib.sha256()
    for ids in sequences:
        found.update(np.asarray(ids, np.int32).tobytes() + b"|")
    return found.hexdigest()[:16]


def padded(sequences: Sequences, pad: int, skip_first: int = 0) -> dict[str, np.ndarray]:
    """Token ids (B, T) int64, `attention` (B, T) bool, and `mask` (B, T) bool: the positions that count."""
    length = max(map(len, sequences))
    ids = np.full((len(sequences), length), pad, np.int64)
    attention = np.zeros((len(sequences), length), bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], attention[row, : len(sequence)] = sequence, True
    mask = attention.copy()
    mask[:, :skip_first] = False
    return {"input_ids": ids, "attention": attention, "mask": mask}


class StateBatches:
    """step -> a batch of sequences: input_ids, attention, mask (B, T); `positions` (B,), each the number of positions that
    count in the batch over B; and, where they are kept in a store, states (B, T, D) float32. (Else the trainer's processes
    read those of their own rows.) Sequences come in an order that (seed, epoch) shuffles, each once an epoch, and some again
    to fill its last batch; a pure function of the step.

    Args:
        sequences: token ids. read: (ids (B, T), attention (B, T)) -> states (B, T, D). store: states already kept.

    Raises:
        UserError: no sequence has a position that counts.
    """

    def __init__(
        self,
        sequences: Sequences,
        read: Callable[[Tensor, Tensor], Tensor],
        batch_size: int,
        pad: int,
        skip_first: int = 0,
        seed: int = 0,
        store: "StateStore | None" = None,
    ):
        self.sequences = [s for s in sequences if len(s) > skip_first]
        if not self.sequences:
            raise UserError(f"the texts hold no sequence of more than {skip_first} tokens (skip_first)")
        self.read, self.batch_size, self.pad, self.skip_first = read, batch_size, pad, skip_first
        self.seed, self.store = seed, store
        self.epoch_steps = -(-len(self.sequences) // batch_size)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of `step`."""
        return self._of(shuffled(len(self.sequences), self.batch_size, self.seed, step), read=False)

    def _of(self, rows: Sequence[int], read: bool) -> dict[str, np.ndarray]:
        """The batch of these sequences; states that are not kept are read where `read` says so."""
        batch = padded([self.sequences[row] for row in rows], self.pad, self.skip_first)
        batch["positions"] = np.full(len(rows), batch["mask"].sum() / len(rows), np.float32)
        if self.store is None:
            ids, attention = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention"))
            return batch | ({"states": self.read(ids, attention).float().cpu().numpy()} if read else {})
        states = np.zeros((*batch["mask"].shape, self.store.dim), np.float32)
        for place, row in enumerate(rows):
            kept = self.store.of(row)
            states[place, self.skip_first : self.skip_first + len(kept)] = kept
        return batch | {"states": states}

    def in_order(self) -> Iterator[dict[str, np.ndarray]]:
        """Every sequence once, batch by batch, with its states.

        Raises:
            UserError: a state that counts is not finite; the message names its batch.
        """
        for first in range(0, len(self.sequences), self.batch_size):
            batch = self._of(range(first, min(first + self.batch_size, len(self.sequences))), read=True)
            if self.store is None and not np.isfinite(batch["states"][batch["mask"]].sum(dtype=np.float64)):
                raise UserError(NOT_FINITE.format(batch=first // self.batch_size))
            yield batch


class StateStore:
    """States on disk, a row a position that counts, read where they lie: states.npy (N, D) float32, and starts.json.

    Raises:
        UserError: the folder holds none, or not those of `about`.
    """

    def __init__(self, folder: Path, about: dict | None = None):
        try:
            facts = json.loads((folder / "starts.json").read_text())
            self.states = np.load(folder / "states.npy", mmap_mode="r", allow_pickle=False)
            self.starts, kept = facts["starts"], facts["about"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder} holds no stored hidden states ({error}); remove it, and they are made again"
            ) from None
        if about is not None and kept != about:
            raise UserError(f"{folder} holds hidden states of something else; remove it, and they are made again")
        self.dim = self.states.shape[1]

    def of(self, sequence: int) -> np.ndarray:
        """The states of a sequence: (n, D)."""
        return self.states[self.starts[sequence] : self.starts[sequence + 1]]

    @staticmethod
    def place(cache_dir: str, otherwise: Path, about: dict) -> Path:
        """The folder for states of `about`: below `cache_dir`, where other runs find it by what it holds, else `otherwise`."""
        if not cache_dir:
            return otherwise
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return Path(cache_dir).expanduser() / key

    @classmethod
    def find_or_write(cls, folder: Path, batches: StateBatches, about: dict) -> "StateStore":
        """The store that lies in `folder`, or, where none does, a new one; raises what `write` and reading one do."""
        return cls(folder, about) if (folder / "starts.json").exists() else cls.write(folder, batches, about)

    @classmethod
    def write(cls, folder: Path, batches: StateBatches, about: dict) -> "StateStore":
        """Keep the states of all sequences of `batches` in `folder`; `about` says whose they are. One batch is in memory.

        Raises:
            UserError: the disk is full; what had been written is removed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lengths = [len(s) - batches.skip_first for s in batches.sequences]
        starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        temporary, out, row = folder / f".states.{os.getpid()}.tmp", None, 0
        try:
            for batch in batches.in_order():
                states = batch["states"][batch["mask"]]
                if out is None:
                    out = np.lib.format.open_memmap(temporary, "w+", np.float32, (starts[-1], states.shape[1]))
                out[row : row + len(states)] = states
                row += len(states)
            out.flush()
            os.replace(temporary, folder / "states.npy")
            write_atomically(folder / "starts.json", json.dumps({"about": about, "starts": starts}))
        except BaseException as error:  # Ctrl-C too: states may fill a disk
            temporary.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise UserError(f"the hidden states could not be kept in {folder} ({error}); free some space") from error
        return cls(folder, about)
