"""Data of a latent reasoner: labels of latents by worked examples, and batches row by row."""

import json

import numpy as np
import pytest

from trm.compressor.states import StateStore
from trm.language.stories import Problem, make_tokenizer
from trm.latent.data import Encoded, Exercise, ThoughtBatches, from_problem, step_labels

LENGTHS = (4, 2, 7, 3, 5)
K = 3


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(texts=3000)


def labels(tokenizer, exercise, num_latents):
    """The labels as texts; None where there is none."""
    found = step_labels(tokenizer, exercise, num_latents)
    assert found.shape == (num_latents, 4) and found.dtype == np.int64
    return [tuple(None if token == -100 else tokenizer.decode([int(token)]) for token in row) for row in found]


STORY = Problem(12, (("+", 5), ("*", 2)), 0)


def test_a_story_as_an_exercise():
    found = from_problem(STORY)
    assert (found.question, found.chain, found.answer) == (STORY.question, "12+5=17;17*2=34;", "34")
    assert found.calculations == (("12", "+", "5", "17"), ("17", "*", "2", "34")) and found.steps == 2


def test_labels_are_the_totals_and_then_the_answer(tokenizer):
    steps = [("17", "+", "5", "12"), ("34", "*", "2", "17")]
    rest = ("34", None, None, None)
    assert labels(tokenizer, from_problem(STORY), 6) == [*steps, rest, rest, rest, rest]
    assert labels(tokenizer, from_problem(STORY), 2) == steps


def test_of_a_chain_with_more_steps_than_latents_the_last_count(tokenizer):
    longer = from_problem(Problem(3, (("+", 4), ("-", 2), ("*", 2), ("+", 9)), 0))
    assert labels(tokenizer, longer, 2) == [("10", "*", "2", "5"), ("19", "+", "9", "10")]
    assert labels(tokenizer, longer, 1) == [("19", "+", "9", "10")]


def test_texts_of_several_tokens_and_exercises_without_calculations_have_no_labels(tokenizer):
    large = Exercise("?", "", "1234", (("12", "*", "500", "6000"), ("60", "-", "2.5", "57")), 2)
    assert labels(tokenizer, large, 3) == [(None, "*", None, "12"), ("57", "-", None, "60"), (None,) * 4]
    assert (step_labels(tokenizer, Exercise("?", "no numbers", "34", (), 1), 3) == -100).all()


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
    (tmp_path / "starts.json").write_text(json.dumps({"about": {}, "starts": starts}))
    return StateStore(tmp_path)


def test_every_row_is_one_exercise_with_its_own_states(store):
    batches = ThoughtBatches(exercises(), store, 2, pad_id=0)
    batch = batches.rows([2, 3, 0], with_lm=True)
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
    batches = ThoughtBatches(exercises(), store, 2, pad_id=0, seed=3, lm_loss_start=2)
    first = [batches(step) for step in range(6)]
    again = ThoughtBatches(exercises(), store, 2, pad_id=0, seed=3, lm_loss_start=2)
    for step in (5, 0, 3, 2, 4, 1):
        other = again(step)
        assert first[step].keys() == other.keys()
        assert all(np.array_equal(first[step][name], other[name]) for name in other)
    for epoch in (first[:3], first[3:]):  # three batches of two
        assert {int(row) for batch in epoch for row in batch["step_labels"][:, 0, 0]} == set(range(5))
    elsewhere = [ThoughtBatches(exercises(), store, 2, pad_id=0, seed=4)(step)["step_labels"] for step in range(6)]
    assert any(not np.array_equal(a["step_labels"], b) for a, b in zip(first, elsewhere))


@pytest.mark.parametrize("start, interval", [(0, 1), (4, 1), (1, 3), (0, 2), (None, 1)])
def test_prompts_come_with_the_steps_of_the_language_models_loss(start, interval):
    batches = ThoughtBatches(exercises(), None, 2, pad_id=0, lm_loss_start=start, lm_loss_every=interval)
    steps = [] if start is None else range(start, 9, interval)
    for step in range(9):
        more = {"input_ids", "chains", "chain_mask"} if step in steps else set()
        assert set(batches(step)) == {"states", "mask", "step_labels", "answers"} | more


def test_without_a_store_states_have_no_numbers():
    batch = ThoughtBatches(exercises(), None, 5, pad_id=0)(0)
    assert batch["states"].shape == (5, 7, 0) and batch["mask"].sum() == sum(LENGTHS)
