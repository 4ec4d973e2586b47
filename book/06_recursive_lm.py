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
# # 06 · A recursive language model
#
# **Chain of thought buys accuracy with tokens. Can recursion buy it with depth?** The model of this chapter is a language model
# whose body is the recursion of a tiny recursive model: the same few blocks, with causal attention, refine a thought z_L and
# an answer z_H at every position, and a head reads the next token. It answers arithmetic stories of several steps at once,
# without writing a chain; it learns from stories of 2 to 6 steps and is tested on up to 9.
#
# An **arm** is one way to spend the same training compute: `recursive`; `last_only`, the same without deep supervision;
# `looped`, the same blocks applied as often, without z_H and z_L; `same_parameters`, the blocks once; `same_compute`, a plain
# transformer with as many blocks as the recursion applies; and `chain`, the blocks once, the chain of thought written out.

# %% tags=["parameters"]
# the data
data = "arithmetic"  # problems with one answer, or ordinary text
min_steps = 2  # fewest steps of a problem
max_problem_steps = 6  # most steps of a problem in training
test_steps = 9  # most steps of a problem in the test
chain = False  # write the chain of thought before the answer
question_weight = 0.0  # weight of the prompt's tokens in the loss
text_path = ""  # text: .txt, .jsonl or hub:NAME; empty: answers of the shipped generator
text_column = ""  # field of the texts; empty: text, question or generations
num_samples = 2000  # sequences of text to train on
max_seq_length = 64  # most tokens of a sequence of text
embeddings = "shipped"  # model whose token embeddings are taken, frozen: a name, path or shipped; empty: learned
# the arms
arm = "recursive"  # what is trained, one of LM_ARMS; empty: what the parameters say
versus = "same_compute"  # more arms, trained at equal compute; empty: none
# model
body = "recursive"  # recursion, shared blocks in a loop, blocks in a row
hidden_size = 64  # width D
num_layers = 1  # blocks of the shared network; of a plain body, all its blocks
num_heads = 2  # attention heads
expansion = 2.0  # expansion of the SwiGLU
H_cycles = 3  # answers in a supervision step
L_cycles = 1  # latent steps before each answer
backprop = "full"  # how far gradients flow back
# supervision and halting
schedule = "linear"  # weights over the H-cycles: deep supervision; none: the last alone
supervision_weight = 0.5  # weight of the H-cycles before the last
step_schedule = "uniform"  # weights over the supervision steps
step_weight = 0.5  # weight of the supervision steps before the last
curriculum_enabled = False  # bring in the loss on earlier H-cycles gradually
curriculum_start_step = 0  # its weight is zero until here
curriculum_end_step = 0  # its weight is whole from here
halt_max_steps = 1  # supervision steps, the state detached between them
halting = "none"  # act: the expected loss over halting times
halt_by = "sequence"  # how long to think: decided once, or each token
ponder_coef = 0.001  # price of an expected H-cycle in act
act_weight = 0.5  # weight of the halting loss
every_step_weight = 1.0  # act: weight of the losses whenever it halts
# training
batch_size = 64  # examples an optimizer step, over all processes
grad_accumulation = 1  # parts that a process cuts its batch into
max_steps = 300  # optimizer steps; a named arm takes as many as cost as much
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
eval_interval = 50  # steps between evaluations on the validation part
log_interval = 20  # steps between records of history.jsonl
checkpoint_interval = 200  # steps between checkpoints
early_stopping_patience = 0  # evaluations without gain that end a run; 0: never
compute_gradient_stats = False  # gradient norm at each H-cycle
log_per_step_losses = True  # loss after each H-cycle
valid_size = 250  # problems, or texts, for the live curve
test_size = 100  # problems of each number of steps, or texts, in the test
more_cycles = "1, 2, 3, 4, 6, 9"  # H-cycles at test time
table = ""  # file to write the arms' rows to, such as book/results/06_mine.csv
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

# %%
from trm.params import arm_names
from trm.recursive_lm.params import RecursiveLM
from trm.run import ROOT, Run

params = RecursiveLM.from_notebook(globals())
run = Run(params, "06_recursive_lm")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The problems
#
# Stories that a program writes, each with one number for an answer. Which part a story belongs to follows from its arithmetic,
# so that none of the test is ever trained on, in whatever words. (`-p data text` reads ordinary text instead.)

# %%
import pandas as pd

from trm.recursive_lm import train as job

data = job.load(params)
shown = [data.test[n][0] for n in sorted({params.min_steps, params.max_problem_steps, params.test_steps}) if data.test]
pd.set_option("display.max_colwidth", None)
stories = [
    {"steps": len(p.steps), "story": p.question, "chain": p.chain.replace(";", "; "), "answer": p.answer} for p in shown
]
pd.DataFrame(stories)

# %% [markdown]
# ## The model
#
# The token embeddings are taken, frozen, from the small language model that ships (`-p embeddings ""` learns them instead), so
# that no arm must find out anew which number is near which; that model had learned from chains, and all arms gain by it alike.
# What each arm has and does: its parameters, how often a token passes a block, and the steps of training that cost as much.
#
# Keys and values of finished positions are cached when it writes, a set for each application of a block: attention is causal
# and the depth is fixed, so that no earlier state ever changes. Stopping early (`-p halting act`) therefore spares no time
# here: later positions look at the keys of all cycles.

# %%
arms = list(dict.fromkeys([params.arm, *arm_names(params.versus)]))
facts = {}
for arm in arms:
    own = params.of_arm(arm)
    model = job.make_model(own, data)
    passes = own.num_layers * (1 if own.body == "plain" else own.halt_max_steps * own.H_cycles * (own.L_cycles + 1))
    facts[arm or "as given"] = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "blocks passed": passes,
        "training steps": job.steps_of(params, data, arm),
    }
pd.DataFrame(facts).transpose()

# %% [markdown]
# ## Live: the arms at equal compute

# %%
from trm.progress import Progress
from trm.recursive_lm import figures as plots
from trm.recursive_lm import findings

results = {}
for arm in arms:
    show = Progress(job.steps_of(params, data, arm), plots.progress)
    result = job.train_arm(params, data, run, arm, show)
    if result is None:
        break
    results[result.arm] = result
    said = "test/loss" if data.texts else "test/exact_accuracy"
    print(f"{result.arm}: {said} {result.metrics[said]:.4f}, {result.metrics['train/seconds']:.0f} s of training")
complete = len(results) == len(arms)
rows = pd.DataFrame([job.arm_row(result, params) for result in results.values()])

# %%
if results:
    figure = plots.learning(findings.curves(rows))
    run.save_figure(figure, "learning")
if params.table and complete:
    from trm.run import write_atomically

    write_atomically(ROOT / params.table, rows.to_csv(index=False, float_format="%.6g"))

# %% [markdown]
# ## One story, cycle by cycle
#
# What the first arm would answer after each H-cycle: the three likeliest tokens. More cycles than in training are tried too.

# %%
from trm.recursive_lm.answering import likeliest

first = next(iter(results.values()), None)


def by_cycle(steps=4, which=0):
    problem = data.test[steps][which % len(data.test[steps])]
    tokens = likeliest(first.model, data.tokenizer, problem, H_cycles=2 * params.H_cycles)
    return plots.thoughts(problem, tokens, params.H_cycles)


if first and data.test:
    figure = by_cycle(min(4, params.test_steps))
    run.save_figure(figure, "thoughts")

# %% [markdown]
# In JupyterLab, choose another.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

if first and data.test:
    explore(
        by_cycle,
        steps=ipywidgets.IntSlider(min(4, params.test_steps), params.min_steps, params.test_steps, description="steps"),
        which=ipywidgets.IntSlider(0, 0, params.test_size - 1, description="story"),
    )

# %% [markdown]
# ## The full comparison
#
# Three seeds an arm, equal compute. The table is committed; these commands make it again:
#
#     python -m trm.sweep run recursive_lm --scale laptop --jobs 2
#     python -m trm.sweep results recursive_lm --scale laptop --rows FILE.csv

# %%
from trm.findings import say

committed = ROOT / "book" / "results" / "06_recursive_lm.csv"
full = findings.read_rows(committed) if committed.exists() else rows if data.test else pd.DataFrame()
print("from", committed.relative_to(ROOT) if committed.exists() else "the live arms: no table is committed")
levels = findings.levels(full) if len(full) else pd.DataFrame(columns=findings.SPENT)
levels[findings.SPENT]

# %% [markdown]
# Right answers in %, by the number of steps.

# %%
levels.drop(columns=findings.SPENT)

# %% [markdown]
# ### Accuracy by the number of steps

# %%
learned = params.max_problem_steps
if len(full):
    figure = plots.steps(full, learned)
    run.save_figure(figure, "steps")

# %% [markdown]
# ### How fast it is learned

# %%
if len(full):
    figure = plots.learning(findings.curves(full))
    run.save_figure(figure, "full_learning")

# %% [markdown]
# ### More cycles at test time than in training

# %%
if len(full):
    figure = plots.cycles(full, learned)
    run.save_figure(figure, "cycles")

# %% [markdown]
# ### Deep supervision
#
# The guide to deep supervision of language models promises faster convergence, a lower final loss, and losses that fall from
# each H-cycle to the next.

# %%
if len(full):
    figure = plots.losses(full)
    run.save_figure(figure, "losses")

# %% [markdown]
# ## Findings
#
# Intervals are of 95 %, over seeds, paired.

# %%
if len(full):
    say(findings.verdict(full))
    say(findings.more_cycles(full, learned))
    say(findings.say_claims(full))

# %%
metrics = {
    f"{name}/{key}": value
    for name, one in results.items()
    for key, value in one.metrics.items()
    if key.startswith("test/")
}
if first:
    metrics |= {name: value for name, value in first.metrics.items() if value is not None}
    metrics |= findings.chapter_metrics(full) if len(full) else {}
if len(rows):
    run.save_table(rows)
run.finish(metrics, complete=complete)
