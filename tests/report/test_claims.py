"""The claims of the guides: the file, its faults, and a verdict for every claim; the rules are in test_verdicts.py."""

import pandas as pd
import pytest
import yaml
from trm.report.measures.arithmetic import SMOLLM3_HIDDEN
from trm.report.verdicts import IN_PART, MEASURES, NOT_MEASURED, SUPPORTED, VERDICTS, Measured

from tests.conftest import ROOT
from trm.errors import UserError
from trm.report import claims

COMMITTED = ROOT / "book" / "claims.yaml"
RESULTS = ROOT / "book" / "results"
GOOD = {"id": "a1", "guide": "LLM-TRM", "section": "Metrics", "quote": "cosine > 0.95", "measure": "compressor_hidden"}


@pytest.fixture(scope="module")
def answers():
    return claims.hold(claims.read_claims(COMMITTED), RESULTS)


# --- the committed claims -------------------------------------------------------------------------------------------


def test_the_committed_claims_are_whole(answers):
    found = claims.read_claims(COMMITTED)
    assert len({claim.id for claim in found}) == len(found) > 100
    assert {claim.guide for claim in found} == set(claims.GUIDES)
    assert all(len(claim.quote.split()) <= 15 for claim in found), "a quotation is short"
    assert all(bool(claim.measure) != bool(claim.why) for claim in found), "a measurement, or what one would want"


def test_every_measurement_has_a_claim_and_every_claim_its_measurement():
    assert {claim.measure for claim in claims.read_claims(COMMITTED) if claim.measure} == set(MEASURES)


def test_every_claim_is_answered(answers):
    rows = claims.table(answers)
    assert list(rows["id"]) == [entry["id"] for entry in yaml.safe_load(COMMITTED.read_text())]
    assert set(rows["verdict"]) <= set(VERDICTS) and (rows["measured"].str.len() > 0).all()
    decided = rows[rows["verdict"] != NOT_MEASURED]
    assert (decided["scale"] != "").all() and not decided["measured"].str.contains("nan").any()
    tally = claims.counts(answers)
    assert list(tally.index) == list(claims.GUIDES) and set(tally) == set(VERDICTS)
    assert tally.to_numpy().sum() == len(rows)


def test_what_the_committed_tables_can_answer_is_answered(answers):
    """Only of the suites may runs be missing."""
    missing = [a.claim.id for a in answers if a.claim.measure and a.measured.verdict == NOT_MEASURED]
    whole = {name for name, function in MEASURES.items() if not function.func.__module__.endswith("suites")}
    assert not [a.claim.id for a in answers if a.claim.id in missing and a.claim.measure in whole]


def test_with_no_tables_arithmetic_alone_is_left(tmp_path):
    found = claims.hold(claims.read_claims(COMMITTED), tmp_path)
    assert all(a.measured.seeds is None for a in found if a.measured.verdict != NOT_MEASURED)
    reasons = {a.claim.id: a.measured.text for a in found if a.claim.measure and a.measured.verdict == NOT_MEASURED}
    assert reasons["ds01"] == "wants the table 02_deep_supervision.csv"


@pytest.mark.parametrize("content", ["", "arm\n", "a,b\n1,2\n", "case,puzzle,test/exact_accuracy,seed,label,arm\n"])
def test_tables_that_hold_nothing_are_no_error(tmp_path, content):
    for name in ("02_deep_supervision", "03_arms_6x6", "03_summary_x", "10_scaling_research", "10_tpu_quickstart"):
        (tmp_path / f"{name}.csv").write_text(content)
    found = claims.hold(claims.read_claims(COMMITTED), tmp_path)
    assert all(a.measured.seeds is None for a in found if a.measured.verdict != NOT_MEASURED)


def test_results_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder; give the folder of tables as `results`"):
        claims.hold(claims.read_claims(COMMITTED), tmp_path / "nowhere")


def test_the_hidden_size_that_the_arithmetic_rests_on():
    configuration = pytest.importorskip("transformers.models.smollm3.configuration_smollm3")
    assert configuration.SmolLM3Config().hidden_size == SMOLLM3_HIDDEN


# --- faults of the file ---------------------------------------------------------------------------------------------


def written(tmp_path, *entries):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(list(entries)))
    return path


def without(name):
    return {field: value for field, value in GOOD.items() if field != name}


@pytest.mark.parametrize(
    "entry, said",
    [
        (without("quote"), "entry 2 (a1): field 'quote' is missing; add it"),
        (without("id"), "entry 2: field 'id' is missing; add it"),
        (GOOD | {"mesure": "x"}, "entry 2 (a1): unknown field 'mesure'; did you mean 'measure'?"),
        (
            GOOD | {"measure": "compresor_hidden"},
            "no measurement 'compresor_hidden'; did you mean 'compressor_hidden'?",
        ),
        (GOOD | {"guide": "LLM TRM"}, "field 'guide': no guide 'LLM TRM'; did you mean 'LLM-TRM'?"),
        (GOOD | {"quote": 8.8}, "field 'quote' must be a text, and is 8.8; put it in quotation marks"),
        (GOOD | {"quote": " "}, "field 'quote' must be a text"),
        (GOOD | {"why": "wants a TPU"}, "field 'why' is for claims without a measurement"),
        ("a claim", "entry 2: wants a mapping with id, guide, section, quote"),
    ],
)
def test_a_fault_is_named_with_its_place_and_its_mend(tmp_path, entry, said):
    path = written(tmp_path, GOOD | {"id": "a0"}, entry)
    with pytest.raises(UserError) as error:
        claims.read_claims(path)
    assert said in str(error.value) and str(path) in str(error.value)


def test_an_id_stands_once(tmp_path):
    with pytest.raises(UserError, match="entry 2: id 'a1' is there twice"):
        claims.read_claims(written(tmp_path, GOOD, GOOD))


@pytest.mark.parametrize("text, said", [("a: [", "claims.yaml"), ("a: 1", "wants a list"), ("", "wants a list")])
def test_a_file_that_is_no_list(tmp_path, text, said):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        claims.read_claims(tmp_path / "claims.yaml")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="No such file.*give the file of claims as `claims`"):
        claims.read_claims(tmp_path / "none.yaml")


# --- how it is shown ------------------------------------------------------------------------------------------------


@pytest.fixture
def two():
    first = claims.Claim("a1", "LLM-TRM", "Metrics", "**cosine** <0.95>", about="at 256", measure="compressor_hidden")
    second = claims.Claim("b1", "TPU quick start", "Node", "| 8 | workers |", why="wants a TPU")
    return [
        claims.Answer(first, Measured(SUPPORTED, "it is 0.97", "6x6", 3)),
        claims.Answer(second, Measured(NOT_MEASURED, "wants a TPU")),
    ]


def test_a_sheet_is_a_table_in_a_page_and_text_in_a_terminal(two):
    sheet = claims.Sheet(two, "LLM-TRM")
    page, text = sheet._repr_html_(), repr(sheet)
    assert "“cosine &lt;0.95&gt;” (at 256)" in page and "workers" not in page
    assert claims.COLOURS[SUPPORTED] in page and "white-space: normal" in page
    assert text.splitlines()[:2] == [
        "a1  “cosine <0.95>” (at 256), Metrics",
        "      SUPPORTED: it is 0.97 [6x6; 3 seeds]",
    ]
    assert repr(claims.Sheet(two, "TPU quick start")).startswith(
        "b1  “8 | workers”, Node\n      NOT MEASURED: wants a TPU"
    )


def test_a_bar_for_each_guide(two):
    tally = claims.counts(two)
    assert tally.loc["LLM-TRM", SUPPORTED] == 1 and tally.loc["TPU quick start", NOT_MEASURED] == 1
    assert tally.loc["LLM-TRM", IN_PART] == 0
    (ax,) = claims.verdicts_by_guide(two).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["LLM-TRM", "TPU quick start"]
    assert pd.Series([patch.get_width() for patch in ax.patches]).sum() == 2


def test_every_verdict_has_a_colour_of_its_own():
    assert set(claims.COLOURS) == set(VERDICTS) and len(set(claims.COLOURS.values())) == len(VERDICTS)
