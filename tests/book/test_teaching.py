"""What every chapter that teaches has: goals, an equation, a diagram, source, exercises with solutions that run, references."""

import re
import shlex

import jupytext
import pytest
import yaml

from tests.book.test_pairs import SCHEMAS
from tests.conftest import ROOT
from trm import teaching
from trm.compressor.model import Compressor
from trm.layers import SwiGLU
from trm.plots import describe
from trm.recursion import recurse
from trm.supervision import step_weights
from trm.teaching import diagram, show_source, source_of

TAUGHT = [
    "00_watch_it_think",
    "01_compressor",
    "02_deep_supervision",
    "03_act_halting",
    "04_trm_train",
    "05_poh_ablation",
    "06_recursive_lm",
    "07_latent_reasoning",
    "08_grpo",
    "09_tpu_scaling",
    "10_scaling_laws",
    "11_report",
    "12_any_puzzle",
]
FOLDED = re.compile(r"<details><summary>Solution</summary>\n(.*?)</details>", re.S)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def words(chapter):
    """All Markdown of a chapter."""
    notebook = jupytext.read(ROOT / "book" / f"{chapter}.py")
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def solutions(chapter):
    """The code blocks in the solutions of a chapter's exercises: (language, text) each."""
    return [block for folded in FOLDED.findall(words(chapter)) for block in FENCE.findall(folded)]


@pytest.mark.parametrize("chapter", TAUGHT)
def test_a_chapter_has_what_teaches(chapter):
    text, code = words(chapter), (ROOT / "book" / f"{chapter}.py").read_text(encoding="utf-8")
    for heading in ("What you will learn", "Summary", "Exercises", "References"):
        assert f"\n## {heading}\n" in text, heading
    assert text.count("$$") >= 2 and "show_source(" in code and 'run.save_figure(figure, "diagram")' in code
    assert len(FOLDED.findall(text)) == 3 and len(solutions(chapter)) >= 3
    assert 2 <= len(re.findall(r"^- .*\]\(https://", text.split("\n## References\n")[1], re.M)) <= 6


@pytest.mark.parametrize("chapter", TAUGHT)
def test_commands_of_formulas_have_one_backslash(chapter):
    r"""`\\ln` is a new line and the letters "ln"; only the rows of matrices and cases end with two."""
    for formula in re.findall(r"(?<!\$)\$([^$]+)\$", words(chapter)):
        assert r"\begin" in formula or not re.search(r"\\\\[a-zA-Z]", formula), formula


@pytest.mark.parametrize("chapter", TAUGHT)
def test_a_figure_is_followed_by_words_that_read_it(chapter):
    cells = jupytext.read(ROOT / "book" / f"{chapter}.py").cells
    for cell, following in zip(cells, cells[1:]):
        if "save_figure(" in cell.source and '"diagram"' not in cell.source:
            assert following.cell_type == "markdown" and following.source[0] not in "#", cell.source


@pytest.mark.parametrize("chapter", TAUGHT)
def test_the_commands_of_solutions_are_valid(chapter):
    for language, text in solutions(chapter):
        for line in text.splitlines() if language == "" else []:
            given = re.findall(r" -p (\w+) (\S+)", line)
            assert line.split()[0] in ("papermill", "trm", "python") and shlex.split(line)
            if named := re.search(r"book/(\w+)\.", line):
                SCHEMAS[named[1]].create({name: yaml.safe_load(value) for name, value in given})


def test_source_is_shown_without_its_docstring():
    shown = source_of(recurse)
    assert shown.startswith("def recurse(") and '"""' not in shown and shown.endswith("return answers, z_L")
    assert source_of(SwiGLU.forward).splitlines()[0] == "def forward(self, x: Tensor) -> Tensor:"


def test_a_decorated_function_is_shown_under_its_own_file(monkeypatch):
    shown = []
    monkeypatch.setattr(teaching, "kernel", lambda: True)
    monkeypatch.setattr(teaching, "say", lambda markdown, text: shown.append(markdown))
    teaching.show_source(Compressor.set_optimum)  # wrapped by torch.no_grad
    assert shown[0].startswith("`trm/compressor/model.py`") and "def set_optimum(" in shown[0]


def test_what_shows_no_markdown_gets_the_source_as_it_is(monkeypatch):
    said = []
    monkeypatch.setattr("trm.teaching.kernel", lambda: True)
    monkeypatch.setattr("trm.teaching.say", lambda *texts: said.append(texts))
    show_source(step_weights)
    ((markdown, text),) = said
    assert text == f"trm/supervision.py\n\n{source_of(step_weights)}" and source_of(step_weights) in markdown


def test_arrows_of_a_diagram_end_at_its_boxes():
    figure = diagram({"a": (0, 0, "one", "net"), "b": (2, 1, "two", "")}, [("a", "b", "then", 0.3)])
    (arrow,) = [patch for patch in figure.axes[0].patches if hasattr(patch, "patchA")]
    assert [patch.get_facecolor() == (0, 0, 0, 0) for patch in (arrow.patchA, arrow.patchB)] == [False, True]
    assert {text.get_text() for text in figure.axes[0].texts} == {"one", "two", "then"}
    assert arrow.zorder > max(text.zorder for text in figure.axes[0].texts if text.get_text() != "then")
    assert describe(figure) == "Diagram: one, two"
    with pytest.raises(KeyError):
        diagram({"a": (0, 0, "one", "net")}, [("a", "missing")])
