"""The claims of the guides against what was measured: book/claims.yaml read, held against the tables, and shown.

What a claim is held against is named by its `measure`, a function of `trm.report.measures`; by which rules it gets its
verdict, `trm.report.verdicts` says. A claim whose table or runs are missing is "not measured", never an error.
"""

import difflib
import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import yaml
from matplotlib.figure import Figure

from trm.errors import UserError
from trm.plots import INK
from trm.report import measures  # noqa: F401  (registers the measurements)
from trm.report.verdicts import (
    CONTRADICTED,
    IN_PART,
    MEASURES,
    NOT_MEASURED,
    NOT_SUPPORTED,
    OTHER_SCALE,
    SUPPORTED,
    Measured,
    NotThere,
)

GUIDES = ("deep supervision", "LLM-TRM", "pointer-over-heads", "scaling research", "TPU quick start")
WANTED, OPTIONAL = ("id", "guide", "section", "quote"), ("about", "measure", "why")
COLOURS = {  # Okabe and Ito's, which colour-blind readers tell apart too
    SUPPORTED: "#0072b2",
    IN_PART: "#7cc4ee",
    OTHER_SCALE: "#f0e442",
    NOT_SUPPORTED: "#e69f00",
    CONTRADICTED: "#c4500a",
    NOT_MEASURED: "#d9d9d9",
}
ON_DARK = {SUPPORTED, CONTRADICTED}  # colours that want white letters


@dataclass(frozen=True)
class Claim:
    """One claim, in the guide's own words (see the head of book/claims.yaml)."""

    id: str
    guide: str
    section: str
    quote: str
    about: str = ""
    measure: str = ""
    why: str = ""


@dataclass(frozen=True)
class Answer:
    """A claim and what it came to."""

    claim: Claim
    measured: Measured


def read_claims(path: Path) -> list[Claim]:
    """The claims of a YAML file.

    Raises:
        UserError: the file, the entry, the field, and how to mend it.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the file of claims as `claims`") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(
            f"{path}: wants a list of entries such as `- {{id: ds01, guide: ..., section: ..., quote: ...}}`"
        )
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, 1):
        claim = _checked(entry, f"{path}, entry {number}")
        if claim.id in claims:
            raise UserError(f"{path}, entry {number}: id {claim.id!r} is there twice; give it one of its own")
        claims[claim.id] = claim
    return list(claims.values())


def _checked(entry: Any, where: str) -> Claim:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: wants a mapping with {', '.join(WANTED)}")
    where += f" ({entry['id']})" if entry.get("id") else ""
    for name in entry:
        if name not in WANTED + OPTIONAL:
            raise UserError(f"{where}: unknown field {name!r}; {_near(str(name), WANTED + OPTIONAL)}")
    for name in WANTED:
        if name not in entry:
            raise UserError(f"{where}: field {name!r} is missing; add it")
    for name, value in entry.items():
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: field {name!r} must be a text, and is {value!r}; put it in quotation marks")
    claim = Claim(**entry)
    if claim.guide not in GUIDES:
        raise UserError(f"{where}: field 'guide': no guide {claim.guide!r}; {_near(claim.guide, GUIDES)}")
    if claim.measure and claim.measure not in MEASURES:
        raise UserError(f"{where}: field 'measure': no measurement {claim.measure!r}; {_near(claim.measure, MEASURES)}")
    if claim.measure and claim.why:
        raise UserError(f"{where}: field 'why' is for claims without a measurement; drop it or 'measure'")
    return claim


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"


def hold(claims: Sequence[Claim], tables: Path) -> list[Answer]:
    """Every claim held against the tables of a folder.

    Raises:
        UserError: there is no such folder.
    """
    if not tables.is_dir():
        raise UserError(f"{tables} is no folder; give the folder of tables as `results`, such as book/results")
    return [Answer(claim, _measured(claim, tables)) for claim in claims]


def _measured(claim: Claim, tables: Path) -> Measured:
    if not claim.measure:
        return Measured(NOT_MEASURED, claim.why or "nothing here measures it")
    try:
        return MEASURES[claim.measure](tables)
    except NotThere as reason:
        return Measured(NOT_MEASURED, str(reason))


def table(answers: Sequence[Answer]) -> pd.DataFrame:
    """A row a claim: id, guide, claim (the quotation), where, measured, scale, seeds, verdict; texts throughout."""
    rows = [
        {
            "id": a.claim.id,
            "guide": a.claim.guide,
            "claim": f"“{a.claim.quote.replace('**', '').strip('| ')}”"
            + (f" ({a.claim.about})" if a.claim.about else ""),
            "where": a.claim.section,
            "measured": a.measured.text,
            "scale": a.measured.scale,
            "seeds": "" if a.measured.seeds is None else str(a.measured.seeds),
            "verdict": a.measured.verdict,
        }
        for a in answers
    ]
    return pd.DataFrame(rows, columns=["id", "guide", "claim", "where", "measured", "scale", "seeds", "verdict"])


def counts(answers: Sequence[Answer]) -> pd.DataFrame:
    """How many claims of each guide (rows) have each verdict (columns), all verdicts named."""
    rows = table(answers)
    found = pd.crosstab(rows["guide"], rows["verdict"])
    return found.reindex(index=[g for g in GUIDES if g in found.index], columns=list(COLOURS), fill_value=0)


class Sheet:
    """The claims of one guide as a table that wraps in a rendered page, and as plain text in a terminal."""

    STYLE = [
        {"selector": "", "props": "width: 100%; border-collapse: collapse; table-layout: auto; font-size: 0.8rem"},
        {"selector": "th, td", "props": "text-align: left; vertical-align: top; white-space: normal; padding: 0.4em 0.6em"},
        {"selector": "td.col0", "props": "overflow-wrap: anywhere"},  # names such as deep_supervision_schedule
        {"selector": "tbody tr", "props": "border-top: 1px solid #cccccc"},
        *({"selector": f"th.col{i}", "props": f"width: {width}%"} for i, width in enumerate((25, 11, 38, 12, 4, 10))),
    ]  # fmt: skip

    def __init__(self, answers: Sequence[Answer], guide: str):
        self.rows = table([a for a in answers if a.claim.guide == guide])

    def _repr_html_(self) -> str:
        shown = self.rows.drop(columns=["id", "guide"]).map(html.escape)
        style = shown.style.hide(axis="index").set_table_styles(self.STYLE).set_table_attributes('class="dataframe"')
        return style.map(lambda v: f"border-left: 0.5em solid {COLOURS[v]}", subset=["verdict"]).to_html()

    def __repr__(self) -> str:
        lines = []
        for row in self.rows.to_dict("records"):
            seeds = f"; {row['seeds']} seed{'s' * (row['seeds'] != '1')}" if row["seeds"] else ""
            scale = f" [{row['scale']}{seeds}]" if row["scale"] else ""
            lines.append(textwrap.fill(f"{row['id']}  {row['claim']}, {row['where']}", 100, subsequent_indent="      "))
            result = f"{row['verdict'].upper()}: {row['measured']}{scale}"
            lines.append(textwrap.fill(result, 100, initial_indent="      ", subsequent_indent="      ") + "\n")
        return "\n".join(lines)


def verdicts_by_guide(answers: Sequence[Answer]) -> Figure:
    """A bar a guide, its claims by verdict; grey is what was not measured."""
    found = counts(answers)
    figure, ax = plt.subplots(figsize=(9.5, 0.62 * len(found) + 1.2), dpi=150)
    left = pd.Series(0, index=found.index)
    for verdict, colour in COLOURS.items():
        bars = ax.barh(found.index, found[verdict], left=left, color=colour, edgecolor="white", label=verdict)
        labels = [str(n) if n else "" for n in found[verdict]]
        ax.bar_label(bars, labels, label_type="center", color="white" if verdict in ON_DARK else INK, fontsize=9)
        left += found[verdict]
    ax.invert_yaxis()
    ax.set(xlabel="claims", xlim=(0, left.max() * 1.01))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(left=False)
    ax.legend(ncols=len(COLOURS), loc="lower center", bbox_to_anchor=(0.42, 1.0), frameon=False, fontsize=8.5,
              columnspacing=1.2, handlelength=1.2)  # fmt: skip
    figure.tight_layout()
    return figure
