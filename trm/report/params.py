"""Parameters of chapters 10 and 11, which train nothing: they read the tables of runs."""

from pydantic import Field

from trm.params import Params


class ScalingLaws(Params):
    """Chapter 10: what the runs of a sweep say of scaling. Nothing is trained."""

    results: str = Field(
        "", description="tables of `trm.sweep results --csv`, with commas between; empty: the committed ones"
    )
    coverage: float = Field(0.9, gt=0, lt=1, description="coverage of the intervals")
    resamples: int = Field(400, ge=10, description="draws of each bootstrap")


class Report(Params):
    """Chapter 11: the claims of the guides against what was measured. Nothing is trained."""

    claims: str = Field("", description="file of claims; empty: book/claims.yaml")
    results: str = Field("", description="folder of tables that they are held against; empty: book/results")
