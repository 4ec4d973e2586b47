"""How well a recursive language model answers: read off in one pass, or written token by token where it thinks aloud first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trm.language.stories import Problem, prompt, to_learn
from trm.losses import exactly_right
from trm.recursive_lm.model import RecursiveLanguageModel

Row = tuple[list[int], list[int]]  # tokens: what is given, what should be written


@dataclass(frozen=True)
class Answers:
    """What a model would write in each of N rows.

    right: (N,) whether all of it. tokens: share of tokens that are right. losses: (n,) cross-entropy after each answer
    (H-cycle), nats a token, mean over all tokens. cycles: (N,) answers thought of before the first token was written.
    """

    right: np.ndarray
    tokens: float
    losses: np.ndarray
    cycles: np.ndarray


@torch.no_grad()
def read_off(
    model: RecursiveLanguageModel, rows: Sequence[Row], pad: int, H_cycles: int = 0, batch_size: int = 250
) -> Answers:
    """One pass with the right tokens in place. A row is right exactly where greedy writing gives it: as long as every token so
    far is right, both see the same.

    H_cycles: cycles of a supervision step, where not those of training.
    """
    right, cycles, losses, good, count = [], [], 0.0, 0, 0
    for first in range(0, len(rows), batch_size):
        arrays = to_learn(rows[first : first + batch_size], pad, 0.0)
        batch = {name: torch.from_numpy(value).to(model.device) for name, value in arrays.items()}
        answers, labels, weights = model.read_places(batch, H_cycles)  # (B, M, D) each, (B, M), (B, M)
        labels = torch.where(weights > 0, labels, -100)
        by_answer, _ = model.answer_losses(answers, labels, [False] * len(answers))
        depth = model.depths(answers)
        chosen = torch.stack(answers, 2).take_along_dim(depth[..., None, None] - 1, 2).squeeze(2)
        predictions = model.lm_head(chosen).argmax(-1)
        right.append(exactly_right(predictions, labels).cpu())
        cycles.append(depth[:, 0].cpu())
        losses = losses + by_answer.double().sum((0, 1)).cpu()
        good += int((predictions == labels).sum())
        count += int((labels != -100).sum())
    return Answers(torch.cat(right).numpy(), good / count, (losses / count).numpy(), torch.cat(cycles).numpy())


@torch.no_grad()
def likeliest(
    model: RecursiveLanguageModel, tokenizer, problem: Problem, H_cycles: int = 0, count: int = 3
) -> list[list[tuple[str, float]]]:
    """The likeliest first tokens of the answer, without a chain, after each H-cycle: (text, probability), best first."""
    ids = torch.tensor([tokenizer.encode(prompt(problem, False), add_special_tokens=False)], device=model.device)
    found = []
    for z in model.think(ids, H_cycles):
        best = model.lm_head(z[0, -1]).float().softmax(-1).topk(count)
        texts = [tokenizer.decode([token]) for token in best.indices.tolist()]
        found.append(
            [(t if t.isprintable() and "\ufffd" not in t else "?", p) for t, p in zip(texts, best.values.tolist())]
        )
    return found
