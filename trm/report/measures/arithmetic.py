"""What needs no run: the guides' formulas and figures worked out, and the suites counted as they are written."""

import fnmatch
from pathlib import Path

import numpy as np
import torch
import yaml

from trm.report.verdicts import CONTRADICTED, IN_PART, Measured, NotThere, agrees, measure
from trm.run import ROOT
from trm.supervision import adaptive_weights, curriculum_factor, step_weights

SMOLLM3_HIDDEN = 2048  # hidden_size of SmolLM3-3B in its config.json, and the default of transformers' SmolLM3Config


@measure("weights_constant", schedule="constant", claimed=(0.5, 0.5, 1.0))
@measure("weights_linear", schedule="linear", claimed=(0.167, 0.333, 1.0))
@measure("weights_exponential", schedule="exponential", claimed=(0.0625, 0.125, 0.25, 1.0))
@measure("weights_ramp", schedule="ramp", claimed=(0.3, 0.5, 1.0))
def weights(_tables: Path, schedule: str, claimed: tuple[float, ...]) -> Measured:
    """The guide's example of a schedule at weight 0.5, against its own formula."""
    found = step_weights(schedule, len(claimed), 0.5)
    text = f"its formula gives {', '.join(f'{w:.4g}' for w in found)}; their sum is {sum(found):.4g}"
    return Measured(agrees(np.allclose(found, claimed, atol=5e-4)), text, "arithmetic")


@measure("curriculum_weights")
def curriculum_weights(_tables: Path) -> Measured:
    """The weight of the curriculum at the five steps of the guide's example."""
    claimed = {0: 0.0, 1000: 0.0, 5500: 0.35, 10000: 0.7, 15000: 0.7}
    found = {step: 0.7 * curriculum_factor(step, 1000, 10000) for step in claimed}
    text = "weights of the five steps: " + ", ".join(f"{w:.2g} at {step:,}" for step, w in found.items())
    return Measured(agrees(found == claimed), text, "arithmetic")


@measure("adaptive_weighs_by_loss")
def adaptive_weighs_by_loss(_tables: Path) -> Measured:
    """The "adaptive" schedule calls itself inverse; what does its formula do?"""
    high, low, _ = adaptive_weights(torch.tensor([[2.0, 1.0, 1.0]]), 1.0)[0].tolist()
    text = f"of losses 2 and 1 its formula weighs the first {high:.2f} and the second {low:.2f}: by the loss"
    return Measured(IN_PART if high > low else CONTRADICTED, text + ", not by its inverse", "arithmetic")


@measure("compressor_hidden")
def compressor_hidden(_tables: Path) -> Measured:
    """The hidden size of SmolLM3-3B."""
    return Measured(
        agrees(SMOLLM3_HIDDEN == 3072), f"its published configuration says {SMOLLM3_HIDDEN:,}", "configuration"
    )


@measure("compressor_64", width=64, ratio=48, parameters=197e3)
@measure("compressor_128", width=128, ratio=24, parameters=393e3)
@measure("compressor_256", width=256, ratio=12, parameters=786e3)
@measure("compressor_512", width=512, ratio=6, parameters=1.6e6)
@measure("compressor_1024", width=1024, ratio=3, parameters=3.1e6)
def compressor_size(_tables: Path, width: int, ratio: float, parameters: float) -> Measured:
    """Compression and parameters of one weight-tied linear layer at SmolLM3-3B's hidden size."""
    own, size = SMOLLM3_HIDDEN / width, SMOLLM3_HIDDEN * width
    holds = own == ratio and abs(size - parameters) < 0.05 * parameters
    return Measured(agrees(holds), f"at hidden size {SMOLLM3_HIDDEN:,}: {own:g}x, {size:,} weights", "arithmetic")


@measure("examples_1m")
def examples_1m(_tables: Path) -> Measured:
    """Puzzles times augmentations, in the recipe at paper scale."""
    path = ROOT / "params" / "04_paper.yaml"
    try:
        recipe = yaml.safe_load(path.read_text())
        examples = recipe["train_size"] * recipe["num_aug"]
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        raise NotThere(f"wants the recipe {path.name} with its train_size and num_aug") from None
    return Measured(agrees(examples == 1_000_000), f"the recipe at paper scale has {examples:,} examples", "arithmetic")


@measure("epochs_in_hours")
def epochs_in_hours(_tables: Path) -> Measured:
    """50,000 epochs of 1M examples at batch 256, at the guide's own 1.2 s a step."""
    seconds, steps = 1.2, 50_000 * 1_000_000 / 256
    text = (
        f"at the guide's {seconds} s a step, 50,000 steps take {50_000 * seconds / 3600:.1f} hours; 50,000 epochs of its "
        f"1M examples at batch 256 are {steps / 1e6:.0f} million steps, {steps * seconds / 3600 / 24 / 365:.1f} years"
    )
    return Measured(agrees(12 <= steps * seconds / 3600 <= 24), text, "arithmetic")


@measure("checkpoint_minutes")
def checkpoint_minutes(_tables: Path) -> Measured:
    """2,500 steps at the guide's own 1.2 s."""
    minutes = 2500 * 1.2 / 60
    text = f"at the guide's 1.2 s a step, 2,500 steps take {minutes:.0f} minutes"
    return Measured(agrees(abs(minutes - 30) < 5), text, "arithmetic")


# --- the suites as they are written ---------------------------------------------------------------------------------


def _cases(suite: str, *patterns: str) -> list[str]:
    path = ROOT / "params" / "sweeps" / f"{suite}.yaml"
    try:
        cases = yaml.safe_load(path.read_text())["cases"]
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        raise NotThere(f"wants the suite {path.name} with its cases") from None
    return [case for case in cases if any(fnmatch.fnmatch(case, pattern) for pattern in patterns)]


@measure("count_core", claimed=57, groups=[f"exp{i:02}?" for i in range(1, 11)])
@measure("count_contributions", claimed=10, groups=["contrib01?", "contrib02?"])
@measure("count_all", claimed=67, groups=[*(f"exp{i:02}?" for i in range(1, 11)), "contrib01?", "contrib02?"])
def count_scaling(_tables: Path, claimed: int, groups: list[str]) -> Measured:
    """The configurations that the guide's own list names, experiment by experiment."""
    counts = [len(_cases("scaling_research", group)) for group in groups]
    text = f"what its list names adds up to {' + '.join(map(str, counts))} = {sum(counts)}"
    own = len(_cases("scaling_research", "contrib*")) - len(_cases("scaling_research", "contrib01?", "contrib02?"))
    more = f"; {own} contributions of this book come on top" if "contrib01?" in groups else ""
    return Measured(agrees(sum(counts) == claimed), text + more, "the suite as written")


@measure("count_tn_sweep", claimed=5, pattern="e2_2_*", besides=())
@measure("count_quickstart", claimed=19, pattern="e*", besides=("e1_2_seeds",))  # a repetition, which the guide lacks
def count_quickstart(_tables: Path, claimed: int, pattern: str, besides: tuple[str, ...]) -> Measured:
    """The experiments that the quick start names."""
    found = set(_cases("tpu_quickstart", pattern)) - set(besides)
    return Measured(agrees(len(found) == claimed), f"its list names {len(found)}", "the suite as written")
