# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 02 · Deep supervision
#
# **Does a loss on every intermediate answer help, compared with a loss on the last one only? And how far should its gradient
# flow?** A recursive model gives an answer after each H-cycle. *Deep supervision* puts a loss on all of them; a *schedule*
# sets the weight of each.
#
# ## What you will learn
#
# - how losses on several answers are weighted and normalised, and what a supervision curriculum does;
# - which part of the gradient full backpropagation keeps and truncated backpropagation drops, and what each takes in time and
#   memory;
# - how to compare training methods at equal FLOPs, paired by seed, with a rate chosen for each;
# - what such a comparison found for eight arms, ten seeds each.
#
# The chapter trains three models, and takes about two minutes of processor time. It is also a program:
#
#     papermill book/02_deep_supervision.ipynb outputs/02.ipynb -p arms none,none/last,constant -p num_seeds 3
#
# An *arm* of the comparison is written `schedule:weight/backprop`: the schedule (or `curriculum`: the linear one with the
# supervision curriculum), the weight of the cycles before the last where it is not `supervision_weight`, and how far gradients
# flow where they do not flow through all cycles: through the `last` H-cycle, which is the paper's way, or `per_cycle`. The
# parameters `schedule` and `backprop` of chapter 04 come from the arm.

# %% tags=["parameters"]
arms = "none/last, none, linear"  # schedule:weight/backprop of each arm
num_seeds = 1  # seeds of each arm
supervision_weight = 0.5  # weight of the H-cycles before the last
curriculum_start_step = 0  # optimizer step until which the weight is 0
curriculum_end_step = 200  # optimizer step of the full weight
H_cycles = 3  # answers refined in one supervision step
L_cycles = 2  # latent refinements before each answer
halt_max_steps = 6  # most supervision steps
hidden_size = 64  # width D
puzzle = "6x6"  # size of the puzzles
test_size = 1000  # test puzzles
max_steps = 400  # optimizer steps of arm none at 3 H-cycles; scaled to equal FLOPs for the others
lr = 0.004  # peak learning rate
seed = 0  # one seed for everything random

# %% [markdown]
# A schedule of your own is a function of the number of steps and the weight. Add it to `SCHEDULES` before the parameters are
# checked, and use it by its name: `-p arms "none, middle"`.

# %%
from trm.supervision import SCHEDULES


def middle(num_steps, weight):
    """All of the early weight on the middle step."""
    return [weight * (i == num_steps // 2) for i in range(num_steps - 1)] + [1.0]


SCHEDULES["middle"] = middle

# %%
from trm.puzzles.params import DeepSupervision
from trm.run import Run
from trm.training_params import arm_names

params = DeepSupervision.from_notebook(globals())
run = Run(params, "02_deep_supervision")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## A loss on every H-cycle
#
# Chapter 04 introduces the model: one small network refines a latent state $z_L$ a few times (`L_cycles`) and then the answer
# state $z_H$ once. That is one **H-cycle**. $T$ of them (`H_cycles`) make one **supervision step**, after which the weights
# are updated; the states go on to the next supervision step without gradients.
#
# The output head reads an answer after every H-cycle. With $p_t(y_i)$ the probability that it then gives the right digit of
# cell $i$ of $N$, the loss of H-cycle $t$ and the loss of the step are
#
# $$L_t = -\frac{1}{N} \sum_{i=1}^{N} \log p_t(y_i), \qquad \mathcal{L} = \frac{\sum_t w_t L_t}{\sum_t w_t}.$$
#
# (The halting head adds a loss of its own on the last answer, times `act_weight`; chapter 03 is about it.) With the weight $w$
# = `supervision_weight`, the schedules `none`, `constant`, `linear`, `exponential` and `adaptive` give the last answer $w_T =
# 1$ and an earlier one, $t < T$,
#
# $$0, \qquad w, \qquad w \, \frac{t}{T}, \qquad w \, 2^{t - T} \qquad \text{and} \qquad w \, \frac{L_t}{\sum_s L_s};$$
#
# `decay` does not use $w$: it has $w_t = 0.7^{t-1}$ for every answer. `adaptive` gives more weight to the cycles that are
# worse; its weights carry no gradient. Because weights are divided by their sum, a loss on early answers takes from the last
# one: its share is 1 with `none`, and 2/3 with `linear` at three H-cycles and weight 0.5. The bars show shares for six
# H-cycles.

# %%
from trm import plots
from trm.puzzles import figures
from trm.supervision import SCHEDULES, curriculum_factor, step_weights

figure = figures.weight_curves({name: step_weights(name, 6, 0.5) for name in SCHEDULES})
run.save_figure(figure, "schedules")

# %% [markdown]
# Look at the last bar of each panel: it holds all of the loss in `none`, two thirds in `exponential`, `last_two` and `middle`
# (which is added above), a sixth in `uniform`, and 6 % in `decay`, the one schedule that gives the first answer most.
# SonarRecursiveModel calls `linear` and `exponential`, which rise, "decay". `adaptive` is not drawn: its weights follow the
# losses. (Figures and metrics count H-cycles from 0, the equations from 1.)
#
# There is a second level. `step_schedule` weighs the *supervision steps*. Each of them is an update of its own, so its weight
# belongs to the puzzle (by how many steps that has taken) and is normalised over the batch. Here it is uniform, as in the
# paper. The two levels meet in this method, which is called for each supervision step:

# %%
from trm.model import TRM
from trm.supervision import weighted_step_loss
from trm.teaching import diagram, show_source

show_source(TRM._supervised)

# %% [markdown]
# ### Supervision curriculum
#
# Early in training no answer is good, and one may let the model learn the last one first. The curriculum multiplies the
# weights of the earlier cycles by a factor that depends on the optimizer step $k$, from 0 until $k_0$ =
# `curriculum_start_step` to 1 from $k_1$ = `curriculum_end_step`:
#
# $$c(k) = \min\Big(1, \max\Big(0, \frac{k - k_0}{k_1 - k_0}\Big)\Big).$$

# %%
steps = [0, 1000, 5500, 10000, 15000]
print("optimizer step: ", steps)
print("weight (target 0.7, from 1,000 to 10,000):", [0.7 * curriculum_factor(s, 1000, 10000) for s in steps])

# %% [markdown]
# ## Full and truncated backpropagation
#
# Write $s_t = (z_H, z_L)$ for the state after H-cycle $t$, and $F_\theta$ for one H-cycle, so that $s_t = F_\theta(s_{t-1})$.
# The same weights $\theta$ are used $T$ times. By the chain rule the gradient of the last answer's loss has one term for
# each use:
#
# $$\frac{\partial L_T}{\partial \theta} = \sum_{t=1}^{T} \frac{\partial L_T}{\partial s_T}
#   \frac{\partial s_T}{\partial s_{T-1}} \cdots \frac{\partial s_{t+1}}{\partial s_t} \,
#   \frac{\partial F_\theta(s_{t-1})}{\partial \theta}.$$
#
# Term $t$ says how to use cycle $t$ to prepare the cycles after it. The parameter `backprop` says which terms are kept:
#
# - `full`: all $T$, which is exact within the supervision step (between steps the state is detached in any case);
# - `last`: only $t = T$. The earlier cycles run without a graph. This is *truncated* backpropagation, the paper's choice: the
#   network learns to improve the state that it is given, but not to prepare it. A loss on an earlier answer then trains the
#   output head alone, because the state that it reads has no graph;
# - `per_cycle`: every loss $L_t$ keeps the one term of its own cycle; states are detached between the cycles.
#
# The hierarchical reasoning model goes further than `last`: its gradient passes the last application of each of its two
# networks alone, which it justifies by a fixed point that the recursion is assumed to reach. The TRM paper drops that
# assumption and keeps the gradient of the whole last H-cycle.

# %%
boxes, arrows = {}, []
for y, backprop in ((4.0, "full"), (2.0, "per_cycle"), (0.0, "last")):
    boxes |= {backprop: (-1.2, y, backprop, ""), f"{backprop} 0": (0, y, "state $s_0$", "state")}
    boxes |= {f"{backprop} {t}": (1.8 * t, y, f"H-cycle {t}", "data" if backprop == "last" and t < 3 else "net")
              for t in (1, 2, 3)}  # fmt: skip
    boxes |= {f"{backprop} loss {t}": (1.8 * t, y + 0.9, f"$w_{t} L_{t}$", "loss") for t in (1, 2, 3)}
    boxes[f"{backprop} 4"] = (7.4, y, "next\nsupervision step", "state")
    cut = {"full": (3,), "per_cycle": (1, 2, 3), "last": (2, 3)}[backprop]
    arrows += [(f"{backprop} {t}", f"{backprop} {t + 1}", "detach" if t in cut else "") for t in range(4)]
    arrows += [(f"{backprop} {t}", f"{backprop} loss {t}", "head alone" if backprop == "last" and t < 3 else "")
               for t in (1, 2, 3)]  # fmt: skip
figure = diagram(boxes, arrows, (9.0, 4.6))
run.save_figure(figure, "diagram")

# %% [markdown]
# Gradients flow against the arrows, from the losses, and stop at *detach*; grey H-cycles run without a graph. In the code that
# is one `detach` and one `set_grad_enabled`:

# %%
from trm.recursion import recurse

show_source(recurse)

# %% [markdown]
# ### Worked example: a network of one weight
#
# Let the network multiply by one number, $f(s) = a s$, with no latent step, $s_0 = 1$ and three H-cycles. Then $s_t = a^t$.
# Take $s_t$ itself as the loss $L_t$, and $a = 1/2$. `linear` at weight 1/2 has the weights 1/6, 1/3 and 1, so the shares 1/9,
# 2/9 and 2/3. The gradients with respect to $a$ are
#
# | `backprop` | loss on the last answer alone | `linear` |
# |---|---|---|
# | `full` | $3 a^2 = 0.75$ | $1/9 + 2/9 \cdot 2 a + 2/3 \cdot 3 a^2 = 0.8333$ |
# | `per_cycle` | $a^2 = 0.25$ | $1/9 + 2/9 \cdot a + 2/3 \cdot a^2 = 0.3889$ |
# | `last` | $a^2 = 0.25$ | $2/3 \cdot a^2 = 0.1667$ |
#
# Truncation keeps a third of the gradient here. Losses on the earlier answers give `per_cycle` a part of it back; with `last`
# they change nothing but the scale. The cell computes the same with the function above.

# %%
import numpy as np
import pandas as pd
import torch

a, one, zero = torch.tensor(0.5, requires_grad=True), torch.ones(()), torch.zeros(())
weights = torch.tensor(step_weights("linear", 3, 0.5))
gradients = {}
for backprop in ("full", "per_cycle", "last"):
    answers, _ = recurse(lambda s: a * s, zero, one, zero, H_cycles=3, L_cycles=0, backprop=backprop)
    of = {"last answer alone": answers[-1], "linear": weighted_step_loss(torch.stack(answers), weights)}
    gradients[backprop] = {name: torch.autograd.grad(loss, a, retain_graph=True)[0].item() for name, loss in of.items()}
pd.DataFrame(gradients).T.round(4)

# %% [markdown]
# ## What `backprop` costs
#
# The compute of a training step is counted in applications of the network, a backward pass as two. With three H-cycles of two
# latent updates and one answer update the forward pass has 3 · (2 + 1) = 9. `full` adds 2 · 9, in all 27; `last` adds 2 · 3,
# in all 15. So with the compute of one step of `full`, `last` takes 27/15 = 1.8 steps.

# %%
from trm.flops import applications

print({backprop: applications(3, 2, backprop) for backprop in ("full", "last")})

# %% [markdown]
# Now the time of a forward and backward pass, and the memory kept for the latter, for at most 16 puzzles on the processor.
# Activation checkpointing keeps nothing between applications of the network and computes it again. The last row also keeps
# what the figures of losses and gradients below need (training does so every `log_interval` steps).

# %%
from trm.puzzles.dataset import PuzzleBatches, load, solver_baselines
from trm.puzzles.train import arm_curves, arm_rows, make_model, step_cost, supervision_arm, train_arms

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
costs["full + losses and gradients of every cycle"] = step_cost(make_model(params, data), batch, detail=True)
costs = pd.DataFrame(costs).T
costs["time / full"] = costs["seconds"] / costs.loc["full", "seconds"]
costs["memory / full"] = costs["megabytes"] / costs.loc["full", "megabytes"]
costs.round(3)

# %% [markdown]
# ## Live: a few arms
#
# Each arm starts from the same weights and draws from the same stream of puzzles. Arms whose steps cost less take more of
# them, so that all take the same FLOPs.

# %%
results = []
for result in train_arms(params, run, data, supervision_arm, plots.learning_curves):
    results.append(result)
    print(f"{result.arm}, seed {result.seed}: {result.metrics['train/steps']} steps, "
          f"exact {result.metrics['test/exact_accuracy']:.3f} on unseen puzzles")  # fmt: skip
complete = len(results) == params.num_seeds * len(arm_names(params.arms))
table, curves = arm_rows(results), arm_curves(results)
run.save_table(table)
run.save_table(curves, "curves")

# %%
figure = figures.arms(curves, "valid/exact_accuracy", "validation puzzles solved")
run.save_figure(figure, "live_accuracy")

# %% [markdown]
# Look at where the curves begin to rise, and where they end. `none/last` rises first and ends at 87 % of the validation
# puzzles (with the defaults; `linear` 70 %, `none` 47 %), because it takes 719 steps with the FLOPs of 400 of `none`. The
# other two are still rising. This is one seed of a short run: the full comparison below is longer, and its order at the end
# is another.

# %%
figure = figures.cycles_of_arms(curves, params.H_cycles)
run.save_figure(figure, "live_cycles")

# %% [markdown]
# Left: in `none/last` and `linear` the loss falls from cycle to cycle. In `none` an earlier cycle has no loss and is computed
# only on the few batches that are logged, the last one on all, so that the bend of its line is noise of one short run (over
# ten seeds, below, it falls too). Right: `none/last` has a gradient at its last cycle alone. In the other two it is of the
# same size at all three, within a factor of two; so early in training it does not vanish towards the first cycle.
#
# What two solvers do with the first 200 test puzzles: naked and hidden singles alone, and an exact one (which solves all).

# %%
pd.Series(solver_baselines(data.test.subset(range(min(200, len(data.test)))))).round(6)

# %% [markdown]
# ## The full comparison
#
# Eight arms at two and at three H-cycles, ten seeds each, all with the same FLOPs, on the easy 6x6 pack, at width 32. The
# learning rate of each arm was chosen from four by validation accuracy at three H-cycles, with one seed that is not used here.
# The curriculum starts after a tenth of training and ends at half of it. (At two H-cycles `constant` and `linear:1` have the
# same weights and rate, so that their runs are equal.) The tables are committed; these commands make them again:
#
#     trm sweep run deep_supervision_rates deep_supervision --jobs 2
#     trm sweep results deep_supervision_rates --rows book/results/02_deep_supervision_rates.csv
#     trm sweep results deep_supervision --rows book/results/02_deep_supervision.csv
#     trm sweep results deep_supervision --rows book/results/02_deep_supervision_curves.csv --table curves

# %%
from trm import stats
from trm.progress import say
from trm.run import ROOT

folder, exact = ROOT / "book" / "results", "test/exact_accuracy"
full = stats.read_table(folder / "02_deep_supervision.csv", ["arm", "seed", "H_cycles", exact])
learned = stats.read_table(folder / "02_deep_supervision_curves.csv", ["arm", "seed", "H_cycles", "flops"])
three = learned[learned["H_cycles"] == 3]
figure = figures.arms(three, "valid/exact_accuracy", "validation puzzles solved")
run.save_figure(figure, "full_accuracy")

# %% [markdown]
# Lines are means over ten seeds, bands one standard deviation. `none/last` rises first, because it takes more steps for the
# same FLOPs: at three tenths of them it solves 39 % of the validation puzzles and `none` 11 %. It stays near 80 % from half of
# the FLOPs on, where `none` passes it and ends at 96 %. `linear` and `none` run together. The curriculum is last throughout
# (its rate is discussed in the findings). The wide band of `exponential` is one seed that falls from 88 to 21 % of the
# puzzles.

# %%
figure = figures.cycles_of_arms(three, 3)
run.save_figure(figure, "full_cycles")

# %% [markdown]
# Left, at the end of training: in every arm the loss falls from cycle to cycle. In `none` it falls from 0.61 over 0.29 to 0.19
# nats per cell although the last answer alone is supervised; `linear` lowers the first to 0.42 and leaves the last at 0.18.
# Right, the gradient of the loss with respect to the answer state after each cycle: in `none` it is largest at the first (0.38
# against 0.21 at the last), so that it does not vanish over three cycles. `none/last` has one point, because its earlier
# cycles have no gradient.
#
# Share of test puzzles solved by each arm, and its effect against `none`, paired by seed; interval, p and minimum detectable
# effect (`mde`) are corrected for seven comparisons.

# %%
by_H = dict(list(full.groupby("H_cycles")))
pd.concat({H: stats.compare_all(rows, exact, "none") for H, rows in by_H.items()}).round(3)

# %% [markdown]
# The same where each puzzle stops by the model's own halting head (above all take six steps):

# %%
halted = "test/halted_exact_accuracy"
pd.concat({H: stats.compare_all(rows, halted, "none") for H, rows in by_H.items()}).round(3)

# %% [markdown]
# What becomes of an answer from step to step: shares of the puzzles that are right after one step, after some step, where the
# halting head stops (and the mean step), after six; and *lost*: right after some step, and wrong after six.

# %%
shown = {"test/first_exact_accuracy": "one step", "test/ever_exact_accuracy": "some step", halted: "own stop",
         "test/mean_steps": "stops at", exact: "six steps"}  # fmt: skip
by_step = full.sort_values("H_cycles", kind="stable").groupby(["H_cycles", "arm"], sort=False)
by_step = by_step[list(shown)].mean().rename(columns=shown)
by_step.assign(lost=by_step["some step"] - by_step["six steps"]).round(3)

# %% [markdown]
# Cross-entropy per blank cell of the test puzzles, as a ratio to that of `none`.

# %%
pd.concat({H: stats.compare_all(rows, "test/loss", "none", ratio=True) for H, rows in by_H.items()}).round(3)

# %% [markdown]
# FLOPs until half of the validation puzzles are solved, as a ratio to `none` (`mde` is a logarithm). A run that does not get
# there counts with all its FLOPs.

# %%
reached = full.assign(**{"flops/to_50": full["flops/to_50"].fillna(full["flops/training"])})
speed = dict(list(reached.groupby("H_cycles")))
pd.concat({H: stats.compare_all(r, "flops/to_50", "none", ratio=True) for H, r in speed.items()}).round(3)

# %% [markdown]
# ## A control: the halting loss
#
# A schedule divides its weights by their sum, so that the last answer weighs less (2/3 with `linear` at three H-cycles, 1/2
# with `constant`, 2/9 with `decay`), and the halting loss more against it. Here `act_weight` is smaller by as much: 1/3, 1/4,
# and 1/9.
#
#     trm sweep run deep_supervision_control --jobs 2
#     trm sweep results deep_supervision_control --rows book/results/02_deep_supervision_control.csv

# %%
control = stats.read_table(folder / "02_deep_supervision_control.csv", ["arm", "seed", exact])
plain = full[(full["H_cycles"] == 3) & (full["arm"] == "none")]
pd.concat({what: stats.compare_all(pd.concat([plain, control]), what, "none") for what in (exact, halted)}).round(3)

# %% [markdown]
# ## A control: higher rates
#
# The rates of the comparison were chosen from four, of which the highest, 0.016, was the best for four arms. So two more were
# tried, with the same seed. Share of the validation puzzles solved at the end, by arm and rate:

# %%
rates = stats.read_table(folder / "02_deep_supervision_rates.csv", ["arm", "lr", "valid/exact_accuracy"])
rates.pivot(index="arm", columns="lr", values="valid/exact_accuracy").round(3)

# %% [markdown]
# Four arms do better at one of the two. Here they have it, with ten seeds; `none` keeps 0.016. (The table also holds `none`
# and `none/last` at 0.032, which chapter 10 takes for runs of this width.)
#
#     trm sweep run deep_supervision_higher --jobs 2
#     trm sweep results deep_supervision_higher --rows book/results/02_deep_supervision_higher.csv

# %%
higher = stats.read_table(folder / "02_deep_supervision_higher.csv", ["arm", "seed", "lr", exact])
at_32 = higher[(higher["lr"] == 0.032) & higher["arm"].isin(["none", "none/last"])]
best = pd.concat([plain, higher.drop(at_32.index)])
pd.concat({what: stats.compare_all(best, what, "none") for what in (exact, halted)}).round(3)

# %% [markdown]
# ## A rate at which runs diverge
#
# Does a loss on every H-cycle stabilise training? At the rate 0.064, ten seeds: share of the test puzzles solved by each, how
# many of the ten solve less than 1 %, and the effect against `none`.
#
#     trm sweep run unstable weights --jobs 2
#     trm sweep results deep_supervision_settings --rows book/results/02_deep_supervision_settings.csv

# %%
settings = stats.read_table(folder / "02_deep_supervision_settings.csv", ["case", "arm", "seed", "lr", exact])
unstable = settings[settings["lr"] == 0.064]
solved = unstable.pivot(index="arm", columns="seed", values=exact)
against = stats.compare_all(unstable, exact, "none")[["mean", "effect", "low", "high", "p", "mde"]]
pd.concat([solved, (solved < 0.01).sum(axis=1).rename("failed"), against], axis=1).round(3)

# %% [markdown]
# ## Weights of the early H-cycles
#
# `linear` with weights from 0.2 to 1 (without a number: 0.5), at the rate 0.016, five seeds, against `none`.

# %%
weighted = settings[settings["case"].str.startswith("weights")]
stats.compare_all(weighted, exact, "none").round(3)

# %% [markdown]
# ## More H-cycles
#
# Four arms with up to six H-cycles, five seeds, equal FLOPs: with six cycles there are a third of the steps that two leave.
# The rate is 0.016: of three it is the best for every arm at six cycles, on one validation seed; at four and five others are
# up to 11 points better there, but with five seeds `none` does worse at them (second table). At two and three cycles the runs
# are those of the comparison, with the rates of the arms there. Share of the test puzzles solved, and effects against `none`:
#
#     trm sweep run deep_supervision_depth_rates depth --jobs 2
#     trm sweep results deep_supervision_depth_rates --rows book/results/02_deep_supervision_depth_rates.csv
#     trm sweep results deep_supervision_settings --rows book/results/02_deep_supervision_settings.csv

# %%
FOUR = ["none", "linear", "exponential", "curriculum"]
deep = settings[settings["H_cycles"] > 3]
deeper = pd.concat([full[full["seed"] < 5], deep[deep["lr"] == 0.016]]).query("arm in @FOUR")
deeper.pivot_table(index="arm", columns="H_cycles", values=exact, sort=False).sort_index(axis=1).round(3)

# %%
deep.query("arm in ['none', 'linear']").pivot_table(index=["arm", "lr"], columns="H_cycles", values=exact).round(3)

# %%
by_depth = {H: stats.compare_all(rows, exact, "none") for H, rows in deeper.groupby("H_cycles")}
pd.concat(by_depth).round(3)

# %% [markdown]
# ## Puzzles that need search
#
# Four arms on the pack 6x6-hard, of which naked and hidden singles solve none, ten seeds, equal FLOPs, at width 64. The rate
# of each arm was chosen from five (at 0.032 all are worse) as above. Solved after six steps, after some step, and by the
# halting head's own stop:
#
#     trm sweep run deep_supervision_hard_rates deep_supervision_hard --jobs 2
#     trm sweep results deep_supervision_hard_rates --rows book/results/02_deep_supervision_hard_rates.csv
#     trm sweep results deep_supervision_hard --rows book/results/02_deep_supervision_hard.csv

# %%
ever = "test/ever_exact_accuracy"
hard = stats.read_table(folder / "02_deep_supervision_hard.csv", ["arm", "seed", exact, halted, ever])
pd.concat({what: stats.compare_all(hard, what, "none") for what in (exact, ever, halted)}).round(3)

# %% [markdown]
# ## Findings


# %%
def effect(metric, arm, H=3):
    """An arm against `none` in words; interval and p are corrected for the seven arms."""
    return stats.compare(by_H[H], metric, arm, "none", tests=7).say()


def controlled(arm, metric):
    """An arm of the control against `none` in words."""
    return stats.compare(pd.concat([plain, control]), metric, arm, "none", tests=3).say()


def on_hard(metric, arm):
    """An arm against `none` on 6x6-hard in words."""
    return stats.compare(hard, metric, arm, "none", tests=3).say()


def tuned(arm, metric=exact):
    """An arm at the best of six rates against `none` in words."""
    return stats.compare(best, metric, arm, "none", tests=4).say()


def at_high(arm):
    """An arm against `none` at the rate 0.064 in words."""
    return stats.compare(unstable, exact, arm, "none", tests=3).say()


def at_depth(arm, H):
    """An arm against `none` with H H-cycles in words, corrected for the arms there."""
    rows = deeper[deeper["H_cycles"] == H]
    return stats.compare(rows, exact, arm, "none", tests=rows["arm"].nunique() - 1).say()


depth = deeper.groupby(["arm", "H_cycles"])[exact].mean()
shallow, six = (deeper[(deeper["arm"] == "none") & (deeper["H_cycles"] == H)] for H in (2, 6))
cost = stats.compare(pd.concat([shallow, six]).assign(H=lambda t: t["H_cycles"].astype(str)), exact, "6", "2", key="H")
broken = (solved < 0.01).sum(axis=1)
mde_high = stats.compare(unstable, exact, "linear", "none", tests=3).mde
weighted_mean = weighted.groupby("arm")[exact].mean()
plain_five, weighted_mean = weighted_mean["none"], weighted_mean.drop("none")
mde_weight = stats.compare_all(weighted, exact, "none")["mde"].agg(["min", "max"])
high_none = higher.loc[higher["arm"] == "none", exact].mean()
truncated = best.loc[best["arm"] == "none/last", exact]
failed, rest = int((truncated < 0.01).sum()), truncated[truncated >= 0.01].mean()
hard_linear = hard[hard["arm"] == "linear"][exact]
mde_hard = stats.compare(hard, exact, "none/last", "none", tests=3).mde
mean = full.groupby(["H_cycles", "arm"])[[exact, halted, ever, "test/first_exact_accuracy"]].mean()
early = stats.compare(speed[3], "flops/to_50", "none/last", "none", ratio=True, tests=7)
speed_of = stats.compare(speed[3], "flops/to_50", "linear", "none", ratio=True, tests=7)
names = [f"train/gradients/step_{i}_grad_norm_mean" for i in (0, 2)]
norms = three[three["arm"] != "none/last"].set_index(["arm", "seed"])[names]  # `none/last` has none at the first cycle
norms = np.exp(np.log(norms).groupby(["arm", "seed"]).mean())  # geometric means over training
first, last = (norms[name].rename("size").reset_index() for name in names)
flow = stats.compare(first, "size", "linear", "none", ratio=True)
of_none = stats.by_seed(first, "size", "none") / stats.by_seed(last, "size", "none")
losses = three.groupby(["arm", "seed"])[[f"train/deep_supervision/step_{i}_loss" for i in range(3)]].last()
falling = (losses.diff(axis=1).iloc[:, 1:] <= 0).all(axis=1).mean()
worst = by_H[3].query("arm == 'exponential'")[exact].min()
chosen = rates.loc[rates["arm"] == "curriculum", "valid/exact_accuracy"].max()
lost = (mean[ever] - mean[exact]).loc[3]
mde = 100 * stats.compare(by_H[3], exact, "linear", "none", tests=7).mde
say(f"""
**Gradients through all H-cycles have a large effect, on the easy pack.** (The curriculum's loss is larger; its rate is in
doubt, see below.) With a loss on the last answer alone and three
H-cycles, arm `none`, whose gradients flow through all cycles, solves {mean.loc[(3, "none"), exact]:.1%} of the test puzzles
after six steps; `none/last`, the paper's truncated gradient, {mean.loc[(3, "none/last"), exact]:.1%}, with the same FLOPs and
1.8 times as many updates: {effect(exact, "none/last")}. Where each puzzle stops by the model's own head the difference is
smaller: {effect(halted, "none/last")}; of puzzles that are right after some step: {effect(ever, "none/last")}. At two
H-cycles: {effect(exact, "none/last", 2)}, {effect(halted, "none/last", 2)} and {effect(ever, "none/last", 2)}. At three
H-cycles 8 to 16 points, by where one stops, for networks 32 wide with two latent steps; at two the difference after six
steps is not significant. The truncated gradient is not slower to learn: FLOPs until half
of the puzzles are solved are {early.say()} those of `none`; it ends lower, and in a shorter
training (0.56 of these FLOPs, chapter 10) no difference is found. With both at the rate 0.032 it solves
{at_32.loc[at_32["arm"] == "none/last", exact].mean():.1%}: {stats.compare(at_32, exact, "none/last", "none", tests=7).say()}.
At 0.064, where one validation seed had been a little better, ten seeds solve {truncated.mean():.1%} on average, and {failed} of
them less than 1 % (the others {rest:.1%}).

**No gain of a loss on the earlier H-cycles was found at equal FLOPs.** `linear` at weight 0.5, as SonarRecursiveModel says,
changes the accuracy after six steps by {effect(exact, "linear")} at three H-cycles and by {effect(exact, "linear", 2)} at
two; the minimum detectable effect is {mde:.0f} points. It solves more after one step
({mean.loc[(3, "linear"), "test/first_exact_accuracy"]:.1%} against {mean.loc[(3, "none"), "test/first_exact_accuracy"]:.1%})
and as many after some step ({mean.loc[(3, "linear"), ever]:.1%} and {mean.loc[(3, "none"), ever]:.1%}). At these rates
heavier weights on early answers cost: `linear:1` {effect(exact, "linear:1")}; `constant` {effect(ever, "constant")} after some
step. Two controls make this cost smaller.

**The rate.** At 0.032, the best of six for them by one validation seed, no cost is significant after six steps, though one
of 4 to 8 points would often be missed: `linear:1` differs from `none` by {tuned("linear:1")}, `constant` by
{tuned("constant")}, `decay` by {tuned("decay")}. At the model's own stop some is left: {tuned("linear:1", halted)} and, for
`decay`, {tuned("decay", halted)}. (`none` at 0.032 solves {high_none:.1%}; that one seed had said 82.6 %.)

**The halting loss.** With `act_weight` lowered as the weight of the last answer is,
`linear` differs from `none` by {controlled("linear", exact)} after six steps and by {controlled("linear", ever)} after some
step, `constant` by {controlled("constant", exact)} and {controlled("constant", ever)}, `decay` by
{controlled("decay", exact)} and {controlled("decay", ever)}. But the halting head, trained less, knows less well when to
stop: at its own stop `linear` differs by {controlled("linear", halted)}.

**Four claims of SonarRecursiveModel, for `linear` at three H-cycles.** *Better gradient flow*: no; the gradient at the first
H-cycle is {flow.say()} that of `none`. *Faster convergence*: not found; FLOPs until half of the puzzles are solved change
{speed_of.say()}. *Refinement*: the loss falls from cycle to cycle in {falling:.0%} of the runs, with a loss on the early
cycles or without. *Vanishing gradients*: at three cycles there are none to reduce; in `none` the gradient at the first cycle
is {of_none.mean():.2f} times that at the last, over the training (at its end 1.8 times).

**That it stabilises is not shown.** At the rate 0.064 less than 1 % of the puzzles are solved in
{", ".join(f"{n} of ten runs of `{arm}`" for arm, n in broken.items())}. `linear` differs from `none` by {at_high("linear")},
`curriculum` by {at_high("curriculum")}; with this spread, effects below {100 * mde_high:.0f} points would often be missed.

**Which weight the early cycles should have is undecided.** With five seeds, `linear` with weights from 0.2 to 1 solves
{weighted_mean.min():.1%} to {weighted_mean.max():.1%}, `none` {plain_five:.1%}; no difference is significant, and effects
below {100 * mde_weight["min"]:.0f} to {100 * mde_weight["max"]:.0f} points would often be missed.

**Six H-cycles cost, at equal FLOPs; up to four no cost is found.** With the first five seeds `none` solves
{depth["none", 2]:.1%} with two (over ten seeds 92.2 %, and 95.5 % with three), {depth["none", 4]:.1%} with four and
{depth["none", 6]:.1%} with six, which leave a third of the steps: {cost.say()} from two to six. No arm with a loss on the
early cycles differs from it significantly at four cycles or more, with five seeds: at six `linear` solves
{depth["linear", 6]:.1%}, {at_depth("linear", 6)}, `exponential` {depth["exponential", 6]:.1%}, {at_depth("exponential", 6)},
and `curriculum` {depth["curriculum", 6]:.1%}, {at_depth("curriculum", 6)}.

**Some runs lose what they had solved.** {lost["none/last"]:.1%} of the puzzles are right after some step and wrong after six
in `none/last`, {lost["decay"]:.1%} in `decay`, {lost["exponential"]:.1%} in `exponential` (one seed of ten solves
{worst:.1%} after six steps), {lost["none"]:.1%} in `none`. Once the halting head stops after two or three steps, training
hardly sees the steps behind them. Yet six steps are better than the head's own stop in most arms: it stops too early.

**On puzzles that need search no difference was found.** On 6x6-hard, where width, optimizer and batch size differ too,
`none/last` differs from `none` by {on_hard(exact, "none/last")} after six steps and by {on_hard(ever, "none/last")} after
some step: an effect as large as on the easy pack is excluded, one below {100 * mde_hard:.1f} points would often be missed.
`curriculum`: {on_hard(exact, "curriculum")}; `linear`: {on_hard(exact, "linear")}, with the widest spread, from
{hard_linear.min():.1%} to {hard_linear.max():.1%}, so that less than 20 points would often be missed.

**The curriculum and the choice of rates.** The curriculum's rate was chosen with one seed, on which it solved {chosen:.1%} of
the validation puzzles; in the comparison it solves {mean.loc[(3, "curriculum"), exact]:.1%} of the test puzzles. The row
says as much about that choice as about the arm.
""")

# %%
metrics = {f"{r.arm}/{r.seed}/test/exact_accuracy": r.metrics["test/exact_accuracy"] for r in results}
metrics |= {f"cost/{name}/seconds": float(row["seconds"]) for name, row in costs.iterrows()}
metrics |= {f"cost/{name}/megabytes": float(row["megabytes"]) for name, row in costs.iterrows()}
run.finish(metrics, complete=complete)

# %% [markdown]
# ## Summary
#
# - Deep supervision is a weighted mean of the losses after each H-cycle. Its weights are shares: what an early answer gets,
#   the last one loses.
# - Full backpropagation keeps a term of the gradient for every H-cycle, truncated backpropagation the last one. At three
#   H-cycles truncation takes 15/27 of the compute, and the same memory however many cycles there are.
# - On easy 6x6, at equal FLOPs and three H-cycles, truncation learns faster at first and ends lower:
#   -15.8 points (-25.3 to -6.4, ten seeds) after six steps, -7.8 points where each puzzle stops by the halting head. At twice
#   the rate for both it is -13.6 (-19.8 to -7.3).
# - No schedule solves significantly more than a loss on the last answer alone; for `linear` an effect below 5 points would
#   often be missed. With `linear` the loss of the first answer falls, and that of the last one stays the same.
# - On puzzles that need search no difference was found (ten seeds; minimum detectable effect 6.5 points for truncation and the
#   curriculum, 20 for `linear`).
#
# ## Exercises
#
# **1. Weight zero.** With `supervision_weight` 0 some schedules become the same as `none`. Predict which, then print them.
#
# <details><summary>Solution</summary>
#
# ```python
# print([name for name in SCHEDULES if step_weights(name, 4, 0.0) == step_weights("none", 4)])
# ```
#
# Those that multiply by it: `none`, `constant`, `linear`, `exponential`, `inverse_u`, `last_two`, and `middle` of this
# chapter. `uniform`, `ramp`, `exp2` and `decay` do not use the weight.
#
# </details>
#
# **2. Twice as many H-cycles.** Predict how the applications of the network in a training step, and the memory kept for the
# backward pass, grow from three to six H-cycles with `full` and with `last`. Then measure.
#
# <details><summary>Solution</summary>
#
# The applications grow from 27 to 54 with `full`, and from 9 + 6 = 15 to 18 + 6 = 24 with `last`. The memory doubles with
# `full`; with `last` it stays the same, because the graph holds one H-cycle.
#
# ```python
# for backprop in ("full", "last"):
#     for H_cycles in (3, 6):
#         changes = {"backprop": backprop, "H_cycles": H_cycles, "schedule": "none"}
#         kept = step_cost(make_model(params.model_copy(update=changes), data), batch)["megabytes"]
#         print(backprop, H_cycles, applications(H_cycles, params.L_cycles, backprop), f"applications, {kept:.1f} MB")
# ```
#
# Measured on 16 puzzles: 18.4 and 36.9 MB with `full`, 6.2 MB both times with `last`.
#
# </details>
#
# **3. Local gradients.** In `linear/per_cycle` each answer trains its own H-cycle, and no gradient passes from one cycle to
# another. A step takes as much compute as one of `linear`. Does it solve as many puzzles as `none/last`, or as `linear`?
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/02_deep_supervision.ipynb outputs/per_cycle.ipynb -p arms linear/per_cycle
# ```
#
# Fewer than both (one run each, 400 steps of `none`): 35 % of the test puzzles, against 63 % with `linear` and 88 % with
# `none/last`. Like `none/last` it never learns to prepare a later cycle, but it takes 398 steps for the FLOPs of 719.
#
# </details>
#
# ## References
#
# - C.-Y. Lee and others, [Deeply-supervised nets](https://arxiv.org/abs/1409.5185), 2014: losses on intermediate layers.
# - A. Jolicoeur-Martineau, [Less is more: recursive reasoning with tiny networks](https://arxiv.org/abs/2510.04871), 2025: the
#   model, its supervision steps, and the gradient of the last H-cycle.
# - G. Wang and others, [Hierarchical reasoning model](https://arxiv.org/abs/2506.21734), 2025: the gradient of one
#   application, by a fixed point.
# - C. Tallec, Y. Ollivier, [Unbiasing truncated backpropagation through time](https://arxiv.org/abs/1705.08209), 2017: what
#   truncation does to the gradient.
# - T. Chen and others, [Training deep nets with sublinear memory cost](https://arxiv.org/abs/1604.06174), 2016: activation
#   checkpointing.
# - K. U. Qasim, J. Zhang, [Accelerating training speed of tiny recursive models via curriculum guided adaptive
#   recursion](https://arxiv.org/abs/2511.08653), 2025: the schedule `decay`, and a curriculum of depth.
