"""Findings about halting: the words follow the numbers, in both directions."""

import numpy as np
import pandas as pd

from trm.puzzles.halting_findings import claims, longer, stopping

ROW = {
    "label": "toy", "puzzles": 1000, "fixed_steps": 16, "accuracy_fixed": 0.9, "rule": "entropy", "accuracy_rule": 0.898,
    "loss_low": -0.004, "loss_high": 0.0, "mean_steps_rule": 4.0, "accuracy_fixed_depth_same_steps": 0.8,
    "over_fixed_low": 0.08, "over_fixed_high": 0.12, "accuracy_dealt_out": 0.7, "speedup_rule": 3.9,
    "accuracy_entropy": 0.9, "speedup_entropy": 2.5, "shallowest_fixed_depth": 8.0, "accuracy_patient": 0.99,
    "attempts_patient": 16, "mean_steps_patient": 6.0, "seconds_patient_over_fixed": 0.5,
}  # fmt: skip


def test_a_rule_is_praised_only_where_the_interval_says_so():
    said = stopping(ROW)
    assert "-0.2 points" in said and "3.9 times faster" in said and "+9.8 points (+8.0 to +12.0) ahead" in said
    assert "takes 8 steps, so that capping alone would save a factor of 2.0" in said
    doubtful = stopping(ROW | {"over_fixed_low": -0.01, "shallowest_fixed_depth": np.nan})
    assert "measured: no gain" in doubtful and "ahead" not in doubtful and "No fixed depth is as accurate" in doubtful


def arms(steps, accuracy, fixed=0.5):
    """Three seeds of act at four prices; steps and accuracy: functions of the exponent."""
    rows = []
    for seed in range(3):
        for exponent in (-4, -3, -2, -1):
            rows.append(
                {"arm": f"act:1e{exponent}", "seed": seed, "ponder_coef": 10.0**exponent, "cap": 6,
                 "taught_mean_steps": steps(exponent) + 0.01 * seed, "taught_accuracy": accuracy(exponent) + 0.001 * seed,
                 "taught_fixed_same_steps": fixed, "accuracy_all_steps": 0.9}
            )  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(table, **summary):
    text = claims(table, pd.DataFrame([ROW | summary]).set_index("label"))
    return [line.split("|")[3].strip() for line in text.splitlines()[2:]], text


def test_claims_follow_the_numbers():
    falling = arms(lambda e: 2 - e, lambda e: 0.8 - 0.02 * e)
    found, text = verdicts(falling)
    assert found == ["yes", "yes", "yes", "yes"]
    assert "For ten times the price -1.00 steps" in text and "12 of 12 runs" not in text  # at 6 steps: the cap
    flat, _ = verdicts(arms(lambda e: 6.0, lambda e: 0.9, fixed=0.9))
    assert flat[1:3] == ["no: the steps do not move"] * 2 and flat[0] != "yes"
    rising, _ = verdicts(arms(lambda e: 6 + e, lambda e: 0.9, fixed=0.95))
    assert rising[0] == "no: the contrary" and rising[1] == "no: the steps rise"
    for summary, verdict in (
        ({"speedup_entropy": 6.0}, "yes, and more"),
        ({"speedup_entropy": 1.5}, "no"),
        ({"speedup_entropy": 2.5, "accuracy_entropy": 0.5}, "only at a loss"),
    ):
        assert verdicts(falling, **summary)[0][-1] == verdict


def test_gains_have_an_interval_over_seeds_or_over_puzzles():
    def rows(seed, accuracy):
        out = []
        for kind, tries, steps, value in (("steps", 1, 16, 0.5), ("steps", 1, 64, accuracy)):
            out.append({"kind": kind, "selection": "", "tries": tries, "steps": steps, "accuracy": value})
        for kind in ("symmetry", "noise"):
            for selection in ("agreement", "confidence", "residual", "rule check"):
                out.append({"kind": kind, "selection": selection, "tries": 4, "steps": 16, "accuracy": 0.7})
        return pd.DataFrame(out).assign(seed=seed, label="toy", low=-0.01, high=0.3)

    one = longer(rows(0, 0.6))
    assert (
        "64 steps instead bring +10.0 points (95 % interval -1.0 to +30.0; one model, over puzzles), which may be nothing"
        in one
    )
    several = longer(pd.concat([rows(0, 0.6), rows(1, 0.61), rows(2, 0.59)]))
    # t(0.975, 2) = 4.303, deviation 0.01, three seeds: half width 2.48 points
    assert "64 steps instead bring +10.0 points (95 % interval +7.5 to +12.5; 3 seeds)." in several
