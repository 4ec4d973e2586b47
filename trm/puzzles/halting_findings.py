"""What the tables of the chapter on halting say, in sentences whose numbers come from them."""

import numpy as np
import pandas as pd
from scipy import stats

from trm.puzzles.halting_figures import RULES


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"


def stopping(row: dict) -> str:
    """Whether the chosen rule is worth having, from a row of `trm.puzzles.halting_study.summary_row`."""
    name = RULES[row["rule"]][1] if row["rule"] in RULES else row["rule"]
    loss = row["accuracy_rule"] - row["accuracy_fixed"]
    over = row["accuracy_rule"] - row["accuracy_fixed_depth_same_steps"]
    text = (
        f"**{row['label']}**, {row['puzzles']:,} test puzzles: {row['accuracy_fixed']:.1%} solved with "
        f"{row['fixed_steps']} steps each. The best rule by validation, *{name}*, solves {row['accuracy_rule']:.1%} "
        f"({_points(loss)}, 95 % interval {_interval(row['loss_low'], row['loss_high'])}) in "
        f"{row['mean_steps_rule']:.2f} steps on average, and is **{row['speedup_rule']:.1f} times faster** by the clock. "
        f"Fixed depth at as many steps solves "
        f"{row['accuracy_fixed_depth_same_steps']:.1%}: the rule is {_points(over)} "
        f"({_interval(row['over_fixed_low'], row['over_fixed_high'])}) "
    )
    text += "ahead. " if row["over_fixed_low"] > 0 else "from it, which may be nothing: **measured: no gain**. "
    if row["shallowest_fixed_depth"] > 0:  # not NaN
        depth = int(row["shallowest_fixed_depth"])
        text += f"The shallowest fixed depth as accurate as the rule takes {depth} steps, "
        text += f"so that capping alone would save a factor of {row['fixed_steps'] / depth:.1f}. "
    else:
        text += "No fixed depth is as accurate as the rule. "
    return text + (
        f"With the same stops dealt out at random it is {row['accuracy_dealt_out']:.1%}. Trying again until the rules of the "
        f"puzzle are obeyed, {row['attempts_patient']} times at most, solves **{row['accuracy_patient']:.2%}** in "
        f"{row['mean_steps_patient']:.1f} steps on average ({row['seconds_patient_over_fixed']:.1f} times the time of "
        f"{row['fixed_steps']} fixed steps)."
    )


def _interval(low: float, high: float) -> str:
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def _gain(part: pd.DataFrame, over: pd.DataFrame) -> str:
    """Gain of the rows `part` over the rows `over`, a row a seed: a t-interval over the seeds, or over the puzzles."""
    gain = part.set_index("seed")["accuracy"] - over.set_index("seed")["accuracy"]
    if len(gain) > 1:
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
        low, high, kind = gain.mean() - half, gain.mean() + half, f"{len(gain)} seeds"
    else:
        low, high, kind = part["low"].iloc[0], part["high"].iloc[0], "one model, over puzzles"
    sure = "" if low > 0 or high < 0 else ", which may be nothing"
    return f"{_points(gain.mean())} (95 % interval {_interval(low, high)}; {kind}){sure}"


def longer(table: pd.DataFrame) -> str:
    """What more steps and more attempts bring, for one label of `trm.puzzles.halting_study.longer_and_again`."""
    tries, base = table["tries"].max(), table.loc[table["kind"] != "steps", "steps"].max()
    steps = table[table["kind"] == "steps"]
    plain, most = steps[steps["steps"] == base], steps[steps["steps"] == steps["steps"].max()]
    text = (
        f"**{table['label'].iloc[0]}**: {plain['accuracy'].mean():.1%} after {base} steps. "
        f"{most['steps'].iloc[0]} steps instead bring {_gain(most, plain)}. "
    )
    last = table[(table["tries"] == tries) & (table["kind"] == "symmetry")]
    pieces = []
    for selection in ("agreement", "confidence", "residual", "rule check"):
        pieces.append(f"{selection} {_gain(last[last['selection'] == selection], plain)}")
    text += f"{tries} attempts from other symmetries: " + "; ".join(pieces) + ". "
    noise = table[(table["tries"] == tries) & (table["kind"] == "noise") & (table["selection"] == "agreement")]
    text += f"{tries} attempts from noise, by agreement: {_gain(noise, plain)}."
    return text


def _per_seed(arms: pd.DataFrame, column: str) -> tuple[float, float, float]:
    """Mean of `column` over the seeds (arms of one seed are averaged first: they share their start and their data), and
    its 95 % t-interval; an infinite one for a single seed."""
    values = arms.groupby("seed")[column].mean()
    if len(values) < 2:
        return float(values.mean()), -np.inf, np.inf
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _decided(low: float, high: float) -> str:
    return (
        "yes" if low > 0 else "no: the contrary" if high < 0 else "measured: no gain" if high < 0.01 else "not decided"
    )


def _slopes(sweep: pd.DataFrame, column: str) -> tuple[float, float, float]:
    """Change of `column` for ten times the ponder coefficient: mean over the seeds and interval."""
    rows = [
        {"seed": seed, "slope": np.polyfit(np.log10(part["ponder_coef"]), part[column], 1)[0]}
        for seed, part in sweep.groupby("seed")
    ]
    return _per_seed(pd.DataFrame(rows), "slope")


def claims(arms: pd.DataFrame, summary: pd.DataFrame) -> str:
    """The claims of the guide to Pointer-over-Heads about halting, each with what was measured.

    arms: rows of `arm_row`; summary: rows of `summary_row`, indexed by label. Intervals are 95 %, over the seeds.
    """
    lines = ["| claim | measured | verdict |", "|---|---|---|"]
    learned = arms[arms["arm"].str.fullmatch(r"act(:.*)?")]
    if learned["seed"].nunique() > 1:
        gain = (learned["taught_accuracy"] - learned["taught_fixed_same_steps"]).rename("gain")
        mean, low, high = _per_seed(learned.assign(gain=gain), "gain")
        varied = learned["taught_mean_steps"].between(1.2, learned["cap"] - 0.2).sum()
        lines.append(
            f"| the expected loss teaches when to stop | {_points(mean)} ({_interval(low, high)}) against fixed depth at the "
            f"same mean steps; {varied} of {len(learned)} runs stop anywhere but at the first step or at the cap | "
            f"{_decided(low, high)} |"
        )
    sweep = arms[arms["arm"].str.match(r"act:")].sort_values("ponder_coef")
    ranges = {"the guide's range, to 5e-3": sweep[sweep["ponder_coef"] <= 5e-3], "the whole range": sweep}
    for name, part in ranges.items():
        if part["ponder_coef"].nunique() < 2 or part["seed"].nunique() < 2:
            continue
        at = part.groupby("ponder_coef")[["taught_accuracy", "taught_mean_steps"]].mean()
        span = "; ".join(
            f"{coef:g}: {row['taught_accuracy']:.1%} in {row['taught_mean_steps']:.1f} steps"
            for coef, row in at.iterrows()
        )
        steps, accuracy = _slopes(part, "taught_mean_steps"), _slopes(part, "taught_accuracy")
        if steps[1] <= 0 <= steps[2] or abs(steps[0]) < 0.1:
            verdict = "no: the steps do not move"
        elif steps[0] > 0:
            verdict = "no: the steps rise"
        else:
            verdict = "yes" if accuracy[2] < 0 else "fewer steps; what they cost in accuracy is not decided"
        lines.append(
            f"| the ponder cost trades accuracy for compute ({name}) | {span}. For ten times the price {steps[0]:+.2f} steps "
            f"({steps[1]:+.2f} to {steps[2]:+.2f}) and {_points(accuracy[0])} ({_interval(*accuracy[1:])}) | {verdict} |"
        )
    for label, row in summary.iterrows():
        fast, loss = row["speedup_entropy"], row["accuracy_entropy"] - row["accuracy_fixed"]
        verdict = "only at a loss" if loss < -0.005 else "no" if fast < 2 else "yes" if fast <= 3 else "yes, and more"
        lines.append(
            f"| entropy halting is 2 to 3 times faster ({label}) | {fast:.1f} times, {row['accuracy_entropy']:.1%} against "
            f"{row['accuracy_fixed']:.1%} | {verdict} |"
        )
    return "\n".join(lines)
