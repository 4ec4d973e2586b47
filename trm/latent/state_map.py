"""From states before thinking to the state after it, the source's phase 2: how near a prediction comes, and what it answers.

The state after thinking is that of the answer's anchor in the last block, after a correct chain: what the head reads the answer
off. Distances are mean square errors over the mean variance of the training states, so that their mean as a prediction has 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from trm.latent.data import Data, Encoded, encode
from trm.latent.frozen_lm import FrozenLM
from trm.latent.reasoner import LatentReasoner
from trm.latent.thinking import FIT_ON, Thinking, in_batches


@torch.no_grad()
def states_after(lm: FrozenLM, encoded: Sequence[Encoded], batch: int) -> Tensor:
    """The state after thinking of each exercise, (N, D)."""
    found = []
    for first in range(0, len(encoded), batch):
        some = encoded[first : first + batch]
        prompt = lm.read_rows([one.prompt for one in some])
        found.append(lm.anchors(prompt, [one.chain for one in some])[:, -1])
    return torch.cat(found)


@torch.no_grad()
def state_distances(thinking: Thinking, encoded: Sequence[Encoded], batch: int) -> list[float]:
    """Mean distance of the prediction after each thought from the true state."""
    sums = None
    for first in range(0, len(encoded), batch):
        some = encoded[first : first + batch]
        true = states_after(thinking.lm, some, batch)
        thoughts = thinking.thoughts(thinking.lm.read_rows([one.prompt for one in some]))
        found = torch.stack([thinking.reasoner.distance(thought, true).sum() for thought in thoughts])
        sums = found if sums is None else sums + found
    return (sums / len(encoded)).tolist()


@torch.no_grad()
def baseline_distances(
    lm: FrozenLM, train: Sequence[Encoded], test: Sequence[Encoded], batch: int
) -> dict[str, tuple[float, float]]:
    """(Distance, accuracy of the answer that the head reads off) of the mean of the training states, `constant`, and of ridge
    regression from the prompt's last state and the mean of its states in the block that the reasoner reads, `ridge` (penalty by
    leave-one-out cross-validation)."""
    inputs, targets = [], []
    for part in (train, test):
        read = []
        for first in range(0, len(part), batch):
            prompt = lm.read_rows([one.prompt for one in part[first : first + batch]])
            mean = (prompt.states * prompt.mask[..., None]).sum(1) / prompt.mask.sum(1, keepdim=True)
            read.append(torch.cat((prompt.last, mean), 1).cpu())
        inputs.append(torch.cat(read).numpy())
        targets.append(states_after(lm, part, batch).cpu().numpy())
    known, true = targets
    scale = known.var(0).mean()
    ridge = RidgeCV(alphas=np.logspace(-3, 5, 9)).fit(inputs[0], known)
    predictions = {"constant": np.broadcast_to(known.mean(0), true.shape), "ridge": ridge.predict(inputs[1])}
    answers, found = torch.tensor([one.answer[0] for one in test]), {}
    for name, predicted in predictions.items():
        states = torch.from_numpy(np.array(predicted, np.float32)).to(lm.device)
        right = (lm.head(states).argmax(-1).cpu() == answers).float().mean()
        found[name] = float(((predicted - true) ** 2).mean() / scale), float(right)
    return found


def map_rows(
    data: Data, reasoners: dict[str, tuple[LatentReasoner, int]], limits: tuple[int, int], batch: int
) -> list[dict[str, Any]]:
    """A row for each predictor of the state after thinking, on the test part: `constant` and `ridge`, fitted on `FIT_ON`
    training problems, and the reasoners, given by name with their seed: distance after each H-cycle (`distance/1`, ...) and at
    the end, and accuracy of the answer that the head reads off it. limits: tokens of a chain and of an answer."""
    train, test = (encode(data.lm, data.parts[part][:n], 1) for part, n in (("train", FIT_ON), ("test", None)))
    rows = [
        {"predictor": name, "seed": 0, "distance": distance, "accuracy": accuracy}
        for name, (distance, accuracy) in baseline_distances(data.lm, train, test, batch).items()
    ]
    for name, (reasoner, seed) in reasoners.items():
        thinking, c = Thinking(data.lm, reasoner, *limits), reasoner.config
        distances = state_distances(thinking, test, batch)
        row = {"predictor": name, "seed": seed, "distance": distances[-1]}
        row["accuracy"] = in_batches(thinking.from_state, data.parts["test"], batch).accuracy
        row |= {field: getattr(c, field) for field in ("H_cycles", "L_cycles", "num_layers", "recursion")}
        rows.append(row | {f"distance/{i}": value for i, value in enumerate(distances, 1)})
    return rows


def block_applications(rows: pd.DataFrame) -> pd.Series:
    """How often rows of `map_rows` apply a block to the latents, which their FLOPs grow with; NaN for baselines."""
    rows = rows.reindex(
        columns=["num_layers", "H_cycles", "L_cycles", "recursion"]
    )  # baselines alone have none of them
    recursive = rows["num_layers"] * rows["H_cycles"] * (rows["L_cycles"] + 1)
    return recursive.where(rows["recursion"].fillna(False).astype(bool), rows["num_layers"]).astype(float)
