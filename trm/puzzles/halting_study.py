"""The work of chapter 03 as functions: what each way of learning to stop is worth, and what thinking longer brings."""

from pathlib import Path

import numpy as np
import pandas as pd

from trm.halting import Rule
from trm.model import TRM
from trm.puzzles.attempts import SELECTIONS, STARTS, Persisted, attempt
from trm.puzzles.dataset import PuzzleSet, Splits
from trm.puzzles.evaluation import Evaluation, evaluate
from trm.puzzles.loading import load_model
from trm.puzzles.params import Halting, SudokuTraining, TrmTrain
from trm.puzzles.rules import choose_threshold, dealt_out, fixed_depth_at, mixture_at, paired_gain
from trm.puzzles.train import ArmResult, train_and_test
from trm.run import Run, write_atomically


def arm_row(params: Halting, result: ArmResult, data: Splits) -> dict[str, float | str]:
    """What an arm's model does on the test puzzles: at full depth, under the rule it was taught, and under that rule with a
    threshold chosen on the validation puzzles; each beside fixed depth and stops dealt out at random, at equal steps."""
    model = load_model(result.folder / "model", params.device)
    valid, test = (evaluate(model, part, params.eval_steps) for part in (data.valid, data.test))
    taught = test.taught
    row = {
        "arm": result.arm,
        "seed": result.seed,
        "train_seconds": result.metrics["train/seconds"],
        "ponder_coef": model.config.ponder_coef,
        "cap": model.config.halt_max_steps,
        "accuracy_all_steps": float(test.exact_by_step[-1]),
        "accuracy_trained_steps": float(test.exact_by_step[min(model.config.halt_max_steps, params.eval_steps) - 1]),
    }
    for name, rule in (("taught", taught), ("chosen", choose_threshold(valid, taught.signal, params.tolerance))):
        steps = test.steps(rule)
        if name == "taught":
            steps = np.minimum(steps, model.config.halt_max_steps)  # as in training
        row |= {
            f"{name}_accuracy": float(test.exact_after(steps).mean()),
            f"{name}_mean_steps": float(steps.mean()),
            f"{name}_fixed_same_steps": fixed_depth_at(test, steps.mean()),
            f"{name}_dealt_out": dealt_out(test, steps),
        }
    return row


def longer_and_again(
    model: TRM, puzzles: PuzzleSet, label: str, seed: int, steps: int, more_steps: int, restarts: int
) -> pd.DataFrame:
    """Accuracy against compute of more steps and of more attempts, a row each.

    Columns: label, seed, kind ("steps", "symmetry" or "noise"), selection, tries, steps (of an attempt), compute
    (supervision steps a puzzle), accuracy, gain over the first row's kind at `steps` and one try, and its 95 % interval.
    """
    longer = evaluate(model, puzzles, more_steps)
    plain = longer.exact[:, steps - 1]
    rows = []

    def add(kind: str, selection: str, tries: int, each: int, right: np.ndarray) -> None:
        gain, low, high = paired_gain(plain, right)
        rows.append(
            {"label": label, "seed": seed, "kind": kind, "selection": selection, "tries": tries, "steps": each}
            | {"compute": tries * each, "accuracy": float(right.mean()), "gain": gain, "low": low, "high": high}
        )

    for depth in sorted({*_doublings(more_steps), steps}):
        add("steps", "", 1, depth, longer.exact[:, depth - 1])
    for kind in STARTS:
        attempts = attempt(model, puzzles, restarts, steps, kind, seed, noise=model.config.initial_noise or 1.0)
        for tries in _doublings(restarts):
            some = attempts.first(tries)
            for selection in SELECTIONS:
                right = (some.select(selection) == puzzles.answers).all(1)
                add(kind, selection, tries, steps, right)
            add(kind, "oracle", tries, steps, some.solved(puzzles.answers))
    return pd.DataFrame(rows)


def _doublings(largest: int) -> list[int]:
    """1, 2, 4, ... up to `largest`, which is there whatever it is."""
    return sorted({2**i for i in range(largest.bit_length())} | {largest})


def early_model(params: Halting, run: Run, data: Splits, seed: int) -> TRM:
    """A model of chapter 04's default recipe whose training ends after `early_steps` steps; kept under `run`."""
    folder = run.path(f"early/{seed}")
    if not (params.resume and (folder / "metrics.json").exists()):
        values = {name: getattr(params, name) for name in SudokuTraining.model_fields}
        values |= {"seed": params.seed + seed, "output_dir": str(folder), "max_steps": params.early_steps}
        values["time_limit"] = 0
        train_and_test(TrmTrain.create(values), data)
    return load_model(folder / "model", params.device)


def summary_row(
    label: str,
    model: TRM,
    test: Evaluation,
    answers: np.ndarray,
    rule: Rule,
    entropy_rule: Rule,
    seconds: dict[str, float],
    patient: Persisted,
    patient_seconds: float,
) -> dict[str, float | str]:
    """The numbers of a trained model that the findings of chapter 03 speak of, as one row.

    answers: (N, T) digits, the solutions of the test puzzles. seconds: wall time of all test puzzles by "fixed", "rule",
    "entropy". Intervals are 95 %, over the puzzles.
    """
    accuracy, mean_steps = test.halted(rule)
    steps = test.steps(rule)
    loss = paired_gain(test.exact[:, -1], test.exact_after(steps))
    over = paired_gain(mixture_at(test, mean_steps), test.exact_after(steps))
    as_good = np.flatnonzero(test.exact_by_step >= accuracy)
    entropy_accuracy, entropy_steps = test.halted(entropy_rule)
    return {
        "label": label,
        "parameters": sum(p.numel() for p in model.parameters()),
        "puzzles": len(test.exact),
        "fixed_steps": test.exact.shape[1],
        "accuracy_fixed": float(test.exact_by_step[-1]),
        "rule": rule.signal,
        "threshold": rule.threshold,
        "accuracy_rule": accuracy,
        "mean_steps_rule": mean_steps,
        "loss_low": loss[1],
        "loss_high": loss[2],
        "accuracy_fixed_depth_same_steps": fixed_depth_at(test, mean_steps),
        "over_fixed_low": over[1],
        "over_fixed_high": over[2],
        "accuracy_dealt_out": dealt_out(test, steps),
        "speedup_rule": seconds["fixed"] / seconds["rule"],
        "accuracy_entropy": entropy_accuracy,
        "mean_steps_entropy": entropy_steps,
        "speedup_entropy": seconds["fixed"] / seconds["entropy"],
        "shallowest_fixed_depth": int(as_good[0]) + 1 if len(as_good) else float("nan"),
        "accuracy_patient": float((patient.answers == answers).all(1).mean()),
        "attempts_patient": len(patient.by_try),
        "mean_steps_patient": float(patient.steps.mean()),
        "seconds_patient_over_fixed": patient_seconds / seconds["fixed"],
    }


def save_tables(folder: Path, chapter: str, label: str, tables: dict[str, pd.DataFrame]) -> None:
    """Write each table as <folder>/<chapter>_<kind>_<label>.csv."""
    for kind, table in tables.items():
        write_atomically(folder / f"{chapter}_{kind}_{label}.csv", table.round(5).to_csv(index=False))
