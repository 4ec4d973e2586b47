"""The suites as plans for a TPU slice: every configuration, what keeps it from running, the timetable."""

from collections.abc import Sequence

import pandas as pd

from trm.sweep.chapters import schema_of
from trm.sweep.spec import SweepError, read_sweeps
from trm.tpu.plan import Slice, faults, plan
from trm.training_params import arm_names

CHAPTER = "04_trm_train"
# The timetable of the scaling research, in days.
GUIDE_DAYS = {"core experiments": 103, "contributions": 36, "both": 139, "both, four at a time": 35,
              "the prioritised part, four at a time": 15}  # fmt: skip


def suite_plans(suites: str, on: Slice, utilisation: float, host_milliseconds: float = 0.0) -> pd.DataFrame:
    """One row per configuration of the sweeps named in `suites`, at paper scale: sweep, case, slice, utilisation,
    host_milliseconds, what `plan` gives, fault as text (empty: it runs as written) and mend, the parameters that fix it
    (empty where nothing does). Seeds count once.

    Raises:
        SweepError: no such sweep, or one of another chapter.
    """
    known = {name: sweep for name, sweep in read_sweeps().items() if sweep.notebook == CHAPTER}
    rows = {}
    for name in arm_names(suites):
        if name not in known:
            raise SweepError(f"{name!r} is not a sweep of chapter 04; there are {', '.join(known)}")
        for point in known[name].points("paper"):
            if (name, point.case) in rows:
                continue
            # float16 is set afterwards: a machine without CUDA refuses it
            params = schema_of(CHAPTER).create(point.values | {"precision": "float32", "backend": "auto"})
            params = params.model_copy(update={"precision": point.values.get("precision", "float32")})
            found = faults(params, on)
            fixes = [", ".join(f"{name}: {value}" for name, value in fix.items()) for fix in found.values()]
            rows[name, point.case] = {
                "sweep": name, "case": point.case, "slice": on.name, "utilisation": utilisation,
                "host_milliseconds": host_milliseconds, **plan(params, on, utilisation, host_milliseconds),
                "fault": "; ".join(found), "mend": ", ".join(fixes) if all(fixes) else "",
            }  # fmt: skip
    return pd.DataFrame(rows.values())


def cases_of(suite: str, *groups: str) -> list[str]:
    """The cases of a sweep that groups or names stand for, each once."""
    sweep = read_sweeps()[suite]
    return list(dict.fromkeys(case for group in groups for case in sweep.cases_of(group)))


def timetable(
    chips_alone: Sequence[pd.DataFrame], with_host: Sequence[pd.DataFrame], parts: dict[str, list[str]]
) -> pd.DataFrame:
    """The published timetable beside the one worked out: what, guide_days, chips_days, days (with the host's tracing).

    chips_alone, with_host: `suite_plans` on the slice, and on a quarter of it, as each of four runs at a time has. parts:
    "core", "contributions" and "prioritised" -> cases.
    """
    table = pd.DataFrame({"guide_days": GUIDE_DAYS}).rename_axis("what")
    both = parts["core"] + parts["contributions"]
    for column, plans in (("chips_days", chips_alone), ("days", with_host)):
        alone, four = (plan.drop_duplicates("case").set_index("case")["days"] for plan in plans)
        whole = [alone[cases].sum() for cases in (parts["core"], parts["contributions"], both)]
        table[column] = [*whole, four[both].sum() / 4, four[parts["prioritised"]].sum() / 4]
    return table.reset_index()
