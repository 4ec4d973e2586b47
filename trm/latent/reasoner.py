"""A tiny recursive model that thinks for a language model: it reads the states of a prompt and writes a few latents.

Different from a TRM on puzzles: the recursion runs over the `num_latents` positions of the answer alone. The prompt, tens of
tokens, is read once: every block keeps its keys and values, at which the latents look each time (`FixedContext`). States come
in through a compressor of the model's states, and what a latent wants to say goes out through one of its token embeddings
(`trm.compressor.model`); both are closed forms, found before training, and part of the file. What enters the language model is
a mixture of the embeddings of its `words`, each by how near it is (soft thinking, arXiv 2505.15778): near one word it is that
word, which the model knows how to read. What the latents are worth is decided in `trm.latent.thinker`.
"""

import io
import math
from abc import ABC, abstractmethod
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from trm import halting
from trm.compressor.model import Compressor
from trm.errors import UserError
from trm.latent.data import NOT_LEARNED
from trm.layers import Block, FixedContext, Linear, truncated_normal_
from trm.recursion import recurse

SHIPPED_REASONER = Path(__file__).parent.parent / "pretrained" / "latent_reasoner"


@dataclass(frozen=True)
class ReasonerConfig:
    """Everything that defines a reasoner."""

    lm_size: int = 192  # width of the language model's states and embeddings
    layer: int = 2  # whose states are read
    ending: str = ";"  # what its chains end with
    d_compressed: int = 96  # numbers that a state comes in by, and a latent goes out by
    num_latents: int = 6
    num_words: int = 1  # tokens that a latent is a mixture of
    sharpness: float = 20.0  # logit of a word: this times the cosine
    notes: int = 3  # what else is read from each latent in training: operation, number, total before
    seq_len: int = 256  # latents and prompt together
    hidden_size: int = 96
    num_layers: int = 1
    num_heads: int = 4
    expansion: float = 4.0
    inner_multiple: int = 8
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    H_cycles: int = 4
    L_cycles: int = 1
    halt_max_steps: int = 1  # supervision steps, the state detached between them
    backprop: str = "full"
    halting: str = "none"  # none, or act: the expected loss over all thoughts
    answers_by: str = "lm"  # who answers: the language model, or itself: the last latent

    @classmethod
    def of(cls, params: Any, **known: int) -> Self:
        """The configuration in a chapter's parameters, and what its language model decides."""
        return cls(**{f.name: getattr(params, f.name) for f in fields(cls) if hasattr(params, f.name)} | known)


class Latents(nn.Module, PyTorchModelHubMixin, ABC):
    """What all that writes latents for a language model has in common: the words that it knows.

    Args:
        config: a `ReasonerConfig`, or the same as a dict (which is how config.json stores it).

    Raises:
        UserError: no latents.
    """

    def __init__(self, config: ReasonerConfig | dict):
        super().__init__()
        self.config = c = config if isinstance(config, ReasonerConfig) else ReasonerConfig(**config)
        if c.num_latents < 1:
            raise UserError(f"num_latents = {c.num_latents}: at least one latent is written")
        self.register_buffer("ids", torch.zeros(c.num_words, dtype=torch.long))  # of the words, rising
        self.register_buffer("words", torch.zeros(c.num_words, c.lm_size))  # their embeddings

    def begin(self, ids: Tensor, embeddings: Tensor) -> None:
        """Take the words: token ids (W,), rising, among all embeddings (V, D)."""
        self.ids.copy_(ids)
        self.words.copy_(embeddings[ids].float())

    def labels(self, tokens: Tensor) -> Tensor:
        """Token ids to places among the words; `NOT_LEARNED` for what is none of them, or negative."""
        places = torch.searchsorted(self.ids, tokens.clamp_min(0)).clamp_max(len(self.ids) - 1)
        return torch.where(self.ids[places] == tokens, places, NOT_LEARNED)

    @abstractmethod
    def think(self, states: Tensor, mask: Tensor, H_cycles: int = 0) -> list[Tensor]:
        """States (B, T, d_compressed) of prompts, mask (B, T) -> the thought after each cycle, (B, num_latents, ...) each."""

    @abstractmethod
    def latents(self, thought: Tensor) -> Tensor:
        """What of a thought enters the language model: (B, num_latents, lm_size)."""

    def depth(self, thoughts: list[Tensor]) -> Tensor:
        """After which thought to stop, from 1; at the last, unless something else was learned. -> (B,)."""
        return torch.full((len(thoughts[0]),), len(thoughts), device=thoughts[0].device)

    def chosen(self, thoughts: list[Tensor]) -> Tensor:
        """The thought at which each prompt stops."""
        depth = self.depth(thoughts)
        return torch.stack(thoughts, 1)[torch.arange(len(depth), device=depth.device), depth - 1]

    def save_pretrained(self, save_directory, **kwargs):
        """Write model.safetensors and config.json into `save_directory`."""
        return super().save_pretrained(save_directory, config=asdict(self.config), **kwargs)


class LatentReasoner(Latents):
    """See the top of this file."""

    def __init__(self, config: ReasonerConfig | dict):
        super().__init__(config)
        c = self.config
        D, sizes = c.hidden_size, (c.expansion, c.inner_multiple, c.num_heads, c.norm_eps, c.rope_theta)
        self.reads = Compressor(c.lm_size, c.d_compressed, "affine").requires_grad_(False)
        self.writes = Compressor(c.lm_size, c.d_compressed, "affine").requires_grad_(False)
        self.project = Linear(c.d_compressed, D)
        self.places = nn.Parameter(truncated_normal_(torch.empty(c.num_latents, D), 1.0))  # which latent is which
        self.blocks = nn.ModuleList(Block(D, c.seq_len, "attention", *sizes) for _ in range(c.num_layers))
        self.out = Linear(D, (1 + c.notes) * c.d_compressed)
        self.register_buffer("H_init", truncated_normal_(torch.empty(D), 1.0))
        self.register_buffer("L_init", truncated_normal_(torch.empty(D), 1.0))
        if c.halting == "act":
            self.q_head = nn.Linear(D, 1)
            nn.init.zeros_(self.q_head.weight)
            nn.init.constant_(
                self.q_head.bias, -math.log(max(c.halt_max_steps * c.H_cycles - 1, 1))
            )  # each has a chance

    def think(self, states: Tensor, mask: Tensor, H_cycles: int = 0) -> list[Tensor]:
        """The thought z_H after each H-cycle of each supervision step.

        Args:
            states: (B, T, d_compressed), the states of the prompts as `reads` compresses them. mask: (B, T), where there is a
                token; pads come last.
            H_cycles: cycles of a step, where not as many as in training.

        Returns:
            halt_max_steps * H_cycles tensors (B, num_latents, hidden_size).

        Raises:
            UserError: a prompt longer than `seq_len` allows.
        """
        c = self.config
        if c.num_latents + states.shape[1] > c.seq_len:
            raise UserError(
                f"a prompt of {states.shape[1]} tokens and {c.num_latents} latents exceed seq_len {c.seq_len}"
            )
        x = F.rms_norm(self.project(states), (c.hidden_size,))
        context = FixedContext([block.mixer for block in self.blocks], x, mask.bool(), c.num_latents)
        net, places = partial(self._apply_blocks, context=context), self.places.expand(len(x), -1, -1)
        z_H, z_L, thoughts = self.H_init.expand_as(places), self.L_init.expand_as(places), []
        for _ in range(c.halt_max_steps):
            found, z_L = recurse(
                net, places, z_H.detach(), z_L.detach(), H_cycles or c.H_cycles, c.L_cycles, c.backprop
            )
            thoughts += found
            z_H = found[-1]
        return thoughts

    def logits(self, thought: Tensor) -> Tensor:
        """How near each latent, and each of its notes, is to each word: (B, n, hidden_size) -> (B, n, 1 + notes, W)."""
        wanted = self.writes.decompress(self.out(thought).unflatten(-1, (1 + self.config.notes, -1)))
        return self.config.sharpness * (F.normalize(wanted.float(), dim=-1) @ F.normalize(self.words, dim=-1).T)

    def latents(self, thought: Tensor) -> Tensor:
        """As `Latents.latents`: the words, mixed."""
        return self.mixed(self.logits(thought))

    def mixed(self, logits: Tensor) -> Tensor:
        """What the language model is given, without the notes: (B, n, 1 + notes, W) -> (B, n, lm_size)."""
        return logits[:, :, 0].softmax(-1) @ self.words

    def halt_logits(self, thoughts: list[Tensor]) -> Tensor:
        """Logits of "stop after this thought". n of (B, num_latents, D) -> (B, n)."""
        return torch.cat([self.q_head(z.mean(1)) for z in thoughts], -1)

    def depth(self, thoughts: list[Tensor]) -> Tensor:
        """After which thought to stop, from 1: where act learned it, else at the last. -> (B,)."""
        if self.config.halting != "act":
            return super().depth(thoughts)
        probability = -torch.expm1(F.logsigmoid(-self.halt_logits(thoughts).float()).cumsum(-1))
        return halting.TAUGHT["act"].steps(probability)

    def _apply_blocks(self, z: Tensor, context: FixedContext) -> Tensor:
        for block in self.blocks:
            z = block(z, context)
        return z


class Pause(Latents):
    """The same few vectors for every prompt, learned: more room to compute in, and no thought (arXiv 2310.02226)."""

    def __init__(self, config: ReasonerConfig | dict):
        super().__init__(config)
        self.vectors = nn.Parameter(truncated_normal_(torch.empty(self.config.num_latents, self.config.lm_size), 1.0))

    def begin(self, ids: Tensor, embeddings: Tensor) -> None:
        """As `Latents.begin`; the vectors begin as long as words are."""
        super().begin(ids, embeddings)
        self.vectors.data *= self.words.square().mean().sqrt()

    def think(self, states: Tensor, mask: Tensor, H_cycles: int = 0) -> list[Tensor]:
        """The vectors, (B, num_latents, lm_size), whatever the prompts."""
        return [self.vectors.expand(len(states), -1, -1)]

    def latents(self, thought: Tensor) -> Tensor:
        """The vectors themselves."""
        return thought


def load_reasoner(folder: str | Path, lm_size: int, pause: bool = False) -> Latents:
    """A reasoner, or pause vectors, that a run saved or that ships.

    Raises:
        UserError: the folder holds none, or one for a language model of another width.
    """
    kind = Pause if pause else LatentReasoner
    try:
        with redirect_stdout(io.StringIO()):  # the mixin announces itself
            found = kind.from_pretrained(Path(folder).expanduser(), strict=True)
    except Exception as error:  # safetensors, json and the hub's mixin each raise their own
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{folder} holds no latent reasoner ({why}); give the folder model/ of a run of chapter 07"
        ) from None
    if found.config.lm_size != lm_size:
        raise UserError(
            f"{folder} holds a reasoner for a language model of width {found.config.lm_size}, and this one has {lm_size}"
        )
    return found.eval()
