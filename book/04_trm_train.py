# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 04 · Train a tiny recursive model
#
# **Can a network of a few ten thousand parameters learn to solve Sudoku puzzles that it has never seen, by thinking
# in a loop?** This chapter trains one in front of you and asks it. It is also the program that a sweep runs: change a
# parameter below, or from the command line,
#
#     papermill book/04_trm_train.ipynb outputs/04_trm_train.ipynb -p schedule linear
#
# A tiny recursive model ([Jolicoeur-Martineau 2025](https://arxiv.org/abs/2510.04871)) has one small network that it
# applies again and again: to a latent thought `z_L`, and to an answer `z_H` that it improves. The next cell shows the most
# important parameters; `print(TrmTrain.describe())` lists all. A name that does not exist, or a value out of range, stops the
# run before it begins.

# %% tags=["parameters"]
seed = 0  # one seed for everything random
puzzle = "6x6"  # size of the puzzles
data_path = ""  # file or folder of puzzles, or hub:<dataset>; several with commas; empty: those that ship
hidden_size = 64  # width D
mixer = "mlp"  # how positions are mixed
H_cycles = 2  # answers refined in one supervision step
L_cycles = 2  # latent refinements before each answer
halt_max_steps = 6  # most supervision steps
eval_steps = 12  # supervision steps in evaluation; more than in training is allowed
schedule = "linear"  # per-cycle loss weights
backprop = "full"  # how far gradients flow
batch_size = 48  # examples per optimizer step, over all processes
max_steps = 1000  # optimizer steps
lr = 0.004  # peak learning rate
ema_decay = 0.99  # decay of the averaged weights; 0: no averaging

# %%
from trm.puzzles.params import TrmTrain
from trm.run import Run

params = TrmTrain.from_notebook(globals())
run = Run(params, "04_trm_train")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The puzzles
#
# A puzzle is a row of cells; a cell is a token (blank, or a digit). The puzzles that ship are *minimal*: take any clue
# away and there is more than one solution. Every time the model meets a puzzle, it is transformed by a random symmetry:
# digits renamed, rows and columns moved within the rules. No test puzzle is a symmetric duplicate of a training puzzle.
# (6x6 has only 49 solution grids up to symmetry, so there it is the puzzles, not the grids, that are new.)
#
# Naked and hidden singles alone solve 94.9 % of the 2,000 test puzzles of 6x6. The pack `6x6-hard` holds 10,000 other
# minimal puzzles of that size that need search: singles solve none of them.

# %%
from trm import plots
from trm.puzzles import figures
from trm.puzzles.dataset import load
from trm.puzzles.sudoku import digits

data = load(params.puzzle, params.data_path, params.train_size, params.valid_size, params.test_size, params.seed)
shape = data.test.shape
box = (shape.box_rows, shape.box_cols)
print(f"{len(data.train)} puzzles to train on, {len(data.valid)} to watch, {len(data.test)} to test on")
print(
    f"clues: {data.test.clues.mean():.1f} of {shape.cells} cells; symmetric duplicates of test puzzles left out: {data.dropped}"
)
figure = figures.grids(data.test.questions[:6], box, titles=[f"test puzzle {i}" for i in range(6)])
run.save_figure(figure, "puzzles")

# %% [markdown]
# ## The model
#
# This is the whole recursion. `net` is the shared network, `x` the embedded puzzle. Inside one *supervision step* the
# thought is refined `L_cycles` times, then the answer once, and that `H_cycles` times. Training takes up to
# `halt_max_steps` such steps for each puzzle, with an update of the weights after every one; the state goes on from
# step to step, its gradient does not. A second head learns to say "my answer is right", and then the puzzle is
# replaced by a new one.

# %%
import inspect

from trm.puzzles.train import count_flops, learning_speed, make_model, make_trainer
from trm.recursion import recurse

source = inspect.getsource(recurse)
print(source[source.index("    answers = []") :])

# %%
model = make_model(params, data)
parameters = sum(p.numel() for p in model.parameters())
applications = params.H_cycles * (params.L_cycles + 1)
print(f"{parameters:,} parameters; the network is applied {applications} times in a supervision step")

# %% [markdown]
# ## What the loss weighs
#
# The answer is read after every H-cycle, and `schedule` says how much each reading counts. Chapter 02 compares the
# schedules.

# %%
from trm.supervision import step_weights

if params.schedule == "adaptive":
    print("the weights of this schedule follow the losses")
else:
    weights = step_weights(params.schedule, params.H_cycles, params.supervision_weight)
    print("weights of the H-cycles:", ", ".join(f"{w / sum(weights):.2f}" for w in weights))

# %% [markdown]
# ## Training

# %%
from trm.progress import Progress
from trm.puzzles.solve import evaluate

trainer = make_trainer(model, params, run, data, show=Progress(params.max_steps, plots.learning_curves))
measured = trainer.fit()
history = run.history()
print(f"{measured['train/steps']} steps in {measured['train/seconds']:.1f} s")

# %%
figure = plots.learning_curves(history)
run.save_figure(figure, "learning_curves")

# %% [markdown]
# ## Each H-cycle's own loss
#
# If recursion refines the answer, a later H-cycle has a lower loss than an earlier one.

# %%
if params.log_per_step_losses and params.H_cycles > 1:
    figure = plots.per_cycle(history, params.H_cycles)
    run.save_figure(figure, "loss_per_cycle")
if params.compute_gradient_stats:
    figure = plots.per_cycle(history, params.H_cycles, "gradient")
    run.save_figure(figure, "gradient_per_cycle")

# %% [markdown]
# ## Puzzles it has never seen
#
# The averaged weights answer the test puzzles, and the answer is read after every supervision step. Steps beyond the
# dotted line are test-time compute: more steps than in training.

# %%
with trainer.ema.averaged() as averaged:
    test = evaluate(averaged, data.test, params.eval_steps)
    run.save_model(averaged, "model")
figure = figures.accuracy_by_step(test.exact_by_step, test.cells_by_step, params.halt_max_steps)
run.save_figure(figure, "accuracy_by_step")

# %% [markdown]
# ## One puzzle, step by step
#
# The test puzzle that the model needed longest for, among those it solved (or its worst, if it solved none). Green is
# right, red is wrong.

# %%
import numpy as np

solved_from = np.where(test.exact[:, -1], (~test.exact).sum(1), -1)  # wrong answers before the right one
chosen = int(solved_from.argmax()) if test.exact[:, -1].any() else int(test.correct[:, -1].sum(-1).argmin())
last_step = min(params.eval_steps, max(int(solved_from[chosen]) + 2, 6))
shown = np.unique(np.linspace(0, last_step - 1, 6).astype(int))
question, truth = data.test.questions[chosen], data.test.answers[chosen]
thought = digits(test.predictions[chosen])  # (S, T)
figure = figures.grids(
    np.repeat(question[None], len(shown), 0),
    box,
    thought[shown],
    np.repeat(truth[None], len(shown), 0),
    titles=[f"after step {i + 1}" for i in shown],
)
run.save_figure(figure, "step_by_step")

# %% [markdown]
# The same for any puzzle, with sliders (they move in JupyterLab; a rendered page shows their first position).

# %% tags=["widget"]
from trm.plots import explore


def thought(puzzle, step):
    answer, truth = digits(test.predictions[puzzle, step - 1]), data.test.answers[puzzle]
    return figures.grids(data.test.questions[[puzzle]], box, answer[None], truth[None])


explore(thought, puzzle=(0, len(data.test) - 1, chosen), step=(1, params.eval_steps, 1))

# %% [markdown]
# ## What does structure buy?
#
# The network above is generic: `mlp` mixes all positions by a learned matrix and knows neither rows nor boxes; `attention`
# lets each position look at every other. Mixer `houses` is built for Sudoku. It keeps a vector for every pair of a cell and a
# digit, and uses the same small network for all of them; a pair sees its own vector, and mean and largest value over its row,
# column, box and over the digits of its cell. So nothing has to be learned about where a cell is, or which digit is which.
#
# All three got the same FLOPs; learning rate and weight decay were chosen by the accuracy on validation puzzles of 6x6-hard,
# with a seed that is not used below, from six pairs (`houses`, which solves more than 98 % with any of them, from four), and
# taken for 9x9 too (sweeps `mixers_rates` and `mixers`). Effects are against `mlp`, paired by seed, with intervals corrected
# for two comparisons. `cells` is the accuracy of blank cells, `to 90 %` the median of the FLOPs until 90 % of the validation
# puzzles are solved.

# %%
import pandas as pd

from trm import stats
from trm.progress import say
from trm.puzzles.dataset import solver_baselines
from trm.run import ROOT

mixers = stats.read_table(
    ROOT / "book" / "results" / "04_mixers.csv", ["puzzle", "mixer", "seed", "test/exact_accuracy"]
)
by_pack = {}
for pack, rows in mixers.groupby("puzzle"):
    by_pack[pack] = stats.compare_all(rows, "test/exact_accuracy", "mlp", key="mixer")
    by_pack[pack]["cells"] = rows.groupby("mixer")["test/cell_accuracy"].mean()
    by_pack[pack]["to 90 %"] = rows.groupby("mixer")["flops/to_90"].median()
pd.concat(by_pack).round(3)

# %% [markdown]
# For comparison, two solvers on 200 test puzzles each: naked and hidden singles alone, and an exact one (which solves all).

# %%
solvers = {pack: solver_baselines(load(pack, test_size=200).test) for pack in ("6x6", "6x6-hard", "9x9")}
pd.DataFrame(solvers).T.round(6)

# %%
hard, large = (by_pack[pack]["mean"] for pack in ("6x6-hard", "9x9"))
effect = stats.compare(mixers[mixers["puzzle"] == "6x6-hard"], "test/exact_accuracy", "houses", "mlp", key="mixer")
say(f"""
On 6x6-hard, where singles solve nothing, `houses` solves {hard["houses"]:.1%}, `mlp` {hard["mlp"]:.1%} and `attention`
{hard["attention"]:.1%} of the test puzzles ({effect.say()} over `mlp`); on 9x9, with 8.0e12 FLOPs,
{large["houses"]:.1%}, {large["mlp"]:.1%} and {large["attention"]:.1%}. Attention has yet to learn at this budget which cells
belong together (its positions are those of one long row); on 9x9 the other two still improve where they end. The chapters
keep the generic network because they ask what recursion does; this structure is about Sudoku alone.
""")

# %% [markdown]
# ## What this run found

# %%
sizes = {"train/puzzles": len(data.train), "test/puzzles": len(data.test), "model/parameters": parameters}
metrics = {**measured, **test.metrics("test"), **sizes, **count_flops(params), **learning_speed(history, params)}
say(f"""
A model of **{parameters:,} parameters**, trained for **{metrics["train/seconds"]:.0f} s** ({metrics["train/steps"]}
steps of {params.batch_size} puzzles, {metrics["flops/training"]:.1e} FLOPs), solves
**{metrics["test/exact_accuracy"]:.1%}** of {len(data.test):,} unseen {params.puzzle} puzzles; its blank-cell accuracy
is **{metrics["test/cell_accuracy"]:.1%}**. After one supervision step it solves {test.exact_by_step[0]:.1%}; after
{params.eval_steps}, {test.exact_by_step[-1]:.1%}. Stopped by its halting head, it takes
{metrics["test/mean_steps"]:.1f} steps on average and solves {metrics["test/halted_exact_accuracy"]:.1%}.
""")
run.finish(metrics, complete=not trainer.paused)
