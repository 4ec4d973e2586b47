"""The paper's halting rule."""

import numpy as np
import pytest
import torch

from trm.halting import exploration_steps, first_halt, q_halt_loss, should_halt


def test_loss_by_hand():
    q, right = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([True, True, False])
    expected = [np.log(2), np.log1p(np.exp(-2)), np.log1p(np.exp(-1))]
    assert q_halt_loss(q, right).tolist() == pytest.approx(expected, rel=1e-6)


def test_who_stops():
    q = torch.tensor([1.0, -1.0, 1.0, -1.0])
    steps = torch.tensor([2, 2, 2, 6])
    least = torch.tensor([0, 0, 4, 0])
    assert should_halt(q, steps, 6, least).tolist() == [True, False, False, True]
    assert should_halt(q, steps, 6).tolist() == [True, False, True, True]


def test_exploration_is_a_function_of_seed_and_step():
    draws = [exploration_steps(3, step, 1000, 6, 0.3) for step in (1, 1, 2)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
    exploring = draws[0] > 0
    assert 0.25 < exploring.mean() < 0.35  # 3.5 deviations
    assert set(draws[0][exploring]) == {2, 3, 4, 5, 6}
    assert not exploration_steps(3, 1, 100, 6, 0.0).any()
    assert (exploration_steps(3, 1, 100, 1, 1.0) == 2).all()  # one step: the cap stops it anyway


def test_first_halt():
    q = torch.tensor([[-1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [1.0, -1.0, -1.0]])
    assert first_halt(q).tolist() == [1, 2, 0]
