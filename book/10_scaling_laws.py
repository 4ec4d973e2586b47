# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
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
#     trm sweep run scaling_rates scaling_contributions_rates scaling_depth_rates scaling_layers_rates --jobs 2
#     trm sweep run scaling_research tpu_quickstart --jobs 2
#     trm sweep results scaling_rates scaling_contributions_rates scaling_depth_rates scaling_layers_rates \
#         --csv book/results/10_rates.csv
#     trm sweep results scaling_research --csv book/results/10_scaling_research.csv
#     trm sweep results tpu_quickstart --csv book/results/10_tpu_quickstart.csv
#
# at a scale that a laptop can do. All rows share one recipe, like that of arm `none/last` in chapter 02 with fewer steps and
# another rate: the pack 6x6, width 32, three H-cycles of two latent steps (quick start: three, and 1,000 training puzzles),
# gradients through the last, 1,000 steps with a falling rate. Three seeds; five on the
# axes width, L_cycles and H_cycles; ten of the contributions, whose steps are scaled so that all take the baseline's FLOPs.
# Rates were chosen by validation loss, with seeds that are not used here (one; width 32: three): the lowest rate whose loss is
# within 15 % of the best. Each width, each case of `exp04` and each network of the quick start with more layers or attention
# has its own, of six rates (where none learns, the best), and of four each contribution that changes the optimisation; all
# other runs have that of width 32, which at the ends of L_cycles is the best of four, and at those of H_cycles within 11 %.
# Batch, warm-up, supervision steps, optimizer and what else the quick start changes were not tuned. float16 (`exp08c`)
# requires CUDA and was not run. `-p results FILE` draws the tables and figures of others, separated by commas. A law found
# here is a law of small models on a small puzzle; nothing shows that it holds elsewhere.

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

folder = ROOT / "book" / "results"
committed = [folder / f"10_{suite}.csv" for suite in ("scaling_research", "tpu_quickstart")]
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
# The rates that were tried for the committed tables: loss on the validation puzzles at the end.

# %%
import numpy as np
import pandas as pd

rates = pd.read_csv(folder / "10_rates.csv")
rates.pivot_table(index="case", columns="lr", values="valid/loss").round(3)

# %% [markdown]
# ## Along each axis
#
# Grey: runs. Blue: mean and standard deviation over the seeds. Along width, recursion and data only that parameter changes
# (and with the width its rate): a run with more FLOPs has had more compute, not more steps. With the batch the steps change, so
# that all see as many examples; with supervision steps those of evaluation too. `exp09` has a constant rate, at which averaging
# matters. T and n, the quick start and the contributions are kinds of their own.

# %%
from trm.scaling import figures as scaling_plots

figure = scaling_plots.axes_of(runs, found)
run.save_figure(figure, "axes")

# %% [markdown]
# Does an axis matter more than the seed? *Difference*: best case less worst case, in points; *deviation over seeds*: within a
# case; *explained*: share of the variance that the cases explain beyond chance (omega squared); *p*: of a one-way analysis of
# variance, which assumes normal errors of equal spread.

# %%
axes = experiments.axis_table(runs)
formats = {"best accuracy": "{:.1%}", "worst accuracy": "{:.1%}", "difference": "{:.1f}", "deviation over seeds": "{:.1f}",
           "explained": "{:.0%}", "p": "{:.2g}"}  # fmt: skip
in_html(axes).style.format(formats, na_rep="")

# %%
from trm.progress import say

clear = axes.index[axes["p"] < 0.05 / len(axes)]
say(f"""
With {len(axes)} axes in these tables, p below 0.05 / {len(axes)} = {0.05 / len(axes):.4f} is significant:
{", ".join(clear) or "none"}.
""")

# %% [markdown]
# ## Laws
#
# Fitted is the cross-entropy per blank cell of the test puzzles, in three forms: a constant, y = E; log-linear,
# log y = a - b log x; and a power law with a floor, y = E + A x^-alpha. All are fitted robustly (Huber's loss on log y, many
# starts) and compared by AICc, which penalises every parameter; the simplest form within 2 of the lowest AICc stands.
# Intervals are bootstraps over runs.
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
    y = part[experiments.LOSS].to_numpy(float)
    law, rows[sizes[name]] = study(x, y, params.coverage, params.resamples, params.seed)
    studies[axis_of[name].title] = x, y, law
    labels.append(sizes[name])
if studies:
    figure = scaling_plots.laws(studies, labels)
    run.save_figure(figure, "laws")

# %% [markdown]
# ### Size and data together
#
# Chinchilla's form has both: y = E + A N^-alpha + B D^-beta (arXiv 2203.15556, approach 3). It is fitted where the tables have
# runs of both axes, a cross (N varies at all puzzles, D at one width), which is too little to see whether N and D act
# independently. Its row is the last one.

# %%
if {"exp01", "exp05"} <= set(axis_of):
    both = experiments.configurations(pd.concat([axis_of[name].of(runs) for name in ("exp01", "exp05")]))
    x = both[["model/parameters", "train/puzzles"]].to_numpy(float)
    rows["N and D"] = study(x, both[experiments.LOSS].to_numpy(float), params.coverage, params.resamples, params.seed)[
        1
    ]
table = pd.DataFrame(rows).T.drop(columns=["a", "A", "B"], errors="ignore").fillna("")
in_html(table).style.format(lambda value: f"{value:.3g}" if isinstance(value, float) else value)

# %% [markdown]
# In the left panels a law would be a straight line that the blue means follow to the last. The findings below say which do.
#
# ## What recursion brings
#
# An application of the network to its own state again takes compute, and no parameters. Two measures of what it brings. The
# first is the exponent phi of arXiv 2604.21106: parameters that are applied r times count as r^phi times as many,
#
# $$ y = E + A\,(N_\text{once} + r^{\varphi} N_\text{shared})^{-\alpha}, $$
#
# 0 if recurrence brings nothing, 1 if it brings as much as so many more parameters (0.46 in language models there). r counts
# the applications in one supervision step, H_cycles (L_cycles + 1); fitted are the widths together with L_cycles, and with
# H_cycles.

# %%
from trm.model import TRM
from trm.puzzles.params import TrmTrain
from trm.scaling.laws import recurrence_exponent


def shared_parameters(width: int) -> int:
    """Parameters of the network that is applied again and again; the others are the embedding and the heads."""
    return sum(p.numel() for p in TRM(TrmTrain.create({"hidden_size": width}).trm_config()).net.parameters())


exponents = {}
for name in [name for name in ("exp02", "exp03") if {name, "exp01"} <= set(axis_of)]:
    cross = experiments.configurations(pd.concat([axis_of[axis].of(runs) for axis in ("exp01", name)]))
    shared = cross["hidden_size"].map({width: shared_parameters(width) for width in cross["hidden_size"].unique()})
    applied = cross["H_cycles"] * (cross["L_cycles"] + 1)
    settings = params.coverage, params.resamples, params.seed
    args = cross["model/parameters"] - shared, shared, applied, cross[experiments.LOSS]
    exponents[axis_of[name].label] = recurrence_exponent(*args, *settings)
table = pd.concat(exponents) if exponents else pd.DataFrame()
table.round(3)

# %% [markdown]
# The second measure asks what the same FLOPs bring in another width: the loss of each case as a ratio to that of a wider or
# narrower model with as many FLOPs of training and as many steps, on straight lines between the widths (paired by seed,
# corrected for the rows of the axis). Below 1 recursion is the better use of the compute.

# %%
as_wide = {
    (axis_of[name].label, what): experiments.against_width(runs, axis_of[name], cost=cost)
    for name in ("exp02", "exp03", "exp04")
    if {name, "exp01"} <= set(axis_of)
    for what, cost in (("training", "flops/training"), ("answer", "flops/answer"))
}
table = pd.concat(as_wide, names=["axis", "equal FLOPs of", "case"]) if as_wide else pd.DataFrame()
table.round(3)

# %% [markdown]
# A ratio without an interval is the baseline, which is one of the widths.
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
# The table gives the share of resamples of each member.
#
# ## Cases against a baseline
#
# Paired by seed, in points of accuracy: effect, 95 % interval, p and the minimum detectable effect (`mde`: what a test with
# these seeds detects in 80 % of the cases). Interval and p are corrected for the number of cases in the experiment. *FLOPs*:
# training compute as a multiple of the baseline's; a gain at more compute is not in itself an improvement.

# %%
baselines = {"contributions": "baseline", "exp01": "exp01c", "exp02": "exp02a", "exp03": "exp03a", "exp04": "exp04b",
             "exp06": "exp06c", "exp07": "exp07b", "exp08": "exp08a", "exp09": "exp09a", "exp10": "exp10b",
             "tn_sweep": "e2_2_t3_n6", "quick start": "e1_1_baseline"}  # fmt: skip
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
from trm.stats import compare

by_case = runs.groupby("case")[[experiments.ACCURACY, experiments.LOSS]].mean()


def effect(case, baseline="baseline", tests=1, metric=experiments.ACCURACY, ratio=False):
    """A case against another in words, corrected for `tests` comparisons."""
    return compare(runs, metric, case, baseline, key="case", ratio=ratio, tests=tests).say()


def between(row, digits=2):
    """An estimate with its interval."""
    return f"{row['estimate']:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def as_width(axis, case):
    """The loss of a case over that of a width with the same FLOPs of training."""
    row = as_wide[axis_of[axis].label, "training"].loc[case]
    return f"{row['ratio']:.2f} times ({row['low']:.2f} to {row['high']:.2f})"


if params.results:
    say("The findings are about the committed tables; for others the tables and figures above speak.")
else:
    width, (deep, wide) = rows["parameters N"], (exponents[axis_of[n].label].loc["phi"] for n in ("exp02", "exp03"))
    ten = compared["contributions"].drop("baseline")
    missed = 100 * (1 - np.exp(-abs(width["log_error"])))
    mean_of, cells = by_case[experiments.ACCURACY], runs.groupby("case")["test/cell_accuracy"].mean()
    spread = " and ".join(
        f"{100 * runs.loc[runs['case'] == c, experiments.ACCURACY].std():.0f}" for c in ("exp06e", "exp06f")
    )
    flat = compare(runs, experiments.ACCURACY, "exp02f", "exp02b", key="case", tests=5)
    say(f"""
**Width pays, by something like a law.** At equal steps, with a rate chosen for each width, the cross-entropy per blank cell
falls from {by_case.loc["exp01a", experiments.LOSS]:.2f} at 16 wide to {by_case.loc["exp01f", experiments.LOSS]:.3f} at 96, with
15 times the FLOPs, and the share of puzzles solved rises from {by_case.loc["exp01a", experiments.ACCURACY]:.1%} to
{by_case.loc["exp01f", experiments.ACCURACY]:.1%} (five seeds each). The form is {width["form"]}: N to the power of minus
{width["b"]}, from 6,609 to 43,681 parameters. It barely passes: the widest model is predicted {missed:.0f} % too low from the
others ({abs(width["log_error"]):.2f} in log, where 0.2 is the limit). A power law with a floor cannot be distinguished (AICc
behind: {width["AICc behind"]}).

**More latent steps bring less than width; for H-cycles it is undecided**, at equal steps, with a rate for each width and one
for all depths, which was checked at their ends. Parameters that are applied r times count as r^{between(deep)} times as many
where r grows by latent steps, which rests on the case with one of them, and as r^{between(wide)} where it grows by H-cycles;
in language models the exponent is said to be 0.46 (arXiv 2604.21106). From two latent steps to six, with 2.3 times the FLOPs,
no gain is found: {effect("exp02f", "exp02b", 5)}, minimum detectable effect {100 * flat.mde:.0f} points; and the loss of six
is {as_width("exp02", "exp02f")} that of a wider model with the same FLOPs of training. One latent step instead of two:
{effect("exp02a", "exp02b", 5)}. H-cycles from one to five, with 2.3 times the FLOPs: {effect("exp03e", "exp03a", 4)} (over the
five cases the axis matters, p = {axes.loc["exp03", "p"]:.2g}); whether they or width use FLOPs better is undecided, the loss
of five is {as_width("exp03", "exp03e")} that of a wider model.

**No contribution is a significant improvement** at equal FLOPs of training, with ten seeds, rates chosen for those that change
the optimisation (by one seed, the baseline's by three) and intervals corrected for ten. The largest gain,
`{ten["effect"].idxmax()}`, four times the steps at test time and so four times the FLOPs of an answer, is undecided:
{effect("contrib03", tests=10)}. The depth curriculum differs by {effect("contrib01a", tests=10)} and
{effect("contrib01b", tests=10)}; full gradients (`contrib06`), 556 steps in place of 1,000, by
{effect("contrib06", tests=10)}; a constant rate by {effect("contrib08", tests=10)}. Learned puzzle tokens, which leave 555
steps, differ by {effect("contrib07", tests=10)}; whether the tokens or the missing steps cost this is open. Minimum detectable
effects run from {ten["mde"].min():.0f} points to {ten["mde"].max():.0f}.

**Six layers learn nothing in this time, four little.** With the product of layers and latent steps held at 12, one layer of
twelve steps solves {mean_of["exp04a"]:.1%}, two of six {mean_of["exp04b"]:.1%}, three of four {mean_of["exp04c"]:.1%}, four of
three {mean_of["exp04d"]:.1%} (three seeds, with 0.93 to 1.14 times the FLOPs of two); among one, two and three no difference
is significant. The loss of two is {as_width("exp04", "exp04b")} that of a wider model of one layer and two latent steps with
the same FLOPs of training.

**Ten puzzles suffice for most of it, if their variants are unlimited.** With a new variant by symmetry each time a puzzle is
seen, 10 training puzzles bring {mean_of["exp05a"]:.1%} and 500 {mean_of["exp05f"]:.1%}; over the six sizes no difference is
found (p = {axes.loc["exp05", "p"]:.2f}, three seeds), and no law; the loss with 10 is
{effect("exp05a", "exp05f", metric=experiments.LOSS, ratio=True)} that with 500. With fixed variants the number of distinct
examples counts: of 100 puzzles with one each {mean_of["exp05g"]:.1%} are solved, with ten {mean_of["exp05h"]:.1%}, with fifty
{mean_of["exp05i"]:.1%}; as many puzzles without variants were not run. (All 6x6 grids have 49 classes by symmetry.)

**Averaged weights** matter where the rate does not fall: without them {effect("exp09a", "contrib08")} against a decay of 0.99,
at a rate that was chosen with it. Where it falls, they are undecided: {effect("e2_1_ema_off", "e1_1_baseline")}.

**Attention solves no puzzle in this time** ({cells["e2_3_attention"]:.0%} of the cells, the best of six rates); nor does the
baseline without warm-up at its rate ({cells["e4_4_no_warmup"]:.0%}). With larger batches at that rate and as many examples, so
fewer optimizer steps, 500 steps solve {mean_of["exp07c"]:.1%}, 250 {mean_of["exp07d"]:.1%}
({mean_of["e1_3_batch_1024"]:.1%} in the quick start, with more latent steps and fewer puzzles) and 125 {mean_of["exp07e"]:.1%};
their rates were not tuned. Two layers of width 64, at a rate of their own, solve {mean_of["e3_1_large_model"]:.1%} with 5.7
times the baseline's FLOPs, no more than one layer of width 96 ({mean_of["exp01f"]:.1%}), which takes fewer.

**Undecided with three seeds**: supervision steps (from {mean_of["exp06e"]:.0%} to {mean_of["exp06b"]:.0%}, where runs with
twelve and sixteen have a standard deviation of {spread} points), precision (bfloat16 differs by {effect("exp08b", "exp08a")}),
the optimizer (the largest difference is without weight decay, {effect("exp10e", "exp10b", 4)}), and T and n, which are 3 and 3
here for the source's 3 and 6: T = 2, n = 1, with 0.4 of the FLOPs, differs by {effect("e2_2_t2_n2", "e2_2_t3_n6", 4)}, and T =
4, n = 3, with 1.2, by {effect("e2_2_t4_n6", "e2_2_t3_n6", 4)}, corrected for four.
""")

# %%
metrics = {"runs": len(distinct), "experiments": len(found), "pareto/configurations": len(fronts["FLOPs of the training"][0]),
           "pareto/on_front": int(fronts["FLOPs of the training"][0]["on_front"].sum())}  # fmt: skip
for name, row in axes.iterrows():
    metrics[f"axes/{name.replace(' ', '_')}/difference"] = float(row["difference"])
run.finish(metrics)
