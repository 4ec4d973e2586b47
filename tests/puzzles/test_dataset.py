"""Reader, splits and batches."""

import gzip
import lzma
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.errors import UserError
from trm.puzzles.dataset import PuzzleBatches, PuzzleFileError, load, read_puzzles, solver_baselines
from trm.puzzles.sudoku import PACKS, SHAPES, digits, grid_fingerprint, is_solution, random_numbers, tokens, transform

HEADER = "source,question,answer,rating"
QUESTION, ANSWER = "1......2..4..3..", "1234341221434321"  # its only answer
DIGITS = [int(letter) for letter in QUESTION.replace(".", "0")]
LINE = f"mine,{QUESTION},{ANSWER},0"


def write(tmp_path, *lines, name="data.csv"):
    path = tmp_path / name
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


def lines(questions, answers):
    return [f"x,{''.join(map(str, q))},{''.join(map(str, a))},3" for q, a in zip(questions, answers)]


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "data.csv.xz"])
def test_read_what_was_written(tmp_path, name):
    puzzles = read_puzzles(write(tmp_path, HEADER + ",extra", LINE + ",x", LINE.replace(".", "0") + ",y", name=name))
    assert puzzles.shape == SHAPES["4x4"]
    assert puzzles.questions.tolist() == [DIGITS] * 2
    assert "".join(map(str, puzzles.answers[1])) == ANSWER
    assert puzzles.groups[0] == puzzles.groups[1]
    edited = write(tmp_path, "\ufeff" + HEADER, LINE, "", LINE, "", "")  # as a table editor writes
    assert len(read_puzzles(edited)) == 2


WRONG = f"a,1{'.' * 15},{'1234' * 4},0"


@pytest.mark.parametrize(
    "lines, says",
    [
        ([HEADER, LINE, LINE, f"a,{QUESTION},{ANSWER[:-1]},0"], "line 4: the answer has 15 characters, 16 expected"),
        ([HEADER, LINE, f"a,{QUESTION[:-1]},{ANSWER},0"], "line 3: the question has 15 characters"),
        ([HEADER, LINE, f"a,{QUESTION[:-1]}9,{ANSWER},0"], r"line 3: .* outside \[.0-4\] at position 16"),
        ([HEADER, f"a,{QUESTION[:-1]}\u2605,{ANSWER},0"], r"line 2: .* outside \[.0-4\] at position 16"),
        ([HEADER, LINE, f"a,{QUESTION},{ANSWER[:-1]}.,0", LINE], r"line 3: .* outside \[1-4\] at position 16"),
        ([HEADER, LINE, f"a,2{QUESTION[1:]},{ANSWER},0"], "line 3: the answer contradicts the question at position 1"),
        ([HEADER, LINE, "", WRONG], "line 4: the answer repeats a digit"),
        ([HEADER, LINE, f"a,{QUESTION},{ANSWER},easy"], "line 3: the rating 'easy' is not a number"),
        ([HEADER, LINE, LINE[:-2]], "line 3: the rating '' is not a number"),
        ([HEADER + ",grid_group", LINE + ",1", LINE + ",a"], "line 3: the grid_group is not a whole number"),
        ([HEADER, LINE + ",1", LINE + ",1"], "line 2: more columns"),
        ([HEADER, LINE, LINE + ",1,2,3"], "every line must have the columns of the header"),
        ([HEADER, LINE, f"d\xe9j\xe0,{QUESTION},{ANSWER},0"], "not UTF-8 text"),
        (["source,answer", "a,b"], "line 1: 0 columns for the question"),
        (
            [HEADER, LINE, f"a,{'1' + '.' * 15},{ANSWER},0"],
            r"line 3: several solutions \(two of them: 1\d{15} and 1\d{15}\)",
        ),
        (["question,puzzle,answer", "a,b,c"], "line 1: 2 columns for the question"),
        (["", HEADER, LINE], "line 1: is empty"),
        ([HEADER, LINE, '"a,b'], "quotation mark"),
        ([HEADER, LINE, LINE, LINE + ",1,2"], "line 4: more columns than the header has"),
        ([HEADER + ",grid_group", LINE + ",1e300"], "line 2: the grid_group is not a whole number"),
        ([HEADER], "no puzzles"),
        ([HEADER, "a,123,123,0"], "16, 36 or 81"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, lines, says):
    path = write(tmp_path, *lines)
    if "\xe9" in lines[-1]:
        path.write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(PuzzleFileError, match=rf"data\.csv.*{says}"):
        read_puzzles(path)


@pytest.mark.parametrize(
    "header, line",
    [
        ("quizzes,solutions", f"{QUESTION},{ANSWER}"),
        ("Puzzle;Solution", f"{QUESTION};{ANSWER}"),
        (" question\tAnswer ", f"{QUESTION}\t{ANSWER}"),
        ("question,answer", f"{QUESTION.replace('.', '_')},{ANSWER}"),
        ("question,answer,rating", f"{QUESTION.replace('.', '*')},{ANSWER},0"),
    ],
)
def test_other_layouts(tmp_path, header, line):
    puzzles = read_puzzles(write(tmp_path, header, line))
    assert puzzles.questions.tolist() == [DIGITS] and puzzles.ratings.tolist() == [0]
    assert "".join(map(str, puzzles.answers[0])) == ANSWER


@pytest.mark.parametrize(
    "name, lines",
    [
        ("data.csv", ["rating,Puzzle,split", f"3,{QUESTION},test", "", f"4,{QUESTION.replace('.', '0')},train"]),
        ("data.txt", ["# mine", QUESTION, "", "1.. .", ". . . 2", "..4.", ".3.."]),
        ("data.csv.gz", [QUESTION, QUESTION]),
    ],
)
def test_questions_without_answers_are_solved_on_import(tmp_path, name, lines):
    puzzles = read_puzzles(write(tmp_path, *lines, name=name))
    assert puzzles.questions.tolist() == [DIGITS] * 2 and puzzles.shape == SHAPES["4x4"]
    assert ["".join(map(str, answer)) for answer in puzzles.answers] == [ANSWER] * 2
    if "rating" in lines[0]:
        assert puzzles.ratings.tolist() == [3, 4] and puzzles.splits.tolist() == ["test", "train"]


@pytest.mark.parametrize(
    "lines, says",
    [
        ([QUESTION, "1" + "." * 15], r"line 2: several solutions \(two of them: 1"),
        ([QUESTION, "11" + "." * 14], "line 2: invalid .the digit 1 stands twice in row 1"),
        (["question", QUESTION, "123....4........"], "line 3: no solution; fix or remove it"),
        ([QUESTION, "." * 36], "line 2: 6x6, after puzzles of 4x4"),
        ([QUESTION, QUESTION[:-1]], "line 2: 15 characters"),
    ],
)
def test_a_question_that_has_not_one_answer_is_named(tmp_path, lines, says):
    with pytest.raises(UserError, match=rf"data\.csv.*{says}"):
        read_puzzles(write(tmp_path, *lines))


def test_a_question_that_the_solver_gives_up_needs_an_answer(tmp_path, monkeypatch):
    """Norvig's puzzle without a solution, which takes an hour and more of search."""
    text = ".....5.8....6.1.43..........1.5........1.6...3.......553.....61........4........."
    monkeypatch.setattr("trm.puzzles.exact.GUESSES", 200)
    with pytest.raises(PuzzleFileError, match="line 1: .* did not decide .*; give its answer in a column `answer`"):
        read_puzzles(write(tmp_path, text))


def test_one_question_with_two_answers_is_named_by_its_lines(tmp_path, monkeypatch):
    """Also where the two stand in pieces that are read one after the other, and none of them is judged."""
    monkeypatch.setattr("trm.puzzles.dataset.LINES_AT_ONCE", 2)
    monkeypatch.setattr("trm.puzzles.dataset.JUDGED", 1)
    two = "1" + "." * 15
    path = write(tmp_path, HEADER, LINE, f"a,{two},{ANSWER},0", LINE, f"a,{two},1234341243212143,0")
    with pytest.raises(PuzzleFileError, match="line 5: the question of line 3 again, with another answer"):
        read_puzzles(path)


def test_copies_of_one_puzzle_are_one_puzzle(tmp_path):
    part = load("6x6", test_size=1).test
    grids = np.repeat(np.stack((part.questions, part.answers), 1), 50, 0)
    grids = transform(part.shape, grids, np.random.default_rng(0).random((50, random_numbers(part.shape))))
    path = write(tmp_path, HEADER, *lines(grids[:, 0], grids[:, 1]))
    with pytest.raises(PuzzleFileError, match="the 50 puzzles of .* are all one puzzle up to symmetry"):
        load("6x6", str(path), valid_size=4, test_size=4)


def test_a_file_that_is_missing_cut_off_or_of_another_size_is_named(tmp_path):
    with pytest.raises(PuzzleFileError, match="nowhere.csv: no such file"):
        read_puzzles(tmp_path / "nowhere.csv")
    with pytest.raises(PuzzleFileError, match="holds 4x4 puzzles"):
        load("6x6", str(write(tmp_path, HEADER, *[LINE] * 3)), test_size=1, valid_size=1)
    whole = write(tmp_path, HEADER, *[LINE] * 500, name="cut.csv.xz")
    whole.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(PuzzleFileError, match=r"cut\.csv\.xz: cannot be read to its end"):
        read_puzzles(whole)


def test_parts_share_no_group_and_have_the_sizes_asked_for():
    data, again, other = (load("6x6", "", 500, 100, 1000, seed) for seed in (4, 4, 5))
    assert [len(p) for p in (data.train, data.valid, data.test)] == [500, 100, 1000]
    parts = [{q.tobytes() for q in p.questions} for p in (data.train, data.valid, data.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert (again.train.questions == data.train.questions).all()
    assert (other.test.questions == data.test.questions).all(), "the test part of a pack is fixed"
    assert (other.train.questions != data.train.questions).any()


def test_the_hard_pack_and_a_file_of_its_shape(tmp_path):
    data = load("6x6-hard", valid_size=100, test_size=0)
    assert [len(p) for p in (data.train, data.valid, data.test)] == [7900, 100, 2000]
    assert data.dropped == 0 and data.test.shape == SHAPES["6x6"]
    easy = load("6x6", valid_size=8, test_size=20).test
    path = str(write(tmp_path, HEADER, *lines(easy.questions, easy.answers)))
    assert len(load("6x6-hard", path, valid_size=5, test_size=5).train) == 10


def test_what_singles_solve():
    easy, hard = (solver_baselines(load(puzzle, test_size=0).test) for puzzle in ("6x6", "6x6-hard"))
    assert easy["singles/exact_accuracy"] == 0.949  # as README and chapter 04 say
    assert hard["singles/exact_accuracy"] == 0 and 0.2 < hard["singles/cell_accuracy"] < easy["singles/cell_accuracy"]
    assert hard["exact/seconds_per_puzzle"] > hard["singles/seconds_per_puzzle"] > 0


def test_symmetric_duplicates_in_separate_files_are_dropped(tmp_path):
    parts = load("6x6", test_size=8, valid_size=8, train_size=20)
    test, others = parts.test, parts.train
    uniform = np.random.default_rng(0).random((8, random_numbers(test.shape)))
    questions, answers = transform(test.shape, np.stack((test.questions, test.answers), 1), uniform).swapaxes(0, 1)
    write(tmp_path, HEADER, *lines(test.questions, test.answers), name="test.csv")
    train = lines(questions[:5], answers[:5]) + lines(others.questions, others.answers)
    write(tmp_path, HEADER, *train, name="train.csv")
    data = load("6x6", str(tmp_path), valid_size=4, test_size=8)
    assert (data.dropped, len(data.train)) == (5, 16)


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(test_size=10**6), "only 2000 test puzzles"),
        (dict(train_size=10**6), "only 11744 puzzles are left"),
        (dict(valid_size=10**6), "valid_size 1000000"),
        (dict(puzzle="5x5"), "no puzzle '5x5'"),
        (dict(test_size=-1), "must be at least 0"),
    ],
)
def test_sizes_that_do_not_fit(options, says):
    with pytest.raises(PuzzleFileError, match=says):
        load(**options)


def test_lines_are_counted_across_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("trm.puzzles.dataset.LINES_AT_ONCE", 3)
    assert len(read_puzzles(write(tmp_path, HEADER, *[LINE] * 10))) == 10
    with pytest.raises(PuzzleFileError, match="line 12: the rating"):
        read_puzzles(write(tmp_path, HEADER, *[LINE] * 10, LINE[:-1] + "x"))
    with pytest.raises(PuzzleFileError, match="line 5: the question has 36 characters, 16 expected"):
        read_puzzles(write(tmp_path, HEADER, *[LINE] * 3, f"a,{'.' * 36},{'1' * 36},0"))


def test_several_files_are_split_each_by_itself_and_share_no_grid(tmp_path):
    pack = load("9x9", valid_size=1, test_size=60).test
    one, two = np.arange(0, 40), np.arange(20, 60)  # twenty grids stand in both
    paths = [
        str(write(tmp_path, HEADER, *lines(pack.questions[rows], pack.answers[rows]), name=name))
        for name, rows in (("one, two.csv", one), ("three.csv", two))
    ]
    alone = [load("9x9", path, valid_size=5, test_size=8) for path in paths]
    assert len(alone[0].test) == 8  # a comma in a name is no separator
    paths[0] = str(write(tmp_path, HEADER, *lines(pack.questions[one], pack.answers[one]), name="one.csv"))
    both = load("9x9", f"{paths[0]}, {paths[1]},{paths[1]}", valid_size=5, test_size=8)

    def keys(puzzles):
        return [q.tobytes() for q in puzzles.questions]

    assert keys(both.test) == keys(alone[0].test) + keys(alone[1].test)
    assert keys(both.valid) == keys(alone[0].valid) + keys(alone[1].valid)
    held_out = {a.tobytes() for part in (both.test, both.valid) for a in part.answers}
    of_one, of_two = (
        [a for a in answers if a.tobytes() not in held_out] for answers in (pack.answers[one], pack.answers[two])
    )
    assert len(both.train) == len(of_one) + 2 * len(of_two)
    assert not {a.tobytes() for a in both.train.answers} & held_out


def test_revealed_clues_are_answers_and_their_number_is_uniform():
    train = load("6x6", valid_size=8, test_size=8).train
    plain, revealing = PuzzleBatches(train, 3000, 1), PuzzleBatches(train, 3000, 1, reveal_clues=5)
    old, new = plain(0), revealing(0)
    assert (old["labels"] == new["labels"]).all()
    changed = old["inputs"] != new["inputs"]
    assert (old["inputs"][changed] == 1).all() and (new["inputs"][changed] == new["labels"][changed]).all()
    counts = np.bincount(changed.sum(1), minlength=6)
    assert len(counts) == 6 and (abs(counts - 500) < 5 * np.sqrt(500)).all()
    assert (new["inputs"] == revealing(0)["inputs"]).all()
    share = changed.sum(0) / (old["inputs"] == 1).sum(0)  # every blank cell has the same chance
    assert abs(share - share.mean()).max() < 5 * np.sqrt(share.mean() / 2000)


def test_groups_of_a_file_hold_across_files(tmp_path):
    def numbered(*groups):
        return [HEADER + ",grid_group"] + [f"{LINE},{group}" for group in groups]

    write(tmp_path, *numbered(70, 71), name="test.csv")
    write(tmp_path, *numbered(1, 2, 70, 3), name="train.csv")
    data = load("4x4", str(tmp_path), valid_size=1, test_size=0)
    assert (len(data.train), len(data.valid), len(data.test), data.dropped) == (2, 1, 2, 1)
    write(tmp_path, HEADER, LINE, name="test.csv")  # no numbers: our own groups for both files
    with pytest.raises(PuzzleFileError, match="every training puzzle of .* is a symmetric duplicate"):
        load("4x4", str(tmp_path), valid_size=1, test_size=0)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=30, max_size=60), st.integers(1, 10), st.integers(0, 10), st.integers(0, 99)
)
def test_groups_are_never_split(groups, test_size, valid_size, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), HEADER + ",grid_group", *[f"{LINE},{group}" for group in groups])
        try:
            data = load("4x4", str(path), valid_size=valid_size, test_size=test_size, seed=seed)
        except PuzzleFileError as error:
            assert "_size" in str(error)
            return
    train, valid, test = (set(part.groups.tolist()) for part in (data.train, data.valid, data.test))
    assert not (train & valid or train & test or valid & test)
    assert (len(data.valid), len(data.test)) == (valid_size, test_size)


def test_the_parts_of_a_data_set_read_by_the_datasets_library(tmp_path, tmp_path_factory, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    whole = read_puzzles(PACKS / "sudoku_9x9.csv.xz").subset(np.arange(60))
    rows = lines(whole.questions, whole.answers)
    write(tmp_path, HEADER, *rows[:50], name="train.csv")
    write(tmp_path, HEADER, *rows[45:], name="test.csv")
    data = load("9x9", f"hub:{tmp_path}", valid_size=5, test_size=0)
    assert (len(data.train), len(data.valid), len(data.test), data.dropped) == (40, 5, 15, 5)
    assert (data.test.answers == whole.answers[45:]).all()
    with pytest.raises(PuzzleFileError, match="could not be loaded"):
        load("9x9", f"hub:{tmp_path}/nowhere/at/all")


def test_real_lists(real_data):
    assert len(read_puzzles(real_data / "sudoku/puzzles5_forum_hardest_1905_11plus.csv.xz")) == 48_766
    puzzles = read_puzzles(real_data / "sudoku/puzzles2_17_clue.csv.xz")
    assert len(puzzles) == 49_158
    assert (puzzles.clues == 17).all()
    data = load("9x9", str(real_data / "sudoku/puzzles2_17_clue.csv.xz"), test_size=500, valid_size=128)
    assert not set(data.test.groups) & (set(data.train.groups) | set(data.valid.groups))
    assert not set(data.valid.groups) & set(data.train.groups)
    assert len(data.test) == 500
    ours = grid_fingerprint(puzzles.shape, puzzles.answers)
    pairs = np.unique(np.stack((ours, puzzles.groups)), axis=1)
    assert pairs.shape[1] == len(np.unique(puzzles.groups)), "equal groups of the file have equal fingerprints"
    assert len(np.unique(ours)) > 0.99 * pairs.shape[1]


@pytest.mark.parametrize("num_aug", [0, 3])
def test_batches_are_functions_of_seed_and_step(num_aug):
    train = load("6x6", train_size=50).train
    one, two = PuzzleBatches(train, 32, 7, num_aug), PuzzleBatches(train, 32, 7, num_aug)
    assert (one(5)["inputs"] != one(6)["inputs"]).any()
    assert (one(5)["inputs"] == two(5)["inputs"]).all()
    assert (one(5)["inputs"] != PuzzleBatches(train, 32, 8, num_aug)(5)["inputs"]).any()
    batch = one(0)
    assert is_solution(train.shape, digits(batch["inputs"]), digits(batch["labels"])).all()


def test_num_aug_gives_the_puzzle_and_that_many_variants():
    train = load("6x6", train_size=2).train
    batches = PuzzleBatches(train, 64, 0, num_aug=3)
    seen = {row.tobytes() for step in range(20) for row in batches(step)["inputs"]}
    assert len(seen) == 2 * 4
    assert {tokens(q).tobytes() for q in train.questions} <= seen
