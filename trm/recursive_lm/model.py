"""A causal language model whose body is the recursion of a TRM; for comparison, the same blocks in a loop or in a row.

Different from a TRM on puzzles: a batch begins without a state, and there is one supervision step, of `H_cycles` answers.
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

from trm import supervision
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
    H_cycles: int = Field(3, ge=1, description="answers, one after the other")
    L_cycles: int = Field(1, ge=1, description="latent steps before each answer")
    random_cycles: bool = Field(
        False, description="draw the H-cycles of each training step from 1 to 2 * H_cycles - 1, whose mean is H_cycles"
    )
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

    Shapes: n answers, one after each H-cycle; M, the most tokens to be learned in a row of a batch.
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
        """The answers after each H-cycle, of which there are `H_cycles` where not as in training. (B, T) token ids -> n tensors
        (B, T, D)."""
        c, x, H = self.config, self.embed_tokens(ids), H_cycles or self.config.H_cycles

        def net(z: Tensor) -> Tensor:
            for block in self.blocks:
                z = block(z, cache)
            return z

        net = checkpointed(net) if c.activation_checkpointing else net
        if c.body == "plain":
            return [net(x)]
        if c.body == "looped":
            z, answers = torch.zeros_like(x), []
            for _ in range(H):
                for _ in range(c.L_cycles + 1):
                    z = net(z + x)
                answers.append(z)
            return answers
        z_H, z_L = self.H_init.expand_as(x), self.L_init.expand_as(x)
        answers, _ = recurse(net, x, z_H, z_L, H, c.L_cycles, c.backprop)
        return answers

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
        """Weighted mean over the supervised H-cycles, of weights whose earlier ones are multiplied by `curriculum`.
        (B, M, cycles) -> (B, M)."""
        if self.config.schedule == supervision.ADAPTIVE:
            weights = supervision.adaptive_weights(losses, self.config.supervision_weight)  # (B, M, cycles)
        else:
            weights = losses.new_tensor(cycle_weights)
        weights = torch.cat((weights[..., :-1] * curriculum, weights[..., -1:]), -1)
        return supervision.weighted_step_loss(losses, weights)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """The answers to a batch of texts, and their loss by `schedule`, in nats per token, every token by its weight.

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
        cycle_weights = [1.0]
        if c.body != "plain":  # for `adaptive`, something for every cycle that counts
            name = "constant" if c.schedule == supervision.ADAPTIVE else c.schedule
            cycle_weights = supervision.step_weights(name, H, c.supervision_weight)
        supervised = [i for i, weight in enumerate(cycle_weights) if weight > 0]
        last = len(answers) - 1
        read = list(range(last + 1)) if detail else sorted({*supervised, last})  # to which the head is applied
        losses, logits = self.answer_losses([answers[i] for i in read], labels, [i in supervised for i in read])
        share = weights / whole_sum(batch, "weight_sum", weights).clamp_min(1e-12)
        of_supervised = losses[..., [read.index(i) for i in supervised]]  # (B, M, cycles)
        by_token = self.supervised_loss(of_supervised, [cycle_weights[i] for i in supervised], curriculum)
        total = (by_token * share).sum()

        targets = torch.where(weights == 1, labels, IGNORE_INDEX)
        predictions = logits.detach().argmax(-1)  # (B, M)
        right = (predictions == targets).sum() / whole_sum(batch, "target_sum", targets != IGNORE_INDEX).clamp_min(1)
        metrics = {
            "total_loss": total,
            "token_accuracy": right.float(),
            "exact_accuracy": exactly_right(predictions, targets).float().mean(),
            "curriculum_weight": c.supervision_weight * curriculum,
        }
        for i, loss in zip(read, losses.detach().unbind(-1)):
            metrics[f"deep_supervision/step_{i}_loss"] = (loss * share).sum()
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

        Raises UserError: sampling, or more tokens than `seq_len`.
        """
        c, T = self.config, input_ids.shape[1]
        if do_sample:
            raise UserError("a recursive language model decodes greedily: leave do_sample out")
        if T + max_new_tokens > c.seq_len:
            raise UserError(f"prompt and answer of {T} + {max_new_tokens} tokens exceed seq_len {c.seq_len}")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        out, cache = input_ids, KeyValueCache()
        done = torch.zeros(len(out), dtype=torch.bool, device=out.device)
        for _ in range(max_new_tokens):
            past = out.shape[1] - 1 if cache.kept else 0
            cache.begin(mask.bool(), past)
            answer = self.think(out[:, past:], cache=cache)[-1][:, -1]  # (B, D)
            token = self.lm_head(answer).argmax(-1).masked_fill(done, c.pad_id)
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
    H, L = (1, 0) if c.body == "plain" else (H_cycles or c.H_cycles, c.L_cycles)
    embedding, read = 2 * T * c.embed_size * D, 2 * D * c.vocab_size
    if not learned:
        return embedding + H * (L + 1) * net + read
    earlier = supervision.supervised_before_last(c.schedule, H, c.supervision_weight)
    trained = {"last": L + 1, "per_cycle": (1 + earlier) * (L + 1), "full": H * (L + 1)}[c.backprop]
    heads = learned * read * (3 + earlier * (2 if c.backprop == "last" else 3))
    return 2 * embedding + (H * (L + 1) + 2 * trained) * net + heads
