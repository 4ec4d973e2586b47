"""Text that comes from data, where it would be read as code: HTML, Markdown, matplotlib's formulas."""

import html
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler


def in_figure(text: object) -> str:
    """Text for matplotlib, which reads what stands between two dollar signs as a formula."""
    return str(text).replace("$", r"\$")


def in_markdown(value: object) -> str:
    """A value as code, also in a cell of a Markdown table."""
    text = str(value).replace("|", r"\|").replace("`", "'").replace("\n", " ")
    return f"`{text or ' '}`"


def in_html(table: pd.DataFrame) -> Styler:
    """A table in pandas' Styler, which takes text for HTML, with the class that pandas gives to tables without style."""

    def escaped(value: Any) -> Any:
        return html.escape(value) if isinstance(value, str) else value

    return table.map(escaped).rename(index=escaped, columns=escaped).style.set_table_attributes('class="dataframe"')
