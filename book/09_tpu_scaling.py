# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 09 · TPUs: XLA, data-parallel slices and a plan of the experiments
#
# **Does the training of chapter 04 run on TPUs, and what would a TPU slice make of these experiments?** The first question can
# be answered without a TPU: [PyTorch/XLA](https://github.com/pytorch/xla) runs the same programs on devices that the processor
# emulates, so that one can measure whether losses agree, whether a sharded training equals a whole one, and whether
# anything is compiled after the warm-up. How fast a TPU is can *not* be measured in this way. What stands here about a real
# slice is therefore arithmetic from published numbers and from the configurations, and is marked as such.
#
# ## What you will learn
#
# - how XLA turns a training step into a program, and what makes it compile the step again;
# - how a batch is shared by the chips of a slice, and why nothing but rounding changes;
# - how to bound the time of a step by compute, memory, network and host before renting a machine;
# - how to check that two backends train the same model.
#
# The chapter takes about a quarter of a minute on one core where torch_xla is not installed; with it, it trains three small
# models for 20 steps each, which takes about a minute more. It is also a program:
#
#     papermill book/09_tpu_scaling.ipynb outputs/09_tpu_scaling.ipynb -p slice v4-16
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
from trm.escape import in_html
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
# ## How XLA runs a training step
#
# On a processor or a GPU, PyTorch executes an operation when Python reaches it. On XLA it only records it. When the step ends
# (`torch_xla.sync()`), the record, a graph of some thousand operations, is looked up among the programs compiled so far. If it
# is there, it runs; if not, it is compiled first, which takes minutes for the paper's model on a TPU. So a step should make
# the same graph every time. The same shapes, the same operations and the same constants make the same graph; the values of
# tensors are not part of it.

# %%
from trm.teaching import diagram, show_source

steps_of = {
    "trace": (0, 0, "host: Python records\nthe step's operations", "net"),
    "graph": (2.0, 0, "graph:\nshapes, operations,\nconstants", "state"),
    "compile": (3.7, 1, "new: compile\n(minutes)", "loss"),
    "cache": (3.7, -0.7, "known: program\nfrom the cache", "state"),
    "chips": (5.4, 0, "every chip: gradient\non its share of the rows", "net"),
    "update": (7.3, 0, "all-reduce,\nthen the same\nupdate on all", "net"),
    "batch": (5.4, 1.2, "batch of $B$ rows,\n$B / C$ for each chip", "data"),
}
ways = [("trace", "graph"), ("graph", "compile"), ("graph", "cache"), ("compile", "chips"), ("cache", "chips")]
figure = diagram(steps_of, [*ways, ("batch", "chips"), ("chips", "update")], (9.0, 3.2))
run.save_figure(figure, "diagram")

# %% [markdown]
# ### A step that never changes its graph
#
# A TRM seems to need new graphs: a puzzle halts when its answer is sure, and another takes its place, so different rows are
# replaced in every step. The model therefore computes both for every row, the new puzzle and the old one, and a mask chooses.
# The mask is data. `refill` is the same code on all backends:

# %%
from trm.model import TRM

show_source(TRM.refill)

# %% [markdown]
# What else would change the graph, found by looking at the programs that were compiled:
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
# reported at once, with the shape that changed (`CompileWatch` in `trm/tpu/xla.py`).
#
# ### Data parallelism
#
# $C$ chips hold the same parameters $\theta$. Each computes the gradient on its $B / C$ rows of the batch, the gradients are
# averaged over the links, and every chip takes the same step:
#
# $$\nabla_\theta \frac{1}{B} \sum_{i=1}^{B} \ell_i(\theta)
#   = \frac{1}{C} \sum_{c=1}^{C} \Big( \frac{C}{B} \sum_{i \in \text{chip } c} \nabla_\theta\, \ell_i(\theta) \Big).$$
#
# The mean of the chips' means is the mean of the batch because all shares are equally large, so `batch_size` must be a multiple
# of $C$. In exact arithmetic $C$ changes nothing; in floating point sums are made in another order. A slice thus trains the
# same model in less time, as long as the batch is large enough to be shared.
#
# ## What every configuration needs: computed
#
# The time of a step is at least the longest of four: what the chips multiply, what they read and write, what they send to each
# other, and what the host traces. With $F$ FLOPs per step at the batch of all $C$ chips, peak $P$ per chip, $M$ bytes to and
# from a chip's memory at $\beta$ bytes per second, $G$ bytes of gradients, links of $\lambda$ bytes per second and direction,
# and $n$ applications of $L$ layers (a backward pass counts as two) of which the host traces one in $h$ seconds:
#
# $$t_\text{compute} = \frac{F}{C P}, \quad t_\text{memory} = \frac{M}{\beta}, \quad
#   t_\text{network} = \frac{2 (C - 1)}{C} \cdot \frac{G}{2 \lambda}, \quad t_\text{host} = n L h,$$
#
# $$t_\text{step} = \max(t_\text{compute} / u,\; t_\text{memory},\; t_\text{network},\; t_\text{host}),$$
#
# with $u$ the share of the peak that one hopes to reach (`utilisation`). A ring sends every gradient twice, once to add up and
# once to hand out, and uses both directions of a link. In float32 a TPU makes six passes in bfloat16, so $t_\text{compute}$ is
# six times as long. The whole of it is `plan`:

# %%
from trm.tpu.plan import plan

show_source(plan)

# %% [markdown]
# ### Worked example: the baseline of the quick start on a v4-64
#
# $F$ = 7.99 · 10¹² for 256 rows on 32 chips, $M$ = 1.56 · 10⁹ bytes, $G$ = 4,854,785 · 4 bytes. The network is applied
# 3 · (6 + 1) = 21 times, and the backward pass through the last H-cycle counts as 2 · 7 = 14 more: $n$ = 35, with $L$ = 2.
#
# | bound | | milliseconds |
# |---|---|---|
# | compute, at peak | 7.99e12 / (32 · 275e12) | 0.91 |
# | compute, at 40 % | 0.91 / 0.4 | 2.27 |
# | memory | 1.56e9 / 1.2e12 | 1.30 |
# | network | 2 · 31/32 · 19.4e6 / (2 · 45e9) | 0.42 |
# | host | 35 · 2 · 2.3 ms | 161 |
#
# The host decides: 195,312 steps of 161 ms are 8.7 hours, where the chips alone would take 7 minutes.

# %%
from trm.tpu.suites import suite_plans

v4_64 = SLICES["v4-64"]
one = suite_plans("tpu_quickstart", v4_64, 0.4, 2.3).set_index("case").loc["e1_1_baseline"]
compute = one["flops_per_step"] / (32 * 275e12)
by_hand = {"compute": compute, "memory": compute * 275e12 / one["intensity"] / 1.2e12,
           "network": 2 * 31 / 32 * one["parameters"] * 4 / (2 * 45e9), "host": 35 * 2 * 2.3e-3}  # fmt: skip
for name, seconds in by_hand.items():
    print(f"{name:8} {1e3 * seconds:7.2f} ms by hand, {1e3 * one[f'{name}_seconds']:7.2f} ms by `plan`")
print(f"{195312 * max(by_hand.values()) / 3600:.1f} hours by hand, {24 * one['days']:.1f} by `plan`")

# %% [markdown]
# ### All configurations
#
# Parameters are counted on the model itself; FLOPs are those of the matrix products (the tests compare both with torch's own
# counters). Memory is what a chip keeps whole, five numbers per parameter, and for its own rows the state of the recursion
# and what the backward pass needs of the cycles that it goes through. Traffic is what the matrix products read and write; all
# else is taken as fused into them. XLA's own temporaries, the host and everything else that a clock would show are left out.
# The first of the sweeps is shown; `table.csv` in the run's folder has them all.

# %%
import pandas as pd

from trm.tpu.suites import cases_of, timetable

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
in_html(pd.DataFrame(shown)).format(precision=2, thousands=",")

# %% [markdown]
# The following configurations cannot run as written. *Mend* is the change of parameters that fixes them. The others run: their
# batch can be shared by all chips, and they fit into a chip's memory (32 GiB).

# %%
both_plans = pd.concat([plans, compare_plans], ignore_index=True)
broken = both_plans[both_plans["fault"] != ""]
print(f"{len(both_plans) - len(broken)} of {len(both_plans)} plans run as written")
in_html(broken[["slice", "case", "fault", "mend"]]).hide(axis="index")

# %% [markdown]
# ## What would bound it: computed
#
# A chip that does fewer FLOPs per byte than it could is waiting for its memory: with the intensity $I = F / (C M)$ it reaches
# at most $\min(P, I \beta)$, and a v4 chip needs $275 / 1.2 = 229$ FLOPs per byte to be busy. That is the roofline.

# %%
run.save_figure(tpu_plots.roofline(plans, on), "roofline")

# %% [markdown]
# A dot on the slope waits for its memory, one on the flat part computes all the time. Most configurations stand on the slope
# near the corner: the weights are read again in every application, and a chip has few rows to share that reading. More rows
# per chip move a dot to the right.
#
# In every step all chips add up their gradients over links of 45 GB/s (a ring, in both directions). And torch_xla traces every
# step again, operation by operation, in Python: the host's share is the one that was measured, on a processor, for the paper's
# model (`python tests/benchmarks/xla_tracing.py`), and is assumed to grow with the layers that a step applies.

# %%
run.save_figure(tpu_plots.step_bounds(plans), "bounds")

# %% [markdown]
# The longest bar of a case bounds its step. Grey, the host, is the longest in all cases but that of the largest batch
# (`exp07f`), by a factor of thirty and more in most of them (the axis is logarithmic). Green, the network, is short everywhere,
# because the models are small; blue and orange are about equal, which is the corner of the roofline.
#
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
in_html(times.rename(columns=names)).format(precision=2).hide(axis="index")

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

show_source(backends.parity)

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
# Left: three curves on top of each other, so that one is seen. Right: their relative differences from the processor stay below
# 1e-6, mostly at 1e-7, which is the last digit of float32 (a point at 1e-9 is equal to the bit), and far below the dashed line
# at 1e-4. A wrong mask, a number read too early or a gradient averaged over the wrong rows would show here in the first steps.

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

# %% [markdown]
# ## Summary
#
# - XLA records a step as a graph, compiles it once, and runs it again as long as shapes, operations and constants are the same.
#   Halting by a mask, numbers sent as tensors and reading at intervals keep it the same: nothing is compiled after warm-up.
# - Sharing the batch changes only the order of sums: losses on the processor, one XLA device and eight agree within 1e-6 of
#   the loss.
# - Whatever the chips could do, tracing 70 applications of a layer takes the host 161 ms per step: computed, the suite takes
#   7.0 days on a v4-64 and would take 9.4 hours for the chips alone. None of this was measured on a TPU.
# - 86 of 88 configurations run on a v4-64 as written; the largest batch needs gradient accumulation to fit into memory, and
#   float16 another precision.
#
# ## Exercises
#
# **1. Large enough a batch.** The published recipe takes the host 161 ms per step, whatever the batch. Predict, from the worked
# example, the batch at which the chips of a v4-64, at 40 % of peak, take as long; then plan it.
#
# <details><summary>Solution</summary>
#
# ```python
# from trm.params import read_yaml
# from trm.puzzles.params import TrmTrain
#
# recipe = TrmTrain.create(read_yaml(ROOT / "params" / "04_paper.yaml") | {"precision": "float32", "compile": False})
# recipe = recipe.model_copy(update={"precision": "bfloat16"})
# for rows in (256, 2048, 18176, 32768):
#     planned = plan(recipe.model_copy(update={"batch_size": rows}), v4_64, 0.4, 2.3)
#     print(f"{rows:6,} rows: {1e3 * planned['step_seconds']:.0f} ms, {planned['memory_gib']:.1f} GiB per chip")
# ```
#
# 161 / 2.27 = 71 times the rows of 256, about 18,200. Planned are 161 ms up to 18,176 rows, and 291 ms with 32,768, which no
# longer fit into a chip (33 GiB). A batch that large needs its own learning rate and fewer steps: the time is not for free.
#
# </details>
#
# **2. A faster host.** Suppose that a step were traced once and for all (`host_milliseconds` 0). Predict what bounds the
# baseline then, and what the suite takes.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/09_tpu_scaling.ipynb outputs/traced_once.ipynb -p host_milliseconds 0
# ```
#
# The baseline's memory takes longer than its compute at peak (1.30 against 0.91 ms); at 40 % of peak compute takes longer still
# (2.27 ms). The suite takes 9.4 hours.
#
# </details>
#
# **3. Unequal shares.** The gradient of 64 rows is computed as the mean over shares. Predict the relative error with eight
# shares of 8 rows, and with seven of 8 and two of 4.
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
#
# torch.manual_seed(0)
# x, w = torch.randn(64, 100), torch.randn(100, requires_grad=True)
#
#
# def gradient(rows):
#     return torch.autograd.grad((rows @ w).square().mean(), w)[0]
#
#
# for shares in ([8] * 8, [8] * 7 + [4, 4]):
#     mean = torch.stack([gradient(part) for part in x.split(shares)]).mean(0)
#     print(f"{len(shares)} shares: {(mean - gradient(x)).abs().max() / gradient(x).abs().max():.0e}")
# ```
#
# 2e-07 with equal shares, which is rounding; 0.2 with unequal ones, because the rows of the small shares count twice.
#
# </details>
#
# ## References
#
# - A. Suhan and others, [LazyTensor: combining eager execution with domain-specific
#   compilers](https://arxiv.org/abs/2102.13267), 2021: how PyTorch/XLA records and compiles.
# - Y. Xu and others, [GSPMD: general and scalable parallelization for ML computation graphs](https://arxiv.org/abs/2105.04663),
#   2021: one program for all devices.
# - N. Jouppi and others, [TPU v4: an optically reconfigurable supercomputer for machine
#   learning](https://arxiv.org/abs/2304.01433), 2023: the machine.
# - S. Williams, A. Waterman and D. Patterson, [Roofline](https://doi.org/10.1145/1498765.1498785), 2009: compute against
#   memory.
# - J. Austin and others, [How to scale your model](https://jax-ml.github.io/scaling-book/), 2025: such plans for transformers,
#   and the numbers of the links.
