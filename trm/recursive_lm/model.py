"""A causal language model whose body is the recursion of a TRM; and, for comparison, the same blocks in a loop or in a row.

The loss is that of the next token, and as in `trm.puzzles.unrolled` all supervision steps are taken before anything is learned:

    total_loss = every_step_weight * (losses of all answers by `schedule` and `step_schedule`) + act_weight * halting loss
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor

from trm import halting, supervision
from trm.checkpoint import load_pretrained
from trm.errors import UserError
from trm.layers import KeyValueCache
from trm.losses import exactly_right, softmax_cross_entropy
from trm.protocol import StepOutput
from trm.recursive_lm.body import LMBody


class RecursiveLanguageModel(LMBody, PyTorchModelHubMixin):
    """A recursive language model (arguments as for `LMBody`): what it learns from, and how it writes.

    `save_pretrained` and `from_pretrained` keep it as safetensors + JSON.
    """

    # --- training ---------------------------------------------------------------------------------------------

    def host_draws(self, seed: int, train_step: int, batch_size: int) -> dict[str, np.ndarray]:
        """What a training step is told besides its batch: curriculum (B,), the factor on all cycles but the last."""
        c, factor = self.config, 1.0
        if c.curriculum_enabled:
            factor = supervision.curriculum_factor(train_step, c.curriculum_start_step, c.curriculum_end_step)
        return {"curriculum": np.full(batch_size, factor, np.float32)}

    def read_places(self, batch: dict[str, Tensor], H_cycles: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
        """The answers where a token is to be learned, (B, M, D) each, and these tokens and their weights, (B, M) each.

        batch: as for `loss`.
        """
        places = batch["places"]
        at = places[..., None].expand(-1, -1, self.config.hidden_size)
        answers = [z.gather(1, at) for z in self.think(batch["input_ids"][:, :-1], H_cycles)]
        return answers, *(batch[name][:, 1:].gather(1, places) for name in ("labels", "weights"))

    def answer_losses(self, answers: list[Tensor], labels: Tensor, needed: list[bool]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every token after each answer, (B, M, n), 0 where the label is -100; and the last logits.

        needed: which answers are learned from; the others are read without a gradient.
        """
        losses = []
        for z, wanted in zip(answers, needed):
            with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
                logits = self.lm_head(z)
                losses.append(softmax_cross_entropy(logits, labels))
        return torch.stack(losses, -1), logits

    def weigh(self, losses: Tensor, kept: list[int], curriculum: Tensor) -> Tensor:
        """Mean over the H-cycles `kept` by `schedule`, then over supervision steps. losses (B, M, S, kept) -> (B, M)."""
        c = self.config
        if c.schedule == supervision.ADAPTIVE:
            weights = supervision.adaptive_weights(losses, c.supervision_weight)  # (B, M, S, kept)
        else:
            weights = losses.new_tensor(self.cycle_weights(c.H_cycles))[kept]
        weights = torch.cat((weights[..., :-1] * curriculum, weights[..., -1:]), -1)
        by_step = supervision.weighted_step_loss(losses, weights)  # (B, M, S)
        steps = supervision.step_weights(c.step_schedule, by_step.shape[-1], c.step_weight)
        return supervision.weighted_step_loss(by_step, losses.new_tensor(steps))

    def cycle_weights(self, cycles: int) -> list[float]:
        """What the schedule gives each of so many H-cycles; of `adaptive`, which cycles count at all."""
        c = self.config
        if c.body == "plain":
            return [1.0]
        name = "constant" if c.schedule == supervision.ADAPTIVE else c.schedule
        return supervision.step_weights(name, cycles, c.supervision_weight)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """All supervision steps on a batch of texts, and the loss above, in nats a token, every token by its weight.

        Args:
            batch: input_ids, labels and weights (B, T), and places (B, M), the positions whose next token is learned and
                which alone are read (`trm.language.stories.to_learn`); curriculum (B,) if wanted.
            detail: also the loss after every answer and, after `backward`, its gradient (`StepOutput.intermediates`).
        """
        c = self.config
        answers, labels, weights = self.read_places(batch)
        if detail:
            for z in answers:
                if z.requires_grad:
                    z.retain_grad()
        curriculum = batch["curriculum"][0] if "curriculum" in batch else weights.new_ones(())
        cycle_weights = self.cycle_weights(c.H_cycles)
        H, act = len(cycle_weights), c.halting == "act"
        read = [i for i, w in enumerate(cycle_weights) if w > 0 or detail or act or i == H - 1]
        graded = [i for i in range(len(answers)) if i % H in read]
        needed = [cycle_weights[i % H] > 0 or act for i in graded]
        losses, logits = self.answer_losses([answers[i] for i in graded], labels, needed)  # (B, M, n)
        kept = [i for i in read if cycle_weights[i] > 0]
        by_cycle = losses.unflatten(-1, (-1, len(read)))[..., [read.index(i) for i in kept]]  # (B, M, S, kept)
        share = weights / weights.sum().clamp_min(1e-12)
        supervised = (self.weigh(by_cycle, kept, curriculum) * share).sum()
        total = c.every_step_weight * supervised if act else supervised

        answered = torch.where(weights == 1, labels, -100)
        predictions = logits.detach().argmax(-1)  # (B, M)
        right = ((predictions == answered).sum() / (answered != -100).sum().clamp_min(1)).float()
        metrics = {
            "supervised_loss": supervised,
            "token_accuracy": right,
            "exact_accuracy": exactly_right(predictions, answered).float().mean(),
            "curriculum_weight": c.supervision_weight * curriculum,
        }
        if act:
            expected, cycles = self.expected(losses, self.halt_logits(answers), weights, share)
            total = total + c.act_weight * expected
            metrics |= {"act_loss": c.act_weight * expected, "mean_cycles": cycles}
        for i, loss in zip(graded, losses.detach().unbind(-1)):
            metrics[f"deep_supervision/step_{i}_loss"] = (loss * share).sum()
        metrics = {name: value.detach() for name, value in (metrics | {"total_loss": total}).items()}
        return StepOutput(total, None, metrics, predictions, answers if detail else [])

    forward = loss  # what a wrapper for several processes calls

    def expected(self, losses: Tensor, logits: Tensor, weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """The expected loss over halting times with its price, and the expected number of answers: two scalars.

        losses, logits (B, M, n); weights, share (B, M): of each token, and the same over their sum in the batch.
        """
        if self.config.halt_by == "token":
            losses, logits, share = (x.flatten(0, 1) for x in (losses, logits, share))
        else:  # one decision a row, at the first position whose next token is to be written
            rows = weights.sum(1).clamp_min(1e-12)
            losses = (losses * (weights / rows[:, None])[..., None]).sum(1)
            logits = logits[torch.arange(len(logits)), (weights == 1).float().argmax(1)]  # (B, n)
            share = share.sum(1)
        expected = halting.expected_loss(losses, logits, self.config.ponder_coef)
        return (expected * share).sum(), (halting.expected_steps(logits) * share).sum()

    # --- writing ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_new_tokens: int = 20,
        do_sample: bool = False,
        H_cycles: int = 0,
        use_cache: bool = True,
    ) -> Tensor:
        """The most likely token again and again: (B, T) prompts, padded on the left, -> (B, T + written), pads after the end.

        Where halting was learned, the answer is read where it says stop; the later cycles are computed all the same, because
        later positions look at their keys (`trm.layers`). So stopping early spares no time here.

        use_cache: keep keys and values of finished positions; else everything is computed again for each token.

        Raises:
            UserError: sampling, or more tokens than `seq_len`.
        """
        c = self.config
        if do_sample:
            raise UserError("a recursive language model writes the most likely token: leave do_sample out")
        if input_ids.shape[1] + max_new_tokens > c.seq_len:
            raise UserError(
                f"prompt and answer of {input_ids.shape[1]} + {max_new_tokens} tokens exceed seq_len {c.seq_len}"
            )
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        out, depth, cache = input_ids, None, KeyValueCache()
        done = torch.zeros(len(out), dtype=torch.bool, device=out.device)
        for _ in range(max_new_tokens):
            past = out.shape[1] - 1 if use_cache and cache.kept else 0
            cache = cache if past else KeyValueCache()
            cache.begin(seen.bool(), past)
            answers = [z[:, -1:] for z in self.think(out[:, past:], H_cycles, cache)]  # (B, 1, D)
            if depth is None or c.halt_by == "token":
                depth = self.depths(answers)
            z = torch.stack(answers, 2).take_along_dim(depth[..., None, None] - 1, 2)
            token = torch.where(done, c.pad_id, self.lm_head(z).argmax(-1).flatten())
            done = done | (token == c.eos_id)
            out = torch.cat((out, token[:, None]), 1)
            seen = torch.cat((seen, torch.ones_like(seen[:, :1])), 1)
            if done.all():
                break
        return out

    # --- files ------------------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory, **kwargs):
        """Write model.safetensors and config.json into `save_directory`."""
        return super().save_pretrained(save_directory, config=asdict(self.config), **kwargs)


def load_recursive_lm(folder: str | Path, device: str = "cpu") -> RecursiveLanguageModel:
    """The model that `save_pretrained` wrote into `folder`. Errors as in `checkpoint.load_pretrained`."""
    return load_pretrained(RecursiveLanguageModel, folder, device)
