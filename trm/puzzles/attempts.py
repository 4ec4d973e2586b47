"""Thinking again: several attempts at a puzzle from different starts, and which of their answers to take.

A start differs by a symmetry (the puzzle is turned into a twin, the answer turned back) or by noise on the first answer
state. An answer is chosen by what the model knows (its confidence, how calm its state is, how often it came to the same
answer) or by the rules of the puzzle, which anybody can check.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from trm.halting import Rule
from trm.model import TRM
from trm.puzzles.dataset import PuzzleSet
from trm.puzzles.evaluation import obeys_rules
from trm.puzzles.grid import digits, is_solution, random_numbers, tokens, transform, transform_back
from trm.puzzles.solve import Solved, solve_until

STARTS = ("symmetry", "noise")
SELECTIONS = ("confidence", "residual", "agreement", "cell vote", "rule check")


@dataclass(frozen=True)
class Attempts:
    """R attempts at each of N puzzles; the first is the plain one, without symmetry or noise."""

    questions: np.ndarray  # (N, T) digits
    answers: np.ndarray  # (N, R, T) digits, in the puzzle's own orientation
    confidence: np.ndarray  # (N, R) halting logit at the end
    residual: np.ndarray  # (N, R) how much the state still moved
    obeys: np.ndarray  # (N, R) bool: the answer obeys the rules

    def first(self, tries: int) -> "Attempts":
        """The first `tries` attempts alone."""
        parts = {n: getattr(self, n)[:, :tries] for n in ("answers", "confidence", "residual", "obeys")}
        return replace(self, **parts)

    def select(self, by: str) -> np.ndarray:
        """One answer a puzzle, chosen by a name in `SELECTIONS`: (N, T) digits.

        agreement: the answer that most attempts gave, the earliest of equals; cell vote: the digit that most gave, cell
        by cell; rule check: the first answer that obeys the rules, else as agreement.

        Raises:
            ValueError: another name.
        """
        rows = np.arange(len(self.answers))
        if by == "confidence":
            return self.answers[rows, self.confidence.argmax(1)]
        if by == "residual":
            return self.answers[rows, self.residual.argmin(1)]
        if by == "cell vote":
            votes = (self.answers[..., None] == np.arange(self.answers.max() + 1)).sum(1)  # (N, T, digits)
            return votes.argmax(-1).astype(np.uint8)
        same = (self.answers[:, :, None] == self.answers[:, None]).all(-1).sum(2)  # (N, R) attempts that agree
        if by == "agreement":
            return self.answers[rows, same.argmax(1)]
        if by == "rule check":
            return self.answers[rows, np.where(self.obeys.any(1), self.obeys.argmax(1), same.argmax(1))]
        raise ValueError(f"no way to select {by!r}; there are {', '.join(SELECTIONS)}")

    def solved(self, answers: np.ndarray) -> np.ndarray:
        """Whether any attempt gave the right answer (the oracle): answers (N, T) digits -> (N,) bool."""
        return (self.answers == answers[:, None]).all(-1).any(1)


def _one_try(
    model: TRM, puzzles: PuzzleSet, number: int, rule: Rule, steps: int, start: str, seed: int, noise: float
) -> tuple[Solved, np.ndarray]:
    """One attempt at each puzzle: what came out, and the answers (N, T) in the puzzles' own orientation."""
    shape, questions, extra = puzzles.shape, puzzles.questions, None
    key = [seed, number, 0x7217]
    if number and start == "symmetry":
        uniform = np.random.default_rng(key).random((len(puzzles), random_numbers(shape)))
        questions = transform(shape, questions[:, None], uniform)[:, 0]
    elif number:
        extra = torch.from_numpy(model.draw_noise(key, len(puzzles), noise)).to(model.embed.device)
    inputs = torch.from_numpy(tokens(questions)).to(model.embed.device)
    out = solve_until(model, inputs, rule, steps, noise=extra, check=obeys_rules(shape))
    answers = digits(out.predictions.cpu().numpy())
    if number and start == "symmetry":
        answers = transform_back(shape, answers[:, None], uniform)[:, 0]
    return out, answers


def attempt(
    model: TRM,
    puzzles: PuzzleSet,
    tries: int,
    steps: int = 16,
    start: str = "symmetry",
    seed: int = 0,
    noise: float = 1.0,
) -> Attempts:
    """`tries` attempts at every puzzle, of `steps` supervision steps each.

    start: "symmetry" (a random one for each attempt) or "noise" (normal, of deviation `noise`, on the first z_H).
    """
    answers, columns = [], {"confidence": [], "residual": []}
    for number in range(tries):
        out, given = _one_try(model, puzzles, number, Rule("fixed", steps), steps, start, seed, noise)
        answers.append(given)
        columns["confidence"].append(out.signals["q_halt"].cpu().numpy())
        columns["residual"].append(out.signals["residual"].cpu().numpy())
    stacked = np.stack(answers, 1)
    obeys = is_solution(puzzles.shape, puzzles.questions[:, None], stacked)
    return Attempts(puzzles.questions, stacked, **{k: np.stack(v, 1) for k, v in columns.items()}, obeys=obeys)


@dataclass(frozen=True)
class Persisted:
    """What `persist` reached: answers (N, T) digits, whether each obeys the rules, and supervision steps spent (N,)."""

    answers: np.ndarray
    obeys: np.ndarray
    steps: np.ndarray
    by_try: list[tuple[float, float]]  # after each try: (share that obeys the rules, mean steps so far)


def persist(model: TRM, puzzles: PuzzleSet, tries: int, steps: int = 32, seed: int = 0) -> Persisted:
    """Try each puzzle, from other symmetries, until an answer obeys its rules, `tries` times at the most; solved ones cost
    nothing more.

    Stops inside an attempt as well, at the first step whose answer obeys. The rules are all it is told: no solution.
    A puzzle never solved keeps the answer of its first attempt.
    """
    answers, spent = np.zeros_like(puzzles.answers), np.zeros(len(puzzles), np.int64)
    obeys, by_try = np.zeros(len(puzzles), bool), []
    for number in range(tries):
        left = np.flatnonzero(~obeys)
        if len(left):
            out, given = _one_try(
                model, puzzles.subset(left), number, Rule("obeys", 1.0), steps, "symmetry", seed, noise=0.0
            )  # fmt: skip
            obeys[left] = out.signals["obeys"].cpu().numpy() > 0  # a symmetry keeps the rules
            spent[left] += out.steps.cpu().numpy()
            kept = obeys[left] | (number == 0)
            answers[left[kept]] = given[kept]
        by_try.append((float(obeys.mean()), float(spent.mean())))
    return Persisted(answers, obeys, spent, by_try)
