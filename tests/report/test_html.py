"""The HTML book, built from small notebooks as papermill leaves them."""

import base64
import json
import os
import re
import shutil

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

from tests.conftest import ROOT
from trm.report import html as report
from trm.report.html import ReportError, newest, read

pytestmark = [
    pytest.mark.slow,  # all tests of pages build a book with Sphinx
    pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API"),  # of its extensions
]
HALTING, TRAIN, LAWS = CHAPTERS = ["03_act_halting", "04_trm_train", "10_scaling_laws"]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SOURCE = r"""# ---
# jupyter:
#   kernelspec: {{display_name: Python 3, language: python, name: python3}}
# ---

# %% [markdown]
# # {number} · {title}
#
# **A question?** See chapter 03 and chapters 04, 05 and
# 10, but `chapter 04` is code. With $\frac{{a}}{{b}}$ and
#
# $$L = \sum_i w_i \ell_i$$

# %% tags=["parameters"]
hidden_size = 64  # width D
lr = 0.004  # peak learning rate
output_dir = ""  # folder of the run

# %% [markdown]
# ## What came out
#
# The word stablemax.

# %%
print("a result")
"""


def executed(path, root, chapter, printed="ok", said="complete: {folder}/metrics.json", exception=None, **given):
    """A notebook as papermill leaves it; `said` is its last output. Each is newer than those made before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = jupytext.read(root / "book" / f"{chapter}.py")
    injected = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in given.items())
    notebook.cells.insert(2, new_code_cell(injected, metadata={"tags": ["injected-parameters"]}))
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}, "text/plain": "interactive(children=())"}
    notebook.cells[-1].outputs = [
        new_output("stream", text=f"run 0123abc in {path.parent}\n{printed}\n"),
        new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure size 300x200 with 1 Axes>"},
                   metadata={"image/png": {"width": 300, "height": 200}}),
        new_output("display_data", {"text/html": "<table class='dataframe'><tr><td>" + "wide " * 300 + "</td></tr></table>"}),
        new_output("display_data", {"text/markdown": "It was **right**."}),
        new_output("display_data", widget),
        new_output("display_data", widget | {"image/png": PIXEL, "text/plain": "loss over step (sliders: step)"}),
        new_output("stream", text=said.format(folder=path.parent) + "\n"),
    ]  # fmt: skip
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {"m": {"model_name": "M"}}}}
    notebook.metadata.papermill = {
        "input_path": f"/somewhere/book/{chapter}.ipynb", "exception": exception, "parameters": given,
        "start_time": "2026-11-21T11:38:05.004769+00:00", "duration": 192.4,
    }  # fmt: skip
    nbformat.write(notebook, path)
    executed.clock += 10
    os.utime(path, (executed.clock, executed.clock))
    return path


executed.clock = 1_700_000_000


def lay_out(root):
    """A repository with three small chapters, two of them executed."""
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "book" / "figures").mkdir()
    (root / "book" / "figures" / "think.gif").write_bytes(base64.b64decode(PIXEL))
    for path in (ROOT / "book" / "conf.py", *(ROOT / "book").glob("*.md")):
        shutil.copy(path, root / "book")
    shutil.copytree(ROOT / "book" / "manual", root / "book" / "manual")
    (root / "book" / "results").mkdir()
    table = "arm,loss\n" + "a & b,0.123456\n" * 20
    (root / "book" / "results" / "10_scaling_laws.csv").write_text(table, encoding="utf-8")
    for chapter in CHAPTERS:
        text = SOURCE.format(number=chapter[:2], title=chapter[3:].replace("_", " "))
        (root / "book" / f"{chapter}.py").write_text(text, encoding="utf-8")
    executed(root / "outputs" / "03.ipynb", root, HALTING)
    executed(root / "outputs" / "deep" / "run.ipynb", root, TRAIN, hidden_size=96, output_dir="/a/b|c")
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book that has been built; tests only look at it."""
    root = lay_out(tmp_path_factory.mktemp("book"))
    assert report.main([], root) == 0
    return root / "outputs" / "report"


@pytest.fixture
def repository(tmp_path):
    return lay_out(tmp_path)


def body(html):
    return re.search(r"<article.*?</article>", html, re.S)[0]


def test_a_page_shows_what_was_executed(built):
    html = body((built / f"{TRAIN}.html").read_text(encoding="utf-8"))
    assert "a result" in html and "<strong>right</strong>" in html and html.count("<img") == 2, (
        "the figure of a widget is shown, the widget is not"
    )
    assert html.count('alt="What came out: loss over step (sliders: step)"') == 2, "one for all figures of a cell"
    assert f"papermill book/{TRAIN}.ipynb" in html.partition("Executed")[0], "the box says how to run it"
    assert "interactive(" not in html and "widget" not in html
    assert html.count("hide-input") or html.count("<details") == 3, "two cells and a table are folded"
    assert r'<span class="math notranslate nohighlight">\(\frac{a}{b}\)</span>' in html, "KaTeX draws it (test_browser)"
    assert html.count('class="math notranslate') == 2 and r"\[L = \sum_i w_i \ell_i\]" in html
    order = re.findall(r'toctree-l1"><a[^>]*href="(\d\d)', (built / "index.html").read_text(encoding="utf-8"))
    assert order[-3:] == ["03", "04", "10"]
    assert all((built / "manual" / f"{page.stem}.html").exists() for page in (ROOT / "book" / "manual").glob("*.md"))
    assert "stablemax" in (built / "searchindex.js").read_text(encoding="utf-8")


def test_a_page_says_how_it_was_run(built):
    box = body((built / f"{TRAIN}.html").read_text(encoding="utf-8")).partition("A question?")[0]
    text = re.sub(r"<[^>]+>", "", box)
    assert "Executed 2026-11-21 11:38 UTC in 192 s · run 0123abc" in text
    assert re.search(r"1 of \d+ parameters differ.*hidden_size\s+96\s+64\s+width D", text, re.S)
    assert "lr" not in text and "/a/b" not in text and "changed since" not in text
    assert "All parameters are the defaults" in (built / f"{HALTING}.html").read_text(encoding="utf-8")


def test_a_chapter_that_was_never_executed_says_so(built):
    html = body((built / f"{LAWS}.html").read_text(encoding="utf-8"))
    assert "Not executed yet" in html and f"papermill book/{LAWS}.ipynb outputs/{LAWS}.ipynb" in html
    assert "a result" in html and "<img" not in html
    table = html.partition("10_scaling_laws: 20 rows, the first 12")[2]
    assert table.count("<tr") == 13 and "a &amp; b" in table and 'href="_downloads/' in table
    assert "committed" not in body((built / f"{TRAIN}.html").read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(built):
    pages = [*built.glob("*.html"), *built.glob("manual/*.html")]
    assert len(pages) == 5 + len(list((ROOT / "book" / "manual").glob("*.md")))
    for page in pages:
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"([^\"]+)\"", html)
        assert len(loaded) > 5 and not [address for address in loaded if re.match(r"(\w+:)?//", address)]
        assert not re.search(r"<script[^>]*(mathjax|require)", html, re.I)
        for address in loaded:
            assert (page.parent / address.partition("?")[0].partition("#")[0]).exists(), address


def test_text_of_data_stays_text(repository):
    hostile = "<script>alert(1)</script>|`x` $y$"
    executed(repository / "outputs" / "04.ipynb", repository, TRAIN, printed=hostile, hidden_size=hostile)
    assert report.main([], repository) == 0
    html = body((repository / "outputs" / "report" / f"{TRAIN}.html").read_text())
    assert "<script>alert" not in html and html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2


def test_the_newest_complete_notebook_is_taken(repository):
    outputs = repository / "outputs"
    executed(outputs / "b.ipynb", repository, TRAIN, printed="newer")
    killed = "run 0123abc in x"
    executed(outputs / "c.ipynb", repository, TRAIN, printed="newest, killed", said=killed)
    executed(outputs / "d.ipynb", repository, TRAIN, printed="failed later", exception=True)
    executed(outputs / "paused.ipynb", repository, TRAIN, said="paused: the same command ... ({folder})")
    (outputs / "half.ipynb").write_text('{"cells": [', encoding="utf-8")
    for folder in ("report/_sources", "sweeps/x/p", ".report/source", "my_sweep/p"):
        executed(outputs / folder / "run.ipynb", repository, TRAIN, printed="no candidate")
    (outputs / "my_sweep" / "p" / "point.json").write_text("{}", encoding="utf-8")
    found = newest(outputs, CHAPTERS)
    assert {name: one.path.name for name, one in found.items()} == {TRAIN: "b.ipynb", HALTING: "03.ipynb"}


def test_params_json_counts_while_it_is_of_the_same_run(repository):
    path = repository / "outputs" / "deep" / "run.ipynb"
    about = {"run_id": "0123abc", "code": "c0de", "params": {"hidden_size": 96, "lr": 0.001}}
    (path.parent / "params.json").write_text(json.dumps(about), encoding="utf-8")
    one = read(path, CHAPTERS)
    assert one.about["code"] == "c0de" and one.params["lr"] == 0.001
    (path.parent / "params.json").write_text(json.dumps(about | {"run_id": "another"}), encoding="utf-8")
    one = read(path, CHAPTERS)
    assert one.about == {} and one.params == {"hidden_size": 96, "output_dir": "/a/b|c"}


def test_only_what_has_changed_is_built_again(repository, capsys):
    pages = repository / "outputs" / "report"

    def build(*words):
        assert report.main([*map(str, words)], repository) == 0
        said = capsys.readouterr()
        assert not said.err, said.err
        return said.out.splitlines()[0], {path.name: path.stat().st_mtime_ns for path in pages.glob("[0-9]*.html")}

    _, first = build()
    assert build() == ("nothing has changed", first)
    executed(repository / "outputs" / "04.ipynb", repository, TRAIN, printed="another result")
    said, second = build()
    assert "another result" in (pages / f"{TRAIN}.html").read_text(encoding="utf-8")
    assert {name for name in first if first[name] != second[name]} == {f"{TRAIN}.html"}
    assert TRAIN in said and HALTING not in said and LAWS not in said
    # one that is named goes before the newest
    elsewhere = executed(repository / "elsewhere.ipynb", repository, TRAIN, printed="from elsewhere")
    # the source goes on: its page says so; a new title and a new style reach every page
    for chapter, old, new in ((TRAIN, "a result", "other code"), (LAWS, "scaling laws", "a new title")):
        source = repository / "book" / f"{chapter}.py"
        source.write_text(source.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with open(repository / "book" / "_static" / "book.css", "a", encoding="utf-8") as style:
        style.write(".new {}")
    build(elsewhere)
    html = (pages / f"{TRAIN}.html").read_text(encoding="utf-8")
    assert "from elsewhere" in html and "The chapter has changed since" in html
    assert "a new title" in (pages / f"{HALTING}.html").read_text(encoding="utf-8")
    assert ".new" in (pages / "_static" / "book.css").read_text(encoding="utf-8")


def test_what_is_no_executed_chapter_is_refused_in_one_line(repository, capsys):
    outputs = repository / "outputs"
    (outputs / "list.ipynb").write_text("[]", encoding="utf-8")
    other = executed(outputs / "other.ipynb", repository, TRAIN)
    other.write_text(other.read_text(encoding="utf-8").replace(f"book/{TRAIN}", "book/99_other"), encoding="utf-8")
    killed = executed(outputs / "killed.ipynb", repository, TRAIN, said="")
    wrong = {
        outputs / "list.ipynb": "is not a notebook",
        outputs / "missing.ipynb": "cannot be read: No such file", other: "is of '99_other', which is not a chapter",
        killed: "is not complete",
    }  # fmt: skip
    for path, message in wrong.items():
        with pytest.raises(ReportError, match=message):
            read(path, CHAPTERS)
        assert report.main([str(path)], repository) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not (outputs / "report").exists()


def test_chapters_that_lack_a_run_are_executed(repository, capsys, broken_kernel):
    (repository / "params").mkdir()
    (repository / "params" / "10_smoke.yaml").write_text("hidden_size: 7\n", encoding="utf-8")
    done = '\n# %%\nprint(f"complete: {output_dir}/metrics.json")\n'
    for chapter, ending in ((LAWS, done), (TRAIN, "\n# %%\n1 / 0\n"), (HALTING, "")):
        source = repository / "book" / f"{chapter}.py"
        source.write_text(source.read_text(encoding="utf-8") + ending, encoding="utf-8")
        jupytext.write(jupytext.read(source), source.with_suffix(".ipynb"))
    (repository / "outputs" / "deep" / "run.ipynb").unlink()
    (repository / "params" / "04_smoke.yaml").write_text("hidden_size: 7\n", encoding="utf-8")
    assert report.main(["--execute", "smoke"], repository) == 1
    said = capsys.readouterr()
    assert f"error: {TRAIN}: ZeroDivisionError: division by zero" in said.err
    assert f"not executed yet: {TRAIN}" in said.out and HALTING not in said.out.partition("refreshed")[0]
    html = (repository / "outputs" / "report" / f"{LAWS}.html").read_text(encoding="utf-8")
    assert "1 of" in html and "not a parameter any more" in html, "its schema has no width"
    assert {path.name for path in repository.iterdir()} == {"book", "outputs", "params"}
