"""What chapter 09 finds: parity and compiles as measured, and the guide's timetable worked out again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trm.errors import UserError
from trm.run import write_atomically
from trm.tpu.slices import GIB, Slice

WANTED = ("training", "xla/devices", "step", "train/total_loss", "xla/compiles_after_warmup", "torch_xla", "date")
MAKE_IT = "chapter 09 with `-p measure yes -p tables FOLDER` makes it"
# The guide's timetable in days.
GUIDE_DAYS = {
    "core experiments": 103,
    "contributions": 36,
    "both": 139,
    "both, four at a time": 35,
    "the prioritised part, four at a time": 15,
}


@dataclass(frozen=True)
class Parity:
    """One training on the processor, on one XLA device and on several, held against each other."""

    trainings: tuple[str, ...]
    devices: int
    steps: int
    max_abs: float  # largest difference of a loss between any two
    max_relative: float
    compiles: int
    compiles_after_warmup: int


def read_measured(path: Path) -> pd.DataFrame:
    """The table that `trm.tpu.compare.compare` made.

    Raises:
        UserError: it is missing, or no such table.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {MAKE_IT}") from None
    missing = [name for name in WANTED if name not in table]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; {MAKE_IT} anew")
    return table


def losses(measured: pd.DataFrame) -> pd.DataFrame:
    """Step -> the loss of each training, a column each."""
    names = list(dict.fromkeys(measured["training"]))
    return measured.pivot(index="step", columns="training", values="train/total_loss")[names]


def parity(measured: pd.DataFrame) -> Parity:
    """How far apart the trainings are."""
    table = losses(measured)
    spread = table.max(axis=1) - table.min(axis=1)
    several = measured[measured["xla/devices"] == measured["xla/devices"].max()].iloc[0]
    return Parity(
        trainings=tuple(table.columns),
        devices=int(several["xla/devices"]),
        steps=len(table),
        max_abs=float(spread.max()),
        max_relative=float((spread / table.abs().min(axis=1)).max()),
        compiles=int(several["xla/compiles"]),
        compiles_after_warmup=int(measured["xla/compiles_after_warmup"].max()),
    )


def timetable(
    chips_alone: Sequence[pd.DataFrame], with_host: Sequence[pd.DataFrame], parts: dict[str, list[str]]
) -> pd.DataFrame:
    """The guide's timetable beside the one worked out: what, guide_days, chips_days, days (with the host's tracing).

    Args:
        chips_alone, with_host: plans (`trm.sweep.tpu.suite_plans`) on the slice, and on a quarter of it, which four runs at a
            time have each.
        parts: "core", "contributions" and "prioritised" -> cases.
    """
    table = pd.DataFrame({"guide_days": GUIDE_DAYS}).rename_axis("what")
    for column, plans in (("chips_days", chips_alone), ("days", with_host)):
        alone, four = (plan.drop_duplicates("case").set_index("case")["days"] for plan in plans)
        both = parts["core"] + parts["contributions"]
        own = [
            alone[parts["core"]],
            alone[parts["contributions"]],
            alone[both],
            four[both] / 4,
            four[parts["prioritised"]] / 4,
        ]
        table[column] = [days.sum() for days in own]
    return table.reset_index()


def write_tables(
    folder: str, plans: pd.DataFrame, beside: pd.DataFrame, times: pd.DataFrame, measured: pd.DataFrame | None
) -> None:
    """The tables of chapter 09 as CSV: 09_plan.csv, 09_timetable.csv and, if something was measured, 09_xla.csv."""
    tables = {"09_plan": pd.concat([plans, beside]), "09_timetable": times, "09_xla": measured}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if table is not None:
            write_atomically(Path(folder) / f"{name}.csv", table.to_csv(index=False, float_format="%.9g"))


def duration(days: float) -> str:
    """Days as people say them: "7 minutes", "3.1 hours", "2.4 days"."""
    minutes = days * 1440
    if round(minutes) == 1:
        return "1 minute"
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.1f} hours" if minutes < 48 * 60 else f"{days:.1f} days"


def overview(plans: pd.DataFrame) -> Any:
    """Plans as a table to look at (a pandas Styler), a row for each case."""
    table = pd.DataFrame(
        {
            "parameters (M)": plans["parameters"] / 1e6,
            "batch": plans["global_batch"],
            "rows a chip": plans["rows"],
            "TFLOP a step": plans["flops_per_step"] / 1e12,
            "GiB a chip": plans["memory_gib"],
            "MB all-reduced": plans["allreduce_bytes"] / 1e6,
            "FLOPs a byte": plans["intensity"],
            "bound by": plans["bound"],
            "hours": 24 * plans["days"],
        }
    ).set_index(plans["case"].rename(None))
    return table.style.format(precision=2, thousands=",").format("{:.0f}", subset=["MB all-reduced", "FLOPs a byte"])


def what_runs(plans: pd.DataFrame, on: Slice) -> str:
    """Which configurations run on a slice as they are written, and what mends the others."""
    good, broken = plans[plans["fault"] == ""], plans[plans["fault"] != ""]
    others = [f"**{r.case}** ({r.fault}; {r.mend or 'nothing mends it'})" for r in broken.itertuples()]
    return (
        f"On a {on.name}, **{len(good)} of {len(plans)}** run as they are written: their batches can be shared by "
        f"{on.chips} chips, and the largest wants {good['memory_gib'].max():.1f} GiB of the {on.memory / GIB:.0f} that a "
        f"chip has.{' The others: ' * bool(others)}{', '.join(others)}{'.' * bool(others)}"
    )


def what_bounds(plans: pd.DataFrame, utilisation: float) -> str:
    """What takes longest in a step, with the host and without."""
    counts = ", ".join(f"{count} by {name}" for name, count in plans["bound"].value_counts().items())
    chips = plans[["compute_seconds", "memory_seconds", "network_seconds"]]
    counts_of_chips = chips.idxmax(axis=1).str.removesuffix("_seconds").value_counts()
    without = ", ".join(f"{count} by {name}" for name, count in counts_of_chips.items())
    return (
        f"What bounds the {len(plans)} configurations: **{counts}**; of the chips alone: {without}. Their steps would take "
        f"{1e3 * chips.max(axis=1).min():.1f} to {1e3 * chips.max(axis=1).max():.0f} ms at best, tracing them "
        f"{1e3 * plans['host_seconds'].min():.0f} to {1e3 * plans['host_seconds'].max():.0f} ms: models this small want larger "
        f"batches, or a step that is traced once. Hours and days assume {utilisation:.0%} of peak where other bounds allow it."
    )


def what_it_takes(times: pd.DataFrame, baseline: pd.Series, utilisation: float, host_milliseconds: float) -> str:
    """The guide's days, and its hours for the baseline, against those worked out."""
    both = times.set_index("what").loc["both"]
    chips = baseline["days"] * baseline["compute_seconds"] / utilisation / baseline["step_seconds"]
    return (
        f"At {utilisation:.0%} of peak the chips would do the guide's suite in **{duration(both['chips_days'])}** "
        f"one after the other, its baseline (50,000 passes over 1,000 puzzles) in {duration(chips)}. With a host that takes "
        f"{host_milliseconds:g} ms for each layer that it traces, all take **{duration(both['days'])}** and the baseline "
        f"**{duration(baseline['days'])}**. The guide says {both['guide_days']:.0f} days, and 12 to 24 hours; at the 1.2 s a "
        f"step that it shows, a v4-64 would work at {baseline['compute_seconds'] / 1.2:.2%} of its peak. Compilation (minutes "
        "for a program), evaluation and restarts come on top. None of this was measured on a TPU."
    )


def how_equal(found: Parity) -> str:
    """Parity and compiles in a sentence."""
    return (
        f"Over {found.steps} steps the losses differ by **{found.max_abs:.1e}** at most ({found.max_relative:.1e} of the "
        f"loss), between {', '.join(found.trainings)} ({found.devices}). Of {found.compiles} programs compiled, "
        f"**{found.compiles_after_warmup}** came after the warm-up, with halting, exploration and refilling on."
    )
