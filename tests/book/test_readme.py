"""What the README says of halting, against the committed tables."""

import pandas
import pytest

from tests.conftest import ROOT
from trm.models.pretrained import shipped_model

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
    folder = ROOT / "trm" / "models" / "shipped" / f"sudoku_{puzzle}"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
