# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 06 · A recursive language model
#
# **A chain of thought makes a language model more accurate at the cost of the tokens that it writes. Can recursion give the
# same accuracy by depth, with nothing written?**
#
# ## What you will learn
#
# - how the recursion of a tiny recursive model becomes the body of a causal language model;
# - three ways to be deep: recursion with two states, the same blocks in a loop, and plain blocks in a row;
# - how arms are compared at equal training compute, and what a written chain costs instead of depth;
# - what happens when a trained model is given more loops at test time than in training.
#
# The chapter trains two arms at its defaults, and takes about a minute in all. It is also
# the program of the comparison below:
#
#     papermill book/06_recursive_lm.ipynb outputs/06_recursive_lm.ipynb -p arm looped -p baseline_arm chain
#
# An **arm** is one way to use the same training compute:
#
# | arm | body | learns from |
# |---|---|---|
# | `recursive` | recursion over z_H and z_L | a loss after every H-cycle (deep supervision) |
# | `last_only` | the same | a loss after the last H-cycle alone |
# | `looped` | the same blocks, applied as often, without z_H and z_L | a loss after every H-cycle |
# | `random_loops` | the same, with a number of loops drawn for each batch | a loss after every loop |
# | `same_parameters` | the blocks once | one loss |
# | `same_compute` | as many blocks as the recursion applies, each with its own weights | one loss |
# | `chain` | the blocks once; the chain of thought is written before the answer | one loss |

# %% tags=["parameters"]
data = "arithmetic"  # problems with one answer, or ordinary text
max_problem_steps = 6  # most steps of a problem in training
test_steps = 9  # most steps of a problem in the test
embeddings = "shipped"  # model whose token embeddings are taken, frozen: a name, path or shipped; empty: learned
arm = "recursive"  # what is trained (`trm params 06` lists the arms); empty: what the parameters describe
baseline_arm = "same_compute"  # a list of more arms, trained at equal compute; empty: none
hidden_size = 64  # width D
H_cycles = 3  # answers in a supervision step
L_cycles = 1  # latent steps before each answer
schedule = "linear"  # weights over the H-cycles: deep supervision; none: the last alone
batch_size = 64  # examples per optimizer step (global batch size)
max_steps = 300  # optimizer steps; those of a named arm are scaled to equal FLOPs
lr = 0.003  # peak learning rate
seed = 0  # one seed for everything random

# %%
import numpy as np
import pandas as pd
import torch

from trm import stats
from trm.language.stories import prompt
from trm.plots import explore
from trm.progress import say
from trm.recursive_lm import figures, train
from trm.recursive_lm.params import RecursiveLM
from trm.run import ROOT, Run, write_atomically
from trm.training_params import arm_names

params = RecursiveLM.from_notebook(globals())
run = Run(params, "06_recursive_lm")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The problems
#
# Stories that a program writes, each with one number for an answer; a **step** is one sentence that changes the number. Which
# part a story belongs to follows from its arithmetic, so that none of the test is ever trained on, in whatever words. The test
# also has problems of more steps than any in training. (`-p data text` reads ordinary text instead.)

# %%
data = train.load(params)
shown = [data.test[n][0] for n in sorted({params.min_steps, params.max_problem_steps, params.test_steps}) if data.test]
pd.set_option("display.max_colwidth", None)
stories = [
    {"steps": len(p.steps), "story": p.question, "chain": p.chain.replace(";", "; "), "answer": p.answer} for p in shown
]
pd.DataFrame(stories)

# %% [markdown]
# The model reads the story and must write the answer at once: to do so it has to carry out all steps inside. With its chain
# it writes one step after another, and each needs only the result before it.
#
# ## The model
#
# A causal transformer maps the embedded tokens $x_1, \dots, x_i$ to a state at position $i$, from which a linear head predicts
# token $i + 1$. Here $f_\theta$ is a stack of `num_layers` blocks (attention to earlier positions, then a SwiGLU), and the
# three bodies differ in how they apply it. The **recursion** of chapter 04 keeps two states at every position:
#
# $$z_L \leftarrow f_\theta(z_L + z_H + x) \quad (n \text{ times}), \qquad z_H \leftarrow f_\theta(z_H + z_L),$$
#
# with $n$ = `L_cycles`, and all that $T$ = `H_cycles` times. A **loop** has one state, $z \leftarrow f_\theta(z + x)$, applied
# $T (n + 1)$ times. A **plain** body applies blocks in a row, each with weights of its own. The states begin as fixed random
# vectors (the loop's as zero), and gradients flow through all $T$ H-cycles.

# %%
from trm.teaching import diagram, show_source

boxes, arrows = {}, []
bodies = {
    "recursive": ["$z_L$", "$z_H$"] * 3,
    "looped": ["$z$"] * 6,
    "plain, same compute": ["$f_1$", "$f_2$", "$f_3$", "$f_4$", "$f_5$", "$f_6$"],
    "plain, with its chain": ["8+4", "=12;", "12*2", "=24;", "</think>", "24"],
}
for row, (body, texts) in enumerate(bodies.items()):
    boxes[body] = (-1.1, -row, body, "")
    for i, text in enumerate(texts):
        shared = row != 2
        boxes[f"{row}{i}"] = (i + 0.4, -row, text if row > 1 else rf"$f_\theta$: {text}", "net" if row < 3 else "data")
        arrows += [(f"{row}{i - 1}", f"{row}{i}")] if i else []
    boxes[f"{row}"] = (6.6, -row, "answer", "loss")
    arrows.append((f"{row}5", f"{row}"))
figure = diagram(boxes, arrows, (9, 3.2))
run.save_figure(figure, "diagram")

# %% [markdown]
# Each orange box is one pass of a position through a block: six in a row for the first three bodies. The fourth has one block,
# which every token passes once (grey boxes are tokens that it writes), so that its depth lies in the text. The code of
# the first three:

# %%
from trm.recursive_lm.model import RecursiveLanguageModel

show_source(RecursiveLanguageModel.think)

# %% [markdown]
# The token embeddings are taken, frozen, from the small language model that ships (`-p embeddings ""` learns them instead), so
# that no arm must find out anew which number is near which; that model had learned from chains, and all arms gain by it alike.
#
# Keys and values of finished positions are cached in generation, a set for each application of a block: attention is causal
# and the depth is fixed, so that no earlier state ever changes. Stopping early at some positions would save no time here:
# later ones look at the keys of all cycles.
#
# ## The loss
#
# Every arm learns the tokens of the completion (answer and end; before them the chain, where it has one) by cross-entropy. With
# $w_i$ one for these tokens and zero for the others, $p_t(y_i)$ the probability of token $i$ read after H-cycle $t$, and $s_t$
# the weights of `schedule`,
#
# $$\mathcal{L} = \sum_i \frac{w_i}{\sum_j w_j} \sum_{t=1}^{T} \frac{s_t}{\sum_u s_u} \big(-\log p_t(y_i)\big).$$
#
# For `linear` with $T = 3$ the normalised weights are 1/9, 2/9 and 2/3 (chapter 02); with one answer the inner sum is one term.

# %%
show_source(RecursiveLanguageModel.supervised_loss)

# %% [markdown]
# ## Equal compute
#
# All arms get as many training FLOPs as `max_steps` steps of the model that the parameters describe, so an arm whose step is
# cheaper takes more steps:

# %%
show_source(train.steps_of)

# %% [markdown]
# ### Worked example: parameters and passes
#
# With the defaults $D = 64$, frozen embeddings of 192 numbers, a vocabulary of 572, and a SwiGLU whose inner width is 88 (two
# thirds of twice $D$, rounded up to a multiple of 8):
#
# | part | weights | number |
# |---|---|---|
# | projection of the embeddings | 192 · 64 | 12,288 |
# | attention: queries, keys, values, output | 64 · 192 + 64 · 64 | 16,384 |
# | SwiGLU | 64 · 176 + 88 · 64 | 16,896 |
# | output head | 64 · 572 | 36,608 |
# | **recursion, in all** | | **82,176** |
# | plain, six blocks | 82,176 + 5 · 33,280 | **248,576** |
#
# A token of the recursion passes the block 3 · (1 + 1) = 6 times, with 6 · 33,280 = 199,680 multiplications by its weights; so
# it does in the plain model of equal compute, which has three times the parameters. A chain of $k$ steps is $6k + 3$ tokens
# long with its answer: for six steps 39 passes of one block, in sequence, where the recursion has six for each of its two
# tokens. The next cell counts the same in the models.

# %%
arms = list(dict.fromkeys([params.arm, *arm_names(params.baseline_arm)]))
facts = {}
for arm in arms:
    own = params.of_arm(arm)
    model = train.make_model(own, data)
    passes = own.num_layers * (1 if own.body == "plain" else own.H_cycles * (own.L_cycles + 1))
    facts[arm or "as given"] = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "blocks passed": passes,
        "training steps": train.steps_of(params, data, arm),
    }
first = train.make_model(params, data)
print(f"one block has {sum(p.numel() for p in first.blocks[0].parameters()):,} weights")
pd.DataFrame(facts).transpose()

# %% [markdown]
# ## Training
#
# Each arm trains with the same seed, batches and learning rate; its best weights by the validation problems are tested.

# %%
results = []
for arm in arms:
    result = train.train_arm(params, data, run, arm, figures.progress)
    if result is None:
        break
    results.append(result)
    headline = "test/loss" if data.texts else "test/exact_accuracy"
    seconds = result.metrics["train/seconds"]
    print(f"{result.arm}: {headline} {result.metrics[headline]:.4f}, {seconds:.0f} s of training")
complete = len(results) == len(arms)
table = []
for one in results:
    p = one.params
    what = {"arm": one.arm, "seed": p.seed, "body": p.body, "max_problem_steps": p.max_problem_steps}
    what |= {"H_cycles": p.H_cycles, "schedule": p.schedule, "lr": p.lr}
    table.append(what | one.metrics)
rows = pd.DataFrame(table)
names = ("step", "train/seconds", "valid/exact_accuracy", "valid/loss")
points = [pd.DataFrame(one.curve(**dict(zip(names, names)))).assign(arm=one.arm, seed=one.seed) for one in results]
curves = pd.concat(points) if points else pd.DataFrame()

# %%
if results:
    share = curves["step"] / curves.groupby("arm")["step"].transform("max")
    curves = curves.assign(minutes=curves["train/seconds"] / 60, compute=share)
    curves = curves[["arm", "seed", "minutes", "compute", "valid/exact_accuracy", "valid/loss"]]
    run.save_table(rows)
    run.save_table(curves, "curves")
    figure = figures.learning(curves)
    run.save_figure(figure, "learning")
if params.table and complete:
    write_atomically(ROOT / params.table, rows.to_csv(index=False, float_format="%.6g"))

# %% [markdown]
# Left: accuracy after so few steps is low and noisy (250 problems, so that a point has a standard error of about 1.6 points).
# Right: the loss is the clearer measure. Both arms still learn when the budget ends, and the plain blocks, which have three
# times the parameters, learn faster from the same compute.
#
# ## One story, cycle by cycle
#
# What the first arm would answer after each H-cycle: the three most likely tokens. More cycles than in training are tried too.


# %%
@torch.no_grad()
def by_cycle(steps=4, story=0):
    problem, model = data.test[steps][story % len(data.test[steps])], results[0].model
    ids = data.tokenizer.encode(prompt(problem, thinking=False), add_special_tokens=False, return_tensors="pt")
    tokens = []
    for z in model.think(ids.to(model.device), H_cycles=2 * params.H_cycles):  # (1, T, D) after each cycle
        best = model.lm_head(z[0, -1]).float().softmax(-1).topk(3)
        texts = [data.tokenizer.decode([token]) for token in best.indices.tolist()]
        texts = [text if text.isprintable() and "\ufffd" not in text else "?" for text in texts]
        tokens.append(list(zip(texts, best.values.tolist())))
    return figures.top_tokens(problem, tokens, params.H_cycles)


if results and data.test:
    figure = by_cycle(min(4, params.test_steps))
    run.save_figure(figure, "top_tokens")

# %% [markdown]
# Green is the right answer. At the defaults the distribution stays broad in every cycle, with probabilities of a few per cent
# on numbers of about the right size: the model has learned which numbers are likely, and not yet to compute. Right of the
# dotted line, where it is given more cycles than in training, the numbers drift.
#
# In JupyterLab, choose another.

# %% tags=["widget"]
if results and data.test:
    some = (params.min_steps, params.test_steps, min(4, params.test_steps))
    explore(by_cycle, steps=some, story=(0, params.test_size - 1, min(1, params.test_size - 1)))

# %% [markdown]
# ## The full comparison
#
# All arms at equal compute, on problems of one to four steps in training and one to six in the test: three seeds of the
# recursion, of plain blocks of equal compute and of the chain, one of the others. The rates were chosen on the validation part,
# after a tenth of the training and with another seed (`trm sweep run recursive_lm_rates`); the loop was tried at two:

# %%
RESULTS = ROOT / "book" / "results"
rates = stats.read_table(RESULTS / "06_rates.csv", ["arm", "lr", "valid/exact_accuracy", "valid/loss"])
rates.pivot(index="lr", columns="arm", values="valid/exact_accuracy")

# %% [markdown]
# The recursion, plain blocks and the chain train with 0.0015, loops with 0.003. (`last_only` and `same_parameters` have 0.0015
# too, the best of the arms most like them, and `random_loops` 0.003.)
#
#     trm sweep run recursive_lm --scale laptop --jobs 2
#     trm sweep results recursive_lm --scale laptop --rows book/results/06_recursive_lm.csv
#     trm sweep results recursive_lm --scale laptop --rows book/results/06_recursive_lm_curves.csv --table curves

# %%
full = stats.read_table(RESULTS / "06_recursive_lm.csv", ["arm", "seed", "max_problem_steps", "loss/1"])
full_curves = stats.read_table(RESULTS / "06_recursive_lm_curves.csv")
most = int(full["max_problem_steps"].iloc[0])  # steps of the longest problems in training
lengths = sorted(int(name.split("/")[1]) for name in full if name.startswith("accuracy/"))
loops = sorted({int(name.split("/")[0].removeprefix("cycles_")) for name in full if name.startswith("cycles_")})


def span(some):
    return f"{some[0]} to {some[-1]} steps"


kinds = [n for n in lengths if n <= most], [n for n in lengths if n > most]
TRAINED, LONGER = map(span, kinds)
for part, some in zip((TRAINED, LONGER), kinds):
    full[part] = full[[f"accuracy/{n}" for n in some]].mean(axis=1)
    for H in loops:
        full[f"{part}, cycles/{H}"] = full[[f"cycles_{H}/{n}" for n in some]].mean(axis=1)
cost = full.groupby("arm", sort=False)[["model/parameters", "flops/training", "train/steps"]].mean()
cost.join(stats.summary_table(full, [TRAINED, LONGER])).round(3)

# %% [markdown]
# ### Accuracy by the number of steps

# %%
figure = figures.steps(full, most)
run.save_figure(figure, "steps")

# %% [markdown]
# The chain answers nearly every problem of the lengths in training, and almost none beyond them (grey). The other arms fall
# with each further step and go on falling at five and six without a break. Plain blocks of equal compute lie above the
# recursion up to five steps, with three times its parameters. Of five and six steps the loop whose number of passes was drawn
# in training answers most. (Bars: one standard deviation over three seeds; arms without bars have one seed.)
#
# ### How fast it is learned

# %%
figure = figures.learning(full_curves)
run.save_figure(figure, "full_learning")

# %% [markdown]
# One line per seed. The chain's loss is low because most of its tokens are copied or follow from one sum; its accuracy is
# comparable, its loss is not. Halfway it has learned nearly all; the others still rise until the learning rate, a cosine,
# brings them to rest.
#
# ### More loops at test time than in training
#
# The weights are the same in every cycle, so that a model can be given more cycles than it was trained with. Each arm that
# loops was tested with several numbers of H-cycles; `same_compute` and the chain have none. (Bars: one standard deviation.)

# %%
parts = []
for part in (TRAINED, LONGER):
    names = {f"{part}, cycles/{H}": f"cycles/{H}" for H in loops}
    parts.append(full[["arm", "seed", *names]].rename(columns=names).assign(part=f"problems of {part}"))
trained_cycles = int(full["H_cycles"].iloc[0])
figure = figures.cycles(pd.concat(parts), trained_cycles)
run.save_figure(figure, "cycles")

# %% [markdown]
# The dotted line is the number of cycles in training. The recursion requires just as many: with a fourth cycle about half of
# its right answers are lost, with six nearly all. The loop adds the same $x$ before every pass, and keeps most of its answers
# up to 64 cycles: its state has come to rest. Where the number was drawn in training (one to five), next to nothing is lost,
# and problems of five and six steps are answered better than by any other arm. But nothing is gained by more cycles than three
# either: the loop stops changing, it does not go on computing. (`looped` and `random_loops` are one seed each.)

# %%
reached = {}
for arm in full.loc[full[f"{TRAINED}, cycles/{trained_cycles}"].notna(), "arm"].unique():
    part = full[full["arm"] == arm]
    reached[arm] = {H: part[f"{TRAINED}, cycles/{H}"].mean() for H in loops}
pd.DataFrame(reached).rename_axis(f"H-cycles; {TRAINED}").T.round(3)

# %% [markdown]
# ### Deep supervision
#
# SonarRecursiveModel promises of deep supervision of language models faster convergence, a lower final loss, and losses that
# fall from each H-cycle to the next.

# %%
figure = figures.losses(full, full_curves)
run.save_figure(figure, "losses")

# %% [markdown]
# Left: with a loss after every cycle the first answers can be used; without, they cannot, and the last cycle makes up for it.
# Right: validation loss in training, one line per seed.
#
# ## Findings
#
# Each arm against `same_compute`, paired by seed, on problems of the trained lengths. The p and intervals of this table are
# corrected for the number of arms, those in the sentences below are not.

# %%
stats.compare_all(full, TRAINED, "same_compute").round(3)

# %%
means = full.groupby("arm", sort=False)[[TRAINED, LONGER, "train/steps", "model/parameters"]].mean()


def both(metric, arm):
    """Seeds of the recursion and of `arm` that both have: two series, indexed by seed."""
    one, other = (stats.by_seed(full, metric, name) for name in ("recursive", arm))
    return one[one.index.isin(other.index)], other[other.index.isin(one.index)]


def judged(found):
    return found.say() + ("" if found.significant else ", not significant")


def versus(metric, arm, **options):
    """The recursion against `arm` in words; of one seed the two numbers alone."""
    one, other = both(metric, arm)
    if len(one) < 2:
        form = ".3g" if options else ".1%"
        return f"{one.mean():{form}} against {other.mean():{form}} (one seed)"
    return judged(stats.paired(one, other, **options))


def compute_to(runs, loss):
    """Share of the training's compute until the validation loss of a run is `loss`, between evaluations linearly."""
    lowest = np.minimum.accumulate(runs["valid/loss"])
    return np.interp(-loss, -lowest, runs["compute"])


plain = stats.paired(*both(TRAINED, "same_compute"))
share = {"recursive": {}, "last_only": {}}
for seed in both(TRAINED, "last_only")[0].index:
    pair = {arm: full_curves[(full_curves["arm"] == arm) & (full_curves["seed"] == seed)] for arm in share}
    loss = max(runs["valid/loss"].min() for runs in pair.values())
    for arm, runs in pair.items():
        share[arm][seed] = compute_to(runs, loss)
share = [pd.Series(one) for one in share.values()]
faster = (
    stats.paired(*share, ratio=True).say()
    if len(share[0]) > 1
    else f"{(share[0] / share[1]).mean():.2f} times (one seed)"
)
recursion = full[full["arm"] == "recursive"].set_index("seed")
next_cycle = loops[loops.index(trained_cycles) + 1]
more = stats.paired(recursion[f"{TRAINED}, cycles/{next_cycle}"], recursion[f"{TRAINED}, cycles/{trained_cycles}"])
by_cycle_loss = recursion[[f"loss/{i + 1}" for i in range(trained_cycles)]]
falling = int((by_cycle_loss.diff(axis=1).iloc[:, 1:] < 0).all(axis=1).sum())
beyond = stats.compare(full, LONGER, "chain", "recursive")
say(f"""
- **Plain blocks of equal compute learn more than the recursion.** On problems of {TRAINED}, the trained lengths, the recursion
  answers {plain.arm_mean:.1%} right and plain blocks, which have
  {means.loc["same_compute", "model/parameters"] / means.loc["recursive", "model/parameters"]:.1f} times the parameters,
  {plain.baseline_mean:.1%}: {judged(plain)}; the minimum detectable effect is {100 * plain.mde:.0f} points. On longer problems
  ({LONGER}): {versus(LONGER, "same_compute")}.
- At equal parameters depth pays: the recursion against the same block applied once, {versus(TRAINED, "same_parameters")};
  against the same block in a loop, {versus(TRAINED, "looped")}.
- **A written chain is ahead on the trained lengths and does not reach beyond them.** The recursion against the chain:
  {versus(TRAINED, "chain")}. On longer problems the chain answers {beyond.arm_mean:.1%} and the recursion
  {beyond.baseline_mean:.1%}: {judged(beyond)}.
- {next_cycle} H-cycles at test time instead of {trained_cycles}: {judged(more)}, on the trained lengths.
- Deep supervision: final test loss with it against without, {versus(f"loss/{trained_cycles}", "last_only", ratio=True)}, and
  accuracy {versus(TRAINED, "last_only")}. The share of the compute until the loss that both reach: {faster}. The losses fall
  from each H-cycle to the next in {falling} of {len(recursion)} seeds.
""")

# %% [markdown]
# Two studies of larger scope agree with the direction of these numbers. Rauba and others transform a transformer step by step
# into an autoregressive TRM and find, at equal compute on character-level tasks, that the full TRM brings no reliable gain,
# while some simpler models with two-level refinement do well. Schwethelm and others fit language-model losses over 1 to 8
# recurrences: parameters applied $r$ times count as $r^{0.46}$ times as many, more than once but less than $r$ unique
# blocks of equal training compute. Both are in the references.

# %%
metrics = {
    f"{one.arm}/{key}": value for one in results for key, value in one.metrics.items() if key.startswith("test/")
}
metrics |= {name: value for name, value in results[0].metrics.items() if value is not None} if results else {}
for one in results if data.test else []:
    name = "recursive_lm/accuracy" + ("" if one.arm == "recursive" else f"_{one.arm}")
    metrics[name] = [one.metrics[f"accuracy/{n}"] for n in data.test]

# Arms that this run has not trained come from the committed table.
own = {one.arm: one.metrics for one in results}
own_lengths = (
    [n for n in data.test if n <= params.max_problem_steps],
    [n for n in data.test if n > params.max_problem_steps],
)
endings = {"recursive": "", "same_compute": "_plain", "chain": "_chain"}
for part, column, some in zip(("trained_lengths", "longer"), (TRAINED, LONGER), own_lengths):
    for arm, ending in endings.items() if some else ():
        if arm in own:
            metrics[f"recursive_lm/accuracy_{part}{ending}"] = float(np.mean([own[arm][f"accuracy/{n}"] for n in some]))
        elif arm in means.index:
            metrics[f"recursive_lm/accuracy_{part}{ending}"] = float(means.loc[arm, column])
run.finish(metrics, complete=complete)

# %% [markdown]
# ## Summary
#
# - A recursive language model is a causal transformer whose few blocks are applied again and again at every position, with two
#   states. Keys and values can be cached, because its depth is fixed.
# - On problems of one to four steps, the lengths in training, plain blocks of equal compute answer
#   93.9 % and the recursion 82.5 % with a third of their parameters
#   (-11.3 points, -17.9 to -4.7, three seeds).
# - A chain moves the depth into the text, and is paid at test time, in tokens. Here the same block with
#   the chain answers 99.2 % of these lengths and 2.1 % of longer problems, of which the recursion answers 22.5 %.
# - More H-cycles than in training break the recursion. A loop keeps most of its answers, and one whose number of passes was
#   drawn in training keeps them up to 64 cycles and is the best on longer problems (one seed).
#
# ## Exercises
#
# **1. Draw the number of loops.** `looped` is trained with three H-cycles always, `random_loops` with one to five, three on
# average. Predict which of them loses less from three cycles to nine at test time; then train both.
#
# <details><summary>Solution</summary>
#
# ```
# papermill book/06_recursive_lm.ipynb outputs/loops.ipynb -p arm random_loops -p baseline_arm looped
# ```
#
# With the defaults (one run each) `looped` answers 3.5 % with any number of cycles, `random_loops` 5.1 % with one, 4.0 % with
# three and 4.4 % with nine. Neither loses anything, but after 300 steps neither has anything to lose: they guess likely
# numbers. In the comparison above, after 10,000 steps, the loop with a fixed number loses a few points and the other none. The
# numbers of your own run:
#
# ```python
# for one in results:
#     some = [H for H in params.cycles if f"cycles_{H}/{params.min_steps}" in one.metrics]
#     by_loops = {H: np.mean([one.metrics[f"cycles_{H}/{n}"] for n in data.test]) for H in some}
#     print(one.arm, {H: f"{accuracy:.1%}" for H, accuracy in by_loops.items()})
# ```
#
# </details>
#
# **2. Another shape of the same depth.** With `H_cycles` 2 and `L_cycles` 2 the block is applied 2 · (2 + 1) = 6 times, too.
# Predict how many blocks `same_compute` has then, and whether it takes as many steps as before.
#
# <details><summary>Solution</summary>
#
# ```python
# other = params.model_copy(update={"H_cycles": 2, "L_cycles": 2})
# print(other.of_arm("same_compute").num_layers, "blocks;", train.steps_of(other, data, "same_compute"), "steps")
# ```
#
# Six blocks again; with the defaults 302 steps instead of 304. The recursion reads two answers instead of three in a step, so
# its step is cheaper by one output head, and the plain arm gets a little less compute.
#
# </details>
#
# **3. The length of a chain.** A chain of six steps is 39 tokens long with its answer and end. Predict the length for twenty
# steps, and how many H-cycles the recursion would need for as many passes of its block at one position.
#
# <details><summary>Solution</summary>
#
# ```python
# from itertools import islice
#
# from trm.language.stories import completion, problems
#
# for n in (2, 6, 20):
#     some = islice(problems("test", 0, n, n), 20)
#     print(n, {len(data.tokenizer(completion(p, True), add_special_tokens=False)["input_ids"]) for p in some})
# ```
#
# 15, 39 and 123 tokens: six for a step (number, sign, number, equals, result, semicolon), and three for `</think>`, the answer
# and the end. 123 passes are 62 H-cycles of one latent update each.
#
# </details>
#
# ## References
#
# - A. Jolicoeur-Martineau, [Less is more: recursive reasoning with tiny networks](https://arxiv.org/abs/2510.04871), 2025: the
#   recursion.
# - M. Dehghani and others, [Universal transformers](https://arxiv.org/abs/1807.03819), 2018: a transformer's block in a loop.
# - J. Geiping and others, [Scaling up test-time compute with latent reasoning: a recurrent depth
#   approach](https://arxiv.org/abs/2502.05171), 2025: a looped language model whose number of loops is drawn in training.
# - J. Wei and others, [Chain-of-thought prompting elicits reasoning in large language
#   models](https://arxiv.org/abs/2201.11903), 2022: the chain.
# - P. Rauba, C. Fanconi, M. van der Schaar, [Tiny autoregressive recursive models](https://arxiv.org/abs/2603.08082), 2026: the
#   steps from a transformer to an autoregressive TRM at equal compute.
# - K. Schwethelm, D. Rückert, G. Kaissis, [How much is one recurrence worth?](https://arxiv.org/abs/2604.21106), 2026: the
#   exponent of recurrence in language models.
