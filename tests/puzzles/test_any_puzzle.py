"""Training on any puzzle: mazes that are made, folders of one's own, splits, and what is wrong with them."""

import numpy as np
import pytest
import torch

from trm.errors import UserError
from trm.losses import IGNORE_INDEX
from trm.params import ParameterError
from trm.puzzles import maze
from trm.puzzles.any_puzzle import AnyPuzzle, load, make_model, make_trainer
from trm.puzzles.solve import evaluate_tokens, solve
from trm.puzzles.token_set import TokenSet
from trm.puzzles.train import count_flops
from trm.run import Run

TINY = dict(side=9, train_size=20, valid_size=5, test_size=6,
            hidden_size=16, num_aug=2, batch_size=8, max_steps=6, eval_steps=3,
            halt_max_steps=3, eval_interval=3, log_interval=2, checkpoint_interval=6,
            backend="cpu")  # fmt: skip


def params_of(folder="unused", **changes):
    return AnyPuzzle.create(TINY | {"output_dir": str(folder)} | changes)


def own_set(size=40, T=6):
    """Reverse a sequence; the first token carries no loss."""
    inputs = np.random.default_rng(1).integers(1, 5, (size, T))
    labels = inputs[:, ::-1].copy()
    labels[:, 0] = 0
    return TokenSet.of(inputs, labels, 5)


def test_mazes_are_the_same_for_every_seed_and_share_nothing():
    one, other = load(params_of(seed=1)), load(params_of(seed=2))
    assert (one.train.inputs == other.train.inputs).all() and [len(one.train), len(one.valid), len(one.test)] == [
        40,
        5,
        6,
    ]
    grids = [{maze.canonical(g.reshape(9, 9)) for g in part.inputs} for part in (one.train, one.valid, one.test)]
    assert not grids[0] & grids[1] and not grids[0] & grids[2] and not grids[1] & grids[2]


@pytest.mark.parametrize("mixer", ["mlp", "attention"])
def test_a_model_is_trained_and_judged(tmp_path, mixer):
    params = params_of(tmp_path, mixer=mixer)
    data = load(params)
    model = make_model(params, data)
    metrics = make_trainer(model, params, Run(params, "12_any_puzzle"), data).fit()
    assert metrics["train/steps"] == 6 and model.config.vocab_size == 6 and model.config.seq_len == 81
    found = evaluate_tokens(model.eval(), data.test, 3)
    by_hand = solve(model, torch.from_numpy(data.test.inputs.astype(np.int64)), 3).predictions.numpy()
    right = by_hand == data.test.labels[:, None]
    assert (found.exact == right.all(-1)).all() and found.cells_by_step == pytest.approx(right.mean((0, 2)))
    assert found.metrics("test")["test/loss"] > 0 and count_flops(params, model.config)["flops/training"] > 0


def test_a_folder_of_ones_own(tmp_path):
    own_set().save(tmp_path / "mine" / "train")
    own_set(8).save(tmp_path / "mine" / "test")
    params = params_of(tmp_path / "run", data_path=str(tmp_path / "mine"), train_size=0, puzzle_tokens=2)
    data = load(params)
    assert [len(data.train), len(data.valid), len(data.test)] == [35, 5, 6]
    assert (np.concatenate([data.train.inputs, data.valid.inputs]) == own_set().inputs).all()
    model = make_model(params, data)
    assert model.config.puzzle_tokens == 2 and model.config.seq_len == 6
    make_trainer(model, params, Run(params, "12_any_puzzle"), data).fit()
    found = evaluate_tokens(model.eval(), data.test, 3)
    targets = data.test.targets(slice(None))
    assert (targets[:, 0] == IGNORE_INDEX).all() and found.correct[:, :, 0].all() and not found.blank[:, 0].any()
    with pytest.raises(UserError, match="40 groups to train on; train_size 36 and valid_size 5 ask for more"):
        load(params.model_copy(update={"train_size": 36}))
    own_set(8, T=7).save(tmp_path / "mine" / "test")
    with pytest.raises(UserError, match="seq_len is 6 in train/ and 7 in test/"):
        load(params)
    with pytest.raises(UserError, match="train.dataset.json: no such file"):
        load(params.model_copy(update={"data_path": str(tmp_path)}))


@pytest.mark.parametrize(
    "values, said", [({"mixer": "houses"}, "is for Sudoku"), ({"train_size": 0}, "how many mazes")]
)
def test_what_does_not_fit_is_said(values, said):
    with pytest.raises(ParameterError, match=said):
        params_of(**values)


def test_a_csv_of_mazes(tmp_path):
    sets = maze.make(9, {"all": 12})["all"]
    lines = ["source,question,answer,rating"]
    for pair in zip(sets.inputs, sets.labels):
        lines.append("x," + ",".join("".join(maze.LETTERS[t - 1] for t in grid) for grid in pair) + ",0")
    (tmp_path / "m.csv").write_text("\n".join(lines), encoding="utf-8")
    data = load(params_of(data_path=str(tmp_path / "m.csv"), train_size=3, valid_size=2, test_size=6))
    assert (data.test.inputs == sets.inputs[:6]).all() and (data.train.inputs == sets.inputs[6:9]).all()
    assert (data.valid.inputs == sets.inputs[10:]).all()
    with pytest.raises(UserError, match="holds 12 mazes; test_size 12 leaves none"):
        load(params_of(data_path=str(tmp_path / "m.csv"), test_size=12))
