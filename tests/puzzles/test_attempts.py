"""Attempts: turned back to the puzzle's own orientation, and each way to choose by a hand-made case."""

import numpy as np
import pytest

from trm.puzzles.attempts import Attempts, attempt, persist
from trm.puzzles.dataset import load
from trm.puzzles.evaluation import evaluate
from trm.puzzles.grid import SHAPES, is_solution, random_numbers, transform, transform_back
from trm.puzzles.loading import shipped_model


@pytest.mark.parametrize("size", ["4x4", "6x6", "9x9"])
def test_turning_back_undoes_a_symmetry(size):
    shape, rng = SHAPES[size], np.random.default_rng(0)
    grids = rng.integers(0, shape.size + 1, (50, 2, shape.cells)).astype(np.uint8)
    uniform = rng.random((50, random_numbers(shape)))
    turned = transform(shape, grids, uniform)
    assert (turned != grids).any()
    assert (transform_back(shape, turned, uniform) == grids).all()


def hand_made():
    answers = np.array([[[1, 1], [2, 2], [2, 2], [2, 1]], [[1, 2], [3, 3], [4, 1], [4, 2]]], np.uint8)
    return Attempts(
        questions=np.zeros((2, 2), np.uint8),
        answers=answers,
        confidence=np.array([[0.0, 1, 3, 2], [5, 1, 2, 3]]),
        residual=np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]),
        obeys=np.array([[False, False, False, True], [False] * 4]),
    )


def test_selection_by_hand():
    some = hand_made()
    assert some.select("confidence").tolist() == [[2, 2], [1, 2]]
    assert some.select("residual").tolist() == [[1, 1], [4, 2]]
    assert some.select("agreement").tolist() == [[2, 2], [1, 2]]  # all of the second differ: the first of them
    assert some.select("cell vote").tolist() == [[2, 1], [4, 2]]  # a tie goes to the smaller digit
    assert some.select("rule check").tolist() == [[2, 1], [1, 2]]
    assert some.solved(np.array([[2, 2], [9, 9]])).tolist() == [True, False]
    assert some.first(1).select("agreement").tolist() == [[1, 1], [1, 2]]
    with pytest.raises(ValueError, match="no way to select 'luck'"):
        some.select("luck")


def test_attempts_of_a_trained_model():
    model, puzzles = shipped_model("6x6")[0], load("6x6", valid_size=8, test_size=80).test
    plain = evaluate(model, puzzles, 4)
    tries = attempt(model, puzzles, 4, steps=4)
    assert (tries.answers[:, 0] == np.maximum(plain.predictions[:, -1] - 1, 0)).all()  # the first is the plain one
    by_try = (tries.answers == puzzles.answers[:, None]).all(-1).mean(0)
    assert (np.abs(by_try - by_try[0]) < 0.15).all()  # turned back rightly, a twin is as easy
    assert (tries.obeys == (tries.answers == puzzles.answers[:, None]).all(-1)).all()
    right = {by: (tries.select(by) == puzzles.answers).all(1).mean() for by in ("agreement", "rule check")}
    assert right["rule check"] == tries.solved(puzzles.answers).mean() >= right["agreement"] >= by_try[0]
    again = attempt(model, puzzles, 4, steps=4)
    assert (again.answers == tries.answers).all()
    noisy = attempt(model, puzzles, 2, steps=4, start="noise", noise=0.5)
    assert (noisy.answers[:, 0] == tries.answers[:, 0]).all() and (
        noisy.confidence[:, 1] != tries.confidence[:, 0]
    ).any()


def test_persisting_stops_when_the_rules_are_obeyed():
    model, puzzles = shipped_model("6x6")[0], load("6x6", valid_size=8, test_size=80).test
    out = persist(model, puzzles, tries=3, steps=6)
    assert (out.obeys == is_solution(puzzles.shape, puzzles.questions, out.answers)).all()
    assert (out.answers[out.obeys] == puzzles.answers[out.obeys]).all()
    shares = [share for share, _ in out.by_try]
    assert shares == sorted(shares) and shares[-1] == out.obeys.mean()
    full = evaluate(model, puzzles, 6)
    at_once = full.exact.any(1)
    assert shares[0] == at_once.mean()
    first_right = full.exact.argmax(1) + 1
    assert (out.steps[at_once] == first_right[at_once]).all()
    assert (out.steps[~at_once] >= 6).all() and out.steps.max() <= 18
