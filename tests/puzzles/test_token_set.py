"""The data set on disk that all puzzles share: the original's format, its checks, and its batches."""

import hashlib
import json

import numpy as np
import pytest

from trm.losses import IGNORE_INDEX
from trm.puzzles.token_set import ARRAYS, TokenBatches, TokenSet, TokenSetError


def example_set():
    """500 examples of nine tokens in about 120 groups."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(1, 6, (500, 9)).astype(np.uint8), rng.integers(0, 6, (500, 9)).astype(np.uint8)
    return TokenSet.of(inputs, labels, 6, np.sort(rng.integers(0, 120, 500)))


def test_the_batches_are_those_of_the_original():
    """The digest is of the batches that the original loader (puzzle_dataset.py of TinyRecursiveModels, seed 3, batches of 16,
    three epochs) reads from the folder that `save` writes."""
    batches, digest = TokenBatches(example_set(), 16, seed=3), hashlib.sha256()
    for step in range(21):
        digest.update(batches(step)["inputs"].tobytes())
    assert digest.hexdigest()[:16] == "b1188f389b0184f0"


def test_any_step_can_be_asked_for():
    data, one = example_set(), TokenBatches(example_set(), 16, seed=3)
    in_order = [one(step) for step in range(20)]
    for step in (13, 2, 19, 0):
        again = TokenBatches(data, 16, seed=3)(step)
        assert all((again[name] == in_order[step][name]).all() for name in again)
    small = TokenBatches(data.first(3), 40, seed=0)  # several epochs make a batch
    assert small(5)["inputs"].shape == (40, 9)
    assert set(map(bytes, small(0)["inputs"].astype(np.uint8))) <= set(map(bytes, data.inputs[: data.group_indices[3]]))


def test_a_puzzle_of_several_examples_goes_in_whole_or_in_part():
    data = TokenSet(
        np.arange(12)[:, None] % 6, np.ones((12, 1), int), np.array([1, 2, 3]), np.array([0, 5, 9, 12]), np.array([0, 2, 3]),
        example_set().about.model_copy(update={"seq_len": 1, "num_puzzle_identifiers": 4}),
    ).checked("x")  # fmt: skip
    assert data.example_identifiers().tolist() == [1] * 5 + [2] * 4 + [3] * 3
    batches = TokenBatches(data, 6, seed=1)
    for step in range(8):  # a round has one puzzle of each group: five or four examples, and three, of which six fit
        ids = batches(step)["puzzle_ids"].tolist()
        assert tuple(map(ids.count, (1, 2, 3))) in {(5, 0, 1), (0, 4, 2), (3, 0, 3), (0, 3, 3)}


def test_groups_must_not_fall():
    with pytest.raises(TokenSetError, match="groups must be .4,. numbers that do not fall"):
        TokenSet.of(np.ones((4, 2), int), np.ones((4, 2), int), 3, [0, 1, 0, 1])


def test_labels_that_carry_no_loss():
    data = example_set()
    targets = data.targets(slice(None))
    assert ((targets == IGNORE_INDEX) == (data.labels == 0)).all()
    all_count = TokenSet.of(data.inputs, data.labels, 6, ignore_label_id=None)
    assert (all_count.targets(slice(None)) == data.labels).all()


def test_it_is_written_and_read(tmp_path):
    data = example_set()
    data.save(tmp_path / "data" / "train", ["<blank>"])
    again = TokenSet.load(tmp_path / "data" / "train")
    assert all((getattr(data, name) == getattr(again, name)).all() for name in ARRAYS)
    assert isinstance(again.inputs, np.memmap) and again.about.total_puzzles == 500
    assert again.about.total_groups == len(data.group_indices) - 1
    assert json.loads((tmp_path / "data" / "identifiers.json").read_text(encoding="utf-8")) == ["<blank>"]
    names = {f"all__{name}.npy" for name in ARRAYS} | {"dataset.json"}
    assert {path.name for path in (tmp_path / "data" / "train").iterdir()} == names


def broken(folder, name, values):
    np.save(folder / f"all__{name}.npy", values)


@pytest.mark.parametrize("spoil, message", [
    (lambda f: broken(f, "labels", np.ones((500, 8), int)), "labels must be .500, seq_len 9.; they are .500, 8."),
    (lambda f: broken(f, "inputs", np.full((500, 9), 6)), "inputs hold 6 to 6; token ids are 0 to 5"),
    (lambda f: broken(f, "inputs", np.ones((500, 9))), "inputs must be whole numbers with 2 axes; they are float64"),
    (lambda f: broken(f, "group_indices", np.arange(9.0)), "group_indices must be whole numbers with 1 axes"),
    (lambda f: broken(f, "puzzle_identifiers", np.zeros((500, 1), int)), "puzzle_identifiers must be whole .*500, 1"),
    (lambda f: broken(f, "inputs", np.array(3)), "inputs must be whole numbers with 2 axes"),
    (lambda f: broken(f, "puzzle_indices", np.r_[0, 2, 1, 3:501].astype(np.uint16)), "must rise; entry 2 is 1 after 2"),
    (lambda f: broken(f, "puzzle_indices", np.arange(500)), "puzzle_indices must be 501 numbers from 0 to 500"),
    (lambda f: broken(f, "puzzle_indices", np.r_[0, 2, 1, 3:501]), "puzzle_indices must rise; entry 2 is 1 after 2"),
    (lambda f: broken(f, "puzzle_identifiers", np.ones(500, int)), "puzzle_identifiers must be 0 to 0"),
    (lambda f: (f / "all__labels.npy").unlink(), "all__labels.npy: no such file"),
    (lambda f: (f / "all__labels.npy").write_bytes(b"x"), "all__labels.npy: not an array of numpy"),
    (lambda f: broken(f, "group_indices", np.array([None, 3])), "group_indices.npy: not an array of numpy"),
    (lambda f: (f / "dataset.json").write_text('{"seq_len": 9}'), "dataset.json: field 'vocab_size': Field required$"),
    (lambda f: (f / "dataset.json").write_text('{"seq_len": 9, "vocab_size": "x"}'), "field 'vocab_size': .*not 'x'"),
    (lambda f: (f / "dataset.json").write_text('{"seq_len": 9, "vocab_size": 6, "sets": ["a", "b"]}'), "2 sets; one is read"),
])  # fmt: skip
def test_what_is_broken_is_named(tmp_path, spoil, message):
    example_set().save(tmp_path / "train")
    spoil(tmp_path / "train")
    with pytest.raises(TokenSetError, match=message):
        TokenSet.load(tmp_path / "train")
