"""A frozen language model that answers problems: at once, after a written chain, or after a reasoner's latents.

All generate through one loop (`FrozenLM.generate_greedy`), so that their times compare the methods and not the loops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trm.language.gsm8k import read_number
from trm.language.lm import up_to_end
from trm.latent.data import Exercise
from trm.latent.frozen_lm import FrozenLM, Prompt, chat_prompt, tokens_of
from trm.latent.reasoner import Latents


@dataclass(frozen=True)
class Answers:
    """Answers to N problems: right (N,), tokens generated for each (N,), and the texts."""

    right: np.ndarray
    tokens: np.ndarray
    texts: list[str]

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float(self.right.mean())


FIT_ON = 2000  # training problems that compressors, means and regressions are fitted on
Method = Callable[[Sequence[Exercise]], Answers]
Change = Callable[[Prompt, Tensor], Tensor]  # (prompts, latents) -> other latents


def is_right(text: str, exercise: Exercise, first: bool = False) -> bool:
    """Whether the last (`first`: the first) number after the chain is the answer."""
    return read_number(text.split("</think>")[-1], first) == read_number(exercise.answer)


class Thinking:
    """A frozen language model with a reasoner (None: no latents are used), and its limits for a chain with its answer
    (`max_new_tokens`) and for an answer alone (`max_answer_tokens`)."""

    def __init__(self, lm: FrozenLM, reasoner: Latents | None, max_new_tokens: int, max_answer_tokens: int = 16):
        self.lm, self.reasoner = lm, reasoner
        self.max_new_tokens, self.max_answer_tokens = max_new_tokens, max_answer_tokens

    def read(self, some: Sequence[Exercise], thinking: bool = True) -> Prompt:
        """The prompts of exercises, read; those without thinking with the words before the answer."""
        tokenizer, anchor = self.lm.tokenizer, "" if thinking else self.lm.anchor
        texts = [chat_prompt(tokenizer, one.question, thinking) + anchor for one in some]
        return self.lm.read_rows([tokens_of(tokenizer, text) for text in texts])

    @torch.no_grad()
    def thoughts(self, prompt: Prompt) -> list[Tensor]:
        """The reasoner's thought after each cycle."""
        return self.reasoner.think(self.reasoner.compress(prompt.states), prompt.mask)

    @torch.no_grad()
    def latents(self, prompt: Prompt) -> Tensor:
        """The inputs to the language model, (B, num_latents, D): of the last thought."""
        return self.reasoner.latents(self.thoughts(prompt)[-1])

    @torch.no_grad()
    def nearest_tokens(self, prompt: Prompt) -> Tensor:
        """The token id of the word nearest to each latent: (B, num_latents)."""
        logits = self.reasoner.logits(self.thoughts(prompt)[-1])
        return self.reasoner.ids[logits[:, :, 0].argmax(-1)]

    @torch.no_grad()
    def nearest_words(self, one: Exercise) -> list[list[tuple[str, float]]]:
        """For each cycle and latent, the word of largest weight in the mixture, and that weight."""
        found = []
        for thought in self.thoughts(self.read([one])):
            weights, best = self.reasoner.logits(thought)[0, :, 0].softmax(-1).max(-1)
            words = [self.lm.tokenizer.decode([i]) for i in self.reasoner.ids[best].tolist()]
            found.append(list(zip(words, weights.tolist())))
        return found

    def with_latents(self, some: Sequence[Exercise], change: Change | None = None) -> Answers:
        """Answers after the reasoner's latents, or after `change(prompts, latents)`."""
        prompt = self.read(some)
        latents = self.latents(prompt) if change is None else change(prompt, self.latents(prompt))
        return self.answers_in(some, self.lm.generate_greedy(prompt, latents, self.max_answer_tokens), first=True)

    def without(self, some: Sequence[Exercise], thinking: bool) -> Answers:
        """Answers at once, or (`thinking`) after a written chain; a chain that does not end within the limit is wrong."""
        prompt = self.read(some, thinking)
        limit = self.max_new_tokens if thinking else self.max_answer_tokens
        found = self.answers_in(some, self.lm.generate_greedy(prompt, None, limit), first=not thinking)
        ended = np.array([not thinking or "</think>" in text for text in found.texts])
        return replace(found, right=found.right * ended)

    def direct(self, some: Sequence[Exercise]) -> Answers:
        """Answers without the language model: the word nearest to the last latent."""
        found = self.answers_in(some, self.nearest_tokens(self.read(some))[:, -1:], first=True)
        return replace(found, tokens=np.zeros(len(some), int))

    @torch.no_grad()
    def from_state(self, some: Sequence[Exercise]) -> Answers:
        """Answers that the language model's head reads off the predicted state after thinking, one token each."""
        state = self.reasoner.state(self.thoughts(self.read(some))[-1])
        found = self.answers_in(some, self.lm.head(state).argmax(-1, keepdim=True), first=True)
        return replace(found, tokens=np.zeros(len(some), int))

    def answer(self, some: Sequence[Exercise]) -> Answers:
        """Answers by the readout that the reasoner was trained for."""
        ways = {"direct": self.direct, "state": self.from_state, "lm": self.with_latents}
        return ways[self.reasoner.config.readout](some)

    def answers_in(self, some: Sequence[Exercise], ids: Tensor, first: bool) -> Answers:
        """Answers in generated token ids (B, T), up to the token that ends them, which counts as one."""
        ends, texts, tokens = self.lm.ends, [], []
        for row in ids.tolist():
            kept = up_to_end(row, ends)
            tokens.append(len(kept))
            texts.append(self.lm.tokenizer.decode(kept[:-1] if kept[-1] in ends else kept))
        right = [is_right(text, one, first) for text, one in zip(texts, some)]
        return Answers(np.array(right, float), np.array(tokens), texts)


def in_batches(method: Method, some: Sequence[Exercise], size: int) -> Answers:
    """The answers of a method, `size` problems at a time."""
    parts = [method(some[first : first + size]) for first in range(0, len(some), size)]
    right, tokens = (np.concatenate([getattr(part, name) for part in parts]) for name in ("right", "tokens"))
    return Answers(right, tokens, [text for part in parts for text in part.texts])
