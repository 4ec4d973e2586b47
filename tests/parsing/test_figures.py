"""Every figure of chapter 05 can be drawn, with labelled axes."""

import numpy as np
import pandas as pd

from tests.conftest import ROOT
from trm.parsing import figures
from trm.parsing.evaluate import Trace


def test_every_figure_can_be_drawn():
    tables = ROOT / "book" / "results"
    rows = pd.read_csv(tables / "05_ablation.csv")
    history = [{"step": i, "train/seconds": 60.0 * i, "valid/uas": 0.1 * i, "valid/las": 0.1 * i} for i in range(4)]
    seen = Trace([([2, 0, 1], ["x", "root", "y"])], np.ones((1, 3, 2)) / 2, np.ones((1, 3, 3)) / 3)
    tree = figures.iterations_of_sentence(["a", "b", "c"], [2, 0, 2], seen)
    colours = {patch.get_edgecolor()[:3] for patch in tree.axes[0].patches}
    assert len(colours) == 3  # right, wrong, and what would have been right
    drawn = [
        figures.by_iteration(rows),
        figures.by_distance(rows),
        figures.progress(history),
        figures.learning_curves(pd.read_csv(tables / "05_ablation_curves.csv")),
    ]
    for figure in drawn:
        assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
    bars = figures.arms(rows)
    assert len(bars.axes[0].get_yticklabels()) == rows["arm"].nunique() and bars.axes[0].get_xlabel()
