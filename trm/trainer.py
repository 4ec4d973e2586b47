"""One loop for every model of the book, on accelerate.

The model gives `loss(batch, state, detail) -> StepOutput` (`trm.protocol`), the data give `batches(step)`, a pure function
of the step. A step never waits for the device: numbers are read only every `log_interval` steps.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trm.checkpoint import checkpoints, load_newest, load_optimizer, optimizer_tensors, save_checkpoint
from trm.errors import UserError
from trm.halting import HaltingMonitor
from trm.interrupt import Interrupts
from trm.optim import EMA, dense_weights, learning_rate, make_optimizer, sparse_weights
from trm.progress import Progress
from trm.run import Run
from trm.threads import Threads
from trm.training_params import RecursiveTraining, Training

CHECKPOINT_SECONDS = 60.0  # of training, after which a checkpoint is written whatever `checkpoint_interval` is
KEPT = ("step", "seconds", "examples", "best", "evaluations_without_gain", "counts")  # numbers of a checkpoint
VANISHING, EXPLODING = 1e-6, 100.0  # gradient norms below and above which a warning is printed


class TrainingError(UserError):
    """A training that cannot go on."""


def make_accelerator(params: Training, **options) -> Accelerator:
    """The accelerator for `backend`; `options` are accelerate's own."""
    _note_a_missing_process()
    AcceleratorState._reset_state()  # one process may train several models in turn
    return Accelerator(cpu=params.device == "cpu", **options)


@cache
def _note_a_missing_process() -> None:
    """Say, once, that `accelerate launch --num_processes 2` has started one process, as it does without several GPUs."""
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ:
        print("note: accelerate launch has started one process only, as it does without several GPUs; use "
              "`python -m torch.distributed.run --nproc_per_node 2 SCRIPT` for two")  # fmt: skip


def resolve_device(params: Training) -> torch.device:
    """The device of this process; of several processes each has its own."""
    return PartialState(cpu=params.device == "cpu").device


class Trainer:
    """Trains `model` for `params.max_steps` optimizer steps, or until a stop that resumes.

    Args:
        model: a `protocol.Trainable`.
        batches: step -> the *global* batch of that step, a dict of arrays (batch_size, ...); where batch_size is 0, any
            number of rows that is a multiple of processes * grad_accumulation.
        params: how to train. run: where to write.
        evaluate: model -> {"valid/...": number}, called with the averaged weights.
        monitor: names whose values, compared in this order, choose the best evaluation.
        show: called with every record of the history.
        initial_score: values of `monitor` that an evaluation must exceed to be the best; empty: none.
        patience_after_first_gain: early stopping counts only evaluations after the first gain.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int], dict[str, np.ndarray]],
        params: Training,
        run: Run,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        monitor: tuple[str, ...] = ("valid/exact_accuracy", "valid/cell_accuracy"),
        show: Progress | None = None,
        initial_score: Sequence[float] = (),
        patience_after_first_gain: bool = False,
    ):
        self.params, self.run, self.batches, self.evaluate = params, run, batches, evaluate
        cycles = isinstance(params, RecursiveTraining)
        self.gradient_stats = cycles and params.compute_gradient_stats
        self.cycle_losses = cycles and params.log_per_step_losses
        self.monitor, self.show = monitor, show
        self.accelerator = self._make_accelerator()
        self.plain_model = model.to(self.device)
        if params.compile:
            self._compile()
        self.clipped = list(dense_weights(model).values())
        optimizer = make_optimizer(model, params)
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, sparse_weights(model))  # see `optim`
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.ema = EMA(self.plain_model, params.ema_decay)
        self.parts = Prefetcher(self._local_parts, getattr(params, "prefetch", 0), params.max_steps)
        self.states: list[Any] = [None] * params.grad_accumulation
        self.sums: dict[str, Tensor] = {}  # (1,) each
        self.counts: dict[str, int] = {}
        self.first_bad = torch.zeros((), device=self.device)  # the first step whose loss was not finite
        self.step, self.seconds, self.examples = 0, 0.0, 0
        self.best: list[float] = list(initial_score)
        self.evaluations_without_gain = -params.max_steps if patience_after_first_gain else 0
        self.paused = False
        self.warned: set[str] = set()
        cap = getattr(params, "halt_max_steps", 0)  # supervision steps; 0: the model does not halt
        self.halting_monitor = HaltingMonitor(cap, patience=params.max_steps // 4)
        if self.accelerator.num_processes > 1:
            set_seed(params.seed, device_specific=True)  # each process drops out other units

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.accelerator.device

    def _make_accelerator(self) -> Accelerator:
        mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[self.params.precision]
        return make_accelerator(self.params, mixed_precision=mixed)

    def _compile(self) -> None:
        shapes_change = not hasattr(self.plain_model, "net")
        getattr(self.plain_model, "net", self.plain_model).compile(dynamic=shapes_change)

    def _autocast(self) -> AbstractContextManager:
        return self.accelerator.autocast()

    # --- the loop ---------------------------------------------------------------------------------------------

    def fit(self) -> dict[str, float]:
        """Train; returns train/steps, train/seconds (all of it: evaluation, compilation, checkpoints) and the rate.

        `paused` is True afterwards when `time_limit` ended it before `max_steps`.

        Raises:
            TrainingError: the loss became infinite or NaN; the step is named and the last good checkpoint kept.
            Interrupted: Ctrl-C or SIGTERM, after the step at hand and a checkpoint.
        """
        p = self.params
        self.run.hold()  # which it does, unless this is done again after an interrupt or an error
        if p.resume:
            self._resume()
        if self.show and self.run.main:
            self.show.start(self.step, self.seconds)
        before, started = self.seconds, time.perf_counter()
        stop = self.step >= p.max_steps or self._no_more_gain()
        kept, asked = started, False  # when the last checkpoint was written; whether someone interrupts
        threads = Threads(self.device.type == "cpu")
        try:
            with Interrupts() as interrupts:
                while not stop:
                    logged = (self.step + 1) % p.log_interval == 0
                    threads.before_step()
                    self._train_step(detail=logged and (self.cycle_losses or self.gradient_stats))
                    threads.after_step()
                    self.seconds = before + time.perf_counter() - started
                    if self.show and self.run.main:
                        self.show.tick(self.step, self.seconds)
                    last = self.step == p.max_steps
                    if logged or last:
                        self._log()
                    time_is_up = logged and 0 < 60 * p.time_limit < self.seconds - before
                    due = time.perf_counter() - kept >= CHECKPOINT_SECONDS
                    asked, time_is_up, due = self._agree((interrupts.asked, time_is_up, due), logged or last)
                    self.paused = not last and (asked or time_is_up)
                    if self.evaluate and (self.step % p.eval_interval == 0 or last):
                        self._evaluate()
                    stop = last or self._no_more_gain() or self.paused
                    if self.step % p.checkpoint_interval == 0 or stop or due:
                        self._checkpoint()
                        kept = time.perf_counter()
                    self.seconds = before + time.perf_counter() - started
        except BaseException:
            self.run.release()
            raise
        finally:
            self.parts.close()
            if self.show:
                self.show.close()
        if asked or interrupts.asked and self.accelerator.num_processes == 1:
            self.run.interrupted(self.step, p.max_steps)
        return {
            "train/steps": self.step,
            "train/seconds": self.seconds,
            "train/examples_per_second": self.examples / max(self.seconds, 1e-9),
        }

    def _train_step(self, detail: bool) -> None:
        """One optimizer step on the batch of `self.step`."""
        p, accelerator = self.params, self.accelerator
        self.plain_model.train()
        rate = learning_rate(p, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self._number(rate * group.get("lr_ratio", 1.0))
        parts = self.parts(self.step)
        self.examples += sum(len(next(iter(part.values()))) for part in parts) * accelerator.num_processes
        parts = self._with_shared(parts)
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                with self._autocast():
                    out = self.model(part, self.states[i], detail=detail)
                accelerator.backward(out.loss / len(parts))
            finite &= torch.isfinite(out.loss.detach())
            self.states[i] = out.state
            self._add(out.metrics)
            if detail and self.gradient_stats:
                self._add(self._gradients_per_step(out.intermediates))
        norm = accelerator.clip_grad_norm_(self.clipped, p.grad_clip or math.inf)
        if self.accelerator.scaler is None:  # with a scaler an infinite norm is a step that is skipped, no fault
            finite &= torch.isfinite(norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self._number(self.ema.next_weight()))
        self.step += 1
        self.first_bad = torch.where(~finite & (self.first_bad == 0), self._number(float(self.step)), self.first_bad)
        self._add({"grad_norm": norm.detach(), "lr": torch.tensor(rate)})

    def _local_parts(self, step: int) -> list[dict[str, Tensor]]:
        """This process's rows of the global batch, cut into `grad_accumulation` parts."""
        batch = dict(self.batches(step))
        size = len(next(iter(batch.values())))
        if hasattr(self.plain_model, "host_draws"):
            batch |= self.plain_model.host_draws(self.params.seed, step, size)
        rows = size // self.accelerator.num_processes
        first = rows * self.accelerator.process_index
        count = self.params.grad_accumulation
        pieces = {name: torch.from_numpy(v[first : first + rows]).chunk(count) for name, v in batch.items()}
        return [{name: self._on_device(v[i]) for name, v in pieces.items()} for i in range(count)]

    @torch.no_grad()
    def _with_shared(self, parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """The parts, each with what the model's `shared` says of all parts of all processes; a batch in one part needs none."""
        if len(parts) * self.accelerator.num_processes == 1 or not hasattr(self.plain_model, "shared"):
            return parts
        with self._autocast():
            found = [self.plain_model.shared(part, state) for part, state in zip(parts, self.states)]
        whole = {name: self.accelerator.gather(torch.stack([one[name] for one in found])) for name in found[0]}
        return [part | whole for part in parts]

    def _on_device(self, tensor: Tensor) -> Tensor:
        """A copy that the host does not wait for, where the device is CUDA."""
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):  # a thread that makes batches ahead begins on the first device
                return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _number(self, value: float) -> float | Tensor:
        """A number that changes in every step, as the device needs it."""
        return value

    def _gradients_per_step(self, answers: list[Tensor]) -> dict[str, Tensor]:
        """Norm of d(loss of one example) / d(answer after H-cycle i), mean over the batch."""
        scale = self.accelerator.scaler.get_scale() if self.accelerator.scaler else 1.0
        norms = {}
        for i, answer in enumerate(answers):
            grad = torch.zeros_like(answer) if answer.grad is None else answer.grad
            size = len(answer) * self.params.grad_accumulation / scale  # the loss is a mean over the batch
            norms[f"gradients/step_{i}_grad_norm_mean"] = grad.flatten(1).norm(dim=1).mean() * size
        return norms

    def _zero(self, device: torch.device) -> Tensor:
        """Where a sum begins, (1,)."""
        return torch.zeros(1, device=device)

    def _add(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            if name not in self.sums:
                self.sums[name] = self._zero(value.device)
            self.sums[name] = self.sums[name].to(value.device) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    # --- at intervals -----------------------------------------------------------------------------------------

    def _log(self) -> None:
        """Read the sums since the last record, over all processes, and keep their means."""
        self._stop_if_not_finite()
        totals = torch.cat([total.to(self.device).float() for total in self.sums.values()])  # read all at once
        totals = self.accelerator.reduce(totals, "mean").tolist()
        means = {f"train/{name}": total / self.counts[name] for name, total in zip(self.sums, totals)}
        self.sums, self.counts = {}, {}
        halted_step = means.pop("train/halted_step", 0.0)  # summed over those that halted
        record = {"step": self.step, "train/seconds": self.seconds, **means}
        record["train/seconds_per_step"] = self.seconds / self.step
        if halted_step:
            record["train/mean_steps"] = min(halted_step / means["train/halted"], self.halting_monitor.max_steps)
        self._keep(record)
        self._warn(record)

    def _warn(self, record: dict[str, float]) -> None:
        """Print a warning, once, of collapsed halting and of gradients that vanish or explode."""
        warnings = []
        if "train/mean_steps" in record:
            ready = record.get("train/ready")
            steps = record["train/mean_steps"] if ready is None else 1 / max(ready, 1e-9)
            warnings.append(self.halting_monitor.see(self.step, steps, record["train/exact_accuracy"]))
        norm = record["train/grad_norm"]
        for fault, seen in (("vanishing", norm < VANISHING), ("exploding", EXPLODING < norm < math.inf)):
            if seen and fault not in self.warned:
                self.warned.add(fault)
                warnings.append(f"{fault} gradients: norm {norm:.3g} about step {self.step}")
        if self.run.main:
            print("".join(f"warning: {warning}\n" for warning in warnings if warning), end="", flush=True)

    def _stop_if_not_finite(self) -> None:
        bad = int(self.accelerator.gather(self.first_bad.reshape(1)).max())
        if bad:
            found = checkpoints(self.run.dir / "checkpoints")
            kept = f"the last good checkpoint is {found[-1]}" if found else "no checkpoint had been written yet"
            advice = "Try a smaller lr, a smaller grad_clip, a longer warm-up, or the curriculum"
            raise TrainingError(f"the loss is not finite at step {bad}; {kept}. {advice}")

    def _evaluate(self) -> None:
        self._stop_if_not_finite()
        with self.ema.averaged() as model:
            metrics = self.evaluate(model)
            self._keep({"step": self.step, "train/seconds": self.seconds, **metrics})
            score = [metrics[name] for name in self.monitor if name in metrics]
            if score and score > self.best:
                self.best, self.evaluations_without_gain = score, 0
                self.run.save_model(model, "best")
            else:
                self.evaluations_without_gain += 1

    def _no_more_gain(self) -> bool:
        """Whether early stopping ends the run."""
        return 0 < self.params.early_stopping_patience <= self.evaluations_without_gain

    def _keep(self, record: dict[str, Any]) -> None:
        if self.run.main:
            self.run.log(record)
            if self.show:
                self.show(record)

    def _agree(self, wishes: tuple[bool, ...], logged: bool) -> tuple[bool, ...]:
        """What any of the processes wishes. Several ask each other only when a record is written, for it takes waiting."""
        if self.accelerator.num_processes == 1:
            return wishes
        if not logged:
            return (False,) * len(wishes)
        return tuple(
            self.accelerator.reduce(torch.tensor(wishes, dtype=torch.float32, device=self.device)).bool().tolist()
        )

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self._stop_if_not_finite()
        sums = {n: self.accelerator.reduce(value.to(self.device), "mean") for n, value in self.sums.items()}
        tensors = {
            "model": self.plain_model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer.optimizer),
            "ema": self.ema.shadow,
            "state": self._gathered_state(),
            "sums": sums,
            "random": self._random_states(),
        }
        facts = {name: getattr(self, name) for name in KEPT} | {"ema_updates": self.ema.updates, "code": self.run.code}
        facts["train_step"] = getattr(self.states[0], "train_step", None)
        facts["scaler"] = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
        self._write(tensors, facts)

    def _write(self, tensors: dict[str, dict[str, Tensor]], facts: dict[str, Any]) -> None:
        if self.run.main:
            save_checkpoint(self.run.path(f"checkpoints/step_{self.step:08d}"), tensors, facts)

    def _random_states(self) -> dict[str, Tensor]:
        """States of the random generators of all processes, (processes, bytes)."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        if self.accelerator.num_processes == 1:
            return states
        return {name: self.accelerator.gather(state[None].to(self.device)) for name, state in states.items()}

    def _gathered_state(self) -> dict[str, Tensor]:
        """The recursion state of the global batch, rows in the order of `batches`."""
        if not is_dataclass(self.states[0]):
            return {}
        names = [f.name for f in fields(self.states[0]) if isinstance(getattr(self.states[0], f.name), Tensor)]
        return {n: self._whole([getattr(state, n) for state in self.states]) for n in names}

    def _whole(self, parts: list[Tensor]) -> Tensor:
        """The rows of all processes, from the parts of this one."""
        return self.accelerator.gather(torch.cat(parts).contiguous())

    def _resume(self) -> None:
        found = load_newest(self.run.dir / "checkpoints")
        if not found:
            print(f"nothing to resume in {self.run.dir}: starting anew")
            self.run.rewind(0)
            return
        path, tensors, facts = found
        self.plain_model.load_state_dict(tensors["model"])
        load_optimizer(self.optimizer.optimizer, tensors["optimizer"])
        for name, value in self.ema.shadow.items():
            value.copy_(tensors["ema"][name])
        self.ema.updates = facts["ema_updates"]
        for name in KEPT:
            setattr(self, name, facts[name])
        self.sums = {name: total.reshape(1) for name, total in tensors["sums"].items()}
        for name, random in (("cpu", torch), ("cuda", torch.cuda)):
            if name in tensors["random"] and name in ("cpu", self.device.type):
                states = tensors["random"][name].reshape(-1, len(random.get_rng_state()))
                if self.accelerator.process_index < len(states):  # else a process that was not there keeps its seed
                    random.set_rng_state(
                        states[self.accelerator.process_index].clone()
                    )  # torch reads past a view's offset
        if facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        if tensors["state"]:
            rows = self.params.batch_size // self.accelerator.num_processes // self.params.grad_accumulation
            first = self.accelerator.process_index * self.params.grad_accumulation
            for i in range(self.params.grad_accumulation):
                part = slice((first + i) * rows, (first + i + 1) * rows)
                blank = self.plain_model.initial_state(rows, facts["train_step"])
                kept = {name: self._on_device(value[part]) for name, value in tensors["state"].items()}
                self.states[i] = replace(blank, **kept)
        self.run.rewind(self.step)
        print(f"resumed at step {self.step} from {path}")


class Prefetcher:
    """step -> make(step), while a thread makes the `depth` steps after it, up to step `end`; depth 0: no thread.

    `make` is a pure function of the step. Errors of the thread are raised at their step. `waited`: seconds callers waited.
    """

    def __init__(self, make: Callable[[int], Any], depth: int, end: int):
        self.make, self.depth, self.end = make, depth, end
        self.waited = 0.0
        self.pool: ThreadPoolExecutor | None = None
        self.pending: dict[int, Future] = {}

    def __call__(self, step: int) -> Any:
        started = time.perf_counter()
        if self.depth:
            self.pool = self.pool or ThreadPoolExecutor(1, "batches")
            for ahead in range(step, min(step + self.depth + 1, self.end)):
                if ahead not in self.pending:
                    self.pending[ahead] = self.pool.submit(self.make, ahead)
            made = self.pending.pop(step).result()
        else:
            made = self.make(step)
        self.waited += time.perf_counter() - started
        return made

    def close(self) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.pending = None, {}
