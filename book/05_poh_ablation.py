# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 05 · Pointer-over-Heads
#
# **Does a parser get better with iterations, and what makes it?** A dependency parser predicts for each word of a sentence
# which other word it depends on, and how. This one has a block of attention that is applied again and again, and a
# controller that weights its heads anew for each word in each iteration. PoT, the project this chapter follows, compares two
# hypotheses: **H0**, the task is too simple for iterations to help; **H1**, they lacked a training signal, and *deep
# supervision*, a loss after every iteration, brings it.
#
# An **arm** is one way to train, or one replacement of the block: `one_iteration`, `standard` (a loss on the last
# iteration), `deep_supervision`, `act_halting` (the expected loss over halting times), `both`; and as baselines `encoder`
# (nothing in its place), `layer` (one plain layer with as many parameters), `untied` (as many plain layers as iterations)
# and `transformer` (plain layers alone). Steps are scaled so that all arms use equal FLOPs.

# %% tags=["parameters"]
conllu_dir = ""  # folder or file of CoNLL-U, or hub:CONFIG; empty: the shipped grammar
train_size = 0  # sentences to train on; 0: all
arm = ""  # what is trained (`trm params 05` lists the arms); empty: what the parameters say
baseline_arm = "deep_supervision"  # a second arm, at equal compute; empty: none
max_inner_iters = 3  # iterations of the block
deep_supervision = False  # a loss after every iteration
schedule = "ramp"  # loss weights over the iterations
supervision_weight = 0.5  # weight of the iterations before the last
act_halting = False  # expected loss over halting times (differentiable halting)
ponder_coef = 0.001  # ponder cost per expected iteration in act_halting
halting_mode = "fixed"  # when a parsed sentence stops
controller = "static"  # head weights from the state, or from a GRU
hidden_size = 64  # width D
epochs = 20.0  # passes over the training part; a named arm gets as much compute
seed = 0  # one seed for everything random

# %%
from trm.parsing.params import Parsing
from trm.run import ROOT, Run, write_atomically

params = Parsing.from_notebook(globals())
run = Run(params, "05_poh_ablation")
print(f"run {run.id} in {run.dir}")

# %% [markdown]
# ## The treebank
#
# Sentences with their trees. Without files they come from a small grammar whose trees take more than a look at the
# neighbours: clauses part a subject from its verb, and where a clause stands at the end, its verb tells whose it is. Of a real
# treebank, give the folder (`-p conllu_dir ud_ewt`) or a name of the hub (`-p conllu_dir hub:en_ewt`).

# %%
import numpy as np
import pandas as pd

from trm.parsing import train as job
from trm.parsing.treebank import PARTS

data = job.load_data(params)
lengths = {part: [len(s.words) for s in getattr(data.treebank, part)] for part in PARTS}
facts = {
    part: {
        "sentences": len(lengths[part]),
        "words": sum(lengths[part]),
        "longest": max(lengths[part]),
        "projective trees": f"{np.mean([s.is_projective for s in getattr(data.treebank, part)]):.0%}",
        "also in train": data.treebank.shared().get(part, ""),
    }
    for part in PARTS
}
for what in data.treebank.skipped[:3]:
    print("left out:", what)
if len(data.treebank.skipped) > 3:
    print(f"and {len(data.treebank.skipped) - 3} more")
print(f"{len(data.vocabulary.words):,} words that occur twice or more, {len(data.vocabulary.labels)} labels")
pd.DataFrame(facts).transpose()

# %% [markdown]
# A sentence of the test part and its tree. An arc leads from a head to what depends on it.

# %%
import matplotlib.pyplot as plt

from trm.parsing import figures

shown = next((i for i, s in enumerate(data.treebank.test) if 9 <= len(s.words) <= 14 and not s.is_projective), 0)
sentence = data.treebank.test[shown]
figure, ax = plt.subplots(figsize=(9, 3))
figures.draw_arcs(ax, sentence.words, sentence.heads, sentence.labels, sentence.heads)
run.save_figure(figure, "tree")

# %% [markdown]
# ## The model
#
# Each word is the sum of its embedding and those of its prefixes and suffixes; gated convolutions see its neighbours. Then the
# block: every head attends, the controller weights the heads for each word, and the output is the next input (with
# `input_injection` the words are added to it again). After each
# iteration the same biaffine scorer gives the tree (the best one with a single root, exactly).

# %%
model = job.make_parser(job.arm_params(params, params.arm), data)
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
pd.Series(sizes, name="parameters").rename_axis("part").to_frame().transpose()

# %% [markdown]
# ## Live: two arms
#
# The arm that the parameters describe, and another with the same compute: steps are scaled so that both use equal FLOPs.
# The weights are averaged (EMA); those with the best LAS on dev are evaluated on test.

# %%
results = {}
arms = list(dict.fromkeys([params.arm, params.baseline_arm] if params.baseline_arm else [params.arm]))
for arm in arms:
    result = job.train_arm(params, data, run, arm, figures.progress)
    if result is None:
        break
    results[result.arm] = result
    print(f"{result.arm}: UAS {result.metrics['test/uas']:.2%}, LAS {result.metrics['test/las']:.2%} on test, "
          f"{result.metrics['train/epochs']:.1f} epochs, {result.metrics['train/seconds']:.0f} s")  # fmt: skip
complete = len(results) == len(arms)

# %%
if results:
    rows = pd.DataFrame([job.arm_row(result) for result in results.values()])
    curves = pd.DataFrame([point for result in results.values() for point in job.arm_curve(result)])
    sentences = pd.concat([r.evaluation.by_sentence().assign(arm=r.arm, seed=r.seed) for r in results.values()])
    run.save_table(rows)
    run.save_table(curves, "curves")
    run.save_table(sentences[["arm", "seed", "sentence", "right", "words"]], "sentences")
    figure = figures.learning_curves(curves.assign(seconds=60 * curves["minutes"]), "seconds")
    run.save_figure(figure, "learning")
if params.table and complete:
    path = ROOT / params.table
    write_atomically(path, rows.to_csv(index=False, float_format="%.6g"))
    write_atomically(path.with_name(f"{path.stem}_curves.csv"), curves.to_csv(index=False, float_format="%.6g"))

# %% [markdown]
# What each iteration adds. An arm without a loss on its early iterations is evaluated there too, by the same scorer.

# %%
if results:
    figure = figures.by_iteration(rows)
    run.save_figure(figure, "live_iterations")

# %% [markdown]
# Which arcs gain? The longer an arc, the further a word must look.

# %%
if results:
    figure = figures.by_distance(rows)
    run.save_figure(figure, "live_distance")

# %% [markdown]
# ## One sentence, iteration by iteration
#
# The tree after each iteration (green: right; red: wrong, the right arc dotted), the attention of the heads as the controller
# weights them, and those weights.

# %%
from trm.parsing.evaluate import entropy_threshold, evaluate, sentence_interval, speed, trace

routed = next((r for r in reversed(list(results.values())) if r.model.config.block == "pointer"), None)
if routed:
    traced = trace(routed.model, data.encoded["test"][shown])
    figure = figures.iterations_of_sentence(sentence.words, sentence.heads, traced)
    figure.suptitle(routed.arm, y=1.01)
    run.save_figure(figure, "iterations")

# %% [markdown]
# What the heads do in each iteration, over the first 300 test sentences: the controller's weight, the attention to the word
# that is the head in the gold tree (roots left out), and how far a head looks.

# %%
from trm.parsing.evaluate import heads_table

if routed:
    table = heads_table(routed.model, data.treebank.test[:300], data.encoded["test"][:300])
    figure = figures.heads(table)
    run.save_figure(figure, "heads")

# %% [markdown]
# In JupyterLab, choose another sentence.

# %% tags=["widget"]
import ipywidgets

from trm.plots import explore

short = [i for i, s in enumerate(data.treebank.test) if 5 <= len(s.words) <= 16][:200] or [0]


def draw(which):
    one = data.treebank.test[short[which]]
    return figures.iterations_of_sentence(one.words, one.heads, trace(routed.model, data.encoded["test"][short[which]]))


if routed:
    explore(draw, which=ipywidgets.IntSlider(0, 0, len(short) - 1, description="sentence"))

# %% [markdown]
# ## Does early exit save time?
#
# Sentences leave the batch when they stop: when the controller's entropy falls below a threshold (`entropy`), or when the
# halting head says so (`halting`, trained by `act_halting`). The thresholds take the fewest iterations that lose at most 0.1,
# 0.5 and 2 points of UAS on dev. The last column is the cost of decoding in batches of 64: the scores, the trees and the
# labels, as a share of the encoder's time.

# %%
stops = []
if routed:
    dev = evaluate(job.with_halting(routed.model, "fixed"), data.treebank.dev, data.encoded["dev"])
    thresholds = [entropy_threshold(dev, loss) for loss in (0.001, 0.005, 0.02)]
    modes = [("fixed", 0.0)] + [("entropy", t) for t in thresholds if t >= 0]  # below 0: none stops early enough
    modes += [("halting", 0.0)] if routed.params.act_halting else []
    for mode, value in modes:
        model = job.with_halting(routed.model, mode, value)
        found = evaluate(model, data.treebank.test, data.encoded["test"])
        line = {"stops by": mode + (f" below {value:.3f} nats" if mode == "entropy" else "")}
        line |= {"UAS": found.at_exit[0].mean(), "mean iterations": found.steps.mean()}
        stops.append(line | speed(model, data.encoded["test"]))
pd.DataFrame(stops).rename(columns=lambda name: name.removeprefix("parse/").replace("_", " ")).round(3)

# %% [markdown]
# ## The full ablation
#
# All arms on the English Web Treebank (UD 2.15), three seeds each, equal compute, all of the test part: gold tokens, nothing
# pretrained, no tags read (the auxiliary POS-tagging loss is used in training alone). The tables are committed; these commands
# make them again, the right heads and words of each test sentence (`--table sentences`) as CSV:
#
#     trm sweep run poh_ablation --scale laptop -p conllu_dir ud_ewt --jobs 2
#     trm sweep results poh_ablation --scale laptop -p conllu_dir ud_ewt --rows FILE.csv
#     trm sweep results poh_ablation --scale laptop -p conllu_dir ud_ewt --rows FILE.csv --table curves

# %%
from trm import stats

TABLES = ROOT / "book" / "results"
full = pd.read_csv(TABLES / "05_ablation.csv")
summary = stats.summary_table(full, ["test/uas", "test/las", "train/epochs", "test/mean_steps"])
summary.sort_values("test/uas", ascending=False).round(4)

# %% [markdown]
# The arms with iterations compared with one iteration: effect in UAS, 95 % interval (paired by seed, corrected for four
# comparisons), p, minimum detectable effect (mde); and the bootstrap interval over test sentences, for the same correction.

# %%
ITERATED = ["standard", "deep_supervision", "act_halting", "both"]
by_sentence = pd.read_parquet(TABLES / "05_ablation_sentences.parquet")
comparison = stats.compare_all(full, "test/uas", "one_iteration", ITERATED)
for arm in ITERATED:
    low, high = sentence_interval(by_sentence, arm, "one_iteration", params.resamples, 1 - 0.05 / len(ITERATED))
    comparison.loc[arm, ["sentences low", "sentences high"]] = low, high
comparison.round(4)

# %%
figure = figures.arms(full)
run.save_figure(figure, "full_arms")

# %% [markdown]
# ### By iteration

# %%
figure = figures.by_iteration(full)
run.save_figure(figure, "full_iterations")

# %% [markdown]
# ### By length of arc

# %%
figure = figures.by_distance(full)
run.save_figure(figure, "full_distance")

# %% [markdown]
# ### Learning curves
#
# The arms of the ablation, one core each, every seed. (The rate falls to zero by the end of each.)

# %%
figure = figures.learning_curves(pd.read_csv(TABLES / "05_ablation_curves.csv"))
run.save_figure(figure, "full_learning")

# %% [markdown]
# A wider parser with one iteration, on two cores:
#
#     python book/05_poh_ablation.py -f params/05_ewt.yaml -p conllu_dir ud_ewt -p table book/results/05_ewt.csv

# %%
figure = figures.learning_curves(pd.read_csv(TABLES / "05_ewt_curves.csv"))
run.save_figure(figure, "ewt")
pd.read_csv(TABLES / "05_ewt.csv")[
    ["arm", "seed", "test/uas", "test/las", "train/epochs", "train/seconds", "model/parameters"]
]

# %% [markdown]
# ### Ponder cost
#
#     trm sweep run poh_ponder --scale laptop --jobs 2 -p conllu_dir ud_ewt

# %%
ponder = pd.read_csv(TABLES / "05_ponder.csv")
stats.summary_table(ponder, ["test/mean_steps", "test/uas"], "ponder_coef").round(4)

# %% [markdown]
# ### Which controller
#
# Weights from a word's state, or from a memory of its own (a GRU), each with deep supervision; the gradient's norm after
# training, at the controller.
#
#     trm sweep run poh_controllers --scale laptop --jobs 2 -p conllu_dir ud_ewt

# %%
controllers = pd.read_csv(TABLES / "05_controllers.csv")
stats.summary_table(controllers, ["test/uas", "gradients/controller"], "controller").round(4)

# %% [markdown]
# ## Findings
#
# From the committed tables.

# %%
from trm.progress import say


def gain(arm, baseline, metric="test/uas", tests=1):
    return stats.compare(full, metric, arm, baseline, tests=tests).say(digits=2)


mean = 100 * full.groupby("arm")[["test/uas", "test/uas_per_iteration_1"]].mean()
epochs, deep = summary["train/epochs"], stats.compare(full, "test/uas", "deep_supervision", "standard")
static = stats.compare(controllers, "test/uas", "recurrent", "static", key="controller")
say(f"""
- **H0 or H1: undecided.** At equal compute no arm with iterations exceeds one iteration: one reaches UAS
  {mean.loc["one_iteration", "test/uas"]:.1f} %, three {mean.loc["standard", "test/uas"]:.1f} %,
  {gain("standard", "one_iteration", tests=4)}. But at equal FLOPs the arms differ in epochs: {epochs["one_iteration"]:.1f} for
  one iteration, {epochs["standard"]:.1f} for three, {epochs["deep_supervision"]:.1f} with a loss after each. None had converged
  (the rate falls to zero at the end, and one iteration reaches 88.1 % with more width and training), so fewer epochs alone may
  explain the difference; a gain at equal epochs is not excluded.
- **Deep supervision against the same iterations without it is not significant**: {gain("deep_supervision", "standard")}. The
  minimum detectable effect of these seeds is {100 * deep.mde:.2f} points; the gain of 0.35 points that PoT claims lies within
  the interval: undecided.
- Deep supervision makes the early iterations useful: after the first of three, UAS
  {mean.loc["deep_supervision", "test/uas_per_iteration_1"]:.1f} % with it and
  {mean.loc["standard", "test/uas_per_iteration_1"]:.1f} % without,
  {gain("deep_supervision", "standard", "test/uas_per_iteration_1")}.
- **Differentiable halting was not tested.** The halting head starts at p = 0.5 per iteration, so the expected loss falls
  mostly on the first iterations and the rule P >= 0.5 stops there: `act_halting` takes
  {summary.loc["act_halting", "test/mean_steps"]:.2f} iterations, and {ponder["test/mean_steps"].mean():.2f} at every ponder
  coefficient.
- One plain layer with as many parameters does as well as one iteration with a controller: {gain("layer", "one_iteration")}.
  A GRU as controller instead of a static one, with deep supervision on 2,000 sentences: {static.say(digits=2)}.
""")

# %%
metrics = {f"{name}/test/uas": result.metrics["test/uas"] for name, result in results.items()}
if results:
    first = next(iter(results.values()))
    metrics |= {name: value for name, value in first.metrics.items() if value is not None}
    metrics |= speed(first.model, data.encoded["test"])
    metrics |= {f"ablation/{arm}/uas_mean": value for arm, value in summary["test/uas"].items()}
    metrics |= {f"ablation/{arm}/uas_std": value for arm, value in summary["test/uas std"].items()}
run.finish(metrics, complete=complete)
