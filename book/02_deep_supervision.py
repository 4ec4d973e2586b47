# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 02 · Deep supervision
#
# **Does a loss on every intermediate answer help, compared with a loss on the last one only?** A recursive model gives an
# answer after each H-cycle. *Deep supervision* puts a loss on all of them; a *schedule* sets the weight of each. This chapter
# draws the schedules, trains a few of them live, and shows a comparison of eight at equal FLOPs over ten seeds.
#
# There are two levels: `schedule` weighs the H-cycles *inside* one forward pass, which is what this chapter is about;
# `step_schedule` weighs the *supervision steps*, each of which is an update of its own.
#
# An arm is `schedule:weight/backprop`: the schedule (or `curriculum`: the linear one with the supervision curriculum), the
# weight of the cycles before the last where it is not `supervision_weight`, and how far gradients flow where they do not flow
# through all cycles: through the `last` H-cycle, which is the paper's way, or `per_cycle`. The parameters `schedule` and
# `backprop` of chapter 04 come from the arm.

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
# A schedule of your own is a function of the number of steps and the weight. Register it before the parameters are checked,
# and use it by its name: `-p arms "none, middle"`.

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
# Shares of the loss for six H-cycles, at supervision weight 0.5. LLM-TRM calls `linear` and `exponential`, which
# rise, "decay". `adaptive` is not drawn: its weights follow the losses.

# %%
from trm import plots
from trm.puzzles import figures
from trm.supervision import SCHEDULES, curriculum_factor, step_weights

figure = figures.weight_curves({name: step_weights(name, 6, 0.5) for name in SCHEDULES})
run.save_figure(figure, "schedules")

# %% [markdown]
# The curriculum raises the weights of the early cycles linearly: 0 until its first step, the full weight from its last.

# %%
steps = [0, 1000, 5500, 10000, 15000]
print("optimizer step: ", steps)
print("weight (target 0.7, from 1,000 to 10,000):", [0.7 * curriculum_factor(s, 1000, 10000) for s in steps])

# %% [markdown]
# ## What `backprop` costs
#
# Time of a forward and backward pass, and the memory kept for the latter, for at most 16 puzzles on the processor.
# `last` is what the paper does: all H-cycles but the last run without gradient. (A loss on an early answer then trains the
# output head alone.) Activation checkpointing keeps nothing between applications of the network and computes it again. The
# last row also keeps what the figures of losses and gradients below need (training does so every `log_interval` steps).

# %%
import pandas as pd
import torch

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
figure = plots.arms(curves, "valid/exact_accuracy", "validation puzzles solved")
run.save_figure(figure, "live_accuracy")

# %%
figure = figures.cycles_of_arms(curves, params.H_cycles)
run.save_figure(figure, "live_cycles")

# %% [markdown]
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
figure = plots.arms(three, "valid/exact_accuracy", "validation puzzles solved")
run.save_figure(figure, "full_accuracy")

# %%
figure = figures.cycles_of_arms(three, 3)
run.save_figure(figure, "full_cycles")

# %% [markdown]
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
by_step = full.groupby(["H_cycles", "arm"], sort=False)[list(shown)].mean().rename(columns=shown)
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
# Four arms do better at one of the two. Here they have it, with ten seeds; `none` keeps 0.016.
#
#     trm sweep run deep_supervision_higher --jobs 2
#     trm sweep results deep_supervision_higher --rows book/results/02_deep_supervision_higher.csv

# %%
higher = stats.read_table(folder / "02_deep_supervision_higher.csv", ["arm", "seed", "lr", exact])
best = pd.concat([plain, higher[higher["arm"] != "none"]])
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
# The rate is 0.016: of three it is the best for every arm at six cycles, on one validation seed; at four and five others are up
# to 11 points better there, but with five seeds `none` does worse at them (second table). At two and three cycles the runs are
# those of the comparison, with the rates of the arms there. Share of the test puzzles solved, and effects against `none`:
#
#     trm sweep run deep_supervision_depth_rates depth --jobs 2
#     trm sweep results deep_supervision_depth_rates --rows book/results/02_deep_supervision_depth_rates.csv
#     trm sweep results deep_supervision_settings --rows book/results/02_deep_supervision_settings.csv

# %%
FOUR = ["none", "linear", "exponential", "curriculum"]
deep = settings[settings["H_cycles"] > 3]
deeper = pd.concat([full[full["seed"] < 5], deep[deep["lr"] == 0.016]]).query("arm in @FOUR")
deeper.pivot_table(index="arm", columns="H_cycles", values=exact, sort=False).round(3)

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
first, last = (three.groupby(["arm", "seed"])[name].mean().rename("size").reset_index() for name in names)
flow = stats.compare(first, "size", "linear", "none", ratio=True)
of_none = stats.by_seed(first, "size", "none") / stats.by_seed(last, "size", "none")
losses = three.groupby(["arm", "seed"])[[f"train/deep_supervision/step_{i}_loss" for i in range(3)]].last()
falling = (losses.diff(axis=1).iloc[:, 1:] <= 0).all(axis=1).mean()
worst = by_H[3].query("arm == 'exponential'")[exact].min()
chosen = rates.loc[rates["arm"] == "curriculum", "valid/exact_accuracy"].max()
lost = (mean[ever] - mean[exact]).loc[3]
mde = 100 * stats.compare(by_H[3], exact, "linear", "none", tests=7).mde
say(f"""
**Gradients through all H-cycles are the one large effect, on the easy pack.** With a loss on the last answer alone and three
H-cycles, arm `none`, whose gradients flow through all cycles, solves {mean.loc[(3, "none"), exact]:.1%} of the test puzzles
after six steps; `none/last`, the paper's truncated gradient, {mean.loc[(3, "none/last"), exact]:.1%}, with the same FLOPs and
1.8 times as many updates: {effect(exact, "none/last")}. Where each puzzle stops by the model's own head the difference is
smaller: {effect(halted, "none/last")}; of puzzles that are right after some step: {effect(ever, "none/last")}. At two H-cycles:
{effect(exact, "none/last", 2)}, {effect(halted, "none/last", 2)} and {effect(ever, "none/last", 2)}. So 8 to 16 points, by
where one stops, for networks 32 wide with two latent steps. The truncated gradient is not slower to learn: FLOPs until half
of the puzzles are solved are {early.say()} those of `none`; it ends lower. A higher rate does not help it: at
0.064, where one validation seed had been a little better, ten seeds solve {truncated.mean():.1%} on average, and {failed} of
them less than 1 % (the others {rest:.1%}).

**A loss on the earlier H-cycles brings no gain at equal FLOPs.** `linear` at weight 0.5, the source's recommendation, changes
the accuracy after six steps by {effect(exact, "linear")} at three H-cycles and by {effect(exact, "linear", 2)} at two; the
minimum detectable effect is {mde:.0f} points. It solves more after one step
({mean.loc[(3, "linear"), "test/first_exact_accuracy"]:.1%} against {mean.loc[(3, "none"), "test/first_exact_accuracy"]:.1%})
and as many after some step ({mean.loc[(3, "linear"), ever]:.1%} and {mean.loc[(3, "none"), ever]:.1%}). At these rates
heavier weights on early answers cost: `linear:1` {effect(exact, "linear:1")}; `constant` {effect(ever, "constant")} after some
step. Two controls make it smaller.

**The rate.** At 0.032, the best of six for them by one validation seed, no cost is significant after six steps, though one
of 4 to 8 points would often be missed: `linear:1` differs from `none` by {tuned("linear:1")}, `constant` by
{tuned("constant")}, `decay` by {tuned("decay")}. At the model's own stop some is left: {tuned("linear:1", halted)} and, for
`decay`, {tuned("decay", halted)}. (`none` at 0.032 solves {high_none:.1%}; that one seed had said 82.6 %.)

**The halting loss.** With `act_weight` lowered as the weight of the last answer is,
`linear` differs from `none` by {controlled("linear", exact)} after six steps and by {controlled("linear", ever)} after some
step, `constant` by {controlled("constant", exact)} and {controlled("constant", ever)}, `decay` by
{controlled("decay", exact)} and {controlled("decay", ever)}. But the halting head, trained less, knows less well when to
stop: at its own stop `linear` differs by {controlled("linear", halted)}.

**The four claims of the source, for `linear` at three H-cycles.** *Better gradient flow*: no; the gradient at the first
H-cycle is {flow.say()} that of `none`. *Faster convergence*: not found; FLOPs until half of the puzzles are solved change
{speed_of.say()}. *Refinement*: the loss falls from cycle to cycle in {falling:.0%} of the runs, with a loss on the early
cycles or without. *Vanishing gradients*: at three cycles there are none to reduce; in `none` the gradient at the first cycle is
{of_none.mean():.2f} times that at the last.

**That it stabilises is not shown.** At the rate 0.064 less than 1 % of the puzzles are solved in
{", ".join(f"{n} of ten runs of `{arm}`" for arm, n in broken.items())}. `linear` differs from `none` by {at_high("linear")},
`curriculum` by {at_high("curriculum")}; with this spread, effects below {100 * mde_high:.0f} points would often be missed.

**Which weight the early cycles should have is undecided.** With five seeds, `linear` with weights from 0.2 to 1 solves
{weighted_mean.min():.1%} to {weighted_mean.max():.1%}, `none` {plain_five:.1%}; no difference is significant, and effects below
{100 * mde_weight["min"]:.0f} to {100 * mde_weight["max"]:.0f} points would often be missed.

**More H-cycles cost, at equal FLOPs.** `none` solves {depth["none", 2]:.1%} with two, {depth["none", 4]:.1%} with four and
{depth["none", 6]:.1%} with six, which leave a third of the steps: {cost.say()} from two to six. No arm with a loss on the early
cycles differs from it significantly at four cycles or more, with five seeds: at six `linear` solves {depth["linear", 6]:.1%},
{at_depth("linear", 6)}, `exponential` {depth["exponential", 6]:.1%}, {at_depth("exponential", 6)}, and `curriculum`
{depth["curriculum", 6]:.1%}, {at_depth("curriculum", 6)}.

**Some runs lose what they had solved.** {lost["none/last"]:.1%} of the puzzles are right after some step and wrong after six
in `none/last`, {lost["decay"]:.1%} in `decay`, {lost["exponential"]:.1%} in `exponential` (one seed of ten solves
{worst:.1%} after six steps), {lost["none"]:.1%} in `none`. Once the halting head stops after two or three steps, training
hardly sees the steps behind them. Yet six steps are better than the head's own stop in most arms: it stops too early.

**On puzzles that need search no arm stands out.** On 6x6-hard, where width, optimizer and batch size differ too, `none/last`
differs from `none` by {on_hard(exact, "none/last")} after six steps and by {on_hard(ever, "none/last")} after some step: an
effect as large as on the easy pack is excluded, one below {100 * mde_hard:.1f} points would often be missed. `curriculum`:
{on_hard(exact, "curriculum")}; `linear`: {on_hard(exact, "linear")}, with the widest spread, from {hard_linear.min():.1%} to
{hard_linear.max():.1%}.

**The curriculum and the choice of rates.** The curriculum's rate was chosen with one seed, on which it solved {chosen:.1%} of
the validation puzzles; in the comparison it solves {mean.loc[(3, "curriculum"), exact]:.1%} of the test puzzles. The row
says as much about that choice as about the arm.
""")

# %%
metrics = {f"{r.arm}/{r.seed}/test/exact_accuracy": r.metrics["test/exact_accuracy"] for r in results}
metrics |= {f"cost/{name}/seconds": float(row["seconds"]) for name, row in costs.iterrows()}
metrics |= {f"cost/{name}/megabytes": float(row["megabytes"]) for name, row in costs.iterrows()}
run.finish(metrics, complete=complete)
