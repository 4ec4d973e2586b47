"""What is wrong with an answer: cross-entropies per position and per sequence, exactness.

Everything here is a mean over the labelled positions of one example; the mean over examples is taken by the caller,
so that the losses of answers and of halting are means over the same thing.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE_INDEX = -100  # the label of a position that no loss counts
NO_FLOAT64 = ("xla", "mps")  # kinds of device that lack it, or imitate it slowly


def stablemax_cross_entropy(logits: Tensor, labels: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Cross-entropy of stablemax, s(x) / sum s(x) with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below (arXiv 2501.04697).

    logits (..., V), labels (...) -> (...), in `dtype` inside (None: float64, but float32 where the device has no float64 of
    its own) and float32 outside; 0 where the label is `IGNORE_INDEX`.
    """
    x = logits.to(dtype or (torch.float32 if logits.device.type in NO_FLOAT64 else torch.float64))
    # log s(x) directly: log(1 + x) above zero, -log(1 - x) below; no division, no epsilon.
    log_s = x.sign() * torch.log1p(x.abs())
    log_total = log_s.exp().sum(-1).log()
    picked = log_s.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(labels == IGNORE_INDEX, 0, log_total - picked).float()


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of softmax in float32 or better. logits (..., V), labels (...) -> (...), 0 at `IGNORE_INDEX`."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    flat = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return flat.view(labels.shape)


CROSS_ENTROPY = {"softmax": softmax_cross_entropy, "stablemax": stablemax_cross_entropy}


def sequence_loss(logits: Tensor, labels: Tensor, kind: str = "softmax") -> Tensor:
    """Mean cross-entropy of each example over its labelled positions. (B, T, V), (B, T) -> (B,)."""
    return CROSS_ENTROPY[kind](logits, labels).sum(-1) / (labels != IGNORE_INDEX).sum(-1).clamp_min(1)


def exactly_right(predictions: Tensor, labels: Tensor) -> Tensor:
    """Whether every labelled position of an example is right. (B, T), (B, T) -> (B,) bool."""
    return ((predictions == labels) | (labels == IGNORE_INDEX)).all(-1)


def pad(rows: Sequence[Sequence], value: float, rows_in_all: int = 0) -> np.ndarray:
    """Rows of different lengths as one array, filled with `value` on the right.

    rows: of numbers, or of arrays (T, ...) of one type -> (B, longest T, ...); B is their number, or `rows_in_all` if more.
    """
    arrays = [np.asarray(row) for row in rows]
    longest = max(map(len, arrays), default=0)
    shape = arrays[0].shape[1:] if arrays else ()
    kind = next((array.dtype for array in arrays if array.size), np.dtype(np.int64))
    out = np.full((max(len(arrays), rows_in_all), longest, *shape), value, kind)
    for row, array in zip(out, arrays):
        row[: len(array)] = array
    return out
