"""Every chapter: the .py and the .ipynb say the same, and the parameters cell says what the schema says."""

import ast
import copy
import json
import shutil

import jupytext
import pytest

from tests.conftest import ROOT
from trm import supervision
from trm.params import read_yaml
from trm.sweep.chapters import schema_of

CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("[0-9][0-9]_*.py"))
SCHEMAS = {chapter: schema_of(chapter) for chapter in CHAPTERS}


def cells(path):
    notebook = jupytext.read(path)
    return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_pair_is_in_sync(chapter):
    text, notebook = (ROOT / "book" / f"{chapter}{ending}" for ending in (".py", ".ipynb"))
    assert cells(text) == cells(notebook), f"run: jupytext --to ipynb --update book/{chapter}.py"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_notebook_has_no_outputs_and_one_parameters_cell(chapter):
    notebook = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    assert sum("parameters" in c["metadata"].get("tags", []) for c in notebook["cells"]) == 1
    assert not any(c.get("outputs") or c.get("execution_count") for c in notebook["cells"])


# What JupyterLab writes into a notebook whose kernel it has started; the version is that of the reader's Python.
KERNEL = {
    "kernelspec": {"display_name": "A kernel", "language": "python", "name": "mine"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3", "version": "3.99.0"},
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_opening_and_saving_changes_no_file(chapter, tmp_path):
    """GET and PUT through jupytext's contents manager, as JupyterLab does it."""
    files = [f"book/{chapter}{ending}" for ending in (".py", ".ipynb")]
    (tmp_path / "book").mkdir()
    for name in ("pyproject.toml", *files):
        shutil.copy(ROOT / name, tmp_path / name)
    manager = jupytext.TextFileContentsManager(root_dir=str(tmp_path))
    opened = manager.get(files[1])["content"]

    def saved(content):
        manager.save({"type": "notebook", "format": "json", "content": copy.deepcopy(content)}, files[1])
        return [(tmp_path / name).read_text(encoding="utf-8") for name in files]

    before = [(ROOT / name).read_text(encoding="utf-8") for name in files]
    assert saved(opened) == before
    opened["metadata"] |= KERNEL
    text, notebook = saved(opened)
    assert text == before[0], "the source that is reviewed holds nothing of the reader's kernel"
    assert json.loads(notebook)["cells"] == json.loads(before[1])["cells"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_parameters_cell_shows_the_schemas_defaults(chapter):
    (source,) = [source for _, source, tags in cells(ROOT / "book" / f"{chapter}.py") if "parameters" in tags]
    assigned = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}
    defaults = SCHEMAS[chapter]().model_dump()
    assert assigned == {name: defaults[name] for name in assigned}
    assert len(assigned) <= 15, "the knobs that the chapter is about; `trm params` lists all"
    for line in source.splitlines():
        assert line.startswith("# ") or "  # " in line, f"say what it is: {line}"


def test_the_parameter_files_are_valid(monkeypatch):
    monkeypatch.setitem(
        supervision.SCHEDULES, "middle", supervision.SCHEDULES["uniform"]
    )  # chapter 02 registers it in a cell
    for path in (ROOT / "params").glob("[0-9][0-9]_*.yaml"):
        schema = next(schema for name, schema in SCHEMAS.items() if name[:2] == path.name[:2])
        schema.create(read_yaml(path))


def test_every_chapter_has_smoke_and_paper_parameters():
    for chapter in CHAPTERS:
        for scale in ("smoke", "paper"):
            assert (ROOT / "params" / f"{chapter[:2]}_{scale}.yaml").exists()
