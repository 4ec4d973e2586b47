"""What every model gives the one trainer: `loss(batch, state, detail) -> StepOutput`."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass
class StepOutput:
    """The result of one training step of a model.

    `loss` is a scalar to differentiate; `state` is what a recursive model carries to its next step (None for others);
    `metrics` are detached scalars on the device; `predictions` are what the model would answer now; `intermediates`
    are the states after each cycle, whose gradients were asked for.
    """

    loss: Tensor
    state: Any
    metrics: dict[str, Tensor]
    predictions: Tensor | None = None
    intermediates: list[Tensor] = field(default_factory=list)


class Trainable(Protocol):
    """A module that the trainer can train.

    It may also have `host_draws(seed, step, batch_size) -> dict of arrays`, what is random in a step, and
    `initial_state(rows, train_step)`, the state of a recursion before its first step (needed to resume one).
    """

    def loss(self, batch: dict[str, Tensor], state: Any = None, detail: bool = False) -> StepOutput:
        """One training step on a batch, from the state that the step before returned; `forward` is the same."""
