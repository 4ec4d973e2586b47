"""The closed form of the tied compressor against gradient descent: who is sooner at the bound, from the same states."""

import math
import time

import numpy as np
import torch

from trm.compressor.model import Compressor
from trm.compressor.optimum import SecondMoment

RATES = (3e-3, 1e-2, 3e-2)
AT_ONCE = 2048  # states of a step


def seconds_to_bound(
    moment: SecondMoment,
    states: np.ndarray,
    K: int,
    lr: float,
    steps: int,
    seconds: float,
    seed: int,
    within: float = 0.01,
) -> float:
    """Seconds that gradient descent (Adam, batches of 2,048 states, a rate that falls to zero over `steps` steps as a
    cosine) takes from random weights until the tied compressor's error on the states in `moment` is at most 1 + `within`
    times the bound; infinite if `steps` steps or `seconds` seconds do not do. Looking at the error does not count.

    states: (N, D), those in `moment`, read where they lie.
    """
    torch.manual_seed(seed)
    compressor, draw = Compressor(states.shape[1], K), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(compressor.parameters(), lr=lr, betas=(0.9, 0.95))
    bound, spent = float(moment.bound()[K]), 0.0
    for step in range(steps):
        started = time.perf_counter()
        x = torch.from_numpy(states[np.sort(draw.integers(len(states), size=AT_ONCE))])
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        torch.nn.functional.mse_loss(compressor(x), x).backward()
        optimizer.step()
        optimizer.zero_grad()
        spent += time.perf_counter() - started
        if spent > seconds:
            break
        if step % 10 == 9:
            error = moment.error(compressor.encoder.detach(), compressor.decoder.detach())
            if error <= (1 + within) * bound:
                return spent
    return math.inf


def race(states: np.ndarray, sizes: list[int], seed: int) -> list[dict[str, float]]:
    """The closed form against descent, both from states (N, D) that lie on disk: rows of K, rate, steps, seconds.

    K = 0: the closed form for all sizes together, its pass included. Else descent, at the rate of `RATES` that was fastest
    within the shortest schedule by which any came within 1 % of the bound; the search for them does not count. Each is the
    best of three times. K = D, whose bound is nothing, is left out.
    """
    closed = math.inf
    for _ in range(3):
        started, moment = time.perf_counter(), SecondMoment(states.shape[1])
        for first in range(0, len(states), 4 * AT_ONCE):
            moment.add(torch.from_numpy(np.array(states[first : first + 4 * AT_ONCE])))
        moment.eigen(centred=False)
        closed = min(closed, time.perf_counter() - started)
    rows = [{"K": 0, "rate": 0.0, "steps": 0, "seconds": closed}]
    for K in (K for K in sizes if states.shape[1] > K):
        best = {"K": K, "rate": math.nan, "steps": 0, "seconds": math.inf}
        for steps in (60, 120, 480, 960):
            for lr in RATES:
                seconds = seconds_to_bound(moment, states, K, lr, steps, best["seconds"], seed)
                if seconds < best["seconds"]:
                    best = {"K": K, "rate": lr, "steps": steps, "seconds": seconds}
            if math.isfinite(best["seconds"]):
                break
        for _ in range(2 if math.isfinite(best["seconds"]) else 0):
            again = seconds_to_bound(moment, states, K, best["rate"], best["steps"], math.inf, seed)
            best["seconds"] = min(best["seconds"], again)
        rows.append(best)
    return rows
