"""Pointer-over-Heads: a dependency parser whose attention heads are weighted by a controller, iterated with tied weights.

    words -> `WordEncoder` -> x -> `PointerBlock`, max_inner_iters times -> z_1, z_2, ... -> `Biaffine` on each of them

Each iteration can be supervised and be the last. The block sees x in the first iteration alone; with `input_injection`, in all.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from pydantic import Field
from torch import Tensor, nn

from trm import halting
from trm.layers import Linear, SwiGLU, inner_width, residual_norm, rotary_table, rotate
from trm.losses import IGNORE_INDEX, sequence_loss, softmax_cross_entropy
from trm.parsing.batches import AFFIX_ROWS, PAD, UNKNOWN
from trm.protocol import StepOutput
from trm.recursion import checkpointed
from trm.supervision import ADAPTIVE, adaptive_weights, batch_mean, schedule_names, step_weights, weighted_step_loss
from trm.training_params import ModelParams, subset


class ParserParams(ModelParams):
    """The parameters that define a parser and how its loss is weighted; the schema of chapter 05 inherits them."""

    hidden_size: int = Field(64, ge=8, description="width D")
    conv_layers: int = Field(2, ge=0, le=1000, description="gated convolutions before the block")
    conv_width: int = Field(3, ge=1, description="words that a convolution sees")
    num_heads: int = Field(4, ge=1, description="attention heads, which the controller weights")
    expansion: float = Field(2.0, gt=0, description="expansion of the SwiGLU")
    arc_size: int = Field(64, ge=1, description="arc MLP dimension")
    label_size: int = Field(32, ge=1, description="label MLP dimension")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of embeddings and of the arc and label vectors")
    inner_dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the convolutions and of the block")
    word_dropout: float = Field(0.1, ge=0, lt=1, description="word dropout: probability of replacing a word by UNKNOWN")
    use_upos: bool = Field(False, description="give the parser the treebank's part-of-speech tags")
    encoder: str = Field("", description="pretrained encoder, hub name or path, or package:NAME; empty: none")
    encoder_layers: int = Field(4, ge=1, description="last layers of it that are averaged")
    encoder_pool: Literal["first", "mean"] = Field("mean", description="subword that stands for a word, or their mean")
    tag_weight: float = Field(0.2, ge=0, description="weight of the auxiliary POS-tagging loss; 0: tags are not read")
    block: Literal["pointer", "layers", "none"] = Field("pointer", description="routed and shared; plain layers; none")
    plain_layers: int = Field(0, ge=0, le=1000, description="layers of block layers; 0: as the arm needs")
    max_inner_iters: int = Field(3, ge=1, description="iterations of the block")
    input_injection: bool = Field(False, description="add the encoded words to the state before every iteration")
    activation_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    controller: Literal["static", "recurrent"] = Field("static", description="head weights from the state or a GRU")
    routing: Literal["soft", "topk", "gumbel"] = Field("soft", description="all heads, the best, or all with noise")
    top_k: int = Field(2, ge=1, description="heads that routing topk keeps")
    temperature: float = Field(1.0, gt=0, description="temperature of the controller's softmax")
    deep_supervision: bool = Field(False, description="a loss after every iteration")
    schedule: str = Field("ramp", description="loss weights over the iterations", examples=schedule_names())
    supervision_weight: float = Field(0.5, ge=0, le=10, description="weight of the iterations before the last")
    act_halting: bool = Field(False, description="expected loss over halting times (differentiable halting)")
    ponder_coef: float = Field(1e-3, ge=0, description="ponder cost per expected iteration in act_halting")
    halting_mode: Literal["fixed", "entropy", "halting"] = Field("fixed", description="when a parsed sentence stops")
    entropy_threshold: float = Field(1.0, ge=0, description="nats of routing entropy below which entropy stops")


class ParserConfig(ParserParams):
    """`ParserParams`, and what the treebank gives: the contents of config.json."""

    num_words: int = Field(2, ge=2, description="word ids")
    num_tags: int = Field(2, ge=2, description="tag ids")
    num_labels: int = Field(1, ge=1, description="labels of arcs")
    state_size: int = Field(0, ge=0, description="width of the pretrained encoder's states; 0: there are none")

    @classmethod
    def of(cls, params: ParserParams, vocabulary: Any, state_size: int = 0) -> Self:
        """The configuration in the chapter's parameters, for the vocabulary of a treebank."""
        words, tags = len(vocabulary.words) + 2, len(vocabulary.tags) + 2  # with PAD and UNKNOWN
        sizes = {"num_words": words, "num_tags": tags, "num_labels": len(vocabulary.labels), "state_size": state_size}
        return subset(cls, params, **sizes)


def shared_dropout(x: Tensor, prob: float, training: bool) -> Tensor:
    """Dropout of the same channels at every word of a sentence (Gal and Ghahramani, arXiv 1512.05287): (B, T, D)."""
    if not training or not prob:
        return x
    keep = torch.rand(len(x), 1, x.shape[-1], device=x.device, dtype=x.dtype) >= prob
    return x * (keep.to(x.dtype) / (1 - prob))


class GatedConvolution(nn.Module):
    """a * sigmoid(g), where a and g are linear in the `width` words around each (Dauphin et al., arXiv 1612.08083, here looking
    both ways). (B, T, D), mask (B, T, 1) -> (B, T, D)."""

    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.width = width
        self.proj = Linear(width * hidden_size, 2 * hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        padded = F.pad(x * mask, (0, 0, self.width // 2, self.width // 2))
        near = torch.cat([padded[:, i : i + x.shape[1]] for i in range(self.width)], -1)  # (B, T, width * D)
        return F.glu(self.proj(near), -1)


class WordEncoder(nn.Module):
    """Embeddings of word and affixes (and of tag, and a pretrained encoder's state), then gated convolutions: (B, T, D)."""

    def __init__(self, config: ParserConfig):
        super().__init__()
        D = config.hidden_size
        self.config = config
        self.words = nn.Embedding(config.num_words, D, padding_idx=PAD)
        self.affixes = nn.EmbeddingBag(AFFIX_ROWS, D, mode="sum", padding_idx=0)
        self.tags = nn.Embedding(config.num_tags, D, padding_idx=PAD) if config.use_upos else None
        self.states = Linear(config.state_size, D) if config.state_size else None
        for table, std in ((self.words, 0.5), (self.affixes, 0.25), (self.tags, 0.5)):
            if table is not None:
                nn.init.normal_(table.weight, std=std)
                table.weight.data[0] = 0
        self.layers = nn.ModuleList(GatedConvolution(D, config.conv_width) for _ in range(config.conv_layers))

    def forward(self, batch: dict[str, Tensor], mask: Tensor) -> Tensor:
        c, words = self.config, batch["words"]
        if self.training and c.word_dropout:
            hide = torch.rand(words.shape, device=words.device) < c.word_dropout
            words = words.masked_fill(hide & (words != PAD), UNKNOWN)
        known = self.words(words)
        rest = self.affixes(batch["affixes"].flatten(0, 1)).view_as(known)
        if self.tags:
            rest = rest + self.tags(batch["tags"])
        if self.states:
            rest = rest + self.states(batch["states"].to(known))
        x = shared_dropout(residual_norm(known, rest), c.dropout, self.training)
        for layer in self.layers:
            x = residual_norm(x, shared_dropout(layer(x, mask), c.inner_dropout, self.training))
        return x


class Controller(nn.Module):
    """Logits over the heads for each word, from its state (`static`) or from the memory of a GRU over the iterations
    (`recurrent`). (B, T, D), memory -> logits (B, T, N), memory (B, T, C) or None."""

    def __init__(self, config: ParserConfig):
        super().__init__()
        D, size = config.hidden_size, max(config.hidden_size // 4, 8)
        self.kind = config.controller
        self.cell = nn.GRUCell(D, size) if self.kind == "recurrent" else Linear(D, size)
        self.head = Linear(size, config.num_heads)

    def forward(self, z: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.kind == "static":
            return self.head(F.silu(self.cell(z))), None
        before = memory.flatten(0, 1) if memory is not None else None
        memory = self.cell(z.flatten(0, 1), before).view(*z.shape[:2], -1)
        return self.head(memory), memory


def route(logits: Tensor, kind: str, top_k: int, temperature: float, training: bool) -> Tensor:
    """Weights over the heads, which sum to one for each word: (..., N) -> (..., N). `soft`: softmax(logits / temperature);
    `topk`: the largest of these, rescaled, gradients as of soft (straight-through); `gumbel`: soft, with noise in training."""
    if kind == "gumbel" and training:
        logits = logits - torch.empty_like(logits).exponential_().log()
    soft = (logits / temperature).softmax(-1)
    if kind != "topk":
        return soft
    largest = soft.topk(min(top_k, soft.shape[-1]), -1)
    hard = torch.zeros_like(soft).scatter(-1, largest.indices, largest.values)
    hard = hard / hard.sum(-1, keepdim=True)
    return hard.detach() + (soft - soft.detach())


class PointerBlock(nn.Module):
    """One iteration: attention whose heads the controller weights, then a SwiGLU, each with a residual norm. `routed=False`: no
    controller, an ordinary transformer layer."""

    def __init__(self, config: ParserConfig, inner: int, routed: bool = True):
        super().__init__()
        D, self.config = config.hidden_size, config
        self.qkv_proj, self.o_proj = Linear(D, 3 * D), Linear(D, D)
        self.mlp = SwiGLU(D, inner)
        self.controller = Controller(config) if routed else None

    def forward(self, z: Tensor, mask: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """z (B, T, D), mask (B, T, 1) -> z after this iteration, the controller's memory, weights (B, T, N) or None."""
        B, T, D = z.shape
        c = self.config
        q, k, v = self.heads(z)
        seen = mask.bool().view(B, 1, 1, T)
        seen = seen | ~seen.any(-1, keepdim=True)  # a row without words, which fills up a batch, sees its padding
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        heads, weights = heads.transpose(1, 2), None  # (B, T, N, D / N)
        if self.controller:
            logits, memory = self.controller(z, memory)
            weights = route(logits, c.routing, c.top_k, c.temperature, self.training)
            heads = heads * (c.num_heads * weights).unsqueeze(-1)
        z = residual_norm(z, shared_dropout(self.o_proj(heads.reshape(B, T, D)), c.inner_dropout, self.training))
        return residual_norm(z, shared_dropout(self.mlp(z), c.inner_dropout, self.training)), memory, weights

    def heads(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys with rotary positions, and values: (B, N, T, D / N) each."""
        B, T, D = z.shape
        q, k, v = self.qkv_proj(z).view(B, T, 3, self.config.num_heads, -1).permute(2, 0, 3, 1, 4)
        cos, sin = (table.to(z.dtype) for table in rotary_table(T, D // self.config.num_heads, device=z.device))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def attention(self, z: Tensor) -> Tensor:
        """Attention of each head in one sentence without padding: z (1, T, D) -> (N, T, T), rows that sum to one."""
        q, k, _ = self.heads(z)
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)[0]


class Biaffine(nn.Module):
    """Scores of arcs and of labels from states: MLPs for heads and for dependents, then a bilinear form (Dozat and Manning,
    arXiv 1611.01734). Column 0 of the arcs is the root, which has vectors of its own."""

    def __init__(self, config: ParserConfig):
        super().__init__()
        D, A, L = config.hidden_size, config.arc_size, config.label_size
        self.sizes, self.dropout = (A, A, L, L), config.dropout
        self.mlps = nn.Linear(D, sum(self.sizes))
        self.root = nn.Parameter(torch.randn(A + L) * 0.1)
        self.arc = Linear(A, A)
        self.arc_bias = nn.Parameter(torch.zeros(A))
        self.label = nn.Parameter(torch.randn(L, config.num_labels * L) * L**-0.5 * 0.3)
        self.label_linear = nn.Linear(2 * L, config.num_labels)

    def forward(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, T, D) -> arcs (B, T, T + 1), -inf where the head is padding; label vectors of dependents (B, T, L) and of
        heads (B, T + 1, L)."""
        A, L = self.sizes[1:3]
        vectors = shared_dropout(F.silu(self.mlps(z)), self.dropout, self.training)
        dependent, head, label_dependent, label_head = vectors.split(self.sizes, -1)
        arc_root, label_root = self.root.expand(len(z), 1, -1).split((A, L), -1)
        head, label_head = torch.cat((arc_root, head), 1), torch.cat((label_root, label_head), 1)
        arcs = (self.arc(dependent) + self.arc_bias) @ head.mT * A**-0.5
        seen = F.pad(mask.squeeze(-1).bool(), (1, 0), value=True).unsqueeze(1)  # (B, 1, T + 1)
        return arcs.masked_fill(~seen, float("-inf")), label_dependent, label_head

    def labels(self, dependent: Tensor, head: Tensor, heads: Tensor) -> Tensor:
        """Logits of the labels of the arcs to `heads` (B, T), 0 for the root: (B, T, number of labels)."""
        B, T, L = dependent.shape
        chosen = head.gather(1, heads.clamp_min(0).unsqueeze(-1).expand(B, T, L))  # (B, T, L)
        pairs = ((dependent @ self.label).view(B, T, -1, L) @ chosen.unsqueeze(-1)).squeeze(-1)
        return pairs + self.label_linear(torch.cat((dependent, chosen), -1))


@dataclass
class Unrolled:
    """All S iterations of a parser on a batch."""

    mask: Tensor  # (B, T, 1): 1 for words, 0 for padding
    encoded: Tensor  # (B, T, D) before the first iteration
    states: list[Tensor]  # S of (B, T, D)
    weights: list[Tensor]  # S of (B, T, N): the controller's; none where nothing is routed
    halt_logits: Tensor  # (B, S)
    entropy: Tensor  # (B, S): of the controller's weights, nats, mean over the words


class Parser(nn.Module, PyTorchModelHubMixin):
    """See the top of this file. config: a `ParserConfig`, or a dict, as config.json stores it; vocabulary: also as a dict."""

    def __init__(self, config: ParserConfig | dict, vocabulary: dict | None = None):
        super().__init__()
        config = config if isinstance(config, ParserConfig) else ParserConfig(**config)
        self._hub_mixin_config = {"config": config.model_dump(), "vocabulary": vocabulary}
        self.config, self.vocabulary = config, vocabulary
        self.encoder = WordEncoder(config)
        self.num_iterations = config.max_inner_iters if config.block == "pointer" else 1
        self.blocks = make_blocks(config)
        self.score = Biaffine(config)
        act = config.act_halting and self.num_iterations > 1  # the expected loss alone teaches the halting head
        self.halt = halting.init_halting_head(nn.Linear(config.hidden_size, 1), self.num_iterations).requires_grad_(act)
        reads_tags = config.use_upos or not config.tag_weight
        self.tag = None if reads_tags else nn.Linear(config.hidden_size, config.num_tags)

    def injected(self, z: Tensor, x: Tensor | None) -> Tensor:
        """What an iteration begins with: the state, and with `input_injection` the encoded words x (None in the first)."""
        return residual_norm(z, x) if self.config.input_injection and x is not None else z

    def iterate(
        self, z: Tensor, x: Tensor | None, mask: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One iteration (where nothing is routed, all plain layers), as `PointerBlock.forward`; x: the encoded words, None in
        the first iteration, whose z they are."""
        z, weights = self.injected(z, x), None
        for block in self.blocks:
            block = checkpointed(block) if self.config.activation_checkpointing else block
            z, memory, weights = block(z, mask, memory)
        return z, memory, weights

    def halt_logit(self, z: Tensor, mask: Tensor) -> Tensor:
        """Logit of stopping after this iteration, from the mean state of the sentence's words. -> (B,)."""
        return self.halt((z * mask).sum(1) / mask.sum(1).clamp_min(1)).squeeze(-1)

    def unroll(self, batch: dict[str, Tensor], detail: bool = False) -> Unrolled:
        """All iterations, as in training. detail: keep the gradients of the states."""
        mask = self._mask(batch)
        z = x = self.encoder(batch, mask)
        states, weights, logits, memory = [], [], [], None
        for t in range(self.num_iterations):
            z, memory, routed = self.iterate(z, x if t else None, mask, memory)
            if detail and z.requires_grad:
                z.retain_grad()
            states.append(z)
            logits.append(self.halt_logit(z, mask))
            weights += [] if routed is None else [routed]
        entropies = [routing_entropy(routed, mask) for routed in weights] or [torch.zeros(len(z), device=z.device)]
        return Unrolled(mask, x, states, weights, torch.stack(logits, 1), torch.stack(entropies, 1))

    @property
    def halting_rule(self) -> halting.Rule | None:
        """The rule by which a sentence stops before the last iteration; None: it never does."""
        if self.config.halting_mode == "fixed" or self.config.block != "pointer":
            return None
        if self.config.halting_mode == "entropy":
            return halting.Rule("entropy", self.config.entropy_threshold)
        return halting.Rule("halt_probability", 0.5)

    def halting_steps(self, unrolled: Unrolled) -> Tensor:
        """Iterations after which each sentence stops by `halting_rule`: (B,) from 1 to S."""
        if (rule := self.halting_rule) is None:
            return torch.full((len(unrolled.encoded),), self.num_iterations, device=self.device)
        if rule.signal == "entropy":
            return rule.steps(unrolled.entropy)
        return rule.steps(1 - halting.log_reach(F.pad(unrolled.halt_logits, (0, 1))).exp()[:, 1:])

    def early_exit(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """States of each sentence where it stops (B, T, D), the mask (B, T, 1), iterations taken (B,). A sentence that stops
        leaves the batch: the iterations that it does not take are not computed."""
        mask = self._mask(batch)
        z = x = self.encoder(batch, mask)
        rule, final, memory = self.halting_rule, z.clone(), None
        active, active_mask = torch.arange(len(z), device=z.device), mask  # rows of the batch that still iterate
        steps, reach = torch.zeros_like(active), torch.ones(len(z), device=z.device)
        for t in range(1, self.num_iterations + 1):
            z, memory, weights = self.iterate(z, x if t > 1 else None, active_mask, memory)
            if t == self.num_iterations or rule is None:
                stop = torch.full_like(active, t == self.num_iterations, dtype=torch.bool)
            elif rule.signal == "entropy":
                stop = rule.halts(routing_entropy(weights, active_mask))
            else:
                reach = reach * (1 - self.halt_logit(z, active_mask).sigmoid())
                stop = rule.halts(1 - reach)
            final[active[stop]], steps[active[stop]] = z[stop], t
            if stop.all():
                break
            if stop.any():
                active, z, x = active[~stop], z[~stop], x[~stop]
                active_mask, reach = active_mask[~stop], reach[~stop]
                memory = memory[~stop] if memory is not None else None
        return final, mask, steps

    @property
    def device(self) -> torch.device:
        return self.halt.weight.device

    def _mask(self, batch: dict[str, Tensor]) -> Tensor:
        """1 for words, 0 for padding: (B, T, 1)."""
        return (batch["words"] != PAD).unsqueeze(-1).to(self.halt.weight.dtype)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """Cross-entropy of heads and labels in nats per word: of the last iteration, or of all as the configuration says.
        batch: words, tags, heads, labels (B, T), affixes (B, T, AFFIXES).

        L_t is the mean over a sentence's words after iteration t. Deep supervision weights the L_t by the schedule;
        differentiable halting takes their expectation over the halting times plus `ponder_coef` per expected step;
        both together are the mean of the two. Sentences count by their number of words.
        """
        c = self.config
        unrolled = self.unroll(batch, detail)
        every = c.deep_supervision or c.act_halting
        supervised = unrolled.states if every else unrolled.states[-1:]
        scored = [self._sentence_losses(z, batch, unrolled.mask) for z in supervised]
        losses = torch.stack([arc + label for arc, label, _ in scored], 1)  # (B, S), or (B, 1)
        by_words = partial(batch_mean, weights=number_of_words(batch), sums=batch.get("word_sum"))
        terms = [] if every else [losses[:, -1]]
        if c.deep_supervision:
            if c.schedule == ADAPTIVE:
                weights = adaptive_weights(losses, c.supervision_weight)
            else:
                weights = step_weights(c.schedule, self.num_iterations, c.supervision_weight)
            terms.append(weighted_step_loss(losses, torch.as_tensor(weights, device=losses.device)))
        if c.act_halting:
            terms.append(halting.expected_loss(losses, unrolled.halt_logits))
        steps = halting.expected_steps(unrolled.halt_logits)
        total = sum(terms) / len(terms) + (c.ponder_coef * steps if c.act_halting else 0)
        total = by_words(total)
        metrics = {"supervised_loss": total.detach()}
        if self.tag:
            tags = batch["tags"].masked_fill(batch["tags"] == PAD, IGNORE_INDEX)
            tagged = by_words(sequence_loss(self.tag(unrolled.encoded), tags))
            total = total + c.tag_weight * tagged
            metrics["tag_loss"] = tagged.detach()
        arc, label, right = scored[-1]
        metrics["total_loss"] = total.detach()
        for name, value in (("arc_loss", arc), ("label_loss", label), ("uas", right), ("expected_steps", steps)):
            metrics[name] = by_words(value.detach())
        if detail and every:
            for i, value in enumerate(losses.detach().unbind(1)):
                metrics[f"deep_supervision/step_{i}_loss"] = by_words(value)
        return StepOutput(total, None, metrics, intermediates=unrolled.states if detail else [])

    forward = loss

    def shared(self, batch: dict[str, Tensor], state: None = None) -> dict[str, Tensor]:
        """The number of words, which the loss is a mean over."""
        return {"word_sum": number_of_words(batch).sum()}

    def _sentence_losses(self, z: Tensor, batch: dict[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means over the words of each sentence (B,): cross-entropy of the head, of the label at the right head, and whether
        the best head is right."""
        arcs, dependent, head = self.score(z, mask)
        heads = batch["heads"]
        label_loss = softmax_cross_entropy(self.score.labels(dependent, head, heads), batch["labels"])
        right = (arcs.detach().argmax(-1) == heads).float()
        count = (heads != IGNORE_INDEX).sum(-1).clamp_min(1)
        return tuple(x.sum(-1) / count for x in (softmax_cross_entropy(arcs, heads), label_loss, right))


def number_of_words(batch: dict[str, Tensor]) -> Tensor:
    """Words of each sentence, (B,)."""
    return (batch["heads"] != IGNORE_INDEX).sum(-1).float()


def make_blocks(config: ParserConfig) -> nn.ModuleList:
    """The one block of all iterations, or plain layers in its place, each with as many parameters as the block."""
    D, inner = config.hidden_size, inner_width(config.hidden_size, config.expansion, 8)
    if config.block == "pointer":
        return nn.ModuleList([PointerBlock(config, inner)])
    if config.block == "layers":
        inner += round(sum(p.numel() for p in Controller(config).parameters()) / (3 * D))
        return nn.ModuleList(PointerBlock(config, inner, routed=False) for _ in range(config.plain_layers))
    return nn.ModuleList()


def routing_entropy(weights: Tensor, mask: Tensor) -> Tensor:
    """Entropy of the controller's weights in nats, mean over the words: weights (B, T, N), mask (B, T, 1) -> (B,)."""
    entropy = -(weights * weights.clamp_min(1e-12).log()).sum(-1, keepdim=True)  # (B, T, 1)
    return (entropy * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def parser_flops(config: ParserConfig, words: int, training: bool = False) -> int:
    """FLOPs of one sentence, all iterations; in training with the backward pass and a score per supervised iteration."""
    c, D, T, A, L = config, config.hidden_size, words, config.arc_size, config.label_size
    layers = {"pointer": 1, "layers": c.plain_layers, "none": 0}[c.block]
    iterations = c.max_inner_iters if c.block == "pointer" else 1
    encoder = c.conv_layers * c.conv_width * D * 2 * D + c.state_size * D
    with torch.device("meta"):  # shapes alone
        block = sum(p.numel() for p in make_blocks(c).parameters() if p.ndim == 2)
    iteration = block + layers * 2 * T * D  # with the scores of attention and what they weight
    score = D * 2 * (A + L) + A * A + (T + 1) * A + c.num_labels * (L * L + L + 2 * L)
    tag = D * c.num_tags if training and c.tag_weight and not c.use_upos else 0
    scored = iterations if training and (c.deep_supervision or c.act_halting) else 1
    forward = 2 * T * (encoder + iterations * iteration + scored * score + tag)
    return 3 * forward if training else forward
