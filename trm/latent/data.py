"""The data of a latent reasoner: exercises as token ids, and batches with the hidden states of their prompts.

An exercise is a question, a chain of thought with its calculations, and an answer. Each latent stands for one step of the
chain; its labels are the total of the step and, as notes, the step's operation, its number and the total before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from trm.compressor.states import StateStore
from trm.language.gsm8k import Exercise
from trm.language.stories import Problem
from trm.language.text import shuffled
from trm.latent.frozen_lm import FrozenLM, chat_prompt, tokens_of
from trm.losses import IGNORE_INDEX, pad

NOTES = 3  # operation, number, total before


def from_problem(problem: Problem) -> Exercise:
    """A generated problem as an exercise."""
    before = [problem.start, *problem.totals]
    done = tuple((str(a), op, str(n), str(b)) for a, (op, n), b in zip(before, problem.steps, problem.totals))
    return Exercise(problem.question, problem.chain, str(problem.answer), done, len(problem.steps))


@dataclass(frozen=True)
class Data:
    """A frozen language model, and the exercises of each part."""

    lm: FrozenLM
    parts: dict[str, list[Exercise]]


@dataclass(frozen=True)
class Encoded:
    """An exercise as token ids; step_labels (num_latents, 1 + `NOTES`), see there."""

    prompt: list[int]
    chain: list[int]
    answer: list[int]
    step_labels: np.ndarray
    steps: int


def encode(lm: FrozenLM, some: Sequence[Exercise], num_latents: int, teach_answer: bool = True) -> list[Encoded]:
    """Exercises as token ids; an answer with the token that ends it."""
    t, end = lm.tokenizer, lm.tokenizer.eos_token_id
    return [
        Encoded(
            tokens_of(t, chat_prompt(t, one.question, True)),
            tokens_of(t, one.chain),
            [*tokens_of(t, one.answer), *([] if end is None else [end])],
            step_labels(t, one, num_latents, teach_answer),
            one.steps,
        )
        for one in some
    ]


def step_labels(
    tokenizer: PreTrainedTokenizerFast, exercise: Exercise, num_latents: int, teach_answer: bool = True
) -> np.ndarray:
    """(num_latents, 1 + `NOTES`): the tokens of total, operation, number, total before. The labels of latents after the last
    step are the answer; of a chain with more steps than latents the last steps count. A text of several tokens has no label.
    Without `teach_answer` neither the total of the last step nor the latents after it have one.
    """

    def one_token(text: str) -> int:
        ids = tokens_of(tokenizer, text)
        return ids[0] if len(ids) == 1 else IGNORE_INDEX

    labels = np.full((num_latents, 1 + NOTES), IGNORE_INDEX, np.int64)
    done = exercise.calculations[-num_latents:]
    for row, (before, operation, number, total) in enumerate(done):
        labels[row] = [one_token(text) for text in (total, operation, number, before)]
    if done:
        labels[len(done) - (not teach_answer) :, 0] = one_token(exercise.answer) if teach_answer else IGNORE_INDEX
    return labels


@dataclass
class ThoughtBatches:
    """step -> a batch of exercises, in an order shuffled by (seed, epoch); a pure function of the step.

    after: states after thinking of all exercises, (N, D); None: no batch holds them.

    Arrays: states (B, T, K) float32, compressed (K = 0 without a store); mask (B, T); step_labels (B, num_latents, 1 + NOTES);
    answers (B, A), `IGNORE_INDEX` after the end. In every `lm_loss_every`-th step from `lm_loss_start` on (None: never), in
    which the language model's loss is computed, also input_ids (B, T) of the prompts, chains (B, C) and chain_mask.
    """

    some: Sequence[Encoded]
    store: StateStore | None
    batch_size: int
    pad_id: int
    seed: int = 0
    lm_loss_start: int | None = 0
    lm_loss_every: int = 1
    after: np.ndarray | None = None

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The global batch of `step`."""
        since = -1 if self.lm_loss_start is None else step - self.lm_loss_start
        with_lm = since >= 0 and since % self.lm_loss_every == 0
        return self.rows(shuffled(len(self.some), self.batch_size, self.seed, step), with_lm)

    def rows(self, which: Sequence[int], with_lm: bool) -> dict[str, np.ndarray]:
        """The batch of these exercises."""
        rows = [self.some[i] for i in which]
        ids = pad([row.prompt for row in rows], self.pad_id)
        lengths = np.array([len(row.prompt) for row in rows])
        states = np.zeros((*ids.shape, self.store.dim if self.store else 0), np.float32)
        for row, i in enumerate(which) if self.store else ():
            states[row, : lengths[row]] = self.store.of(i)
        batch = {
            "states": states,
            "mask": np.arange(ids.shape[1])[None] < lengths[:, None],
            "step_labels": np.stack([row.step_labels for row in rows]),
            "answers": pad([row.answer for row in rows], IGNORE_INDEX),
        }
        if self.after is not None:
            batch["after"] = self.after[np.asarray(which)]
        if with_lm:
            chains = pad([row.chain for row in rows], -1)
            batch |= {"input_ids": ids, "chains": np.where(chains < 0, self.pad_id, chains), "chain_mask": chains >= 0}
        return batch
