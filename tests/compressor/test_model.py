"""Compressors and their optima, against numpy and singular values."""

import numpy as np
import pytest
import torch

from trm.compressor.model import KINDS, Compressor
from trm.compressor.optimum import LogitMetric, SecondMoment
from trm.errors import UserError

D = 12


@pytest.fixture(scope="module")
def states():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(D, D, generator=generator) * torch.logspace(1, -1, D)[:, None]
    return torch.randn(3000, D, generator=generator) @ mix + torch.randn(D, generator=generator)


@pytest.fixture(scope="module")
def moment(states):
    found = SecondMoment(D)
    for part in states.split(701):
        found.add(part)
    return found


@pytest.mark.parametrize("D", [1, 2, 5, 12])
def test_both_triangles_of_the_moment_are_numpys(D):
    parts = np.random.default_rng(D).normal(size=(3, 50, D)) * range(1, D + 1) + 2
    moment = SecondMoment(D)
    for part in parts:
        moment.add(torch.from_numpy(part))
    x = parts.reshape(-1, D)
    np.testing.assert_allclose(moment.matrix(centred=False).numpy(), x.T @ x / len(x), rtol=1e-12)
    covariance = np.cov(x.T, bias=True).reshape(D, D)
    np.testing.assert_allclose(moment.matrix(centred=True).numpy(), covariance, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K", [1, 5, D])
def test_the_optimum_reaches_the_bound_and_no_neighbour_beats_it(states, moment, kind, K):
    """The least error is that of the singular values beyond K."""
    compressor, x = Compressor(D, K, kind).set_optimum(moment).double(), states.double()
    values = torch.linalg.svdvals(x if kind == "tied" else x - x.mean(0)).square() / len(x)
    torch.testing.assert_close(moment.eigen(centred=kind != "tied")[0], values)
    bound = float(values[K:].sum()) / D
    with torch.no_grad():
        assert float((compressor(x) - x).square().mean()) == pytest.approx(bound, rel=1e-4, abs=1e-9)
        compressor.encoder += 0.01 * torch.randn(K, D, generator=torch.Generator().manual_seed(K))
        assert (compressor(x) - x).square().mean() > bound


def test_shapes_weight_tying_and_files(tmp_path, states):
    for kind in KINDS:
        compressor = Compressor(D, 3, kind)
        z = compressor.compress(torch.randn(2, 5, D))
        assert z.shape == (2, 5, 3) and compressor.decompress(z).shape == (2, 5, D)
        compressor.save_pretrained(tmp_path / kind)
        torch.testing.assert_close(Compressor.from_pretrained(tmp_path / kind)(states[:5]), compressor(states[:5]))
    assert [name for name, _ in Compressor(D, 3, "tied").named_parameters()] == ["encoder"]  # no bias, one matrix


def batch_of(states, mask):
    return {"states": states, "mask": mask, "positions": torch.full((len(mask),), float(mask.sum()) / len(mask))}


def test_the_loss_leaves_out_what_does_not_count(states):
    compressor = Compressor(D, 3, "affine")
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[:, 3:] = mask[0, 1:] = False
    batch = batch_of(states[:20].reshape(4, 5, D).clone(), mask)
    before = float(compressor.loss(batch).loss.detach())
    kept = batch["states"][mask]
    assert before == pytest.approx(float((compressor(kept).detach() - kept).square().mean()))
    batch["states"][~mask] = 1e6
    assert float(compressor.loss(batch).loss.detach()) == before
    halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 2), slice(2, 4))]
    mean = sum(float(compressor.loss(half).loss.detach()) for half in halves) / 2  # as processes share the work
    assert mean == pytest.approx(before)


def test_what_is_said_is_the_loss_where_it_is_asked_for(states):
    head = torch.randn(7, D, generator=torch.Generator().manual_seed(3)) / 20
    compressor = Compressor(D, 3, "linear")
    compressor.lm_head = lambda x: x @ head.T
    batch = batch_of(states[:6].reshape(2, 3, D), torch.ones(2, 3, dtype=torch.bool))
    x, back = states[:6], compressor(states[:6])
    p, q = (x @ head.T).softmax(-1), (back @ head.T).softmax(-1)
    torch.testing.assert_close(compressor.loss(batch).loss, (p * (p / q).log()).sum(-1).mean(), rtol=1e-4, atol=0)


def test_the_logit_metric_is_the_second_derivative_of_the_divergence():
    generator = torch.Generator().manual_seed(1)
    head, x = torch.randn(9, D, generator=generator).double(), torch.randn(40, D, generator=generator).double()
    metric = LogitMetric(head)
    for part in x.split(13):
        metric.add(part @ head.T)
    expected = torch.zeros(D, D, dtype=torch.float64)
    for one in x:
        p = (head @ one).softmax(-1).detach()

        def divergence(y, p=p):
            return (p * (p.log() - (head @ y).log_softmax(-1))).sum()

        expected += torch.autograd.functional.hessian(divergence, one) / len(x)
    torch.testing.assert_close(metric.matrix(ridge=0), expected)


def test_the_task_aware_optimum_loses_least_as_the_metric_counts(states, moment):
    head = torch.randn(9, D, generator=torch.Generator().manual_seed(2)) / 10
    metric = LogitMetric(head)
    metric.add(states @ head.T)
    F = metric.matrix()
    covariance = moment.matrix(centred=True)

    def cost(encoder, decoder):
        lost = torch.eye(D, dtype=torch.float64) - decoder.double() @ encoder.double()
        return float((lost.T @ F @ lost @ covariance).trace())

    for K in (1, 4):
        best = metric.best(covariance, K)
        pca = Compressor(D, K, "affine").set_optimum(moment).encoder.detach()
        assert cost(*best) < cost(pca, pca.T)
        for seed in range(5):
            nudge = torch.randn(K, D, generator=torch.Generator().manual_seed(seed)).double() * 0.01
            assert cost(best[0] + nudge, best[1]) > cost(*best)
        assert torch.allclose(best[0] @ best[1], torch.eye(K, dtype=torch.float64), atol=1e-8)


@pytest.mark.parametrize("K", [0, -1, D + 1])
def test_sizes_that_cannot_be(K):
    with pytest.raises(UserError, match=f"d_compressed {K} is not between 1 and the size of the states, {D}"):
        Compressor(D, K)


def test_what_is_not_finite_is_named_with_its_batch(states):
    moment = SecondMoment(D)
    moment.add(states[:10])
    with pytest.raises(UserError, match="batch 1 of the hidden states .* not finite"):
        moment.add(torch.where(states[:10] == states[4, 2], torch.nan, states[:10]))
