# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 04 · Train a tiny recursive model
#
# **Can a network of a few ten thousand parameters learn to solve Sudoku puzzles that it has never seen, by applying itself
# again and again?** This chapter trains one in front of you and tests it on unseen puzzles.
#
# ## What you will learn
#
# - what the two states of a tiny recursive model (TRM) are, and the order in which its one network updates them;
# - why training takes several *supervision steps* per puzzle, and what is detached between them;
# - how the model says that it is done (the halting head);
# - how to read its learning curves, and how its answer changes from step to step.
#
# The chapter trains for 28 to 40 s on two cores, and takes a minute in all. It is also a program:
#
#     papermill book/04_trm_train.ipynb outputs/04_trm_train.ipynb -p schedule linear
#
# The next cell shows the parameters that the chapter is about; `trm params 04` lists all. A name that does not exist, or a
# value out of range, stops the run before anything is computed.

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
# A minimal 6x6 puzzle has about ten clues. Each row, column and box of two by three cells holds each digit once.
#
# ## The model
#
# A TRM ([Jolicoeur-Martineau 2025](https://arxiv.org/abs/2510.04871)) has **one** network $f_\theta$ and two states, a vector
# of $D$ numbers per cell each: the answer $z_H$, which a linear head turns into digits, and a latent state $z_L$, which
# nothing but the network reads. With $x$ the embedded puzzle, one **H-cycle** refines the latent state $n$ times and then the
# answer once:
#
# $$z_L \leftarrow f_\theta(z_L + z_H + x) \quad (n \text{ times}), \qquad z_H \leftarrow f_\theta(z_H + z_L).$$
#
# The answer is updated without $x$: what the puzzle says reaches it through $z_L$ alone. $T$ H-cycles in a row are one
# **supervision step**. Here $n$ = `L_cycles` and $T$ = `H_cycles`; the diagram shows two of each.

# %%
from trm.teaching import diagram, show_source

step = {
    "x": (3, -1, "puzzle $x$", "data"),
    "z_H": (0, 1, "$z_H$", "state"),
    "z_L": (0, 0, "$z_L$", "state"),
    **{f"L{i}": (i if i < 3 else i + 1, 0, r"$f_\theta$", "net") for i in (1, 2, 3, 4)},
    **{f"H{i}": (3 * i, 1, r"$f_\theta$", "net") for i in (1, 2)},
    "loss": (7.4, 1.6, "answer, loss", "loss"),
    "next": (7.4, 0.3, "next\nsupervision step", "state"),
}
across = [("z_H", "H1"), ("H1", "H2"), ("z_L", "L1"), ("L1", "L2"), ("L2", "L3"), ("L3", "L4"), ("L4", "next")]
down = [("z_H", "L1"), ("z_H", "L2"), ("H1", "L3"), ("H1", "L4")]
up = [("L2", "H1"), ("L4", "H2"), ("H2", "loss"), ("H2", "next", "detach"), *(("x", f"L{i}") for i in (1, 2, 3, 4))]
figure = diagram(step, across + down + up)
run.save_figure(figure, "diagram")

# %% [markdown]
# The code is as short as the equation. `backprop` says how far gradients flow back: through the last H-cycle alone (`last`, the
# paper's choice, which saves memory) or through all of them (`full`, the default here).

# %%
from trm.recursion import recurse

show_source(recurse)

# %% [markdown]
# $f_\theta$ is a block like a transformer's, in which the positions are mixed by a small MLP along the cells instead of by
# attention (a Sudoku always has as many cells):

# %%
from trm.layers import Block, SwiGLU

show_source(SwiGLU.forward, Block.forward)

# %% [markdown]
# ### Worked example: counting the parameters
#
# With the defaults $D = 64$, and 36 cells, a vocabulary of 8 (padding, blank, six digits) and SwiGLUs whose inner width is two
# thirds of twice their width, rounded up to a multiple of 8:
#
# | part | weights | number |
# |---|---|---|
# | embedding of the puzzle | 8 · 64 | 512 |
# | SwiGLU over the 36 cells, inner width 48 | 36 · 96 + 48 · 36 | 5,184 |
# | SwiGLU over the 64 channels, inner width 88 | 64 · 176 + 88 · 64 | 16,896 |
# | output head | 64 · 8 | 512 |
# | halting head, with its bias | 64 + 1 | 65 |
# | in all | | **23,169** |
#
# The same 22,080 weights of the block are used in every application. In six supervision steps of two H-cycles with two
# latent updates each the network is applied 6 · 2 · (2 + 1) = 36 times: a network 36 blocks deep with the weights of one.

# %%
from trm.puzzles.train import count_flops, learning_speed, make_model, make_trainer

model = make_model(params, data)
parameters = sum(p.numel() for p in model.parameters())
applications = params.halt_max_steps * params.H_cycles * (params.L_cycles + 1)
print(f"{parameters:,} parameters; applied up to {applications} times to a puzzle in training")

# %% [markdown]
# ## The loss
#
# After each H-cycle the head reads an answer. With $p_t(y_i)$ the probability that it gives the right digit of cell $i$ after
# H-cycle $t$, and $q$ the probability that the halting head gives to "my answer is right", the loss of one supervision step is
#
# $$\mathcal{L} = \sum_{t=1}^{T} \frac{w_t}{\sum_s w_s} \cdot \frac{1}{N} \sum_{i=1}^{N} -\log p_t(y_i)
#   \; + \; \frac{1}{2} \, \mathrm{BCE}\big(q, [\hat y = y]\big),$$
#
# with $N$ cells, and $[\hat y = y]$ one where all cells are right and zero elsewhere. The `schedule` sets the weights $w_t$,
# which chapter 02 compares; with `none` only the last H-cycle counts.
#
# After each supervision step the weights are updated, and the states go on to the next step *without* their gradients (the
# detach in the diagram). So the memory of a step does not grow with the number of steps, and the network learns to improve
# whatever answer it is given. A puzzle leaves the batch when the halting head says so ($q > 1/2$) or after `halt_max_steps`
# steps, and a new one takes its place.

# %%
from trm.model import TRM
from trm.supervision import step_weights

show_source(TRM.refill)
if params.schedule == "adaptive":
    print("the weights of this schedule follow the losses")
else:
    weights = step_weights(params.schedule, params.H_cycles, params.supervision_weight)
    print("weights of the H-cycles:", ", ".join(f"{w / sum(weights):.2f}" for w in weights))

# %% [markdown]
# ## Training
#
# A line of progress and a curve appear while the model trains. `Trainer.fit` is an ordinary loop: a batch, the loss of one
# supervision step, an update of the weights and of their moving average (EMA), which is what is evaluated.

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
# Left: the loss of the answer falls smoothly. The halting head has nothing to learn as long as no answer is right, and its
# loss falls towards zero; when the first puzzles are solved, about step 200, it rises by three orders of magnitude and then
# stays, as the head learns which answers are right. Right: most cells are right long before most puzzles are, because all
# cells of a puzzle have to be. (The curve of whole puzzles is on 128 puzzles, so that a point of it has a standard error of 2
# to 4 points.)
#
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
# For the first 150 steps the two H-cycles are equally good: the network learns which digits are possible at all, for which
# one look at the puzzle is enough. Then the curves part, and the second H-cycle stays ahead: it corrects the first.
#
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
# One supervision step fills nearly nine tenths of the blank cells correctly, and two fifths of the puzzles or fewer; the
# second step corrects most of the rest. After four steps little changes, and the answer does not decay when the model goes on
# for twice as many steps as in training.
#
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
# Wrong cells come in groups that depend on each other, and disappear together: a wrong digit in a row makes another wrong.
# Correct cells may become wrong again on the way.
#
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

# %% [markdown]
# ## Summary
#
# - A TRM is one small network and two states: it refines a latent state, then the answer, and that again and again.
# - It is trained one supervision step at a time; states go on, gradients do not. So it learns to improve an answer.
# - 23,169 parameters, applied up to 36 times, solve 95 to 98 % of unseen minimal 6x6 puzzles after 1,000 optimizer steps
#   (95.3, 96.6 and 98.2 %, three runs that differ by rounding). Most of those puzzles need nothing but singles; on 6x6-hard,
#   which needs search, five seeds of this network solve 81 %.
# - What the network knows of the puzzle's structure matters more than anything else in this chapter: `houses` solves 99.6 %
#   there.
#
# ## Exercises
#
# **1. More steps.** The model was trained with six supervision steps. Predict how many puzzles it solves after 1, 2, 12 and 48
# steps; then evaluate.
#
# <details><summary>Solution</summary>
#
# ```python
# with trainer.ema.averaged() as averaged:
#     longer = evaluate(averaged, data.test, 48)
# print({steps: f"{longer.exact_by_step[steps - 1]:.1%}" for steps in (1, 2, 12, 48)})
# ```
#
# With the defaults about 38 %, 88 %, 95 % and 95 %: what twelve steps do not solve, 48 do not either. Chapter 03 asks how far
# more steps and restarts lead on harder puzzles.
#
# </details>
#
# **2. One step in training.** With `halt_max_steps` 1 every puzzle is replaced after one supervision step: the model never
# sees its own answer in training. Predict whether twelve steps at test time still help.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/04_trm_train.ipynb outputs/one_step.ipynb -p halt_max_steps 1
# ```
#
# They do (one run): 50.3 % of the puzzles are solved after one step and 89.6 % after twelve; a run with six steps in training
# solves 37.5 % and 95.3 %. The two H-cycles of the one step have taught the network to improve an answer.
#
# </details>
#
# **3. Count again.** How many parameters has the same network with `mixer` attention, four heads and no biases? Predict the
# number, then build the model.
#
# <details><summary>Solution</summary>
#
# The SwiGLU over the cells (5,184) gives way to projections to queries, keys and values, 64 · 192, and one back, 64 · 64:
# 23,169 - 5,184 + 12,288 + 4,096 = 34,369, with the positions in rotary angles, which have no weights.
#
# ```python
# other = make_model(params.model_copy(update={"mixer": "attention"}), data)
# print(f"{sum(p.numel() for p in other.parameters()):,}")
# ```
#
# </details>
#
# ## References
#
# - A. Jolicoeur-Martineau, [Less is more: recursive reasoning with tiny networks](https://arxiv.org/abs/2510.04871), 2025: the
#   model of this chapter.
# - G. Wang and others, [Hierarchical reasoning model](https://arxiv.org/abs/2506.21734), 2025: the model that it simplifies,
#   with two networks.
# - A. Bansal and others, [End-to-end algorithm synthesis with recurrent networks](https://arxiv.org/abs/2202.05826), 2022:
#   networks that solve larger mazes when they are iterated for longer.
# - N. Shazeer, [GLU variants improve transformer](https://arxiv.org/abs/2002.05202), 2020: the SwiGLU.
