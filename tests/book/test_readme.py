"""What the README says of compressors, halting and scaling, against the committed tables."""

import json

import numpy as np
import pandas
import pytest

from tests.conftest import ROOT
from trm.compressor.findings import excess, read_rows
from trm.grpo import findings as grpo_findings
from trm.grpo.params import Grpo
from trm.grpo.train import load_policy
from trm.language.lm import SHIPPED_LM
from trm.latent import findings as latent_findings
from trm.parsing.findings import verdict
from trm.puzzles.loading import shipped_model
from trm.recursive_lm import findings as recursive_lm_findings
from trm.scaling.experiments import EXPERIMENTS, against_baseline, axis_table
from trm.tpu import findings as tpu_findings

README = " ".join((ROOT / "README.md").read_text().split())
RESULTS = ROOT / "book" / "results"


def summary(label):
    return pandas.read_csv(RESULTS / f"03_summary_{label}.csv").iloc[0]


def test_the_numbers_of_6x6():
    row = summary("6x6")
    assert f"is {row.speedup_rule:.1f} times faster than {row.fixed_steps} steps for each" in README
    assert f"at {row.accuracy_rule:.1%} against {row.accuracy_fixed:.1%} solved".replace("%", " %") in README
    assert f"as many steps solves {row.accuracy_fixed_depth_same_steps:.1%}.".replace("%", " %") in README


def test_the_numbers_of_17_clues():
    row = summary("17-clue")
    assert f"solves {row.accuracy_fixed:.1%} of 2,000 unseen puzzles in 16 steps".replace("%", " %") in README
    assert (
        f"**{row.accuracy_patient:.2%}**, in {row.mean_steps_patient:.1f} steps on average".replace("%", " %") in README
    )
    accuracies = f"at {row.accuracy_rule:.1%} against {row.accuracy_fixed:.1%}"
    said = f"the halting head is {row.speedup_rule:.1f} times faster {accuracies}"
    assert row["rule"] == "q_halt" and said.replace("%", " %") in README
    assert f"fixed depth at as many steps {row.accuracy_fixed_depth_same_steps:.1%}.".replace("%", " %") in README
    curves = pandas.read_csv(RESULTS / "03_curves_17-clue.csv")
    referee = curves[curves["rule"] == "obeys"]["mean_steps"].item()
    assert f"could stop after {referee:.1f} steps on average" in README


@pytest.mark.parametrize("puzzle, parameters", [("6x6", 23_169), ("9x9", 98_329)])
def test_the_models_that_ship(puzzle, parameters):
    model, training = shipped_model(puzzle)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert (
        f"{parameters:,} parameters" in README
        and training["test_size"] == summary({"6x6": "6x6"}.get(puzzle, "17-clue")).puzzles
    )
    folder = ROOT / "trm" / "pretrained" / f"sudoku_{puzzle}"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_what_scales():
    runs = pandas.read_csv(RESULTS / "10_scaling_research.csv")
    assert runs.groupby("case")["seed"].nunique().min() == 3
    accuracy = runs.groupby("case")["test/exact_accuracy"].mean()

    def share(case):
        return f"{accuracy[case]:.1%}".removesuffix("%")

    for said in (
        f"{share('exp01a')} % of 1,000 unseen puzzles at 16 wide, {share('exp01e')} % at 64, {share('exp01f')} % at 96",
        f"from 1 to 2 ({share('exp02a')} to {share('exp02b')} %)",
        f"({share('exp03e')} to {share('exp03c')} %)",
        f"as 500 ({share('exp05a')} and {share('exp05f')} %)",
        f"one variant each gives {share('exp05g')} %, ten {share('exp05h')} %",
    ):
        assert said in README
    widths = runs.drop_duplicates("case").set_index("case")["hidden_size"]
    assert widths[["exp01a", "exp01e", "exp01f"]].tolist() == [16, 64, 96]
    axes = axis_table(runs)
    assert axes.loc["exp03", "p"] > 0.05 > axes.loc["exp02", "p"]  # H_cycles, L_cycles
    experiments = {e.name: e for e in EXPERIMENTS}
    averaged = against_baseline(runs, experiments["exp09"], "exp09a", 0.9).loc["exp09e"]
    assert f"bring {averaged['mean']:.1f} points ({averaged['low']:.1f} to {averaged['high']:.1f}, 90 %)" in README
    found = against_baseline(runs, experiments["contributions"], "baseline", 0.9)
    assert len(found) == 10 and "Of ten contributions one is surely better" in README
    better = found[(found["low"] > 0) & (found["mean"] > 1)]
    row = better.loc["contrib06"]
    assert len(better) == 1 and f"+{row['mean']:.1f} points ({row['low']:.1f} to {row['high']:.1f})" in README
    assert f"at {row['FLOPs']:.1f} times the compute" in README
    depth = found.loc[["contrib01a", "contrib01b"], "mean"]
    assert f"({depth.iloc[0]:.1f} and {depth.iloc[1]:.1f} points)" in README
    assert (
        accuracy[[f"exp03{c}" for c in "abcde"]]
        .agg(["min", "max"])
        .equals(accuracy[["exp03e", "exp03c"]].set_axis(["min", "max"]))
    )


def test_what_a_compressor_leaves():
    facts = json.loads((SHIPPED_LM / "training.json").read_text())["metrics"]
    thinking, without = (f"{facts[f'test/{name}']:.1%}".removesuffix("%") for name in ("thinking", "no_thinking"))
    assert f"it answers {thinking} % with a chain of thought and {without} % without" in README
    rows = read_rows(RESULTS / "01_compressor.csv")
    assert rows.groupby("K")["seed"].nunique().min() == 3
    beyond = excess(rows)
    assert f"within {np.ceil(1000 * beyond.loc[:64].max()) / 10} % of it on held-out text up to K = 64" in README
    assert f"at 96, after as many steps, {beyond.loc[96]:.1%} above it".replace("%", " %") in README
    thoughts = rows[(rows["trained"] == "1b") & (rows["text"] == "1b")]
    right = 100 * thoughts.pivot_table(index="arm", columns="K", values="answers_right")
    assert f"answers {right.loc['task_aware', 8]:.1f} % of 64 problems right" in README
    assert f"{right.loc['nonlinear', 8]:.1f} % by a non-linear one" in README and right.loc["pca", 8] == 0
    last = right.loc[["task_aware", "nonlinear", "pca"], 32]
    assert "through 32 numbers {:.1f}, {:.1f} and {:.1f} %".format(*last) in README and 65 < last["pca"] < 75
    ordinary = rows[(rows["trained"] == "1a") & (rows["text"] == "1a") & (rows["arm"] == "pca")]
    assert f"similarity of {ordinary.groupby('K')['cosine_similarity'].mean()[32]:.2f}, which principal" in README
    encoder = read_rows(RESULTS / "01_compressor_minilm.csv")
    encoder = encoder[(encoder["trained"] == "1a") & (encoder["text"] == "1a") & (encoder["K"] == 128)]
    kept = encoder.groupby("arm")["r2"].mean()
    assert (
        f"keeps {100 * kept['pca']:.0f} % of the variance at K = 128" in README
        and kept["nonlinear"] < kept["pca"] + 0.005
    )
    longer = read_rows(RESULTS / "01_compressor_longer.csv").pivot_table(
        index=["seed", "K"], columns="arm", values="mse"
    )
    beyond = (longer["tied"] / longer["optimum"] - 1).max()
    assert f"within {np.ceil(1000 * beyond) / 10} % (every seed)" in README and set(longer.index.levels[1]) == {64, 96}


def test_what_a_parser_gains():
    rows = pandas.read_csv(RESULTS / "05_ablation.csv")
    means = {arm: f"{100 * value:.1f} %" for arm, value in rows.groupby("arm")["test/uas"].mean().items()}
    for said in (
        "one iteration {one_iteration}, three {standard}, three with a loss after each {deep_supervision}",
        "over halting times {act_halting} (it stops after the first), with both {both}",
        "one plain layer with as many parameters reaches {layer} as well",
        "The convolutions alone reach {encoder}, a plain transformer {transformer}",
    ):
        assert said.format(**means) in README
    assert rows[rows["arm"] == "act_halting"]["test/mean_steps"].max() < 1.01
    assert rows[rows["arm"].isin(["layer", "one_iteration"])]["model/parameters"].nunique() == 1
    first = rows.groupby("arm")["test/uas_per_iteration_1"].mean()
    said = "({deep_supervision:.1%} after the first of three, {standard:.1%} without)".format(**first)
    assert said.replace("%", " %") in README
    assert rows["train/seconds"].mean() / 60 == pytest.approx(4, abs=0.5)
    assert "**Undecided: no gain is seen**" in verdict(rows)
    (ewt,) = pandas.read_csv(RESULTS / "05_ewt.csv").to_dict("records")
    minutes = ewt["train/seconds"] / 60
    said = f"UAS {ewt['test/uas']:.1%}, LAS {ewt['test/las']:.1%} on test after {minutes:.0f} minutes"
    assert said.replace("%", " %") in README
    uas, las, passed = (np.array(ewt[name].split(), float) for name in ("dev/uas", "dev/las", "minutes"))
    assert 4 < passed[(uas > 0.85) & (las > 0.815)][0] < 5 and "past 85.0 and 81.5 on dev within five" in README


def test_what_recursion_brings_a_language_model():
    path = RESULTS / "06_recursive_lm.csv"
    if not path.exists():
        pytest.skip(f"wants {path.name}, which the sweep recursive_lm makes")
    rows = recursive_lm_findings.read_rows(path)
    shares = {arm: f"{100 * recursive_lm_findings.hard(rows, arm).mean():.1f} %" for arm in rows["arm"].unique()}
    said = (
        "Of stories of four to nine steps the recursion answers {recursive} right, the same blocks once {same_parameters}, in "
        "a loop {looped}, as many plain blocks {same_compute}, and the one that writes its chain {chain}"
    )
    assert said.format(**shares) in README
    levels = recursive_lm_findings.levels(rows)
    assert set(levels["TFLOPs"].astype(float)) == {4.16} and "at 4.16 TFLOPs of training each" in README
    minutes = levels["minutes"].astype(float)
    assert f"({minutes.min():.0f} to {minutes.max():.0f} minutes of one core" in README
    text = recursive_lm_findings.verdict(rows)
    assert text.count("cannot be told from it") == text.count("Against ") == 4
    cycles = recursive_lm_findings.by_cycles(rows[rows["arm"] == "recursive"], 6).groupby("H")["as trained"].mean()
    assert (cycles[cycles.index > 3] < cycles[3]).all() and "fewer stories of two to six steps are right" in README


def test_what_a_reward_brings():
    rows = grpo_findings.read_rows(RESULTS / "08_grpo.csv")
    found = grpo_findings.compare(rows)
    own, mean = found.loc["GRPO"], rows.groupby("arm").mean(numeric_only=True)
    minutes = rows.loc[rows["arm"] == "GRPO", "minutes"]
    assert f"In minutes of one core ({minutes.min():.1f} to {minutes.max():.1f})" in README
    levels = f"from {own['before']:.1f} % to {own['after']:.1f} % of stories of four steps"
    assert f"{levels}: {own['gain']:+.1f} points ({own['low']:.1f} to {own['high']:.1f})" in README
    before, after = (f"{100 * mean.loc['GRPO', name]:.1f} %" for name in ("longer_before", "longer_after"))
    assert f"{before} were right before and {after} are after" in README
    assert f"dealt out at random end at {found.loc['shuffled', 'after']:.1f} %" in README
    assert found.loc["zero", "weights_moved"] == 0 and found["seeds"].eq(3).all()
    policy = load_policy(Grpo())
    assert f"({policy.lm.num_parameters():,} parameters; it ships)" in README
    assert (Grpo().min_steps, Grpo().max_problem_steps, Grpo().group_size, Grpo().test_size) == (4, 4, 8, 1000)


def test_what_latents_stand_in_for():
    rows = latent_findings.read_rows(RESULTS / "07_latent_reasoning.csv")
    text, mean = " ".join(README.split()), {way: 100 * latent_findings.of(rows, way).mean() for way in set(rows["way"])}
    gap, fast = 100 * latent_findings.gap_recovered(rows), latent_findings.speedup(rows).mean()
    for said in (
        f"{mean['thoughts']:.1f} % are right after latents; {mean['no_thinking']:.1f} % without thinking",
        f"and {mean['chain']:.1f} % after a written chain",
        f"{gap.mean():.0f} % of the gap is closed ({gap.min():.0f} % in the worst seed)",
        f"An answer comes {fast:.1f} times sooner",
        f"The mean of the latents answers {mean['mean']:.1f} %, a linear guess from the prompt {mean['ridge']:.1f} %",
        f"another problem's latents {mean['shuffled']:.1f} %, six learned pause vectors {mean['pause']:.1f} %",
        f"Read off the last latent, without it, {mean['read_off']:.1f} % are right",
        f"trained to answer by itself reaches {mean['direct']:.1f} %",
        f"a TRM of {int(latent_findings.of(rows, 'thoughts', 'model/parameters').iloc[0]):,} trained parameters",
    ):
        assert said in text, said
    for way in ("no_thinking", "pause", "mean", "ridge", "shuffled"):
        assert latent_findings.against(rows, way)["low"] > 0, "better, and told"
    worse = latent_findings.against(rows, "read_off")
    assert worse["high"] < 0 and f"{100 * worse['mean']:+.1f} points ({100 * worse['low']:+.1f} to" in text


def test_what_a_reward_brings_latents():
    found = grpo_findings.compare(grpo_findings.read_rows(RESULTS / "08_grpo_latents.csv"))
    text = " ".join(README.split())
    for arm in ("latents, density", "latents, answer"):
        line = found.loc[arm]
        assert (
            line["seeds"] == 3
            and f"{line['gain']:+.1f}" in text
            and f"({line['low']:.1f} to {line['high']:.1f})" in text
        )
        assert not line["low"] > 0, "no gain"


def test_what_a_tpu_would_do():
    found = tpu_findings.parity(tpu_findings.read_measured(RESULTS / "09_xla.csv"))
    assert found.max_relative < 1e-6 and found.compiles_after_warmup == 0 and found.steps == 20
    assert "agree within 1e-6 of the loss over 20 steps" in README
    times = pandas.read_csv(RESULTS / "09_timetable.csv").set_index("what")
    plan = pandas.read_csv(RESULTS / "09_plan.csv")
    plan = plan[plan["slice"] == "v4-64"].set_index("case")
    both, baseline = times.loc["both"], plan.loc["e1_1_baseline"]
    chips = baseline["days"] * baseline["compute_seconds"] / baseline["utilisation"] / baseline["step_seconds"]
    assert (
        f"configurations in {24 * both['chips_days']:.1f} hours and its baseline in {1440 * chips:.0f} minutes"
        in README
    )
    assert f"would take {both['days']:.1f} days and the baseline {24 * baseline['days']:.1f} hours" in README
    assert 148 < 70 * baseline["host_milliseconds"] < 176 and both["guide_days"] == 139
    assert f"{plan['fault'].isna().sum()} of {len(plan)} configurations run on it as they are written" in README
    assert plan["fault"].notna().sum() == 2 and plan.loc[plan["fault"].notna(), "mend"].notna().all()
    quick = pandas.read_csv(RESULTS / "09_quick_test.csv")["train/total_loss"]
    assert f"the loss falls from {quick.iloc[0]:.2f} to {quick.iloc[-1]:.2f}" in README
