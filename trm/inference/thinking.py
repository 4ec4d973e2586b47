"""Ways of answering compared: a language model that answers at once, that writes its chain first, or that is given latents.

All go through one loop of writing (`FrozenLM.write`), so that their times compare the ways and not the loops.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trm.data.gsm8k import read_number
from trm.data.thoughts import Exercise
from trm.models.frozen_lm import FrozenLM, Lexicon, Prompt, chat_prompt, padded, tokens_of
from trm.models.latent_reasoner import Latents

BATCH = 250  # problems answered together, where no time is taken


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


def is_right(text: str, exercise: Exercise) -> bool:
    """Whether a text gives the answer: the number that it ends with, after its thoughts."""
    return read_number(text.split("</think>")[-1]) == read_number(exercise.answer)


class Thinking:
    """Latents for prompts, and answers with them or without.

    Args:
        lm: the language model. reasoner: what writes the latents; None where only the ways without are asked for.
        max_new_tokens: most tokens that are written. lexicon: the tokens that latents were taught to say; None: all.
    """

    def __init__(self, lm: FrozenLM, reasoner: Latents | None, max_new_tokens: int, lexicon: Lexicon | None = None):
        self.lm, self.reasoner, self.max_new_tokens = lm, reasoner, max_new_tokens
        self.lexicon = lexicon or lm.lexicon()

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
        """What stands in the latents after each cycle, with their notes: (B, num_latents, 1 + notes, D) each."""
        states = self.reasoner.reads.compress(prompt.states) if hasattr(self.reasoner, "reads") else prompt.states
        return [self.reasoner.latents(z) for z in self.reasoner.think(states, prompt.mask, H_cycles)]

    @torch.no_grad()
    def latents(self, prompt: Prompt) -> Tensor:
        """The latents with which each prompt is answered: (B, num_latents, D); where halting was learned, those at which it
        stops."""
        states = self.reasoner.reads.compress(prompt.states) if hasattr(self.reasoner, "reads") else prompt.states
        found = self.reasoner.think(states, prompt.mask)
        depth = self.reasoner.depth(found)
        chosen = torch.stack(found, 1)[torch.arange(len(depth)), depth - 1]
        return self.reasoner.latents(chosen)[:, :, 0]

    def with_latents(
        self, some: Sequence[Exercise], change: Callable[[Prompt, Tensor], Tensor] | None = None
    ) -> Answered:
        """Answers after the reasoner's latents, or after what `change` makes of (the prompts, the latents)."""
        prompt = self.read(some)
        latents = self.latents(prompt)
        return self.written(some, prompt, latents if change is None else change(prompt, latents))

    def without(self, some: Sequence[Exercise], thinking: bool) -> Answered:
        """Answers at once, or (`thinking`) after a written chain."""
        return self.written(some, self.read(some, thinking), None)

    def by_itself(self, some: Sequence[Exercise]) -> Answered:
        """Answers without the language model: the token nearest to the last latent."""
        last = self.latents(self.read(some))[:, -1]
        texts = [self.lm.tokenizer.decode([i]) for i in self.lexicon.nearest(last).tolist()]
        return self._answered(some, texts, np.zeros(len(texts), int))

    def written(self, some: Sequence[Exercise], prompt: Prompt, latents: Tensor | None) -> Answered:
        """Answers after prompts and latents (B, n, D)."""
        ids = self.lm.write(prompt, latents, self.max_new_tokens)
        kept = [[token for token in row if token != self.lm.tokenizer.pad_token_id] for row in ids.tolist()]
        return self._answered(
            some, [self.lm.tokenizer.decode(row) for row in kept], np.array([len(row) for row in kept])
        )

    def _answered(self, some: Sequence[Exercise], texts: list[str], tokens: np.ndarray) -> Answered:
        end = self.lm.tokenizer.eos_token or "\0"
        texts = [text.split(end)[0] for text in texts]
        return Answered(np.array([is_right(*pair) for pair in zip(texts, some)], float), tokens, texts)


def in_batches(way: Way, some: Sequence[Exercise], size: int = BATCH) -> Answered:
    """A way of answering, `size` problems at a time."""
    parts = [way(some[first : first + size]) for first in range(0, len(some), size)]
    return Answered(
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        [text for part in parts for text in part.texts],
    )


def timed(way: Way, some: Sequence[Exercise], batch: int) -> float:
    """Seconds for an answer, the prompt's reading included: the median over batches, after one that warms up."""
    way(some[:batch])
    took = []
    for first in range(0, len(some) - batch + 1, batch):
        started = time.perf_counter()
        way(some[first : first + batch])
        took.append((time.perf_counter() - started) / batch)
    return float(np.median(took))
