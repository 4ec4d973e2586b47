"""How measured numbers become verdicts: the rules by which a claim is held against a table of runs.

A claim that something is better (faster, lower) is a difference of two arms, matched by seed: a paired t-test over the
seeds, at least three of them. A claim about every run is a share of the runs. What a table cannot answer is `NotThere`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from trm.errors import UserError
from trm.stats_old import paired_difference

SUPPORTED, IN_PART, NOT_SUPPORTED = "supported", "in part", "not supported"
CONTRADICTED, OTHER_SCALE, NOT_MEASURED = "contradicted", "differs at this scale", "not measured"
VERDICTS = {
    SUPPORTED: "what was measured agrees: a difference that can be told from none, or nearly every run",
    IN_PART: "it holds for some of what was measured and not for the rest",
    NOT_SUPPORTED: "measured, and no difference can be told with these seeds",
    CONTRADICTED: "the difference is the other way, nearly no run agrees, or the figure is another",
    OTHER_SCALE: "the figure is of another task or size; the one measured here decides nothing about it",
    NOT_MEASURED: "nothing here measures it, or too few seeds do",
}
SURE = 0.05  # a p-value below it tells a difference, shared among the tests of one claim (Bonferroni)
LEAST_SEEDS = 3
NEARLY_ALL = 0.95  # share of the runs that counts as all; its complement counts as none


class NotThere(Exception):
    """What is missing for a measurement; the reason that the reader is given."""


@dataclass(frozen=True)
class Measured:
    """What a claim came to. text: a sentence; scale: at what it was measured; seeds: how many, None where there are none."""

    verdict: str
    text: str
    scale: str = ""
    seeds: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Two arms against each other: verdict, sentence, seeds, and the interval of the difference (ratios for "times")."""

    verdict: str
    text: str
    seeds: int
    mean: float
    low: float
    high: float


MEASURES: dict[str, Callable[[Path], Measured]] = {}


def measure(name: str, /, **options) -> Callable:
    """Decorator: make the function known as the measurement `name`, with these options."""

    def register(function):
        if name in MEASURES:
            raise ValueError(f"two measurements are called {name!r}")
        MEASURES[name] = partial(function, **options)
        return function

    return register


def read_table(
    folder: Path, name: str, key: str = "arm", arms: Iterable[str] = (), columns: Iterable[str] = (), seeded=True
) -> pd.DataFrame:
    """The table `name` of a folder, with `arms` in its column `key`, with `columns`, and with a column seed if `seeded`.

    Raises:
        NotThere: the file, an arm or a column is missing.
    """
    try:
        table = pd.read_csv(folder / name)
    except FileNotFoundError:
        raise NotThere(f"wants the table {name}") from None
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise NotThere(f"{name} cannot be read ({error})") from None
    if missing := [column for column in (key, *(["seed"] if seeded else []), *columns) if column not in table]:
        raise NotThere(f"{name} has no column {', '.join(missing)}")
    if missing := sorted(set(arms) - set(table[key].astype(str))):
        raise NotThere(f"{name} has no runs of {', '.join(missing)}")
    return table


def arm(table: pd.DataFrame, name: str, column: str, key: str = "arm") -> pd.Series:
    """`column` of one arm, by seed."""
    return table[table[key] == name].set_index("seed")[column]


def enough(seeds: int) -> int:
    """`seeds`, if they are enough to say anything.

    Raises:
        NotThere: they are not.
    """
    if seeds < LEAST_SEEDS:
        raise NotThere(f"too few seeds: {seeds}, and {LEAST_SEEDS} at least are wanted")
    return seeds


def compare(
    a: pd.Series, b: pd.Series, names: Sequence[str], more: bool = True, unit: str = "points", tests: int = 1
) -> Comparison:
    """Is `a` more (or less) than `b`, seed by seed? SUPPORTED, CONTRADICTED, or NOT_SUPPORTED where it cannot be told.

    Args:
        a, b: values by seed. names: of the two arms.
        more: what is claimed of a. tests: how many comparisons share the risk.
        unit: "points" for shares from 0 to 1, "times" for ratios (of positive numbers), else a word after a difference.

    Raises:
        NotThere: fewer than three seeds in common, or values that no difference can be taken of.
    """
    enough(len(a.index.intersection(b.index)))
    if unit == "times" and not (min(a.min(), b.min()) > 0):
        raise NotThere("a ratio wants numbers above 0")
    try:
        gap = paired_difference(*((np.log(x) if unit == "times" else x) for x in (a, b)))
    except UserError as error:
        raise NotThere(str(error)) from None
    verdict = NOT_SUPPORTED
    if gap["p"] < SURE / tests:  # not so where p is NaN: all differences are the same
        verdict = SUPPORTED if (gap["mean"] > 0) == more else CONTRADICTED
    mean, low, high = (np.exp(gap[k]) if unit == "times" else gap[k] for k in ("mean", "low", "high"))
    if unit == "points":
        levels = f"{a.mean():.1%} against {b.mean():.1%}"
        sizes = f"{100 * mean:+.1f} points", f"{100 * low:+.1f} to {100 * high:+.1f}"
    elif unit == "times":
        levels = f"{a.mean():.3g} against {b.mean():.3g}"
        sizes = f"{mean:.2f} times", f"{low:.2f} to {high:.2f}"
    else:
        levels = f"{a.mean():.3g} against {b.mean():.3g}"
        sizes = f"{round(mean, 2) + 0.0:+.2f} {unit}", f"{low:+.2f} to {high:+.2f}"
    spread = f"95 % interval {sizes[1]}, p = {gap['p']:.2g}" if np.isfinite(gap["p"]) else "the same for every seed"
    text = f"{names[0]} {levels} for {names[1]}: {sizes[0]} ({spread})"
    return Comparison(verdict, text, gap["n"], float(mean), float(low), float(high))


def against_all(table: pd.DataFrame, name: str, rivals: Sequence[str], column: str, key: str = "arm") -> Comparison:
    """Has `name` more of `column` than each of the rivals? IN_PART where it can be told from some of them only.

    Raises:
        NotThere: as in `compare`.
    """
    values = arm(table, name, column, key)
    found = {
        rival: compare(values, arm(table, rival, column, key), (name, rival), tests=len(rivals)) for rival in rivals
    }
    by = {v: [rival for rival in found if found[rival].verdict == v] for v in VERDICTS}
    if by[CONTRADICTED]:
        verdict = CONTRADICTED
    else:
        verdict = NOT_SUPPORTED if not by[SUPPORTED] else IN_PART if by[NOT_SUPPORTED] else SUPPORTED
    words = {SUPPORTED: "better than", NOT_SUPPORTED: "not to be told from", CONTRADICTED: "worse than"}
    levels = {rival: f"{rival} ({arm(table, rival, column, key).mean():.1%})" for rival in rivals}
    pieces = [f"{words[v]} {', '.join(levels[r] for r in by[v])}" for v in words if by[v]]
    nearest = min(found.values(), key=lambda c: c.mean)
    text = f"{name} ({values.mean():.1%}): {'; '.join(pieces)}"
    return Comparison(verdict, text, min(c.seeds for c in found.values()), nearest.mean, nearest.low, nearest.high)


def agrees(holds: bool) -> str:
    """SUPPORTED or CONTRADICTED: the verdict on a figure that is right or wrong."""
    return SUPPORTED if holds else CONTRADICTED


def share(hits: int, total: int) -> str:
    """SUPPORTED where nearly all of `total` are hits, CONTRADICTED where nearly none, IN_PART between."""
    if not total:
        raise NotThere("no runs to count")
    return SUPPORTED if hits / total >= NEARLY_ALL else CONTRADICTED if hits / total <= 1 - NEARLY_ALL else IN_PART


def with_figure(found: Comparison, claimed: float) -> str:
    """The verdict on a claimed size of a difference: where the direction holds but the size is none of the interval's, the
    figure is one of another scale."""
    if found.verdict == SUPPORTED and not found.low <= claimed <= found.high:
        return OTHER_SCALE
    return found.verdict


def more_efficient(
    table: pd.DataFrame, names: list[str], base: str, key: str, accuracy: str, steps: str
) -> tuple[str, str, int]:
    """(verdict, text, seeds): does any of `names` take fewer steps than `base`, with no loss of accuracy that can be told?

    key: the column that names the arms; accuracy, steps: columns of shares and of mean steps.
    """
    verdicts, pieces, seeds = [], [], []
    for name in names:
        fewer, right = (
            compare(arm(table, name, column, key), arm(table, base, column, key), (name, base), more, unit, len(names))
            for column, more, unit in ((steps, False, "steps"), (accuracy, True, "points"))
        )
        lost = CONTRADICTED in (fewer.verdict, right.verdict)
        verdicts.append(CONTRADICTED if lost else fewer.verdict)
        pieces.append(f"mean steps, {fewer.text}; puzzles solved {right.text}")
        seeds.append(min(fewer.seeds, right.seeds))
    verdict = next((v for v in (SUPPORTED, NOT_SUPPORTED) if v in verdicts), CONTRADICTED)
    return verdict, "; ".join(pieces), min(seeds)
