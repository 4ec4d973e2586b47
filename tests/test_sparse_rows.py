"""Tables of embeddings with sparse gradients: sign-SGD in the rows of the batch, against dense computations in numpy.

As a script, what `tests.conftest.TWO_PROCESSES` starts: train a table and write it into a folder.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT, TWO_PROCESSES
from trm.checkpoint import checkpoints, optimizer_tensors
from trm.optim import EMA, make_optimizer
from trm.params import ParameterError
from trm.protocol import StepOutput
from trm.puzzles.any_puzzle import AnyPuzzle
from trm.puzzles.params import TrmTrain
from trm.run import Run
from trm.trainer import Trainer

N, D, B, STEPS = 50, 3, 8, 6
OPTIONS = dict(
    puzzle_tokens=1, puzzle_lr=0.02, puzzle_weight_decay=0.5, lr=0.1, batch_size=B, max_steps=STEPS, warmup_steps=4,
    lr_schedule="cosine", lr_min_ratio=0.5, log_interval=1, checkpoint_interval=3, grad_clip=1e-3, backend="cpu",
)  # fmt: skip


class Toy(torch.nn.Module):
    """A table whose gradient is known, and another weight with a large one."""

    def __init__(self):
        super().__init__()
        start = torch.from_numpy(np.random.default_rng(0).standard_normal((N, D), np.float32))
        self.table = torch.nn.Embedding.from_pretrained(start, freeze=False, sparse=True)
        self.weight = torch.nn.Parameter(torch.full((2,), 100.0))

    def loss(self, batch, state=None, detail=False) -> StepOutput:
        loss = (self.table(batch["ids"]) * batch["x"]).sum(-1).mean() + self.weight.square().sum()
        return StepOutput(loss, None, {"total_loss": loss.detach()})

    forward = loss


def batches(step: int) -> dict[str, np.ndarray]:
    """Some ids several times, row 0 with a gradient of zero in its first number; the last ten rows never."""
    draw = np.random.default_rng([7, step])
    ids, x = draw.integers(1, N - 10, B), draw.standard_normal((B, D)).astype(np.float32)
    ids[:2], ids[2:5], x[:2, 0] = 0, ids[2], 0
    x[2:4, 1], x[4, 1] = 1, -3  # summed negative, although most are positive
    return {"ids": ids, "x": x}


def by_hand(steps: int = STEPS) -> np.ndarray:
    """The table after some steps: dense, one number at a time, in float64."""
    table = np.random.default_rng(0).standard_normal((N, D), np.float32).astype(np.float64)
    for step in range(steps):
        warm = 0.5 + 0.5 * 0.5 * (1 + np.cos(np.pi * (step - 4) / (STEPS - 4))) if step >= 4 else (step + 1) / 4
        batch, rate = batches(step), 0.02 * warm
        for row in set(batch["ids"].tolist()):
            grad = sum(x for i, x in zip(batch["ids"], batch["x"].astype(np.float64)) if i == row)
            for k in range(D):
                table[row, k] -= rate * 0.5 * table[row, k] + rate * (float(grad[k] > 0) - float(grad[k] < 0))
    return table


def train(folder: Path, **changes) -> Trainer:
    params = AnyPuzzle.create(OPTIONS | {"output_dir": str(folder)} | changes)
    trainer = Trainer(Toy(), batches, params, Run(params, "rows"))
    trainer.fit()
    return trainer


def test_the_rule_on_a_made_up_example():
    """A row that occurs twice, with gradients 3 and -4 in its first number, and one with a gradient of 0."""
    model = Toy()
    with torch.no_grad():
        model.table.weight[4:6] = torch.tensor([[1.0, 2.0, -1.0], [10.0, 0.0, 4.0]])
    before = model.table.weight.detach().clone()
    optimizer = make_optimizer(model, AnyPuzzle.create(OPTIONS | {"puzzle_lr": 0.1}))
    x = torch.tensor([[3.0, 1.0, 0.0], [-4.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    (model.table(torch.tensor([4, 4, 5])) * x).sum().backward()
    optimizer.step()
    after = model.table.weight.detach()
    expected = torch.tensor([[0.95 * 1 + 0.1, 0.95 * 2 - 0.1, -0.95], [9.5, 0.0, 3.8]])
    torch.testing.assert_close(after[4:6], expected)
    others = [i for i in range(N) if i not in (4, 5)]
    assert torch.equal(after[others], before[others])


@pytest.mark.parametrize("optimizer", ["adamw", "adam_atan2", "soap"])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_some_steps_against_numpy(tmp_path, optimizer, parts):
    trainer = train(tmp_path, optimizer=optimizer, grad_accumulation=parts)
    table = trainer.plain_model.table.weight.detach().numpy()
    np.testing.assert_allclose(table, by_hand(), rtol=0, atol=1e-5)
    assert (table[-10:] == Toy().table.weight.detach().numpy()[-10:]).all()
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    norm = 2 * 100 * 2**0.5  # of the other weight alone
    assert history[0]["train/grad_norm"] == pytest.approx(norm, rel=1e-6)


def test_no_moments_and_no_average_of_the_table(tmp_path):
    trainer = train(tmp_path)
    model = trainer.plain_model
    sizes = {t.numel() for t in optimizer_tensors(trainer.optimizer.optimizer).values()}
    assert sizes == {1, 2} and {*trainer.ema.shadow} == {"weight"}
    assert model.table.weight.grad is None
    present, other = model.table.weight.detach().clone(), model.weight.detach().clone()
    with trainer.ema.averaged() as averaged:
        assert torch.equal(averaged.table.weight, present) and not torch.equal(averaged.weight, other)
    assert torch.equal(model.weight, other)
    assert {*EMA(torch.nn.Embedding(3, 2), 0.5).shadow} == {"weight"}  # a dense one is averaged as before


def test_resuming_equals_no_interruption(tmp_path):
    whole = train(tmp_path / "whole").plain_model.table.weight
    broken = train(tmp_path / "broken", max_steps=STEPS, time_limit=1e-9)
    assert broken.paused and broken.step < STEPS
    resumed = train(tmp_path / "broken", resume=True)
    assert torch.equal(resumed.plain_model.table.weight, whole)
    files = [checkpoints(tmp_path / n / "checkpoints")[-1] / "model.safetensors" for n in ("whole", "broken")]
    one, two = (load_file(file) for file in files)
    assert all(torch.equal(one[name], two[name]) for name in one) and torch.equal(one["table.weight"], whole)


def test_what_does_not_fit_is_said():
    with pytest.raises(ParameterError, match="'puzzle_lr' is for puzzle tokens"):
        TrmTrain.create({"puzzle_lr": 0.01})
    with pytest.raises(ParameterError, match="'puzzle_vectors' = 3 must not be larger than puzzle_tokens = 2"):
        TrmTrain.create({"puzzle_tokens": 2, "puzzle_vectors": 3})


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_two_processes_sum_the_gradients_of_both(tmp_path, parts):
    command = [sys.executable, *TWO_PROCESSES, str(Path(__file__)), str(tmp_path), str(parts)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), by_hand(), rtol=0, atol=1e-5)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = train(folder / "run", grad_accumulation=int(sys.argv[2])).plain_model.table.weight
    np.save(folder / f"{os.environ['RANK']}.npy", found.detach().numpy())
