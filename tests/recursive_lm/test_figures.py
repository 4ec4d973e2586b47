"""Figures of chapter 06 show the numbers of their table, arms with one seed and arms without a column included."""

import numpy as np
import pandas as pd

from trm.recursive_lm import figures

ROWS = pd.DataFrame(
    [
        {"arm": "looped", "seed": 0, "cycles/1": 0.1, "cycles/3": 0.3, "cycles/64": 0.2},
        {"arm": "looped", "seed": 1, "cycles/1": 0.2, "cycles/3": 0.5, "cycles/64": 0.4},
        {"arm": "random_loops", "seed": 0, "cycles/1": 0.6, "cycles/3": 0.7, "cycles/64": 0.8},
        {"arm": "chain", "seed": 0},
    ]
)


def test_cycles_at_test_time_are_drawn_for_the_arms_that_have_them():
    table = pd.concat([ROWS.assign(part="short"), ROWS.assign(part="long")])
    figure = figures.cycles(table, trained=3)
    for ax in figure.axes:
        lines = dict(zip(ax.get_legend_handles_labels()[1], ax.containers))
        assert set(lines) == {"looped", "looped, number of loops drawn"}
        found = {name: np.array([drawn[0].get_xdata(), drawn[0].get_ydata()], float) for name, drawn in lines.items()}
        np.testing.assert_allclose(found["looped"], [[1, 3, 64], [15, 40, 30]])
        np.testing.assert_allclose(found["looped, number of loops drawn"], [[1, 3, 64], [60, 70, 80]])
        assert ax.get_xscale() == "log" and [label.get_text() for label in ax.get_xticklabels()] == ["1", "3", "64"]
    assert [ax.get_title() for ax in figure.axes] == ["short", "long"]
