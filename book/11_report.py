# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 11 · Report: the claims of the source projects
#
# **Which claims of the projects that this book grew out of do its runs support?** The five texts belong to
# [SonarRecursiveModel](https://github.com/danikhan632/SonarRecursiveModel) (deep supervision),
# [llm-trm](https://github.com/anonx3247/llm-trm) (compressed hidden states, latent reasoning),
# [PoT](https://github.com/Eran-BA/PoT) (pointer-over-heads parsing) and
# [TinyRecursiveModels](https://github.com/kaileh57/TinyRecursiveModels) with its TPU branch (scaling research, and a quick
# start on TPUs). Their statements with a figure, or with an outcome that can be checked, stand in `book/claims.yaml` in their
# own words, each with the comparison that decides it. Here all are evaluated on the committed tables in `book/results`.
# Nothing is trained.

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
# ## How a verdict is reached
#
# By one function, `trm.report.claims.judge`, from a claim that is data: a table, a metric, an arm, what it is compared with,
# the direction that was claimed and, where there is one, the size. The comparison is a t-test paired by seed at 5 % (shared out
# where a claim takes several comparisons).
#
# - **supported**: significant in the direction that was claimed, and a claimed size lies in the 95 % interval
# - **not supported**: no significant effect; the minimum detectable effect (at 80 % power) says how large an effect these seeds
#   could have missed. With three seeds only large effects are significant, so that this does not mean refuted.
# - **contradicted**: significant in the other direction, or wrong by the source's own code or configuration
# - **not measured**: no table of this system decides it; the reason is given. A level that a source reports of another model or
#   task is not compared with ours.
#
# A claim is judged on the table of its own system: parsing on the parser, language models on a language model. Of 148
# statements that an earlier version of this chapter listed, 39 are left out because no run could change their verdict:
# arithmetic on a source's own figures, published specifications of hardware, counts, and goals that state no outcome.

# %%
from trm.report.claims import ClaimTable, counts, evaluate_claims, read_claims, verdicts_by_source

rows = evaluate_claims(
    read_claims(ROOT / (params.claims or "book/claims.yaml")), ROOT / (params.results or "book/results")
)

# %% [markdown]
# ## All claims at a glance

# %%
figure = verdicts_by_source(rows)
run.save_figure(figure, "verdicts")

# %% [markdown]
# ## SonarRecursiveModel
#
# It speaks of a language model: losses and their order are judged on the one of chapter 06. The rest is judged on the Sudoku
# model of chapter 02.

# %%
from IPython.display import display

display(ClaimTable(rows, "SonarRecursiveModel"))

# %% [markdown]
# ## llm-trm

# %%
display(ClaimTable(rows, "llm-trm"))

# %% [markdown]
# ## PoT
#
# All claims are judged on the parser of chapter 05.

# %%
display(ClaimTable(rows, "PoT"))

# %% [markdown]
# ## TinyRecursiveModels: scaling research

# %%
display(ClaimTable(rows, "TinyRecursiveModels"))

# %% [markdown]
# ## TinyRecursiveModels: TPU quick start

# %%
display(ClaimTable(rows, "TinyRecursiveModels (TPU)"))

# %% [markdown]
# ## Findings

# %%
from trm.progress import say

tally = counts(rows)
total, by_verdict = len(rows), tally.sum()
measured = total - by_verdict["not measured"]
say(
    f"Of **{total} claims** {measured} have a verdict: {by_verdict['supported']} are supported, "
    f"{by_verdict['not supported']} not supported, {by_verdict['contradicted']} contradicted. "
    f"The other {by_verdict['not measured']} are not measured."
)

# %% [markdown]
# - *Deep supervision* changes what its sources say it changes inside the network: the first cycle gets a larger share of the
#   gradient, on Sudoku and in the parser, and the parser's first iteration becomes a usable answer. A gain in final accuracy or
#   loss is not significant anywhere; the minimum detectable effects are 5 points on Sudoku (`linear`) and 1.5 points of UAS.
# - *Averaged weights* (EMA) matter at a constant rate: without them accuracy drops by 47 points (42.8 to 51.9, three seeds, at
#   a rate chosen with averaging), more than the 15.3 that the TPU quick start reports; where the rate falls, it is undecided.
# - *GRPO* against shuffled rewards is supported; *a curriculum of depth* at equal compute is not (chapters 03 and 10).
# - Contradicted by runs: that a higher loss after the first cycle is a bad sign (the best arm has it), and that a higher cosine
#   similarity means a better compressor. The other contradictions are facts about the sources themselves.
# - Whether iterations help a parser is not decided: its arms differ in epochs and had not converged.
#
# Three sentences are left for a TRM of this size on 6x6 Sudoku, with the limits of their chapters. No gain of a loss on every
# H-cycle is found at equal FLOPs (effects below 5 points would be missed); what helps, in long enough training, is the gradient
# through all H-cycles (chapter 02). A head that learns to stop costs accuracy in a short training and stops a little less well
# than a threshold on the answer's entropy (chapter 03). Six latent steps have a higher loss than a wider network with the same
# FLOPs; for H-cycles against width this is undecided (chapter 10).

# %%
metrics = {"claims/total": total, "claims/measured": int(measured)}
metrics |= {f"claims/{verdict.replace(' ', '_')}": int(n) for verdict, n in by_verdict.items()}
for source, own in tally.iterrows():
    name = source.replace(" (TPU)", "_TPU")
    metrics[f"claims/{name}/total"] = int(own.sum())
    metrics[f"claims/{name}/measured"] = int(own.sum() - own["not measured"])
run.finish(metrics)
