"""What is said of recursive language models: differences paired by seed, claims decided by the numbers, figures drawn."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.conftest import ROOT
from trm.errors import UserError
from trm.recursive_lm import figures as plots
from trm.recursive_lm import params
from trm.recursive_lm.findings import (
    against,
    by_cycles,
    by_steps,
    chapter_metrics,
    claims,
    curves,
    hard,
    levels,
    more_cycles,
    read_rows,
    say_claims,
    time_to,
    verdict,
)
from trm.report import measures  # noqa: F401  (registers the measurements)
from trm.report.verdicts import CONTRADICTED, MEASURES, OTHER_SCALE, SUPPORTED, NotThere


def made(shares, seeds=3, losses=(1.5, 1.2, 1.0), final=None):
    """Rows of arms that answer a share of the problems right, less with every step: arm -> share. final: arm -> last loss."""
    rows = []
    for arm, share in shares.items():
        for seed in range(seeds):
            draw = np.random.default_rng([seed, *arm.encode()])
            row = {
                "arm": arm,
                "seed": seed,
                "H_cycles": 3,
                "flops/training": 2e13,
                "train/seconds": 240.0,
                "model/parameters": 1e5,
            }
            row |= {f"accuracy/{n}": share - 0.02 * n + 0.003 * draw.normal() for n in range(2, 10)}
            last = (final or {}).get(arm, 1.0)
            if arm in ("recursive", "last_only", "looped"):
                row |= {f"loss/{i}": x + last - losses[-1] + 0.001 * draw.normal() for i, x in enumerate(losses, 1)}
                for H in (1, 3, 6):
                    row |= {f"cycles_{H}/{n}": share - 0.02 * n + 0.01 * H * (n > 6) for n in range(2, 10)}
            else:
                row["loss/1"] = last
            falling = np.linspace(2 * last, last, 4) + 0.001 * draw.normal()
            row |= {"minutes": "1 2 3 4", "share": "0.25 0.5 0.75 1.0", "valid/exact_accuracy": "0 0.1 0.2 0.3"}
            rows.append(row | {"valid/loss": " ".join(f"{x:.4f}" for x in falling)})
    return pd.DataFrame(rows)


ARMS = {"recursive": 0.5, "last_only": 0.49, "same_parameters": 0.4, "same_compute": 0.5, "chain": 0.9}


def test_differences_are_paired_by_seed_on_problems_of_many_steps():
    rows = made(ARMS)
    found = against(rows, "recursive", "same_parameters")
    columns = [f"accuracy/{n}" for n in range(4, 10)]
    one, two = (rows[rows["arm"] == arm][columns].mean(axis=1).to_numpy() for arm in ("recursive", "same_parameters"))
    wanted = stats.ttest_rel(one, two)
    assert found["mean"] == pytest.approx((one - two).mean()) and found["p"] == pytest.approx(wanted.pvalue)
    assert found["low"] == pytest.approx(wanted.confidence_interval().low)
    assert hard(rows, "chain").tolist() == pytest.approx(
        rows.loc[rows["arm"] == "chain", columns].mean(axis=1).tolist()
    )
    assert against(rows, "recursive", "looped") is None


def test_the_verdict_says_what_the_numbers_say():
    text = verdict(made(ARMS))
    lines = {
        name: next(line for line in text.splitlines() if name in line) for name in ("parameters", "compute", "chain (")
    }
    assert "**better**" in lines["parameters"] and "**worse**" in lines["chain ("]
    assert "cannot be told" in verdict(made({"recursive": 0.5, "same_compute": 0.5}))
    assert "no arm recursive" in verdict(made({"chain": 0.5})) and "(1 seed)" in verdict(made(ARMS, seeds=1))


def test_more_cycles_are_held_against_those_of_training():
    rows = made(ARMS)
    table = by_cycles(rows, learned=6)
    assert set(table["H"]) == {1, 3, 6} and set(table["arm"]) == {"recursive", "last_only"}
    mean = table[table["arm"] == "recursive"].groupby("H")[["as trained", "longer"]].mean()
    assert mean.loc[6, "longer"] - mean.loc[3, "longer"] == pytest.approx(0.03)
    assert mean.loc[6, "as trained"] == pytest.approx(0.5 - 0.02 * 4)
    assert "With 6 H-cycles instead of 3" in more_cycles(rows, 6) and "No run" in more_cycles(
        rows[rows["arm"] == "chain"], 6
    )


@pytest.mark.parametrize("final, kind", [(0.9, "supported"), (1.1, "contradicted"), (1.0, "not supported")])
def test_the_claims_of_the_guide(final, kind):
    rows = made(ARMS, final={"recursive": final})
    found = claims(rows)["verdict"]
    assert found["lower final loss"] == found["faster convergence"] == kind
    assert found["ordered step losses"] == "supported" and kind in say_claims(rows)
    rising = made(ARMS, losses=(1.0, 1.2, 1.5))
    assert claims(rising).loc["ordered step losses", "verdict"] == "contradicted"
    assert set(claims(made(ARMS, seeds=2))["verdict"]) == {"not measured"}


def test_the_guides_claims_are_held_against_the_table(tmp_path):
    """The guide's ratios are 10/15 and 1.5/1.8: a gain of another size is of another scale."""

    def held(**options):
        made(ARMS, **options).to_csv(tmp_path / "06_recursive_lm.csv", index=False)
        return {
            name: MEASURES[f"supervised_lm_{name}"](tmp_path) for name in ("faster", "lower_loss", "ordered", "step0")
        }

    better = held(final={"recursive": 0.9})
    assert better["faster"].verdict == better["lower_loss"].verdict == OTHER_SCALE
    assert better["ordered"].verdict == better["step0"].verdict == SUPPORTED
    assert {one.seeds for one in better.values()} == {3}
    assert held(final={"recursive": 1.5 / 1.8})["lower_loss"].verdict == SUPPORTED
    worse = held(final={"recursive": 1.1}, losses=(1.2, 1.4, 1.0))
    assert worse["faster"].verdict == worse["lower_loss"].verdict == CONTRADICTED
    assert worse["ordered"].verdict == CONTRADICTED and worse["step0"].verdict == SUPPORTED
    assert "in 0 of 3 runs" in worse["ordered"].text and "in 3 of 3 runs" in worse["step0"].text
    with pytest.raises(NotThere, match="too few seeds: 2"):
        held(seeds=2)
    made({"recursive": 0.5}).to_csv(tmp_path / "06_recursive_lm.csv", index=False)
    with pytest.raises(NotThere, match="no runs of last_only"):
        MEASURES["supervised_lm_faster"](tmp_path)


def test_time_until_the_loss_that_both_reach():
    rows = made({"recursive": 0.5, "last_only": 0.5}, seeds=1, final={"recursive": 0.3})
    rows["valid/loss"] = ["0.6 0.5 0.4 0.3", "2.0 1.0 0.9 0.45"]
    found = time_to(rows)  # 0.45 lies half way between the second quarter and the third
    assert found.loc[0, "recursive"] == pytest.approx(0.625) and found.loc[0, "last_only"] == 1


def test_tables_and_metrics():
    rows = made(ARMS)
    assert list(by_steps(rows)) == list(range(2, 10)) and len(curves(rows)) == 4 * len(rows)
    shown = levels(rows)
    assert shown.loc["chain", "seeds"] == 3
    chain = 100 * rows.loc[rows["arm"] == "chain", "accuracy/2"]
    assert shown.loc["chain", 2] == f"{chain.mean():.1f} ± {chain.std():.1f}"
    metrics = chapter_metrics(rows)
    mean = rows[rows["arm"] == "recursive"][[f"accuracy/{n}" for n in range(2, 10)]].mean()
    assert metrics["recursive_lm/accuracy"] == pytest.approx(mean.tolist())
    assert {f"recursive_lm/accuracy_{name}" for name in ("same_parameters", "same_compute", "chain")} <= set(metrics)


def test_figures_are_drawn():
    for rows in (made(ARMS), made({"chain": 0.5}, seeds=1)):
        for figure in (plots.steps(rows, 6), plots.learning(curves(rows)), plots.losses(rows), plots.cycles(rows, 6)):
            assert all(ax.get_xlabel() for ax in figure.axes)
    assert plots.progress([{"step": 1, "train/seconds": 2.0, "valid/exact_accuracy": 0.1, "valid/loss": 1.0}])


def test_a_table_of_something_else_is_named(tmp_path):
    (tmp_path / "other.csv").write_text("arm,seed\nchain,0\n")
    with pytest.raises(UserError, match="no column accuracy/2.*recursive_lm --rows FILE"):
        read_rows(tmp_path / "other.csv")


def test_the_committed_table_holds_three_seeds_of_every_arm_at_equal_compute():
    path = ROOT / "book" / "results" / "06_recursive_lm.csv"
    if not path.exists():
        pytest.skip("the sweep recursive_lm has not been run yet")
    rows = read_rows(path)
    wanted = {
        case["arm"] for case in params.read_yaml(ROOT / "params" / "sweeps" / "recursive_lm.yaml")["cases"].values()
    }
    assert set(zip(rows["arm"], rows["seed"])) == {(arm, seed) for arm in wanted for seed in range(3)}
    assert rows["flops/training"].max() / rows["flops/training"].min() < 1.01
    plain = rows[rows["arm"].isin(["recursive", "last_only", "looped", "same_parameters", "chain"])]
    assert (
        plain["model/parameters"].nunique() == 1
        and rows[list(c for c in rows if c.startswith("accuracy/"))].shape[1] == 8
    )
