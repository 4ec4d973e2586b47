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
# axis whether it matters more than the seed, whether a power law is supported, and which configurations are on the Pareto
# front of cost and error.
#
# ## What you will learn
#
# - what a scaling law is, how it is fitted so that one failed run does not move it, and what has to hold before a fitted
#   curve may be called a law;
# - how to measure what recursion brings: an exponent that turns repeated applications into parameters;
# - what a Pareto front is, and how uncertain one is with a few seeds;
# - how to compare many variants with one baseline without finding improvements by chance.
#
# It takes about half a minute on a core, most of it for the bootstraps. It is also a program:
#
#     papermill book/10_scaling_laws.ipynb outputs/10_scaling_laws.ipynb -p resamples 2000
#
# `-p results FILE` draws the tables and figures of other runs; several tables are separated by commas.

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
#
# The tables that are read by default were made by
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
# Batch, warm-up, supervision steps, optimizer and what else the quick start changes were not tuned. float16 (`exp08c`)
# requires CUDA and was not run. A law found here is a law of small models on a small puzzle; nothing shows that it holds
# elsewhere.

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
# Names of cases are those of the source's suites: `exp01a` is the first case of experiment 1, `e2_2_t2_n2` one of the quick
# start. The experiments, each with one thing that varies:

# %%
import numpy as np
import pandas as pd

size = {e.name: (e.title, e.of(runs)["case"].nunique(), len(e.of(runs))) for e in found}
pd.DataFrame.from_dict(size, orient="index", columns=["what varies", "cases", "runs"])

# %% [markdown]
# ### Learning rates
#
# Two sizes can be compared only if each has a learning rate that suits it. Rates were chosen by validation loss, with seeds
# that are not used here (one; width 32: three): the lowest rate whose loss is
# within 15 % of the best. Each width, each case of `exp04` and each network of the quick start with more layers or attention
# has its own, of six rates (where none learns, the best), and of four each contribution that changes the optimisation; all
# other runs have that of width 32, which at the ends of L_cycles is the best of four, and at those of H_cycles within 11 %.
# The table shows the loss on the validation puzzles at the end, for every rate that was tried.

# %%
rates = pd.read_csv(folder / "10_rates.csv")
rates.pivot_table(index="case", columns="lr", values="valid/loss").round(3)

# %% [markdown]
# In most rows the loss is smallest at some rate between the ends. The best rates are far apart: 0.016 for one layer of
# twelve latent steps (`exp04a`), 0.004 for three layers of four; 0.032 and more at 32 wide, 0.004 at 96. With one rate for
# all, a law of width would partly be a law of which width the rate suits. A loss of 1.79 is ln 6, that of a uniform guess over
# six digits: those runs learned nothing.
#
# ## Along each axis
#
# Grey: runs. Blue: mean and standard deviation over the seeds. Along width, recursion and data only that parameter changes
# (and with the width its rate): a run with more FLOPs has had more compute, not more steps. With the batch the steps change,
# so that all see as many examples; with supervision steps those of evaluation too. `exp09` has a constant rate, at which
# averaging matters. T and n, the quick start and the contributions are kinds of their own.

# %%
from trm.scaling import figures as scaling_plots

figure = scaling_plots.axes_of(runs, found)
run.save_figure(figure, "axes")

# %% [markdown]
# Compare in each panel how far the blue line moves with how tall its bars are. It moves far beyond them for width (1), with
# four and six layers (4), with the averaging (9), with one variant of each puzzle instead of ten (5b), and where few optimizer
# steps are left to large batches (7). It stays within them for training puzzles (5a), precision (8) and most of the
# contributions. A bar as tall as its panel (6, twelve and sixteen steps) comes from a seed that learned nothing, or little:
# three seeds decide nothing there. Between one latent step and two (2) it moves by 1.5 of the longer bar.
#
# ### Does an axis matter more than the seed?
#
# With $k$ cases and $n$ runs, the variance of all runs is split into a part between cases and a part within them (over seeds).
# The share that the cases explain beyond chance is omega squared,
#
# $$\omega^2 = \frac{SS_\text{between} - (k - 1)\, MS_\text{within}}{SS_\text{total} + MS_\text{within}},
#   \qquad MS_\text{within} = \frac{SS_\text{within}}{n - k},$$
#
# set to 0 where it is negative. *Difference*: best case less worst case, in points; *deviation over seeds*: the root of
# $MS_\text{within}$, in points; *explained*: omega squared; *p*: of a one-way analysis of variance, which assumes normal
# errors of equal spread.

# %%
axes = experiments.axis_table(runs)
formats = {"best accuracy": "{:.1%}", "worst accuracy": "{:.1%}", "difference": "{:.1f}", "deviation over seeds": "{:.1f}",
           "explained": "{:.0%}", "p": "{:.2g}"}  # fmt: skip
in_html(axes).format(formats, na_rep="")

# %%
from trm.progress import say

clear = axes.index[axes["p"] < 0.05 / len(axes)]
say(f"""
With {len(axes)} axes in these tables, p below 0.05 / {len(axes)} = {0.05 / len(axes):.4f} is significant:
{", ".join(clear) or "none"}.
""")

# %% [markdown]
# ## What a scaling law is
#
# In many networks the loss $y$ falls with a size $x$ (parameters, examples, FLOPs) as a power of it. Three forms, from the
# simplest, say that nothing changes, that the loss falls without end, and that it falls to a floor:
#
# $$y = E, \qquad \log y = a - b \log x, \qquad y = E + A\, x^{-\alpha}.$$
#
# The second is a straight line on logarithmic axes: twice the size multiplies the loss by $2^{-b}$. The third is Chinchilla's:
# $E$ is what no size removes, and only the excess over it shrinks. Fitted is the cross-entropy per blank cell of the test
# puzzles, which moves smoothly where the share of solved puzzles jumps. The diagram shows what happens to the runs of an axis.

# %%
from trm.teaching import diagram, show_source

steps = {
    "runs": (0, 0, "runs:\nsize $x$, loss $y$", "data"),
    "constant": (1.7, 1, "$y = E$", "net"),
    "log": (1.7, 0, r"$\log y = a - b \log x$", "net"),
    "power": (1.7, -1, r"$y = E + A x^{-\alpha}$", "net"),
    "aicc": (3.4, 0, "AICc: simplest form\nwithin 2 of the lowest", "state"),
    "interval": (5.1, 0.8, "runs drawn again:\nintervals", "state"),
    "held": (5.1, -0.8, "largest size held out:\nerror of its prediction", "state"),
    "law": (6.6, 0, "a law,\nor doubts", "loss"),
}
forms = ("constant", "log", "power")
arrows = [("runs", f) for f in forms] + [(f, "aicc") for f in forms]
figure = diagram(steps, [*arrows, *(x for w in ("interval", "held") for x in (("aicc", w), (w, "law")))])
run.save_figure(figure, "diagram")

# %% [markdown]
# ### The fit
#
# A training fails now and then, and with squared errors one failed run tilts the whole curve. So the parameters $\theta$
# minimise Huber's loss of the residuals of $\log y$, squared for small residuals and straight beyond $\delta$:
#
# $$\min_\theta \sum_{i=1}^{n} H_\delta\big(\log \hat y_\theta(x_i) - \log y_i\big), \qquad
#   H_\delta(r) = \begin{cases} r^2 / 2 & |r| \le \delta \\ \delta\,(|r| - \delta / 2) & |r| > \delta \end{cases}
#   \qquad (\delta = 10^{-3}).$$
#
# Seeds differ by 0.1 and more in $\log y$, so nearly all residuals lie on the straight part: the curve passes through the
# medians of the runs rather than their means. The power law is not convex in its parameters: L-BFGS starts from a grid of
# floors and exponents, searches the logs of $E$ and $A$, and keeps the best. `_log_law` returns $\log \hat y$ and its
# derivatives, `objective` the loss (in units of $\delta^2$) and its gradient.

# %%
from trm.scaling import laws

show_source(laws._log_law, laws.objective)

# %% [markdown]
# ### Which form, and when it is a law
#
# A form with more parameters always fits at least as well. The corrected criterion of Akaike subtracts that, with $p$
# parameters, one more for the scale $\tau$ of the errors, and $n$ runs:
#
# $$\mathrm{AICc} = -2 \log L + 2q + \frac{2q(q + 1)}{n - q - 1}, \qquad q = p + 1,
#   \qquad L = \prod_i \frac{e^{-H_\delta(r_i) / \tau}}{Z(\tau)}.$$
#
# The simplest form within 2 of the lowest stands. Its intervals are percentiles over a bootstrap: $n$ of the $n$ runs are
# drawn with replacement and fitted again. Then the largest size is predicted from the others. A form is called a law only if
# that prediction is within 20 %, its floor is not above an observed mean, and its exponent is determined; *doubts* names what
# fails.

# %%
show_source(laws.hold_out)

# %% [markdown]
# ### Worked example: the slope of width, and one AICc
#
# The mean of $\log y$ over five seeds at both ends of the width axis, and the slope between them:
#
# | width | $N$ | $\ln N$ | mean $\ln y$ | $y$ |
# |---|---|---|---|---|
# | 16 | 6,609 | 8.796 | -0.470 | 0.625 |
# | 96 | 43,681 | 10.685 | -2.767 | 0.063 |
#
# $b = (-0.470 + 2.767) / (10.685 - 8.796) = 1.22$; the fit of all thirty runs says 1.20. Twice the parameters leave
# $2^{-1.2} = 0.44$ of the loss. (Parameters grow faster than the width at first, and then with its square.)
#
# Does the power law with a floor fit better? On the straight part of $H_\delta$, $-2 \log L = 2n \ln(2s) + 2n$ with $s$ the
# mean absolute residual: 0.1549 for the line, 0.1498 for the power law. With $n = 30$ the floor gains $60 \ln(0.1549 / 0.1498)
# = 2.0$. One more parameter costs $2 \cdot 4 + 40/25 - 2 \cdot 3 - 24/26 = 2.7$. So the power law is 0.7 *behind*: thirty runs
# cannot say whether there is a floor.

# %%
part = next(e for e in experiments.EXPERIMENTS if e.name == "exp01").of(runs)
if part["model/parameters"].nunique() > 4:
    sizes_of, losses = part["model/parameters"].to_numpy(float), part[experiments.LOSS].to_numpy(float)
    ends = np.log(part[experiments.LOSS]).groupby(part["model/parameters"]).mean().iloc[[0, -1]]
    line, power = (laws.fit(sizes_of, losses, form) for form in ("log-linear", "power law"))
    s, s_floor = (np.abs(np.log(law.predict(sizes_of) / losses)).mean() for law in (line, power))
    gained, n = 2 * len(losses) * np.log(s / s_floor), len(losses)
    cost = (8 + 40 / (n - 5)) - (6 + 24 / (n - 4))
    print(
        f"slope between the ends {-np.diff(ends)[0] / np.diff(np.log(ends.index))[0]:.2f}, fitted {line.params['b']:.2f}"
    )
    print(f"the floor gains {gained:.2f} and costs {cost:.2f}: by hand {cost - gained:.2f} behind,", end=" ")
    print(f"computed {power.aicc - line.aicc:.2f}")

# %% [markdown]
# ### The fits

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
# In the left panels a law would be a straight line that the blue means follow to the last. Width does, over a factor of ten in
# loss. The line of H-cycles is so flat that its slope may be 0. In the right panels the curve is soon flat: the first sizes
# alone set the exponent, which is hardly determined. The red curve of the latent steps runs above the means of two and of
# four, because it follows medians.
#
# ### Size and data together
#
# Chinchilla's form has both, $y = E + A N^{-\alpha} + B D^{-\beta}$ (arXiv 2203.15556, approach 3). It is fitted where the
# tables have runs of both axes, a cross ($N$ varies at all puzzles, $D$ at one width), which is too little to see whether $N$
# and $D$ act independently. Its row is the last one.

# %%
if {"exp01", "exp05"} <= set(axis_of):
    both = experiments.configurations(pd.concat([axis_of[name].of(runs) for name in ("exp01", "exp05")]))
    x = both[["model/parameters", "train/puzzles"]].to_numpy(float)
    rows["N and D"] = study(x, both[experiments.LOSS].to_numpy(float), params.coverage, params.resamples, params.seed)[
        1
    ]
table = pd.DataFrame(rows).T.drop(columns=["a", "A", "B"], errors="ignore").fillna("")
in_html(table).format(lambda value: f"{value:.3g}" if isinstance(value, float) else value)

# %% [markdown]
# *b* is the slope of a log-linear form (*c* that of the data), *AICc behind* how far the other forms are from the lowest, and
# *log_error* the error of the prediction of the held-out size, $\ln(\hat y / y)$; 0.2 in size is the limit. Only the first row
# is without doubts.
#
# ## What recursion brings
#
# An application of the network to its own state again takes compute, and no parameters. Two measures of what it brings. The
# first is the exponent $\varphi$ of arXiv 2604.21106: parameters that are applied $r$ times count as $r^\varphi$ times as
# many,
#
# $$ y = E + A\,(N_\text{once} + r^{\varphi} N_\text{shared})^{-\alpha}, $$
#
# 0 if recurrence brings nothing, 1 if it brings as much as so many more parameters (0.46 in language models there, where the
# number of applied blocks is held, while here it grows with $r$; 0.38 with truncated gradients, which all runs here have). $r$
# counts the applications in one supervision step, H_cycles (L_cycles + 1); fitted are the widths together with L_cycles, and
# with H_cycles.
#
# By hand: at 32 wide, 545 of the 10,337 parameters are applied once (embedding and heads), and 9,792 again and again. From one
# latent step to six, with three H-cycles, $r$ goes from 6 to 21. With $\varphi = 0.21$ the shared ones count as $3.5^{0.21} =
# 1.30$ times as many, and with $b = 1.2$ the loss falls to about $1.30^{-1.2} = 0.73$ of itself, for 3.5 times the
# applications.

# %%
from trm.model import TRM
from trm.puzzles.params import TrmTrain
from trm.scaling.laws import recurrence_exponent


def shared_parameters(width: int) -> int:
    """Parameters of the network that is applied again and again; the others are the embedding and the heads."""
    return sum(p.numel() for p in TRM(TrmTrain.create({"hidden_size": width}).trm_config()).net.parameters())


def exponent_of(name: str, at_least: int = 1) -> pd.DataFrame:
    """The exponent of the widths together with another axis, of the cases with `at_least` so many latent steps."""
    cross = experiments.configurations(pd.concat([axis_of[axis].of(runs) for axis in ("exp01", name)]))
    cross = cross[cross["L_cycles"] >= at_least]
    shared = cross["hidden_size"].map({width: shared_parameters(width) for width in cross["hidden_size"].unique()})
    applied = cross["H_cycles"] * (cross["L_cycles"] + 1)
    settings = params.coverage, params.resamples, params.seed
    return recurrence_exponent(cross["model/parameters"] - shared, shared, applied, cross[experiments.LOSS], *settings)


both_axes = [name for name in ("exp02", "exp03") if {name, "exp01"} <= set(axis_of)]
exponents = {axis_of[name].label: exponent_of(name) for name in both_axes}
table = pd.concat(exponents) if exponents else pd.DataFrame()
table.round(3)

# %% [markdown]
# Read the rows `phi`: for latent steps the interval lies below 0.46 and above 0, for H-cycles it holds 0. $A$ and $E$ are only
# there to be fitted: $A$ depends on the unit of $N$, and trades against $\alpha$.
#
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
# A ratio without an interval is the baseline, which is one of the widths. Six latent steps (`exp02f`) have a loss well above
# that of the width with as many FLOPs; in the rows of the H-cycles all intervals hold 1.
#
# ## The Pareto front of cost and error
#
# Configuration $j$ *dominates* $i$ if it is at least as good in both and better in one,
#
# $$c_j \le c_i, \quad e_j \le e_i, \quad (c_j, e_j) \ne (c_i, e_i),$$
#
# with cost $c$ and error $e$ (means over the seeds). The front is what none dominates. Sorted by cost, it is the points whose
# error is smaller than that of all cheaper ones, so that one sort finds it:

# %%
from trm.scaling import pareto

show_source(pareto.non_dominated)

# %% [markdown]
# With few seeds the front itself is uncertain: the share says in how many resamples of the seeds a configuration stays on it.
# (It is not a confidence: the cheapest is on the front by definition, and three seeds say little about their spread.) FLOPs
# are counted from the configuration (matrix products, forward and backward); those of an answer are for all the supervision
# steps of evaluation.

# %%
names = scaling_plots.named(runs)
grid = distinct.assign(error=1 - distinct[experiments.ACCURACY], case=distinct["case"].map(lambda c: names.get(c, c)))
fronts = {}
for column, label in (("flops/training", "FLOPs of the training"), ("flops/answer", "FLOPs of an answer")):
    args = (grid, "case", column, "error")
    fronts[label] = pareto.front(*args), pareto.membership(*args, params.resamples, params.seed)
figure = scaling_plots.pareto(fronts)
run.save_figure(figure, "pareto")

# %% [markdown]
# Everything above and to the right of the red line is dominated. Left: from the cheapest training on, the error falls steeply
# up to the baseline's FLOPs, and then slowly with width. Most of the grey points at the baseline's FLOPs are variants that
# cost as much and solve less. A share near 100 % marks points that stay on the front whichever seeds are drawn; at 20 to 60 %
# another configuration might as well stand there. Right: the cheapest answers come from fewer supervision steps and H-cycles.

# %%
share_on_front = {label: share[table["on_front"]] for label, (table, share) in fronts.items()}
in_html(pd.DataFrame(share_on_front)).format("{:.0%}", na_rep="")

# %% [markdown]
# The table gives the share of resamples of each member.
#
# ## Cases against a baseline
#
# A run of a case and the baseline's run with the same seed meet the same puzzles in the same order, so they are compared in
# pairs. With $\bar d$ and $s_d$ the mean and the standard deviation of the differences over $n$ seeds, and $m$ cases in the
# experiment, the interval is
#
# $$\bar d \pm t_{n-1,\,1 - 0.05 / (2m)} \; s_d / \sqrt{n} .$$
#
# Dividing 0.05 by $m$ (Bonferroni) holds the chance that any of the $m$ intervals misses its true effect at 5 %: without it,
# ten useless contributions would bring one "improvement" or harm in two of five experiments ($1 - 0.95^{10} = 0.40$). `mde` is
# the minimum detectable effect, what a test with these seeds detects in 80 % of the cases. Effects are in points of accuracy.
# *FLOPs*: training compute as a multiple of the baseline's; a gain at more compute is not in itself an improvement.
#
# The ten contributions, all of which the source or this project proposed: a network that starts shallow (`contrib01a`, `01b`);
# halting exploration that falls from 0.5 to 0 or 0.1 (`02a`, `02b`); 24 instead of six steps at test time (`03`); noise in the
# initial state (`04`); weights that favour the first supervision steps (`05`); gradients through all H-cycles (`06`); sixteen
# learned puzzle tokens (`07`); a constant rate (`08`).

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
in_html(table).format(
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
falls from {by_case.loc["exp01a", experiments.LOSS]:.2f} at 16 wide to {by_case.loc["exp01f", experiments.LOSS]:.3f} at 96,
with 15 times the FLOPs, and the share of puzzles solved rises from {by_case.loc["exp01a", experiments.ACCURACY]:.1%} to
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

**With unlimited variants no effect of the number of puzzles was found, and the test is coarse.** With a new variant by
symmetry each time a puzzle is seen, 10 training puzzles bring {mean_of["exp05a"]:.1%} and 500 {mean_of["exp05f"]:.1%}; over
the six sizes no difference is found (p = {axes.loc["exp05", "p"]:.2f}, three seeds; effects below 24 points would often be
missed), and no law; the loss with 10 is {effect("exp05a", "exp05f", metric=experiments.LOSS, ratio=True)} that with 500. With
fixed variants the number of distinct examples counts: of 100 puzzles with one each {mean_of["exp05g"]:.1%} are solved, with
ten {mean_of["exp05h"]:.1%}, with fifty {mean_of["exp05i"]:.1%}; as many puzzles without variants were not run. (All 6x6 grids
have 49 classes by symmetry.)

**Averaged weights** matter where the rate does not fall: without them {effect("exp09a", "contrib08")} against a decay of 0.99,
at a rate that was chosen with it. Where it falls, they are undecided: {effect("e2_1_ema_off", "e1_1_baseline")}.

**Attention solves no puzzle in this time** ({cells["e2_3_attention"]:.0%} of the cells, the best of six rates); nor does the
baseline without warm-up at its rate ({cells["e4_4_no_warmup"]:.0%}). With larger batches at that rate and as many examples, so
fewer optimizer steps, 500 steps solve {mean_of["exp07c"]:.1%}, 250 {mean_of["exp07d"]:.1%}
({mean_of["e1_3_batch_1024"]:.1%} in the quick start, with more latent steps and fewer puzzles) and 125
{mean_of["exp07e"]:.1%}; their rates were not tuned. Two layers of width 64, at a rate of their own, solve
{mean_of["e3_1_large_model"]:.1%} with 5.7 times the baseline's FLOPs, no more than one layer of width 96
({mean_of["exp01f"]:.1%}), which takes fewer.

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

# %% [markdown]
# ## Summary
#
# - Width is the one axis whose gain follows something like a law here: from 6,609 to 43,681 parameters the cross-entropy falls
#   as $N^{-1.2}$ (1.0 to 1.3), at 15 times the FLOPs. Thirty runs cannot tell whether it has a floor, and the prediction of
#   the largest width barely passes.
# - More latent steps count for little ($r^{0.21}$, 0.02 to 0.37; without the case with one 0.13, -0.05 to 0.36), and beyond
#   two no gain is found; for H-cycles ($r^{0.05}$,
#   -0.17 to 0.26) it is undecided.
# - None of ten contributions is a significant improvement at equal FLOPs, with ten seeds and intervals corrected for ten.
# - With unlimited variants no effect of 10 to 500 training puzzles was found (three seeds, minimum detectable effect 24
#   points); with fixed variants the number of distinct examples counts.
# - A fitted exponent alone says little: compare with the constant, hold a size out, and look at the interval.
#
# ## Exercises
#
# **1. One failed run.** Suppose that one of the five runs at 96 wide had learned nothing: a loss of ln 6. Predict what happens
# to the slope 1.20 with Huber's loss, and with squares (a large `delta`); then fit.
#
# <details><summary>Solution</summary>
#
# ```python
# x, y, _ = studies["1 · width"]
# failed = np.where(np.arange(len(x)) == x.argmax(), np.log(6), y)
# for delta in (1e-3, 10.0):
#     slopes = [laws.fit(x, values, "log-linear", delta).params["b"] for values in (y, failed)]
#     print(f"delta {delta:g}: {slopes[0]:.2f}, with the failed run {slopes[1]:.2f}")
# ```
#
# Huber's slope stays 1.20: the median of five does not move when one of them is far away. The squares' falls from 1.13 to
# 0.83.
#
# </details>
#
# **2. Extrapolation.** The law of width is fitted on sizes up to 96. Predict how well a fit on the three smallest widths (16,
# 24 and 32; fifteen runs) predicts the loss at 96, and one on the four smallest.
#
# <details><summary>Solution</summary>
#
# ```python
# x, y, _ = studies["1 · width"]
# for kept in (3, 4, 5):
#     small = x <= np.unique(x)[kept - 1]
#     predicted = laws.fit(x[small], y[small], "log-linear").predict([x.max()])[0]
#     print(f"{kept} widths: predicted {predicted:.3f}, observed {np.exp(np.log(y[x == x.max()]).mean()):.3f}")
# ```
#
# 0.014, 0.052 and 0.052, where 0.063 was observed. Three widths give a slope of 2.0 and a prediction 4.5 times too low:
# between 16 and 32 wide the model begins to solve puzzles at all, and the loss falls faster than later.
#
# </details>
#
# **3. What one case carries.** The exponent of latent steps, 0.21 (0.02 to 0.37), rests on the case with one latent step.
# Predict the estimate and its interval without that case.
#
# <details><summary>Solution</summary>
#
# ```python
# exponent_of("exp02", at_least=2).loc["phi"]
# ```
#
# 0.13 (-0.05 to 0.36): from two latent steps on, an exponent of 0 is not excluded.
#
# </details>
#
# ## References
#
# - J. Kaplan and others, [Scaling laws for neural language models](https://arxiv.org/abs/2001.08361), 2020: power laws in
#   parameters, data and compute.
# - J. Hoffmann and others, [Training compute-optimal large language models](https://arxiv.org/abs/2203.15556), 2022: the form
#   with a floor, and its fit with Huber's loss (approach 3).
# - T. Besiroglu and others, [Chinchilla scaling: a replication attempt](https://arxiv.org/abs/2404.10102), 2024: why that fit
#   did not converge, and what its intervals are.
# - K. Schwethelm, D. Rueckert and G. Kaissis, [How much is one recurrence worth? Iso-depth scaling laws for looped language
#   models](https://arxiv.org/abs/2604.21106), 2026: the exponent of recurrence.
# - P. J. Huber, [Robust estimation of a location parameter](https://doi.org/10.1214/aoms/1177703732), 1964: the loss.
# - C. M. Hurvich and C.-L. Tsai, [Regression and time series model selection in small
#   samples](https://doi.org/10.1093/biomet/76.2.297), 1989: AICc.
