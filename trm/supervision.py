"""Deep supervision: how much the loss of each step of a recursive model weighs.

There are two levels, and they are kept apart.

*H-cycles* inside one forward pass (`schedule`): the answer is read after every H-cycle, and an example's loss is the
weighted mean  sum_i w_i L_i / sum_i w_i  over the cycles.

*Supervision steps* (`step_schedule`): the paper's outer loop, one optimizer step each. There the weight belongs to the
example, by its own step counter, and is normalised over the batch: a factor common to the batch would vanish in Adam.

Weights come from a schedule by name; most formulas are those of the LLM-TRM guide to deep supervision ("the guide").
`num_steps` is how many steps there are, `weight` the strength of the steps before the last (the guide's
`deep_supervision_weight`); a curriculum multiplies it. Add your own from a notebook cell:

    @register_schedule("middle")
    def middle(num_steps, weight):
        return [weight * (i == num_steps // 2) for i in range(num_steps - 1)] + [1.0]
"""

import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Schedule = Callable[[int, float], Sequence[float]]
SCHEDULES: dict[str, Schedule] = {}
ADAPTIVE = "adaptive"  # needs the losses, so it is no plain function of (num_steps, weight)
ALIASES = {"linear_decay": "linear", "exponential_decay": "exponential"}


def register_schedule(name: str) -> Callable[[Schedule], Schedule]:
    """Decorator: make `function(num_steps, weight) -> num_steps weights` known as schedule `name`."""

    def register(function: Schedule) -> Schedule:
        SCHEDULES[name] = function
        return function

    return register


def _then_one(early: Callable[[int], float], num_steps: int) -> list[float]:
    """Weights of the guide's schedules: `early(i)` for every step but the last, which always weighs 1."""
    return [early(i) for i in range(num_steps - 1)] + [1.0]


@register_schedule("none")
def none(num_steps: int, weight: float) -> list[float]:
    """Only the last step: 0, ..., 0, 1."""
    return _then_one(lambda i: 0.0, num_steps)


@register_schedule("constant")
def constant(num_steps: int, weight: float) -> list[float]:
    """`weight` for every step but the last, which weighs 1. Three steps, 0.5: 0.5, 0.5, 1."""
    return _then_one(lambda i: weight, num_steps)


@register_schedule("linear")
def linear(num_steps: int, weight: float) -> list[float]:
    """weight (i + 1) / n, the last 1. Three steps, 0.5: 0.167, 0.333, 1. (The guide's "linear decay", which rises.)"""
    return _then_one(lambda i: weight * (i + 1) / num_steps, num_steps)


@register_schedule("exponential")
def exponential(num_steps: int, weight: float) -> list[float]:
    """weight 2^i / 2^(n-1), the last 1. Four steps, 0.5: 0.0625, 0.125, 0.25, 1. (The guide's "exponential decay".)"""
    return _then_one(lambda i: weight * 2.0 ** (i - num_steps + 1), num_steps)


@register_schedule("inverse_u")
def inverse_u(num_steps: int, weight: float) -> list[float]:
    """weight (1 - |i - m| / m) with m = n // 2, most in the middle; the last step 1, as in every schedule of the guide."""
    middle = max(num_steps // 2, 1)
    return _then_one(lambda i: weight * (1 - abs(i - middle) / middle), num_steps)


@register_schedule("last_two")
def last_two(num_steps: int, weight: float) -> list[float]:
    """0 but for the last two: `weight`, then 1."""
    return _then_one(lambda i: weight if i >= num_steps - 2 else 0.0, num_steps)


@register_schedule("uniform")
def uniform(num_steps: int, weight: float) -> list[float]:
    """1 for every step, the last included; `weight` is not used (Pointer-over-Heads, and the paper over its steps)."""
    return [1.0] * num_steps


@register_schedule("ramp")
def ramp(num_steps: int, weight: float) -> list[float]:
    """From 0.3 to 1 in equal strides; one step weighs 1; `weight` is not used (the "linear" of Pointer-over-Heads)."""
    return torch.linspace(0.3, 1.0, num_steps, dtype=torch.float64).tolist() if num_steps > 1 else [1.0]


@register_schedule("exp2")
def exp2(num_steps: int, weight: float) -> list[float]:
    """2^i, the last 2^(n-1); `weight` is not used (the "exp" of Pointer-over-Heads)."""
    return [2.0**i for i in range(num_steps)]


@register_schedule("decay")
def decay(num_steps: int, weight: float) -> list[float]:
    """0.7^i, the first step most and the last 0.7^(n-1); `weight` is not used (CGAR, arXiv 2511.08653)."""
    return [0.7**i for i in range(num_steps)]


def schedule_names() -> list[str]:
    """Every name that `step_weights` understands, those registered by the reader included."""
    return [*SCHEDULES, ADAPTIVE, *ALIASES]


def step_weights(
    schedule: str | Sequence[float], num_steps: int, weight: float = 0.5, curriculum: float = 1.0
) -> list[float]:
    """Weights of `num_steps` steps, not normalised; what the last one weighs is said by each schedule's docstring.

    Args:
        schedule: a name, or the weights themselves as a list or as text ("0.2, 0.3, 1").
        weight: the strength of the steps before the last, for the schedules that use it.
        curriculum: a factor from 0 to 1 on all steps but the last (see `curriculum_factor`).

    Raises:
        ValueError: unknown name, a list of another length, a negative weight, or nothing but zeros.
    """
    if isinstance(schedule, str):
        name = ALIASES.get(schedule, schedule)
        if name in SCHEDULES:
            weights = list(SCHEDULES[name](num_steps, weight))
        else:
            weights = parse_weights(schedule)
    else:
        weights = list(schedule)
    if len(weights) != num_steps:
        raise ValueError(f"schedule {schedule!r} gives {len(weights)} weights, but there are {num_steps} steps")
    if not all(0 <= w < math.inf for w in weights) or max(weights) <= 0:
        raise ValueError(
            f"schedule {schedule!r} gives {weights}: weights are finite, not negative, and at least one is positive"
        )
    return [float(w) * curriculum for w in weights[:-1]] + [float(weights[-1])]


def parse_weights(text: str) -> list[float]:
    """The numbers of an explicit list such as "0.2, 0.3, 1" or "[0.2, 0.3, 1]".

    Raises:
        ValueError: `text` is no list of numbers.
    """
    try:
        return [float(part) for part in text.strip("[]() ").split(",")]
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a schedule ({', '.join(schedule_names())}) nor a list of numbers"
        ) from None


def adaptive_weights(losses: Tensor, weight: float) -> Tensor:
    """The guide's "adaptive" schedule, for each example: weight L_i / sum_j L_j, no gradient; the last step weighs 1.

    losses (..., S) -> weights (..., S).
    """
    share = losses.detach() / losses.detach().sum(-1, keepdim=True).clamp_min(1e-12)
    return torch.cat((weight * share[..., :-1], torch.ones_like(share[..., -1:])), dim=-1)


def curriculum_factor(train_step: int, start_step: int, end_step: int) -> float:
    """0 until `start_step`, then linear to 1 at `end_step` and 1 from there on; the guide's curriculum.

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
        raise ValueError(f"{text!r} is no list of stages such as '1x2@0, 2x4@0.3, 3x6@0.6'")
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


def batch_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum_b w_b v_b / sum_b w_b, weights (B,) normalised over the *global* batch; 0 where all of them are 0.

    With several processes the sum of the weights is taken over all of them, so that averaging the gradients of the
    processes gives the gradient of the one global mean. (With gradient accumulation each part is normalised by itself.)
    """
    total = weights.mean()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
        total = total / torch.distributed.get_world_size()
    return (values * weights).mean() / total.clamp_min(1e-12)
