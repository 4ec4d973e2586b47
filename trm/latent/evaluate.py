"""Ways of answering compared: a language model that answers at once, that writes its chain first, or that is given latents.

All go through one loop of writing (`FrozenLM.write`), so that their times compare the ways and not the loops.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trm.language.gsm8k import read_number
from trm.latent.data import Exercise
from trm.latent.frozen_lm import FrozenLM, Prompt, chat_prompt, padded, tokens_of
from trm.latent.reasoner import Latents


@dataclass(frozen=True)
class Answered:
    """What became of N problems: right (N,), tokens that the language model wrote for each (N,), and the texts."""

    right: np.ndarray
    tokens: np.ndarray
    texts: list[str]

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float(self.right.mean())


Way = Callable[[Sequence[Exercise]], Answered]


def is_right(text: str, exercise: Exercise, first: bool = False) -> bool:
    """Whether a text gives the answer: the number that it ends with (`first`: begins with), after its thoughts."""
    return read_number(text.split("</think>")[-1], first) == read_number(exercise.answer)


class Thinking:
    """Latents for prompts, and answers with them or without.

    Args:
        lm: the language model. reasoner: what writes the latents; None where only the ways without are asked for.
        max_new_tokens: most tokens of a chain with its answer. max_answer_tokens: most tokens of an answer without one, so that
            no model thinks aloud where it should answer.
    """

    def __init__(self, lm: FrozenLM, reasoner: Latents | None, max_new_tokens: int, max_answer_tokens: int = 16):
        self.lm, self.reasoner = lm, reasoner
        self.max_new_tokens, self.max_answer_tokens = max_new_tokens, max_answer_tokens

    def read(self, some: Sequence[Exercise], thinking: bool = True) -> Prompt:
        """The prompts of exercises, read; those without thinking with the words before the answer."""
        tokenizer, rows = self.lm.tokenizer, []
        for exercise in some:
            text = chat_prompt(tokenizer, exercise.question, thinking) + ("" if thinking else self.lm.anchor)
            rows.append(tokens_of(tokenizer, text))
        ids, mask = padded(rows, tokenizer.pad_token_id)
        return self.lm.read(ids.to(self.lm.device), mask.to(self.lm.device))

    @torch.no_grad()
    def thoughts(self, prompt: Prompt, H_cycles: int = 0) -> list[Tensor]:
        """The reasoner's thought after each cycle."""
        compress = self.reasoner.reads.compress if hasattr(self.reasoner, "reads") else lambda states: states
        return self.reasoner.think(compress(prompt.states), prompt.mask, H_cycles)

    @torch.no_grad()
    def thought(self, prompt: Prompt) -> Tensor:
        """The thought with which each prompt is answered: the last, or where halting was learned, the one at which it stops."""
        return self.reasoner.chosen(self.thoughts(prompt))

    @torch.no_grad()
    def latents(self, prompt: Prompt) -> Tensor:
        """What of it enters the language model: (B, num_latents, D)."""
        return self.reasoner.latents(self.thought(prompt))

    @torch.no_grad()
    def said(self, prompt: Prompt) -> Tensor:
        """The word that each latent is nearest to: (B, num_latents) token ids."""
        return self.reasoner.ids[self.reasoner.logits(self.thought(prompt))[:, :, 0].argmax(-1)]

    def with_latents(
        self, some: Sequence[Exercise], change: Callable[[Prompt, Tensor], Tensor] | None = None
    ) -> Answered:
        """Answers after the reasoner's latents, or after what `change` makes of (the prompts, the latents)."""
        prompt = self.read(some)
        latents = self.latents(prompt)
        return self.written(some, prompt, latents if change is None else change(prompt, latents))

    def without(self, some: Sequence[Exercise], thinking: bool) -> Answered:
        """Answers at once, or (`thinking`) after a written chain; who does not come to the end of it has given no answer."""
        prompt = self.read(some, thinking)
        if not thinking:
            return self.written(some, prompt, None)
        found = self._answered(some, self.lm.write(prompt, None, self.max_new_tokens), first=False)
        return replace(found, right=found.right * np.array(["</think>" in text for text in found.texts]))

    def by_itself(self, some: Sequence[Exercise]) -> Answered:
        """Answers without the language model: the word that the last latent is nearest to, one token."""
        found = self._answered(some, self.said(self.read(some))[:, -1:], first=True)
        return replace(found, tokens=np.zeros(len(some), int))

    def written(self, some: Sequence[Exercise], prompt: Prompt, latents: Tensor | None) -> Answered:
        """Answers after prompts and latents (B, n, D)."""
        return self._answered(some, self.lm.write(prompt, latents, self.max_answer_tokens), first=True)

    def _answered(self, some: Sequence[Exercise], ids: Tensor, first: bool) -> Answered:
        """What token ids (B, T) say, up to the end token, which counts as one."""
        end, texts, tokens = self.lm.tokenizer.eos_token_id, [], []
        for row in ids.tolist():
            length = row.index(end) if end in row else len(row)
            texts.append(self.lm.tokenizer.decode(row[:length]))
            tokens.append(min(length + 1, len(row)))
        right = [is_right(text, one, first) for text, one in zip(texts, some)]
        return Answered(np.array(right, float), np.array(tokens), texts)


def in_batches(way: Way, some: Sequence[Exercise], size: int) -> Answered:
    """A way of answering, `size` problems at a time."""
    parts = [way(some[first : first + size]) for first in range(0, len(some), size)]
    return Answered(
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        [text for part in parts for text in part.texts],
    )


def race(ways: dict[str, Way], some: Sequence[Exercise], batch: int, rounds: int = 5) -> dict[str, float]:
    """Seconds that each way takes for an answer, the prompt's reading included: the median over rounds, in each of which every
    way answers all of `some`, `batch` at a time, in turn, after one that warms up."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            asked = some if round_ else some[:batch]
            started = time.perf_counter()
            in_batches(way, asked, batch)
            took[name].append((time.perf_counter() - started) / len(asked))
    return {name: float(np.median(seconds[1:])) for name, seconds in took.items()}
