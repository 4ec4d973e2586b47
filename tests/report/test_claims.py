"""The claims of the source projects: the rules of a verdict, the file and its faults, and the committed claims."""

import math

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT
from trm.errors import UserError
from trm.report import claims
from trm.report.claims import CONTRADICTED, NOT_MEASURED, NOT_SUPPORTED, SUPPORTED, Claim, judge

COMMITTED, RESULTS = ROOT / "book" / "claims.yaml", ROOT / "book" / "results"
GOOD = {"id": "a1", "source": "llm-trm", "section": "Metrics", "quote": "cosine > 0.95", "table": "t.csv",
        "metric": "accuracy", "arm": "a", "versus": "b", "expect": "greater"}  # fmt: skip
# accuracy of three arms, four seeds: a is about 0.1 above b, and c is b with noise
ROWS = [("a", s, 0.6 + 0.01 * s) for s in range(4)] + [("b", s, 0.5 + 0.012 * s) for s in range(4)]
ROWS += [("c", s, 0.5 + 0.012 * s + (-1) ** s * 0.02) for s in range(4)]


@pytest.fixture
def tables(tmp_path):
    table = pd.DataFrame(ROWS, columns=["arm", "seed", "accuracy"])
    table = table.assign(half=table["accuracy"] / 2, size="small")
    table.to_csv(tmp_path / "t.csv", index=False)
    curve = pd.concat([table.assign(step=step, loss=3 - step * table["accuracy"]) for step in (1, 2)])
    curve.to_csv(tmp_path / "curve.csv", index=False)
    return tmp_path


def verdict(tables, **changes):
    return judge(Claim(**GOOD | changes), tables).verdict


def test_a_significant_effect_supports_one_direction_and_contradicts_the_other(tables):
    assert verdict(tables) == SUPPORTED
    assert verdict(tables, expect="less") == CONTRADICTED
    assert verdict(tables, arm="b", versus="a", expect="less") == SUPPORTED
    assert verdict(tables, arm="c") == NOT_SUPPORTED
    one = judge(Claim(**GOOD | {"arm": "c"}), tables)
    assert one.seeds == 4 and "minimum detectable effect" in one.text and "95 % interval" in one.text


def test_a_claimed_size_must_lie_in_the_interval(tables):
    assert verdict(tables, claimed=0.097) == SUPPORTED
    assert verdict(tables, claimed=0.3) == NOT_SUPPORTED
    assert "claimed +30 points" in judge(Claim(**GOOD | {"claimed": 0.3}), tables).text


def test_equal_means_that_the_interval_lies_within_the_size(tables):
    assert verdict(tables, arm="c", expect="equal", claimed=0.1) == SUPPORTED
    assert verdict(tables, arm="c", expect="equal", claimed=0.01) == NOT_SUPPORTED
    assert verdict(tables, expect="equal", claimed=0.01) == CONTRADICTED


def test_of_several_comparisons_all_must_hold(tables):
    assert verdict(tables, versus=["b", "c"]) == SUPPORTED
    assert verdict(tables, arm="b", versus=["a", "c"]) == CONTRADICTED
    assert verdict(tables, arm="c", versus=["b", "c"]) == NOT_SUPPORTED


def test_against_a_number_another_metric_and_as_a_ratio(tables):
    assert verdict(tables, versus=0.4) == SUPPORTED and verdict(tables, versus=0.9) == CONTRADICTED
    assert verdict(tables, versus="", versus_metric="half") == SUPPORTED
    same = judge(Claim(**GOOD | {"metric": "accuracy / half", "ratio": True}), tables)
    assert same.verdict == NOT_SUPPORTED and "1.000 times (the same for each of 4 seeds)" in same.text
    assert verdict(tables, ratio=True, claimed=1.2) == SUPPORTED


def test_of_a_curve_its_end_its_mean_or_its_change(tables):
    curve = {"table": "curve.csv", "metric": "loss", "unit": "nats", "expect": "less"}
    for over, mean in (("last", 3 - 2 * 0.615), ("mean", 3 - 1.5 * 0.615), ("change", -0.615)):
        one = judge(Claim(**GOOD | curve | {"over": over}), tables)
        assert one.verdict == SUPPORTED and f"a {mean:.3g}, b" in one.text


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"table": "none.csv"}, "none.csv: no such file"),
        ({"metric": "uas"}, "no column uas"),
        ({"arm": "z"}, "no rows of 'z'"),
        ({"where": {"size": "large"}}, "no rows of 'a'"),
        ({"where": {"size": "small", "colour": "red"}}, "no column colour"),
        ({"where": {"seed": 1}}, "two seeds or more"),
    ],
)
def test_what_a_table_lacks_is_not_measured_and_says_why(tables, changes, reason):
    one = judge(Claim(**GOOD | changes), tables)
    assert one.verdict == NOT_MEASURED and reason in one.text and one.seeds == 0


def test_facts_and_reasons_need_no_table(tmp_path):
    text = {name: GOOD[name] for name in ("id", "source", "section", "quote")}
    one = judge(Claim(**text, verdict="contradicted", because="2 + 2 is 4"), tmp_path)
    assert (one.verdict, one.text, one.seeds) == (CONTRADICTED, "2 + 2 is 4", 0)
    assert judge(Claim(**text, why="requires a TPU"), tmp_path).verdict == NOT_MEASURED


def without(name):
    return {field: value for field, value in GOOD.items() if field != name}


@pytest.mark.parametrize(
    "entry, said",
    [
        (without("quote"), "entry 2 (a1): field 'quote': Field required"),
        (GOOD | {"metrc": "x"}, "entry 2 (a1): field 'metrc': unknown; did you mean 'metric'?"),
        (GOOD | {"source": "LLM TRM"}, "field 'source': 'LLM TRM': Input should be 'SonarRecursiveModel', 'llm-trm'"),
        (GOOD | {"quote": 8.8}, "field 'quote': 8.8: must be text"),
        (GOOD | {"quote": ""}, "field 'quote': ''"),
        (GOOD | {"expect": "equal"}, "`expect: equal` requires `claimed`"),
        (without("versus"), "a comparison requires `metric`, `arm` and `versus`"),
        (GOOD | {"why": "requires a TPU"}, "give one of `table`, `because` and `why`"),
        (without("table") | {"because": "x"}, "`verdict: contradicted` and `because` go together"),
        ("a claim", "entry 2: Input should be a valid dictionary"),
    ],
)
def test_a_fault_is_named_with_its_place_and_its_fix(tmp_path, entry, said):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([GOOD | {"id": "a0"}, entry]), encoding="utf-8")
    with pytest.raises(UserError) as error:
        claims.read_claims(path)
    assert said in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("content, said", [
    (b"", "give a list of entries"), (b"a: [1", "claims.yaml, line 1"), (b"\xff", "save it as UTF-8"),
    (b"- &a", "entry 1"), (None, "claims.yaml: no such file"), (b"- {id: a, id: b}", "line 1: 'id' is given twice"),
    (yaml.safe_dump([GOOD, GOOD]).encode(), "entry 2: id 'a1' is there twice"),
])  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, content, said):
    path = tmp_path / "claims.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        claims.read_claims(path)


@pytest.fixture(scope="module")
def rows():
    return claims.evaluate_claims(claims.read_claims(COMMITTED), RESULTS)


def test_the_committed_claims_are_whole_and_every_one_is_answered(rows):
    found = claims.read_claims(COMMITTED)
    assert {claim.source for claim in found} == set(claims.SOURCES) and len(found) > 100
    assert all(len(claim.quote.split()) <= 15 for claim in found), "a quotation is short"
    assert list(rows["id"]) == [claim.id for claim in found] and (rows["result"].str.len() > 0).all()
    assert not rows["result"].str.contains("nan").any()
    tally = claims.counts(rows)
    assert list(tally.index) == list(claims.SOURCES) and tally.to_numpy().sum() == len(rows)
    compared = [claim.id for claim in found if claim.table]
    assert not (rows["id"].isin(compared) & (rows["verdict"] == NOT_MEASURED)).any(), (
        "no run of a comparison is missing"
    )


def test_verdicts_that_were_wrong_before(rows):
    """Averaged weights against the recipe's decay; parsing on the parser; nothing said where nothing was decided."""
    found = rows.set_index("id")["verdict"]
    assert found[["tq05", "ph01", "ph06"]].eq(SUPPORTED).all()
    assert found[["ph04", "ph16", "ph18"]].eq(CONTRADICTED).all() and found["ph24"] == NOT_SUPPORTED
    open_ones = ["lt02", *(f"lt{i}" for i in range(12, 17))]
    assert found[open_ones].eq(NOT_MEASURED).all()
    assert found["sr15"] == NOT_SUPPORTED


def test_without_tables_only_facts_about_the_sources_are_left(tmp_path):
    found = claims.evaluate_claims(claims.read_claims(COMMITTED), tmp_path)
    assert set(found["verdict"]) == {CONTRADICTED, NOT_MEASURED} and (found["seeds"] == "").all()
    with pytest.raises(UserError, match="nowhere is not a folder; give the folder of tables as `results`"):
        claims.evaluate_claims([], tmp_path / "nowhere")


def test_the_table_of_a_source_in_a_page_and_in_a_terminal(rows):
    table = claims.ClaimTable(rows, "llm-trm")
    html, text = table._repr_html_(), repr(table)
    assert html.count("<tr>") == 1 + len(table.rows) and "border-left" in html and "“map pre-thinking" in html
    assert "lt06" in text and "CONTRADICTED: kl: tied" in text and "ds01" not in text
    escaped = claims.ClaimTable(rows.assign(claim="<b>"), "llm-trm")._repr_html_()
    assert "&lt;b&gt;" in escaped and "<b>" not in escaped


def test_effects_are_turned_to_the_direction_that_was_claimed(tables):
    ways = {"up": {}, "down": {"arm": "b", "versus": "a", "expect": "less"}}
    ways |= {f"{name} ratio": way | {"ratio": True} for name, way in ways.items()}
    ways |= {"nats": {"unit": "nats"}, "two": {"versus": ["b", "c"]}, "missing": {"table": "none.csv"}}
    judged = [Claim(**GOOD | way | {"id": name}) for name, way in ways.items()]
    found = claims.effects(claims.evaluate_claims(judged, tables)).set_index("id")
    gains = [0.1 - 0.002 * seed for seed in range(4)]
    assert found["effect"]["up"] == found["effect"]["down"] == pytest.approx(100 * sum(gains) / 4)
    logs = sum(math.log((0.6 + 0.01 * s) / (0.5 + 0.012 * s)) for s in range(4)) / 4
    assert found["effect"]["up ratio"] == pytest.approx(math.exp(logs))
    for way in ("", " ratio"):
        assert list(found.loc[f"up{way}", ["low", "high"]]) == pytest.approx(
            list(found.loc[f"down{way}", ["low", "high"]])
        )
    assert found["effect"]["nats"] == pytest.approx(sum(gains) / 4) and list(found.loc["two", "versus"]) == ["b", "c"]
    assert "missing" not in found.index and (found["low"] < found["effect"]).all() and (found["mde"] > 0).all()


def test_the_figure_has_a_line_for_every_claim_with_a_comparison(rows):
    found = claims.effects(rows)
    figure = claims.effects_by_source(found)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [label for label in labels if label in claims.SOURCES] == [
        s for s in claims.SOURCES if s in set(found["source"])
    ]
    assert {label.split()[-1] for label in labels} - set(claims.SOURCES) >= set(found["id"])
    measured = rows[rows["seeds"] != ""]
    assert set(found["id"]) == set(measured["id"])
