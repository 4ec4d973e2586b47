"""When to stop: halting distributions and their losses, and rules for a trained model. Pure functions of tensors.

A model that has taken all its S steps has losses L_t and halting logits h_t, (B, S) each, and halts after step t with
probability  p_t = s(h_t) prod_{u<t} (1 - s(h_u)),  s the sigmoid; the last step takes the remainder, so that the p_t sum to
one. The paper's TRM instead learns whether its answer is right (`q_halt_loss`) and needs no other step.
Everything is computed per example, in float32 or better.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNROLLED = ("act", "ponder", "graves")  # ways of learning to stop that need all the steps at once
GRAVES_EPSILON = 0.01
LARGEST_LOGIT = 1e4  # beyond it a sigmoid is 0 or 1 in any precision; infinite logits become this


def _precise(x: Tensor) -> Tensor:
    """In float32, or float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


# --- distributions over halting times -------------------------------------------------------------------------


def log_reach(logits: Tensor) -> Tensor:
    """log of the probability to get as far as step t, sum_{u<t} log(1 - s(h_u)). (B, S) -> (B, S), 0 at the first."""
    h = _precise(logits).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    return F.pad(F.logsigmoid(-h[:, :-1]).cumsum(-1), (1, 0))


def log_halt_probs(logits: Tensor) -> Tensor:
    """log p_t, the probability to halt after step t; the last step takes the remainder, so its own logit is not used.

    (B, S) halting logits -> (B, S). Steps that are all but impossible have a very low, never an infinite value.
    Source: PonderNet, arXiv 2107.05407, equation 1.
    """
    h = _precise(logits).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    return log_reach(logits) + F.pad(F.logsigmoid(h[:, :-1]), (0, 1))


def halted_by(logits: Tensor) -> Tensor:
    """Probability to have halted by each step, 1 - prod_{u<=t} (1 - s(h_u)); here the last step's logit counts.

    (..., S) halting logits -> (..., S).
    """
    return -torch.expm1(F.logsigmoid(-_precise(logits)).cumsum(-1))


def init_halting_head(head: nn.Linear, steps: int) -> nn.Linear:
    """`head` with weights 0 and the bias -log(steps - 1): at first the logit is the same at each of `steps` steps, and each
    ends those that reach it with probability 1/steps, so that all have a gradient."""
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, -math.log(max(steps - 1, 1)))
    return head


def expected_steps(logits: Tensor) -> Tensor:
    """sum_t t p_t, which is sum_t of the probability to reach step t. (B, S) halting logits -> (B,), from 1 to S."""
    return log_reach(logits).exp().sum(-1)


def expected_loss(losses: Tensor, logits: Tensor, ponder_coef: float = 0.0) -> Tensor:
    """sum_t p_t L_t + ponder_coef * expected steps, per example, differentiable. (B, S), (B, S) -> (B,)."""
    return (log_halt_probs(logits).exp() * losses).sum(-1) + ponder_coef * expected_steps(logits)


def log_geometric(prob: float, steps: int) -> Tensor:
    """log of the geometric distribution over 1..steps, prob (1 - prob)^(t-1), divided by its sum (truncated). (steps,).

    Raises:
        ValueError: `prob` is not between 0 and 1.
    """
    if not 0 < prob < 1:
        raise ValueError(f"the prior's chance to halt at a step must lie between 0 and 1, not {prob}")
    return (torch.arange(steps, dtype=torch.float64) * math.log1p(-prob)).log_softmax(-1)


def ponder_kl(logits: Tensor, prior_prob: float) -> Tensor:
    """KL(p || truncated geometric(prior_prob)) in nats. (B, S) -> (B,). Source: PonderNet, arXiv 2107.05407, equation 2."""
    log_p = log_halt_probs(logits)
    return (log_p.exp() * (log_p - log_geometric(prior_prob, logits.shape[-1]).to(log_p))).sum(-1)


def graves_weights(logits: Tensor, epsilon: float = GRAVES_EPSILON) -> tuple[Tensor, Tensor]:
    """Weights of the states in Graves's average, and the ponder cost N + R (arXiv 1603.08983, equations 5 to 10).

    Step N is the first at which the halting probabilities s(h_t) add up to 1 - epsilon, the last step at the latest;
    steps before it weigh s(h_t), step N the remainder R, later ones nothing.

    (B, S) -> weights (B, S), which sum to 1, and cost (B,) from 2 (halts at once: N = 1, R = 1) to S + 1 (never).
    """
    p = torch.sigmoid(_precise(logits))
    mass = p.detach().cumsum(-1)
    enough = torch.cat((mass[:, :-1] >= 1 - epsilon, torch.ones_like(mass[:, :1], dtype=torch.bool)), -1)
    last = enough.to(torch.uint8).argmax(-1, keepdim=True)  # (B, 1) index of step N
    step = torch.arange(p.shape[-1], device=p.device)
    early = torch.where(step < last, p, 0)
    remainder = 1 - early.sum(-1, keepdim=True)  # (B, 1)
    return early + (step == last) * remainder, (last + 1 + remainder).squeeze(-1)


def weighted_states(states: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t state_t. states (B, S, ...), weights (B, S) -> (B, ...)."""
    weights = weights.view(*weights.shape, *[1] * (states.ndim - 2))
    return (_precise(states) * weights).sum(1).to(states.dtype)


# --- the paper's halting head ---------------------------------------------------------------------------------


def q_halt_loss(q_halt: Tensor, right: Tensor) -> Tensor:
    """Binary cross-entropy between the halt logit and "the answer is exactly right" (arXiv 2510.04871). (B,), (B,) -> (B,)."""
    return F.binary_cross_entropy_with_logits(q_halt.float(), right.float(), reduction="none")


def q_continue_loss(q_continue: Tensor, next_halt: Tensor, next_continue: Tensor, last: Tensor) -> Tensor:
    """Binary cross-entropy between the continue logit and what going on would bring (HRM, arXiv 2506.21734).

    The target is s(max(halt, continue)) of the next step, s(halt) where this step is the `last`. All (B,) -> (B,).
    """
    best = torch.where(last, next_halt, torch.maximum(next_halt, next_continue)).float()
    return F.binary_cross_entropy_with_logits(q_continue.float(), best.detach().sigmoid(), reduction="none")


def should_halt(margin: Tensor, steps: Tensor, max_steps: int, min_steps: Tensor | None = None) -> Tensor:
    """Which examples stop after this supervision step, in training.

    Those at `max_steps`, and those whose margin is positive (the halt logit, less the continue logit where there is
    one) unless exploration keeps them until `min_steps`.
    margin (B,), steps (B,) taken so far, min_steps (B,) or None -> (B,) bool. No value is read by the host.
    """
    halt = margin > 0
    if min_steps is not None:
        halt = halt & (steps >= min_steps)
    return halt | (steps >= max_steps)


def exploration_prob(train_step: int, start: float, end: float, anneal_steps: int) -> float:
    """The chance of exploration at a training step: from `start` to `end` in a straight line; 0 steps: always `start`."""
    return start + (end - start) * min(train_step / anneal_steps, 1.0) if anneal_steps else start


def exploration_steps(seed: int, train_step: int, batch_size: int, max_steps: int, probability: float) -> np.ndarray:
    """Fewest steps before each example may stop, drawn afresh for every training step: (B,) int64.

    With `probability` uniform on 2..max_steps, else 0. A pure function of (seed, train_step) on the host, so that any
    device, and a resumed run, repeats it.
    """
    rng = np.random.default_rng([seed, train_step, 0x4A17])
    explore = rng.random(batch_size) < probability
    return np.where(explore, rng.integers(2, max(max_steps, 2) + 1, batch_size), 0)


class HaltingMonitor:
    """Notices collapsed halting: for `patience` training steps all examples stop at once though most are wrong, or none
    before the cap `max_steps` though many are right."""

    def __init__(self, max_steps: int, patience: int):
        self.max_steps, self.patience = max_steps, patience
        self.where, self.since, self.said = "", 0, set()

    def see(self, train_step: int, mean_steps: float, right: float) -> str:
        """A warning about the mean number of supervision steps and the accuracy at `train_step`; "" for nothing new."""
        where = ""
        if self.max_steps > 1 and mean_steps < 1.05 and right < 0.5:
            where = "after one step: try more halt_exploration_prob, or a smaller ponder_coef"
        elif self.max_steps > 1 and mean_steps > self.max_steps - 0.05 and right > 0.5:
            where = f"at the cap of {self.max_steps}, and none before: train longer, or give act_weight more"
        if where != self.where:
            self.where, self.since = where, train_step
        if not where or where in self.said or train_step - self.since < self.patience:
            return ""
        self.said.add(where)
        return f"halting has decided nothing since step {self.since}; every example stops {where}"


# --- rules for a trained model --------------------------------------------------------------------------------

# Signals at a step, and whether an example is ready to stop when the signal is high or when it is low.
SIGNALS = {
    "fixed": "high",  # steps taken
    "q_halt": "high",  # logit of "my answer is right"
    "q_margin": "high",  # the same less the continue logit
    "halt_probability": "high",  # chance to have halted by now, 1 - prod (1 - s(h))
    "halt_mass": "high",  # sum of s(h), Graves's rule at 1 - epsilon
    "entropy": "low",  # of the answer's tokens, nats per position
    "residual": "low",  # |z_H - z_H before| / |z_H before|
    "stable": "high",  # steps since the answer last changed
    "is_valid": "high",  # 1 where the answer satisfies the constraints: an oracle that the model does not have
    "random": "low",  # a uniform number: the control
}


@dataclass(frozen=True)
class Rule:
    """Stop at the first step whose `signal` (a name in `SIGNALS`) reaches `threshold`, from below or from above."""

    signal: str
    threshold: float

    def __post_init__(self):
        if self.signal not in SIGNALS:
            raise ValueError(f"no signal {self.signal!r}; there are {', '.join(SIGNALS)}")

    def halts(self, signal: Tensor) -> Tensor:
        """Whether to stop, for a signal of any shape; NaN never does."""
        return signal >= self.threshold if SIGNALS[self.signal] == "high" else signal <= self.threshold

    def steps(self, signal: Tensor) -> Tensor:
        """Steps taken when the rule is obeyed, S where it never says stop. (N, S) -> (N,) int64 from 1 to S."""
        stop = self.halts(signal)
        stop = torch.cat((stop[:, :-1], torch.ones_like(stop[:, :1])), -1)
        return stop.to(torch.uint8).argmax(-1) + 1


# The rule that each way of learning to stop comes with (`TRMConfig.halting`).
TAUGHT = {
    "q": Rule("q_halt", 0.0),
    "q_continue": Rule("q_margin", 0.0),
    "act": Rule("halt_probability", 0.5),
    "ponder": Rule("halt_probability", 0.5),
    "graves": Rule("halt_mass", 1 - GRAVES_EPSILON),
}


def entropy(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean entropy of the distributions of each example, in nats. logits (B, T, V), mask (B, T) -> (B,).

    Zero where an example has no position that counts.
    """
    log_p = _precise(logits).log_softmax(-1)
    h = -(log_p.exp() * log_p).sum(-1)  # (B, T)
    if mask is None:
        return h.mean(-1)
    return (h * mask).sum(-1) / mask.sum(-1).clamp_min(1)
