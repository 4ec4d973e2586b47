"""The closed form of the tied compressor against gradient descent: seconds to the bound, from the same states.

    python tests/benchmarks/closed_form.py [--sizes 4 16 64] [--sequences 2000]

Descent (Adam, batches of 2,048 states, cosine to zero) counts until its error is within 1 % of the bound. It has the best of
three rates within the shortest schedule that gets there; the search for them, and looking at the error, do not count.
"""

import argparse
import math
import time

import numpy as np
import torch

from trm.compressor.model import Compressor
from trm.compressor.optimum import SecondMoment
from trm.compressor.states import StateBatches
from trm.language.lm import StateReader, load_lm
from trm.language.text import read_sequences

RATES, SCHEDULES, BATCH = (3e-3, 1e-2, 3e-2), (60, 120, 480, 960), 2048


def descend(moment: SecondMoment, states: torch.Tensor, K: int, lr: float, steps: int) -> float:
    """Seconds of descent to 1.01 times the bound; infinite if `steps` steps do not get there."""
    torch.manual_seed(0)
    compressor, draw = Compressor(states.shape[1], K), np.random.default_rng(0)
    optimizer = torch.optim.Adam(compressor.parameters(), lr=lr, betas=(0.9, 0.95))
    bound, seconds = float(moment.eigen(centred=False)[0][K:].sum()) / states.shape[1], 0.0
    for step in range(steps):
        started = time.perf_counter()
        x = states[draw.integers(len(states), size=BATCH)]
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        torch.nn.functional.mse_loss(compressor(x), x).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - started
        with torch.no_grad():
            if step % 10 == 9 and torch.nn.functional.mse_loss(compressor(states), states) <= 1.01 * bound:
                return seconds
    return math.inf


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--sequences", type=int, default=2000)
    options = parser.parse_args()
    lm, tokenizer = load_lm()
    reader = StateReader(lm)
    texts = read_sequences(tokenizer, "", {"train": options.sequences}, 128)["train"]
    batches = StateBatches(texts, reader.states, 32, tokenizer.pad_token_id, skip_first=1)
    states = torch.cat([torch.from_numpy(batch["states"][batch["mask"]]) for batch in batches.in_order()])
    started, moment = time.perf_counter(), SecondMoment(states.shape[1])
    for part in states.split(4 * BATCH):
        moment.add(part)
    moment.eigen(centred=False)
    print(f"{len(states):,} states; closed form, all sizes: {time.perf_counter() - started:.3f} s")
    for K in options.sizes:
        runs = (min(descend(moment, states, K, lr, steps) for lr in RATES) for steps in SCHEDULES)
        print(f"descent, K = {K}: {next((found for found in runs if math.isfinite(found)), math.inf):.3f} s")


if __name__ == "__main__":
    main()
