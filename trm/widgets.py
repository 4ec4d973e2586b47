"""A figure with sliders, for JupyterLab. (A rendered page shows the figure beside it, which each chapter draws as well.)

The picture is replaced as a slider moves. `ipywidgets.interact` is not used: its output area talks back while a cell runs,
and papermill then waits for ever now and then (github.com/jupyter/nbclient/issues/312).
"""

import io
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def explore(draw: Callable[..., Figure], **sliders: tuple[int, int, int] | ipywidgets.Widget) -> ipywidgets.VBox:
    """`draw(**values)` under a slider for each of its arguments.

    sliders: argument -> (lowest, highest, first value), or any widget with a `value`.
    """
    controls = {
        name: ipywidgets.IntSlider(min=found[0], max=found[1], value=found[2], description=name)
        if isinstance(found, tuple)
        else found
        for name, found in sliders.items()
    }
    picture = ipywidgets.Image(format="png")

    def redraw(_=None) -> None:
        figure = draw(**{name: control.value for name, control in controls.items()})
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=90, bbox_inches="tight")
        plt.close(figure)  # else the notebook would show it a second time
        picture.value = drawn.getvalue()

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])
