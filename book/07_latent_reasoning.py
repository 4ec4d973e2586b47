# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 07 · Latent reasoning
#
# **Can a few vectors take the place of a written chain of thought?** A small language model answers arithmetic stories well
# after it has written its chain, and badly without. Here it is frozen, and a tiny recursive model of a tenth of its size writes
# vectors that take the place of the chain, or of its first steps.
#
# ## What you will learn
#
# - how a recursive model reads a language model's hidden states and writes *latents*, inputs between its words;
# - why a right answer after latents does not show that they are a chain of thought, and how a swap test finds out;
# - how near a prediction from the states before thinking comes to the state after it, against a constant and a ridge
#   regression;
# - what happens when the language model continues a chain whose first steps are latents.
#
# At the defaults the chapter takes about two minutes on two cores, 20 s of them training. It is also a program:
#
#     papermill book/07_latent_reasoning.ipynb outputs/07_latent_reasoning.ipynb -p arm direct -p eval_checkpoint trained
#
# A *step* is a step of a story's arithmetic; steps of the training are called optimizer steps.

# %% tags=["parameters"]
arm = "thoughts"  # arm to train, one of LATENT_ARMS; empty: the other parameters decide
eval_checkpoint = "shipped"  # reasoners to evaluate: those that ship, or the one trained here
num_samples = 3000  # training problems
num_latents = 6  # latents between the prompt and the answer
d_compressed = 96  # bottleneck size for input states and output latents
hidden_size = 96  # width D
H_cycles = 4  # H-cycles: rounds of refining the latents
L_cycles = 1  # L-cycles per H-cycle
chain_weight = 1.0  # weight of the chain loss: the steps of a correct chain
answer_weight = 1.0  # weight of the answer's cross-entropy
distill_weight = 1.0  # weight of the distance to the state after a correct chain
readout = "lm"  # the answer is the language model's, or the last latent's
lm_loss_every = 10  # optimizer steps between computations of the language model's loss
max_steps = 160  # optimizer steps
lr = 0.003  # peak learning rate

# %%
from trm.escape import in_html
from trm.latent.params import LatentReasoning
from trm.run import ROOT, Run

params = LatentReasoning.from_notebook(globals())
run = Run(params, "07_latent_reasoning")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## Background: thinking without words
#
# A language model has a fixed number of layers, so that it computes a bounded amount per token. A written chain of thought buys
# more: each token that is written is read again, and the model continues from it. It costs a pass through the model per token,
# and it must be put into words. Three ways around it have been tried: learned *pause* vectors, which are the same for every
# question and only give the model more positions to compute in; *latents*, vectors computed for the question, which the model
# reads in the place of words (Coconut, CODI); and training the model to answer at once.
#
# In this chapter the latents do not come from the language model itself but from a TRM (chapter 04) beside it, which is
# phase 2 of llm-trm: a map from the states before thinking to what thinking leads to. The language model stays frozen.
# The upper row of the diagram is the written chain. In the lower row the reasoner reads the states of the question after a
# block in the middle, refines `num_latents` vectors in `H_cycles` rounds, and the language model answers after them:
#
#     question /think<think> | latent latent latent latent latent latent | ;</think> | answer

# %%
from trm.teaching import diagram, show_source

boxes = {
    "asked": (0, 1, "question", "data"),
    "lm": (1.6, 1, "language model\n(frozen)", "net"),
    "chain": (4.8, 1, "written chain\n5+3=8;8*2=16;", "data"),
    "answer": (7.4, 1, "answer 16", "loss"),
    "states": (1.6, 0, "states of the\nquestion $x$", "state"),
    "net": (3.2, 0, r"$f_\theta$, recursive", "net"),
    "latents": (4.8, 0, "latents\n$e_1 \\ldots e_n$", "state"),
    "lm2": (6.1, 0, "language model\n(frozen)", "net"),
    "answer2": (7.4, 0, "answer 16", "loss"),
}
arrows = [
    ("asked", "lm"),
    ("lm", "chain", "a pass per token"),
    ("chain", "answer"),
    ("lm", "states"),
    ("states", "net"),
]
arrows += [("net", "latents"), ("latents", "lm2"), ("lm2", "answer2")]
figure = diagram(boxes, arrows)
run.save_figure(figure, "diagram")

# %% [markdown]
# ## The language model and its problems
#
# The stories are generated; the part that one belongs to follows from its arithmetic, so that no test problem is trained on.
# With `data_path` the problems are GSM8K's, and the chains those that the language model itself wrote, where they were right.

# %%
import pandas as pd

from trm.latent import evaluate
from trm.latent import train as job
from trm.latent.data import encode
from trm.latent.thinking import Thinking

data = job.load(params, run)
reasoners = evaluate.shipped(data, params) if params.eval_checkpoint == "shipped" else {}
pd.set_option("display.max_colwidth", None)
shown = {one.steps: one for one in data.parts["test"][:50]}  # one of each length
count = data.lm.lm.num_parameters()
print(f"{type(data.lm.lm).__name__}, {count:,} parameters, frozen; states of block {data.lm.layer}")
stories = [[n, one.question, one.chain, one.answer] for n, one in sorted(shown.items())]
pd.DataFrame(stories[::2], columns=["steps", "story", "chain", "answer"])

# %% [markdown]
# ## Candidate targets
#
# llm-trm trains the reasoner to predict the model's state at `</think>`. Where a model continues in the same way after every
# chain, that state can be nearly the same for every problem, and a constant prediction comes close to it. CODI
# ([2502.21074](https://arxiv.org/abs/2502.21074)) uses the state from which the answer is read, its *anchor*. The model that
# ships answers directly after `</think>`, so that the two are the same token. The figure shows the constant share of the state
# $h$ after each block, the part of its mean square that its mean over problems has:
#
# $$c = \frac{\lVert \mathbb{E}[h] \rVert^2}{\mathbb{E}\,\lVert h \rVert^2}, \qquad
#   1: \text{the same for every problem}, \qquad 0: \text{nothing in common}.$$

# %%
from trm.latent import figures as plots

encoded = encode(data.lm, data.parts["train"][:1000], params.num_latents)
constant = evaluate.constant_share(data, encoded[:200], params.batch_size)
figure = plots.constant_share(constant)
run.save_figure(figure, "constancy")
for name, shares in constant.items():
    print(f"{name}: {shares[0]:.0%} constant after the first block, {shares[-1]:.0%} after the last")

# %% [markdown]
# The two curves lie on each other, as the two states are the same token here. About a quarter is constant after the first
# block, where the state is mostly the token itself, and less after each one: after the last block, from which the answer is
# read, states of different problems have almost nothing in common. So for this model a constant is a poor prediction, and the
# state is a target that depends on the problem.
#
# ## The reasoner
#
# The prompt's states enter through chapter 01's compressor with `d_compressed` numbers each (the principal components), as $x$.
# The states $z_H$ and $z_L$ are vectors of width $D$ for each of the $n$ latents. The block $f_\theta$ attends from the latents
# to $x$, whose keys and values are computed once, and to the latents; $p$ are learned position embeddings. One H-cycle is
#
# $$z_L \leftarrow f_\theta(z_L + z_H + p;\, x) \quad (\texttt{L\_cycles} \text{ times}), \qquad
#   z_H \leftarrow f_\theta(z_H + z_L;\, x).$$
#
# So one block is applied `H_cycles * (L_cycles + 1)` times, 8 at the defaults. A second compressor, of the token embeddings,
# turns $z_H$ of latent $i$ into a vector $v_i$ among the embeddings. What the language model gets is a mixture of the
# embeddings $E_w$ of the words in its chains, weighted by their nearness to $v_i$, with a `sharpness` $s$ of 20:
#
# $$e_i = \sum_w \pi_{iw} E_w, \qquad \pi_i = \mathrm{softmax}_w\big(s \cos(v_i, E_w)\big).$$
#
# A latent near one word is that word, which the model can read; others are several words at once. Both compressors are closed
# forms found before training; what is trained is the recursion between them.

# %%
from trm.latent.reasoner import LatentReasoner, LatentThinker, chain_loss

show_source(LatentReasoner.think, LatentReasoner.logits, LatentReasoner.latents)

# %%
reasoner = job.make_reasoner(params.of_arm(params.arm), data, encoded, params.arm)
count = sum(p.numel() for p in reasoner.parameters() if p.requires_grad)
applied = reasoner.config.H_cycles * (reasoner.config.L_cycles + 1)
print(
    f"{type(reasoner).__name__}: {count:,} trained parameters, {params.num_latents} latents, block applied {applied} times"
)

# %% [markdown]
# ## What the latents are taught
#
# Each latent stands for one step of the chain. Its label is the total of that step, and its *notes*, which the language model
# never sees, have as labels the step's operation, its number and the total before. **The label of every latent after the last
# step is the answer.** None of this requires the language model, whose states of the prompts are computed once and stored.
# With labels $y_{ij}$ ($j = 0$ the word, 1 to 3 the notes; those that are missing are left out) the chain loss is
#
# $$\mathcal{L}_{\text{chain}} = \frac{1}{n} \sum_{i=1}^{n} \sum_{j=0}^{3} -\log \pi_{ij}(y_{ij}),$$
#
# computed after each H-cycle and averaged with the weights of the `schedule` (chapter 02). From optimizer step `lm_loss_start`
# on the language model's loss is added, after the last H-cycle, in every `lm_loss_every`-th optimizer step: the cross-entropy
# per token of the answer, and the distance of the anchor's states $\hat h_l$ from their values $h_l$ after a correct chain
# (smooth L1 of both divided by the standard deviation of $h_l$ in the batch, mean over the blocks $l$, as in CODI):
#
# $$\mathcal{L} = \texttt{chain\_weight}\, \mathcal{L}_{\text{chain}} + \frac{s_T}{\sum_u s_u} \big( \texttt{answer\_weight}\,
#   \mathcal{L}_{\text{answer}} + \texttt{distill\_weight}\, \mathcal{L}_{\text{distance}} \big),$$
#
# where $s_u$ is the weight of H-cycle $u$ of $T$ in the schedule (0.57 for the last of four): both losses are part of that
# after the last cycle.

# %%
show_source(chain_loss, LatentThinker.answer_loss)

# %% [markdown]
# ### Worked example: the labels and the tokens of one story
#
# Somebody has 5, gets 3, doubles, gives 4 away and finds 1. The chain is `5+3=8;8*2=16;16-4=12;12+1=13;`, four steps for six
# latents. Every step is six tokens (numbers up to 99 are one token each), and `</think>`, the answer and the token that ends it
# are three more, so that the model writes 4 · 6 + 3 = 27 tokens.
#
# | latent | 1 | 2 | 3 | 4 | 5 | 6 |
# |---|---|---|---|---|---|---|
# | word: total | 8 | 16 | 12 | 13 | 13 | 13 |
# | note: operation | + | * | - | + | | |
# | note: number | 3 | 2 | 4 | 1 | | |
# | note: total before | 5 | 8 | 16 | 12 | | |
#
# Six latents in place of the chain leave two tokens to write, the answer and its end. If the first two steps alone are latents
# (below), the model writes the other two: 27 - 2 · 6 = 15 tokens.

# %%
from trm.language.stories import Problem
from trm.latent.data import from_problem

story = from_problem(Problem(5, (("+", 3), ("*", 2), ("-", 4), ("+", 1)), 0))
(as_tokens,) = encode(data.lm, [story], 6)
words = [[data.lm.tokenizer.decode([i]) if i >= 0 else "" for i in row] for row in as_tokens.step_labels.T.tolist()]
written = len(as_tokens.chain) + 1 + len(as_tokens.answer)
print(f"{story.chain} {written} tokens with the answer; {written - 2 * 6} after two latent steps")
pd.DataFrame(words, index=["total", "operation", "number", "total before"], columns=range(1, 7))

# %% [markdown]
# ## Training, live
#
# This is the beginning of a training; the reasoners that ship were trained for minutes (the commands are in their cards).

# %%
from trm.progress import Progress

trained = job.train(params, run, data, Progress(params.max_steps, plots.progress, params.arm))
complete = trained is not None

# %%
if complete:
    figure = plots.progress(trained.history)
    run.save_figure(figure, "progress")
if complete and params.eval_checkpoint == "trained":
    reasoners = {trained.arm: trained.model}
print(f"evaluated from here on: {', '.join(reasoners)} ({params.eval_checkpoint})")

# %% [markdown]
# Each line is the share of validation problems in which a latent's nearest word is the total of its own step. After 160
# optimizer steps the first totals are read in a fifth of the problems and the last in less than a tenth: latent 1 requires one
# operation, latent 6 a chain of six. The answer (red) is right in a tenth, and rises with the latents that hold it.
#
# ## One problem
#
# The word of largest weight in each latent's mixture after each H-cycle, and that weight. Below each latent is the step of the
# chain that it is taught; green where the word is that step's total, or, after the last step, the answer.

# %%
readable = {name: one for name, one in reasoners.items() if name != "pause" and one.config.readout != "state"}
first = next(iter(readable.values()), None)


def one_problem(steps=4, which=0):
    some = [one for one in data.parts["test"] if one.steps == steps] or data.parts["test"]
    one = some[which % len(some)]
    thinking = Thinking(data.lm, first, params.max_new_tokens)
    return plots.thoughts(one, thinking.nearest_words(one))


if first:
    example = next((one for one in data.parts["test"] if one.steps == 4), data.parts["test"][0])
    print(example.question)
    figure = one_problem(example.steps)
    run.save_figure(figure, "thoughts")

# %% [markdown]
# A row is an H-cycle, and darker means more weight. After the first H-cycle of the shipped reasoner the totals of the first
# three steps stand in their latents, and the last step is wrong; the second corrects it, in latent 4 and in the two after it
# that hold the answer too, and later ones add certainty. So the recursion refines, as in chapter 04, though all latents are
# refined at once: latent 4 does not have to wait for latent 3.
#
# In JupyterLab, choose another problem.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

if first:
    low, high = params.min_steps, params.max_problem_steps
    explore(
        one_problem,
        steps=ipywidgets.IntSlider(high, low, high, description="steps"),
        which=ipywidgets.IntSlider(0, 0, 50, description="story"),
    )

# %% [markdown]
# ## All methods on unseen problems
#
# The table compares latents (`thoughts`) with answering at once (`no_thinking`), with the written chain, with pause vectors,
# with the same recursion, read off its last latent (`direct`), and with latents that were not computed for the problem: their
# mean over training problems, `ridge` regression from the prompt's last state, and those of other problems (`shuffled`).
# After `totals` the model goes on writing a chain whose first half is latents (below).
# `read_off` is the word nearest to the last latent, without the language model. Times are of this machine and include reading
# the prompt; all methods generate through one loop.

# %%
from trm import stats

rows = []
if complete:
    methods = evaluate.methods(params, data, reasoners)
    rows = evaluate.rows(params, data, methods, timed=("no_thinking", "chain", "read_off", *reasoners))
    for row in rows:
        if row["way"] == trained.arm and params.eval_checkpoint == "trained":
            spent = ("train/steps", "train/seconds", "model/parameters")
            row |= {name: trained.metrics[name] for name in spent}
table = pd.DataFrame(rows)
in_html(table).hide(axis="index").format(precision=3) if complete else "paused: nothing is evaluated"

# %%
if complete and reasoners:
    figure = plots.times(table)
    run.save_figure(figure, "times")

# %% [markdown]
# Left and up is better. The written chain is right most often and takes several times as long as latents, one problem at a time
# (left), because it costs a pass per token; in batches of 64 (right) a pass is shared, and the distance shrinks. Latents cost
# one pass over six vectors and 8 applications of a small block more than answering at once.

# %% [markdown]
# ## The full comparison
#
# Three seeds per arm; the steps of the arms are chosen so that their trainings take about equal time (on a processor; seconds
# in the table). The table is committed; these commands make it again:
#
#     trm sweep run latent --scale laptop --jobs 2 --threads 1
#     trm sweep results latent --scale laptop --rows FILE.csv

# %%
full = stats.read_table(
    ROOT / "book" / "results" / "07_latent_reasoning.csv", ("case", "way", "seed", "accuracy", "ms/1")
)
own = full["train/steps"].notna()  # a row of the arm that its run trained
full = full.assign(way=full["case"].where(own, full["way"]))[own | (full["case"] == "thoughts")]
full = full[~full["way"].str.startswith("state")]  # predictions of states: see below
columns = ["accuracy", "tokens", "ms/1", "ms/64", "train/steps", "train/seconds", "model/parameters"]
summary = stats.summary_table(full, columns, key="way").dropna(axis="columns", how="all")
in_html(summary.sort_values("accuracy", ascending=False)).format(precision=3, na_rep="")

# %% [markdown]
# ### Accuracy by the number of steps

# %%
figure = plots.steps(full)
run.save_figure(figure, "steps")

# %% [markdown]
# The written chain stays above 95 % for any number of steps. Latents are within four points up to three steps and fall to 57 %
# at six, where the reasoner must have computed six operations before the first word. The word nearest to the last latent
# (green) falls less, to 67 %: for long stories the language model makes a right latent wrong more often than the reverse.
# Answering at once falls from 40 to 15 %, and pause vectors stay below it.
#
# ### Accuracy and time

# %%
figure = plots.times(full)
run.save_figure(figure, "full_times")

# %% [markdown]
# The same picture as above, over three seeds: one problem at a time the chain takes 4.7 times as long as latents, in batches
# of 64 2.2 times. The green triangle and the blue circle do not call the language model after the latents (they still read its
# states of the prompt, after block 2 of 4): as accurate as the latents with the language model after them, or more, in 0.55 of
# their time, in batches in 0.8 to 0.9.
#
# ## Swap test: which latents carry the answer?
#
# `mean`, `ridge` and `shuffled` replace all six latents, those taught the answer included; they cannot tell a chain of thought
# from an answer that is copied. A swap can: some latents of a story are replaced by those of another story of as many steps
# (`other`), or by their mean over the stories (`mean`). Share of right answers, and of answers that are the other story's. In
# stories of n steps `steps` are latents 1 to n - 1, which are taught totals before the answer, and `answer` those from n on.

# %%
from trm.latent.swap import replaced, swap_test

show_source(replaced)
swaps, length = pd.DataFrame(), min(4, params.max_problem_steps)
some = [one for one in data.parts["test"] if one.steps == length]
if complete and first and first.config.readout == "lm" and first.config.teach_answer and len(some) > 1:
    found = swap_test(Thinking(data.lm, first, params.max_new_tokens, params.max_answer_tokens), some)
    swaps = pd.DataFrame(found).set_index(["slots", "by"])
    run.save_table(swaps.reset_index(), "swaps")
    figure = plots.swaps(swaps.reset_index())
    run.save_figure(figure, "swaps")
swaps.round(3)

# %% [markdown]
# Green bars that stay at the dotted line belong to latents that the answer does not depend on: 1, 2 and 3 of a story of four
# steps, alone or together (`steps`). With another story's answer latents (`answer`, 4 to 6) the answers are the other story's;
# one at a time, the last latent counts most. So the language model copies the answer from latents that were taught it, and in
# this setting the totals before it are not shown to be read.
#
# ## From the states before thinking to the state after it
#
# Phase 2 as llm-trm asks for it: the reasoner reads the states of the prompt and predicts the state after thinking, that of the
# answer's anchor in the last block after a correct chain. With $h$ that state, $\hat h$ a prediction and $D$ its width, the
# distance is the mean square error over the mean variance $\bar\sigma^2$ of the training states,
#
# $$d(\hat h, h) = \frac{\lVert \hat h - h \rVert^2}{D\, \bar\sigma^2},$$
#
# so that the mean of the training states as a prediction (`constant`) has about 1, and a perfect one 0. `ridge` is linear
# regression from the prompt's states (its last one and their mean). The head of the language model reads the answer off the
# prediction: `accuracy` is the share that is right. The reasoners (arms `state`) learn the distance alone, after every H-cycle.
#
# Is it recursion that helps, or depth, or parameters? A block that is applied $H (L + 1)$ times, for several `H_cycles` $H$ and
# `L_cycles` $L$, is compared with the same block applied once (`state_once`: equal parameters) and with eight blocks of their
# own weights applied once each (`state_deep`: equal FLOPs as $H = 4$, $L = 1$, at eight times the parameters).

# %%
from trm.latent.state_map import block_applications, map_rows


def committed(name, own):
    """The committed table, or where there is none yet what this run computed."""
    path = ROOT / "book" / "results" / f"07_latent_reasoning_{name}.csv"
    print("committed:" if path.exists() else "this run:", f"{name}.csv")
    return stats.read_table(path) if path.exists() else own


mapped, limits = pd.DataFrame(), (params.max_new_tokens, params.max_answer_tokens)
predictors = {name: (one, params.seed) for name, one in reasoners.items() if one.config.readout == "state"}
if complete:
    mapped = pd.DataFrame(map_rows(data, predictors, limits, params.batch_size))
    run.save_table(mapped, "map")
states = committed("map", mapped)
if len(states):
    named = states["predictor"].isin(plots.BASELINES) | ("case" not in states)
    case = states["predictor"].where(named, states.get("case"))
    states = states.assign(case=case, applications=block_applications(states))
    if not states["predictor"].isin(plots.BASELINES).all():
        figure = plots.state_map(states)
        run.save_figure(figure, "state_map")
    columns = ["applications", "distance", "accuracy"]
    shown = stats.summary_table(states, columns, key="case").dropna(axis="columns", how="all").round(3)
shown if len(states) else "paused: nothing is evaluated"

# %% [markdown]
# A smaller distance is better, and a higher accuracy. No arm `state` ships, so that the defaults compute the baselines alone.
# Ridge regression is hardly nearer than the constant (0.98 against 1.00), and the answers read off either are right in about
# 4 %: a linear function of the last state and of the mean state, fitted on 2,000 problems, hardly predicts what thinking leads
# to. Networks, of a committed table or of a run with an arm `state`, are also drawn, and are to be compared with the lines of
# the baselines first, and then at equal applications: on the left a red point below a blue one at the same place on the axis is
# a gain of recursion at equal FLOPs, a red line that falls to the right a gain of more of it.
#
# ## Latents that the language model continues
#
# The swap test above found latents that hold the answer. Here they cannot: the k-th latent holds the total of the k-th step and
# nothing later, and the last step is never latent. After the first k steps as latents the language model writes the rest of the
# chain and the answer. A latent step has the form of a written one, `0+n=t;`, with the number n (a note) and the total t as
# mixtures of words: the model is told neither the operation nor the total before.
#
#     question /think<think> | 0+n=t; 0+n=t; | 12-4=8;8*2=16;</think>16
#
# `half` is k = n/2 in stories of n steps, rounded up; `no_numbers` and `mean` are controls at half: latents without the story's
# numbers, and latents of no story. If the language model uses the latents, swapping the last of them for another story's total
# changes what it writes next. Arm `totals` is taught these totals and numbers and nothing else, never the answer; the one that
# ships is tested on the first 300 test stories.

# %%
from trm.latent.continued import continued, follows_swap, framed, methods_by_count
from trm.latent.data import Data

show_source(framed, continued)
counted, follows, trained_here = pd.DataFrame(), {}, params.eval_checkpoint == "trained"
begins = reasoners.get("totals", first)
steps_taught = begins and begins.config.readout == "lm" and begins.config.chain_weight and not params.data_path
if complete and steps_taught:
    thinking = Thinking(data.lm, begins, *limits)
    most = min(params.num_latents, params.max_problem_steps - 1) if trained_here else 0
    few = Data(data.lm, {"test": data.parts["test"][: None if trained_here else 300]})
    by_count = methods_by_count(thinking, most)
    counted = pd.DataFrame(evaluate.rows(params, few, by_count, timed=[*by_count][:-2]))
    follows = follows_swap(thinking, few.parts["test"])
    for name, share in follows.items():
        counted.loc[counted["way"] == "half", f"swap/{name}"] = share
    run.save_table(counted, "continued")
begun = committed("continued", counted)
if "case" in begun:
    begun = begun[begun["case"] == "totals"]
if len(begun):
    figure = plots.continued_chain(begun)
    run.save_figure(figure, "continued")
    columns = ["accuracy", "tokens", "ms/1", *begun.filter(like="swap/")]
    shown = stats.summary_table(begun, columns, key="way").dropna(axis="columns", how="all").round(3)
shown if len(begun) else "no latents of steps"

# %% [markdown]
# First three panels: the written chain (0), latents for half of the steps, and the controls. At the defaults latents for the
# first half give 98.7 against 99.3 % (296 and 298 of 300 stories), with 13.5 tokens to write instead of 26.4 (the latent steps
# are read in one pass), so that an answer takes 0.63 to 0.74 of the time (three runs). Latents of no story (`mean`) leave
# 7.0 %, so it is these latents that the model reads; without the story's numbers (`no_numbers`) 90.0 % stay right, so that most
# of it are the totals. Last panel: with another story's total in the last latent the model goes on from that total in 99.3 %
# and answers what follows from it in 94.1 %. So here the language model does use what the latents say, as if it had written
# those steps itself. What they hold was computed by the reasoner all the same.
#
# ## Findings
#
# Differences are in points of accuracy, paired by seed; all seeds are tested on the same 2,000 stories. p is not corrected for
# the number of comparisons.

# %%
from trm.progress import say

mean, swapped = full.groupby("way")["accuracy"].mean(), ""
if params.eval_checkpoint == "shipped" and ("answer", "other") in swaps.index:
    own, steps_other, answer_other = (
        swaps.loc[row] for row in (("none", "own"), ("steps", "other"), ("answer", "other"))
    )
    swapped = (
        f" (the shipped `thoughts` on {own['problems']:.0f} stories of {length} steps: {own['accuracy']:.1%} are right, and "
        f"{steps_other['accuracy']:.1%} with another story's latents of the steps; with another story's answer latents "
        f"{answer_other['accuracy']:.1%} are, and {answer_other['other_answer']:.1%} of the answers are the other story's)"
    )
against = {way: stats.compare(full, "accuracy", "thoughts", way, key="way").say() for way in mean.index}
eightfold = stats.compare(full, "accuracy", "thoughts", "read_off", key="way", tests=8).p
gap = (mean["thoughts"] - mean["no_thinking"]) / (mean["chain"] - mean["no_thinking"])
faster = stats.compare(full, "ms/1", "chain", "thoughts", key="way", ratio=True).say()
say(f"""
- After latents {mean["thoughts"]:.1%} of unseen stories are answered correctly, {mean["no_thinking"]:.1%} at once, and
  {mean["chain"]:.1%} after the written chain. Latents against answering at once: {against["no_thinking"]}, {gap:.0%} of the
  gap. Time per answer of the chain over that of the latents, one story at a time: {faster}.
- **The latents are not shown to be a chain of thought.** The language model copies the answer from the last latents{swapped}:
  the computing is done before it reads the latents, by its first two blocks, whose states the reasoner takes, and by the
  reasoner, which was taught the answer. The content of the earlier latents is not shown to be used by the language model.
- No gain from the language model after the latents. The word nearest to the last latent is the answer in
  {mean["read_off"]:.1%}; the language model after the latents: {against["read_off"]}, and p = {eightfold:.2f} if corrected
  for the eight comparisons of this list. The same recursion, trained to be read off directly, reaches
  {mean["direct"]:.1%}; the difference is not significant: {against["direct"]}.
- The latents depend on the problem. Pause vectors reach {mean["pause"]:.1%} (the latents have {against["pause"]}), the mean
  of the latents {mean["mean"]:.1%}, ridge regression from the prompt's last state {mean["ridge"]:.1%}, and the latents of
  another problem {mean["shuffled"]:.1%}. These controls replace the answer latents too, so they say nothing of the steps.
  Pause vectors are a prompt learned for a frozen model here, at one rate and a third of the steps: that they fall below
  answering at once says nothing of models that are trained with pause tokens.
- Not tested here: whether latents that are taught neither steps nor answer (arm `answer_alone`) help the language model.
""")

# %% [markdown]
# The state after thinking, and chains that the language model continues:

# %%
if len(begun):
    by, swap = begun.groupby("way")[["accuracy", "tokens"]].mean(), begun.filter(like="swap/").mean()
    say(f"""
- Latents for the first half of the steps: {by.accuracy["half"]:.1%} right with {by.tokens["half"]:.1f} tokens,
  {by.accuracy["chain"]:.1%} with {by.tokens["chain"]:.1f} after the written chain; without the story's numbers in the latents
  {by.accuracy["no_numbers"]:.1%}, after latents of no story {by.accuracy["mean"]:.1%}.
- With the last total swapped for another story's, the language model goes on from the other total in
  {swap["swap/swapped"]:.1%}, from its own in {swap["swap/own"]:.1%}; the answer follows the other total in
  {swap["swap/to_the_end"]:.1%}.
""")
versus = {"constant": "a constant", "ridge": "ridge regression"} if len(states) else {}
for name in versus:
    ended = states[states["case"] == name]["distance"].mean()
    say(f"- Distance of {versus[name]} from the state after thinking: {ended:.2f}.")
pairs = {"state_once": "the same parameters applied once", "state_deep": "as many FLOPs in blocks of their own"}
for name, what in pairs.items():
    if len(states) and {"state", name} <= set(states["case"]) and (states["case"] == name).sum() > 1:
        effect = stats.compare(states, "distance", "state", name, key="case", tests=len(pairs)).say("variances", 3)
        say(f"- Distance with recursion minus that of {what}: {effect}, corrected for two comparisons.")

# %%
metrics = evaluate.chapter_metrics(rows) | trained.metrics if complete else {}
if ("answer", "other") in swaps.index:
    metrics["latent/swap/own_answer_steps_swapped"] = float(swaps.loc[("steps", "other"), "accuracy"])
    metrics["latent/swap/other_answer_answer_swapped"] = float(swaps.loc[("answer", "other"), "other_answer"])
if len(mapped):
    last = mapped.set_index("predictor")["distance"]
    for name, predictor in {"": "state", "_constant": "constant", "_no_recursion": "state_once"}.items():
        if predictor in last:
            metrics[f"latent/map/distance{name}"] = float(last[predictor])
if len(counted):
    by_way = counted.set_index("way")
    metrics |= {f"latent/continued/accuracy_{name}": float(by_way.loc[name, "accuracy"]) for name in ("half", "chain")}
    metrics["latent/continued/time_ratio_half"] = float(by_way.loc["half", "ms/1"] / by_way.loc["chain", "ms/1"])
    metrics["latent/continued/follows_swap"] = follows["swapped"]
if complete:
    run.save_table(table)
    about = {"arm": trained.arm, "seed": trained.seed}
    curve = trained.curve(**{"step": "step", "valid/accuracy": "valid/accuracy"})
    run.save_table(pd.DataFrame([about | point for point in curve]), "curves")
run.finish(metrics, complete=complete)

# %% [markdown]
# ## Summary
#
# - A recursive model can read a frozen language model's states and write latents, mixtures of words, that it answers after:
#   86.1 % right (three seeds) against 27.9 % at once and 98.8 % after the written chain, which takes 4.7 times as long.
# - Accuracy after latents does not show reasoning in them. Where latents are taught the answer, the model copies it: the word
#   nearest to the last latent is right in 88.5 %, and swapping the earlier latents changes little.
# - Where the latents hold the first half of a chain and cannot hold the answer, the language model uses them: of 300 stories
#   98.7 % are right with half of the chain left to write, and 99.3 % of continuations follow a total that is swapped.
# - The states after thinking differ between problems, so that a constant predicts them badly; a test of a map to them has to
#   stand beside a constant, a linear regression, and the same network without recursion.
#
# ## Exercises
#
# **1. Fewer and more H-cycles.** The shipped reasoner was trained with four H-cycles. Predict how many answers its last latent
# holds after 1, 2, 4 and 8; then evaluate.
#
# <details><summary>Solution</summary>
#
# ```python
# from trm.latent.thinking import in_batches
#
# config, some = first.config, data.parts["test"][:300]
# reader = Thinking(data.lm, first, params.max_new_tokens, params.max_answer_tokens)
# for H in (1, 2, 4, 8):
#     first.config = config.model_copy(update={"H_cycles": H})
#     print(H, f"{in_batches(reader.direct, some, params.batch_size).accuracy:.1%}")
# first.config = config
# ```
#
# 43.7 %, 75.7 %, 87.3 % and 85.0 % (300 stories). Each H-cycle up to the fourth adds answers. Unlike the models of chapter 04,
# this one was never trained to go on from its own fourth state, and eight H-cycles are no better than four.
#
# </details>
#
# **2. All steps but the last.** At half of the steps the language model writes the other half. Predict accuracy and tokens if
# all steps but the last are latents.
#
# <details><summary>Solution</summary>
#
# ```python
# from functools import partial
#
# from trm.latent.thinking import in_batches
#
# late = partial(continued, Thinking(data.lm, begins, *limits), first=lambda steps: steps - 1)
# found = in_batches(late, data.parts["test"][:300], params.batch_size)
# print(f"{found.accuracy:.1%} right with {found.tokens.mean():.1f} tokens")
# ```
#
# 95.3 % right with 9.0 tokens (300 stories), against 98.7 % at half. The reasoner's fifth total is wrong more often than its
# third, and the language model cannot correct a step that it did not write.
#
# </details>
#
# **3. Blurred latents.** A `sharpness` of 20 puts most of the weight on one word. Predict the accuracy after latents with a
# sharpness of 10 and of 5.
#
# <details><summary>Solution</summary>
#
# ```python
# from trm.latent.thinking import in_batches
#
# config, blurred = first.config, Thinking(data.lm, first, params.max_new_tokens, params.max_answer_tokens)
# for sharpness in (20.0, 10.0, 5.0):
#     first.config = config.model_copy(update={"sharpness": sharpness})
#     print(sharpness, f"{in_batches(blurred.with_latents, data.parts['test'][:300], params.batch_size).accuracy:.1%}")
# first.config = config
# ```
#
# 85.3 %, 84.7 % and 68.3 % (300 stories; with a sharpness of 2 it is 7 %). The language model reads mixtures in which one word
# still has most of the weight; it was never trained on any.
#
# </details>
#
# ## References
#
# - S. Hao and others, [Training large language models to reason in a continuous latent
#   space](https://arxiv.org/abs/2412.06769), 2024: Coconut, a language model that reads its own last state in the place of
#   words.
# - Z. Shen and others, [CODI: compressing chain-of-thought into continuous space via
#   self-distillation](https://arxiv.org/abs/2502.21074), 2025: the distance at the answer's anchor.
# - S. Goyal and others, [Think before you speak: training language models with pause tokens](https://arxiv.org/abs/2310.02226),
#   2023: the pause vectors.
# - Z. Zhang and others, [Soft thinking](https://arxiv.org/abs/2505.15778), 2025: mixtures of word embeddings as inputs.
# - J. Wei and others, [Chain-of-thought prompting elicits reasoning in large language
#   models](https://arxiv.org/abs/2201.11903), 2022: the written chain.
# - A. Jolicoeur-Martineau, [Less is more: recursive reasoning with tiny networks](https://arxiv.org/abs/2510.04871), 2025: the
#   recursion.
