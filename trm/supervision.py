"""Deep supervision: how much the loss of each step of a recursive model weighs.

There are two levels. *H-cycles* inside one forward pass (`schedule`): the answer is read after every H-cycle, and the loss of
an example is the weighted mean  sum_i w_i L_i / sum_i w_i  over the cycles. *Supervision steps* (`step_schedule`), the
paper's outer loop, one optimizer step each: there the weight belongs to the example, by its own step counter, and is
normalised over the batch (a factor common to the batch would vanish in Adam).
"""

import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Schedule = Callable[[int, float], Sequence[float]]
ADAPTIVE = "adaptive"  # needs the losses, so it is not a function of (num_steps, weight)
ALIASES = {"linear_decay": "linear", "exponential_decay": "exponential"}


def _then_one(early: Callable[[float, int, int], float]) -> Schedule:
    """early(weight, i, n) for every step i but the last of n, which weighs 1 (SonarRecursiveModel)."""
    return lambda n, weight: [early(weight, i, n) for i in range(n - 1)] + [1.0]


def _inverse_u(w: float, i: int, n: int) -> float:
    middle = max(n // 2, 1)
    return w * (1 - abs(i - middle) / middle)


# Name -> function of (number of steps, weight of those before the last). Three steps at weight 0.5 in brackets.
# Add your own from a notebook cell: SCHEDULES["last"] = lambda num_steps, weight: [0.0] * (num_steps - 1) + [1.0]
SCHEDULES: dict[str, Schedule] = {
    "none": _then_one(lambda w, i, n: 0.0),  # only the last step [0, 0, 1]
    "constant": _then_one(lambda w, i, n: w),  # [0.5, 0.5, 1]
    "linear": _then_one(
        lambda w, i, n: w * (i + 1) / n
    ),  # [0.167, 0.333, 1]; its source calls it linear decay, but it rises
    "exponential": _then_one(lambda w, i, n: w * 2.0 ** (i - n + 1)),  # [0.125, 0.25, 1]
    "inverse_u": _then_one(_inverse_u),  # most in the middle [0, 0.5, 1]
    "last_two": _then_one(lambda w, i, n: w if i >= n - 2 else 0.0),  # [0, 0.5, 1]
    # those below do not use the weight
    "uniform": lambda n, weight: [1.0] * n,  # Pointer-over-Heads, and the paper over its supervision steps
    "ramp": lambda n, weight: torch.linspace(0.3, 1.0, n, dtype=torch.float64).tolist() if n > 1 else [1.0],  # PoH
    "exp2": lambda n, weight: [2.0**i for i in range(n)],  # PoH
    "decay": lambda n, weight: [0.7**i for i in range(n)],  # the first step most: CGAR, arXiv 2511.08653
}


def schedule_names() -> list[str]:
    """Every name that `step_weights` understands, those that the reader adds included."""
    return [*SCHEDULES, ADAPTIVE, *ALIASES]


def step_weights(
    schedule: str | Sequence[float], num_steps: int, weight: float = 0.5, curriculum: float = 1.0
) -> list[float]:
    """Weights of `num_steps` steps, not normalised.

    Args:
        schedule: a name, or the weights themselves as a list or as text ("0.2, 0.3, 1").
        weight: the strength of the steps before the last, for the schedules that use it.
        curriculum: a factor from 0 to 1 on all steps but the last (see `curriculum_factor`).

    Raises:
        ValueError: unknown name, a list of another length, a negative weight, or nothing but zeros.
    """
    name = ALIASES.get(schedule, schedule) if isinstance(schedule, str) else None
    if name in SCHEDULES:
        weights = list(SCHEDULES[name](num_steps, weight))
    else:
        weights = list(schedule) if name is None else parse_weights(schedule)
    if len(weights) != num_steps:
        raise ValueError(f"schedule {schedule!r} gives {len(weights)} weights, but there are {num_steps} steps")
    if not all(0 <= w < math.inf for w in weights) or max(weights) <= 0:
        raise ValueError(f"schedule {schedule!r} gives {weights}: weights are finite, not negative and not all zero")
    return [float(w) * curriculum for w in weights[:-1]] + [float(weights[-1])]


def parse_weights(text: str) -> list[float]:
    """The numbers of an explicit list such as "0.2, 0.3, 1" or "[0.2, 0.3, 1]".

    Raises:
        ValueError: `text` is not a list of numbers.
    """
    try:
        return [float(part) for part in text.strip("[]() ").split(",")]
    except ValueError:
        raise ValueError(f"{text!r} is neither a schedule ({', '.join(schedule_names())}) nor numbers") from None


def adaptive_weights(losses: Tensor, weight: float) -> Tensor:
    """The "adaptive" schedule, for each example: weight L_i / sum_j L_j, no gradient; the last step weighs 1.

    losses (..., S) -> weights (..., S).
    """
    share = losses.detach() / losses.detach().sum(-1, keepdim=True).clamp_min(1e-12)
    return torch.cat((weight * share[..., :-1], torch.ones_like(share[..., -1:])), dim=-1)


def curriculum_factor(train_step: int, start_step: int, end_step: int) -> float:
    """0 until `start_step`, then linear to 1 at `end_step` and 1 from there on.

    With target weight 0.7 from 1,000 to 10,000: 0, 0, 0.35, 0.7, 0.7 at steps 0, 1,000, 5,500, 10,000, 15,000.
    """
    if end_step <= start_step:
        return float(train_step >= end_step)
    return min(max((train_step - start_step) / (end_step - start_step), 0.0), 1.0)


def depth_stages(text: str, max_steps: int) -> list[list[int]]:
    """A curriculum of depth, "1x2@0, 2x4@0.3, 3x6@0.6": H_cycles x L_cycles from a share of the training steps on.

    Returns [first training step, H_cycles, L_cycles] for each stage (CGAR, arXiv 2511.08653); [] for "".

    Raises:
        ValueError: text of another form, or shares that do not rise from 0 to below 1.
    """
    if not text.strip():
        return []
    found = [re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*@\s*(\d*\.?\d+)\s*", stage) for stage in text.split(",")]
    if not all(found):
        raise ValueError(f"{text!r} is not a list of stages such as '1x2@0, 2x4@0.3, 3x6@0.6'")
    stages = [(float(m[3]), int(m[1]), int(m[2])) for m in found]
    shares = [share for share, _, _ in stages]
    if shares[0] != 0 or shares != sorted(set(shares)) or shares[-1] >= 1:
        raise ValueError(f"{text!r}: the shares of training must rise from 0 and stay below 1")
    if min(min(H, L) for _, H, L in stages) < 1:
        raise ValueError(f"{text!r}: every depth must be at least 1x1")
    return [[round(share * max_steps), H, L] for share, H, L in stages]


def cgar_stages(H_cycles: int, L_cycles: int) -> str:
    """The curriculum of CGAR (arXiv 2511.08653) for a depth: a third of it, two thirds from 30 % of training, all from 60 %.

    For H=3, L=6: "1x2@0, 2x4@0.3, 3x6@0.6". Text for `depth_stages`.
    """
    third = f"{max(H_cycles // 3, 1)}x{max(L_cycles // 3, 1)}"
    two_thirds = f"{max(2 * H_cycles // 3, 1)}x{-(-2 * L_cycles // 3)}"
    return f"{third}@0, {two_thirds}@0.3, {H_cycles}x{L_cycles}@0.6"


def supervised_before_last(schedule: str, num_steps: int, weight: float = 0.5, curriculum: float = 1.0) -> int:
    """How many steps before the last have a loss."""
    if schedule == ADAPTIVE:
        return (num_steps - 1) * (weight * curriculum > 0)
    return sum(w > 0 for w in step_weights(schedule, num_steps, weight, curriculum)[:-1])


def weighted_step_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i L_i / sum_i w_i of each example. losses (B, S), weights (S,) or (B, S) -> (B,)."""
    return (losses * weights).sum(-1) / weights.sum(-1).clamp_min(1e-12)


def batch_mean(values: Tensor, weights: Tensor, sums: Tensor | None = None) -> Tensor:
    """sum_b w_b v_b / sum_b w_b, weights (B,); 0 where all of them are 0.

    sums: of the weights in each of the P micro-batches of a step, (P,). Their mean then divides, so that the mean of the
    micro-batches' gradients is the gradient of the mean over the whole batch.
    """
    mean = weights.mean() if sums is None else sums.mean() / len(weights)
    return (values * weights).mean() / mean.clamp_min(1e-12)
