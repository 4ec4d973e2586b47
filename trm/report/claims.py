"""The claims of the source projects, judged by the tables of runs.

book/claims.yaml holds each claim as data; `judge` turns one into a verdict: an arm against another (or against another
metric of its own, or a number), paired by seed. What has no table, arm or column is "not measured", never an error.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trm.errors import UserError
from trm.escape import in_figure, in_html
from trm.params import did_you_mean, plainly
from trm.plots import INK
from trm.stats import Comparison, by_seed, paired, read_table
from trm.text_files import read_yaml

SOURCES = ("SonarRecursiveModel", "llm-trm", "PoT", "TinyRecursiveModels", "TinyRecursiveModels (TPU)")
SUPPORTED, NOT_SUPPORTED, CONTRADICTED = "supported", "not supported", "contradicted"
NOT_MEASURED = "not measured"
# with colours that colour-blind readers can distinguish (Okabe and Ito)
VERDICTS = {SUPPORTED: "#0072b2", NOT_SUPPORTED: "#e69f00", CONTRADICTED: "#c4500a", NOT_MEASURED: "#d9d9d9"}


class Claim(BaseModel):
    """A claim in the words of its source, and the comparison that decides it (see the head of book/claims.yaml)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str = Field(min_length=1)
    source: Literal[SOURCES]
    section: str = Field(min_length=1)
    quote: str = Field(min_length=1)
    about: str = ""
    # either a comparison ...
    table: str = ""
    where: dict[str, str | int | float] = {}
    key: str = "arm"
    pair: str = "seed"
    metric: str = ""
    arm: str = ""
    versus: str | float | list[str] = ""
    versus_metric: str = ""
    over: Literal["last", "mean", "change"] = "last"
    ratio: bool = False
    unit: str = "points"
    expect: Literal["greater", "less", "equal"] = "greater"
    claimed: float | None = None
    # ... or a fact about the source itself, or what a measurement would require
    verdict: Literal["contradicted"] | None = None
    because: str = ""
    why: str = ""

    @model_validator(mode="after")
    def _one_way_to_a_verdict(self) -> Self:
        if sum(map(bool, (self.table, self.because, self.why))) != 1:
            raise ValueError("give one of `table`, `because` and `why`")
        if bool(self.because) != bool(self.verdict):
            raise ValueError("`verdict: contradicted` and `because` go together")
        if self.table and not (self.metric and self.arm and (self.versus != "" or self.versus_metric)):
            raise ValueError("a comparison requires `metric`, `arm` and `versus` or `versus_metric`")
        if self.expect == "equal" and self.claimed is None:
            raise ValueError("`expect: equal` requires `claimed`, the largest difference that counts as none")
        return self


@dataclass(frozen=True)
class Outcome:
    """A verdict, the numbers or the reason in words, the number of seeds (0: nothing was compared), and what was compared, by
    the name of the other arm."""

    verdict: str
    text: str
    seeds: int = 0
    comparisons: dict[str | float, Comparison] = field(default_factory=dict)


def judge(claim: Claim, tables: Path) -> Outcome:
    """The verdict on a claim by the tables of a folder.

    supported: every comparison is significant in the direction that was claimed, and a claimed size lies in the interval
    (expect equal: the interval lies within the claimed size). contradicted: one is significant in the other direction.
    not supported: neither.
    """
    if not claim.table:
        return Outcome(CONTRADICTED if claim.because else NOT_MEASURED, claim.because or claim.why)
    tables = tables.absolute()  # as in messages
    several = claim.versus if isinstance(claim.versus, list) else [claim.versus]
    try:
        rows = read_table(tables / claim.table, [*claim.where, claim.key, claim.pair])
        for name, value in claim.where.items():
            rows = rows[rows[name].astype(str) == str(value)]
        if claim.pair != "seed":
            rows = rows.drop(columns="seed", errors="ignore").rename(columns={claim.pair: "seed"})
        arm = _per_seed(claim, rows, claim.metric, claim.arm)
        found = {}
        for name in several:
            other = pd.Series(name, arm.index)
            if isinstance(name, str):
                other = _per_seed(claim, rows, claim.versus_metric or claim.metric, name or claim.arm)
            found[name if name != "" else claim.versus_metric] = paired(arm, other, claim.ratio, tests=len(several))
    except UserError as error:
        return Outcome(NOT_MEASURED, str(error).removeprefix(f"{tables}/").partition(";")[0])
    intervals = [(c.low, c.high) for c in found.values()]
    if claim.expect == "equal":
        within = all(max(abs(low), abs(high)) <= claim.claimed for low, high in intervals)
        beyond = any(low > claim.claimed or high < -claim.claimed for low, high in intervals)
    else:
        signs = [c.sign * (1 if claim.expect == "greater" else -1) for c in found.values()]
        sized = claim.claimed is None or all(low <= claim.claimed <= high for low, high in intervals)
        within, beyond = min(signs) == 1 and sized, -1 in signs
    verdict = SUPPORTED if within else CONTRADICTED if beyond else NOT_SUPPORTED
    text = "; ".join(_words(claim, name, one, verdict) for name, one in found.items())
    return Outcome(verdict, text, min(one.seeds for one in found.values()), found)


def _per_seed(claim: Claim, rows: pd.DataFrame, metric: str, arm: str) -> pd.Series:
    """A metric ("a / b": the ratio of two) of an arm, one value per seed where the table has several (a curve); means of
    what is compared as a ratio are geometric."""
    top, _, bottom = metric.partition(" / ")
    values = by_seed(rows, top, arm, claim.key)
    if bottom:
        values = values / by_seed(rows, bottom, arm, claim.key).to_numpy()
    if claim.ratio and claim.over == "mean":
        return np.exp(np.log(values).groupby(level=0).mean())
    seeds = values.groupby(level=0)
    return seeds.last() - seeds.first() if claim.over == "change" else seeds.agg(claim.over)


def _words(claim: Claim, versus: str | float, one: Comparison, verdict: str) -> str:
    """The numbers of a comparison as a sentence."""
    percent = claim.unit == "points" and not claim.ratio
    means = [f"{mean:.1%}" if percent else f"{mean:.3g}" for mean in (one.arm_mean, one.baseline_mean)]
    other = f"{versus} {means[1]}" if isinstance(versus, str) else f"compared with {versus:g}"
    effect = one.say(claim.unit, 1 if percent else 6 if claim.expect == "equal" else 2)
    text = f"{claim.metric}: {claim.arm} {means[0]}, {other}: {effect.replace('seeds', f'{claim.pair}s')}"
    if claim.claimed is not None:
        text += f"; claimed {100 * claim.claimed:+g} points" if percent else f"; claimed {claim.claimed:g}"
    if verdict == NOT_SUPPORTED and np.isfinite(one.mde):
        size = f"{np.exp(one.mde):.2f} times" if claim.ratio else f"{one.mde:.2g} {claim.unit}"
        text += f"; minimum detectable effect {f'{100 * one.mde:.1f} points' if percent else size}"
    return text


def read_claims(path: Path) -> list[Claim]:
    """The claims of a YAML file; a UserError names the file, the entry, the field, and how to fix it."""
    entries = read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: give a list of entries such as `- {{id: ds01, source: ..., quote: ...}}`")
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, 1):
        claim = _checked(entry, f"{path}, entry {number}")
        if claim.id in claims:
            raise UserError(f"{path}, entry {number}: id {claim.id!r} is there twice; give it one of its own")
        claims[claim.id] = claim
    return list(claims.values())


def _checked(entry: Any, where: str) -> Claim:
    if isinstance(entry, dict) and entry.get("id"):
        where += f" ({entry['id']})"
    try:
        return Claim.model_validate(entry)
    except ValidationError as error:
        fault = error.errors()[0]
    name, message = ".".join(map(str, fault["loc"])), plainly(fault)
    if fault["type"] == "extra_forbidden":
        message = f"unknown; {did_you_mean(name, Claim.model_fields) or 'there are ' + ', '.join(Claim.model_fields)}"
    elif fault["type"] != "missing" and name:
        message = f"{fault['input']!r}: {message}"
    raise UserError(f"{where}: " + (f"field {name!r}: {message}" if name else message))


def evaluate_claims(claims: Sequence[Claim], tables: Path) -> pd.DataFrame:
    """One row per claim: id, source, claim (the quotation), section, result, table, seeds, verdict; as objects, judged (the
    claim) and comparisons (of the outcome)."""
    if not tables.is_dir():
        raise UserError(f"{tables} is not a folder; give the folder of tables as `results`, such as book/results")
    rows = []
    for claim in claims:
        one = judge(claim, tables)
        quote = f"“{claim.quote.replace('**', '').strip('| ')}”" + (f" ({claim.about})" if claim.about else "")
        row = {"id": claim.id, "source": claim.source, "claim": quote, "section": claim.section, "result": one.text}
        row |= {"table": claim.table, "seeds": str(one.seeds or ""), "verdict": one.verdict}
        rows.append({**row, "judged": claim, "comparisons": one.comparisons})
    return pd.DataFrame(rows)


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per comparison behind a verdict, turned so that what was claimed is positive (a ratio: above 1).

    rows: what `evaluate_claims` returns. Columns: id, source, quote, verdict, versus, unit ("times" for ratios), effect, low,
    high (95 %, corrected for the claim's comparisons), mde (minimum detectable effect) and seeds. Shares are in points.
    Claims without a comparison (facts about the source, and what is not measured) have no row.
    """
    found = []
    for row in rows.to_dict("records"):
        claim = row["judged"]
        for versus, one in row["comparisons"].items():
            values = np.array([one.effect, one.low, one.high])
            if claim.expect == "less":
                values = (1 / values if claim.ratio else -values)[[0, 2, 1]]
            scale = 100 if claim.unit == "points" and not claim.ratio else 1
            names = {"id": claim.id, "source": claim.source, "quote": claim.quote.replace("**", "").strip("| ")}
            names |= {"verdict": row["verdict"], "versus": versus, "unit": "times" if claim.ratio else claim.unit}
            numbers = dict(zip(("effect", "low", "high"), scale * values))
            mde = np.exp(one.mde) if claim.ratio else scale * one.mde
            found.append(names | numbers | {"mde": mde, "seeds": one.seeds})
    columns = ["id", "source", "quote", "verdict", "versus", "unit", "effect", "low", "high", "mde", "seeds"]
    return pd.DataFrame(found, columns=columns)


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each source (rows) have each verdict (columns), all verdicts named."""
    found = pd.crosstab(rows["source"], rows["verdict"])
    return found.reindex(index=[s for s in SOURCES if s in found.index], columns=list(VERDICTS), fill_value=0)


class ClaimTable:
    """The claims of one source as a table that unfolds and wraps in a rendered page, and as plain text in a terminal."""

    SHOWN = ["claim", "section", "result", "table", "seeds", "verdict"]

    STYLE = [
        {"selector": "", "props": "width: 100%; border-collapse: collapse; table-layout: auto; font-size: 0.8rem"},
        {"selector": "th, td", "props": "text-align: left; vertical-align: top; white-space: normal; padding: 0.4em 0.6em"},
        {"selector": ":is(.col0, .col1, .col2, .col3)", "props": "overflow-wrap: anywhere"},
        {"selector": "tbody tr", "props": "border-top: 1px solid #cccccc"},
        *({"selector": f"th.col{i}", "props": f"width: {width}%"} for i, width in enumerate((25, 12, 37, 10, 5, 11))),
    ]  # fmt: skip

    def __init__(self, rows: pd.DataFrame, source: str):
        self.rows, self.source = rows[rows["source"] == source], source

    def _repr_html_(self) -> str:
        shown = in_html(self.rows[self.SHOWN])
        style = shown.hide(axis="index").set_table_styles(self.STYLE)
        table = style.map(lambda v: f"border-left: 0.5em solid {VERDICTS[v]}", subset=["verdict"]).to_html()
        return f"<details><summary>{len(self.rows)} claims of {self.source}</summary>{table}</details>"

    def __repr__(self) -> str:
        lines = []
        for row in self.rows.to_dict("records"):
            lines.append(textwrap.fill(f"{row['id']}  {row['claim']}", 100, subsequent_indent="      "))
            result = f"{row['verdict'].upper()}: {row['result']}"
            lines.append(textwrap.fill(result, 100, initial_indent="      ", subsequent_indent="      ") + "\n")
        return "\n".join(lines)


# Panels of the figure: label of the axis, which units it holds (empty: all others), its ticks, and up to where it is linear
# (0: logarithmic throughout).
PANELS = [
    ("difference (points)", ("points",), (-50, -20, -5, 0, 5, 20, 50), 5),
    ("ratio (times)", ("times",), (0.5, 1, 2, 4), 0),
    ("difference (own unit)", (), (-1, -0.1, 0, 0.1, 1), 0.1),
]


def effects_by_source(found: pd.DataFrame, width: int = 46) -> Figure:
    """A line per claim with a comparison, under its source: dots are effects and bars their intervals, in three panels by unit,
    coloured by verdict; right of the vertical line is the direction that was claimed. Triangles stand for effects beyond the
    panel. found: what `effects` returns; width: characters of a quotation that are shown."""
    sources = [source for source in SOURCES if source in set(found["source"])]
    lines = [entry for s in sources for entry in (s, *found.loc[found["source"] == s, "id"].unique())]
    place = {entry: i for i, entry in enumerate(lines)}
    figure, panels = plt.subplots(1, 3, figsize=(9, 0.19 * len(lines) + 1.3), sharey=True, width_ratios=(2.2, 1, 1))
    others = [unit for _, units, *_ in PANELS for unit in units]
    for ax, (label, units, ticks, linear) in zip(panels, PANELS):
        limits = (1.5 * ticks[0], 1.5 * ticks[-1]) if linear else (ticks[0] / 1.5, 1.5 * ticks[-1])
        own = found[found["unit"].isin(units) if units else ~found["unit"].isin(others)]
        several = own.groupby("id").cumcount() - (own.groupby("id")["id"].transform("size") - 1) / 2
        ax.axvline(0 if linear else 1, color=INK, linewidth=1)
        for y, row in zip(own["id"].map(place) + 0.2 * several, own.itertuples()):
            colour, end = VERDICTS[row.verdict], np.clip(row.effect, *limits)
            marker = "o" if end == row.effect else ">" if row.effect > end else "<"
            ax.plot(np.clip([row.low, row.high], *limits), [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
            ax.plot(end, y, marker, color=colour, markersize=4.5, clip_on=False)
        ax.set_xscale(**{"value": "symlog", "linthresh": linear} if linear else {"value": "log"})
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=7.5)
        ax.minorticks_off()
        ax.set(xlim=limits)
        ax.set_xlabel(label, fontsize=8)
        ax.grid(axis="x", color="#e5e5e5")
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(left=False)
    quotes = found.drop_duplicates("id").set_index("id")["quote"]
    names = [e if e in sources else f"{textwrap.shorten(quotes[e], width, placeholder='…')}  {e}" for e in lines]
    panels[0].set_yticks(range(len(lines)), [in_figure(name) for name in names], fontsize=7)
    for label, entry in zip(panels[0].get_yticklabels(), lines):
        label.set_fontweight("bold" if entry in sources else "normal")
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    shown = [plt.Line2D([], [], color=VERDICTS[v], marker="o", markersize=4.5, label=v) for v in list(VERDICTS)[:3]]
    figure.legend(handles=shown, ncols=3, loc="upper center", frameon=False, fontsize=8)
    return figure
