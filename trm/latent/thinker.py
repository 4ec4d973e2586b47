"""What latents are worth: the losses that a reasoner learns from, and how a frozen language model is asked.

For each thought (the latents after an H-cycle), weighted as `schedule` says:

    chain_weight   * cross-entropy of the token nearest to what each latent says, and to its notes: the steps of a right chain
  + answer_weight  * cross-entropy of the answer, as the language model says it after the latents
  + distill_weight * distance of the answer's anchor from where a right chain leads it (CODI, arXiv 2502.21074)

The first needs no pass through the language model. The others ask it, in those steps of training whose batches bring the
prompts' tokens; of the thoughts before the last, where `ask_each` is set.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm import halting, supervision
from trm.latent.data import NOT_LEARNED
from trm.latent.frozen_lm import FrozenLM, Prompt
from trm.latent.reasoner import Latents
from trm.protocol import StepOutput


@dataclass(frozen=True)
class ThinkingLoss:
    """How the losses are weighed."""

    chain_weight: float = 1.0
    answer_weight: float = 1.0
    distill_weight: float = 1.0
    answers_by: str = "lm"  # who answers: the language model, or itself: the last latent alone
    ask_each: bool = False
    schedule: str = "linear"
    supervision_weight: float = 0.5
    ponder_coef: float = 1e-3

    @classmethod
    def of(cls, params: Any) -> Self:
        """The weights in a chapter's parameters."""
        return cls(**{name: getattr(params, name) for name in cls.__dataclass_fields__})


class LatentThinker(nn.Module):
    """A reasoner as the trainer wants it: `loss(batch)`. The language model is no part of its weights.

    Args:
        reasoner: what is trained. lm: what is asked. weights: of the losses.
    """

    def __init__(self, reasoner: Latents, lm: FrozenLM, weights: ThinkingLoss):
        super().__init__()
        self.reasoner, self.lm, self.weights = reasoner, lm, weights

    def save_pretrained(self, folder) -> None:
        """Keep the reasoner in `folder`."""
        self.reasoner.save_pretrained(folder)

    def forward(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """See `loss`."""
        return self.loss(batch, state, detail)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """One training step, in nats; batch as `trm.latent.data.ThoughtBatches` makes it.

        detail: also the gradient at every thought after `backward` (`StepOutput.intermediates`).
        """
        w = self.weights
        thoughts = self.reasoner.think(batch["states"], batch["mask"])
        if detail:
            for z in thoughts:
                if z.requires_grad:
                    z.retain_grad()
        act = self.reasoner.config.halting == "act" and len(thoughts) > 1
        weights = self._of_thoughts(len(thoughts))
        graded = [i for i, weight in enumerate(weights) if weight > 0 or act or detail]
        asks = "input_ids" in batch and w.answers_by == "lm" and w.answer_weight + w.distill_weight > 0
        prompt = self.lm.read(batch["input_ids"], batch["mask"]) if asks else None
        target = None
        if asks and w.distill_weight:
            chains = [row[kept].tolist() for row, kept in zip(batch["chains"], batch["chain_mask"])]
            target = self.lm.anchors(prompt, chains)  # where a right chain leads
        says = hasattr(self.reasoner, "logits")
        labels, by_thought, metrics = self.reasoner.labels(batch["said"]), {}, {}
        for i in graded:
            last, logits = i == len(thoughts) - 1, self.reasoner.logits(thoughts[i]) if says else None
            loss = torch.zeros(len(labels), device=labels.device)
            if says:
                chain = of_chain(logits, labels)
                metrics[f"deep_supervision/step_{i}_loss"] = chain.mean()
                loss = w.chain_weight * chain
                if w.answers_by == "itself":
                    loss = loss + w.answer_weight * cross_entropies(logits[:, -1, 0], labels[:, -1, 0])
            if asks and (last or w.ask_each or act):
                latents = self.reasoner.mixed(logits) if says else self.reasoner.latents(thoughts[i])
                answer, distance, right = self.of_answers(prompt, latents, batch["answers"], target)
                loss = loss + w.answer_weight * answer + w.distill_weight * distance
                if last:
                    metrics |= {
                        "answer_loss": answer.mean(),
                        "distill_loss": distance.mean(),
                        "asked_accuracy": right.mean(),
                    }
            by_thought[i] = loss
            if last and says:
                metrics["last_latent"] = (logits[:, -1, 0].argmax(-1) == labels[:, -1, 0]).float().mean()
        losses = torch.stack([by_thought[i] for i in graded if weights[i] > 0], -1)  # (B, kept)
        kept = losses.new_tensor([weight for weight in weights if weight > 0])
        total = supervision.weighted_step_loss(losses, kept).mean()
        if act:
            logits = self.reasoner.halt_logits(thoughts)
            every = torch.stack([by_thought[i] for i in range(len(thoughts))], -1)
            total = total + halting.expected_loss(every, logits, w.ponder_coef).mean()
            metrics["mean_cycles"] = halting.expected_steps(logits).mean()
        metrics = {name: value.detach() for name, value in (metrics | {"total_loss": total}).items()}
        return StepOutput(total, None, metrics, None, thoughts if detail else [])

    def of_answers(
        self, prompt: Prompt, latents: Tensor, answers: Tensor, target: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The answer's cross-entropy a token, the anchor's distance from its target, and whether every token is the likeliest:
        three of (B,). latents (B, n, D), answers (B, A), target (B, layers, D)."""
        given = answers.masked_fill(answers < 0, self.lm.tokenizer.pad_token_id)
        said = self.lm.after(prompt, latents, given)
        count = (answers >= 0).sum(1)
        right = ((said.logits.argmax(-1) == answers) | (answers < 0)).all(1).float()
        distance = said.logits.new_zeros(len(answers))
        if target is not None:
            scale = target.std((0, 2), keepdim=True).clamp_min(1e-6)  # of each layer, as CODI does it
            distance = F.smooth_l1_loss(said.anchor / scale, target / scale, reduction="none").mean((1, 2))
        return cross_entropies(said.logits, answers).sum(1) / count, distance, right

    def _of_thoughts(self, count: int) -> list[float]:
        """Weights of so many thoughts: the schedule's, over the H-cycles of each supervision step."""
        if count == 1:
            return [1.0]
        cycles = count // self.reasoner.config.halt_max_steps or 1
        weights = supervision.step_weights(self.weights.schedule, cycles, self.weights.supervision_weight)
        return weights * (count // cycles)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of each label, 0 where it is `NOT_LEARNED`. logits (..., V), labels (...) -> (...)."""
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=NOT_LEARNED, reduction="none")
    return losses.view(labels.shape)


def of_chain(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of what the latents say and note, in nats: the sum over what one latent is taught, the mean over the
    latents. logits (B, n, 1 + notes, W), labels (B, n, 4) -> (B,)."""
    return cross_entropies(logits, labels[:, :, : logits.shape[2]]).sum((1, 2)) / labels.shape[1]
