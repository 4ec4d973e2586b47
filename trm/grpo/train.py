"""Chapter 08 as functions: groups of answers sampled and rewarded, a policy trained on them and evaluated."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm import arms
from trm.grpo.loss import advantages, dead_groups, policy_loss
from trm.grpo.params import Grpo
from trm.grpo.policy import Batch, LatentPolicy, TokenPolicy
from trm.grpo.rewards import compute_rewards
from trm.language.lm import SHIPPED_LM, Generations, load_lm
from trm.language.stories import Problem, problems
from trm.latent.frozen_lm import FrozenLM
from trm.latent.reasoner import SHIPPED_REASONER, load_reasoner
from trm.progress import Progress
from trm.protocol import StepOutput
from trm.run import Run
from trm.trainer import Trainer, resolve_device

EARLY_LM = SHIPPED_LM.with_name("reasoning_lm_early")  # what chapter 08 begins with


def load_policy(params: Grpo) -> TokenPolicy:
    """The policy that `params` name, where they compute. Raises UserError: models that cannot be loaded or used."""
    options = {"temperature": params.temperature, "max_new_tokens": params.max_new_tokens}
    if params.policy == "tokens":
        lm, tokenizer = load_lm(params.lm or str(EARLY_LM))
        return TokenPolicy(lm.to(resolve_device(params)), tokenizer, params.group_size, **options)
    lm, tokenizer = load_lm(params.lm)
    reasoner = load_reasoner(params.reasoner or SHIPPED_REASONER / "thoughts", lm.get_input_embeddings().embedding_dim)
    frozen = FrozenLM(lm.to(resolve_device(params)), tokenizer, reasoner.config.layer, reasoner.config.ending)
    options["through"] = params.latent_gradient == "answer"
    return LatentPolicy(frozen, reasoner.to(frozen.device), params.group_size, params.latent_std, **options)


class Learner(nn.Module):
    """A policy as the trainer takes it."""

    def __init__(self, policy: nn.Module, params: Grpo):
        super().__init__()
        self.policy, self.params = policy, params

    def save_pretrained(self, folder) -> None:
        """Keep the policy's model in `folder`."""
        self.policy.save_pretrained(folder)

    def train(self, mode: bool = True) -> "Learner":
        """Always in evaluation mode: dropout would be noise in the ratio of probabilities."""
        return super().train(False)

    def loss(self, batch: Batch, state: None = None, detail: bool = False) -> StepOutput:
        """One training step. batch: what the policy sampled, with advantages, rewards, dead (B,), reference (B, A), and old
        (B, A) where several updates are made on it."""
        p = self.params
        log_probs = self.policy.log_probs(batch)
        loss, metrics = policy_loss(
            log_probs, batch.get("old", log_probs.detach()), batch["advantages"], batch["mask"].float(), p.algorithm,
            p.clip_low, p.clip_high, batch["reference"], p.kl_coef, self.policy.max_actions, batch.get("action_sum"),
        )  # fmt: skip
        metrics |= {"total_loss": loss.detach(), "reward": batch["rewards"].mean(), "dead_groups": batch["dead"].mean()}
        metrics["tokens"] = batch["mask"].sum(1).float().mean()
        return StepOutput(loss, None, metrics)

    def shared(self, batch: Batch, state: None = None) -> Batch:
        """The number of actions, which DAPO's loss and some metrics are means over."""
        return {"action_sum": batch["mask"].sum().float()}

    forward = loss  # what a wrapper for several processes calls


class GroupSampler:
    """step -> a batch of sampled and rewarded answers: a function of the policy's weights and of (seed, step), so that a
    resumed run continues to the bit. The reference is the policy at construction. Every process samples the whole batch."""

    def __init__(self, policy: nn.Module, params: Grpo):
        self.policy, self.params = policy, params
        self.reference = copy.deepcopy(policy).requires_grad_(False).eval()
        self.kept: dict[str, np.ndarray] = {}

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The global batch of `step`: arrays of B rows."""
        draw, again = divmod(step, self.params.updates_per_batch)
        if not again:
            self.kept = {name: value.cpu().numpy() for name, value in self._sample(draw).items()}
        return self.kept

    @torch.no_grad()
    def _sample(self, draw: int) -> Batch:
        p = self.params
        self.policy.eval()
        train = problems("train", (p.seed + 1) * 1_000_000_007 + draw, p.min_steps, p.max_problem_steps)
        batch, dead = self._try(train, draw, 0)
        for again in range(1, p.resample + 1):  # DAPO's dynamic sampling, with a limit
            if (~dead).sum() >= p.groups:
                break
            more, others = self._try(train, draw, again)
            batch, dead = concat_batches(batch, more), torch.cat((dead, others))
        if len(dead) > p.groups:  # groups with different rewards first
            chosen = dead.int().argsort(stable=True)[: p.groups]
            rows = (chosen[:, None] * p.group_size + torch.arange(p.group_size, device=chosen.device)).flatten()
            batch = {name: value[rows] for name, value in batch.items()}
        batch["dead"] = torch.full_like(batch["rewards"], float(dead.float().mean()))
        batch["advantages"] = advantages(batch["rewards"].reshape(p.groups, -1), p.algorithm).flatten()
        batch["reference"] = self._log_probs(self.reference, batch)
        if p.updates_per_batch > 1:
            batch["old"] = self._log_probs(self.policy, batch)
        return batch

    def _try(self, train: Iterator[Problem], draw: int, again: int) -> tuple[Batch, Tensor]:
        """Answers to the next problems with their rewards (B,), and which groups (G,) are dead."""
        p = self.params
        asked = list(islice(train, p.groups))
        rng = np.random.default_rng([p.seed, draw, again])
        batch = self.policy.sample(asked, self.policy.draws(rng, p.groups))
        each = [problem for problem in asked for _ in range(p.group_size)]
        rewards = compute_rewards(p.reward, self.policy.texts(batch), each).astype(np.float32)
        batch["rewards"] = torch.from_numpy(rewards).to(batch["mask"].device)
        return batch, dead_groups(batch["rewards"].reshape(p.groups, -1))

    def _log_probs(self, policy: nn.Module, batch: Batch) -> Tensor:
        """(B, A), computed in the precision of the training step."""
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.params.precision)
        with torch.autocast(batch["mask"].device.type, dtype=half, enabled=half is not None):
            return policy.log_probs(batch)


def concat_batches(one: Batch, two: Batch) -> Batch:
    """The rows of both batches, padded to one width: questions on the left, answers on the right."""
    both = {}
    for name in one:
        values = one[name], two[name]
        if values[0].ndim == 2:
            gaps = [max(v.shape[1] for v in values) - value.shape[1] for value in values]
            values = [F.pad(v, (gap, 0) if name.startswith("prompt") else (0, gap)) for v, gap in zip(values, gaps)]
        both[name] = torch.cat(list(values))
    return both


@dataclass(frozen=True)
class Evaluation:
    """Greedy answers to unseen problems: right (problems,) 0 or 1, steps (problems,) of each, and the texts."""

    right: np.ndarray
    steps: np.ndarray
    written: Generations

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


def evaluate(policy: TokenPolicy, params: Grpo, part: str = "test") -> Evaluation:
    """Greedy answers to problems whose arithmetic occurs in no training, of the part "test", "valid", or "longer": with one or
    two steps more than any in training."""
    size = params.valid_size if part == "valid" else params.test_size
    steps = params.min_steps, params.max_problem_steps
    if part == "longer":
        part, steps = "test", (params.max_problem_steps + 1, params.max_problem_steps + 2)
    asked = list(islice(problems(part, params.seed, *steps), size))
    written = policy.greedy(asked)
    right = np.array([answer == problem.answer for answer, problem in zip(written.answers, asked)], float)
    return Evaluation(right, np.array([len(problem.steps) for problem in asked]), written)


def make_trainer(params: Grpo, run: Run, policy: TokenPolicy, show: Progress | None = None) -> Trainer:
    """The trainer of a policy, evaluated greedily on the validation part."""

    def validate(model: Learner) -> dict[str, float]:
        found = evaluate(model.policy, params, "valid")
        return {"valid/accuracy": found.accuracy, "valid/tokens": float(np.mean(found.written.tokens))}

    sampler = GroupSampler(policy, params)
    return Trainer(Learner(policy, params), sampler, params, run, validate, monitor=("valid/accuracy",), show=show)


def train(params: Grpo, run: Run, policy: TokenPolicy, show: Progress | None = None) -> dict | None:
    """Train `policy` for `max_steps`; it then has its last (or averaged) weights, which are kept in `model/`: none are chosen
    by an evaluation. Returns the trainer's metrics, or None where `time_limit` paused it."""
    start = [p.detach().clone() for p in policy.parameters()]
    trainer = make_trainer(params, run, policy, show)
    metrics = trainer.fit()
    if trainer.paused:
        return None
    with trainer.ema.averaged() as model, torch.no_grad():
        run.save_model(model, "model", policy.tokenizer)
        moved = max(float((a - b).abs().max()) for a, b in zip(model.policy.parameters(), start))
        kept = model.policy.state_dict()
    policy.load_state_dict(kept)
    return metrics | {"grpo/weights_moved": moved}


def train_baseline(params: Grpo, run: Run, draw: Callable | None = None) -> arms.ArmResult | None:
    """Train `baseline_algorithm`, without KL, from the same beginning on as many answers, in a folder under `run`. The result
    has metrics grpo/accuracy_after and grpo/longer_after; None where `time_limit` paused it."""
    own = params.model_copy(update={"algorithm": params.baseline_algorithm, "kl_coef": 0.0})

    def after(trainer: Trainer) -> dict[str, float]:
        with trainer.ema.averaged() as model:
            parts = {"accuracy": "test", "longer": "longer"}
            return {f"grpo/{name}_after": evaluate(model.policy, own, part).accuracy for name, part in parts.items()}

    return arms.train_arm(run, own.algorithm, own, lambda p, r: make_trainer(p, r, load_policy(p)), after, draw=draw)
