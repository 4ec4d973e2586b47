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

    It may also have `host_draws(seed, step, batch_size) -> dict of arrays`, what is random in a step; `initial_state(rows,
    train_step)`, the state of a recursion before its first step (needed to resume one); and `shared(batch, state) -> dict of
    tensors`, what its loss must know of the whole batch, such as the number of words that it is a mean over. Where a step has P
    micro-batches in all processes, `loss` finds in its batch what `shared` said of each, (P, ...), under the same names.
    """

    def loss(self, batch: dict[str, Tensor], state: Any = None, detail: bool = False) -> StepOutput:
        """One training step on a batch, from the state that the step before returned; `forward` is the same."""


def whole_sum(batch: dict[str, Tensor], name: str, values: Tensor) -> Tensor:
    """What a sum over a micro-batch is divided by: the sum of `values`, or the mean over all micro-batches of a step of what
    `shared` called `name`, so that the mean of their losses is the loss of the whole batch."""
    return batch[name].mean() if name in batch else values.sum()
