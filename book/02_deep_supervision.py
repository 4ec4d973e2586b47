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
# # 02 · Deep supervision
#
# **Does it help to grade every answer on the way, and not the last alone?** A recursive model gives an answer after each
# H-cycle. *Deep supervision* puts a loss on all of them; a *schedule* says how much each weighs. This chapter draws the
# schedules, trains a few of them live, and shows the comparison of all of them at equal compute over three seeds.
#
# There are two levels, and they are kept apart: `schedule` weighs the H-cycles *inside* one forward pass, which is what
# this chapter is about; `step_schedule` weighs the *supervision steps*, each of which is an update of its own.
#
# An arm is a schedule (or `curriculum`: the linear one, brought in by and by), or `schedule/backprop`: how far gradients
# flow (`last` H-cycle, `per_cycle`, or `full`). The parameters `schedule` and `backprop` of chapter 04 come from the arm.

# %% tags=["parameters"]
# the comparison
arms = "none, linear, uniform, none/last"  # schedule or schedule/backprop of each arm
num_seeds = 1  # seeds of each arm
target_accuracy = 0.5  # validation accuracy whose first step is reported
table = ""  # file to write the results to, such as book/results/02_deep_supervision.csv
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id
# puzzles
puzzle = "6x6"  # size of the puzzles
data_path = ""  # file or folder of puzzles, or hub:<dataset>; empty: those that ship
train_size = 0  # puzzles to train on; 0: all
valid_size = 128  # puzzles, kept out of training, for the live curve
test_size = 1000  # puzzles of the final test
num_aug = 0  # variants of a puzzle by symmetry; 0: unlimited
# model
hidden_size = 64  # width D
num_layers = 1  # blocks of the shared network
expansion = 2.0  # expansion of the SwiGLUs
inner_multiple = 8  # inner widths are rounded up to a multiple of it
mixer = "mlp"  # how positions are mixed
num_heads = 4  # attention heads
puzzle_tokens = 0  # learned tokens put before the puzzle
H_cycles = 3  # answers refined in one supervision step
L_cycles = 2  # latent refinements before each answer
# halting
halt_max_steps = 6  # most supervision steps
halting = "q"  # how stopping is learned
act_weight = 0.5  # weight of the halting head's loss
halt_exploration_prob = 0.3  # chance that an early stop is put off
halt_exploration_end = 0.0  # what that chance is annealed to
halt_exploration_anneal_steps = 0  # optimizer steps of annealing; 0: none
ponder_coef = 0.001  # price of thinking in act, ponder and graves
ponder_prior = 0.2  # in ponder: chance to halt at a step, a priori
every_step_weight = 1.0  # in act, ponder and graves: weight of the loss of every step
eval_steps = 6  # supervision steps in evaluation; more than in training is allowed
initial_noise = 0.0  # deviation of the random part of the first answer state
# loss and supervision
loss_type = "softmax"  # cross-entropy of the answer
schedule = "linear"  # weights over the H-cycles
supervision_weight = 1.0  # weight of the H-cycles before the last
step_schedule = "uniform"  # weights over the supervision steps
step_weight = 0.5  # weight of the supervision steps before the last
curriculum_enabled = False  # bring supervision_weight in by and by
curriculum_start_step = 0  # weight 0 until here
curriculum_end_step = 200  # full weight from here
depth_curriculum = ""  # H_cycles x L_cycles from a share of training, as 1x1@0, 2x2@0.5
backprop = "full"  # how far gradients flow
activation_checkpointing = False  # compute activations again instead of keeping them
# training
batch_size = 48  # examples an optimizer step, over all processes
grad_accumulation = 1  # parts that a process cuts its batch into
max_steps = 400  # optimizer steps of fully back-propagated arms; the others get equal compute
optimizer = "adamw"  # update rule
lr = 0.004  # peak learning rate
lr_schedule = "constant"  # rate after the warm-up
lr_min_ratio = 0.0  # share of the rate left at the end of a cosine
warmup_steps = 20  # steps of linear warm-up
weight_decay = 0.1  # decoupled weight decay
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
compute_gradient_stats = True  # gradient norm at each H-cycle
log_per_step_losses = True  # loss after each H-cycle

# %% [markdown]
# A schedule of your own is a function that is given the number of steps and the weight. Register it before the
# parameters are checked, and its name is as good as any: `-p arms "none, middle"`.

# %%
from trm.supervision import register_schedule


@register_schedule("middle")
def middle(num_steps, weight):
    """All of the early weight on the middle step."""
    return [weight * (i == num_steps // 2) for i in range(num_steps - 1)] + [1.0]


# %%
from trm.params import arm_names
from trm.puzzles.params import DeepSupervision
from trm.run import Run

params = DeepSupervision.from_notebook(globals())
run = Run(params, "02_deep_supervision")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## What the weights are
#
# Shares of the loss for six H-cycles, at supervision weight 0.5. "Decay" is what the LLM-TRM guide to deep supervision calls
# `linear` and `exponential`; they rise. `adaptive` is not drawn: its weights follow the losses.

# %%
from trm import plots
from trm.supervision import SCHEDULES, curriculum_factor, step_weights

figure = plots.weight_curves({name: step_weights(name, 6, 0.5) for name in SCHEDULES})
run.save_figure(figure, "schedules")

# %% [markdown]
# The curriculum brings the early weights in by and by: nothing before its first step, all of it from its last.

# %%
steps = [0, 1000, 5500, 10000, 15000]
print("optimizer step: ", steps)
print("weight (target 0.7, from 1,000 to 10,000):", [0.7 * curriculum_factor(s, 1000, 10000) for s in steps])

# %% [markdown]
# ## What `backprop` costs
#
# Time of a forward and backward pass, and the memory kept for the latter, for at most 16 puzzles on the processor.
# `last` is the paper's way: all H-cycles but the last run without gradient. (Early answers then have none to pass on:
# a loss on them reaches the output head alone.) Activation checkpointing keeps nothing between applications of the
# network and computes it again.

# %%
import pandas as pd
import torch

from trm.puzzles.dataset import PuzzleBatches, load
from trm.puzzles.train import make_model, results_table, step_cost, supervision_arm, train_arms

data = load(params.puzzle, params.data_path, params.train_size, params.valid_size, params.test_size, params.seed)
batch = {
    name: torch.from_numpy(value) for name, value in PuzzleBatches(data.train, min(params.batch_size, 16))(0).items()
}
costs = {}
for backprop in ("last", "per_cycle", "full"):
    for checkpointing in (False, True):
        options = {"backprop": backprop, "activation_checkpointing": checkpointing}
        cost = step_cost(make_model(params.model_copy(update=options), data), batch)
        costs[backprop + (" + checkpointing" if checkpointing else "")] = cost
costs = pd.DataFrame(costs).T
costs["time / full"] = costs["seconds"] / costs.loc["full", "seconds"]
costs["memory / full"] = costs["megabytes"] / costs.loc["full", "megabytes"]
costs.round(3)

# %% [markdown]
# ## Live: a few arms
#
# Each arm starts from the same weights and sees the same puzzles. Arms with a shorter backward pass take more steps, so
# that all compute equally much (a backward pass counts as two forward ones).

# %%
results = []
for result in train_arms(params, run, data, supervision_arm):
    results.append(result)
    print(f"{result.arm}, seed {result.seed}: {result.metrics['train/steps']} steps, "
          f"exact {result.metrics['test/exact_accuracy']:.3f} on unseen puzzles")  # fmt: skip
complete = len(results) == params.num_seeds * len(arm_names(params.arms))
table = results_table(results, params)

# %%
figure = plots.arms(table, "valid/exact_accuracy", "validation puzzles solved")
run.save_figure(figure, "live_accuracy")

# %%
figure = plots.cycles_of_arms(table, params.H_cycles)
run.save_figure(figure, "live_cycles")

# %% [markdown]
# ## The full comparison
#
# All schedules, the curriculum, and the three ways of back-propagation, three seeds each, at equal compute. The table
# is committed; this command makes it again (about twenty minutes on two cores):
#
#     python book/02_deep_supervision.py -f params/02_full.yaml
#
# At three cycles and weight 1 some schedules are one and the same: `constant` and `uniform`, `exponential` and `exp2`,
# `inverse_u` and `last_two`. Their curves coincide, as they must under one seed.

# %%
from trm.findings import say
from trm.puzzles.arms import compare, verdict
from trm.run import ROOT

committed = ROOT / "book" / "results" / "02_deep_supervision.csv"
if params.table and complete:
    from trm.run import write_atomically

    write_atomically(run.path("table.csv").parent / "table.csv", table.round(5).to_csv(index=False))
    write_atomically(ROOT / params.table, table.round(5).to_csv(index=False))
full = pd.read_csv(committed) if committed.exists() else table
print("from", committed.relative_to(ROOT) if committed.exists() else "the live arms: no table is committed")
figure = plots.arms(full, "valid/exact_accuracy", "validation puzzles solved")
run.save_figure(figure, "full_accuracy")

# %%
comparison = compare(full, params.target_accuracy)
comparison.round(3)

# %%
figure = plots.cycles_of_arms(full, params.H_cycles)
run.save_figure(figure, "full_cycles")

# %% [markdown]
# ## Findings

# %%
say(verdict(comparison, full, params.target_accuracy))

# %%
metrics = {f"{r.arm}/{r.seed}/test/exact_accuracy": r.metrics["test/exact_accuracy"] for r in results}
metrics |= {f"cost/{name}/seconds": float(row["seconds"]) for name, row in costs.iterrows()}
metrics |= {f"cost/{name}/megabytes": float(row["megabytes"]) for name, row in costs.iterrows()}
run.finish(metrics, complete=complete)
