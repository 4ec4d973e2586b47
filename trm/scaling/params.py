"""Parameters of chapter 10, which trains nothing: it reads the tables of runs."""

from typing import ClassVar

from pydantic import Field

from trm.params import Params


class ScalingLaws(Params):
    """Chapter 10: what the runs of a sweep say of scaling. Nothing is trained."""

    COMPUTED_BY: ClassVar[str] = "trm.scaling.laws"

    results: str = Field(
        "", description="tables of `trm.sweep results --csv`, with commas between; empty: the committed ones"
    )
    coverage: float = Field(0.9, gt=0, lt=1, description="coverage of the intervals")
    resamples: int = Field(400, ge=10, description="draws of each bootstrap")
