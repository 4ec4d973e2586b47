# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 03 · Halting and test-time compute
#
# **When should a recursive model stop, and what does more test-time compute bring?** It can answer after any step. This chapter
# takes a trained model and compares rules for stopping; gives it more steps than in training, and restarts; and then trains
# models that learn to stop in different ways. A *step* is a supervision step (chapter 04) throughout.
#
# ## What you will learn
#
# - how a halting head defines a distribution over stopping times, and the four losses that train one: an expected loss with a
#   ponder cost, PonderNet's divergence from a prior, Graves's average, and the paper's binary cross-entropy;
# - how any signal of a trained model becomes a rule for stopping, and which controls show that it knows something;
# - how to test whether a halting head is calibrated;
# - what more steps and restarts bring at test time, at equal compute.
#
# The chapter trains three small models, and takes about four minutes of processor time. It is also a program:
#
#     papermill book/03_act_halting.ipynb outputs/03.ipynb -p arms q,ponder,graves -p early_steps 0

# %% tags=["parameters"]
model_path = ""  # folder of a trained model; empty: the one that ships for the puzzle
puzzle = "6x6"  # size of the puzzles
data_path = ""  # file or folder of puzzles, or hub:<dataset>; several with commas; empty: those that ship
tolerance = 0.003  # accuracy that a halting rule may lose against all steps
eval_steps = 16  # supervision steps that rules are compared with
more_steps = 64  # most supervision steps at test time
restarts = 16  # restarts: attempts per puzzle
restart_size = 120  # test puzzles for more steps and for restarts
early_steps = 250  # optimizer steps of a briefly trained model; 0: none
arms = "q, act"  # halting methods to train (`trm params 03` lists them); empty: none
num_seeds = 1  # seeds of each arm and of the briefly trained model
max_steps = 400  # optimizer steps of arm q; scaled to equal compute for the others
ponder_coef = 0.001  # ponder cost of act, ponder and graves
tables = ""  # folder for the tables, such as book/results
label = ""  # name of the data in the tables; empty: the puzzle's size

# %%
from trm.puzzles.params import Halting
from trm.run import ROOT, Run, write_atomically
from trm.training_params import arm_names

params = Halting.from_notebook(globals())
run = Run(params, "03_act_halting")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## Learning to stop: four losses
#
# After step $t$ of at most $S$ (`halt_max_steps`) the model has an answer, whose mean cross-entropy per cell is $L_t$, and a
# *halting logit* $h_t$, which a linear head reads from the answer state. Let $\lambda_t = \sigma(h_t)$.
#
# **A distribution over stopping times.** Take $\lambda_t$ as the probability to stop after step $t$ for a puzzle that got so
# far. Then it stops after step $t$ with probability
#
# $$p_t = \lambda_t \prod_{s<t} (1 - \lambda_s) \;\; (t < S), \qquad p_S = \prod_{s<S} (1 - \lambda_s).$$
#
# The last step takes what remains, so that the $p_t$ add up to 1. The mean number of steps is $\sum_t t \, p_t$, which is also
# the sum over $t$ of the probability to reach step $t$.
#
# **`act`** minimises the expected loss and a *ponder cost* of $c$ = `ponder_coef` nats per step:
#
# $$\sum_t p_t L_t + c \sum_t t \, p_t.$$
#
# With the losses held fixed, its derivative with respect to $\lambda_t$ is the probability to reach step $t$, times $(L_t + c
# \, t) - V_{t+1}$, where $V_{t+1}$ is the expected loss and cost of going on. So the head learns to stop where going on saves
# less than it costs. (The name `act` comes from the source; Graves's adaptive computation time is `graves` here.)
#
# **`ponder`**, PonderNet, replaces the cost by the divergence from a geometric prior that is cut off at $S$, with $\beta$ =
# `ponder_coef` and $\rho$ = `ponder_prior`:
#
# $$\sum_t p_t L_t + \beta \sum_t p_t \log \frac{p_t}{g_t}, \qquad
#   g_t = \frac{\rho \, (1 - \rho)^{t-1}}{1 - (1 - \rho)^S}.$$
#
# **`graves`** adds up the $\lambda_t$ instead of multiplying. Step $N$ is the first at which their sum reaches $1 - \epsilon$
# (step $S$ at the latest; $\epsilon = 0.01$), and $R = 1 - \sum_{t<N} \lambda_t$ remains. One answer is read from an average of
# the states, and its loss $L$ is minimised with the cost $N + R$, in which $N$ has no gradient:
#
# $$\bar z_H = \sum_{t<N} \lambda_t z_{H,t} + R \, z_{H,N}, \qquad L(\bar z_H) + c \, (N + R).$$
#
# These three need all $S$ losses for one update. What is minimised is `act_weight` (1/2) times the expression above, plus the
# mean of all $L_t$: a step that $p_t$ leaves out would learn nothing otherwise (arm `act_alone` has no such mean). States are
# detached between the steps.
#
# **`q`**, the paper's way, updates the weights after every step, and its head learns something else: whether the answer
# $\hat y_t$ is right in every cell. With $q_t = \sigma(h_t)$ the loss of a step is $L_t$ and `act_weight` times the binary
# cross-entropy
#
# $$-[\hat y_t = y] \log q_t - (1 - [\hat y_t = y]) \log (1 - q_t).$$
#
# A puzzle stops when $q_t > 1/2$, in training too, where a new puzzle takes its place. With probability
# `halt_exploration_prob` it has to take at least a random number of steps, from 2 to $S$, so that later steps are seen.
# **`q_continue`** is the rule of the hierarchical reasoning model: a second logit learns $\sigma$ of the larger of both logits
# one step later, and a puzzle stops when the first is larger than the second.

# %%
from trm.teaching import diagram, show_source

top = {"z0": (0, 3.0, "state", "state"), **{f"s{t}": (2.2 * t, 3.0, f"step {t}", "net") for t in (1, 2, 3)}}
top |= {f"p{t}": (2.2 * t, 4.4, f"stop: $p_{t}$, $L_{t}$", "loss") for t in (1, 2, 3)}
top["all"] = (8.9, 4.4, "one update\nfor all steps", "")
low = {"y0": (0, 0, "state", "state"), **{f"q{t}": (2.2 * t, 0, f"step {t}", "net") for t in (1, 2, 3)}}
low |= {f"b{t}": (2.2 * t, 1.4, f"$L_{t}$, BCE of $q_{t}$", "loss") for t in (1, 2, 3)}
low["each"] = (8.9, 1.4, "an update\nafter each step", "")
arrows = [("z0", "s1"), ("s1", "s2", r"$1-\lambda_1$"), ("s2", "s3", r"$1-\lambda_2$"), ("s1", "p1", r"$\lambda_1$")]
arrows += [("s2", "p2", r"$\lambda_2$"), ("s3", "p3", "1"), ("y0", "q1"), ("q1", "q2", r"$q_1 \leq 1/2$")]
arrows += [("q2", "q3", r"$q_2 \leq 1/2$"), *((f"q{t}", f"b{t}") for t in (1, 2, 3))]
figure = diagram(top | low, arrows, (9.0, 4.2))
run.save_figure(figure, "diagram")

# %% [markdown]
# Above, `act` and `ponder`: every puzzle takes all steps in training, and the losses are weighted by the probability to stop
# there. Below, `q`: a puzzle goes on while the head doubts its answer. The code:

# %%
from trm import halting

show_source(halting.log_reach, halting.log_halt_probs, halting.expected_loss, halting.ponder_kl, halting.graves_weights)
show_source(halting.q_halt_loss, halting.should_halt)

# %% [markdown]
# ### Worked example: three steps
#
# Let the head say 0.2, 0.5 and 0.9, let the losses be 1, 0.5 and 0.25, and $\rho = 1/2$:
#
# | | step 1 | step 2 | step 3 | |
# |---|---|---|---|---|
# | $\lambda_t$ | 0.2 | 0.5 | 0.9 | |
# | probability to reach it | 1 | 0.8 | 0.8 · 0.5 = 0.4 | mean steps 2.2 |
# | $p_t$ | 0.2 | 0.8 · 0.5 = 0.4 | 0.4, the rest | |
# | $p_t L_t$ | 0.2 | 0.2 | 0.1 | expected loss 0.5; with $c = 0.1$: 0.72 |
# | $g_t$ | 4/7 | 2/7 | 1/7 | divergence 0.2 log 0.35 + 0.4 log 1.4 + 0.4 log 2.8 = 0.3365 |
# | stopped by then | 0.2 | 0.6 | 1 - 0.8 · 0.5 · 0.1 = 0.96 | |
# | Graves's weights | 0.2 | 0.5 | $R = 0.3$ | $N + R = 3.3$ |
#
# If the head of `q` says 0.9 at step 3, its loss is -log 0.9 = 0.1054 if the answer is right, and -log 0.1 = 2.3026 if not.

# %%
import pandas as pd
import torch

logits = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64).logit()
losses = torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64)
weights, cost = halting.graves_weights(logits)
right, wrong = (halting.q_halt_loss(logits[:, 2], torch.tensor([answer])).item() for answer in (1, 0))
print(
    "p:", halting.log_halt_probs(logits).exp().numpy().round(4), " stopped by then:", halting.halted_by(logits).numpy()
)
print("weights of Graves:", weights.numpy().round(4))
pd.Series({
    "mean steps": halting.expected_steps(logits).item(), "expected loss": halting.expected_loss(losses, logits).item(),
    "with the cost": halting.expected_loss(losses, logits, 0.1).item(), "N + R": cost.item(),
    "divergence": halting.ponder_kl(logits, 0.5).item(), "q, right": right, "q, wrong": wrong,
}).round(4)  # fmt: skip

# %% [markdown]
# ## A trained model, and puzzles that it has never seen
#
# Rules are chosen on validation puzzles and tested on test puzzles. The model was trained on neither.

# %%
from trm.puzzles.solve import load_unseen, model_and_training

model, training = model_and_training(params)
data = load_unseen(training, params)
label = params.label or params.puzzle
shape = data.test.shape
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, trained with at most {model.config.halt_max_steps} steps; "
      f"{len(data.valid):,} puzzles to choose rules on, {len(data.test):,} to test them on")  # fmt: skip

# %% [markdown]
# ## When to stop: halting rules
#
# The model takes all `eval_steps` steps on every puzzle, and after each we record what a rule could use: the halting head
# (its output, and the probability to have halted by then), the entropy of the answer, how much the state still changes, whether
# the answer has changed. The entropy is the mean over the cells, in nats, and the change is relative:
#
# $$-\frac{1}{N} \sum_{i=1}^{N} \sum_v p_t(v_i) \log p_t(v_i), \qquad \frac{\lVert z_{H,t} - z_{H,t-1} \rVert}
#   {\lVert z_{H,t-1} \rVert}.$$
#
# A rule is one of these signals and a threshold; as the threshold moves, it draws a line of accuracy against mean steps. The
# controls are **fixed depth** (the same number of steps for every puzzle) and **random** stopping (a coin at every step). The
# black star is an oracle: stop when the answer satisfies the constraints of Sudoku.
#
# A head also comes with a rule of its own, with no threshold to choose: $q_t > 1/2$ for `q`; for `act` and `ponder` a
# probability of 1/2 to have stopped, $1 - \prod_{s \leq t} (1 - \lambda_s)$ (PonderNet draws the stop at random instead); for
# `graves` step $N$.

# %%
show_source(halting.Rule.halts, halting.Rule.steps, halting.entropy)

# %%
from trm.puzzles import figures
from trm.puzzles import halting_study as study
from trm.puzzles.solve import evaluate

valid, test = (evaluate(model, part, params.eval_steps) for part in (data.valid, data.test))
shown = ["fixed", "q_margin", "halt_probability", "entropy", "residual", "stable", "is_valid", "random"]
curves = pd.concat([study.subsample_curve(study.rule_curve(test, signal)) for signal in shown], ignore_index=True)
curves = curves.assign(label=label)
chosen = study.choose_thresholds(valid, params.tolerance)
rule = min(chosen.values(), key=lambda rule: valid.halted(rule)[1])  # the fewest steps on the validation puzzles
steps = test.steps(rule)
accuracy, mean_steps = test.halted(rule)
figure = figures.rule_curves(curves, (mean_steps, accuracy))
run.save_figure(figure, "rules")

# %% [markdown]
# Look at the distance from the dashed line. The lines of the halting head and of the entropy rise above fixed depth after two
# steps, and near 2.6 mean steps they reach what all 16 steps reach (97 %; fixed depth at as many steps 90 %). Random stopping
# is below fixed depth: stopping at different times does not help unless the right puzzles stop. The oracle shows how little is
# left to gain: 2.3 steps.
#
# For each signal the threshold with the fewest steps that loses at most `tolerance` on the validation puzzles, and its result
# on the test puzzles; beside it fixed depth at as many steps, and the permutation control: the same stopping steps shuffled
# across puzzles.

# %%
rows = []
for signal in ["q_margin", "halt_probability", "entropy", "residual", "stable"]:
    one = chosen[signal]
    its_steps = test.steps(one)
    rows.append(
        {"rule": figures.RULES[signal]["label"], "threshold": one.threshold}
        | dict(zip(("accuracy", "mean steps"), test.halted(one)))
        | {"fixed depth": study.fixed_depth_at(test, its_steps.mean())}
        | {"permutation control": study.permutation_control(test, its_steps)}
    )
chosen_rules = pd.DataFrame(rows).set_index("rule")
chosen_rules.round(3)

# %% [markdown]
# ## Does it save time?
#
# A puzzle that stops leaves the batch, and a waiting one takes its place. Both ways of solving all test puzzles are timed in
# turn, the better of two each. So is the shallowest fixed depth that solves as many validation puzzles as the rule.

# %%
import time

from trm.halting import Rule
from trm.puzzles.solve import solve_until
from trm.puzzles.sudoku import tokens

inputs, answers = (
    torch.from_numpy(tokens(part)).to(params.device) for part in (data.test.questions, data.test.answers)
)
seconds = {}
depth = study.shallowest_depth(
    valid, valid.halted(rule)[0]
)  # fixed depth that is as accurate on the validation puzzles
ways = {"fixed": Rule("fixed", params.eval_steps), "shallowest": Rule("fixed", depth), "entropy": chosen["entropy"],
        "rule": rule}  # fmt: skip
for _ in range(2):
    for name, one in ways.items():
        started = time.perf_counter()
        solved = solve_until(model, inputs, one, params.eval_steps)
        right = (solved.predictions == answers).all(1).float().mean().item()  # waits for the device
        seconds[name] = min(time.perf_counter() - started, seconds.get(name, float("inf")))
speedup = seconds["fixed"] / seconds["rule"]
print(f"{len(data.test):,} puzzles, {params.eval_steps} steps each: {seconds['fixed']:.1f} s")
print(f"with the rule {rule.signal} at {rule.threshold:.3g}: {seconds['rule']:.1f} s, {speedup:.1f} times faster, "
      f"{right:.3f} solved")  # fmt: skip
print(f"fixed depth that is as accurate, {depth} steps: {seconds['shallowest']:.1f} s")

# %% [markdown]
# ## Does it think longer about harder puzzles?

# %%
import numpy as np

rated = len(np.unique(data.test.ratings)) > 5
difficulty, name = (data.test.ratings, "rating") if rated else (data.test.clues, "clues given")
if rated:  # ratings are counts with a long tail: groups of equal size, named by their middle
    group = pd.qcut(difficulty, 8, duplicates="drop", labels=False)
    difficulty = np.array([np.median(difficulty[group == g]) for g in range(group.max() + 1)])[group]
figure = figures.stopping_steps(steps, test.exact_after(steps), difficulty, name, params.eval_steps)
run.save_figure(figure, "stopping_steps")

# %% [markdown]
# Left: three quarters of the 2,000 puzzles stop after two steps. The rule never stops 47 of them, and 46 of these are unsolved
# (red): their answers stay uncertain, so most steps go where the model fails. Right: the mean falls with the number of clues,
# from 2.8 steps with nine to 1.9 with twelve (eight clues have only eight puzzles).
#
# ## Slide the threshold
#
# In JupyterLab, move the slider and see accuracy and steps move.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

levels = [float(v) for v in study.thresholds(test, "q_margin", 40)]


def at_threshold(threshold):
    share, mean = test.halted(Rule("q_margin", threshold))
    figure = figures.rule_curves(curves[curves["rule"].isin(["q_margin", "fixed"])], (mean, share), "this threshold")
    figure.axes[0].set_title(f"halting head at {threshold:.2f}: {share:.1%} solved in {mean:.2f} steps")
    return figure


explore(
    at_threshold,
    threshold=ipywidgets.SelectionSlider(options=levels, value=levels[len(levels) // 2], description="threshold"),
)

# %% [markdown]
# ## Calibration of the halting head
#
# The paper's halting head predicts the probability that its answer is correct. If it is calibrated, eight in ten of the
# answers with probability 0.8 are. The curves are those of the first step, of the last in training, and of the last of all.
# (The heads of act, ponder and graves decide when to stop; they do not predict correctness.)

# %%
asked = sorted({1, min(model.config.halt_max_steps, params.eval_steps), params.eval_steps})
bins, measures = {}, {}
for step in asked:
    bins[f"step {step}"], measures[step] = study.calibration(
        test.signals["q_halt"][:, step - 1], test.exact[:, step - 1]
    )
figure = figures.reliability(bins)
run.save_figure(figure, "calibration")
pd.DataFrame(measures).T.rename_axis("step").round(3)

# %% [markdown]
# After one step the points lie above the diagonal: the head is right more often than it says (expected calibration error 0.12).
# After six and sixteen steps nearly all answers sit in the upper right corner, and the few doubtful ones at the lower left are
# wrong: the error is 0.01, and the area under the ROC curve 1.00 and 0.98. (The line between the two groups has no points.)
#
# ## Test-time compute: more steps, restarts
#
# Two ways to spend more compute: more steps, or more attempts. An attempt starts from another symmetry of the puzzle (or from
# noise on the initial z_H), and one of several answers is chosen: the most **confident**, the one whose state moves least
# (**residual**), the one most attempts **agree** on, a **vote** cell by cell, or one that passes the **rule check** of the
# puzzle itself. The oracle takes a correct one whenever there is one. The 9x9 model gives the same answer to all symmetries of
# a puzzle (but for rows against columns), so that there only noise makes a difference: a random number for each cell and digit,
# constant during an attempt, added to the embedded puzzle through a vector that was learned with it.

# %%
by_noise = study.choose_noise(params, model, data.valid)
noise = by_noise["noise"].iloc[0]
some = data.test.subset(np.arange(min(params.restart_size, len(data.test))))
effort = (params.eval_steps, params.more_steps, params.restarts, noise)
trained = study.compute_curve(model, some, label, params.seed, *effort)
figure = figures.compute_curves(trained)
run.save_figure(figure, "more_compute")

# %% [markdown]
# Compare the solid lines with the dashed one. One attempt of 16 steps solves 98 % of these 120 puzzles, and 64 steps solve no
# more. Two attempts from other symmetries hold a valid answer for every puzzle, and the rule check finds it; noise takes 16
# attempts. A cell vote of two attempts is below one: a mixture of two different answers is seldom an answer.
#
# The rule check allows stopping at the first valid answer, and restarting only the puzzles that have none.

# %%
from trm.puzzles.attempts import retry_until_valid

if params.noises:
    print(f"noise chosen on validation puzzles: std {noise:g}\n{by_noise.round(3)}")
started = time.perf_counter()
retried = retry_until_valid(model, data.test, params.restarts, params.retry_steps, params.seed, noise)
seconds["retry"] = time.perf_counter() - started
tried = range(1, params.restarts + 1)
by_try = pd.DataFrame(retried.by_try, columns=["valid answers", "mean steps per puzzle"], index=tried)
until_valid = study.retry_rows(retried, label, params.seed, params.retry_steps)
by_try.rename_axis("attempts at most").loc[[n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= params.restarts]].round(4)

# %% [markdown]
# ## Almost solved puzzles
#
# A model trained on hard puzzles could fail on easy ones. Test puzzles with so many blank cells left, the others filled in:
# accuracy after one step and after `eval_steps`.

# %%
by_blanks = study.blanks_table(model, some, label, params.seed, params.eval_steps)
by_blanks.set_index("blanks")[["accuracy_first", "accuracy"]].round(4)

# %% [markdown]
# ## A briefly trained model
#
# The same test-time compute for a briefly trained model, which leaves more room for improvement.

# %%
early = []
for seed in range(params.num_seeds if params.early_steps else 0):
    if (short := study.early_model(params, run, data, seed)) is None:
        break  # paused by time_limit
    early.append(study.compute_curve(short, some, f"{label} early", params.seed + seed, *effort))
if early:
    figure = figures.compute_curves(pd.concat(early))
    run.save_figure(figure, "more_compute_early")

# %% [markdown]
# With the defaults one attempt solves 5 % of the 120 puzzles, and more steps no more (6 %). The upper panel rises: of 16
# attempts from other symmetries one is valid for 42 % of the puzzles, and the answer that most attempts agree on is right for
# 21 %. The lower panel is flat: from another `z_H` this model ends at the same answer. So what restarts bring depends on how
# different the attempts are, and on whether something recognises the right one.
#
# ## Learning to stop
#
# Each arm is trained anew with the same compute. **q** is the paper's head, which learns whether the answer is correct;
# **q_continue** adds the loss on going on; **annealed** anneals the halting exploration probability; **depth** trains shallow
# first (curriculum of depth). **act** minimises the expected loss over halting times and a ponder cost of `ponder_coef` per
# expected step (the number after the colon); **act_alone** does so without a loss on every step; **ponder** has the divergence
# from a geometric prior as its cost, **graves** reads one answer from the average of its states.

# %%
from trm.plots import learning_curves
from trm.puzzles.train import halting_arm, train_arms

rows, fronts = [], []
for result in train_arms(params, run, data, halting_arm, learning_curves):
    row, curve = study.arm_row(params, result, data)
    rows.append(row)
    fronts += [curve] if result.arm == "q" else []
    print(f"{result.arm}, seed {result.seed}: by its own rule {rows[-1]['taught_accuracy']:.3f} solved in "
          f"{rows[-1]['taught_mean_steps']:.2f} steps; {rows[-1]['accuracy_all_steps']:.3f} with all steps")  # fmt: skip
complete = len(rows) == params.num_seeds * len(arm_names(params.arms))
complete &= len(early) == params.num_seeds or not params.early_steps
arms_table = pd.DataFrame(rows)
if rows:
    figure = figures.halting_arms(arms_table)
    run.save_figure(figure, "live_arms")

# %% [markdown]
# With the defaults neither head stops a puzzle early yet: both take nearly all six steps, in which `q` solves 58 % and `act`
# 64 %; 16 steps solve 66 and 74 %. A head that predicts whether an answer is right has little to go by while few are, and a
# ponder cost of 0.001 is far below what a step still saves. The comparison below trains for three times as long, and with
# higher costs.
#
# ## The full comparison
#
# The ways of learning to stop with five seeds on 6x6 (the easy pack), and the questions about a trained model asked of the 6x6
# model and of the 9x9 model: on puzzles with 17 clues, on the hardest that a forum has found (it was trained on others of both
# lists), and on the pack of minimal 9x9 puzzles, of which it saw none. The tables are committed; these commands make them again
# (about seven hours on two cores):
#
#     trm sweep run halting halting_control halting_longer halting_rates --jobs 2
#     trm sweep results halting_arms --rows book/results/03_arms.csv
#     trm sweep results halting_arms --rows book/results/03_fronts.csv --table fronts
#     trm sweep results halting_settings --rows book/results/03_settings.csv
#     trm sweep results halting_control --rows book/results/03_control.csv
#     trm sweep results halting_longer --rows book/results/03_halting_longer.csv
#     trm sweep results halting_rates --rows book/results/03_rates.csv
#     python book/03_act_halting.py -f params/03_full.yaml
#     python book/03_act_halting.py -f params/03_pack9.yaml
#     python book/03_act_halting.py -f params/03_sudoku9.yaml -p data_path puzzles2_17_clue.csv.xz
#     python book/03_act_halting.py -f params/03_hardest.yaml -p data_path puzzles5_forum_hardest_1905_11plus.csv.xz

# %%
from trm import stats
from trm.progress import say

summary = study.summary_row(label, model, test, data.test.answers, rule, chosen["entropy"], depth, seconds, retried)
summary |= {"retry_steps": params.retry_steps, "retry_noise": noise}
measured = {"curves": curves, "summary": pd.DataFrame([summary]), "longer": pd.concat([trained, until_valid, *early])}
measured["blanks"] = by_blanks
if rows:
    run.save_table(arms_table)
if fronts:
    run.save_table(pd.concat(fronts), "fronts")
if params.tables and complete:
    for kind, one in measured.items():
        write_atomically(ROOT / params.tables / f"03_{kind}_{label}.csv", one.round(5).to_csv(index=False))


def committed(kind):
    """The committed tables of a kind, one below the other."""
    found = sorted((ROOT / "book" / "results").glob(f"03_{kind}_*.csv"))
    return pd.concat([pd.read_csv(path) for path in found], ignore_index=True)


full_summary = committed("summary").set_index("label")
full_summary.T.map(lambda value: round(value, 4) if isinstance(value, float) else value)

# %% [markdown]
# ### Halting rules, on each kind of puzzle

# %%
figure = figures.rule_curves(committed("curves"))
run.save_figure(figure, "full_rules")

# %% [markdown]
# In the first three panels the halting head and the entropy reach the accuracy of all steps at 2.5 to 6 mean steps, 7 to 15
# points above fixed depth at as many. On forum-hardest there is less to gain: the best rules need more than 30 of 64 steps. Few
# of those puzzles are solved within ten steps, so a rule that stops what is surest first stops little there; with few steps the
# change of the state is the only signal above fixed depth.
#
# ### Test-time compute, on each
#
# `6x6 early` is the model of chapter 04 after a quarter of its training, mean of three seeds.

# %%
longer = committed("longer")
figure = figures.compute_curves(longer, ["confidence", "agreement", "rule check"])
run.save_figure(figure, "full_more_compute")

# %% [markdown]
# Compare solid lines with the dashed one at equal compute. On forum-hardest the dashed line stays at 62 % (50 puzzles), while
# 64 attempts from noise solve 90 % by agreement and 94 % by the rule check. `6x6 early` gains nothing from more steps (7 %),
# but 16 attempts from other symmetries hold a valid answer for 52 % of the puzzles; agreement finds 25 %, confidence 6 %: how
# confident this model is does not say which of its answers is right. The upper panels of the 9x9 model have no attempts,
# because it gives the same answer to all symmetries.
#
# Gain in accuracy over one attempt of 16 steps (64 on forum-hardest), with all the compute: the most steps, or all attempts.
# `low` and `high` are a 95 % interval, over the three seeds for `6x6 early`, over the puzzles for the others, which are one
# model.


# %%
def gained(name, kind, selection="", compute=None):
    """Gain of test-time compute over one attempt, with interval and seeds: with the most compute, or with at most `compute`
    steps in all."""
    rows = longer.fillna({"selection": ""}).query("label == @name and kind == @kind and selection == @selection")
    rows = rows[rows["compute"] <= (compute or np.inf)]
    rows = rows[rows["compute"] == rows["compute"].max()]
    low, high = stats.interval(rows["gain"]) if len(rows) > 1 else rows[["low", "high"]].iloc[0]
    return {
        "compute": rows["compute"].iloc[0],
        "gain": rows["gain"].mean(),
        "low": low,
        "high": high,
        "seeds": len(rows),
    }


keys = longer.dropna(subset="gain").fillna({"selection": ""})[["label", "kind", "selection"]].drop_duplicates()
pd.DataFrame({key: gained(*key) for key in keys.itertuples(index=False, name=None)}).T.astype({"seeds": int}).round(3)

# %% [markdown]
# ### More steps, or restarts?
#
# One axis for both: the compute of a puzzle. A restart stops when an answer is valid, so that solved puzzles cost no more.

# %%
from trm.flops import answer_flops
from trm.puzzles.solve import shipped_model

flops = {"6x6": answer_flops(shipped_model("6x6")[0].config, 1)}
flops |= dict.fromkeys(full_summary.index[full_summary.index != "6x6"], answer_flops(shipped_model("9x9")[0].config, 1))
figure = figures.steps_and_restarts(longer, flops)
run.save_figure(figure, "steps_and_restarts")

# %% [markdown]
# On 6x6, restarts take the mean from 2.7 to 3.0 steps and the accuracy from 97.6 to 100 %: only the few unsolved puzzles pay.
# On forum-hardest half of the puzzles start again, and 64 attempts take 521 steps on average; more steps cost the same and
# bring little beyond 64. (The dashed lines are on the 50 to 500 puzzles of the figure above, the others on all.)
#
# ### Almost solved puzzles

# %%
blanks = committed("blanks")
blanks.pivot(index="label", columns="blanks", values="accuracy")[blanks["blanks"].unique()].round(4)

# %% [markdown]
# ### Learning to stop: all arms
#
# Width 32, 6x6, five seeds, each with the FLOPs of 1,200 optimizer steps of `q`, a loss on the last H-cycle alone, a learning
# rate that decays from 0.008 (one rate for all arms). The number after a colon is `ponder_coef`. All rules take at most six
# steps, as in training; *after all steps* are 16.

# %%
tables = ROOT / "book" / "results"
found = stats.read_table(tables / "03_arms.csv", ["arm", "seed", "taught_accuracy", "accuracy_trained_steps"])
front = stats.read_table(tables / "03_fronts.csv", ["arm", "seed", "rule", "mean_steps", "accuracy"])
figure = figures.halting_arms(found)
run.save_figure(figure, "full_arms")

# %% [markdown]
# Look at the right panel first. `q` stops after 2.5 steps; `act` takes all six at costs up to 0.015 and one at 0.1; `graves`
# takes six at every cost that was tried. Left, the green dot lies left of the red one where stopping costs accuracy: 84 against
# 94 % in `q`, 80 against 96 % in `act:0.03`, whose seeds differ widely. `act_alone` stops after one step, and its later steps,
# which hardly anything trains then, solve 63 %.
#
# **Accuracy against mean steps.** Each dot is an arm under the rule that it was taught, mean over the seeds; a line leads from
# it to what the entropy rule does on the same model in as many steps. The other lines are arm `q` under its rules.

# %%
figure = figures.halting_front(found, front)
run.save_figure(figure, "front")

# %% [markdown]
# Up to two mean steps no rule on `q` is above fixed depth; at three, the halting head and the entropy are (93 and 94 % against
# 87 %). The dot of `act` at 3.2 steps lies below the dashed line, the mean of seeds that differ: what its head has learned is a
# depth for all puzzles more than a decision for each.
#
# By its own rule, each arm against other rules in as many mean steps: the same model at fixed depth, with its stopping steps
# shuffled across puzzles, and stopped by entropy; and arm `q` in at most as many steps, by its halting head and by entropy,
# with the threshold that is best in hindsight. Effects are paired by seed, intervals corrected for the number of arms.

# %%
against = study.compare_rules(found, front)
against.round(3)

# %% [markdown]
# All costs of a method together, those runs that stop some puzzles early, and not all at once; entropy where they take two
# steps or more. First by the rule that was taught, then with thresholds chosen on validation puzzles.

# %%
METHODS = ["q", "act:", "ponder", "graves"]
by_method = {rule: study.compare_methods(found, METHODS, rule) for rule in ("taught", "chosen")}
pd.concat(by_method).round(3)

# %% [markdown]
# ### The ponder cost

# %%
figure = figures.ponder_sweep(found)
run.save_figure(figure, "ponder_sweep")

# %% [markdown]
# From cost 0.015 to 0.1 the mean falls from six steps to one. Costs in the shaded range, which Pointer-over-Heads recommends,
# lie below: there `act` takes every step (0.005 is the lowest tried). At 0.03 the five seeds spread from 1.9 to 4.6 steps: near
# the point where a step saves as much as it costs, chance decides.
#
# PonderNet's prior (0.2 above), and the halting head's bias at the beginning (above -5 in `q`, and in `act` -1.6, which halts
# with probability 1/6):

# %%
settings = stats.read_table(tables / "03_settings.csv", ["arm", "seed", "halting_bias", "ponder_prior", "lr"])
settings = settings.assign(name=study.arm_names_in_full(settings))
shown = ["taught_mean_steps", "taught_accuracy", "accuracy_trained_steps"]
same = found[found["arm"].isin(settings["arm"])]
stats.summary_table(pd.concat([same.assign(name=same["arm"]), settings]).sort_values("name"), shown, "name").round(3)

# %% [markdown]
# ### What the halting head does to the model
#
# Ten seeds, equal FLOPs. `q` is the paper's way: a halting head with a loss of its own, by which puzzles leave the batch in
# training too. `never` has the same update and no halting loss: its head stops no puzzle. `every_step` has one update for all
# six steps of fewer puzzles, as `act` has, and no halting loss. At two learning rates, solved after six steps; after some step;
# and where an entropy threshold chosen on validation puzzles stops:

# %%
control = study.with_controls(
    stats.read_table(tables / "03_control.csv", ["arm", "seed", "lr", "act_weight", "accuracy_ever"])
)
measures_of = {"after six steps": "accuracy_trained_steps", "after some step": "accuracy_ever",
               "by entropy": "entropy_accuracy"}  # fmt: skip
at_rate = dict(list(control.groupby("lr")))
pd.concat({(lr, name): stats.compare_all(rows, metric, "q")
           for lr, rows in at_rate.items() for name, metric in measures_of.items()}).round(3)  # fmt: skip

# %% [markdown]
# Mean steps by the entropy threshold, and by the head's own rule (which says something in `q` alone):

# %%
stats.summary_table(at_rate[0.008], ["entropy_mean_steps", "taught_mean_steps", "taught_accuracy"]).round(3)

# %% [markdown]
# The comparison of all arms has one rate, 0.008. Others, with a seed of their own: share of the validation puzzles solved after
# six steps.

# %%
rates = study.with_controls(stats.read_table(tables / "03_rates.csv", ["arm", "lr", "act_weight", "valid_accuracy"]))
rates.pivot_table(index="arm", columns="lr", values="valid_accuracy").round(3)

# %% [markdown]
# ### Twice as long
#
# `q`, `never` and three costs of `act`, trained for 2,400 steps of `q`:

# %%
twice = study.with_controls(stats.read_table(tables / "03_halting_longer.csv", ["arm", "seed", "act_weight", *shown]))
stats.summary_table(twice, [*shown, "taught_fixed_same_steps", "taught_permuted", "taught_entropy_same_steps"]).round(3)

# %% [markdown]
# ## Findings
#
# This run, and then the committed tables.

# %%
say(f"""
**This run**, {label}: {summary["accuracy_fixed"]:.1%} of the puzzles are solved with {params.eval_steps} steps each.
The rule chosen on validation ({figures.RULES[rule.signal]["label"]}) solves {accuracy:.1%} in {mean_steps:.2f} steps on
average and is {speedup:.1f} times faster; fixed depth at as many steps solves
{summary["accuracy_fixed_depth_same_steps"]:.1%}, the permutation control {summary["accuracy_permuted"]:.1%}. Restarts
until the answer is valid, at most {params.restarts}, solve {summary["accuracy_retry"]:.2%} in
{summary["mean_steps_retry"]:.1f} steps on average.
""")

# %%
six, clues, hardest = (full_summary.loc[name] for name in ("6x6", "17-clue", "forum-hardest"))


def named(row):
    """The rule of a row of the summary in words."""
    return f"the rule on the {figures.RULES[row['rule']]['label']}"


def interval(low, high):
    return f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}"


def stopping(row):
    """A row of the summary in words."""
    loss = 100 * (row["accuracy_rule"] - row["accuracy_fixed"])
    over = 100 * (row["accuracy_rule"] - row["accuracy_fixed_depth_same_steps"])
    return (
        f"{row['accuracy_rule']:.1%} instead of {row['accuracy_fixed']:.1%} ({loss:+.1f} points, "
        f"{interval(row['loss_low'], row['loss_high'])}) in {row['mean_steps_rule']:.2f} steps on average instead of "
        f"{row['fixed_steps']}, "
        f"{row['speedup_rule']:.1f} times faster by the clock. Fixed depth at as many steps solves "
        f"{row['accuracy_fixed_depth_same_steps']:.1%}: the rule gains {over:+.1f} points "
        f"({interval(row['over_fixed_low'], row['over_fixed_high'])}); the permutation control solves "
        f"{row['accuracy_permuted']:.1%}"
    )


depths = full_summary["shallowest_fixed_depth"].astype(int)
over = full_summary["speedup_over_shallowest"]
pack = full_summary.loc["9x9 pack"]
depth_curve = committed("curves").query("label == '6x6' and rule == 'fixed'").set_index("mean_steps")["accuracy"]
say(f"""
**A rule gains over fixed depth in as many steps, on all four kinds of puzzles.** On *6x6* the entropy of the answer is the
cheapest rule and solves {stopping(six)}. On *17-clue* puzzles {named(clues)} solves {stopping(clues)}. On the *9x9 pack*
{named(pack)} solves {stopping(pack)}. On *forum-hardest* {named(hardest)} solves {stopping(hardest)}. There the
rule loses more than the 0.3 points allowed on the validation puzzles. All intervals are over the test puzzles of one model.

**Against the shallowest fixed depth that is as accurate, a rule saves less.** Chosen on validation puzzles like the rule, that
depth is {depths["6x6"]} on 6x6, {depths["17-clue"]} on 17-clue puzzles and {depths["forum-hardest"]} on forum-hardest; by the
clock the rule is {over["6x6"]:.1f}, {over["17-clue"]:.1f} and {over["forum-hardest"]:.1f} times as fast.

**Entropy halting is {six["speedup_entropy"]:.1f} (6x6) and {clues["speedup_entropy"]:.1f} (17-clue) times faster** than
16 steps (on 6x6 the same rule as above, timed again), at {six["accuracy_entropy"]:.1%} against {six["accuracy_fixed"]:.1%}
and {clues["accuracy_entropy"]:.1%} against {clues["accuracy_fixed"]:.1%}; Pointer-over-Heads claims a factor of 2 to 3. The
factor depends on the 16: the 6x6 model, trained with six steps, solves {depth_curve[6.0]:.1%} after six. On *forum-hardest*
entropy halting is {hardest["speedup_entropy"]:.1f} times faster, at {hardest["accuracy_entropy"]:.1%} against
{hardest["accuracy_fixed"]:.1%}.
""")


# %%
first_attempt = longer.query("kind == 'until valid' and tries == 1").set_index("label")["accuracy"]


def restarted(name):
    """A row of the summary in words: restarts until the answer is valid."""
    row = full_summary.loc[name]
    return (
        f"{row['accuracy_retry']:.2%} of the {row['puzzles']:,} {name} puzzles with at most {row['attempts_retry']} attempts "
        f"of at most {row['retry_steps']:.0f} steps ({row['mean_steps_retry']:.1f} steps and "
        f"{row['mean_steps_retry'] * flops[name] / 1e9:.2g} GFLOPs on average; one attempt: {first_attempt[name]:.2%})"
    )


tried_on = committed("blanks").groupby("label")["puzzles"].first()
most_steps = longer.groupby("label")["steps"].max()
depth_of = full_summary["fixed_steps"].get


def gain(*what):
    """A gain of test-time compute in words."""
    found = gained(*what)
    return f"{100 * found['gain']:+.1f} points ({interval(found['low'], found['high'])})"


say(f"""
**Restarts with a rule check solve all or nearly all, and most of the hardest.** Until an answer is valid:
{"; ".join(map(restarted, full_summary.index))}.

**More steps cause no collapse; what they bring varies.** With {most_steps["9x9 pack"]:,} steps instead of
{depth_of("9x9 pack")}, 32 times as many as in training, accuracy changes by {gain("9x9 pack", "steps")} on the 9x9 pack,
{gain("17-clue", "steps")} on 17-clue puzzles ({tried_on["17-clue"]} of each) and
{gain("6x6", "steps")} on 6x6 (trained with at most six); instead of {depth_of("forum-hardest")}, by
{gain("forum-hardest", "steps")} on {tried_on["forum-hardest"]} of forum-hardest. Networks of this
kind are reported to collapse beyond 64 to 128 steps (chenglou/sudoku-solver).

**On the hardest puzzles restarts bring more than steps.** With as many steps in all, attempts bring
{gain("forum-hardest", "noise", "agreement", most_steps["forum-hardest"])} on forum-hardest by agreement and
{gain("forum-hardest", "noise", "rule check", most_steps["forum-hardest"])} by the rule check. On the 9x9
pack attempts of 256 steps in all bring
{gain("9x9 pack", "noise", "rule check", 256)} by the rule check. On 17-clue puzzles, where one attempt solves
nearly all, neither makes a difference that {tried_on["17-clue"]} puzzles show.

**Which noise makes attempts differ depends on the model.** The briefly trained 6x6 model gains
{gain("6x6 early", "symmetry", "agreement")} by agreement of its answers to symmetries,
{gain("6x6 early", "symmetry", "rule check")} by the rule check and {gain("6x6 early", "noise", "rule check")} by the rule
check of its answers from a `z_H` with noise of std 1, the only one tried; the fully trained one gains
{gain("6x6", "noise", "rule check")} from such noise.

**Almost solved puzzles are solved.** With at most twenty blank cells left,
every one of the {tried_on.min()} to {tried_on.max()} puzzles of each kind.
""")

# %%
mean = found.groupby("arm").mean(numeric_only=True)
of, of_twice = (rows.groupby("arm").mean(numeric_only=True) for rows in (at_rate[0.008], twice))
by_case = pd.concat([found.assign(case="arms"), settings])


def against_rule(method, other, rule="taught"):
    """All arms of a method by their own rule against another in as many steps, in words."""
    one = by_method[rule].loc[(method, other)]
    return f"{100 * one['effect']:+.1f} points ({interval(one['low'], one['high'])})"


def against_q(arm, metric, lr=0.008):
    """An arm of the control against `q` at a learning rate, in words; corrected for the five comparisons told."""
    return stats.compare(at_rate[lr], metric, arm, "q", tests=5).say()


def after_twice(other):
    """`act` at cost 0.03 after twice the training, on the seeds that did not choose it, by its own rule against another rule in
    as many steps on the same model, in words."""
    rows = twice[twice["case"] == "act_longer"]
    return stats.paired(rows["taught_accuracy"], rows[f"taught_{study.SAME_MODEL[other]}"], tests=3).say()


def with_setting(arm, case, metric, tests, unit="points"):
    """An arm with another bias or prior against its usual one in words."""
    return stats.compare(by_case[by_case["arm"] == arm], metric, case, "arms", key="case", tests=tests).say(unit)


def dial(means):
    """Steps and accuracy of `act` by its own rule at each cost in words."""
    some = means[means.index.str.startswith("act:")]
    rows = zip(some.index, some["taught_mean_steps"], some["taught_accuracy"])
    return "; ".join(f"{arm.removeprefix('act:')}: {steps:.1f} steps, {share:.0%}" for arm, steps, share in rows)


biased = settings[settings["halting_bias"].notna()]["accuracy_trained_steps"]
chosen_steps = found.groupby(found["arm"].str.split(":").str[0])["chosen_mean_steps"].mean()
of_bias = stats.compare(by_case[by_case["arm"] == "q"], "accuracy_trained_steps", "bias_0", "arms", key="case", tests=2)
say(f"""
**Training with the halting head's loss and its stops costs accuracy.** Ten seeds, equal FLOPs: `q` solves
{of.loc["q", "accuracy_trained_steps"]:.1%} after six steps; `never`, without them,
{of.loc["never", "accuracy_trained_steps"]:.1%}: {against_q("never", "accuracy_trained_steps")}. `every_step`, the other way to
take six steps with every puzzle: {against_q("every_step", "accuracy_trained_steps")}. At 0.016, the rate at which `q` does best
on validation puzzles, `never` against `q`: {against_q("never", "accuracy_trained_steps", 0.016)}. A part of it is answers that
`q` had and loses again: of puzzles right after some step, {against_q("never", "accuracy_ever")} and
{against_q("never", "accuracy_ever", 0.016)}. Trained for twice as long the difference is undecided after six steps,
{stats.compare(twice, "accuracy_trained_steps", "never", "q", tests=5).say()}, and after some step,
{stats.compare(twice, "accuracy_ever", "never", "q", tests=5).say()}.

**No halting head has to be trained.** An entropy threshold chosen on validation puzzles stops `never` after
{of.loc["never", "entropy_mean_steps"]:.2f} steps on average and solves {of.loc["never", "entropy_accuracy"]:.1%}; on `q` it
takes {of.loc["q", "entropy_mean_steps"]:.2f} steps and solves {of.loc["q", "entropy_accuracy"]:.1%}. The halting head with a
threshold chosen in the same way takes {of.loc["q", "chosen_mean_steps"]:.2f} steps and solves
{of.loc["q", "chosen_accuracy"]:.1%}; by its own rule, {of.loc["q", "taught_mean_steps"]:.2f} and
{of.loc["q", "taught_accuracy"]:.1%}.

**The halting head does know when an answer is right.** In as many mean steps it solves more than fixed depth
({against_rule("q", "fixed depth")}) and than its steps shuffled across puzzles ({against_rule("q", "shuffled steps")}), and a
little less than the entropy rule on the same model ({against_rule("q", "entropy")}; entropy's threshold is matched on the test
puzzles). With a threshold chosen on validation puzzles the difference from entropy is undecided
({against_rule("q", "entropy", "chosen")}). These intervals and the next are corrected for
{len(METHODS) * len(study.SAME_MODEL)} comparisons.

**The expected loss of `act` teaches a depth.** In runs that stop
some puzzles early and not all at once, its rule gains {against_rule("act:", "shuffled steps")} over its own steps shuffled, and
{against_rule("act:", "fixed depth")} over fixed depth; PonderNet's {against_rule("ponder", "shuffled steps")} and
{against_rule("ponder", "fixed depth")}. With thresholds chosen on validation puzzles they stop after
{chosen_steps["act"]:.1f} and {chosen_steps["ponder"]:.1f} steps. `graves` takes nearly all six by its own rule, and
{chosen_steps["graves"]:.1f} with chosen thresholds. Trained for twice as long, the rule of `act` at cost 0.03 (chosen from
three on other seeds) beats its own steps shuffled, {after_twice("shuffled steps")}, not significantly fixed depth,
{after_twice("fixed depth")}, and is worse than entropy on the same model in as many steps, {after_twice("entropy")}.

**The ponder cost of `act` works over a narrow range.** Costs in nats per step, the steps taken and the puzzles solved:
{dial(mean)}. Trained for twice as long (three seeds; 0.03 ten): {dial(of_twice)}.

**No effect of the halting head's bias at the beginning was found, and the test is coarse.** A bias of 0 instead of -5
changes `q` by {of_bias.say()}; below {100 * of_bias.mde:.0f} points an effect would often be missed. The worst of
{len(biased)} runs with another bias solves {biased.min():.1%} after six steps.

**PonderNet's prior moves where it stops.** At weight 0.1 and a prior of 0.1 instead of 0.2:
{with_setting("ponder:0.1", "prior_1", "taught_mean_steps", 2, "steps")}; 0.4:
{with_setting("ponder:0.1", "prior_4", "taught_mean_steps", 2, "steps")}.
""")

# %%
attempts_of = trained[trained["kind"] == ("noise" if noise else "symmetry")]
by_agreement = attempts_of[attempts_of["selection"] == "agreement"].iloc[-1]
metrics = {
    "halting/speedup": summary["speedup_rule"],
    "halting/accuracy_fixed": summary["accuracy_fixed"],
    "halting/accuracy_best": summary["accuracy_rule"],
    "halting/mean_steps_best": summary["mean_steps_rule"],
    "halting/accuracy_fixed_depth_same_steps": summary["accuracy_fixed_depth_same_steps"],
    "halting/accuracy_dealt_out": summary["accuracy_permuted"],
    "halting/speedup_entropy": summary["speedup_entropy"],
    "halting/calibration_error": measures[params.eval_steps]["ece"],
    "test_time/accuracy_more_steps": float(trained[trained["kind"] == "steps"]["accuracy"].iloc[-1]),
    "test_time/accuracy_restarts": float(by_agreement["accuracy"]),
    "test_time/accuracy_persist": summary["accuracy_retry"],
    "test_time/mean_steps_persist": summary["mean_steps_retry"],
}
run.finish(metrics, complete=complete)

# %% [markdown]
# ## Summary
#
# - A halting head is trained either to predict whether the answer is right (`q`) or to lower an expected loss (`act`, `ponder`,
#   `graves`). The first says something about each puzzle; the second, as trained here, mostly a depth for all of them.
# - A rule on a signal that costs nothing to train, the entropy of the answer, does as well as the halting head or better. The
#   controls for such a claim are fixed depth and the rule's own steps shuffled across puzzles, at as many mean steps.
# - On 6x6 an entropy threshold chosen on other puzzles takes 2.5 steps instead of 16, and solves 97.2 % instead of 97.4 %.
# - Training with the paper's halting loss and its stops costs accuracy in 1,200 optimizer steps:
#   -5.1 points (-8.1 to -2.2, ten seeds) after six supervision steps. After 2,400 the difference is undecided.
# - On the hardest puzzles restarts bring more than steps, above all where the rules of the puzzle can check an answer.
#
# ## Exercises
#
# **1. Equal chances.** The halting head of `act` starts with $\lambda_t = 1/6$ at each of six steps. Is the mean number of
# steps 3.5? Compute it by hand, then check.
#
# <details><summary>Solution</summary>
#
# The probability to reach step $t$ is $(5/6)^{t-1}$; the sum over six steps is $6 \, (1 - (5/6)^6) = 3.99$. The last step takes
# the remainder, $(5/6)^5 = 0.40$, and not a sixth.
#
# ```python
# sixth = torch.full((1, 6), 1 / 6).logit()
# print(halting.expected_steps(sixth).item(), halting.log_halt_probs(sixth).exp().numpy().round(3))
# ```
#
# </details>
#
# **2. A looser tolerance.** The rules above may lose 0.3 points. How many steps does the entropy rule save if it may lose 3?
# And what does it cost to allow nothing?
#
# <details><summary>Solution</summary>
#
# ```python
# for tolerance in (0.0, 0.003, 0.03):
#     looser = study.choose_threshold(valid, "entropy", tolerance)
#     print(tolerance, round(looser.threshold, 3), [round(number, 3) for number in test.halted(looser)])
# ```
#
# Little, and nothing. With 3 points it stops after 2.42 steps instead of 2.54, and solves 96.4 % instead of 97.2 % of the test
# puzzles. With 0 it is the same rule as with 0.3 points, which loses nothing on the validation puzzles. Three quarters of the
# puzzles stop at the second step; there is little between that and the next.
#
# </details>
#
# **3. A different price.** In `act` a step costs `ponder_coef` nats. Predict how many steps models take that are trained with
# costs of 0.01, 0.03 and 0.1, and how many puzzles they then solve by their own rule and with all steps.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/03_act_halting.ipynb outputs/costs.ipynb -p arms act:0.01,act:0.03,act:0.1 -p max_steps 1200
# ```
#
# In the committed table (five seeds, width 32): 6.0, 3.2 and 1.0 steps, in which 97, 80 and 18 % are solved. With 16 steps it
# is 98, 96 and 96 %: the models can solve the puzzles, and their heads stop too early.
#
# ```python
# of_costs = found[found["arm"].isin(["act:0.01", "act:0.03", "act:0.1"])].groupby("arm")
# print(of_costs[["taught_mean_steps", "taught_accuracy", "accuracy_all_steps"]].mean().round(3))
# ```
#
# </details>
#
# ## References
#
# - A. Graves, [Adaptive computation time for recurrent neural networks](https://arxiv.org/abs/1603.08983), 2016: the average of
#   states and the cost $N + R$.
# - A. Banino, J. Balaguer, C. Blundell, [PonderNet: learning to ponder](https://arxiv.org/abs/2107.05407), 2021: the
#   distribution over stopping times and its prior.
# - G. Wang and others, [Hierarchical reasoning model](https://arxiv.org/abs/2506.21734), 2025: halting by two Q values.
# - A. Jolicoeur-Martineau, [Less is more: recursive reasoning with tiny networks](https://arxiv.org/abs/2510.04871), 2025: the
#   halting head that is one binary cross-entropy.
# - C. Guo and others, [On calibration of modern neural networks](https://arxiv.org/abs/1706.04599), 2017: reliability diagrams
#   and the expected calibration error.
# - X. Wang and others, [Self-consistency improves chain of thought reasoning in language
#   models](https://arxiv.org/abs/2203.11171), 2022: the answer that most attempts agree on.
