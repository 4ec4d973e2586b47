"""The TPU's published numbers, the plans worked out for it, and what was measured on XLA (chapter 09)."""

from pathlib import Path

from trm.report.verdicts import (
    CONTRADICTED,
    IN_PART,
    OTHER_SCALE,
    SUPPORTED,
    Measured,
    NotThere,
    agrees,
    measure,
    read_table,
)
from trm.tpu.findings import duration, parity
from trm.tpu.slices import GIB, SLICES

PUBLISHED, COMPUTED = "published numbers", "arithmetic, not measured"
V4_64 = SLICES["v4-64"]


@measure("tpu_chips", chips=32, cores=64, hosts=8)
@measure("tpu_hosts", hosts=8)
@measure("tpu_cores", cores=64)
def tpu_size(_tables: Path, **claimed: int) -> Measured:
    """What a v4-64 is made of."""
    own = {"chips": V4_64.chips, "cores": V4_64.chips * V4_64.cores_per_chip, "hosts": V4_64.hosts}
    text = "a v4-64 has " + ", ".join(f"{own[name]} {name}" for name in claimed)
    return Measured(agrees(all(own[name] == value for name, value in claimed.items())), text, PUBLISHED)


@measure("tpu_memory")
def tpu_memory(_tables: Path) -> Measured:
    """The memory of a v4-64."""
    each, whole = V4_64.memory / GIB, V4_64.chips * V4_64.memory / GIB
    text = f"{each:.0f} GiB a chip, {each * V4_64.chips_per_host:.0f} a host, {whole:,.0f} in all"
    return Measured(agrees(whole == 1024), text, PUBLISHED)


@measure("tpu_flops")
def tpu_flops(_tables: Path) -> Measured:
    """The peak rate of a v4-64."""
    peak = V4_64.chips * V4_64.peak_flops
    text = f"{V4_64.chips} times 275 TFLOP/s is {peak / 1e15:.1f} PFLOP/s"
    return Measured(agrees(abs(peak - 8.8e15) < 1e13), text, PUBLISHED)


@measure("tpu_world")
def tpu_world(_tables: Path) -> Measured:
    """How many parts a global batch has."""
    text = f"with a process a chip, as PJRT starts them, the world is {V4_64.chips}; with one a host, {V4_64.hosts}"
    return Measured(IN_PART, text, PUBLISHED)


@measure("days_core", what="core experiments")
@measure("days_contributions", what="contributions")
@measure("days_both", what="both")
@measure("days_four", what="both, four at a time")
@measure("days_prioritised", what="the prioritised part, four at a time")
def days(tables: Path, what: str) -> Measured:
    """A line of the guide's timetable, worked out with what chapter 09 assumes, which decides nothing about a real slice."""
    table = read_table(tables, "09_timetable.csv", "what", [what], ["chips_days", "days"], seeded=False).set_index(
        "what"
    )
    own, chips = table.loc[what, "days"], table.loc[what, "chips_days"]
    text = f"worked out: {duration(chips)} by the chips alone, {duration(own)} with a host that traces every step; one seed"
    return Measured(OTHER_SCALE, text, COMPUTED)


@measure("v4_8_suffices")
def v4_8_suffices(tables: Path) -> Measured:
    """Whether the suite fits the smaller slice."""
    plan = read_table(tables, "09_plan.csv", "slice", ["v4-8"], ["sweep", "case", "fault", "mend"], seeded=False)
    own = plan[(plan["slice"] == "v4-8") & (plan["sweep"] == "scaling_research")]
    broken, hopeless = own["fault"].notna(), own["fault"].notna() & own["mend"].isna()
    text = (
        f"{len(own) - broken.sum()} of {len(own)} configurations fit as they are, {broken.sum() - hopeless.sum()} more with a "
        "parameter changed, XLA's own temporaries left out"
    )
    return Measured(agrees(not hopeless.any()), text, COMPUTED)


@measure("parameters_7m")
def parameters_7m(tables: Path) -> Measured:
    """Parameters of the baseline."""
    plan = read_table(tables, "09_plan.csv", "case", ["e1_1_baseline", "e2_3_attention"], ["parameters"], seeded=False)
    count = plan.drop_duplicates("case").set_index("case")["parameters"]
    text = f"the baseline has {count['e1_1_baseline']:,}; with attention {count['e2_3_attention']:,}"
    return Measured(agrees(abs(count["e1_1_baseline"] - 7e6) < 0.5e6), text, "counted")


@measure("sharded_equals_whole")
def sharded_equals_whole(tables: Path) -> Measured:
    """Whether XLA's own sharding trains what one device trains."""
    wanted = ["train/total_loss", "step", "xla/devices", "xla/compiles", "xla/compiles_after_warmup"]
    table = read_table(tables, "09_xla.csv", "training", ["processor", "all devices"], wanted, seeded=False)
    found = parity(table)
    text = (
        f"a batch shared by {found.devices} devices, which a processor plays: losses within {found.max_relative:.1e} over "
        f"{found.steps} steps, {found.compiles_after_warmup} compiles after the warm-up"
    )
    return Measured(agrees(found.max_relative < 1e-4 and not found.compiles_after_warmup), text, "6x6, a small model")


@measure("quick_test_loss")
def quick_test_loss(tables: Path) -> Measured:
    """The loss over the first hundred steps of the paper's model."""
    table = read_table(tables, "09_quick_test.csv", "step", (), ["train/total_loss"], seeded=False)
    values = table["train/total_loss"]
    if len(values) < 2:
        raise NotThere("09_quick_test.csv has fewer than two records")
    first, last = table["step"].iloc[0], table["step"].iloc[-1]
    text = f"from {values.iloc[0]:.2f} to {values.iloc[-1]:.2f} between steps {first} and {last}"
    return Measured(SUPPORTED if values.iloc[-1] < values.iloc[0] else CONTRADICTED, text, "batch 8, on a CPU")
