"""`trm report`: the book as HTML in outputs/report/, of every chapter as it was executed last.

A page shows the newest complete notebook of its chapter below outputs/, or one named on the command line; nothing in it is
computed again. A notebook is complete when its output holds the line that a run prints once metrics.json is written.
(papermill's own word does not do: a kernel that is killed leaves every cell "completed".) Pages are built from
outputs/.report, where a file is written only if it makes another page, so that Sphinx builds no more than has changed.
"""

import argparse
import contextlib
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pandas as pd
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from pydantic.fields import FieldInfo

from trm.diff import RUN_LINE
from trm.errors import UserError, print_in_any_encoding
from trm.escape import in_markdown
from trm.params import ALIASES, Params, read_yaml
from trm.run import checkout, to_json, write_atomically
from trm.sweep.chapters import schema_of
from trm.sweep.notebooks import own_kernel, papermill, reason

COMPLETE = re.compile(r"^complete: (.*)metrics\.json$", re.M)
NOT_SEARCHED = ("report", "sweeps")  # folders of outputs/ that hold notebooks of another kind
DEFAULTS, INJECTED = "parameters", "injected-parameters"  # papermill's tags
FOLDED = {DEFAULTS: "The cell of parameters", INJECTED: "Parameters given from outside"}  # titles of cells, by tag
WIDGET = "application/vnd.jupyter.widget-view+json"
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
          "language_info": {"name": "python", "pygments_lexer": "ipython3"}}  # fmt: skip
NOT_EXECUTED = """```{admonition} Not executed yet
:class: warning
This is the chapter without results. Execute it, then `trm report` shows it here. Its committed tables stand below.
```"""
ROWS_SHOWN = 12  # of a committed table on the page of a chapter that was not executed


class ReportError(UserError):
    """What keeps a chapter from being executed or shown, or the book from being built."""


@dataclass(frozen=True)
class Executed:
    """A complete notebook of a chapter, with the id and the folder of its run ("" and a path that may be gone)."""

    path: Path
    chapter: str
    notebook: NotebookNode
    run_id: str
    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """params.json of the run; empty if it is gone, or belongs to another run by now."""
        for folder in (self.folder, self.path.parent):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                about = json.loads((folder / "params.json").read_text(encoding="utf-8"))
                if about["run_id"] == self.run_id:
                    return about
        return {}

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by name: as the run checked them, or as they were given where params.json is gone."""
        given = self.notebook.metadata.get("papermill", {}).get("parameters", {})
        return {ALIASES.get(name, name): value for name, value in given.items()} | self.about.get("params", {})


def read(path: Path, chapters: Collection[str]) -> Executed:
    """A complete notebook of one of `chapters`, known by what papermill made it from, else by its own name."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of cells without an id
            notebook = nbformat.read(path, as_version=4)
        papermill = notebook.metadata.get("papermill", {})
        chapter = Path(papermill.get("input_path") or path).stem
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        printed = "".join(output.text for output in outputs if output.output_type == "stream")
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise ReportError(f"{path} is not a notebook") from error
    if chapter not in chapters:
        raise ReportError(f"{path} is of {chapter!r}, which is not a chapter; there are {', '.join(chapters)}")
    complete, run = COMPLETE.findall(printed), RUN_LINE.findall(printed)
    if papermill.get("exception") or not complete:
        raise ReportError(f"{path} is not complete: it does not say 'complete: .../metrics.json'; execute it again")
    return Executed(path, chapter, notebook, run[-1][0] if run else "", Path(complete[-1]))


def newest(outputs: Path, chapters: Collection[str]) -> dict[str, Executed]:
    """The newest complete notebook of each chapter below `outputs`; points of sweeps and hidden folders are left out."""
    found: dict[str, Executed] = {}
    for path in sorted(outputs.rglob("*.ipynb"), key=lambda path: path.stat().st_mtime, reverse=True):
        folders = path.relative_to(outputs).parts[:-1]
        left_out = any(name.startswith(".") for name in folders) or "".join(folders[:1]) in NOT_SEARCHED
        if left_out or (path.parent / "point.json").exists():
            continue
        with contextlib.suppress(ReportError):  # it may still be running
            executed = read(path, chapters)
            found.setdefault(executed.chapter, executed)
    return found


def page(chapter: str, source: NotebookNode, executed: Executed | None) -> NotebookNode:
    """The notebook of a page: as executed, else the chapter as it is now (`source`); below its title how it was run."""
    made = nbformat.from_dict(executed.notebook if executed else source)
    box = how_to_run(chapter, how_it_ran(executed, source) if executed else "")
    made.nbformat_minor, made.metadata = 5, nbformat.from_dict(PYTHON)
    heading = ""
    for number, cell in enumerate(made.cells):
        folded = [FOLDED[tag] for tag in cell.metadata.get("tags", []) if tag in FOLDED]
        cell.id, cell.metadata = f"cell-{number}", NotebookNode()  # equal notebooks, equal pages
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.*)", cell.source, re.M) or [heading])[-1]
        elif cell.cell_type == "code":
            titles = {f"code_prompt_{action}": folded[0] for action in ("show", "hide") if folded}
            cell.metadata.mystnb = {"image": {"alt": alt(heading, cell.outputs)}, **titles}
            cell.metadata.tags = ["hide-input"] * len(folded)
            for output in list(cell.outputs):  # of sliders their first figure remains
                if output.get("data", {}).pop(WIDGET, None) and "image/png" not in output.data:
                    cell.outputs.remove(output)
    title, _, rest = made.cells[0].source.partition("\n")
    made.cells[0].source = "\n\n".join([title, box, "" if executed else NOT_EXECUTED, rest])
    return made


def alt(heading: str, outputs: list[NotebookNode]) -> str:
    """What the figures of a cell show: the heading they stand below, and the words that `trm.plots` leaves beside each."""
    figures = [output.data for output in outputs if {"image/png", "image/gif"} & set(output.get("data", {}))]
    words = [data.get("text/plain", "").strip("'") for data in figures]
    said = "; ".join(text for text in words if text and not text.startswith("<"))  # "<Figure size ...>" says nothing
    return textwrap.shorten(f"{heading}: {said}" if said else f"Figure: {heading}", 400, placeholder=" ...")


def how_to_run(chapter: str, ran: str) -> str:
    """The box below a title, as Markdown: the command that executes a chapter, how long that takes, how it `ran` last."""
    takes = "up to three minutes with the default parameters, on two cores without a GPU or network"
    words = f"**Run this chapter** ({takes}), or open it by `jupyter lab book/{chapter}.ipynb`:"
    command = f"    papermill book/{chapter}.ipynb outputs/{chapter}.ipynb"
    return "\n\n".join(['<div class="run">', words, command, ran, "</div>"])


def committed_tables(chapter: str, results: Path) -> str:
    """The first rows of the tables in `results` that a chapter reads, as Markdown; "" without any."""
    shown = []
    for path in sorted(results.glob(f"{chapter[:2]}_*.csv")):
        table = pd.read_csv(path)
        rows = table.head(ROWS_SHOWN).to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
        title = f"{path.stem}: {len(table):,} rows" + (f", the first {ROWS_SHOWN}" if len(table) > ROWS_SHOWN else "")
        link = f"{{download}}`{path.name} <{results.name}/{path.name}>`"
        table = f'<div class="cell_output"><div class="text_html">{rows}</div></div>'
        shown.append(f"<details><summary>{title}</summary>\n\n{table}\n\n{link}\n\n</details>")
    return "\n\n".join(["## Committed tables", *shown]) if shown else ""


def how_it_ran(executed: Executed, source: NotebookNode) -> str:
    """When, by which code and with which parameters a notebook was executed, as Markdown; whether `source` has changed
    since."""
    papermill = executed.notebook.metadata.get("papermill", {})
    facts = "Executed"
    if papermill.get("start_time"):
        facts += f" {html.escape(papermill['start_time'][:16]).replace('T', ' ')} UTC"
    if papermill.get("duration"):
        facts += f" in {round(papermill['duration'])} s"
    for name, value in (("run", executed.run_id), ("code", executed.about.get("code"))):
        facts += f" · {name} {in_markdown(value)}" if value else ""
    then, now = (
        [cell.source for cell in notebook.cells if INJECTED not in cell.metadata.get("tags", [])]
        for notebook in (executed.notebook, source)
    )
    if then != now:
        facts += ". The chapter has changed since: execute it again"
    schema = schema_of(executed.chapter)
    rows = [("parameter", "here", "default", "description"), ("---",) * 4]
    for name, value in executed.params.items():
        field = schema.model_fields.get(name, FieldInfo(default="", description="not a parameter any more"))
        if name not in Params.NOT_IN_RUN_ID and value != field.default:
            rows.append((in_markdown(name), in_markdown(value), in_markdown(field.default), field.description or ""))
    differ = "All parameters are the defaults."
    if len(rows) > 2:
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        title = f"{len(rows) - 2} of {len(schema.model_fields)} parameters differ from the defaults"
        differ = f"<details open><summary>{title}</summary>\n\n{table}\n\n</details>"
    return f"{facts}.\n\n{differ}"


class Book:
    """The chapters of a book (book/ of the repository `root`), and the pages made of them in `outputs`/report."""

    def __init__(self, root: Path, outputs: Path | None = None):
        self.root, self.book = root, root / "book"
        self.outputs = (outputs or root / "outputs").resolve()
        self.pages, self.work = self.outputs / "report", self.outputs / ".report"
        self.chapters = sorted(path.stem for path in self.book.glob("[0-9][0-9]_*.py"))

    def execute(self, chapter: str, scale: str) -> Executed:
        """Execute a chapter in outputs/report-runs/, as it is ("default") or with params/NN_<scale>.yaml."""
        folder = self.outputs / "report-runs" / chapter
        folder.mkdir(parents=True, exist_ok=True)
        values = {} if scale == "default" else read_yaml(self.root / "params" / f"{chapter[:2]}_{scale}.yaml")
        values["output_dir"] = str(folder)
        source, target = self.book / f"{chapter}.ipynb", folder / "run.ipynb"
        target.unlink(missing_ok=True)
        write_atomically(folder / "parameters.yaml", to_json(values, indent=2))  # JSON is YAML
        command = papermill(source, target, folder / "parameters.yaml", folder)
        with own_kernel() as kernel:
            done = subprocess.run(
                command, env=os.environ | kernel, capture_output=True, encoding="utf-8", errors="replace"
            )
        if done.returncode:
            raise ReportError(reason(target, done.stdout + done.stderr, done.returncode))
        return read(target, self.chapters)

    def build(self, executed: dict[str, Executed]) -> list[str]:
        """Bring the pages up to date; the names of those written. Warnings go to stderr."""
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
        from sphinx.util.docutils import docutils_namespace, patch_docutils

        output, written = io.StringIO(), []
        look = [self.book / "conf.py", *sorted(path for path in (self.book / "_static").rglob("*") if path.is_file())]
        common = {  # what is part of every page: if it changes, all are built again
            "html_context.titles": self._stage(executed),
            "html_context.look": hashlib.sha256(b"".join(path.read_bytes() for path in look)).hexdigest(),
        }
        source, trees = self.work / "source", self.work / "doctrees"
        try:
            with patch_docutils(self.book), docutils_namespace():
                app = Sphinx(source, self.book, self.pages, trees, "html", common, status=None, warning=output)
                app.connect("html-page-context", lambda _, name, template, context, tree: tree and written.append(name))
                app.build()
        except SphinxError as error:
            raise ReportError(f"the book cannot be built: {error}") from error
        print(re.sub(r"\x1b\[[\d;]*m", "", output.getvalue()), end="", file=sys.stderr)  # without colours
        return written

    def _stage(self, executed: dict[str, Executed]) -> list[str]:
        """Lay the sources of all pages where Sphinx looks for them; the titles of the chapters."""
        source, titles = self.work / "source", []
        for folder in ("figures", "manual", "results"):
            (source / folder).mkdir(parents=True, exist_ok=True)
        for chapter in self.chapters:
            made = page(chapter, jupytext.read(self.book / f"{chapter}.py"), executed.get(chapter))
            titles.append(made.cells[0].source.partition("\n")[0])
            if chapter not in executed and (tables := committed_tables(chapter, self.book / "results")):
                made.cells.append(new_markdown_cell(tables, id="committed-tables"))
            _put(source / f"{chapter}.ipynb", nbformat.writes(made))
        for path in (*self.book.glob("*.md"), *self.book.glob("manual/*.md"), *self.book.glob("manual/*.py")):
            _put(source / path.relative_to(self.book), path.read_text(encoding="utf-8"))
        for path in (*self.book.glob("figures/*"), *self.book.glob("results/*.csv")):
            shutil.copy2(path, source / path.relative_to(self.book))
        return titles


def _put(path: Path, text: str) -> None:
    """Write a file unless it says the same already: Sphinx goes by the time of a file."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def main(words: list[str] | None = None, root: Path | None = None) -> int:
    """Run the command; the exit code: 0 all well, 1 a chapter failed or differs, 2 wrong input, 130 interrupted."""
    print_in_any_encoding()
    parser = argparse.ArgumentParser(prog="trm report", description="The book as HTML, in outputs/report/.")
    add, failed = parser.add_argument, False
    add("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="executed chapters to show (default: the newest)")
    add("--execute", choices=("smoke", "default"), help="execute the chapters that have never been, in small or as is")
    add("--check", action="store_true", help="execute every chapter twice, in small, and compare the numbers; no pages")
    add("--outputs", type=Path, metavar="DIR", help="where runs lie and the report goes (default: outputs)")
    args = parser.parse_args(words)
    try:
        book = Book(root or checkout(), args.outputs)
        if args.check:
            from trm.report.check import check  # which executes chapters by this module

            return check(book)
        executed = newest(book.outputs, book.chapters)
        executed |= {one.chapter: one for one in (read(path, book.chapters) for path in args.notebooks)}
        for chapter in (name for name in book.chapters if args.execute and name not in executed):
            print(f"executing {chapter} ({args.execute})", flush=True)
            try:
                executed[chapter] = book.execute(chapter, args.execute)
            except UserError as error:
                failed = True
                print(f"error: {chapter}: {str(error).splitlines()[0]}", file=sys.stderr)
        written = book.build(executed)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on where it was", file=sys.stderr)
        return 130
    print("refreshed: " + ", ".join(written) if written else "nothing has changed")
    if missing := [chapter for chapter in book.chapters if chapter not in executed]:
        print("not executed yet: " + ", ".join(missing))
    print(f"the book: {book.pages / 'index.html'}")
    return int(failed)
