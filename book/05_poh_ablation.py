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
# # 05 · Pointer-over-Heads
#
# **Does a parser get better by thinking again, and what makes it?** A dependency parser says for each word of a sentence
# which other word it depends on, and how. This one has a block of attention that is applied again and again, and a
# controller that weighs its heads anew for each word in each iteration. Its guide holds two hypotheses against each other:
# **H0**, the task is too simple for iterations to help; **H1**, they lacked a training signal, and *deep supervision*, a loss
# after every iteration, brings it.
#
# An **arm** is one way to train, or one thing to put in the block's place: `one_iteration`, `standard` (a loss on the last
# iteration), `deep_supervision`, `act_halting` (the expected loss over halting times), `both`; and as baselines `encoder`
# (nothing in its place), `layer` (one plain layer with as many parameters), `untied` (as many plain layers as iterations)
# and `transformer` (plain layers alone). All arms train with the same compute.

# %% tags=["parameters"]
# the treebank
conllu_dir = ""  # folder or file of CoNLL-U, or hub:CONFIG; empty: sentences of the shipped grammar
train_size = 0  # sentences to train on; 0: all
use_upos = False  # give the parser the treebank's part-of-speech tags
subtypes = False  # labels with their subtypes, as nmod:poss
encoder = ""  # pretrained encoder, hub name or path, or package:NAME; empty: none
encoder_layers = 4  # last layers of it that are averaged
encoder_pool = "mean"  # subword that stands for a word, or their mean
# the arms
arm = ""  # what is trained, one of PARSER_ARMS; empty: what the parameters say
versus = "deep_supervision"  # a second arm, trained at equal compute; empty: none
max_inner_iters = 3  # iterations of the block
deep_supervision = False  # a loss after every iteration
schedule = "ramp"  # weights over the iterations
supervision_weight = 0.5  # weight of the iterations before the last
act_halting = False  # expected loss over halting times (differentiable halting)
ponder_coef = 0.001  # price of an expected iteration in act_halting
halting_mode = "fixed"  # when a parsed sentence stops
entropy_threshold = 1.0  # nats of routing entropy below which entropy stops
block = "pointer"  # routed and shared, plain layers, nothing
plain_layers = 0  # layers of block layers; 0: as the arm needs
# model
hidden_size = 64  # width D
conv_layers = 2  # gated convolutions before the block
conv_width = 3  # words that a convolution sees
num_heads = 4  # attention heads, which the controller weighs
expansion = 2.0  # expansion of the SwiGLU
controller = "static"  # weights from the state, or from a GRU
routing = "soft"  # weights of all heads, of the best, with noise
top_k = 2  # heads that routing topk keeps
temperature = 1.0  # of the controller's softmax
arc_size = 64  # size of the vectors that arcs are scored with
label_size = 32  # size of the vectors that labels are scored with
dropout = 0.1  # of embeddings and of the vectors that are scored
inner_dropout = 0.1  # of the convolutions and of the block
word_dropout = 0.1  # chance that a word is read as unknown
tag_weight = 0.2  # weight of guessing the tags, in training; 0: they are not read
# training
epochs = 20.0  # passes over the training part; arms get equal compute
batch_tokens = 1000  # words an optimizer step, over all processes
batch_size = 0  # sentences an optimizer step in place of batch_tokens; 0: as many as fit
grad_accumulation = 1  # parts that a process cuts its batch into
max_steps = 0  # optimizer steps; 0: epochs says
optimizer = "adamw"  # update rule
lr = 0.004  # peak learning rate
lr_schedule = "cosine"  # rate after the warm-up
lr_min_ratio = 0.0  # share of the rate left at the end of a cosine
warmup_steps = 50  # steps of linear warm-up
weight_decay = 0.0  # decoupled weight decay
beta1 = 0.9  # decay of the first moment
beta2 = 0.95  # decay of the second moment
grad_clip = 5.0  # largest gradient norm; 0: no clipping
ema_decay = 0.99  # decay of the averaged weights; 0: no averaging
precision = "float32"  # float16 on CUDA only
backend = "auto"  # where to compute; xla: TPUs, chapter 04
compile = False  # torch.compile of the network; XLA compiles all in any case
# what is kept
eval_interval = 0  # steps between evaluations on the dev part; 0: an epoch
log_interval = 20  # steps between records of history.jsonl
checkpoint_interval = 0  # steps between checkpoints; 0: an epoch
early_stopping_patience = 0  # evaluations without gain that end a run; 0: never
compute_gradient_stats = False  # gradient norm at each H-cycle
log_per_step_losses = True  # loss after each H-cycle
table = ""  # file to write the arms' rows to, such as book/results/05_ewt.csv
resamples = 2000  # draws of the bootstrap over sentences
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

# %%
from trm.parsing.params import Parsing
from trm.run import ROOT, Run

params = Parsing.from_notebook(globals())
run = Run(params, "05_poh_ablation")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The treebank
#
# Sentences with their trees. Without files they come from a small grammar whose trees take more than a look at the
# neighbours: clauses part a subject from its verb, and where a clause stands at the end, its verb tells whose it is. Of a real
# treebank, give the folder (`-p conllu_dir ud_ewt`) or a name of the hub (`-p conllu_dir hub:en_ewt`).

# %%
import numpy as np
import pandas as pd

from trm.parsing import train as job
from trm.parsing.treebank import PARTS

data = job.load(params)
lengths = {part: [len(s.words) for s in getattr(data.treebank, part)] for part in PARTS}
facts = {
    part: {
        "sentences": len(lengths[part]),
        "words": sum(lengths[part]),
        "longest": max(lengths[part]),
        "projective trees": f"{np.mean([s.is_projective for s in getattr(data.treebank, part)]):.0%}",
        "also in train": data.treebank.shared().get(part, ""),
    }
    for part in PARTS
}
print(f"{len(data.vocabulary.words):,} words that occur twice or more, {len(data.vocabulary.labels)} labels")
pd.DataFrame(facts).transpose()

# %% [markdown]
# A sentence of the test part and its tree. An arc leads from a head to what depends on it.

# %%
import matplotlib.pyplot as plt

from trm.parsing import figures as parsing_plots

shown = next((i for i, s in enumerate(data.treebank.test) if 9 <= len(s.words) <= 14 and not s.is_projective), 0)
sentence = data.treebank.test[shown]
figure, ax = plt.subplots(figsize=(9, 3))
parsing_plots.draw_arcs(ax, sentence.words, sentence.heads, sentence.labels, sentence.heads)
run.save_figure(figure, "tree")

# %% [markdown]
# ## The model
#
# Each word is the sum of its embedding and those of its beginnings and ends; gated convolutions see its neighbours. Then the
# block: every head attends, the controller weighs the heads for each word, and what comes out goes in again. After each
# iteration the same biaffine scorer can say the tree (the best one with a single root, exactly).

# %%
model = job.make_parser(job.arm_params(params, params.arm), data)
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
pd.Series(sizes, name="parameters").rename_axis("part").to_frame().transpose()

# %% [markdown]
# ## Live: two arms
#
# The arm that the parameters describe, and another beside it with the same compute: an arm whose steps cost more takes fewer.
# The weights are averaged, and those that did best on dev are judged on test.

# %%
from trm.parsing import findings
from trm.progress import Progress

results = {}
arms = list(dict.fromkeys([params.arm, params.versus] if params.versus else [params.arm]))
for arm in arms:
    show = Progress(job.steps_of(params, data, arm), parsing_plots.progress)
    result = job.train_arm(params, data, run, arm, show)
    if result is None:
        break
    results[result.arm] = result
    print(f"{result.arm}: UAS {result.metrics['test/uas']:.2%}, LAS {result.metrics['test/las']:.2%} on test, "
          f"{result.metrics['train/epochs']:.1f} epochs, {result.metrics['train/seconds']:.0f} s")  # fmt: skip
complete = len(results) == len(arms)
rows = pd.DataFrame([job.arm_row(result, params) for result in results.values()])

# %%
if results:
    curves = findings.curves(rows)
    figure = parsing_plots.learning(curves.assign(seconds=60 * curves["minutes"]), "seconds")
    run.save_figure(figure, "learning")
if params.table and complete:
    from trm.run import write_atomically

    write_atomically(ROOT / params.table, rows.to_csv(index=False, float_format="%.6g"))

# %% [markdown]
# What each iteration adds. An arm without a loss on its early iterations is read there too, by the same scorer.

# %%
if len(rows):
    figure = parsing_plots.by_iteration(rows)
    run.save_figure(figure, "live_iterations")

# %% [markdown]
# Which arcs gain? The longer an arc, the further a word must look.

# %%
if len(rows):
    figure = parsing_plots.by_distance(rows)
    run.save_figure(figure, "live_distance")

# %% [markdown]
# ## One sentence, thought through
#
# The tree after each iteration (green: right; red: wrong, the right arc dotted), where the heads look as the controller weighs
# them, and those weights.

# %%
from trm.parsing.evaluate import speed, trace

first = next(iter(results.values()), None)
routed = next((r for r in reversed(list(results.values())) if r.model.config.block == "pointer"), None)
if routed:
    seen = trace(routed.model, sentence, data.encoded["test"][shown])
    figure = parsing_plots.thoughts(sentence.words, seen.trees, sentence.heads, seen.weights, seen.attention)
    figure.suptitle(routed.arm, y=1.01)
    run.save_figure(figure, "thoughts")

# %% [markdown]
# In JupyterLab, choose another sentence.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

short = [i for i, s in enumerate(data.treebank.test) if 5 <= len(s.words) <= 16][:200] or [0]


def think_through(which):
    one = data.treebank.test[short[which]]
    its = trace(routed.model, one, data.encoded["test"][short[which]])
    return parsing_plots.thoughts(one.words, its.trees, one.heads, its.weights, its.attention)


if routed:
    explore(think_through, which=ipywidgets.IntSlider(0, 0, len(short) - 1, description="sentence"))

# %% [markdown]
# ## Does stopping early save time?
#
# Sentences leave the batch when they stop: when the controller's entropy falls below a threshold (`entropy`), or when the
# halting head says so (`halting`, taught by `act_halting`). Beside it, what decoding costs in batches of 64: the scores, the
# trees and the labels, as a share of the encoder's time.

# %%
stops = []
if routed:
    thresholds = np.quantile(routed.evaluation.entropy, [0.1, 0.5, 0.9])
    for mode, value in [("fixed", 0.0), *(("entropy", float(t)) for t in thresholds), ("halting", 0.0)]:
        if mode == "halting" and not routed.params.act_halting:
            continue
        model = job.with_halting(routed.model, mode, value)
        found = job.evaluate(model, data.treebank.test, data.encoded["test"])
        line = {"stops by": mode + (f" below {value:.2f} nats" if mode == "entropy" else "")}
        line |= {"UAS": found.halted[0].mean(), "mean iterations": found.steps.mean()}
        stops.append(line | speed(model, data.encoded["test"]))
pd.DataFrame(stops).rename(columns=lambda name: name.removeprefix("parse/").replace("_", " ")).round(3)

# %% [markdown]
# ## The full ablation
#
# All arms on the English Web Treebank (UD 2.15), three seeds each, equal compute, the test part as it is: gold tokens, nothing
# pretrained, no tags read (to guess them is a second task in training). The tables are committed; these commands make them
# again:
#
#     python -m trm.sweep run poh_ablation --scale laptop -p conllu_dir ud_ewt --jobs 2
#     python -m trm.sweep results poh_ablation --scale laptop -p conllu_dir ud_ewt --rows FILE.csv

# %%
from trm.findings import say

committed = ROOT / "book" / "results" / "05_ablation.csv"
full = findings.read_rows(committed) if committed.exists() else rows
print("from", committed.relative_to(ROOT) if committed.exists() else "the live arms: no table is committed")
comparison = findings.compare(full, resamples=params.resamples) if len(full) else pd.DataFrame()
findings.levels(comparison) if len(full) else "nothing was trained"

# %% [markdown]
# Against one iteration, in points of UAS: paired by seed, and with the sentences drawn again (95 % intervals each); and the
# smallest difference that so many seeds would have shown in four of five cases.

# %%
findings.differences(comparison)

# %%
if len(full):
    figure = parsing_plots.arms(full)
    run.save_figure(figure, "full_arms")

# %% [markdown]
# ### By iteration

# %%
if len(full):
    figure = parsing_plots.by_iteration(full)
    run.save_figure(figure, "full_iterations")

# %% [markdown]
# ### By length of arc

# %%
if len(full):
    figure = parsing_plots.by_distance(full)
    run.save_figure(figure, "full_distance")

# %% [markdown]
# ### How far it gets, and how fast
#
# The arms of the ablation, one core each, every seed. (The rate falls to zero by the end of each.)

# %%
if len(full):
    figure = parsing_plots.learning(findings.curves(full))
    run.save_figure(figure, "full_learning")

# %% [markdown]
# A wider parser with one iteration, on two cores:
#
#     python book/05_poh_ablation.py -f params/05_ewt.yaml -p conllu_dir ud_ewt -p table book/results/05_ewt.csv

# %%
longest = ROOT / "book" / "results" / "05_ewt.csv"
if longest.exists():
    ewt = findings.read_rows(longest)
    figure = parsing_plots.learning(findings.curves(ewt))
    run.save_figure(figure, "ewt")
    print(findings.level(ewt))

# %% [markdown]
# ### What the price of thinking buys
#
#     python -m trm.sweep run poh_ponder --scale laptop --jobs 2 -p conllu_dir ud_ewt

# %%
prices = ROOT / "book" / "results" / "05_ponder.csv"
if prices.exists():
    figure = parsing_plots.ponder(findings.read_rows(prices))
    run.save_figure(figure, "ponder")
    say(findings.prices(findings.read_rows(prices)))

# %% [markdown]
# ### Which controller
#
# Weights from a word's state, or from a memory of its own (a GRU), each with deep supervision; the gradient's norm after
# training, at the controller.
#
#     python -m trm.sweep run poh_controllers --scale laptop --jobs 2 -p conllu_dir ud_ewt

# %%
kinds = ROOT / "book" / "results" / "05_controllers.csv"
findings.controllers(findings.read_rows(kinds)) if kinds.exists() else "no table is committed"

# %% [markdown]
# ## Findings
#
# From the committed tables.

# %%
if len(full):
    say(findings.verdict(full, params.resamples))

# %%
metrics = {f"{name}/test/uas": result.metrics["test/uas"] for name, result in results.items()}
if first:
    metrics |= {name: value for name, value in first.metrics.items() if value is not None}
    metrics |= speed(first.model, data.encoded["test"]) | findings.chapter_metrics(full)
if len(rows):
    run.save_table(rows)
run.finish(metrics, complete=complete)
