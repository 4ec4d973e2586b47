"""Mazes: paths against networkx where it is there, and against matrices of neighbours; generator, reader, baselines."""

import numpy as np
import pytest

from trm.puzzles import maze
from trm.puzzles.maze import GOAL, LETTERS, OPEN, PATH, START, WALL, MazeError


def ways(grid):
    """(length, number) of the shortest paths by powers of the neighbour matrix: an independent count."""
    cells = [tuple(cell) for cell in np.argwhere(grid != WALL)]
    near = np.array([[abs(a - c) + abs(b - d) == 1 for c, d in cells] for a, b in cells], dtype=object) * 1
    start, goal = (cells.index(tuple(np.argwhere(grid == token)[0])) for token in (START, GOAL))
    reach, length = np.eye(len(cells), dtype=int).astype(object), 0
    while not reach[start, goal]:
        reach, length = reach @ near, length + 1
    return length, reach[start, goal]


@pytest.mark.parametrize("side, loops", [(5, 0), (9, 0), (9, 6), (11, 12)])
def test_generated_mazes(side, loops):
    counts = set()
    for index in range(12):
        grid, label, count = maze.generate(side, 1, index, loops, least=1.0)
        length, number = ways(grid)
        assert (number, number == 1) == (count, count == 1)
        assert (label == PATH).sum() == length - 1 and length >= side
        assert ((label == grid) | ((label == PATH) & (grid == OPEN))).all()
        on = np.argwhere(np.isin(label, (PATH, START, GOAL)))
        near = (np.abs(on[:, None] - on[None]).sum(-1) == 1).sum(1)
        assert sorted(near)[:2] == [1, 1] and near.max() <= 2, "one line from S to G"
        counts.add(count)
    assert counts == {1} if not loops else len(counts) > 1
    again = maze.generate(side, 1, 3, loops, least=1.0)
    assert (again[0] == maze.generate(side, 1, 3, loops, least=1.0)[0]).all()


def test_sets_share_no_maze_and_paths_are_long():
    sets = maze.make(9, {"train": 30, "valid": 5, "test": 5}, seed=2, aug=8)
    assert [len(s) for s in sets.values()] == [240, 5, 5] and len(sets["train"].group_indices) == 31
    keys = [{maze.canonical(grid.reshape(9, 9)) for grid in s.inputs} for s in sets.values()]
    assert list(map(len, keys)) == [30, 5, 5] and not keys[0] & (keys[1] | keys[2]) and not keys[1] & keys[2]
    assert ((sets["test"].labels == PATH).sum(1) >= 17).all()
    assert (maze.solve(sets["train"].inputs) == sets["train"].labels).all(), "turned labels are the turned mazes' paths"


def test_baselines():
    rows = ["#####", "#S  #", "# # #", "#  G#", "#####"]
    grid = np.array([[LETTERS.index(letter) + 1 for letter in "".join(rows)]])
    assert "".join(LETTERS[token - 1] for token in maze.straight(grid)[0]) == "######Soo## #o##  G######"
    assert maze.shortest_paths(grid.reshape(5, 5))[0] == 2
    blocked = np.where(np.isin(np.arange(25), (8, 16)), WALL, grid)
    assert maze.shortest_paths(blocked.reshape(5, 5))[0] == 0


def test_the_csv_of_maze_hard(tmp_path):
    sets = maze.make(7, {"all": 3})["all"]
    lines = ["source,question,answer,rating"]
    lines += [
        "x," + ",".join("".join(LETTERS[t - 1] for t in row) for row in pair) + ",9"
        for pair in zip(sets.inputs, sets.labels)
    ]
    path = tmp_path / "mazes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    again = maze.read_csv(path)
    assert (again.inputs == sets.inputs).all() and (again.labels == sets.labels).all()
    for old, new, message in (
        (lines[0], "a,b", "line 1: the header must have question and answer"),
        ("S", "X", "line 2: the question has 49 characters, or others"),
        ("S", "#", "line 2: the question must have one S and one G"),
        ("oo", "##", "line 2: the answer is not the question with a path"),
        (",9", "#,9", "line 2: the answer has 50 characters"),
    ):
        path.write_text("\n".join(lines).replace(old, new, 1), encoding="utf-8")
        with pytest.raises(MazeError, match=message):
            maze.read_csv(path)


@pytest.mark.parametrize(
    "side, least, message", [(4, 1, "odd side"), (3, 1, "odd side"), (5, 9, "take a smaller `least`")]
)
def test_mazes_that_cannot_be(side, least, message):
    with pytest.raises(MazeError, match=message):
        maze.generate(side, 0, 0, least=least)
