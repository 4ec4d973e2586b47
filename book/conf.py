"""The HTML book, for Sphinx. `trm report` makes its pages from executed chapters and calls Sphinx on them.

Nothing is loaded from elsewhere: equations are drawn by the KaTeX in _static/; widgets are left out.
"""

import tomllib
from pathlib import Path

project = "Tiny recursive models"
author = "the authors of the book"
html_title = project
extensions = ["myst_nb", "sphinx_copybutton"]
copybutton_selector = ".highlight:not(.cell_output *) > pre"  # code, not what it printed
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_dmath_allow_space = myst_dmath_allow_digits = False  # "$5 and $10" is money
myst_heading_anchors = 3
myst_update_mathjax = False  # Sphinx marks equations up for MathJax; book.js has KaTeX draw what is marked
mathjax_path = "katex/katex.min.js"

templates_path = []  # its own list: the theme adds to it, and what differs makes Sphinx build every page again
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["katex/katex.min.css", "book.css"]
html_js_files = ["book.js"]
html_favicon = "_static/favicon.svg"
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


def keep_figures_with_the_sources(app):
    """myst-nb writes the figures of notebooks beside the pages' folder; they belong to what pages are built from."""
    folder = str(Path(app.doctreedir).parent / "notebooks")
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=folder)


def setup(app):
    """What goes beyond settings."""
    app.connect("builder-inited", keep_figures_with_the_sources, priority=900)  # after myst-nb's own
