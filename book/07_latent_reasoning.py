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

# %% [markdown]
# # 07 · Thinking in latents
#
# **Chain of thought buys accuracy with tokens. Can a few vectors, thought of all at once, stand in for them?** A small
# language model answers arithmetic stories well after it has written its chain, and badly without. Here it is frozen. A tiny
# recursive model of a tenth of its size looks at the states that it has of the question, thinks in `H_cycles` rounds, and
# writes `num_latents` vectors; they take the place of the chain in front of `</think>`, and the language model answers.
#
#     question /think<think> | latent latent latent latent latent latent | ;</think> | answer
#
# This is phase 2 of the guide to LLM-TRM: a map from the states before thinking to what thinking leads to. Its success is
# easy to feign, so that what answers without any thought stands in the same table: answering at once, vectors that are the
# same for every problem, another problem's latents, a linear guess; and the same recursion without a language model behind
# it.

# %% tags=["parameters"]
# the language model and the problems
lm = ""  # language model that can think, hub name or path; empty: the one that ships
layer = 2  # whose states are read: 1 the first block's, -1 what the head reads
ending = ";"  # what a chain of the language model ends with, before </think>
anchor = ""  # words of the language model between </think> and its answer
data_path = ""  # GSM8K: folder, file or hub:openai/gsm8k:main; empty: generated stories
min_steps = 2  # fewest steps of a generated story
max_problem_steps = 6  # most steps of a generated story
num_samples = 3000  # problems to train on
valid_size = 250  # problems, kept out of training, for the live curve
test_size = 1000  # unseen problems, on which all ways are judged
max_new_tokens = 80  # most tokens of a chain with its answer
max_answer_tokens = 8  # most tokens of an answer without a chain
cache_dir = ""  # where states and chains are kept for other runs; empty: in the run's folder
# what thinks
arm = "thoughts"  # what is trained, one of LATENT_ARMS; empty: what the parameters say
judged = "shipped"  # which thinkers are judged: those that ship, or the one trained here
num_latents = 6  # latents between the prompt and the answer
d_compressed = 96  # numbers that a state comes in by, and a latent goes out by
hidden_size = 96  # width D
num_layers = 1  # blocks of the shared network
num_heads = 4  # attention heads
expansion = 4.0  # expansion of the SwiGLU
H_cycles = 4  # thoughts in a supervision step
L_cycles = 1  # latent steps before each thought
backprop = "full"  # how far gradients flow back
halt_max_steps = 1  # supervision steps, the state detached between them
halting = "none"  # act: the expected loss over halting times
ponder_coef = 0.001  # price of an expected H-cycle in act
# what it learns from
chain_weight = 1.0  # weight of the steps of a right chain
answer_weight = 1.0  # weight of the answer
distill_weight = 1.0  # weight of the distance to the state after a right chain
answers_by = "lm"  # who answers: the language model, or the last latent
ask_each = False  # ask the language model after every H-cycle, not after the last alone
asked_from = 40  # training step from which the language model is asked
ask_interval = 10  # steps from one in which it is asked to the next
schedule = "linear"  # weights over the H-cycles: deep supervision; none: the last alone
supervision_weight = 0.5  # weight of the H-cycles before the last
# training
batch_size = 64  # problems an optimizer step, over all processes
grad_accumulation = 1  # parts that a process cuts its batch into
max_steps = 160  # optimizer steps; what ends a run
optimizer = "adamw"  # update rule
lr = 0.003  # peak learning rate
lr_schedule = "cosine"  # rate after the warm-up
lr_min_ratio = 0.0  # share of the rate left at the end of a cosine
warmup_steps = 50  # steps of linear warm-up
weight_decay = 0.01  # decoupled weight decay
beta1 = 0.9  # decay of the first moment
beta2 = 0.95  # decay of the second moment
grad_clip = 1.0  # largest gradient norm; 0: no clipping
ema_decay = 0.99  # decay of the averaged weights; 0: no averaging
precision = "float32"  # float16 on CUDA only
backend = "auto"  # where to compute; xla: TPUs, chapter 04
compile = False  # torch.compile of the network; XLA compiles all in any case
# what is kept
eval_interval = 40  # steps between evaluations on the validation part
log_interval = 20  # steps between records of history.jsonl
checkpoint_interval = 200  # steps between checkpoints
early_stopping_patience = 0  # evaluations without gain that end a run; 0: never
compute_gradient_stats = False  # gradient norm at each H-cycle
log_per_step_losses = True  # loss after each H-cycle
timed = 64  # problems that each way of answering is timed on
table = ""  # file to write the arm's rows to, such as book/results/07_mine.csv
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

# %%
from trm.latent.params import LatentReasoning
from trm.run import ROOT, Run

params = LatentReasoning.from_notebook(globals())
run = Run(params, "07_latent_reasoning")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The language model and its problems
#
# Stories that a program writes; which part one belongs to follows from its arithmetic, so that none of the test is ever
# trained on. With `data_path` the problems are GSM8K's, and the chains what the language model itself wrote, where that was
# right.

# %%
import pandas as pd

from trm.latent import train as job

data = job.load(params, run)
thinkers = job.shipped(data, params) if params.judged == "shipped" else {}
pd.set_option("display.max_colwidth", None)
shown = {one.steps: one for one in data.parts["test"][:50]}  # one of each length
print(
    f"{type(data.lm.lm).__name__}, {data.lm.lm.num_parameters():,} parameters, frozen; states of block {data.lm.layer}"
)
stories = [[n, one.question, one.chain, one.answer] for n, one in sorted(shown.items())]
pd.DataFrame(stories[::2], columns=["steps", "story", "chain", "answer"])

# %% [markdown]
# ## What could be aimed at
#
# A reasoner might be held to the state that the model has at `</think>`, as the guide does. Where a model says the same words
# after every thought, that state can be nearly the same for every problem, and who predicts a constant comes close to it.
# CODI ([2502.21074](https://arxiv.org/abs/2502.21074)) takes the state from which the answer is read, its *anchor*. Where a
# model answers directly after `</think>`, as the one that ships does, the two are the same token. How much of each is the
# same for every problem (by mean square; 1: all of it):

# %%
from trm.findings import say
from trm.latent import figures as plots
from trm.latent import findings

encoded = job.encode(data.lm, data.parts["train"][:1000], params.num_latents)
constant = job.constancy(data, encoded[:200], params.batch_size)
figure = plots.constancy(constant)
run.save_figure(figure, "constancy")
say(findings.constancy(constant))

# %% [markdown]
# ## What thinks
#
# The prompt's states come in by `d_compressed` numbers each, through chapter 01's compressor (the principal components). What
# a latent wants to say goes out by as many, through another one, of the token embeddings; both are closed forms. What enters
# the language model is a mixture of the words of its chains, each by how near it is to that: a latent that is sure is a word,
# which the model knows how to read, and one that is not is several at once. What is trained is the recursion between: one
# block, applied `H_cycles * (L_cycles + 1)` times to the latents alone. The prompt's keys and values are computed once.

# %%
reasoner = job.make_reasoner(params.of_arm(params.arm), data, encoded, params.arm)
count = sum(p.numel() for p in reasoner.parameters() if p.requires_grad)
print(
    f"{type(reasoner).__name__}: {count:,} trained parameters, {params.num_latents} latents of {data.lm.hidden_size} numbers"
)

# %% [markdown]
# ## Live: it learns
#
# Each latent stands for one step of the chain. It is taught to say the total that the step arrives at, and to note, in
# vectors that the language model never sees, the step's operation, its number and the total before. None of this asks the
# language model, whose states of the prompts were computed once and kept. From training step `asked_from` on it is asked as
# well, in every `ask_interval`th step: the answer's cross-entropy, and the distance of the anchor from where a right chain
# leads it.
#
# This is the beginning of a training; the thinkers that ship were trained for minutes (their commands are in their cards).

# %%
from trm.progress import Progress

trained = job.train(params, run, data, Progress(params.max_steps, plots.progress))
complete = trained is not None

# %%
if complete:
    figure = plots.progress(trained.history)
    run.save_figure(figure, "progress")
arm = params.arm or "own"
if complete and params.judged == "trained":
    thinkers = {arm: trained.reasoner}
print("judged from here on:", ", ".join(thinkers), "as they ship" if params.judged == "shipped" else "as trained here")

# %% [markdown]
# ## One problem, thought through
#
# What each latent says after each H-cycle: the word with the largest share in its mixture, and that share. Below is the step
# of the written chain that it stands for; green where it says that step's total, or, after the last step, the answer.

# %%
from trm.latent.evaluate import Thinking

first = next((reasoner for name, reasoner in thinkers.items() if name != "pause"), None)


def one_problem(steps=4, which=0):
    some = [one for one in data.parts["test"] if one.steps == steps] or data.parts["test"]
    one = some[which % len(some)]
    found = job.nearest_words(Thinking(data.lm, first, params.max_new_tokens), one)
    return plots.thoughts(one, found)


if first:
    example = next((one for one in data.parts["test"] if one.steps == 4), data.parts["test"][0])
    print(example.question)
    figure = one_problem(example.steps)
    run.save_figure(figure, "thoughts")

# %% [markdown]
# In JupyterLab, choose another.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

if first:
    explore(
        one_problem,
        steps=ipywidgets.IntSlider(
            params.max_problem_steps, params.min_steps, params.max_problem_steps, description="steps"
        ),
        which=ipywidgets.IntSlider(0, 0, 50, description="story"),
    )

# %% [markdown]
# ## All ways of answering
#
# The same unseen problems. Times are of this machine, the reading of the prompt included, and all ways are written by one
# loop.

# %%
asked = job.ways(params, data, thinkers) if complete else {}
table = job.rows(params, data, asked, times=("no_thinking", "chain", "read_off", *thinkers))
if complete and params.judged == "trained":
    own = next(row for row in table if row["way"] == arm)
    own |= findings.curve(trained.history) | {name: trained.metrics[name] for name in findings.SPENT}
live = pd.DataFrame(table)
findings.levels(live) if complete else "paused: nothing is judged"

# %%
if complete and thinkers:
    figure = plots.times(live)
    run.save_figure(figure, "times")
if params.table and complete:
    from trm.run import write_atomically

    write_atomically(ROOT / params.table, live.to_csv(index=False, float_format="%.6g"))

# %% [markdown]
# ## The full comparison
#
# Three seeds an arm, as many steps as take about as long (the minutes below are of processor time). The mean of the latents,
# the linear guess and another problem's latents show only that a wrong thought misleads; what counts is whether latents do
# better than answering at once, than pause vectors, and than the same recursion without a language model. The table is
# committed; these commands make it again:
#
#     python -m trm.sweep run latent --scale laptop --jobs 2 --threads 1
#     python -m trm.sweep results latent --scale laptop --rows FILE.csv

# %%
committed = ROOT / "book" / "results" / "07_latent_reasoning.csv"
full = findings.read_rows(committed) if committed.exists() or not complete else live
print("from", committed.relative_to(ROOT) if committed.exists() else "the live rows: no table is committed")
findings.levels(full)

# %% [markdown]
# ### Accuracy by the number of steps

# %%
figure = plots.steps(full)
run.save_figure(figure, "steps")

# %% [markdown]
# ### Accuracy and time

# %%
if "thoughts" in set(full["way"]):
    figure = plots.times(full)
    run.save_figure(figure, "full_times")

# %% [markdown]
# ## Findings
#
# Intervals are of 95 %, over seeds, paired; all seeds are judged on the same problems.

# %%
say(findings.verdict(full))

# %%
metrics = findings.chapter_metrics(live) | trained.metrics if complete else {}
if complete:
    run.save_table(live)
run.finish(metrics, complete=complete)
