"""FLOPs of a TRM, counted from its configuration; and the memory that a forward pass keeps for the backward pass.

FLOPs are those of the matrix products of one example, 2 m n k each. Norms, activations, softmax and embeddings are left out (a
few per cent); so are outputs that are only logged. A backward pass takes twice its forward pass; what activation
checkpointing computes again is counted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trm import halting, supervision
from trm.layers import inner_width
from trm.model import TRMConfig


def applications(H_cycles: int, L_cycles: int, backprop: str) -> int:
    """Compute of one training step of one example, in applications of the network (a backward pass counts as two)."""
    trained = L_cycles + 1 if backprop == "last" else H_cycles * (L_cycles + 1)
    return H_cycles * (L_cycles + 1) + 2 * trained


def network_flops(config: TRMConfig) -> int:
    """One application of the shared network, forward."""
    D, T = config.hidden_size, config.puzzle_tokens + config.seq_len

    if config.mixer == "houses":
        N, inner = config.symbols, inner_width(D, config.expansion, config.inner_multiple)
        # of each symbol, in rows, columns and boxes; of each cell; and of what boxes have in common with rows and columns
        houses, common = 3 * N * N + T, T * sum(config.box)
        products = T * N + 2 * houses + common  # of the houses means and largest values
        return config.num_layers * 2 * (products * D * 2 * inner + T * N * inner * D)

    def swiglu(width: int) -> int:  # gate, up, down
        return 2 * 3 * width * inner_width(width, config.expansion, config.inner_multiple)

    mixer = D * swiglu(T) if config.mixer == "mlp" else 2 * T * 4 * D * D + 2 * 2 * T * T * D
    return config.num_layers * (mixer + T * swiglu(D))


def answer_flops(config: TRMConfig, steps: int) -> int:
    """`steps` supervision steps on one question in evaluation, the answer and the halting head read after each."""
    cycles = config.H_cycles * (config.L_cycles + 1)
    return steps * (cycles * network_flops(config) + _read_flops(config) + _q_flops(config))


def _read_flops(config: TRMConfig) -> int:
    return 2 * config.seq_len * config.hidden_size * (config.symbols if config.symbols > 1 else config.vocab_size)


def _q_flops(config: TRMConfig) -> int:
    return 2 * config.hidden_size * (2 if config.halting == "q_continue" else 1)


def step_flops(config: TRMConfig, train_step: int | None = None) -> int:
    """One training step of one example: all supervision steps where halting is unrolled, else one.

    train_step: which one, where `depth_stages` or the curriculum make a difference (None: after all of them).
    """
    c = config
    begun = [(H, L) for start, H, L in c.depth_stages if train_step is None or start <= train_step]
    H, L = begun[-1] if begun else (c.H_cycles, c.L_cycles)
    forward = H * (L + 1)
    factor = 1.0
    if c.curriculum_enabled and train_step is not None:
        factor = supervision.curriculum_factor(train_step, c.curriculum_start_step, c.curriculum_end_step)
    earlier = supervision.supervised_before_last(c.schedule, H, c.supervision_weight, factor)
    trained = {"last": L + 1, "per_cycle": (1 + earlier) * (L + 1), "full": forward}[c.backprop]
    again = trained if c.activation_checkpointing else 0
    thinking = (forward + 2 * trained + again) * network_flops(c)
    # An answer without a gradient of its own still teaches the output head: no product for its input.
    reading = (3 + earlier * (2 if c.backprop == "last" else 3)) * _read_flops(c)
    step = thinking + reading + 3 * _q_flops(c)
    if c.halting in halting.UNROLLED:
        return c.halt_max_steps * step + (3 * _read_flops(c) if c.halting == "graves" else 0)
    if c.halting == "q_continue":  # one step more, without gradient
        step += forward * network_flops(c) + _q_flops(c)
    return step


def training_flops(config: TRMConfig, batch_size: int, max_steps: int) -> int:
    """A whole training: `max_steps` updates of `batch_size` examples each, evaluation on the way left out."""
    changes = {0, *(start for start, _, _ in config.depth_stages)}
    if config.curriculum_enabled:
        changes |= {config.curriculum_start_step + 1, config.curriculum_end_step}  # where earlier cycles begin to weigh
    starts = sorted(start for start in changes if start < max_steps)
    ends = [*starts[1:], max_steps]
    return batch_size * sum((end - start) * step_flops(config, start) for start, end in zip(starts, ends))


@contextmanager
def saved_for_backward(module: nn.Module) -> Iterator[Callable[[], int]]:
    """Count what autograd keeps for the backward pass: yields a function that gives the bytes of the distinct storages saved in
    the context so far, without parameters and buffers of `module`."""
    own = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for key, storage in saved.items() if key not in own)
