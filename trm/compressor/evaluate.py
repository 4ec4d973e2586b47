"""What a compressor loses: errors of the states, and the effect on the language model's output distribution."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from trm.language.lm import StateReader
from trm.losses import IGNORE_INDEX

OUTLIER = 6.0  # an outlier dimension has a root mean square of so many times the median one


class StateErrors:
    """Sums over states x (N, D) and their reconstructions x^ (N, D); `metrics` are:

    mse per element; cosine_similarity and relative_error |x^ - x| / |x|, means over positions; variance_ratio, the summed
    variance of x^ over that of x; r2, 1 - mse over that of the mean predictor; centred_cosine, of x - mean and x^ - mean;
    mean_mse and mean_cosine, those of the mean predictor; outlier_energy, the share of |x|^2 in outlier dimensions.

    Args:
        mean: (D,) of the training states, the output of the mean predictor.
    """

    def __init__(self, mean: Tensor):
        self.mean = mean.detach().cpu().double()
        self.sums: dict[str, Tensor] = {}

    def add(self, x: Tensor, back: Tensor) -> None:
        """Accumulate a batch of states and reconstructions."""
        x, back = x.detach().cpu().double(), back.detach().cpu().double()
        centred, centred_back = x - self.mean, back - self.mean
        error = (back - x).square().sum(1)
        new = {
            "n": len(x),
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
        self.sums = {name: self.sums.get(name, 0) + value for name, value in new.items()}

    def metrics(self) -> dict[str, float]:
        """The metrics."""
        s, D, n = self.sums, len(self.mean), self.sums["n"]
        variance = (s["xx"] - s["x"].square() / n).sum()
        variance_back = (s["bb"] - s["back"].square() / n).sum()
        rms = (s["energy"] / n).sqrt()
        found = {
            "mse": s["error"] / n / D,
            "cosine_similarity": s["cosine"] / n,
            "relative_error": s["relative"] / n,
            "variance_ratio": variance_back / variance.clamp_min(1e-12),
            "r2": 1 - s["error"] / s["mean_error"].clamp_min(1e-12),
            "centred_cosine": s["centred_cosine"] / n,
            "mean_mse": s["mean_error"] / n / D,
            "mean_cosine": s["mean_cosine"] / n,
            "outlier_energy": s["energy"][rms > OUTLIER * rms.median()].sum() / s["energy"].sum().clamp_min(1e-12),
        }
        return {name: float(value) + 0.0 for name, value in found.items()}


class OutputErrors:
    """Sums over the model's logits from the states and from their reconstructions; `metrics`, means over positions, are:

    kl, KL(p(x) || p(x^)) in nats; top1_agreement, share with the same most likely token; ce_change, of the next token, in nats.
    """

    def __init__(self):
        self.sums = np.zeros(5)

    def add(self, real: Tensor, back: Tensor, following: Tensor) -> None:
        """Accumulate logits (N, V) of both and the next tokens (N,), `IGNORE_INDEX` where there is none."""
        real, back = real.detach().float().log_softmax(-1), back.detach().float().log_softmax(-1)
        known = following != IGNORE_INDEX
        kl = F.kl_div(back, real, log_target=True, reduction="sum")
        agree = (real.argmax(-1) == back.argmax(-1)).sum()
        after, before = (F.nll_loss(logs[known], following[known], reduction="sum") for logs in (back, real))
        self.sums += [float(part) for part in (kl, agree, after - before, len(real), known.sum())]

    def metrics(self) -> dict[str, float]:
        """The metrics."""
        kl, agree, change, n, known = self.sums.tolist()
        return {"kl": kl / n, "top1_agreement": agree / n, "ce_change": change / max(known, 1)}


def following_tokens(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The token after each position: (B, T), `IGNORE_INDEX` after the last."""
    following = np.full_like(batch["input_ids"], IGNORE_INDEX)
    following[:, :-1] = np.where(batch["attention"][:, 1:], batch["input_ids"][:, 1:], IGNORE_INDEX)
    return following


@torch.no_grad()
def evaluate(compressor, batches: Iterable[dict], mean: Tensor, reader: StateReader, outputs=True) -> dict[str, float]:
    """All metrics of a compressor, states (N, D) -> (N, D), on batches of `trm.compressor.states.StateBatches` with states.

    outputs: also those of the model's output, where it has a head; layers above the states compute it.
    """
    outputs = outputs and reader.head is not None
    of_states, of_outputs = StateErrors(mean), OutputErrors()
    for batch in batches:
        mask = torch.from_numpy(batch["mask"])
        x = torch.from_numpy(batch["states"])[mask].to(reader.device)
        back = compressor(x)
        of_states.add(x, back)
        if outputs:
            logits = [reader.lm_head(part) for part in (x, back)] if reader.last else _logits(reader, batch, compressor)
            of_outputs.add(*logits, torch.from_numpy(following_tokens(batch))[mask].to(reader.device))
    return of_states.metrics() | (of_outputs.metrics() if outputs else {})


def _logits(reader: StateReader, batch: dict[str, np.ndarray], compressor: Callable) -> list[Tensor]:
    """Logits (N, V) of the model, and those with the states of the positions that count replaced."""
    ids, attention, mask = (torch.from_numpy(batch[k]).to(reader.device) for k in ("input_ids", "attention", "mask"))
    changed = reader.logits(ids, attention, lambda x: torch.where(mask[..., None], compressor(x), x))
    return [reader.logits(ids, attention)[mask], changed[mask]]


def chapter_metrics(rows: pd.DataFrame, K: int, stage: str) -> dict[str, float | list]:
    """The metrics of chapter 01: compressor/<metric>_<arm>, lists over the sizes; test/<metric>_<arm>, at size K; and
    compressor/pca_excess_max, the largest mse of the tied compressor over that of the optimum, less 1."""
    here = rows[(rows["trained"] == stage) & (rows["text"] == stage)]
    found: dict[str, float | list] = {"compressor/sizes": sorted(int(size) for size in here["K"].unique())}
    for metric in [name for name in ("mse", "cosine_similarity", "kl", "top1_agreement") if name in here]:
        table = here.pivot_table(index="K", columns="arm", values=metric).dropna(axis=1)
        found |= {f"compressor/{metric}_{arm}": table[arm].tolist() for arm in table}
        found |= {f"test/{metric}_{arm}": float(table.loc[K, arm]) for arm in table if K in table.index}
    if "tied" in here["arm"].unique():
        mse = here.pivot_table(index="K", columns="arm", values="mse")
        found["compressor/pca_excess_max"] = float((mse["tied"] / mse["optimum"] - 1).max())
    return found
