"""Latents that the language model must think with: the first k steps of a chain written at once, which it then continues.

    question /think<think> | 0+n=t; 0+n=t; | 12-4=8;8*2=16;</think>16

The k-th latent of a reasoner that is taught the steps of chains holds the total t of step k, and as a note its number n. Both
are mixtures of words; the other tokens are the same in every step (`FRAME`). The language model is told neither the operation
nor the total before, and nothing of the steps after k. The last step is never latent: its total is the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trm.latent.data import Exercise
from trm.latent.frozen_lm import Prompt, tokens_of
from trm.latent.thinking import Answers, Method, Thinking

FRAME = ("0", "+", "n", "=", "t", ";")  # n and t are latent


@dataclass(frozen=True)
class Begun:
    """The steps that a reasoner writes, as inputs to the language model: numbers and totals, (B, num_latents, D) each."""

    numbers: Tensor
    totals: Tensor


@torch.no_grad()
def begin(thinking: Thinking, prompt: Prompt) -> Begun:
    """The steps of all latents, for prompts that were read."""
    reasoner = thinking.reasoner
    words = reasoner.logits(thinking.thoughts(prompt)[-1]).softmax(-1) @ reasoner.words
    return Begun(words[:, :, 2], words[:, :, 0])


def half(steps: int) -> int:
    """Half of the steps, rounded up."""
    return -(-steps // 2)


def continued(
    thinking: Thinking,
    some: Sequence[Exercise],
    first: Callable[[int], int] = half,
    change: Callable[[Begun, int], Begun] | None = None,
) -> Answers:
    """Answers after a chain of which `first(steps)` steps are latents, of `change(those, how many)` where it is given, and the
    language model writes the rest; a chain that does not end within the limit is wrong."""
    right, tokens, texts = np.zeros(len(some)), np.zeros(len(some), int), [""] * len(some)
    counts = np.array([first(one.steps) for one in some])
    for k in sorted(set(counts.tolist())):
        rows = np.flatnonzero(counts == k)
        group = [some[i] for i in rows]
        prompt, given = thinking.read(group), None
        if k:
            steps = begin(thinking, prompt)
            given = framed(thinking, change(steps, k) if change else steps, k)
        ids = thinking.lm.generate_greedy(prompt, given, thinking.max_new_tokens, closed=False)
        found = thinking.answers_in(group, ids, first=False)
        ended = np.array(["</think>" in text for text in found.texts])
        right[rows], tokens[rows] = found.right * ended, found.tokens
        for i, text in zip(rows, found.texts):
            texts[i] = text
    return Answers(right, tokens, texts)


def framed(thinking: Thinking, steps: Begun, k: int) -> Tensor:
    """The first k steps as inputs to the language model, (B, k * len(FRAME), D)."""
    lm = thinking.lm
    fixed = [tokens_of(lm.tokenizer, text)[0] for text in FRAME]
    words = F.embedding(torch.tensor(fixed, device=lm.device), lm.embeddings).float()  # (6, D)
    found = words.repeat(len(steps.totals), k, 1, 1)  # (B, k, 6, D)
    found[:, :, FRAME.index("n")], found[:, :, FRAME.index("t")] = steps.numbers[:, :k], steps.totals[:, :k]
    return found.flatten(1, 2)


def no_numbers(steps: Begun, k: int) -> Begun:
    """The totals alone: every number is the mean over the problems."""
    return replace(steps, numbers=steps.numbers.mean(0).expand_as(steps.numbers))


def mean(steps: Begun, k: int) -> Begun:
    """Numbers and totals of no problem: their means over the problems."""
    return Begun(steps.numbers.mean(0).expand_as(steps.numbers), steps.totals.mean(0).expand_as(steps.totals))


def swapped(steps: Begun, k: int) -> Begun:
    """The k-th total of the problem before in the batch; all else is its own."""
    totals = steps.totals.clone()
    totals[:, k - 1] = totals[:, k - 1].roll(1, 0)
    return replace(steps, totals=totals)


def methods_by_count(thinking: Thinking, most: int) -> dict[str, Method]:
    """Methods by how many steps of the chain are latents: `chain`, none; `1` to `most`, so many, or all but the last step of a
    shorter chain; `half`; and half with the controls `no_numbers` and `mean`."""
    found: dict[str, Method] = {"chain": partial(thinking.without, thinking=True)}
    for k in range(1, most + 1):
        found[str(k)] = partial(continued, thinking, first=lambda steps, k=k: min(k, steps - 1))
    found["half"] = partial(continued, thinking)
    return found | {f.__name__: partial(continued, thinking, change=f) for f in (no_numbers, mean)}


def follows_swap(thinking: Thinking, some: Sequence[Exercise]) -> dict[str, float]:
    """What the language model goes on with if the total of the last latent before it, at half of the steps, is another
    problem's: the share of continuations whose first number is the swapped total (`swapped`), or still its own (`own`), and
    whose answer is what the remaining steps make of the swapped total (`to_the_end`; pairs where it stays among 0 to 99). Pairs
    of problems of equal length whose totals differ."""
    found = {"swapped": [], "own": [], "to_the_end": []}
    for length in sorted({one.steps for one in some if one.steps > 1}):
        group = [one for one in some if one.steps == length]
        k = half(length)
        texts = continued(thinking, group, change=swapped).texts
        for one, other, text in zip(group, [*group[-1:], *group[:-1]], texts):
            own, given = one.calculations[k - 1][3], other.calculations[k - 1][3]
            if own == given:
                continue
            begins = text.replace("-", "+").replace("*", "+").split("+")[0]
            found["swapped"].append(begins == given)
            found["own"].append(begins == own)
            totals = [int(given)]
            for _, operation, number, _ in one.calculations[k:]:
                n = int(number)
                totals.append({"+": totals[-1] + n, "-": totals[-1] - n, "*": totals[-1] * n}[operation])
            if all(0 <= total <= 99 for total in totals):
                found["to_the_end"].append(text.split("</think>")[-1] == str(totals[-1]))
    return {name: float(np.mean(hits)) if hits else float("nan") for name, hits in found.items()}
