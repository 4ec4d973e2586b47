"""Figures and metrics of chapter 01, and what the report measures from its table."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from trm.compressor import figures as plots
from trm.compressor.evaluate import chapter_metrics
from trm.report.measures import compression
from trm.report.verdicts import CONTRADICTED, NOT_SUPPORTED, OTHER_SCALE, SUPPORTED, NotThere

MSE = {"mean": 1.0, "optimum": 0.5, "pca": 0.45, "tied": 0.502, "untied": 0.46, "nonlinear": 0.1, "task_aware": 2.0}
KL = {"mean": 3.0, "optimum": 1.2, "pca": 1.0, "tied": 1.2, "untied": 1.0, "nonlinear": 0.05, "task_aware": 0.1}
COSINE = {"mean": 0.3, "optimum": 0.8, "pca": 0.85, "tied": 0.8, "untied": 0.85, "nonlinear": 0.96, "task_aware": 0.6}


def rows(mse=MSE, kl=KL, off=2.0, before=1.0):
    """Three seeds, K = 4 and 8, four pairs of stages; of another kind of text `off` times as much is lost, and `before` 1b
    the tied one loses so many times as much."""
    found = []
    for seed in range(3):
        for K in (4, 8):
            for trained, text in (("1a", "1a"), ("1a", "1b"), ("1b", "1a"), ("1b", "1b")):
                for arm in mse:
                    scale = (4 / K) * (1 + 0.001 * seed) * (off if trained != text and arm != "tied" else 1)
                    scale *= before * (1 + 0.002 * seed) if (trained, text, arm) == ("1a", "1b", "tied") else 1
                    found.append(
                        {"seed": seed, "trained": trained, "text": text, "arm": arm, "K": K, "mse": mse[arm] * scale,
                         "kl": kl[arm] * scale, "cosine_similarity": COSINE[arm], "centred_cosine": COSINE[arm] - 0.1,
                         "r2": 1 - mse[arm] * scale, "top1_agreement": 0.5, "ce_change": 0.1, "answers_right": 0.2}
                    )  # fmt: skip
    return pd.DataFrame(found)


def test_the_metrics_of_the_chapter():
    found = chapter_metrics(rows()[lambda t: t["seed"] == 0], K=8, stage="1a")
    assert found["compressor/sizes"] == [4, 8] and found["compressor/kl_pca"] == [1.0, 0.5]
    assert found["compressor/kl_task_aware"] == pytest.approx([0.1, 0.05]) and found["test/mse_tied"] == pytest.approx(
        0.251
    )
    assert found["compressor/pca_excess_max"] == pytest.approx(0.004)


def test_figures_show_every_arm_and_metric():
    figure = plots.trade_off(rows())
    assert sum(ax.get_visible() for ax in figure.axes) == len(plots.METRICS)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {plots.ARMS[arm][3] for arm in MSE}
    without = plots.trade_off(rows().drop(columns=["kl", "top1_agreement", "ce_change"]))
    assert sum(ax.get_visible() for ax in without.axes) == 3
    for made in (plots.answers(rows(), 0.99), plots.stages(rows(), {"1a": "x", "1b": "y"}), plots.shapes(128, 192, 8)):
        assert made.axes
    plt.close("all")


def held(tmp_path, measure, table, **options):
    table.to_csv(tmp_path / "01_compressor.csv", index=False)
    return measure(tmp_path, **options)


def test_measurements(tmp_path):
    better = held(tmp_path, compression.thinking_stage_gains, rows(before=1.5))
    assert better.verdict == SUPPORTED and better.seeds == 3 and "0.67 times" in better.text
    assert held(tmp_path, compression.thinking_stage_gains, rows(before=0.5)).verdict == CONTRADICTED
    assert held(tmp_path, compression.depends_on_text, rows()).verdict == SUPPORTED
    assert held(tmp_path, compression.depends_on_text, rows(off=0.9)).verdict == CONTRADICTED
    assert held(tmp_path, compression.best_size, rows()).verdict == NOT_SUPPORTED
    cosine = held(tmp_path, compression.cosine_at, rows(), ratio=48, claimed=0.85)
    assert cosine.verdict == OTHER_SCALE and "at 48x (K = 4) 0.800, of which the mean alone has 0.300" in cosine.text
    assert held(tmp_path, compression.cosine_at, rows(), ratio=24, claimed=0.8).verdict == SUPPORTED
    with pytest.raises(NotThere, match="no runs at 6x"):
        held(tmp_path, compression.cosine_at, rows(), ratio=6, claimed=0.98)
    told = held(tmp_path, compression.cosine_tells, rows())
    assert told.verdict == "in part" and "of 12 pairs" in told.text  # four arms, of which task_aware is the odd one
    with pytest.raises(NotThere, match="no runs of untied"):
        held(tmp_path, compression.tied_is_stable, rows()[lambda t: t["arm"] != "untied"])
    noisy = rows()
    noisy.loc[noisy["arm"] == "untied", "mse"] *= 1 + 0.01 * noisy["seed"]
    assert held(tmp_path, compression.tied_is_stable, noisy).verdict == SUPPORTED
