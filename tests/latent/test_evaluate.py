"""Methods of answering: what counts as right, chains of the shipped model, latents that are read, swaps, batches, time."""

from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch

from trm.language.lm import load_lm
from trm.language.stories import problems
from trm.latent import figures as plots
from trm.latent.continued import continued, follows_swap
from trm.latent.data import Exercise, from_problem
from trm.latent.evaluate import chapter_metrics, latency
from trm.latent.frozen_lm import FrozenLM, tokens_of
from trm.latent.reasoner import SHIPPED_REASONER, LatentReasoner, Pause, ReasonerConfig, load_reasoner
from trm.latent.swap import swap_test
from trm.latent.thinking import Answers, Thinking, in_batches, is_right

LM, TOKENIZER = load_lm()
FROZEN = FrozenLM(LM, TOKENIZER, 2, ";")
SOME = [from_problem(one) for one in islice(problems("test", 7, 2, 4), 8)]
WORDS = torch.tensor(sorted({tokens_of(TOKENIZER, str(number))[0] for number in range(100)}))


def thinking(kind=LatentReasoner, most=40, **options):
    torch.manual_seed(0)
    small = {"d_compressed": 8, "num_latents": 2, "hidden_size": 16, "num_heads": 2, "H_cycles": 3}
    reasoner = kind(ReasonerConfig(num_words=len(WORDS), **small | options)).eval()
    reasoner.begin(WORDS, FROZEN.embeddings)
    return Thinking(FROZEN, reasoner, most, most)


@pytest.mark.parametrize(
    "text, answer, right",
    [
        ("34", "34", True),
        (" 34.", "34", True),
        ("12+5=17;17*2=34;</think>34", "34", True),
        ("12+5=17;17*2=34;</think>", "34", False),
        ("12+5=34;</think>17", "34", False),
        ("34</think>", "34", False),
        ("</think>17</think>34", "34", True),
        ("It is 34</think> so $1,034 of 34", "1034", False),
        ("of the 34 she has \\boxed{1,034} now, on day 3", "1034", True),
        ("#### 1,034", "1034", True),
        ("1/2", "0.5", True),
        ("345", "34", False),
        ("", "0", False),
    ],
)
def test_right_is_the_number_that_comes_last_after_the_thoughts(text, answer, right):
    assert is_right(text, Exercise("?", "", answer, (), 1)) is right
    one = Exercise("?", "", "18", (), 1)
    assert is_right("18. Janet sells 3 a day", one, first=True) and not is_right("18. Janet sells 3 a day", one)


def test_a_written_chain_is_right_mostly_and_every_token_is_counted():
    found = Thinking(FROZEN, None, 40).without(SOME, thinking=True)
    assert found.right.shape == found.tokens.shape == (8,) and len(found.texts) == 8
    assert found.accuracy == found.right.mean() >= 0.75
    for one, text, right, tokens in zip(SOME, found.texts, found.right, found.tokens):
        assert right == (text.split("</think>")[-1] == one.answer)
        assert "<eos>" not in text and "<pad>" not in text
        assert tokens == len(tokens_of(TOKENIZER, text)) + 1, "and the end"


def test_answers_at_once_are_short_and_limited():
    found = Thinking(FROZEN, None, 40).without(SOME, thinking=False)
    assert (found.tokens <= 4).all() and (found.tokens >= 2).all()
    assert all("</think>" not in text and text.strip().isdigit() for text in found.texts)
    limited = Thinking(FROZEN, None, 3, max_answer_tokens=1)
    short, cut = limited.without(SOME, thinking=False), limited.without(SOME, thinking=True)
    assert (short.tokens == 1).all() and (cut.tokens == 3).all() and not cut.right.any()


def test_latents_that_are_the_chain_itself_are_answered_as_the_chain_is():
    """Without its last semicolon, which the closing has."""
    same = [from_problem(one) for one in islice(problems("test", 3, 2, 2), 40)]
    same = [one for one in same if len(tokens_of(TOKENIZER, one.chain)) == 12][:6]
    ids = torch.tensor([tokens_of(TOKENIZER, one.chain) for one in same])
    way = thinking()
    found = way.with_latents(same, lambda prompt, latents: FROZEN.embeddings[ids[:, :-1]])
    assert found.accuracy >= 0.8 and (found.tokens <= 3).all()
    own = way.with_latents(same)
    assert own.texts == way.with_latents(same, lambda prompt, latents: latents).texts != found.texts


def test_latents_are_those_of_the_last_thought():
    way = thinking()
    thoughts = way.thoughts(way.read(SOME))
    assert len(thoughts) > 1 and torch.equal(way.latents(way.read(SOME)), way.reasoner.latents(thoughts[-1]))


def test_a_direct_answer_is_the_word_nearest_to_the_last_latent():
    way = thinking()
    ids = torch.tensor([tokens_of(TOKENIZER, one.answer)[0] for one in SOME])
    logits = torch.randn(8, 2, 4, len(WORDS))
    for latent, tokens in ((0, ids.roll(1)), (1, ids)):
        logits[range(8), latent, 0, torch.searchsorted(WORDS, tokens)] = 9
    way.reasoner.logits = lambda thought: logits
    assert way.nearest_tokens(way.read(SOME)).tolist() == torch.stack((ids.roll(1), ids), 1).tolist()
    found = way.direct(SOME)
    assert found.texts == [one.answer for one in SOME] and found.accuracy == 1 and not found.tokens.any()


def test_problems_in_batches_are_answered_as_all_at_once():
    plain, way, pause = Thinking(FROZEN, None, 40), thinking(most=4), thinking(Pause, most=4)
    for answer in (lambda some: plain.without(some, True), way.with_latents, way.direct, pause.with_latents):
        whole, parts = answer(SOME[:4]), in_batches(answer, SOME[:4], 3)
        assert parts.texts == whole.texts and len(whole.texts) == 4
        assert np.array_equal(parts.right, whole.right) and np.array_equal(parts.tokens, whole.tokens)


def test_latency_is_measured_in_turn_after_a_round_that_warms_up():
    seen = []

    def answer(some, name):
        seen.append((name, len(some)))
        return Answers(np.ones(len(some)), np.ones(len(some)), [""] * len(some))

    found = latency({name: partial(answer, name=name) for name in "ab"}, SOME[:5], 3, rounds=2)
    assert seen == [("a", 3), ("b", 3)] + 2 * [("a", 3), ("a", 2), ("b", 3), ("b", 2)]
    assert set(found) == {"a", "b"} and min(found.values()) > 0


@pytest.mark.slow
def test_the_language_model_copies_the_answer_from_the_last_latents_of_the_shipped_reasoner():
    """Whatever latents 1 to 3 hold, as the reasoner's card says."""
    stories = [from_problem(one) for one in islice(problems("test", 0, 2, 6), 1500)]
    stories = [one for one in stories if one.steps == 4]
    found = swap_test(Thinking(FROZEN, load_reasoner(SHIPPED_REASONER / "thoughts", 192), 80, 8), stories)
    table = pd.DataFrame(found).set_index(["slots", "by"]).round(3)
    assert len(stories) == 316 and table.loc[("none", "own"), "accuracy"] == 0.953
    assert table.loc[("steps", "other"), "accuracy"] == 0.949 and table.loc[("steps", "mean"), "accuracy"] == 0.956
    assert table.loc[("answer", "other"), "accuracy"] == 0.013
    assert table.loc[("answer", "other"), "other_answer"] > 0.92
    assert len(plots.swaps(table.reset_index()).axes) == 2


@pytest.mark.slow
def test_the_language_model_goes_on_from_the_totals_of_the_shipped_reasoner():
    """Which was never taught an answer: as the chapter says of 300 stories."""
    stories = [from_problem(one) for one in islice(problems("test", 0, 2, 6), 300)]
    thinking = Thinking(FROZEN, load_reasoner(SHIPPED_REASONER / "totals", 192), 80, 8)
    assert not thinking.reasoner.config.teach_answer
    assert in_batches(partial(continued, thinking), stories, 64).right.sum() == 296
    found = follows_swap(thinking, stories)
    assert round(found["swapped"], 3) == 0.993 and found["own"] == 0 and round(found["to_the_end"], 3) == 0.941


def test_metrics_and_figures_of_a_table():
    names = ("no_thinking", "chain", "thoughts", "mean")
    rows = [{"way": name, "seed": 0, "accuracy": 0.3 * i + 0.3, "accuracy/2": 0.5} for i, name in enumerate(names)]
    for row in rows[:3]:
        row |= {"ms/1": 60.0 if row["way"] == "chain" else 15.0, "ms/64": 8.0}
    metrics = chapter_metrics(rows)
    assert metrics["latent/gap_recovered"] == pytest.approx(2) and metrics["latent/speedup"] == 4
    assert metrics["latent/accuracy"] == pytest.approx(0.9) and metrics["latent/accuracy_chain"] == pytest.approx(0.6)
    table = pd.DataFrame(rows)
    assert len(plots.steps(table).axes[0].get_legend().get_texts()) == 4
    assert len(plots.times(table).axes[1].get_legend().get_texts()) == 3, "without those that were not timed"
    one = Exercise("?", "1+2=3;3*2=6;", "6", (("1", "+", "2", "3"), ("3", "*", "2", "6")), 2)
    assert len(plots.thoughts(one, [[("3", 0.9), ("5", 0.5), ("6", 0.7)]]).axes[0].patches) == 3
    history = [{"step": 2, "valid/accuracy": 0.5, "valid/latent_1": 0.4}, {"step": 4, "valid/accuracy": 0.6}]
    assert len(plots.progress(history).axes[0].lines) == 2
    assert len(plots.constant_share({"x": [0.5, 0.1]}).axes[0].lines) == 1
