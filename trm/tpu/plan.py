"""What a training would need of a TPU slice, by arithmetic from its configuration: nothing here is measured.

FLOPs are those of `trm.flops`. Memory is what a chip holds whole and, for its own rows, the recursion's state and what the
backward pass keeps. Traffic is the operands of the matrix products; all else is taken as fused into them. Not counted: XLA's
own temporaries.
"""

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch

from trm.errors import UserError
from trm.flops import applications, saved_for_backward, step_flops, training_flops
from trm.halting import UNROLLED
from trm.layers import inner_width
from trm.model import TRM, TRMConfig
from trm.puzzles.params import TrmTrain

GIB = 2**30
FLOAT = 4  # bytes
SPARE = 0.9  # the share of a chip's memory that a plan may fill
PASSES = 6  # in bfloat16, of which a TPU makes a product in float32


@dataclass(frozen=True)
class Slice:
    """TPU v4 chips. Sources: Google Cloud's page of the TPU v4; "How to Scale Your Model" (Austin et al. 2025) for the link."""

    name: str
    topology: tuple[int, int, int]  # chips along x, y and z
    peak_flops: float = 275e12  # bfloat16, per second and chip
    memory: int = 32 * GIB  # bytes per chip
    bandwidth: float = 1.2e12  # bytes per second and chip, to that memory
    link: float = 45e9  # bytes per second, one link in one direction

    @property
    def chips(self) -> int:
        """Chips: 4 per host."""
        return prod(self.topology)


SLICES = {s.name: s for s in (Slice("v4-8", (2, 2, 1)), Slice("v4-16", (2, 2, 2)), Slice("v4-64", (2, 4, 4)))}


def plan(params: TrmTrain, on: Slice, utilisation: float = 0.4, host_milliseconds: float = 0.0) -> dict[str, Any]:
    """What the training that `params` describe needs of a slice. Seconds are those of a step, for each bound alone.

    utilisation: the assumed share of peak. host_milliseconds: time of a host to trace one layer's application
    (`tests/benchmarks/xla_tracing.py` measures it; a backward pass counts as two); 0 leaves the host out.
    """
    c = _config(params)
    parts, rows = params.grad_accumulation, -(-params.batch_size // on.chips)
    full = params.precision == "float32"
    applied = parts * _steps(c) * applications(c.H_cycles, c.L_cycles, c.backprop)
    flops, allreduce = params.batch_size * step_flops(c), count_parameters(c) * FLOAT
    update = allreduce * (9 if params.ema_decay else 7)  # weights, gradient, two moments, the average
    traffic = applied * application_traffic(c, -(-rows // parts), FLOAT if full else 2) + update
    bounds = {
        "compute": flops / on.chips / on.peak_flops * (PASSES if full else 1),
        "memory": traffic / on.bandwidth,
        "network": 2 * (on.chips - 1) / on.chips * allreduce / (2 * on.link),  # a ring, both ways round
        "host": applied * c.num_layers * host_milliseconds / 1e3,  # torch_xla traces every step anew
    }
    step = max(bounds["compute"] / utilisation, bounds["memory"], bounds["network"], bounds["host"])
    whole = training_flops(c, params.batch_size, params.max_steps) / flops * step  # a curriculum has cheaper steps
    return {
        "parameters": count_parameters(c),
        "global_batch": params.batch_size,
        "rows": rows,  # of the batch, per chip
        "flops_per_step": flops,  # all chips
        "memory_gib": chip_memory(params, c, on) / GIB,  # per chip
        "allreduce_bytes": allreduce,  # gradients, float32, per chip and step
        "host_bytes": params.batch_size * (2 * c.seq_len + 1) * 8,  # tokens in and out, and a draw, int64 each
        "intensity": flops / on.chips / traffic,  # FLOPs per byte between a chip and its memory
        **{f"{name}_seconds": seconds for name, seconds in bounds.items()},  # compute: at peak
        "bound": max(bounds, key=bounds.get),  # what takes longest
        "highest_utilisation": bounds["compute"] / max(bounds.values()),  # of peak, that the bounds allow
        "step_seconds": step,  # at the assumed utilisation, or at another bound, whichever is longer
        "days": whole / 86400,  # of the whole training
    }


def faults(params: TrmTrain, on: Slice) -> dict[str, dict[str, Any]]:
    """What keeps a training from running on a slice: fault -> the parameters that fix it ({} for none)."""
    found: dict[str, dict[str, Any]] = {}
    unit, batch = on.chips * params.grad_accumulation, params.batch_size
    if batch % unit:
        batch = max(round(batch / unit), 1) * unit
        found[f"batch_size {params.batch_size:,} cannot be shared by {on.chips} chips"] = {"batch_size": batch}
    if params.precision == "float16":
        found["precision float16: a TPU has none"] = {"precision": "bfloat16"}
    if params.activation_checkpointing:
        found["activation_checkpointing: torch has none for XLA"] = {"activation_checkpointing": False}
    config = _config(params)
    needed = chip_memory(params, config, on)
    if needed > SPARE * on.memory:
        fix: dict[str, Any] = {}
        for parts in (2**i for i in range(11, 0, -1)):
            cut = params.model_copy(update={"grad_accumulation": parts, "batch_size": batch})
            if batch % (on.chips * parts) == 0 and chip_memory(cut, config, on) <= SPARE * on.memory:
                fix = {"grad_accumulation": parts}  # the fewest parts that do
        found[f"memory: {needed / GIB:.0f} GiB on a chip of {on.memory / GIB:.0f}"] = fix
    return found


def _config(params: TrmTrain) -> TRMConfig:
    if params.mixer == "houses":
        raise UserError("parameter 'mixer' = 'houses': memory and traffic are counted for mlp and attention alone")
    return params.trm_config()


def count_parameters(config: TRMConfig) -> int:
    """Parameters of a TRM, from the model itself, built without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in TRM(config).parameters())


def chip_memory(params: TrmTrain, config: TRMConfig, on: Slice) -> float:
    """Bytes on a chip at the peak of a step."""
    c, rows = config, -(-params.batch_size // on.chips)
    whole = count_parameters(c) * FLOAT * (5 if params.ema_decay else 4)
    state = rows * (2 * (c.puzzle_tokens + c.seq_len) * c.hidden_size * FLOAT + (2 * c.seq_len + 3) * 8)
    trained = c.L_cycles + 1 if c.backprop == "last" else c.H_cycles * (c.L_cycles + 1)
    read = c.seq_len * c.vocab_size * 3 * FLOAT  # logits, and what the loss keeps of them
    kept = trained * kept_for_backward(c, params.precision) + read
    return whole + state + -(-rows // params.grad_accumulation) * _steps(c) * kept


def _steps(config: TRMConfig) -> int:
    """Supervision steps in one training step."""
    return config.halt_max_steps if config.halting in UNROLLED else 1


def kept_for_backward(config: TRMConfig, precision: str = "float32") -> int:
    """Bytes that one application of the network to one example keeps for its backward pass. With bfloat16 the sums
    after the residuals stay in float32."""
    return _kept(config.model_copy(update={"depth_stages": ()}), precision == "float32")  # a list has no hash


@cache
def _kept(config: TRMConfig, full: bool) -> int:
    with torch.device("meta"):
        net = TRM(config).net.to(torch.float32 if full else torch.bfloat16)
        rows = 2  # of one row some views are kept whole that of more are copied
        shape = rows, config.puzzle_tokens + config.seq_len, config.hidden_size
        z = torch.empty(shape, dtype=next(net.parameters()).dtype, requires_grad=True)
    with saved_for_backward(net) as saved:
        net(z)
    in_float32 = 0 if full else 2 * config.num_layers * z.numel() * 2
    return (saved() + in_float32) // rows


def application_traffic(config: TRMConfig, rows: int, size: int) -> float:
    """Bytes between a chip and its memory in one application of the network to `rows` examples, forward, at `size` bytes per
    number: operands and results of the matrix products."""
    c = config
    D, T = c.hidden_size, c.puzzle_tokens + c.seq_len

    def swiglu(width: int, vectors: int) -> int:
        inner = inner_width(width, c.expansion, c.inner_multiple)
        return 3 * width * inner + rows * vectors * (2 * width + 3 * inner)

    if c.mixer == "mlp":
        mixer = swiglu(T, D)
    else:  # q, k, v; scores written and read; the mixture; the output
        mixer = 4 * D * D + rows * (4 * T * D + 2 * T * D + 2 * c.num_heads * T * T + 2 * T * D + 2 * T * D)
    return c.num_layers * (mixer + swiglu(D, T)) * size


def duration(days: float) -> str:
    """Days in the unit that suits: "1 minute", "7 minutes", "3.1 hours", "2.4 days"."""
    minutes = days * 1440
    if minutes < 90:
        return f"{minutes:.0f} minute{'s' * (round(minutes) != 1)}"
    return f"{minutes / 60:.1f} hours" if minutes < 48 * 60 else f"{days:.1f} days"
