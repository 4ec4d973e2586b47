"""GSM8K: numbers read from texts, calculations, parts without a common question, and files that are not as they should be."""

import gzip
import json
import lzma
from fractions import Fraction

import datasets
import pytest

from trm.errors import UserError
from trm.language.gsm8k import exercises, read_number

CLIPS = {
    "question": "Natalia sold clips to 48 friends, and half as many in May. How many?",
    "answer": "In May she sold 48/2 = <<48/2=24>>24 clips.\nThat is 48+24 = <<48+24=72>>72 altogether.\n#### 72",
}


def rows(count, first=0):
    return [{"question": f"Question {i}?", "answer": f"It is {i}.\n#### {i}"} for i in range(first, first + count)]


def folder_of(path, **parts):
    for part, found in parts.items():
        (path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "text, number",
    [
        ("#### 1,234", 1234), ("She paid 7 times 9.\n#### -1,200", -1200), ("#### 5\nThat is 3 more than 2.", 5),
        ("#### 5\nQ: next?\n#### 6", 5), ("so $1,234.50.", Fraction(2469, 2)), ("-5", -5), ("\u22125", -5), ("-$5", -5),
        ("$-5", -5), ("3/4", Fraction(3, 4)), ("It is 3 / 4 of them.", Fraction(3, 4)), ("-1/2", Fraction(-1, 2)),
        ("12-5", 5), ("x=17;", 17), ("17*2=34", 34), ("\\boxed{72}", 72), ("the 3 are \\boxed{1,072} of 5", 1072),
        ("**18**", 18), ("$18$", 18), ("50%", 50), ("18.00", 18), ("0.5", Fraction(1, 2)), ("12 apples and 3", 3),
        ("3, and then 4, so", 4), ("step2 has 7 of them", 7), ("007", 7), ("no number", None), ("", None),
        ("#### none, of 5", 5), ("#### ", None), ("\\boxed{}", None), (".5", Fraction(1, 2)),
        ("of the 4, .25", Fraction(1, 4)), ("-.5", Fraction(-1, 2)), ("1/0", 1), ("5/00", 5), ("9" * 5000, None),
        ("\\boxed{5} and \\boxed{6}", 5), ("1,2,3", None), ("it is 1, 2, 3", 3), ("12,34", None), ("1 234", None),
        ("1\u00a0234", 1234),
        ("1\u202f234\u202f567", 1234567), ("\\frac{1}{2}", Fraction(1, 2)), ("\\boxed{\\dfrac{3}{4}}", Fraction(3, 4)),
        ("-\\frac{1}{2}", Fraction(-1, 2)), ("2\\frac{1}{2}", Fraction(5, 2)), ("2 1/2", Fraction(5, 2)), ("3.5e3", 3500),
        ("2E-2", Fraction(1, 50)), ("1.234,56", Fraction(123456, 100)), ("1.234.567", 1234567),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("1.234", Fraction(1234, 1000)), ("1,23,456", None), ("1.2.3", None), ("3/4/5", None), ("so 1,034, and", 1034),
        ("on day 3 she has 120", 120), ("12:30", 30), ("3e3x", 3),
    ],
)  # fmt: skip
def test_the_number_that_a_text_ends_with(text, number):
    assert read_number(text) == number


def test_an_exercise_has_a_chain_without_calculations_and_the_calculations_of_two_numbers(tmp_path):
    written = ["1,200*2=2400", "100-50-30=20", "20*.2=4", "(3+4)*2=14", "10--3=13", "-5+3=-2", "7=7"]
    answers = [" ".join(f"so <<{one}>>" for one in written), "None."]
    test = [{"question": answer, "answer": f"{answer}\n#### 1,000"} for answer in answers]
    clips, found, none = exercises(folder_of(tmp_path, test=[CLIPS, *test]), "test")
    assert clips.question == CLIPS["question"] and clips.answer == "72" and clips.steps == 2
    assert clips.chain == "In May she sold 48/2 = 24 clips.\nThat is 48+24 = 72 altogether."
    assert clips.calculations == (("48", "/", "2", "24"), ("48", "+", "24", "72"))
    numbers = [("1,200", "*", "2", "2400"), ("20", "*", ".2", "4"), ("10", "-", "-3", "13"), ("-5", "+", "3", "-2")]
    assert found.calculations == tuple(numbers)
    assert found.steps == 7 and found.answer == "1000" and "<" not in found.chain
    assert none.calculations == () and none.steps == 1


def test_every_tenth_training_problem_is_for_validation_and_repeated_ones_are_dropped(tmp_path):
    doubled = [row for row in rows(25) for _ in range(2)]
    where = folder_of(tmp_path, train=doubled, test=doubled[:6] + rows(3, 100) + rows(3, 100))
    train, valid, test = ([one.question for one in exercises(where, part)] for part in ("train", "valid", "test"))
    assert valid == ["Question 9?", "Question 19?"] and test == ["Question 100?", "Question 101?", "Question 102?"]
    assert sorted(train + valid) == sorted(row["question"] for row in rows(25))


def test_a_single_file_is_cut_into_three_parts(tmp_path):
    file = folder_of(tmp_path, train=rows(50)) + "/train.jsonl"
    parts = {part: {one.question for one in exercises(file, part)} for part in ("train", "valid", "test")}
    assert {part: len(found) for part, found in parts.items()} == {"train": 40, "valid": 5, "test": 5}
    assert len(set.union(*parts.values())) == 50


@pytest.mark.parametrize("end, opener", [(".jsonl", open), (".jsonl.xz", lzma.open), (".jsonl.gz", gzip.open)])
def test_a_file_may_be_packed_and_named_itself(end, opener, tmp_path):
    with opener(tmp_path / f"train{end}", "wt", encoding="utf-8") as file:
        file.write(json.dumps(CLIPS) + "\n\n")
    for source in (tmp_path, tmp_path / f"train{end}"):
        assert [one.answer for one in exercises(str(source), "train")] == ["72"]


def test_the_hub_is_asked_for_the_part(monkeypatch):
    wanted = []

    def load(name, config, split, streaming):
        wanted.append((name, config, split))
        return rows(10, 100 * (split == "test"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = {part: len(list(exercises("hub:openai/gsm8k:main", part))) for part in ("train", "valid", "test")}
    assert found == {"train": 9, "valid": 1, "test": 10}
    assert wanted == [("openai/gsm8k", "main", split) for split in ("train", "train", "train", "test")]


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"question": "?", "answer', "is not JSON"),
        ('["?", "#### 3"]', "it requires the fields question and answer"),
        ('{"question": "?", "answer": 3}', "it requires the fields question and answer"),
        ('{"question": "?", "answer": "It is 3."}', "the answer does not end with ####"),
        ('{"question": "?", "answer": "It is 3.\\n#### three"}', "the answer does not end with ####"),
    ],
)
def test_a_line_that_is_no_problem_is_named(line, message, tmp_path):
    good = json.dumps(CLIPS)
    (tmp_path / "train.jsonl").write_text(f"{good}\n\n{line}\n{good}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{tmp_path}/train.jsonl, line 3: {message}"):
        list(exercises(str(tmp_path), "train"))


@pytest.mark.parametrize(
    "source, part, message",
    [
        ("", "test", r"holds no test\.jsonl"),
        ("/no.jsonl", "train", "no such file"),
        ("", "train", "holds no problem"),
    ],
)
def test_where_no_problems_are_is_said(source, part, message, tmp_path):
    where = folder_of(tmp_path, train=[])
    with pytest.raises(UserError, match=message):
        list(exercises(where + source, part))


def test_the_real_problems_are_all_there_and_no_question_is_in_two_parts(real_data):
    folder = str(real_data / "gsm8k")
    found = {part: list(exercises(folder, part)) for part in ("train", "valid", "test")}
    assert {part: len(some) for part, some in found.items()} == {"train": 6726, "valid": 747, "test": 1319}
    questions = [{one.question for one in part} for part in found.values()]
    assert sum(map(len, questions)) == len(set.union(*questions)) == 7473 + 1319
    for one in found["test"]:
        assert read_number(one.answer) == int(one.answer) and one.steps >= 1 and "<<" not in one.chain
