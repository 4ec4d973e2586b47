"""Every figure of chapter 05 can be drawn, with labelled axes."""

import numpy as np
import pandas as pd

from tests.conftest import ROOT
from trm.parsing import figures
from trm.parsing.evaluate import Trace


def test_every_figure_can_be_drawn():
    rows, curves = (pd.read_csv(ROOT / "book" / "results" / f"05_{name}.csv") for name in ("ablation", "ewt_curves"))
    history = [{"step": i, "train/seconds": 60.0 * i, "valid/uas": 0.1 * i, "valid/las": 0.1 * i} for i in range(4)]
    drawn = [figures.by_iteration(rows), figures.by_distance(rows), figures.progress(history)]
    for figure in [*drawn, figures.learning_curves(curves)]:
        assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
    assert len(figures.arms(rows).axes[0].get_yticklabels()) == rows["arm"].nunique()
    table = pd.DataFrame(
        {"iteration": [1, 1, 2, 2], "head": [1, 2, 1, 2], "weight": 0.5, "to_head": [0, 0.2, 0.1, 0.9], "reach": 1.5}
    )
    assert [ax.get_title() for ax in figures.heads(table).axes[:3]][1] == "attention to the word's head"
    seen = Trace([([2, 0, 1], ["x", "root", "y"])], np.ones((1, 3, 2)) / 2, np.ones((1, 3, 3)) / 3)
    tree = figures.iterations_of_sentence(["a", "b", "c"], [2, 0, 2], seen)
    colours = {patch.get_edgecolor()[:3] for patch in tree.axes[0].patches}
    assert len(colours) == 3  # right, wrong, and what would have been right
