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
# # 11 · Report: the guides against the numbers
#
# **What of that which the five guides promise did we find?** This book grew out of five guides: to deep supervision, to
# LLM-TRM, to pointer-over-heads, to scaling research and to a quick start on TPUs. Every statement in them with a figure, or
# with an outcome that can be checked, stands in `book/claims.yaml` in the guide's own words. Here each is held against the
# tables that the other chapters' runs have left in `book/results`. Nothing is trained.

# %% tags=["parameters"]
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id
# what is held against what
claims = ""  # file of claims; empty: book/claims.yaml
results = ""  # folder of tables that they are held against; empty: book/results

# %%
from trm.report.params import Report
from trm.run import ROOT, Run

params = Report.from_notebook(globals())
run = Run(params, "11_report")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## How a verdict is reached
#
# By a rule, from the numbers; none is typed in. A claim that something is better, faster or lower is a difference of two
# arms, matched by seed: a paired t-test over at least three seeds, at 5 %, shared out where one claim takes several tests.
# (Of twenty differences that are none, one will still look like one; and with three seeds only large ones can be told, so
# that *not supported* does not mean refuted.) A claim about every run is a share of the runs: from 95 % it is supported, up
# to 5 % contradicted. A figure that a guide has from another task is not held against ours. `seeds` is empty for arithmetic
# on the guide's own figures and for counts; 1 is one trained model, judged on many puzzles.

# %%
from trm.findings import say
from trm.report.claims import Sheet, counts, hold, read_claims, table, verdicts_by_guide
from trm.report.verdicts import CONTRADICTED, NOT_MEASURED, SUPPORTED, VERDICTS

answers = hold(
    read_claims(ROOT / (params.claims or "book/claims.yaml")), ROOT / (params.results or "book/results")
)  # fmt: skip
say("\n".join(f"- **{verdict}**: {meaning}" for verdict, meaning in VERDICTS.items()))

# %% [markdown]
# ## All claims at a glance

# %%
figure = verdicts_by_guide(answers)
run.save_figure(figure, "verdicts")

# %% [markdown]
# ## Deep supervision
#
# The guide speaks of a language model. The final loss, the time to converge and the order of the losses are those of the one
# in chapter 06; the rest was measured on Sudoku.

# %%
from IPython.display import display

display(Sheet(answers, "deep supervision"))

# %% [markdown]
# ## LLM-TRM

# %%
display(Sheet(answers, "LLM-TRM"))

# %% [markdown]
# ## Pointer-over-heads
#
# What is said of recursion and halting in general is measured on Sudoku; what is said of parsing wants the parser.

# %%
display(Sheet(answers, "pointer-over-heads"))

# %% [markdown]
# ## Scaling research
#
# A goal, such as "find the optimal width", counts as reached where the best configuration can be told from all the others.

# %%
display(Sheet(answers, "scaling research"))

# %% [markdown]
# ## TPU quick start

# %%
display(Sheet(answers, "TPU quick start"))

# %% [markdown]
# ## Findings

# %%
rows, tally = table(answers), counts(answers)
total, by_verdict = len(rows), tally.sum()
measured = total - by_verdict[NOT_MEASURED]
pieces = ", ".join(f"{n} {verdict}" for verdict, n in by_verdict.items() if verdict != NOT_MEASURED)
say(f"Of **{total} claims** in {len(tally)} guides **{measured}** are measured ({measured / total:.0%}): {pieces}. "
    f"The other {by_verdict[NOT_MEASURED]} want something that is not here yet.")  # fmt: skip

# %% [markdown]
# What runs have decided, either way (arithmetic and counts left out):

# %%
for verdict in (SUPPORTED, CONTRADICTED):
    found = rows[(rows["verdict"] == verdict) & (rows["seeds"] != "")]
    lines = [
        f"- {claim}, {guide}: {text}" for claim, guide, text in zip(found["claim"], found["guide"], found["measured"])
    ]
    say(f"**{verdict.capitalize()}** ({len(found)})\n\n" + "\n".join(lines))

# %%
metrics = {"claims/total": total, "claims/measured": int(measured)}
metrics |= {f"claims/{verdict.replace(' ', '_')}": int(n) for verdict, n in by_verdict.items()}
for guide in tally.index:
    own = tally.loc[guide]
    metrics[f"claims/{guide.replace(' ', '_')}/total"] = int(own.sum())
    metrics[f"claims/{guide.replace(' ', '_')}/measured"] = int(own.sum() - own[NOT_MEASURED])
run.finish(metrics)
