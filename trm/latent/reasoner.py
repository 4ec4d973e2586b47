"""A tiny recursive model that writes latents for a frozen language model, and the losses that it learns from.

Different from a TRM on puzzles: the recursion runs over the `num_latents` latents alone, which attend to the prompt, read once
(`FixedContext`). Two linear compressors, closed forms found before training, map the model's states in and token embeddings
out. A latent is a mixture of the embeddings of `words`, weighted by softmax(sharpness * cosine) (soft thinking, 2505.15778).
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from pydantic import Field
from torch import Tensor, nn

from trm import supervision
from trm.checkpoint import PRETRAINED, load_pretrained
from trm.compressor.model import Compressor
from trm.errors import UserError
from trm.latent.frozen_lm import FrozenLM, Prompt
from trm.layers import Block, FixedContext, Linear, truncated_normal_
from trm.losses import IGNORE_INDEX, exactly_right, sequence_loss, softmax_cross_entropy
from trm.protocol import StepOutput
from trm.recursion import checkpointed, recurse
from trm.training_params import BlockConstants, CycleParams

SHIPPED_REASONER = PRETRAINED / "latent_reasoner"


class ReasonerParams(CycleParams):
    """The parameters that define a latent reasoner and weigh its losses; the schema of chapter 07 inherits them."""

    layer: int = Field(2, description="block whose hidden states are read: 1 the first, -1 what the head reads")
    ending: str = Field(";", description="text at the end of the language model's chains, before </think>")
    num_latents: int = Field(6, ge=1, description="latents between the prompt and the answer")
    d_compressed: int = Field(96, ge=1, description="bottleneck size for input states and output latents")
    hidden_size: int = Field(96, ge=8, description="width D")
    num_layers: int = Field(1, ge=1, le=1000, description="blocks of the shared network")
    num_heads: int = Field(4, ge=1, description="attention heads")
    expansion: float = Field(4.0, gt=0, description="expansion of the SwiGLU")
    H_cycles: int = Field(4, ge=1, description="H-cycles: rounds of refining the latents")
    L_cycles: int = Field(1, ge=1, description="L-cycles per H-cycle")
    recursion: bool = Field(True, description="apply the blocks again and again; False: once")
    readout: Literal["lm", "direct", "state"] = Field(
        "lm", description="the last thought gives latents for the language model, a word, or its state after thinking"
    )
    teach_answer: bool = Field(True, description="teach the answer to latents; False: only the totals before it")
    chain_weight: float = Field(1.0, ge=0, description="weight of the chain loss: the steps of a correct chain")
    answer_weight: float = Field(1.0, ge=0, description="weight of the answer's cross-entropy")
    distill_weight: float = Field(1.0, ge=0, description="weight of the distance to the state after a correct chain")
    lm_loss_all_cycles: bool = Field(False, description="compute the language model's loss after every H-cycle")


class ReasonerConfig(ReasonerParams, BlockConstants):
    """`ReasonerParams`, and what the language model and the data give. config.json holds it."""

    lm_size: int = Field(192, ge=1, description="width of the language model's states and embeddings")
    num_words: int = Field(1, ge=1, description="tokens that a latent is a mixture of")
    sharpness: float = Field(20.0, gt=0, description="logit of a word: sharpness times the cosine")
    notes: int = Field(3, ge=0, description="auxiliary targets per latent: operation, number, total before")
    seq_len: int = Field(256, ge=1, description="positions of latents and prompt together")


class Latents(nn.Module, PyTorchModelHubMixin):
    """What a reasoner and pause vectors share: the words. Both have `think`, `logits` and `latents`."""

    def __init__(self, config: ReasonerConfig | dict):
        super().__init__()
        self.config = c = config if isinstance(config, ReasonerConfig) else ReasonerConfig(**config)
        self.register_buffer("ids", torch.zeros(c.num_words, dtype=torch.long))  # of the words, ascending
        self.register_buffer("words", torch.zeros(c.num_words, c.lm_size))  # their embeddings

    def begin(self, ids: Tensor, embeddings: Tensor) -> None:
        """Set the words: token ids (W,), ascending, and the embeddings of all tokens (V, D)."""
        self.ids.copy_(ids)
        self.words.copy_(embeddings[ids].float())

    def labels(self, tokens: Tensor) -> Tensor:
        """Token ids -> indices of words; `IGNORE_INDEX` for a token that is not among them, or negative."""
        index = torch.searchsorted(self.ids, tokens.clamp_min(0)).clamp_max(len(self.ids) - 1)
        return torch.where(self.ids[index] == tokens, index, IGNORE_INDEX)

    def compress(self, states: Tensor) -> Tensor:
        """Hidden states (B, T, lm_size) as `think` reads them."""
        return states

    def save_pretrained(self, save_directory, **kwargs):
        """Write model.safetensors and config.json into `save_directory`."""
        return super().save_pretrained(save_directory, config=self.config.model_dump(), **kwargs)


class LatentReasoner(Latents):
    """The recursive reasoner; see the top of this file. With `recursion` False its blocks are applied once."""

    def __init__(self, config: ReasonerConfig | dict):
        super().__init__(config)
        c = self.config
        D, sizes = c.hidden_size, (c.expansion, c.inner_multiple, c.num_heads, c.norm_eps, c.rope_theta)
        self.reads = Compressor(c.lm_size, c.d_compressed, "affine").requires_grad_(False)
        self.writes = Compressor(c.lm_size, c.d_compressed, "affine").requires_grad_(False)
        self.project = Linear(c.d_compressed, D)
        self.places = nn.Parameter(truncated_normal_(torch.empty(c.num_latents, D), 1.0))  # position embeddings
        self.blocks = nn.ModuleList(Block(D, c.seq_len, "attention", *sizes) for _ in range(c.num_layers))
        self.out = Linear(D, (1 + c.notes) * c.d_compressed)
        self.register_buffer("H_init", truncated_normal_(torch.empty(D), 1.0))
        self.register_buffer("L_init", truncated_normal_(torch.empty(D), 1.0))
        if c.readout == "state":
            self.after = nn.Linear(D, c.lm_size)
            self.register_buffer("after_mean", torch.zeros(c.lm_size))
            self.register_buffer("after_scale", torch.ones(()))

    def compress(self, states: Tensor) -> Tensor:
        """(B, T, lm_size) -> (B, T, d_compressed)."""
        return self.reads.compress(states)

    def think(self, states: Tensor, mask: Tensor) -> list[Tensor]:
        """The thought z_H after each H-cycle: H_cycles of (B, num_latents, D).
        states: (B, T, d_compressed). mask: (B, T), padding last. Raises UserError: a prompt longer than `seq_len` allows."""
        c, T = self.config, states.shape[1]
        if c.num_latents + T > c.seq_len:
            raise UserError(f"a prompt of {T} tokens and {c.num_latents} latents exceed seq_len {c.seq_len}")
        x = F.rms_norm(self.project(states), (c.hidden_size,))
        context = FixedContext([block.mixer for block in self.blocks], x, mask.bool(), c.num_latents)
        places = self.places.expand(len(x), -1, -1)
        z_H, z_L = self.H_init.expand_as(places), self.L_init.expand_as(places)

        def net(z: Tensor) -> Tensor:
            for block in self.blocks:
                z = block(z, context)
            return z

        net = checkpointed(net) if c.activation_checkpointing else net
        if not c.recursion:
            return [net(places + z_H + z_L)]
        return recurse(net, places, z_H, z_L, c.H_cycles, c.L_cycles, c.backprop)[0]

    def logits(self, thought: Tensor) -> Tensor:
        """sharpness * cosine of each latent, and each of its notes, to each word: (B, n, D) -> (B, n, 1 + notes, W)."""
        vectors = self.writes.decompress(self.out(thought).unflatten(-1, (1 + self.config.notes, -1)))
        return self.config.sharpness * (F.normalize(vectors.float(), dim=-1) @ F.normalize(self.words, dim=-1).T)

    def latents(self, thought: Tensor, logits: Tensor | None = None) -> Tensor:
        """The inputs to the language model, (B, n, lm_size): the expected word embedding. logits: if already computed."""
        logits = self.logits(thought) if logits is None else logits
        return logits[:, :, 0].softmax(-1) @ self.words

    def set_target(self, states: Tensor) -> None:
        """Scale predictions of the state after thinking to the mean and the deviation of these, (N, lm_size)."""
        self.after_mean.copy_(states.mean(0))
        self.after_scale.copy_(states.var(0, correction=0).mean().sqrt())

    def state(self, thought: Tensor) -> Tensor:
        """The state after thinking that the last latent predicts: (B, n, D) -> (B, lm_size)."""
        return self.after_mean + self.after_scale * self.after(thought[:, -1])

    def distance(self, thought: Tensor, states: Tensor) -> Tensor:
        """Mean square error of that prediction over the mean variance of the training states: 1 is their mean's. (B,)."""
        return ((self.state(thought) - states) / self.after_scale).square().mean(-1)


class Pause(Latents):
    """The same learned vectors for every prompt: more positions to compute in, and no recursion (arXiv 2310.02226)."""

    def __init__(self, config: ReasonerConfig | dict):
        super().__init__(config)
        self.vectors = nn.Parameter(truncated_normal_(torch.empty(self.config.num_latents, self.config.lm_size), 1.0))

    def begin(self, ids: Tensor, embeddings: Tensor) -> None:
        """As `Latents.begin`; scales the vectors to the root mean square of the words."""
        super().begin(ids, embeddings)
        self.vectors.data *= self.words.square().mean().sqrt()

    def think(self, states: Tensor, mask: Tensor) -> list[Tensor]:
        """The vectors, (B, num_latents, lm_size), whatever the prompts."""
        return [self.vectors.expand(len(states), -1, -1)]

    def logits(self, thought: Tensor) -> None:
        """None: the vectors are free, and no chain is taught to them."""

    def latents(self, thought: Tensor, logits: None = None) -> Tensor:
        """The vectors themselves."""
        return thought


def load_reasoner(folder: str | Path, lm_size: int, pause: bool = False) -> Latents:
    """A reasoner, or pause vectors, that a run saved or that ships. Raises UserError: none, or for another width."""
    try:
        found = load_pretrained(Pause if pause else LatentReasoner, folder)
    except UserError as error:
        raise UserError(f"no latent reasoner: {error}; give the folder model/ of a run of chapter 07") from None
    if (width := found.config.lm_size) != lm_size:
        raise UserError(f"{folder} holds a reasoner for a language model of width {width}, and this one has {lm_size}")
    return found


class LatentThinker(nn.Module):
    """A reasoner with its loss, as `trm.trainer` trains it. For each thought (after each H-cycle), weighted by `schedule`:

        chain_weight   * cross-entropy of each latent's word and notes against the steps of a correct chain
      + answer_weight  * cross-entropy of the answer, by the language model after the latents, or by the last latent
      + distill_weight * distance of the answer's anchor from its state after a correct chain (CODI, arXiv 2502.21074);
                         with readout `state`, of the state that the last latent predicts from it

    The language model is called if the batch holds the prompts' tokens: after the last thought, or (`lm_loss_all_cycles`) each.
    """

    def __init__(self, reasoner: Latents, lm: FrozenLM):
        super().__init__()
        self.reasoner, self.lm = reasoner, lm

    def save_pretrained(self, folder) -> None:
        """Save the reasoner in `folder`."""
        self.reasoner.save_pretrained(folder)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """One training step, in nats; batch of `ThoughtBatches`. detail: also keep the gradients of thoughts."""
        reasoner, c = self.reasoner, self.reasoner.config
        thoughts = reasoner.think(batch["states"], batch["mask"])
        for z in thoughts:
            if detail and z.requires_grad:
                z.retain_grad()
        weights = supervision.step_weights(c.schedule, c.H_cycles, c.supervision_weight) if len(thoughts) > 1 else [1.0]
        prompt, target = self.read_prompts(batch)
        labels = reasoner.labels(batch["step_labels"])
        losses, metrics = {}, {}
        for i, (thought, weight) in enumerate(zip(thoughts, weights)):
            if not (weight > 0 or detail):
                continue
            last, logits = i == len(thoughts) - 1, reasoner.logits(thought)
            losses[i] = torch.zeros(len(labels), device=labels.device)
            if logits is not None:
                chain = chain_loss(logits, labels)
                losses[i] = c.chain_weight * chain
                if c.readout == "direct":
                    losses[i] = losses[i] + c.answer_weight * softmax_cross_entropy(logits[:, -1, 0], labels[:, -1, 0])
                metrics[f"deep_supervision/step_{i}_loss"] = chain.mean()
                if last:
                    metrics["last_latent"] = (logits[:, -1, 0].argmax(-1) == labels[:, -1, 0]).float().mean()
            if c.readout == "state":
                distance = reasoner.distance(thought, batch["after"])
                losses[i] = losses[i] + c.distill_weight * distance
                metrics[f"distance_{i}"] = distance.mean()
            if prompt and (last or c.lm_loss_all_cycles):
                latents = reasoner.latents(thought, logits)
                answer, distance, right = self.answer_loss(
                    prompt, latents, batch["answers"], target, batch.get("targets")
                )
                losses[i] = losses[i] + c.answer_weight * answer + c.distill_weight * distance
                if last:
                    metrics |= {"answer_loss": answer.mean(), "distill_loss": distance.mean()}
                    metrics["asked_accuracy"] = right.mean()
        kept = [i for i in losses if weights[i] > 0]
        weighted = torch.stack([losses[i] for i in kept], -1)
        total = supervision.weighted_step_loss(weighted, weighted.new_tensor([weights[i] for i in kept])).mean()
        metrics = {name: value.detach() for name, value in (metrics | {"total_loss": total}).items()}
        return StepOutput(total, None, metrics, None, thoughts if detail else [])

    def shared(self, batch: dict[str, Tensor], state: None = None) -> dict[str, Tensor]:
        """The distillation targets, whose deviation in the whole batch is their scale."""
        target = self.read_prompts(batch)[1]
        return {} if target is None else {"targets": target}

    forward = loss  # what accelerate calls

    def read_prompts(self, batch: dict[str, Tensor]) -> tuple[Prompt | None, Tensor | None]:
        """The prompts and the distillation target (B, layers, D); None where the loss of this batch requires none."""
        c = self.reasoner.config
        if "input_ids" not in batch or c.readout != "lm" or not c.answer_weight + c.distill_weight:
            return None, None
        prompt = self.lm.read(batch["input_ids"], batch["mask"])
        if not c.distill_weight:
            return prompt, None
        chains = [row[kept].tolist() for row, kept in zip(batch["chains"], batch["chain_mask"])]
        return prompt, self.lm.anchors(prompt, chains)

    def answer_loss(
        self, prompt: Prompt, latents: Tensor, answers: Tensor, target: Tensor | None, targets: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Cross-entropy per token of the answer, distance of the anchor from its target, and whether greedy decoding gives the
        answer: three of (B,). latents (B, n, D), answers (B, A), target (B, layers, D); targets (P, B, layers, D): of all
        micro-batches, where there are several."""
        given = answers.masked_fill(answers < 0, self.lm.tokenizer.pad_token_id)
        logits, anchor = self.lm.after(prompt, latents, given)
        distance = logits.new_zeros(len(answers))
        if target is not None:
            whole = target if targets is None else targets.flatten(0, 1)
            scale = whole.std((0, 2), keepdim=True).clamp_min(1e-6)  # per layer, as in CODI
            distance = F.smooth_l1_loss(anchor / scale, target / scale, reduction="none").mean((1, 2))
        return sequence_loss(logits, answers), distance, exactly_right(logits.argmax(-1), answers).float()


def chain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the labels of a latent (its word and notes), averaged over the latents.
    logits (B, n, 1 + notes, W), labels (B, n, 4) -> (B,)."""
    return softmax_cross_entropy(logits, labels[:, :, : logits.shape[2]]).sum((1, 2)) / labels.shape[1]
