"""Chapter 01's table: compressors of hidden states."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from trm.errors import UserError
from trm.report.verdicts import (
    IN_PART,
    NOT_SUPPORTED,
    OTHER_SCALE,
    SUPPORTED,
    Measured,
    NotThere,
    agrees,
    compare,
    enough,
    measure,
    share,
)
from trm.stats import read_table

SCALE = "a language model of 1.7M parameters, D = 192"
WIDTH = 192


def _rows(tables: Path, *arms: str, trained: str = "1a", text: str = "1a") -> pd.DataFrame:
    try:
        rows = read_table(tables / "01_compressor.csv", ("seed", "trained", "text", "arm", "K", "mse"))
    except UserError as error:
        raise NotThere(f"wants the table 01_compressor.csv ({error})") from None
    rows = rows[(rows["trained"] == trained) & (rows["text"] == text)]
    if missing := sorted(set(arms) - set(rows["arm"])):
        raise NotThere(f"01_compressor.csv has no runs of {', '.join(missing)}")
    return rows


def _excess(rows: pd.DataFrame, arm: str, optimum: str) -> pd.Series:
    """Worst excess over the best possible error, over the sizes, by seed."""
    mse = rows.pivot_table(index=["seed", "K"], columns="arm", values="mse")
    return (mse[arm] / mse[optimum] - 1).groupby("seed").max()


@measure("tied_is_stable")
def tied_is_stable(tables: Path) -> Measured:
    """How far descent ends from the best there is, with tied weights and without."""
    rows = _rows(tables, "tied", "untied", "optimum", "pca")
    tied, untied = _excess(rows, "tied", "optimum"), _excess(rows, "untied", "pca")
    found = compare(tied, untied, ("tied", "untied"), more=False)
    text = f"error beyond the best possible, worst size: {found.text}"
    return Measured(found.verdict, text, SCALE, found.seeds)


@measure("thinking_stage_gains")
def thinking_stage_gains(tables: Path) -> Measured:
    """Error on thoughts of the tied compressor after stage 1b, against that after 1a alone, at each size."""
    before, after = (_rows(tables, "tied", trained=stage, text="1b") for stage in ("1a", "1b"))
    ratios, hits = [], 0
    sizes = sorted(set(before["K"]) & set(after["K"]))
    for K in sizes:
        a, b = (rows[(rows["arm"] == "tied") & (rows["K"] == K)].set_index("seed")["mse"] for rows in (after, before))
        found = compare(a, b, ("1b", "1a"), more=False, unit="times", tests=len(sizes))
        ratios.append(found.mean)
        hits += found.verdict == SUPPORTED
    text = (
        f"mean squared error on thoughts after 1b is {min(ratios):.2f} to {max(ratios):.2f} times that after 1a (K = "
    )
    return Measured(
        share(hits, len(sizes)), text + ", ".join(map(str, sizes)) + ")", SCALE, enough(before["seed"].nunique())
    )


@measure("best_size")
def best_size(tables: Path) -> Measured:
    """Is there a size beyond which no more is gained?"""
    rows = _rows(tables, "tied")
    mse = rows[rows["arm"] == "tied"].groupby("K")[["mse", "kl"]].mean()
    falls = bool((mse.diff().dropna() < 0).all(axis=None))
    levels = ", ".join(f"{K}: {row.mse:.3g} and {row.kl:.2g}" for K, row in mse.iterrows())
    text = f"mean squared error and KL by K: {levels}; " + (
        "every larger size loses less, and the curve names no best one" if falls else "some larger size loses no less"
    )
    return Measured(NOT_SUPPORTED if falls else IN_PART, text, SCALE, enough(rows["seed"].nunique()))


@measure("cosine_tells")
def cosine_tells(tables: Path) -> Measured:
    """Of two compressors of one size, does the one with the higher cosine change less of what the model says?"""
    arms = ["tied", "pca", "nonlinear", "task_aware"]
    rows = _rows(tables, *arms)
    rows = rows[rows["arm"].isin(arms)].groupby(["K", "arm"])[["cosine_similarity", "kl"]].mean()
    agreed = [
        (part.loc[a, "cosine_similarity"] > part.loc[b, "cosine_similarity"]) == (part.loc[a, "kl"] < part.loc[b, "kl"])
        for _, part in rows.groupby("K")
        for part in [part.droplevel("K")]
        for a, b in combinations(part.index, 2)
    ]
    tied = rows.xs("tied", level="arm")
    above = tied[tied["cosine_similarity"] > 0.95]
    text = f"in {np.mean(agreed):.0%} of {len(agreed)} pairs of compressors the one with the higher cosine has the smaller KL"
    if len(above):
        text += f"; the tied one first passes 0.95 at K = {above.index[0]}, with a KL of {above['kl'].iloc[0]:.2g} nats"
    return Measured(share(sum(agreed), len(agreed)), text, SCALE, enough(_rows(tables)["seed"].nunique()))


@measure("cosine_64", ratio=48, claimed=0.85)
@measure("cosine_128", ratio=24, claimed=0.92)
@measure("cosine_256", ratio=12, claimed=0.96)
@measure("cosine_512", ratio=6, claimed=0.98)
@measure("cosine_1024", ratio=3, claimed=0.99)
def cosine_at(tables: Path, ratio: int, claimed: float) -> Measured:
    """Cosine similarity of the tied compressor at the same ratio of compression, on another model's states."""
    rows = _rows(tables, "tied", "mean")
    part = rows[np.isclose(rows["K"], WIDTH / ratio)]
    tied, alone = (part[part["arm"] == arm]["cosine_similarity"] for arm in ("tied", "mean"))
    if not len(tied):
        raise NotThere(f"01_compressor.csv has no runs at {ratio}x")
    text = f"at {ratio}x (K = {WIDTH // ratio}) {tied.mean():.3f}, of which the mean alone has {alone.mean():.3f}"
    holds = abs(tied.mean() - claimed) < 0.01
    return Measured(SUPPORTED if holds else OTHER_SCALE, text, SCALE, enough(part["seed"].nunique()))


@measure("depends_on_text")
def depends_on_text(tables: Path) -> Measured:
    """Does a compressor lose more of another kind of text than of its own, at the same size?"""
    own, other = _rows(tables, "pca"), _rows(tables, "pca", trained="1b", text="1a")
    ratio = {
        seed: (
            other[(other["arm"] == "pca") & (other["seed"] == seed)].set_index("K")["mse"]
            / own[(own["arm"] == "pca") & (own["seed"] == seed)].set_index("K")["mse"]
        )
        for seed in sorted(set(own["seed"]))
    }
    worst = pd.DataFrame(ratio)
    text = (
        f"of ordinary text, the best linear compressor of thoughts loses {worst.min(axis=None):.2f} to "
        f"{worst.max(axis=None):.2f} times what that of ordinary text loses"
    )
    return Measured(agrees(bool((worst > 1).all(axis=None))), text, SCALE, enough(len(ratio)))
