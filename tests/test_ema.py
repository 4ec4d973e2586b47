"""Averaged weights."""

import torch

from trm.optim import EMA


def test_average_by_hand_and_weights_come_back():
    model = torch.nn.Linear(1, 1, bias=False)
    weight = model.weight
    with torch.no_grad():
        weight.fill_(0.0)
    ema, expected = EMA(model, 0.5), 0.0
    for n in range(1, 20):
        with torch.no_grad():
            weight.fill_(float(n))
        ema.update()
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * n
    with ema.averaged() as averaged:
        assert abs(averaged.weight.item() - expected) < 1e-5
        assert not averaged.training
    assert weight.item() == 19 and model.training


def test_no_averaging():
    model = torch.nn.Linear(1, 1)
    ema = EMA(model, 0.0)
    ema.update()
    before = model.weight.item()
    with ema.averaged() as averaged:
        assert averaged.weight.item() == before
