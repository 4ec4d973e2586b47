"""A causal language model whose body is the recursion of a TRM; for comparison, the same blocks in a loop or in a row.

Different from a TRM on puzzles: a batch begins without a state, and `think` takes all its supervision steps at once.

    total_loss = every_step_weight * (losses of all answers by `schedule` and `step_schedule`) + act_weight * halting loss
"""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from pydantic import Field
from torch import Tensor, nn

from trm import halting, supervision
from trm.checkpoint import load_pretrained
from trm.errors import UserError
from trm.layers import Block, KeyValueCache, Linear, inner_width, truncated_normal_
from trm.losses import IGNORE_INDEX, exactly_right, softmax_cross_entropy
from trm.protocol import StepOutput, whole_sum
from trm.recursion import checkpointed, recurse
from trm.training_params import BlockConstants, CycleParams


class LMParams(CycleParams):
    """What defines the model and how its loss is weighed; the schema of chapter 06 inherits it."""

    body: Literal["recursive", "looped", "plain"] = Field(
        "recursive",
        description="recursion; shared blocks in a loop, without z_H and z_L; blocks in a row, applied once",
    )
    hidden_size: int = Field(64, ge=8, description="width D")
    num_layers: int = Field(1, ge=1, le=1000, description="blocks of the shared network; of a plain body, all blocks")
    num_heads: int = Field(2, ge=1, description="attention heads")
    expansion: float = Field(2.0, gt=0, description="expansion of the SwiGLU")
    H_cycles: int = Field(3, ge=1, description="answers in a supervision step")
    L_cycles: int = Field(1, ge=1, description="latent steps before each answer")
    random_cycles: bool = Field(
        False, description="draw the H-cycles of each training step from 1 to 2 * H_cycles - 1, whose mean is H_cycles"
    )
    halt_max_steps: int = Field(1, ge=1, description="supervision steps, the state detached between them")
    halting: Literal["none", "act"] = Field("none", description="act: the expected loss over halting times")
    ponder_coef: float = Field(1e-3, ge=0, description="ponder cost per expected H-cycle in act")
    halt_by: Literal["sequence", "token"] = Field(
        "sequence", description="where the depth is decided: once at the prompt's end, or at each token"
    )
    act_weight: float = Field(0.5, ge=0, description="weight of the halting loss")
    every_step_weight: float = Field(1.0, ge=0, description="act: weight of the losses of all answers")
    step_schedule: str = Field("uniform", description="supervision-step weights", examples=supervision.schedule_names())
    step_weight: float = Field(0.5, ge=0, le=10, description="weight of the supervision steps before the last")
    curriculum_enabled: bool = Field(False, description="supervision curriculum: phase in the earlier H-cycles' loss")
    curriculum_start_step: int = Field(0, ge=0, description="the weight of earlier H-cycles is zero until this step")
    curriculum_end_step: int = Field(0, ge=0, description="the weight of earlier H-cycles is full from this step")


class LMConfig(LMParams, BlockConstants):
    """`LMParams`, and what the data give. config.json holds it."""

    vocab_size: int = Field(600, ge=1, description="token ids V")
    seq_len: int = Field(256, ge=1, description="longest sequence, prompt and answer together")
    embed_size: int = Field(0, ge=0, description="width of frozen embeddings taken from another model; 0: learned")
    pad_id: int = Field(0, ge=0, description="token that pads")
    eos_id: int = Field(2, ge=0, description="token that ends an answer")


class RecursiveLanguageModel(nn.Module, PyTorchModelHubMixin):
    """A recursive language model. embeddings: (V, embed_size), frozen, where `embed_size` is not 0 and the weights lack them.

    Shapes: n = S H answers (S supervision steps of H cycles each); M, the most tokens to be learned in a row of a batch.
    """

    def __init__(self, config: LMConfig | dict, embeddings: Tensor | None = None):
        super().__init__()
        self.config = c = config if isinstance(config, LMConfig) else LMConfig(**config)
        D, sizes = c.hidden_size, (c.expansion, c.inner_multiple, c.num_heads, c.norm_eps, c.rope_theta)
        if c.embed_size:
            self.register_buffer("embed", torch.zeros(c.vocab_size, c.embed_size))
            self.project = Linear(c.embed_size, D)
            if embeddings is not None:
                self.embed.copy_(embeddings.detach())
        else:
            self.embed = nn.Parameter(truncated_normal_(torch.empty(c.vocab_size, D), D**-0.5))
        self.blocks = nn.ModuleList(Block(D, c.seq_len, "attention", *sizes, causal=True) for _ in range(c.num_layers))
        self.lm_head = Linear(D, c.vocab_size)
        if c.body == "recursive":
            self.register_buffer("H_init", truncated_normal_(torch.empty(D), 1.0))
            self.register_buffer("L_init", truncated_normal_(torch.empty(D), 1.0))
        if c.halting == "act":
            self.q_head = halting.init_halting_head(nn.Linear(D, 1), c.halt_max_steps * c.H_cycles)

    @property
    def device(self) -> torch.device:
        return self.embed.device

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Tokens, embedded with variance one. (B, T) -> (B, T, D)."""
        x = F.embedding(ids, self.embed)
        if self.config.embed_size:
            return F.rms_norm(self.project(x), (self.config.hidden_size,))
        return math.sqrt(self.config.hidden_size) * x

    def think(self, ids: Tensor, H_cycles: int = 0, cache: KeyValueCache | None = None) -> list[Tensor]:
        """The answers after each H-cycle of each supervision step, of which there are `H_cycles` where not as in training.
        (B, T) token ids -> n tensors (B, T, D)."""
        c, x, H = self.config, self.embed_tokens(ids), H_cycles or self.config.H_cycles

        def net(z: Tensor) -> Tensor:
            for block in self.blocks:
                z = block(z, cache)
            return z

        net = checkpointed(net) if c.activation_checkpointing else net
        if c.body == "plain":
            return [net(x)]
        answers = []
        if c.body == "looped":
            z = torch.zeros_like(x)
            for cycle in range(c.halt_max_steps * H):
                z = z.detach() if cycle % H == 0 else z
                for _ in range(c.L_cycles + 1):
                    z = net(z + x)
                answers.append(z)
            return answers
        z_H, z_L = self.H_init.expand_as(x), self.L_init.expand_as(x)
        for _ in range(c.halt_max_steps):
            found, z_L = recurse(net, x, z_H.detach(), z_L.detach(), H, c.L_cycles, c.backprop)
            z_H = found[-1]
            answers += found
        return answers

    def halt_logits(self, answers: list[Tensor]) -> Tensor:
        """Logits of "stop after this answer" at every position. n of (B, T, D) -> (B, T, n)."""
        return torch.cat([self.q_head(z) for z in answers], dim=-1)

    def depths(self, answers: list[Tensor]) -> Tensor:
        """After which answer to stop, from 1: the last, or in act where the head says so. n of (B, M, D) -> (B, M)."""
        if self.config.halting != "act":
            return torch.full(answers[0].shape[:2], len(answers), device=self.device)
        logits = self.halt_logits(answers)
        if self.config.halt_by == "sequence":
            logits = logits[:, :1].expand_as(logits)
        return halting.TAUGHT["act"].steps(halting.halted_by(logits).flatten(0, 1)).view(logits.shape[:2])

    def chosen(self, answers: list[Tensor], depths: Tensor) -> Tensor:
        """The answer at the depth of each position. n of (B, M, D), (B, M) -> (B, M, D)."""
        return torch.stack(answers, 2).take_along_dim(depths[..., None, None] - 1, 2).squeeze(2)

    def host_draws(self, seed: int, train_step: int, batch_size: int) -> dict[str, np.ndarray]:
        """What a training step is told besides its batch: curriculum (B,), the factor on all cycles but the last; with
        `random_cycles` also cycles (B,), the H-cycles of this step, the same for all rows."""
        c, factor = self.config, 1.0
        if c.curriculum_enabled:
            factor = supervision.curriculum_factor(train_step, c.curriculum_start_step, c.curriculum_end_step)
        found = {"curriculum": np.full(batch_size, factor, np.float32)}
        if c.random_cycles:
            drawn = np.random.default_rng([seed, train_step, 0x100B5]).integers(1, 2 * c.H_cycles)
            found["cycles"] = np.full(batch_size, drawn)
        return found

    def answers_at_targets(self, batch: dict[str, Tensor], H_cycles: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
        """The answers where a token is to be learned, n of (B, M, D); these tokens and their weights, (B, M) each."""
        places = batch["places"]
        at = places[..., None].expand(-1, -1, self.config.hidden_size)
        answers = [z.gather(1, at) for z in self.think(batch["input_ids"][:, :-1], H_cycles)]
        return answers, *(batch[name][:, 1:].gather(1, places) for name in ("labels", "weights"))

    def answer_losses(self, answers: list[Tensor], labels: Tensor, learned: list[bool]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every token after each answer, (B, M, n), 0 at `IGNORE_INDEX`; and the last logits (B, M, V).
        learned: which answers carry a gradient."""
        losses = []
        for z, with_gradient in zip(answers, learned):
            with torch.set_grad_enabled(torch.is_grad_enabled() and with_gradient):
                logits = self.lm_head(z)
                losses.append(softmax_cross_entropy(logits, labels))
        return torch.stack(losses, -1), logits

    def supervised_loss(self, losses: Tensor, cycle_weights: list[float], curriculum: Tensor) -> Tensor:
        """Weighted mean over the supervised H-cycles, then over supervision steps. (B, M, S, cycles) -> (B, M)."""
        c = self.config
        if c.schedule == supervision.ADAPTIVE:
            weights = supervision.adaptive_weights(losses, c.supervision_weight)  # (B, M, S, cycles)
        else:
            weights = losses.new_tensor(cycle_weights)
        weights = torch.cat((weights[..., :-1] * curriculum, weights[..., -1:]), -1)
        by_step = supervision.weighted_step_loss(losses, weights)  # (B, M, S)
        steps = supervision.step_weights(c.step_schedule, by_step.shape[-1], c.step_weight)
        return supervision.weighted_step_loss(by_step, losses.new_tensor(steps))

    def halting_loss(self, losses: Tensor, logits: Tensor, weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """The expected loss over halting times plus ponder cost, and the expected number of answers: two scalars.
        losses, logits (B, M, n); weights, share (B, M): of each token, and the same over their sum in the batch."""
        if self.config.halt_by == "token":
            losses, logits, share = (x.flatten(0, 1) for x in (losses, logits, share))
        else:  # one decision per row, at the first position whose next token is to be written
            rows = weights.sum(1).clamp_min(1e-12)
            losses = (losses * (weights / rows[:, None])[..., None]).sum(1)
            logits = logits[torch.arange(len(logits)), (weights == 1).float().argmax(1)]  # (B, n)
            share = share.sum(1)
        expected = halting.expected_loss(losses, logits, self.config.ponder_coef)
        return (expected * share).sum(), (halting.expected_steps(logits) * share).sum()

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """All supervision steps on a batch of texts, and the loss above, in nats per token, every token by its weight.

        batch: input_ids, labels, weights (B, T) and places (B, M), at which alone the head is applied, of
        `trm.language.stories.to_learn`; curriculum, cycles (B,), optional. detail: also the loss and gradient of every answer.
        """
        c = self.config
        H = int(batch["cycles"][0]) if "cycles" in batch else c.H_cycles
        answers, labels, weights = self.answers_at_targets(batch, H)
        for z in answers if detail else []:
            if z.requires_grad:
                z.retain_grad()
        curriculum = batch["curriculum"][0] if "curriculum" in batch else weights.new_ones(())
        cycle_weights, act = [1.0], c.halting == "act"
        if c.body != "plain":  # for `adaptive`, something for every cycle that counts
            name = "constant" if c.schedule == supervision.ADAPTIVE else c.schedule
            cycle_weights = supervision.step_weights(name, H, c.supervision_weight)
        H, S = len(cycle_weights), len(answers) // len(cycle_weights)
        supervised = [h for h in range(H) if cycle_weights[h] > 0]
        read = list(range(H)) if detail or act else sorted({*supervised, H - 1})  # cycles to which the head is applied
        read_answers = [step + h for step in range(0, len(answers), H) for h in read]
        learned = [act or h in supervised for h in read] * S
        losses, logits = self.answer_losses([answers[i] for i in read_answers], labels, learned)  # (B, M, S * read)
        by_cycle = losses.unflatten(-1, (S, len(read)))[..., [read.index(h) for h in supervised]]
        share = weights / whole_sum(batch, "weight_sum", weights).clamp_min(1e-12)
        by_token = self.supervised_loss(by_cycle, [cycle_weights[h] for h in supervised], curriculum)  # (B, M)
        supervised_loss = (by_token * share).sum()
        total = c.every_step_weight * supervised_loss if act else supervised_loss

        targets = torch.where(weights == 1, labels, IGNORE_INDEX)
        predictions = logits.detach().argmax(-1)  # (B, M)
        right = (predictions == targets).sum() / whole_sum(batch, "target_sum", targets != IGNORE_INDEX).clamp_min(1)
        metrics = {
            "supervised_loss": supervised_loss,
            "token_accuracy": right.float(),
            "exact_accuracy": exactly_right(predictions, targets).float().mean(),
            "curriculum_weight": c.supervision_weight * curriculum,
        }
        if act:
            expected, cycles = self.halting_loss(losses, self.halt_logits(answers), weights, share)
            total = total + c.act_weight * expected
            metrics |= {"act_loss": c.act_weight * expected, "mean_cycles": cycles}
        for i, loss in zip(read_answers, losses.detach().unbind(-1)):
            metrics[f"deep_supervision/step_{i}_loss"] = (loss * share).sum()
        metrics["total_loss"] = total
        metrics = {name: value.detach() for name, value in metrics.items()}
        return StepOutput(total, None, metrics, predictions, answers if detail else [])

    def shared(self, batch: dict[str, Tensor], state: None = None) -> dict[str, Tensor]:
        """The sums that means over tokens divide by: of the weights, and of the tokens whose accuracy is measured."""
        weights = batch["weights"][:, 1:].gather(1, batch["places"])
        return {"weight_sum": weights.sum(), "target_sum": (weights == 1).sum().float()}

    forward = loss  # what a wrapper for several processes calls

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, max_new_tokens: int = 20, do_sample: bool = False
    ) -> Tensor:
        """Greedy decoding: (B, T) prompts, padded on the left, -> (B, T + written), pads after the end.

        With act the answer is read where the head says stop, which saves no time: later positions look at the keys of every
        cycle. Raises UserError: sampling, or more tokens than `seq_len`.
        """
        c, T = self.config, input_ids.shape[1]
        if do_sample:
            raise UserError("a recursive language model decodes greedily: leave do_sample out")
        if T + max_new_tokens > c.seq_len:
            raise UserError(f"prompt and answer of {T} + {max_new_tokens} tokens exceed seq_len {c.seq_len}")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        out, depths, cache = input_ids, None, KeyValueCache()
        done = torch.zeros(len(out), dtype=torch.bool, device=out.device)
        for _ in range(max_new_tokens):
            past = out.shape[1] - 1 if cache.kept else 0
            cache.begin(mask.bool(), past)
            answers = [z[:, -1:] for z in self.think(out[:, past:], cache=cache)]  # (B, 1, D)
            if depths is None or c.halt_by == "token":
                depths = self.depths(answers)
            token = self.lm_head(self.chosen(answers, depths)).argmax(-1).flatten().masked_fill(done, c.pad_id)
            done = done | (token == c.eos_id)
            out = torch.cat((out, token[:, None]), 1)
            mask = torch.cat((mask, torch.ones_like(mask[:, :1])), 1)
            if done.all():
                break
        return out

    def save_pretrained(self, save_directory, **kwargs):
        """Write model.safetensors and config.json into `save_directory`."""
        return super().save_pretrained(save_directory, config=self.config.model_dump(), **kwargs)


def load_recursive_lm(folder: str | Path, device: str = "cpu") -> RecursiveLanguageModel:
    """The model that `save_pretrained` wrote into `folder`; errors of `load_pretrained`."""
    return load_pretrained(RecursiveLanguageModel, folder, device)


def lm_flops(config: LMConfig, length: int, learned: int = 0, H_cycles: int = 0) -> int:
    """FLOPs to read `length` tokens and predict the next; or, backward pass included, to train on them with the head applied to
    `learned` tokens after each supervised answer. H_cycles: where not those of the configuration."""
    c, T, D = config, length, config.hidden_size
    swiglu = 3 * D * inner_width(D, c.expansion, c.inner_multiple)
    net = c.num_layers * (2 * T * (4 * D * D + swiglu) + 2 * 2 * T * T * D)
    S, H, L = (1, 1, 0) if c.body == "plain" else (c.halt_max_steps, H_cycles or c.H_cycles, c.L_cycles)
    embedding = 2 * T * c.embed_size * D
    read, act = 2 * D * c.vocab_size, c.halting == "act"
    if not learned:
        return embedding + S * H * ((L + 1) * net + 2 * D * act) + read
    earlier = H - 1 if act else supervision.supervised_before_last(c.schedule, H, c.supervision_weight)
    trained = {"last": L + 1, "per_cycle": (1 + earlier) * (L + 1), "full": H * (L + 1)}[c.backprop]
    heads = learned * (read + 2 * D * act) * (3 + earlier * (2 if c.backprop == "last" else 3))
    return 2 * embedding + S * ((H * (L + 1) + 2 * trained) * net + heads)
