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
# *supervision step*. Give another puzzle with `-p question "..."`, or type one into the grid at the end.
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
# ## Its answer, step by step
#
# In every step the model rewrites all cells at once. Clues are black; a digit is the darker, the higher the probability that
# the model gives it; one that has just changed stands in a box.

# %%
if asked:
    model = watch.model_for(puzzle, params.model_path)
    seen = watch.watch(model, puzzle, params.steps)
    moving = watch.animation(seen)
    run.save_figure(moving, "think")

# %%
from trm.plots import show_gif

if asked:
    show_gif(moving, f"The model's answer to a {puzzle.shape.name} puzzle after each step")

# %% [markdown]
# Under a slider (it moves in JupyterLab; a page shows one step):

# %% tags=["widget"]
from trm.plots import explore

if asked:
    explore(lambda step: watch.frame(seen, step), step=(0, params.steps, seen.solved_at or params.steps))

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
