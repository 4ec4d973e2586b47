"""What chapter 07 finds: how much of a written chain latents stand in for, and against what they must be held."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from trm import stats_old as runs
from trm.stats_old import paired_difference

THOUGHTS, NONE, CHAIN = "thoughts", "no_thinking", "chain"
WAYS = {  # every way of answering, in words
    "chain": "writes its chain",
    "thoughts": "latent thoughts",
    "answer_alone": "latents taught no steps, only where they lead",
    "no_thinking": "answers at once",
    "pause": "pause vectors",
    "mean": "mean of the latents",
    "ridge": "ridge regression from the prompt's last state",
    "shuffled": "latents of another problem",
    "read_off": "read off the last latent, no language model",
    "direct": "the same recursion, answering by itself",
    "direct_alone": "the same, taught the answer alone",
}
BASELINES = ("no_thinking", "pause", "mean", "ridge", "shuffled", "read_off", "direct")  # what latents are held against
SPENT = ("train/steps", "train/seconds", "model/parameters")  # what a trained way brings along
TIMES = {"ms/1": "ms, one at a time", "ms/64": "ms, 64 at once"}
GOAL, FAR_GOAL = 0.5, 0.9  # shares of the gap between no thinking and the full chain


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of the runs of chapter 07 together; ways that several runs of a seed judge count once. See
    `trm.stats.read_rows`."""
    rows = runs.read_rows(path, ("way", "seed", "accuracy", "tokens", "accuracy/2"), "latent")
    return rows.drop_duplicates(["way", "seed"])


def by_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each row by number of steps: way, seed -> columns N."""
    columns = {c: int(c.removeprefix("accuracy/")) for c in rows if c.startswith("accuracy/")}
    table = rows.set_index(["way", "seed"])[list(columns)].rename(columns=columns)
    return table[sorted(table)]


def of(rows: pd.DataFrame, way: str, column: str = "accuracy") -> pd.Series:
    """`column` of one way, by seed."""
    return rows[rows["way"] == way].set_index("seed")[column]


def levels(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a way, the best first: seeds, right answers in % (mean and deviation over seeds), tokens written, and
    milliseconds for an answer where they were taken; and what a trained one has and took: parameters, steps, minutes."""
    found = {}
    for way, part in rows.groupby("way", sort=False):
        values = 100 * part["accuracy"]
        line = {"": WAYS.get(way, way), "seeds": len(part), "mean": values.mean()}
        line["right (%)"] = f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")
        line["tokens"] = f"{part['tokens'].mean():.1f}"
        for name, said in TIMES.items():
            known = part[name].dropna() if name in part else []
            line[said] = f"{known.mean():.1f}" if len(known) else "-"
        for name, said, scale in zip(SPENT, ("steps", "minutes", "trained parameters"), (1, 60, 1)):
            known = part[name].dropna() if name in part else []
            line[said] = f"{known.mean() / scale:,.{int(scale > 1)}f}" if len(known) else "-"
        found[way] = line
    return pd.DataFrame(found).T.sort_values("mean", ascending=False).drop(columns="mean")


def gap_recovered(rows: pd.DataFrame) -> pd.Series:
    """Share of the gap between no thinking and the full chain that the latents close, by seed."""
    own, none, chain = (of(rows, way) for way in (THOUGHTS, NONE, CHAIN))
    return (own - none) / (chain - none)


def speedup(rows: pd.DataFrame, name: str = "ms/1") -> pd.Series:
    """How many times sooner an answer comes after latents than after a written chain, by seed."""
    return (of(rows, CHAIN, name) / of(rows, THOUGHTS, name)).dropna()


def against(rows: pd.DataFrame, other: str) -> dict[str, float]:
    """The latents less another way, paired by seed (`paired_difference`); low and high are NaN for one seed."""
    one, two = of(rows, THOUGHTS), of(rows, other)
    if len(one.index.intersection(two.index)) > 1:
        return paired_difference(one, two)
    return {"mean": float((one - two).mean()), "low": np.nan, "high": np.nan}


def _points(found: dict[str, float]) -> str:
    text = f"{100 * found['mean']:+.1f} points"
    return text + (f" ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})" if np.isfinite(found["low"]) else "")


def verdict(rows: pd.DataFrame) -> str:
    """What latents are worth, as text: first what they do not beat."""
    known = set(rows["way"])
    if THOUGHTS not in known:
        return "- Nothing to say: the table has no way thoughts."
    own, told = of(rows, THOUGHTS), {way: against(rows, way) for way in BASELINES if way in known}
    seeds = len(own)
    beaten = {way: found for way, found in told.items() if found["low"] > 0}
    rest = {way: found for way, found in told.items() if way not in beaten}
    said = []
    for way, found in rest.items():
        kind = "**worse**" if found["high"] < 0 else "**not told apart**" if seeds > 1 else "one seed tells nothing"
        said.append(
            f"- Against {way.replace('_', ' ')} ({WAYS[way]}, {of(rows, way).mean():.1%}): {_points(found)}, {kind}."
        )
    said.append(
        f"- After latent thoughts {own.mean():.1%} of unseen problems are right ({seeds} seed{'s' * (seeds > 1)})."
    )
    for way, found in beaten.items():
        said.append(
            f"- Better than {way.replace('_', ' ')} ({WAYS[way]}, {of(rows, way).mean():.1%}): {_points(found)}."
        )
    if {NONE, CHAIN} <= known:
        share = gap_recovered(rows)
        lowest = f", {share.min():.0%} in the worst seed" if seeds > 1 else ""
        said.append(
            f"- Of the gap between answering at once ({of(rows, NONE).mean():.1%}) and the written chain "
            f"({of(rows, CHAIN).mean():.1%}) they close **{share.mean():.0%}**{lowest}: {_goals(share.mean())}."
        )
    for name, how in TIMES.items():
        times = speedup(rows, name) if name in rows and {THOUGHTS, CHAIN} <= known else []
        if len(times):
            said.append(f"- An answer takes {_times(times.mean())} the written chain's time ({how}).")
    return "\n".join(said)


def _goals(share: float) -> str:
    if share >= FAR_GOAL:
        return "the nine tenths that were asked for"
    return (
        "more than the half that was asked for, short of nine tenths"
        if share >= GOAL
        else "short of the half asked for"
    )


def _times(speedup: float) -> str:
    return f"1/{speedup:.1f} of" if speedup > 1 else f"{1 / speedup:.1f} times"


def constancy(found: dict[str, Sequence[float]]) -> str:
    """How constant the states are that a reasoner might be held to, as text."""
    named: dict[tuple, list[str]] = {}
    for name, shares in found.items():
        named.setdefault(tuple(shares), []).append(f"`{name}`" if "<" in name else f"the {name}")
    parts = [
        f"of {' and '.join(names)}, {shares[0]:.0%} after the first block and {shares[-1]:.0%} after the last"
        for shares, names in named.items()
    ]
    return "The same for every problem is, by mean square, " + "; ".join(parts) + "."


def chapter_metrics(rows: pd.DataFrame) -> dict[str, float]:
    """The stable names: latent/accuracy, latent/accuracy_<way>, latent/gap_recovered, latent/speedup; means over the rows."""
    found = {
        f"latent/accuracy_{way}": float(of(rows, way).mean()) for way in dict.fromkeys(rows["way"]) if way != THOUGHTS
    }
    if THOUGHTS in set(rows["way"]):
        found["latent/accuracy"] = float(of(rows, THOUGHTS).mean())
        if np.isfinite(share := gap_recovered(rows).mean()):  # not where a chain brings nothing
            found["latent/gap_recovered"] = float(share)
        if "ms/1" in rows and len(speedup(rows)):
            found["latent/speedup"] = float(speedup(rows).mean())
    return found


def curve(history: Sequence[dict]) -> dict[str, str]:
    """The evaluations of a training as columns of a row: steps and valid/accuracy, numbers with spaces between."""
    seen = [record for record in history if "valid/accuracy" in record]
    return {
        "eval_steps": " ".join(str(record["step"]) for record in seen),
        "valid/accuracy": " ".join(f"{record['valid/accuracy']:.4f}" for record in seen),
    }
