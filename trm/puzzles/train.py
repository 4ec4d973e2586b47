"""Training of a TRM on Sudoku (chapter 04), and of the arms of chapters 02 and 03, each at equal compute."""

import importlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch

from trm.arms import ArmResult, scaled, train_arm
from trm.flops import answer_flops, applications, saved_for_backward, training_flops
from trm.halting import UNROLLED
from trm.model import TRM, TRMConfig
from trm.progress import Progress
from trm.puzzles.dataset import PuzzleBatches, Splits
from trm.puzzles.params import (
    ALL_STEPS,
    CGAR,
    CURRICULUM,
    HALTING_ARMS,
    USUAL_H,
    DeepSupervision,
    Halting,
    PuzzleTraining,
    SudokuTraining,
    TrmTrain,
    split_arm,
)
from trm.puzzles.solve import evaluate
from trm.puzzles.unrolled import make_trm
from trm.run import Run
from trm.supervision import cgar_stages, depth_stages
from trm.trainer import Trainer
from trm.training_params import arm_names

TESTED = (
    "test/exact_accuracy", "test/cell_accuracy", "test/loss", "test/halted_exact_accuracy", "test/mean_steps",
    "test/first_exact_accuracy", "test/ever_exact_accuracy",
    "valid/exact_accuracy", "valid/loss", "train/seconds", "train/steps", "flops/training",
    "steps_to_50", "steps_to_90", "steps_to_95", "flops/to_50", "flops/to_90",
)  # fmt: skip
SCALED = ("max_steps", "curriculum_start_step", "curriculum_end_step", "eval_interval")


def make_model(params: TrmTrain, data: Splits) -> TRM:
    """The TRM that `params` describe, for the puzzles in `data`; its initial weights depend on `params.seed` alone."""
    return make_trm(params.trm_config(data.train.shape), params.seed)


def count_flops(params: PuzzleTraining, config: TRMConfig | None = None) -> dict[str, int]:
    """FLOPs of the whole training, and of answering one test puzzle with all `eval_steps`; see `trm.flops`. config: of the
    model, where the parameters alone do not give it."""
    config = config or params.trm_config()
    training = training_flops(config, params.batch_size, params.max_steps)
    return {"flops/training": training, "flops/answer": answer_flops(config, params.eval_steps)}


def learning_speed(history: list[dict], params: TrmTrain) -> dict[str, float]:
    """Optimizer steps until 50, 90 and 95 % of the validation puzzles are solved for the first time (straight lines between
    evaluations, from 0 at step 0), and training FLOPs until then, for the levels that are reached; the last validation."""
    evaluations = [record for record in history if "valid/exact_accuracy" in record]
    found = {name: evaluations[-1][name] for name in ("valid/exact_accuracy", "valid/loss") if evaluations}
    for percent in (50, 90, 95):
        level, before = percent / 100, (0, 0.0)
        for record in evaluations:
            step, accuracy = record["step"], record["valid/exact_accuracy"]
            if accuracy >= level:
                steps = before[0] + (step - before[0]) * (level - before[1]) / (accuracy - before[1])
                flops = training_flops(params.trm_config(), params.batch_size, round(steps))
                found |= {f"steps_to_{percent}": steps, f"flops/to_{percent}": flops}
                break
            before = step, accuracy
    return found


def make_trainer(model: TRM, params: TrmTrain, run: Run, data: Splits, show: Progress | None = None) -> Trainer:
    """A trainer of `model` on the training part, evaluated on the validation part."""
    xla = params.backend == "xla"  # requires torch_xla
    kind = importlib.import_module("trm.tpu.xla").XLATrainer if xla else Trainer
    batches = PuzzleBatches(data.train, params.batch_size, params.seed, params.num_aug, params.reveal_clues)

    def test(averaged: TRM) -> dict[str, float]:
        return evaluate(averaged, data.valid, params.eval_steps).metrics("valid")

    return kind(model, batches, params, run, evaluate=test, show=show)


def arm_params(params: DeepSupervision | Halting, seed: int, **changes) -> TrmTrain:
    """The parameters of chapter 04 for an arm of chapter 02 or 03; `seed` counts from that of the chapter."""
    values = {name: getattr(params, name) for name in SudokuTraining.model_fields}
    return TrmTrain.create(values | {"seed": params.seed + seed} | changes)


def supervision_arm(params: DeepSupervision, arm: str, seed: int) -> TrmTrain:
    """An arm of chapter 02, "schedule:weight/backprop", with the FLOPs of "none" at `USUAL_H` H-cycles."""
    schedule, weight, backprop = split_arm(arm)
    changes: dict = {"schedule": schedule, "backprop": backprop}
    if schedule == CURRICULUM:
        changes |= {"schedule": "linear", "curriculum_enabled": True}
    if weight:
        changes["supervision_weight"] = float(weight)
    own = arm_params(params, seed, **changes)
    plain = {"schedule": "none", "backprop": "full", "curriculum_enabled": False, "depth_curriculum": ""}
    none = own.model_copy(update=plain | {"H_cycles": USUAL_H})
    usual, cost = (training_flops(p.trm_config(), p.batch_size, p.max_steps) for p in (none, own))
    return scaled(own, usual / cost, SCALED)


def halting_arm(params: Halting, arm: str, seed: int) -> TrmTrain:
    """An arm of chapter 03 ("act:5e-3" sets `ponder_coef`), with the compute of "q": fewer examples per batch where all
    supervision steps are unrolled, fewer or more steps for the others."""
    name, _, coef = arm.partition(":")
    changes = dict(HALTING_ARMS[name.strip()])
    if coef:
        changes["ponder_coef"] = float(coef)
    H, L = params.H_cycles, params.L_cycles
    usual = cost = applications(H, L, params.backprop)
    if changes["halting"] == "q_continue":
        cost += H * (L + 1)
    if changes["halting"] in UNROLLED:
        changes["batch_size"] = max(params.batch_size // params.halt_max_steps, 1)
    if changes.get("depth_curriculum") == CGAR:
        changes["depth_curriculum"] = cgar_stages(H, L)
        stages = depth_stages(changes["depth_curriculum"], 1000)
        lengths = np.diff([start for start, _, _ in stages] + [1000]).tolist()
        cost = sum(n * applications(h, d, params.backprop) for n, (_, h, d) in zip(lengths, stages)) / 1000
    own = scaled(arm_params(params, seed, **changes), usual / cost, SCALED)
    if own.halt_exploration_anneal_steps == ALL_STEPS:
        own = own.model_copy(update={"halt_exploration_anneal_steps": own.max_steps})
    return own


def train_and_test(
    run: Run, name: str, params: TrmTrain, data: Splits, within: str = "arms", draw: Callable | None = None
) -> ArmResult | None:
    """Train a model in `within`/`name` of `run`, test it, and keep its averaged weights in model/; None if paused."""

    def test(trainer: Trainer) -> dict[str, float]:
        with trainer.ema.averaged() as averaged:
            trainer.run.save_model(averaged, "model")
            found = evaluate(averaged, data.test, params.eval_steps)
            by_step = {"test/first_exact_accuracy": float(found.exact_by_step[0])}
            by_step["test/ever_exact_accuracy"] = float(found.exact.any(1).mean())
            return found.metrics("test") | by_step | count_flops(params) | learning_speed(trainer.run.history(), params)

    return train_arm(run, name, params, lambda p, r: make_trainer(make_model(p, data), p, r, data), test, within, draw)


def train_arms(
    params: DeepSupervision | Halting,
    run: Run,
    data: Splits,
    arm: Callable[..., TrmTrain],
    draw: Callable | None = None,
) -> Iterator[ArmResult]:
    """Train every arm (by `supervision_arm` or `halting_arm`) and seed in turn, until `time_limit` pauses one."""
    keys = [(name, seed) for seed in range(params.num_seeds) for name in arm_names(params.arms)]
    all_params = {key: arm(params, *key) for key in keys}  # checked before any is trained
    for (name, seed), own in all_params.items():
        if (result := train_and_test(run, f"{name}-{seed}", own, data, draw=draw)) is None:
            return
        result.arm = name
        yield result


def arm_rows(results: list[ArmResult]) -> pd.DataFrame:
    """One row per arm and seed: what it is, and `TESTED`."""
    asked = ("H_cycles", "puzzle", "lr", "supervision_weight", "backprop")
    return pd.DataFrame(
        {
            "arm": r.arm,
            "seed": r.seed,
            **{n: getattr(r.params, n) for n in asked},
            **{n: r.metrics.get(n) for n in TESTED},
        }
        for r in results
    )


def arm_curves(results: list[ArmResult]) -> pd.DataFrame:
    """One row per arm, seed and evaluation: training FLOPs so far, accuracies and loss on validation, and means of the
    training records since the last one."""
    rows = []
    for result in results:
        p, since = result.params, []
        for record in result.history:
            if "valid/exact_accuracy" not in record:
                since.append(record)
                continue
            row = {"arm": result.arm, "seed": result.seed, "H_cycles": p.H_cycles, "step": record["step"]}
            row["flops"] = training_flops(p.trm_config(), p.batch_size, record["step"])
            names = [k for k in since[-1] if k.startswith(("train/deep_", "train/gradients"))] if since else []
            for name in ["train/supervised_loss", "train/grad_norm", *names]:
                row[name] = float(np.mean([r[name] for r in since])) if since else None
            rows.append(row | {f"valid/{k}": record[f"valid/{k}"] for k in ("exact_accuracy", "cell_accuracy", "loss")})
            since = []
    return pd.DataFrame(rows)


def step_cost(model: TRM, batch: dict[str, torch.Tensor], rounds: int = 5, detail: bool = False) -> dict[str, float]:
    """What the forward and backward pass of `model` cost: seconds (best of `rounds`), and MB kept for the backward pass.
    detail: with what `TRM.loss` then logs of every H-cycle."""
    with saved_for_backward(model) as saved:
        out = model.loss(batch, detail=detail)
        megabytes = saved() / 1e6
    out.loss.backward()
    best = float("inf")
    for _ in range(rounds):
        model.zero_grad()
        started = time.perf_counter()
        model.loss(batch, out.state, detail).loss.backward()
        best = min(best, time.perf_counter() - started)
    model.zero_grad()
    return {"seconds": best, "megabytes": megabytes}
