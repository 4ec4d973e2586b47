"""Restarts: several attempts at a puzzle from different starts, and which of their answers to take.

A start differs by a symmetry (the puzzle is transformed, the answer transformed back) or by noise, on the initial z_H or,
with `input_noise`, on the question. With mixer houses symmetries change nothing, so there it is noise.
"""

from dataclasses import dataclass

import numpy as np
import torch

from trm.errors import UserError
from trm.halting import Rule
from trm.model import TRM
from trm.puzzles.dataset import PuzzleSet
from trm.puzzles.solve import Solved, solve_until, validity_check
from trm.puzzles.sudoku import digits, is_solution, random_numbers, tokens, transform, transform_back

STARTS = ("symmetry", "noise")
SELECTIONS = ("confidence", "residual", "agreement", "cell vote", "rule check")


@dataclass(frozen=True)
class Attempts:
    """R attempts at each of N puzzles; the first is the plain one, without symmetry or noise."""

    answers: np.ndarray  # (N, R, T) digits, in the puzzle's own orientation
    confidence: np.ndarray  # (N, R) halting logit at the end
    residual: np.ndarray  # (N, R) how much the state still moved
    is_valid: np.ndarray  # (N, R) bool: the answer satisfies the constraints

    def first(self, tries: int) -> "Attempts":
        """The first `tries` attempts alone."""
        return Attempts(**{name: values[:, :tries] for name, values in vars(self).items()})

    def select(self, by: str) -> np.ndarray:
        """One answer per puzzle, chosen by a name in `SELECTIONS`: (N, T) digits.

        agreement: the answer that most attempts gave, the earliest of equals; cell vote: the digit that most gave, cell
        by cell; rule check: the first valid answer, else as agreement.
        """
        if by not in SELECTIONS:
            raise UserError(f"no selection {by!r}; there are {', '.join(SELECTIONS)}")
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
        return self.answers[rows, np.where(self.is_valid.any(1), self.is_valid.argmax(1), same.argmax(1))]

    def solved(self, answers: np.ndarray) -> np.ndarray:
        """Whether any attempt gave the right answer (the oracle): answers (N, T) digits -> (N,) bool."""
        return (self.answers == answers[:, None]).all(-1).any(1)


def _attempt_once(
    model: TRM,
    puzzles: PuzzleSet,
    number: int,
    rule: Rule,
    steps: int,
    start: str,
    seed: int,
    noise: float,
    keys: np.ndarray | None = None,
) -> tuple[Solved, np.ndarray, np.ndarray]:
    """One attempt at each puzzle: what came out, the answers (N, T) in the puzzles' own orientation, and the mean probability
    of the digits that were written into blank cells (N,). keys: (N,) a number of each puzzle, from which alone its start is
    drawn; None: all starts from one stream."""
    shape, questions, extra, N = puzzles.shape, puzzles.questions, None, len(puzzles)
    key = [seed, number, 0x7217]
    streams = [(key, N)] if keys is None else [([*key, int(k)], 1) for k in keys]
    if number and start == "symmetry":
        uniform = np.concatenate([np.random.default_rng(k).random((n, random_numbers(shape))) for k, n in streams])
        questions = transform(shape, questions[:, None], uniform)[:, 0]
    elif number:
        drawn = np.concatenate([model.draw_noise(k, n, noise) for k, n in streams])
        extra = torch.from_numpy(drawn).to(model.embed.device)
    inputs = torch.from_numpy(tokens(questions)).to(model.embed.device)
    out = solve_until(model, inputs, rule, steps, noise=extra, check=validity_check(shape))
    answers = digits(out.predictions.cpu().numpy())
    if number and start == "symmetry":
        answers = transform_back(shape, answers[:, None], uniform)[:, 0]
    best = out.logits.float().softmax(-1).amax(-1).cpu().numpy()  # (N, T)
    blank = questions == 0
    return out, answers, (best * blank).sum(1) / np.maximum(blank.sum(1), 1)


def attempt(
    model: TRM, puzzles: PuzzleSet, tries: int, steps: int, start: str = "symmetry", seed: int = 0, noise: float = 1.0
) -> Attempts:
    """`tries` attempts at every puzzle, of `steps` supervision steps each; `noise` is a std, for `start` "noise"."""
    if tries < 1 or start not in STARTS:
        raise UserError(f"tries {tries}, start {start!r}: at least 1 try, from {' or '.join(STARTS)}")
    rule = Rule("fixed", steps)
    outs, answers, _ = zip(*(_attempt_once(model, puzzles, i, rule, steps, start, seed, noise) for i in range(tries)))
    answers = np.stack(answers, 1)
    confidence, residual = (np.stack([o.signals[n].cpu().numpy() for o in outs], 1) for n in ("q_halt", "residual"))
    return Attempts(answers, confidence, residual, is_solution(puzzles.shape, puzzles.questions[:, None], answers))


@dataclass(frozen=True)
class RetryResult:
    """What `retry_until_valid` reached."""

    answers: np.ndarray  # (N, T) digits
    is_valid: np.ndarray  # (N,) bool: the answer satisfies the constraints
    steps: np.ndarray  # (N,) supervision steps spent
    tries: np.ndarray  # (N,) attempts made
    confidence: np.ndarray  # (N,) mean probability of the digits written into blank cells
    by_try: list[tuple[float, float]]  # after each try: (share of valid answers, mean steps so far)


def retry_until_valid(
    model: TRM,
    puzzles: PuzzleSet,
    tries: int,
    steps: int = 32,
    seed: int = 0,
    noise: float = 0.0,
    keys: np.ndarray | None = None,
) -> RetryResult:
    """Try each puzzle from other starts until an answer (after any step) satisfies its constraints, at most `tries` times:
    from other symmetries, or with `noise` of that std. No solution is used. A puzzle that is never solved keeps the answer
    of its first attempt. keys: (N,) numbers of the puzzles; with them a puzzle's result does not depend on the others.
    """
    start = "noise" if noise else "symmetry"
    answers, confidence = np.zeros_like(puzzles.questions), np.zeros(len(puzzles))
    spent, made = np.zeros((2, len(puzzles)), np.int64)
    valid, by_try = np.zeros(len(puzzles), bool), []
    for number in range(tries):
        left = np.flatnonzero(~valid)
        if len(left):
            some, rule = puzzles.subset(left), Rule("is_valid", 1.0)
            own = None if keys is None else keys[left]
            out, given, sure = _attempt_once(model, some, number, rule, steps, start, seed, noise, own)
            valid[left] = out.signals["is_valid"].cpu().numpy() > 0  # a symmetry keeps the constraints
            spent[left] += out.steps.cpu().numpy()
            made[left] += 1
            kept = valid[left] | (number == 0)
            answers[left[kept]] = given[kept]
            confidence[left[kept]] = sure[kept]
        by_try.append((float(valid.mean()), float(spent.mean())))
    return RetryResult(answers, valid, spent, made, confidence, by_try)
