"""A chain whose first steps are latents: what the language model is given, how it goes on, that it follows a swapped total."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch

from tests.latent.test_evaluate import FROZEN, TOKENIZER, thinking
from trm.language.stories import problems
from trm.latent import continued as chains
from trm.latent import figures as plots
from trm.latent.continued import FRAME, Begun, continued, follows_swap, framed, half
from trm.latent.data import from_problem
from trm.latent.frozen_lm import tokens_of
from trm.latent.thinking import Thinking

SOME = [from_problem(one) for one in islice(problems("test", 5, 2, 4), 40)]


def true_steps(some, count=4):
    """The steps of chains as exact words; those that a chain lacks are zeros."""
    numbers, totals = (torch.zeros(len(some), count, FROZEN.hidden_size) for _ in range(2))
    for row, one in enumerate(some):
        for i, (_, _, number, total) in enumerate(one.calculations[:count]):
            for found, text in ((numbers, number), (totals, total)):
                found[row, i] = FROZEN.embeddings[tokens_of(TOKENIZER, text)[0]]
    return Begun(numbers, totals)


@pytest.fixture
def exact(monkeypatch):
    """Thinking whose latents are the true steps of `some`, whichever they are."""
    way, asked = thinking(most=40), []
    monkeypatch.setattr(
        way, "read", lambda some, thinking=True, read=way.read: asked.append(some) or read(some, thinking)
    )
    monkeypatch.setattr(chains, "begin", lambda way, prompt: true_steps(asked[-1]))
    return way


def test_the_language_model_is_given_the_frame_with_the_latents_in_it():
    some = SOME[:3]
    given = framed(thinking(), true_steps(some), 2)
    assert given.shape == (3, 2 * len(FRAME), FROZEN.hidden_size)
    for row, one in enumerate(some):
        text = "".join(f"0+{number}={total};" for _, _, number, total in one.calculations[:2])
        assert torch.equal(given[row], FROZEN.embeddings[tokens_of(TOKENIZER, text)])


def test_half_is_rounded_up():
    assert [half(n) for n in range(1, 7)] == [1, 1, 2, 2, 3, 3]


def test_no_latents_leave_the_written_chain_as_it_is(exact):
    plain, found = Thinking(FROZEN, None, 40).without(SOME, True), continued(exact, SOME, first=lambda steps: 0)
    assert found.texts == plain.texts and np.array_equal(found.right, plain.right)


def test_the_language_model_goes_on_after_the_steps_it_is_given(exact):
    found = continued(exact, SOME)
    assert found.accuracy >= 0.9
    for one, text in list(zip(SOME, found.texts))[:20]:
        rest = "".join(f"{a}{op}{n}={b};" for a, op, n, b in one.calculations[half(one.steps) :])
        assert found.right[SOME.index(one)] == 0 or text == f"{rest}</think>{one.answer}"
    whole = Thinking(FROZEN, None, 40).without(SOME, True)
    saved = [len(FRAME) * half(one.steps) for one in SOME]
    assert np.array_equal(found.tokens[found.right > 0], (whole.tokens - saved)[found.right > 0])


def test_a_swapped_total_alone_is_what_changes(exact):
    steps = true_steps(SOME[:6])
    found = chains.swapped(steps, 2)
    assert torch.equal(found.numbers, steps.numbers) and torch.equal(found.totals[:, 1], steps.totals[:, 1].roll(1, 0))
    assert torch.equal(found.totals[:, [0, 2, 3]], steps.totals[:, [0, 2, 3]])
    follows = follows_swap(exact, SOME)
    assert follows["swapped"] >= 0.9 and follows["own"] <= 0.05 and follows["to_the_end"] >= 0.8


def test_a_chain_that_ignores_the_latents_follows_no_swap(exact, monkeypatch):
    def own(way, some, change):
        rest = ["".join(f"{a}{op}{n}={b};" for a, op, n, b in one.calculations[half(one.steps) :]) for one in some]
        return replace(answers, texts=[f"{text}</think>{one.answer}" for text, one in zip(rest, some)])

    answers = continued(exact, SOME[:2])
    monkeypatch.setattr(chains, "continued", own)
    found = follows_swap(exact, SOME)
    assert found["swapped"] == 0 and found["own"] == 1 and found["to_the_end"] == 0


def test_means_hold_no_problem(exact):
    steps = true_steps(SOME[:6])
    bare, mean = chains.no_numbers(steps, 2), chains.mean(steps, 2)
    assert torch.equal(bare.totals, steps.totals) and torch.allclose(bare.numbers[3], steps.numbers.mean(0))
    assert torch.allclose(mean.totals[2], steps.totals.mean(0))
    assert continued(exact, SOME, change=chains.mean).accuracy <= 0.2


def test_methods_by_count_write_one_step_less_each(exact):
    found = {name: method(SOME) for name, method in chains.methods_by_count(exact, 3).items()}
    assert [*found] == ["chain", "1", "2", "3", "half", "no_numbers", "mean"]
    whole = Thinking(FROZEN, None, 40).without(SOME, True)
    assert found["chain"].texts == whole.texts and found["half"].texts == continued(exact, SOME).texts
    for k in (1, 2, 3):
        saved = [len(FRAME) * min(k, one.steps - 1) for one in SOME]
        right = found[str(k)].right > 0
        assert np.array_equal(found[str(k)].tokens[right], (whole.tokens - saved)[right]) and right.mean() > 0.9


def test_the_figure_of_continued_chains_shows_every_count_and_the_swaps():
    ways = ("chain", "1", "half", "mean")
    rows = pd.DataFrame([{"way": way, "seed": s, "accuracy": 0.9, "tokens": 20.0 - i, "ms/1": 50.0}
                         for i, way in enumerate(ways) for s in (0, 1)])  # fmt: skip
    rows.loc[rows["way"] == "half", ["swap/swapped", "swap/own", "swap/to_the_end"]] = 0.8, 0.1, 0.7
    axes = plots.continued_chain(rows).axes
    assert [label.get_text() for label in axes[1].get_xticklabels()] == ["0", "1", "half", "half,\nmean"]
    assert axes[1].containers[0].lines[0].get_ydata().tolist() == [20, 19, 18, 17]
    assert [bar.get_height() for bar in axes[3].patches] == pytest.approx([0.8, 0.1, 0.7])
