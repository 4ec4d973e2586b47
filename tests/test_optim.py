"""Update rules and rates against hand-worked numbers."""

import math

import pytest
import torch

from trm.optim import AdamATan2, learning_rate, make_optimizer
from trm.puzzles.params import TrmTrain


def test_adam_atan2_is_the_kernel_of_hrm_and_trm():
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = AdamATan2([p], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    expected, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step, grads in enumerate([(0.3, -4.0), (-0.1, 2.0), (0.0, 1e-30)], start=1):
        p.grad = torch.tensor(grads, dtype=torch.float64)
        optimizer.step()
        for i, g in enumerate(grads):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.95 * v[i] + 0.05 * g * g
            expected[i] *= 1 - 0.1 * 0.5
            expected[i] -= 0.1 / (1 - 0.9**step) * math.atan2(m[i], math.sqrt(v[i]) / math.sqrt(1 - 0.95**step))
        assert p.tolist() == pytest.approx(expected, rel=1e-9)


def test_adam_atan2_does_not_care_for_the_scale_of_the_loss():
    results = []
    for scale in (1.0, 1e-12):
        p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = AdamATan2([p], lr=0.1, weight_decay=0.0)
        for _ in range(4):
            optimizer.zero_grad()
            (scale * (p * torch.tensor([1.0, -2.0, 3.0])).square().sum()).backward()
            optimizer.step()
        results.append(p.detach())
    torch.testing.assert_close(*results)


def test_rates():
    params = TrmTrain.create(dict(lr=0.1, warmup_steps=10, max_steps=110, lr_schedule="cosine", lr_min_ratio=0.2))
    assert learning_rate(params, 0) == pytest.approx(0.01)
    assert learning_rate(params, 9) == pytest.approx(0.1)
    assert learning_rate(params, 60) == pytest.approx(0.1 * (0.2 + 0.8 * 0.5))
    assert learning_rate(params, 110) == pytest.approx(0.02)
    constant = params.model_copy(update={"lr_schedule": "constant"})
    assert learning_rate(constant, 109) == 0.1 == learning_rate(constant, constant.warmup_steps)


@pytest.mark.parametrize("name", ["adamw", "adam_atan2"])
def test_both_optimizers_descend(name):
    params = TrmTrain.create(dict(optimizer=name, lr=0.05, weight_decay=0.0))
    p = torch.nn.Parameter(torch.tensor([3.0, -3.0]))
    optimizer = make_optimizer([p], params)
    for _ in range(100):
        optimizer.zero_grad()
        p.square().sum().backward()
        optimizer.step()
    assert p.abs().max() < 0.2
