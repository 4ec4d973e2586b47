"""Checkpoints: whole or not at all, and clear about what is broken."""

import pytest
import torch

from trm import checkpoint
from trm.checkpoint import (
    CheckpointError,
    checkpoints,
    load_checkpoint,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
)


def write(folder, step=1):
    save_checkpoint(folder / f"step_{step:08d}", {"model": {"w": torch.full((3,), float(step))}}, {"step": step})


def test_there_and_back_and_old_ones_go(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert [p.name for p in checkpoints(tmp_path)] == ["step_00000002", "step_00000003"]
    tensors, facts = load_checkpoint(checkpoints(tmp_path)[-1])
    assert tensors["model"]["w"].tolist() == [3, 3, 3] and facts == {"step": 3}


def test_shared_and_expanded_tensors_are_kept(tmp_path):
    base = torch.arange(3.0)
    save_checkpoint(tmp_path / "step_1", {"state": {"a": base, "b": base, "c": base.expand(2, 3)}}, {})
    state = load_checkpoint(tmp_path / "step_1")[0]["state"]
    assert state["a"].tolist() == state["b"].tolist() == state["c"][1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("file", ["model.safetensors", "facts.json"])
def test_a_file_cut_off_is_named(tmp_path, file):
    write(tmp_path)
    path = tmp_path / "step_00000001" / file
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(tmp_path / "step_00000001")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000001"]
    load_checkpoint(tmp_path / "step_00000001")


def test_an_optimizer_goes_on_as_if_never_stopped():
    def start():
        torch.manual_seed(0)
        p = [torch.nn.Parameter(torch.randn(4)), torch.nn.Parameter(torch.randn(2))]
        return p, torch.optim.AdamW(p, lr=0.1)

    def step(p, optimizer):
        optimizer.zero_grad()
        sum(x.pow(4).sum() for x in p).backward()
        optimizer.step()

    p, optimizer = start()
    for _ in range(5):
        step(p, optimizer)
    q, other = start()
    with torch.no_grad():
        for a, b in zip(q, p):
            a.copy_(b)
    load_optimizer(other, {k: v.clone() for k, v in optimizer_tensors(optimizer).items()})
    step(p, optimizer)
    step(q, other)
    assert all((a == b).all() for a, b in zip(p, q))
