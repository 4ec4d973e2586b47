"""Verdicts on made-up tables whose outcome is known: a gain, a loss, no difference, too few seeds."""

import numpy as np
import pandas as pd
import pytest

from trm.report import measures  # noqa: F401  (registers the measurements)
from trm.report.verdicts import (
    CONTRADICTED,
    IN_PART,
    MEASURES,
    NOT_SUPPORTED,
    OTHER_SCALE,
    SUPPORTED,
    NotThere,
    against_all,
    compare,
    measure,
    more_efficient,
    read_table,
    share,
    with_figure,
)

UP, FLAT = [0.02, 0.03, 0.04], [-0.02, 0.0, 0.02]  # gains of three seeds: t = 5.2, p = 0.035; t = 0
CASE = "test/exact_accuracy"


def seeds(*values):
    return pd.Series(values, index=range(len(values)), dtype=float)


def arms(gains):
    """(a, b): b the same numbers each time, a ahead by the gains."""
    b = np.array([0.5, 0.6, 0.7])
    return seeds(*(b + gains)), seeds(*b)


# --- the rules ------------------------------------------------------------------------------------------------------


def test_a_difference_by_hand():
    """Gains of 2, 3 and 4 points: mean 3, standard error 1/sqrt(3), t = 5.196 on two degrees of freedom, p = 0.0351."""
    found = compare(*arms(UP), ("new", "old"))
    assert found.verdict == SUPPORTED and found.seeds == 3
    assert found.mean == pytest.approx(0.03) and found.low == pytest.approx(0.03 - 4.30265 * 0.01 / 3**0.5, rel=1e-5)
    assert found.text == "new 63.0% against 60.0% for old: +3.0 points (95 % interval +0.5 to +5.5, p = 0.035)"


def test_the_other_way_nothing_and_no_spread():
    assert compare(*arms([-g for g in UP]), ("a", "b")).verdict == CONTRADICTED
    assert compare(*arms([-g for g in UP]), ("a", "b"), more=False).verdict == SUPPORTED
    assert compare(*arms(FLAT), ("a", "b")).verdict == NOT_SUPPORTED
    same = compare(*arms([0.0, 0.0, 0.0]), ("a", "b"))
    assert same.verdict == NOT_SUPPORTED and "the same for every seed" in same.text and "nan" not in same.text


def test_tests_share_the_risk():
    assert compare(*arms(UP), ("a", "b"), tests=2).verdict == NOT_SUPPORTED  # 0.035 is not below 0.025


def test_ratios():
    found = compare(seeds(2, 4, 8.4), seeds(1, 2, 4), ("a", "b"), unit="times")
    assert found.verdict == SUPPORTED and found.mean == pytest.approx(8.4 ** (1 / 3))
    assert "2.03 times" in found.text
    with pytest.raises(NotThere, match="above 0"):
        compare(seeds(0, 1, 2), seeds(1, 2, 3), ("a", "b"), unit="times")


def test_seeds_are_matched_and_must_be_three():
    with pytest.raises(NotThere, match="too few seeds: 1"):
        compare(seeds(0.5), seeds(0.4), ("a", "b"))
    with pytest.raises(NotThere, match="too few seeds: 2"):
        compare(seeds(0.5, 0.6, 0.7), seeds(0.4, 0.5), ("a", "b"))
    with pytest.raises(NotThere, match="finite"):
        compare(seeds(0.5, 0.6, np.nan), seeds(0.4, 0.5, 0.6), ("a", "b"))


def test_shares():
    verdicts = [share(hits, 20) for hits in (20, 19, 18, 2, 1, 0)]
    assert verdicts == [SUPPORTED, SUPPORTED, IN_PART, IN_PART, CONTRADICTED, CONTRADICTED]
    with pytest.raises(NotThere):
        share(0, 0)


def test_a_figure_that_the_interval_does_not_reach():
    found = compare(*arms(UP), ("a", "b"))
    assert with_figure(found, 0.04) == SUPPORTED and with_figure(found, 0.2) == OTHER_SCALE
    assert with_figure(compare(*arms(FLAT), ("a", "b")), 0.2) == NOT_SUPPORTED


def test_one_against_all():
    base = np.array([0.5, 0.6, 0.7])
    gains = {"best": [0, 0, 0], "far": [-0.3, -0.31, -0.29], "near": [-0.01, 0.0, 0.01]}
    table = pd.DataFrame(
        [{"arm": name, "seed": s, CASE: base[s] + g[s]} for name, g in gains.items() for s in range(3)]
    )
    mixed = against_all(table, "best", ["far", "near"], CASE)
    assert mixed.verdict == IN_PART
    assert mixed.text == "best (60.0%): better than far (30.0%); not to be told from near (60.0%)"
    assert against_all(table, "best", ["far"], CASE).verdict == SUPPORTED
    assert against_all(table, "best", ["near"], CASE).verdict == NOT_SUPPORTED
    assert against_all(table, "far", ["best", "near"], CASE).verdict == CONTRADICTED


def test_efficiency_is_fewer_steps_at_no_loss():
    def verdict(steps, gain):
        rows = [{"arm": "old", "seed": s, "steps": 5.0, "right": 0.5 + s / 10} for s in range(3)]
        rows += [{"arm": "new", "seed": s, "steps": steps[s], "right": 0.5 + s / 10 + gain[s]} for s in range(3)]
        return more_efficient(pd.DataFrame(rows), ["new"], "old", "arm", "right", "steps")[0]

    fewer, more, alike = [3.0, 3.1, 2.9], [7.0, 7.1, 6.9], [4.9, 5.0, 5.1]
    assert verdict(fewer, FLAT) == SUPPORTED
    assert verdict(fewer, [-g for g in UP]) == CONTRADICTED
    assert verdict(alike, FLAT) == NOT_SUPPORTED
    assert verdict(more, FLAT) == CONTRADICTED


def test_what_a_table_lacks_is_said(tmp_path):
    with pytest.raises(NotThere, match="wants the table t.csv"):
        read_table(tmp_path, "t.csv")
    (tmp_path / "t.csv").write_text("arm,seed\na,0\n")
    with pytest.raises(NotThere, match="no runs of b"):
        read_table(tmp_path, "t.csv", arms=["a", "b"])
    with pytest.raises(NotThere, match="no column x"):
        read_table(tmp_path, "t.csv", columns=["x"])


def test_a_measurement_has_its_name_to_itself():
    with pytest.raises(ValueError, match="two measurements"):
        measure("linear_gain")(lambda tables: None)


# --- chapter 02's table ---------------------------------------------------------------------------------------------


def supervision(folder, lift=0.0, spread=0.01, falling=True, seeds=3):
    """A table of chapter 02; every arm but none is ahead by `lift` and, if `falling`, refines over the H-cycles."""
    rows = []
    for arm in (
        "none",
        "linear",
        "constant",
        "exponential",
        "exp2",
        "uniform",
        "inverse_u",
        "last_two",
        "ramp",
        "curriculum",
    ):
        for seed in range(seeds):
            ahead = (lift if arm != "none" else 0) + spread * ((seed * 7 + len(arm)) % 3 - 1)
            for step in (50, 100, 200):
                row = {"arm": arm, "seed": seed, "step": step, "compute": 27 * step, "train/grad_norm": 1.0}
                row |= {"valid/exact_accuracy": step / 400 + ahead, CASE: 0.4 + ahead}
                for cycle in range(3):
                    order = -cycle if falling else cycle
                    row[f"train/deep_supervision/step_{cycle}_loss"] = 200 / step - ahead + 0.01 * order + seed * 1e-3
                    norm = 0.1 * (1 + cycle) if arm == "none" else 0.3
                    row[f"train/gradients/step_{cycle}_grad_norm_mean"] = norm * (
                        1 + 0.01 * seed * cycle * (2 if arm == "none" else 1)
                    )
                rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "02_deep_supervision.csv", index=False)
    return folder


def test_supervision_that_helps(tmp_path):
    found = {name: MEASURES[name](supervision(tmp_path, lift=0.2)) for name in MEASURES if name.startswith("l")}
    for name in ("linear_gain", "linear_learns_faster", "linear_or_exponential", "linear_refines", "losses_fall"):
        assert found[name].verdict == SUPPORTED and found[name].seeds == 3, name
    assert found["linear_is_best"].verdict == NOT_SUPPORTED  # the others are ahead as well
    assert found["loss_of_cycle_0"].verdict == OTHER_SCALE
    assert found["linear_gain"].scale == "6x6 Sudoku, 200 steps"
    assert MEASURES["gradient_vanishes_less"](tmp_path).verdict == SUPPORTED
    assert MEASURES["gradient_is_diluted"](tmp_path).verdict == SUPPORTED
    assert MEASURES["gradients_similar"](tmp_path).verdict == SUPPORTED
    assert MEASURES["first_loss_is_higher_is_bad"](tmp_path).verdict == CONTRADICTED


def test_supervision_that_harms_or_does_nothing(tmp_path):
    harm = supervision(tmp_path, lift=-0.2, falling=False)
    assert MEASURES["linear_gain"](harm).verdict == CONTRADICTED
    assert MEASURES["linear_refines"](harm).verdict == CONTRADICTED
    assert MEASURES["first_loss_is_higher_is_bad"](harm).verdict == SUPPORTED
    nothing = supervision(tmp_path, lift=0.0)
    for name in ("linear_gain", "ramp_gain", "linear_or_exponential", "curriculum_calms", "nothing_diverges"):
        assert MEASURES[name](nothing).verdict == NOT_SUPPORTED, name


def test_one_seed_says_nothing(tmp_path):
    one = supervision(tmp_path, lift=0.2, seeds=1)
    for name in ("linear_gain", "linear_refines", "losses_fall", "loss_of_none", "gradients_similar", "runs_repeat"):
        with pytest.raises(NotThere, match="too few seeds: 1"):
            MEASURES[name](one)


def test_runs_that_repeat(tmp_path):
    table = pd.read_csv(supervision(tmp_path, spread=0.0) / "02_deep_supervision.csv")
    assert MEASURES["runs_repeat"](tmp_path).verdict == SUPPORTED
    table.loc[table["arm"] == "uniform", CASE] += 1e-5
    table.to_csv(tmp_path / "02_deep_supervision.csv", index=False)
    found = MEASURES["runs_repeat"](tmp_path)
    assert found.verdict == IN_PART and found.text.startswith("6 of 9 runs")


# --- chapter 03's tables --------------------------------------------------------------------------------------------


def halting(folder, steps, accuracy=lambda exponent: 0.9):
    """Four prices and two other arms, three seeds; steps and accuracy by the exponent of the price."""
    rows = []
    for seed in range(3):
        for exponent in (-4, -3.3, -3, -2.3):
            row = {"arm": f"act:{exponent}", "seed": seed, "ponder_coef": 10.0**exponent, "accuracy_all_steps": 0.9}
            row |= {"taught_mean_steps": steps(exponent) + 0.01 * seed * exponent, "taught_fixed_same_steps": 0.9}
            rows.append(row | {"taught_accuracy": accuracy(exponent) + 0.001 * seed})
        for arm, ahead in (("q", 0.0), ("annealed", 0.02 + 0.001 * seed), ("depth", 0.03 + 0.001 * seed)):
            row = {"arm": arm, "seed": seed, "ponder_coef": 1e-3, "accuracy_all_steps": 0.9 + ahead}
            row |= {"taught_mean_steps": 3 - 10 * ahead, "taught_accuracy": 0.9, "taught_fixed_same_steps": 0.8}
            rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "03_arms_6x6.csv", index=False)
    return folder


def test_the_price_of_thinking(tmp_path):
    assert MEASURES["ponder_trades"](halting(tmp_path, lambda e: -e)).verdict == SUPPORTED
    assert MEASURES["ponder_trades"](halting(tmp_path, lambda e: 6.0)).verdict == NOT_SUPPORTED
    assert MEASURES["ponder_trades"](halting(tmp_path, lambda e: 6 + e)).verdict == CONTRADICTED


def test_halting_against_fixed_depth(tmp_path):
    assert MEASURES["expected_loss_halts"](halting(tmp_path, lambda e: 3, lambda e: 0.95)).verdict == SUPPORTED
    assert MEASURES["expected_loss_halts"](halting(tmp_path, lambda e: 3, lambda e: 0.85)).verdict == CONTRADICTED
    assert MEASURES["depth_curriculum"](tmp_path).verdict == SUPPORTED
    assert MEASURES["annealed_exploration"](tmp_path).verdict == SUPPORTED


@pytest.mark.parametrize("speedups, verdict", [((6, 2.5), SUPPORTED), ((6, 1.1), IN_PART), ((1.1, 1.2), CONTRADICTED)])
def test_entropy_halting(tmp_path, speedups, verdict):
    for i, speedup in enumerate(speedups):
        row = {"label": f"set {i}", "accuracy_fixed": 0.9, "accuracy_entropy": 0.898, "fixed_steps": 16}
        pd.DataFrame([row | {"speedup_entropy": speedup}]).to_csv(tmp_path / f"03_summary_{i}.csv", index=False)
    found = MEASURES["entropy_speeds_up"](tmp_path)
    assert found.verdict == verdict and found.seeds == 1 and "set 1" in found.text


# --- chapter 10's tables --------------------------------------------------------------------------------------------


def suite(folder, name, cases, seeds=3, **columns):
    """A table of a suite. cases: name -> (gain over 0.5, parameters of the case)."""
    rows = []
    rng = np.random.default_rng(0)
    for case, (gain, values) in cases.items():
        for seed in range(seeds):
            row = {"sweep": name, "case": case, "cell": "", "seed": seed, "puzzle": "6x6", "train/steps": 600, **values}
            rows.append(row | {CASE: 0.5 + gain + 0.05 * seed + rng.uniform(-0.002, 0.002)} | columns)
    pd.DataFrame(rows).to_csv(folder / f"10_{name}.csv", index=False)
    return folder


def widths(*gains):
    names = ("exp01a", "exp01b", "exp01c")
    return {case: (gain, {"hidden_size": 16 * (i + 1)}) for i, (case, gain) in enumerate(zip(names, gains))}


def test_an_optimum_that_can_be_told(tmp_path):
    found = MEASURES["best_width"](suite(tmp_path, "scaling_research", widths(0.0, 0.2, 0.1)))
    assert found.verdict == SUPPORTED and found.text.startswith(
        "best is hidden_size 32 (75.0%): better than hidden_size 16"
    )
    assert found.scale == "6x6 Sudoku, 600 steps"
    assert MEASURES["best_width"](suite(tmp_path, "scaling_research", widths(0.0, 0.2, 0.2))).verdict == IN_PART
    assert MEASURES["best_width"](suite(tmp_path, "scaling_research", widths(0.0, 0.0, 0.0))).verdict == NOT_SUPPORTED
    with pytest.raises(NotThere, match="no runs of exp02"):
        MEASURES["best_L_cycles"](tmp_path)
    with pytest.raises(NotThere, match="too few seeds: 1"):
        MEASURES["best_width"](suite(tmp_path, "scaling_research", widths(0.0, 0.2, 0.1), seeds=1))
    with pytest.raises(NotThere, match="one configuration"):
        MEASURES["best_width"](suite(tmp_path, "scaling_research", widths(0.1)))


@pytest.mark.parametrize("gain, verdict, figure", [(-0.1, SUPPORTED, OTHER_SCALE), (0.1, CONTRADICTED, CONTRADICTED),
                                                   (0.0, NOT_SUPPORTED, NOT_SUPPORTED),
                                                   (-0.153, SUPPORTED, SUPPORTED)])  # fmt: skip
def test_what_no_averaging_costs(tmp_path, gain, verdict, figure):
    cases = {"exp09a": (gain, {"ema_decay": 0.0}), "exp09b": (0.0, {"ema_decay": 0.99})}
    suite(tmp_path, "scaling_research", cases)
    found = MEASURES["ema_off_drops"](tmp_path)
    assert found.verdict == verdict and "ema_decay 0.0" in found.text
    assert MEASURES["ema_off_figure"](tmp_path).verdict == figure


def test_contributions_against_the_baseline(tmp_path):
    cases = {"baseline": (0.0, {}), "contrib01a": (0.2, {}), "contrib01b": (0.0, {}), "contrib02a": (0.0, {})}
    suite(tmp_path, "scaling_research", cases, **{"test/mean_steps": 5.0, "test/halted_exact_accuracy": 0.5})
    found = MEASURES["curriculum_recursion"](tmp_path)
    assert found.verdict == SUPPORTED and "contrib01b" in found.text
    assert MEASURES["adaptive_halting"](tmp_path).verdict == NOT_SUPPORTED


def test_the_quick_starts_baseline(tmp_path):
    cases = {"e1_1_baseline": (0.3, {"data_path": ""}), "e2_2_t3_n6": (0.0, {}), "e2_2_t2_n2": (0.2, {})}
    suite(tmp_path, "tpu_quickstart", cases)
    assert MEASURES["best_t_n"](tmp_path).verdict == CONTRADICTED
    assert MEASURES["baseline_87"](tmp_path).verdict == OTHER_SCALE
    for gain, verdict in ((0.32, SUPPORTED), (-0.2, CONTRADICTED)):
        suite(tmp_path, "tpu_quickstart", {"e1_1_baseline": (gain, {"data_path": "hub:sapientinc/sudoku-extreme"})})
        assert MEASURES["baseline_87"](tmp_path).verdict == verdict
    assert MEASURES["baseline_85"](tmp_path).verdict == CONTRADICTED
