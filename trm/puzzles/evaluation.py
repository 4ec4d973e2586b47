"""How right a TRM's answers are, after every supervision step, and what its signals for halting were."""

from dataclasses import dataclass, field

import numpy as np
import torch

from trm.halting import TAUGHT, Rule
from trm.model import TRM
from trm.puzzles.dataset import PuzzleSet
from trm.puzzles.grid import Shape, digits, is_solution, tokens
from trm.puzzles.solve import Check, solve


@dataclass(frozen=True)
class Evaluation:
    """Answers of a model to N puzzles over S supervision steps."""

    predictions: np.ndarray  # (N, S, T) token ids
    blank: np.ndarray  # (N, T) cells to fill in
    correct: np.ndarray  # (N, S, T) bool
    signals: dict[str, np.ndarray] = field(default_factory=dict)  # name in `halting.SIGNALS` -> (N, S)
    taught: Rule = TAUGHT["q"]  # the rule by which the model was taught to stop

    @property
    def exact(self) -> np.ndarray:
        """Whether the whole puzzle is right, by step: (N, S) bool."""
        return self.correct.all(-1)

    @property
    def exact_by_step(self) -> np.ndarray:
        """Share of puzzles solved after each step: (S,)."""
        return self.exact.mean(0)

    @property
    def cells_by_step(self) -> np.ndarray:
        """Share of the blank cells filled in rightly after each step: (S,)."""
        return (self.correct & self.blank[:, None]).sum((0, 2)) / self.blank.sum()

    def steps(self, rule: Rule) -> np.ndarray:
        """Steps that each puzzle takes under `rule`: (N,) from 1 to S."""
        return rule.steps(torch.from_numpy(self.signals[rule.signal])).numpy()

    def halted(self, rule: Rule) -> tuple[float, float]:
        """(share of puzzles solved, mean steps) under `rule`."""
        steps = self.steps(rule)
        return float(self.exact_after(steps).mean()), float(steps.mean())

    def exact_after(self, steps: np.ndarray) -> np.ndarray:
        """Whether each puzzle is right after its own number of steps: (N,) -> (N,) bool."""
        return self.exact[np.arange(len(steps)), steps - 1]

    def metrics(self, part: str) -> dict[str, float]:
        """<part>/exact_accuracy and cell_accuracy (blank cells only) after the last step, and what halting would do:
        mean_steps until the model stops as it was taught to, halted_exact_accuracy at that step."""
        halted, mean_steps = self.halted(self.taught)
        return {
            f"{part}/exact_accuracy": float(self.exact_by_step[-1]),
            f"{part}/cell_accuracy": float(self.cells_by_step[-1]),
            f"{part}/mean_steps": mean_steps,
            f"{part}/halted_exact_accuracy": halted,
        }


def obeys_rules(shape: Shape) -> Check:
    """A check for `solve`: whether an answer (token ids) obeys the rules of Sudoku and keeps the clues.

    It needs no solution; where a puzzle has one solution only, what passes is right.
    """

    def check(inputs: torch.Tensor, predictions: torch.Tensor) -> torch.Tensor:
        question, answer = (digits(t.cpu().numpy()) for t in (inputs, predictions))
        return torch.from_numpy(is_solution(shape, question, answer)).to(inputs.device)

    return check


def evaluate(model: TRM, puzzles: PuzzleSet, steps: int = 0, batch_size: int = 512) -> Evaluation:
    """Answers of `model` to all `puzzles` after each of `steps` supervision steps (0: as many as in training)."""
    device, check = model.embed.device, obeys_rules(puzzles.shape)
    inputs, labels = tokens(puzzles.questions), tokens(puzzles.answers)
    predictions, signals = [], []
    for start in range(0, len(puzzles), batch_size):
        part = torch.from_numpy(inputs[start : start + batch_size]).to(device)
        thoughts = solve(model, part, steps or None, check=check)
        predictions.append(thoughts.predictions.cpu().numpy())
        signals.append({name: value.cpu().numpy() for name, value in thoughts.signals.items()})
    predictions = np.concatenate(predictions)
    by_name = {name: np.concatenate([part[name] for part in signals]) for name in signals[0]}
    by_name["random"] = np.random.default_rng(len(puzzles)).random(predictions.shape[:2], np.float32)
    correct = predictions == labels[:, None]
    return Evaluation(predictions, puzzles.questions == 0, correct, by_name, TAUGHT[model.config.halting])
