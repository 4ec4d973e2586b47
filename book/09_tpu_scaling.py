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
# answered without a TPU: [PyTorch/XLA](https://github.com/pytorch/xla) runs the same programs on devices that a processor
# plays, so that one can measure whether losses agree, whether a sharded training equals a whole one, and whether
# anything is compiled after the warm-up. How fast a TPU is can *not* be measured so. What stands here about a real slice is
# therefore arithmetic from published numbers and from the configurations, and says so.
#
# The training is chapter 04 with `-p backend xla`: one program for all chips (SPMD), the batch shared among them, the
# parameters whole on each. It wants an environment of its own (`requirements-tpu.txt`: torch_xla 2.9.0 is the last release and
# works with torch 2.9.0 only). Without it this chapter shows what was measured when the committed table was made, by
#
#     PJRT_DEVICE=CPU python book/09_tpu_scaling.py -p measure yes -p tables book/results

# %% tags=["parameters"]
# the plan
slice = "v4-64"  # TPU slice that is planned for
beside = "v4-8"  # a second slice to hold it against
suites = "tpu_quickstart, scaling_research"  # sweeps, at paper scale, that are planned
utilisation = 0.4  # share of peak FLOP/s that is hoped for
host_milliseconds = 2.3  # a host's time to trace a layer's application, measured on a processor; 0: left out
# the measurement
measure = "auto"  # train on XLA; auto: where torch_xla is installed
steps = 20  # optimizer steps of each measured training
devices = 8  # XLA devices that the processor plays
pjrt_device = "CPU"  # XLA devices: played by the processor, or real ones
tables = ""  # folder to write the tables to, such as book/results; empty: none
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

# %%
from trm.run import ROOT, Run
from trm.tpu.params import TpuScaling

params = TpuScaling.from_notebook(globals())
run = Run(params, "09_tpu_scaling")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The machine
#
# A TPU v4 chip multiplies matrices at 275 TFLOP/s in bfloat16 and has 32 GiB of memory, which it reaches with 1.2 TB/s. Four
# chips belong to a host, and the number in a slice's name counts cores, two a chip: a v4-64 has 32 chips on 8 hosts. PJRT,
# the runtime, knows chips: run with a process a chip, a v4-64 has 32 of them, not 8. Here one process a host drives all
# its chips, and `batch_size` is the batch of all of them together, whatever the slice.

# %%
from trm.findings import say
from trm.tpu import figures as tpu_plots
from trm.tpu import findings as tpu_findings
from trm.tpu.slices import SLICES

on, other = SLICES[params.slice], SLICES[params.beside]
run.save_figure(tpu_plots.slices(other, on), "slices")

# %% [markdown]
# ## What every configuration asks for: computed
#
# Parameters are counted on the model itself; FLOPs are those of the matrix products (the tests hold both against torch's own
# counters). Memory is what a chip keeps whole, five numbers a parameter, and for its own rows the state of the recursion and
# what the backward pass needs of the cycles that it goes through. Traffic is what the matrix products read and write; all
# else is thought fused into them. XLA's own temporaries, the host and everything else that a clock would show are not in here.
# The first of the sweeps is shown; `table.csv` in the run's folder has them all.

# %%
from trm.sweep.tpu import cases_of, suite_plans

hopes = (params.utilisation, params.host_milliseconds)
plans, beside_plans = (suite_plans(params.suites, each, *hopes) for each in (on, other))
run.save_table(plans)
tpu_findings.overview(plans[plans["sweep"] == plans["sweep"].iloc[0]])

# %% [markdown]
# A configuration that cannot run as it is written is named, with what mends it.

# %%
say(f"{tpu_findings.what_runs(plans, on)} {tpu_findings.what_runs(beside_plans, other)}")
run.save_figure(tpu_plots.memory({on.name: plans, other.name: beside_plans}, on.memory / 2**30), "memory")

# %% [markdown]
# ## What would bound it: computed
#
# A chip that does fewer FLOPs for each byte than it could is waiting for its memory. And in every step all chips add up their
# gradients over links of 45 GB/s (a ring, both ways round). And torch_xla traces every step anew, operation by operation, in
# Python: the host's share is the one that was measured, on a processor, for the paper's model
# (`python tests/benchmarks/xla_tracing.py`), and is taken here to grow with the layers that a step applies.

# %%
run.save_figure(tpu_plots.roofline(plans, on), "roofline")

# %%
run.save_figure(tpu_plots.step_bounds(plans), "bounds")
say(tpu_findings.what_bounds(plans, params.utilisation))

# %% [markdown]
# ## The timetable, worked out again: computed
#
# The guide plans 139 days for its suite on a v4-64, 35 with four runs at a time, 15 for a prioritised part. Four at a time
# have a quarter of the slice each. One seed, as there.

# %%
parts = {
    "core": cases_of("scaling_research", "core"),
    "contributions": cases_of("scaling_research", "curriculum_recursion", "adaptive_halting"),
    "prioritised": cases_of("scaling_research", "prioritised"),
}
v4_64, quarter = SLICES["v4-64"], SLICES["v4-16"]
chips_alone = [suite_plans("scaling_research", each, params.utilisation) for each in (v4_64, quarter)]
with_host = [suite_plans("scaling_research", each, *hopes) for each in (v4_64, quarter)]
timetable = tpu_findings.timetable(chips_alone, with_host, parts)
names = {"guide_days": "guide (days)", "chips_days": "chips alone (days)", "days": "with their host (days)"}
timetable.rename(columns=names).style.format(precision=2).hide(axis="index")

# %%
quickstart = suite_plans("tpu_quickstart", v4_64, *hopes).set_index("case")
say(tpu_findings.what_it_takes(timetable, quickstart.loc["e1_1_baseline"], *hopes))

# %% [markdown]
# ## The same training on XLA: measured
#
# A small model of chapter 04 is trained from the same first weights, on the same puzzles, with the same draws for halting and
# exploration, which the host makes: on the processor, on one XLA device (but for real TPUs), and on several that share the
# batch.

# %%
from trm.tpu import compare as backends

here = params.measure == "yes" or (params.measure == "auto" and backends.torch_xla_is_here())
committed = ROOT / "book" / "results" / "09_xla.csv"
if here:
    measured = backends.compare(run, params.steps, params.devices, params.pjrt_device)
else:
    measured = tpu_findings.read_measured(committed)
found = tpu_findings.parity(measured)
when = True if here else str(measured["date"].iloc[0])
source = "measured just now" if here else f"not measured now: from the committed table of {when}"
print(f"{source}, torch_xla {measured['torch_xla'].iloc[0]}")

# %%
run.save_figure(tpu_plots.parity(tpu_findings.losses(measured)), "parity")
say(tpu_findings.how_equal(found))

# %% [markdown]
# What made it so, found by looking at the programs that were compiled:
#
# - **Numbers that change from step to step are data.** A learning rate, a step's number or the decay of an average, given as
#   a plain number, is kept by its value; when two such numbers happen to be equal, they become one input, and that is
#   another program. They are sent as tensors of their own.
# - **0 and 1 are no special numbers** (`XLA_NO_SPECIAL_SCALARS`): else Adam's correction, once it has come to 1, or a
#   curriculum that has reached its end, is a compile in the middle of a run.
# - **Nothing that shapes a step depends on data.** Halted rows are refilled by a mask; draws come with the batch; numbers are
#   read at `log_interval` alone, after the step.
# - **Evaluation is not shared**: every chip answers every puzzle.
# - **The optimizer's moments are there before the first step**, so that it is the same program as all others.
#
# Every `xla_metrics_every` steps the history gets the number and time of compiles, executions and transfers, and the share
# of the time that went into waiting for batches; where that is most of it, the log names `prefetch`. A compile after the
# warm-up is said at once, with the shape that changed.

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
    "plan/days": float(timetable.set_index("what").loc["both", "days"]),
    "plan/measured": False,
}
if params.tables:
    tpu_findings.write_tables(params.tables, plans, beside_plans, timetable, measured if here else None)
run.finish(metrics)
