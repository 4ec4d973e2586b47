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
# # 10 · Scaling laws
#
# **What does a tiny recursive model gain from width, from recursion, from data, and does the gain follow a law?** This
# chapter trains nothing. It takes the runs of a sweep, each of which is chapter 04 with other parameters, and asks of every
# axis whether it matters more than the seed, whether a power law is supported, and which configurations are worth their
# compute.
#
# The tables that it reads by default were made by
#
#     python -m trm.sweep run exp01 exp02 exp03 exp05 exp09 contributions tn_sweep --scale laptop --jobs 2
#     python -m trm.sweep results scaling_research --scale laptop --csv book/results/10_scaling_research.csv
#     python -m trm.sweep results tpu_quickstart --scale laptop --csv book/results/10_tpu_quickstart.csv
#
# at a scale that a laptop can do: 6x6 puzzles, a minute of training, three seeds. `-p results FILE` reads others, with
# commas between several. A law found here is a law of small models on a small puzzle; nothing says that it holds elsewhere.

# %% tags=["parameters"]
# the runs
results = ""  # tables of `trm.sweep results --csv`, with commas between; empty: the committed ones
# how sure
coverage = 0.9  # coverage of the intervals
resamples = 400  # draws of each bootstrap
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

# %%
from trm.report.params import ScalingLaws
from trm.run import ROOT, Run

params = ScalingLaws.from_notebook(globals())
run = Run(params, "10_scaling_laws")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The runs

# %%
from trm.scaling import experiments

committed = sorted((ROOT / "book" / "results").glob("10_*.csv"))
paths = [path.strip() for path in params.results.split(",")] if params.results else committed
runs = experiments.read_runs(paths)
distinct = experiments.configurations(runs)
found = experiments.present(runs)
if not found:
    raise experiments.UserError(
        f"no experiment in {', '.join(map(str, paths))}: cases are called exp01a, e2_2_t2_n2 and so on"
    )
print(f"{len(distinct)} runs of {distinct.groupby('sweep')['case'].nunique().sum()} distinct configurations")
print("not in these tables:", ", ".join(e.name for e in experiments.EXPERIMENTS if e not in found) or "nothing")

# %% [markdown]
# ## Along each axis
#
# Grey: runs. Blue: mean and standard deviation over the seeds. Along width, recursion and data only that parameter changes:
# a run with more FLOPs has had more compute, not more steps. (With the batch the steps change, so that all see as many
# examples; with supervision steps those of evaluation too; T and n, and the contributions, are kinds of their own.)

# %%
from trm.scaling import figures as scaling_plots

figure = scaling_plots.axes_of(runs, found)
run.save_figure(figure, "axes")

# %% [markdown]
# Does an axis matter more than the seed? *Difference*: best case less worst case, in points; *deviation over seeds*: within a
# case; *explained*: share of the variance that the cases explain beyond what chance would (omega squared); *p*: that cases
# which are all the same would differ so much (analysis of variance, which takes errors for normal and equally spread).

# %%
from trm.findings import say

axes = experiments.axis_table(runs)
formats = {"best accuracy": "{:.1%}", "worst accuracy": "{:.1%}", "difference": "{:.1f}", "deviation over seeds": "{:.1f}",
           "explained": "{:.0%}", "p": "{:.2g}"}  # fmt: skip
axes.style.format(formats, na_rep="")

# %%
say(experiments.say_axes(axes))

# %% [markdown]
# ## Laws
#
# Accuracy itself is no quantity for a power law: it is bounded. Fitted is y, the odds of an unsolved puzzle (unsolved to
# solved, with half a count added to each), in three forms: a constant, y = E; log-linear, log y = a - b log x; and a power
# law with a floor, y = E + A x^-alpha. All are fitted robustly (Huber's loss on log y, many starts) and compared by AICc,
# which charges for every parameter; intervals are bootstraps over runs, and the form that stands is asked to foretell the
# largest size from the others.

# %%
from trm.scaling.verdict import study, verdict
from trm.stats_old import error_odds

sizes = {"exp01": "parameters N", "exp02": "L_cycles", "exp03": "H_cycles", "exp05": "training puzzles D"}
studies, labels = {}, []
for experiment in found:
    if experiment.name in sizes:
        part = experiment.of(runs)
        x = part[experiment.x].to_numpy(float)
        y = error_odds(part[experiments.ACCURACY], part[experiments.ITEMS])
        studies[experiment.title] = x, y, study(x, y, params.coverage, params.resamples, params.seed)
        labels.append(sizes[experiment.name])
if studies:
    figure = scaling_plots.laws(studies, labels)
    run.save_figure(figure, "laws")

# %%
for (title, (_, _, what)), label in zip(studies.items(), labels):
    say(f"**{title}** ({label}). {verdict(what)}")

# %% [markdown]
# ### Size and data together
#
# Chinchilla's form has both: y = E + A N^-alpha + B D^-beta (arXiv 2203.15556, approach 3). The runs form a cross (N varies at
# all puzzles, D at one width), which is enough to fit it, and too little to see whether N and D act apart from each other.

# %%
parts = [e.of(runs) for e in found if e.name in ("exp01", "exp05")]
joint = None
if len(parts) == 2:
    both = experiments.configurations(experiments.pd.concat(parts))
    x = both[["model/parameters", "train/puzzles"]].to_numpy(float)
    y = error_odds(both[experiments.ACCURACY], both[experiments.ITEMS])
    joint = study(x, y, params.coverage, params.resamples, params.seed)
    say(verdict(joint))

# %% [markdown]
# ## What is worth its compute
#
# A configuration is on the front if none is both cheaper and better. With few seeds the front is a draw of chance too: the
# share says in how many resamples of the seeds a configuration stays on it. (It is no confidence: the cheapest is on the
# front by definition, and three seeds say little of their spread.) FLOPs are counted from the configuration (matrix
# products, forward and backward); those of an answer are for all the supervision steps of evaluation.

# %%
from trm.scaling import pareto

grid = distinct.assign(error=1 - distinct[experiments.ACCURACY])
fronts = {}
for column, label in (("flops/training", "FLOPs of the training"), ("flops/answer", "FLOPs of an answer")):
    args = (grid, "case", column, "error")
    fronts[label] = pareto.front(*args), pareto.membership(*args, params.resamples, params.seed)
figure = scaling_plots.pareto(fronts)
run.save_figure(figure, "pareto")

# %%
for label, (table, share) in fronts.items():
    on = table.index[table["on_front"]]
    sure = [name for name in on[1:] if share[name] >= params.coverage and table.loc[name, "n"] > 1]
    say(
        f"**{label}**: {len(on)} of {len(table)} configurations are on the front, {len(sure)} of them, beside the cheapest, "
        f"in at least {params.coverage:.0%} of the resamples" + (f" ({', '.join(sure)})." if sure else ".")
    )

# %% [markdown]
# ## Kinds against the baseline
#
# Seed by seed, in points of accuracy, with intervals (t, paired). *FLOPs*: training compute as a multiple of the baseline's; a
# gain at more compute is no gain in itself.

# %%
kinds = {"contributions": "baseline", "exp09": "exp09a", "tn_sweep": "e2_2_t3_n6"}
compared = {}
for experiment in found:
    if experiment.name in kinds and kinds[experiment.name] in set(experiment.of(runs)["case"]):
        compared[experiment.name] = experiments.against_baseline(
            runs, experiment, kinds[experiment.name], params.coverage
        )
table = experiments.pd.concat(compared, names=["experiment", "case"]) if compared else experiments.pd.DataFrame()
table.style.format({"mean": "{:+.1f}", "low": "{:+.1f}", "high": "{:+.1f}", "p": "{:.2g}", "n": "{:.0f}", "FLOPs": "{:.2f}",
                    "unmatched": "{:.0f}"}, na_rep="")  # fmt: skip

# %% [markdown]
# ## What this found

# %%
supported = [f"{what.supported} in {label}" for (_, _, what), label in zip(studies.values(), labels)]
better = [case for case in table.index if table.loc[case, "low"] > 0] if len(table) else []
worse = [case for case in table.index if table.loc[case, "high"] < 0] if len(table) else []
say(
    f"Over {len(distinct)} runs the simplest supported forms are: {'; '.join(supported) or 'none, nothing was fitted'}. "
    f"At {params.coverage:.0%} each, better than what they are held against: "
    f"{', '.join(case for _, case in better) or 'nothing'}; worse: {', '.join(case for _, case in worse) or 'nothing'}. "
    "These intervals are not corrected for how many there are."
)

# %%
metrics = {"runs": len(distinct), "experiments": len(found), "pareto/configurations": len(fronts["FLOPs of the training"][0]),
           "pareto/on_front": int(fronts["FLOPs of the training"][0]["on_front"].sum())}  # fmt: skip
for name, row in axes.iterrows():
    metrics[f"axes/{name.replace(' ', '_')}/difference"] = float(row["difference"])
run.finish(metrics)
