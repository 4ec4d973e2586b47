"""Reinforcement learning through the one trainer: controls, resuming to the bit, rewards that cannot be used."""

import math

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from trm.errors import UserError
from trm.grpo import rewards
from trm.grpo import train as job
from trm.grpo.params import Grpo
from trm.language.stories import Problem
from trm.latent.reasoner import load_reasoner
from trm.params import ParameterError, read_yaml
from trm.run import Run
from trm.trainer import Trainer

SMOKE = read_yaml(ROOT / "params" / "08_smoke.yaml") | {"backend": "cpu"}
TIMES = ("train/seconds", "train/seconds_per_step")


def trained(folder, **values):
    """A policy trained at smoke scale, what was measured, and the run."""
    params = Grpo.create({**SMOKE, "output_dir": str(folder), **values})
    run = Run(params, "08_grpo")
    policy = job.load_policy(params)
    return policy, job.train(params, run, policy), run


def weights(policy):
    return [p.detach().clone() for p in policy.parameters()]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def history(run):
    return [{k: v for k, v in record.items() if k not in TIMES} for record in run.history()]


def test_a_reward_that_is_always_zero_moves_nothing(tmp_path):
    """Neither the KL to a model that is the same, nor the average of equal weights, nor several updates do."""
    start = weights(job.load_policy(Grpo.create(SMOKE)))
    policy, metrics, run = trained(tmp_path, reward="zero", kl_coef=0.1, ema_decay=0.9, updates_per_batch=2)
    assert same(weights(policy), start) and metrics["grpo/weights_moved"] == 0
    last = [record for record in run.history() if "train/reward" in record][-1]
    assert last["train/dead_groups"] == 1 and last["train/kl"] == 0 and last["train/grad_norm"] == 0
    moved, metrics, _ = trained(tmp_path / "right")
    assert not same(weights(moved), start) and metrics["grpo/weights_moved"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["GRPO", "DAPO"])
def test_what_is_rewarded_comes_more_often(tmp_path, monkeypatch, algorithm):
    """A reward of another kind, added as a reader would: ones among what is written."""
    ones = {"ones": lambda texts, problems: [text.count("1") / (1 + len(text)) for text in texts]}
    monkeypatch.setattr(rewards, "REWARDS", rewards.REWARDS | ones)
    options = {"batch_size": 32, "group_size": 8, "max_steps": 16, "updates_per_batch": 2, "lr": 2e-3, "kl_coef": 0.0}
    _, _, run = trained(tmp_path, reward="ones", algorithm=algorithm, **options, eval_interval=16, resample=0)
    earned = [record["train/reward"] for record in run.history() if "train/reward" in record]
    assert np.mean(earned[-2:]) > 1.15 * np.mean(earned[:2])


@pytest.mark.slow
@pytest.mark.parametrize("updates", [1, 2])
def test_a_run_that_is_cut_off_and_resumed_ends_with_the_same_numbers(tmp_path, monkeypatch, updates):
    """Cut off two steps after a checkpoint, as a kill would do; then paused by the clock; against an unbroken run."""
    options = {"max_steps": 8, "checkpoint_interval": 2, "updates_per_batch": updates, "ema_decay": 0.9}
    policy, metrics, unbroken = trained(tmp_path / "whole", **options)

    def dies(self, step, call=job.GroupSampler.__call__):
        if step == 4:
            raise KeyboardInterrupt
        return call(self, step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(job.GroupSampler, "__call__", dies)
        trained(tmp_path / "cut", **options)
    assert trained(tmp_path / "cut", **options, resume=True, time_limit=1e-9)[1] is None, "paused"
    again, after, resumed = trained(tmp_path / "cut", **options, resume=True)
    assert same(weights(policy), weights(again)) and history(unbroken) == history(resumed)
    assert metrics["grpo/weights_moved"] == after["grpo/weights_moved"]


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["density", "answer"])
def test_latents_learn_resume_to_the_bit_and_leave_the_language_model_alone(tmp_path, monkeypatch, gradient):
    options = {"policy": "latents", "latent_gradient": gradient, "kl_coef": 0.0, "max_new_tokens": 4}
    options["updates_per_batch"] = 1
    start = job.load_policy(Grpo.create(SMOKE | options)).state_dict()
    policy, _, unbroken = trained(tmp_path / "whole", **options)

    def dies(self, step, call=job.GroupSampler.__call__):
        if step == 3:
            raise KeyboardInterrupt
        return call(self, step)

    options |= {"checkpoint_interval": 2}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(job.GroupSampler, "__call__", dies)
        trained(tmp_path / "cut", **options)
    again, _, resumed = trained(tmp_path / "cut", **options, resume=True)
    assert same(weights(policy), weights(again)) and history(unbroken) == history(resumed)
    moved = {name for name, value in policy.state_dict().items() if not torch.equal(value, start[name])}
    assert moved and all(name.startswith("reasoner.") for name in moved)
    kept = load_reasoner(unbroken.path("model"), 192)
    assert torch.equal(kept.out.weight, policy.reasoner.out.weight)


@pytest.mark.slow
def test_what_is_evaluated_is_what_is_kept(tmp_path):
    """With averaged weights too."""
    policy, _, run = trained(tmp_path, ema_decay=0.9, lr=1e-2)
    again = job.load_policy(Grpo.create({**SMOKE, "lm": str(run.path("model"))}))
    assert same(weights(policy), weights(again))


@pytest.mark.slow
def test_the_baseline_is_what_a_run_of_its_algorithm_without_kl_is(tmp_path):
    """It begins with the same model, and where it is complete it is read, not trained again."""
    options = {"lr": 1e-3, "updates_per_batch": 1, "resample": 0}
    policy, _, alone = trained(tmp_path / "alone", algorithm="rejection_sampling", kl_coef=0.0, **options)
    params = Grpo.create({**SMOKE, "output_dir": str(tmp_path / "run"), **options})
    assert params.kl_coef > 0 and params.algorithm == "GRPO"
    found = job.train_baseline(params, Run(params, "08_grpo"))
    assert [{k: v for k, v in record.items() if k not in TIMES} for record in found.history] == history(alone)
    accuracies = {part: job.evaluate(policy, params, part).accuracy for part in ("test", "longer")}
    assert (found.metrics["grpo/accuracy_after"], found.metrics["grpo/longer_after"]) == tuple(accuracies.values())
    again = params.model_copy(update={"resume": True})
    assert job.train_baseline(again, Run(again, "08_grpo")).metrics == found.metrics


def test_the_policy_stays_in_evaluation_mode_for_every_update():
    params = Grpo.create(SMOKE)
    policy = job.load_policy(params)
    assert not job.Learner(policy, params).train().training and not policy.lm.training


def test_dropout_is_off_in_every_update(tmp_path):
    """A second update on the same answers begins with a ratio of one, where the first has changed next to nothing."""
    params = Grpo.create(SMOKE | {"output_dir": str(tmp_path), "lr": 1e-12, "updates_per_batch": 2})
    policy = job.load_policy(params)
    policy.lm.model.embed_tokens.register_forward_hook(
        lambda module, given, found: torch.nn.functional.dropout(found, 0.5, module.training)
    )
    trainer = Trainer(job.Learner(policy, params), job.GroupSampler(policy, params), params, Run(params, "08_grpo"))
    for _ in range(2):
        trainer._train_step(detail=False)
        assert float(trainer.sums["clipped"]) == 0 and float(trainer.sums["kl"]) < 1e-6


def test_dead_groups_are_sampled_again(monkeypatch):
    """Of the first problems every other one earns the same always; there are enough others."""
    seen = []

    def every_other(texts, problems):
        seen.extend(problems)
        dead = {problem for i, problem in enumerate(dict.fromkeys(seen)) if i % 2}
        return [0.0 if problem in dead else float(i % 2) for i, problem in enumerate(problems)]

    monkeypatch.setitem(rewards.REWARDS, "every_other", every_other)
    for again, alive in ((0, 2), (1, 4)):
        seen.clear()
        params = Grpo.create({**SMOKE, "reward": "every_other", "resample": again})
        batch = job.GroupSampler(job.load_policy(params), params)(0)
        assert {len(value) for value in batch.values()} == {16}
        assert (batch["advantages"].reshape(4, 4) != 0).any(1).sum() == alive
        assert batch["dead"].tolist() == [0.5] * 16
        assert len(dict.fromkeys(seen)) == 4 * (1 + again)
        assert (batch["prompt"] != 0).any(1).all() and (batch["reference"][batch["mask"] == 1] < 0).all()


def test_concatenated_batches_are_padded_on_the_right_side():
    one = {"prompt": torch.tensor([[5, 6]]), "mask": torch.tensor([[1, 1, 1]]), "rewards": torch.tensor([1.0])}
    two = {"prompt": torch.tensor([[7]]), "mask": torch.tensor([[1, 1]]), "rewards": torch.tensor([0.0])}
    both = job.concat_batches(one, two)
    assert both["prompt"].tolist() == [[5, 6], [0, 7]] and both["mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert both["rewards"].tolist() == [1.0, 0.0]


def test_rewards_by_name(monkeypatch):
    problem = Problem(12, (("+", 5), ("*", 2)), 1)
    texts = ["12+5=17;17*2=34;</think>34<eos>", "</think>34", "12+5=17;17*2=34;</think>43<eos>", "34;</think>", ""]
    assert rewards.compute_rewards("right", texts, [problem] * 5).tolist() == [1, 1, 0, 0, 0]
    assert rewards.compute_rewards("zero", texts, [problem] * 5).tolist() == [0] * 5
    many = 20 * texts
    permuted = rewards.compute_rewards("shuffled", many, [problem] * 100)
    right = rewards.compute_rewards("right", many, [problem] * 100)
    assert permuted.sum() == right.sum() and (permuted != right).any()
    assert (permuted == rewards.compute_rewards("shuffled", many, [problem] * 100)).all()
    for given, message in (
        ([1.0, math.nan] * 2, "reward 'odd' gave nan for 'b'"),
        ([1.0], r"gave shape \(1,\) for 4 texts"),
        ([1.0, None] * 2, "gave nan for 'b'"),
        ([1.0, "yes"] * 2, "gave no numbers .*yes"),
        ([1.0, 1e300] * 2, r"gave 1e\+300 for 'b'"),
        ([10**400] * 4, "gave no numbers .*too large"),
        (torch.ones(4, requires_grad=True), "gave no numbers .*requires grad"),
        (list(torch.ones(4, requires_grad=True)), "gave no numbers .*requires grad"),
    ):
        monkeypatch.setitem(rewards.REWARDS, "odd", lambda texts, problems, given=given: given)
        with pytest.raises(UserError, match=message):
            rewards.compute_rewards("odd", list("abcd"), [problem] * 4)


def test_a_reward_that_returns_nan_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(rewards.REWARDS, "broken", lambda texts, problems: [math.nan] * len(texts))
    with pytest.raises(
        UserError, match="reward 'broken' gave nan for .*; give a number between -1e.15 and 1e.15 for each text"
    ):
        trained(tmp_path, reward="broken")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"reward": "rigth"}, "parameter 'reward' = 'rigth': no such reward; did you mean 'right'"),
        ({"algorithm": "PPO"}, "'GRPO', 'Dr.GRPO', 'DAPO' or 'rejection_sampling'"),
        ({"batch_size": 30}, "'batch_size' = 30 must be a multiple of group_size .* = 4"),
        ({"prefetch": 2}, "unknown parameter 'prefetch'"),
        ({"group_size": 1}, "parameter 'group_size' = 1"),
        ({"eval_interval": 3}, "'eval_interval' = 3 must be a multiple of updates_per_batch = 2"),
        ({"min_steps": 3}, "'min_steps' = 3 must not exceed max_problem_steps = 2"),
        ({"temperature": 0}, "parameter 'temperature' = 0"),
        ({"policy": "latents"}, "'kl_coef' = 0.01: .* give 0"),
    ],
)
def test_parameters_that_cannot_be(values, message):
    with pytest.raises(ParameterError, match=message):
        Grpo.create(SMOKE | values)


def test_a_model_that_is_not_there():
    with pytest.raises(UserError, match="/nowhere: no such folder"):
        job.load_policy(Grpo.create({"lm": "/nowhere"}))
