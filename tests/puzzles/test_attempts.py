"""Attempts: transformed back to the puzzle's own orientation, and each selection by a hand-made case."""

import numpy as np
import pytest

from trm.errors import UserError
from trm.model import TRM, TRMConfig
from trm.puzzles.attempts import Attempts, attempt, retry_until_valid
from trm.puzzles.dataset import load
from trm.puzzles.solve import evaluate
from trm.puzzles.sudoku import is_solution


def test_selection_by_hand():
    some = Attempts(
        answers=np.array([[[1, 1], [2, 2], [2, 2], [2, 1]], [[1, 2], [3, 3], [4, 1], [4, 2]]], np.uint8),
        confidence=np.array([[0.0, 1, 3, 2], [5, 1, 2, 3]]),
        residual=np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]),
        is_valid=np.array([[False, False, False, True], [False] * 4]),
    )
    assert some.select("confidence").tolist() == [[2, 2], [1, 2]]
    assert some.select("residual").tolist() == [[1, 1], [4, 2]]
    assert some.select("agreement").tolist() == [[2, 2], [1, 2]]  # all of the second differ: the first of them
    assert some.select("cell vote").tolist() == [[2, 1], [4, 2]]  # a tie goes to the smaller digit
    assert some.select("rule check").tolist() == [[2, 1], [1, 2]]
    assert some.solved(np.array([[2, 2], [9, 9]])).tolist() == [True, False]
    assert some.first(1).select("agreement").tolist() == [[1, 1], [1, 2]]


def test_attempts_of_a_trained_model(model, puzzles):
    plain = evaluate(model, puzzles, 4)
    tries = attempt(model, puzzles, 4, steps=4)
    assert (tries.answers[:, 0] == np.maximum(plain.predictions[:, -1] - 1, 0)).all()  # the first is the plain one
    by_try = (tries.answers == puzzles.answers[:, None]).all(-1).mean(0)
    assert (np.abs(by_try - by_try[0]) < 0.15).all()  # transformed back, a symmetric duplicate is as easy
    assert (tries.is_valid == (tries.answers == puzzles.answers[:, None]).all(-1)).all()
    right = {by: (tries.select(by) == puzzles.answers).all(1).mean() for by in ("agreement", "rule check")}
    assert right["rule check"] == tries.solved(puzzles.answers).mean() >= right["agreement"] >= by_try[0]
    assert (attempt(model, puzzles, 4, steps=4).answers == tries.answers).all()
    noisy = attempt(model, puzzles, 2, steps=4, start="noise", noise=0.5)
    assert (noisy.answers[:, 0] == tries.answers[:, 0]).all()
    assert (noisy.confidence[:, 1] != tries.confidence[:, 0]).any()


def test_retries_stop_at_the_first_valid_answer(model, puzzles):
    out = retry_until_valid(model, puzzles, tries=3, steps=6)
    assert (out.is_valid == is_solution(puzzles.shape, puzzles.questions, out.answers)).all()
    assert (out.answers[out.is_valid] == puzzles.answers[out.is_valid]).all()
    shares = [share for share, _ in out.by_try]
    assert shares == sorted(shares) and shares[-1] == out.is_valid.mean()
    full = evaluate(model, puzzles, 6)
    at_once = full.exact.any(1)
    assert shares[0] == at_once.mean()
    first_right = full.exact.argmax(1) + 1
    assert (out.steps[at_once] == first_right[at_once]).all()
    assert (out.steps[~at_once] >= 6).all() and out.steps.max() <= 18


def test_retries_from_noise_begin_with_the_plain_start(model, puzzles):
    deviations = (0.0, np.float64(2))  # as a table holds it
    plain, noisy = (retry_until_valid(model, puzzles, tries=3, steps=4, noise=noise) for noise in deviations)
    assert noisy.by_try[0] == plain.by_try[0] and noisy.by_try[1:] != plain.by_try[1:]
    assert (noisy.is_valid == is_solution(puzzles.shape, puzzles.questions, noisy.answers)).all()


def test_what_is_not_there_is_said():
    puzzles = load("6x6", test_size=2).test
    model = TRM(TRMConfig(hidden_size=16, vocab_size=8, seq_len=36))
    for options in (dict(tries=0), dict(tries=1, start="luck")):
        with pytest.raises(UserError, match="at least 1 try, from symmetry or noise"):
            attempt(model, puzzles, steps=1, **options)
    with pytest.raises(UserError, match="no selection 'best'"):
        attempt(model, puzzles, 1, 1).select("best")
