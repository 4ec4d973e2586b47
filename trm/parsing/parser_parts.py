"""What surrounds the iterations of the parser: its configuration, the encoder of words before them, the scorer after each.

words -> `WordEncoder` -> x (B, T, D);    z (B, T, D) -> `Biaffine` -> scores of arcs and labels
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.layers import Linear, residual_norm
from trm.parsing.words import AFFIX_ROWS, PAD, UNKNOWN


@dataclass(frozen=True)
class ParserConfig:
    """Everything that defines a parser and how its loss is weighed."""

    num_words: int = 2
    num_tags: int = 2
    num_labels: int = 1
    hidden_size: int = 256
    conv_layers: int = 3
    conv_width: int = 5
    num_heads: int = 8
    expansion: float = 2.0
    arc_size: int = 256
    label_size: int = 64
    dropout: float = 0.33
    inner_dropout: float = 0.1
    word_dropout: float = 0.1
    use_upos: bool = False
    encoder: str = ""  # pretrained encoder whose states the batch brings; empty: none
    encoder_layers: int = 4
    encoder_pool: str = "mean"
    state_size: int = 0  # of its states
    tag_weight: float = 0.2
    block: str = "pointer"
    plain_layers: int = 1
    max_inner_iters: int = 3
    controller: str = "static"
    routing: str = "soft"
    top_k: int = 2
    temperature: float = 1.0
    deep_supervision: bool = False
    schedule: str = "ramp"
    supervision_weight: float = 0.5
    act_halting: bool = False
    ponder_coef: float = 1e-3
    halting_mode: str = "fixed"
    entropy_threshold: float = 1.0

    @classmethod
    def of(cls, params: Any, vocabulary: Any, state_size: int = 0) -> Self:
        """The configuration in the chapter's parameters, for a vocabulary that the treebank gives."""
        known = {f.name: getattr(params, f.name) for f in fields(cls) if hasattr(params, f.name)}
        sizes = {"num_words": len(vocabulary.words) + 2, "num_tags": len(vocabulary.tags) + 2, "state_size": state_size}
        return cls(**known | sizes | {"num_labels": len(vocabulary.labels)})


class SharedDropout(nn.Module):
    """Dropout that drops the same channels at every word of a sentence (Gal and Ghahramani, arXiv 1512.05287). (B, T, D)."""

    def __init__(self, prob: float):
        super().__init__()
        self.prob = prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.prob:
            return x
        keep = torch.rand(len(x), 1, x.shape[-1], device=x.device, dtype=x.dtype) >= self.prob
        return x * (keep.to(x.dtype) / (1 - self.prob))


class GatedConvolution(nn.Module):
    """x + a * sigmoid(g), where a and g are linear in the `width` words about each; then a norm. (B, T, D) -> (B, T, D).

    Source: Dauphin et al., arXiv 1612.08083, here looking both ways.
    """

    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.width = width
        self.proj = Linear(width * hidden_size, 2 * hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        padded = F.pad(x * mask, (0, 0, self.width // 2, self.width // 2))
        near = torch.cat([padded[:, i : i + x.shape[1]] for i in range(self.width)], -1)  # (B, T, width * D)
        return F.glu(self.proj(near), -1)


class WordEncoder(nn.Module):
    """What each word is and what stands near it: embeddings of word, affixes (and tag), then gated convolutions.

    batch -> (B, T, D).
    """

    def __init__(self, config: ParserConfig):
        super().__init__()
        D = config.hidden_size
        self.word_dropout = config.word_dropout
        self.words = nn.Embedding(config.num_words, D, padding_idx=PAD)
        self.affixes = nn.EmbeddingBag(AFFIX_ROWS, D, mode="sum", padding_idx=0)
        self.tags = nn.Embedding(config.num_tags, D, padding_idx=PAD) if config.use_upos else None
        self.states = Linear(config.state_size, D) if config.state_size else None
        for table, std in ((self.words, 0.5), (self.affixes, 0.25), (self.tags, 0.5)):
            if table is not None:
                nn.init.normal_(table.weight, std=std)
                table.weight.data[0] = 0
        self.layers = nn.ModuleList(GatedConvolution(D, config.conv_width) for _ in range(config.conv_layers))
        self.drop, self.inner_drop = SharedDropout(config.dropout), SharedDropout(config.inner_dropout)

    def forward(self, batch: dict[str, Tensor], mask: Tensor) -> Tensor:
        words = batch["words"]
        if self.training and self.word_dropout:
            hide = torch.rand(words.shape, device=words.device) < self.word_dropout
            words = words.masked_fill(hide & (words != PAD), UNKNOWN)
        known = self.words(words)
        rest = self.affixes(batch["affixes"].flatten(0, 1)).view_as(known)
        if self.tags is not None:
            rest = rest + self.tags(batch["tags"])
        if self.states is not None:
            rest = rest + self.states(batch["states"].to(known))
        x = self.drop(residual_norm(known, rest))
        for layer in self.layers:
            x = residual_norm(x, self.inner_drop(layer(x, mask)))
        return x


class Biaffine(nn.Module):
    """Scores of arcs and of labels from states: MLPs for heads and for dependents, then a bilinear form (arXiv 1611.01734).

    Column 0 of the arcs is the root, which has vectors of its own.
    """

    def __init__(self, config: ParserConfig):
        super().__init__()
        D, A, L = config.hidden_size, config.arc_size, config.label_size
        self.sizes, self.num_labels = (A, A, L, L), config.num_labels
        self.mlps = nn.Linear(D, sum(self.sizes))
        self.root = nn.Parameter(torch.randn(A + L) * 0.1)
        self.arc = Linear(A, A)
        self.arc_bias = nn.Parameter(torch.zeros(A))
        self.label = nn.Parameter(torch.randn(L, config.num_labels * L) * L**-0.5 * 0.3)
        self.label_linear = nn.Linear(2 * L, config.num_labels)
        self.drop = SharedDropout(config.dropout)

    def forward(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, T, D) -> arcs (B, T, T + 1), -inf where the head is padding; label vectors of dependents (B, T, L) and of
        heads (B, T + 1, L)."""
        A, _, L, _ = self.sizes
        dependent, head, label_dependent, label_head = self.drop(F.silu(self.mlps(z))).split(self.sizes, -1)
        arc_root, label_root = self.root.expand(len(z), 1, -1).split((A, L), -1)
        head = torch.cat((arc_root, head), 1)  # (B, T + 1, A)
        label_head = torch.cat((label_root, label_head), 1)
        arcs = (self.arc(dependent) + self.arc_bias) @ head.mT * A**-0.5
        seen = F.pad(mask.squeeze(-1).bool(), (1, 0), value=True).unsqueeze(1)  # (B, 1, T + 1)
        return arcs.masked_fill(~seen, float("-inf")), label_dependent, label_head

    def labels(self, dependent: Tensor, head: Tensor, heads: Tensor) -> Tensor:
        """Logits of the labels of the arcs to `heads` (B, T), 0 for the root: (B, T, number of labels)."""
        B, T, L = dependent.shape
        chosen = head.gather(1, heads.clamp_min(0).unsqueeze(-1).expand(B, T, L))  # (B, T, L)
        pairs = ((dependent @ self.label).view(B, T, self.num_labels, L) @ chosen.unsqueeze(-1)).squeeze(-1)
        return pairs + self.label_linear(torch.cat((dependent, chosen), -1))
