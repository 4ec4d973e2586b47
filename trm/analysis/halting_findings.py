"""What the tables of the chapter on halting say, in sentences whose numbers come from them."""

import numpy as np
import pandas as pd
from scipy import stats

from trm.analysis.halting_plots import RULES


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"


def stopping(row: dict) -> str:
    """Whether the chosen rule is worth having, from a row of `trm.training.halting_job.summary_row`."""
    loss = row["accuracy_rule"] - row["accuracy_fixed"]
    over = row["accuracy_rule"] - row["accuracy_fixed_depth_same_steps"]
    name = RULES[row["rule"]][1] if row["rule"] in RULES else row["rule"]
    text = (
        f"**{row['label']}**, {row['puzzles']:,} test puzzles: {row['accuracy_fixed']:.1%} solved with "
        f"{row['fixed_steps']} steps each. The best rule by validation, *{name}*, solves {row['accuracy_rule']:.1%} "
        f"({_points(loss)}) in {row['mean_steps_rule']:.2f} steps on average, and is "
        f"**{row['speedup_rule']:.1f} times faster** by the clock. Fixed depth at as many steps solves "
        f"{row['accuracy_fixed_depth_same_steps']:.1%}: the rule is "
    )
    text += f"{_points(over)} ahead. " if over > 0 else f"**not ahead of it** ({_points(over)}). "
    saved = row["fixed_steps"] / row["shallowest_fixed_depth"]
    text += (
        f"The shallowest fixed depth as accurate as the rule takes {row['shallowest_fixed_depth']} steps: capping alone would "
        f"save a factor of {saved:.1f}. " if over > 0 else ""
    ) + (
        f"With the same stops dealt out at random it is {row['accuracy_dealt_out']:.1%}. Trying again until the rules of the "
        f"puzzle are obeyed, {row['attempts_patient']} times at most, solves **{row['accuracy_patient']:.2%}** in "
        f"{row['mean_steps_patient']:.1f} steps on average ({row['seconds_patient_over_fixed']:.1f} times the time of "
        f"{row['fixed_steps']} fixed steps)."
    )  # fmt: skip
    return text


def _gain(part: pd.DataFrame, over: pd.DataFrame) -> str:
    """Gain of the rows `part` over the rows `over`, a row a seed: a t-interval over the seeds, or over the puzzles."""
    gain = part.set_index("seed")["accuracy"] - over.set_index("seed")["accuracy"]
    if len(gain) > 1:
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
        low, high, kind = gain.mean() - half, gain.mean() + half, f"{len(gain)} seeds"
    else:
        low, high, kind = part["low"].iloc[0], part["high"].iloc[0], "one model, over puzzles"
    sure = "" if low > 0 or high < 0 else ", which may be nothing"
    return f"{_points(gain.mean())} (95 % interval {100 * low:+.1f} to {100 * high:+.1f}; {kind}){sure}"


def longer(table: pd.DataFrame) -> str:
    """What more steps and more attempts bring, for one label of `trm.training.halting_job.longer_and_again`."""
    tries, base = table["tries"].max(), table.loc[table["kind"] != "steps", "steps"].max()
    steps = table[table["kind"] == "steps"]
    plain, most = steps[steps["steps"] == base], steps[steps["steps"] == steps["steps"].max()]
    if plain.empty:  # the depth of an attempt is no power of two
        return f"**{table['label'].iloc[0]}**: no row at {base} steps to compare with."
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


def claims(arms: pd.DataFrame, summary: pd.DataFrame) -> str:
    """The claims of the guide to Pointer-over-Heads about halting, each with what was measured.

    arms: rows of `arm_row`; summary: rows of `summary_row`, indexed by label.
    """
    mean = arms.groupby("arm", sort=False).mean(numeric_only=True)
    lines = ["| claim | measured | verdict |", "|---|---|---|"]
    learned = arms[arms["arm"].str.fullmatch(r"act(:.*)?")]
    gain = learned["taught_accuracy"] - learned["taught_fixed_same_steps"]
    if len(learned) > 2:
        test = stats.ttest_1samp(gain, 0) if gain.std() > 0 else None
        varied = learned["taught_mean_steps"].between(1.2, learned["taught_mean_steps"].max() - 0.2)
        holds = test is not None and test.pvalue < 0.05 and gain.mean() > 0
        lines.append(
            f"| the expected loss teaches when to stop | over {len(learned)} runs {_points(gain.mean())} against fixed depth "
            f"at the same mean steps; {varied.sum()} of them stop anywhere but at the first step or at the cap | "
            f"{'measured: yes' if holds else 'measured: no gain'} |"
        )
    sweep = mean[mean.index.str.fullmatch(r"act:.*")].sort_values("ponder_coef")
    if len(sweep) > 1:
        span = "; ".join(
            f"{row['ponder_coef']:g}: {row['taught_accuracy']:.1%} in {row['taught_mean_steps']:.1f} steps"
            for _, row in sweep.iterrows()
        )
        guide = sweep[sweep["ponder_coef"] <= 5e-3]
        flat = bool(len(guide)) and np.ptp(guide["taught_mean_steps"]) < 0.5
        moved = np.ptp(sweep["taught_mean_steps"]) >= 0.5
        verdict = "in the guide's range (to 5e-3) nothing moves" if flat else "yes, in the guide's range"
        verdict += "; it does beyond" if flat and moved else ""
        lines.append(f"| the ponder cost trades accuracy for compute | {span} | {verdict} |")
    for label, row in summary.iterrows():
        fast = row["speedup_entropy"]
        lines.append(
            f"| entropy halting is 2 to 3 times faster ({label}) | {fast:.1f} times, {row['accuracy_entropy']:.1%} against "
            f"{row['accuracy_fixed']:.1%} | {'yes' if 2 <= fast <= 3 else 'faster than claimed' if fast > 3 else 'no'} |"
        )
    return "\n".join(lines)
