"""When to stop thinking: the paper's halting head, as pure functions of tensors."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def q_halt_loss(q_halt: Tensor, right: Tensor) -> Tensor:
    """Binary cross-entropy between the halt logit and "the answer is exactly right" (arXiv 2510.04871). (B,), (B,) -> (B,)."""
    return F.binary_cross_entropy_with_logits(q_halt.float(), right.float(), reduction="none")


def should_halt(q_halt: Tensor, steps: Tensor, max_steps: int, min_steps: Tensor | None = None) -> Tensor:
    """Which examples stop after this supervision step, in training.

    Those at `max_steps`, and those whose logit is positive unless exploration keeps them until `min_steps`.
    q_halt (B,), steps (B,) taken so far, min_steps (B,) or None -> (B,) bool. No value is read by the host.
    """
    halt = q_halt > 0
    if min_steps is not None:
        halt = halt & (steps >= min_steps)
    return halt | (steps >= max_steps)


def exploration_steps(seed: int, train_step: int, batch_size: int, max_steps: int, probability: float) -> np.ndarray:
    """Fewest steps before each example may stop, drawn afresh for every training step: (B,) int64.

    With `probability` uniform on 2..max_steps, else 0. A pure function of (seed, train_step) on the host, so that any
    device, and a resumed run, repeats it.
    """
    rng = np.random.default_rng([seed, train_step, 0x4A17])
    explore = rng.random(batch_size) < probability
    return np.where(explore, rng.integers(2, max(max_steps, 2) + 1, batch_size), 0)


def first_halt(q_halt: Tensor, threshold: float = 0.0) -> Tensor:
    """Index of the first step whose logit is above `threshold`, the last step where none is. (B, S) -> (B,) int64."""
    above = q_halt > threshold
    above[:, -1] = True
    return above.to(torch.uint8).argmax(-1)
