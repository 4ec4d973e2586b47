"""What chapter 01 finds, in words and tables: from its own rows, or from the committed runs of its sweep."""

from pathlib import Path

import numpy as np
import pandas as pd

from trm import stats_old as runs

# The guide's expected cosine similarity at each ratio of compression, of a model with D = 3072 as it says.
GUIDE = {48: 0.85, 24: 0.92, 12: 0.96, 6: 0.98, 3: 0.99}
ABOUT = ("seed", "trained", "text", "arm", "K")


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of the runs of chapter 01 together. See `trm.stats.read_rows`."""
    return runs.read_rows(path, (*ABOUT, "mse"), "compressor")


def at_ratios(rows: pd.DataFrame, D: int, arm: str = "tied", stage: str = "1a") -> pd.DataFrame:
    """The guide's table with what was measured at the same ratio D / K beside it; only ratios that were measured.

    Columns: ratio, K, expected cosine; then of `arm`: cosine, centred cosine, energy lost (relative error squared), and
    top-1 agreement where there is one; and the cosine of the mean alone.
    """
    here = rows[(rows["trained"] == stage) & (rows["text"] == stage)]
    found = []
    for ratio, expected in GUIDE.items():
        K = D / ratio
        part = here[np.isclose(here["K"], K)]
        own, alone = part[part["arm"] == arm], part[part["arm"] == "mean"]
        if len(own) and len(alone):
            line = {"compression": f"{ratio}x", "K": int(K), "expected cosine": expected}
            line |= {"cosine": own["cosine_similarity"].mean(), "of the mean alone": alone["cosine_similarity"].mean()}
            line |= {"centred cosine": own["centred_cosine"].mean(), "R2": own["r2"].mean()}
            if "top1_agreement" in own and own["top1_agreement"].notna().any():
                line |= {"same first token": own["top1_agreement"].mean()}
            found.append(line)
    return pd.DataFrame(found).set_index("compression") if found else pd.DataFrame()


def excess(rows: pd.DataFrame, stage: str = "1a") -> pd.Series:
    """By how much the tied compressor's error on held-out text exceeds that of the optimum, as a share, for each K."""
    here = rows[(rows["trained"] == stage) & (rows["text"] == stage)]
    mse = here.pivot_table(index="K", columns="arm", values="mse")
    return mse["tied"] / mse["optimum"] - 1


def chapter_metrics(rows: pd.DataFrame, K: int, stage: str) -> dict[str, float | list]:
    """The stable metrics of chapter 01: compressor/..., lists over the sizes, and test/<metric>_<arm> at size K."""
    here = rows[(rows["trained"] == stage) & (rows["text"] == stage)]
    found: dict[str, float | list] = {"compressor/sizes": sorted(int(size) for size in here["K"].unique())}
    for metric in [name for name in ("mse", "cosine_similarity", "kl", "top1_agreement") if name in here]:
        table = here.pivot_table(index="K", columns="arm", values=metric).dropna(axis=1)
        found |= {f"compressor/{metric}_{arm}": table[arm].tolist() for arm in table}
        found |= {f"test/{metric}_{arm}": float(table.loc[K, arm]) for arm in table if K in table.index}
    if "tied" in here["arm"].unique():
        found["compressor/pca_excess_max"] = float(excess(rows, stage).max())
    return found


def verdict(rows: pd.DataFrame, D: int, stage: str = "1a") -> str:
    """Findings as text, from rows with one seed or several (means)."""
    here = rows[(rows["trained"] == stage) & (rows["text"] == stage)]
    mse = here.pivot_table(index="K", columns="arm", values="mse")
    said = []
    if "tied" in mse:
        worst = excess(rows, stage)
        close = int((worst < 0.01).sum())
        begins = "Gradient descent finds what one pass computes, no more"
        begins = begins if close > len(worst) / 2 else "Gradient descent falls short of what one pass computes"
        said.append(
            f"- **{begins}.** On held-out text the tied compressor is within 1 % of the optimum at {close} of {len(worst)} "
            f"sizes; the worst, K = {worst.idxmax()}, is {worst.max():+.2%} from it."
        )
    if "pca" in mse:
        gain = 1 - mse["pca"] / mse["optimum"]
        said.append(f"- A bias is worth {_range(gain, '.1%')} of the error: the mean need not go through K numbers.")
    if "nonlinear" in mse:
        times = mse["pca"] / mse["nonlinear"]
        begins = "The states do not lie on a plane" if times.max() > 1.5 else "A plane is nearly all there is"
        said.append(
            f"- **{begins}.** The best linear compressor loses {_range(times, '.1f')} times what a non-linear one does."
        )
    if "kl" in here and here["kl"].notna().any():
        kl = here.pivot_table(index="K", columns="arm", values="kl")
        aware = "task_aware" if "task_aware" in kl else "task_aware_closed"
        if aware in kl:
            below = kl[kl.index < D / 2]
            ratio, wins = below["pca"] / below[aware], int((below[aware] < below["pca"]).sum())
            states = mse.loc[below.index]
            larger = int((states[aware] > states["pca"]).sum())
            begins = "What the model says is another matter" if wins > len(below) / 2 else "The head's eyes do not help"
            said.append(
                f"- **{begins}.** The task-aware compressor has a smaller KL than PCA at {wins} of {len(below)} sizes below "
                f"D/2 (PCA's is {_range(ratio, '.1f')} times as large), and a larger error of the states at {larger}."
            )
        if {"nonlinear", aware} <= set(kl):
            better = int((kl["nonlinear"] < kl[aware]).sum())
            said.append(
                f"- The non-linear one, which never saw the head, has a smaller KL than the task-aware linear one at "
                f"{better} of {len(kl)} sizes."
            )
    alone = here[here["arm"] == "mean"]["cosine_similarity"].mean()
    said.append(f"- The mean alone, which says nothing of a state, has a cosine similarity of {alone:.2f} here.")
    return "\n".join(said)


def _range(values: pd.Series, form: str) -> str:
    low, high = (format(float(end), form) for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def stages_verdict(rows: pd.DataFrame, arm: str = "pca") -> str:
    """What stage 1b, thinking, brings on either kind of text over stage 1a, as text; "" where one is missing."""
    table = rows[rows["arm"] == arm].pivot_table(index="K", columns=["trained", "text"], values="mse")
    if not {("1a", "1a"), ("1a", "1b"), ("1b", "1a"), ("1b", "1b")} <= set(table.columns):
        return ""
    on_own, off = table["1a", "1b"] / table["1b", "1b"], table["1b", "1a"] / table["1a", "1a"]
    return (
        f"- **A compressor is of its text.** Fitted on the text of stage 1a, the best linear one loses {_range(on_own, '.2f')} "
        f"times as much of that of 1b as one fitted there; the other way round {_range(off, '.2f')} times as much of 1a's."
    )
