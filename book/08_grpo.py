# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 08 · GRPO with a correctness reward
#
# **Can a language model learn to reason better from nothing but whether its answer was right?**
#
# ## What you will learn
#
# - how group-relative policy optimisation (GRPO) turns rewards of sampled answers into a gradient, without a value network;
# - what its ratio, clip and KL term do, and how Dr.GRPO and DAPO average differently;
# - which controls and baselines belong beside it: permuted rewards, zero rewards, rejection sampling;
# - what a reward on problems of one length does to the accuracy on longer ones.
#
# The chapter trains two policies at its defaults, for about 30 s each on one core, and takes a minute and a half in all. It
# is also the program of the comparison below:
#
#     papermill book/08_grpo.ipynb outputs/08_grpo.ipynb -p algorithm DAPO -p updates_per_batch 2
#
# A small model that writes a chain of thought before its answer was stopped while about half of its answers are right. From
# here on nobody shows it chains. It writes a **group** of answers to each problem; an answer earns 1 if it is exactly right and
# 0 if not. The model knows problems of two to six steps (a **step** is one sentence of the story). By default it is rewarded on
# problems of four and evaluated on others of four; longer problems, which are not in the reward set, measure generalisation.

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
import re

import numpy as np
import pandas as pd
import torch

from trm import stats
from trm.grpo import figures, train
from trm.grpo.loss import ALGORITHMS, advantages, kl_k3
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
# ## The loss
#
# A policy $\pi_\theta$ writes answer $o_i$ of a group of $n$ = `group_size` token by token, and earns $r_i$. GRPO's
# **advantage** compares the answer with its group, so that no second network has to guess how good an answer could be:
#
# $$A_i = \frac{r_i - \bar r}{s_r + \epsilon}, \qquad \bar r = \frac1n \sum_j r_j, \quad
#   s_r^2 = \frac{1}{n - 1} \sum_j (r_j - \bar r)^2.$$
#
# A group in which all answers earn the same is **dead**: every advantage is zero, and nothing is learned from it. With the
# ratio $\rho_{i,t} = \pi_\theta(o_{i,t}) / \pi_\mathrm{old}(o_{i,t})$ of a token's new probability to the one that it was
# sampled with, the loss of a token is
#
# $$\ell_{i,t} = -\min\big(\rho_{i,t} A_i,\; \mathrm{clip}(\rho_{i,t}, 1 - \epsilon_\mathrm{low}, 1 + \epsilon_\mathrm{high})
#   A_i\big) + \beta \Big(\frac{\pi_\mathrm{ref}}{\pi_\theta} - \log \frac{\pi_\mathrm{ref}}{\pi_\theta} - 1\Big),$$
#
# where the last term estimates the KL divergence to the initial model $\pi_\mathrm{ref}$ and $\beta$ = `kl_coef`. The clip
# ends the gradient of a token whose probability has moved far enough in the direction of its advantage. The algorithms average
# over the tokens of the $B$ answers of a batch in different ways:
#
# | algorithm | advantage | loss |
# |---|---|---|
# | `GRPO` | $(r_i - \bar r) / (s_r + \epsilon)$ | $\frac1B \sum_i \frac{1}{\lvert o_i \rvert} \sum_t \ell_{i,t}$ |
# | `Dr.GRPO` | $r_i - \bar r$ | $\frac1B \sum_i \frac{1}{C} \sum_t \ell_{i,t}$, $C$ = `max_new_tokens` |
# | `DAPO` | as GRPO | $\sum_i \sum_t \ell_{i,t} \,/\, \sum_i \lvert o_i \rvert$ |
# | `rejection_sampling` | 1 if $r_i > 0$, else 0 | as DAPO, with $\ell_{i,t} = -A_i \log \pi_\theta(o_{i,t})$ |
#
# Here $\epsilon = 10^{-4}$. DAPO also has a higher $\epsilon_\mathrm{high}$, and replaces dead groups by other problems
# (`resample`). As published it shapes the reward of answers that are too long, which is left out here, and it has no KL term,
# as Dr.GRPO; in the comparison below all three have $\beta = 0.01$.

# %%
from trm.teaching import diagram, show_source

boxes = {
    "problem": (0, 1, "problem", "data"),
    "policy": (1.4, 1, r"policy $\pi_\theta$", "net"),
    **{f"o{i}": (2.9, 2 - i, f"answer {name}", "data") for i, name in enumerate(("1", "...", "n"))},
    **{f"r{i}": (4.3, 2 - i, f"$r_{{{name}}}$", "state") for i, name in enumerate(("1", "i", "n"))},
    "group": (5.6, 1, "mean, std\nof the group", "state"),
    "advantage": (7.1, 1, "$A_i$", "state"),
    "loss": (8.3, 1, "loss", "loss"),
    "reference": (8.3, 2.2, r"$\pi_\mathrm{ref}$", "net"),
}
arrows = [("problem", "policy"), ("group", "advantage"), ("advantage", "loss"), ("reference", "loss", "KL")]
arrows += [pair for i in range(3) for pair in (("policy", f"o{i}"), (f"o{i}", f"r{i}"), (f"r{i}", "group"))]
boxes |= {"gradient": (8.3, -0.9, "gradient", "state"), "update": (1.4, -0.9, "optimizer step", "state")}
arrows += [("loss", "gradient"), ("gradient", "update"), ("update", "policy")]
figure = diagram(boxes, arrows, (9, 3.8))
run.save_figure(figure, "diagram")

# %%
from trm.grpo.loss import policy_loss

show_source(advantages, policy_loss)

# %% [markdown]
# ### Worked example: two right of eight
#
# Rewards 1, 1 and six times 0: $\bar r = 0.25$, $s_r^2 = (2 \cdot 0.75^2 + 6 \cdot 0.25^2) / 7 = 1.5 / 7$, $s_r = 0.463$. A
# right answer has the advantage $0.75 / 0.463 = 1.62$, a wrong one $-0.54$; they add up to zero. If a token of a right answer
# is 1.5 times as likely as when it was sampled, its loss is $-\min(1.5 \cdot 1.62, 1.2 \cdot 1.62) = -1.94$: clipped, no
# gradient. If that happens to a token of a wrong answer, the loss is $-\min(1.5 \cdot -0.54, 1.2 \cdot -0.54) = 0.81$: not
# clipped, it is pushed back. A token half as likely as under the reference has a KL of $2 - \ln 2 - 1 = 0.31$.

# %%
of_group = advantages(torch.tensor([[1.0, 1.0] + [0.0] * 6]))[0]
one = torch.ones(1, 1)
print(f"advantages: {of_group[0]:.2f} (right), {of_group[-1]:.2f} (wrong), sum {of_group.sum():.2f}")
for name, advantage in (("right", of_group[:1]), ("wrong", of_group[-1:])):
    token, old = torch.tensor([[1.5]]).log().requires_grad_(), torch.zeros(1, 1)
    loss, _ = policy_loss(token, old, advantage, one)
    loss.backward()
    print(f"ratio 1.5, {name}: loss {float(loss.detach()):.2f}, gradient {float(token.grad):.2f}")
print(f"KL: {float(kl_k3(torch.tensor(0.25).log(), torch.tensor(0.5).log())):.2f} nats")

# %% [markdown]
# How much a right answer counts depends on how rare it is, and on the algorithm. The next table gives the advantage of a right
# answer by the number of right ones in its group:

# %%
n = params.group_size
few = torch.tensor([[1.0] * right + [0.0] * (n - right) for right in range(n + 1)])
weights = {name: advantages(few, name)[:, 0].tolist() for name in ALGORITHMS}
pd.DataFrame(weights, index=pd.Index(range(n + 1), name=f"right of {n}")).iloc[1:].T.round(2)

# %% [markdown]
# With the deviation the squared advantages of every group that is not dead add up to $n - 1$: easy and hard problems pull as
# strongly as those of middle difficulty. In Dr.GRPO they add up to $n p (1 - p)$ with $p$ the share of right answers, 0.88 for
# one of eight and 2 for four: problems of middle difficulty count most.
#
# ## Training
#
# Every batch samples `batch_size` answers anew and learns from them `updates_per_batch` times. With one update the ratio is 1,
# and the clip never acts. The model is in evaluation mode throughout: dropout would be noise in the ratio.

# %%
metrics = train.train(params, run, learner, Progress(params.max_steps, figures.progress, params.algorithm))
complete = metrics is not None
arm = params.reward if params.reward != "right" else params.algorithm
if params.reward == "right" and params.policy == "latents":
    arm = f"latents, {params.latent_gradient}"
elif params.updates_per_batch > 1 and params.algorithm != "DAPO":
    arm = f"{arm}, {params.updates_per_batch} updates"
elif params.min_steps < params.max_problem_steps:
    arm = f"{arm}, {params.min_steps} to {params.max_problem_steps} steps"
curve = pd.DataFrame(run.history()).groupby("step", as_index=False).first()
curve = curve.assign(arm=arm, seed=params.seed, lr=params.lr, minutes=curve["train/seconds"] / 60)
curve = curve.reindex(columns=["arm", "seed", "lr", "step", "minutes", *figures.PANELS])
run.save_table(curve, "curves")
if complete:
    figure = figures.training(curve.assign(step=curve["step"] / params.updates_per_batch))
    run.save_figure(figure, "training")

# %% [markdown]
# Top left: the share of right answers among those sampled rises, from about a third to nearly a half; with a temperature of
# one it stays below the greedy accuracy (bottom right), which rises in step. Top right: the policy moves away from the initial
# model by less than 0.02 nats per token. Bottom left: a fifth of the groups are dead, at first because all answers are
# wrong or all right, and nothing is learned from them.
#
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
    row = {"arm": arm, "seed": params.seed}
    row |= {name: getattr(params, name) for name in ("lr", "updates_per_batch", "resample")}
    row |= {name: metrics[f"grpo/{name}"] for name in names} | {"minutes": metrics["train/seconds"] / 60}
    for when, found in (("before", (before, longer_before)), ("after", (after, longer_after))):
        row |= {f"{when}/{n:.0f}": accuracy for n, accuracy in by_steps(*found).items()}
    gain = stats.paired(pd.Series(after.right), pd.Series(before.right))  # over the problems
    low, high = (x if np.isfinite(x) else gain.effect for x in (gain.low, gain.high))
    figure = figures.by_steps(by_steps(before, longer_before), by_steps(after, longer_after), params.max_problem_steps)
    run.save_figure(figure, "by_steps")
    interval = f"95 % interval over the problems {100 * low:+.1f} to {100 * high:+.1f}"
    accuracies = f"{before.accuracy:.1%} -> {after.accuracy:.1%} in {row['minutes']:.1f} minutes"
    print(f"{accuracies}: {100 * gain.effect:+.1f} points ({interval})")
    print(f"problems one or two steps longer: {longer_before.accuracy:.1%} -> {longer_after.accuracy:.1%}")

# %% [markdown]
# Left of the dotted line the accuracy on the rewarded length rises; right of it, on longer problems, it falls. What goes
# wrong can be counted: the number of steps, a sum, or what a step takes from the story.


# %%
def errors(found):
    """For each answer: is it right, or wrong with a wrong sum in its chain, or wrong for another reason (mostly a misread
    story, also a chain that does not end or whose last total is not copied); and has the chain as many steps as the story."""
    rows = []
    for text, steps, right in zip(found.written.texts, found.steps, found.right == 1):
        sums = [(int(a), sign, int(b), int(c)) for a, sign, b, c in re.findall(r"(\d+)([-+*])(\d+)=(\d+);", text)]
        holds = all({"+": a + b, "-": a - b, "*": a * b}[sign] == c for a, sign, b, c in sums)
        rows.append((steps, right, not right and not holds, not right and holds, len(sums) == steps))
    return pd.DataFrame(rows, columns=["steps", "right", "wrong sum", "other error", "as many steps"], dtype=float)


if complete:
    when = {"before": (before, longer_before), "after": (after, longer_after)}
    counted = {name: pd.concat([errors(one) for one in found]).groupby("steps").mean() for name, found in when.items()}
    print(pd.concat(counted).round(3).to_string())

# %% [markdown]
# The chains have as many steps as the stories, before and after. On four steps (this run) wrong sums stay as frequent, 14.6 %
# of the answers before and 13.9 % after, while other errors, mostly misread stories, go from 27.7 to 10.7 %: in this run the
# gain is not in the sums. On five steps the other errors become more, from 24.0 to 34.5 %.
#
# What it wrote to a few problems, before and after (the first that changed):

# %%
changed = np.flatnonzero(before.right != after.right)[:8] if complete else []
pairs = [(before.written.texts[i], after.written.texts[i], after.right[i] == 1) for i in changed]
pd.DataFrame(pairs, columns=["before", "after", "right now"])

# %% [markdown]
# ## A baseline: rejection sampling
#
# The simplest use of the same samples: keep the right answers and raise their likelihood, as in supervised fine-tuning on one's
# own text (RAFT). Wrong answers and the group play no part, and there is no KL term. The baseline begins with the same model
# and samples as many answers.

# %%
baseline = None
if complete and params.baseline_algorithm:
    baseline = train.train_baseline(params, run, figures.progress)
    complete = baseline is not None
if baseline:
    found = {"before": before.accuracy, arm: after.accuracy, baseline.arm: baseline.metrics["grpo/accuracy_after"]}
    found_longer = [longer_before.accuracy, longer_after.accuracy, baseline.metrics["grpo/longer_after"]]
    frame = pd.DataFrame({"like training": found, "longer, not rewarded": dict(zip(found, found_longer))})
    metrics[f"grpo/accuracy_{baseline.arm}"] = baseline.metrics["grpo/accuracy_after"]
    print(frame.round(3).to_string())

# %% [markdown]
# With the defaults (one run) rejection sampling ends at 76.5 %, GRPO at 75.4 %, from 57.7 %; on longer problems at 22.5 and
# 24.6 %, from 34.5 %. One run, and each policy samples for itself after the first step: a difference of this size cannot be
# judged.
#
# ## The full comparison
#
# Algorithms and controls, five seeds, one learning rate (5e-5), 120 batches of answers. DAPO makes two updates on each, so that
# its higher clip acts, and samples dead groups again, up to twice; `GRPO, 2 updates` is the control of the first of these. The
# last arm is rewarded on problems of two to six steps. (Minutes are by the clock of one core, beside other processes.)
#
#     trm sweep run grpo --scale laptop --jobs 2
#     trm sweep results grpo --scale laptop --rows book/results/08_grpo.csv
#     trm sweep results grpo --scale laptop --rows book/results/08_grpo_curves.csv --table curves

# %%
RESULTS = ROOT / "book" / "results"
table = stats.read_table(RESULTS / "08_grpo.csv", ["arm", "seed", "accuracy_after", "updates_per_batch"])
mixture = table[table["arm"] == "GRPO, 2 to 6 steps"]
full = table.drop(mixture.index)


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
curves = stats.read_table(RESULTS / "08_grpo_curves.csv")
updates = table.groupby("arm")["updates_per_batch"].first()
curves["step"] /= curves["arm"].map(updates)  # batches of answers
figure = figures.training(curves)
run.save_figure(figure, "full_training")

# %% [markdown]
# Thin lines are seeds, thick ones their means. GRPO, Dr.GRPO and rejection sampling lie on each other in every panel; the arms
# with two updates on a batch move away further and end higher. With zero reward all groups are dead and every curve is flat.
# With permuted rewards 8 % of the groups are dead, the KL to the initial model is 0.6 times that of GRPO, and accuracy falls
# from 54.9 to 47.3 % (-7.6 points, -9.7 to -5.6): rewards without information do harm.

# %%
figure = figures.gains({"problems like those of training": own, "one or two steps longer, not rewarded": longer})
run.save_figure(figure, "full_gains")

# %% [markdown]
# Points are means over the seeds, bars 95 % intervals. Left: the algorithms gain, the controls do not. Right: what
# they lose on longer problems, which the reward never saw. Before training, the model is right on a third of those.
#
# ## The same for latents
#
# A policy need not write its thoughts. With `-p policy latents` the language model is chapter 07's and stays as it is; what
# learns is the reasoner that thinks for it. Each latent is drawn around the reasoner's output (a normal distribution of
# standard deviation `latent_std`). With `latent_gradient density` the density of what was drawn stands in the ratio as a
# token's probability does; with `answer` the answer's tokens alone are actions, and their gradient reaches the reasoner through
# the language model. It begins with the reasoner that ships, and is rewarded on stories of six steps, on which it is worst.
# (Without KL: the KL of a high-dimensional Gaussian policy is orders of magnitude larger than that of tokens.)
#
#     trm sweep run grpo_latents --scale laptop --jobs 2 --threads 1
#     trm sweep results grpo_latents --scale laptop --rows book/results/08_grpo_latents.csv
#     trm sweep results grpo_latents --scale laptop --rows book/results/08_grpo_latents_curves.csv --table curves

# %%
latents = stats.read_table(RESULTS / "08_grpo_latents.csv", ["arm", "seed", "lr"])
latents["gradient"], latents["arm"] = latents["arm"], latents["arm"] + latents["lr"].map(", rate {:g}".format)
latent_gains = gains(latents, "accuracy")
cost = latents.groupby("arm", sort=False)[["dead_groups", "kl", "minutes", "weights_moved"]].mean()
latent_gains.join(cost).astype(float).round(4)

# %%
titles = ("problems like those of training", "one or two steps longer, not rewarded")
figure = figures.gains(dict(zip(titles, (latent_gains, gains(latents, "longer")))))
run.save_figure(figure, "latents")

# %% [markdown]
# All intervals hold zero, left (note the scale: two to four points) and right. The accuracy on longer stories is near zero from
# the beginning, so that there is little to lose.
#
# ## Findings

# %%
arms = {arm: part.set_index("seed") for arm, part in pd.concat([full, latents]).groupby("arm")}
said = {arm: stats.paired(part["accuracy_after"], part["accuracy_before"]) for arm, part in arms.items()}
beyond = {arm: stats.paired(part["longer_after"], part["longer_before"]) for arm, part in arms.items()}
versus = {
    arm: stats.compare(full, "accuracy_after", arm, "GRPO", tests=5)
    for arm in ("Dr.GRPO", "GRPO, 2 updates", "DAPO", "rejection_sampling")
    if arm in arms
}
moved = {arm: f"{part['weights_moved'].max():.1g}" for arm, part in arms.items()}
validation = (
    stats.read_table(RESULTS / "08_grpo_latents_curves.csv").groupby(["arm", "lr", "seed"])["valid/accuracy"].last()
)
validation = validation.groupby(["arm", "lr"]).mean()
best = {name: f"{name}, rate {validation[name].idxmax():g}" for name in latents["gradient"].unique()}  # by validation


def judged(found):
    return found.say() + ("" if not np.isfinite(found.p) or found.significant else ", not significant")


def seeds_of(arm):
    return full[full["arm"] == arm].set_index("seed")


def listed(comparisons):
    return "; ".join(f"{arm} {judged(found)}" for arm, found in comparisons.items())


def of_mixture(steps):
    return stats.paired(*(mixture.set_index("seed")[f"{when}/{steps}"] for when in ("after", "before")))


grpo, shuffled = said["GRPO"], said["shuffled"]
control = stats.paired(*(drop["longer_after"] - drop["longer_before"] for drop in map(seeds_of, ("GRPO", "shuffled"))))
trained = {arm: found for arm, found in beyond.items() if arm in set(full["arm"]) - {"shuffled", "zero"}}
second = stats.compare(full, "accuracy_after", "DAPO", "GRPO, 2 updates", tests=5)
drops = "drops" if all(beyond[arm].sign < 0 for arm in ("GRPO", "Dr.GRPO", "DAPO")) else "changes"
gained = "A significant" if any(said[arm].sign > 0 for arm in best.values()) else "No significant"
tried_rates = latents.groupby("gradient")["lr"].unique()
chosen = "at the rate of each gradient that is best on validation"
if tried_rates.map(len).max() == 1:
    chosen = "at the one rate that was tried for each gradient"
tried_rates = "; ".join(
    f"{name.removeprefix('latents, ')} {', '.join(f'{r:g}' for r in some)}" for name, some in tried_rates.items()
)
in_words = "; ".join(
    f"{name.removeprefix('latents, ')} {judged(said[arm])}, minimum detectable effect {100 * said[arm].mde:.1f}, "
    f"{arms[arm]['dead_groups'].mean():.0%} dead groups, largest change of a weight {moved[arm]}"
    for name, arm in best.items()
)
say(f"""
- **A correctness reward alone raises accuracy.** GRPO takes greedy accuracy on unseen problems of four steps from
  {grpo.baseline_mean:.1%} to {grpo.arm_mean:.1%}: {grpo.say()}. With randomly permuted rewards it ends at
  {shuffled.arm_mean:.1%} ({judged(shuffled)}); with zero reward the weights do not change.
- **Accuracy on longer, unrewarded problems {drops}**: {listed(trained)}. With permuted rewards:
  {judged(beyond["shuffled"])}. GRPO against that control: {judged(control)}. So about half of the drop comes with training on
  answers of one's own, whatever they are paid.
- **A reward on all lengths does not keep the long ones.** Rewarded on problems of two to six steps, GRPO gains
  {judged(of_mixture(2))} on two steps, and {judged(of_mixture(6))} on six.
- Algorithms against GRPO, corrected for five comparisons: {listed(versus)}. DAPO against GRPO with two updates:
  {judged(second)}.
- **{gained} gain for latents** after 200 updates, {chosen} ({tried_rates}): {in_words}.
  With tokens the largest change of a weight was {moved["GRPO"]}.
""")

# %%
if complete:
    run.save_table(pd.DataFrame([row]))
    metrics |= {"grpo/gain": gain.effect, "grpo/gain_low": low, "grpo/gain_high": high}
    if not baseline and "rejection_sampling" in own.index:  # of the committed table
        metrics["grpo/accuracy_rejection_sampling"] = float(own.loc["rejection_sampling", "after"])
run.finish(metrics or {}, complete=complete)

# %% [markdown]
# ## Summary
#
# - GRPO samples a group of answers to each problem and compares each with its group; a critic is not needed, and groups whose
#   answers all earn the same teach nothing.
# - A reward for the right answer alone raises greedy accuracy on the rewarded length of problems by more than twenty points,
#   without a single chain being shown; permuted rewards take 7.6 points from it.
# - Accuracy on longer problems drops, also where they are rewarded beside short ones. Their chains keep the right number of
#   steps.
# - Rejection sampling on as many samples does as well as GRPO (+0.8 points, -0.1 to 1.7, five seeds): what wrong answers and
#   the comparison within a group add cannot be seen here.
# - With one update per batch, and answers that are all equally long (27 tokens for four steps), GRPO and Dr.GRPO are nearly
#   the same algorithm, and measure the same. DAPO ends 5.3 points above
#   GRPO; with two updates on a batch GRPO ends 4.1 above, and between the two no difference is found (-1.2 to 3.6).
#
# ## Exercises
#
# **1. Smaller groups.** Predict what share of the groups is dead with two and with four answers instead of eight.
#
# <details><summary>Solution</summary>
#
# Split the groups of the first batch into smaller ones:
#
# ```python
# from trm.grpo.loss import dead_groups
#
# for size in (2, 4, params.group_size):
#     print(size, f"{dead_groups(tried['rewards'].reshape(-1, size)).float().mean():.0%} dead")
# ```
#
# 64 %, 31 % and 12 % at the defaults. A problem that is answered right with probability $p$ has a dead group of $n$ with
# probability $p^n + (1 - p)^n$, which falls quickly with $n$ unless $p$ is near 0 or 1. With the same number of answers, larger
# groups mean fewer problems.
#
# </details>
#
# **2. Rewards without information.** With `reward` shuffled the rewards of a batch are permuted among its answers. Predict
# whether the weights move, and what happens to the accuracy.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/08_grpo.ipynb outputs/shuffled.ipynb -p reward shuffled -p baseline_algorithm ""
# ```
#
# In the committed table the largest change of a weight is half that of GRPO (0.0024 against 0.0052), fewer groups are dead
# (8 % against 21 %), and the accuracy ends at 47.3 % instead of 54.9 % at the beginning (-9.7 to -5.6 points, five seeds).
#
# </details>
#
# **3. Reward all lengths.** Rewarded on problems of two to six steps, does the model still lose accuracy on five and six steps?
# Predict, then train.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/08_grpo.ipynb outputs/mixture.ipynb -p min_steps 2 -p max_problem_steps 6 -p baseline_algorithm ""
# ```
#
# It does (arm `GRPO, 2 to 6 steps` of the committed table, five seeds): two steps gain 16.2 points (13.4 to 19.0), three gain
# 24.8 points (21.2 to 28.3), four gain 0.8 points (-1.2 to 2.9), but five lose 15.4 points (12.1 to 18.8) and six lose
# 8.3 points (3.7 to 12.9), although they are rewarded. A batch has few right answers to long problems, so that what suits the
# short ones may be reinforced most.
#
# </details>
#
# ## References
#
# - Z. Shao and others, [DeepSeekMath](https://arxiv.org/abs/2402.03300), 2024: GRPO.
# - Z. Liu and others, [Understanding R1-Zero-like training: a critical perspective](https://arxiv.org/abs/2503.20783), 2025:
#   Dr.GRPO, and the biases of GRPO's two normalisations.
# - Q. Yu and others, [DAPO: an open-source LLM reinforcement learning system at
#   scale](https://arxiv.org/abs/2503.14476), 2025: token-level averages, the higher clip, dynamic sampling.
# - J. Schulman and others, [Proximal policy optimization algorithms](https://arxiv.org/abs/1707.06347), 2017: the clipped
#   ratio.
# - H. Dong and others, [RAFT: reward ranked finetuning for generative foundation model
#   alignment](https://arxiv.org/abs/2304.06767), 2023: rejection sampling as a baseline.
# - J. Schulman, [Approximating KL divergence](https://joschu.net/blog/kl-approx.html), 2020: the estimator of the KL term.
