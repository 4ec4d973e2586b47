"""The book and JupyterLab as a reader sees them, in the system's Chromium.

pip install -e ".[browser]"      (Playwright; and axe, which judges accessibility)
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output

from tests.conftest import ROOT
from trm.params import read_yaml
from trm.report.html import Book
from trm.sweep.notebooks import own_kernel

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium on the PATH"),
    pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API"),
]
WATCH, TRAIN = "00_watch_it_think", "04_trm_train"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
EQUATIONS = r"""Half is $\frac{1}{2}$.

$$ L = \sum_i w_i \ell_i $$ (loss)

\begin{align*}
a &= b \\
  &= c
\end{align*}"""
PATIENCE = 240_000  # milliseconds: tests may run beside busy processes


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The book with chapters 00 and 04 executed at smoke scale; the others are shown without results."""
    made = Book(ROOT, tmp_path_factory.mktemp("outputs"))
    executed = {chapter: made.execute(chapter, "smoke") for chapter in (WATCH, TRAIN)}
    markdown = new_output("display_data", {"text/markdown": EQUATIONS, "text/plain": "equations"})
    last = [cell for cell in executed[TRAIN].notebook.cells if cell.cell_type == "code"][-1]
    last.outputs.append(markdown)
    made.build(executed)
    return made


def until(what, condition):
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.2)


def opened(browser, address, **options):
    """A page, and the list of what went wrong on it: errors, failed requests, requests to elsewhere."""
    page, faults = browser.new_page(reduced_motion="reduce", **options), []  # colours do not fade in
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
    page.goto(address, wait_until="load")
    return page, faults


RAW_FORMULAS = """[...document.querySelectorAll("article :is(p, li, td)")].map(one => {
    const copy = one.cloneNode(true)
    copy.querySelectorAll("code, pre, .math, script, table").forEach(part => part.remove())
    return copy.textContent
}).filter(text => /\\$[^$]+\\$/.test(text))"""
BEGIN_OUTSIDE = """[...document.querySelectorAll("div.math")].filter(
    box => box.querySelector(".katex-html").getBoundingClientRect().left < box.getBoundingClientRect().left - 1).length"""


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "light"), (DESK, "dark")], ids=["phone-light", "desk-dark"])
def test_pages_are_whole(browser, book, viewport, scheme):
    axe = importlib.util.find_spec("axe_playwright_python")
    for path in sorted([*book.pages.glob("*.html"), *book.pages.glob("manual/*.html")]):
        page, faults = opened(browser, path.as_uri(), viewport=viewport, color_scheme=scheme)
        assert not faults, (path.name, faults)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path.name} scrolls sideways"
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert page.locator(".math").count() == page.locator(".math .katex").count(), path.name
        assert not page.locator(".katex-error, .katex [mathcolor='#cc0000']").count(), f"{path.name}: a faulty equation"
        assert not page.evaluate(RAW_FORMULAS), f"{path.name}: a formula is shown as it was written"
        assert not page.evaluate(BEGIN_OUTSIDE), f"{path.name}: a wide equation does not begin at its left end"
        images = page.locator("img[src]").evaluate_all("all => all.map(one => [one.naturalWidth > 0, one.alt])")
        assert all(drawn and (words or "search" in path.name) for drawn, words in images), (path.name, images)
        if axe:
            page.evaluate((Path(axe.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
            found = page.evaluate("axe.run(document, {preload: false})")["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
            ]
            assert not serious, (path.name, serious)
        page.close()


def test_links_lead_somewhere(browser, book):
    for path in sorted([*book.pages.glob("*.html"), *book.pages.glob("manual/*.html")]):
        page, _ = opened(browser, path.as_uri())
        for link in page.locator("a[href]").evaluate_all("all => all.map(one => one.href)"):
            target, _, part = link.removeprefix("file://").partition("#")
            if link.startswith("file:"):
                assert Path(urllib.request.url2pathname(target.partition("?")[0])).exists(), (path.name, link)
            if part and target == page.url.removeprefix("file://"):
                assert page.evaluate("id => !!document.getElementById(id)", part), (path.name, link)
        page.close()


def test_a_chapter_page_has_what_a_reader_uses(browser, book):
    page, faults = opened(browser, (book.pages / f"{TRAIN}.html").as_uri(), viewport=DESK)
    assert page.locator(".cell_output .katex").count() == page.locator(".cell_output .math").count() == 3
    assert page.locator(".cell_output .katex-display").count() == 2
    latex = page.locator(".cell_output .katex annotation").all_text_contents()
    assert [text.strip()[:6] for text in latex] == [r"\frac{", r"L = \s", r"\begin"]
    assert page.locator(".cell_output .eqno").inner_text().startswith("(1)"), "the number of an equation is kept"
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('1em KaTeX_Main'))")
    assert page.locator("img[alt*='validation puzzles over optimizer step: blank cells']").count() == 1
    assert page.locator("img[alt*='(sliders: puzzle, step)']").count() == 1
    boxes = page.locator(".cell_input .highlight")
    assert page.locator(".cell_input button.copybtn").count() == boxes.count() > 10
    assert not page.locator(".cell_output button.copybtn").count()
    page.locator("a.right-next").click()
    assert page.url.endswith("05_poh_ablation.html")
    page.locator("a.left-prev").click()
    assert page.url.endswith(f"{TRAIN}.html") and not faults
    page.close()


def test_the_book_is_searched_without_a_server(browser, book):
    page, faults = opened(browser, (book.pages / "search.html").as_uri() + "?q=supervision", viewport=DESK)
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert any(TRAIN in address for address in found) and not faults
    page.close()


def test_the_animation_moves(browser, book):
    page, _ = opened(browser, (book.pages / f"{WATCH}.html").as_uri(), viewport=PHONE)
    moving = page.locator("img[src$='.gif']")
    moving.scroll_into_view_if_needed()
    first = moving.screenshot()
    until("another picture", lambda: moving.screenshot() != first)
    page.close()


# JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own: its address, and the folder that it shows."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    with own_kernel() as kernel:
        own = {name: str(home / name) for name in names} | kernel
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
            "--allow-root", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
            "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        ]  # fmt: skip
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
        with open(home / "log", "wb") as log:
            server = subprocess.Popen(command, env=os.environ | own | paths, stdout=log, stderr=log)
        try:
            address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE / 1000
            while True:
                assert server.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
                try:
                    urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address, folder
        finally:
            server.terminate()
            server.wait(60)


class Notebook:
    """Chapter 04 at smoke scale, opened in JupyterLab, whose commands are called as its menus call them."""

    def __init__(self, browser, lab, name, **values):
        address, folder = lab
        self.run = folder / f"run {name}"
        values = read_yaml(ROOT / "params" / f"{TRAIN[:2]}_smoke.yaml") | {"output_dir": str(self.run)} | values
        notebook = nbformat.read(ROOT / "book" / f"{TRAIN}.ipynb", 4)
        self.parameters = next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
        notebook.cells[self.parameters].source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
        nbformat.write(notebook, folder / f"{name}.ipynb")
        self.page = open_in_lab(browser, address, f"{name}.ipynb")

    def command(self, name):
        """Call a command; the promise that it returns may last as long as a training, and is not waited for."""
        self.page.evaluate("name => void jupyterapp.commands.execute(name)", name)

    def execute(self):
        """Run all cells, to the end or to the first error."""
        self.command("notebook:clear-all-cell-outputs")
        self.command("notebook:run-all-cells")

    def finished(self):
        """Wait for the last cell, or an error."""
        until("complete or an error", lambda: "complete: " in self.printed() or self.outputs("error"))

    def outputs(self, kind):
        cells = self.page.evaluate("jupyterapp.shell.currentWidget.content.model.toJSON().cells")
        return [one for cell in cells for one in cell.get("outputs", []) if one["output_type"] == kind]

    def printed(self):
        return "".join("".join(one["text"]) for one in self.outputs("stream"))


def open_in_lab(browser, address, name):
    page = browser.new_page(viewport=DESK)
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}/lab/tree/{name}?reset")
    kernel = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
    until("the kernel is ready", lambda: page.evaluate(kernel) == "idle")
    return page


def drawn(page):
    """How many figures the notebook shows; 0 while one of them is not drawn."""
    widths = page.locator(".jp-RenderedImage img").evaluate_all("all => all.map(one => one.naturalWidth)")
    return all(widths) * len(widths)


def test_a_chapter_runs_in_jupyterlab_and_its_slider_moves_the_picture(browser, lab):
    chapter = Notebook(browser, lab, "whole")
    chapter.execute()
    chapter.finished()
    assert not chapter.outputs("error"), chapter.outputs("error")
    assert chapter.printed().rstrip().endswith("metrics.json") and (chapter.run / "metrics.json").exists()
    until("figures are drawn", lambda: drawn(chapter.page) >= 4)
    picture = chapter.page.locator(".widget-html img").first
    picture.scroll_into_view_if_needed()
    before = picture.get_attribute("src")
    assert picture.get_attribute("alt"), "what a reader who does not see it hears"
    handle = chapter.page.locator(".widget-slider .noUi-handle").last
    handle.focus()
    handle.press("ArrowRight")
    until("another picture", lambda: picture.get_attribute("src") != before)
    chapter.page.close()


def test_an_interrupted_training_says_how_to_go_on_and_goes_on(browser, lab):
    chapter = Notebook(browser, lab, "interrupted", max_steps=300)
    chapter.execute()
    history = chapter.run / "history.jsonl"
    until("the training begins", lambda: history.exists() and history.stat().st_size)
    chapter.command("notebook:interrupt-kernel")
    chapter.finished()
    (error,) = chapter.outputs("error")
    shown = chapter.page.locator(".jp-OutputArea-output").filter(has_text="to go on").text_content()
    assert "resume = True" in shown and "interrupted at step" in shown and "Traceback" not in shown, error
    assert not (chapter.run / "metrics.json").exists()
    chapter.page.evaluate(
        """at => {
            const cell = jupyterapp.shell.currentWidget.content.model.cells.get(at).sharedModel;
            cell.setSource(cell.getSource() + "\\nresume = True");
        }""",
        chapter.parameters,
    )
    chapter.execute()
    chapter.finished()
    assert not chapter.outputs("error"), chapter.outputs("error")
    steps = json.loads((chapter.run / "metrics.json").read_text(encoding="utf-8"))["train/steps"]
    assert steps == 300
    chapter.page.close()


def test_a_wrong_parameter_shows_one_error(browser, lab):
    chapter = Notebook(browser, lab, "wrong", hidden_size=-1)
    chapter.execute()
    chapter.finished()
    (error,) = chapter.outputs("error")
    assert "hidden_size" in error["evalue"]
    boxes = chapter.page.locator(".jp-OutputArea-output").filter(has_text="hidden_size")
    assert boxes.count() == 1 and "Traceback" not in boxes.text_content()
    assert not chapter.run.exists(), "nothing was begun"
    chapter.page.close()


def test_an_executed_notebook_shows_its_figures_untrusted(browser, lab, book):
    address, folder = lab
    shutil.copy(book.outputs / "report-runs" / TRAIN / "run.ipynb", folder / "executed.ipynb")
    page = open_in_lab(browser, address, "executed.ipynb")
    assert not page.evaluate("[...jupyterapp.shell.currentWidget.content.model.cells].some(cell => cell.trusted)")
    notebook = nbformat.read(folder / "executed.ipynb", 4)
    figures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(figures) >= 5, "those with sliders too"
    until("figures are drawn", lambda: drawn(page) == len(figures))
    page.close()
