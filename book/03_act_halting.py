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
# # 03 · Halting
#
# **When should a model stop thinking, and what does it gain by thinking longer?** A recursive model can answer after any
# step. This chapter takes a trained one and lets it stop by different rules; lets it think longer than it was trained to,
# and again from other starts; and then trains models that learn to stop in different ways.

# %% tags=["parameters"]
# the questions
model_path = ""  # folder of a trained model; empty: the one that ships for the puzzle
tolerance = 0.003  # accuracy that a rule may lose against all steps
more_steps = 64  # supervision steps of thinking longer
restarts = 16  # attempts at each puzzle
restart_size = 120  # test puzzles for thinking longer and for restarts
early_steps = 250  # optimizer steps of a model trained for a short time; 0: none
arms = "q, act"  # ways to learn to stop, see HALTING_ARMS; empty: none are trained
num_seeds = 1  # seeds of each arm, and of the model trained for a short time
label = ""  # name of the data in the tables; empty: the puzzle's size
tables = ""  # folder to write the tables to, such as book/results
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
valid_size = 1000  # puzzles, kept out of training, to choose thresholds on
test_size = 2000  # puzzles of the final test
num_aug = 0  # variants of a puzzle by symmetry; 0: unlimited
# model
hidden_size = 64  # width D
num_layers = 1  # blocks of the shared network
expansion = 2.0  # expansion of the SwiGLUs
inner_multiple = 8  # inner widths are rounded up to a multiple of it
mixer = "mlp"  # how positions are mixed
num_heads = 4  # attention heads
puzzle_tokens = 0  # learned tokens put before the puzzle
H_cycles = 2  # answers refined in one supervision step
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
eval_steps = 16  # supervision steps that rules are held against
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
max_steps = 400  # optimizer steps of an arm; those that cost more a step take fewer
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
eval_interval = 200  # steps between evaluations on the validation part
log_interval = 20  # steps between records of history.jsonl
checkpoint_interval = 200  # steps between checkpoints
early_stopping_patience = 0  # evaluations without gain that end a run; 0: never
compute_gradient_stats = False  # gradient norm at each H-cycle
log_per_step_losses = True  # loss after each H-cycle

# %%
from trm.params import arm_names
from trm.puzzles.params import Halting
from trm.run import ROOT, Run

params = Halting.from_notebook(globals())
run = Run(params, "03_act_halting")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## A trained model, and puzzles that it has never seen
#
# Rules are chosen on validation puzzles and judged on test puzzles. The model was trained on neither.

# %%
from trm.puzzles.dataset import load
from trm.puzzles.loading import check_split, model_and_training

model, training = model_and_training(params)
check_split(training, params)
data = load(params.puzzle, params.data_path, params.train_size, params.valid_size, params.test_size, params.seed)
label = params.label or params.puzzle
shape = data.test.shape
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, trained with at most {model.config.halt_max_steps} steps; "
      f"{len(data.valid):,} puzzles to choose rules on, {len(data.test):,} to judge them on")  # fmt: skip

# %% [markdown]
# ## Which rule knows best when to stop?
#
# The model thinks all `eval_steps` steps about every puzzle, and after each we note what a rule could look at: the halting
# head, the entropy of the answer, how much the state still changes, whether the answer has. A rule is one of these
# signals and a threshold; as the threshold moves, it draws a line of accuracy against mean steps. Each line is
# to be held against **fixed depth** (the same number of steps for every puzzle) and **random** stopping (a coin at every
# step). Black is a referee from outside: stop when the answer obeys the rules of Sudoku.

# %%
import pandas as pd

from trm.puzzles import halting_figures as halting_plots
from trm.puzzles.evaluation import evaluate
from trm.puzzles.rules import cheapest, choose_thresholds, curve, dealt_out, fixed_depth_at, thin_out

valid, test = (evaluate(model, part, params.eval_steps) for part in (data.valid, data.test))
shown = ["fixed", "q_margin", "halt_probability", "entropy", "residual", "stable", "obeys", "random"]
curves = pd.concat([thin_out(curve(test, signal)) for signal in shown], ignore_index=True)
chosen = choose_thresholds(valid, params.tolerance)
rule = cheapest(valid, chosen.values())
steps = test.steps(rule)
accuracy, mean_steps = test.halted(rule)
figure = halting_plots.rule_curves(curves, test.exact_by_step, {"accuracy": accuracy, "mean_steps": mean_steps})
run.save_figure(figure, "rules")

# %% [markdown]
# For each signal the cheapest threshold that loses at most `tolerance` on the validation puzzles, and what it does on the
# test puzzles. `dealt out`: the same stopping steps, dealt out at random among the puzzles.

# %%
rows = []
for signal in ["q_margin", "halt_probability", "entropy", "residual", "stable"]:
    one = chosen[signal]
    its_steps = test.steps(one)
    rows.append(
        {"rule": halting_plots.RULES[signal][1], "threshold": one.threshold}
        | dict(zip(("accuracy", "mean steps"), test.halted(one)))
        | {"fixed depth": fixed_depth_at(test, its_steps.mean()), "dealt out": dealt_out(test, its_steps)}
    )
chosen_rules = pd.DataFrame(rows).set_index("rule")
chosen_rules.round(3)

# %% [markdown]
# ## Does it save time?
#
# A puzzle that stops leaves the batch, and a waiting one takes its place. Both ways of solving all test puzzles are timed in
# turn, the better of two each.

# %%
import time

import torch

from trm.halting import Rule
from trm.puzzles.grid import tokens
from trm.puzzles.solve import solve_until

inputs, answers = (
    torch.from_numpy(tokens(part)).to(params.device) for part in (data.test.questions, data.test.answers)
)
seconds = {}
for _ in range(2):
    for name, one in (("fixed", Rule("fixed", params.eval_steps)), ("entropy", chosen["entropy"]), ("rule", rule)):
        started = time.perf_counter()
        solved = solve_until(model, inputs, one, params.eval_steps)
        right = (solved.predictions == answers).all(1).float().mean().item()  # waits for the device
        seconds[name] = min(time.perf_counter() - started, seconds.get(name, float("inf")))
speedup = seconds["fixed"] / seconds["rule"]
print(f"{len(data.test):,} puzzles, {params.eval_steps} steps each: {seconds['fixed']:.1f} s")
print(f"with the rule {rule.signal} at {rule.threshold:.3g}: {seconds['rule']:.1f} s, {speedup:.1f} times faster, "
      f"{right:.3f} solved")  # fmt: skip

# %% [markdown]
# ## Does it think longer about harder puzzles?

# %%
import numpy as np

rated = len(np.unique(data.test.ratings)) > 5
difficulty, name = (data.test.ratings, "rating") if rated else (data.test.clues, "clues given")
if rated:  # ratings are counts with a long tail: groups of equal size, named by their middle
    group = pd.qcut(difficulty, 8, duplicates="drop", labels=False)
    difficulty = np.array([np.median(difficulty[group == g]) for g in range(group.max() + 1)])[group]
figure = halting_plots.stopping_steps(steps, test.exact_after(steps), difficulty, name, params.eval_steps)
run.save_figure(figure, "stopping_steps")

# %% [markdown]
# ## Slide the threshold
#
# In JupyterLab, move the slider and see accuracy and steps move. (A rendered page shows the same for four thresholds.)

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore
from trm.puzzles.rules import thresholds

levels = [float(v) for v in thresholds(test, "q_margin", 40)]


def at_threshold(threshold):
    share, mean = test.halted(Rule("q_margin", threshold))
    figure = halting_plots.rule_curves(
        curves[curves["rule"] == "q_margin"], test.exact_by_step, {"accuracy": share, "mean_steps": mean}
    )
    figure.suptitle(f"halting head at {threshold:.2f}: {share:.1%} solved in {mean:.2f} steps")
    return figure


explore(
    at_threshold,
    threshold=ipywidgets.SelectionSlider(options=levels, value=levels[len(levels) // 2], description="threshold"),
)

# %%
few = [levels[int(i)] for i in np.linspace(0, len(levels) - 1, 4)]
figure = halting_plots.histograms({f"{t:.1f}": test.steps(Rule("q_margin", t)) for t in few}, params.eval_steps)
run.save_figure(figure, "thresholds")

# %% [markdown]
# ## Can its confidence be believed?
#
# The paper's halting head says how likely its answer is right. If it is calibrated, of the answers with probability 0.8
# eight in ten are. The curves are those of the first step, of the last in training, and of the last of all. (The heads of
# act, ponder and graves decide when to stop and promise nothing.)

# %%
from trm.puzzles.rules import calibration

asked = sorted({1, min(model.config.halt_max_steps, params.eval_steps), params.eval_steps})
tables, measures = {}, {}
for step in asked:
    tables[f"step {step}"], measures[step] = calibration(test.signals["q_halt"][:, step - 1], test.exact[:, step - 1])
figure = halting_plots.reliability(tables)
run.save_figure(figure, "calibration")
pd.DataFrame(measures).T.rename_axis("step").round(3)

# %% [markdown]
# ## Thinking longer, and thinking again
#
# Two ways to spend more: more steps, or more attempts. An attempt starts from another symmetry of the puzzle (or from noise),
# and of several answers one is chosen: the most **confident**, the one whose state moves least (**residual**), the one most
# attempts **agree** on, a **vote** cell by cell, or one that passes the **rule check** of the puzzle itself. The oracle
# takes the right one whenever there is one.

# %%
from trm.puzzles.halting_study import early_model, longer_and_again

some = data.test.subset(np.arange(min(params.restart_size, len(data.test))))
trained = longer_and_again(model, some, label, params.seed, params.eval_steps, params.more_steps, params.restarts)
figure = halting_plots.thinking_longer(trained)
run.save_figure(figure, "thinking_longer")

# %% [markdown]
# With the rule check one need not try everything: stop at the first answer that obeys, and try again only where none did.

# %%
from trm.puzzles.attempts import persist

started = time.perf_counter()
patient = persist(model, data.test, params.restarts, 2 * params.eval_steps, seed=params.seed)
patient_seconds = time.perf_counter() - started
tried = range(1, params.restarts + 1)
by_try = pd.DataFrame(patient.by_try, columns=["puzzles solved", "mean steps a puzzle"], index=tried)
by_try.rename_axis("attempts at most").loc[[n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= params.restarts]].round(4)

# %% [markdown]
# The same for a model whose training was cut short, where there is more to gain.

# %%
early = []
for seed in range(params.num_seeds if params.early_steps else 0):
    short = early_model(params, run, data, seed)
    table = longer_and_again(
        short, some, f"{label} early", params.seed + seed, params.eval_steps, params.more_steps, params.restarts
    )  # fmt: skip
    early.append(table)
if early:
    figure = halting_plots.thinking_longer(pd.concat(early))
    run.save_figure(figure, "thinking_longer_early")

# %% [markdown]
# ## Learning to stop
#
# Each arm is trained anew with the same compute. **q** is the paper's head, which learns whether the answer is right;
# **q_continue** adds the loss on going on; **annealed** puts a stop off less and less often; **depth** trains shallow
# first. **act** minimises the expected loss over halting times and pays `ponder_coef` for every expected step (the
# number after the colon); **act_alone** does so without a loss on every step; **ponder** pays for the divergence from a
# geometric prior, **graves** reads one answer from the average of its states.

# %%
from trm.puzzles.halting_study import arm_row
from trm.puzzles.train import halting_arm, train_arms

rows = []
for result in train_arms(params, run, data, halting_arm):
    rows.append(arm_row(params, result, data))
    print(f"{result.arm}, seed {result.seed}: by its own rule {rows[-1]['taught_accuracy']:.3f} solved in "
          f"{rows[-1]['taught_mean_steps']:.2f} steps; {rows[-1]['accuracy_all_steps']:.3f} with all steps")  # fmt: skip
complete = len(rows) == params.num_seeds * len(arm_names(params.arms))
arms_table = pd.DataFrame(rows)
if rows:
    figure = halting_plots.arms(arms_table)
    run.save_figure(figure, "live_arms")

# %% [markdown]
# ## The full comparison
#
# All arms with three seeds on 6x6, and the same questions asked of the 9x9 model on puzzles with 17 clues and on the hardest
# that a forum has found. The tables are committed; these commands make them again (about an hour on two cores):
#
#     python book/03_act_halting.py -f params/03_full.yaml
#     python book/03_act_halting.py -f params/03_sudoku9.yaml -p data_path puzzles2_17_clue.csv.xz
#     python book/03_act_halting.py -f params/03_hardest.yaml -p data_path puzzles5_forum_hardest_1905_11plus.csv.xz

# %%
from trm.puzzles.halting_study import save_tables, summary_row

summary = summary_row(
    label, model, test, data.test.answers, rule, chosen["entropy"], seconds, patient, patient_seconds
)  # fmt: skip
measured = {"curves": curves.assign(label=label), "summary": pd.DataFrame([summary])}
measured["longer"] = pd.concat([trained, *early], ignore_index=True)
if rows:
    measured["arms"] = arms_table
if params.tables and complete:
    save_tables(ROOT / params.tables, "03", label, measured)


def committed(kind):
    """The committed tables of a kind, one below the other; what this run measured where there are none."""
    found = sorted((ROOT / "book" / "results").glob(f"03_{kind}_*.csv"))
    return pd.concat([pd.read_csv(path) for path in found], ignore_index=True) if found else measured.get(kind)


full_summary = committed("summary").set_index("label")
full_summary.T.map(lambda value: round(value, 4) if isinstance(value, float) else value)

# %% [markdown]
# ### Rules, on each kind of puzzle

# %%
full_curves = committed("curves")
figure = halting_plots.rule_curves_of_all(full_curves)
run.save_figure(figure, "full_rules")

# %% [markdown]
# ### Thinking longer, on each
#
# `6x6 early` is the model of chapter 04 after a quarter of its training, mean of three seeds.

# %%
full_longer = committed("longer")
figure = halting_plots.longer_of_all(full_longer)
run.save_figure(figure, "full_longer")

# %% [markdown]
# ### Learning to stop: all arms

# %%
full_arms = committed("arms")
if full_arms is not None:
    figure = halting_plots.arms(full_arms)
    run.save_figure(figure, "full_arms")

# %% [markdown]
# ### What the price of thinking buys

# %%
if full_arms is not None:
    figure = halting_plots.ponder_sweep(full_arms)
    run.save_figure(figure, "ponder_sweep")

# %% [markdown]
# ## Findings
#
# From the committed tables, except for the first paragraph, which is about this run.

# %%
from trm.findings import say
from trm.puzzles import halting_findings

say("This run. " + halting_findings.stopping(summary))
for other in full_summary.reset_index().to_dict("records"):
    say(halting_findings.stopping(other))

# %%
for each in full_longer["label"].unique():
    say(halting_findings.longer(full_longer[full_longer["label"] == each]))

# %%
if full_arms is not None:
    say(halting_findings.claims(full_arms, full_summary))

# %%
attempts_of = trained[trained["kind"] == "symmetry"]
by_agreement = attempts_of[attempts_of["selection"] == "agreement"].iloc[-1]
metrics = {
    "halting/speedup": summary["speedup_rule"],
    "halting/accuracy_fixed": summary["accuracy_fixed"],
    "halting/accuracy_best": summary["accuracy_rule"],
    "halting/mean_steps_best": summary["mean_steps_rule"],
    "halting/accuracy_fixed_depth_same_steps": summary["accuracy_fixed_depth_same_steps"],
    "halting/accuracy_dealt_out": summary["accuracy_dealt_out"],
    "halting/speedup_entropy": summary["speedup_entropy"],
    "halting/calibration_error": measures[params.eval_steps]["ece"],
    "test_time/accuracy_more_steps": float(trained[trained["kind"] == "steps"]["accuracy"].iloc[-1]),
    "test_time/accuracy_restarts": float(by_agreement["accuracy"]),
    "test_time/accuracy_persist": summary["accuracy_patient"],
    "test_time/mean_steps_persist": summary["mean_steps_patient"],
}
run.finish(metrics, complete=complete)
