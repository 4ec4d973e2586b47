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
#     trm sweep run exp01 exp02 exp03 exp05 exp09 contributions tn_sweep --scale laptop --jobs 2
#     trm sweep results scaling_research --scale laptop --csv book/results/10_scaling_research.csv
#     trm sweep results tpu_quickstart --scale laptop --csv book/results/10_tpu_quickstart.csv
#
# at a scale that a laptop can do: 6x6 puzzles, 600 steps (about a minute) of training at one learning rate, three seeds. The
# findings below are about these tables; `-p results FILE` draws the tables and figures of others, separated by commas. A law
# found here is a law of small models on a small puzzle; nothing shows that it holds elsewhere.

# %% tags=["parameters"]
results = ""  # tables of `trm sweep results --csv`, separated by commas; empty: the committed ones
coverage = 0.95  # coverage of the intervals
resamples = 400  # resamples per bootstrap
seed = 0  # one seed for everything random

# %%
from trm.escape import in_html
from trm.run import ROOT, Run
from trm.scaling.params import ScalingLaws

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
# case; *explained*: share of the variance that the cases explain beyond chance (omega squared); *p*: of a one-way analysis of
# variance, which assumes normal errors of equal spread. With eight axes, p below 0.05 / 8 = 0.006 is significant.

# %%
axes = experiments.axis_table(runs)
formats = {"best accuracy": "{:.1%}", "worst accuracy": "{:.1%}", "difference": "{:.1f}", "deviation over seeds": "{:.1f}",
           "explained": "{:.0%}", "p": "{:.2g}"}  # fmt: skip
in_html(axes).style.format(formats, na_rep="")

# %% [markdown]
# In the committed tables every axis but one is significant: width, L_cycles, training puzzles, variants of each puzzle,
# averaged weights, T and n, contributions. The number of H-cycles is not (1 to 5 cycles, p = 0.14).
#
# ## Laws
#
# Accuracy itself does not follow a power law: it is bounded. Fitted is y, the odds of an unsolved puzzle (unsolved to
# solved, with half a count added to each), in three forms: a constant, y = E; log-linear, log y = a - b log x; and a power
# law with a floor, y = E + A x^-alpha. All are fitted robustly (Huber's loss on log y, many starts) and compared by AICc,
# which penalises every parameter; the simplest form within 2 of the lowest AICc stands. Intervals are bootstraps over runs.
#
# The largest size is then predicted from the others. A form is called a law only if that prediction is within 20 %, its floor
# is not above an observed mean, and its exponent is determined; *doubts* names what fails.

# %%
from trm.scaling.laws import study

sizes = {"exp01": "parameters N", "exp02": "L_cycles", "exp03": "H_cycles", "exp05": "training puzzles D"}
axis_of = {e.name: e for e in found}
studies, labels, rows = {}, [], {}
for name in [name for name in sizes if name in axis_of]:
    part = axis_of[name].of(runs)
    x = part[axis_of[name].x].to_numpy(float)
    y = experiments.error_odds(part[experiments.ACCURACY], part[experiments.ITEMS])
    law, rows[sizes[name]] = study(x, y, params.coverage, params.resamples, params.seed)
    studies[axis_of[name].title] = x, y, law
    labels.append(sizes[name])
if studies:
    figure = scaling_plots.laws(studies, labels)
    run.save_figure(figure, "laws")

# %% [markdown]
# ### Size and data together
#
# Chinchilla's form has both: y = E + A N^-alpha + B D^-beta (arXiv 2203.15556, approach 3). The runs form a cross (N varies at
# all puzzles, D at one width), which is enough to fit it, and too little to see whether N and D act independently. Its row
# is the last one.

# %%
import pandas as pd

if {"exp01", "exp05"} <= set(axis_of):
    both = experiments.configurations(pd.concat([axis_of[name].of(runs) for name in ("exp01", "exp05")]))
    x = both[["model/parameters", "train/puzzles"]].to_numpy(float)
    y = experiments.error_odds(both[experiments.ACCURACY], both[experiments.ITEMS])
    rows["N and D"] = study(x, y, params.coverage, params.resamples, params.seed)[1]
table = pd.DataFrame(rows).T.drop(columns=["a", "A", "B"], errors="ignore").fillna("")
in_html(table).style.format(lambda value: f"{value:.3g}" if isinstance(value, float) else value)

# %% [markdown]
# No power law holds in the committed tables.
#
# - **Width.** A power law with a floor has the lowest AICc, but its floor, 0.165, lies above the odds that the widest model
#   reaches, 0.119, its exponent of 6.3 is not determined, and fitted without the widest model it misses it by 34 %. What the
#   runs show is a threshold: models of 16 to 24 wide learn next to nothing in 600 steps at this one learning rate, those
#   of 48 and more do. A law in width would have to be sought with a rate chosen for each width and training to a plateau.
# - **L_cycles.** The mean is lower with one latent step than with two to six, among which it is flat: a step, too. The
#   exponent is not determined, and the floor lies above an observed mean.
# - **H_cycles.** No trend.
# - **Training puzzles.** A weak log-linear trend from 10 to 500 puzzles, each with its variants: the odds of an error fall as
#   D^-0.04 (95 % interval of the exponent 0.004 to 0.08).
# - **N and D together.** The fit without the largest N D misses it by 55 %.
#
# ## What is worth its compute
#
# A configuration is on the front if none is both cheaper and better. With few seeds the front itself is uncertain: the
# share says in how many resamples of the seeds a configuration stays on it. (It is not a confidence: the cheapest is on the
# front by definition, and three seeds say little about their spread.) FLOPs are counted from the configuration (matrix
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
share_on_front = {label: share[table["on_front"]] for label, (table, share) in fronts.items()}
in_html(pd.DataFrame(share_on_front)).style.format("{:.0%}", na_rep="")

# %% [markdown]
# The table gives the share of resamples of each member. In the committed tables, beside the cheapest, two are on both fronts
# in nearly all resamples: one H-cycle (`exp03a`), and `contrib06`, two H-cycles with gradients through both and a loss on each.
#
# ## Cases against a baseline
#
# Paired by seed, in points of accuracy: effect, 95 % interval, p and the minimum detectable effect (`mde`: what a test with
# these seeds detects in 80 % of the cases). Interval and p are corrected for the number of cases in the experiment. *FLOPs*:
# training compute as a multiple of the baseline's; a gain at more compute is not in itself an improvement.

# %%
baselines = {"contributions": "baseline", "exp01": "exp01e", "exp02": "exp02a", "exp03": "exp03a", "exp09": "exp09a",
             "tn_sweep": "e2_2_t3_n6"}  # fmt: skip
compared = {
    name: experiments.against_baseline(runs, axis_of[name], baseline)
    for name, baseline in baselines.items()
    if name in axis_of and baseline in set(axis_of[name].of(runs)["case"])
}
table = pd.concat(compared, names=["experiment", "case"]) if compared else pd.DataFrame()
signed = {name: "{:+.1f}" for name in ("effect", "low", "high")}
in_html(table).style.format(
    signed | {"mean": "{:.1f}", "std": "{:.1f}", "mde": "{:.1f}", "p": "{:.2g}", "FLOPs": "{:.2f}"}, na_rep=""
)

# %% [markdown]
# ## What this found

# %%
from trm.progress import say
from trm.stats import compare

suite = experiments.read_runs(committed)


def effect(case, baseline="baseline", tests=1):
    return compare(suite, experiments.ACCURACY, case, baseline, key="case", tests=tests)


say(
    f"""
Three seeds per case are few: the minimum detectable effect of a single comparison is
{100 * effect("contrib07").mde:.0f} points for `contrib07`, {100 * effect("exp02b", "exp02a").mde:.0f} for L_cycles 1 to 2 and
{100 * effect("exp01f", "exp01e").mde:.0f} for width 64 to 96. "Not significant" therefore does not mean "no effect" here.

- **Contributions.** None of the ten is significantly better or worse than the baseline once the ten comparisons share the
  5 %. The largest gain is `contrib06`: {effect("contrib06", tests=10).say()}, corrected for ten. It changes three things at
  once (gradients through all cycles, a loss on each, and two H-cycles instead of three) and takes 1.2 times the compute,
  which the still rising baseline would have used as well; it is not an improvement at equal compute that these runs could show.
- **Curriculum of depth.** At equal *steps*, and so at 0.7 and 0.8 of the compute: {effect("contrib01a").say()} and
  {effect("contrib01b").say()}, uncorrected. At equal *compute* chapter 03 finds no significant effect, +1.6 points (95 %
  interval -2.4 to +5.5, p = 0.34).
- **Averaged weights.** A decay of 0.99 against none: {effect("baseline", "exp09a").say()}; 0.98 against none:
  {effect("exp09e", "exp09a").say()}, both uncorrected.
- **L_cycles.** From 1 to 2: {effect("exp02b", "exp02a").say()}; the analysis of variance over all six values is significant.
- **T and n.** T = 2, n = 2 is worse than T = 3, n = 6 at less compute: {effect("e2_2_t2_n2", "e2_2_t3_n6", 4).say()}, corrected
  for four.
"""
)

# %%
metrics = {"runs": len(distinct), "experiments": len(found), "pareto/configurations": len(fronts["FLOPs of the training"][0]),
           "pareto/on_front": int(fronts["FLOPs of the training"][0]["on_front"].sum())}  # fmt: skip
for name, row in axes.iterrows():
    metrics[f"axes/{name.replace(' ', '_')}/difference"] = float(row["difference"])
run.finish(metrics)
