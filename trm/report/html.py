"""`python -m trm.report`: the book as HTML in outputs/report/, of every chapter as it was executed last.

A page shows the newest complete notebook of its chapter below outputs/ (`trm.report.notebooks`), or one named on the
command line, made ready by `trm.report.pages`. What pages are built from lies in outputs/.report; a notebook is put
there only if it makes another page, so that Sphinx builds again no more than has changed.
"""

import argparse
import hashlib
import io
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import jupytext
import nbformat

from trm.errors import UserError
from trm.params import read_yaml
from trm.report.notebooks import Executed, newest, read
from trm.report.pages import linked, page
from trm.run import ROOT, write_atomically

NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "latex2mathml", "ziamath")
# What a page would load by itself from another place; the book needs no network.
ELSEWHERE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\s(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


class ReportError(UserError):
    """Something that keeps a chapter from being executed, or the book from being built."""


class Book:
    """The chapters of a book, and the pages made of them.

    Args:
        root: the repository; book/ holds the chapters, conf.py and index.md.
        outputs: where runs lie, and where the report goes; the default is outputs/ in the repository.

    Raises:
        ReportError: a package is missing.
    """

    def __init__(self, root: Path = ROOT, outputs: Path | None = None):
        if missing := [name for name in NEEDED if not find_spec(name)]:
            raise ReportError(f"the package {missing[0]} is missing: pip install -r requirements.txt")
        self.root, self.book, self.outputs = root, root / "book", (outputs or root / "outputs").resolve()
        self.pages, self.work = self.outputs / "report", self.outputs / ".report"
        self.chapters = sorted(path.stem for path in self.book.glob("[0-9][0-9]_*.py"))

    def executed(self, given: list[Path]) -> dict[str, Executed]:
        """The notebook to show of every chapter that has one: those `given`, else the newest complete one.

        Raises:
            NotebookError: a given one is not a complete notebook of a chapter.
        """
        chosen = {one.chapter: one for one in (read(path, self.chapters) for path in given)}
        return newest(self.outputs, self.chapters) | chosen

    def execute(self, chapter: str, scale: str) -> Executed:
        """Execute a chapter in outputs/report-runs/, as it is ("default") or with params/NN_<scale>.yaml.

        Raises:
            UserError: it does not run to its end; the message says why.
        """
        import papermill

        folder = self.outputs / "report-runs" / chapter
        folder.mkdir(parents=True, exist_ok=True)
        values = {} if scale == "default" else read_yaml(self.root / "params" / f"{chapter[:2]}_{scale}.yaml")
        try:
            papermill.execute_notebook(
                self.book / f"{chapter}.ipynb", folder / "run.ipynb", {**values, "output_dir": str(folder)},
                cwd=folder, progress_bar=False,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            raise ReportError(f"{error.ename}: {error.evalue}") from error
        except (OSError, RuntimeError, ValueError, KeyError) as error:  # no such file, no such kernel; a kernel died
            raise ReportError(str(error)) from error
        return read(folder / "run.ipynb", self.chapters)

    def build(self, executed: dict[str, Executed]) -> list[str]:
        """Bring the pages up to date; the names of those written. Warnings go to stderr.

        Raises:
            ReportError: Sphinx cannot go on.
        """
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
        from sphinx.util.docutils import docutils_namespace, patch_docutils

        warnings, written = io.StringIO(), []
        common = {"html_context.titles": self._stage(executed), "html_context.look": self._look()}

        def note(app, name, template, context, tree):
            if tree:  # a page with a source, unlike the search
                written.append(name)

        try:
            with patch_docutils(self.book), docutils_namespace():
                app = Sphinx(
                    self.work / "source", self.book, self.pages, self.work / "doctrees", "html", status=None,
                    warning=warnings, confoverrides=common,  # what is part of every page: if it changes, all do
                )  # fmt: skip
                app.connect("html-page-context", note)
                app.build()
        except SphinxError as error:
            raise ReportError(f"the book cannot be built: {error}") from error
        figures = {name for _, name in app.env.images.values()}
        for path in (self.pages / "_images").glob("*"):
            if path.name not in figures:  # of an earlier execution
                path.unlink()
        print(re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue()), end="", file=sys.stderr)  # without colours
        for name in written:
            for address in ELSEWHERE.findall((self.pages / f"{name}.html").read_text()):
                print(f"WARNING: page {name} loads {address}", file=sys.stderr)
        return written

    def _look(self) -> str:
        """Hash of what pages look like: conf.py and the style."""
        files = [self.book / "conf.py", *sorted((self.book / "_static").iterdir())]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def _stage(self, executed: dict[str, Executed]) -> list[str]:
        """Lay the sources of all pages where Sphinx looks for them; the titles of the chapters."""
        source, titles = self.work / "source", []
        (source / "figures").mkdir(parents=True, exist_ok=True)
        for path in source.glob("*.ipynb"):
            if path.stem not in self.chapters:
                path.unlink()
                (self.pages / f"{path.stem}.html").unlink(missing_ok=True)
        for chapter in self.chapters:
            made = page(chapter, jupytext.read(self.book / f"{chapter}.py"), executed.get(chapter), self.chapters)
            titles.append(made.cells[0].source.partition("\n")[0])
            _put(source / f"{chapter}.ipynb", nbformat.writes(made))
        _put(source / "index.md", linked((self.book / "index.md").read_text(), self.chapters))
        for figure in (self.book / "figures").glob("*"):
            shutil.copy2(figure, source / "figures")
        return titles


def _put(path: Path, text: str) -> None:
    """Write a file unless it says the same already: Sphinx goes by the time of a file."""
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)


def arguments() -> argparse.ArgumentParser:
    """What may stand on the command line."""
    parser = argparse.ArgumentParser(prog="python -m trm.report", description="The book as HTML, in outputs/report/.")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK",
                        help="executed chapters to show (default: the newest complete one of each below outputs/)")  # fmt: skip
    parser.add_argument("--execute", choices=("smoke", "default"),
                        help="execute the chapters that have never been, in small or as they are")  # fmt: skip
    parser.add_argument("--outputs", type=Path, metavar="DIR",
                        help="where runs lie and the report goes (default: outputs)")  # fmt: skip
    return parser


def main(words: list[str] | None = None, root: Path = ROOT) -> int:
    """Do what the words ask; the exit code: 0 all well, 1 a chapter failed, 2 wrong input, 130 interrupted."""
    args, failed = arguments().parse_args(words), False
    try:
        book = Book(root, args.outputs)
        executed = book.executed(args.notebooks)
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


if __name__ == "__main__":
    sys.exit(main())
