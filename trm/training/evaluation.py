"""How right a TRM's answers are, after every supervision step."""

from dataclasses import dataclass

import numpy as np
import torch

from trm import halting
from trm.data.sudoku import PuzzleSet
from trm.data.sudoku_grid import tokens
from trm.models.trm import TRM


@dataclass(frozen=True)
class Evaluation:
    """Answers of a model to N puzzles over S supervision steps."""

    predictions: np.ndarray  # (N, S, T) token ids
    q_halt: np.ndarray  # (N, S) halting logits
    blank: np.ndarray  # (N, T) cells to fill in
    correct: np.ndarray  # (N, S, T) bool

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

    def metrics(self, part: str) -> dict[str, float]:
        """<part>/exact_accuracy and cell_accuracy (blank cells only) after the last step, and what halting would do:
        mean_steps until the halting head says stop, halted_exact_accuracy at that step."""
        stop = halting.first_halt(torch.from_numpy(self.q_halt.copy())).numpy()  # (N,)
        return {
            f"{part}/exact_accuracy": float(self.exact_by_step[-1]),
            f"{part}/cell_accuracy": float(self.cells_by_step[-1]),
            f"{part}/mean_steps": float(stop.mean() + 1),
            f"{part}/halted_exact_accuracy": float(self.exact[np.arange(len(stop)), stop].mean()),
        }


def evaluate(model: TRM, puzzles: PuzzleSet, steps: int = 0, batch_size: int = 512) -> Evaluation:
    """Answers of `model` to all `puzzles` after each of `steps` supervision steps (0: as many as in training)."""
    device = model.embed.device
    inputs, labels = tokens(puzzles.questions), tokens(puzzles.answers)
    predictions, q_halt = [], []
    for start in range(0, len(puzzles), batch_size):
        thoughts = model.solve(torch.from_numpy(inputs[start : start + batch_size]).to(device), steps or None)
        predictions.append(thoughts.predictions.cpu().numpy())
        q_halt.append(thoughts.q_halt.cpu().numpy())
    predictions = np.concatenate(predictions)
    correct = predictions == labels[:, None]
    return Evaluation(predictions, np.concatenate(q_halt), puzzles.questions == 0, correct)
