"""Rewards of sampled answers, by name. Add your own from a notebook cell:

REWARDS["short"] = lambda texts, problems: [len(text) < 60 for text in texts]
"""

import random
from collections.abc import Callable, Sequence

import numpy as np

from trm.errors import UserError
from trm.language.stories import Problem, read_answer

Reward = Callable[[Sequence[str], Sequence[Problem]], Sequence[float]]
LARGEST = 1e15  # the variance of such rewards still fits in float32


def right(texts: Sequence[str], problems: Sequence[Problem]) -> list[float]:
    """1 where the answer is exactly right, else 0; the chain is not checked."""
    return [float(read_answer(text) == problem.answer) for text, problem in zip(texts, problems)]


def zero(texts: Sequence[str], problems: Sequence[Problem]) -> list[float]:
    """Always 0: a control, from which nothing can be learned."""
    return [0.0] * len(texts)


def shuffled(texts: Sequence[str], problems: Sequence[Problem]) -> list[float]:
    """The rewards of `right`, randomly permuted among all texts: a control that carries no information."""
    rewards = right(texts, problems)
    random.Random("\n".join(texts)).shuffle(rewards)
    return rewards


# Name -> function of completions, those of one problem side by side, and the problem of each: one number per text.
REWARDS: dict[str, Reward] = {"right": right, "zero": zero, "shuffled": shuffled}


def compute_rewards(name: str, texts: Sequence[str], problems: Sequence[Problem]) -> np.ndarray:
    """The rewards (len(texts),) that the function `name` gives; UserError where they are not one number per text, at most
    `LARGEST` in size."""
    given, advice = REWARDS[name](texts, problems), f"give a number between -{LARGEST:g} and {LARGEST:g} for each text"
    try:
        given = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last of a tensor that requires grad
        raise UserError(f"reward {name!r} gave no numbers ({error}); {advice}") from None
    if given.shape != (len(texts),):
        raise UserError(f"reward {name!r} gave shape {given.shape} for {len(texts)} texts; {advice}")
    if not (ordinary := abs(given) <= LARGEST).all():  # nan is not
        bad = int(ordinary.argmin())
        raise UserError(f"reward {name!r} gave {given[bad]} for {texts[bad]!r}; {advice}")
    return given
