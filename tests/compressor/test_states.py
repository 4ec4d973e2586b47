"""Hidden states in batches and on disk: the same numbers whichever way, nothing of pads, little memory."""

import numpy as np
import pytest
import torch

from trm.compressor.states import StateBatches, StateStore
from trm.errors import UserError

SEQUENCES = [[5, 6, 7], [8, 9], [1, 2, 3, 4, 5], [4, 4], [3]]


def read(ids, attention):
    """States that say where they come from: (token, position, 1), and nonsense at pads."""
    place = torch.arange(ids.shape[1]).expand(ids.shape)
    states = torch.stack([ids, place, torch.ones_like(ids)], -1).float()
    return torch.where(attention[..., None], states, torch.nan)


def make(**options):
    return StateBatches(SEQUENCES, read, **{"batch_size": 2, "pad_id": 0, "skip_first": 1, "seed": 0} | options)


def test_padding_by_hand():
    batch = next(make().in_order())
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["attention"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["mask"].tolist() == [[False, True, True], [False, True, False]]


def test_every_sequence_once_an_epoch_in_an_order_that_changes():
    batches = make(batch_size=2)
    assert len(batches.sequences) == 4 and batches.epoch_steps == 2  # [3] has nothing beyond its first token
    epochs = [[batches(2 * epoch + i)["input_ids"] for i in range(2)] for epoch in range(8)]
    firsts = [tuple(int(row[0]) for ids in epoch for row in ids) for epoch in epochs]
    assert all(sorted(order) == [1, 4, 5, 8] for order in firsts) and len(set(firsts)) > 1
    assert (batches(5)["input_ids"] == make()(5)["input_ids"]).all()
    batch = batches(5)
    assert batch["positions"].sum() == batch["mask"].sum()
    assert "states" not in batch  # the trainer's processes read them


def test_cached_states_are_the_same_states_and_are_found_again(tmp_path):
    store = StateStore.find_or_write(tmp_path / "s", make(), {"lm": "x"})
    for a, b in zip(make().in_order(), make(store=store).in_order()):
        assert (a["mask"] == b["mask"]).all() and np.isfinite(b["states"]).all()
        np.testing.assert_array_equal(a["states"][a["mask"]], b["states"][b["mask"]])
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["starts.json", "states.npy"]
    assert store.of(2)[:, 0].tolist() == [2, 3, 4, 5]
    batch = make(store=store)(3)
    wanted = read(*(torch.from_numpy(batch[name]) for name in ("input_ids", "attention"))).numpy()
    assert (batch["states"][batch["mask"]] == wanted[batch["mask"]]).all()
    written = (tmp_path / "s" / "states.npy").stat().st_mtime_ns
    StateStore.find_or_write(tmp_path / "s", make(), {"lm": "x"})
    assert (tmp_path / "s" / "states.npy").stat().st_mtime_ns == written


def test_damaged_or_foreign_stores_are_named(tmp_path):
    StateStore.find_or_write(tmp_path / "s", make(), {"lm": "x"})
    with pytest.raises(UserError, match="states of something else"):
        StateStore(tmp_path / "s", {"lm": "y"})
    whole = (tmp_path / "s" / "starts.json").read_text(encoding="utf-8")
    for start in ("1", "-1", '"a"', "0.0"):
        (tmp_path / "s" / "starts.json").write_text(whole.replace("[0,", f"[{start},"), encoding="utf-8")
        with pytest.raises(UserError, match="holds no cached states .its files do not belong together"):
            StateStore(tmp_path / "s")
    (tmp_path / "s" / "states.npy").write_bytes((tmp_path / "s" / "states.npy").read_bytes()[:100])
    for facts in (whole, "[]", "[1]", '{"starts": [0]}'):
        (tmp_path / "s" / "starts.json").write_text(facts, encoding="utf-8")
        with pytest.raises(UserError, match="holds no cached states"):
            StateStore(tmp_path / "s")


def test_no_sequence_that_counts():
    with pytest.raises(UserError, match="no sequence of more than 9 tokens"):
        make(skip_first=9)
