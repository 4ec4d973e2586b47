"""What a compressor loses: of the states, and of what the language model says after them."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trm.language.lm import StateReader

OUTLIER = 6.0  # a dimension whose root mean square is so many times the median of all dimensions


class StateLoss:
    """Sums over states x (N, D) and what came back of them, x^ (N, D); `metrics` makes numbers of them.

    Those of the guide: mse; cosine_similarity and relative_error |x^ - x| / |x|, means over positions; variance_ratio, the
    summed variance of x^ over that of x. Beside them: r2, 1 - mse over that of the mean predictor, 1 is best and 0 no better
    than the mean; centred_cosine, of x - mean and x^ - mean; mean_mse and mean_cosine, those of the mean predictor;
    outlier_energy, the share of |x|^2 in outlier dimensions.

    mean: (D,) of the training states, what the mean predictor says.
    """

    def __init__(self, mean: Tensor):
        self.mean = mean.detach().double().cpu()
        self.n = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, x: Tensor, back: Tensor) -> None:
        """Take in a batch."""
        x, back = x.detach().double().cpu(), back.detach().double().cpu()
        centred, centred_back = x - self.mean, back - self.mean
        error = (back - x).square().sum(1)
        new = {
            "error": error.sum(),
            "relative": (error.sqrt() / x.norm(dim=1).clamp_min(1e-12)).sum(),
            "cosine": F.cosine_similarity(x, back, dim=1).sum(),
            "centred_cosine": F.cosine_similarity(centred, centred_back, dim=1).sum(),
            "mean_error": centred.square().sum(),
            "mean_cosine": F.cosine_similarity(x, self.mean.expand_as(x), dim=1).sum(),
            "x": centred.sum(0),
            "back": centred_back.sum(0),
            "xx": centred.square().sum(0),
            "bb": centred_back.square().sum(0),
            "energy": x.square().sum(0),
        }
        self.n += len(x)
        self.sums = {name: self.sums.get(name, 0) + value for name, value in new.items()}

    def metrics(self) -> dict[str, float]:
        """The numbers."""
        s, D = self.sums, len(self.mean)
        variance = [(s[two] - s[one].square() / self.n).sum() for one, two in (("x", "xx"), ("back", "bb"))]
        rms = (s["energy"] / self.n).sqrt()
        found = {
            "mse": s["error"] / self.n / D,
            "cosine_similarity": s["cosine"] / self.n,
            "relative_error": s["relative"] / self.n,
            "variance_ratio": variance[1] / variance[0].clamp_min(1e-12),
            "r2": 1 - s["error"] / s["mean_error"].clamp_min(1e-12),
            "centred_cosine": s["centred_cosine"] / self.n,
            "mean_mse": s["mean_error"] / self.n / D,
            "mean_cosine": s["mean_cosine"] / self.n,
            "outlier_energy": s["energy"][rms > OUTLIER * rms.median()].sum() / s["energy"].sum().clamp_min(1e-12),
        }
        return {name: float(value) + 0.0 for name, value in found.items()}


class SayingLoss:
    """Sums over what a language model says of the real state and of the one that came back, position by position.

    kl: KL(real || back) in nats; top1_agreement: share of positions with the same most likely token; ce_change: the
    cross-entropy of the token that really comes next, in nats, less what it was before.
    """

    def __init__(self):
        self.n = self.known = 0
        self.sums = {"kl": 0.0, "top1_agreement": 0.0, "ce_change": 0.0}

    def add(self, real: Tensor, back: Tensor, following: Tensor) -> None:
        """Take in logits (N, V) each and the tokens that follow (N,), -100 where none does."""
        real, back = real.detach().float().log_softmax(-1), back.detach().float().log_softmax(-1)
        self.n += len(real)
        self.sums["kl"] += float(F.kl_div(back, real, log_target=True, reduction="sum"))
        self.sums["top1_agreement"] += float((real.argmax(-1) == back.argmax(-1)).sum())
        known = following != -100
        self.known += int(known.sum())
        worse = F.nll_loss(back[known], following[known], reduction="sum") - F.nll_loss(
            real[known], following[known], reduction="sum"
        )
        self.sums["ce_change"] += float(worse)

    def metrics(self) -> dict[str, float]:
        """The numbers, means over positions."""
        over = {"kl": self.n, "top1_agreement": self.n, "ce_change": self.known}
        return {name: total / max(over[name], 1) for name, total in self.sums.items()}


def following_tokens(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The token after each position: (B, T), -100 after the last."""
    following = np.full_like(batch["input_ids"], -100)
    following[:, :-1] = np.where(batch["attention"][:, 1:], batch["input_ids"][:, 1:], -100)
    return following


@torch.no_grad()
def judge(
    there_and_back: Callable[[Tensor], Tensor],
    batches: Iterable[dict[str, np.ndarray]],
    mean: Tensor,
    reader: StateReader,
    said: bool = True,
) -> dict[str, float]:
    """All numbers of a compressor on batches of `trm.compressor.states.StateBatches` with their states.

    there_and_back: states (N, D) -> (N, D). said: also what the model says, where it has a head; of states below the last
    layer it is what the layers above make of them.
    """
    said = said and reader.head is not None
    lost, saying = StateLoss(mean), SayingLoss()
    for batch in batches:
        mask = torch.from_numpy(batch["mask"])
        x = torch.from_numpy(batch["states"])[mask].to(reader.device)
        back = there_and_back(x)
        lost.add(x, back)
        if said and reader.last:
            logits = reader.say(x), reader.say(back)
        elif said:
            logits = _through_the_rest(reader, batch, mask, there_and_back)
        if said:
            saying.add(*logits, torch.from_numpy(following_tokens(batch))[mask].to(reader.device))
    return lost.metrics() | (saying.metrics() if said else {})


def _through_the_rest(reader, batch, mask, there_and_back) -> tuple[Tensor, Tensor]:
    """Logits (N, V) of the model as it is, and with the states of the positions that count replaced."""
    ids, attention = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention"))
    where = mask.to(reader.device)

    def change(states: Tensor) -> Tensor:
        changed = states.clone()
        changed[where] = there_and_back(states[where])
        return changed

    return reader.logits(ids, attention)[where], reader.logits(ids, attention, change)[where]
