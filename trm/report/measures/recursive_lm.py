"""Chapter 06's table: deep supervision on a language model, which is what its guide speaks of."""

from collections.abc import Callable
from pathlib import Path

from trm.recursive_lm import findings
from trm.report.verdicts import Measured, measure, read_table


@measure("supervised_lm_faster", held=findings.faster, claimed=10 / 15)
@measure("supervised_lm_lower_loss", held=findings.lower, claimed=1.5 / 1.8)
@measure("supervised_lm_ordered", held=findings.ordered)
@measure("supervised_lm_step0", held=findings.first_is_higher)
def deep_supervision(tables: Path, held: Callable[..., Measured], **claimed: float) -> Measured:
    """The recursion with a loss after every cycle, against the same with one after the last. claimed: the guide's ratio."""
    arms = (findings.RECURSIVE, findings.WITHOUT)
    return held(read_table(tables, "06_recursive_lm.csv", arms=arms, columns=findings.WANTED), **claimed)
