"""The work of chapter 08 as functions: groups of answers sampled and rewarded, a policy trained on them, and judged."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.grpo.loss import advantages, dead_groups, policy_loss
from trm.grpo.params import Grpo
from trm.grpo.policy import ReasonerPolicy, TokenPolicy
from trm.grpo.rewards import rewarded
from trm.language.lm import SHIPPED_LM, Generations, load_lm
from trm.language.stories import Problem, problems
from trm.latent.frozen_lm import FrozenLM
from trm.latent.reasoner import SHIPPED_REASONER, load_reasoner
from trm.protocol import StepOutput
from trm.run import Run
from trm.trainer import Trainer, place

EARLY_LM = SHIPPED_LM.with_name("reasoning_lm_early")  # what chapter 08 begins with


def load_policy(params: Grpo) -> TokenPolicy:
    """The policy that `params` name, where they compute.

    Raises:
        UserError: the language model or the reasoner cannot be loaded, they do not fit together, or the model does not know
            the tokens of the problems.
    """
    writes = {"temperature": params.temperature, "max_new_tokens": params.max_new_tokens}
    if params.policy == "tokens":
        lm, tokenizer = load_lm(params.lm or str(EARLY_LM))
        return TokenPolicy(lm.to(place(params)), tokenizer, params.group_size, **writes)
    lm, tokenizer = load_lm(params.lm)
    reasoner = load_reasoner(params.reasoner or SHIPPED_REASONER / "thoughts", lm.get_input_embeddings().embedding_dim)
    frozen = FrozenLM(lm.to(place(params)), tokenizer, reasoner.config.layer, reasoner.config.ending)
    through = params.latent_gradient == "answer"
    return ReasonerPolicy(
        frozen, reasoner.to(place(params)), params.group_size, params.latent_std, through=through, **writes
    )


class Learner(nn.Module):
    """A policy as the trainer wants it: `loss(batch)` is that of `trm.grpo.loss`, over answers already sampled."""

    def __init__(self, policy: nn.Module, params: Grpo):
        super().__init__()
        self.policy, self.params = policy, params

    def save_pretrained(self, folder) -> None:
        """Keep the policy's model in `folder`."""
        self.policy.save_pretrained(folder)

    def forward(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """See `loss`."""
        return self.loss(batch, state, detail)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """One training step. batch: what the policy sampled, with advantages, rewards, dead (B,) and reference (B, A); old
        (B, A) where several updates are made on it, else this is the first."""
        p = self.params
        log_probs = self.policy.log_probs(batch)
        loss, metrics = policy_loss(
            log_probs, batch.get("old", log_probs.detach()), batch["advantages"], batch["mask"].float(), p.algorithm,
            p.clip_low, p.clip_high, batch["reference"], p.kl_coef, self.policy.max_actions,
        )  # fmt: skip
        metrics |= {"total_loss": loss.detach(), "reward": batch["rewards"].mean(), "dead_groups": batch["dead"].mean()}
        metrics["tokens"] = batch["mask"].sum(1).float().mean()
        return StepOutput(loss, None, metrics)


class Groups:
    """step -> a batch of sampled and rewarded answers, by the policy as it then is.

    A function of the policy's weights and of (seed, step): problems and all that chance decides are drawn from these two, so
    that a run that is resumed goes on as if it had not stopped. The reference is the policy as it is now.
    Every process of several samples the whole batch, and learns from its part.
    """

    def __init__(self, policy: nn.Module, params: Grpo):
        self.policy, self.params = policy, params
        self.reference = copy.deepcopy(policy).requires_grad_(False).eval()
        self.kept: dict[str, np.ndarray] = {}

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The global batch of `step`: arrays of B rows."""
        which, again = divmod(step, self.params.updates_per_batch)
        if not again:
            self.kept = {name: value.cpu().numpy() for name, value in self._sampled(which).items()}
        return self.kept

    @torch.no_grad()
    def _sampled(self, which: int) -> dict[str, Tensor]:
        p = self.params
        self.policy.eval()  # and so it stays for the loss: dropout would be noise in the ratio
        train = problems("train", (p.seed + 1) * 1_000_000_007 + which, p.min_steps, p.max_problem_steps)
        batch, dead = self._try(train, which, 0)
        for again in range(1, p.resample + 1):  # DAPO's dynamic sampling, with an end to it
            if (~dead).sum() >= p.groups:
                break
            more, others = self._try(train, which, again)
            batch, dead = joined(batch, more), torch.cat((dead, others))
        if len(dead) > p.groups:  # those that can be learned from first
            chosen = dead.int().argsort(stable=True)[: p.groups]
            rows = (chosen[:, None] * p.group_size + torch.arange(p.group_size, device=chosen.device)).flatten()
            batch = {name: value[rows] for name, value in batch.items()}
        batch["dead"] = torch.full_like(batch["rewards"], float(dead.float().mean()))
        batch["advantages"] = advantages(batch["rewards"].reshape(p.groups, -1), p.algorithm).flatten()
        batch["reference"] = self._log_probs(self.reference, batch)
        if p.updates_per_batch > 1:
            batch["old"] = self._log_probs(self.policy, batch)
        return batch

    def _try(self, train: Iterator[Problem], which: int, again: int) -> tuple[dict[str, Tensor], Tensor]:
        """Answers to the next problems with their rewards (B,), and which groups (G,) are dead."""
        p = self.params
        asked = list(islice(train, p.groups))
        rng = np.random.default_rng([p.seed, which, again])
        batch = self.policy.sample(asked, self.policy.draws(rng, p.groups))
        each = [problem for problem in asked for _ in range(p.group_size)]
        rewards = rewarded(p.reward, self.policy.texts(batch), each).astype(np.float32)
        batch["rewards"] = torch.from_numpy(rewards).to(batch["mask"].device)
        return batch, dead_groups(batch["rewards"].reshape(p.groups, -1))

    def _log_probs(self, policy: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """(B, A), computed in the precision of the training step."""
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.params.precision)
        with torch.autocast(batch["mask"].device.type, dtype=half, enabled=half is not None):
            return policy.log_probs(batch)


def joined(one: dict[str, Tensor], two: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of both batches, padded to one width: questions on the left, answers on the right."""
    both = {}
    for name, values in ((name, (one[name], two[name])) for name in one):
        if values[0].ndim == 2:
            width = max(value.shape[1] for value in values)
            left = name.startswith("prompt")
            values = [F.pad(v, (width - v.shape[1], 0) if left else (0, width - v.shape[1])) for v in values]
        both[name] = torch.cat(list(values))
    return both


# --- before, training, after ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Greedy answers to the unseen problems: which are right (problems,), by their number of steps, and what was written."""

    right: np.ndarray
    steps: np.ndarray
    written: Generations

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float(self.right.mean())


def judge(policy: TokenPolicy, params: Grpo, part: str = "test") -> Judged:
    """The most likely token again and again, on `test_size` problems of "test", or `valid_size` of "valid", whose arithmetic
    no training problem has; "longer": of "test", with one or two steps more than any that is trained on."""
    size = params.valid_size if part == "valid" else params.test_size
    steps = params.min_steps, params.max_problem_steps
    if part == "longer":
        part, steps = "test", (params.max_problem_steps + 1, params.max_problem_steps + 2)
    asked = list(islice(problems(part, params.seed, *steps), size))
    written = policy.greedy(asked)
    right = np.array([answer == problem.answer for answer, problem in zip(written.answers, asked)], float)
    return Judged(right, np.array([len(problem.steps) for problem in asked]), written)


def train(params: Grpo, run: Run, policy: TokenPolicy, show: Callable[[dict], None] | None = None) -> dict | None:
    """Train `policy` for `max_steps`, and keep its last weights in `model/` (averaged, where they are), which it then has;
    what the trainer measured, or None where `time_limit` paused it. No weights are chosen by an evaluation."""
    learner = Learner(policy, params)
    groups = Groups(policy, params)
    start = [p.detach().clone() for p in policy.parameters()]

    def evaluate(model: Learner) -> dict[str, float]:
        found = judge(model.policy, params, "valid")
        return {"valid/accuracy": found.accuracy, "valid/tokens": float(np.mean(found.written.tokens))}

    trainer = Trainer(learner, groups, params, run, evaluate, monitor=("valid/accuracy",), show=show)
    metrics = trainer.fit()
    if trainer.paused:
        return None
    with trainer.ema.averaged() as model, torch.no_grad():
        run.save_model(model, "model")
        policy.tokenizer.save_pretrained(run.path("model")) if run.main else None
        moved = max(float((a - b).abs().max()) for a, b in zip(model.policy.parameters(), start))
        kept = model.policy.state_dict()
    policy.load_state_dict(kept)
    return metrics | {"grpo/weights_moved": moved}
