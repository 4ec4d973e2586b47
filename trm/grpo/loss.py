"""Group-relative policy optimisation: the loss, in pure functions of tensors.

- `GRPO` (arXiv 2402.03300): advantages in standard deviations of the group; every answer counts the same, however long.
- `Dr.GRPO` (2503.20783): no deviation, and sums over tokens divided by a constant.
- `DAPO` (2503.14476): deviations as in GRPO; every token counts the same. Its other parts are parameters of chapter 08.
- `rejection_sampling` (RAFT, 2304.06767), a baseline: the likelihood of rewarded answers, of every token the same; the others
  count nothing, no ratio and no clip.
Shapes: G groups of n answers, B = G n answers, at most A actions per answer (tokens, or latent vectors and tokens).
"""

import torch
from torch import Tensor

from trm.supervision import batch_mean

ALGORITHMS = ("GRPO", "Dr.GRPO", "DAPO")
REJECTION = "rejection_sampling"
EPSILON = 1e-4  # added to the standard deviation, as in TRL


def dead_groups(rewards: Tensor) -> Tensor:
    """Groups without a gradient: all their rewards are the same. (G, n) -> (G,) bool."""
    return rewards.amax(1) == rewards.amin(1)


def advantages(rewards: Tensor, algorithm: str = "GRPO") -> Tensor:
    """Reward minus the group's mean, over its sample standard deviation except in Dr.GRPO; exactly 0 in a dead group. In
    rejection sampling 1 for a positive reward, else 0. (G, n) -> (G, n)."""
    if algorithm == REJECTION:
        return (rewards > 0).to(rewards.dtype)
    centred = rewards - rewards.mean(1, keepdim=True)
    if algorithm != "Dr.GRPO":
        centred = centred / (rewards.std(1, keepdim=True) + EPSILON)
    return centred.masked_fill(dead_groups(rewards)[:, None], 0.0)


def kl_k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's estimator k3 of KL(policy || reference) per action, in nats: ref/pi - log(ref/pi) - 1, never negative."""
    log_ratio = reference - log_probs
    return log_ratio.exp() - log_ratio - 1


def policy_loss(
    log_probs: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    algorithm: str = "GRPO",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    reference: Tensor | None = None,
    kl_coef: float = 0.0,
    max_actions: int = 1,
    action_sums: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) + kl_coef KL per action, averaged as `algorithm` says.

    log_probs: of each action (B, A), in nats, with gradients; old: when it was sampled; reference: under the initial model
    (None: KL 0). advantages: (B,). mask: (B, A), 1 at actions. max_actions: Dr.GRPO's constant, the most that an answer has.
    action_sums: actions in each micro-batch of a step (`trm.supervision.batch_mean`), where there are several.
    Returns the loss, and detached means over the actions: `kl`, `clipped` (the share on which the clip acts).
    """
    ratio = (log_probs - old).exp()
    gain = advantages[:, None]
    losses = -torch.minimum(ratio * gain, ratio.clamp(1 - clip_low, 1 + clip_high) * gain)  # (B, A)
    if algorithm == REJECTION:
        losses = -log_probs * gain
    kl = kl_k3(log_probs, log_probs.detach() if reference is None else reference)
    if kl_coef:
        losses = losses + kl_coef * kl
    actions = mask.sum(1)  # (B,)
    total = (losses * mask).sum(1)
    if algorithm == "Dr.GRPO":
        loss = (total / max_actions).mean()
    else:
        each = total / actions.clamp_min(1)
        loss = each.mean() if algorithm == "GRPO" else batch_mean(each, actions, action_sums)
    clipped = ((ratio < 1 - clip_low) & (gain < 0)) | ((ratio > 1 + clip_high) & (gain > 0))
    count = (mask.sum() if action_sums is None else action_sums.mean()).clamp_min(1)
    return loss, {"kl": ((kl * mask).sum() / count).detach(), "clipped": (clipped * mask).sum() / count}
