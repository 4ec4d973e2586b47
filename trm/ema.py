"""Exponential moving average of the weights: what is evaluated and kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """shadow <- d shadow + (1 - d) weights after every step, d = min(decay, (1 + n) / (10 + n)) at update n.

    The smaller d at first keeps a short run from averaging in its random start. decay 0 switches averaging off.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.model = model
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()} if decay else {}

    def next_weight(self) -> float:
        """1 - d of the next update."""
        n = self.updates + 1
        return 1 - min(self.decay, (1 + n) / (10 + n))

    @torch.no_grad()
    def update(self, weight: float | Tensor | None = None) -> None:
        """Average in the model's present weights; `weight` is `next_weight` where it must lie on the device."""
        weight = self.next_weight() if weight is None else weight
        self.updates += 1
        if isinstance(weight, Tensor):
            for shadow, p in zip(self.shadow.values(), self.model.parameters()):
                shadow.lerp_(p, weight)
        elif self.shadow:
            torch._foreach_lerp_(list(self.shadow.values()), list(self.model.parameters()), weight)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the averaged weights for the length of a `with` block, in evaluation mode."""
        weights: dict[str, Tensor] = {}
        training = self.model.training
        with torch.no_grad():
            for name, p in self.model.named_parameters() if self.shadow else ():
                weights[name], p.data = p.data, self.shadow[name]
        try:
            yield self.model.eval()
        finally:
            for name, p in self.model.named_parameters() if self.shadow else ():
                p.data = weights[name]
            self.model.train(training)
