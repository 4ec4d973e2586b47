"""The closed form against descent: both come to the bound, and a rate that moves nothing never does."""

import numpy as np
import torch

from trm.compressor.descent_race import race, seconds_to_bound
from trm.compressor.optimum import SecondMoment


def test_the_race_comes_to_the_bound():
    draw = np.random.default_rng(0)
    states = (draw.normal(size=(4000, 16)) @ draw.normal(size=(16, 16))).astype(np.float32)
    laps = race(states, [2, 4], seed=0)
    assert [lap["K"] for lap in laps] == [0, 2, 4] and all(0 < lap["seconds"] < 60 for lap in laps)
    moment = SecondMoment(16)
    moment.add(torch.from_numpy(states))
    assert seconds_to_bound(moment, states, 2, 1e-6, 5, 60.0, 0) == float("inf")  # a rate at which nothing moves
