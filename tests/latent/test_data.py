"""Data of a latent reasoner: labels of latents by worked examples, and batches row by row."""

import json

import numpy as np
import pytest

from trm.compressor.states import StateStore
from trm.language.stories import Problem, make_tokenizer
from trm.latent.data import Encoded, Exercise, ThoughtBatches, from_problem, step_labels

LENGTHS = (4, 2, 7, 3, 5)
K = 3
STORY = Problem(12, (("+", 5), ("*", 2)), 0)
STEPS = [("17", "+", "5", "12"), ("34", "*", "2", "17")]
REST = ("34", None, None, None)
LONGER = Problem(3, (("+", 4), ("-", 2), ("*", 2), ("+", 9)), 0)
LARGE = Exercise("?", "", "1234", (("12", "*", "500", "6000"), ("60", "-", "2.5", "57")), 2)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(texts=3000)


def test_a_story_as_an_exercise():
    found = from_problem(STORY)
    assert (found.question, found.chain, found.answer) == (STORY.question, "12+5=17;17*2=34;", "34")
    assert found.calculations == (("12", "+", "5", "17"), ("17", "*", "2", "34")) and found.steps == 2


@pytest.mark.parametrize(
    "exercise, expected",
    [
        (from_problem(STORY), [*STEPS, REST, REST]),
        (from_problem(STORY), STEPS),
        (from_problem(LONGER), [("10", "*", "2", "5"), ("19", "+", "9", "10")]),  # the last steps count
        (from_problem(LONGER), [("19", "+", "9", "10")]),
        (LARGE, [(None, "*", None, "12"), ("57", "-", None, "60"), (None,) * 4]),  # texts of several tokens have none
        (Exercise("?", "no numbers", "34", (), 1), [(None,) * 4] * 3),
    ],
)
def test_labels_are_the_totals_and_then_the_answer(tokenizer, exercise, expected):
    found = step_labels(tokenizer, exercise, len(expected))
    assert found.shape == (len(expected), 4) and found.dtype == np.int64
    said = [tuple(None if token == -100 else tokenizer.decode([int(token)]) for token in row) for row in found]
    assert said == expected


def test_labels_without_the_answer_hold_the_totals_before_it_alone(tokenizer):
    whole, kept = (step_labels(tokenizer, from_problem(STORY), 4, teach_answer) for teach_answer in (True, False))
    assert (kept[1:, 0] == -100).all() and (whole[1:, 0] != -100).all(), "the last step's total is the answer"
    assert np.array_equal(kept[0], whole[0]) and np.array_equal(kept[:, 1:], whole[:, 1:]), "the notes stay"


# --- batches ------------------------------------------------------------------------------------------------------


def exercises():
    """Five, of several lengths; every token of the i-th is i + 10."""
    return [
        Encoded([i + 10] * n, [i + 10] * (i + 1), [i + 10] * (1 + i % 2), np.full((2, 4), i), i + 1)
        for i, n in enumerate(LENGTHS)
    ]


@pytest.fixture
def store(tmp_path):
    """States of the exercises' prompts: that of the j-th token of the i-th is 100 i + j."""
    rows = np.concatenate([100 * i + np.arange(n) for i, n in enumerate(LENGTHS)])
    np.save(tmp_path / "states.npy", np.repeat(rows[:, None], K, 1).astype(np.float32))
    starts = np.cumsum([0, *LENGTHS]).tolist()
    (tmp_path / "starts.json").write_text(json.dumps({"about": {}, "starts": starts}), encoding="utf-8")
    return StateStore(tmp_path)


def test_states_after_thinking_are_those_of_the_rows(store):
    after = np.arange(10, dtype=np.float32).reshape(5, 2)
    batch = ThoughtBatches(exercises(), store, 2, pad_id=0, after=after).rows([2, 3, 0], with_lm=False)
    assert np.array_equal(batch["after"], after[[2, 3, 0]])


def test_every_row_is_one_exercise_with_its_own_states(store):
    batch = ThoughtBatches(exercises(), store, 2, pad_id=0).rows([2, 3, 0], with_lm=True)
    assert batch["states"].shape == (3, 7, K) and batch["states"].dtype == np.float32 and batch["mask"].dtype == bool
    for place, i in enumerate((2, 3, 0)):
        n, token = LENGTHS[i], i + 10
        assert batch["mask"][place].tolist() == [True] * n + [False] * (7 - n)
        expected = np.repeat(100 * i + np.arange(n)[:, None], K, 1)
        assert np.array_equal(batch["states"][place, :n], expected) and not batch["states"][place, n:].any()
        assert (batch["step_labels"][place] == i).all() and batch["step_labels"].shape == (3, 2, 4)
        assert batch["input_ids"][place].tolist() == [token] * n + [0] * (7 - n)
        assert batch["chains"][place].tolist() == [token] * (i + 1) + [0] * (3 - i)
        assert batch["chain_mask"][place].tolist() == [True] * (i + 1) + [False] * (3 - i)
    assert batch["answers"].tolist() == [[12, -100], [13, 13], [10, -100]]


def test_a_chain_may_hold_the_token_of_the_pad():
    row = Encoded([1], [5, 0, 9], [2], np.zeros((1, 4), np.int64), 1)
    batch = ThoughtBatches([row], None, 1, pad_id=9).rows([0], with_lm=True)
    assert batch["chains"].tolist() == [[5, 0, 9]] and batch["chain_mask"].all()


def test_batches_are_a_pure_function_of_the_step(store):
    first, again, other = (ThoughtBatches(exercises(), store, 2, 0, seed, lm_loss_start=2) for seed in (3, 3, 4))
    batches = [first(step) for step in range(6)]
    for step in (5, 0, 3, 2, 4, 1):
        np.testing.assert_equal(batches[step], again(step))
    for epoch in (batches[:3], batches[3:]):  # three batches of two
        assert {int(row) for batch in epoch for row in batch["step_labels"][:, 0, 0]} == set(range(5))
    assert any((batches[step]["step_labels"] != other(step)["step_labels"]).any() for step in range(6))


@pytest.mark.parametrize("start, interval", [(0, 1), (4, 1), (1, 3), (0, 2), (None, 1)])
def test_prompts_come_with_the_steps_of_the_language_models_loss(start, interval):
    batches = ThoughtBatches(exercises(), None, 2, pad_id=0, lm_loss_start=start, lm_loss_every=interval)
    steps = [] if start is None else range(start, 9, interval)
    for step in range(9):
        more = {"input_ids", "chains", "chain_mask"} if step in steps else set()
        assert set(batches(step)) == {"states", "mask", "step_labels", "answers"} | more
        assert batches(step)["states"].shape[2] == 0, "without a store"
