"""Rules for stopping, held against each other: accuracy against mean steps, thresholds, controls, calibration."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from trm.halting import SIGNALS, Rule
from trm.puzzles.evaluation import Evaluation

# Signals by which a model halts by itself; "obeys" asks the rules of the puzzle, "fixed" and "random" are controls.
OWN_SIGNALS = ("q_halt", "q_margin", "halt_probability", "halt_mass", "entropy", "residual", "stable")


def thresholds(evaluation: Evaluation, signal: str, points: int = 24) -> np.ndarray:
    """Values of `signal` worth trying as a threshold, from the earliest stop to the latest."""
    values = evaluation.signals[signal]
    if signal in ("fixed", "stable", "obeys"):
        return np.arange(1, 2 if signal == "obeys" else values.shape[1] + 1)
    if signal == "random":  # chance c to stop at each step, for mean steps evenly spread from 1 to S
        return np.geomspace(0.005, 1.0, points)[::-1]
    early = max(values.shape[1] - 1, 1)
    rising = SIGNALS[signal] == "high"
    extreme = np.maximum.accumulate(values, 1) if rising else np.minimum.accumulate(values, 1)
    # every value that some puzzle first reaches; quantiles at each depth see both the easy and the hard
    found = np.quantile(extreme[:, :early].ravel(), np.linspace(0, 1, points))
    never = np.nextafter(extreme.max(), np.inf) if rising else np.nextafter(extreme.min(), -np.inf)
    found = np.unique(np.append(found, never))
    return found if rising else found[::-1]


def curve(evaluation: Evaluation, signal: str, points: int = 200) -> pd.DataFrame:
    """Accuracy against mean steps as the threshold moves: columns rule, threshold, accuracy, mean_steps."""
    rows = []
    for threshold in thresholds(evaluation, signal, points):
        accuracy, mean_steps = evaluation.halted(Rule(signal, float(threshold)))
        rows.append({"rule": signal, "threshold": float(threshold), "accuracy": accuracy, "mean_steps": mean_steps})
    return pd.DataFrame(rows)


def thin_out(curve: pd.DataFrame, points: int = 24) -> pd.DataFrame:
    """About `points` rows of a `curve`, evenly spread over the logarithm of the mean steps, both ends kept."""
    ordered = curve.sort_values("mean_steps").drop_duplicates("mean_steps").reset_index(drop=True)
    log_steps = np.log(ordered["mean_steps"].to_numpy())
    wanted = np.linspace(log_steps[0], log_steps[-1], points)
    return ordered.iloc[np.unique(np.abs(log_steps[:, None] - wanted).argmin(0))]


def choose_threshold(valid: Evaluation, signal: str, tolerance: float) -> Rule:
    """The rule on `signal` that takes the fewest mean steps on validation puzzles and loses at most `tolerance` of
    the accuracy after all steps; one that never stops early loses nothing."""
    tried = curve(valid, signal)
    good = tried[tried["accuracy"] >= valid.exact_by_step[-1] - tolerance]
    return Rule(signal, float(good.loc[good["mean_steps"].idxmin(), "threshold"]))


def choose_thresholds(valid: Evaluation, tolerance: float) -> dict[str, Rule]:
    """`choose_threshold` for each of `OWN_SIGNALS` that is there, by signal."""
    return {signal: choose_threshold(valid, signal, tolerance) for signal in OWN_SIGNALS if signal in valid.signals}


def cheapest(valid: Evaluation, rules: Iterable[Rule]) -> Rule:
    """The rule that takes the fewest mean steps on the validation puzzles, the first of equals."""
    return min(rules, key=lambda rule: valid.halted(rule)[1])


def fixed_depth_at(evaluation: Evaluation, mean_steps: float) -> float:
    """Accuracy of fixed depth at a mean number of steps: between two depths, a mixture of both."""
    by_step = evaluation.exact_by_step
    return float(np.interp(mean_steps, np.arange(1, len(by_step) + 1), by_step))


def mixture_at(evaluation: Evaluation, mean_steps: float) -> np.ndarray:
    """Share of right answers of each puzzle under `fixed_depth_at`, which is their mean: (N,), right if at both depths."""
    below = min(int(mean_steps), evaluation.exact.shape[1] - 1)
    share = mean_steps - below
    return (1 - share) * evaluation.exact[:, below - 1] + share * evaluation.exact[:, below]


def dealt_out(evaluation: Evaluation, steps: np.ndarray, rounds: int = 20) -> float:
    """Accuracy when the same stopping steps are dealt out at random among the puzzles: (N,) steps -> mean over rounds.

    What is left of a rule when it no longer knows which puzzle is which.
    """
    rng = np.random.default_rng(0)
    return float(np.mean([evaluation.exact_after(rng.permutation(steps)).mean() for _ in range(rounds)]))


def calibration(logits: np.ndarray, right: np.ndarray, bins: int = 10) -> tuple[pd.DataFrame, dict[str, float]]:
    """Whether the halting head's probability is the share of right answers.

    logits, right: arrays of one shape. Returns a table (mean probability, share right, count of each bin of equal
    width) and the expected calibration error and the area under the ROC curve (nan where all are right or wrong).
    """
    p, right = torch.from_numpy(np.asarray(logits, np.float64)).sigmoid().numpy().ravel(), np.asarray(right).ravel()
    which = np.minimum((p * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": which, "probability": p, "right": right.astype(float)})
    table = table.groupby("bin").agg(
        probability=("probability", "mean"), right=("right", "mean"), count=("right", "size")
    )
    error = (table["count"] * (table["probability"] - table["right"]).abs()).sum() / len(p)
    rank = pd.Series(p).rank().to_numpy()
    good, bad = right.sum(), (~right.astype(bool)).sum()
    auc = (rank[right.astype(bool)].sum() - good * (good + 1) / 2) / (good * bad) if good and bad else float("nan")
    return table.reset_index(drop=True), {"ece": float(error), "auroc": float(auc)}


def paired_gain(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Gain in accuracy on the same puzzles and its 95 % interval (normal, from the paired differences): (N,) bools, or
    chances to be right."""
    difference = after.astype(float) - before.astype(float)
    half = 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
    return float(difference.mean()), float(difference.mean() - half), float(difference.mean() + half)
