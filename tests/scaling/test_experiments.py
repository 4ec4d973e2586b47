"""The experiments of the suites: tables by hand, and the messages about bad files."""

import numpy as np
import pandas as pd
import pytest

from trm.errors import UserError
from trm.scaling import experiments, figures, pareto
from trm.scaling.laws import study
from trm.sweep.spec import read_sweeps


def runs(accuracies, **columns):
    """A table of runs: case -> accuracies of seeds 0, 1, ..."""
    rows = [
        {"sweep": "s", "case": case, "cell": "", "seed": seed, "run_id": f"{case}{seed}", "test/exact_accuracy": value,
         "test/loss": 1 - value, "flops/training": 1e9 * (1 + i), "flops/answer": 1e6, "model/parameters": 1000 * 2**i,
         "train/puzzles": 100 * 2**i, "L_cycles": i + 1, "H_cycles": 1, "num_layers": 1, "num_aug": 1, "halt_max_steps": 1,
         "batch_size": 1, "ema_decay": i / 10} | columns
        for i, (case, values) in enumerate(accuracies.items())
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_an_axis_by_hand():
    # means 0.5 and 0.8, deviations 0.1 each; between: 6 * 0.15^2 = 0.135, within: 4 * 0.01 = 0.04
    table = experiments.axis_table(runs({"exp02a": [0.4, 0.5, 0.6], "exp02b": [0.7, 0.8, 0.9], "other": [0.1]}))
    row = table.loc["exp02"]
    assert list(table.index) == ["exp02"] and (row["best"], row["worst"]) == ("exp02b", "exp02a")
    assert row["difference"] == pytest.approx(30) and row["deviation over seeds"] == pytest.approx(10)
    assert row["explained"] == pytest.approx((0.135 - 0.01) / (0.175 + 0.01))  # omega squared, noise 0.04 / 4
    # F(1, 4) = 0.135 / (0.04 / 4) = 13.5: between the 2.5 % (12.22) and the 1 % (21.20) point of the tables
    assert 0.01 < row["p"] < 0.025
    flat = experiments.axis_table(runs({"exp02a": [0.4, 0.6], "exp02b": [0.4, 0.6]}))
    assert flat.loc["exp02", ["difference", "explained"]].tolist() == [0, 0]
    for alone in ({"exp02a": [0.1], "exp02b": [0.9]}, {"exp02a": [0.1] * 3, "exp02b": [0.9] * 3}):
        row = experiments.axis_table(runs(alone)).loc["exp02"]
        assert row["difference"] == pytest.approx(80) and np.isnan([row["p"], row["explained"]]).all()


def test_cases_against_a_baseline_seed_by_seed():
    table = runs({"baseline": [0.5, 0.6, 0.7], "contrib01a": [0.6, 0.72, 0.8], "contrib02a": [0.9]})
    experiment = next(e for e in experiments.EXPERIMENTS if e.name == "contributions")
    found = experiments.against_baseline(table, experiment, "baseline")
    assert list(found.index) == ["baseline", "contrib01a", "contrib02a"]
    assert np.isnan(found.loc["contrib02a", "effect"])  # one seed makes no pair
    row = found.loc["contrib01a"]
    # differences 10, 12, 10 points: mean 32/3, standard error sqrt(4/3)/sqrt(3) = 2/3; two comparisons share the 5 %:
    # t(1 - 0.05 / 4, 2) = 6.2053
    assert row["effect"] == pytest.approx(32 / 3) and row["low"] == pytest.approx(32 / 3 - 6.2053 * 2 / 3, abs=1e-3)
    assert row["FLOPs"] == 2 and row["seeds"] == 3 and row["mde"] > 0


def test_cases_against_a_width_of_equal_flops_by_hand():
    widths = [("exp01a", 1e9, 0.8), ("exp01b", 4e9, 0.2)]  # log-linear: 0.4 at 2e9
    depths = [("exp02a", 2e9, 0.2), ("exp02b", 9e9, 0.1)]  # half of it; beyond the widths
    one = runs({"exp01a": [0.5]}).iloc[0].to_dict()
    table = pd.DataFrame([
        one | {"case": case, "seed": seed, "flops/training": flops, "test/loss": loss * (1 + seed / 10) ** power}
        for power, cases in ((1, widths), (2, depths)) for case, flops, loss in cases for seed in range(3)
    ])  # fmt: skip
    found = experiments.against_width(table, next(e for e in experiments.EXPERIMENTS if e.name == "exp02"))
    assert list(found.index) == ["exp02a"] and found.loc["exp02a", "seeds"] == 3 and found.loc["exp02a", "FLOPs"] == 2
    assert found.loc["exp02a", "ratio"] == pytest.approx(0.5 * np.exp(np.mean(np.log([1, 1.1, 1.2]))))


def test_equal_configurations_count_once():
    table = runs({"baseline": [0.5, 0.6], "exp01a": [0.7, 0.8]})
    again = table[table["case"] == "baseline"].assign(case="exp01e", run_id=["new0", "new1"], code="other")
    more = again.head(1).assign(seed=7, run_id="new2")
    distinct = experiments.configurations(pd.concat([table, again, more]))
    assert distinct["case"].value_counts().to_dict() == {"baseline": 3, "exp01a": 2}  # seeds 0, 1 and 7
    assert len(experiments.EXPERIMENTS[0].of(pd.concat([table, again]))) == 4


def test_every_case_of_the_suites_belongs_to_an_experiment_of_the_name():
    suites = read_sweeps()
    for suite, group in [("scaling_research", f"exp{i:02}") for i in range(1, 11)] + [("tpu_quickstart", "tn_sweep")]:
        chosen = [e for e in experiments.EXPERIMENTS if e.name.split()[0] == group]
        cases = pd.DataFrame({"case": list(suites[suite].cases)})
        assert {case for e in chosen for case in e.of(cases)["case"]} == set(suites[suite].cases_of(group)), group


def test_tables_are_read(tmp_path):
    runs({"exp01a": [0.5], "exp01b": [0.6]}).to_csv(tmp_path / "good.csv", index=False)
    assert len(experiments.read_runs([tmp_path / "good.csv"] * 2)) == 4


@pytest.mark.parametrize("text, message", [
    (runs({"exp01a": [0.5]}, **{"test/exact_accuracy": 1.5}), "bad.csv, line 2: test/exact_accuracy = 1.5 cannot be right"),
    (runs({"exp01a": [0.5]}, **{"flops/training": np.nan}), "bad.csv, line 2: flops/training = .*nan.* cannot be right"),
    (runs({"exp01a": [0.5]}, **{"test/loss": -1}), "bad.csv, line 2: test/loss = -1 cannot be right"),
    (runs({"exp01a": [0.5]}, L_cycles="x"), "bad.csv, line 2: L_cycles = x cannot be right"),
    (runs({"exp01a": [0.5]}).head(0), "bad.csv: no runs after the header"),
    (pd.DataFrame({"case": ["a"], "seed": [1]}), "bad.csv: no column sweep, run_id"),
    (None, "bad.csv: no such file"),
])  # fmt: skip
def test_bad_tables_are_refused(tmp_path, text, message):
    if text is not None:
        text.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(UserError, match=message):
        experiments.read_runs([tmp_path / "bad.csv"])


def test_kinds_of_the_suite_have_names_on_the_axis():
    assert set(figures.CASES) <= set(read_sweeps()["scaling_research"].cases)
    table = runs({"baseline": [0.5], "contrib06": [0.6]})
    [panel] = [ax for ax in figures.axes_of(table, experiments.present(table)).axes if ax.get_visible()]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["baseline", "06: full gradients"]


def test_figures_draw():
    table = runs({f"exp02{c}": [0.5 + i / 20, 0.52 + i / 20] for i, c in enumerate("abcdef")})
    [panel] = [ax for ax in figures.axes_of(table, experiments.present(table)).axes if ax.get_visible()]
    assert [t.get_text() for t in panel.get_xticklabels()] == list("123456")
    x, y = table["L_cycles"].to_numpy(float), table[experiments.LOSS]
    drawn = figures.laws({"2": (x, y, study(x, y, resamples=20)[0])}, ["L_cycles"])
    drawn.canvas.draw()
    assert {"0.2", "0.5"} <= {t.get_text() for t in drawn.axes[0].get_yticklabels()}, "losses are readable on the axis"
    names = figures.named(table)
    assert names["exp02c"] == "exp02c: L_cycles 3" and names["exp08a"] == "08a: float32"
    args = (table.assign(error=1 - table[experiments.ACCURACY]), "case", "flops/training", "error")
    figures.pareto({"FLOPs": (pareto.front(*args), pareto.membership(*args, 50))})
