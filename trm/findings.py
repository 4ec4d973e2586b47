"""Findings: sentences whose numbers come from a run, shown as text that reads well in a notebook and in a terminal."""

import sys


def say(markdown: str) -> None:
    """Show a finding: rendered in a notebook, printed in a script."""
    if "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel"):
        from IPython.display import Markdown, display

        display(Markdown(markdown))
    else:
        print(markdown.replace("**", ""))
