"""The suites as plans for a TPU slice: every configuration at paper scale, what it asks for, and what keeps it from running."""

from dataclasses import asdict

import pandas as pd

from trm.params import arm_names
from trm.sweep.chapters import schema_of
from trm.sweep.spec import Point, SweepError, read_sweeps
from trm.tpu.plan import faults, plan
from trm.tpu.slices import Slice


def suite_plans(
    suites: str, on: Slice, utilisation: float, host_milliseconds: float = 0.0, scale: str = "paper"
) -> pd.DataFrame:
    """A row for each configuration of the sweeps that `suites` names: sweep, case, slice, utilisation, host_milliseconds, the
    fields of `trm.tpu.plan.Plan`, fault as text (empty: it runs as it is) and mend (empty where nothing mends it).
    Seeds count once.

    Raises:
        SweepError: no such sweep, or one of another chapter.
    """
    known, rows = read_sweeps(), []
    for name in arm_names(suites):
        if name not in known or known[name].notebook != "04_trm_train":
            raise SweepError(f"{name!r} is no sweep of chapter 04; there are "
                             f"{', '.join(n for n, s in known.items() if s.notebook == '04_trm_train')}")  # fmt: skip
        for point in known[name].points(scale):
            if any(row["case"] == point.case and row["sweep"] == name for row in rows):
                continue
            params = _anywhere(point)
            wrong = faults(params, on)
            mends = [", ".join(f"{name}: {value}" for name, value in mend.items()) for mend in wrong.values()]
            about = {"sweep": name, "case": point.case, "slice": on.name}
            about |= {"utilisation": utilisation, "host_milliseconds": host_milliseconds}
            asked = asdict(plan(params, on, utilisation, host_milliseconds))
            rows.append(about | asked | {"fault": "; ".join(wrong), "mend": ", ".join(mends) if all(mends) else ""})
    return pd.DataFrame(rows)


def _anywhere(point: Point):
    """The point's parameters, also where this machine lacks what they ask for."""
    if point.params is not None:
        return point.params
    elsewhere = schema_of("04_trm_train").create(point.values | {"precision": "float32", "backend": "auto"})
    return elsewhere.model_copy(
        update={name: point.values[name] for name in ("precision", "backend") if name in point.values}
    )


def cases_of(suite: str, *groups: str) -> list[str]:
    """The cases of a sweep that groups or names stand for, each once."""
    sweep = read_sweeps()[suite]
    return list(dict.fromkeys(case for group in groups for case in sweep.cases_of(group)))
