"""ARC: tasks as token sequences and back, variants, the data set's counts, the vote, tasks that cannot be used."""

import json

import numpy as np
import pytest

from trm.errors import UserError
from trm.puzzles import arc
from trm.puzzles.arc import END, PAD, SEPARATOR, Task, Variant, Votes, build, from_tokens, read_tasks, to_tokens
from trm.puzzles.token_set import TokenBatches, TokenSet


def grid(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 10, (rows, columns)).astype(np.uint8)


def task(name="a", shown=3, asked=1, side=5):
    pairs = [(grid(side - i % 2, side, i), grid(side, side - 1, 100 + i)) for i in range(shown + asked)]
    return Task(name, tuple(pairs[:shown]), tuple(pairs[shown:]))


def written(folder, tasks, name="tasks.json"):
    def listed(pairs):
        return [{"input": i.tolist(), "output": o.tolist()} for i, o in pairs]

    found = {one.name: {"train": listed(one.shown), "test": listed(one.asked)} for one in tasks}
    (folder / name).write_text(json.dumps(found), encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("place", [(0, 0), (2, 1), (3, 4)])
def test_a_grid_on_the_canvas_ends_with_marks_and_comes_back(place):
    given, (row, column) = grid(3, 2), place
    tokens = to_tokens(given, 6, row, column).reshape(6, 6)
    assert np.array_equal(tokens[row : row + 3, column : column + 2], given + 2)
    after = [(row + 3, c) for c in (column, column + 1)] + [(r, column + 2) for r in range(row, row + 3)]
    marks = [place for place in after if max(place) < 6]
    assert all(tokens[place] == END for place in marks)
    assert (tokens != PAD).sum() == 6 + len(marks), "a mark outside of the canvas is left out"
    if place == (0, 0):
        assert np.array_equal(from_tokens(tokens.reshape(-1), 6), given)


def test_what_is_read_is_the_largest_rectangle_from_the_first_cell():
    for seed in range(200):  # against trying all of them
        tokens = np.random.default_rng(seed).choice(12, 25, p=[0.05, 0.05] + 10 * [0.09]).astype(np.uint8)
        canvas = tokens.reshape(5, 5)
        sizes = [(r * c, r, c) for r in range(1, 6) for c in range(1, 6) if (canvas[:r, :c] >= 2).all()]
        found = from_tokens(tokens, 5)
        assert found.size == max(sizes, default=(0,))[0]
        assert np.array_equal(found, canvas[: found.shape[0], : found.shape[1]] - 2)


@pytest.mark.parametrize("turn", range(8))
def test_a_variant_is_undone_and_named(turn):
    drawn = Variant(turn, (0, 3, 1, 2, 9, 8, 7, 6, 5, 4))
    given = grid(3, 5)
    turned = drawn.apply(given)
    assert np.array_equal(drawn.undo(turned), given) and (turned == 0).sum() == (given == 0).sum()
    assert Variant.of_name(drawn.name_of("x")) == ("x", drawn) and Variant.of_name("x") == ("x", None)
    assert drawn.name_of("x") == f"x|||t{turn}|||0312987654"


def test_the_eight_turns_are_those_of_a_square():
    given = grid(4, 4)
    turns = {Variant(turn, tuple(range(10))).apply(given).tobytes() for turn in range(8)}
    assert len(turns) == 8
    for one in range(8):  # any two, one after the other, are one of them
        for two in range(8):
            both = Variant(two, tuple(range(10))).apply(Variant(one, tuple(range(10))).apply(given))
            assert both.tobytes() in turns


def test_variants_differ_and_a_task_may_have_few():
    found = arc.variants(task(), 30, np.random.default_rng(0))
    assert len(found) == 31 and len({one.contents() for one in found}) == 31 and found[0].name == "a"
    black = np.zeros((2, 2), np.uint8)
    assert len(arc.variants(Task("b", ((black, black),), ((black, black),)), 30, np.random.default_rng(0))) == 1


def test_a_task_may_ask_the_same_input_with_an_output_and_without():
    one = grid(2, 2)
    known = Task("b", ((one, one),), ((one, None), (one, one)))
    assert len(arc.variants(known, 3, np.random.default_rng(0))) == 4


def test_the_data_set_has_the_counts_of_its_tasks(tmp_path):
    training, judged = [task("a", 3, 1), task("b", 2, 2)], [task("c", 4, 2)]
    found = build(training, judged, num_aug=5, side=8, seed=1)
    assert len(found.train) == 6 * (4 + 4 + 4) and len(found.test) == 6 * 2, "of c only what is shown"
    assert found.train.about.total_groups == 3 and found.test.about.total_groups == 1
    assert (
        found.train.about.total_puzzles == 18
        and len(found.identifiers) == 19 == found.train.about.num_puzzle_identifiers
    )
    assert [name.split(SEPARATOR)[0] for name in found.identifiers[1::6]] == ["a", "b", "c"]
    assert set(found.test.puzzle_identifiers) == set(range(13, 19)) <= set(found.train.puzzle_identifiers)
    hidden = {to_tokens(output, 8).tobytes() for _, output in judged[0].asked}
    assert not hidden & {np.asarray(row).tobytes() for row in found.train.labels}
    assert hidden <= {np.asarray(row).tobytes() for row in found.test.labels}
    corners = (np.asarray(found.train.inputs)[:, 0] >= 2).reshape(-1)  # a grid that begins at the first cell
    per_puzzle = np.add.reduceat(corners, found.train.puzzle_indices[:-1])
    assert (per_puzzle >= 1).all() and not corners.all(), "one pair of each puzzle stays in its place"
    found.save(tmp_path)
    again = TokenSet.load(tmp_path / "train")
    assert np.array_equal(again.inputs, found.train.inputs)
    batch = TokenBatches(again, 8)(0)
    assert batch["inputs"].shape == (8, 64) and set(batch["puzzle_ids"]) <= set(range(1, 19))
    kept, left_out = read_tasks(tmp_path / "test_puzzles.json")
    assert kept[0].contents() == judged[0].contents() and not left_out
    assert json.loads((tmp_path / "identifiers.json").read_text())[:2] == ["<blank>", "a"]


def test_answers_are_ordered_by_votes_then_by_confidence_whatever_the_variant():
    judged = [task("c", 2, 1, side=4)]
    found = build([], judged, num_aug=4, side=6)
    ids, given = found.test.example_identifiers(), np.asarray(found.test.inputs)
    right, wrong = judged[0].asked[0][1], grid(4, 4, 50)

    def answer(identifier, plain):
        _, variant = Variant.of_name(found.identifiers[identifier])
        return to_tokens(plain if variant is None else variant.apply(plain), 6)

    votes = Votes(found.identifiers, 6)
    plain = [right, right, wrong, wrong, grid(2, 2, 51)]
    predictions = np.stack([answer(i, one) for i, one in zip(ids, plain)])
    votes.add(ids, given, predictions, np.array([0.9, 0.2, 0.5, 0.5, 1.0]))
    first, second, third = votes.ranked("c", judged[0].asked[0][0])
    assert np.array_equal(first, right) and np.array_equal(second, wrong) and third.shape == (2, 2)
    assert votes.passes(judged, 1).tolist() == [1.0]
    other = Votes(found.identifiers, 6)
    other.add(ids, given, predictions, np.array([0.1, 0.2, 0.5, 0.5, 1.0]))
    assert other.passes(judged, 1).tolist() == [0.0] and other.passes(judged, 2).tolist() == [1.0]
    attempts = other.submission(judged)["c"][0]
    assert attempts == {"attempt_1": wrong.tolist(), "attempt_2": right.tolist()}
    assert Votes(found.identifiers, 6).submission(judged)["c"][0]["attempt_2"] == [[0]], "nothing was answered"


def test_a_share_of_the_test_inputs_counts():
    judged = [task("c", 2, 2, side=4)]
    found = build([], judged, num_aug=0, side=6)
    votes, ids = Votes(found.identifiers, 6), found.test.example_identifiers()
    labels = np.asarray(found.test.labels).copy()
    labels[1] = to_tokens(grid(1, 1, 3), 6)
    votes.add(ids, np.asarray(found.test.inputs), labels, np.ones(2))
    assert votes.passes(judged, 1).tolist() == [0.5]


def test_tasks_that_cannot_be_used_are_named_and_left_out(tmp_path):
    good = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}
    bad = {
        "ragged": good | {"train": [{"input": [[1], [1, 2]], "output": [[2]]}]},
        "large": good | {"test": [{"input": np.ones((31, 2), int).tolist()}]},
        "colour": good | {"test": [{"input": [[10]]}]},
        "text": good | {"test": [{"input": [["a"]]}]},
        "none": good | {"train": []},
        "half": {"train": good["train"]},
        "open": good | {"train": [{"input": [[1]]}]},
    }
    (tmp_path / "t.json").write_text(json.dumps({"good": good} | bad), encoding="utf-8")
    found, left_out = read_tasks(tmp_path / "t.json")
    assert [one.name for one in found] == ["good"] and found[0].asked[0][1] is None
    assert [line.split(":")[0] for line in left_out] == [f"t.json, task {name}" for name in bad]
    assert "31 x 2" in left_out[1] and "colours 0 to 9" in left_out[2] and "field 'test' is missing" in left_out[5]
    with pytest.raises(UserError, match="holds no task"):
        read_tasks(written(tmp_path, [], "empty.json"))
    with pytest.raises(UserError, match="task a has a grid of side 5"):
        build([], [task()], side=4)
    with pytest.raises(UserError, match="tasks to be judged on"):
        build([task()], [])


def test_tasks_are_read_from_a_folder_and_from_challenges_with_their_solutions(tmp_path):
    one = task("a")
    whole = json.loads(written(tmp_path, [one]).read_text())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text(json.dumps(whole["a"]), encoding="utf-8")
    solutions = {"a": [pair.pop("output") for pair in whole["a"]["test"]]}
    (tmp_path / "x_challenges.json").write_text(json.dumps(whole), encoding="utf-8")
    (tmp_path / "x_solutions.json").write_text(json.dumps(solutions), encoding="utf-8")
    for path in (tmp_path / "tasks.json", tmp_path / "folder", tmp_path / "x_challenges.json"):
        [found], left_out = read_tasks(path)
        assert found.contents() == one.contents() and not left_out


def test_baselines():
    one = task("a", 3, 1)
    assert np.array_equal(arc.copy_the_input(one, one.shown[1][0]), one.shown[1][0])
    assert np.array_equal(arc.nearest_output(one, one.shown[1][0]), one.shown[1][1])
    changed = one.shown[2][0].copy()
    changed[0, 0] = (changed[0, 0] + 1) % 10
    assert np.array_equal(arc.nearest_output(one, changed), one.shown[2][1])


def test_all_tasks_of_arc_1_are_read(real_data):
    parts = {part: read_tasks(real_data / "arc1" / f"{part}.json.xz") for part in ("training", "evaluation")}
    assert {part: (len(found), left_out) for part, (found, left_out) in parts.items()} == {
        "training": (400, []), "evaluation": (400, []),
    }  # fmt: skip
    assert sum(len(one.asked) for one in parts["training"][0]) == 416
    assert sum(len(one.asked) for one in parts["evaluation"][0]) == 419
