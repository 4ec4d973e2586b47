"""Thinking at test time: for a fixed number of steps, or until a rule says stop.

Examples never see each other: what is done with one depends on its own signals alone. An example that stops leaves the
batch, and a waiting one takes its place, so that time goes with the mean number of steps, on any device.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trm import halting
from trm.model import TRM

Check = Callable[[Tensor, Tensor], Tensor]  # (questions (B, T), answers (B, T)) -> (B,) bool


@dataclass
class Thoughts:
    """What B examples thought at each of S steps."""

    predictions: Tensor  # (B, S, T) token ids
    signals: dict[str, Tensor]  # name in `halting.SIGNALS` -> (B, S) float32


@dataclass
class Solved:
    """Where a rule stopped B examples."""

    predictions: Tensor  # (B, T) token ids
    logits: Tensor  # (B, T, V)
    steps: Tensor  # (B,) supervision steps taken
    signals: dict[str, Tensor]  # name -> (B,), at that step


@dataclass
class _Minds:
    """Examples at work: everything that one supervision step hands to the next."""

    inputs: Tensor  # (B, T)
    x: Tensor  # (B, P + T, D)
    z_H: Tensor
    z_L: Tensor
    predictions: Tensor  # (B, T), -1 before the first answer
    steps: Tensor  # (B,) taken
    log_survival: Tensor  # (B,) log of the chance not to have halted yet
    mass: Tensor  # (B,) sum of the halting probabilities
    stable: Tensor  # (B,) steps since the answer changed
    memory: tuple[Tensor, ...]  # see `TRM.answer_state`

    def pick(self, rows: Tensor) -> "_Minds":
        """The examples that `rows` names or marks."""
        values = (getattr(self, f.name) for f in fields(self))
        return _Minds(*(tuple(t[rows] for t in v) if isinstance(v, tuple) else v[rows] for v in values))

    def join(self, others: "_Minds") -> "_Minds":
        """These and the others."""
        pairs = ((getattr(self, f.name), getattr(others, f.name)) for f in fields(self))
        return _Minds(
            *(tuple(map(torch.cat, zip(a, b))) if isinstance(a, tuple) else torch.cat((a, b)) for a, b in pairs)
        )


def _begin(model: TRM, inputs: Tensor, puzzle_ids: Tensor | None, noise: Tensor | None) -> _Minds:
    z_H, z_L = model.initial_thought(len(inputs), noise)
    zeros = torch.zeros(len(inputs), device=inputs.device)
    x = model.embed_question(inputs, puzzle_ids)
    _, memory = model.answer_state(z_H, ())
    memory = tuple(torch.zeros_like(t) for t in memory)
    return _Minds(inputs, x, z_H, z_L, torch.full_like(inputs, -1), zeros, zeros, zeros, zeros, memory)


def _step(model: TRM, m: _Minds, check: Check | None = None) -> tuple[_Minds, Tensor, dict[str, Tensor]]:
    """One supervision step of all examples: their new state, the logits (B, T, V) of their answers, their signals."""
    answers, z_L = model.think(m.x, m.z_H, m.z_L)
    z_H = answers[-1]
    read_from, memory = model.answer_state(z_H, m.memory)
    logits = model.read(read_from)
    predictions = logits.argmax(-1)
    q_halt, q_continue = model.q_logits(z_H)
    stable = torch.where((predictions == m.predictions).all(-1), m.stable + 1, 0)
    log_survival = m.log_survival + torch.nn.functional.logsigmoid(-q_halt)
    mass = m.mass + q_halt.sigmoid()
    change = (z_H - m.z_H).flatten(1).norm(dim=1) / m.z_H.flatten(1).norm(dim=1)
    signals = {
        "fixed": m.steps + 1,
        "q_halt": q_halt,
        "q_margin": q_halt - q_continue,
        "halt_probability": -torch.expm1(log_survival),
        "halt_mass": mass,
        "entropy": halting.entropy(logits),
        "residual": change.float(),
        "stable": stable,
    }
    if check is not None:
        signals["obeys"] = check(m.inputs, predictions).float()
    return (
        _Minds(m.inputs, m.x, z_H, z_L, predictions, m.steps + 1, log_survival, mass, stable, memory),
        logits,
        signals,
    )


@torch.no_grad()
def solve(
    model: TRM,
    inputs: Tensor,
    steps: int | None = None,
    puzzle_ids: Tensor | None = None,
    noise: Tensor | None = None,
    check: Check | None = None,
) -> Thoughts:
    """Think for `steps` supervision steps (default: `halt_max_steps` of training) and keep the answer after each.

    Args:
        inputs: (B, T) token ids. puzzle_ids: (B,), for a model with puzzle tokens.
        noise: (B, P + T, D), added to the first z_H (`TRM.draw_noise`).
        check: tells whether answers obey the rules of the puzzle; makes the signal "obeys".
    """
    minds = _begin(model, inputs, puzzle_ids, noise)
    predictions, signals = [], []
    for _ in range(steps or model.config.halt_max_steps):
        minds, _, now = _step(model, minds, check)
        predictions.append(minds.predictions)
        signals.append(now)
    by_name = {name: torch.stack([now[name] for now in signals], 1) for name in signals[0]}
    return Thoughts(torch.stack(predictions, 1), by_name)


@torch.no_grad()
def solve_until(
    model: TRM,
    inputs: Tensor,
    rule: halting.Rule,
    max_steps: int = 16,
    puzzle_ids: Tensor | None = None,
    noise: Tensor | None = None,
    check: Check | None = None,
    batch_size: int = 512,
) -> Solved:
    """Think about each example until `rule` stops it, `max_steps` at the most; arguments as for `solve`.

    At most `batch_size` examples are at work at a time; stopped ones make room for others. The answers are those that
    `solve` gives at the step where the rule stops, up to rounding: matrix products of other shapes sum in other orders.

    Raises:
        ValueError: no examples, or a signal that is not to be had ("random" is a control for tables; "obeys" wants `check`).
    """
    model_signals = set(halting.SIGNALS) - {"random"} - ({"obeys"} if check is None else set())
    if rule.signal not in model_signals:
        raise ValueError(f"no signal {rule.signal!r} while solving; there are {', '.join(sorted(model_signals))}")

    if not len(inputs):
        raise ValueError("no examples to solve")

    def start(rows: Tensor) -> _Minds:
        ids, extra = (None if t is None else t[rows] for t in (puzzle_ids, noise))
        return _begin(model, inputs[rows], ids, extra)

    waiting = torch.arange(len(inputs), device=inputs.device)
    rows, waiting = waiting[:batch_size], waiting[batch_size:]
    minds = start(rows)
    done, parts = [], []
    while len(rows):
        minds, logits, signals = _step(model, minds, check)
        stop = rule.halts(signals[rule.signal]) | (minds.steps >= max_steps)
        if not stop.any():
            continue
        done.append(rows[stop])
        parts.append((logits[stop], minds.steps[stop].long(), {name: value[stop] for name, value in signals.items()}))
        minds, rows = minds.pick(~stop), rows[~stop]
        free = batch_size - len(rows)
        if len(waiting) and free:
            fresh, waiting = waiting[:free], waiting[free:]
            minds, rows = minds.join(start(fresh)), torch.cat((rows, fresh))
    order = torch.cat(done).argsort()
    logits, steps, signals = zip(*parts)
    logits = torch.cat(logits)[order]
    by_name = {name: torch.cat([part[name] for part in signals])[order] for name in signals[0]}
    return Solved(logits.argmax(-1), logits, torch.cat(steps)[order], by_name)
