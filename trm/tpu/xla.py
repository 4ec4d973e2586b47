"""Training on TPUs: the only room that imports torch_xla (2.9.0, with torch 2.9.0).

The same trainer, and no copy of it: one program for all devices (SPMD). The batch and the recursion's state are sharded over a
mesh's one axis "data", parameters are replicated, and XLA itself adds the sums over the devices. A step is traced, compiled
once, and run by `torch_xla.sync()`, with the average of the weights inside; whatever shapes it, such as halting, is a mask,
so that no step is a new program. What is random comes from the host (`host_draws`), so that every device and backend
trains the same.

    python -m trm.tpu.xla book/04_trm_train.py -f params/04_paper.yaml -p backend xla   # on every host of a slice
"""

import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_NO_SPECIAL_SCALARS", "1")  # else a number that becomes 0 or 1 makes another program

import numpy as np
import torch
import torch_xla
import torch_xla.core.xla_model as xm
import torch_xla.debug.metrics as met
import torch_xla.distributed.spmd as xs
import torch_xla.runtime as xr
from torch import Tensor
from torch_xla.backends import set_mat_mul_precision

from trm.errors import UserError
from trm.model import step_flops
from trm.trainer import Trainer, make_accelerator

MOSTLY = 0.5  # a share of the time that is said aloud
PATIENCE = 60  # seconds for which a host waits for what the first one writes


class XLATrainer(Trainer):
    """`Trainer` on all devices of a slice; `fit` also gives xla/devices, xla/compiles and xla/compiles_after_warmup.

    Raises:
        UserError: a batch that the devices cannot share, or something that several hosts cannot do.
    """

    def __init__(self, model, batches, params, run, **more):
        self.compiled_before = compiles()
        xr.use_spmd()
        self.devices = xr.global_runtime_device_count()
        self._check(params, run)
        # A TPU multiplies in bfloat16 unless told otherwise.
        set_mat_mul_precision("highest" if params.precision == "float32" else "default")
        self.mesh = xs.Mesh(np.arange(self.devices), (self.devices,), ("data",))
        self.watch = CompileWatch(print if run.main else lambda *words, **how: None)
        self.shapes: dict[int, dict[str, tuple]] = {}  # of the batches made ahead, by step
        self.reported = (0, 0.0, 0.0)  # step, seconds, seconds waited, at the last record of metrics
        super().__init__(model, batches, params, run, **more)
        with self.watch.during("start"):
            self._fill_optimizer()
            self._replicate()
            rows = params.batch_size // params.grad_accumulation
            if hasattr(self.plain_model, "initial_state"):
                self.states = [self.plain_model.initial_state(rows) for _ in self.states]
            self._shard_states()
            torch_xla.sync()
        # An answer that is read ends a step of thinking in evaluation: without a sync all steps would be one long program.
        self.plain_model.lm_head.register_forward_pre_hook(lambda head, _: None if head.training else torch_xla.sync())

    def _check(self, params, run) -> None:
        rows, hosts = params.batch_size // params.grad_accumulation, xr.process_count()
        if rows % self.devices:
            raise UserError(
                f"parameter 'batch_size' = {params.batch_size}: {rows} rows a part cannot be shared by {self.devices} "
                f"devices; take a multiple of {self.devices * params.grad_accumulation}"
            )
        if getattr(params, "activation_checkpointing", False):
            raise UserError(
                "parameter 'activation_checkpointing': torch has none for XLA; grad_accumulation saves memory too"
            )
        if hosts > 1 and (xr.process_index() == 0) != run.main:
            raise UserError(
                f"this is host {xr.process_index()} of {hosts}, and does not know it; start the script as "
                f"`python -m trm.tpu.xla {sys.argv[0]} ...` on every host"
            )
        if hosts > 1 and params.time_limit:
            raise UserError("parameter 'time_limit': several hosts cannot pause by the clock; use max_steps")
        deadline = time.monotonic() + PATIENCE
        while hosts > 1 and not (run.dir / "params.json").exists() and time.monotonic() < deadline:
            time.sleep(1)
        if hosts > 1 and not (run.dir / "params.json").exists():
            raise UserError(
                f"host {xr.process_index()} does not see {run.dir}: several hosts want an output_dir on storage that they share"
            )

    def _fill_optimizer(self) -> None:
        """Let the optimizer make its moments now, so that the first step is the same program as all others: a step that
        moves nothing, by gradients of 0, and is then forgotten."""
        for p in self.plain_model.parameters():
            p.grad = torch.zeros_like(p)
        for group in self.optimizer.param_groups:
            group["lr"] = self._number(1e-30)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for state in self.optimizer.state.values():
            state["step"].zero_()

    def _replicate(self) -> None:
        """Say of all that every device has whole that it is so."""
        model = self.plain_model
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        for tensor in (*model.parameters(), *model.buffers(), *self.ema.shadow.values(), self.first_bad, *moments):
            xs.mark_sharding(tensor, self.mesh, (None,) * tensor.ndim)

    # --- what the trainer asks for --------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The one device that stands for all of them."""
        return torch_xla.device()

    def _make_accelerator(self):
        # accelerate has a way of its own to XLA: a process for each chip, each with its own rows. Here it does the rest.
        return make_accelerator(self.params, self.run, device_placement=False)

    def _compile(self) -> None:
        """Nothing: XLA compiles all there is."""

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast("xla", dtype=torch.bfloat16, enabled=self.params.precision == "bfloat16")

    def _on_device(self, tensor: Tensor) -> Tensor:
        """Rows to the devices that have them."""
        return xm.send_cpu_data_to_device([tensor], self.device, input_sharding=self._rows(tensor))[0]

    def _number(self, value: float) -> Tensor:
        # A plain number would be a part of the program, and so would one that stands alone in its tensor.
        return torch.tensor([value]).to(self.device)[0]

    def _zero(self, device: torch.device) -> Tensor:
        # Zeros made on the device would be a part of the program, and the first sum another program than later ones.
        return torch.zeros(1).to(device)

    def _whole(self, parts: list[Tensor]) -> Tensor:
        copies = [torch.stack([part]) for part in parts]
        for copy in copies:  # a sharded tensor can be read too, but each time by a program that is compiled anew
            xs.mark_sharding(copy, self.mesh, (None,) * copy.ndim)
        torch_xla.sync()
        return torch.cat([copy.cpu()[0] for copy in copies])

    def _rows(self, tensor: Tensor) -> xs.ShardingSpec:
        return xs.ShardingSpec(self.mesh, ("data",) + (None,) * (tensor.ndim - 1))

    def _shard_states(self) -> None:
        for i, state in enumerate(self.states):
            if is_dataclass(state):
                found = {f.name: getattr(state, f.name) for f in fields(state)}
                # `initial_state` gives some names one tensor: each gets its own
                tensors = {n: t.clone() if self.step == 0 else t for n, t in found.items() if isinstance(t, Tensor)}
                self.states[i] = replace(state, **tensors)
                for tensor in tensors.values():
                    xs.mark_sharding(tensor, self.mesh, self._rows(tensor).partition_spec)

    def _local_parts(self, step: int) -> list[dict[str, Tensor]]:
        parts = super()._local_parts(step)
        self.shapes[step] = {name: tuple(t.shape) for name, t in parts[0].items()}
        return parts

    # --- the loop, watched ----------------------------------------------------------------------------------------

    def fit(self) -> dict[str, float]:
        try:
            measured = super().fit()
        except RuntimeError as error:
            if "device_ready_queues_" in str(error):
                raise UserError(
                    "this process has computed gradients on another device before, and torch_xla wants to be the first: "
                    "start a new process, or restart the kernel"
                ) from None
            raise
        counts = {
            "devices": self.devices,
            "compiles": compiles() - self.compiled_before,
            "compiles_after_warmup": self.watch.late,
        }
        return measured | {f"xla/{name}": count for name, count in counts.items()}

    def _train_step(self, detail: bool) -> None:
        step = self.step
        # A stage of a curriculum is another program, and takes other FLOPs.
        kind = ("step", detail, step_flops(self.plain_model.config, step))
        with self.watch.during(kind, step + 1, lambda: self.shapes.pop(step)):
            super()._train_step(detail)
            self._shard_states()
            torch_xla.sync()

    def _log(self) -> None:
        with self.watch.during(("log", *self.sums), self.step):
            super()._log()

    def _evaluate(self) -> None:
        with self.watch.during("evaluation", self.step):
            super()._evaluate()

    def _checkpoint(self) -> None:
        with self.watch.during(("checkpoint", *self.sums), self.step):
            super()._checkpoint()

    def _write(self, tensors: dict[str, dict[str, Tensor]], facts: dict[str, Any]) -> None:
        # Every host reads, for what is read may be a program, and programs are for all of them; the first one writes.
        super()._write({part: {n: t.cpu() for n, t in group.items()} for part, group in tensors.items()}, facts)

    def _resume(self) -> None:
        super()._resume()
        self._replicate()  # the moments are new tensors
        self._shard_states()
        torch_xla.sync()
        self.reported = (self.step, self.seconds, 0.0)

    def _keep(self, record: dict[str, Any]) -> None:
        step, seconds, waited = self.reported
        every = self.params.xla_metrics_every
        if "train/total_loss" in record and self.step // every > step // every:
            record |= metrics()
            share = (self.parts.waited - waited) / max(self.seconds - seconds, 1e-9)
            self.reported = (self.step, self.seconds, self.parts.waited)
            record["xla/batch_wait_share"] = share
            if self.run.main:
                print(f"XLA metrics at step {self.step}: {describe(record)}", flush=True)
                if share > MOSTLY:
                    print(
                        f"warning: {share:.0%} of the time went into waiting for batches and their transfer; raise "
                        f"`prefetch`, which is {self.params.prefetch}",
                        flush=True,
                    )
        super()._keep(record)


class CompileWatch:
    """Counts compiles, and says which come when none was due. The first of each kind of work is its warm-up."""

    def __init__(self, say: Callable = print):
        self.say = say
        self.seen: dict[Any, dict[str, tuple]] = {}
        self.late = 0  # compiles after the warm-up

    @contextmanager
    def during(self, kind: Any, step: int = 0, shapes: Callable[[], dict] = dict) -> Iterator[None]:
        """Watch a piece of work of a kind; `shapes()`, name -> shape of its tensors, is asked for afterwards."""
        before = compiles()
        yield
        made, found = compiles() - before, shapes()
        if kind in self.seen and made:
            self.late += made
            old = self.seen[kind]
            changed = [f"{n} was {old.get(n)}, is {shape}" for n, shape in found.items() if shape != old.get(n)]
            why = (
                "; ".join(changed)
                or "no shape of a batch changed: was a value read, or did a number get another meaning?"
            )
            name = kind if isinstance(kind, str) else kind[0]
            self.say(f"warning: compiled {made} times after warm-up, at step {step} ({name}): {why}", flush=True)
        self.seen[kind] = found


def compiles() -> int:
    """Programs compiled so far in this process."""
    found = met.metric_data("CompileTime")
    return found[0] if found else 0


# What XLA counts, and the names it gets here.
COUNTED = {
    "CompileTime": "compile",
    "ExecuteReplicatedTime": "execute",
    "ExecuteTime": "execute",
    "TransferToDeviceTime": "transfer_to_device",
    "TransferFromDeviceTime": "transfer_from_device",
}


def metrics() -> dict[str, float]:
    """What XLA did in this process so far: for compile, execute, transfer_to_device and transfer_from_device the number,
    xla/<name>s, and the seconds, xla/<name>_seconds."""
    found: dict[str, float] = {}
    for theirs, ours in COUNTED.items():
        count, nanoseconds = (met.metric_data(theirs) or (0, 0))[:2]
        found[f"xla/{ours}s"] = found.get(f"xla/{ours}s", 0) + count
        found[f"xla/{ours}_seconds"] = found.get(f"xla/{ours}_seconds", 0.0) + nanoseconds / 1e9
    return found


def describe(found: dict[str, float]) -> str:
    """`metrics` as a line of text."""
    names = dict.fromkeys(COUNTED.values())
    return ", ".join(
        f"{name} {found[f'xla/{name}s']:.0f} times, {found[f'xla/{name}_seconds']:.1f} s".replace("_", " ")
        for name in names
    )


def main() -> None:
    """Run a chapter's script on one of several hosts, which learns here which one it is."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).exists():
        sys.exit("usage: python -m trm.tpu.xla SCRIPT [its own arguments]")
    xr.use_spmd()
    os.environ["RANK"] = str(xr.process_index())
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
