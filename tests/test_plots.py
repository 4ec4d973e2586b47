"""Figures fit a window; a figure with sliders draws anew when one moves, and is shown where no widget is."""

import base64

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from trm import plots


def a_figure(width=1, height=1):
    figure, ax = plt.subplots(figsize=(width, height))
    ax.plot([0, width], [0, height])
    return figure


def test_a_slider_redraws_the_figure():
    seen, open_before = [], plt.get_fignums()

    def draw(a, b):
        seen.append((a, b))
        return a_figure(a, b)

    box, drawn, words = plots.slider_box(draw, a=(0, 9, 3), b=(1, 2, 1))
    first, second, picture = box.children
    before = picture.value
    assert seen == [(3, 1)] and drawn.startswith(b"\x89PNG") and (first.min, first.max) == (0, 9)
    assert f'alt="{words}"' in before and base64.b64encode(drawn).decode() in before
    second.value = 2
    assert seen == [(3, 1), (3, 2)] and picture.value != before
    assert plt.get_fignums() == open_before and "rem" in first.layout.width


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed in a notebook."""
    shown = []
    monkeypatch.setattr(plots, "kernel", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda content, raw: shown.append(content))
    return shown


def test_sliders_are_displayed_with_the_figure_beside_them(displayed):
    assert plots.explore(a_figure, width=(1, 9, 3), height=ipywidgets.IntSlider(1)) is None
    (content,) = displayed
    assert "application/vnd.jupyter.widget-view+json" in content and "width, height" in content["text/plain"]
    assert base64.b64decode(content["image/png"]).startswith(b"\x89PNG")


def test_a_figure_is_described_by_what_it_says():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1], label="answer")
    left.plot([1], label="halting")
    left.set(xlabel="step", ylabel="loss $L$", title="easy")
    right.barh(["none", "linear"], [1, 2])
    right.set(xlabel="accuracy")
    assert plots.describe(figure) == "easy: loss L over step: answer, halting; accuracy: none, linear"
    right.set(yscale="log", ylim=(1e-3, 1))
    assert "mathdefault" not in plots.describe(figure)
    figure.set_label("Two\npanels of $z_H$")
    assert plots.describe(figure) == "Two panels of z_H"
    assert plots.describe(plt.figure()) == "A figure"
    plt.close("all")


def test_sliders_are_left_out_of_a_script(monkeypatch):
    monkeypatch.setattr("IPython.display.display", pytest.fail)
    plots.explore(pytest.fail, width=(1, 9, 3))


def test_no_figure_is_wider_than_a_window():
    assert list(plots.tidy(a_figure(15, 3)).get_size_inches()) == [plots.WIDEST, 3]
    assert list(plots.tidy(a_figure(5, 3)).get_size_inches()) == [5, 3]
    plt.close("all")
