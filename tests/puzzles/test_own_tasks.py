"""Chapter 12: one class of parameters for several tasks, their training, and tasks of ARC's kind that are made up."""

import json

import numpy as np
import pytest

from trm.params import ParameterError
from trm.puzzles import figures, maze
from trm.puzzles.any_puzzle import AnyPuzzle
from trm.puzzles.arc import read_tasks
from trm.puzzles.arc_training import Arc
from trm.puzzles.own_tasks import TASKS, OwnTasks, make_up_arc, rules, train
from trm.run import Run

SMOKE = dict(train_size=20, valid_size=4, test_size=6, num_aug=2, hidden_size=16, halt_max_steps=2, eval_steps=2,
             batch_size=8, max_steps=4, eval_interval=4, log_interval=2, checkpoint_interval=4, backend="cpu")  # fmt: skip


def test_a_task_has_its_own_defaults_and_what_is_given():
    chapter = OwnTasks.create({"max_steps": 77, "train_size": 9, "data_path": "x"})
    maze, addition, arc = chapter.of("maze"), chapter.of("addition", "there"), chapter.of("arc", "here")
    assert type(maze) is type(addition) is AnyPuzzle and type(arc) is Arc
    assert {one.max_steps for one in (maze, addition, arc)} == {77}
    assert (maze.data_path, addition.data_path, arc.data_path) == ("x", "there", "here")
    assert maze.train_size == addition.train_size == 9 and arc.train_size == 0, "made-up tasks are as many as they are"
    assert maze.lr == arc.lr == chapter.lr and (maze.puzzle_lr, arc.puzzle_lr) == (0, TASKS["arc"]["puzzle_lr"])
    given = {"tasks": "arc", "arc_path": "d", "train_size": 9, "puzzle_tokens": 2, "puzzle_lr": 0.5, "num_aug": 1000}
    real = OwnTasks.create(given).of("arc")
    assert (real.data_path, real.train_size, real.puzzle_lr, real.num_aug) == ("d", 9, 0.5, 1000)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"tasks": "maze, mase"}, "some of maze, addition"),
        ({"tasks": "maze, maze"}, "each once"),
        ({"tasks": "maze", "num_aug": 9}, "'num_aug' = 9"),
        ({"tasks": "maze", "train_size": 0}, "how many mazes"),
        ({"mixer": "houses"}, "for Sudoku"),
    ],
)
def test_what_a_task_refuses_is_said_before_anything_is_computed(values, said):
    with pytest.raises(ParameterError, match=said):
        OwnTasks.create(values)


def test_training_goes_on_where_time_was_up_and_leaves_out_what_is_not_asked(tmp_path):
    given = SMOKE | {"tasks": "maze", "output_dir": str(tmp_path / "r")}
    whole = train(Run(OwnTasks.create(given), "12_any_puzzle"), "maze")
    assert whole.metrics["train/steps"] == 4 and len(whole.data.test) == 6
    assert whole.metrics["valid/exact_accuracy"] == whole.history[-1]["valid/exact_accuracy"]
    given["output_dir"] = str(tmp_path / "s")
    paused = Run(OwnTasks.create(given | {"time_limit": 1e-6}), "12_any_puzzle")
    assert train(paused, "maze") is None and train(paused, "addition") is None
    paused.release()
    run = Run(OwnTasks.create(given | {"resume": True}), "12_any_puzzle")
    resumed = train(run, "maze")
    for name, weights in whole.model.state_dict().items():
        assert (weights == resumed.model.state_dict()[name]).all(), name
    again = train(run, "maze")  # read, not trained
    assert again.metrics == resumed.metrics and train(run, "closure") is None


def colours(grid):
    """How often each colour is there, without their names."""
    return sorted(np.bincount(grid.ravel(), minlength=10))


def test_made_up_tasks_follow_their_rules(tmp_path):
    named = make_up_arc(tmp_path, training=2, shown=3)
    known = {}
    for part, count in (("training", 2), ("evaluation", 1)):
        tasks, left_out = read_tasks(tmp_path / f"{part}.json")
        assert not left_out and len(tasks) == count * len(rules(1, 2)) and all(len(t.shown) == 3 for t in tasks)
        assert {task.side for task in tasks} == {3}
        known |= {task.name: task for task in tasks}
    by_rule = {rule: [pair for n, r in named.items() if r == rule for pair in known[n].shown] for rule in rules(1, 2)}
    checks = {
        "mirror": lambda a, b: (b == a[:, ::-1]).all(),
        "fill": lambda a, b: (b[a > 0] == a[a > 0]).all() and len(set(b[a == 0])) <= 1 and (b > 0).all(),
        "frame": lambda a, b: (b[1:-1, 1:-1] == a[1:-1, 1:-1]).all() and len({*b[0], *b[-1], *b[:, 0], *b[:, -1]}) == 1,
        "recolour": lambda a, b: ((a > 0) == (b > 0)).all() and len(set(b[b > 0])) <= 1,
        "swap": lambda a, b: ((a > 0) == (b > 0)).all() and colours(a) == colours(b),
    }  # fmt: skip
    assert checks.keys() == by_rule.keys()
    for rule, pairs in by_rule.items():
        assert len(pairs) == 9 and all(checks[rule](*pair) for pair in pairs), rule
    again = make_up_arc(tmp_path / "again", training=2, shown=3)
    assert again == named and json.loads((tmp_path / "again" / "evaluation.json").read_text()) == json.loads(
        (tmp_path / "evaluation.json").read_text()
    )


def test_a_figure_of_mazes_marks_what_is_missing_and_what_is_wrong():
    test = maze.make(9, {"test": 2})["test"]
    truths = test.labels
    answers = np.where(truths == maze.PATH, maze.OPEN, truths)  # no path: all of it is missing
    answers[1] = truths[1]
    figure = figures.mazes(test.inputs, answers, truths, ["one", "two"])
    crosses = [sum(text.get_text() == "×" for text in ax.texts) for ax in figure.axes]
    assert crosses == [(truths[0] == maze.PATH).sum(), 0]
    wrong = maze.straight(test.inputs)
    pictures = [ax.images[0].get_array() for ax in figures.mazes(test.inputs, wrong, truths).axes]
    for picture, answer, truth in zip(pictures, wrong, truths):
        red = (picture[..., 0] > 0.8) & (picture[..., 1] < 0.7)
        assert red.sum() == ((answer == maze.PATH) & (truth != maze.PATH)).sum()
