"""What runs support: the forms of `trm.scaling.laws` compared, with intervals and a size held out, and said in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from numpy.typing import ArrayLike

from trm.errors import UserError
from trm.scaling.laws import DELTA, FORMS, NAMES, STEEPEST, Fit, bootstrap, checked, fit, hold_out, too_few

REPORTED = ("E", "alpha", "beta", "b", "c")  # parameters that a verdict speaks of


@dataclass(frozen=True)
class Study:
    """All that `verdict` speaks of. table: a row a form, best first. refused: reasons by form. supported: the simplest form
    within 2 of the lowest AICc. intervals: of its parameters, or of the log-linear ones if it is the constant. held_out:
    the numbers of `hold_out` for it, or the reason for having none."""

    table: pd.DataFrame
    fits: dict[str, Fit]
    refused: dict[str, str]
    supported: str
    intervals: pd.DataFrame | None
    held_out: dict[str, float] | str
    coverage: float


def compare(fits: Sequence[Fit]) -> pd.DataFrame:
    """Fits of the same runs, best first: columns parameters, huber (summed, in delta^2), AICc, behind (AICc less the best)."""
    rows = {f.form: {"parameters": len(f.theta), "huber": f.loss, "AICc": f.aicc} for f in fits}
    table = pd.DataFrame(rows.values(), index=list(rows)).sort_values("AICc", kind="stable")
    return table.assign(behind=table["AICc"] - table["AICc"].min())


def study(
    x: ArrayLike, y: ArrayLike, coverage: float = 0.9, resamples: int = 1000, seed: int = 0, delta: float = DELTA
) -> Study:
    """Fits, compares, bootstraps and holds out. A power law is compared where the distinct points outnumber its parameters
    by two (5 in one variable, 7 in two), log-linear from 3 (4); AICc wants three runs more than parameters as well.

    x (n,) or (n, 2), y (n,); the other arguments as in `fit` and `bootstrap`.

    Raises:
        UserError: values that are no positive numbers, or hardly a draw of the bootstrap has enough points.
    """
    x, y = checked(x, y, delta)
    refused = {form: too_few(x, form, 2 if form == "power law" else 1) for form in FORMS}
    for form in FORMS[1:]:
        needed = len(NAMES[form, x.shape[1]]) + 3
        if not refused[form] and len(y) < needed:
            refused[form] = f"too few runs for {form}: {len(y)}, and AICc takes {needed}"
    fits = {form: fit(x, y, form, delta) for form in FORMS if not refused[form]}
    table = compare(list(fits.values()))
    supported = next(form for form in FORMS if form in fits and not table["behind"][form] > 2)
    shown = supported if supported != "constant" else "log-linear"
    intervals = bootstrap(fits[shown], x, y, coverage, resamples, seed) if shown in fits else None
    try:
        held_out = hold_out(x, y, supported, delta)
    except UserError as reason:
        held_out = str(reason)
    return Study(table, fits, {f: r for f, r in refused.items() if r}, supported, intervals, held_out, coverage)


def verdict(found: Study) -> str:
    """What the runs support, in sentences whose numbers come from `found`."""
    if "log-linear" in found.refused:
        return f"**Measured: nothing about a trend**: {found.refused['log-linear']}."
    behind, runs, best = found.table["behind"], found.fits["constant"].runs, found.table.index[0]
    others = ", ".join(f"{form} by {gap:.1f}" for form, gap in behind.items() if form != best)
    shown = found.intervals.loc[[name for name in found.intervals.index if name in REPORTED]]
    floor = "no floor is needed" if "power law" in found.fits else "no floor was looked for"
    falls = (shown["estimate"] > 0).all(), (shown["estimate"] <= 0).all()
    said = {
        "constant": "no trend" if best == "constant" else "no trend that is sure",
        "log-linear": f"a trend, and {floor}"
        if falls[0]
        else "a trend, but no fall"
        if falls[1]
        else "a fall along one size alone",
        "power law": "a power law with a floor",
    }
    text = f"**Measured: {said[found.supported]}.** Over {runs} runs the {best} form has the lowest AICc, ahead of {others}"
    if best != found.supported:
        text += f"; less than 2 is no difference, so the simpler {found.supported} form stands"
    text += ". " + "".join(f"Not compared: {reason}. " for reason in found.refused.values())
    text += ", ".join(f"{r.Index} = {r.estimate:.3g} ({r.low:.3g} to {r.high:.3g})" for r in shown.itertuples())
    text += f", {found.coverage:.0%} intervals by bootstrap over runs. "
    powers = shown[shown.index.isin(["alpha", "beta"])]
    for name in powers.index[(powers["high"] - powers["low"] > powers["estimate"]) | (powers["high"] > STEEPEST / 2)]:
        text += f"{name} is hardly determined by these runs. "
    if isinstance(found.held_out, str):
        return f"{text}Nothing was held out: {found.held_out}."
    held = found.held_out
    return (
        f"{text}Fitted without the largest size ({held['size']:.3g}; runs: {held['runs']:.0f}), the {found.supported} form "
        f"predicts {held['predicted']:.3g} there, observed {held['observed']:.3g}: {held['log_error']:+.1%} in log."
    )
