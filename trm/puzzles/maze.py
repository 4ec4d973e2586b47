"""Mazes: the cells of the shortest path from S to G. A generator, a reader of Maze-Hard's CSV, and baselines.

Token ids are the original's: pad 0, wall 1, open 2, S 3, G 4, path 5; the label is the maze with its path drawn in.
"""

import csv
from collections import deque
from pathlib import Path

import numpy as np

from trm.errors import UserError
from trm.puzzles.token_set import TokenSet
from trm.text_files import open_text

LETTERS = "# SGo"  # token ids from 1
WALL, OPEN, START, GOAL, PATH = range(1, 6)
VOCABULARY = 6
STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))


class MazeError(UserError):
    """A maze that cannot be made or read."""


def distances(grid: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Steps from `start` to every cell of a maze (n, n) of token ids, by breadth-first search; -1: not reached."""
    found = np.full(grid.shape, -1)
    found[start], waiting = 0, deque([start])
    while waiting:
        r, c = waiting.popleft()
        for dr, dc in STEPS:
            cell = r + dr, c + dc
            if min(cell) >= 0 and max(cell) < len(grid) and grid[cell] != WALL and found[cell] < 0:
                found[cell] = found[r, c] + 1
                waiting.append(cell)
    return found


def shortest_paths(grid: np.ndarray) -> tuple[int, np.ndarray]:
    """How many shortest paths lead from S to G in a maze (n, n), and the cells of one, (length + 1, 2), S first. 0 and no cells
    where none leads there."""
    start, goal = (tuple(np.argwhere(grid == token)[0]) for token in (START, GOAL))
    away = distances(grid, start)
    if away[goal] < 0:
        return 0, np.zeros((0, 2), int)
    ways = np.where(away == 0, 1, 0)
    for cell in sorted(zip(*np.nonzero(away > 0)), key=lambda cell: away[cell]):
        ways[cell] = sum(ways[n] for n in _neighbours(grid, cell) if away[n] == away[cell] - 1)
    path = [goal]
    while away[path[-1]]:
        path.append(next(n for n in _neighbours(grid, path[-1]) if away[n] == away[path[-1]] - 1))
    return int(ways[goal]), np.array(path[::-1])


def _neighbours(grid: np.ndarray, cell: tuple[int, int]) -> list[tuple[int, int]]:
    near = [(cell[0] + dr, cell[1] + dc) for dr, dc in STEPS]
    return [n for n in near if min(n) >= 0 and max(n) < len(grid) and grid[n] != WALL]


def generate(
    side: int, seed: int, index: int, loops: int = 0, least: float = 2.0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Maze number `index` of a seed: (maze, label), (side, side) token ids each, and its number of shortest paths.

    Rooms in the odd rows and columns are joined by a random depth-first walk, so that one path leads from each to each; then
    `loops` walls between rooms are opened. S and G are two rooms, drawn from those whose shortest path takes at least
    `least * side` steps; mazes without such rooms are passed over. Depends on the arguments alone.

    Raises:
        MazeError: an even side, one under 5, or no maze with such a path among the first thousand.
    """
    if side < 5 or side % 2 == 0:
        raise MazeError(f"side {side}: mazes have an odd side of 5 or more")
    rng = np.random.default_rng([seed, index, 0x3A2E])
    for _ in range(1000):
        grid = np.full((side, side), WALL)
        stack = [(1, 1)]
        grid[1, 1] = OPEN
        while stack:
            r, c = stack[-1]
            ways = [(r + 2 * dr, c + 2 * dc) for dr, dc in STEPS]
            ways = [w for w in ways if min(w) > 0 and max(w) < side and grid[w] == WALL]
            if not ways:
                stack.pop()
                continue
            r2, c2 = ways[rng.integers(len(ways))]
            grid[(r + r2) // 2, (c + c2) // 2] = grid[r2, c2] = OPEN
            stack.append((r2, c2))
        between = [(r, c) for r in range(1, side - 1) for c in range(1, side - 1) if (r + c) % 2 and grid[r, c] == WALL]
        for i in rng.permutation(len(between))[:loops]:
            grid[between[i]] = OPEN
        rooms = [(r, c) for r in range(1, side, 2) for c in range(1, side, 2)]
        start = rooms[rng.integers(len(rooms))]
        away = distances(grid, start)
        far = [room for room in rooms if away[room] >= least * side]
        if far:
            grid[start], grid[far[rng.integers(len(far))]] = START, GOAL
            count, path = shortest_paths(grid)
            label = grid.copy()
            label[tuple(path[1:-1].T)] = PATH
            return grid, label, count
    raise MazeError(f"no maze of side {side} has a shortest path of {least:g} * side; take a smaller `least`")


def canonical(maze: np.ndarray) -> bytes:
    """Equal for mazes (n, n) that are the same up to rotation and reflection."""
    turns = [np.rot90(m, k) for m in (maze, maze.T) for k in range(4)]
    return min(np.ascontiguousarray(m).astype(np.uint8).tobytes() for m in turns)


def make(side: int, sizes: dict[str, int], seed: int = 0, loops: int = 0, aug: int = 1) -> dict[str, TokenSet]:
    """Sets of mazes with one shortest path each, no two the same up to rotation and reflection: name -> set of as many as
    `sizes` says. aug: rotations and reflections of each in the first of them (a group each), 1 to 8."""
    known, index, found = set(), 0, {}
    for name, size in sizes.items():
        mazes: list[tuple[np.ndarray, np.ndarray]] = []
        while len(mazes) < size:
            if index > 100 + 50 * sum(sizes.values()):
                raise MazeError(f"side {side} has too few mazes for {sum(sizes.values())} of them; take a larger one")
            grid, label, count = generate(side, seed, index, loops)
            index += 1
            if count == 1 and (key := canonical(grid)) not in known:
                known.add(key)
                mazes.append((grid, label))
        turns = aug if name == next(iter(sizes)) else 1
        turned = [_turned(grid, t).ravel() for pair in mazes for t in range(turns) for grid in pair]
        inputs, labels = np.array(turned, np.uint8).reshape(-1, 2, side * side).swapaxes(0, 1)
        found[name] = TokenSet.of(inputs, labels, VOCABULARY, np.repeat(np.arange(size), turns))
    return found


def _turned(grid: np.ndarray, t: int) -> np.ndarray:
    """One of the eight rotations and reflections."""
    return np.rot90(grid if t < 4 else grid.T, t % 4)


def read_csv(path: str | Path) -> TokenSet:
    """Mazes of Maze-Hard's CSV: columns source, question, answer, rating, with a text of side * side of "# SGo" in each.
    MazeError: file, line and what is wrong."""
    side, grids = 0, []
    with open_text(path, MazeError) as file:
        rows = csv.reader(file)
        header = [name.strip().lower() for name in next(rows, [])]
        if not {"question", "answer"} <= set(header):
            raise MazeError(f"{path}, line 1: the header must have question and answer")
        for row in filter(any, rows):
            pair = []
            for name in ("question", "answer"):
                text = dict(zip(header, row)).get(name, "")
                side = side or round(len(text) ** 0.5)
                if len(text) != side * side or not text or set(text) - set(LETTERS):
                    what = f"{len(text)} characters, or others than {LETTERS!r}; a maze here has {side} * {side}"
                    raise MazeError(f"{path}, line {rows.line_num}: the {name} has {what}")
                pair.append([LETTERS.index(letter) + 1 for letter in text])
            question, answer = np.array(pair, np.uint8)
            if not all((question == token).sum() == 1 for token in (START, GOAL)):
                raise MazeError(f"{path}, line {rows.line_num}: the question must have one S and one G")
            if (np.where(answer == PATH, OPEN, answer) != question).any():
                raise MazeError(
                    f"{path}, line {rows.line_num}: the answer is not the question with a path on open cells"
                )
            grids.append((question, answer))
    if not grids:
        raise MazeError(f"{path}: no mazes after the header")
    questions, answers = np.array(grids).swapaxes(0, 1)
    return TokenSet.of(questions, answers, VOCABULARY)


def straight(inputs: np.ndarray) -> np.ndarray:
    """A baseline that does not look at walls: the path first runs along S's row, then along G's column. (N, T) -> (N, T)."""
    side = round(inputs.shape[1] ** 0.5)
    answers = np.array(inputs).reshape(-1, side, side)
    for grid in answers:
        (r, c), (r2, c2) = (np.argwhere(grid == token)[0] for token in (START, GOAL))
        for cells in (grid[r, min(c, c2) : max(c, c2) + 1], grid[min(r, r2) : max(r, r2) + 1, c2]):
            cells[cells == OPEN] = PATH
    return answers.reshape(inputs.shape)


def solve(inputs: np.ndarray) -> np.ndarray:
    """The exact answers, by breadth-first search: (N, T) -> (N, T) token ids."""
    side = round(inputs.shape[1] ** 0.5)
    answers = np.array(inputs).reshape(-1, side, side)
    for grid in answers:
        _, path = shortest_paths(grid.copy())
        grid[tuple(path[1:-1].T)] = PATH
    return answers.reshape(inputs.shape)
