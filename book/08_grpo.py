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
# # 08 · GRPO
#
# **Can a language model learn to think better from nothing but whether its answer was right?** A small model that writes a
# chain of thought before its answer was stopped while about half of its answers are right. Now nobody shows it chains any
# more. It writes a **group** of answers to each problem; an answer earns 1 if it is exactly right and 0 if not; and what did
# better than its group becomes more likely, what did worse less. That is *group-relative policy optimisation* (GRPO, arXiv
# 2402.03300), here with two of its heirs, `Dr.GRPO` (2503.20783) and `DAPO` (2503.14476), and with two controls: a reward
# that is always zero, and one that is dealt out at random.
#
# The model knows problems of two to six steps. By default it is rewarded on problems of four, and judged on others of four;
# what becomes of longer ones, which nobody rewards, is asked as well.

# %% tags=["parameters"]
# the policy and its reward
policy = "tokens"  # tokens: the language model learns to write chains; latents: a reasoner learns to think for it
lm = ""  # language model, hub name or path; empty: one that ships, for tokens the one stopped early
reasoner = ""  # latents: folder of the reasoner to begin with; empty: the one that ships
latent_std = 0.2  # latents: deviation of what is drawn, as a share of that of words
reward = "right"  # what an answer earns, a name of trm.grpo.rewards
algorithm = "GRPO"  # advantages and normalisation
latent_gradient = "density"  # latents: learn by the density of what is drawn, or through the answer's tokens
group_size = 8  # answers to each problem
updates_per_batch = 1  # optimizer steps on the same answers
clip_low = 0.2  # how far a probability may fall in an update
clip_high = 0.2  # how far a probability may rise in an update
kl_coef = 0.01  # price of a nat of KL to the model that it began as
resample = 0  # times that dead groups are replaced by other problems
temperature = 1.0  # of sampling
max_new_tokens = 40  # most tokens of an answer
# the problems
min_steps = 4  # fewest steps of a problem
max_problem_steps = 4  # most steps of a problem
valid_size = 200  # problems, kept out of training, for the live curve
test_size = 1000  # unseen problems, judged before and after
# training
batch_size = 128  # answers an optimizer step, over all processes
grad_accumulation = 1  # parts that a process cuts its batch into
max_steps = 80  # optimizer steps; what ends a run
optimizer = "adamw"  # update rule
lr = 5e-05  # peak learning rate
lr_schedule = "constant"  # rate after the warm-up
lr_min_ratio = 0.0  # share of the rate left at the end of a cosine
warmup_steps = 5  # steps of linear warm-up
weight_decay = 0.0  # decoupled weight decay; it moves weights without any reward
beta1 = 0.9  # decay of the first moment
beta2 = 0.95  # decay of the second moment
grad_clip = 1.0  # largest gradient norm; 0: no clipping
ema_decay = 0.0  # decay of the averaged weights; 0: no averaging
precision = "float32"  # float16 on CUDA only
backend = "auto"  # where to compute; xla: TPUs, chapter 04
compile = False  # torch.compile of the network; XLA compiles all in any case
# what is kept
eval_interval = 20  # steps between evaluations on the validation part
log_interval = 5  # steps between records of history.jsonl
checkpoint_interval = 60  # steps between checkpoints
early_stopping_patience = 0  # evaluations without gain that end a run; 0: never
# the run
seed = 0  # one seed for everything random
output_dir = ""  # folder of the run; empty: outputs/<chapter>/<run id>
resume = False  # go on from the last checkpoint of the same run
time_limit = 0.0  # minutes of training after which to pause; 0: none
log_with = "none"  # none, tensorboard, wandb or another tracker of accelerate
wandb_project = "trm"  # project name for the tracker
wandb_run_name = ""  # name of the run for the tracker; empty: the run id

# %%
from trm.grpo.params import Grpo
from trm.run import ROOT, Run

params = Grpo.from_notebook(globals())
run = Run(params, "08_grpo")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## Before
#
# The model and how often its most likely chain ends in the right answer, on problems whose arithmetic occurs in no training,
# neither here nor before; by number of steps, and also on problems longer than those that it is going to be trained on.

# %%
import numpy as np
import pandas as pd

from trm.grpo import train as job

learner = job.load_policy(params)
before, longer_before = (job.judge(learner, params, part) for part in ("test", "longer"))
print(
    f"{learner.lm.num_parameters():,} parameters; {before.accuracy:.1%} of {len(before.right):,} unseen problems are right"
)
shares = [pd.Series(judged.right).groupby(judged.steps).mean() for judged in (before, longer_before)]
pd.concat(shares).rename_axis("steps of the problem").to_frame("right").T.round(3)

# %% [markdown]
# ## A group of answers
#
# One training problem, tried `group_size` times. Beside each answer what it earned, and its advantage: the reward less the
# mean of the group, in deviations of the group.

# %%
import torch

from trm.findings import say
from trm.grpo.loss import ALGORITHMS, advantages

groups = job.Groups(learner, params)
tried = {name: torch.from_numpy(value) for name, value in groups(0).items()}
mixed = tried["rewards"].reshape(params.groups, -1).std(1).argmax()
rows = slice(mixed * params.group_size, (mixed + 1) * params.group_size)
texts = learner.texts({name: tried[name][rows] for name in ("tokens", "mask")})
question = learner.tokenizer.decode(tried["prompt"][rows][0][tried["prompt_mask"][rows][0] == 1])
print(question)
pd.DataFrame({"answer": texts, "reward": tried["rewards"][rows], "advantage": tried["advantages"][rows]}).round(2)

# %% [markdown]
# A group in which all answers earn the same is **dead**: every advantage is zero, and nothing is learned from it. How much a
# right answer counts depends on how rare it is, and on the algorithm:

# %%
n = params.group_size
few = torch.tensor([[1.0] * right + [0.0] * (n - right) for right in range(n + 1)])
weights = {name: advantages(few, name)[:, 0].tolist() for name in ALGORITHMS}
pd.DataFrame(weights, index=pd.Index(range(n + 1), name=f"right of {n}")).iloc[1:].T.round(2)

# %% [markdown]
# ## Training
#
# Every step samples `batch_size` answers anew and learns from them `updates_per_batch` times. The ratio of a token's new
# probability to the one that it was sampled with is held between 1 - `clip_low` and 1 + `clip_high`, and each nat of KL to
# the model that it began as costs `kl_coef`.

# %%
from trm.grpo import figures as grpo_plots
from trm.grpo import findings
from trm.progress import Progress

metrics = job.train(params, run, learner, Progress(params.max_steps, grpo_plots.progress))
complete = metrics is not None
named = f"latents, {params.latent_gradient}" if params.policy == "latents" else params.algorithm
arm = named if params.reward == "right" else params.reward

# %%
if complete:
    after, longer_after = (job.judge(learner, params, part) for part in ("test", "longer"))
    metrics |= {"grpo/accuracy_before": before.accuracy, "grpo/accuracy_after": after.accuracy}
    metrics |= {"grpo/longer_before": longer_before.accuracy, "grpo/longer_after": longer_after.accuracy}
    row = findings.row(arm, params.seed, metrics, run.history())
    live = pd.DataFrame([row])
    figure = grpo_plots.training(live)
    run.save_figure(figure, "training")

# %% [markdown]
# ## After
#
# The same unseen problems, the most likely token each time. The weights are those of the last step: none were chosen by how
# well they did. The dotted line is where the problems of training end.

# %%
if complete:
    gain = findings.gain_over_problems(before.right, after.right)
    judged = [(one.right, one.steps) for one in (before, longer_before, after, longer_after)]
    shares = [pd.Series(right).groupby(steps).mean() for right, steps in judged]
    figure = grpo_plots.by_steps(pd.concat(shares[:2]), pd.concat(shares[2:]), params.max_problem_steps)
    run.save_figure(figure, "by_steps")
    say(findings.live(row, gain))

# %% [markdown]
# What it wrote to a few problems, before and after (the first that changed).

# %%
changed = np.flatnonzero(before.right != after.right)[:8] if complete else []
pairs = [(before.written.texts[i], after.written.texts[i], after.right[i] == 1) for i in changed]
pd.DataFrame(pairs, columns=["before", "after", "right now"])

# %% [markdown]
# ## The full comparison
#
# Three algorithms and two controls, three seeds each, as many answers for each, one core. (Minutes are by the clock, and five
# of the fifteen runs shared their core: they compare no algorithms.) The table is committed; these commands make it again:
#
#     python -m trm.sweep run grpo --scale laptop --jobs 2
#     python -m trm.sweep results grpo --scale laptop --rows book/results/08_grpo.csv

# %%
committed = ROOT / "book" / "results" / "08_grpo.csv"
full = findings.read_rows(committed) if committed.exists() else live if complete else pd.DataFrame()
print("from", committed.relative_to(ROOT) if committed.exists() else "the live run: no table is committed")
comparison = findings.compare(full) if len(full) else pd.DataFrame()
findings.levels(comparison)

# %%
if len(full):
    figure = grpo_plots.training(full)
    run.save_figure(figure, "full_training")

# %%
if len(full):
    figure = grpo_plots.gains(comparison, full)
    run.save_figure(figure, "full_gains")

# %% [markdown]
# ## The same for latents
#
# A policy need not write its thoughts. With `-p policy latents` the language model is chapter 07's and stays as it is; what
# learns is the reasoner that thinks for it. Each latent is drawn around what the reasoner says (a normal distribution of
# deviation `latent_std`). With `latent_gradient density` the density of what was drawn stands in the ratio as a token's
# probability does; with `answer` the answer's tokens alone are actions, and their gradient reaches the reasoner through the
# language model. It begins with the reasoner that ships, and is rewarded on stories of six steps, the ones that it is worst
# at. (Without KL: densities of vectors of so many dimensions drift apart by nats where tokens do by hundredths.)
#
#     python -m trm.sweep run grpo_latents --scale laptop --jobs 2 --threads 1
#     python -m trm.sweep results grpo_latents --scale laptop --rows book/results/08_grpo_latents.csv

# %%
table = ROOT / "book" / "results" / "08_grpo_latents.csv"
latents = findings.compare(findings.read_rows(table)) if table.exists() else pd.DataFrame()
findings.levels(latents)

# %%
if len(latents):
    figure = grpo_plots.gains(latents, findings.read_rows(table))
    run.save_figure(figure, "latents")

# %% [markdown]
# ## Findings

# %%
if len(full):
    say(findings.everything(full))
if len(latents):
    say("Latents: " + findings.verdict(findings.read_rows(table)))

# %%
if complete:
    run.save_table(live)
    metrics |= {f"grpo/gain_{name}" if name != "mean" else "grpo/gain": value for name, value in gain.items()}
    metrics |= {"grpo/dead_groups": float(live["dead_groups"].item()), "grpo/kl": float(live["kl"].item())}
run.finish(metrics or {}, complete=complete)
