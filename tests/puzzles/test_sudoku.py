"""Sudoku: rules, symmetries, hashes up to symmetry, the exact solver, the generator and the packs that ship."""

import hashlib
import lzma
from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.errors import UserError
from trm.puzzles import sudoku
from trm.puzzles.dataset import read_puzzles
from trm.puzzles.sudoku import PACKS, PUZZLES, SHAPES, canonical_form, generate, is_solution, solutions, transform


@pytest.fixture(scope="module")
def pack():
    """size -> its pack, read once."""
    return lru_cache(lambda size: read_puzzles(PACKS / f"sudoku_{size}.csv.xz"))


def all_symmetries(shape):
    """Equally spaced uniform numbers, (G, random_numbers): one for each pair of line orders, transposed or not where that
    is possible; with a random relabelling."""
    rows, cols = (len(sudoku.line_permutations(shape.size, n)) for n in (shape.box_rows, shape.box_cols))
    picks = np.array(list(product(np.arange(rows) / rows, np.arange(cols) / cols, [0, 0.5][not shape.square :])))
    return np.hstack((picks + 1e-9, np.random.default_rng(0).random((len(picks), shape.size))))


def test_tokens_are_the_official_ids():
    assert sudoku.tokens(np.array([0, 1, 9])).tolist() == [1, 2, 10]
    assert sudoku.digits(np.array([0, 1, 2, 10])).tolist() == [0, 0, 1, 9]
    assert [SHAPES[size].vocab_size for size in ("4x4", "6x6", "9x9")] == [6, 8, 11]


def test_is_solution_finds_any_wrong_cell(pack):
    puzzles = pack("6x6").subset([0])
    for cell, digit in product(range(36), range(8)):
        changed = puzzles.answers.copy()
        changed[0, cell] = digit
        assert is_solution(puzzles.shape, puzzles.questions * 0, changed)[0] == (digit == puzzles.answers[0, cell])


def test_every_line_order_keeps_the_groups():
    orders = sudoku.line_permutations(6, 2)
    assert len(orders) == 6 * 2**3 == len({tuple(o) for o in orders})
    assert orders[0].tolist() == list(range(6))
    for order, group in product(orders, range(3)):
        assert order[2 * group] // 2 == order[2 * group + 1] // 2


@pytest.mark.parametrize("size, moves", [("4x4", 2 * 8 * 8), ("6x6", 48 * 72)])
def test_every_symmetry_has_the_same_probability_and_keeps_solutions(pack, size, moves):
    shape = SHAPES[size]
    uniform = all_symmetries(shape)
    cells, relabel = sudoku.symmetries(shape, uniform)
    assert len({row.tobytes() for row in cells}) == len(uniform) == moves
    assert (np.sort(cells, 1) == np.arange(shape.cells)).all()
    assert (np.sort(relabel, 1) == np.arange(shape.size + 1)).all()
    turned = transform(shape, np.repeat(pack(size).answers[:1, None], moves, 0), uniform)[:, 0]
    assert is_solution(shape, turned * 0, turned).all()
    labels = sudoku.symmetries(shape, np.random.default_rng(1).random((9000, 3 + shape.size)))[1]
    assert len(np.unique(labels, axis=0)) == (24 if size == "4x4" else 720)  # all orders of the digits


def test_a_symmetry_by_hand():
    shape = SHAPES["4x4"]
    uniform = np.array([[0.2, 0.99, 0.7, 0.4, 0.1, 0.3, 0.2], [0.2, 0.99, 0.3, 0.4, 0.1, 0.3, 0.2]])
    # rows: the second of 8 orders, 0 1 3 2; columns: the last, 3 2 1 0; the third number transposes
    cells, relabel = sudoku.symmetries(shape, uniform)
    plain = np.array([[4 * r + c for c in (3, 2, 1, 0)] for r in (0, 1, 3, 2)])
    assert (cells[0].reshape(4, 4) == plain).all() and (cells[1].reshape(4, 4) == plain.T).all()
    assert relabel.tolist() == [[0, 2, 4, 3, 1]] * 2
    grid = np.arange(16).astype(np.uint8) % 5
    moved = transform(shape, grid[None, None], uniform[:1])[0, 0]
    assert moved.tolist() == [[0, 2, 4, 3, 1][grid[cell]] for cell in plain.ravel()]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 10**6))
def test_a_symmetry_is_one_to_one_and_can_be_undone(size, seed):
    shape, rng = SHAPES[size], np.random.default_rng(seed)
    uniform = rng.random((5, sudoku.random_numbers(shape)))
    grids = rng.integers(0, shape.size + 1, (5, 2, shape.cells)).astype(np.uint8)
    turned = transform(shape, grids, uniform)
    assert (turned != grids).any() and ((turned == 0).sum(2) == (grids == 0).sum(2)).all()
    assert (sudoku.transform_back(shape, turned, uniform) == grids).all()


def test_half_of_the_symmetries_of_square_boxes_transpose():
    shape = SHAPES["9x9"]
    uniform = np.random.default_rng(0).random((4000, sudoku.random_numbers(shape)))
    cells = sudoku.symmetries(shape, uniform)[0].reshape(-1, 9, 9)
    transposed = (cells[:, 0] % 9 == cells[:, :1, 0] % 9).all(1)  # the first new row was a column
    assert (transposed ^ (cells[:, 0] // 9 == cells[:, :1, 0] // 9).all(1)).all()
    assert abs(transposed.mean() - 0.5) < 4 * 0.5 / 4000**0.5
    some = uniform[:, 2] >= 0.5  # the orders do not depend on whether the grid is transposed
    uniform[:, 2] = np.where(some, 0.1, 0.9)
    assert (sudoku.symmetries(shape, uniform)[0].reshape(-1, 9, 9) == cells.swapaxes(1, 2)).all()


@pytest.mark.parametrize("size", ["6x6", "9x9"])
def test_symmetries_make_puzzles_of_puzzles(pack, size):
    puzzles = pack(size).subset(np.arange(64))
    uniform = np.random.default_rng(3).random((64, sudoku.random_numbers(puzzles.shape)))
    turned = transform(puzzles.shape, np.stack((puzzles.questions, puzzles.answers), 1), uniform)
    questions, answers = turned[:, 0], turned[:, 1]
    assert is_solution(puzzles.shape, questions, answers).all()
    assert ((questions > 0).sum(1) == puzzles.clues).all() and (questions != puzzles.questions).any(1).all()
    if size == "6x6":
        assert (canonical_form(puzzles.shape, questions) == canonical_form(puzzles.shape, puzzles.questions)).all()
    else:
        assert (
            sudoku.grid_fingerprint(puzzles.shape, answers) == sudoku.grid_fingerprint(puzzles.shape, puzzles.answers)
        ).all()
    n = puzzles.shape.size
    flipped = puzzles.answers.reshape(-1, n, n).swapaxes(1, 2).reshape(-1, n * n)
    assert is_solution(puzzles.shape, flipped * 0, flipped).all() == (size == "9x9")


def test_the_canonical_form_is_the_least_of_all_moves(pack):
    puzzles = pack("4x4")
    shape, cells = puzzles.shape, sudoku.symmetries(puzzles.shape, all_symmetries(puzzles.shape))[0]
    for question, form in zip(puzzles.questions, canonical_form(shape, puzzles.questions, chunk=5)):
        images = sudoku.first_appearance(question[cells], 4)  # (128, T)
        assert tuple(form) == min(map(tuple, images), key=lambda image: ([d > 0 for d in image], image))
    assert sudoku.first_appearance(np.array([[0, 3, 3, 1, 4]]), 4).tolist() == [[0, 1, 1, 2, 3]]
    with pytest.raises(ValueError, match="no canonical form for 9x9"):
        canonical_form(SHAPES["9x9"], pack("9x9").questions[:1])


def test_symmetries_and_hashes_stay_what_they_are(pack):
    """Batches, splits and packs depend on them: with other numbers every run of a seed would be another run."""
    uniform = sudoku.hash_columns(np.arange(20)[:, None], np.arange(12)) / 2.0**64
    found = []
    for size in ("4x4", "6x6", "9x9"):
        puzzles = pack(size).subset(np.arange(20))
        turned = transform(puzzles.shape, puzzles.answers[:, None], uniform[:, : sudoku.random_numbers(puzzles.shape)])
        prints = sudoku.grid_fingerprint(puzzles.shape, puzzles.answers)
        found += [hashlib.sha256(part.tobytes()).hexdigest()[:12] for part in (turned, prints)]
    assert int(sudoku.hash_columns(1, 2)) == 8003173803587857272
    assert " ".join(found) == "c8f2af4576a2 8bc16ac34742 f3c15baa56d1 ecad1abff7d8 74d924b44d3a 198f9e72b511"


def brute_force(shape, question):
    """Every solution, cell by cell with every digit that fits: independent of the solver."""
    n, grids = shape.size, [list(question)]
    houses = [(i, j, (i // shape.box_rows, j // shape.box_cols)) for i, j in product(range(n), repeat=2)]
    for cell in np.flatnonzero(np.array(question) == 0):
        near = [k for k in range(n * n) if any(a == b for a, b in zip(houses[k], houses[cell]))]
        fits = ((g, d) for g in grids for d in range(1, n + 1) if all(g[k] != d for k in near))
        grids = [g[:cell] + [d] + g[cell + 1 :] for g, d in fits]
    return grids


def test_there_are_288_grids_of_4x4():
    assert len(solutions(SHAPES["4x4"], [0] * 16, limit=1000)) == 288


@pytest.mark.parametrize("puzzle", ["4x4", "6x6"])
def test_solver_agrees_with_brute_force(puzzle):
    shape = SHAPES[puzzle]
    rng = np.random.default_rng(0)
    for i in range(6):
        question, _ = generate(shape, 5, i)
        clues = np.flatnonzero(question)
        for drop in [[], [rng.choice(clues)], rng.choice(clues, 2, replace=False)]:
            fewer = [0 if cell in drop else digit for cell, digit in enumerate(question)]
            assert sorted(solutions(shape, fewer, limit=10**6)) == sorted(brute_force(shape, fewer))
    contradiction = [1, 1] + [0] * (shape.cells - 2)
    assert solutions(shape, contradiction) == []


def naive_singles(shape, question):
    """Singles with sets of candidates and houses, one cell at a time: independent of the solver."""
    n, grid = shape.size, list(question)
    lines = [[n * i + j for j in range(n)] for i in range(n)] + [[n * j + i for j in range(n)] for i in range(n)]
    boxes = {}
    for cell in range(n * n):
        boxes.setdefault((cell // n // shape.box_rows, cell % n // shape.box_cols), []).append(cell)
    houses = [*lines, *boxes.values()]
    while True:
        seen = [{grid[k] for house in houses if cell in house for k in house} for cell in range(n * n)]
        left = [set() if grid[cell] else set(range(1, n + 1)) - seen[cell] for cell in range(n * n)]
        found = [(cell, *left[cell]) for cell in range(n * n) if len(left[cell]) == 1]
        for house, digit in product(houses, range(1, n + 1)):
            places = [cell for cell in house if digit in left[cell]]
            found += [(places[0], digit)] if len(places) == 1 else []
        if not found:
            return grid
        grid[found[0][0]] = found[0][1]


@pytest.mark.parametrize("puzzle, count", [("4x4", 36), ("6x6", 40), ("6x6-hard", 40), ("9x9", 20)])
def test_singles_fill_what_a_naive_solver_fills(pack, puzzle, count):
    puzzles = pack(puzzle).subset(np.arange(count))
    for question, answer, rating in zip(puzzles.questions.tolist(), puzzles.answers.tolist(), puzzles.ratings):
        filled = sudoku.solve_by_singles(puzzles.shape, question)
        assert filled == naive_singles(puzzles.shape, question)
        assert (filled == answer) == (rating == 0) and all(a in (0, b) for a, b in zip(filled, answer))
    clash = [1, 1] + [0] * (puzzles.shape.cells - 2)
    assert sudoku.solve_by_singles(puzzles.shape, clash) == clash
    assert sudoku.solve_by_singles(puzzles.shape, [0] * puzzles.shape.cells) == [0] * puzzles.shape.cells


@pytest.mark.parametrize("size", ["4x4", "6x6", "6x6-hard", "9x9"])
def test_generated_puzzles_and_those_of_the_packs_are_unique_and_minimal(pack, size):
    puzzles = pack(size)
    puzzles = puzzles.subset(np.arange(7, len(puzzles), len(puzzles) // 25))
    shipped = list(zip(puzzles.questions.tolist(), puzzles.answers.tolist()))
    for question, answer in [generate(puzzles.shape, 1, i) for i in range(4)] + shipped:
        assert solutions(puzzles.shape, question) == [answer]
        for cell in np.flatnonzero(question):
            assert len(solutions(puzzles.shape, question[:cell] + [0] + question[cell + 1 :])) == 2
    assert [sudoku.rating(puzzles.shape, question) for question, _ in shipped] == puzzles.ratings.tolist()


def test_command_writes_a_pack(tmp_path):
    one, two = tmp_path / "one.csv.xz", tmp_path / "two.csv.xz"
    for out in (one, two):
        sudoku.main(["6x6", "--out", str(out), "--sizes", "6", "2", "--seed", "3"])
    assert one.read_bytes() == two.read_bytes()
    assert read_puzzles(one).splits.tolist() == ["test"] * 2 + ["train"] * 4


@pytest.mark.parametrize(
    "words, says",
    [
        (["4x4", "--sizes", "-3", "0"], "at least 1 puzzle"),
        (["4x4", "--sizes", "0", "0"], "at least 1 puzzle"),
        (["4x4", "--sizes", "3", "4"], "0 to all of them for test"),
        (["4x4", "--sizes", "37", "4"], "only 36 minimal 4x4"),
        (["4x4", "--seed", "-1"], "at least 0"),
        (["4x4", "--out", "x.txt"], "x.txt: give a .csv or .csv.xz file"),
        (["4x4", "--out", "none/x.csv"], "in a folder that exists"),
        (["4x4", "--sizes", "1", "0", "--out", "folder.csv"], "cannot be written"),
    ],
)
def test_command_refuses_what_it_cannot_do(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=says):
        sudoku.main(words)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_the_pack_that_ships_is_not_overwritten(tmp_path, monkeypatch):
    shipped = (PACKS / "sudoku_4x4.csv.xz").read_bytes()
    monkeypatch.chdir(tmp_path)
    sudoku.main(["4x4", "--sizes", "3", "1"])
    sudoku.main(["4x4", "--sizes", "3", "1", "--out", "plain.csv"])
    assert (PACKS / "sudoku_4x4.csv.xz").read_bytes() == shipped
    assert (tmp_path / "plain.csv").read_bytes() == lzma.decompress((tmp_path / "sudoku_4x4.csv.xz").read_bytes())


@pytest.mark.slow
def test_more_puzzles_than_there_are():
    with pytest.raises(ValueError, match="only 36 minimal 4x4"):
        sudoku.pack_lines("4x4", 37, 0, seed=0)


@pytest.mark.parametrize("puzzle", ["6x6", "6x6-hard", "9x9"])
def test_pack_is_rebuilt_bit_for_bit(puzzle):
    with lzma.open(PACKS / f"sudoku_{puzzle}.csv.xz", "rt", encoding="utf-8") as file:
        shipped = [next(file).rstrip("\n") for _ in range(16)]
    assert sudoku.pack_lines(puzzle, 15, 15, PUZZLES[puzzle].seed) == shipped


@pytest.mark.parametrize("size", PUZZLES)
def test_packs_hold_no_symmetric_duplicates(pack, size):
    puzzles = pack(size)
    assert (len(puzzles), (puzzles.splits == "test").sum()) == (PUZZLES[size].count, PUZZLES[size].test)
    found = puzzles.groups if size == "9x9" else canonical_form(puzzles.shape, puzzles.questions)
    assert len(np.unique(found, axis=0)) == len(puzzles)


def test_singles_solve_no_puzzle_of_the_hard_pack_and_the_other_pack_holds_none_of_them(pack):
    hard, other = pack("6x6-hard"), pack("6x6")
    assert (hard.ratings > 0).all()
    other = other.subset(other.ratings > 0)  # a symmetry changes nothing about what singles solve
    forms = np.concatenate([canonical_form(part.shape, part.questions) for part in (hard, other)])
    assert len(np.unique(forms, axis=0)) == len(hard) + len(other)


def test_the_hard_pack_leaves_out_symmetric_duplicates_of_the_other_pack(pack, tmp_path, monkeypatch):
    hard = pack("6x6-hard").subset(np.arange(3))
    uniform = np.random.default_rng(0).random((3, sudoku.random_numbers(hard.shape)))
    grids = transform(hard.shape, np.stack((hard.questions, hard.answers), 1), uniform)
    with lzma.open(tmp_path / "sudoku_6x6.csv.xz", "wt") as file:
        file.writelines(
            ["question,answer\n"] + ["".join(map(str, q)) + "," + "".join(map(str, a)) + "\n" for q, a in grids]
        )
    monkeypatch.setattr(sudoku, "PACKS", tmp_path)
    found = [line.split(",")[2] for line in sudoku.pack_lines("6x6-hard", 2, 0, PUZZLES["6x6-hard"].seed)[1:]]
    assert found == ["".join(map(str, answer)) for answer in pack("6x6-hard").answers[3:5]]


@pytest.mark.slow
def test_there_are_49_grids_of_6x6(pack):
    puzzles = pack("6x6")
    prints = sudoku.grid_fingerprint(puzzles.shape, puzzles.answers)
    assert len(np.unique(prints)) == 40  # fingerprints: too few cycle types to distinguish all
    order = np.sort(prints)
    rank = np.arange(len(puzzles)) - np.searchsorted(order, order)
    some_of_each = prints.argsort(kind="stable")[rank < 20]  # fewer than all, which take a minute
    forms = canonical_form(puzzles.shape, puzzles.answers[some_of_each])
    assert len(np.unique(forms, axis=0)) == 49  # Russell & Jarvis 2006


def test_the_36_minimal_puzzles_of_4x4(pack):
    """13 have four clues, 22 five and 1 six: known from complete enumerations."""
    assert np.bincount(pack("4x4").clues).tolist() == [0, 0, 0, 0, 13, 22, 1]
