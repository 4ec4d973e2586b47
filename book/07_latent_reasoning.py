# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 07 · Latent reasoning
#
# **Can a few vectors take the place of a written chain of thought?** A small language model answers arithmetic stories well
# after it has written its chain, and badly without. Here it is frozen. A tiny recursive model of a tenth of its size reads the
# hidden states that it has of the question, refines its latents in `H_cycles` rounds, and writes `num_latents` vectors; they
# take the place of the chain before `</think>`, and the language model answers.
#
#     question /think<think> | latent latent latent latent latent latent | ;</think> | answer
#
# This is phase 2 of LLM-TRM: a map from the states before thinking to what thinking leads to. A right answer after latents does
# not show that the latents are a chain of thought: the reasoner may compute the answer itself, and the language model may copy
# it. A swap test below shows that this is what happens here. The table compares with answering at once, with pause vectors,
# with latents that were not computed for the problem, and with the same recursion without a language model.

# %% tags=["parameters"]
arm = "thoughts"  # arm to train, one of LATENT_ARMS; empty: the other parameters decide
eval_checkpoint = "shipped"  # reasoners to evaluate: those that ship, or the one trained here
num_samples = 3000  # training problems
num_latents = 6  # latents between the prompt and the answer
d_compressed = 96  # bottleneck size for input states and output latents
hidden_size = 96  # width D
H_cycles = 4  # H-cycles per supervision step
L_cycles = 1  # L-cycles per H-cycle
chain_weight = 1.0  # weight of the chain loss: the steps of a correct chain
answer_weight = 1.0  # weight of the answer's cross-entropy
distill_weight = 1.0  # weight of the distance to the state after a correct chain
readout = "lm"  # the answer is the language model's, or the last latent's
lm_loss_every = 10  # optimizer steps between computations of the language model's loss
max_steps = 160  # optimizer steps
lr = 0.003  # peak learning rate

# %%
from trm.latent.params import LatentReasoning
from trm.run import ROOT, Run

params = LatentReasoning.from_notebook(globals())
run = Run(params, "07_latent_reasoning")
print(f"run {run.id} in {run.dir}")

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
# LLM-TRM trains the reasoner to predict the model's state at `</think>`. Where a model continues in the same way after every
# chain, that state can be nearly the same for every problem, and a constant prediction comes close to it. CODI
# ([2502.21074](https://arxiv.org/abs/2502.21074)) uses the state from which the answer is read, its *anchor*. The model that
# ships answers directly after `</think>`, so that the two are the same token. The figure shows the share of its mean square
# that is the same for every problem (1: all of it).

# %%
from trm.latent import figures as plots

encoded = encode(data.lm, data.parts["train"][:1000], params.num_latents)
constant = evaluate.constant_share(data, encoded[:200], params.batch_size)
figure = plots.constant_share(constant)
run.save_figure(figure, "constancy")
for name, shares in constant.items():
    print(f"{name}: {shares[0]:.0%} constant after the first block, {shares[-1]:.0%} after the last")

# %% [markdown]
# ## The reasoner
#
# The prompt's states enter through chapter 01's compressor with `d_compressed` numbers each (the principal components). The
# latents leave through another one, of the token embeddings; both are closed forms. The input to the language model is a
# mixture of the words of its chains, weighted by their nearness to the latent: a latent near one word is that word, which the
# model can read, and others are several words at once. What is trained is the recursion between: one block, applied
# `H_cycles * (L_cycles + 1)` times to the latents alone. The prompt's keys and values are computed once.

# %%
reasoner = job.make_reasoner(params.of_arm(params.arm), data, encoded, params.arm)
count = sum(p.numel() for p in reasoner.parameters() if p.requires_grad)
print(f"{type(reasoner).__name__}: {count:,} trained parameters, {params.num_latents} latents")

# %% [markdown]
# ## Training, live
#
# Each latent stands for one step of the chain. Its label is the total of that step, and its notes, which the language model
# never sees, have as labels the step's operation, its number and the total before. **The label of every latent after the last
# step is the answer.** None of this requires the language model, whose states of the prompts are computed once and stored.
# From optimizer step `lm_loss_start` on its loss is added in every `lm_loss_every`-th step: the answer's cross-entropy, and
# the distance of the anchor from its state after a correct chain.
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
# ## One problem
#
# The word of largest weight in each latent's mixture after each H-cycle, and that weight. Below each latent is the step of the
# chain that it is taught; green where the word is that step's total, or, after the last step, the answer.

# %%
first = next((reasoner for name, reasoner in reasoners.items() if name != "pause"), None)


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
# In JupyterLab, choose another.

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
# Times are of this machine and include reading the prompt; all methods generate through one loop.

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
table.style.hide(axis="index").format(precision=3) if complete else "paused: nothing is evaluated"

# %%
if complete and reasoners:
    figure = plots.times(table)
    run.save_figure(figure, "times")

# %% [markdown]
# ## The full comparison
#
# Three seeds per arm; the steps of the arms are chosen so that their trainings take about equal time (on a processor; seconds
# in the table). The table is committed; these commands make it again:
#
#     python -m trm.sweep run latent --scale laptop --jobs 2 --threads 1
#     python -m trm.sweep results latent --scale laptop --rows FILE.csv

# %%
full = stats.read_table(ROOT / "book" / "results" / "07_latent_reasoning.csv", ("way", "seed", "accuracy", "ms/1"))
columns = ["accuracy", "tokens", "ms/1", "ms/64", "train/steps", "train/seconds", "model/parameters"]
summary = stats.summary_table(full, columns, key="way").dropna(axis="columns", how="all")
summary.sort_values("accuracy", ascending=False).style.format(precision=3, na_rep="")

# %% [markdown]
# ### Accuracy by the number of steps

# %%
figure = plots.steps(full)
run.save_figure(figure, "steps")

# %% [markdown]
# ### Accuracy and time

# %%
figure = plots.times(full)
run.save_figure(figure, "full_times")

# %% [markdown]
# ## Swap test: which latents carry the answer?
#
# `mean`, `ridge` and `shuffled` replace all six latents, those taught the answer included; they cannot tell a chain of thought
# from an answer that is copied. A swap can: some latents of a story are replaced by those of another story of as many steps
# (`other`), or by their mean over the stories (`mean`). Share of right answers, and of answers that are the other story's. In
# stories of n steps `steps` are latents 1 to n - 1, which are taught totals before the answer, and `answer` those from n on.

# %%
from trm.latent.swap import swap_test

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
# ## From the states before thinking to the state after it
#
# Phase 2 as LLM-TRM asks for it: the reasoner reads the states of the prompt and predicts the state after thinking, that of the
# answer's anchor in the last block after a correct chain. Distances are mean square errors over the variance of the training
# states, so that the mean of the training states as a prediction (`constant`) has about 1; `ridge` is linear regression. The
# head of the language model reads the answer off the prediction. `state_once` is the same network without recursion: its block
# is applied once.

# %%
from trm.latent.state_map import map_rows

mapped, limits = pd.DataFrame(), (params.max_new_tokens, params.max_answer_tokens)
predictors = {name: (one, params.seed) for name, one in reasoners.items() if one.config.readout == "state"}
if complete and predictors:
    mapped = pd.DataFrame(map_rows(data, predictors, limits, params.batch_size))
    run.save_table(mapped, "map")
mapped.round(3)

# %% [markdown]
# ## Latents that the language model continues
#
# Here the k-th latent holds the total of the k-th step and nothing later, and the answer is never taught (arm `totals`). After
# the first k steps as latents, the language model writes the rest of the chain and the answer. `half` is k = n/2 in stories of
# n steps, rounded up; `no_numbers` and `mean` are controls at half: latents without the story's numbers, and latents of no
# story. If the language model uses the latents, swapping the last of them for another story's total changes what it writes
# next.

# %%
from trm.latent.continued import follows_swap, methods_by_count

counted, follows = pd.DataFrame(), {}
goes_on = next((one for one in reasoners.values() if one.config.readout == "lm" and not one.config.teach_answer), None)
if complete and goes_on:
    thinking = Thinking(data.lm, goes_on, *limits)
    by_count = methods_by_count(thinking, params.num_latents if params.eval_checkpoint == "trained" else 0)
    counted = pd.DataFrame(evaluate.rows(params, data, by_count, timed=[*by_count][:-2]))
    follows = follows_swap(thinking, data.parts["test"])
    for name, share in follows.items():
        counted.loc[counted["way"] == "half", f"swap/{name}"] = share
    run.save_table(counted, "continued")
counted.round(3)

# %% [markdown]
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
gap = (mean["thoughts"] - mean["no_thinking"]) / (mean["chain"] - mean["no_thinking"])
faster = stats.compare(full, "ms/1", "chain", "thoughts", key="way", ratio=True).say()
say(f"""
- After latents {mean["thoughts"]:.1%} of unseen stories are answered correctly, {mean["no_thinking"]:.1%} at once, and
  {mean["chain"]:.1%} after the written chain. Latents against answering at once: {against["no_thinking"]}, {gap:.0%} of the
  gap. Time per answer of the chain over that of the latents, one story at a time: {faster}.
- **The latents are not shown to be a chain of thought.** The language model copies the answer from the last latents{swapped}:
  the computing is done by the reasoner, which was taught the answer, and the content of the earlier latents is not shown to be
  used by the language model.
- The language model adds nothing to the latents. The word nearest to the last latent is the answer in
  {mean["read_off"]:.1%}; the language model after the latents does worse: {against["read_off"]}, not
  corrected for the eight comparisons of this list. The same
  recursion trained without a language model reaches {mean["direct"]:.1%}; the difference is not significant:
  {against["direct"]}.
- The latents depend on the problem. Pause vectors reach {mean["pause"]:.1%} (the latents have {against["pause"]}), the mean
  of the latents {mean["mean"]:.1%}, ridge regression from the prompt's last state {mean["ridge"]:.1%}, and the latents of
  another problem {mean["shuffled"]:.1%}. These controls replace the answer latents too, so they say nothing of the steps.
- Not tested here: whether latents that are taught neither steps nor answer (arm `answer_alone`) help the language model.
""")

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
