# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 06 · A recursive language model
#
# **Chain of thought buys accuracy with tokens. Can recursion buy it with depth?** The model of this chapter is a language model
# whose body is the recursion of a tiny recursive model: the same few blocks, with causal attention, refine a thought z_L and
# an answer z_H at every position, and a head reads the next token. It answers arithmetic stories of several steps at once,
# without writing a chain; it learns from stories of 2 to 6 steps and is tested on up to 9.
#
# An **arm** is one way to spend the same training compute: `recursive`; `last_only`, the same without deep supervision;
# `looped`, the same blocks applied as often, without z_H and z_L; `same_parameters`, the blocks once; `same_compute`, a plain
# transformer with as many blocks as the recursion applies; and `chain`, the blocks once, the chain of thought written out.

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
halting = "none"  # act: the expected loss over halting times
batch_size = 64  # examples per optimizer step (global batch size)
max_steps = 300  # optimizer steps; those of a named arm are scaled to equal FLOPs
lr = 0.003  # peak learning rate
seed = 0  # one seed for everything random

# %%
import pandas as pd
import torch

from trm import stats
from trm.language.stories import prompt
from trm.params import arm_names
from trm.plots import explore
from trm.progress import say
from trm.recursive_lm import figures, train
from trm.recursive_lm.params import RecursiveLM
from trm.run import ROOT, Run, write_atomically

params = RecursiveLM.from_notebook(globals())
run = Run(params, "06_recursive_lm")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The problems
#
# Stories that a program writes, each with one number for an answer. Which part a story belongs to follows from its arithmetic,
# so that none of the test is ever trained on, in whatever words. (`-p data text` reads ordinary text instead.)

# %%
data = train.load(params)
shown = [data.test[n][0] for n in sorted({params.min_steps, params.max_problem_steps, params.test_steps}) if data.test]
pd.set_option("display.max_colwidth", None)
stories = [
    {"steps": len(p.steps), "story": p.question, "chain": p.chain.replace(";", "; "), "answer": p.answer} for p in shown
]
pd.DataFrame(stories)

# %% [markdown]
# ## The model
#
# The token embeddings are taken, frozen, from the small language model that ships (`-p embeddings ""` learns them instead), so
# that no arm must find out anew which number is near which; that model had learned from chains, and all arms gain by it alike.
# What each arm has and does: its parameters, how often a token passes a block, and the steps of training that use equal FLOPs.
#
# Keys and values of finished positions are cached in generation, a set for each application of a block: attention is causal
# and the depth is fixed, so that no earlier state ever changes. Stopping early (`-p halting act`) therefore saves no time
# here: later positions look at the keys of all cycles.

# %%
arms = list(dict.fromkeys([params.arm, *arm_names(params.baseline_arm)]))
facts = {}
for arm in arms:
    own = params.of_arm(arm)
    model = train.make_model(own, data)
    passes = own.num_layers * (1 if own.body == "plain" else own.halt_max_steps * own.H_cycles * (own.L_cycles + 1))
    facts[arm or "as given"] = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "blocks passed": passes,
        "training steps": train.steps_of(params, data, arm),
    }
pd.DataFrame(facts).transpose()

# %% [markdown]
# ## Live: the arms at equal compute

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
    what = {"arm": one.arm, "seed": p.seed, "body": p.body, "H_cycles": p.H_cycles, "schedule": p.schedule, "lr": p.lr}
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
# In JupyterLab, choose another.

# %% tags=["widget"]
if results and data.test:
    some = (params.min_steps, params.test_steps, min(4, params.test_steps))
    explore(by_cycle, steps=some, story=(0, params.test_size - 1, 0))

# %% [markdown]
# ## The full comparison
#
# Three seeds per arm, equal compute, one learning rate (0.003) for all. The tables are committed; these commands make them
# again:
#
#     python -m trm.sweep run recursive_lm --scale laptop --jobs 2
#     python -m trm.sweep results recursive_lm --scale laptop --rows book/results/06_recursive_lm.csv
#     python -m trm.sweep results recursive_lm --scale laptop --rows book/results/06_recursive_lm_curves.csv --table curves

# %%
RESULTS, TRAINED = ROOT / "book" / "results", range(2, 7)  # steps of the problems in training
full = stats.read_table(RESULTS / "06_recursive_lm.csv")
full_curves = stats.read_table(RESULTS / "06_recursive_lm_curves.csv")
for part, lengths in (("2 to 6 steps", TRAINED), ("7 to 9 steps", range(7, 10))):
    full[part] = full[[f"accuracy/{n}" for n in lengths]].mean(axis=1)
    for H in (1, 2, 3, 4, 6, 9):
        full[f"{part}, cycles/{H}"] = full[[f"cycles_{H}/{n}" for n in lengths]].mean(axis=1)
full["4 to 9 steps"] = full[[f"accuracy/{n}" for n in range(4, 10)]].mean(axis=1)
cost = full.groupby("arm", sort=False)[["model/parameters", "flops/training", "train/steps"]].mean()
cost.join(stats.summary_table(full, ["2 to 6 steps", "7 to 9 steps"])).round(3)

# %% [markdown]
# ### Accuracy by the number of steps

# %%
figure = figures.steps(full, max(TRAINED))
run.save_figure(figure, "steps")

# %% [markdown]
# ### How fast it is learned

# %%
figure = figures.learning(full_curves)
run.save_figure(figure, "full_learning")

# %% [markdown]
# ### More cycles at test time than in training

# %%
parts = []
for part in ("2 to 6 steps", "7 to 9 steps"):
    names = {f"{part}, cycles/{H}": f"cycles/{H}" for H in (1, 2, 3, 4, 6, 9)}
    parts.append(full[["arm", "seed", *names]].rename(columns=names).assign(part=f"problems of {part}"))
figure = figures.cycles(pd.concat(parts), trained=3)
run.save_figure(figure, "cycles")

# %% [markdown]
# ### Deep supervision
#
# llm-trm promises of deep supervision of language models faster convergence, a lower final loss, and losses that fall from
# each H-cycle to the next.

# %%
figure = figures.losses(full, full_curves)
run.save_figure(figure, "losses")

# %% [markdown]
# ## Findings
#
# Each arm against `same_compute`, paired by seed, on problems of the trained lengths. (The p and intervals of this table are
# corrected for five comparisons, those in the sentences below are not.)

# %%
stats.compare_all(full, "2 to 6 steps", "same_compute").round(3)

# %%
trained = {
    arm: stats.compare(full, "2 to 6 steps", "recursive", arm) for arm in full["arm"].unique() if arm != "recursive"
}
hard = [stats.compare(full, "4 to 9 steps", "recursive", arm) for arm in trained]
longer = {arm: stats.compare(full, "7 to 9 steps", "recursive", arm) for arm in trained}
recursion = full[full["arm"] == "recursive"].set_index("seed")
more = stats.paired(recursion["2 to 6 steps, cycles/4"], recursion["2 to 6 steps"])
loss = stats.compare(full, "loss/3", "recursive", "last_only", ratio=True)
plain = trained["same_compute"]
say(f"""
- **No significant effect of recursion, and the comparison is at the floor.** On problems of four to nine steps the arms answer
  5 to 15 % right after 1,000 steps of training (or equal FLOPs), and their losses still fall. With three seeds the minimum
  detectable effect there is {100 * min(c.mde for c in hard):.0f} to {100 * max(c.mde for c in hard):.0f} points: an effect as
  large as the accuracy itself could have been missed.
- On problems of two to six steps, the trained lengths, the recursion answers {plain.arm_mean:.1%} right and plain blocks of
  equal compute, which have three times the parameters, {plain.baseline_mean:.1%}: {plain.say()}, not significant. Against the
  same blocks applied once: {trained["same_parameters"].say()}; in a loop: {trained["looped"].say()}.
- On problems longer than in training (seven to nine steps) it answers {longer["same_compute"].arm_mean:.1%}; against plain
  blocks of equal compute {longer["same_compute"].say()}, not significant.
- Against the same blocks with a written chain: {trained["chain"].say()}, not significant.
  The larger model of chapter 07 answers 98.8 % with its chain.
- Four H-cycles at test time instead of three: {more.say()} on the trained lengths, not significant. The mean is highest at the
  number of cycles in training, on longer problems too.
- Deep supervision: final test loss with it against without, {loss.say()}, and accuracy {trained["last_only"].say()}: no
  significant difference, and a gain of a tenth could have been missed. The share of the compute until the loss that both
  reach is 1.12 times (0.39 to 3.23, p = 0.69). The losses do fall from each H-cycle to
  the next in all three seeds.
""")

# %%
metrics = {
    f"{one.arm}/{key}": value for one in results for key, value in one.metrics.items() if key.startswith("test/")
}
metrics |= {name: value for name, value in results[0].metrics.items() if value is not None} if results else {}
for one in results if data.test else []:
    name = "recursive_lm/accuracy" + ("" if one.arm == "recursive" else f"_{one.arm}")
    metrics[name] = [one.metrics[f"accuracy/{n}"] for n in data.test]
run.finish(metrics, complete=complete)
