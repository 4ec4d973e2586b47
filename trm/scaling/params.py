"""Parameters of chapter 10, which trains nothing: it reads the tables of runs."""

from typing import ClassVar

from pydantic import Field

from trm.params import Params


class ScalingLaws(Params):
    """Chapter 10: what the runs of a sweep show about scaling. Nothing is trained."""

    COMPUTED_BY: ClassVar[str] = "trm.scaling.chapter"

    results: str = Field("", description="tables of `trm sweep results --csv`, comma-separated; empty: committed ones")
    coverage: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    resamples: int = Field(400, ge=10, description="resamples per bootstrap")
