"""What chapter 08 finds: what a reward brings, on unseen problems, beside rewards that say nothing."""

from pathlib import Path

import numpy as np
import pandas as pd

from trm import stats_old as runs
from trm.stats_old import paired_difference

WANTED = (
    "arm",
    "seed",
    "accuracy_before",
    "accuracy_after",
    "longer_before",
    "longer_after",
    "dead_groups",
    "kl",
    "minutes",
    "weights_moved",
)
CURVES = ("steps", "reward", "kl_curve", "dead_curve")  # a number for each record of training, with spaces between
WATCHED = ("eval_steps", "eval_minutes", "accuracy")  # and for each evaluation
CONTROLS = ("zero", "shuffled")
JUDGED = ("accuracy_before", "accuracy_after", "longer_before", "longer_after")
GOAL = 0.10  # the gain that was asked for


def row(arm: str, seed: int, metrics: dict, history: list[dict]) -> dict:
    """One run as one row, from its metrics and its history."""
    logged = [record for record in history if "train/reward" in record]
    seen = [record for record in history if "valid/accuracy" in record]
    return {
        "arm": arm,
        "seed": seed,
        **{name: metrics[f"grpo/{name}"] for name in JUDGED},
        "dead_groups": float(np.mean([record["train/dead_groups"] for record in logged])),
        "kl": logged[-1]["train/kl"],
        "minutes": metrics["train/seconds"] / 60,
        "weights_moved": metrics["grpo/weights_moved"],
        "steps": _text(logged, "step", "d"),
        "reward": _text(logged, "train/reward"),
        "kl_curve": _text(logged, "train/kl"),
        "dead_curve": _text(logged, "train/dead_groups"),
        "eval_steps": _text(seen, "step", "d"),
        "eval_minutes": " ".join(f"{record['train/seconds'] / 60:.3f}" for record in seen),
        "accuracy": _text(seen, "valid/accuracy"),
    }


def _text(records: list[dict], name: str, how: str = ".5g") -> str:
    return " ".join(format(record[name], how) for record in records)


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of the runs of chapter 08 together. See `trm.stats.read_rows`."""
    return runs.read_rows(path, (*WANTED, *CURVES, *WATCHED), "grpo")


def gain_over_problems(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Gain in accuracy of one run, problem by problem: mean, low, high (95 %, paired t over the problems). Where no answer
    has changed its worth, the interval is the gain itself."""
    found = paired_difference(pd.Series(after), pd.Series(before))
    return {k: float(found[k]) if np.isfinite(found[k]) else float(found["mean"]) for k in ("mean", "low", "high")}


def live(row: dict, gain: dict[str, float]) -> str:
    """What one run (a row) says, in two sentences: of problems like those of training, and of longer ones. gain: from
    `gain_over_problems`."""
    low, high = (f"{100 * gain[end]:+.1f}" for end in ("low", "high"))
    return (
        f"{row['accuracy_before']:.1%} became **{row['accuracy_after']:.1%}** in {row['minutes']:.1f} minutes: "
        f"{100 * gain['mean']:+.1f} points (95 % interval over the problems {low} to {high}). Problems one or two steps "
        f"longer, which earned nothing: {row['longer_before']:.1%} became {row['longer_after']:.1%}."
    )


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """One row an arm, in the order of the table: seeds, accuracy before and after (mean), gain in points with its deviation
    over the seeds and 95 % t-interval, the same gain on problems longer than those of training, share of dead groups, KL at
    the end, minutes, and how far a weight has moved."""
    rows = {}
    for arm, part in table.groupby("arm", sort=False):
        part = part.set_index("seed")
        own, beyond = _gain_over_seeds(part, "accuracy"), _gain_over_seeds(part, "longer")
        rows[arm] = {
            "seeds": len(part),
            "before": 100 * part["accuracy_before"].mean(),
            "after": 100 * part["accuracy_after"].mean(),
            "gain": own["mean"],
            "std": own["std"],
            "low": own["low"],
            "high": own["high"],
            "longer": beyond["mean"],
            "longer low": beyond["low"],
            "longer high": beyond["high"],
        }
        rows[arm] |= {name: part[name].mean() for name in ("dead_groups", "kl", "minutes")}
        rows[arm]["weights_moved"] = part["weights_moved"].max()
    return pd.DataFrame(rows).T.astype({"seeds": int})


def levels(comparison: pd.DataFrame) -> pd.DataFrame:
    """`compare` to be read: accuracies in %, gains in points with their interval."""
    if comparison.empty:
        return comparison
    shown = comparison[["seeds"]].assign(before=comparison["before"].round(1), after=comparison["after"].round(1))
    for title, ends in (("gain", ("gain", "low", "high")), ("gain, longer", ("longer", "longer low", "longer high"))):
        shown[title] = [_points(*values) for values in comparison[list(ends)].to_numpy()]
    rest = {"dead_groups": "dead groups", "kl": "KL", "minutes": "minutes", "weights_moved": "weights moved"}
    return shown.join(comparison[list(rest)].round(3).rename(columns=rest))


def _points(gain: float, low: float, high: float) -> str:
    return f"{gain:+.1f}" + ("" if np.isnan(low) else f" ({low:+.1f} to {high:+.1f})")


def _gain_over_seeds(part: pd.DataFrame, name: str) -> dict[str, float]:
    """Gain of one arm in points: mean, std, low, high; the last three NaN for one seed."""
    after, before = 100 * part[f"{name}_after"], 100 * part[f"{name}_before"]
    found = {"mean": (after - before).mean(), "std": (after - before).std(), "low": np.nan, "high": np.nan}
    return found | ({k: paired_difference(after, before)[k] for k in ("low", "high")} if len(part) > 1 else {})


def verdict(table: pd.DataFrame) -> str:
    """What the arms say together, in sentences whose numbers come from the table."""
    found = compare(table)
    said = []
    for arm, line in found.iterrows():
        levels = f"{line['before']:.1f} to {line['after']:.1f} % of unseen problems ({_gain(line)})"
        if arm == "zero":
            moved = line["weights_moved"]
            still = "not one weight has moved" if moved == 0 else f"a weight has moved by up to {moved:.2g}"
            said.append(f"With a reward that is always zero {still}.")
        elif arm == "shuffled":
            said.append(f"A shuffled reward takes it from {levels}: {_control(line)}.")
        else:
            said.append(f"**{arm}** takes the greedy answers from {levels}: {_goal(line)}.")
    return " ".join(said)


def _gain(line: pd.Series) -> str:
    seeds = f"{line['seeds']:.0f} seed{'s' if line['seeds'] > 1 else ''}"
    if np.isnan(line["low"]):
        return f"{line['gain']:+.1f} points, {seeds}"
    return f"{line['gain']:+.1f} points, 95 % interval {line['low']:+.1f} to {line['high']:+.1f}, {seeds}"


def _goal(line: pd.Series) -> str:
    if np.isnan(line["low"]):
        return "one seed, which decides nothing"
    if line["low"] <= 0:
        return "**a gain that cannot be told from none**" if line["gain"] > 0 else "**no gain**"
    reached = (
        "the ten points asked for" if line["gain"] >= 100 * GOAL else "a sure gain, short of the ten points asked for"
    )
    return f"{reached}, in {line['minutes']:.1f} minutes"


def _control(line: pd.Series) -> str:
    if np.isnan(line["low"]):
        return "one seed, which decides nothing"
    if line["low"] > 0:
        return "**a gain, where there was nothing to learn**"
    return "a loss" if line["high"] < 0 else "no gain that can be told from none"


def longer(table: pd.DataFrame) -> str:
    """What becomes of problems longer than those that earned rewards, in all arms that were trained for right answers: a mean
    for each seed, since arms of one seed begin alike and are judged on the same problems."""
    rewarded = table[~table["arm"].isin(CONTROLS)]
    if rewarded.empty:
        return ""
    seeds = rewarded.groupby("seed")[["longer_before", "longer_after"]].mean()
    b, a = seeds["longer_before"], seeds["longer_after"]
    text = f"Problems one or two steps longer, which earned nothing: {b.mean():.1%} right before, {a.mean():.1%} after"
    if len(seeds) < 2:
        return f"{text}."
    gap = paired_difference(100 * a, 100 * b)
    return f"{text} ({gap['mean']:+.1f} points, {gap['low']:+.1f} to {gap['high']:+.1f}, {len(seeds)} seeds)."


def variants(table: pd.DataFrame) -> str:
    """Whether the algorithms differ: each against GRPO, paired by seed."""
    gains = {arm: part.set_index("seed")["accuracy_after"] for arm, part in table.groupby("arm", sort=False)}
    said = []
    for arm in (name for name in gains if name not in (*CONTROLS, "GRPO")):
        if "GRPO" not in gains or len(gains[arm].index.intersection(gains["GRPO"].index)) < 2:
            continue
        gap = paired_difference(100 * gains[arm], 100 * gains["GRPO"])
        told = np.isfinite(gap["low"]) and (gap["low"] > 0 or gap["high"] < 0)
        word = ("better than" if gap["mean"] > 0 else "worse than") if told else "not to be told from"
        said.append(f"{arm} is {word} GRPO ({gap['mean']:+.1f} points, {gap['low']:+.1f} to {gap['high']:+.1f}).")
    return " ".join(said)


def everything(table: pd.DataFrame) -> str:
    """`verdict`, `longer` and `variants`, a paragraph each where they have something to say."""
    return "\n\n".join(filter(None, (verdict(table), longer(table), variants(table))))
