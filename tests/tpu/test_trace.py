"""The suites as plans: all of them, with what is wrong and what mends it."""

import pytest

from trm.sweep.spec import SweepError, read_sweeps
from trm.sweep.tpu import cases_of, suite_plans
from trm.tpu.slices import SLICES


@pytest.fixture(scope="module")
def plans():
    return suite_plans("tpu_quickstart, scaling_research", SLICES["v4-64"], 0.4)


def test_every_configuration_has_its_plan(plans):
    sweeps = read_sweeps()
    for name in ("tpu_quickstart", "scaling_research"):
        assert list(plans.loc[plans["sweep"] == name, "case"]) == list(sweeps[name].cases)
    assert (plans["days"] > 0).all() and (plans["memory_gib"] > 0).all()


def test_those_that_cannot_run_are_named_with_their_mend(plans):
    wrong = plans[plans["fault"] != ""].set_index("case")
    assert list(wrong.index) == ["exp07f", "exp08c"]
    assert wrong.loc["exp08c", "mend"] == "precision: bfloat16"
    assert wrong.loc["exp07f", "mend"] == "grad_accumulation: 2"


def test_sweeps_of_other_chapters_are_refused():
    with pytest.raises(SweepError, match="'compressor' is no sweep of chapter 04"):
        suite_plans("compressor", SLICES["v4-8"], 0.4)


def test_groups_are_counted_once():
    assert len(cases_of("scaling_research", "core", "exp01")) == len(cases_of("scaling_research", "core")) == 58
