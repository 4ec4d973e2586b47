"""The tiny recursive model: embeddings, one small network applied again and again, an answer head and a halting head.

Different from the original class: one model instead of four near-copies, how far gradients flow is a parameter
(`backprop`), the answer can be supervised after every H-cycle (`schedule`), and random draws come with the batch.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from pydantic import Field
from torch import Tensor, nn

from trm import halting, supervision
from trm.layers import Block, HouseBlock, Linear, truncated_normal_
from trm.losses import exactly_right, sequence_loss
from trm.protocol import StepOutput
from trm.recursion import checkpointed, recurse
from trm.training_params import ModelParams


class TRMParams(ModelParams):
    """The parameters that define a TRM and how its loss is weighed; the defaults are the book's (`params/04_paper.yaml` has
    the paper's). The schemas of the chapters inherit them."""

    hidden_size: int = Field(64, ge=2, description="width D; with mixer houses, for each symbol that a cell may hold")
    num_layers: int = Field(1, ge=1, le=1000, description="blocks of the shared network")
    expansion: float = Field(2.0, gt=0, description="expansion of the SwiGLUs")
    inner_multiple: int = Field(8, ge=1, description="inner widths are rounded up to a multiple of it")
    mixer: Literal["mlp", "attention", "houses"] = Field(
        "mlp", description="how positions are mixed; houses: means over rows, columns, boxes and symbols (Sudoku alone)"
    )
    num_heads: int = Field(4, ge=1, description="attention heads")
    puzzle_tokens: int = Field(0, ge=0, description="learned tokens put before the puzzle")
    puzzle_vectors: int = Field(0, ge=0, description="number of learned puzzle tokens, the others being zero; 0: all")
    puzzle_lr: float = Field(
        0.0,
        ge=0,
        le=1,
        description="learning rate of the puzzle tokens by sign-SGD, for the puzzle ids of a batch alone; 0: they are "
        "learned as all other weights are",
    )
    puzzle_weight_decay: float = Field(
        0.1,
        ge=0,
        description="with puzzle_lr: decoupled weight decay of the puzzle tokens, for the ids of a batch alone",
    )
    H_cycles: int = Field(2, ge=1, description="H-cycles: answers refined in one supervision step")
    L_cycles: int = Field(2, ge=1, description="latent refinements before each answer")
    halt_max_steps: int = Field(6, ge=1, description="most supervision steps")
    halt_exploration_prob: float = Field(0.3, ge=0, le=1, description="halting exploration probability")
    halt_exploration_end: float = Field(0.0, ge=0, le=1, description="halting exploration probability after annealing")
    halt_exploration_anneal_steps: int = Field(0, ge=0, description="optimizer steps of annealing; 0: none")
    halting: Literal["q", "q_continue", "act", "ponder", "graves"] = Field("q", description="how stopping is learned")
    ponder_coef: float = Field(1e-3, ge=0, description="ponder cost in act, ponder and graves")
    ponder_prior: float = Field(0.2, gt=0, lt=1, description="in ponder: chance to halt at a step, a priori")
    halting_bias: float | None = Field(
        None, description="the halting head's bias at first; none: -5, in act, ponder and graves that of equal chances"
    )
    every_step_weight: float = Field(1.0, ge=0, description="weight of every step's loss in act, ponder, graves")
    initial_noise: float = Field(0.0, ge=0, description="std of the noise added to the initial z_H")
    input_noise: float = Field(
        0.0,
        ge=0,
        description="std of a random number for each position (mixer houses: cell and symbol) of a question, added "
        "to it through a learned vector, the same in all steps: what restarts differ by",
    )
    loss_type: Literal["softmax", "stablemax"] = Field("softmax", description="cross-entropy of the answer")
    act_weight: float = Field(0.5, ge=0, description="weight of the halting head's loss")
    schedule: str = Field("linear", description="per-cycle loss weights", examples=supervision.schedule_names())
    supervision_weight: float = Field(1.0, ge=0, le=10, description="weight of the H-cycles before the last")
    step_schedule: str = Field("uniform", description="supervision-step weights", examples=supervision.schedule_names())
    step_weight: float = Field(0.5, ge=0, le=10, description="weight of the supervision steps before the last")
    curriculum_enabled: bool = Field(False, description="phase in supervision_weight (supervision curriculum)")
    curriculum_start_step: int = Field(0, ge=0, description="weight 0 until here")
    curriculum_end_step: int = Field(200, ge=0, description="full weight from here")
    backprop: Literal["last", "per_cycle", "full"] = Field("full", description="how far gradients flow")
    activation_checkpointing: bool = Field(False, description="recompute activations in the backward pass")


NEVER = -1e4  # logit of what no cell of an answer holds, within the range of float16
FIRST_SYMBOL = 2  # of a grid's token ids: after pad and blank


class TRMConfig(TRMParams):
    """`TRMParams`, and what the data give. config.json holds it."""

    vocab_size: int = Field(11, ge=1, description="token ids V")
    seq_len: int = Field(81, ge=1, description="tokens of a puzzle T")
    depth_stages: list[list[int]] = Field([], description="[first training step, H_cycles, L_cycles], ...")
    box: tuple[int, int] | None = Field(None, description="rows and columns of a box, for mixer houses")
    num_puzzles: int = Field(1, ge=1, description="sets of puzzle tokens, one for each puzzle id")
    norm_eps: float = Field(1e-5, gt=0, description="epsilon of the norms")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary embedding")

    @classmethod
    def of(cls, params: Any, vocab_size: int, seq_len: int, box: tuple[int, int] | None = None) -> Self:
        """The configuration in a chapter's parameters, for a vocabulary, a length and boxes that the data give."""
        shared = {name: getattr(params, name) for name in TRMParams.model_fields}
        stages = supervision.depth_stages(params.depth_curriculum, params.max_steps)
        return cls(**shared, vocab_size=vocab_size, seq_len=seq_len, box=box, depth_stages=stages)

    @property
    def symbols(self) -> int:
        """How many vectors of `hidden_size` a position has: one, or with mixer houses one for each symbol."""
        return self.vocab_size - FIRST_SYMBOL if self.mixer == "houses" else 1


# The paper's model for Sudoku-Extreme and how it is trained (arXiv 2510.04871).
PAPER = {
    "hidden_size": 512, "num_layers": 2, "expansion": 4.0, "inner_multiple": 256, "num_heads": 8, "H_cycles": 3,
    "L_cycles": 6, "halt_max_steps": 16, "halt_exploration_prob": 0.1, "loss_type": "stablemax", "backprop": "last",
    "schedule": "none", "supervision_weight": 0.5, "curriculum_end_step": 0,
}  # fmt: skip


@dataclass
class TRMState:
    """What a batch carries from one supervision step to the next."""

    z_H: Tensor  # (B, P + T, D) the answer
    z_L: Tensor  # (B, P + T, D) the latent thought
    inputs: Tensor  # (B, T) the question each row is at work on
    labels: Tensor  # (B, T)
    puzzle_ids: Tensor  # (B,)
    steps: Tensor  # (B,) supervision steps taken
    halted: Tensor  # (B,) bool: the row takes a new question at the next step
    train_step: int  # optimizer steps taken, for the curriculum
    noise: Tensor | None = None  # (B, P + T, N) of the question, with `input_noise`; N: `TRMConfig.symbols`


class TRM(nn.Module, PyTorchModelHubMixin):
    """Tiny recursive model (arXiv 2510.04871). `save_pretrained` and `from_pretrained` keep it as safetensors + JSON.

    config: a `TRMConfig`, or the same as a dict, which is how config.json stores it.
    """

    def __init__(self, config: TRMConfig | dict):
        super().__init__()
        self.config = c = config if isinstance(config, TRMConfig) else TRMConfig(**config)
        length = c.puzzle_tokens + c.seq_len
        vectors = c.vocab_size if c.symbols == 1 else 3  # of a symbol: the cell is blank, shows it, shows another
        self.embed = nn.Parameter(truncated_normal_(torch.empty(vectors, c.hidden_size), c.hidden_size**-0.5))
        if c.puzzle_tokens:
            zeros = torch.zeros(c.num_puzzles, (c.puzzle_vectors or c.puzzle_tokens) * c.hidden_size)
            self.puzzle_embed = nn.Embedding.from_pretrained(zeros, freeze=False, sparse=c.puzzle_lr > 0)
        shape = c.hidden_size, length, c.mixer, c.expansion, c.inner_multiple, c.num_heads, c.norm_eps, c.rope_theta
        if c.mixer == "houses":
            shape = c.hidden_size, c.box, c.expansion, c.inner_multiple, c.norm_eps
            shown = torch.arange(c.vocab_size).view(-1, 1) - FIRST_SYMBOL  # (V, 1)
            vector = torch.where(shown < 0, 0, torch.where(shown == torch.arange(c.symbols), 1, 2))
            self.register_buffer("shown", vector, persistent=False)  # (V, N) rows of `embed`
        self.net = nn.Sequential(*((HouseBlock if c.mixer == "houses" else Block)(*shape) for _ in range(c.num_layers)))
        self.lm_head = Linear(c.hidden_size, c.vocab_size if c.symbols == 1 else 1)
        self.q_head = nn.Linear(c.hidden_size, 2 if c.halting == "q_continue" else 1)
        nn.init.zeros_(self.q_head.weight)
        bias = -5.0 if c.halting_bias is None else c.halting_bias  # at first never sure of being right
        nn.init.constant_(self.q_head.bias, bias)
        self.register_buffer("H_init", truncated_normal_(torch.empty(c.hidden_size), 1.0))
        self.register_buffer("L_init", truncated_normal_(torch.empty(c.hidden_size), 1.0))
        if c.input_noise:
            self.noise_embed = nn.Parameter(truncated_normal_(torch.empty(c.hidden_size), c.hidden_size**-0.5))
            self.register_buffer("plain_noise", c.input_noise * torch.randn(length, c.symbols))  # where none is drawn
        step_weights = supervision.step_weights(c.step_schedule, c.halt_max_steps, c.step_weight)
        self.register_buffer("step_weights", torch.tensor(step_weights), persistent=False)  # on the device, for no wait

    # --- one supervision step ---------------------------------------------------------------------------------

    def embed_question(self, inputs: Tensor, puzzle_ids: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Embedded question, scaled by sqrt(D), puzzle tokens first. (B, T) token ids -> (B, P + T, D).

        noise: (B, P + T, N), with `input_noise`; None: the same for every question, kept with the weights.
        """
        table = self.embed if self.config.symbols == 1 else self.embed[self.shown].flatten(1)  # (V, N * D)
        x = F.embedding(inputs, table)
        if self.config.puzzle_tokens:
            ids = torch.zeros(len(inputs), dtype=torch.long, device=x.device) if puzzle_ids is None else puzzle_ids
            learned = self.puzzle_embed(ids).unflatten(-1, (-1, self.config.hidden_size))
            x = torch.cat((F.pad(learned, (0, 0, 0, self.config.puzzle_tokens - learned.shape[1])), x), dim=1)
        if self.config.input_noise:
            noise = self.plain_noise if noise is None else noise
            x = x + (noise.unsqueeze(-1) * self.noise_embed).flatten(-2)
        return math.sqrt(self.config.hidden_size) * x

    def think(
        self, x: Tensor, z_H: Tensor, z_L: Tensor, depth: tuple[int, int] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """One supervision step on an embedded question: the answers z_H after each H-cycle, and z_L.

        depth: (H_cycles, L_cycles), where not those of the configuration.
        """
        c = self.config
        net = checkpointed(self.net) if c.activation_checkpointing else self.net
        return recurse(net, x, z_H, z_L, *(depth or (c.H_cycles, c.L_cycles)), c.backprop)

    def depth(self, train_step: int) -> tuple[int, int]:
        """(H_cycles, L_cycles) at a training step: those of the newest of `depth_stages` (CGAR, arXiv 2511.08653)."""
        begun = [(H, L) for start, H, L in self.config.depth_stages if start <= train_step]
        return begun[-1] if begun else (self.config.H_cycles, self.config.L_cycles)

    def output_logits(self, z_H: Tensor) -> Tensor:
        """Logits of the answer. (B, P + T, D) -> (B, T, V)."""
        c = self.config
        if c.symbols == 1:
            return self.lm_head(z_H[:, c.puzzle_tokens :])
        logits = self.lm_head(z_H.unflatten(-1, (c.symbols, -1))).squeeze(-1)  # (B, T, N)
        return F.pad(logits, (FIRST_SYMBOL, 0), value=NEVER)

    def q_logits(self, z_H: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of "my answer is right" and of "going on will make it so" (zero for a model that was not taught the
        latter), read at the first position (mixer houses: from the mean of all). (B, P + T, D) -> two of (B,) float32."""
        c = self.config
        read = z_H[:, 0] if c.symbols == 1 else z_H.unflatten(-1, (c.symbols, -1)).mean((1, 2))
        q = self.q_head(read).float()  # (B, 1 or 2)
        return q[:, 0], q[:, 1] if q.shape[1] > 1 else torch.zeros_like(q[:, 0])

    def answer_state(self, z_H: Tensor, memory: tuple[Tensor, ...] = ()) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The state that an answer given now is read from, and what must be remembered of this step: z_H, and nothing."""
        return z_H, memory

    def initial_thought(self, batch_size: int, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z_H and z_L before the first step, (B, P + T, D) each: one constant vector everywhere, `noise` added to z_H (it is
        added to the question instead with `input_noise`)."""
        c = self.config
        shape = (batch_size, c.puzzle_tokens + c.seq_len, c.symbols * c.hidden_size)
        z_H, z_L = (init.repeat(c.symbols).expand(shape) for init in (self.H_init, self.L_init))
        return z_H if noise is None or c.input_noise else z_H + noise, z_L

    # --- training ---------------------------------------------------------------------------------------------

    def host_draws(self, seed: int, train_step: int, batch_size: int) -> dict[str, np.ndarray]:
        """What is random in a training step, drawn on the host: min_halt_steps (B,), the exploration of halting, and, with
        `initial_noise` or `input_noise`, noise for the rows that begin a new question (`draw_noise`)."""
        c = self.config
        ends = c.halt_exploration_prob, c.halt_exploration_end
        prob = halting.exploration_prob(train_step, *ends, c.halt_exploration_anneal_steps)
        draws = {"min_halt_steps": halting.exploration_steps(seed, train_step, batch_size, c.halt_max_steps, prob)}
        if deviation := c.initial_noise or c.input_noise:
            draws["noise"] = self.draw_noise([seed, train_step, 0x2015E], batch_size, deviation)
        return draws

    def draw_noise(self, seed: list[int], batch_size: int, deviation: float) -> np.ndarray:
        """Normal noise, drawn on the host, float32: for the first z_H, (B, P + T, D), or with `input_noise` for the question,
        (B, P + T, N)."""
        c = self.config
        numbers = c.symbols * (1 if c.input_noise else c.hidden_size)
        shape = (batch_size, c.puzzle_tokens + c.seq_len, numbers)
        return float(deviation) * np.random.default_rng(seed).standard_normal(shape, np.float32)

    def initial_state(self, batch_size: int, train_step: int = 0) -> TRMState:
        """A state in which every row is waiting for its first question."""
        device, T = self.embed.device, self.config.seq_len
        z_H, z_L = self.initial_thought(batch_size)
        blank = torch.zeros(batch_size, T, dtype=torch.long, device=device)
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        noise = z_H.new_zeros(*z_H.shape[:2], self.config.symbols) if self.config.input_noise else None
        halted = torch.ones_like(zeros, dtype=torch.bool)
        return TRMState(z_H, z_L, blank, blank, zeros, zeros, halted, train_step, noise)

    def refill(self, state: TRMState, batch: dict[str, Tensor]) -> TRMState:
        """Rows that have halted take the new question and a fresh state; the others go on. Shapes never change."""
        new = state.halted
        rows = new.view(-1, 1)
        noise = batch.get("noise")
        z_H, z_L = self.initial_thought(len(new), noise)
        if self.config.input_noise:
            noise = self.plain_noise if noise is None else noise
            state = replace(state, noise=torch.where(rows.unsqueeze(-1), noise, state.noise))
        ids = batch.get("puzzle_ids", state.puzzle_ids)
        return replace(
            state,
            z_H=torch.where(rows.unsqueeze(-1), z_H, state.z_H),
            z_L=torch.where(rows.unsqueeze(-1), z_L, state.z_L),
            inputs=torch.where(rows, batch["inputs"], state.inputs),
            labels=torch.where(rows, batch["labels"], state.labels),
            puzzle_ids=torch.where(new, ids, state.puzzle_ids),
            steps=torch.where(new, 0, state.steps),
        )

    def loss(self, batch: dict[str, Tensor], state: TRMState | None = None, detail: bool = False) -> StepOutput:
        """One supervision step and its loss; the state comes back detached, for the next one.

        total_loss = supervised_loss + act_loss. `supervised_loss` is the weighted mean of the cross-entropies after
        each H-cycle, the last cycle included; `act_loss` is `act_weight` times the halting head's cross-entropy.
        Both are means over the examples of the batch, weighed by `step_schedule`. With `backprop="last"` the earlier
        answers carry no gradient, so a loss on them reaches the output head alone.

        Args:
            batch: inputs and labels (B, T) token ids; min_halt_steps (B,) (`halting.exploration_steps`), optional;
                puzzle_ids (B,) if the model has puzzle tokens.
            state: what the previous step returned; None at the start.
            detail: also the loss after every H-cycle and, after `backward`, its gradient (`StepOutput.intermediates`).
        """
        c = self.config
        state = self.refill(self.initial_state(len(batch["inputs"])) if state is None else state, batch)
        steps = state.steps + 1
        depth = self.depth(state.train_step)
        x = self.embed_question(state.inputs, state.puzzle_ids, state.noise)
        answers, z_L = self.think(x, state.z_H, state.z_L, depth)
        if detail:
            for z_H in answers:
                if z_H.requires_grad:
                    z_H.retain_grad()
        logits, (q_halt, q_continue) = self.output_logits(answers[-1]), self.q_logits(answers[-1])
        predictions = logits.detach().argmax(-1)  # (B, T)
        right = exactly_right(predictions, state.labels)

        losses, supervised = self._supervised(answers, logits, state, detail)
        act = c.act_weight * halting.q_halt_loss(q_halt, right)
        if c.halting == "q_continue":
            with torch.no_grad():  # one step ahead, to see what going on brings
                ahead, _ = self.think(x, answers[-1], z_L, depth)
                next_halt, next_continue = self.q_logits(ahead[-1])
            last = steps >= c.halt_max_steps
            act = act + c.act_weight * halting.q_continue_loss(q_continue, next_halt, next_continue, last)
        by_step = partial(supervision.batch_mean, weights=self.step_weights[steps - 1], sums=batch.get("weight_sum"))
        supervised, act = by_step(supervised), by_step(act)
        total = supervised + act

        margin = (q_halt - q_continue).detach()
        halted = halting.should_halt(margin, steps, c.halt_max_steps, batch.get("min_halt_steps"))
        metrics = self._metrics(
            state,
            losses,
            total_loss=total,
            supervised_loss=supervised,
            act_loss=act,
            exact_accuracy=right.float().mean(),
            halted=halted.float().mean(),
            ready=((margin > 0) | (steps >= c.halt_max_steps)).float().mean(),  # would stop without exploration
            step=steps.float().mean(),
            halted_step=(steps * halted).float().mean(),
        )
        z_H, z_L = answers[-1].detach(), z_L.detach()
        new_state = replace(state, z_H=z_H, z_L=z_L, steps=steps, halted=halted, train_step=state.train_step + 1)
        return StepOutput(total, new_state, metrics, predictions, answers if detail else [])

    def shared(self, batch: dict[str, Tensor], state: TRMState | None = None) -> dict[str, Tensor]:
        """The sum of the examples' weights by `step_schedule`."""
        steps = batch["inputs"].new_zeros(len(batch["inputs"])) if state is None else state.steps * ~state.halted
        return {"weight_sum": self.step_weights[steps].sum()}

    forward = loss  # what a wrapper for several processes calls

    def _metrics(self, state: TRMState, cycle_losses: dict[int, Tensor], **values: Tensor) -> dict[str, Tensor]:
        """`values`, the curriculum's weight, and the mean loss after each supervised H-cycle; without gradient."""
        weight = self.config.supervision_weight * self._curriculum(state)
        values["curriculum_weight"] = torch.tensor(weight)  # stays on the host
        values |= {f"deep_supervision/step_{i}_loss": loss.mean() for i, loss in cycle_losses.items()}
        return {name: value.detach() for name, value in values.items()}

    def _curriculum(self, state: TRMState) -> float:
        c = self.config
        if not c.curriculum_enabled:
            return 1.0
        return supervision.curriculum_factor(state.train_step, c.curriculum_start_step, c.curriculum_end_step)

    def _supervised(
        self, answers: list[Tensor], logits: Tensor, state: TRMState, detail: bool
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Loss of each example after the H-cycles that are supervised (all of them with `detail`), and their mean."""
        c = self.config
        curriculum = self._curriculum(state)
        adaptive = c.schedule == supervision.ADAPTIVE
        if adaptive:
            weights = [c.supervision_weight * curriculum] * (len(answers) - 1) + [1.0]
        else:
            weights = supervision.step_weights(c.schedule, len(answers), c.supervision_weight, curriculum)
        losses = {}
        for i, z_H in enumerate(answers):
            last = i == len(answers) - 1
            if weights[i] > 0 or last or detail:
                with torch.set_grad_enabled(torch.is_grad_enabled() and weights[i] > 0):
                    found = logits if last else self.output_logits(z_H)
                    losses[i] = sequence_loss(found, state.labels, c.loss_type)  # (B,)
        kept = [i for i in losses if weights[i] > 0]
        if adaptive:
            stacked = torch.stack([losses[i] for i in kept], dim=-1)  # (B, kept)
            used = supervision.adaptive_weights(stacked, c.supervision_weight * curriculum)
            return losses, supervision.weighted_step_loss(stacked, used)
        total = sum(weights[i] for i in kept)  # weights stay numbers of the host: nothing to copy to the device
        return losses, sum(weights[i] / total * losses[i] for i in kept)

    # --- files ------------------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory, **kwargs):
        """Write model.safetensors and config.json into `save_directory`."""
        if self.embed.device.type not in ("cpu", "cuda"):  # safetensors asks a tensor where its memory is
            with torch.random.fork_rng(devices=[]):
                copy = type(self)(self.config)
            copy.load_state_dict({name: value.cpu() for name, value in self.state_dict().items()})
            return copy.save_pretrained(save_directory, **kwargs)
        return super().save_pretrained(save_directory, config=self.config.model_dump(), **kwargs)
