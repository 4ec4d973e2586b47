"""Hidden states of a language model, streamed: at most one batch is in memory, unless they are cached on disk.

Pads never count, and neither do the first `skip_first` tokens of a sequence, where models keep a few huge activations
(massive activations, arXiv 2402.17762).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from trm.compressor.optimum import require_finite
from trm.errors import UserError
from trm.language.text import shuffled
from trm.losses import pad
from trm.run import write_atomically
from trm.text_files import read_json

Sequences = Sequence[Sequence[int] | np.ndarray]


def digest(sequences: Sequences) -> str:
    """A digest of token ids, so that states cached for some are not taken for those of others."""
    found = hashlib.sha256()
    for ids in sequences:
        found.update(np.asarray(ids, np.int32).tobytes() + b"|")
    return found.hexdigest()[:16]


class StateBatches:
    """step -> batch (order: `trm.language.text.shuffled`): input_ids, attention (B, T); mask (B, T), the positions that count;
    positions (B,), their number over B; states (B, T, D) float32 from `store`, without which each process reads its own.

    read: (ids (B, T), attention (B, T)) -> states (B, T, D).
    """

    def __init__(
        self, sequences: Sequences, read: Callable, batch_size: int, pad_id: int, skip_first=0, seed=0, store=None
    ):
        self.sequences = [s for s in sequences if len(s) > skip_first]
        if not self.sequences:
            raise UserError(f"the texts hold no sequence of more than {skip_first} tokens (skip_first)")
        self.read, self.store = read, store
        self.batch_size, self.pad_id = batch_size, pad_id
        self.skip_first, self.seed = skip_first, seed
        self.epoch_steps = -(-len(self.sequences) // batch_size)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of `step`."""
        return self._of(shuffled(len(self.sequences), self.batch_size, self.seed, step), read=False)

    def _of(self, rows: Sequence[int], read: bool) -> dict[str, np.ndarray]:
        """The batch of the sequences `rows`; states that are not cached are computed only if `read`."""
        sequences = [self.sequences[row] for row in rows]
        ids, attention = pad(sequences, self.pad_id).astype(np.int64), pad([[True] * len(s) for s in sequences], False)
        mask = attention.copy()
        mask[:, : self.skip_first] = False
        positions = np.full(len(rows), mask.sum() / len(rows), np.float32)
        batch = {"input_ids": ids, "attention": attention, "mask": mask, "positions": positions}
        if self.store is not None:
            states = np.zeros((*mask.shape, self.store.dim), np.float32)
            for place, row in enumerate(rows):
                kept = self.store.of(row)
                states[place, self.skip_first : self.skip_first + len(kept)] = kept
            batch["states"] = states
        elif read:
            batch["states"] = self.read(torch.from_numpy(ids), torch.from_numpy(attention)).float().cpu().numpy()
        return batch

    def in_order(self) -> Iterator[dict[str, np.ndarray]]:
        """Every sequence once, batch by batch, with its states; UserError where one that counts is not finite."""
        for first in range(0, len(self.sequences), self.batch_size):
            batch = self._of(range(len(self.sequences))[first : first + self.batch_size], read=True)
            if self.store is None:
                total = torch.tensor(batch["states"][batch["mask"]].sum(dtype=np.float64))
                require_finite(total, first // self.batch_size)
            yield batch


class StateStore:
    """States on disk, one row per position that counts, memory-mapped: states.npy (N, D) float32, and starts.json."""

    def __init__(self, folder: Path, about: dict | None = None):
        try:
            facts = read_json(folder / "starts.json")
            self.states = np.load(folder / "states.npy", mmap_mode="r", allow_pickle=False)
            self.starts, kept = facts["starts"], facts["about"]
            self.dim = self.states.shape[1]
            rows = all(type(start) is int for start in self.starts) and self.starts == sorted(self.starts)
            if not rows or (self.starts[0], self.starts[-1]) != (0, len(self.states)):
                raise ValueError("its files do not belong together")
        except Exception as error:  # numpy parses the head of a file with ast and tokenize
            why = " ".join(str(error).split())
            raise UserError(f"{folder} holds no cached states ({why}); remove it to compute them again") from None
        if about is not None and kept != about:
            raise UserError(f"{folder} holds states of something else; remove it to compute them again")

    def of(self, sequence: int) -> np.ndarray:
        """The states of a sequence: (n, D)."""
        return self.states[self.starts[sequence] : self.starts[sequence + 1]]

    @staticmethod
    def place(cache_dir: str, default: Path, about: dict) -> Path:
        """The folder for states of `about`: below `cache_dir`, named by a hash of `about`, or `default` without one."""
        if not cache_dir:
            return default
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return Path(cache_dir).expanduser() / key

    @classmethod
    def find_or_write(cls, folder: Path, batches: StateBatches, about: dict) -> "StateStore":
        """The store in `folder`; where there is none, the states of all sequences of `batches` are written into it.

        Raises:
            UserError: the folder holds other states, a state is not finite, or the disk is full.
        """
        if (folder / "starts.json").exists():
            return cls(folder, about)
        folder.mkdir(parents=True, exist_ok=True)
        starts = [0, *accumulate(len(sequence) - batches.skip_first for sequence in batches.sequences)]
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
        except OSError as error:
            raise UserError(f"the hidden states could not be written to {folder} ({error}); free some space") from error
        finally:  # after Ctrl-C too: states may fill a disk
            temporary.unlink(missing_ok=True)
        return cls(folder, about)
