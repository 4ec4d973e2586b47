"""FLOPs of a TRM, of a parser and of a recursive language model, counted from the configuration: those of the matrix
products, 2 m n k each, for one example.

Norms, activations, softmax and embeddings are left out (a few per cent); so are readings that are only logged. A backward
pass takes twice its forward pass; what is computed again under activation checkpointing is counted.
"""

import torch

from trm import supervision
from trm.halting import UNROLLED
from trm.layers import inner_width
from trm.model import TRMConfig
from trm.parsing.parser_parts import ParserConfig
from trm.parsing.pointer import Parser
from trm.recursive_lm.body import LMConfig


def applications(H_cycles: int, L_cycles: int, backprop: str) -> int:
    """Compute of one training step of one example, in applications of the network (a backward pass counts as two)."""
    trained = L_cycles + 1 if backprop == "last" else H_cycles * (L_cycles + 1)
    return H_cycles * (L_cycles + 1) + 2 * trained


def network_flops(config: TRMConfig) -> int:
    """One application of the shared network, forward."""
    D, T = config.hidden_size, config.puzzle_tokens + config.seq_len

    def swiglu(width: int) -> int:  # gate, up, down
        return 2 * 3 * width * inner_width(width, config.expansion, config.inner_multiple)

    mixer = D * swiglu(T) if config.mixer == "mlp" else 2 * T * 4 * D * D + 2 * 2 * T * T * D
    return config.num_layers * (mixer + T * swiglu(D))


def answer_flops(config: TRMConfig, steps: int) -> int:
    """`steps` supervision steps on one question in evaluation, the answer and the halting head read after each."""
    cycles = config.H_cycles * (config.L_cycles + 1)
    return steps * (cycles * network_flops(config) + _read(config) + _q(config))


def _read(config: TRMConfig) -> int:
    return 2 * config.seq_len * config.hidden_size * config.vocab_size


def _q(config: TRMConfig) -> int:
    return 2 * config.hidden_size * (2 if config.halting == "q_continue" else 1)


def step_flops(config: TRMConfig, train_step: int | None = None) -> int:
    """One training step of one example: all supervision steps where halting is unrolled, else one.

    train_step: which one, where `depth_stages` or the curriculum make a difference (None: after all of them).
    """
    c = config
    begun = [(H, L) for start, H, L in c.depth_stages if train_step is None or start <= train_step]
    H, L = begun[-1] if begun else (c.H_cycles, c.L_cycles)
    forward = H * (L + 1)
    earlier = _supervised_before_the_last(c, H, train_step)
    trained = {"last": L + 1, "per_cycle": (1 + earlier) * (L + 1), "full": forward}[c.backprop]
    again = trained if c.activation_checkpointing else 0
    thinking = (forward + 2 * trained + again) * network_flops(c)
    # An answer without a gradient of its own still teaches the output head: no product for its input.
    reading = (3 + earlier * (2 if c.backprop == "last" else 3)) * _read(c)
    if c.halting in UNROLLED:
        return c.halt_max_steps * (thinking + reading + 3 * _q(c)) + (3 * _read(c) if c.halting == "graves" else 0)
    ahead = forward * network_flops(c) + _q(c) if c.halting == "q_continue" else 0  # one step more, without gradient
    return thinking + reading + 3 * _q(c) + ahead


def _supervised_before_the_last(config: TRMConfig, H_cycles: int, train_step: int | None) -> int:
    """H-cycles before the last that have a loss."""
    c, factor = config, 1.0
    if c.curriculum_enabled and train_step is not None:
        factor = supervision.curriculum_factor(train_step, c.curriculum_start_step, c.curriculum_end_step)
    if c.schedule == supervision.ADAPTIVE:
        return (H_cycles - 1) * (c.supervision_weight * factor > 0)
    return sum(
        weight > 0 for weight in supervision.step_weights(c.schedule, H_cycles, c.supervision_weight, factor)[:-1]
    )


def training_flops(config: TRMConfig, batch_size: int, max_steps: int) -> int:
    """A whole training: `max_steps` updates of `batch_size` examples each, evaluation on the way left out."""
    changes = {0, *(start for start, _, _ in config.depth_stages)}
    if config.curriculum_enabled:
        changes |= {config.curriculum_start_step + 1, config.curriculum_end_step}  # where earlier cycles begin to weigh
    starts = sorted(start for start in changes if start < max_steps)
    ends = [*starts[1:], max_steps]
    return batch_size * sum((end - start) * step_flops(config, start) for start, end in zip(starts, ends))


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
    earlier = H - 1 if act else _supervised_before_the_last(c, H, None)
    trained = {"last": L + 1, "per_cycle": (1 + earlier) * (L + 1), "full": H * (L + 1)}[c.backprop]
    reading = learned * read * (3 + earlier * (2 if c.backprop == "last" else 3))
    halting = 2 * learned * D * (3 + earlier * (2 if c.backprop == "last" else 3)) if act else 0
    return 2 * embedding + steps * ((H * (L + 1) + 2 * trained) * net + reading + halting)
