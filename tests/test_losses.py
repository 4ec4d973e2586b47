"""Losses against independent computations."""

import numpy as np
import torch
import torch.nn.functional as F

from trm.losses import IGNORE_INDEX, exactly_right, pad, sequence_loss, softmax_cross_entropy, stablemax_cross_entropy


def test_stablemax_by_the_papers_formula_in_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(scale=5, size=(4, 3, 7)), rng.integers(0, 7, (4, 3))
    s = np.where(x < 0, 1 / (1 - x), x + 1)
    expected = -np.log(np.take_along_axis(s, y[..., None], -1)[..., 0] / s.sum(-1))
    got = stablemax_cross_entropy(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_stablemax_gradient():
    labels = torch.tensor([[0, 2, IGNORE_INDEX]])
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: stablemax_cross_entropy(z, labels).double(), (x,), eps=1e-4, atol=1e-3)


def test_stablemax_is_finite_far_out_and_at_zero():
    x = torch.tensor([[[0.0, 1e30, -1e30]]], requires_grad=True)
    loss = stablemax_cross_entropy(x, torch.tensor([[2]]))
    loss.sum().backward()
    assert loss.isfinite().all() and x.grad.isfinite().all()


def test_float32_stablemax_is_near_float64():
    x, y = torch.randn(8, 20, 11) * 30, torch.randint(0, 11, (8, 20))
    torch.testing.assert_close(
        stablemax_cross_entropy(x, y, torch.float32), stablemax_cross_entropy(x, y), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(stablemax_cross_entropy(x, y), stablemax_cross_entropy(x, y, torch.float64)), "the default"
    assert not torch.equal(stablemax_cross_entropy(x, y), stablemax_cross_entropy(x, y, torch.float32))


def test_sequence_loss_is_a_mean_over_labelled_positions_of_one_example():
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, IGNORE_INDEX, 4], [0, 1, 2]])
    per_cell = softmax_cross_entropy(logits, labels)
    assert per_cell[0, 1] == 0 == stablemax_cross_entropy(logits, labels)[0, 1]
    expected = torch.stack(
        [F.cross_entropy(logits[0, [0, 2]], labels[0, [0, 2]]), F.cross_entropy(logits[1], labels[1])]
    )
    torch.testing.assert_close(sequence_loss(logits, labels), expected)


def test_a_sequence_with_one_label_or_none():
    logits, labels = torch.randn(2, 3, 5), torch.full((2, 3), IGNORE_INDEX)
    labels[0, 1] = 4
    one, none = sequence_loss(logits, labels)
    torch.testing.assert_close(one, F.cross_entropy(logits[0, 1:2], labels[0, 1:2]))
    assert none == 0


def test_exactly_right_ignores_what_does_not_count():
    labels = torch.tensor([[1, IGNORE_INDEX], [1, 2]])
    assert exactly_right(torch.tensor([[1, 5], [1, 3]]), labels).tolist() == [True, False]
    three = torch.tensor(
        [[1, 2], [3, 4], [5, IGNORE_INDEX]]
    )  # more rows than columns: a mean over the wrong axis shows
    assert exactly_right(torch.tensor([[1, 2], [3, 0], [5, 0]]), three).tolist() == [True, False, True]


def test_rows_are_padded_on_the_right():
    assert pad([[1, 2], [], [3]], 9).tolist() == [[1, 2], [9, 9], [3, 9]]
    assert pad([[1]], 0, rows_in_all=2).tolist() == [[1], [0]] and pad([], 0).shape == (0, 0)
    vectors = pad([np.ones((1, 2), np.float32), np.zeros((2, 2), np.float32)], -1)
    assert vectors.dtype == np.float32 and vectors.shape == (2, 2, 2) and vectors[0].tolist() == [[1, 1], [-1, -1]]
