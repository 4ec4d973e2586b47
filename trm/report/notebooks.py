"""Executed chapters: which notebook of a chapter is the newest complete one, and what was run in it.

A notebook is complete when its output holds the line that a run prints once metrics.json is written. papermill's own
word does not do: a kernel that is killed leaves every cell "completed".
"""

import ast
import contextlib
import json
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from trm.errors import UserError
from trm.params import ALIASES

DEFAULTS, INJECTED = "parameters", "injected-parameters"  # papermill's tags of the cells of parameters
COMPLETE = re.compile(r"^complete: (.*)metrics\.json$", re.M)
RUN = re.compile(r"^run (\w+) in ", re.M)
NO_CANDIDATES = ("report", "sweeps")  # folders of outputs/ that hold notebooks of another kind


class NotebookError(UserError):
    """A file that is no complete, executed notebook of a chapter."""


@dataclass(frozen=True)
class Executed:
    """A complete notebook of a chapter.

    Args:
        path: where it lies.
        chapter: name of the chapter, such as "04_trm_train".
        notebook: what nbformat read.
        run_id: id of the run, as it printed it; empty if it printed none.
        folder: folder of the run, which may be gone by now.
    """

    path: Path
    chapter: str
    notebook: NotebookNode
    run_id: str
    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """params.json of the run; empty if it is gone, or belongs to another run by now."""
        for folder in (self.folder, self.path.parent):
            try:
                about = json.loads((folder / "params.json").read_text())
                if about["run_id"] == self.run_id:
                    return about
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return {}

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by name: as the run checked them, or as its cells say where params.json is gone."""
        given = _plain_values(self.notebook, DEFAULTS) | _plain_values(self.notebook, INJECTED)
        return {ALIASES.get(name, name): value for name, value in given.items()} | self.about.get("params", {})


def read(path: Path, chapters: Collection[str]) -> Executed:
    """A complete notebook of one of `chapters`, known by what papermill made it from, else by its own name.

    Raises:
        NotebookError: no notebook, or of no chapter, or not executed to its end.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of cells without an id
            notebook = nbformat.read(path, as_version=4)
        papermill = notebook.metadata.get("papermill", {})
        chapter = Path(papermill.get("input_path") or path).stem
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        printed = "".join(output.text for output in outputs if output.output_type == "stream")
    except OSError as error:
        raise NotebookError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise NotebookError(f"{path} is not a notebook") from error
    if chapter not in chapters:
        raise NotebookError(f"{path} is of {chapter!r}, which is no chapter; there are {', '.join(chapters)}")
    complete, run = COMPLETE.findall(printed), RUN.findall(printed)
    if papermill.get("exception") or not complete:
        raise NotebookError(f"{path} is not complete: it does not say 'complete: .../metrics.json'; execute it again")
    return Executed(path, chapter, notebook, run[-1] if run else "", Path(complete[-1]))


def newest(outputs: Path, chapters: Collection[str]) -> dict[str, Executed]:
    """The newest complete notebook of each chapter below `outputs`, by the time of the file.

    Points of sweeps, the report's own and what lies in hidden folders are left out, and so is what is not complete: it
    may be at work.
    """
    found: dict[str, Executed] = {}
    for path in sorted(outputs.rglob("*.ipynb"), key=lambda path: path.stat().st_mtime, reverse=True):
        folders = path.relative_to(outputs).parts[:-1]
        left_out = any(name.startswith(".") for name in folders) or "".join(folders[:1]) in NO_CANDIDATES
        if not left_out and not (path.parent / "point.json").exists():
            try:
                executed = read(path, chapters)
            except NotebookError:
                continue
            found.setdefault(executed.chapter, executed)
    return found


def _plain_values(notebook: NotebookNode, tag: str) -> dict[str, Any]:
    """Names and values of the lines `name = value` in the cells that bear a tag; other lines do not count."""
    values = {}
    for cell in notebook.cells:
        with contextlib.suppress(SyntaxError):  # a line for IPython
            for line in ast.parse(cell.source).body if tag in cell.metadata.get("tags", []) else []:
                with contextlib.suppress(ValueError):  # no plain value
                    if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                        values[line.targets[0].id] = ast.literal_eval(line.value)
    return values
