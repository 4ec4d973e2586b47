"""The body of a recursive language model: embeddings, thinking with causal attention, and when to stop.

Different from a TRM on puzzles: a batch begins with no thought, and `think` takes all its supervision steps at once (batches of
text differ in length, so that no row can stay behind). For comparison the same blocks serve in a loop or in a row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm import halting, supervision
from trm.layers import Block, KeyValueCache, Linear, inner_width, truncated_normal_
from trm.recursion import recurse


@dataclass(frozen=True)
class LMConfig:
    """Everything that defines a recursive language model and how its loss is weighed."""

    vocab_size: int = 600
    seq_len: int = 256  # longest sequence, prompt and answer together
    hidden_size: int = 96
    num_layers: int = 1  # blocks of the shared network; of a plain body, all its blocks
    expansion: float = 4.0
    inner_multiple: int = 8
    num_heads: int = 4
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    pad_id: int = 0  # the token that fills up, and the one that ends an answer
    eos_id: int = 2
    embed_size: int = 0  # width of frozen embeddings taken from another model; 0: learned
    body: str = "recursive"  # looped: shared blocks without z_H and z_L; plain: blocks in a row, applied once
    H_cycles: int = 3
    L_cycles: int = 2
    backprop: str = "full"
    halt_max_steps: int = 1  # supervision steps, the state detached between them
    halting: str = "none"  # none, or act: the expected loss over all answers
    halt_by: str = "sequence"  # where it is decided how long to think: once at the prompt's end, or at each token
    ponder_coef: float = 1e-3
    act_weight: float = 0.5
    every_step_weight: float = 1.0
    schedule: str = "none"
    supervision_weight: float = 0.5
    step_schedule: str = "uniform"
    step_weight: float = 0.5
    curriculum_enabled: bool = False
    curriculum_start_step: int = 0
    curriculum_end_step: int = 0

    @classmethod
    def of(cls, params: Any, **of_data: int) -> Self:
        """The configuration in a chapter's parameters, and of its data: vocab_size, seq_len, embed_size, pad_id, eos_id."""
        known = {f.name: getattr(params, f.name) for f in fields(cls) if hasattr(params, f.name)}
        return cls(**known | of_data)

    @property
    def answers(self) -> int:
        """How many answers a training step sees: H-cycles times supervision steps, one of a plain body."""
        return 1 if self.body == "plain" else self.halt_max_steps * self.H_cycles


def loop(net: Callable[[Tensor], Tensor], x: Tensor, z: Tensor, cycles: int, applications: int) -> list[Tensor]:
    """z <- net(z + x), `applications` times in each of so many cycles; the states after each cycle, (B, T, D) each."""
    states = []
    for _ in range(cycles):
        for _ in range(applications):
            z = net(z + x)
        states.append(z)
    return states


class LMBody(nn.Module):
    """What thinks: embeddings, the shared blocks and the heads.

    Args:
        config: an `LMConfig`, or the same as a dict (which is how config.json stores it).
        embeddings: (V, embed_size), the frozen embeddings where `embed_size` is not 0; else they come with the weights.
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
            self.q_head = nn.Linear(D, 1)
            nn.init.zeros_(self.q_head.weight)
            # At first a chance of 1/n to stop after each answer, so that none is out of reach of the gradient.
            nn.init.constant_(self.q_head.bias, -math.log(max(c.answers - 1, 1)))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.embed.device

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Embedded tokens of variance one. (B, T) -> (B, T, D)."""
        x = F.embedding(ids, self.embed)
        if self.config.embed_size:
            return F.rms_norm(self.project(x), (self.config.hidden_size,))
        return math.sqrt(self.config.hidden_size) * x

    def apply_blocks(self, z: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """The blocks, one after the other. (B, T, D) -> (B, T, D)."""
        for block in self.blocks:
            z = block(z, cache)
        return z

    def think(self, ids: Tensor, H_cycles: int = 0, cache: KeyValueCache | None = None) -> list[Tensor]:
        """The answers after each H-cycle of each supervision step. (B, T) token ids -> `answers` tensors (B, T, D).

        H_cycles: how many cycles a step has, where not as in training.
        """
        c, x = self.config, self.embed_tokens(ids)
        net, H = partial(self.apply_blocks, cache=cache), H_cycles or c.H_cycles
        if c.body == "plain":
            return [net(x)]
        looped = c.body == "looped"
        z_H, z_L = (torch.zeros_like(x),) * 2 if looped else (self.H_init.expand_as(x), self.L_init.expand_as(x))
        answers = []
        for _ in range(c.halt_max_steps):
            if looped:
                found = loop(net, x, z_H.detach(), H, c.L_cycles + 1)
            else:
                found, z_L = recurse(net, x, z_H.detach(), z_L.detach(), H, c.L_cycles, c.backprop)
            z_H = found[-1]
            answers += found
        return answers

    def depths(self, answers: list[Tensor]) -> Tensor:
        """After which answer to stop, from 1: at the last, or where act learned it says so. n of (B, M, D) -> (B, M)."""
        if self.config.halting != "act":
            return torch.full(answers[0].shape[:2], len(answers), device=self.device)
        logits = self.halt_logits(answers)
        if self.config.halt_by == "sequence":
            logits = logits[:, :1].expand_as(logits)
        probability = -torch.expm1(F.logsigmoid(-logits.float()).cumsum(-1))
        return halting.TAUGHT["act"].steps(probability.flatten(0, 1)).view(logits.shape[:2])

    def halt_logits(self, answers: list[Tensor]) -> Tensor:
        """Logits of "stop after this answer" at every position. n of (B, T, D) -> (B, T, n)."""
        return torch.cat([self.q_head(z) for z in answers], dim=-1)


def lm_flops(config: LMConfig, length: int, learned: int = 0, H_cycles: int = 0) -> int:
    """A recursive language model on one sequence of so many tokens: to read it and say what follows the last one; or, with the
    backward pass, to learn from it, so many tokens of it read after each supervised answer.

    H_cycles: cycles of a supervision step, where not those of the configuration.
    """
    c, T, D = config, length, config.hidden_size
    swiglu = 3 * D * inner_width(D, c.expansion, c.inner_multiple)
    net = c.num_layers * (2 * T * (4 * D * D + swiglu) + 2 * 2 * T * T * D)
    H, L = (1, 0) if c.body == "plain" else (H_cycles or c.H_cycles, c.L_cycles)
    steps = 1 if c.body == "plain" else c.halt_max_steps
    embedding = 2 * T * c.embed_size * D
    read, act = 2 * D * c.vocab_size, c.halting == "act"
    if not learned:
        return embedding + steps * H * (L + 1) * net + read + (steps * H * 2 * D if act else 0)
    earlier = H - 1 if act else supervision.supervised_before_last(c.schedule, H, c.supervision_weight)
    trained = {"last": L + 1, "per_cycle": (1 + earlier) * (L + 1), "full": H * (L + 1)}[c.backprop]
    reading = learned * read * (3 + earlier * (2 if c.backprop == "last" else 3))
    halting = 2 * learned * D * (3 + earlier * (2 if c.backprop == "last" else 3)) if act else 0
    return 2 * embedding + steps * ((H * (L + 1) + 2 * trained) * net + reading + halting)
