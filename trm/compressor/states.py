"""Hidden states of a language model, streamed: at most one batch is in memory, unless they are cached on disk.

Pads never count, and neither do the first `skip_first` tokens of a sequence, where models keep a few huge activations
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

from trm.compressor.optimum import NOT_FINITE
from trm.errors import UserError
from trm.language.text import shuffled
from trm.losses import pad
from trm.run import write_atomically

Sequences = Sequence[Sequence[int] | np.ndarray]


def digest(sequences: Sequences) -> str:
    """A digest of token ids, so that states cached for some are not taken for those of others."""
    found = hashlib.sha256()
    for ids in sequences:
        found.update(np.asarray(ids, np.int32).tobytes() + b"|")
    return found.hexdigest()[:16]


def padded(sequences: Sequences, pad_id: int, skip_first: int = 0) -> dict[str, np.ndarray]:
    """Token ids (B, T) int64, `attention` (B, T) bool, and `mask` (B, T) bool: the positions that count."""
    attention = pad([np.ones(len(sequence), bool) for sequence in sequences], False)
    mask = attention.copy()
    mask[:, :skip_first] = False
    return {"input_ids": pad(sequences, pad_id).astype(np.int64), "attention": attention, "mask": mask}


class StateBatches:
    """step -> batch: input_ids, attention, mask (B, T); `positions` (B,), each the number of positions that count in the
    batch over B; and states (B, T, D) float32 where they are cached (else each process reads those of its own rows).

    Sequences come once per epoch in an order drawn from (seed, epoch) (`trm.language.text.shuffled`).

    Args:
        sequences: token ids.
        read: (ids (B, T), attention (B, T)) -> states (B, T, D).
        store: states that are cached.

    Raises:
        UserError: no sequence has a position that counts.
    """

    def __init__(
        self,
        sequences: Sequences,
        read: Callable[[Tensor, Tensor], Tensor],
        batch_size: int,
        pad_id: int,
        skip_first: int = 0,
        seed: int = 0,
        store: "StateStore | None" = None,
    ):
        self.sequences = [s for s in sequences if len(s) > skip_first]
        if not self.sequences:
            raise UserError(f"the texts hold no sequence of more than {skip_first} tokens (skip_first)")
        self.read, self.store = read, store
        self.batch_size, self.seed = batch_size, seed
        self.pad_id, self.skip_first = pad_id, skip_first
        self.epoch_steps = -(-len(self.sequences) // batch_size)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of `step`."""
        return self._of(shuffled(len(self.sequences), self.batch_size, self.seed, step), read=False)

    def _of(self, rows: Sequence[int], read: bool) -> dict[str, np.ndarray]:
        """The batch of the sequences `rows`; states that are not cached are computed only if `read`."""
        batch = padded([self.sequences[row] for row in rows], self.pad_id, self.skip_first)
        batch["positions"] = np.full(len(rows), batch["mask"].sum() / len(rows), np.float32)
        if self.store is not None:
            states = np.zeros((*batch["mask"].shape, self.store.dim), np.float32)
            for place, row in enumerate(rows):
                kept = self.store.of(row)
                states[place, self.skip_first : self.skip_first + len(kept)] = kept
            batch["states"] = states
        elif read:
            ids, attention = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention"))
            batch["states"] = self.read(ids, attention).float().cpu().numpy()
        return batch

    def in_order(self) -> Iterator[dict[str, np.ndarray]]:
        """Every sequence once, batch by batch, with its states.

        Raises:
            UserError: a state that counts is not finite; the message names its batch.
        """
        for first in range(0, len(self.sequences), self.batch_size):
            batch = self._of(range(first, min(first + self.batch_size, len(self.sequences))), read=True)
            if self.store is None and not np.isfinite(batch["states"][batch["mask"]].sum(dtype=np.float64)):
                raise UserError(NOT_FINITE.format(batch=first // self.batch_size, where=""))
            yield batch


class StateStore:
    """States on disk, one row per position that counts, memory-mapped: states.npy (N, D) float32, and starts.json.

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
                f"{folder} holds no cached hidden states ({error}); remove it to compute them again"
            ) from None
        if about is not None and kept != about:
            raise UserError(f"{folder} holds hidden states of something else; remove it to compute them again")
        self.dim = self.states.shape[1]

    def of(self, sequence: int) -> np.ndarray:
        """The states of a sequence: (n, D)."""
        return self.states[self.starts[sequence] : self.starts[sequence + 1]]

    @staticmethod
    def place(cache_dir: str, default: Path, about: dict) -> Path:
        """The folder for states of `about`: below `cache_dir`, named by a hash of `about`, or `default` where that is empty."""
        if not cache_dir:
            return default
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return Path(cache_dir).expanduser() / key

    @classmethod
    def find_or_write(cls, folder: Path, batches: StateBatches, about: dict) -> "StateStore":
        """The store in `folder`, or a new one where there is none; raises what reading and `write` do."""
        return cls(folder, about) if (folder / "starts.json").exists() else cls.write(folder, batches, about)

    @classmethod
    def write(cls, folder: Path, batches: StateBatches, about: dict) -> "StateStore":
        """Write the states of all sequences of `batches` into `folder`, one batch at a time.

        Raises:
            UserError: the disk is full; the partial file is removed.
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
            raise UserError(f"the hidden states could not be written to {folder} ({error}); free some space") from error
        return cls(folder, about)
