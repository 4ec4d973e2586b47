"""Training on ARC: which tasks are trained and judged on, votes of a model's answers, controls, baselines, folders."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.puzzles.test_arc import grid, written
from trm.errors import UserError
from trm.params import ParameterError
from trm.puzzles import arc_training
from trm.puzzles.arc import ArcSet, Task, Variant, build, from_tokens
from trm.puzzles.arc_training import Arc, answer, evaluate, load, make_model, make_trainer
from trm.run import Run

TINY = dict(
    largest=4, num_aug=3, hidden_size=16, num_heads=2, halt_max_steps=2, eval_steps=2, batch_size=8, max_steps=4,
    eval_interval=4, log_interval=2, checkpoint_interval=4, backend="cpu",
)  # fmt: skip


def task(name, seed, side=3, asked=1):
    pairs = [(grid(side, 2, 10 * seed + i), grid(2, side, 500 + 10 * seed + i)) for i in range(2 + asked)]
    return Task(name, tuple(pairs[:2]), tuple(pairs[2:]))


@pytest.fixture
def folder(tmp_path):
    written(tmp_path, [task(f"t{i}", i) for i in range(4)] + [task("large", 9, side=5)], "training.json")
    written(tmp_path, [task(f"e{i}", 20 + i, asked=1 + i) for i in range(2)], "evaluation.json")
    return tmp_path


def params_of(folder, **changes):
    return Arc.create(TINY | {"data_path": str(folder), "output_dir": str(folder / "run")} | changes)


def seen(data):
    """Task and untouched variant of each pair that is trained on: {task: pairs}."""
    found = {}
    for identifier, start, end in zip(
        data.train.puzzle_identifiers, data.train.puzzle_indices, data.train.puzzle_indices[1:]
    ):
        name, variant = Variant.of_name(data.test.identifiers[identifier])
        if variant is None:
            found[name] = end - start
    return found


def test_what_is_trained_and_judged_on(folder):
    data = load(params_of(folder))
    assert seen(data) == {"t0": 3, "t1": 3, "t2": 3, "t3": 3, "e0": 2, "e1": 2}
    assert [t.name for t in data.test.tasks] == ["e0", "e1"] and len(data.test.test) == 4 * (1 + 2)
    assert not data.valid.tasks and data.left_out == ["training.json, task large: side 5"]
    data = load(params_of(folder, valid_size=1, train_size=2, test_size=1))
    assert seen(data) == {"t0": 3, "t1": 3, "t2": 2, "e0": 2}
    assert [t.name for t in data.valid.tasks] == ["t2"] and [t.name for t in data.test.tasks] == ["e0"]
    other = load(params_of(folder, valid_size=1, train_size=2, seed=5))
    assert np.array_equal(data.test.test.inputs, other.test.test.inputs[:4])
    written(folder, [task("c0", 30)], "concept.json")
    assert seen(load(params_of(folder)))["c0"] == 3


def test_a_folder_that_was_built_is_read_as_it_was(folder):
    whole = load(params_of(folder))
    whole.test.save(folder / "built")
    params = params_of(folder / "built", output_dir=str(folder / "run"))
    data = load(params)
    assert np.array_equal(data.train.inputs, whole.train.inputs) and data.test.identifiers == whole.test.identifiers
    assert [t.name for t in data.test.tasks] == ["e0", "e1"] and data.test.side == 4
    assert np.array_equal(data.test.tasks[1].asked[1][1], whole.test.tasks[1].asked[1][1])
    with pytest.raises(UserError, match="'valid_size': a folder that is built"):
        load(params.model_copy(update={"valid_size": 1}))
    (folder / "built" / "identifiers.json").write_text('["<blank>", "e0"]', encoding="utf-8")
    with pytest.raises(UserError, match="identifiers.json: must be a list of 25 names"):
        load(params)
    whole.test.save(folder / "built")
    written(folder / "built", [task("e0", 20)], "test_puzzles.json")
    with pytest.raises(UserError, match="test_puzzles.json: task e1 is missing"):
        load(params)


def test_what_does_not_fit_is_said(folder):
    with pytest.raises(UserError, match="4 training and 2 evaluation tasks of side 4 and less; train_size 4 and valid"):
        load(params_of(folder, train_size=4, valid_size=1))
    with pytest.raises(UserError, match="give a folder"):
        load(params_of(folder, data_path=""))
    (folder / "more_training.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="2 files or folders have 'training' in their name"):
        load(params_of(folder))
    with pytest.raises(ParameterError, match="'mixer'"):
        params_of(folder, mixer="houses")


def test_it_is_trained_with_sparse_embeddings_and_judged(folder):
    params = params_of(folder, valid_size=1, puzzle_tokens=3, puzzle_vectors=1)
    data = load(params)
    model = make_model(params, data)
    trainer = make_trainer(model, params, Run(params, "12_arc"), data)
    trainer.fit()
    table = model.puzzle_embed.weight.detach()
    assert table.shape == (1 + 6 * 4, 16) and (table[0] == 0).all() and (table[1:] != 0).any()
    last = trainer.run.history()[-1]
    assert {"valid/pass@1", "valid/pass@2", "valid/exact_accuracy"} <= last.keys()
    found = evaluate(model.eval(), params, data)
    names = {"arc/pass@1", "arc/pass@2", "arc/zeroed/pass@2", "arc/swapped/pass@1", "arc/nearest_output/pass@2"}
    assert names | {"arc/copy_the_input/pass@1", "arc/trained_pairs/exact_accuracy"} <= found.metrics.keys()


class Oracle(torch.nn.Module):
    """Knows the answer to every question under every identifier, and nothing under others."""

    def __init__(self, judged: ArcSet):
        super().__init__()
        parts = judged.test, judged.train
        rows = [row for part in parts for row in zip(part.example_identifiers(), part.inputs, part.labels)]
        self.known = {(int(i), x.tobytes()): y for i, x, y in rows}

    def stand_in(self, asked, steps):
        ids = asked.example_identifiers()
        predictions = np.stack([self.known.get((int(i), x.tobytes()), 0 * x) for i, x in zip(ids, asked.inputs)])
        exact = (predictions == asked.labels).all(-1)

        class Found:
            pass

        found = Found()
        found.predictions, found.exact = predictions[:, None], exact[:, None]
        found.signals = {"q_halt": np.zeros((len(ids), 1), np.float32)}
        found.exact_by_step = exact[None].mean(1)
        return found


def test_votes_of_an_oracle_and_what_the_controls_take_from_it(folder, monkeypatch):
    """All variants are turned back: every answer is right; with no embedding or another's nothing is."""
    params = params_of(folder)
    data = load(params)
    oracle = Oracle(data.test)
    monkeypatch.setattr(arc_training, "evaluate_tokens", lambda model, asked, steps: model.stand_in(asked, steps))
    found = evaluate(oracle, params, data)
    assert found.metrics["arc/pass@1"] == found.metrics["arc/pass@2"] == found.metrics["arc/exact_accuracy"] == 1
    for control in ("zeroed", "swapped"):
        assert found.metrics[f"arc/{control}/pass@2"] == found.metrics[f"arc/{control}/exact_accuracy"] == 0
    trained = [found.metrics[f"arc{c}/trained_pairs/exact_accuracy"] for c in ("", "/zeroed", "/swapped")]
    assert trained[0] == 1 and trained[1] == 0 and trained[2] < 0.2  # the next pair may be of the same variant
    for given, right in data.test.tasks[1].asked:
        assert np.array_equal(found.votes["own"].ranked("e1", given)[0], right)
    # An oracle of one of the two test inputs of e1 passes 1.5 of 2 tasks.
    gone = data.test.test.inputs[data.test.test.puzzle_indices[4:-1]]
    oracle.known = {key: y for key, y in oracle.known.items() if not any(key[1] == x.tobytes() for x in gone)}
    _, exact = answer(oracle, data.test)
    assert evaluate(oracle, params, data, controls=False).metrics["arc/pass@1"] == 0.75 and exact == 8 / 12


def test_controls_name_the_identifiers_of_nothing_and_of_the_next_task(folder):
    test = load(params_of(folder)).test.test
    names = load(params_of(folder)).test.identifiers
    assert {names[i] for i in arc_training.zeroed(test)} == {"<blank>"}
    moved = [Variant.of_name(names[i])[0] for i in arc_training.swapped(test)]
    assert moved == ["e1"] * 4 + ["e0"] * 4 and len({*arc_training.swapped(test).tolist()}) == 8


def test_baselines_by_hand(folder):
    same = grid(3, 3)
    copied = Task("copied", ((grid(2, 2), grid(3, 2)),), ((same, same), (grid(2, 3), grid(2, 2))))
    one = Task("one", ((same, grid(2, 2, 3)),), ((same, grid(2, 2, 3)),))
    unknown = Task("unknown", ((same, same),), ((same, None),))
    data = arc_training.ArcSplits(
        *(lambda arc: (arc.train, replace(arc, tasks=[]), arc))(build([], [copied, one, unknown], 1, 4))
    )
    params = params_of(folder)
    found = evaluate(make_model(params, data).eval(), params, data, controls=False).metrics
    assert found["arc/copy_the_input/pass@1"] == 0.25 and found["arc/nearest_output/pass@2"] == 0.5
    data = replace(data, test=replace(data.test, test=data.test.test.between(2, 3), tasks=[unknown]))
    assert not any("pass@" in name for name in evaluate(make_model(params, data).eval(), params, data).metrics)


def test_some_pairs_keep_their_identifiers(folder):
    data = load(params_of(folder))
    some = arc_training.some_pairs(data.train, 10)
    assert len(some) == 10 and some.checked("") is some
    pairs = {
        (int(i), x.tobytes(), y.tobytes())
        for i, x, y in zip(data.train.example_identifiers(), data.train.inputs, data.train.labels)
    }
    for i, x, y in zip(some.example_identifiers(), some.inputs, some.labels):
        assert (int(i), x.tobytes(), y.tobytes()) in pairs
    assert from_tokens(some.inputs[0], 4).size or some.inputs[0].any()
