"""The job of chapter 04 as functions: a trainer for a TRM on Sudoku, and several of them side by side: chapters 02, 03."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from trm.halting import UNROLLED
from trm.model import TRM, TRMConfig, answer_flops, applications, training_flops
from trm.params import arm_names
from trm.puzzles.dataset import PuzzleBatches, Splits
from trm.puzzles.evaluation import evaluate
from trm.puzzles.grid import SHAPES
from trm.puzzles.params import (
    ALL_STEPS,
    CGAR,
    CURRICULUM,
    HALTING_ARMS,
    DeepSupervision,
    Halting,
    SudokuTraining,
    TrmTrain,
    split_arm,
)
from trm.puzzles.unrolled import UnrolledTRM
from trm.run import Run
from trm.supervision import cgar_stages, depth_stages
from trm.trainer import Trainer


def make_model(params: TrmTrain, data: Splits) -> TRM:
    """The TRM that `params` describe, for the puzzles in `data`; its first weights depend on `params.seed` alone."""
    torch.manual_seed(params.seed)
    shape = data.train.shape
    kind = UnrolledTRM if params.halting in UNROLLED else TRM
    return kind(TRMConfig.of(params, vocab_size=shape.vocab_size, seq_len=shape.cells))


def count_flops(params: TrmTrain) -> dict[str, int]:
    """FLOPs of the whole training, and of answering one test puzzle with all `eval_steps`; see `trm.model`."""
    shape = SHAPES[params.puzzle]
    config = TRMConfig.of(params, shape.vocab_size, shape.cells)
    return {
        "flops/training": training_flops(config, params.batch_size, params.max_steps),
        "flops/answer": answer_flops(config, params.eval_steps),
    }


def make_trainer(model: TRM, params: TrmTrain, run: Run, data: Splits, show: Callable | None = None) -> Trainer:
    """A trainer of `model` on the training part, watched on the validation part."""
    kind = Trainer
    if params.backend == "xla":
        from trm.tpu.xla import XLATrainer  # wants torch_xla

        kind = XLATrainer
    return kind(
        model,
        PuzzleBatches(data.train, params.batch_size, params.seed, params.num_aug),
        params,
        run,
        evaluate=lambda averaged: evaluate(averaged, data.valid, params.eval_steps).metrics("valid"),
        show=show,
    )


def supervision_arm(params: DeepSupervision, arm: str, seed: int, folder: Path) -> TrmTrain:
    """Parameters of chapter 04 for an arm of chapter 02; steps so that every arm computes as much as backprop="full"."""
    schedule, backprop = split_arm(arm)
    changes = {"schedule": schedule, "backprop": backprop}
    if schedule == CURRICULUM:
        changes |= {"schedule": "linear", "curriculum_enabled": True}
    cost = {b: applications(params.H_cycles, params.L_cycles, b) for b in ("full", backprop)}
    return _arm(params, changes, seed, folder, cost["full"] / cost[backprop])


def halting_arm(params: Halting, arm: str, seed: int, folder: Path) -> TrmTrain:
    """Parameters of chapter 04 for an arm of chapter 03 ("act:5e-3" sets `ponder_coef`), with the compute of "q".

    Arms that unroll all supervision steps take as many fewer examples a batch; the others that cost more a step take
    fewer steps, those that cost less (the curriculum of depth) more.
    """
    name, _, coef = arm.partition(":")
    changes = dict(HALTING_ARMS[name.strip()])
    if coef:
        changes["ponder_coef"] = float(coef)
    H, L = params.H_cycles, params.L_cycles
    usual = cost = applications(H, L, params.backprop)
    if changes.get("halting") == "q_continue":
        cost += H * (L + 1)
    if changes.get("halting") in UNROLLED:
        changes["batch_size"] = max(params.batch_size // params.halt_max_steps, 1)
    if changes.get("depth_curriculum") == CGAR:
        changes["depth_curriculum"] = cgar_stages(H, L)
        stages = depth_stages(changes["depth_curriculum"], 1000)
        ends = [start for start, _, _ in stages[1:]] + [1000]
        parts = [(e - s) * applications(h, d, params.backprop) for e, (s, h, d) in zip(ends, stages)]
        cost = sum(parts) / 1000
    arm_params = _arm(params, changes, seed, folder, usual / cost)
    if changes.get("halt_exploration_anneal_steps") == ALL_STEPS:
        arm_params = arm_params.model_copy(update={"halt_exploration_anneal_steps": arm_params.max_steps})
    return arm_params


def _arm(params: TrmTrain, changes: dict, seed: int, folder: Path, factor: float) -> TrmTrain:
    """`params` for one arm and seed, with `factor` times as many steps."""
    values = {name: getattr(params, name) for name in SudokuTraining.model_fields} | changes
    values |= {"seed": params.seed + seed, "output_dir": str(folder)}
    # eval_interval too, so that all arms are watched at equal compute
    for name in ("max_steps", "curriculum_start_step", "curriculum_end_step", "eval_interval"):
        values[name] = round(getattr(params, name) * factor)
    return TrmTrain.create(values)


def train_and_test(params: TrmTrain, data: Splits) -> bool:
    """Chapter 04 without its figures: train, test, and keep the averaged weights in model/ of `output_dir`. Returns whether
    it came to its end; `time_limit` may pause it."""
    run = Run(params, "04_trm_train")
    trainer = make_trainer(make_model(params, data), params, run, data)
    metrics = trainer.fit()
    with trainer.ema.averaged() as averaged:
        metrics |= evaluate(averaged, data.test, params.eval_steps).metrics("test")
        run.save_model(averaged, "model")
    run.finish(metrics, complete=not trainer.paused, quiet=True)
    return not trainer.paused


@dataclass(frozen=True)
class ArmResult:
    """One arm and seed: its metrics, its history, and its folder, which holds the averaged weights in model/."""

    arm: str
    seed: int
    folder: Path
    metrics: dict[str, float]
    history: list[dict]


def train_arms(
    params: DeepSupervision | Halting, run: Run, data: Splits, arm_params: Callable[..., TrmTrain]
) -> Iterator[ArmResult]:
    """Train every arm and seed in turn, each in a run folder of its own under `run`; those complete are not repeated.

    arm_params: (params, arm, seed, folder) -> the parameters of chapter 04 for it.
    """
    folders = {
        (seed, arm): run.path(f"arms/{re.sub('[/: ]+', '-', arm)}-{seed}")
        for seed in range(params.num_seeds)
        for arm in arm_names(params.arms)
    }
    all_params = {key: arm_params(params, key[1], key[0], folder) for key, folder in folders.items()}  # checked at once
    for (seed, arm), folder in folders.items():
        done = folder / "metrics.json"
        if not (params.resume and done.exists()) and not train_and_test(all_params[seed, arm], data):
            return
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        yield ArmResult(arm, seed, folder, json.loads(done.read_text()), history)


def results_table(results: list[ArmResult], params: TrmTrain) -> pd.DataFrame:
    """One row for each arm, seed and evaluation: accuracies, and the training numbers since the evaluation before it
    (means over the records, since each record's losses after the H-cycles come from one batch).

    `compute` counts network applications an example (`applications`) since the start; test accuracies stand in each
    row of their arm and seed.
    """
    rows = []
    for result in results:
        cost = applications(params.H_cycles, params.L_cycles, split_arm(result.arm)[1])
        since: list[dict] = []
        for record in result.history:
            if "valid/exact_accuracy" in record:
                row = {"arm": result.arm, "seed": result.seed, "step": record["step"], "compute": record["step"] * cost}
                names = [k for k in since[-1] if k.startswith(("train/deep_", "train/gradients"))] if since else []
                for name in ["train/supervised_loss", "train/grad_norm", *names]:
                    row[name] = float(np.mean([r[name] for r in since])) if since else None
                since = []
                row |= {k: record[k] for k in ("valid/exact_accuracy", "valid/cell_accuracy")}
                row |= {k: result.metrics[k] for k in ("test/exact_accuracy", "test/cell_accuracy", "train/seconds")}
                rows.append(row)
            else:
                since.append(record)
    return pd.DataFrame(rows)


def step_cost(model: TRM, batch: dict[str, torch.Tensor], rounds: int = 5) -> dict[str, float]:
    """What the forward and backward pass of `model` cost: seconds (best of `rounds`) and MB kept for the backward pass.

    Memory is the sum of the distinct storages that autograd saves, parameters left out.
    """
    ours = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.loss(batch)
    out.loss.backward()
    best = float("inf")
    for _ in range(rounds):
        model.zero_grad()
        started = time.perf_counter()
        model.loss(batch, out.state).loss.backward()
        best = min(best, time.perf_counter() - started)
    model.zero_grad()
    return {"seconds": best, "megabytes": sum(saved.values()) / 1e6}
