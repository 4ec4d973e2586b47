"""What chapter 06 finds: arms by number of steps, the recursion against plain transformers, the guide's claims decided."""

from pathlib import Path

import numpy as np
import pandas as pd

from trm import stats_old as runs
from trm.report.verdicts import NOT_MEASURED, Measured, NotThere, compare, enough, share, with_figure
from trm.stats_old import paired_difference

RECURSIVE, WITHOUT = "recursive", "last_only"
OTHERS = ("same_parameters", "same_compute", "looped", "chain")  # what the recursion is held against
SCALE = "arithmetic stories without a chain"
SPENT = ["seeds", "parameters", "TFLOPs", "minutes"]  # columns of `levels` before the accuracies
HARD = 4  # steps from which a problem counts as one of many
WANTED = (
    "arm",
    "seed",
    "accuracy/2",
    "loss/1",
    "minutes",
    "share",
    "valid/exact_accuracy",
    "valid/loss",
    "flops/training",
)


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of the runs of chapter 06 together. See `trm.stats.read_rows`."""
    return runs.read_rows(path, WANTED, "recursive_lm")


def by_steps(rows: pd.DataFrame, name: str = "accuracy") -> pd.DataFrame:
    """`name`/N of each run: arm, seed -> columns N (number of steps of a problem, or of an H-cycle)."""
    columns = {c: int(c.removeprefix(f"{name}/")) for c in rows if c.startswith(f"{name}/")}
    table = rows.set_index(["arm", "seed"])[list(columns)].rename(columns=columns)
    return table[sorted(table)]


def by_cycles(rows: pd.DataFrame, learned: int) -> pd.DataFrame:
    """Mean accuracy with each number of H-cycles at test time: a row for arm, seed and H; columns "as trained" (up to `learned`
    steps) and "longer". Arms without cycles are left out."""
    found = []
    for H in sorted({int(c.split("/")[0].removeprefix("cycles_")) for c in rows if c.startswith("cycles_")}):
        table = by_steps(rows, f"cycles_{H}").dropna()
        near = [n for n in table if n <= learned]
        parts = {"as trained": table[near].mean(axis=1), "longer": table.drop(columns=near).mean(axis=1)}
        found.append(pd.DataFrame(parts).assign(H=H).reset_index())
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["arm", "seed", "H"])


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """The curves of training, a row for each evaluation: arm, seed, minutes, share (of the compute), accuracy, loss."""
    names = {"minutes": "minutes", "share": "share", "valid/exact_accuracy": "accuracy", "valid/loss": "loss"}
    return runs.curves(rows, list(names)).rename(columns=names)


def levels(rows: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: `SPENT`; accuracy in % by number of steps, mean and deviation over seeds."""
    table, found = by_steps(rows), {}
    for arm, part in rows.groupby("arm", sort=False):
        line = {"seeds": len(part), "parameters": f"{part['model/parameters'].iloc[0]:,.0f}"}
        line |= {"TFLOPs": round(part["flops/training"].mean() / 1e12, 2)}
        line |= {"minutes": round(part["train/seconds"].mean() / 60, 1)}
        for n in table:
            values = 100 * table.xs(arm)[n]
            line[n] = f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")
        found[arm] = line
    return pd.DataFrame(found).T


def hard(rows: pd.DataFrame, arm: str) -> pd.Series:
    """Accuracy of an arm on problems of `HARD` steps and more, by seed."""
    table = by_steps(rows[rows["arm"] == arm]).droplevel("arm")
    return table[[n for n in table if n >= HARD]].mean(axis=1)


def against(rows: pd.DataFrame, arm: str, other: str) -> dict[str, float] | None:
    """`arm` less `other` on problems of many steps, paired by seed (`paired_difference`); None: too few seeds have both."""
    one, two = hard(rows, arm), hard(rows, other)
    return paired_difference(one, two) if len(one.index.intersection(two.index)) > 1 else None


def _kind(found: dict[str, float]) -> str:
    if not np.isfinite(found["low"]):
        return "the same in every seed"
    return "**better**" if found["low"] > 0 else "**worse**" if found["high"] < 0 else "cannot be told from it"


def verdict(rows: pd.DataFrame) -> str:
    """What recursion brings on problems of many steps, as text."""
    if RECURSIVE not in set(rows["arm"]):
        return "- Nothing to say: the table has no arm recursive."
    own = hard(rows, RECURSIVE)
    said = [
        f"- On problems of {HARD} to {max(by_steps(rows))} steps, without a chain, the recursion answers {own.mean():.1%} "
        f"right ({len(own)} seed{'s' * (len(own) > 1)})."
    ]
    for arm in OTHERS:
        if arm not in set(rows["arm"]):
            continue
        name, theirs = arm.replace("_", " "), f"{hard(rows, arm).mean():.1%}"
        if found := against(rows, RECURSIVE, arm):
            gap = f"{100 * found['mean']:+.1f} points ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
            said.append(f"- Against {name} ({theirs}): {gap}, {_kind(found)}.")
        else:
            said.append(f"- {name.capitalize()} answers {theirs}: too few seeds to tell a difference.")
    return "\n".join(said)


def more_cycles(rows: pd.DataFrame, learned: int) -> str:
    """What more H-cycles at test time than in training bring the recursion, as text."""
    table = by_cycles(rows[rows["arm"] == RECURSIVE], learned)
    if table.empty:
        return "- No run was tried with other numbers of cycles."
    trained = int(rows.loc[rows["arm"] == RECURSIVE, "H_cycles"].iloc[0])
    mean = table.groupby("H")[["as trained", "longer"]].mean()
    if trained not in mean.index or mean.index.max() <= trained:
        return f"- To be tried: {trained} H-cycles, as in training, and more."
    more = mean.loc[mean.index > trained, "longer"]
    best, seeds = more.idxmax(), table["seed"].nunique()
    text = f"- With {best} H-cycles instead of {trained} at test time: {mean.loc[best, 'as trained']:.1%} instead of "
    text += (
        f"{mean.loc[trained, 'as trained']:.1%} on problems of {learned} steps and less, {more[best]:.1%} instead of "
    )
    text += f"{mean.loc[trained, 'longer']:.1%} on longer ones ({seeds} seed{'s' * (seeds > 1)})"
    if seeds > 1:
        pair = [table[table["H"] == H].set_index("seed")["longer"] for H in (best, trained)]
        found = paired_difference(*pair)
        text += f"; on the longer ones {_kind(found)}"
    return text + "."


# --- the guide's claims about deep supervision ------------------------------------------------------------------


def time_to(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the training's compute until the validation loss is down to the lowest that every arm of that seed comes to,
    straight lines between the evaluations: a row a seed, a column an arm."""
    found = {}
    for seed, part in curves(rows).groupby("seed"):
        level = part.groupby("arm")["loss"].min().max()
        for arm, curve in part.groupby("arm"):
            low = np.minimum.accumulate(curve["loss"].to_numpy())
            found[seed, arm] = np.interp(-level, -low, curve["share"])
    return pd.Series(found).unstack()


def faster(rows: pd.DataFrame, claimed: float = 0.0) -> Measured:
    """Share of the compute until the loss that both come to, with deep supervision and without. claimed: the guide's ratio.

    Raises:
        NotThere: fewer than three seeds of both arms. So do the others.
    """
    return _lower("share of the compute until the loss that both come to", time_to(_both(rows)), claimed)


def lower(rows: pd.DataFrame, claimed: float = 0.0) -> Measured:
    """Loss after the last cycle on the test part, with deep supervision and without. claimed: the guide's ratio."""
    final = by_steps(_both(rows), "loss").dropna(axis=1).iloc[:, -1].unstack("arm")
    return _lower("loss after the last cycle (nats a token)", final, claimed)


def _both(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the recursion with deep supervision and without."""
    if missing := {RECURSIVE, WITHOUT} - set(rows["arm"]):
        raise NotThere(f"no runs of {', '.join(sorted(missing))}")
    return rows[rows["arm"].isin([RECURSIVE, WITHOUT])]


def _lower(what: str, values: pd.DataFrame, claimed: float) -> Measured:
    """Whether `values` (a row a seed, a column an arm) are lower with deep supervision."""
    values = values.dropna()
    found = compare(values[RECURSIVE], values[WITHOUT], (RECURSIVE, WITHOUT), more=False, unit="times")
    verdict = with_figure(found, claimed) if claimed else found.verdict
    return Measured(verdict, f"{what}, {found.text}", SCALE, found.seeds)


def ordered(rows: pd.DataFrame) -> Measured:
    """Runs with deep supervision whose losses fall from each cycle to the next."""
    losses = _losses(rows)
    return _share(losses, (np.diff(losses, axis=1) < 0).all(1), "they fall from each to the next")


def first_is_higher(rows: pd.DataFrame) -> Measured:
    """Runs with deep supervision whose loss is higher after the first cycle than after the last."""
    losses = _losses(rows)
    return _share(losses, (losses.iloc[:, 0] > losses.iloc[:, -1]).to_numpy(), "the first is higher than the last")


def _losses(rows: pd.DataFrame) -> pd.DataFrame:
    return by_steps(rows[rows["arm"] == RECURSIVE], "loss").dropna(axis=1)


def _share(losses: pd.DataFrame, hits: np.ndarray, what: str) -> Measured:
    text = f"losses after each cycle {', '.join(f'{x:.3f}' for x in losses.mean())} nats a token; {what}"
    seeds = enough(len(losses))
    return Measured(share(hits.sum(), len(hits)), f"{text} in {hits.sum()} of {len(hits)} runs", SCALE, seeds)


CLAIMS = {"faster convergence": faster, "lower final loss": lower, "ordered step losses": ordered}


def claims(rows: pd.DataFrame) -> pd.DataFrame:
    """The guide's claims, each with what was measured, with and without deep supervision, and the verdict."""
    found = {}
    for name, held in CLAIMS.items():
        try:
            one = held(rows)
            found[name] = {"measured": one.text, "verdict": one.verdict}
        except NotThere as reason:
            found[name] = {"measured": str(reason), "verdict": NOT_MEASURED}
    return pd.DataFrame(found).T


def say_claims(rows: pd.DataFrame) -> str:
    """`claims` as text."""
    return "\n".join(f"- {name}: **{row['verdict']}**. {row['measured']}" for name, row in claims(rows).iterrows())


def chapter_metrics(rows: pd.DataFrame) -> dict[str, list[float]]:
    """recursive_lm/accuracy and those of the arms that it is held against: lists over the number of steps, means over seeds."""
    names = {RECURSIVE: "", "same_parameters": "_same_parameters", "same_compute": "_same_compute", "chain": "_chain"}
    names |= {"looped": "_looped", WITHOUT: "_last_only"}
    mean = by_steps(rows).groupby("arm").mean()
    return {f"recursive_lm/accuracy{names[arm]}": mean.loc[arm].tolist() for arm in mean.index if arm in names}
