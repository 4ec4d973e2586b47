"""The numbers in README and in the pages of the book are those of the committed tables.

One table: a page, the words around the numbers, and the numbers. `{}` stands for a number, formatted as the page has it.
Numbers that a chapter computes from its table when it runs need no line here.
"""

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from trm.flops import training_flops
from trm.model import TRMConfig
from trm.params import read_yaml
from trm.puzzles.halting_study import with_controls
from trm.report.claims import NOT_MEASURED, evaluate_claims, read_claims
from trm.scaling.laws import recurrence_exponent, study
from trm.stats import by_seed, compare, paired
from trm.sweep.chapters import schema_of

RESULTS = ROOT / "book" / "results"


def table(name):
    return pd.read_csv(RESULTS / f"{name}.csv")


def mean(rows, arm, metric, key="arm"):
    return 100 * by_seed(rows, metric, arm, key).mean()


def halting(label):
    return table(f"03_summary_{label}").iloc[0]


def halting_head():
    """The paper's halting head against none, accuracy after six steps: ten seeds, and after twice the training."""
    tables = table("03_control").query("lr == 0.008"), table("03_halting_longer")
    rows = [with_controls(one) for one in tables]
    return [compare(one, "accuracy_trained_steps", "q", "never", tests=5) for one in rows]


def excess_of_descent():
    """Largest excess of the tied compressor's error over the optimum's, in per cent, up to K = 64."""
    rows = table("01_compressor")
    rows = rows[(rows["trained"] == rows["text"]) & (rows["trained"] == "1a") & (rows["K"] <= 64)]
    means = rows.groupby(["arm", "K"])["mse"].mean()
    return np.ceil(1000 * (means["tied"] / means["optimum"] - 1).max()) / 10


def minutes_of_reading():
    plan = table("09_plan").query("slice == 'v4-64'").set_index("case")
    return plan, table("09_timetable").set_index("what").loc["both"], plan.loc["e1_1_baseline"]


def steps_of(arm):
    rows = table("05_ablation")
    assert (rows.loc[rows["arm"] == "act_halting", "test/mean_steps"] == 1).all()
    return rows.loc[rows["arm"] == arm, "test/mean_steps"].mean()


def ponder():
    rows = table("05_ponder")
    assert (rows["test/mean_steps"] == 1).all()
    found = compare(rows, "test/uas", 0.03, 0.0001, key="ponder_coef")
    return [100 * found.effect, 100 * found.low, 100 * found.high]


def mazes():
    """Accuracies on mazes of two arms, what their comparison could miss, and costs with intervals, corrected for four."""
    runs, exact = table("12_mazes"), "maze/test/exact_accuracy"
    means = runs.groupby("case")[exact].mean()
    pairs = [("feed-forward 6", "recursive"), ("one variant", "recursive")]
    pairs += [("feed-forward 6 with halting loss", "feed-forward 6")]
    same, *costs = (compare(runs, exact, *pair, key="case", tests=4) for pair in pairs)
    costs = [-value for cost in costs for value in (cost.effect, cost.high, cost.low)]
    return [100 * value for value in (means["recursive"], means["feed-forward 6"], same.mde, *costs)]


def arc():
    """Share of trained pairs in percent, the most that is left of it by a control, judged tasks that are answered, of 16, and
    those that the nearest shown output answers; then the share that none of 16 leaves possible."""
    runs = table("12_arc")
    pairs, solved = (
        "trained_pairs/exact_accuracy",
        [16 * runs[f"arc/{name}pass@2"].max() for name in ("", "nearest_output/")],
    )
    left = max(runs[f"arc/{control}/{pairs}"].max() for control in ("zeroed", "swapped"))
    return [100 * runs[f"arc/{pairs}"].mean(), 100 * left, *solved, 100 * (1 - 0.025 ** (1 / 16))]


def truncated_at_32(sign):
    """Points of `none/last` over `none` at the rate 0.032, or with `sign` -1 the reverse, corrected for seven."""
    found = compare(
        table("02_deep_supervision_higher").query("lr == 0.032"), "test/exact_accuracy", "none/last", "none", tests=7
    )
    low, high = sorted((sign * found.low, sign * found.high))
    return [100 * sign * found.effect, 100 * low, 100 * high]


def in_uas(arm, baseline, tests=3, metric="test/uas"):
    """Points of UAS with the interval, corrected for so many comparisons."""
    found = compare(table("05_ablation"), metric, arm, baseline, tests=tests)
    return [100 * found.effect, 100 * found.low, 100 * found.high]


def entropies(arm):
    """Entropy of the controller's weights after each iteration, in nats, from the least."""
    return sorted(table("05_ablation").query("arm == @arm").filter(like="test/routing_entropy").mean().dropna())


def rates_of_untied():
    dev = table("05_rates").query("arm == 'untied'").set_index("lr")["dev/las"]
    return [100 * (dev[0.004] - dev[0.006])]


def by_encoder():
    """UAS of the parsers that ship: from words, with tags, and with the states of an encoder beside the words."""
    return (100 * table("05_ewt")["test/uas"]).to_list()


def mixture(steps, sign=1):
    """Points that problems of so many steps gain where all lengths are rewarded; -1: lose."""
    rows = table("08_grpo").query("arm == 'GRPO, 2 to 6 steps'").set_index("seed")
    found = paired(*(rows[f"{when}/{steps}"] for when in ("after", "before")))
    return [100 * sign * found.effect, *sorted((100 * sign * found.low, 100 * sign * found.high))]


def published_flops(recipe, **given):
    """Training FLOPs of a recipe of params/, whose puzzles have the size that is given."""
    chapter = {"04": "04_trm_train", "12": "12_any_puzzle"}[recipe[:2]]
    params = schema_of(chapter).create(read_yaml(ROOT / "params" / f"{recipe}.yaml"))
    config = {name: getattr(params, name) for name in TRMConfig.model_fields if hasattr(params, name)} | given
    flops = f"{training_flops(TRMConfig(**config), params.batch_size, params.max_steps):.1e}".split("e+")
    return [f"{flops[0]}e{int(flops[1])}"]


def relative_flops(arm, baseline="one_iteration"):
    rows = table("05_ablation")
    return by_seed(rows, "flops/training", arm).mean() / by_seed(rows, "flops/training", baseline).mean()


def latent():
    return table("07_latent_reasoning")


def grpo():
    return table("08_grpo").assign(gain=lambda rows: rows["accuracy_after"] - rows["accuracy_before"])


def against_grpo(arm, baseline="GRPO"):
    found = compare(grpo(), "accuracy_after", arm, baseline, tests=5)
    return [100 * found.effect, 100 * found.low, 100 * found.high]


def reward(arm="GRPO"):
    rows = grpo().query("arm == @arm")
    both = pd.concat([rows.assign(when=w, y=rows[f"accuracy_{w}"]) for w in ("before", "after")])
    found = compare(both, "y", "after", "before", key="when")
    longer = 100 * rows[["longer_before", "longer_after"]].mean()
    return [100 * found.effect, 100 * found.low, 100 * found.high, *longer]


def widths():
    """Share solved at 16 and at 96 wide, and the slope of the log-linear law with its interval."""
    runs = table("10_scaling_research")
    part = runs[runs["case"].str.fullmatch("exp01.")]
    slope = study(part["model/parameters"], part["test/loss"], resamples=400)[1]["b"]
    solved = [mean(runs, case, "test/exact_accuracy", "case") for case in ("exp01a", "exp01f")]
    return [*(float(word) for word in slope.replace("(", "").replace(")", "").replace("to ", "").split()), *solved]


def variants():
    """Share solved with 10 and with 500 training puzzles, unlimited variants; and with one fixed variant of each of 100."""
    return [
        mean(table("10_scaling_research"), case, "test/exact_accuracy", "case")
        for case in ("exp05a", "exp05f", "exp05g")
    ]


def averaging():
    """Points that a constant rate loses without averaged weights, with the interval."""
    found = compare(table("10_scaling_research"), "test/exact_accuracy", "contrib08", "exp09a", key="case")
    return [100 * found.effect, 100 * found.low, 100 * found.high]


def recurrence(cases="exp02[ac-f]"):
    """phi of the latent steps, or of the H-cycles, with its interval, as chapter 10 fits it."""
    runs = table("10_scaling_research")
    cross = runs[runs["case"].str.fullmatch(f"exp01.|{cases}")]
    embedded = {width: 17 * width + 1 for width in cross["hidden_size"].unique()}  # 8 + 8 vectors, the halting head
    once = cross["hidden_size"].map(embedded)
    applied = cross["H_cycles"] * (cross["L_cycles"] + 1)
    found = recurrence_exponent(once, cross["model/parameters"] - once, applied, cross["test/loss"], resamples=400)
    return list(found.loc["phi"])


def solved(name, arm, *rate, key="arm", metric="valid/exact_accuracy", where=""):
    """Per cent of the validation puzzles that an arm solves in a table of rates, at each rate."""
    rows = table(name).query(where) if where else table(name)
    return [100 * rows[(rows[key] == arm) & (rows["lr"] == lr)][metric].mean() for lr in rate]


def research(*cases):
    return [mean(table("10_scaling_research"), case, "test/exact_accuracy", "case") for case in cases]


def cycles(tests, *pairs):
    """Points of the first case of each pair over the second, with the corrected interval, of chapter 10's table."""
    runs = table("10_scaling_research")
    found = [compare(runs, "test/exact_accuracy", *pair, key="case", tests=tests) for pair in pairs]
    return [100 * x for one in found for x in (one.effect, one.low, one.high)]


def biased(*cases):
    """Points of `q` with other biases of the halting head over the default's, with the interval."""
    runs = pd.concat((table("03_settings"), table("03_arms").assign(case="arms"))).query("arm == 'q'")
    found = [compare(runs, "accuracy_trained_steps", case, "arms", key="case") for case in cases]
    return [100 * x for one in found for x in (one.effect, one.low, one.high)]


def settings(case, arm):
    return mean(table("02_deep_supervision_settings").query("case == @case"), arm, "test/exact_accuracy")


def supervised(arm, metric="test/exact_accuracy"):
    """An arm of chapter 02 against `none` at three H-cycles, corrected for the seven arms."""
    return compare(table("02_deep_supervision").query("H_cycles == 3"), metric, arm, "none", tests=7)


def race(run, threads=2, pack="6x6"):
    """Seconds of a run of the race: median (a seed that did not reach the target counts as the slowest), least, most."""
    rows = table("04_race").query("run == @run and threads == @threads and pack == @pack")
    seconds = rows["seconds"].where(rows["reached"], np.inf)
    return [seconds.median(), rows["seconds"].min(), rows["seconds"].max()]


def bound():
    """Median steps of ours to 90 % on 17 clues, and how many times as long the official class had trained, rounded down."""
    rows = table("04_race").query("pack == '17-clue'")
    stopped = rows.loc[rows["run"] == "official ema 0.99", "seconds"].min()
    steps = rows.loc[rows["run"] == "sudoku9", "steps"].median()
    return int(steps), np.floor(10 * stopped / race("sudoku9", pack="17-clue")[0]) / 10


def raced(run):
    """Median seconds and steps of a run on 6x6, and the official seconds over ours, without and with a better EMA."""
    ours, steps = race(run)[0], table("04_race").query("run == @run and pack == '6x6'")["steps"].median()
    return [ours, int(steps), race("official")[0] / ours, race("official ema 0.99")[0] / ours]


def computed_hours():
    _, both, baseline = minutes_of_reading()
    share = baseline["compute_seconds"] / baseline["utilisation"] / baseline["step_seconds"]
    return [
        24 * both["chips_days"],
        1440 * baseline["days"] * share,
        both["days"],
        24 * baseline["days"],
        both["guide_days"],
    ]


def recursive():
    """Accuracies of recursion, chain and plain blocks on trained lengths; effect and interval of recursion against plain; what
    recursion and chain answer beyond these lengths."""
    full = table("06_recursive_lm")
    full["trained"] = full[[f"accuracy/{n}" for n in range(1, 5)]].mean(axis=1)
    means = full.groupby("arm")["trained"].mean()[["recursive", "chain", "same_compute"]]
    found = compare(full, "trained", "recursive", "same_compute")
    beyond = full.assign(beyond=full[["accuracy/5", "accuracy/6"]].mean(axis=1)).groupby("arm")["beyond"].mean()
    return [100 * value for value in (*means, found.effect, found.low, found.high, *beyond[["recursive", "chain"]])]


def judged():
    """Claims, and how many of them have a verdict."""
    found = evaluate_claims(read_claims(ROOT / "book" / "claims.yaml"), RESULTS)["verdict"]
    return [len(found), int((found != NOT_MEASURED).sum())]


def compiled(**model):
    """How often as long a compressor's step takes with torch.compile: ratio, interval."""
    rows = table("01_compile").rename(columns={"round": "seed"})
    rows = rows[(rows[list(model)] == pd.Series(model)).all(axis=1)]
    found = compare(rows, "seconds", "compiled", "eager", ratio=True)
    return [found.effect, found.low, found.high]


NUMBERS = [
    ("README.md", "{:.0f} claims, judged by one function on the committed tables: {:.0f} have a verdict.", judged),
    (
        "book/11_report.py",
        "not significant on Sudoku (`linear`, minimum detectable effect {:.0f} points)",
        lambda: [100 * supervised("linear").mde],
    ),
    (
        "README.md",
        "(ten seeds; minimum detectable effect {:.1f} points for truncation and the curriculum, {:.0f} for `linear`).",
        lambda: [
            100 * compare(table("02_deep_supervision_hard"), "test/exact_accuracy", arm, "none", tests=3).mde
            for arm in ("none/last", "linear")
        ],
    ),
    ("README.md", "ends within {:.1f} % of it up to 64 of 192 numbers", lambda: [excess_of_descent()]),
    (
        "README.md",
        "`linear` {:+.1f} points ({:+.1f} to {:+.1f}, ten seeds, minimum detectable effect {:.0f})",
        lambda: [100 * getattr(supervised("linear"), n) for n in ("effect", "low", "high", "mde")],
    ),
    (
        "README.md",
        "bring {:.1f} ({:.1f} to {:.1f}) over the paper's truncated ones after six steps, {:.1f} at the model's own stop",
        lambda: [-100 * x for one in (supervised("none/last"),) for x in (one.effect, one.high, one.low)]
        + [-100 * supervised("none/last", "test/halted_exact_accuracy").effect],
    ),
    (
        "book/02_deep_supervision.py",
        "{:+.1f} points ({:+.1f} to {:+.1f}, ten seeds) after six steps, {:+.1f} points where each puzzle stops",
        lambda: [100 * getattr(supervised("none/last"), n) for n in ("effect", "low", "high")]
        + [100 * supervised("none/last", "test/halted_exact_accuracy").effect],
    ),
    (
        "README.md",
        "is {:.1f} times faster ({:.1f} in a second timing) than {} steps at {:.1f} % against {:.1f} % solved",
        lambda: [halting("6x6")[n] * s for n, s in
                 (("speedup_rule", 1), ("speedup_entropy", 1), ("fixed_steps", 1), ("accuracy_rule", 100),
                  ("accuracy_fixed", 100))],
    ),
    (
        "README.md",
        "halting head, a model 32 wide solves {:.1f} points less ({:.1f} to {:.1f}, ten seeds) after six steps than "
        "without it; after 2,400 the difference is undecided ({:.1f} to {:.1f}, five seeds",
        lambda: [-100 * x for one, twice in [halting_head()]
                 for x in (one.effect, one.high, one.low, twice.high, twice.low)],
    ),
    (
        "book/03_act_halting.py",
        "{:+.1f} points ({:+.1f} to {:+.1f}, ten seeds) after six supervision steps",
        lambda: [100 * getattr(halting_head()[0], n) for n in ("effect", "low", "high")],
    ),
    (
        "book/03_act_halting.py",
        "takes {:.1f} steps instead of {:.0f}, and solves {:.1f} % instead of {:.1f} %",
        lambda: [halting("6x6")[n] * s for n, s in
                 (("mean_steps_entropy", 1), ("fixed_steps", 1), ("accuracy_entropy", 100), ("accuracy_fixed", 100))],
    ),
    (
        "README.md",
        "three iterations gain {:.1f} points of UAS over one at equal epochs ({:.1f} to {:.1f}, sixteen seeds)",
        lambda: in_uas("standard", "one_iteration"),
    ),
    (
        "README.md",
        "Deep supervision adds {:.1f} at equal epochs ({:.1f} to {:.1f}; 0.35 are claimed), where it costs {:.2f} times",
        lambda: [*in_uas("deep_supervision", "standard"), relative_flops("deep_supervision", "standard")],
    ),
    (
        "README.md",
        "Stopping early by entropy makes parsing {:.1f} times as fast",
        lambda: [by_seed(table("05_ablation"), "entropy/speedup", "deep_supervision").mean()],
    ),
    (
        "README.md",
        "as many FLOPs no difference is found ({:+.2f} points, {:+.2f} to {:+.2f}, sixteen seeds)",
        lambda: in_uas("deep_supervision", "standard_longer", 5),
    ),
    ("book/05_poh_ablation.py", "with deep supervision it takes {:.1f} of three", lambda: [steps_of("both")]),
    ("book/manual/defaults.md", "with a loss on every iteration beside it, after {:.1f}", lambda: [steps_of("both")]),
    ("book/claims.yaml", "with deep supervision as well it takes {:.1f} of three", lambda: [steps_of("both")]),
    (
        "book/manual/defaults.md",
        "0.03 against 0.0001: {:+.1f} points of UAS ({:+.1f} to {:.1f}); both stop after the first of three iterations",
        ponder,
    ),
    (
        "README.md",
        "{:.1f} % of unseen 11x11 mazes after six steps, a feed-forward network of equal training compute, with three times "
        "the parameters, {:.1f} %: no difference found (three seeds, minimum detectable effect {:.1f}). One variant of each "
        "training maze instead of eight costs {:.1f} points ({:.1f} to {:.1f}), a halting loss beside the network's own {:.1f} "
        "({:.1f} to {:.1f})",
        mazes,
    ),
    (
        "book/12_any_puzzle.py",
        "variant costs {1:.1f} points ({2:.1f} to {3:.1f}, three seeds; table above)",
        lambda: mazes()[2:6],
    ),
    ("book/12_any_puzzle.py", "({:.1f} and {:.1f} %, three seeds). What matters more", lambda: mazes()[:2]),
    ("book/12_any_puzzle.py", "Three seeds learn {0:.1f} % of the pairs", arc),
    ("book/12_any_puzzle.py", "at most {1:.1f} % of the trained pairs are left", arc),
    ("book/12_any_puzzle.py", "of up to {4:.0f} % possible", arc),
    ("README.md", "Of ARC-AGI-1 half an hour learns {0:.0f} % of the trained pairs and none of 16 unseen small tasks", arc),
    ("book/06_recursive_lm.py", "{2:.1f} % and the recursion {0:.1f} %", recursive),
    ("book/06_recursive_lm.py", "({3:+.1f} points, {4:.1f} to {5:+.1f}, three seeds)", recursive),
    ("book/06_recursive_lm.py", "the chain answers {1:.1f} % of these lengths and {7:.1f} % of longer", recursive),
    ("README.md", "recursion solves {0:.1f} %, plain blocks of equal compute", recursive),
    ("README.md", "three times the parameters, {2:.1f} %", recursive),
    ("README.md", "({3:+.1f} points, {4:.1f} to {5:+.1f}, three seeds)", recursive),
    ("README.md", "chain {1:.1f} %. Of five and six steps the chain solves {7:.1f} %, the recursion {6:.1f} %", recursive),
    ("book/05_poh_ablation.py", "own: {:+.2f} ({:.2f} to {:.2f}) against three", lambda: in_uas("untied", "standard", 4)),
    ("README.md", "do as well ({:+.2f}, {:.2f} to {:+.2f}, five seeds): depth helps", lambda: in_uas("untied", "standard", 4)),
    ("book/05_poh_ablation.py", "LAS on dev is {:.2f} points lower", rates_of_untied),
    ("book/05_poh_ablation.py", "{:.1f} points of UAS more than the first", lambda: [by_encoder()[2] - by_encoder()[0]]),
    ("book/05_poh_ablation.py", "(`longer`, {:.2f} nats)", lambda: entropies("longer")),
    ("book/05_poh_ablation.py", "for as many stay at {0:.2f} to {2:.2f}.", lambda: entropies("standard_longer")),
    ("book/08_grpo.py", "({0:+.1f} points, {1:.1f} to {2:.1f}): rewards without", lambda: reward("shuffled")[:3]),
    ("book/08_grpo.py", "two steps gain {:.1f} points ({:.1f} to {:.1f})", lambda: mixture(2)),
    ("book/08_grpo.py", "# {:.1f} points ({:.1f} to {:.1f}), four", lambda: mixture(3)),
    ("book/08_grpo.py", "four gain {:.1f} points ({:.1f} to {:.1f})", lambda: mixture(4)),
    ("book/08_grpo.py", "five lose {:.1f} points ({:.1f} to {:.1f})", lambda: mixture(5, -1)),
    ("book/08_grpo.py", "# {:.1f} points ({:.1f} to {:.1f}), although they", lambda: mixture(6, -1)),
    ("book/manual/hardware.md", "04_paper.yaml` | {} |", lambda: published_flops("04_paper", vocab_size=11, seq_len=81)),
    ("book/manual/hardware.md", "maze_paper.yaml` | {} |", lambda: published_flops("12_maze_paper", vocab_size=6, seq_len=900)),
    ("book/manual/hardware.md", "arc_paper.yaml` | {} |", lambda: published_flops("12_arc_paper", vocab_size=12, seq_len=900)),
    ("book/05_poh_ablation.py", "iteration {:+.2f} ({:.2f} to {:.2f}),", lambda: in_uas("longer", "one_iteration", 5)),
    (
        "book/05_poh_ablation.py",
        "neighbours {:.1f} points ({:.1f} to {:.1f})",
        lambda: in_uas("deep_supervision", "one_iteration", metric="arc/1"),
    ),
    (
        "book/05_poh_ablation.py",
        "arcs of 5 to 8 words {:.1f} ({:.1f} to {:.1f})",
        lambda: in_uas("deep_supervision", "one_iteration", metric="arc/5 to 8"),
    ),
    (
        "book/11_report.py",
        "no difference is found ({1:.1f} to {2:.1f}, chapter 05)",
        lambda: in_uas("deep_supervision", "standard_longer", 5),
    ),
    (
        "book/02_deep_supervision.py",
        "rate for both it is {:.1f} ({:.1f} to {:.1f}).",
        lambda: truncated_at_32(1),
    ),
    ("README.md", "{:.1f} ({:.1f} to {:.1f}) at twice the rate for both", lambda: truncated_at_32(-1)),
    (
        "README.md",
        "and {:.1f} at equal FLOPs ({:.1f} to {:.1f}, five seeds)",
        lambda: in_uas("standard_longer", "longer", 5),
    ),
    (
        "book/05_poh_ablation.py",
        "three iterations cost {:.1f} times as much as one, and {:.1f} times with a loss after each",
        lambda: [relative_flops("standard"), relative_flops("deep_supervision")],
    ),
    (
        "book/manual/defaults.md",
        "{:.1f} % at 0.002, {:.1f} % at 0.004, 88 to 93 % above",
        lambda: solved("10_rates", "width_64", 0.002, 0.004, key="case"),
    ),
    (
        "book/manual/defaults.md",
        "{:.1f} % at 0.008, the highest; {:.1f} % at 0.016, none above",
        lambda: solved("10_rates", "width_16", 0.008, 0.016, key="case"),
    ),
    (
        "book/manual/defaults.md",
        "{:.1f} % at 0.008, {:.1f} % at 0.016, none at 0.064",
        lambda: solved("02_deep_supervision_rates", "none", 0.008, 0.016),
    ),
    (
        "book/manual/defaults.md",
        "{:.1f} % at 0.016, none at 0.032",
        lambda: solved("02_deep_supervision_depth_rates", "none", 0.016, where="H_cycles == 6"),
    ),
    (
        "book/manual/defaults.md",
        "{:.1f} % at 0.002, {:.1f} % at 0.004, {:.1f} % at 0.008",
        lambda: solved("02_deep_supervision_hard_rates", "none", 0.002, 0.004, 0.008),
    ),
    (
        "book/manual/defaults.md",
        "`houses` {:.1f} %, `mlp` {:.1f} %, `attention` none",
        lambda: [mean(table("04_mixers").query("puzzle == '6x6-hard'"), arm, "test/exact_accuracy", "mixer")
                 for arm in ("houses", "mlp")],
    ),
    (
        "book/manual/defaults.md",
        "one {:.1f} %, two {:.1f} % (p = 0.17), six none",
        lambda: research("exp04a", "exp04b"),
    ),
    (
        "book/manual/defaults.md",
        "one to two {:+.1f} points ({:.1f} to {:.1f}), two to six {:+.1f} ({:.1f} to {:.1f}), corrected for five",
        lambda: cycles(5, ("exp02b", "exp02a"), ("exp02f", "exp02b")),
    ),
    (
        "book/manual/defaults.md",
        "one to three {:+.1f} ({:.1f} to {:.1f}), two to four {:+.1f} ({:.1f} to {:.1f}), corrected for four",
        lambda: cycles(4, ("exp03c", "exp03a"), ("exp03d", "exp03b")),
    ),
    (
        "book/manual/defaults.md",
        "two {:.1f} %, four {:.1f} %, six {:.1f} %, sixteen {:.1f} %",
        lambda: research("exp06a", "exp06b", "exp06c", "exp06f"),
    ),
    (
        "book/manual/defaults.md",
        "solves {:.1f} % and `linear` {:.1f} %",
        lambda: [mean(table("02_deep_supervision").query("H_cycles == 3"), arm, "test/exact_accuracy")
                 for arm in ("none", "linear")],
    ),
    (
        "book/manual/defaults.md",
        "without it {:.1f} % are solved, with 0.8 {:.1f} %, with 0.9 {:.1f} %, with 0.95 {:.1f} % and with 0.98 {:.1f} %",
        lambda: research("exp09a", "exp09b", "exp09c", "exp09d", "exp09e"),
    ),
    ("book/manual/defaults.md", "0.99 brings {:.1f} points over none ({:.1f} to {:.1f})", averaging),
    (
        "book/manual/defaults.md",
        "{:.1f} points less than without a halting loss ({:.1f} to {:.1f}, ten seeds",
        lambda: [-100 * getattr(halting_head()[0], n) for n in ("effect", "high", "low")],
    ),
    (
        "book/manual/defaults.md",
        "in its place 0: {:.1f} points ({:.1f} to {:.1f}), -3: {:.1f} ({:.1f} to {:.1f})",
        lambda: biased("bias_0", "bias_3"),
    ),
    (
        "book/manual/defaults.md",
        "solve {:.1f} % with `linear` and with `none`, four {:.1f} % and {:.1f} %",
        lambda: [settings(*of) for of in (("deep_6", "linear"), ("deep_4", "linear"), ("deep_4", "none"))],
    ),
    (
        "book/manual/defaults.md",
        "with 192 {:.1f} % and with 384 {:.1f} %",
        lambda: research("exp07d", "exp07e"),
    ),
    (
        "README.md",
        "{:.1f} % right after six latents, {:.1f} % without and {:.1f} % after a written chain",
        lambda: [mean(latent(), way, "accuracy", "way") for way in ("thoughts", "no_thinking", "chain")],
    ),
    (
        "README.md",
        "without a further pass of the language model, {:.1f} % are right",
        lambda: [mean(latent(), "read_off", "accuracy", "way")],
    ),
    ("README.md", "{:+.1f} points ({:.1f} to {:.1f}, five seeds) on the rewarded length", lambda: reward()[:3]),
    ("README.md", "does as well ({0:+.1f}, {1:.1f} to {2:+.1f}); permuted rewards", lambda: against_grpo("rejection_sampling")),
    ("README.md", "permuted rewards take {0:.1f} points ({2:.1f} to {1:.1f})", lambda: [-x for x in reward("shuffled")[:3]]),
    ("book/08_grpo.py", "does as well as GRPO ({:+.1f} points, {:.1f} to {:.1f}, five seeds)",
     lambda: against_grpo("rejection_sampling")),
    ("book/08_grpo.py", "DAPO ends {:.1f} points above", lambda: against_grpo("DAPO")[:1]),
    ("book/08_grpo.py", "GRPO ends {:.1f} above", lambda: against_grpo("GRPO, 2 updates")[:1]),
    ("book/08_grpo.py", "no difference is found ({1:.1f} to {2:.1f}).", lambda: against_grpo("DAPO", "GRPO, 2 updates")),
    ("README.md", "problems drops from {:.1f} to {:.1f} %", lambda: reward()[3:]),
    ("README.md", "loss falls as N^-{:.1f} ({:.1f} to {:.1f}); {:.1f} % solved at 16 wide, {:.1f} % at 96", widths),
    (
        "README.md",
        "applied r times count as r^{:.2f} ({:.2f} to {:.2f}) times as many by latent steps, "
        "r^{:.2f} ({:.2f} to {:.2f}) by H-cycles",
        lambda: [*recurrence(), *recurrence("exp03[abde]")],
    ),
    ("README.md", "{:.1f} % with 10 training puzzles and {:.1f} % with 500", lambda: variants()[:2]),
    ("README.md", "one fixed variant of each of 100, {:.1f} %", lambda: variants()[2:]),
    (
        "book/11_report.py",
        "drops by {:.0f} points ({:.1f} to {:.1f}, three seeds",
        averaging,
    ),
    ("README.md", "solves {:.1f} % of the 17-clue puzzles in 16 steps", lambda: [100 * halting("17-clue")["accuracy_fixed"]]),
    (
        "README.md",
        "of forum-hardest {:.1f} % in {:.0f} steps and {:.1f} % with up to {:.0f} tries of {:.0f} steps",
        lambda: [halting("forum-hardest")[n] * (100 if n.startswith("accuracy") else 1) for n in
                 ("accuracy_fixed", "fixed_steps", "accuracy_retry", "attempts_retry", "retry_steps")],
    ),
    ("README.md", "those it was trained on, {:.1f} % in 16 steps", lambda: [100 * halting("9x9 pack")["accuracy_fixed"]]),
    *(
        (
            "trm/pretrained/sudoku_9x9/README.md",
            "| {:,.0f} | {:.1f} % in {:.0f} steps | {:.1f} % with at most {:.0f} attempts of {:.0f} steps, {:.0f} on average |",
            lambda label=label: [halting(label)[n] * (100 if n.startswith("accuracy") else 1) for n in
                                 ("puzzles", "accuracy_fixed", "fixed_steps", "accuracy_retry", "attempts_retry",
                                  "retry_steps", "mean_steps_retry")],
        )
        for label in ("forum-hardest", "17-clue", "9x9 pack")
    ),
    ("README.md", "trains {:,.0f} parameters", lambda: [halting("6x6")["parameters"]]),
    ("README.md", "9x9 model ({:,.0f} parameters", lambda: [halting("17-clue")["parameters"]]),
    (
        "README.md",
        "{:.0f} seconds of two cores ({:.0f} with a better EMA), the default {:.0f}, `04_fast` {:.0f} and `04_houses` {:.0f}",
        lambda: [race(run)[0] for run in ("official", "official ema 0.99", "default", "fast", "houses")],
    ),
    (
        "book/manual/leaderboard.md",
        "took {:.0f} seconds and 3,212 steps with two threads ({:.0f} to {:.0f}), {:.0f} with one",
        lambda: [*race("official"), race("official", 1)[0]],
    ),
    *(
        ("book/manual/leaderboard.md", f"{words} | {{}} | {{:.1f}} | {{:.1f}} |",
         lambda run=run: raced(run))
        for run, words in (("default", "{:.1f} (17.6 to 29.1)"), ("fast", "{:.1f} (13.8; one seed ends at 94.2 %)"),
                           ("houses", "{:.1f} (5.2 to 8.4)"))
    ),
    ("book/01_compressor.py", "a step of the tied compressor takes {:.2f} times as long",
     lambda: compiled(model="shipped", kind="tied")[:1]),
    ("book/01_compressor.py", "width ({:.2f} to {:.2f}, nine rounds", lambda: compiled(model="shipped", kind="tied")[1:]),
    ("book/01_compressor.py", "non-linear one {:.2f} ({:.2f} to {:.2f})", lambda: compiled(model="shipped", kind="nonlinear")),
    ("book/01_compressor.py", "the tied one {:.2f} ({:.2f} to {:.2f})", lambda: compiled(model="SmolLM3-3B", kind="tied")),
    (
        "book/manual/leaderboard.md",
        "| {:.1f} ({:.1f} to {:.1f}) | {} | more than {:.1f} |",
        lambda: [*race("sudoku9", pack="17-clue"), *bound()],
    ),
    ("book/manual/leaderboard.md", "take the mixer `houses` {:.1f} seconds ({:.1f} to {:.1f};",
     lambda: race("houses", pack="6x6-hard")),
    (
        "book/manual/tpu.md",
        "the loss falls from {:.2f} to {:.2f}",
        lambda: table("09_quick_test")["train/total_loss"].iloc[[0, -1]].tolist(),
    ),
    (
        "book/manual/tpu.md",
        "in {:.1f} hours and the baseline of the quick start in {:.0f} minutes",
        lambda: computed_hours()[:2],
    ),
    ("book/manual/tpu.md", "would take {:.1f} days and the baseline {:.1f} hours", lambda: computed_hours()[2:4]),
    ("book/manual/tpu.md", "sources say {:.0f} days", lambda: computed_hours()[4:]),
    (
        "book/manual/tpu.md",
        "{} of {} configurations run on it as written",
        lambda: [int(minutes_of_reading()[0]["fault"].isna().sum()), len(minutes_of_reading()[0])],
    ),
]  # fmt: skip


@pytest.mark.parametrize("page, words, numbers", NUMBERS, ids=[words for _, words, _ in NUMBERS])
def test_the_page_says_what_the_tables_hold(page, words, numbers):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert words.format(*numbers()) in text


def test_what_the_readme_says_without_numbers():
    rows = table("09_xla").pivot(index="step", columns="training", values="train/total_loss")
    relative = (rows.sub(rows["processor"], axis=0) / rows["processor"].to_numpy()[:, None]).abs()
    assert relative.to_numpy().max() < 1e-6, "losses on one and on eight XLA devices agree within 1e-6"
    zero = grpo().query("arm == 'zero'")
    assert (zero["weights_moved"] == 0).all()
    gain = compare(table("05_ablation"), "test/uas", "deep_supervision", "standard", tests=3)
    assert gain.significant and gain.low < 0.0035 < gain.high, "a gain of 0.35 points lies in the interval"
