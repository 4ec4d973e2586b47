"""`trm solve`: puzzles in every layout, what is said of each, exit codes; and puzzles as people write them."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from trm.cli import main
from trm.puzzles.command import check, drawn, solve_all, words_of
from trm.puzzles.exact import clashing
from trm.puzzles.solve import shipped_model
from trm.puzzles.sudoku import SHAPES, Undecided, generate, is_solution, solutions
from trm.puzzles.text import PuzzleTextError, parse_question, parse_questions, read_questions

SIX, ANSWER = ".35..12...3..24.6.....4........61...", "435621216435124563653142542316361254"
NINE = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."


def run(*words):
    return main(["solve", *words])


def test_puzzles_are_solved_and_checked(capsys):
    assert run(SIX, NINE) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{ANSWER}  solved: ") and "1 try, confidence 0." in first
    answer = np.array([int(digit) for digit in second.split()[0]])
    question = np.array(parse_question(NINE, "").digits)
    assert is_solution(SHAPES["9x9"], question, answer) and " solved: " in second


def test_json_has_an_object_for_each_puzzle(capsys):
    assert run("--json", SIX, "1" + "." * 35, "." * 34 + "11", "12345." + "." * 29 + "6", "--tries", "2") == 2
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["status"] for one in found] == ["solved", "several solutions", "invalid", "no solution"]
    solved, several, invalid, none = found
    assert (solved["question"], solved["answer"]) == (SIX, ANSWER)
    assert solved["steps"] >= 1 and solved["tries"] >= 1 and 0.5 < solved["confidence"] <= 1
    one, two = several["why"].removeprefix("two of them: ").split(" and ")
    for text in (one, two):
        assert is_solution(SHAPES["6x6"], np.array([1] + [0] * 35), np.array([int(digit) for digit in text]))
    assert one != two and invalid["why"] == "the digit 1 stands twice in row 6" and not none["answer"]


def test_a_model_that_fails_says_so(capsys):
    assert run("--tries", "1", "--steps", "1", NINE) == 1
    assert "not solved: 1 steps, 1 try" in capsys.readouterr().out


def test_steps_are_shown(capsys):
    assert run("--show", SIX) == 0
    said = capsys.readouterr().out
    assert said.startswith("step 1\n") and "4 3 5 | 6 2 1\n" in said and "------+------" in said


LAYOUTS = {
    "lines.txt": f"{SIX}\n\n{NINE.replace('.', '0')}\n",
    "grid.sdk": "#A a comment\n[Puzzle]\n" + "\n".join(SIX[i : i + 6] for i in range(0, 36, 6)) + "\n",
    "drawn.txt": "\n".join(
        f"{SIX[i : i + 3]} | {SIX[i + 3 : i + 6]}\n" + ("----+----\n" if i % 12 == 6 else "") for i in range(0, 36, 6)
    ),
    "many.sdm": f"{NINE}\n{NINE.replace('.', '_')}\n",
    "kaggle.csv": f"quizzes,solutions\n{SIX.replace('.', '0')},{ANSWER}\n",
    "other.csv": f"Solution;Puzzle\n{ANSWER};{SIX}\n",
    "sections.sdk": f"[Puzzle]\n{SIX}\n[State]\n{ANSWER}\n",
    "quoted.csv": f'# made by hand\n"my, name","puzzle"\n"a\nb","{SIX}"\n',
    "extreme.csv": f"source\tquestion\tanswer\trating\nx\t{NINE}\t\t0\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    (tmp_path / name).write_text(LAYOUTS[name], encoding="utf-8")
    found = [str(question) for question in read_questions(tmp_path / name)]
    wanted = {"lines.txt": [SIX, NINE], "many.sdm": [NINE, NINE], "extreme.csv": [NINE]}
    assert found == wanted.get(name, [SIX])


def test_stdin_and_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(SIX))
    assert run() == 0 and ANSWER in capsys.readouterr().out
    (tmp_path / "a.txt").write_text(SIX, encoding="utf-8")
    assert run(str(tmp_path / "a.txt")) == 0 and ANSWER in capsys.readouterr().out


def test_what_becomes_of_a_puzzle_does_not_depend_on_the_others():
    models = {"9x9": shipped_model("9x9")[0]}
    hard = [parse_question(text, "") for text in (NINE, "".join(map(str, generate(SHAPES["9x9"], 3, 0)[0])))]
    together = solve_all(models, [hard[1], hard[0]], 4, 3)[1]
    assert together == solve_all(models, hard[:1], 4, 3)[0]


def test_a_search_that_takes_too_long_is_given_up(monkeypatch):
    """Norvig's puzzle without a solution, which takes an hour and more of search."""
    text = ".....5.8....6.1.43..........1.5........1.6...3.......553.....61........4........."
    monkeypatch.setattr("trm.puzzles.exact.GUESSES", 200)
    result = check(parse_question(text, ""))
    assert not result.status and "did not decide" in result.why
    with pytest.raises(Undecided, match="200 guesses"):
        solutions(SHAPES["9x9"], parse_question(text, "").digits, most=200)


def test_stdin_is_read_as_a_file(monkeypatch, capsys):
    for data, code, said in (
        (b"\xef\xbb\xbf" + SIX.encode() + b"\r\n", 0, "solved"),
        (b"\n\xe9", 2, "stdin, line 2: not UTF-8"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
        assert run() == code
        assert said in "".join(capsys.readouterr())


@pytest.mark.parametrize("text, message", [
    ("123", "x, line 1: 3 characters; a puzzle has 16, 36 or 81 in a line, or 4, 6 or 9 in each line of a grid"),
    ("\n" + "9" * 36, "x, line 2: '9' at position 1; allowed are 1 to 6 and blanks (.0_*)"),
    ("......\n" * 5, "x, line 1: a grid of 6 columns ends after 5 lines"),
    ("......\n.....\n", "x, line 2: 5 characters, and the lines of its grid above have 6"),
    ("puzzle,a\n,1\n", "x, line 2: 0 characters"),
    ("é" + "." * 35, "x, line 1: 'é' at position 1"),
])  # fmt: skip
def test_what_is_no_puzzle_is_named(text, message):
    with pytest.raises(PuzzleTextError) as caught:
        list(parse_questions(text, "x"))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("words, message", [
    (["12"], "puzzle 1: 2 characters; a puzzle has 16, 36 or 81"),
    (["missing.txt"], "missing.txt: no such file"),
    (["." * 16], "no model ships for 4x4 puzzles; give one with --model"),
    (["--tries", "0", SIX], "--tries must be at least 1"),
    (["--seed", "-1", SIX], "--seed at least 0"),
    (["--model", "trm/pretrained/sudoku_9x9", SIX], "is for 81 cells and 11 tokens, and puzzles of 6x6 have 36 and 8"),
    (["--model", "nowhere", SIX], "nowhere"),
    (["foo/bar"], "foo/bar: no such file"),
    (["a.sdm.gz", SIX], "a.sdm.gz: no such file"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_code_2(capsys, words, message):
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said


def test_houses():
    size_six = SHAPES["6x6"]
    for place, name in ((1, "row 1"), (30, "column 1"), (8, "box 1")):
        grid = np.zeros(36, int)
        grid[[0, place]] = 5
        assert clashing(size_six, grid.tolist()) == (5, name)
    for index in range(5):
        question, answer = generate(size_six, 5, index)
        assert clashing(size_six, answer) is None and not check(parse_question("".join(map(str, question)), "")).status
    assert drawn(SHAPES["4x4"], [0, 1, 2, 3] * 4).splitlines()[:3] == [". 1 | 2 3", ". 1 | 2 3", "----+----"]
    assert words_of(check(parse_question("11" + "." * 34, ""))).endswith("invalid: the digit 1 stands twice in row 1")


@pytest.mark.slow
def test_it_starts_about_as_fast_as_torch():
    def seconds(*words):
        runs = []
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            runs.append(time.perf_counter() - began)
        return min(runs)

    assert seconds("-m", "trm.cli", "solve", SIX) < 2 * seconds("-c", "import torch")  # 1.4 on a quiet machine
