"""What every model gives the one trainer: `loss(batch, state, detail) -> StepOutput`."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class StepOutput:
    """The result of one training step of a model.

    `loss` is a scalar to differentiate; `state` is what a recursive model carries to its next step (None for others);
    `metrics` are detached scalars on the device; `predictions` are what the model would answer now; `answers` are the
    intermediate states whose gradients were asked for.
    """

    loss: Tensor
    state: Any
    metrics: dict[str, Tensor]
    predictions: Tensor | None = None
    answers: list[Tensor] = field(default_factory=list)
