# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     cell_metadata_filter: tags,-papermill,-execution
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · TPUs
#
# **What would a TPU slice make of these experiments, and does the training run there at all?** The second question can be
# answered without a TPU: [PyTorch/XLA](https://github.com/pytorch/xla) runs the same programs on devices that the processor
# emulates, so that one can measure whether losses agree, whether a sharded training equals a whole one, and whether
# anything is compiled after the warm-up. How fast a TPU is can *not* be measured in this way. What stands here about a real
# slice is therefore arithmetic from published numbers and from the configurations, and is marked as such.
#
# The training is chapter 04 with `-p backend xla`: one program for all chips (SPMD), the batch sharded over them, the
# parameters whole on each. It requires an environment of its own (`requirements-tpu.txt`: torch_xla 2.9.0 is the last release
# and works with torch 2.9.0 only). Without it this chapter shows what was measured when the committed table was made, by
#
#     PJRT_DEVICE=CPU python book/09_tpu_scaling.py -p measure yes -p tables book/results

# %% tags=["parameters"]
slice = "v4-64"  # TPU slice to plan for
compare_slice = "v4-8"  # a second slice, for comparison
suites = "tpu_quickstart, scaling_research"  # sweeps to plan, at paper scale
utilisation = 0.4  # assumed share of peak FLOP/s
host_milliseconds = 2.3  # a host's time to trace one layer's application; 0: none
measure = "auto"  # train on XLA; auto: where torch_xla is installed
steps = 20  # optimizer steps of each measured training
devices = 8  # XLA devices that the processor emulates
pjrt_device = "CPU"  # XLA devices: emulated by the processor, or real ones
tables = ""  # folder to write the tables to, such as book/results; empty: none

# %%
from trm.run import ROOT, Run, write_atomically
from trm.tpu.params import TpuScaling

params = TpuScaling.from_notebook(globals())
run = Run(params, "09_tpu_scaling")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The machine
#
# A TPU v4 chip multiplies matrices at 275 TFLOP/s in bfloat16 and has 32 GiB of memory, which it reaches with 1.2 TB/s. Four
# chips belong to a host, and the number in a slice's name counts cores, two per chip: a v4-64 has 32 chips on 8 hosts. PJRT,
# the runtime, counts chips: with one process per chip, a v4-64 has 32 processes, not 8. Here one process per host drives all
# its chips, and `batch_size` is the global one, whatever the slice.

# %%
from trm.tpu import figures as tpu_plots
from trm.tpu.plan import GIB, SLICES, duration

on, other = SLICES[params.slice], SLICES[params.compare_slice]
for each in (other, on):
    power, memory = each.chips * each.peak_flops / 1e15, each.chips * each.memory / GIB
    print(f"{each.name}: {each.chips} chips, {power:.1f} PFLOP/s in bfloat16, {memory:,.0f} GiB")

# %% [markdown]
# ## What every configuration needs: computed
#
# Parameters are counted on the model itself; FLOPs are those of the matrix products (the tests compare both with torch's own
# counters). Memory is what a chip keeps whole, five numbers per parameter, and for its own rows the state of the recursion
# and what the backward pass needs of the cycles that it goes through. Traffic is what the matrix products read and write; all
# else is taken as fused into them. XLA's own temporaries, the host and everything else that a clock would show are left out.
# The first of the sweeps is shown; `table.csv` in the run's folder has them all.

# %%
import pandas as pd

from trm.tpu.suites import cases_of, suite_plans, timetable

assumed = (params.utilisation, params.host_milliseconds)
plans, compare_plans = (suite_plans(params.suites, each, *assumed) for each in (on, other))
run.save_table(plans)
first = plans[plans["sweep"] == plans["sweep"].iloc[0]].set_index("case")
shown = {
    "parameters (M)": first["parameters"] / 1e6,
    "global batch": first["global_batch"],
    "rows per chip": first["rows"],
    "TFLOP per step": first["flops_per_step"] / 1e12,
    "GiB per chip": first["memory_gib"],
    "MB all-reduced": first["allreduce_bytes"] / 1e6,
    "FLOPs per byte": first["intensity"],
    "bound by": first["bound"],
    "hours": 24 * first["days"],
}
pd.DataFrame(shown).style.format(precision=2, thousands=",")

# %% [markdown]
# The following configurations cannot run as written. *Mend* is the change of parameters that fixes them. The others run: their
# batch can be shared by all chips, and they fit into a chip's memory (32 GiB).

# %%
both_plans = pd.concat([plans, compare_plans], ignore_index=True)
broken = both_plans[both_plans["fault"] != ""]
print(f"{len(both_plans) - len(broken)} of {len(both_plans)} plans run as written")
broken[["slice", "case", "fault", "mend"]].style.hide(axis="index")

# %% [markdown]
# ## What would bound it: computed
#
# A chip that does fewer FLOPs per byte than it could is waiting for its memory. In every step all chips add up their
# gradients over links of 45 GB/s (a ring, in both directions). And torch_xla traces every step again, operation by operation,
# in Python: the host's share is the one that was measured, on a processor, for the paper's model
# (`python tests/benchmarks/xla_tracing.py`), and is assumed to grow with the layers that a step applies.

# %%
run.save_figure(tpu_plots.roofline(plans, on), "roofline")

# %%
run.save_figure(tpu_plots.step_bounds(plans), "bounds")

# %% [markdown]
# How many configurations each bound limits, with the host's tracing and for the chips alone:

# %%
seconds = plans[["compute_seconds", "memory_seconds", "network_seconds"]]
chips_bound = seconds.idxmax(axis=1).str.removesuffix("_seconds")
pd.DataFrame({"with the host": plans["bound"].value_counts(), "chips alone": chips_bound.value_counts()}).fillna(
    0
).astype(int)

# %%
from trm.progress import say

best, traced = 1e3 * seconds.max(axis=1), 1e3 * plans["host_seconds"]
say(
    f"At best the chips need {best.min():.1f} to {best.max():.0f} ms per step, and the host {traced.min():.0f} to "
    f"{traced.max():.0f} ms to trace it: models this small need larger batches, or a step that is traced once. Hours and days "
    f"assume {params.utilisation:.0%} of peak where the other bounds allow it."
)

# %% [markdown]
# ## The timetable, worked out again: computed
#
# The scaling research plans 139 days for its suite on a v4-64, 35 with four runs at a time, 15 for a prioritised part. Of four
# at a time each has a quarter of the slice. One seed, as there.

# %%
parts = {
    "core": cases_of("scaling_research", "core"),
    "contributions": cases_of("scaling_research", "curriculum_recursion", "adaptive_halting"),
    "prioritised": cases_of("scaling_research", "prioritised"),
}
v4_64, quarter = SLICES["v4-64"], SLICES["v4-16"]
chips_alone = [suite_plans("scaling_research", each, params.utilisation) for each in (v4_64, quarter)]
with_host = [suite_plans("scaling_research", each, *assumed) for each in (v4_64, quarter)]
times = timetable(chips_alone, with_host, parts)
names = {"guide_days": "published (days)", "chips_days": "chips alone (days)", "days": "with their host (days)"}
times.rename(columns=names).style.format(precision=2).hide(axis="index")

# %%
baseline = suite_plans("tpu_quickstart", v4_64, *assumed).set_index("case").loc["e1_1_baseline"]
whole = times.set_index("what").loc["both"]
chips = baseline["days"] * baseline["compute_seconds"] / params.utilisation / baseline["step_seconds"]
say(
    f"At {params.utilisation:.0%} of peak the chips would do the suite in **{duration(whole['chips_days'])}**, one run after "
    f"the other, and its baseline (50,000 passes over 1,000 puzzles) in {duration(chips)}. With a host that takes "
    f"{params.host_milliseconds:g} ms per layer that it traces, the suite takes **{duration(whole['days'])}** and the baseline "
    f"**{duration(baseline['days'])}**. Published are 139 days, and 12 to 24 hours; at the 1.2 s per step that the quick start "
    f"shows, a v4-64 would work at {baseline['compute_seconds'] / 1.2:.2%} of its peak. Compilation (minutes per program), "
    "evaluation and restarts come on top. None of this was measured on a TPU."
)

# %% [markdown]
# ## The same training on XLA: measured
#
# A small model of chapter 04 is trained from the same initial weights, on the same puzzles, with the same draws for halting
# and exploration, which the host makes: on the processor, on one XLA device (but for real TPUs), and on several that share
# the batch.

# %%
from trm.stats import read_table
from trm.tpu import compare as backends

here = params.measure == "yes" or (params.measure == "auto" and backends.torch_xla_is_here())
if here:
    measured = backends.compare(params.steps, params.devices, params.pjrt_device)
else:
    measured = read_table(ROOT / "book" / "results" / "09_xla.csv")
found = backends.parity(measured)
when = True if here else str(measured["date"].iloc[0])
source = "measured just now" if here else f"not measured now: from the committed table of {when}"
print(f"{source}, torch_xla {measured['torch_xla'].iloc[0]}")

# %%
run.save_figure(tpu_plots.parity(backends.losses(measured)), "parity")
say(
    f"Over {found.steps} steps the losses of {', '.join(found.trainings)} ({found.devices}) differ by **{found.max_abs:.1e}** "
    f"at most ({found.max_relative:.1e} of the loss). Of {found.compiles} programs compiled, **{found.compiles_after_warmup}** "
    "came after the warm-up, with halting, exploration and refilling on."
)

# %% [markdown]
# The reasons, found by looking at the programs that were compiled:
#
# - **Numbers that change from step to step are data.** A learning rate, a step's number or the decay of an average, given as
#   a plain number, is kept by its value; when two such numbers happen to be equal, they become one input, and that is
#   another program. They are sent as tensors of their own.
# - **0 and 1 are not special numbers** (`XLA_NO_SPECIAL_SCALARS`): else Adam's correction, once it has come to 1, or a
#   curriculum that has reached its end, is a compile in the middle of a run.
# - **Nothing that shapes a step depends on data.** Halted rows are refilled by a mask; draws come with the batch; numbers are
#   read at `log_interval` alone, after the step.
# - **Evaluation is not shared**: every chip answers every puzzle.
# - **The optimizer's moments are there before the first step**, so that it is the same program as all others.
#
# Every `xla_metrics_every` steps the history gets the number and time of compiles, executions and transfers, and the share
# of the time spent waiting for batches; where that is most of it, the log names `prefetch`. A compile after the warm-up is
# reported at once, with the shape that changed.

# %%
metrics = {
    "xla/compiles_after_warmup": found.compiles_after_warmup,
    "xla/parity_max_abs_diff": found.max_abs,
    "xla/devices": found.devices,
}
metrics |= {f"{name}_measured": when for name in list(metrics)}
metrics |= {
    "plan/configurations": len(plans),
    "plan/faulty": int((plans["fault"] != "").sum()),
    "plan/days": float(whole["days"]),
    "plan/measured": False,
}
if params.tables:  # nine digits: parity is a matter of the seventh
    folder = ROOT / params.tables
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"plan": both_plans, "timetable": times, "xla": measured}.items():
        if name != "xla" or here:
            write_atomically(folder / f"09_{name}.csv", table.to_csv(index=False, float_format="%.9g"))
run.finish(metrics)
