"""A dependency parser whose attention heads are routed by a controller and applied again and again: Pointer-over-Heads.

    words -> `WordEncoder` -> x -> `PointerBlock`, max_inner_iters times -> z_1, z_2, ... -> `Biaffine` on each of them

One block of attention, with its own feed-forward, is shared by all iterations. Its heads are not summed alike: a controller
gives each word weights over the heads, and in the next iteration others. After every iteration the same biaffine scorer
(Dozat and Manning, arXiv 1611.01734) can say the tree, so that each iteration can be supervised, and the reader can stop.

Padding is masked everywhere: a sentence is parsed alone as it is in a batch.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from trm import halting
from trm.checkpoint import load_pretrained
from trm.layers import Linear, SwiGLU, inner_width, residual_norm, rotary_table, rotate
from trm.losses import IGNORE_INDEX, sequence_loss, softmax_cross_entropy
from trm.parsing.parser_parts import Biaffine, ParserConfig, SharedDropout, WordEncoder
from trm.parsing.words import PAD
from trm.protocol import StepOutput
from trm.supervision import ADAPTIVE, adaptive_weights, batch_mean, step_weights, weighted_step_loss


class Controller(nn.Module):
    """Logits over the heads for each word: from its state (`static`), or from a memory of its own that a GRU carries from
    iteration to iteration (`recurrent`). (B, T, D), memory -> logits (B, T, N), memory (B, T, C) or None.
    """

    def __init__(self, hidden_size: int, num_heads: int, kind: str):
        super().__init__()
        size = max(hidden_size // 4, 8)
        self.kind = kind
        self.cell = nn.GRUCell(hidden_size, size) if kind == "recurrent" else Linear(hidden_size, size)
        self.head = Linear(size, num_heads)

    def forward(self, z: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.kind == "static":
            return self.head(F.silu(self.cell(z))), None
        before = memory.flatten(0, 1) if memory is not None else None
        memory = self.cell(z.flatten(0, 1), before).view(*z.shape[:2], -1)
        return self.head(memory), memory


def route(logits: Tensor, kind: str, top_k: int, temperature: float, training: bool) -> Tensor:
    """Weights over the heads, each word's summing to one: (..., N) -> (..., N).

    `soft`: softmax(logits / temperature). `topk`: the `top_k` largest of these alone, rescaled; gradients as if all had been
    used (straight-through). `gumbel`: soft, with Gumbel noise on the logits in training and none in evaluation.
    """
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
    """One iteration: attention whose heads are weighted by the controller, then a SwiGLU, each with a residual norm.

    (B, T, D) -> (B, T, D). With the controller's weights all alike it is an ordinary transformer layer (`routed=False`).
    """

    def __init__(self, config: ParserConfig, inner: int, routed: bool = True):
        super().__init__()
        D, self.config = config.hidden_size, config
        self.qkv_proj, self.o_proj = Linear(D, 3 * D), Linear(D, D)
        self.mlp = SwiGLU(D, inner)
        self.controller = Controller(D, config.num_heads, config.controller) if routed else None
        self.drop = SharedDropout(config.inner_dropout)

    def forward(self, z: Tensor, mask: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """z (B, T, D), mask (B, T, 1) -> z after this iteration, the controller's memory, weights (B, T, N) or None."""
        B, T, D = z.shape
        c = self.config
        q, k, v = self._heads(z)
        seen = mask.bool().view(B, 1, 1, T)
        seen = seen | ~seen.any(-1, keepdim=True)  # a row without words, which fills up a batch, sees its padding
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        heads, weights = heads.transpose(1, 2), None  # (B, T, N, D / N)
        if self.controller is not None:
            logits, memory = self.controller(z, memory)
            weights = route(logits, c.routing, c.top_k, c.temperature, self.training)
            heads = heads * (c.num_heads * weights).unsqueeze(-1)
        z = residual_norm(z, self.drop(self.o_proj(heads.reshape(B, T, D))))
        return residual_norm(z, self.drop(self.mlp(z))), memory, weights

    def _heads(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned by their positions, and values: (B, N, T, D / N) each."""
        B, T, D = z.shape
        q, k, v = self.qkv_proj(z).view(B, T, 3, self.config.num_heads, -1).permute(2, 0, 3, 1, 4)
        cos, sin = (table.to(z.dtype) for table in rotary_table(T, D // self.config.num_heads, device=z.device))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def attention(self, z: Tensor) -> Tensor:
        """Where each head looks, for one sentence without padding: z (1, T, D) -> (N, T, T), rows that sum to one."""
        q, k, _ = self._heads(z)
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)[0]


@dataclass
class Thoughts:
    """What a parser thought of a batch: the encoder's states, and for each of S iterations what came of it."""

    mask: Tensor  # (B, T, 1): 1 for words, 0 for padding
    encoded: Tensor  # (B, T, D) before the first iteration
    states: list[Tensor]  # S of (B, T, D)
    weights: list[Tensor]  # S of (B, T, N): the controller's; none where nothing is routed
    halt_logits: Tensor  # (B, S)
    entropy: Tensor  # (B, S): of the controller's weights, nats, mean over the words


class Parser(nn.Module, PyTorchModelHubMixin):
    """See the top of this file. `save_pretrained` and `from_pretrained` keep it as safetensors and JSON, its words included.

    Args:
        config: a `ParserConfig`, or the same as a dict (which is how config.json stores it).
        vocabulary: a `Vocabulary` as a dict, kept beside the weights; a parser without one takes numbers only.
    """

    def __init__(self, config: ParserConfig | dict, vocabulary: dict | None = None):
        super().__init__()
        config = config if isinstance(config, ParserConfig) else ParserConfig(**config)
        self._hub_mixin_config = {"config": asdict(config), "vocabulary": vocabulary}
        self.config, self.vocabulary = config, vocabulary
        D = config.hidden_size
        self.encoder = WordEncoder(config)
        self.num_iterations = config.max_inner_iters if config.block == "pointer" else 1
        self.blocks = nn.ModuleList(self._blocks(config))
        self.score = Biaffine(config)
        self.halt = nn.Linear(D, 1).requires_grad_(
            config.act_halting and self.num_iterations > 1
        )  # nothing else teaches it
        self.tag = None if config.use_upos or not config.tag_weight else nn.Linear(D, config.num_tags)

    @staticmethod
    def _blocks(config: ParserConfig) -> list[PointerBlock]:
        """The one block of all iterations, or the plain layers that stand in its place, each with as many parameters."""
        D, inner = config.hidden_size, inner_width(config.hidden_size, config.expansion, 8)
        if config.block == "none":
            return []
        if config.block == "pointer":
            return [PointerBlock(config, inner)]
        controller = sum(p.numel() for p in Controller(D, config.num_heads, config.controller).parameters())
        return [
            PointerBlock(config, inner + round(controller / (3 * D)), routed=False) for _ in range(config.plain_layers)
        ]

    def think(self, batch: dict[str, Tensor], detail: bool = False) -> Thoughts:
        """All iterations, as in training. detail: keep the gradients of the states."""
        mask = self._mask(batch)
        z = x = self.encoder(batch, mask)
        states, weights, logits, entropies, memory = [], [], [], [], None
        for _ in range(self.num_iterations):
            z, memory, routed = self.iterate(z, mask, memory)
            if detail and z.requires_grad:
                z.retain_grad()
            states.append(z)
            logits.append(self.halt_logit(z, mask))
            if routed is not None:
                weights.append(routed)
                entropies.append(routing_entropy(routed, mask))
        entropy = torch.stack(entropies, 1) if entropies else torch.zeros(len(z), self.num_iterations, device=z.device)
        return Thoughts(mask, x, states, weights, torch.stack(logits, 1), entropy)

    def steps(self, thoughts: Thoughts) -> Tensor:
        """Iterations after which each sentence stops, as `halting_mode` says: (B,) from 1 to S."""
        rule = self.rule
        if rule is None:
            return torch.full((len(thoughts.encoded),), self.num_iterations, device=self.device)
        if rule.signal == "entropy":
            return rule.steps(thoughts.entropy)
        return rule.steps(1 - halting.log_reach(F.pad(thoughts.halt_logits, (0, 1))).exp()[:, 1:])

    def settle(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """States of each sentence where it stops (B, T, D), the mask (B, T, 1), iterations taken (B,).

        A sentence that stops leaves the batch: the iterations that it does not take are not computed.
        """
        mask = self._mask(batch)
        z = self.encoder(batch, mask)
        rule, settled, memory = self.rule, z.clone(), None
        alive = torch.arange(len(z), device=z.device)
        steps, reach = torch.zeros_like(alive), torch.ones(len(z), device=z.device)
        here = mask
        for t in range(1, self.num_iterations + 1):
            z, memory, weights = self.iterate(z, here, memory)
            if t == self.num_iterations or rule is None:
                stop = torch.full_like(alive, t == self.num_iterations, dtype=torch.bool)
            elif rule.signal == "entropy":
                stop = rule.halts(routing_entropy(weights, here))
            else:
                reach = reach * (1 - self.halt_logit(z, here).sigmoid())
                stop = rule.halts(1 - reach)
            settled[alive[stop]], steps[alive[stop]] = z[stop], t
            if stop.any() and not stop.all():
                alive, z, here, reach = alive[~stop], z[~stop], here[~stop], reach[~stop]
                memory = memory[~stop] if memory is not None else None
            elif stop.all():
                break
        return settled, mask, steps

    @property
    def rule(self) -> halting.Rule | None:
        """The rule by which a sentence stops before the last iteration; None: none does."""
        if self.config.halting_mode == "fixed" or self.config.block != "pointer":
            return None
        if self.config.halting_mode == "entropy":
            return halting.Rule("entropy", self.config.entropy_threshold)
        return halting.Rule("halt_probability", 0.5)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.halt.weight.device

    def _mask(self, batch: dict[str, Tensor]) -> Tensor:
        """1 for words, 0 for padding: (B, T, 1)."""
        return (batch["words"] != PAD).unsqueeze(-1).to(self.halt.weight.dtype)

    def iterate(self, z: Tensor, mask: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """One iteration; where nothing is routed, all plain layers one after the other."""
        weights = None
        for block in self.blocks:
            z, memory, weights = block(z, mask, memory)
        return z, memory, weights

    def halt_logit(self, z: Tensor, mask: Tensor) -> Tensor:
        """Logit of stopping after this iteration, from the mean state of the sentence's words. -> (B,)."""
        return self.halt((z * mask).sum(1) / mask.sum(1).clamp_min(1)).squeeze(-1)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """Cross-entropy of heads and labels, nats a word: of the last iteration, or of all as the configuration says.

        batch: words, tags, heads, labels (B, T), affixes (B, T, AFFIXES); see `trm.parsing.words`.

        A sentence's loss after iteration t is L_t, the mean over its words. Deep supervision weighs them by the schedule;
        differentiable halting takes their expectation over the halting times plus `ponder_coef` for each expected step;
        both together are the mean of the two. Sentences count by their number of words.
        """
        c = self.config
        thoughts = self.think(batch, detail)
        every = c.deep_supervision or c.act_halting
        scored = [
            self._sentence_losses(z, batch, thoughts.mask) for z in (thoughts.states if every else thoughts.states[-1:])
        ]
        losses = torch.stack([arc + label for arc, label, _ in scored], 1)  # (B, S), or (B, 1)
        words = (batch["heads"] != IGNORE_INDEX).sum(-1).float()  # (B,)
        terms = [losses[:, -1]]
        if every:
            deep = weighted_step_loss(losses, self._weights(losses))
            terms = [deep] if c.deep_supervision else []
            if c.act_halting:
                terms.append(halting.expected_loss(losses, thoughts.halt_logits))
        total = sum(terms) / len(terms)
        steps = halting.expected_steps(thoughts.halt_logits)
        if c.act_halting:
            total = total + c.ponder_coef * steps
        total = batch_mean(total, words)
        metrics = {"supervised_loss": total.detach()}
        if self.tag is not None:
            tags = batch["tags"].masked_fill(batch["tags"] == PAD, IGNORE_INDEX)
            tagged = batch_mean(sequence_loss(self.tag(thoughts.encoded), tags), words)
            total = total + c.tag_weight * tagged
            metrics["tag_loss"] = tagged.detach()
        arc, label, right = scored[-1]
        metrics |= {"total_loss": total.detach()}
        for name, value in (("arc_loss", arc), ("label_loss", label), ("uas", right), ("expected_steps", steps)):
            metrics[name] = batch_mean(value.detach(), words)
        if detail and every:
            for i, value in enumerate(losses.detach().unbind(1)):
                metrics[f"deep_supervision/step_{i}_loss"] = batch_mean(value, words)
        return StepOutput(total, None, metrics, intermediates=thoughts.states if detail else [])

    forward = loss

    def _weights(self, losses: Tensor) -> Tensor:
        """Weights of the iterations, by the schedule: (S,), or (B, S) where it follows the losses (B, S)."""
        c = self.config
        if c.schedule == ADAPTIVE:
            return adaptive_weights(losses, c.supervision_weight)
        return torch.tensor(step_weights(c.schedule, self.num_iterations, c.supervision_weight), device=losses.device)

    def _sentence_losses(self, z: Tensor, batch: dict[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means over the words of each sentence: cross-entropy of the head, of the label at the right head, and whether the
        best head is right. Each (B,)."""
        arcs, dependent, head = self.score(z, mask)
        heads, labels = batch["heads"], batch["labels"]
        count = (heads != IGNORE_INDEX).sum(-1).clamp_min(1)
        label_logits = self.score.labels(dependent, head, heads)
        arc_loss, label_loss = softmax_cross_entropy(arcs, heads), softmax_cross_entropy(label_logits, labels)
        right = (arcs.detach().argmax(-1) == heads).float()
        return tuple(x.sum(-1) / count for x in (arc_loss, label_loss, right))


def routing_entropy(weights: Tensor, mask: Tensor) -> Tensor:
    """Entropy of the controller's weights in nats, mean over the words: weights (B, T, N), mask (B, T, 1) -> (B,)."""
    entropy = -(weights * weights.clamp_min(1e-12).log()).sum(-1, keepdim=True)  # (B, T, 1)
    return (entropy * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def parser_flops(config: ParserConfig, words: int, training: bool = False) -> int:
    """A parser on one sentence of so many words, all iterations; in training with the backward pass, and with a score for each
    supervised iteration."""
    c, D, T = config, config.hidden_size, words
    with torch.device("meta"):  # shapes alone
        parser = Parser(config)
    weights = sum(p.numel() for name, p in parser.blocks.named_parameters() if p.ndim == 2)
    layers = max(len(parser.blocks), 1)
    encoder = c.conv_layers * c.conv_width * D * 2 * D + c.state_size * D
    iteration = weights + layers * 2 * T * D if parser.blocks else 0  # the scores of attention and what they weigh
    A, L = c.arc_size, c.label_size
    score = D * 2 * (A + L) + A * A + (T + 1) * A + c.num_labels * (L * L + L + 2 * L)
    tag = D * c.num_tags if training and parser.tag is not None else 0
    scored = parser.num_iterations if training and (c.deep_supervision or c.act_halting) else 1
    forward = 2 * T * (encoder + parser.num_iterations * iteration + scored * score + tag)
    return 3 * forward if training else forward


def load_parser(folder: str | Path, device: str = "cpu") -> Parser:
    """The parser that `save_pretrained` wrote into `folder`, with its words. Errors as in `checkpoint.load_pretrained`."""
    return load_pretrained(Parser, folder, device)
