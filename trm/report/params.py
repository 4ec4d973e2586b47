"""Parameters of chapter 11, which trains nothing: it reads the tables of runs."""

from typing import ClassVar

from pydantic import Field

from trm.params import Params


class Report(Params):
    """Chapter 11: the claims of the source projects, evaluated on committed tables. Nothing is trained."""

    COMPUTED_BY: ClassVar[str] = "trm.stats"

    claims: str = Field("", description="file of claims; empty: book/claims.yaml")
    results: str = Field("", description="folder of tables; empty: book/results")
