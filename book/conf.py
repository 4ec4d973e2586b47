"""The HTML book, for Sphinx. `trm report` makes its pages from executed chapters and calls Sphinx on them.

Nothing is loaded from elsewhere: mathematics is MathML, which browsers draw themselves; widgets are left out.
"""

import re
import tomllib
from html import escape
from importlib.resources import files
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

project = "Tiny recursive models"
author = "the authors of the book"
html_title = project
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_dmath_allow_space = myst_dmath_allow_digits = False  # "$5 and $10" is money
myst_heading_anchors = 3

templates_path = []  # its own list: the theme adds to it, and what differs makes Sphinx build every page again
html_theme = "sphinx_book_theme"
html_static_path = ["_static", str(files("ziamath") / "fonts")]  # a font for mathematics, which not all systems have
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_favicon = "_static/favicon.svg"
html_math_renderer = "mathml"
html_show_copyright = False
html_use_index = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it, and a button
html_theme_options = {
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "footer_content_items": "",
    "navbar_persistent": [],  # the search stands at the side already
}


def repository(project: Path) -> dict:
    """The theme's options for a button to the repository, and to Colab and Binder, if `project`, a pyproject.toml, names the
    repository's address as `Repository` of [project.urls]; none otherwise."""
    text = project.read_text(encoding="utf-8") if project.exists() else ""
    address = tomllib.loads(text).get("project", {}).get("urls", {}).get("Repository")
    launch = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"}
    if not address:
        return {}
    return {
        "repository_url": address.removesuffix(".git").rstrip("/"),
        "repository_branch": "main",
        "path_to_docs": "book",
        "use_repository_button": True,
        "launch_buttons": launch | {"notebook_interface": "jupyterlab"},
    }


html_theme_options |= repository(Path(__file__).resolve().parent.parent / "pyproject.toml")


def mathml(text: str, display: str) -> str:
    """LaTeX as MathML; what cannot be translated is shown as it stands, with a warning."""
    text = re.sub(r"\{(?:align|aligned|gather|gathered)\*?\}", "{align*}", text)  # the one of them that is translated
    if r"\\" in text and r"\begin" not in text:
        text = rf"\begin{{align*}}{text}\end{{align*}}"
    try:
        html = convert(text, display=display)
        faults = re.findall(r"<mi>(\\\w+|&)</mi>", html)  # commands that it does not know
    except Exception as error:  # its exceptions have no common base
        html, faults = "", [type(error).__name__]
    if faults:
        logging.getLogger(__name__).warning("no MathML for %s in %s", faults[0], text)
    return f"<code>{escape(text)}</code>" if faults else html


def formula(translator, node):
    """Put a formula, in a line or on its own, on the page."""
    block = isinstance(node, nodes.math_block)
    html = mathml(node.astext(), "block" if block else "inline")
    translator.body.append(f'<div class="formula">{html}</div>' if block else html)
    raise nodes.SkipNode


def keep_figures_with_the_sources(app):
    """myst-nb writes the figures of notebooks beside the pages' folder; they belong to what pages are built from."""
    folder = str(Path(app.doctreedir).parent / "notebooks")
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=folder)


def setup(app):
    """What goes beyond settings."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("builder-inited", keep_figures_with_the_sources, priority=900)  # after myst-nb's own
