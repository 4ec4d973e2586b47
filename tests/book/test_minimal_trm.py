"""The model in one file: from the same weights it computes what the package computes; it is short, stands alone, and learns."""

import ast
import copy
import importlib.util

import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from trm.model import TRM, TRMConfig
from trm.puzzles.dataset import load
from trm.puzzles.sudoku import SHAPES, digits, is_solution

PATH = ROOT / "book" / "manual" / "minimal_trm.py"
CONFIG = TRMConfig(
    vocab_size=8, seq_len=36, hidden_size=64, expansion=2.0, inner_multiple=8, mixer="mlp", H_cycles=2, L_cycles=2,
    halt_max_steps=6, schedule="none", backprop="full", loss_type="softmax", act_weight=0.5, halting="q",
)  # fmt: skip


@pytest.fixture
def minimal():
    """The file as a module of its own, whose constants a test may change."""
    spec = importlib.util.spec_from_file_location("minimal_trm", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ours(minimal):
    """A minimal model whose halting head says different things of different rows."""
    torch.manual_seed(0)
    model = minimal.TRM()
    nn.init.normal_(model.q_head.weight, std=0.2)
    nn.init.zeros_(model.q_head.bias)
    return model


def packages(model, **changes):
    """A model of the package with the same weights, which have the same names and shapes."""
    made = TRM(CONFIG.model_copy(update=changes))
    made.load_state_dict(model.state_dict())
    return made


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def test_logits_losses_and_gradients_are_those_of_the_package(minimal, ours):
    theirs = packages(ours)
    inputs, labels = minimal.draw_batch(minimal.read_pack("train"))
    z_H, z_L, state = ours.H_init, ours.L_init, None
    for _ in range(5):  # `min_halt_steps` keeps all rows from halting; float32 errors grow with the steps
        z_H, z_L, logits, q = ours(inputs, z_H.detach(), z_L.detach())
        loss = minimal.loss_of(logits, q, labels)
        out = theirs.loss(dict(inputs=inputs, labels=labels, min_halt_steps=torch.full_like(inputs[:, 0], 6)), state)
        state = out.state
        torch.testing.assert_close(loss, out.loss)
        torch.testing.assert_close(logits, theirs.output_logits(state.z_H), rtol=1e-3, atol=2e-3)
        torch.testing.assert_close(q, theirs.q_logits(state.z_H)[0], rtol=1e-3, atol=2e-3)
        for model, value in ((ours, loss), (theirs, out.loss)):
            model.zero_grad()
            value.backward()
        torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-3, atol=1e-5)


def test_training_takes_the_updates_of_the_package(minimal, ours, monkeypatch, capsys):
    theirs, grids = packages(ours, halt_max_steps=3), minimal.read_pack("train")
    mean = copy.deepcopy(theirs)
    first, *batches = [minimal.draw_batch(grids) for _ in range(9)]
    drawn = iter([first, *batches])
    monkeypatch.setattr(minimal, "draw_batch", lambda _: next(drawn))
    monkeypatch.setattr(minimal, "TRM", lambda: ours)
    for name, value in dict(UPDATES=8, MAX_STEPS=3, EXPLORATION=0.0, WARM_UP=4).items():
        monkeypatch.setattr(minimal, name, value)
    average = minimal.train(grids)

    optimizer, state, halted = torch.optim.AdamW(theirs.parameters(), betas=(0.9, 0.95), weight_decay=0.1), None, []
    for update, (inputs, labels) in enumerate(batches, 1):
        out = theirs.loss(dict(inputs=inputs, labels=labels), state)
        state = out.state
        halted.append(state.halted.float().mean().item())
        optimizer.zero_grad()
        out.loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 4e-3 * min(update / 4, 1)
        optimizer.step()
        with torch.no_grad():
            for a, b in zip(mean.parameters(), theirs.parameters()):
                a.copy_(0.99 * a + 0.01 * b)
    assert 0 < halted[0] < 1, "some rows go on, some begin a new puzzle"
    for one, other in ((ours, theirs), (average, mean)):
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()), rtol=1e-3, atol=1e-4)


def test_exploration_keeps_rows_from_halting_at_once(minimal, ours, monkeypatch):
    nn.init.constant_(ours.q_head.bias, 50.0)  # always sure
    grids, seen = minimal.read_pack("train"), []
    monkeypatch.setattr(minimal, "UPDATES", 2)
    monkeypatch.setattr(minimal, "TRM", lambda: ours)
    ours.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    went_on = {}
    for chance in (0.0, 1.0):
        seen.clear()
        monkeypatch.setattr(minimal, "EXPLORATION", chance)
        minimal.train(grids)
        went_on[chance] = (seen[0] == seen[1]).all(1).float().mean().item()
    assert went_on == {0.0: 0.0, 1.0: 1.0}


def test_the_pack_is_read_as_the_package_reads_it_and_symmetries_keep_the_rules(minimal):
    grids = minimal.read_pack("test")
    test = load("6x6", test_size=0).test
    assert (grids[:, 0].numpy() == test.questions).all() and (grids[:, 1].numpy() == test.answers).all()
    assert len(minimal.read_pack("train")) == 12_000
    inputs, labels = (digits(part.numpy()) for part in minimal.draw_batch(grids))
    assert is_solution(SHAPES["6x6"], inputs, labels).all()
    assert len({row.tobytes() for row in labels}) > 40


def test_it_is_short_and_imports_torch_alone():
    source = PATH.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    nodes = list(ast.walk(ast.parse(source)))
    modules = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} == {"copy", "csv", "lzma", "pathlib", "torch"}


@pytest.mark.slow
def test_it_learns_6x6(minimal):
    shares = minimal.evaluate(minimal.train(minimal.read_pack("train")), minimal.read_pack("test"))
    assert shares[-1] > 0.9 and shares[-1] > shares[0] + 0.3
