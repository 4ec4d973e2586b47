"""The recursive language model: causality, the cache, losses against their formulas, gradients, bad input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trm.errors import UserError
from trm.language.stories import to_learn
from trm.losses import IGNORE_INDEX
from trm.recursive_lm.model import LMConfig, RecursiveLanguageModel, load_recursive_lm
from trm.recursive_lm.train import score
from trm.supervision import SCHEDULES, step_weights

BODIES = [
    {},
    {"H_cycles": 2, "L_cycles": 1},
    {"body": "looped"},
    {"body": "plain", "num_layers": 3},
    {"num_layers": 2},
    {"embed_size": 12},
]


SIZES = {"vocab_size": 30, "hidden_size": 16, "seq_len": 40, "L_cycles": 2, "expansion": 4.0, "schedule": "none"}


def make(**options) -> RecursiveLanguageModel:
    torch.manual_seed(0)
    model = RecursiveLanguageModel(LMConfig(**SIZES | options))
    with torch.no_grad():
        if model.config.embed_size:
            model.embed.normal_()
    return model.eval()


def rows_of(count=5, written=3):
    draw = np.random.default_rng(0)
    return [(draw.integers(3, 30, 4 + i).tolist(), draw.integers(3, 30, written).tolist()) for i in range(count)]


def batch_of(question_weight=0.0, **extra):
    return {name: torch.from_numpy(value) for name, value in to_learn(rows_of(), 0, question_weight).items()} | extra


@pytest.mark.parametrize("options", BODIES, ids=str)
def test_activation_checkpointing_changes_no_gradient(options):
    gradients = []
    for checkpointing in (False, True):
        model = make(**options, activation_checkpointing=checkpointing).train()
        model.loss(batch_of()).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("options", BODIES, ids=str)
def test_a_later_token_changes_no_earlier_answer_at_any_depth(options):
    model = make(**options)
    ids = torch.from_numpy(np.random.default_rng(1).integers(3, 30, (2, 12)))
    other = ids.clone()
    other[:, 7:] = (other[:, 7:] + 5) % 30
    for cycles in (0, 5):
        for a, b in zip(model.think(ids, cycles), model.think(other, cycles)):
            assert torch.allclose(a[:, :7], b[:, :7], atol=1e-6)
            assert not torch.allclose(a[:, 7:], b[:, 7:], atol=1e-2)


@pytest.mark.parametrize("options", BODIES, ids=str)
@torch.no_grad()
def test_generation_with_the_cache_and_without_is_the_same(options):
    model = make(**options, eos_id=29)
    draw = np.random.default_rng(2)
    prompts = torch.from_numpy(draw.integers(3, 30, (4, 9)))
    seen = torch.ones_like(prompts)
    for row, pads in enumerate((0, 3, 5, 8)):
        prompts[row, :pads], seen[row, :pads] = 0, 0
    cached = model.generate(prompts, seen, max_new_tokens=4)
    for row, pads in enumerate((0, 3, 5, 8)):  # what stands to the left of a prompt, and its batch mates, do not matter
        ids = prompts[row : row + 1, pads:]
        while ids.shape[1] < 13 - pads and ids[0, 9 - pads :].tolist()[-1:] != [29]:
            ids = torch.cat((ids, model.lm_head(model.think(ids)[-1][:, -1:]).argmax(-1)), 1)
        expected = ids[0].tolist() + [0] * (13 - pads - ids.shape[1])  # pads after the end
        assert cached[row, pads:].tolist() == expected[: cached.shape[1] - pads]


@pytest.mark.parametrize("options", [{}, {"body": "looped"}, {"body": "plain"}], ids=str)
def test_what_is_scored_exact_is_what_would_be_generated(options):
    """Rows made of the model's own completions are exact, and those with one other token are not."""
    model = make(**options, eos_id=99)
    prompts = [given for given, _ in rows_of()]
    own = [model.generate(torch.tensor([p]), max_new_tokens=3)[0, len(p) :].tolist() for p in prompts]
    assert score(model, list(zip(prompts, own)), 0).exact.all()
    other = [[*tokens[:1], (tokens[1] + 1) % 30, tokens[2]] for tokens in own]
    found = score(model, list(zip(prompts, other)), 0, batch=2)
    assert not found.exact.any() and found.token_accuracy <= 2 / 3


def by_hand(model, batch):
    """Cross-entropy (B, T - 1, n) of every token after every answer, by torch's own function."""
    answers = model.think(batch["input_ids"][:, :-1])
    labels = batch["labels"][:, 1:]
    losses = [
        F.cross_entropy(model.lm_head(z).mT, labels, reduction="none", ignore_index=IGNORE_INDEX) for z in answers
    ]
    return torch.stack(losses, -1), batch["weights"][:, 1:]


@pytest.mark.parametrize("body", ["recursive", "looped"])
@pytest.mark.parametrize("schedule", [*SCHEDULES, "0.1, 0.3, 0.6"])
def test_the_schedule_weighs_every_cycle(schedule, body):
    model, batch = make(schedule=schedule, body=body), batch_of(question_weight=0.3)
    losses, weights = by_hand(model, batch)
    w = step_weights(schedule, 3, 0.5)
    expected = sum(w[i] * (losses[..., i] * weights).sum() for i in range(3)) / sum(w) / weights.sum()
    assert model.loss(batch).loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0])
def test_the_curriculum_weighs_the_earlier_cycles(factor):
    model, batch = make(schedule="constant"), batch_of(curriculum=torch.full((5,), factor))
    losses, weights = by_hand(model, batch)
    L = [(losses[..., i] * weights).sum() / weights.sum() for i in range(3)]
    out = model.loss(batch)
    expected = (0.5 * factor * (L[0] + L[1]) + L[2]) / (factor + 1)
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert out.metrics["deep_supervision/step_2_loss"].item() == pytest.approx(L[2].item(), rel=1e-5)


def test_the_curriculum_follows_the_training_step():
    model = make(schedule="linear", curriculum_enabled=True, curriculum_start_step=10, curriculum_end_step=20)
    factors = [model.host_draws(0, step, 2)["curriculum"].tolist() for step in (5, 15, 30)]
    assert factors == [[0, 0], [0.5, 0.5], [1, 1]]
    assert make().host_draws(0, 5, 2)["curriculum"].tolist() == [1, 1]


def test_the_adaptive_schedule_follows_the_losses():
    model, batch = make(schedule="adaptive"), batch_of()
    losses, weights = by_hand(model, batch)
    share = 0.5 * losses[..., :2] / losses.sum(-1, keepdim=True).clamp_min(1e-12)
    mixed = ((share * losses[..., :2]).sum(-1) + losses[..., 2]) / (share.sum(-1) + 1)
    assert model.loss(batch).loss.item() == pytest.approx(((mixed * weights).sum() / weights.sum()).item(), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "linear"},
        {"body": "looped", "schedule": "decay"},
        {"embed_size": 4},
    ],
    ids=str,
)
def test_gradients_against_finite_differences(options):
    model, batch = make(**options).double(), batch_of(question_weight=0.1)
    model.loss(batch).loss.backward()
    draw = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        direction = torch.randn(p.shape, generator=draw, dtype=p.dtype)
        with torch.no_grad():
            found = []
            for sign in (1, -1):
                p.add_(direction, alpha=sign * 1e-6)
                found.append(model.loss(batch).loss.item())
                p.add_(direction, alpha=-sign * 1e-6)
        expected = float((p.grad * direction).sum())
        assert (found[0] - found[1]) / 2e-6 == pytest.approx(expected, rel=2e-3, abs=1e-6), name


@pytest.mark.parametrize("backprop, reached", [("last", [2]), ("per_cycle", [0, 1, 2]), ("full", [0, 1, 2])])
def test_how_far_the_gradient_flows(backprop, reached):
    """Doubling the weight of an early cycle changes its own gradient alone, unless all cycles are connected."""
    model = make(backprop=backprop, schedule="1, 1, 1")
    out = model.loss(batch_of(), detail=True)
    out.loss.backward()
    assert [i for i, z in enumerate(out.intermediates) if z.grad is not None and z.grad.abs().max() > 0] == reached
    if backprop == "per_cycle":
        twice = make(backprop=backprop, schedule="2, 1, 1")
        again = twice.loss(batch_of(), detail=True)
        again.loss.backward()
        ratio = [(b.grad.norm() / a.grad.norm()).item() for a, b in zip(out.intermediates, again.intermediates)]
        assert ratio == pytest.approx([2 * 3 / 4, 3 / 4, 3 / 4], rel=1e-4)


def test_places_alone_are_read_and_pads_change_nothing():
    model, rows = make(schedule="linear"), rows_of()
    together = model.loss(batch_of()).loss.item()
    singles = [{k: torch.from_numpy(v) for k, v in to_learn([row], 0, 0.0).items()} for row in rows]
    alone = [model.loss(batch).loss.item() for batch in singles]
    assert together == pytest.approx(np.mean(alone), rel=1e-5), "three tokens are learned in each"
    arrays = to_learn([([5, 6], [7]), ([5], [6, 7, 8])], 0, 0.0)
    assert arrays["places"].tolist()[1] == [0, 1, 2] and arrays["places"][0, 0] == 1
    assert to_learn([([5, 6, 7], [8])], 0, 0.5)["places"].tolist() == [[0, 1, 2]]


def test_it_is_saved_whole(tmp_path):
    for i, options in enumerate(BODIES):
        model = make(**options)
        model.save_pretrained(tmp_path / str(i))
        again = load_recursive_lm(tmp_path / str(i))
        ids = torch.arange(3, 11)[None]
        assert again.config == model.config and torch.equal(again.think(ids)[-1], model.think(ids)[-1])
        assert {path.suffix for path in (tmp_path / str(i)).iterdir()} <= {".json", ".safetensors", ".md"}


def test_frozen_embeddings_do_not_learn():
    torch.manual_seed(0)
    given = torch.randn(30, 12)
    model = RecursiveLanguageModel(LMConfig(**SIZES, embed_size=12), given)
    assert torch.equal(model.embed, given) and "embed" not in dict(model.named_parameters())
    model.loss(batch_of()).loss.backward()
    assert model.project.weight.grad.abs().max() > 0 and model.embed.grad is None
    assert model.embed_tokens(torch.tensor([[3, 4]])).square().mean().item() == pytest.approx(1, rel=1e-3)


def test_bad_input_is_said_in_one_line(tmp_path):
    model, ids = make(), torch.ones(1, 30, dtype=torch.long)
    with pytest.raises(UserError, match="exceed seq_len 40"):
        model.generate(ids, max_new_tokens=11)
    with pytest.raises(UserError, match="decodes greedily: leave do_sample out"):
        model.generate(ids, max_new_tokens=2, do_sample=True)
    with pytest.raises(UserError, match="holds no model"):
        load_recursive_lm(tmp_path)
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text(encoding="utf-8").replace('"hidden_size": 16', '"hidden_size": 32'), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"size mismatch for embed: .*\[30, 16\].*\[30, 32\]..$"):
        load_recursive_lm(tmp_path)


@pytest.mark.parametrize("body", ["recursive", "looped"])
def test_a_drawn_number_of_cycles_is_trained_as_that_number_is(body):
    options = {"body": body, "schedule": "linear", "backprop": "full", "H_cycles": 3}
    drawn = make(**options, random_cycles=True)
    counts = [int(drawn.host_draws(0, step, 2)["cycles"][0]) for step in range(2000)]
    assert set(counts) == {1, 2, 3, 4, 5} and abs(np.mean(counts) - 3) < 0.1
    assert counts[:9] == [int(drawn.host_draws(0, step, 4)["cycles"][3]) for step in range(9)]
    assert "cycles" not in make(**options).host_draws(0, 0, 2)
    for H in (1, 5):
        found = drawn.loss(batch_of(cycles=torch.full((5,), H)))
        same = make(**options | {"H_cycles": H}).loss(batch_of())
        assert float(found.loss) == pytest.approx(float(same.loss), rel=1e-6)
        assert [n for n in found.metrics if "step_" in n] == [n for n in same.metrics if "step_" in n]
