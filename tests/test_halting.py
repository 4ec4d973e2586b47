"""Halting: every formula against the enumeration of all halting times, gradients against finite differences, extremes."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trm import halting
from trm.halting import Rule

LOGITS = st.lists(st.floats(-8, 8), min_size=1, max_size=7)


def enumerate_halting(logits: list[float]) -> list[float]:
    """p_t by playing every sequence of coins: at each step but the last one is thrown, and the first head stops."""
    chance = [1 / (1 + math.exp(-h)) for h in logits]
    coins = len(logits) - 1
    p = [0.0] * len(logits)
    for heads in itertools.product((True, False), repeat=coins):
        weight = math.prod(c if head else 1 - c for c, head in zip(chance, heads))
        p[heads.index(True) if True in heads else coins] += weight
    return p


@settings(max_examples=60, deadline=None)
@given(LOGITS)
def test_halting_times_against_enumeration(logits):
    p = enumerate_halting(logits)
    h = torch.tensor([logits], dtype=torch.float64)
    assert halting.log_halt_probs(h).exp()[0].tolist() == pytest.approx(p, rel=1e-9, abs=1e-12)
    assert halting.expected_steps(h).item() == pytest.approx(sum((t + 1) * q for t, q in enumerate(p)), rel=1e-9)
    losses = [0.5 * t + 1 / (t + 1) for t in range(len(p))]
    got = halting.expected_loss(torch.tensor([losses], dtype=torch.float64), h, 0.3).item()
    mean_steps = sum((t + 1) * q for t, q in enumerate(p))
    assert got == pytest.approx(sum(q * v for q, v in zip(p, losses)) + 0.3 * mean_steps, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.01, 0.99))
def test_ponder_kl_against_enumeration(logits, prior):
    p, steps = enumerate_halting(logits), len(logits)
    g = [prior * (1 - prior) ** t for t in range(steps)]
    g = [v / sum(g) for v in g]
    expected = sum(a * math.log(a / b) for a, b in zip(p, g) if a > 0)
    got = halting.ponder_kl(torch.tensor([logits], dtype=torch.float64), prior).item()
    assert got == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert got > -1e-12


def graves_by_the_book(logits, epsilon=0.01):
    """Equations 5 to 10 of arXiv 1603.08983, one step at a time."""
    weights, total = [], 0.0
    for n, h in enumerate(logits, start=1):
        p = 1 / (1 + math.exp(-h))
        if total + p >= 1 - epsilon or n == len(logits):
            weights += [1 - total] + [0.0] * (len(logits) - n)
            return weights, n + 1 - total
        weights.append(p)
        total += p


@settings(max_examples=60, deadline=None)
@given(LOGITS)
def test_graves_by_the_book(logits):
    weights, cost = halting.graves_weights(torch.tensor([logits], dtype=torch.float64))
    expected, expected_cost = graves_by_the_book(logits)
    assert weights[0].tolist() == pytest.approx(expected, abs=1e-12)
    assert cost.item() == pytest.approx(expected_cost)
    states = torch.randn(1, len(logits), 3, 2, dtype=torch.float64)
    average = sum(w * states[0, t] for t, w in enumerate(expected))
    torch.testing.assert_close(halting.weighted_states(states, weights)[0], average)


def test_gradients_against_finite_differences():
    torch.manual_seed(0)
    h = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    losses = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: halting.expected_loss(a, b, 0.01), (losses, h))
    assert torch.autograd.gradcheck(lambda a: halting.ponder_kl(a, 0.3), (h,))
    assert torch.autograd.gradcheck(lambda a: halting.graves_weights(a)[0], (h,))
    assert torch.autograd.gradcheck(lambda a: halting.graves_weights(a)[1], (h,))


def test_the_expectation_is_taken_example_by_example():
    """Not the mean of p times the mean of L: an example that halts at once is charged its own first loss alone."""
    h = torch.tensor([[9.0, 0.0], [-9.0, 0.0]])
    losses = torch.tensor([[1.0, 10.0], [100.0, 3.0]])
    assert halting.expected_loss(losses, h).tolist() == pytest.approx([1.0, 3.0], abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [60.0, 1e4, float("inf")])
def test_extremes_are_defined(dtype, size):
    """Never, at once, and one step only: right values and finite gradients, even for infinite logits."""
    steps = 16
    for sign, p_first, mean_steps, graves_cost in ((-1, 0.0, 16.0, 17.0), (1, 1.0, 1.0, 2.0)):
        h = torch.full((2, steps), sign * size, dtype=dtype, requires_grad=True)
        assert halting.log_halt_probs(h).dtype == torch.float32
        p = halting.log_halt_probs(h).exp()
        assert p[0, 0].item() == pytest.approx(p_first) and p.sum(1).tolist() == pytest.approx([1, 1])
        assert halting.expected_steps(h).tolist() == pytest.approx([mean_steps] * 2)
        assert halting.graves_weights(h)[1].tolist() == pytest.approx([graves_cost] * 2, abs=0.02)
        kl = -math.log(0.2 / (1 - 0.8**steps)) if sign > 0 else -math.log(0.2 * 0.8**15 / (1 - 0.8**steps))
        assert halting.ponder_kl(h, 0.2).tolist() == pytest.approx([kl] * 2, rel=1e-4)
        total = halting.expected_loss(torch.ones(2, steps), h, 0.1) + halting.ponder_kl(h, 0.2)
        total.sum().backward()
        assert h.grad.isfinite().all()
    one = torch.full((2, 1), size, dtype=dtype)
    assert halting.log_halt_probs(one).tolist() == [[0.0], [0.0]]
    assert halting.expected_steps(one).tolist() == [1, 1] and halting.ponder_kl(one, 0.2).tolist() == [0, 0]
    assert halting.graves_weights(one)[0].tolist() == [[1.0], [1.0]]


def test_bfloat16_logits_lose_only_their_own_rounding():
    h = torch.randn(64, 16).bfloat16()
    exact = halting.log_halt_probs(h.double())
    torch.testing.assert_close(halting.log_halt_probs(h), exact.float(), rtol=1e-5, atol=1e-5)


def test_a_prior_must_be_a_chance():
    for prob in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            halting.log_geometric(prob, 4)


# --- the paper's head ---------------------------------------------------------------------------------------------


def test_q_loss_by_hand():
    q, right = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([True, True, False])
    expected = [np.log(2), np.log1p(np.exp(-2)), np.log1p(np.exp(-1))]
    assert halting.q_halt_loss(q, right).tolist() == pytest.approx(expected, rel=1e-6)


def test_continue_loss_by_hand():
    q, next_halt, next_continue = torch.tensor([0.5, 0.5]), torch.tensor([-1.0, -1.0]), torch.tensor([2.0, 2.0])
    targets = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]  # the better of both; at the cap halting alone
    s = 1 / (1 + math.exp(-0.5))
    expected = [-t * math.log(s) - (1 - t) * math.log(1 - s) for t in targets]
    got = halting.q_continue_loss(q, next_halt, next_continue, torch.tensor([False, True]))
    assert got.tolist() == pytest.approx(expected, rel=1e-5)


def test_who_stops_in_training():
    q = torch.tensor([1.0, -1.0, 1.0, -1.0])
    steps = torch.tensor([2, 2, 2, 6])
    least = torch.tensor([0, 0, 4, 0])
    assert halting.should_halt(q, steps, 6, least).tolist() == [True, False, False, True]
    assert halting.should_halt(q, steps, 6).tolist() == [True, False, True, True]


def test_exploration_is_a_function_of_seed_and_step():
    draws = [halting.exploration_steps(3, step, 1000, 6, 0.3) for step in (1, 1, 2)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
    exploring = draws[0] > 0
    assert 0.25 < exploring.mean() < 0.35  # 3.5 deviations
    assert set(draws[0][exploring]) == {2, 3, 4, 5, 6}
    assert not halting.exploration_steps(3, 1, 100, 6, 0.0).any()
    assert (halting.exploration_steps(3, 1, 100, 1, 1.0) == 2).all()  # one step: the cap stops it anyway


def test_exploration_is_annealed():
    assert [halting.exploration_prob(s, 0.5, 0.1, 100) for s in (0, 50, 100, 999)] == pytest.approx(
        [0.5, 0.3, 0.1, 0.1]
    )
    assert halting.exploration_prob(70, 0.5, 0.1, 0) == 0.5


def test_collapse_is_said_once_and_only_when_it_lasts():
    watch = halting.HaltingMonitor(6, patience=100)
    assert watch.see(0, 1.0, 0.1) == "" and watch.see(50, 1.0, 0.1) == ""
    assert watch.see(60, 2.5, 0.1) == "" and watch.see(70, 1.0, 0.1) == ""
    assert watch.see(150, 1.0, 0.1) == ""  # it began anew at 70
    assert "since step 70; every example stops after one step" in watch.see(170, 1.0, 0.1)
    assert watch.see(300, 1.0, 0.1) == ""
    assert watch.see(400, 6.0, 0.9) == "" and "at the cap of 6" in watch.see(500, 5.99, 0.9)
    healthy = halting.HaltingMonitor(6, patience=0)
    assert healthy.see(10, 6.0, 0.0) == "" == healthy.see(20, 1.0, 0.99)  # nothing solved yet; all solved at once


# --- rules --------------------------------------------------------------------------------------------------------


def test_rules_stop_at_the_first_step_that_passes_and_at_the_last():
    q = torch.tensor([[-1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [1.0, -1.0, -1.0], [float("nan")] * 3])
    assert Rule("q_halt", 0.0).steps(q).tolist() == [2, 3, 1, 3]
    assert Rule("entropy", 0.0).steps(q).tolist() == [1, 1, 2, 3]
    assert Rule("fixed", 2).steps(torch.arange(1, 5).expand(2, 4)).tolist() == [2, 2]
    with pytest.raises(ValueError, match="no signal 'q'"):
        Rule("q", 0.0)


def test_entropy_against_scipy():
    from scipy.stats import entropy

    logits = torch.randn(3, 4, 5)
    expected = entropy(logits.softmax(-1).numpy(), axis=-1)
    np.testing.assert_allclose(halting.entropy(logits).numpy(), expected.mean(1), rtol=1e-5)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    want = [expected[0, :2].mean(), 0.0, expected[2, [0, 3]].mean()]
    np.testing.assert_allclose(halting.entropy(logits, mask).numpy(), want, rtol=1e-5)


def test_the_probability_to_have_halted_and_the_first_bias():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    by_hand = 1 - (1 - logits.sigmoid()).cumprod(-1)
    torch.testing.assert_close(halting.halted_by(logits), by_hand)
    head = torch.nn.Linear(3, 1)
    assert halting.init_halting_head(head, 4) is head and not head.weight.any()
    first = halting.log_halt_probs(torch.full((1, 4), head.bias.item())).exp()
    assert first[0, 0].item() == pytest.approx(1 / 4)
    halting.init_halting_head(head, 1)
    assert head.bias.item() == 0
