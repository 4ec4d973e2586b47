"""The committed tables are whole: every arm, every seed, equal compute."""

import json

import pandas
import pytest

from tests.conftest import ROOT
from trm.params import read_yaml
from trm.puzzles.params import TrmTrain
from trm.sweep.spec import read_sweeps
from trm.tpu.compare import parity
from trm.tpu.params import TpuScaling
from trm.tpu.plan import SLICES
from trm.tpu.suites import suite_plans
from trm.training_params import arm_names


def test_the_committed_comparison_holds_every_arm_and_ten_seeds_at_equal_flops():
    table = pandas.read_csv(ROOT / "book" / "results" / "02_deep_supervision.csv")
    sweep = read_yaml(ROOT / "params" / "sweeps" / "deep_supervision.yaml")
    arms = {case["arms"]: case["lr"] for case in sweep["cases"].values()}
    wanted = {(arm, H, seed) for arm in arms for H in (2, 3) for seed in range(10)}
    assert set(zip(table["arm"], table["H_cycles"], table["seed"])) == wanted and len(table) == len(wanted)
    assert table["flops/training"].max() / table["flops/training"].min() < 1.01
    assert (table["lr"] == table["arm"].map(arms)).all() and set(table["puzzle"]) == {"6x6"}
    rates = pandas.read_csv(ROOT / "book" / "results" / "02_deep_supervision_rates.csv")
    asked = rates[rates["lr"] <= 0.016]
    best = asked.loc[asked.groupby("arm")["valid/exact_accuracy"].idxmax()]  # chosen on validation, by another seed
    assert dict(zip(best["arm"], best["lr"])) == arms and not set(rates["seed"]) & set(table["seed"])
    control = pandas.read_csv(ROOT / "book" / "results" / "02_deep_supervision_control.csv")
    assert set(zip(control["arm"], control["seed"])) == {
        (a, s) for a in ("linear", "constant", "decay") for s in range(10)
    }
    assert (control["lr"] == control["arm"].map(arms)).all()
    assert control["flops/training"].max() / table["flops/training"].min() < 1.01


def test_the_committed_controls_of_rates_and_weights():
    """Higher rates, of each arm that has its best of six above the comparison's four; a rate at which runs diverge; weights."""
    results = ROOT / "book" / "results"
    rates, higher, settings = (
        pandas.read_csv(results / f"02_deep_supervision_{n}.csv") for n in ("rates", "higher", "settings")
    )
    assert rates.groupby("arm")["lr"].nunique().tolist() == [6] * 8
    best = rates.loc[rates.groupby("arm")["valid/exact_accuracy"].idxmax()].set_index("arm")["lr"]
    again = higher[(higher["arm"] != "none") & (higher["case"] != "paper_32")]
    assert again.groupby("arm")["lr"].first().to_dict() == best[best > 0.016].to_dict()
    assert higher.groupby(["arm", "lr"])["seed"].nunique().eq(10).all() and len(higher) == 60
    assert not settings.duplicated(["case", "arm", "seed"]).any()
    deep, three = settings[settings["H_cycles"] > 3], settings[settings["H_cycles"] == 3]
    kinds = three.groupby(["arm", "lr"])["seed"].nunique()
    assert {(lr, n) for (_, lr), n in kinds.items()} == {(0.064, 10), (0.016, 5)}
    assert {arm for arm, lr in kinds.index if lr == 0.064} == {"none", "linear", "exponential", "curriculum"}
    weights = {"none", "linear", *(f"linear:{w}" for w in ("0.2", "0.4", "0.7", "1"))}
    assert {arm for arm, lr in kinds.index if lr == 0.016} == weights
    tried = pandas.read_csv(results / "02_deep_supervision_depth_rates.csv")
    assert tried.groupby(["arm", "H_cycles"])["lr"].nunique().eq(3).all() and not set(tried["seed"]) & set(deep["seed"])
    six = tried[tried["H_cycles"] == 6]
    assert six.loc[six.groupby("arm")["valid/exact_accuracy"].idxmax(), "lr"].eq(0.016).all()
    kinds = deep.groupby(["arm", "H_cycles", "lr"])["seed"].nunique()
    other = {("none", 4, 0.032), ("linear", 4, 0.032), ("none", 5, 0.008)}
    assert kinds.eq(5).all() and len(kinds) == 13 and {kind for kind in kinds.index if kind[2] != 0.016} == other
    for table in (higher, settings):
        assert table["flops/training"].max() / rates["flops/training"].min() < 1.01


def test_the_committed_comparison_on_hard_puzzles_has_rates_of_validation():
    results = ROOT / "book" / "results"
    table, rates = (pandas.read_csv(results / f"02_deep_supervision_hard{end}.csv") for end in ("", "_rates"))
    best = rates.loc[rates.groupby("arm")["valid/exact_accuracy"].idxmax()].set_index("arm")["lr"]
    assert rates.groupby("arm")["lr"].nunique().tolist() == [5] * 4 and not set(rates["seed"]) & set(table["seed"])
    assert (table["lr"] == table["arm"].map(best)).all() and set(table["puzzle"]) == {"6x6-hard"}
    assert table.groupby("arm")["seed"].nunique().tolist() == [10] * 4 and len(table) == 40
    assert table["flops/training"].max() / table["flops/training"].min() < 1.01


def test_the_committed_tables_of_halting_hold_five_seeds_of_every_arm():
    sweep = read_yaml(ROOT / "params" / "sweeps" / "halting.yaml")
    results = ROOT / "book" / "results"
    given = [
        (name in sweep["groups"]["halting_arms"], arm, float(case.get("halting_bias", "nan")), case.get("ponder_prior", 0.2))
        for name, case in sweep["cases"].items() for arm in arm_names(case["arms"])
    ]  # fmt: skip
    for name, is_main in (("arms", True), ("settings", False)):
        table = pandas.read_csv(results / f"03_{name}.csv")
        wanted = sorted(str((*one[1:], seed)) for one in given if one[0] == is_main for seed in sweep["seeds"])
        columns = ["arm", "halting_bias", "ponder_prior", "seed"]
        found = table[columns].astype({"halting_bias": float}).itertuples(index=False, name=None)
        assert sorted(map(str, found)) == wanted
        assert (table["taught_mean_steps"].between(1, table["cap"])).all() and set(table["puzzle"]) == {"6x6"}
    front = pandas.read_csv(results / "03_fronts.csv")
    assert set(zip(front["arm"], front["seed"])) == {("q", seed) for seed in sweep["seeds"]}
    for label in ("6x6", "17-clue", "forum-hardest", "9x9 pack"):
        longer = pandas.read_csv(results / f"03_longer_{label}.csv")
        most = longer[longer["label"] == label].groupby("kind")["steps"].max()
        assert most["steps"] == 1024 and "until valid" in most.index
        blanks = pandas.read_csv(results / f"03_blanks_{label}.csv").set_index("blanks")["accuracy"]
        assert len(blanks) == 7 and (blanks.drop("all") == 1).all()
    assert pandas.read_csv(results / "03_longer_6x6.csv").query("label == '6x6 early'")["seed"].nunique() == 3
    best = pandas.read_csv(results / "03_summary_6x6.csv").iloc[0]
    assert best["puzzles"] == 2000 and best["accuracy_fixed"] - best["accuracy_rule"] <= 0.005


def test_the_committed_controls_of_halting_hold_every_seed():
    weight = TrmTrain.model_fields["act_weight"].default
    for name, rows in (("control", 50), ("halting_longer", 26), ("rates", 18)):
        sweep = read_yaml(ROOT / "params" / "sweeps" / f"halting_{name.split('_')[-1]}.yaml")
        table = pandas.read_csv(ROOT / "book" / "results" / f"03_{name}.csv")
        wanted = [
            (arm, case.get("act_weight", weight), lr, seed)
            for case in sweep["cases"].values() for arm in arm_names(case["arms"])
            for lr in sweep.get("grid", {}).get("lr", [case.get("lr", sweep["base"].get("lr"))])
            for seed in case.get("seeds", sweep["seeds"])
        ]  # fmt: skip
        found = zip(table["arm"], table["act_weight"], table["lr"], table["seed"])
        assert sorted(found) == sorted(wanted) and len(wanted) == rows
        assert (table["accuracy_ever"] >= table["accuracy_trained_steps"]).all()
        never = table[(table["arm"] == "q") & (table["act_weight"] == 0)]
        assert (never["taught_mean_steps"] == 6).all(), "its head stops no puzzle"


def test_networks_of_their_own_have_the_lowest_rate_near_the_best_or_where_none_learns_the_best():
    rates = pandas.read_csv(ROOT / "book" / "results" / "10_rates.csv").query("sweep == 'scaling_layers_rates'")
    used = pandas.concat(
        pandas.read_csv(ROOT / "book" / "results" / f"10_{suite}.csv")
        for suite in ("scaling_research", "tpu_quickstart")
    )
    for case, tried in rates.groupby("case"):
        best = tried["valid/loss"].min()
        near = (
            tried[tried["valid/loss"] <= 1.15 * best]
            if tried["valid/exact_accuracy"].any()
            else tried[tried["valid/loss"] == best]
        )
        assert len(tried) == 6 and set(used.loc[used["case"] == case.removeprefix("rate_"), "lr"]) == {near["lr"].min()}


def test_the_arms_of_the_parser_have_the_rate_that_is_best_on_dev():
    tried = pandas.read_csv(ROOT / "book" / "results" / "05_rates.csv")
    best = tried.loc[tried.groupby("arm")["dev/las"].idxmax()].set_index("arm")["lr"]
    sweep = read_sweeps()["poh_ablation"]
    points = sweep.points("laptop", list(best.index))
    assert {(p.case, p.params.lr) for p in points} == set(best.items()) and len(best) == 7
    assert not {p.seed for p in points} & set(tried["seed"])


def test_the_committed_ablation_ran_as_the_sweep_says():
    table, sweep = pandas.read_csv(ROOT / "book" / "results" / "05_ablation.csv"), read_sweeps()["poh_ablation"]
    points = {(p.case, p.seed): p.params for p in sweep.points("laptop")}
    for row in table.to_dict("records"):
        params = points[row["arm"], row["seed"]]
        assert (row["lr"], row["epochs"]) == (params.lr, pytest.approx(params.epochs, rel=1e-3))
    assert len(table) == len(points)
    seeds = table.groupby("arm")["seed"].nunique()
    deciding = ["one_iteration", "standard", "deep_supervision", "standard_longer"]
    assert (seeds[deciding] == 16).all() and (seeds.drop(deciding) == 5).all()
    flops = table.groupby("arm")["flops/training"].mean()
    assert flops[["longer", "standard_longer"]].to_list() == pytest.approx([flops["deep_supervision"]] * 2, rel=0.01)
    assert (table["test/las"] < table["test/uas"]).all() and table["test/uas"].max() < 0.94
    sentences = pandas.read_parquet(ROOT / "book" / "results" / "05_ablation_sentences.parquet").groupby(
        ["arm", "seed"]
    )
    assert (sentences["sentence"].nunique() == 2077).all() and sentences.ngroups == len(table), "all test sentences"
    uas = (sentences["right"].sum() / sentences["words"].sum())[list(zip(table["arm"], table["seed"]))]
    assert uas.to_list() == pytest.approx(table["test/uas"].to_list(), abs=1e-6)


@pytest.mark.parametrize("suite", ["scaling_research", "tpu_quickstart"])
def test_the_committed_suites_hold_every_configuration_and_seed_with_its_rate(suite):
    """All but float16, which requires CUDA."""
    points = read_sweeps()[suite].points("laptop")
    wanted = {(p.case, p.seed): p.params.lr for p in points if p.case != "exp08c"}
    table = pandas.read_csv(ROOT / "book" / "results" / f"10_{suite}.csv")
    found = dict(zip(zip(table["case"], table["seed"]), table["lr"]))
    assert found == pytest.approx(wanted) and len(table) == len(wanted)


def test_the_committed_comparison_of_mixers_holds_every_seed_at_equal_flops():
    table = pandas.read_csv(ROOT / "book" / "results" / "04_mixers.csv")
    mixers = ("mlp", "attention", "houses")
    wanted = {("6x6-hard", m, s) for m in mixers for s in range(5)} | {("9x9", m, s) for m in mixers for s in range(3)}
    assert set(zip(table["puzzle"], table["mixer"], table["seed"])) == wanted and len(table) == len(wanted)
    flops = table.groupby("puzzle")["flops/training"]
    assert (flops.max() / flops.min() < 1.001).all() and flops.max()["9x9"] == pytest.approx(8.0e12, rel=0.01)
    rates = pandas.read_csv(ROOT / "book" / "results" / "04_mixers_rates.csv")
    for mixer, tried in rates.groupby("mixer"):  # the best on validation is the one that was taken
        best = tried.loc[tried["valid/exact_accuracy"].idxmax()] if tried["valid/exact_accuracy"].any() else None
        used = table[table["mixer"] == mixer][["lr", "weight_decay"]].drop_duplicates()
        assert len(used) == 1 and (best is None or tuple(used.iloc[0]) == (best["lr"], best["weight_decay"]))


@pytest.mark.parametrize("name, sweep", [("05_turkish", "poh_language"), ("05_agreement", "poh_agreement")])
def test_the_committed_tables_of_other_treebanks_ran_as_their_sweeps_say(name, sweep):
    table = pandas.read_csv(ROOT / "book" / "results" / f"{name}.csv")
    wanted = {(p.params.arm, p.seed): (p.params.lr, p.params.epochs) for p in read_sweeps()[sweep].points("laptop")}
    found = {(row.arm, row.seed): (row.lr, row.epochs) for row in table.itertuples()}
    assert found == wanted and len(table) == len(wanted)


def test_the_committed_comparison_of_recursive_language_models_ran_as_the_sweep_says():
    table = pandas.read_csv(ROOT / "book" / "results" / "06_recursive_lm.csv")
    curves = pandas.read_csv(ROOT / "book" / "results" / "06_recursive_lm_curves.csv")
    wanted = {
        (p.params.arm, p.seed, p.params.lr, p.params.max_problem_steps)
        for p in read_sweeps()["recursive_lm"].points("laptop")
    }
    found = set(zip(table["arm"], table["seed"], table["lr"], table["max_problem_steps"]))
    assert found == wanted and len(table) == len(wanted) and table["config"].nunique() == table["arm"].nunique()
    assert set(zip(curves["arm"], curves["seed"])) == {point[:2] for point in wanted}
    assert table["flops/training"].max() / table["flops/training"].min() < 1.01


def test_the_plain_baselines_of_the_parser_hold_three_seeds_at_equal_compute():
    sweep = read_sweeps()["poh_equal_flops"]
    table = pandas.read_csv(ROOT / "book" / "results" / "05_equal_flops.csv")
    assert set(zip(table["arm"], table["seed"])) == {(p.case, p.seed) for p in sweep.points("laptop")}
    spent = table["train/flops_per_word"] * table["train/epochs"]
    assert spent.max() / spent.min() < 1.01


def test_the_committed_table_of_latents_holds_three_seeds_and_one_test():
    table = pandas.read_csv(ROOT / "book" / "results" / "07_latent_reasoning.csv")
    wanted = {"thoughts", "chain", "no_thinking", "pause", "mean", "ridge", "shuffled", "read_off", "direct"}
    assert set(zip(table["way"], table["seed"])) == {(way, seed) for way in wanted for seed in range(3)}
    for way in ("chain", "no_thinking"):  # frozen: the same for every seed, and as the model's card says
        assert table.loc[table["way"] == way, "accuracy"].nunique() == 1
    card = json.loads((ROOT / "trm" / "pretrained" / "reasoning_lm" / "training.json").read_text(encoding="utf-8"))[
        "metrics"
    ]
    assert table.groupby("way")["accuracy"].first()["chain"] == pytest.approx(card["test/thinking"], abs=0.002)
    assert table.groupby("way")["accuracy"].first()["no_thinking"] == pytest.approx(card["test/no_thinking"], abs=0.002)


def test_the_committed_plans_are_those_of_the_suites_as_they_are():
    defaults = TpuScaling()
    table = pandas.read_csv(ROOT / "book" / "results" / "09_plan.csv").fillna({"fault": "", "mend": ""})
    hopes = (defaults.utilisation, defaults.host_milliseconds)
    now = [suite_plans(defaults.suites, SLICES[name], *hopes) for name in (defaults.slice, defaults.compare_slice)]
    pandas.testing.assert_frame_equal(table, pandas.concat(now, ignore_index=True), rtol=1e-6, check_dtype=False)


def test_the_committed_measurement_on_xla_is_whole():
    table = pandas.read_csv(ROOT / "book" / "results" / "09_xla.csv")
    assert table.groupby("training").size().to_dict() == {"processor": 20, "one device": 20, "all devices": 20}
    found = parity(table)
    assert found.devices == 8 and found.max_relative < 1e-4 and found.compiles_after_warmup == 0
    assert (table.groupby("training")["train/halted"].sum() > 0).all(), "rows were refilled"
    quick = pandas.read_csv(ROOT / "book" / "results" / "09_quick_test.csv").set_index("step")["train/total_loss"]
    assert quick.index[-1] == 100 and quick.iloc[-1] < 0.9 * quick.iloc[0]


def test_the_committed_contributions_have_equal_flops_ten_seeds_and_rates_of_validation():
    results = ROOT / "book" / "results"
    runs, rates = (pandas.read_csv(results / f"10_{name}.csv") for name in ("scaling_research", "rates"))
    ten = runs[runs["case"].str.fullmatch("baseline|contrib.*")]
    assert ten.groupby("case")["seed"].nunique().tolist() == [10] * 11
    assert ten["flops/training"].max() / ten["flops/training"].min() < 1.01
    mean = rates.groupby(["case", "lr"])["valid/loss"].mean()
    near = mean[mean <= 1.15 * mean.groupby("case").transform("min")].reset_index()
    chosen = near.groupby("case")["lr"].min()  # the lowest within 15 % of the best
    used = runs.groupby("case")["lr"].first()
    widths = runs[runs["case"].str.fullmatch("exp01.")].groupby("case")[["hidden_size", "lr"]].first()
    assert (widths["lr"].to_numpy() == chosen[[f"width_{width}" for width in widths["hidden_size"]]].to_numpy()).all()
    tuned = [case.removeprefix("rate_") for case in chosen.index if case.startswith("rate_contrib")]
    assert len(tuned) == 7 and all(used[case] == chosen[f"rate_{case}"] for case in tuned)
    assert (used[["baseline", "contrib02a", "contrib02b", "contrib03", "exp02f", "exp03e"]] == chosen["width_32"]).all()
    assert not set(rates["seed"]) & set(runs["seed"])
    for name in ("exp01", "exp02", "exp03"):
        assert runs[runs["case"].str.match(name)].groupby("case")["seed"].nunique().eq(5).all(), name


def test_the_committed_mazes_ran_with_the_best_rates_at_equal_flops():
    results = ROOT / "book" / "results"
    table, rates = (pandas.read_csv(results / f"12_mazes{part}.csv") for part in ("", "_rates"))
    points = {(p.case, p.seed): p.params for p in read_sweeps()["mazes"].points("laptop")}
    names = ("lr", "act_weight", "halt_max_steps", "eval_steps", "num_aug", "num_layers", "max_steps")
    for row in table.to_dict("records"):
        assert [row[name] for name in names] == [getattr(points[row["case"], row["seed"]], name) for name in names]
    assert (table.groupby("case")["seed"].nunique() == 3).all() and {case for case, _ in points} == set(table["case"])
    assert rates.groupby("case")["lr"].nunique().eq(5).all() and not set(rates["seed"]) & set(table["seed"])
    best = rates.sort_values(["maze/valid/exact_accuracy", "maze/valid/cell_accuracy"]).groupby("case")["lr"].last()
    assert (
        best.to_dict() == {case: points[case, 0].lr for case in best.index}
        and points["one variant", 0].lr == best["recursive"]
    )
    steps = table.groupby("case")[["max_steps", "num_layers"]].first()
    assert steps.loc["recursive", "max_steps"] == 2 * steps.loc["feed-forward 6", "max_steps"]
