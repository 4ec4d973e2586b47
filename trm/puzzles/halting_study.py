"""The experiments of chapter 03: halting rules (thresholds, controls, calibration), test-time compute, and trained arms.

A rule is a signal and a threshold (`trm.halting.Rule`). It is compared with *fixed depth*, the same number of steps for all
puzzles, and with the *permutation control*, its own stopping steps shuffled across puzzles, both at equal mean steps.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from trm import stats
from trm.arms import ArmResult
from trm.halting import SIGNALS, Rule
from trm.model import TRM
from trm.puzzles.attempts import SELECTIONS, STARTS, RetryResult, attempt, retry_until_valid
from trm.puzzles.dataset import PuzzleSet, Splits
from trm.puzzles.params import Halting
from trm.puzzles.solve import Evaluation, evaluate, load_model
from trm.puzzles.train import arm_params, train_and_test
from trm.run import Run

# Signals by which a model halts by itself; "is_valid" is an oracle, "fixed" and "random" are controls.
OWN_SIGNALS = ("q_halt", "q_margin", "halt_probability", "halt_mass", "entropy", "residual", "stable")


def thresholds(evaluation: Evaluation, signal: str, points: int = 24) -> np.ndarray:
    """Thresholds of `signal` to try, from the earliest stop to the latest."""
    values = evaluation.signals[signal]
    if signal == "is_valid":
        return np.array([1])
    if signal in ("fixed", "stable"):
        return np.arange(1, values.shape[1] + 1)
    if signal == "random":  # probability to stop at each step, for mean steps evenly spread from 1 to S
        return np.geomspace(0.005, 1.0, points)[::-1]
    early = max(values.shape[1] - 1, 1)
    rising = SIGNALS[signal] == "high"
    extreme = np.maximum.accumulate(values, 1) if rising else np.minimum.accumulate(values, 1)
    # values that some puzzle first reaches, and one that none does
    found = np.quantile(extreme[:, :early].ravel(), np.linspace(0, 1, points))
    never = np.nextafter(extreme.max(), np.inf) if rising else np.nextafter(extreme.min(), -np.inf)
    found = np.unique(np.append(found, never))
    return found if rising else found[::-1]


def rule_curve(evaluation: Evaluation, signal: str, points: int = 200) -> pd.DataFrame:
    """Accuracy against mean steps as the threshold moves: columns rule, threshold, accuracy, mean_steps."""
    tried = thresholds(evaluation, signal, points).tolist()
    rows = [(signal, threshold, *evaluation.halted(Rule(signal, threshold))) for threshold in tried]
    return pd.DataFrame(rows, columns=["rule", "threshold", "accuracy", "mean_steps"])


def subsample_curve(curve: pd.DataFrame, points: int = 24) -> pd.DataFrame:
    """About `points` rows of a curve, evenly spread over the logarithm of the mean steps, both ends kept."""
    ordered = curve.sort_values("mean_steps").drop_duplicates("mean_steps").reset_index(drop=True)
    log_steps = np.log(ordered["mean_steps"].to_numpy())
    targets = np.linspace(log_steps[0], log_steps[-1], points)
    return ordered.iloc[np.unique(np.abs(log_steps[:, None] - targets).argmin(0))]


def choose_threshold(valid: Evaluation, signal: str, tolerance: float) -> Rule:
    """The rule on `signal` with the fewest mean steps on the validation puzzles among those (there is always one) that lose
    at most `tolerance` of the accuracy after all steps."""
    tried = rule_curve(valid, signal)
    good = tried[tried["accuracy"] >= valid.exact_by_step[-1] - tolerance]
    return Rule(signal, float(good.loc[good["mean_steps"].idxmin(), "threshold"]))


def choose_thresholds(valid: Evaluation, tolerance: float) -> dict[str, Rule]:
    """`choose_threshold` for each of `OWN_SIGNALS` that the evaluation has, by signal."""
    return {signal: choose_threshold(valid, signal, tolerance) for signal in OWN_SIGNALS if signal in valid.signals}


def accuracy_at(curve: pd.DataFrame, mean_steps: float) -> float:
    """Accuracy of a `rule_curve` at a mean number of steps, straight lines between its thresholds."""
    curve = curve.groupby("mean_steps")["accuracy"].max()  # sorted
    return float(np.interp(mean_steps, curve.index, curve))


def fixed_depth_at(evaluation: Evaluation, mean_steps: float) -> float:
    """Accuracy of fixed depth at a mean number of steps: between two depths, a mixture of both."""
    by_step = evaluation.exact_by_step
    return float(np.interp(mean_steps, np.arange(1, len(by_step) + 1), by_step))


def mixture_at(evaluation: Evaluation, mean_steps: float) -> np.ndarray:
    """Accuracy per puzzle under `fixed_depth_at`, which is their mean: (N,)."""
    below = min(int(mean_steps), evaluation.exact.shape[1] - 1)
    share = mean_steps - below
    return (1 - share) * evaluation.exact[:, below - 1] + share * evaluation.exact[:, below]


def permutation_control(evaluation: Evaluation, steps: np.ndarray, rounds: int = 20) -> float:
    """Accuracy with the stopping steps (N,) shuffled across puzzles, mean over `rounds`."""
    rng = np.random.default_rng(0)
    return float(np.mean([evaluation.exact_after(rng.permutation(steps)).mean() for _ in range(rounds)]))


def calibration(logits: np.ndarray, right: np.ndarray, bins: int = 10) -> tuple[pd.DataFrame, dict[str, float]]:
    """Whether the halting head's probability is the accuracy. logits (N,), right (N,) bool.

    Returns a table (mean probability, accuracy and count of each bin of equal width), and the expected calibration error
    and the area under the ROC curve (NaN where all are right or wrong).
    """
    p = expit(np.asarray(logits, np.float64))
    table = pd.DataFrame({"probability": p, "right": right.astype(float)})
    groups = table.groupby(np.minimum((p * bins).astype(int), bins - 1))
    table = groups.mean().assign(count=groups.size()).reset_index(drop=True)
    error = (table["count"] * (table["probability"] - table["right"]).abs()).sum() / len(p)
    auroc = roc_auc_score(right, p) if 0 < right.mean() < 1 else float("nan")
    return table, {"ece": float(error), "auroc": float(auroc)}


def paired_gain(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Gain in accuracy on the same puzzles and its 95 % interval (normal, over puzzles): (N,) accuracies per puzzle."""
    difference = after.astype(float) - before.astype(float)
    half = 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
    return float(difference.mean()), float(difference.mean() - half), float(difference.mean() + half)


def arm_row(params: Halting, result: ArmResult, data: Splits) -> tuple[dict[str, float | str], pd.DataFrame]:
    """An arm's model on the test puzzles: with all steps; under the rule it was taught; and under that rule with a threshold
    chosen on the validation puzzles. Both rules stand beside fixed depth, the entropy rule and the permutation control at as
    many steps; and entropy with a threshold chosen on the validation puzzles. Every rule takes at most as many steps as in
    training. Second, the `rule_curve` of the signal that it was taught, of the entropy and of fixed depth."""
    model = load_model(result.folder / "model", params.device)
    cap, whole = model.config.halt_max_steps, evaluate(model, data.test, params.eval_steps)
    valid, test = evaluate(model, data.valid, min(cap, params.eval_steps)), whole.until(cap)
    row = {"arm": result.arm, "seed": result.seed, "train_seconds": result.metrics["train/seconds"]}
    row |= {name: getattr(model.config, name) for name in ("ponder_coef", "ponder_prior", "halting_bias", "act_weight")}
    row |= {"lr": result.params.lr, "puzzle": params.puzzle, "cap": cap}
    row["valid_accuracy"] = float(valid.exact_by_step[-1])
    row["accuracy_all_steps"], row["accuracy_trained_steps"] = (float(e.exact_by_step[-1]) for e in (whole, test))
    row["accuracy_ever"] = float(test.exact.any(1).mean())  # right after some step of those in training
    chosen, entropy = (choose_threshold(valid, signal, params.tolerance) for signal in (test.taught.signal, "entropy"))
    row["entropy_accuracy"], row["entropy_mean_steps"] = test.halted(entropy)
    by_entropy = rule_curve(test, "entropy")
    for name, steps in (("taught", test.steps(test.taught)), ("chosen", test.steps(chosen))):
        row |= {
            f"{name}_accuracy": float(test.exact_after(steps).mean()),
            f"{name}_mean_steps": float(steps.mean()),
            f"{name}_fixed_same_steps": fixed_depth_at(test, steps.mean()),
            f"{name}_entropy_same_steps": accuracy_at(by_entropy, steps.mean()),
            f"{name}_permuted": permutation_control(test, steps),
        }
    taught, fixed = (rule_curve(test, signal) for signal in (test.taught.signal, "fixed"))
    curves = pd.concat([subsample_curve(curve) for curve in (taught, by_entropy, fixed)], ignore_index=True)
    return row, curves.assign(arm=result.arm, seed=result.seed)


def arm_names_in_full(table: pd.DataFrame) -> pd.Series:
    """Names of the arms of a table of `arm_row`s: with the bias of the halting head or the prior where it was given."""
    bias = table["halting_bias"].map(lambda b: "" if pd.isna(b) else f" (bias {b:g})")
    prior = table["ponder_prior"].map(lambda p: f" (prior {p:g})")
    return table["arm"] + bias + prior.where(table["arm"].str.startswith("ponder"), "")


def with_controls(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `arm_row`s with names for arms without a halting loss: `never` for q, `every_step` for act:0."""
    never = (table["act_weight"] == 0) & (table["arm"] == "q")
    return table.assign(arm=table["arm"].mask(never, "never").replace("act:0", "every_step"))


# What a rule is compared with at as many mean steps: columns of `arm_row`s after "taught_" or "chosen_", and rules of arm q.
SAME_MODEL = {"fixed depth": "fixed_same_steps", "shuffled steps": "permuted", "entropy": "entropy_same_steps"}
ARM_Q = {"q: halting head": "q_halt", "q: entropy": "entropy"}


def compare_rules(table: pd.DataFrame, front: pd.DataFrame, rule: str = "taught") -> pd.DataFrame:
    """Each arm by its own rule against others in as many mean steps, paired by seed: effect and interval, corrected for the
    number of arms. `SAME_MODEL`: other rules on the same model; `ARM_Q`: arm q in at most as many steps.

    table: `arm_row`s. front: the `rule_curve`s of arm q, with columns seed and rule. rule: "taught" or "chosen".
    """
    columns = {name: f"{rule}_{column}" for name, column in SAME_MODEL.items()} | ARM_Q
    for signal in ARM_Q.values():
        best = {seed: curve.sort_values("mean_steps") for seed, curve in front[front["rule"] == signal].groupby("seed")}
        best = {seed: curve.assign(accuracy=curve["accuracy"].cummax()) for seed, curve in best.items()}
        at = [accuracy_at(best[seed], steps) for seed, steps in zip(table["seed"], table[f"{rule}_mean_steps"])]
        table = table.assign(**{signal: at})
    names, found = list(table["arm"].unique()), {}
    for name in names:
        part = table[table["arm"] == name].set_index("seed")
        found[name] = {("", kind): part[f"{rule}_{kind}"].mean() for kind in ("mean_steps", "accuracy")}
        for other, column in columns.items():
            one = stats.paired(part[f"{rule}_accuracy"], part[column], tests=len(names))
            found[name] |= {(other, key): getattr(one, key) for key in ("effect", "low", "high")}
    return pd.DataFrame(found).T


def compare_methods(table: pd.DataFrame, methods: Sequence[str], rule: str = "taught") -> pd.DataFrame:
    """All arms of a method together: its own rule against `SAME_MODEL` in as many mean steps. Only runs that neither stop all
    puzzles at the first step nor let all go on to the last count, for entropy, which says little after one step, those of two
    mean steps or more; first the mean within each seed, then `stats.paired`, corrected for all comparisons."""
    steps, found = table[f"{rule}_mean_steps"], {}
    for method in methods:
        own = table["arm"].str.match(rf"{method}\b") & steps.between(1.05, table["cap"] - 0.05)
        for other, column in SAME_MODEL.items():
            part = table[own & (steps >= 2)] if other == "entropy" else table[own]
            both = part.groupby("seed")[[f"{rule}_accuracy", f"{rule}_{column}"]].mean()
            if len(both) > 1:
                one = stats.paired(*(both[name] for name in both), tests=len(methods) * len(SAME_MODEL))
                keys = ("effect", "low", "high", "p", "mde", "seeds")
                found[method, other] = {"runs": len(part)} | {key: getattr(one, key) for key in keys}
    return pd.DataFrame(found).T.rename_axis(["method", "against"])


def choose_noise(params: Halting, model: TRM, valid: PuzzleSet) -> pd.DataFrame:
    """`retry_until_valid` with each of `noises` on the validation puzzles, at most 8 times, best first: columns noise, valid
    (share), steps (mean). A single row of noise 0 (restarts from other symmetries) where there are none."""
    stds = [float(word) for word in params.noises.split(",") if word.strip()]
    tried = [retry_until_valid(model, valid, min(params.restarts, 8), params.retry_steps, params.seed, s) for s in stds]
    rows = [(std, *result.by_try[-1]) for std, result in zip(stds, tried)] or [(0.0, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["noise", "valid", "steps"])
    return table.sort_values("valid", ascending=False, kind="stable", ignore_index=True)


def compute_curve(
    model: TRM,
    puzzles: PuzzleSet,
    label: str,
    seed: int,
    steps: int,
    more_steps: int,
    restarts: int,
    noise: float = 0.0,
) -> pd.DataFrame:
    """Accuracy against compute (supervision steps per puzzle) of more steps and of more attempts, one row each; gain over one
    try of `steps` steps, low and high (its 95 % interval). kind: steps, noise and, without `noise` (a std), symmetry."""
    exact = evaluate(model, puzzles, more_steps).exact
    found = [("steps", "", 1, depth, exact[:, depth - 1]) for depth in sorted({*_doublings(more_steps), steps})]
    kinds = ("noise",) if noise else STARTS
    noise = noise or model.config.initial_noise or model.config.input_noise or 1.0
    for kind in kinds:
        attempts = attempt(model, puzzles, restarts, steps, kind, seed, noise)
        for tries in _doublings(restarts):
            some = attempts.first(tries)
            for selection in SELECTIONS:
                found.append((kind, selection, tries, steps, (some.select(selection) == puzzles.answers).all(1)))
            found.append((kind, "oracle", tries, steps, some.solved(puzzles.answers)))
    rows = []
    for kind, selection, tries, each, right in found:
        gain = paired_gain(exact[:, steps - 1], right)
        rows.append((label, seed, kind, selection, tries, each, tries * each, float(right.mean()), *gain))
    columns = "label seed kind selection tries steps compute accuracy gain low high"
    return pd.DataFrame(rows, columns=columns.split())


def retry_rows(retried: RetryResult, label: str, seed: int, steps: int) -> pd.DataFrame:
    """Restarts until an answer is valid as rows of `compute_curve`: kind "until valid", the share of valid answers after each
    number of tries against the mean steps spent. steps: most of an attempt."""
    tries = _doublings(len(retried.by_try))
    rows = [(label, seed, "until valid", "rule check", n, steps, *retried.by_try[n - 1][::-1]) for n in tries]
    return pd.DataFrame(rows, columns=["label", "seed", "kind", "selection", "tries", "steps", "compute", "accuracy"])


def with_blanks(puzzles: PuzzleSet, blanks: int, seed: int) -> PuzzleSet:
    """The puzzles with their answers revealed in all but `blanks` cells (all that are blank where they are fewer)."""
    chance = np.random.default_rng([seed, blanks]).random(puzzles.questions.shape)
    chance = np.where(puzzles.questions == 0, chance, 2)
    kept = np.argsort(np.argsort(chance, 1), 1) < blanks  # (N, T) the first `blanks` of the blank cells
    return replace(puzzles, questions=np.where(kept & (puzzles.questions == 0), 0, puzzles.answers))


def blanks_table(model: TRM, puzzles: PuzzleSet, label: str, seed: int, steps: int) -> pd.DataFrame:
    """Accuracy after 1 and after `steps` steps on the puzzles `with_blanks` 0, 1, 2, 5, 10 and 20, and as they are."""
    kinds = {str(n): with_blanks(puzzles, n, seed) for n in (0, 1, 2, 5, 10, 20)} | {"all": puzzles}
    found = {name: evaluate(model, part, steps).exact_by_step for name, part in kinds.items()}
    rows = [(label, name, len(puzzles), steps, by_step[0], by_step[-1]) for name, by_step in found.items()]
    return pd.DataFrame(rows, columns=["label", "blanks", "puzzles", "steps", "accuracy_first", "accuracy"])


def shallowest_depth(valid: Evaluation, accuracy: float) -> int:
    """The fewest steps of all puzzles after which at least `accuracy` are solved; all steps where none is enough."""
    enough = valid.exact_by_step >= accuracy
    return int(enough.argmax()) + 1 if enough.any() else len(enough)


def _doublings(largest: int) -> list[int]:
    """1, 2, 4, ... and `largest`."""
    return sorted({2**i for i in range(largest.bit_length())} | {largest})


def early_model(params: Halting, run: Run, data: Splits, seed: int) -> TRM | None:
    """A model of chapter 04's default recipe, trained for `early_steps` steps in early/ of `run`; None if paused."""
    own = arm_params(params, seed, max_steps=params.early_steps)
    result = train_and_test(run, str(seed), own, data, within="early")
    return result and load_model(result.folder / "model", params.device)


def summary_row(
    label: str,
    model: TRM,
    test: Evaluation,
    answers,
    rule: Rule,
    entropy_rule: Rule,
    depth: int,
    seconds,
    retried: RetryResult,
) -> dict[str, float | str]:
    """The numbers of a trained model that chapter 03 discusses, as one row; intervals are 95 %, over the puzzles. answers:
    (N, T) digits, the solutions. depth: `shallowest_depth` as accurate as the rule on validation puzzles. seconds: wall time
    of all test puzzles by "fixed", "shallowest" (fixed at `depth`), "rule", "entropy" and "retry"."""
    accuracy, mean_steps = test.halted(rule)
    entropy_accuracy, entropy_steps = test.halted(entropy_rule)
    steps = test.steps(rule)
    _, loss_low, loss_high = paired_gain(test.exact[:, -1], test.exact_after(steps))
    _, over_low, over_high = paired_gain(mixture_at(test, mean_steps), test.exact_after(steps))
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
        "loss_low": loss_low,
        "loss_high": loss_high,
        "accuracy_fixed_depth_same_steps": fixed_depth_at(test, mean_steps),
        "over_fixed_low": over_low,
        "over_fixed_high": over_high,
        "accuracy_permuted": permutation_control(test, steps),
        "speedup_rule": seconds["fixed"] / seconds["rule"],
        "speedup_over_shallowest": seconds["shallowest"] / seconds["rule"],
        "accuracy_entropy": entropy_accuracy,
        "mean_steps_entropy": entropy_steps,
        "speedup_entropy": seconds["fixed"] / seconds["entropy"],
        "shallowest_fixed_depth": depth,
        "accuracy_shallowest": float(test.exact_by_step[depth - 1]),
        "accuracy_retry": float((retried.answers == answers).all(1).mean()),
        "attempts_retry": len(retried.by_try),
        "mean_steps_retry": float(retried.steps.mean()),
        "seconds_retry_over_fixed": seconds["retry"] / seconds["fixed"],
    }
