"""The model: its loss by hand, its state, its files."""

from dataclasses import replace

import pytest
import torch

from trm.losses import sequence_loss
from trm.model import PAPER, TRM, TRMConfig
from trm.puzzles.solve import solve

SMALL = TRMConfig(**PAPER | dict(
    vocab_size=8, seq_len=6, hidden_size=12, num_layers=1, expansion=1.0, inner_multiple=4, num_heads=2, H_cycles=3,
    L_cycles=2, halt_max_steps=4, backprop="full", schedule="linear", loss_type="softmax",
))  # fmt: skip


def make(**options):
    torch.manual_seed(0)
    return TRM(SMALL.model_copy(update=options))


def batch(rows=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randint(1, 8, (rows, 6), generator=g) for name in ("inputs", "labels")}


@pytest.mark.parametrize("schedule", ["none", "linear", "uniform", "adaptive", "0.1, 0, 2"])
def test_loss_by_hand(schedule):
    model, b = make(schedule=schedule), batch()
    out = model.loss(b, detail=True)
    z_H, z_L = model.initial_thought(5)
    answers, _ = model.think(model.embed_question(b["inputs"]), z_H, z_L)
    losses = [sequence_loss(model.output_logits(z), b["labels"]) for z in answers]
    if schedule == "adaptive":
        total = sum(losses)
        weights = [0.5 * losses[0] / total, 0.5 * losses[1] / total, 1.0]
    else:
        weights = {"none": [0, 0, 1], "linear": [0.5 / 3, 1 / 3, 1], "uniform": [1, 1, 1], "0.1, 0, 2": [0.1, 0, 2]}[
            schedule
        ]
    supervised = (sum(w * v for w, v in zip(weights, losses)) / sum(weights)).mean()
    right = (model.output_logits(answers[-1]).argmax(-1) == b["labels"]).all(-1).float()
    q = model.q_logits(answers[-1])[0]
    act = 0.5 * torch.nn.functional.binary_cross_entropy_with_logits(q, right)
    torch.testing.assert_close(out.metrics["supervised_loss"], supervised.detach())
    torch.testing.assert_close(out.metrics["act_loss"], act.detach())
    torch.testing.assert_close(out.loss, supervised + act)
    for i, loss in enumerate(losses):
        torch.testing.assert_close(out.metrics[f"deep_supervision/step_{i}_loss"], loss.mean().detach())


def test_gradient_of_the_loss_against_finite_differences():
    model, b = make().double(), batch(3)
    weight = model.lm_head.weight
    model.loss(b).loss.backward()
    for index in [(0, 0), (3, 5), (7, 11)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * 2e-2
                values.append(model.loss(b).loss.item())
                weight[index] -= sign * 2e-2
        assert (values[0] - values[1]) / 4e-2 == pytest.approx(weight.grad[index].item(), rel=2e-2, abs=1e-5)


def test_detail_changes_no_gradient():
    gradients = []
    for detail in (False, True):
        model = make(schedule="none")
        model.loss(batch(), detail=detail).loss.backward()
        gradients.append(model.net[0].mlp.down_proj.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_halted_rows_take_the_new_question_and_others_go_on():
    model, first, second = make(), batch(seed=1), batch(seed=2)
    state = model.loss(first).state
    state.halted = torch.tensor([True, False, True, False, False])
    refilled = model.refill(state, second)
    for row in range(5):
        source = second if state.halted[row] else first
        assert (refilled.inputs[row] == source["inputs"][row]).all()
        assert (refilled.labels[row] == source["labels"][row]).all()
        expected = model.H_init.expand(6, -1) if state.halted[row] else state.z_H[row]
        assert (refilled.z_H[row] == expected).all()
    assert refilled.steps.tolist() == [0, 1, 0, 1, 1]


def test_a_row_stops_at_the_cap_and_the_state_carries_no_graph():
    model = make()
    state = None
    for step in range(1, 6):
        out = model.loss(batch(seed=step), state)
        state = out.state
        assert not state.z_H.requires_grad and not state.z_L.requires_grad
        assert state.steps.tolist() == [(step - 1) % 4 + 1] * 5
        assert state.halted.tolist() == [step % 4 == 0] * 5
    assert state.train_step == 5


def test_a_confident_row_stops_unless_exploration_keeps_it():
    model = make()
    torch.nn.init.constant_(model.q_head.bias, 5.0)
    assert model.loss(batch()).state.halted.all()
    kept = batch() | {"min_halt_steps": torch.tensor([0, 3, 0, 2, 0])}
    assert model.loss(kept).state.halted.tolist() == [True, False, True, False, True]


def test_step_schedule_weighs_each_row_by_its_own_counter():
    model = make(step_schedule="decay", act_weight=0.0)
    state = model.loss(batch()).state
    state.halted = torch.tensor([True, False, False, False, True])
    out = model.loss(batch(seed=3), state)
    refilled = model.refill(state, batch(seed=3))
    answers, _ = model.think(model.embed_question(refilled.inputs), refilled.z_H, refilled.z_L)
    losses = torch.stack([sequence_loss(model.output_logits(z), refilled.labels) for z in answers], -1)
    per_row = losses @ torch.tensor([0.5 / 3, 1 / 3, 1.0]) / 1.5
    weights = torch.tensor([1, 0.7, 0.7, 0.7, 1])  # rows 0 and 4 are at their first step, the others at their second
    torch.testing.assert_close(out.loss, (per_row * weights).sum() / weights.sum())


def test_the_curriculum_of_the_model_follows_the_train_step():
    model = make(curriculum_enabled=True, curriculum_start_step=1, curriculum_end_step=3)
    state, seen = None, []
    for _ in range(4):
        out = model.loss(batch(), state)
        state = out.state
        seen.append(out.metrics["curriculum_weight"].item())
    assert seen == [0.0, 0.0, 0.25, 0.5]


@pytest.mark.parametrize("mixer", ["mlp", "attention"])
def test_an_answer_does_not_depend_on_its_batch_mates(mixer):
    model, b = make(mixer=mixer).eval(), batch()
    together, alone = solve(model, b["inputs"], 3), solve(model, b["inputs"][2:3], 3)
    assert (together.predictions[2] == alone.predictions[0]).all()
    torch.testing.assert_close(together.signals["q_halt"][2], alone.signals["q_halt"][0])
    assert together.predictions.shape == (5, 3, 6)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = make(puzzle_tokens=2, num_puzzles=3)
    torch.nn.init.normal_(model.puzzle_embed.weight)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists() and (tmp_path / "config.json").exists()
    again = TRM.from_pretrained(tmp_path)
    assert again.config == model.config
    ids = torch.tensor([0, 1, 2, 0, 1])
    one, two = (solve(m, batch()["inputs"], 2, ids) for m in (model, again))
    assert (one.predictions == two.predictions).all() and (one.signals["q_halt"] == two.signals["q_halt"]).all()


def test_puzzle_tokens_tell_puzzles_apart():
    model = make(puzzle_tokens=2, num_puzzles=2)
    torch.nn.init.normal_(model.puzzle_embed.weight)
    inputs = batch(2)["inputs"][:1].expand(2, -1)
    q = solve(model, inputs, 1, torch.tensor([0, 1]))
    x = model.embed_question(inputs, torch.tensor([0, 1]))
    assert x.shape == (2, 8, 12) and q.predictions.shape == (2, 1, 6)
    assert (x[0, :2] != x[1, :2]).any() and (x[0, 2:] == x[1, 2:]).all()


def test_the_continue_loss_looks_one_step_ahead():
    model, b = make(halting="q_continue", halt_max_steps=2), batch()
    torch.nn.init.normal_(model.q_head.weight, std=0.5)
    plain = make(halt_max_steps=2)
    plain.load_state_dict(
        model.state_dict() | {"q_head.weight": model.q_head.weight[:1], "q_head.bias": model.q_head.bias[:1]}
    )
    extra, state = [], (None, None)
    for step in (1, 2):
        # the loss on going on is what the two models differ by; its target comes from one more step of thinking
        one, two = model.loss(b, state[0]), plain.loss(b, state[1])
        extra.append((one.metrics["act_loss"] - two.metrics["act_loss"]).item())
        before = state[0]
        z_H, z_L = (before.z_H, before.z_L) if before else model.initial_thought(5)
        x = model.embed_question(b["inputs"])
        answers, z_L = model.think(x, z_H, z_L)
        _, q_continue = model.q_logits(answers[-1])
        ahead, _ = model.think(x, answers[-1], z_L)
        next_halt, next_continue = model.q_logits(ahead[-1])
        target = (next_halt if step == 2 else torch.maximum(next_halt, next_continue)).sigmoid()
        expected = 0.5 * torch.nn.functional.binary_cross_entropy_with_logits(q_continue, target)
        assert extra[-1] == pytest.approx(expected.item(), abs=1e-5)
        # nobody halts before the cap here, so that both go on with the same questions
        keep = {"halted": torch.zeros(5, dtype=torch.bool)}
        state = replace(one.state, **keep), replace(two.state, **keep)


def test_depth_follows_its_stages():
    model = make(depth_stages=[[0, 1, 1], [10, 2, 2], [20, 3, 2]])
    assert [model.depth(step) for step in (0, 9, 10, 19, 20, 500)] == [(1, 1), (1, 1), (2, 2), (2, 2), (3, 2), (3, 2)]
    seen = []
    handle = model.net.register_forward_hook(lambda *_: seen.append(1))
    state = model.initial_state(5, train_step=10)
    model.loss(batch(), state)
    handle.remove()
    assert len(seen) == 2 * (2 + 1)
    assert make().depth(7) == (3, 2)


def test_exploration_anneals_and_noise_is_drawn_on_the_host():
    model = make(
        halt_exploration_prob=1.0, halt_exploration_end=0.0, halt_exploration_anneal_steps=10, initial_noise=0.5
    )
    assert (model.host_draws(0, 0, 64)["min_halt_steps"] > 0).all()
    assert not (model.host_draws(0, 10, 64)["min_halt_steps"] > 0).any()
    noise = model.host_draws(0, 3, 64)["noise"]
    assert noise.shape == (64, 6, 12) and noise.std() == pytest.approx(0.5, rel=0.05)
    assert (noise == model.host_draws(0, 3, 64)["noise"]).all() and (noise != model.host_draws(0, 4, 64)["noise"]).any()
    assert "noise" not in make().host_draws(0, 0, 4)
    state = model.initial_state(5)
    state.halted[2:] = False
    with_noise = model.refill(state, batch() | {"noise": torch.from_numpy(noise[:5])})
    torch.testing.assert_close(with_noise.z_H[:2], model.H_init.expand(2, 6, 12) + torch.from_numpy(noise[:2]))
    assert (with_noise.z_H[2:] == state.z_H[2:]).all()


@pytest.mark.parametrize(
    "options", [{}, {"puzzle_tokens": 2}, {"mixer": "houses", "box": (2, 3), "seq_len": 36}], ids=str
)
def test_input_noise_belongs_to_the_question_until_it_is_replaced(options):
    model = make(input_noise=2.0, **options)
    c = model.config
    b = {name: torch.randint(1, 8, (5, c.seq_len)) for name in ("inputs", "labels")}
    shape = (5, c.puzzle_tokens + c.seq_len, c.symbols)
    drawn = [torch.from_numpy(model.host_draws(0, step, 5)["noise"]) for step in (0, 1)]
    assert drawn[0].shape == shape and drawn[0].std() == pytest.approx(2.0, rel=0.4)
    first = model.loss(b | {"noise": drawn[0]}).state
    assert torch.equal(first.noise, drawn[0])
    halted = replace(first, halted=torch.tensor([True, False, False, False, True]))
    second = model.loss(b | {"noise": drawn[1]}, halted).state
    assert torch.equal(second.noise[1:4], drawn[0][1:4]) and torch.equal(second.noise[[0, 4]], drawn[1][[0, 4]])
    x = model.embed_question(b["inputs"], noise=drawn[0])
    plain = model.embed_question(b["inputs"])
    same = model.embed_question(b["inputs"], noise=model.plain_noise.expand(shape))
    torch.testing.assert_close(plain, same)
    added = (x - plain).unflatten(-1, (c.symbols, -1)) / c.hidden_size**0.5
    expected = (drawn[0] - model.plain_noise).unsqueeze(-1) * model.noise_embed
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(model.initial_thought(5, drawn[0])[0], model.initial_thought(5)[0])
