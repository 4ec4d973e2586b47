"""Figures and metrics of chapter 01."""

from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from trm.compressor import figures as plots
from trm.compressor.evaluate import chapter_metrics

MSE = {"mean": 1.0, "optimum": 0.5, "pca": 0.45, "tied": 0.502, "untied": 0.46, "nonlinear": 0.1, "task_aware": 2.0}
KL = {"mean": 3.0, "optimum": 1.2, "pca": 1.0, "tied": 1.2, "untied": 1.0, "nonlinear": 0.05, "task_aware": 0.1}
COSINE = {"mean": 0.3, "optimum": 0.8, "pca": 0.85, "tied": 0.8, "untied": 0.85, "nonlinear": 0.96, "task_aware": 0.6}


def rows():
    """K = 4 and 8, with half the errors, and four pairs of stages."""
    found = []
    for K, trained, text, arm in product((4, 8), ("1a", "1b"), ("1a", "1b"), MSE):
        errors = {"mse": MSE[arm] * 4 / K, "kl": KL[arm] * 4 / K, "r2": 1 - MSE[arm] * 4 / K}
        cosine = {"cosine_similarity": COSINE[arm], "centred_cosine": COSINE[arm] - 0.1}
        row = {"trained": trained, "text": text, "arm": arm, "K": K, "top1_agreement": 0.5, "ce_change": 0.1}
        found.append({**row, **errors, **cosine, "answers_right": 0.2})
    return pd.DataFrame(found)


def test_the_metrics_of_the_chapter():
    found = chapter_metrics(rows(), K=8, stage="1a")
    assert found["compressor/sizes"] == [4, 8] and found["compressor/kl_pca"] == [1.0, 0.5]
    assert found["compressor/kl_task_aware"] == pytest.approx([0.1, 0.05])
    assert found["test/mse_tied"] == pytest.approx(0.251)
    assert found["compressor/pca_excess_max"] == pytest.approx(0.004)


def test_figures_show_every_arm_and_metric():
    figure = plots.trade_off(rows())
    assert sum(ax.get_visible() for ax in figure.axes) == len(plots.METRICS)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {plots.ARMS[arm][3] for arm in MSE}
    for made in (plots.answers(rows(), 0.99), plots.stages(rows(), {"1a": "x", "1b": "y"}), plots.shapes(128, 192, 8)):
        assert made.axes
    plt.close("all")
