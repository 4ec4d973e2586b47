"""The unrolled TRM: its loss by hand from the parts of the plain one, and what it saves."""

import pytest
import torch

from tests.test_model import SMALL, batch
from trm.halting import expected_loss, expected_steps, graves_weights, ponder_kl
from trm.losses import sequence_loss
from trm.model import TRM
from trm.puzzles.solve import load_model, solve
from trm.puzzles.unrolled import UnrolledTRM


def make(**options):
    torch.manual_seed(0)
    config = {**SMALL.__dict__, "ponder_coef": 0.05, "act_weight": 0.7, "every_step_weight": 0.3, **options}
    model = UnrolledTRM(config)
    torch.nn.init.normal_(model.q_head.weight, std=0.5)  # so that examples differ in when they halt
    return model


def parts(model, b):
    """Losses, halting logits and states of the four steps, by the plain model's own functions."""
    z_H, z_L = model.initial_thought(len(b["inputs"]))
    losses, halts, states = [], [], []
    for _ in range(4):
        answers, z_L = model.think(model.embed_question(b["inputs"]), z_H, z_L)
        z_H = answers[-1]
        cycle = [sequence_loss(model.output_logits(z), b["labels"]) for z in answers]
        weights = [0.5 / 3, 1 / 3, 1]  # the schedule "linear" of SMALL
        losses.append(sum(w * v for w, v in zip(weights, cycle)) / sum(weights))
        halts.append(model.q_logits(z_H)[0])
        states.append(z_H)
    return torch.stack(losses, 1), torch.stack(halts, 1), states


@pytest.mark.parametrize("kind", ["act", "ponder", "graves"])
def test_loss_by_hand(kind):
    model, b = make(halting=kind), batch()
    out = model.loss(b)
    losses, halts, states = parts(model, b)
    if kind == "graves":
        weights, cost = graves_weights(halts)
        average = sum(weights[:, t, None, None] * states[t] for t in range(4))
        act = (sequence_loss(model.output_logits(average), b["labels"]) + 0.05 * cost).mean()
    else:
        cost = expected_steps(halts) if kind == "act" else ponder_kl(halts, 0.2)
        act = (expected_loss(losses, halts) + 0.05 * cost).mean()
    torch.testing.assert_close(out.loss, 0.3 * losses.mean() + 0.7 * act)
    torch.testing.assert_close(out.metrics["supervised_loss"], losses.mean().detach())
    torch.testing.assert_close(out.metrics["act_loss"], 0.7 * act.detach())
    assert 1 <= out.metrics["mean_steps"] <= 5


def test_halting_learns_from_later_steps_and_states_do_not():
    model, b = make(halting="act", every_step_weight=0.0), batch()
    model.loss(b).loss.backward()
    assert model.q_head.weight.grad.abs().sum() > 0
    # gradient of the cost alone: stopping earlier is cheaper, so the bias gradient is negative
    model.zero_grad()
    expected_steps(parts(model, b)[1]).sum().backward()
    assert model.q_head.bias.grad.item() < 0


def test_every_batch_begins_anew():
    model = make(halting="act")
    second = model.loss(batch(seed=2), model.loss(batch(seed=1)).state)
    torch.testing.assert_close(second.loss, model.loss(batch(seed=2)).loss)
    assert second.state.train_step == 2


def test_files_remember_the_kind(tmp_path):
    model = make(halting="graves").eval()
    model.save_pretrained(tmp_path / "graves")
    TRM(SMALL).save_pretrained(tmp_path / "plain")
    again = load_model(tmp_path / "graves")
    assert isinstance(again, UnrolledTRM) and not isinstance(load_model(tmp_path / "plain"), UnrolledTRM)
    x = batch()["inputs"]
    torch.testing.assert_close(solve(again, x, 3).signals["entropy"], solve(model, x, 3).signals["entropy"])


def test_graves_answers_from_the_average_it_was_trained_on():
    model, b = make(halting="graves").eval(), batch(40)
    torch.nn.init.constant_(model.q_head.bias, 0.5)  # some are done after two steps, some after three
    _, halts, states = parts(model, b)
    thoughts = solve(model, b["inputs"], 4)
    for steps in (1, 2, 3, 4):  # after step N nothing changes any more
        weights, cost = graves_weights(halts[:, :steps])
        average = sum(weights[:, t, None, None] * states[t] for t in range(steps))
        assert (thoughts.predictions[:, steps - 1] == model.output_logits(average).argmax(-1)).all()
    ended = cost.ceil() - 1
    assert ended.min() < 4 and ended.unique().numel() > 1
