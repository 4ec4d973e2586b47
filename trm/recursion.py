"""The recursion of a tiny recursive model: the fifteen lines that are the paper.

One network `net` plays both parts. It refines a latent thought z_L given the question x and the present answer z_H,
`L_cycles` times; then it refines the answer z_H given the thought; and all that `H_cycles` times.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BACKPROP = ("last", "per_cycle", "full")


def recurse(
    net: Callable[[Tensor], Tensor],
    x: Tensor,
    z_H: Tensor,
    z_L: Tensor,
    H_cycles: int,
    L_cycles: int,
    backprop: str = "last",
) -> tuple[list[Tensor], Tensor]:
    """Run the recursion of arXiv 2510.04871 (figure 3) and keep the answer after every H-cycle.

    Args:
        net: the shared network, (B, T, D) -> (B, T, D).
        x: the embedded question, (B, T, D). z_H, z_L: the state, (B, T, D) each.
        backprop: how far gradients flow. `last`: only through the last H-cycle (the paper); `per_cycle`: through every
            H-cycle, but not from one into the one before; `full`: through all of them.

    Returns:
        The answers z_H after each H-cycle, a list of `H_cycles` tensors (B, T, D), and the last z_L.
    """
    answers = []
    for cycle in range(H_cycles):
        if backprop == "per_cycle":
            z_H, z_L = z_H.detach(), z_L.detach()
        with torch.set_grad_enabled(torch.is_grad_enabled() and (backprop != "last" or cycle == H_cycles - 1)):
            for _ in range(L_cycles):
                z_L = net(z_L + (z_H + x))
            z_H = net(z_H + z_L)
        answers.append(z_H)
    return answers, z_L


def checkpointed(net: Callable) -> Callable:
    """`net` that keeps no activations and computes them again in the backward pass (activation checkpointing)."""
    return lambda *args: checkpoint(net, *args, use_reentrant=False) if torch.is_grad_enabled() else net(*args)
