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

    @torch.no_grad()
    def update(self) -> None:
        """Average in the model's present weights."""
        self.updates += 1
        if self.shadow:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(list(self.shadow.values()), list(self.model.parameters()), 1 - decay)

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
