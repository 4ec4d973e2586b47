"""Generator and packs: unique, minimal, rebuilt bit for bit, no twins."""

from itertools import product

import numpy as np
import pytest

from trm.puzzles.dataset import PACKS, read_csv
from trm.puzzles.generator import PACK_SIZES, generate, main, pack_lines, rating, solve
from trm.puzzles.grid import SHAPES, canonical_form, grid_fingerprint, is_solution


def brute_force(shape, question):
    """Every solution, by plain backtracking over cells in order: independent of the solver."""
    n, r, c = shape.size, shape.box_rows, shape.box_cols

    def fits(grid, cell, d):
        i, j = divmod(cell, n)
        return all(
            grid[k] != d or k == cell
            for k in range(n * n)
            if k // n == i or k % n == j or (k // n // r == i // r and k % n // c == j // c)
        )

    def search(grid, cell):
        if cell == n * n:
            return [list(grid)]
        if grid[cell]:
            return search(grid, cell + 1)
        found = []
        for d in range(1, n + 1):
            if fits(grid, cell, d):
                grid[cell] = d
                found += search(grid, cell + 1)
                grid[cell] = 0
        return found

    return search(list(question), 0)


def test_there_are_288_grids_of_4x4():
    assert len(solve(SHAPES["4x4"], [0] * 16, limit=1000)) == 288


@pytest.mark.parametrize("puzzle", ["4x4", "6x6"])
def test_solver_agrees_with_brute_force(puzzle):
    shape = SHAPES[puzzle]
    rng = np.random.default_rng(0)
    for i in range(6):
        question, _ = generate(shape, 5, i)
        clues = np.flatnonzero(question)
        for drop in [[], [rng.choice(clues)], rng.choice(clues, 2, replace=False)]:
            fewer = list(question)
            for cell in drop:
                fewer[cell] = 0
            expected = brute_force(shape, fewer)
            assert sorted(solve(shape, fewer, limit=10**6)) == sorted(expected)
    contradiction = [1, 1] + [0] * (shape.cells - 2)
    assert solve(shape, contradiction) == []


@pytest.mark.parametrize("puzzle", ["4x4", "6x6", "9x9"])
def test_generated_puzzles_are_unique_and_minimal(puzzle):
    shape = SHAPES[puzzle]
    for i in range(4):
        question, answer = generate(shape, 1, i)
        assert solve(shape, question, limit=2) == [answer]
        assert is_solution(shape, np.array(question), np.array(answer))
        for cell in np.flatnonzero(question):
            fewer = list(question)
            fewer[cell] = 0
            assert len(solve(shape, fewer, limit=2)) == 2


def test_a_stated_number_of_clues():
    question, answer = generate(SHAPES["6x6"], 1, 0, minimal=False, clues=16)
    assert sum(d > 0 for d in question) == 16
    assert solve(SHAPES["6x6"], question, limit=2) == [answer]


@pytest.mark.parametrize("puzzle", ["6x6", "9x9"])
def test_sampled_puzzles_of_the_packs_are_unique_and_minimal(puzzle):
    pack = read_csv(PACKS / f"sudoku_{puzzle}.csv.xz")
    for row in range(7, len(pack), len(pack) // 25):
        question = pack.questions[row].tolist()
        assert solve(pack.shape, question) == [pack.answers[row].tolist()]
        assert rating(pack.shape, question) == pack.ratings[row]
        for cell in np.flatnonzero(question):
            assert len(solve(pack.shape, question[:cell] + [0] + question[cell + 1 :])) == 2


def test_no_two_puzzles_of_the_9x9_pack_share_a_grid():
    pack = read_csv(PACKS / "sudoku_9x9.csv.xz")
    assert len(np.unique(grid_fingerprint(pack.shape, pack.answers))) == len(pack)


def test_command_writes_a_pack(tmp_path):
    out = tmp_path / "mine.csv.xz"
    main(["6x6", "--out", str(out), "--count", "6", "--test", "2", "--seed", "3"])
    first = out.read_bytes()
    main(["6x6", "--out", str(out), "--count", "6", "--test", "2", "--seed", "3"])
    assert out.read_bytes() == first
    assert read_csv(out).splits.tolist() == ["test"] * 2 + ["train"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv.xz"]


def test_more_puzzles_than_there_are():
    with pytest.raises(ValueError, match="only 36 minimal 4x4"):
        pack_lines(SHAPES["4x4"], 37, 0)


@pytest.mark.parametrize("puzzle", ["6x6", "9x9"])
def test_pack_is_rebuilt_bit_for_bit(puzzle):
    import lzma

    with lzma.open(PACKS / f"sudoku_{puzzle}.csv.xz", "rt") as file:
        shipped = [next(file).rstrip("\n") for _ in range(16)]
    assert pack_lines(SHAPES[puzzle], 15, PACK_SIZES[puzzle][1]) == shipped


def test_pack_sizes():
    for puzzle, (count, test) in PACK_SIZES.items():
        pack = read_csv(PACKS / f"sudoku_{puzzle}.csv.xz")
        assert (len(pack), (pack.splits == "test").sum()) == (count, test)
    assert PACK_SIZES["6x6"][0] >= 10_000


def test_no_two_puzzles_of_the_6x6_pack_are_twins_and_their_grids_are_49():
    pack = read_csv(PACKS / "sudoku_6x6.csv.xz")
    assert len(np.unique(canonical_form(pack.shape, pack.questions), axis=0)) == len(pack)
    fingerprints = np.sort(prints := grid_fingerprint(pack.shape, pack.answers))
    rank = np.arange(len(pack)) - np.searchsorted(fingerprints, fingerprints)
    some_of_each = prints.argsort(kind="stable")[rank < 20]  # fewer than all, which take a minute
    forms = canonical_form(pack.shape, pack.answers[some_of_each])
    assert len(np.unique(forms, axis=0)) == 49  # Russell & Jarvis 2006


def test_the_36_minimal_puzzles_of_4x4():
    """13 have four clues, 22 five and 1 six: known from complete enumerations."""
    pack = read_csv(PACKS / "sudoku_4x4.csv.xz")
    assert np.bincount(pack.clues).tolist() == [0, 0, 0, 0, 13, 22, 1]
    assert len(np.unique(canonical_form(pack.shape, pack.questions), axis=0)) == 36


def test_every_line_order_keeps_the_groups():
    from trm.puzzles.grid import line_permutations

    orders = line_permutations(6, 2)
    assert len(orders) == 6 * 2**3 == len({tuple(o) for o in orders})
    for order, group in product(orders, range(3)):
        assert order[2 * group] // 2 == order[2 * group + 1] // 2
