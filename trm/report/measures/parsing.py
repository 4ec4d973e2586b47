"""Chapter 05's tables: a parser with iterations, deep supervision and halting, on UD English EWT."""

from pathlib import Path

import pandas as pd

from trm import stats
from trm.parsing.evaluate import sentence_interval
from trm.report.verdicts import (
    CONTRADICTED,
    NOT_SUPPORTED,
    OTHER_SCALE,
    SUPPORTED,
    Comparison,
    Measured,
    arm,
    compare,
    enough,
    measure,
    read_table,
    with_figure,
)

UAS = "test/uas"
CLAIMED_GAIN = 0.0035  # of deep supervision, by PoT
ITERATED = ("standard", "deep_supervision", "act_halting", "both")
LONG = ("arc/9 to 16", "arc/17+")


def _ablation(tables: Path, *arms: str, columns: tuple[str, ...] = ()) -> tuple[pd.DataFrame, str]:
    """The rows of the ablation, and their scale in words."""
    needed = [UAS, "train/epochs", "train/seconds", "model/parameters", *columns]
    table = read_table(tables, "05_ablation.csv", arms=arms, columns=needed)
    size = table[table["arm"].isin(arms or table["arm"])]
    scale = f"UD English EWT, {size['model/parameters'].max() / 1e6:.1f} million parameters, "
    low, high = round(size["train/epochs"].min()), round(size["train/epochs"].max())
    return table, scale + (f"{low} epochs" if low == high else f"{low} to {high} epochs")


def _against(table: pd.DataFrame, name: str, base: str, column: str = UAS, tests: int = 1) -> Comparison:
    return compare(arm(table, name, column), arm(table, base, column), (name, base), tests=tests)


@measure("parser_iterations_cannot_help", names=ITERATED)
@measure("parser_saturates", names=("standard",))
def iterations_cannot_help(tables: Path, names: tuple[str, ...]) -> Measured:
    """Is one iteration as good? SUPPORTED where no interval (the risk shared among the arms) reaches the gain that the guide
    speaks of, CONTRADICTED where some arm that iterates is better for sure."""
    table, scale = _ablation(tables, "one_iteration", *names, columns=("test/las", "test/mean_steps"))
    found = [_against(table, name, "one_iteration", tests=len(names)) for name in names]
    sentences = pd.read_parquet(tables / "05_ablation_sentences.parquet")
    lows, highs = [], []
    for name in names:
        gain = stats.compare(table, UAS, name, "one_iteration", tests=len(names))
        low, high = sentence_interval(sentences, name, "one_iteration", coverage=1 - stats.LEVEL / len(names))
        lows.append(min(gain.low, low))
        highs.append(max(gain.high, high))
    better, small = max(lows) > 0, max(highs) < CLAIMED_GAIN
    verdict = CONTRADICTED if better else SUPPORTED if small else NOT_SUPPORTED
    return Measured(verdict, "UAS, " + "; ".join(one.text for one in found), scale, min(one.seeds for one in found))


@measure("parser_deep_supervision")
@measure("parser_deep_supervision_035", claimed=CLAIMED_GAIN)
@measure("parser_deep_supervision_003", claimed=0.0003)
def deep_supervision(tables: Path, claimed: float = 0.0) -> Measured:
    """Deep supervision against the same iterations without it, at equal compute."""
    table, scale = _ablation(tables, "deep_supervision", "standard")
    found = _against(table, "deep_supervision", "standard")
    verdict = with_figure(found, claimed) if claimed else found.verdict
    return Measured(verdict, "UAS, " + found.text, scale, found.seeds)


@measure("parser_uas_one", name="one_iteration", claimed=0.9795)
@measure("parser_uas_three", name="standard", claimed=0.9790)
def level(tables: Path, name: str, claimed: float) -> Measured:
    """The guide's figure on the same treebank. (Its parser was tested on what it had been trained on.)"""
    table, scale = _ablation(tables, name)
    uas = arm(table, name, UAS)
    reached = uas.mean() >= claimed - 0.005
    text = f"UAS of {name} {uas.mean():.1%}; the best published parser with tuned encoders has 93.4 % on gold tokens (UDPipe 2)"
    return Measured(SUPPORTED if reached else CONTRADICTED, text, scale, enough(len(uas)))


@measure("parser_dilution")
def dilution(tables: Path) -> Measured:
    """Was a weak gradient what held iterations back? Then supervision of every iteration would help, and the gradient of the
    first iteration would be the smaller one without it."""
    columns = tuple(f"gradients/iteration_{i}" for i in (1, 3))
    table, scale = _ablation(tables, "deep_supervision", "standard", columns=columns)
    found = _against(table, "deep_supervision", "standard")
    first, last = (arm(table, "standard", column).mean() for column in columns)
    verdict = found.verdict if first < last or found.verdict != SUPPORTED else CONTRADICTED
    text = f"without supervision the gradient at iteration 1 is {first / last:.2f} times that at iteration 3; UAS, {found.text}"
    return Measured(verdict, text, scale, found.seeds)


@measure("parser_early_iterations")
def early_iterations(tables: Path) -> Measured:
    """The tree after the first of three iterations, with a loss on it and without."""
    column = f"{UAS}_per_iteration_1"
    table, scale = _ablation(tables, "deep_supervision", "standard", columns=(column,))
    found = _against(table, "deep_supervision", "standard", column)
    return Measured(found.verdict, "UAS after the first iteration, " + found.text, scale, found.seeds)


@measure("parser_one_hop")
def one_hop(tables: Path) -> Measured:
    """If one look were enough, long arcs would gain nothing from more: CONTRADICTED where they do."""
    table, scale = _ablation(tables, "standard", "one_iteration", columns=LONG)
    found = [_against(table, "standard", "one_iteration", column, tests=len(LONG)) for column in LONG]
    gains = any(one.verdict == SUPPORTED for one in found)
    text = "; ".join(f"{name.removeprefix('arc/')} words: {one.text}" for name, one in zip(LONG, found))
    return Measured(CONTRADICTED if gains else NOT_SUPPORTED, "UAS of long arcs, " + text, scale, found[0].seeds)


@measure("parser_hours")
def hours(tables: Path) -> Measured:
    """What both arms of the guide's first experiment take here, on one core each."""
    table, scale = _ablation(tables, "deep_supervision", "standard")
    minutes = sum(arm(table, name, "train/seconds").mean() / 60 for name in ("standard", "deep_supervision"))
    text = f"both arms together {minutes:.0f} minutes of one core; another parser and another processor"
    return Measured(OTHER_SCALE, text, scale, enough(table["seed"].nunique()))


@measure("parser_decides")
def decides(tables: Path) -> Measured:
    """Would so many seeds have shown the gain that the guide speaks of, in four of five cases?"""
    table, scale = _ablation(tables, "deep_supervision", "standard")
    pair = [arm(table, name, UAS) for name in ("deep_supervision", "standard")]
    enough(len(pair[0]))
    least = stats.paired(*pair).mde
    text = f"{len(pair[0])} seeds would show a difference of {100 * least:.2f} points in four of five cases"
    return Measured(SUPPORTED if least <= CLAIMED_GAIN else NOT_SUPPORTED, text, scale, len(pair[0]))


@measure("controller_gradient_recurrent", name="recurrent", claimed=1.76e-2)
@measure("controller_gradient_static", name="static", claimed=1.24e-2)
def controller_gradient(tables: Path, name: str, claimed: float) -> Measured:
    """Norm of the gradient at the controller after training. No scale is given with the guide's figure."""
    gradient = _controllers(tables)[name]
    text = f"norm at the {name} controller {gradient.mean():.2e}, mean over {len(gradient)} runs"
    return Measured(OTHER_SCALE, text, CONTROLLERS, enough(gradient.index.nunique()))


@measure("controller_ratio", claimed=0.7)
def controller_ratio(tables: Path, claimed: float) -> Measured:
    """Static over recurrent, matched by seed."""
    found = _controllers(tables)
    gap = compare(found["static"], found["recurrent"], ("static", "recurrent"), more=False, unit="times")
    return Measured(with_figure(gap, claimed), "gradient norm, " + gap.text, CONTROLLERS, gap.seeds)


CONTROLLERS = "2,000 sentences of UD English EWT, deep supervision"


def _controllers(tables: Path) -> dict[str, pd.Series]:
    """Gradient norm at each controller with soft routing, by seed."""
    table = read_table(
        tables, "05_controllers.csv", "controller", ("static", "recurrent"), ["gradients/controller", "routing"]
    )
    soft = table[table["routing"] == "soft"]
    return {name: arm(soft, name, "gradients/controller", "controller") for name in ("static", "recurrent")}
