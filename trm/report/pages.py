"""From an executed chapter to the notebook that a page of the book is made of: nothing in it is computed anew.

Below the title stands how it was run; cells of parameters are folded; mentions of chapters lead to their pages; and
widgets are left out, for on a page they would be dead.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, get_args

import nbformat
from nbformat import NotebookNode
from pydantic.fields import FieldInfo

from trm.params import Params
from trm.report.notebooks import DEFAULTS, INJECTED, Executed
from trm.sweep.chapters import CHAPTERS, schema_of

FOLDED = {DEFAULTS: "The cell of parameters", INJECTED: "Parameters given from outside"}  # titles of cells, by tag
SHOWN = 16  # parameters other than the defaults that are shown without a click
WIDGET = "application/vnd.jupyter.widget-view+json"
PYTHON = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
NOT_EXECUTED = """```{{admonition}} Not executed yet
:class: warning
This is the chapter without results. To execute it and show it here:

    {}
    python -m trm.report
```"""
# Code, headings and links stay as they are; "chapter 03" and "chapters 02, 03 and 04" become links.
MENTION = re.compile(
    r"^```.*?^```|^ {4}[^\n]*|^#[^\n]*|`[^`]+`|\[[^\]]*\]\([^)]*\)"
    r"|(?P<words>\b[Cc]hapters?\s+\d\d\b(?:(?:,\s+|,?\s+(?:and|or|to)\s+)\d\d\b)*)",
    re.M | re.S,
)


def page(chapter: str, source: NotebookNode, executed: Executed | None, chapters: Collection[str]) -> NotebookNode:
    """The notebook of a page: as executed, else the chapter as it is, with a word on that.

    chapter: its name. source: its notebook as it is now, without outputs. chapters: names of all.
    """
    made = nbformat.from_dict(executed.notebook if executed else source)
    again = f"papermill book/{chapter}.ipynb outputs/{chapter}.ipynb"
    word = how_it_ran(executed, source, again) if executed else NOT_EXECUTED.format(again)
    made.nbformat_minor, made.metadata = 5, nbformat.from_dict(PYTHON)
    heading = ""
    for number, cell in enumerate(made.cells):
        folded = [FOLDED[tag] for tag in cell.metadata.get("tags", []) if tag in FOLDED]
        cell.id, cell.metadata = f"cell-{number}", NotebookNode()  # equal notebooks, equal pages
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.*)", cell.source, re.M) or [heading])[-1]
            cell.source = linked(cell.source, [name for name in chapters if name != chapter])
        elif cell.cell_type == "code":
            titles = {f"code_prompt_{action}": folded[0] for action in ("show", "hide") if folded}
            cell.metadata.mystnb = {"image": {"alt": f"Figure: {heading}"}, **titles}
            cell.metadata.tags = ["hide-input"] * len(folded)
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    title, _, rest = made.cells[0].source.partition("\n")
    made.cells[0].source = f"{title}\n\n{word}\n\n{rest}"
    return made


def linked(markdown: str, chapters: Collection[str]) -> str:
    """`markdown` with mentions of `chapters`, such as "chapter 03", made links to their pages."""
    pages = {chapter[:2]: f"{chapter}.ipynb" for chapter in chapters}

    def to_page(words: str) -> str:
        return f"[{words}]({pages[words[-2:]]})" if words[-2:] in pages else words

    def to_pages(match: re.Match) -> str:
        words = match["words"]
        if not words:
            return match[0]
        several = len(re.findall(r"\d\d", words)) > 1
        return re.sub(r"\d\d", lambda number: to_page(number[0]), words) if several else to_page(words)

    return MENTION.sub(to_pages, markdown)


def how_it_ran(executed: Executed, source: NotebookNode, again: str) -> str:
    """When, by which code and with which parameters a notebook was executed, as Markdown.

    Where `source`, the chapter as it is now, is not what was executed, that is said with the command `again`.
    """
    facts, papermill = ["Executed"], executed.notebook.metadata.get("papermill", {})
    if papermill.get("start_time"):
        facts.append(f" {papermill['start_time'][:16].replace('T', ' ')} UTC")
    if papermill.get("duration"):
        facts.append(f" in {duration(papermill['duration'])}")
    for name, value in (("run", executed.run_id), ("code", executed.about.get("code"))):
        facts.append(f" · {name} `{value}`" if value else "")
    if _cells(executed.notebook) != _cells(source):
        facts.append(f". The chapter has changed since; to execute it again: `{again}`")
    chapter, rows, differ = schema_of(executed.chapter) if executed.chapter in CHAPTERS else Params, [], []
    for name, value in executed.params.items():
        field = chapter.model_fields.get(name, FieldInfo(default="", description="no longer a parameter"))
        what = "; ".join([field.description, ", ".join(map(str, get_args(field.annotation)))]).removesuffix("; ")
        rows.append((f"`{name}`", _code(value), _code(field.default), what))
        if name not in Params.NOT_IN_RUN_ID and value != field.default:
            differ.append(rows[-1])
    counted = f"{len(differ)} of {len(rows)} parameters differ from the defaults"
    first = _folded(counted, differ, len(differ) <= SHOWN) if differ else ["All parameters are the defaults."]
    blocks = ["".join(facts) + ".", *first, *_folded(f"All {len(rows)} parameters", rows, False)]
    return "\n\n".join(['<div class="run">', *blocks, "</div>"])


def duration(seconds: float) -> str:
    """Seconds as a person says them: "17 s", "3 min 12 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _cells(notebook: NotebookNode) -> list[str]:
    """What stands in the cells, but for the one that papermill puts in."""
    return [cell.source for cell in notebook.cells if INJECTED not in cell.metadata.get("tags", [])]


def _folded(title: str, rows: Sequence[tuple[str, ...]], is_open: bool) -> list[str]:
    """A table of parameters under a title that opens and closes it."""
    lines = [("parameter", "here", "default", "what it is"), ("---",) * 4, *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return [f"<details{' open' * is_open}><summary>{title}</summary>", table, "</details>"]


def _code(value: Any) -> str:
    """A value as code in a cell of a Markdown table."""
    text = str(value).replace("|", r"\|").replace("`", "'").replace("\n", " ")
    return f"`{text}`" if text.strip() else "*empty*"
