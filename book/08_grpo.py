# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 08 · GRPO
#
# **Can a language model learn to think better from nothing but whether its answer was right?** A small model that writes a
# chain of thought before its answer was stopped while about half of its answers are right. Now nobody shows it chains any
# more. It writes a **group** of answers to each problem; an answer earns 1 if it is exactly right and 0 if not; and what did
# better than its group becomes more likely, what did worse less. That is *group-relative policy optimisation* (GRPO, arXiv
# 2402.03300), here with two of its heirs, `Dr.GRPO` (2503.20783) and `DAPO` (2503.14476), and with two controls: a reward
# that is always zero, and one that is randomly permuted.
#
# The model knows problems of two to six steps. By default it is rewarded on problems of four and evaluated on others of four;
# longer problems, which are not in the reward set, measure generalisation.

# %% tags=["parameters"]
policy = "tokens"  # tokens: the language model learns to write chains; latents: a reasoner learns to think for it
reward = "right"  # reward of an answer, a name of trm.grpo.rewards
algorithm = "GRPO"  # advantages and normalisation
latent_gradient = "density"  # latents: policy gradient on their density, or through the answer's tokens
group_size = 8  # answers per problem
updates_per_batch = 1  # optimizer steps on the same answers
clip_low = 0.2  # the ratio of probabilities is clipped at 1 - clip_low
clip_high = 0.2  # the ratio of probabilities is clipped at 1 + clip_high
kl_coef = 0.01  # weight of the KL divergence to the initial model
min_steps = 4  # fewest steps of a problem
max_problem_steps = 4  # most steps of a problem
batch_size = 128  # answers per optimizer step (global batch size)
max_steps = 80  # optimizer steps
lr = 5e-05  # peak learning rate
seed = 0  # one seed for everything random

# %%
import numpy as np
import pandas as pd
import torch

from trm import stats
from trm.grpo import figures, train
from trm.grpo.loss import ALGORITHMS, advantages
from trm.grpo.params import Grpo
from trm.progress import Progress, say
from trm.run import ROOT, Run

params = Grpo.from_notebook(globals())
run = Run(params, "08_grpo")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## Before
#
# The model and its greedy accuracy on problems whose arithmetic occurs in no training, neither here nor before; by number of
# steps, and also on problems longer than those that it is going to be trained on.

# %%
learner = train.load_policy(params)
before, longer_before = (train.evaluate(learner, params, part) for part in ("test", "longer"))
print(
    f"{learner.lm.num_parameters():,} parameters; accuracy {before.accuracy:.1%} on {len(before.right):,} unseen problems"
)


def by_steps(*evaluations):
    return pd.concat([pd.Series(one.right).groupby(one.steps).mean() for one in evaluations])


by_steps(before, longer_before).rename_axis("steps of the problem").to_frame("accuracy").T.round(3)

# %% [markdown]
# ## A group of answers
#
# One training problem, tried `group_size` times. Beside each answer its reward, and its advantage: the reward minus the mean
# of the group, in standard deviations of the group.

# %%
groups = train.GroupSampler(learner, params)
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
# probability to the one that it was sampled with is clipped between 1 - `clip_low` and 1 + `clip_high` (with one update per
# batch it is 1, and the clip never acts), and `kl_coef` weighs the KL divergence to the initial model.

# %%
metrics = train.train(params, run, learner, Progress(params.max_steps, figures.progress, params.algorithm))
complete = metrics is not None
arm = params.reward if params.reward != "right" else params.algorithm
if params.reward == "right" and params.policy == "latents":
    arm = f"latents, {params.latent_gradient}"
curve = pd.DataFrame(run.history()).groupby("step", as_index=False).first()
curve = curve.assign(arm=arm, seed=params.seed, minutes=curve["train/seconds"] / 60)
curve = curve.reindex(columns=["arm", "seed", "step", "minutes", *figures.PANELS])
run.save_table(curve, "curves")
if complete:
    figure = figures.training(curve)
    run.save_figure(figure, "training")

# %% [markdown]
# ## After
#
# The same unseen problems, decoded greedily. The weights are those of the last step: none were chosen by an evaluation. The
# dotted line is where the problems of training end.

# %%
if complete:
    after, longer_after = (train.evaluate(learner, params, part) for part in ("test", "longer"))
    metrics |= {"grpo/accuracy_before": before.accuracy, "grpo/accuracy_after": after.accuracy}
    metrics |= {"grpo/longer_before": longer_before.accuracy, "grpo/longer_after": longer_after.accuracy}
    metrics |= {"grpo/dead_groups": curve["train/dead_groups"].mean(), "grpo/kl": curve["train/kl"].dropna().iloc[-1]}
    names = ("accuracy_before", "accuracy_after", "longer_before", "longer_after", "dead_groups", "kl", "weights_moved")
    row = {"arm": arm, "seed": params.seed, **{name: metrics[f"grpo/{name}"] for name in names}}
    row["minutes"] = metrics["train/seconds"] / 60
    gain = stats.paired(pd.Series(after.right), pd.Series(before.right))  # over the problems
    low, high = (x if np.isfinite(x) else gain.effect for x in (gain.low, gain.high))
    figure = figures.by_steps(by_steps(before, longer_before), by_steps(after, longer_after), params.max_problem_steps)
    run.save_figure(figure, "by_steps")
    interval = f"95 % interval over the problems {100 * low:+.1f} to {100 * high:+.1f}"
    accuracies = f"{before.accuracy:.1%} -> {after.accuracy:.1%} in {row['minutes']:.1f} minutes"
    print(f"{accuracies}: {100 * gain.effect:+.1f} points ({interval})")
    print(f"problems one or two steps longer: {longer_before.accuracy:.1%} -> {longer_after.accuracy:.1%}")

# %% [markdown]
# What it wrote to a few problems, before and after (the first that changed).

# %%
changed = np.flatnonzero(before.right != after.right)[:8] if complete else []
pairs = [(before.written.texts[i], after.written.texts[i], after.right[i] == 1) for i in changed]
pd.DataFrame(pairs, columns=["before", "after", "right now"])

# %% [markdown]
# ## The full comparison
#
# Three algorithms and two controls, three seeds each, as many answers for each, one learning rate (5e-5), one core. (Minutes
# are by the clock, and five of the fifteen runs shared their core: they do not compare algorithms.) The tables are committed;
# these commands make them again:
#
#     python -m trm.sweep run grpo --scale laptop --jobs 2
#     python -m trm.sweep results grpo --scale laptop --rows book/results/08_grpo.csv
#     python -m trm.sweep results grpo --scale laptop --rows book/results/08_grpo_curves.csv --table curves

# %%
RESULTS = ROOT / "book" / "results"
full = stats.read_table(RESULTS / "08_grpo.csv")


def gains(table, name):
    """`name` of each arm after against before, paired by seed."""
    arms = {arm: part.set_index("seed") for arm, part in table.groupby("arm", sort=False)}
    found = {arm: vars(stats.paired(part[f"{name}_after"], part[f"{name}_before"])) for arm, part in arms.items()}
    names = {"baseline_mean": "before", "arm_mean": "after"}
    return pd.DataFrame(found).T.rename(columns=names)[
        ["seeds", "before", "after", "effect", "low", "high", "p", "mde"]
    ]


own, longer = gains(full, "accuracy"), gains(full, "longer")
own.join(full.groupby("arm", sort=False)[["dead_groups", "kl", "minutes", "weights_moved"]].mean()).astype(float).round(
    3
)

# %% [markdown]
# The same on problems of one or two steps more, which are not rewarded.

# %%
longer.astype(float).round(3)

# %%
figure = figures.training(stats.read_table(RESULTS / "08_grpo_curves.csv"))
run.save_figure(figure, "full_training")

# %%
figure = figures.gains({"problems like those of training": own, "one or two steps longer, not rewarded": longer})
run.save_figure(figure, "full_gains")

# %% [markdown]
# ## The same for latents
#
# A policy need not write its thoughts. With `-p policy latents` the language model is chapter 07's and stays as it is; what
# learns is the reasoner that thinks for it. Each latent is drawn around the reasoner's output (a normal distribution of
# standard deviation `latent_std`). With `latent_gradient density` the density of what was drawn stands in the ratio as a
# token's probability does; with `answer` the answer's tokens alone are actions, and their gradient reaches the reasoner through
# the language model. It begins with the reasoner that ships, and is rewarded on stories of six steps, on which it is worst.
# (Without KL: the KL of a high-dimensional Gaussian policy is orders of magnitude larger than that of tokens.)
#
#     python -m trm.sweep run grpo_latents --scale laptop --jobs 2 --threads 1
#     python -m trm.sweep results grpo_latents --scale laptop --rows book/results/08_grpo_latents.csv
#     python -m trm.sweep results grpo_latents --scale laptop --rows book/results/08_grpo_latents_curves.csv --table curves

# %%
latents = stats.read_table(RESULTS / "08_grpo_latents.csv")
latent_gains = gains(latents, "accuracy")
cost = latents.groupby("arm", sort=False)[["dead_groups", "kl", "minutes", "weights_moved"]].mean()
latent_gains.join(cost).astype(float).round(4)

# %%
titles = ("problems like those of training", "one or two steps longer, not rewarded")
figure = figures.gains(dict(zip(titles, (latent_gains, gains(latents, "longer")))))
run.save_figure(figure, "latents")

# %% [markdown]
# ## Findings

# %%
arms = {arm: part.set_index("seed") for arm, part in pd.concat([full, latents]).groupby("arm")}
said = {arm: stats.paired(part["accuracy_after"], part["accuracy_before"]) for arm, part in arms.items()}
beyond = {arm: stats.paired(part["longer_after"], part["longer_before"]) for arm, part in arms.items()}
versus = {arm: stats.compare(full, "accuracy_after", arm, "GRPO") for arm in ("Dr.GRPO", "DAPO")}
moved = {arm: f"{part['weights_moved'].max():.1g}" for arm, part in arms.items()}
grpo, shuffled, density, answer = (said[arm] for arm in ("GRPO", "shuffled", "latents, density", "latents, answer"))
say(f"""
- **A correctness reward alone raises accuracy.** GRPO takes greedy accuracy on unseen problems of four steps from
  {grpo.baseline_mean:.1%} to {grpo.arm_mean:.1%}: {grpo.say()}. With randomly permuted rewards it ends at
  {shuffled.arm_mean:.1%} ({shuffled.say()}, not significant); with zero reward the weights do not change.
- **Accuracy on longer, unrewarded problems drops**: {beyond["GRPO"].say()} with GRPO, {beyond["Dr.GRPO"].say()} with Dr.GRPO,
  {beyond["DAPO"].say()} with DAPO.
- The algorithms do not differ significantly: against GRPO, Dr.GRPO {versus["Dr.GRPO"].say()}, DAPO {versus["DAPO"].say()}.
  With one update per batch the ratio of probabilities is 1, so that DAPO's higher `clip_high` never acts, and no dead groups
  were sampled again: this arm differs from GRPO in averaging over tokens alone.
- **No significant gain for latents**: by density {density.say()}, through the answer {answer.say()}. This is at one learning
  rate each (1e-5 and 3e-5), 200 updates and 64 and 72 % dead groups; the minimum detectable effect is {100 * density.mde:.1f}
  and {100 * answer.mde:.1f} points. The largest change of a weight was {moved["latents, density"]} and
  {moved["latents, answer"]}; with tokens {moved["GRPO"]}.
""")

# %%
if complete:
    run.save_table(pd.DataFrame([row]))
    metrics |= {"grpo/gain": gain.effect, "grpo/gain_low": low, "grpo/gain_high": high}
run.finish(metrics or {}, complete=complete)
