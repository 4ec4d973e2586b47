"""Group-relative policy optimisation: the loss against TRL's, against numbers worked by hand, and against differences."""

import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trm.grpo.loss import ALGORITHMS, REJECTION, advantages, dead_groups, kl_k3, policy_loss

G, N, A = 3, 4, 5
MASK = torch.tensor(
    [[1.0] * length + [0.0] * (A - length) for length in (5, 3, 1, 2, 4, 4, 5, 2, 1, 3, 3, 5)], dtype=torch.float64
)


def toy():
    """Log-probabilities now, then and of a reference, and advantages: far enough apart for both clips to act."""
    draw = torch.Generator().manual_seed(0)
    old = -2 * torch.rand(G * N, A, generator=draw, dtype=torch.float64)
    new = old + 0.4 * torch.randn(G * N, A, generator=draw, dtype=torch.float64)
    reference = old + 0.2 * torch.randn(G * N, A, generator=draw, dtype=torch.float64)
    gain = torch.randn(G * N, generator=draw, dtype=torch.float64)
    return new, old, reference, gain


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_the_loss_and_its_gradient_are_those_of_trl(algorithm, kl_coef):
    trl = pytest.importorskip("trl", reason="wants the optional extra `test`: pip install trl")
    ours, old, reference, gain = toy()
    theirs = ours.clone().requires_grad_()
    ours.requires_grad_()
    trainer = SimpleNamespace(
        loss_type=algorithm.lower().replace(".", "_"), epsilon_low=0.2, epsilon_high=0.28, beta=kl_coef,
        importance_sampling_level="token", max_completion_length=7, current_gradient_accumulation_steps=1,
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        _entropy_bonus_enabled=False, use_adaptive_entropy=False, model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _get_per_token_logps_and_entropies=lambda *a, **k: (theirs, torch.zeros_like(theirs), None),
        _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    one = torch.ones(G * N, 1, dtype=torch.long)
    inputs = {"prompt_ids": one, "prompt_mask": one, "completion_ids": MASK.long(), "completion_mask": MASK}
    inputs |= {"advantages": gain, "old_per_token_logps": old, "ref_per_token_logps": reference}
    expected = trl.GRPOTrainer._compute_loss(trainer, None, inputs | {"num_items_in_batch": MASK.sum()})
    found, metrics = policy_loss(ours, old, gain, MASK, algorithm, 0.2, 0.28, reference, kl_coef, max_actions=7)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    logged = trainer._metrics["train"]
    assert float(metrics["clipped"]) == pytest.approx(logged["clip_ratio/region_mean"][0], rel=1e-6)
    if kl_coef:
        assert float(metrics["kl"]) == pytest.approx(logged["kl"][0], rel=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_loss_is_that_of_the_formulas_typed_in_numpy(algorithm):
    """The papers' formulas, answer by answer and token by token, in float64."""
    new, old, reference, gain = (value.numpy() for value in toy())
    sums, counts = [], []
    for row in range(G * N):
        length, total = int(MASK[row].sum()), 0.0
        for t in range(length):
            ratio = math.exp(new[row, t] - old[row, t])
            held = min(max(ratio, 1 - 0.2), 1 + 0.28)
            away = reference[row, t] - new[row, t]
            total += -min(ratio * gain[row], held * gain[row]) + 0.1 * (math.exp(away) - away - 1)
        sums.append(total)
        counts.append(length)
    by_answer, by_token = np.mean(np.array(sums) / counts), np.sum(sums) / np.sum(counts)
    expected = {"GRPO": by_answer, "Dr.GRPO": np.mean(sums) / 7, "DAPO": by_token}[algorithm]
    found, _ = policy_loss(*(torch.from_numpy(x) for x in (new, old, gain)), MASK, algorithm, 0.2, 0.28,
                           torch.from_numpy(reference), 0.1, max_actions=7)  # fmt: skip
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_an_example_worked_by_hand():
    """One group of two answers, rewards 1 and 0. Deviation sqrt(1/2): advantages +-0.7071/(1.4142/2) -> +-0.70701.
    First answer, one token, ratio 1.5, held to 1.2; second, two tokens, ratios 0.5 (held to 0.8) and 1.
    GRPO: (-1.2 a + (0.8 a + a) / 2) / 2 = -0.15 a."""
    gain = advantages(torch.tensor([[1.0, 0.0]]))
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    torch.testing.assert_close(gain, torch.tensor([[a, -a]]))
    torch.testing.assert_close(advantages(torch.tensor([[1.0, 0.0]]), "Dr.GRPO"), torch.tensor([[0.5, -0.5]]))
    old = torch.zeros(2, 2)
    new = torch.tensor([[1.5, 1.0], [0.5, 1.0]]).log()
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    losses = {name: float(policy_loss(new, old, gain[0], mask, name, max_actions=4)[0]) for name in ALGORITHMS}
    assert losses["GRPO"] == pytest.approx(-0.15 * a)
    assert losses["Dr.GRPO"] == pytest.approx((-1.2 * a + 1.8 * a) / 4 / 2)
    assert losses["DAPO"] == pytest.approx((-1.2 * a + 1.8 * a) / 3)
    metrics = policy_loss(new, old, gain[0], mask)[1]
    assert float(metrics["clipped"]) == pytest.approx(2 / 3)
    # Half as likely as under the reference: 2 - ln 2 - 1; of equals 0, exactly.
    assert float(kl_k3(torch.tensor(0.25).log(), torch.tensor(0.5).log())) == pytest.approx(1 - math.log(2))
    assert float(kl_k3(torch.tensor(-0.3), torch.tensor(-0.3))) == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_gradient_against_finite_differences(algorithm):
    new, old, reference, gain = toy()
    fixed = (old, gain, MASK, algorithm, 0.2, 0.28, reference, 0.1, 7)
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, *fixed)[0], new.requires_grad_())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dead_groups_give_no_gradient(algorithm):
    rewards = torch.tensor([[0.0] * 4, [0.1] * 4, [1.0, 0.0, 0.0, 1.0]])  # 0.1 is not a sum of powers of two
    assert dead_groups(rewards).tolist() == [True, True, False]
    gain = advantages(rewards, algorithm)
    assert (gain[:2] == 0).all() and (gain[2] != 0).all()
    new = toy()[0].float().requires_grad_()
    policy_loss(new, new.detach(), gain.flatten(), MASK.float(), algorithm, max_actions=7)[0].backward()
    assert (new.grad[:8] == 0).all() and ((new.grad[8:] != 0) == (MASK[8:] == 1)).all()


def test_the_deviation_makes_rare_answers_count_more():
    """One right of four, and two of four: with the deviation the rare one gains sqrt(3) - ish, without it 3/4 and 1/2."""
    rewards = torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 0, 0]])
    assert advantages(rewards, "Dr.GRPO")[:, 0].tolist() == [0.75, 0.5]
    expected = [(r - np.mean(r)) / (np.std(r, ddof=1) + 1e-4) for r in rewards.numpy()]
    np.testing.assert_allclose(advantages(rewards).numpy(), expected, rtol=1e-6)


def test_the_clip_stops_the_gradient_beyond_its_edges_alone():
    """One action per answer: the gradient of the loss by the log-probability is -ratio A inside, and 0 where a gain would push
    the ratio beyond an edge; on the edge itself min and clamp share it."""
    ratios = torch.tensor([0.79, 0.81, 1.19, 1.21, 0.5, 1.5], dtype=torch.float64)
    for sign, acts in ((1.0, [0, 0, 0, 1, 0, 1]), (-1.0, [1, 0, 0, 0, 1, 0])):
        new = ratios.log()[:, None].requires_grad_()
        gain, one = torch.full((6,), sign, dtype=torch.float64), torch.ones(6, 1, dtype=torch.float64)
        loss, metrics = policy_loss(new, torch.zeros_like(new), gain, one)  # the defaults clip at 0.2 on both sides
        loss.backward()
        expected = [0.0 if clipped else -sign * ratio / 6 for ratio, clipped in zip(ratios.tolist(), acts)]
        assert new.grad[:, 0].tolist() == pytest.approx(expected)
        assert float(metrics["clipped"]) == sum(acts) / 6
    exact = torch.tensor([[0.75], [1.25]], dtype=torch.float64)  # edges that are sums of powers of two
    for sign in (1.0, -1.0):
        gain = torch.full((2,), sign, dtype=torch.float64)
        one = torch.ones(2, 1, dtype=torch.float64)
        metrics = policy_loss(exact.log(), torch.zeros_like(exact), gain, one, clip_low=0.25, clip_high=0.25)[1]
        assert float(metrics["clipped"]) == 0, "the clip acts beyond an edge, not on it"


def test_the_defaults_are_grpo_without_kl():
    new, old, reference, gain = toy()
    plain = policy_loss(new, old, gain, MASK)[0]
    assert plain == policy_loss(new, old, gain, MASK, "GRPO", 0.2, 0.2, None, 0.0, 1)[0]
    assert plain == policy_loss(new, old, gain, MASK, reference=reference)[0], "measured, not charged"
    changes = {"algorithm": "DAPO"}, {"clip_low": 0.1}, {"clip_high": 0.3}, {"kl_coef": 0.1, "reference": reference}
    for change in changes:
        assert plain != policy_loss(new, old, gain, MASK, **change)[0], change
    assert policy_loss(new, old, gain, MASK)[1]["kl"] == 0, "without a reference"
    summed, divided = (policy_loss(new, old, gain, MASK, "Dr.GRPO", **n)[0] for n in ({}, {"max_actions": 7}))
    assert float(summed) == pytest.approx(7 * float(divided), rel=1e-12), "max_actions is 1"


def test_rejection_sampling_learns_the_likelihood_of_rewarded_answers_alone():
    """Its gradient is that of cross-entropy on the tokens of rewarded answers, scaled by their share of all tokens."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    gain = advantages(rewards, REJECTION).flatten()
    assert torch.equal(gain, rewards.flatten())
    new, old, _, _ = toy()
    found = policy_loss(new.requires_grad_(), old, gain, MASK, REJECTION)[0]
    (ours,) = torch.autograd.grad(found, new)
    kept = MASK * gain[:, None]
    cross_entropy = -(new * kept).sum() / kept.sum()
    (theirs,) = torch.autograd.grad(cross_entropy, new)
    torch.testing.assert_close(ours, theirs * kept.sum() / MASK.sum())
    assert ours[1].abs().sum() == 0 and (ours[0][MASK[0] > 0] < 0).all(), "not rewarded; rewarded"
