"""Training on TPUs: the only module that imports torch_xla (2.9.0, with torch 2.9.0).

One program for all devices (SPMD): batch and recursion state are sharded over the mesh axis "data", parameters replicated. A
step is traced, compiled once and run by `torch_xla.sync()`; halting is a mask, so that no step is a new program. Random
numbers come from the host (`host_draws`), so that all backends train the same.

    python -m trm.tpu.xla book/04_trm_train.py -f params/04_paper.yaml -p backend xla   # on every host of a slice
"""

import os
import runpy
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

os.environ.setdefault("XLA_NO_SPECIAL_SCALARS", "1")  # else a number that becomes 0 or 1 is compiled anew

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
from trm.flops import step_flops
from trm.trainer import Trainer, make_accelerator

MOSTLY = 0.5  # share of the time spent waiting for batches that is warned of
PATIENCE = 60  # seconds that a host waits for what the first one writes


class XLATrainer(Trainer):
    """`Trainer` on all devices of a slice; `fit` also gives xla/devices, xla/compiles and xla/compiles_after_warmup.

    Raises UserError for a batch that the devices cannot share, or something that several hosts cannot do."""

    def __init__(self, model, batches, params, run, **more):
        self.compiled_before = compiles()
        xr.use_spmd()
        self.devices = xr.global_runtime_device_count()
        self._check(params, run)
        # A TPU multiplies in bfloat16 unless told otherwise.
        set_mat_mul_precision("highest" if params.precision == "float32" else "default")
        self.mesh = xs.Mesh(np.arange(self.devices), (self.devices,), ("data",))
        self.watch = CompileWatch(run.main)
        self.shapes: dict[int, dict[str, tuple]] = {}  # of the batches made ahead, by step
        self.reported = (0, 0.0, 0.0)  # step, seconds, seconds waited, at the last record of metrics
        super().__init__(model, batches, params, run, **more)
        with self.watch.during(("start",)):
            self._fill_optimizer()
            self._replicate()
            rows = params.batch_size // params.grad_accumulation
            self.states = [self.plain_model.initial_state(rows) for _ in self.states]
            self._shard_states()
            torch_xla.sync()
        # In evaluation the head ends a supervision step: without a sync all steps would be one long program.
        self.plain_model.lm_head.register_forward_pre_hook(lambda head, _: None if head.training else torch_xla.sync())

    def _check(self, params, run) -> None:
        rows, hosts, host = params.batch_size // params.grad_accumulation, xr.process_count(), xr.process_index()
        if rows % self.devices:
            unit = self.devices * params.grad_accumulation
            raise UserError(f"parameter 'batch_size' = {params.batch_size}: {rows} rows per micro-batch cannot be shared by "
                            f"{self.devices} devices; take a multiple of {unit}")  # fmt: skip
        if params.activation_checkpointing:
            raise UserError("'activation_checkpointing': torch has none for XLA; grad_accumulation saves memory too")
        if hosts == 1:
            return
        if (host == 0) != run.main:
            raise UserError(f"this is host {host} of {hosts}, but it was not started as such; start the script as "
                            f"`python -m trm.tpu.xla {sys.argv[0]} ...` on every host")  # fmt: skip
        if params.time_limit:
            raise UserError("parameter 'time_limit': several hosts cannot pause by the clock; use max_steps")
        deadline = time.monotonic() + PATIENCE
        while not (run.dir / "params.json").exists():
            if time.monotonic() >= deadline:
                raise UserError(f"host {host} does not see {run.dir}: put output_dir on storage that all hosts share")
            time.sleep(1)

    def _fill_optimizer(self) -> None:
        """Make the optimizer's moments by a step with gradients of 0, so that the first step is the same program as all."""
        for p in self.plain_model.parameters():
            p.grad = torch.zeros_like(p)
        for group in self.optimizer.param_groups:
            group["lr"] = self._number(1e-30)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for state in self.optimizer.state.values():
            state["step"].zero_()

    def _replicate(self) -> None:
        """Mark what every device holds whole."""
        model = self.plain_model
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        for tensor in (*model.parameters(), *model.buffers(), *self.ema.shadow.values(), self.first_bad, *moments):
            xs.mark_sharding(tensor, self.mesh, (None,) * tensor.ndim)

    @property
    def device(self) -> torch.device:
        return torch_xla.device()  # it stands for all of them

    def _make_accelerator(self):
        return make_accelerator(self.params, device_placement=False)

    def _compile(self) -> None:
        """Nothing: XLA compiles everything."""

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast("xla", dtype=torch.bfloat16, enabled=self.params.precision == "bfloat16")

    def _on_device(self, tensor: Tensor) -> Tensor:
        """Send each row to its device."""
        return xm.send_cpu_data_to_device([tensor], self.device, input_sharding=self._rows(tensor))[0]

    def _number(self, value: float) -> Tensor:
        # A plain number would be a part of the program, and so would one that stands alone in its tensor.
        return torch.tensor([value]).to(self.device)[0]

    def _zero(self, device: torch.device) -> Tensor:
        return torch.zeros(1).to(device)  # made on the device it would be part of the program

    def _whole(self, parts: list[Tensor]) -> Tensor:
        copies = [torch.stack([part]) for part in parts]
        for copy in copies:  # reading a sharded tensor would compile a program each time
            xs.mark_sharding(copy, self.mesh, (None,) * copy.ndim)
        torch_xla.sync()
        return torch.cat([copy.cpu()[0] for copy in copies])

    def _rows(self, tensor: Tensor) -> xs.ShardingSpec:
        return xs.ShardingSpec(self.mesh, ("data",) + (None,) * (tensor.ndim - 1))

    def _shard_states(self) -> None:
        for i, state in enumerate(self.states):
            tensors = {n: t for n, t in vars(state).items() if isinstance(t, Tensor)}
            if self.step == 0:  # `initial_state` gives some names one tensor: each gets its own
                tensors = {n: t.clone() for n, t in tensors.items()}
            self.states[i] = replace(state, **tensors)
            for tensor in tensors.values():
                xs.mark_sharding(tensor, self.mesh, self._rows(tensor).partition_spec)

    def _local_parts(self, step: int) -> list[dict[str, Tensor]]:
        parts = super()._local_parts(step)
        self.shapes[step] = {name: tuple(t.shape) for name, t in parts[0].items()}
        return parts

    def fit(self) -> dict[str, float]:
        try:
            measured = super().fit()
        except RuntimeError as error:
            if "device_ready_queues_" not in str(error):
                raise
            raise UserError("gradients were computed on another device before: restart the kernel or process") from None
        counts = {"xla/devices": self.devices, "xla/compiles": compiles() - self.compiled_before}
        return measured | counts | {"xla/compiles_after_warmup": self.watch.late}

    def _agree(self, wishes: tuple[bool, ...], logged: bool) -> tuple[bool, ...]:
        # Hosts cannot ask each other here, and all must run the same programs: with several, only the step decides.
        return wishes if xr.process_count() == 1 else (False,) * len(wishes)

    def _train_step(self, detail: bool) -> None:
        step = self.step
        kind = ("step", detail, step_flops(self.plain_model.config, step))  # a curriculum's stage is another program
        with self.watch.during(kind, step + 1) as shapes:
            super()._train_step(detail)
            self._shard_states()
            torch_xla.sync()
            shapes |= self.shapes.pop(step)

    def _log(self) -> None:
        with self.watch.during(("log", *self.sums), self.step):
            super()._log()

    def _evaluate(self) -> None:
        with self.watch.during(("evaluation",), self.step):
            super()._evaluate()

    def _checkpoint(self) -> None:
        with self.watch.during(("checkpoint", *self.sums), self.step):
            super()._checkpoint()

    def _write(self, tensors: dict[str, dict[str, Tensor]], facts: dict[str, Any]) -> None:
        # Every host reads, since reading may run a program, which all hosts must run; the first one writes.
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
            share = (self.parts.waited - waited) / max(self.seconds - seconds, 1e-9)
            record |= metrics() | {"xla/batch_wait_share": share}
            self.reported = (self.step, self.seconds, self.parts.waited)
            if self.run.main and share > MOSTLY:
                print(f"warning: {share:.0%} of the time was spent waiting for batches and their transfer; raise "
                      f"`prefetch`, which is {self.params.prefetch}", flush=True)  # fmt: skip
        super()._keep(record)


class CompileWatch:
    """Counts compiles and warns of those after the warm-up, which is the first of each kind of work."""

    def __init__(self, warn: bool = True):
        self.warn = warn
        self.seen: dict[tuple, dict[str, tuple]] = {}
        self.late = 0  # compiles after the warm-up

    @contextmanager
    def during(self, kind: tuple, step: int = 0) -> Iterator[dict[str, tuple]]:
        """Watch a piece of work of a kind. Yields a dict that takes the name and shape of its tensors, for the warning."""
        before, shapes = compiles(), {}
        yield shapes
        made, old = compiles() - before, self.seen.get(kind)
        self.seen[kind] = shapes
        if old is None or not made:
            return
        self.late += made
        changed = [f"{n} was {old.get(n)}, is {shape}" for n, shape in shapes.items() if shape != old.get(n)]
        why = "; ".join(changed) or "no shape of a batch changed: was a value read, or did a number change its role?"
        if self.warn:
            print(f"warning: compiled {made} times after warm-up, at step {step} ({kind[0]}): {why}", flush=True)


def compiles() -> int:
    """Programs compiled so far in this process."""
    return (met.metric_data("CompileTime") or (0,))[0]


# Names here, and XLA's counters.
COUNTERS = {"compile": ["CompileTime"], "execute": ["ExecuteTime", "ExecuteReplicatedTime"],
            "transfer_to_device": ["TransferToDeviceTime"], "transfer_from_device": ["TransferFromDeviceTime"]}  # fmt: skip


def metrics() -> dict[str, float]:
    """Number (xla/NAMEs) and time (xla/NAME_seconds) of what XLA did in this process so far, by the names of COUNTERS."""
    found = {}
    for name, theirs in COUNTERS.items():
        data = [met.metric_data(counter) or (0, 0) for counter in theirs]
        found[f"xla/{name}s"] = sum(count for count, *_ in data)
        found[f"xla/{name}_seconds"] = sum(nanoseconds for _, nanoseconds, *_ in data) / 1e9
    return found


def main() -> None:
    """Run a chapter's script on one of several hosts, with RANK set to the number of this host."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m trm.tpu.xla SCRIPT [its own arguments]")
    xr.use_spmd()
    os.environ["RANK"] = str(xr.process_index())
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
