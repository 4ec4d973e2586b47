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
# **When should a model stop thinking, and what does more test-time compute bring?** A recursive model can answer after any
# step. This chapter takes a trained one and compares rules for stopping; gives it more steps than in training, and restarts;
# and then trains models that learn to stop in different ways.

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
from trm.params import arm_names
from trm.puzzles.params import Halting
from trm.run import ROOT, Run, write_atomically

params = Halting.from_notebook(globals())
run = Run(params, "03_act_halting")
print(f"run {run.id} in {run.dir}")

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
# The model takes all `eval_steps` steps on every puzzle, and after each we record what a rule could use: the halting head, the
# entropy of the answer, how much the state still changes, whether the answer has changed. A rule is one of these signals and a
# threshold; as the threshold moves, it draws a line of accuracy against mean steps. The controls are **fixed depth** (the same
# number of steps for every puzzle) and **random** stopping (a coin at every step). The black star is an oracle: stop when the
# answer satisfies the constraints of Sudoku.

# %%
import pandas as pd

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
# turn, the better of two each.

# %%
import time

import torch

from trm.halting import Rule
from trm.puzzles.solve import solve_until
from trm.puzzles.sudoku import tokens

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
figure = figures.stopping_steps(steps, test.exact_after(steps), difficulty, name, params.eval_steps)
run.save_figure(figure, "stopping_steps")

# %% [markdown]
# ## Slide the threshold
#
# In JupyterLab, move the slider and see accuracy and steps move.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

levels = [float(v) for v in study.thresholds(test, "q_margin", 40)]


def at_threshold(threshold):
    share, mean = test.halted(Rule("q_margin", threshold))
    figure = figures.rule_curves(curves[curves["rule"].isin(["q_margin", "fixed"])], (mean, share))
    figure.suptitle(f"halting head at {threshold:.2f}: {share:.1%} solved in {mean:.2f} steps")
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
by_try.rename_axis("attempts at most").loc[[n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= params.restarts]].round(4)

# %% [markdown]
# The same for a briefly trained model, which leaves more room for improvement.

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

rows = []
for result in train_arms(params, run, data, halting_arm, learning_curves):
    rows.append(study.arm_row(params, result, data))
    print(f"{result.arm}, seed {result.seed}: by its own rule {rows[-1]['taught_accuracy']:.3f} solved in "
          f"{rows[-1]['taught_mean_steps']:.2f} steps; {rows[-1]['accuracy_all_steps']:.3f} with all steps")  # fmt: skip
complete = len(rows) == params.num_seeds * len(arm_names(params.arms))
complete &= len(early) == params.num_seeds or not params.early_steps
arms_table = pd.DataFrame(rows)
if rows:
    figure = figures.halting_arms(arms_table)
    run.save_figure(figure, "live_arms")

# %% [markdown]
# ## The full comparison
#
# All arms with three seeds on 6x6, and the same questions asked of the 9x9 model: on puzzles with 17 clues, on the hardest
# that a forum has found (it was trained on others of both lists), and on the pack of minimal 9x9 puzzles, of which it saw none.
# The tables are committed; these commands make them again (about two hours on two cores):
#
#     python book/03_act_halting.py -f params/03_full.yaml
#     python book/03_act_halting.py -f params/03_pack9.yaml
#     python book/03_act_halting.py -f params/03_sudoku9.yaml -p data_path puzzles2_17_clue.csv.xz
#     python book/03_act_halting.py -f params/03_hardest.yaml -p data_path puzzles5_forum_hardest_1905_11plus.csv.xz

# %%
from trm import stats
from trm.progress import say

summary = study.summary_row(label, model, test, data.test.answers, rule, chosen["entropy"], seconds, retried)
summary |= {"retry_steps": params.retry_steps, "retry_noise": noise}
measured = {"curves": curves, "summary": pd.DataFrame([summary]), "longer": pd.concat([trained, *early])}
if rows:
    measured["arms"] = arms_table
    run.save_table(arms_table)
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
# ### Test-time compute, on each
#
# `6x6 early` is the model of chapter 04 after a quarter of its training, mean of three seeds.

# %%
longer = committed("longer")
figure = figures.compute_curves(longer, ["confidence", "agreement", "rule check"])
run.save_figure(figure, "full_more_compute")

# %% [markdown]
# Gain in accuracy over one attempt of 16 steps, with all the compute: the most steps, or all attempts. `low` and `high` are a
# 95 % interval, over the three seeds for `6x6 early`, over the puzzles for the others, which are one model.

# %%
most = longer[longer["compute"] == longer.groupby(["label", "kind"])["compute"].transform("max")]
gains = {}
for (name, kind, selection), part in most.fillna("").groupby(["label", "kind", "selection"], sort=False):
    low, high = stats.interval(part["gain"]) if len(part) > 1 else part[["low", "high"]].iloc[0]
    gains[name, kind, selection] = {"gain": part["gain"].mean(), "low": low, "high": high, "seeds": len(part)}
pd.DataFrame(gains).T.astype({"seeds": int}).round(3)

# %% [markdown]
# ### Learning to stop: all arms
#
# Accuracy with all 16 steps, against arm `q`, paired by seed, corrected for twelve comparisons.

# %%
arms_of_all = committed("arms")
figure = figures.halting_arms(arms_of_all)
run.save_figure(figure, "full_arms")
stats.compare_all(arms_of_all, "accuracy_all_steps", "q").round(3)

# %% [markdown]
# ### The ponder cost

# %%
figure = figures.ponder_sweep(arms_of_all)
run.save_figure(figure, "ponder_sweep")

# %% [markdown]
# ### What the halting head does to the model
#
# Width 32, 6x6, a learning rate that decays, equal FLOPs, ten seeds. `q` is the paper's way: a halting head with a loss of its
# own, by which puzzles leave the batch in training too. `never` has the same update and no halting loss: its head stops no
# puzzle. `every_step` has one update for all six steps of fewer puzzles, and no halting loss.
#
#     trm sweep run halting_control --jobs 2
#     trm sweep results halting_control --rows book/results/03_control.csv

# %%
control = stats.read_table(ROOT / "book" / "results" / "03_control.csv", ["arm", "seed", "act_weight", "accuracy_ever"])
without = (control["act_weight"] == 0) & (control["arm"] == "q")
control = control.assign(arm=control["arm"].mask(without, "never").replace("act:0", "every_step"))
measures_of = {"after six steps": "accuracy_trained_steps", "after some step": "accuracy_ever",
               "by entropy": "entropy_accuracy"}  # fmt: skip
pd.concat({name: stats.compare_all(control, metric, "q") for name, metric in measures_of.items()}).round(3)

# %% [markdown]
# `by entropy`: each puzzle stops by a threshold chosen on validation puzzles. Mean steps by it, and by the head's own
# rule, which says something in `q` alone: the other heads have learned nothing.

# %%
stats.summary_table(control, ["entropy_mean_steps", "taught_mean_steps", "taught_accuracy"]).round(3)

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


say(f"""
**A rule knows when to stop, where the model solves the puzzles.** On *6x6* the entropy of the answer is the cheapest
rule and solves {stopping(six)}. The shallowest fixed depth that is as accurate takes
{six["shallowest_fixed_depth"]:.0f} steps, so that a smaller fixed depth alone saves a factor of
{16 / six["shallowest_fixed_depth"]:.1f}: the rest is the rule. On *17-clue* puzzles {named(clues)} solves
{stopping(clues)}. On *forum-hardest* {named(hardest)} solves {stopping(hardest)}. All intervals are over the test puzzles
of one model.

**Entropy halting is {six["speedup_entropy"]:.1f} (6x6) and {clues["speedup_entropy"]:.1f} (17-clue) times faster** than
16 steps, at {six["accuracy_entropy"]:.1%} against {six["accuracy_fixed"]:.1%} and {clues["accuracy_entropy"]:.1%}
against {clues["accuracy_fixed"]:.1%}; Pointer-over-Heads claims a factor of 2 to 3. On *forum-hardest* it is
{hardest["speedup_entropy"]:.1f} times faster, at {hardest["accuracy_entropy"]:.1%} against {hardest["accuracy_fixed"]:.1%}.
""")

# %%
from trm.model import answer_flops
from trm.puzzles.solve import shipped_model

flops = {"6x6": answer_flops(shipped_model("6x6")[0].config, 1)}
flops |= dict.fromkeys(full_summary.index[full_summary.index != "6x6"], answer_flops(shipped_model("9x9")[0].config, 1))


def restarted(name):
    """A row of the summary in words: restarts until the answer is valid."""
    row = full_summary.loc[name]
    return (
        f"{row['accuracy_retry']:.2%} of the {row['puzzles']:,} {name} puzzles with at most {row['attempts_retry']} attempts "
        f"of {row['retry_steps']:.0f} steps ({row['mean_steps_retry']:.1f} steps and "
        f"{row['mean_steps_retry'] * flops[name] / 1e9:.2g} GFLOPs on average)"
    )


most_steps = longer.groupby("label")["steps"].max()


def gained(name, kind, selection):
    """A gain of test-time compute in words."""
    found = gains[name, kind, selection]
    return f"{100 * found['gain']:+.1f} points ({interval(found['low'], found['high'])})"


say(f"""
**Restarts with a rule check solve almost all.** Until an answer is valid: {"; ".join(map(restarted, full_summary.index))}.

**Restarts bring more than steps.** More steps alone bring {gained("17-clue", "steps", "")} on 17-clue puzzles
({most_steps["17-clue"]} instead of {clues["fixed_steps"]}) and {gained("forum-hardest", "steps", "")} on forum-hardest
({most_steps["forum-hardest"]} instead of {hardest["fixed_steps"]}); attempts bring
{gained("17-clue", "noise", "agreement")} and {gained("forum-hardest", "noise", "agreement")} by agreement, and
{gained("17-clue", "noise", "rule check")} and {gained("forum-hardest", "noise", "rule check")} by the rule check. The
briefly trained 6x6 model gains {gained("6x6 early", "symmetry", "agreement")} by agreement of its answers to symmetries,
{gained("6x6 early", "symmetry", "rule check")} by the rule check and {gained("6x6 early", "noise", "rule check")} by the rule
check of its answers from a noisy `z_H`: there noise changes nothing, and symmetries make attempts differ.
""")

# %%
by_steps = {arm: stats.compare(arms_of_all, "accuracy_all_steps", arm, "q") for arm in ("depth", "act:1e-3")}
act = arms_of_all[arms_of_all["arm"].str.fullmatch("act:.*|act")]
over_fixed = (act["taught_accuracy"] - act["taught_fixed_same_steps"]).groupby(act["seed"]).mean()
ends = act["taught_mean_steps"].between(1.2, act["cap"] - 0.2)
by_coef = act.groupby("ponder_coef")[["taught_accuracy", "taught_mean_steps"]].mean()
say(f"""
**The curriculum of depth helps at equal compute.** Trained shallow first, a model solves
{by_steps["depth"].arm_mean:.1%} with all steps, arm `q` {by_steps["depth"].baseline_mean:.1%}:
{by_steps["depth"].say()}; the minimum detectable effect is {100 * by_steps["depth"].mde:.1f} points. After correction
for all twelve arms it is not significant, as no other arm is; the comparison is the one that the source names.

**The expected loss does not teach when to stop.** {ends.sum()} of {len(act)} runs of `act` stop anywhere but at the
first step or at the cap. Against fixed depth at the same mean steps they gain {100 * over_fixed.mean():+.1f} points
({interval(*stats.interval(over_fixed))}, {len(over_fixed)} seeds): an effect of half a point or more is excluded.

**The ponder cost does not trade accuracy for compute in the recommended range.** From 1e-4 to 5e-3 every run takes
{by_coef["taught_mean_steps"].iloc[0]:.1f} steps (accuracy {by_coef["taught_accuracy"].iloc[0]:.1%} to
{by_coef["taught_accuracy"].iloc[3]:.1%}); at 0.05 and 0.2 every run stops after
{by_coef["taught_mean_steps"].iloc[4]:.1f} steps and solves {by_coef["taught_accuracy"].iloc[4]:.1%}. Between lies a
step, not a trade-off; costs from 0.005 to 0.05 were not tried.
""")

# %%
of = control.groupby("arm").mean(numeric_only=True)


def effect(arm, metric):
    """An arm of the control against `q` in words."""
    return stats.compare(control, metric, arm, "q", tests=2).say()


say(f"""
**Training with the halting head costs accuracy.** `q` solves {of.loc["q", "accuracy_trained_steps"]:.1%} after six steps;
`never`, the same without the head's loss and stops, {of.loc["never", "accuracy_trained_steps"]:.1%}:
{effect("never", "accuracy_trained_steps")}. `every_step`, the other way to take six steps with every puzzle, does as well:
{effect("every_step", "accuracy_trained_steps")}. More puzzles are right after some step, too:
{effect("never", "accuracy_ever")}; so the difference is not only answers that `q` loses again.

**An entropy threshold stops as early, and loses little.** Chosen on validation puzzles, it stops `never` after
{of.loc["never", "entropy_mean_steps"]:.2f} steps on average and solves {of.loc["never", "entropy_accuracy"]:.1%}; on `q` it
takes {of.loc["q", "entropy_mean_steps"]:.2f} steps and solves {of.loc["q", "entropy_accuracy"]:.1%}. The head's own rule takes
{of.loc["q", "taught_mean_steps"]:.2f} steps and solves {of.loc["q", "taught_accuracy"]:.1%}. All this with one learning rate
for all arms, on one kind of puzzle, at one length of training.
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
