"""What a reader sees of a training: in a notebook, in a terminal, in a log; and the finding as plain text."""

import io
import time
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from trm import progress
from trm.plots import learning_curves
from trm.progress import Progress, say


def records(steps=40, every=20):
    for step in range(10, steps + 1, 10):
        yield {"step": step, "train/seconds": step / 10, "train/total_loss": 1.0}
        if step % every == 0:
            yield {"step": step, "train/seconds": step / 10, "valid/uas": 0.5, "valid/cell_accuracy": 0.25}


@pytest.fixture
def shown(monkeypatch):
    """What a notebook displays; everything is shown at once."""
    contents = []
    handle = SimpleNamespace(update=lambda content, raw: contents.append(content))
    monkeypatch.setattr("IPython.display.display", lambda content, **how: contents.append(content) or handle)
    monkeypatch.setattr(progress, "WAIT", 0)
    return contents


def kernel(monkeypatch, allow_stdin):
    found = SimpleNamespace(get_parent=lambda: {"content": {"allow_stdin": allow_stdin}})
    monkeypatch.setattr(progress, "kernel", lambda: found)


def test_a_notebook_shows_one_line_and_one_curve_that_makes_way(monkeypatch, shown, capsys):
    kernel(monkeypatch, True)
    monkeypatch.setattr(progress, "DRAWING", 1e9)  # as often as asked
    limits, panels, open_before = [], [], plt.get_fignums()

    def png(figure):
        limits.append(figure.axes[0].get_xlim())
        panels.append(len(figure.axes))
        plt.close(figure)
        return b""

    monkeypatch.setattr("trm.plots.png", png)
    show = Progress(40, learning_curves, "deep")
    show.start()
    assert "deep:   0%" in shown[0]["text/plain"] and "<img" in shown[0]["text/html"], "before the first step"
    for record in records():
        show(record)
    show.close()
    assert shown[-1].keys() == {"text/plain"}, "the chapter draws the curve that stays"
    assert "deep: 100%" in shown[-1]["text/plain"] and "step 40/40, 00:00 left, loss 1.000" in shown[-1]["text/plain"]
    assert "00:02 left" in shown[3]["text/plain"] and "loss" not in shown[0]["text/plain"]
    assert panels == [1, 1, 1, 1, 1, 1, 2], "the loss alone until two evaluations make a line"
    assert "<img" in shown[-2]["text/html"] and "UAS 0.500" in shown[-2]["text/html"]
    assert limits and set(limits) == {(0, 40)} and plt.get_fignums() == open_before
    assert capsys.readouterr().out == "", "nothing is printed besides"


def test_drawing_takes_a_small_share_of_the_time(monkeypatch, shown):
    kernel(monkeypatch, True)
    monkeypatch.setattr("trm.plots.png", lambda figure: plt.close(figure) or b"")
    drawn = []

    def draw(history):
        drawn.append(len(history))
        time.sleep(0.05)  # the next is due after 2.5 s, which the records do not take
        return plt.figure()

    monkeypatch.setattr("trm.plots.training_loss", draw)
    show = Progress(400, draw)
    show.start()
    for record in records(400):
        show(record)
    assert drawn == [0, 1], "empty axes, the first values, and the next when fifty times as long has passed"


def test_the_line_moves_between_records(monkeypatch, shown):
    kernel(monkeypatch, True)
    monkeypatch.setattr("trm.plots.png", lambda figure: plt.close(figure) or b"")
    show = Progress(40)
    show.start()
    show.tick(1, 0.5)
    assert "step 1/40, 00:19 left" in shown[-1]["text/plain"]
    monkeypatch.setattr(progress, "WAIT", 60)
    show.tick(2, 1.0)
    assert len(shown) == 2, "not at every step"
    show.close()
    assert "step 2/40" in shown[-1]["text/plain"] and "text/html" not in shown[-1]


def test_a_training_of_unknown_length_can_start(monkeypatch, shown, recwarn):
    kernel(monkeypatch, True)
    monkeypatch.setattr("trm.plots.png", lambda figure: plt.close(figure) or b"")
    Progress(0).start()
    assert "step 0/?" in shown[0]["text/plain"] and "<img" in shown[0]["text/html"] and not recwarn.list


@pytest.mark.parametrize("papermill", [False, True])
def test_where_nobody_watches_evaluations_are_plain_lines(monkeypatch, shown, capsys, papermill):
    if papermill:
        kernel(monkeypatch, False)
    show = Progress(40, pytest.fail, "deep")
    for record in records():
        show(record)
    show.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and not shown, "one for each evaluation"
    assert (
        lines[0].startswith("deep:  50% step 20/40, 00:02 left, loss 1.000, blank cells 0.250") and "\r" not in lines[0]
    )


def test_a_terminal_has_one_line_that_ends(monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    show = Progress(40, pytest.fail, "deep")
    for record in records():
        show(record)
    show.close()
    assert (
        terminal.getvalue().count("\n") == 1 and terminal.getvalue().endswith("\n") and "40/40" in terminal.getvalue()
    )
    assert capsys.readouterr().out == ""


def test_nothing_is_shown_of_a_training_that_was_complete(capsys):
    Progress(40).close()
    assert capsys.readouterr().out == ""


def test_a_finding_has_the_same_words_everywhere(monkeypatch, shown, capsys):
    say("\nIt solves **98 %**.\n")
    assert capsys.readouterr().out == "It solves 98 %.\n"
    kernel(monkeypatch, False)
    say("\nIt solves **98 %**.\n")
    assert shown == [{"text/markdown": "\nIt solves **98 %**.\n", "text/plain": "It solves 98 %."}]
