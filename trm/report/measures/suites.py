"""Chapter 10's tables: the suites of the scaling research and of the TPU quick start."""

import fnmatch
from pathlib import Path

import pandas as pd
from scipy import stats

from trm.puzzles.params import TrmTrain
from trm.report.verdicts import (
    CONTRADICTED,
    NOT_SUPPORTED,
    OTHER_SCALE,
    SUPPORTED,
    Measured,
    NotThere,
    against_all,
    agrees,
    arm,
    compare,
    enough,
    measure,
    more_efficient,
    read_table,
    with_figure,
)

EXACT = "test/exact_accuracy"
SCALING, QUICKSTART = "10_scaling_research.csv", "10_tpu_quickstart.csv"


def _suite(tables: Path, name: str, *patterns: str) -> pd.DataFrame:
    """The runs of a suite's cases that match; a pattern that matches none is missing.

    Raises:
        NotThere: the table, its columns or the cases are missing.
    """
    table = read_table(tables, name, "case", columns=[EXACT, "puzzle"])
    for pattern in patterns:
        if not fnmatch.filter(table["case"], pattern):
            raise NotThere(f"{name} has no runs of {pattern}")
    return table[[any(fnmatch.fnmatch(case, p) for p in patterns) for case in table["case"]]]


def _suite_scale(runs: pd.DataFrame) -> str:
    def spread(column, unit):
        if column not in runs:
            return ""
        low, high = runs[column].min(), runs[column].max()
        return f", {low:,.0f} {unit}" if low == high else f", {low:,.0f} to {high:,.0f} {unit}"

    puzzles = " and ".join(sorted(runs["puzzle"].unique()))
    return f"{puzzles} Sudoku{spread('model/parameters', 'parameters')}{spread('train/steps', 'steps')}"


def _named(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, their cases named by the parameters in which they differ, such as "hidden_size 96"."""
    settings = [name for name in TrmTrain.model_fields if name in runs and name != "seed" and runs[name].nunique() > 1]
    names = {}
    for case, rows in runs.groupby("case", sort=False):
        names[case] = ", ".join(f"{c} {rows[c].iloc[0]}" for c in settings) or case
    return runs.assign(case=runs["case"].map(names)) if len(set(names.values())) == len(names) else runs


@measure("best_width", group="exp01?")
@measure("best_L_cycles", group="exp02?")
@measure("best_H_cycles", group="exp03?")
@measure("best_depth_pattern", group="exp04?")
@measure("best_train_size", group="exp05[a-f]")
@measure("best_num_aug", group="exp05[g-k]")
@measure("best_supervision_steps", group="exp06?")
@measure("best_ema", group="exp09?")
@measure("best_optimizer", group="exp10?")
def best_of(tables: Path, group: str) -> Measured:
    """Is there a best configuration that can be told from all the others?"""
    runs = _suite(tables, SCALING, group)
    named = _named(runs)
    means = named.groupby("case", sort=False)[EXACT].mean()
    if len(means) < 2:
        raise NotThere(f"{SCALING} has one configuration of {group} alone")
    best = means.idxmax()
    found = against_all(named, best, [name for name in means.index if name != best], EXACT, "case")
    return Measured(found.verdict, "best is " + found.text, _suite_scale(runs), found.seeds)


@measure("best_t_n")
def best_t_n(tables: Path) -> Measured:
    """The quick start's baseline recursion, T=3 and n=6 (H_cycles and L_cycles), against its other four."""
    runs = _suite(tables, QUICKSTART, "e2_2_t3_n6", "e2_2_*")
    rivals = [case for case in runs["case"].unique() if case != "e2_2_t3_n6"]
    found = against_all(runs, "e2_2_t3_n6", rivals, EXACT, "case")
    return Measured(found.verdict, found.text, _suite_scale(runs), found.seeds)


@measure("curriculum_recursion")
def curriculum_recursion(tables: Path) -> Measured:
    """The suite's two curricula of depth against the baseline, at equal steps (and so at less compute)."""
    runs = _suite(tables, SCALING, "baseline", "contrib01?")
    names = sorted(set(runs["case"]) - {"baseline"})
    base = arm(runs, "baseline", EXACT, "case")
    found = [compare(arm(runs, n, EXACT, "case"), base, (n, "the baseline"), tests=len(names)) for n in names]
    verdicts = [one.verdict for one in found]
    verdict = next((v for v in (SUPPORTED, NOT_SUPPORTED) if v in verdicts), CONTRADICTED)
    text = "puzzles solved at equal steps, " + "; ".join(one.text for one in found)
    return Measured(verdict, text, _suite_scale(runs), min(one.seeds for one in found))


@measure("adaptive_halting")
def adaptive_halting(tables: Path) -> Measured:
    """The suite's two annealed explorations against the baseline: steps by its own head, and puzzles then solved."""
    runs = _suite(tables, SCALING, "baseline", "contrib02?")
    columns = ("test/halted_exact_accuracy", "test/mean_steps")
    if not set(columns) <= set(runs):
        raise NotThere(f"{SCALING} has no columns {', '.join(columns)}")
    names = sorted(set(runs["case"]) - {"baseline"})
    verdict, text, seeds = more_efficient(runs, names, "baseline", "case", *columns)
    return Measured(verdict, text, _suite_scale(runs), seeds)


@measure("ema_off_drops", table=SCALING, case="exp09a", base="exp09b", claimed=None)
@measure("ema_off_figure", table=SCALING, case="exp09a", base="exp09b", claimed=0.721 - 0.874)
@measure("attention_figure", table=QUICKSTART, case="e2_3_attention", base="e1_1_baseline", claimed=0.836 - 0.874)
def drops(tables: Path, table: str, case: str, base: str, claimed: float | None) -> Measured:
    """What a change costs, and whether it costs as much as claimed."""
    runs = _suite(tables, table, case, base)
    named = _named(runs)
    names = [named.loc[runs["case"] == one, "case"].iloc[0] for one in (case, base)]
    found = compare(*(arm(runs, one, EXACT, "case") for one in (case, base)), names, more=False)
    verdict = found.verdict if claimed is None else with_figure(found, claimed)
    said = "" if claimed is None else f"; the guide's figures differ by {100 * claimed:+.1f} points"
    return Measured(verdict, f"puzzles solved, {found.text}{said}", _suite_scale(runs), found.seeds)


@measure("baseline_87", least=None, claimed=0.87)
@measure("baseline_874", least=None, claimed=0.874)
@measure("baseline_85", least=0.85, claimed=None)
def baseline_accuracy(tables: Path, least: float | None, claimed: float | None) -> Measured:
    """The baseline's accuracy; judged on Sudoku-Extreme alone, the puzzles that the guide speaks of."""
    runs = _suite(tables, QUICKSTART, "e1_1_baseline")
    values = arm(runs, "e1_1_baseline", EXACT, "case")
    half = stats.t.ppf(0.975, enough(len(values)) - 1) * values.std() / len(values) ** 0.5
    text = f"the baseline solves {values.mean():.1%} (95 % interval {values.mean() - half:.1%} to {values.mean() + half:.1%})"
    if not ("data_path" in runs and runs["data_path"].astype(str).str.contains("extreme").all()):
        return Measured(OTHER_SCALE, f"{text} of other, easier puzzles", _suite_scale(runs), len(values))
    holds = values.mean() - half >= least if least is not None else abs(values.mean() - claimed) <= max(half, 0.01)
    return Measured(agrees(holds), text, _suite_scale(runs), len(values))
