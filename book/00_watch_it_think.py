# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 00 · Watch it think
#
# **What does a recursive model do while it solves a puzzle?** Nothing is trained here. A model that ships, a network of
# 23,169 parameters for 6x6 or 47,297 for 9x9, is applied to one puzzle again and again, and its answer is read after every
# *supervision step*.
#
# ## What you will learn
#
# - what happens from the puzzle to the answer, and what one step hands to the next;
# - how the model's confidence in a digit is computed (a softmax) and how to read its entropy;
# - two rules by which the model can stop by itself: its halting head, and the entropy;
# - what can be done when it fails.
#
# The chapter takes about ten seconds on two cores. Give another puzzle with `-p question "..."`, or type one into the grid
# near the end. It is also a program:
#
#     papermill book/00_watch_it_think.ipynb out.ipynb -p question ".35..12...3..24.6.....4........61..."

# %% tags=["parameters"]
question = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."  # a puzzle, row by row
model_path = ""  # folder of a trained model; empty: the one that ships for the size
steps = 16  # supervision steps to watch
tries = 16  # most tries of 32 steps, from other starts, until the answer obeys the rules
seed = 0  # one seed for everything random

# %%
from trm.puzzles.params import WatchIt
from trm.run import Run

params = WatchIt.from_notebook(globals())
run = Run(params, "00_watch_it_think")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The puzzle
#
# An exact solver says whether it has a solution, and only one. (The default is a well-known hard one, by Arto Inkala.)

# %%
from trm.puzzles import watch
from trm.puzzles.text import parse_question

puzzle = parse_question(params.question, "question")
verdict = watch.check(puzzle)
asked = not verdict.status  # it has one solution, or the exact solver gave up
clues = sum(digit > 0 for digit in puzzle.digits)
found = verdict.status or ("" if verdict.why else "one solution")
print(f"{puzzle.shape.name}, {clues} clues: {found}", verdict.why)

# %% [markdown]
# ## From the puzzle to the answer
#
# A tiny recursive model keeps two states, which are numbers for every cell: the answer $z_H$ and a latent state $z_L$. With $x$
# the embedded puzzle, one small network $f_\theta$ refines the latent state $n$ times, then the answer, and a head reads
# probabilities of the digits off the answer:
#
# $$z_L \leftarrow f_\theta(z_L + z_H + x) \quad (n \text{ times}), \qquad z_H \leftarrow f_\theta(z_H + z_L), \qquad
#   p = \mathrm{softmax}(\mathrm{head}(z_H)) .$$
#
# In the models that ship $n$ is 2, and a supervision step does this twice: the network is applied six times per step. Chapter
# 04 explains the network and its training.

# %%
from trm.teaching import diagram, show_source

loop = {
    "x": (0, 0, "puzzle $x$", "data"),
    "step": (2, 0, "one supervision step:\nnetwork $f_\\theta$, six times", "net"),
    "state": (4.4, 0, "states $z_H$, $z_L$", "state"),
    "head": (6.2, 0.7, "output head,\nsoftmax", "net"),
    "digits": (8.1, 0.7, "a digit for every cell,\nwith its probability", "data"),
    "halt": (6.2, -0.7, "halting head", "net"),
    "right": (8.1, -0.7, "probability that\nall cells are right", "data"),
}
arrows = [("x", "step"), ("step", "state"), ("state", "step", "next step", 0.6)]
arrows += [("state", "head"), ("head", "digits"), ("state", "halt"), ("halt", "right")]
figure = diagram(loop, arrows)
run.save_figure(figure, "diagram")

# %% [markdown]
# The states are all that a step hands to the next; the digits are only read off. The loop is this:

# %%
show_source(watch.watch)

# %% [markdown]
# ## Its answer, step by step
#
# In every step the model rewrites all cells at once. Clues are black; a digit is the darker, the higher the probability that
# the model gives it; one that has just changed stands in a box.

# %%
from trm.plots import show_gif

if asked:
    model = watch.model_for(puzzle, params.model_path)
    seen = watch.watch(model, puzzle, params.steps)
    moving = watch.animation(seen)
    run.save_figure(moving, "think")
    show_gif(moving, f"The model's answer to a {puzzle.shape.name} puzzle after each step")

# %% [markdown]
# With the default puzzle, 27 of 60 blank cells are right after the first step, and between 33 and 42 after steps 2 to 12. Most
# digits are pale, as the model gives them a probability of one half on average, and 3 to 19 cells change per step. From step
# 12 to 13 19 cells change at once, and after step 14 all are right and dark.
#
# Under a slider (it moves in JupyterLab; a page shows one step):

# %% tags=["widget"]
from trm.plots import explore

if asked:
    explore(lambda step: watch.frame(seen, step), step=(0, params.steps, seen.solved_at or params.steps))

# %% [markdown]
# ## Worked example: the confidence of one cell
#
# The output head gives a cell one logit per digit, and the softmax makes probabilities of them. Take a cell with three
# possible digits and the logits 4, 2 and 1:
#
# | digit | logit | $e^{\text{logit}}$ | probability $p$ | $-p \ln p$ |
# |---|---|---|---|---|
# | 1 | 4 | 54.60 | 54.60 / 64.71 = 0.844 | 0.143 |
# | 2 | 2 | 7.39 | 7.39 / 64.71 = 0.114 | 0.248 |
# | 3 | 1 | 2.72 | 2.72 / 64.71 = 0.042 | 0.133 |
# | sum | | 64.71 | 1 | 0.524 |
#
# The model writes the 1 with a confidence of 0.844. The sum of the last column is the entropy, 0.524 nats: 0 if one digit is
# certain, $\ln 3 = 1.099$ if all three are equally likely.

# %%
import torch

from trm.halting import entropy

logits = torch.tensor([4.0, 2.0, 1.0])
print("probabilities", logits.softmax(-1).numpy().round(3), f"entropy {entropy(logits[None, None]).item():.3f} nats")
if asked:
    least = min(
        (cell for cell, digit in enumerate(puzzle.digits) if not digit), key=lambda cell: seen.probability[0, cell]
    )
    where = f"row {least // puzzle.shape.size + 1}, column {least % puzzle.shape.size + 1}"
    print(f"after step 1 the model is least sure of {where}: {seen.probability[0, least]:.3f}")

# %% [markdown]
# ## How sure it is, and when it would stop
#
# Left: the mean probability of the digits it writes, and the halting head's guess that all of them are right. Right: the
# entropy of the answer, by which chapter 03 stops. The model is not told whether its answer is right; the green line is where
# it first obeys the rules.

# %%
THRESHOLDS = {"6x6": 0.224, "9x9": 0.0314}  # which chapter 03 chose on validation puzzles
threshold = THRESHOLDS.get(puzzle.shape.name, 0.1)
if asked:
    figure = watch.signals(seen, threshold)
    run.save_figure(figure, "signals")
    stops = watch.stops(seen, threshold)
    for rule, step in stops.items():
        how = f"stops after step {step}, {'right' if seen.is_valid[step - 1] else 'wrong'}" if step else "never stops"
        print(f"{rule}: {how}")

# %% [markdown]
# With the default puzzle the mean probability stays at one half for twelve steps, and the entropy at 0.8 nats. Both change
# within two steps, when the digits begin to agree. The halting head says 0.015 after step 13, where one cell is still wrong,
# and 1.00 after step 14. So on this puzzle both rules stop at the first right answer, though nothing told the model that it
# is right; chapter 03 counts how often they are wrong.
#
# ## If it fails, from another start
#
# The rules of Sudoku are easy to check, so an answer that breaks them can be thrown away, and the puzzle be given again in
# another form: digits renamed, rows and columns moved (6x6), or with other noise (9x9, whose network does not see the
# difference).

# %%
if asked:
    retried = watch.retry(model, [puzzle], params.tries, 32, params.seed)
    print(f"{watch.text_of(retried.answers[0])}: {'solved' if retried.is_valid[0] else 'not solved'} in {retried.tries[0]} "
          f"{'try' if retried.tries[0] == 1 else 'tries'}, {retried.steps[0]} steps")  # fmt: skip

# %% [markdown]
# ## Your own puzzle
#
# In JupyterLab: type the clues into the grid, or paste a puzzle below it, and press *think*. (In a terminal: `trm solve`.)

# %% tags=["widget"]
from trm.plots import png, show_widget

show_widget(watch.puzzle_box(params.steps), png(watch.blank_grid(puzzle)), "A grid to type a puzzle into")

# %% [markdown]
# ## What was seen

# %%
from trm.progress import say

if asked:
    changed = (seen.digits[1:] != seen.digits[:-1]).sum(1)[: (seen.solved_at or params.steps) - 1]
    end = (
        f"after step {seen.solved_at} the answer obeys"
        if seen.solved_at
        else f"after {params.steps} steps it still breaks"
    )
    say(f"""
The first answer fills all {puzzle.shape.cells - clues} blank cells, {"" if seen.is_valid[0] else "not "}all of them right.
{f"From step to step {changed.mean():.1f} cells change on average; " if len(changed) else ""}{end} the rules.
Chapter 03 asks when to stop, chapter 04 trains such models.
""")
else:
    say(f"The puzzle was not given to the model: {watch.words_of(verdict)}.")

# %%
metrics = {"watch/asked": int(asked)}
if asked:
    metrics |= {f"watch/{name}": int(getattr(retried, name)[0]) for name in ("is_valid", "tries", "steps")}
    metrics |= {"watch/solved_at": seen.solved_at}
run.finish(metrics)

# %% [markdown]
# ## Summary
#
# - A recursive model solves a puzzle by applying one small network to its own states again and again; an answer can be read
#   after every step.
# - All cells are written at once. On a hard puzzle their digits become right late and together, not one after another.
# - Confidence is a softmax; its entropy, or a head that learned to recognise right answers, says when to stop.
# - An answer that breaks the rules can be recognised, and the puzzle be tried again from another start.
#
# ## Exercises
#
# **1. An easy puzzle.** Chapter 04's models solve most 6x6 puzzles. Predict how many steps this one takes, then watch.
#
# <details><summary>Solution</summary>
#
# ```python
# easy = parse_question(".35..12...3..24.6.....4........61...", "easy")
# watched = watch.watch(watch.model_for(easy), easy, 8)
# print("solved after step", watched.solved_at, "cells that changed", (watched.digits[1:] != watched.digits[:-1]).sum(1))
# ```
#
# Two: the second step changes three cells, and no later step changes any. In a terminal:
#
# ```
# trm solve --show ".35..12...3..24.6.....4........61..."
# ```
#
# </details>
#
# **2. No solution.** Replace the first clue of the default puzzle, 8, by 1. No solution is left. Predict what the halting
# head and the entropy do in 16 steps.
#
# <details><summary>Solution</summary>
#
# ```python
# wrong = parse_question("1" + type(params)().question[1:], "wrong")
# watched = watch.watch(watch.model_for(wrong), wrong, params.steps)
# print(watch.check(wrong).status, "halting", watched.halting.max().round(3), "entropy", watched.entropy.min().round(2))
# ```
#
# Neither rule stops it: the halting head stays below 0.005 and the entropy above 0.67 nats. Between 4 and 19 cells change in
# every step.
#
# </details>
#
# **3. Several solutions.** Take the first clue away: the puzzle has several solutions, and the chapter does not give it to the
# model. Predict what the model does with it, which has only seen puzzles with one.
#
# <details><summary>Solution</summary>
#
# ```python
# loose = parse_question("." + type(params)().question[1:], "loose")
# watched = watch.watch(watch.model_for(loose), loose, params.steps)
# print(watch.check(loose).status, "valid after step", watched.solved_at, "halting", watched.halting.round(2))
# ```
#
# It writes one of the solutions after step 9, and the halting head says 1.00: here it recognises an answer that satisfies the
# rules, although the puzzle has others.
#
# </details>
#
# ## References
#
# - A. Jolicoeur-Martineau, [Less is more: recursive reasoning with tiny networks](https://arxiv.org/abs/2510.04871), 2025: the
#   model.
# - G. Wang and others, [Hierarchical reasoning model](https://arxiv.org/abs/2506.21734), 2025: the model that it simplifies.
# - A. Graves, [Adaptive computation time for recurrent neural networks](https://arxiv.org/abs/1603.08983), 2016: networks that
#   learn when to stop.
