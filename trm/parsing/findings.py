"""What chapter 05 finds: arms compared over seeds and over sentences, and the guide's hypotheses decided by the numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, stats

from trm import stats_old as runs
from trm.errors import UserError
from trm.stats_old import paired_difference

BASELINE = "one_iteration"
SPOKEN_OF = 0.0035  # the gain that the guide expects of deep supervision
WANTED = ("arm", "seed", "test/uas", "test/las", "right", "words", "minutes", "dev/uas", "dev/las")
ITERATED = ("standard", "deep_supervision", "act_halting", "both")


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of the runs of chapter 05 together. See `trm.stats.read_rows`."""
    return runs.read_rows(path, WANTED, "poh_ablation")


def iterations(rows: pd.DataFrame, name: str = "test/uas_per_iteration") -> pd.DataFrame:
    """`name` after each iteration: arm, seed -> columns 1, 2, ..."""
    columns = sorted((c for c in rows if c.startswith(f"{name}_")), key=lambda c: int(c.rsplit("_", 1)[1]))
    table = rows.set_index(["arm", "seed"])[columns]
    return table.set_axis([int(c.rsplit("_", 1)[1]) for c in columns], axis=1)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """The curves of training, a row for each evaluation on dev: arm, seed, minutes, dev/uas, dev/las."""
    return runs.curves(rows, ("minutes", "dev/uas", "dev/las"))


def over_sentences(
    rows: pd.DataFrame, arm: str, baseline: str, resamples: int, coverage: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Interval of the difference in UAS of two arms, sentences drawn again with replacement (the seeds that both have
    together); NaN where they have none in common.

    Raises:
        UserError: the runs were tested on different sentences.
    """
    if rows["words"].nunique() > 1:
        raise UserError("the runs of this table were tested on different sentences; put those of one treebank together")
    seeds = set.intersection(*(set(rows.loc[rows["arm"] == name, "seed"]) for name in (arm, baseline)))
    if not seeds:
        return np.nan, np.nan

    def right(name: str) -> np.ndarray:
        """(sentences,) right heads, mean over the seeds that both arms have."""
        texts = rows.loc[(rows["arm"] == name) & rows["seed"].isin(seeds), "right"]
        return np.mean([_numbers(text) for text in texts], axis=0)

    gain, words = right(arm) - right(baseline), _numbers(rows["words"].iloc[0])
    draw = np.random.default_rng(seed)
    counts = draw.multinomial(len(words), np.full(len(words), 1 / len(words)), resamples)  # (resamples, sentences)
    tail = (1 - coverage) / 2
    low, high = np.quantile((counts @ gain) / (counts @ words), [tail, 1 - tail])
    return float(low), float(high)


def _numbers(text: str) -> np.ndarray:
    return np.array(str(text).split(), dtype=float)


def smallest_seen(difference: dict[str, float], coverage: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that a paired t-test over so many seeds tells from none in `power` of the cases: the
    noncentral t distribution, with the deviation that the interval of `paired_difference` (of this coverage) has."""
    n = difference["n"]
    t = stats.t.ppf((1 + coverage) / 2, n - 1)
    deviation = (difference["high"] - difference["mean"]) / t  # of the mean
    missed = lambda shift: stats.nct.sf(t, n - 1, shift) - power  # noqa: E731
    return float(optimize.brentq(missed, 0, 20 * t) * deviation)


def compare(rows: pd.DataFrame, baseline: str = BASELINE, resamples: int = 2000, tests: int = 1) -> pd.DataFrame:
    """One row an arm, best first: UAS and LAS (mean and deviation over seeds), iterations, epochs; and the difference in UAS
    to `baseline`, paired by seed: mean, t-interval, p, smallest that could have been seen; and the interval over sentences.
    Differences are missing where the arm or the baseline has one seed only. Intervals are of 95 %, shared among `tests`.
    """
    coverage = 1 - 0.05 / tests
    base = rows[rows["arm"] == baseline].set_index("seed")["test/uas"]
    found = {}
    for arm, part in rows.groupby("arm", sort=False):
        uas = part.set_index("seed")["test/uas"]
        line = {"seeds": len(part), "UAS": uas.mean(), "UAS std": uas.std(), "LAS": part["test/las"].mean()}
        line |= {"LAS std": part["test/las"].std(), "iterations": part["test/mean_steps"].mean()}
        line |= {"epochs": part["train/epochs"].mean(), "parameters": int(part["model/parameters"].iloc[0])}
        if arm != baseline and len(uas.index.intersection(base.index)) > 1:
            gain = paired_difference(uas, base, coverage)
            line |= {"gain": gain["mean"], "low": gain["low"], "high": gain["high"], "p": gain["p"]}
            if np.isfinite(gain["high"]):
                line["smallest seen"] = smallest_seen(gain, coverage)
            interval = over_sentences(rows, arm, baseline, resamples, coverage)
            line["sentences low"], line["sentences high"] = interval
        found[arm] = line
    return pd.DataFrame(found).T.infer_objects().sort_values("UAS", ascending=False)


def chapter_metrics(rows: pd.DataFrame) -> dict[str, float]:
    """ablation/<arm>/uas_mean and uas_std (where there are several seeds)."""
    found = {}
    for arm, part in rows.groupby("arm", sort=False)["test/uas"]:
        found[f"ablation/{arm}/uas_mean"] = float(part.mean())
        if len(part) > 1:
            found[f"ablation/{arm}/uas_std"] = float(part.std())
    return found


def levels(comparison: pd.DataFrame) -> pd.DataFrame:
    """The part of `compare` that says how good each arm is, in per cent."""
    shown = (
        comparison[["seeds", "parameters", "epochs", "iterations"]].astype({"seeds": int, "parameters": int}).round(1)
    )
    for name in ("UAS", "LAS"):
        shown[f"{name} %"] = [_mean_and_spread(*pair) for pair in zip(comparison[name], comparison[f"{name} std"])]
    return shown


def _mean_and_spread(mean: float, spread: float) -> str:
    return f"{100 * mean:.2f}" + (f" ± {100 * spread:.2f}" if np.isfinite(spread) else "")


def differences(comparison: pd.DataFrame) -> pd.DataFrame:
    """The part of `compare` that holds each arm against the baseline, in points of UAS; empty where nothing can be said."""
    if "gain" not in comparison:
        return pd.DataFrame()
    part = comparison.dropna(subset=["low"])
    said = part[["gain", "low", "high", "sentences low", "sentences high"]].map(points)
    return pd.DataFrame(
        {
            "points": said["gain"],
            "over seeds": said["low"] + " to " + said["high"],
            "over sentences": said["sentences low"] + " to " + said["sentences high"],
            "p": part["p"].map("{:.2g}".format),
            "smallest seen": (100 * part["smallest seen"]).map("{:.2f}".format),
        }
    )


def prices(rows: pd.DataFrame) -> str:
    """What the ponder coefficient did, from rows at several of them, as text."""
    mean = rows.groupby("ponder_coef")[["test/mean_steps", "test/uas"]].mean()
    steps, uas = mean["test/mean_steps"], mean["test/uas"]
    begins = "A higher price, fewer steps" if steps.iloc[0] > steps.iloc[-1] else "A higher price, no fewer steps"
    if steps.max() - steps.min() < 0.1:
        begins = "The price of an iteration changes nothing"
    return (
        f"- **{begins}**: from {mean.index[0]:g} to {mean.index[-1]:g}, {steps.iloc[0]:.2f} to {steps.iloc[-1]:.2f} iterations "
        f"and UAS {uas.iloc[0]:.1%} to {uas.iloc[-1]:.1%} ({rows['seed'].nunique()} seeds)."
    )


def controllers(rows: pd.DataFrame) -> pd.DataFrame:
    """UAS and the gradient's norm at the controller, for each controller: mean and deviation over seeds."""
    table = rows.groupby("controller")[["test/uas", "gradients/controller"]].agg(["mean", "std"])
    uas, norm = table["test/uas"], table["gradients/controller"]
    return pd.DataFrame(
        {
            "UAS %": [_mean_and_spread(*pair) for pair in uas.to_numpy()],
            "gradient norm": [f"{mean:.3f} ± {spread:.3f}" for mean, spread in norm.to_numpy()],
        },
        index=table.index,
    )


def level(rows: pd.DataFrame) -> str:
    """What each run reaches on test, and in what time: a line each."""
    lines = []
    for _, row in rows.iterrows():
        tags = " with gold tags" if row.get("use_upos", False) else ""
        about = f"{row['train/epochs']:.1f} epochs, {row['model/parameters']:,} parameters"
        lines.append(
            f"{row['arm']}{tags}, seed {row['seed']}: UAS {row['test/uas']:.2%}, LAS {row['test/las']:.2%} on test after "
            f"{row['train/seconds'] / 60:.1f} minutes ({about})"
        )
    return "\n".join(lines)


def points(value: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * value:+.2f}"


def surely(row: pd.Series) -> int:
    """1 where an arm is surely better than the baseline, -1 where worse, 0 where it cannot be told: by both intervals."""
    lows, highs = [row["low"], row["sentences low"]], [row["high"], row["sentences high"]]
    return 1 if min(lows) > 0 else -1 if max(highs) < 0 else 0


def verdict(rows: pd.DataFrame, resamples: int = 2000) -> str:
    """H0 (iterations cannot help) or H1 (deep supervision lets them), decided by the numbers, as text."""
    named = [arm for arm in ITERATED if arm in set(rows["arm"])]
    table = compare(rows, BASELINE, resamples, tests=max(len(named), 1))
    if "gain" not in table or BASELINE not in table.index:
        return f"- Nothing to decide: several seeds of {BASELINE}, and of an arm that iterates, are needed."
    here, base = [arm for arm in named if np.isfinite(table.loc[arm, "low"])], table.loc[BASELINE]
    said = [
        f"- One iteration reaches UAS {_mean_and_spread(base['UAS'], base['UAS std'])} % over {int(base['seeds'])} seeds. A "
        f"difference is called one if both intervals, over seeds and over sentences, lie on one side of zero; they have 95 % "
        f"for the {len(named)} comparisons together."
    ]
    for arm in here:
        row = table.loc[arm]
        kind = {1: "**better**", 0: "cannot be told from it", -1: "**worse**"}[surely(row)]
        said.append(
            f"- {arm}: {points(row['gain'])} points ({points(row['low'])} to {points(row['high'])} over seeds, p = "
            f"{row['p']:.2g}; {points(row['sentences low'])} to {points(row['sentences high'])} over sentences): {kind}. The "
            f"smallest difference that these seeds would have shown is {100 * row['smallest seen']:.2f} points."
        )
    if {"deep_supervision", "standard"} <= set(here):
        own = compare(rows, "standard", resamples).loc["deep_supervision"]
        said.append(
            f"- Deep supervision against the same iterations without it: {points(own['gain'])} points ({points(own['low'])} to "
            f"{points(own['high'])} over seeds). The guide speaks of {points(SPOKEN_OF)}."
        )
        said.append("- " + _decision(table.loc[here], surely(own)))
    return "\n".join(said)


def _decision(table: pd.DataFrame, deep_over_standard: int) -> str:
    """What follows, in a sentence. table: the arms that iterate, against one iteration."""
    better = [arm for arm, row in table.iterrows() if surely(row) == 1]
    if "deep_supervision" in better and deep_over_standard == 1:
        return "**H1: deep supervision unlocks what iterations can do**, on this treebank and at this compute."
    if better and deep_over_standard == -1:
        return f"**Neither as the guide has it: iterations help ({', '.join(better)}), and deep supervision hinders.**"
    if better:
        return f"**Iterations help ({', '.join(better)})**; whether by deep supervision, these seeds cannot tell."
    if max(table["high"].max(), table["sentences high"].max()) < SPOKEN_OF:
        return (
            f"**H0 stands: measured, no gain from iterations** at equal compute, and none of {points(SPOKEN_OF)} points is "
            "left in any interval."
        )
    return f"**Undecided: no gain is seen**, but one of {points(SPOKEN_OF)} points is not excluded."
