"""Swap test: whose answer comes out when some latents of a problem are another problem's?"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from trm.latent.data import Exercise
from trm.latent.frozen_lm import Prompt
from trm.latent.thinking import Thinking


def replaced(prompt: Prompt, own: Tensor, which: Sequence[int], source: str) -> Tensor:
    """Latents (B, n, D) with the slots `which` of the problem before in the batch (`other`), or the mean of the batch."""
    found, other = own.clone(), own.roll(1, 0) if source == "other" else own.mean(0).expand_as(own)
    found[:, which] = other[:, which]
    return found


def swap_test(thinking: Thinking, some: Sequence[Exercise]) -> list[dict]:
    """Answers after latents of which some slots are replaced, for problems of equal length, each with the one before it as the
    other. A row per slot (counted from 1), for the slots that are taught steps (`steps`), and for those that are taught the
    answer (`answer`); replaced by the other problem's latents (`other`) or by their mean over the problems (`mean`): accuracy,
    and other_answer, the share of answers that are the other problem's (problems with the same answer left out)."""
    length, count = some[0].steps, thinking.reasoner.config.num_latents
    slots = {"none": []} | {str(i + 1): [i] for i in range(count)}
    if 0 < length - 1 < count:
        slots |= {"steps": list(range(length - 1)), "answer": list(range(length - 1, count))}
    others = [one.answer for one in [*some[-1:], *some[:-1]]]
    differ = np.array([one.answer != other for one, other in zip(some, others)])
    rows = []
    for name, which in slots.items():
        for source in ("other", "mean") if which else ("own",):
            answers = thinking.with_latents(some, partial(replaced, which=which, source=source))
            copied = np.array([text.strip() == other for text, other in zip(answers.texts, others)])
            rows.append({"slots": name, "by": source, "accuracy": answers.accuracy,
                         "other_answer": float(copied[differ].mean()), "problems": len(some)})  # fmt: skip
    return rows
