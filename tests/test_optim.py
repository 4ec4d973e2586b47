"""Update rules and rates against hand-worked numbers."""

import math

import pytest
import torch

from trm.optim import SOAP, AdamATan2, learning_rate, make_optimizer
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


@pytest.mark.parametrize("name", ["adamw", "adam_atan2", "soap"])
def test_optimizers_descend(name):
    params = TrmTrain.create(dict(optimizer=name, lr=0.05, weight_decay=0.0))
    p = torch.nn.Parameter(torch.tensor([3.0, -3.0]))
    optimizer = make_optimizer(torch.nn.ParameterList([p]), params)
    for _ in range(100):
        optimizer.zero_grad()
        p.square().sum().backward()
        optimizer.step()
    assert p.abs().max() < 0.2


def test_soap_is_adam_in_the_eigenbasis_of_the_gradients():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    optimizer = SOAP([p], lr=0.1, betas=(0.9, 0.8), weight_decay=0.5, frequency=10**9)
    first = torch.randn(3, 4, dtype=torch.float64)
    rows, cols = torch.linalg.eigh(first @ first.T)[1], torch.linalg.eigh(first.T @ first)[1]
    expected, m, v = p.detach().clone(), torch.zeros(3, 4).double(), torch.zeros(3, 4).double()
    for step, grad in enumerate([first, torch.randn(3, 4).double(), torch.randn(3, 4).double()], start=1):
        p.grad = grad
        optimizer.step()
        turned = torch.einsum("ia,ij,jb->ab", rows, grad, cols)
        m, v = (
            0.9 * m + 0.1 * turned,
            0.8 * v + 0.2 * turned**2,
        )  # in a fixed basis the first moment may be turned at any time
        update = m / (1 - 0.9**step) / ((v / (1 - 0.8**step)).sqrt() + 1e-8)
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * torch.einsum("ia,ab,jb->ij", rows, update, cols)
        torch.testing.assert_close(p.detach(), expected)


def test_soap_finds_the_eigenbasis_and_needs_few_steps_where_adam_needs_many():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(8, 8, generator=generator).double())[0] for _ in range(2))
    scale = torch.logspace(0, -3, 8).double()  # an ill-conditioned quadratic whose axes are not those of the weights
    left, right = left * scale, right * scale
    lost = {}
    for name, kind in {"soap": SOAP, "adam": torch.optim.AdamW}.items():
        p = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.float64))
        optimizer = kind([p], lr=0.02, betas=(0.9, 0.95), weight_decay=0.0)
        for _ in range(200):
            optimizer.zero_grad()
            loss = (left.T @ (p - 1) @ right).square().sum()
            loss.backward()
            optimizer.step()
        lost[name] = loss.item()
        if name == "soap":
            basis = optimizer.state[p]["rows_basis"]
            torch.testing.assert_close(basis.T @ basis, torch.eye(8, dtype=torch.float64))
    assert lost["soap"] < 0.1 * lost["adam"]


def test_soap_is_adam_for_vectors_and_large_matrices():
    torch.manual_seed(0)
    for shape in ((4,), (3, 5), (1, 3), (2, 2, 2)):
        start = torch.randn(shape, dtype=torch.float64)
        pair = [torch.nn.Parameter(start.clone()) for _ in range(2)]
        options = dict(lr=0.1, betas=(0.9, 0.8), weight_decay=0.5)
        optimizers = SOAP([pair[0]], max_side=4, **options), torch.optim.AdamW([pair[1]], **options)
        for _ in range(3):
            gradient = torch.randn(shape, dtype=torch.float64)
            for p, optimizer in zip(pair, optimizers):
                p.grad = gradient.clone()
                optimizer.step()
        torch.testing.assert_close(pair[0].detach(), pair[1].detach())
