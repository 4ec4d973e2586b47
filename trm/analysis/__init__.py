"""From tables to fits, figures and sentences. In a notebook figures are vectors: sharp at any size, on paper and on a page."""

import sys

if "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel"):
    from matplotlib_inline.config import InlineBackend

    InlineBackend.instance(parent=sys.modules["IPython"].get_ipython()).figure_formats = {"svg"}
