"""What a latent reasoner learns from: exercises as token ids, and the states that a frozen language model has of their prompts.

An exercise is a question, a chain of thought with the calculations in it, and an answer. Each latent stands for one step of the
chain; `said` is what one should be able to read from it: the total that the step arrives at, and with it the operation, the
number and the total before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from trm.compressor.states import StateStore
from trm.language.gsm8k import Exercise
from trm.language.stories import Problem
from trm.language.text import shuffled

NOT_LEARNED = -100  # label of what no loss counts
NOTES = 3  # operation, number, total before


def from_problem(problem: Problem) -> Exercise:
    """A generated problem as an exercise."""
    before = [problem.start, *problem.totals]
    done = tuple((str(a), op, str(n), str(b)) for a, (op, n), b in zip(before, problem.steps, problem.totals))
    return Exercise(problem.question, problem.chain, str(problem.answer), done, len(problem.steps))


@dataclass(frozen=True)
class Encoded:
    """An exercise as token ids. said: (num_latents, 1 + `NOTES`), what each latent is taught; -100 where nothing."""

    prompt: list[int]
    chain: list[int]
    answer: list[int]
    said: np.ndarray
    steps: int


def said_by(tokenizer: PreTrainedTokenizerFast, exercise: Exercise, num_latents: int) -> np.ndarray:
    """(num_latents, 1 + `NOTES`): the tokens total, operation, number, total before. A latent after the last step says the
    answer once more; of a chain with more steps than latents the last steps are said. A text of several tokens is not taught.
    """
    said = np.full((num_latents, 1 + NOTES), NOT_LEARNED, np.int64)
    done = exercise.calculations[-num_latents:]
    for row, (before, operation, number, total) in enumerate(done):
        said[row] = [_one_token(tokenizer, text) for text in (total, operation, number, before)]
    said[len(done) :, 0] = _one_token(tokenizer, exercise.answer) if done else NOT_LEARNED
    return said


def _one_token(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids[0] if len(ids) == 1 else NOT_LEARNED


def right_padded(rows: Sequence[Sequence[int]], pad: int) -> np.ndarray:
    """(B, T) int64."""
    out = np.full((len(rows), max(map(len, rows), default=0)), pad, np.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


class ThoughtBatches:
    """step -> a batch of exercises, in an order that (seed, epoch) shuffles; a pure function of the step.

    states (B, T, K) float32, what is kept of the prompts' states (K = 0 without a store); mask (B, T); said (B, num_latents,
    1 + NOTES); answers (B, A), -100 where a row has ended. In steps in which the language model is asked, each `ask_interval`th
    from `asked_from` on (None: never), also input_ids (B, T) of the prompts, and chains (B, C) with their mask chain_mask.
    """

    def __init__(
        self,
        found: Sequence[Encoded],
        store: StateStore | None,
        batch_size: int,
        pad: int,
        seed: int = 0,
        asked_from: int | None = 0,
        ask_interval: int = 1,
    ):
        self.found, self.store, self.batch_size, self.pad = found, store, batch_size, pad
        self.seed, self.asked_from, self.ask_interval = seed, asked_from, ask_interval

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The global batch of `step`."""
        since = -1 if self.asked_from is None else step - self.asked_from
        asked = since >= 0 and since % self.ask_interval == 0
        return self.rows(shuffled(len(self.found), self.batch_size, self.seed, step), asked)

    def rows(self, which: Sequence[int], asked: bool) -> dict[str, np.ndarray]:
        """The batch of these exercises."""
        rows = [self.found[i] for i in which]
        ids = right_padded([row.prompt for row in rows], self.pad)
        lengths = np.array([len(row.prompt) for row in rows])
        mask = np.arange(ids.shape[1])[None] < lengths[:, None]
        states = np.zeros((*ids.shape, self.store.dim if self.store else 0), np.float32)
        for place, i in enumerate(which) if self.store else ():
            states[place, : lengths[place]] = self.store.of(i)
        batch = {"states": states, "mask": mask, "said": np.stack([row.said for row in rows])}
        batch["answers"] = right_padded([row.answer for row in rows], NOT_LEARNED)
        if asked:
            chains = right_padded([row.chain for row in rows], -1)
            batch |= {"input_ids": ids, "chains": np.where(chains < 0, self.pad, chains), "chain_mask": chains >= 0}
        return batch
