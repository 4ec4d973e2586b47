# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 11 · The claims of the source projects
#
# **Which claims of the projects that this book grew out of do its runs support?** Five texts claim gains of deep supervision,
# compression, recursion and more. Here every claim is a comparison of runs, and one function judges all of them.
#
# ## What you will learn
#
# - how a paired comparison turns runs into an effect with an interval, and what "no significant effect" does not say;
# - what the minimum detectable effect is, and why a verdict without it cannot be read;
# - how to make the claims of a text decidable before looking at the results;
# - which of the ten main claims hold at the size of this book.
#
# Nothing is trained: the committed tables in `book/results` are read, in some ten seconds. It is also a program:
#
#     papermill book/11_report.ipynb outputs/11_report.ipynb -p results outputs/my_tables
#
# The five texts belong to
# [SonarRecursiveModel](https://github.com/danikhan632/SonarRecursiveModel) (deep supervision),
# [llm-trm](https://github.com/anonx3247/llm-trm) (compressed hidden states, latent reasoning),
# [PoT](https://github.com/Eran-BA/PoT) (pointer-over-heads parsing) and
# [TinyRecursiveModels](https://github.com/kaileh57/TinyRecursiveModels) with its TPU branch (scaling research, and a quick
# start on TPUs). Their statements with a figure, or with an outcome that can be checked, stand in `book/claims.yaml` in their
# own words, each with the comparison that decides it.

# %% tags=["parameters"]
claims = ""  # file of claims; empty: book/claims.yaml
results = ""  # folder of tables; empty: book/results

# %%
from trm.report.params import Report
from trm.run import ROOT, Run

params = Report.from_notebook(globals())
run = Run(params, "11_report")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## A paired comparison
#
# A run depends on its seed: initial weights, order of puzzles, noise. Two arms with the same seed share much of that, so their
# difference $d_s = y_s^\text{arm} - y_s^\text{baseline}$ varies less than either of them. With $n$ seeds, mean $\bar d$ and
# standard deviation $s_d$ of the differences (with $n - 1$ in its denominator), and $m$ comparisons behind the claim, the
# effect is $\bar d$ and its interval
#
# $$\bar d \pm t_{n-1,\, 1 - 0.05/(2m)} \; \frac{s_d}{\sqrt n} .$$
#
# An effect is significant if the interval leaves out 0. If it does not, an effect may still be there: the minimum detectable
# effect $\Delta$ is the size that such a test finds in 80 % of the cases. With $F_{\nu, \lambda}$ the noncentral t
# distribution,
#
# $$1 - F_{n-1,\; \Delta \sqrt n / s_d} \big( t_{n-1,\, 1 - 0.05/(2m)} \big) = 0.8 .$$
#
# Ratios (losses, gradient norms) are compared by their logarithms. The diagram shows the way from a quotation to a verdict.

# %%
from trm.teaching import diagram, show_source

way = {
    "quote": (0, 0, "quotation", "data"),
    "claim": (1.4, 0, "claim: table, metric,\narm, versus, direction,\nsize", "data"),
    "runs": (3.2, 0, "runs of both arms,\npaired by seed", "state"),
    "effect": (4.9, 0, "effect, interval,\nminimum detectable\neffect", "net"),
    "supported": (6.9, 1, "supported", "loss"),
    "not": (6.9, 0, "not supported", "loss"),
    "contradicted": (6.9, -1, "contradicted", "loss"),
}
on = [("quote", "claim"), ("claim", "runs"), ("runs", "effect")]
ends = [
    ("effect", "supported", "as claimed"),
    ("effect", "not", "interval\nholds 0"),
    ("effect", "contradicted", "other way"),
]
figure = diagram(way, [*on, *ends])
run.save_figure(figure, "diagram")

# %%
from trm import stats

show_source(stats.paired, stats.minimum_detectable_effect)

# %% [markdown]
# ### Worked example: training without averaged weights
#
# "Disable EMA (expect accuracy drop)", says the TPU quick start (`tq05`). At a constant learning rate, with three seeds,
# chapter 10's table holds these shares of puzzles solved:
#
# | seed | without averaging | decay 0.99 | difference |
# |---|---|---|---|
# | 0 | 18.3 % | 64.1 % | -45.8 |
# | 1 | 22.6 % | 69.5 % | -46.9 |
# | 2 | 26.2 % | 75.6 % | -49.4 |
#
# The mean of the differences is -47.4 points and their standard deviation 1.84, though each arm alone varies by 4 to 6 from
# seed to seed: that is what pairing is for. With two degrees of freedom $t = 4.303$, so the interval is $-47.4 \pm 4.303 \cdot
# 1.84 / \sqrt 3 = -47.4 \pm 4.6$, from -51.9 to -42.8. It leaves out 0: supported. The minimum detectable effect is 5.65
# standard errors, 6.0 points.

# %%
import numpy as np
import scipy.stats

table = stats.read_table(ROOT / "book" / "results" / "10_scaling_research.csv")
arms = [stats.by_seed(table, "test/exact_accuracy", case, key="case") for case in ("exp09a", "contrib08")]
d = 100 * (arms[0] - arms[1]).dropna()
error = d.std() / np.sqrt(len(d))
half = scipy.stats.t.ppf(0.975, len(d) - 1) * error
print(f"by hand: {d.mean():+.1f} points ({d.mean() - half:+.1f} to {d.mean() + half:+.1f})")
averaging = stats.compare(table, "test/exact_accuracy", "exp09a", "contrib08", key="case")
print(f"compare: {averaging.say()}; minimum detectable effect {100 * averaging.mde:.1f} points")

# %% [markdown]
# ## How a verdict is reached
#
# By one function, `trm.report.claims.judge`, from a claim that is data: a table, a metric, an arm, what it is compared with,
# the direction that was claimed and, where there is one, the size. The comparison is a t-test paired by seed at 5 % (shared out
# where a claim takes several comparisons).
#
# - **supported**: significant in the direction that was claimed, and a claimed size lies in the 95 % interval
# - **not supported**: no significant effect, or not of all comparisons, or the interval leaves out the claimed size; the
#   minimum detectable effect (at 80 % power) says how large an effect these seeds could have missed. With three seeds only
#   large effects are significant, so that this does not mean refuted.
# - **contradicted**: significant in the other direction, or wrong by the source's own code or configuration
# - **not measured**: no table of this system decides it; the reason is given. A level that a source reports of another model or
#   task is not compared with ours.
#
# A claim is judged on the table of its own system: parsing on the parser, language models on a language model. Of 148
# statements that an earlier version of this chapter listed, 39 are left out because no run could change their verdict:
# arithmetic on a source's own figures, published specifications of hardware, counts, and goals that state no outcome.

# %%
from trm.report.claims import ClaimTable, counts, effects, effects_by_source, evaluate_claims, judge, read_claims

show_source(judge)
rows = evaluate_claims(
    read_claims(ROOT / (params.claims or "book/claims.yaml")), ROOT / (params.results or "book/results")
)
counts(rows)

# %% [markdown]
# ## Ten claims
#
# The claims that most of the work of the five projects rests on, each with what its runs say. Effects are in the direction that
# is written here: with a minus, or a ratio below 1, the opposite was measured.

# %%
from trm.progress import say

TEN = {
    "ds48": "A loss on every H-cycle raises the final accuracy",
    "ds01": "It strengthens the gradient of the first H-cycle",
    "ph13": "It adds 0.35 points of UAS to a parser with three iterations",
    "ph03": "It makes the parser's first iteration a usable answer",
    "ph16": "A parser gains nothing beyond one iteration",
    "lt03": "Fine-tuning on chains of thought lowers a compressor's error there",
    "lt18": "Latents can take the place of a written chain",
    "lt19": "A correctness reward teaches more than shuffled rewards",
    "sr16": "A curriculum of depth saves FLOPs",
    "tq05": "Without averaged weights accuracy drops",
}
found = effects(rows)
verdicts = rows.set_index("id")
lines = []
for name, words in TEN.items():
    if name not in verdicts.index:
        continue
    numbers = []
    for one in found[found["id"] == name].itertuples():
        form = {"times": "{:.2f}", "points": "{:+.1f}"}.get(one.unit, "{:+.2g}")
        effect, low, high, mde = (form.format(x) for x in (one.effect, one.low, one.high, one.mde))
        numbers.append(f"{effect} {one.unit} ({low} to {high}; minimum detectable effect {mde.removeprefix('+')})")
    seeds = f", {verdicts.loc[name, 'seeds']} seeds" if numbers else ""
    what = "; ".join(numbers) or verdicts.loc[name, "result"]
    lines.append(f"- {words} (`{name}`): **{verdicts.loc[name, 'verdict']}**. {what}{seeds}.")
say("\n".join(lines))

# %% [markdown]
# ## All effects at a glance
#
# One line per claim with a comparison, under its source; several dots on a line are several comparisons, all of which must
# hold. The panels are differences in points of accuracy, ratios, and differences in a unit of their own (nats, steps, a norm);
# the axes are logarithmic, but near 0.

# %%
figure = effects_by_source(found)
run.save_figure(figure, "effects")

# %% [markdown]
# Right of the vertical line is what was claimed. A bar that crosses the line is not significant, and its length says what
# these seeds could have seen: bars from -20 to 20 points, from arms that fail with some seeds, leave nearly everything open.
# Blue bars lie to the right as a whole, vermilion ones to the left or, where no gain was claimed, to the right; an equality
# (`sr23`) is supported by a bar within its limits. A triangle stands for an effect beyond its panel, such as gradients
# compared with 1e-6 or 100. A bar right of the line is orange where a size was claimed that the interval does not hold
# (`tq20`: a larger drop than the source's; `ph15`: a larger gain).
#
# ## The claims of each source
#
# The tables unfold. Each row has the quotation, the numbers or the reason why it is not measured, and the table of runs.
#
# ### SonarRecursiveModel
#
# It speaks of a language model: losses and their order are judged on the one of chapter 06. The rest is judged on the Sudoku
# model of chapter 02.

# %%
from IPython.display import display

display(ClaimTable(rows, "SonarRecursiveModel"))

# %% [markdown]
# ### llm-trm

# %%
display(ClaimTable(rows, "llm-trm"))

# %% [markdown]
# ### PoT
#
# All claims are judged on the parser of chapter 05.

# %%
display(ClaimTable(rows, "PoT"))

# %% [markdown]
# ### TinyRecursiveModels: scaling research

# %%
display(ClaimTable(rows, "TinyRecursiveModels"))

# %% [markdown]
# ### TinyRecursiveModels: TPU quick start

# %%
display(ClaimTable(rows, "TinyRecursiveModels (TPU)"))

# %% [markdown]
# ## Findings

# %%
tally = counts(rows)
total, by_verdict = len(rows), tally.sum()
measured = total - by_verdict["not measured"]
say(
    f"Of **{total} claims** {measured} have a verdict: {by_verdict['supported']} are supported, "
    f"{by_verdict['not supported']} not supported, {by_verdict['contradicted']} contradicted. "
    f"The other {by_verdict['not measured']} are not measured. Claims that say the same rest on the same comparison, and the "
    f"5 % are not shared out among claims, so that a few verdicts may be chance."
)

# %% [markdown]
# - *Deep supervision* changes in the parser what PoT says it changes: the first iteration gets a larger share of the gradient,
#   and becomes a usable answer. On Sudoku the gradient at the first H-cycle is smaller with `linear` than without (0.83 times,
#   0.70 to 0.99), and its share does not differ. A gain in final accuracy is
#   not significant on Sudoku (`linear`, minimum detectable effect 5 points); in the parser it is at equal epochs alone (below).
# - *Averaged weights* (EMA) matter at a constant rate: without them accuracy drops by 47 points (42.8 to 51.9, three seeds, at
#   a rate chosen with averaging), more than the 15.3 that the TPU quick start reports; where the rate falls, it is undecided.
# - *GRPO* against shuffled rewards is supported; *a curriculum of depth* at equal compute is not (chapters 03 and 10).
# - Contradicted by runs, nine: that `linear` strengthens the gradient of the first H-cycle; that a higher loss after the first
#   cycle is a bad sign (the best arm has it); that the exponential schedule raises the first loss over the last; that a higher
#   cosine similarity means a better compressor; and of the parser, that it gains nothing beyond one iteration (two claims),
#   that long arcs gain no more than half a point, that the expected loss teaches it when to stop, and that stopping by entropy
#   is two to three times as fast. The other nine are facts about the sources themselves.
# - *Iterations* help a parser: three gain half a point of UAS over one, at equal epochs and at equal FLOPs. Deep supervision
#   adds 0.3 at equal epochs (0.0 to 0.6), as PoT claims; at equal FLOPs no difference is found (-0.2 to 0.3, chapter 05).
#
# (Chapters 02 and 05 correct for all their arms, and these sentences with them, so that their intervals and minimum detectable
# effects are wider than those of single claims in the tables above.)
#
# Three sentences are left for a TRM of this size on 6x6 Sudoku, with the limits of their chapters. No gain of a loss on every
# H-cycle is found at equal FLOPs (effects below 5 points would often be missed); what helps, in long enough training, is the
# gradient through all H-cycles (chapter 02). A head that learns to stop costs accuracy in a short training, and was not found
# to stop better than a threshold on the answer's entropy (chapter 03). Six latent steps have a higher loss than a wider
# network with the same FLOPs; for H-cycles against width this is undecided (chapter 10).

# %%
metrics = {"claims/total": total, "claims/measured": int(measured)}
metrics |= {f"claims/{verdict.replace(' ', '_')}": int(n) for verdict, n in by_verdict.items()}
for source, own in tally.iterrows():
    name = source.replace(" (TPU)", "_TPU")
    metrics[f"claims/{name}/total"] = int(own.sum())
    metrics[f"claims/{name}/measured"] = int(own.sum() - own["not measured"])
run.finish(metrics)

# %% [markdown]
# ## Summary
#
# - A claim becomes decidable when it names a table, a metric, two arms, a direction and, where it gives one, a size.
# - Pairing by seed removes what both arms share; the interval says what is left, and the minimum detectable effect what a
#   comparison without significance could have missed.
# - "Not supported" is not "refuted": with three seeds, most comparisons here would miss effects of several points.
# - What is supported is mostly how a network behaves inside (gradients, losses, first iterations); few claims are about a final
#   accuracy that improved.
#
# ## Exercises
#
# **1. Without pairs.** Compare training without averaged weights with a decay of 0.99 again, but as if the seeds of the two
# arms had nothing to do with each other. Predict whether the interval grows or shrinks, and how much.
#
# <details><summary>Solution</summary>
#
# ```python
# shared = d.index
# apart = scipy.stats.ttest_ind(100 * arms[0][shared], 100 * arms[1][shared])
# low, high = apart.confidence_interval()
# print(f"unpaired: {low:+.1f} to {high:+.1f}; paired: {d.mean() - half:+.1f} to {d.mean() + half:+.1f}")
# ```
#
# It grows to more than twice the length, from -58.6 to -36.2: both arms are better with seed 2 than with seed 0, and only pairs
# know it.
#
# </details>
#
# **2. More seeds.** Claim `ds48` has ten seeds and a minimum detectable effect of 3.6 points. Predict the minimum detectable
# effect with 5 and with 40 seeds, if the differences vary as much.
#
# <details><summary>Solution</summary>
#
# ```python
# runs = stats.read_table(ROOT / "book" / "results" / "02_deep_supervision.csv")
# runs = runs[runs["H_cycles"] == 3]
# gains = stats.by_seed(runs, "test/exact_accuracy", "linear") - stats.by_seed(runs, "test/exact_accuracy", "none")
# print({n: f"{100 * stats.minimum_detectable_effect(gains.std(), n):.1f} points" for n in (5, 10, 40)})
# ```
#
# 6.1, 3.6 and 1.6 points. Four times the seeds halve it, and a little more, since t falls too.
#
# </details>
#
# **3. Write a claim.** "Full gradients beat the paper's truncated ones by 15 points." Make it a claim on chapter 02's table
# (arms `none` and `none/last`, three H-cycles) and predict the verdict, with the size and without it.
#
# <details><summary>Solution</summary>
#
# ```python
# from trm.report.claims import Claim
#
# words = {"id": "my1", "source": "SonarRecursiveModel", "section": "Exercise", "quote": "Full gradients gain 15 points"}
# where = {"table": "02_deep_supervision.csv", "where": {"H_cycles": 3}, "metric": "test/exact_accuracy"}
# for size in (None, 0.15, 0.4):
#     outcome = judge(Claim(**words, **where, arm="none", versus="none/last", claimed=size), ROOT / "book" / "results")
#     print(size, outcome.verdict, outcome.text)
# ```
#
# Supported without a size and with 15 points (+15.8, 9.6 to 22.0, ten seeds); not supported with 40, which lies outside the
# interval though the direction is right.
#
# </details>
#
# ## References
#
# - Student, [The probable error of a mean](https://doi.org/10.1093/biomet/6.1.1), 1908: the paired t-test, with ten patients.
# - X. Bouthillier and others, [Accounting for variance in machine learning benchmarks](https://arxiv.org/abs/2103.03098), 2021:
#   where the spread over seeds comes from.
# - R. Agarwal and others, [Deep reinforcement learning at the edge of the statistical
#   precipice](https://arxiv.org/abs/2108.13264), 2021: intervals instead of point estimates, with few runs.
# - D. Card and others, [With little power comes great responsibility](https://arxiv.org/abs/2010.06595), 2020: what comparisons
#   in language processing can detect.
