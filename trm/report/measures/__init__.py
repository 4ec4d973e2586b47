"""The measurements that the claims of the guides are held against, a file for each source of numbers.

A measurement is a small function under a name: it is given the folder of tables (book/results) and returns `Measured`; what
its table lacks is `NotThere`. To add one, write it in one of these files (or in a new one, imported here) under
`@measure("its_name")`, and say `measure: its_name` in book/claims.yaml. Options after the name are passed on, so that one
function serves several claims.
"""

from trm.report.measures import (
    arithmetic,
    compression,
    grpo,
    halting,
    latent,
    parsing,
    recursive_lm,
    suites,
    supervision,
    tpu,
)

__all__ = [
    "arithmetic",
    "compression",
    "grpo",
    "halting",
    "latent",
    "parsing",
    "recursive_lm",
    "suites",
    "supervision",
    "tpu",
]
