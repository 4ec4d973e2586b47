"""The losses of a reasoner: against loops written out, when the language model is called, and gradients."""

import math

import pytest
import torch

from trm.language.lm import load_lm
from trm.language.stories import problems
from trm.latent.data import ThoughtBatches, encode, from_problem
from trm.latent.frozen_lm import FrozenLM
from trm.latent.reasoner import LatentReasoner, LatentThinker, Pause, ReasonerConfig, chain_loss

LM, TOKENIZER = load_lm()
FROZEN = FrozenLM(LM, TOKENIZER, 2, ";", " so ")
K = 8
STEPS = (3, 1, 5, 2)  # one with more steps than latents
ROWS = encode(FROZEN, [from_problem(next(problems("train", seed, n, n))) for seed, n in enumerate(STEPS)], 3)
ROWS[1].answer.insert(0, 15)  # answers of several lengths
WORDS = torch.tensor(sorted({token for row in ROWS for token in row.step_labels.flatten().tolist() if token >= 0}))


def batch_of(with_lm=False):
    batch = {name: torch.from_numpy(x) for name, x in ThoughtBatches(ROWS, None, 4, 0).rows(range(4), with_lm).items()}
    shape = (*batch["mask"].shape, K)
    return batch | {"states": torch.randn(*shape, generator=torch.Generator().manual_seed(2))}


def make(kind=LatentReasoner, **options):
    torch.manual_seed(0)
    small = {"num_words": len(WORDS), "d_compressed": K, "num_latents": 3, "hidden_size": 16, "num_heads": 2}
    reasoner = kind(ReasonerConfig(**small | options))
    reasoner.begin(WORDS, FROZEN.embeddings)
    return LatentThinker(reasoner, FROZEN).eval()


def counted(monkeypatch):
    """The latents with which the language model is called, one entry per call."""
    calls, after = [], FROZEN.after
    monkeypatch.setattr(FROZEN, "after", lambda prompt, z, *rest: calls.append(z) or after(prompt, z, *rest))
    return calls


def chain_losses(thinker, batch):
    """(cycles, B): what every thought says of the chain."""
    labels = thinker.reasoner.labels(batch["step_labels"])
    thoughts = thinker.reasoner.think(batch["states"], batch["mask"])
    return torch.stack([chain_loss(thinker.reasoner.logits(z), labels) for z in thoughts])


def cross_entropy(logits, label):
    x = logits.detach().double() - logits.detach().double().max()
    return float(x.exp().sum().log() - x[label])


def test_activation_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = make(activation_checkpointing=checkpointing).train()
        model.loss(batch_of()).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("notes", [0, 1, 3])
def test_the_loss_of_the_chain_is_the_sum_over_what_a_latent_is_taught(notes):
    thinker, n = make(), 3
    logits = 5 * torch.randn(4, n, 1 + notes, len(WORDS), generator=torch.Generator().manual_seed(0))
    said = batch_of()["step_labels"]
    assert (said < 0).any() and (said >= 0).all(-1).any(), "some of it is not taught"
    found = chain_loss(logits, thinker.reasoner.labels(said))
    assert found.shape == (4,)
    for row in range(4):
        total = 0.0
        for i in range(n):
            for k in range(1 + notes):
                if said[row, i, k] >= 0:
                    total += cross_entropy(logits[row, i, k], WORDS.tolist().index(int(said[row, i, k])))
        assert float(found[row]) == pytest.approx(total / n, rel=1e-4)


def test_the_loss_of_the_answer_is_that_of_one_pass_a_row():
    thinker, batch = make(), batch_of(with_lm=True)
    latents = torch.randn(4, 3, 192, generator=torch.Generator().manual_seed(0)) * FROZEN.embeddings.std()
    prompt = FROZEN.read(batch["input_ids"], batch["mask"])
    target = FROZEN.anchors(prompt, [row.chain for row in ROWS])
    with torch.no_grad():
        written = FROZEN.generate_greedy(prompt, latents, 3)
        answers = torch.where(written == TOKENIZER.pad_token_id, -100, written)
        assert thinker.answer_loss(prompt, latents, answers, None)[2].tolist() == [1, 1, 1, 1], "what it would write"
        losses, distance, right = thinker.answer_loss(prompt, latents, batch["answers"], target)
        nothing = thinker.answer_loss(prompt, latents, batch["answers"], None)
        scale = [math.sqrt(float((t - t.mean()).square().sum()) / (t.numel() - 1)) for t in target.unbind(1)]
        for i, row in enumerate(ROWS):
            words = [FROZEN.embeddings[row.prompt], latents[i], FROZEN.embeddings[[*FROZEN.closing, *row.answer[:-1]]]]
            out = LM(inputs_embeds=torch.cat(words)[None], use_cache=False, output_hidden_states=True)
            logits = out.logits[0, -len(row.answer) :]
            expected = sum(cross_entropy(line, token) for line, token in zip(logits, row.answer)) / len(row.answer)
            assert float(losses[i]) == pytest.approx(expected, rel=1e-3)
            apart = []
            for layer, hidden in enumerate(out.hidden_states[1:]):
                gap = (hidden[0, -len(row.answer)] - target[i, layer]).abs() / scale[layer]
                apart += [d * d / 2 if d < 1 else d - 0.5 for d in gap.tolist()]
            assert float(distance[i]) == pytest.approx(sum(apart) / len(apart), rel=1e-3)
            assert bool(right[i]) == (logits.argmax(-1).tolist() == row.answer)
    assert torch.equal(nothing[0], losses) and not nothing[1].any(), "no target, no distance"


@pytest.mark.parametrize("options", [{}, {"readout": "direct"}, {"answer_weight": 0.0, "distill_weight": 0.0}], ids=str)
def test_the_language_model_is_called_only_with_its_prompts_and_for_its_loss(options, monkeypatch):
    monkeypatch.setattr(FROZEN, "read", None)
    assert "answer_loss" not in make(**options)(batch_of(with_lm=bool(options))).metrics
    with pytest.raises(TypeError):
        make()(batch_of(with_lm=True))


def test_it_is_called_after_the_last_thought_or_after_each(monkeypatch):
    asked, batch = counted(monkeypatch), batch_of(with_lm=True)
    thinker = make(chain_weight=0.5, distill_weight=0.25)
    with torch.no_grad():
        last = thinker(batch).loss
        thoughts = thinker.reasoner.think(batch["states"], batch["mask"])
        assert len(asked) == 1 and torch.allclose(asked[0], thinker.reasoner.latents(thoughts[-1]))
        each = make(chain_weight=0.5, distill_weight=0.25, lm_loss_all_cycles=True)(batch).loss
        assert len(asked) == 5
        prompt = FROZEN.read(batch["input_ids"], batch["mask"])
        target = FROZEN.anchors(prompt, [row.chain for row in ROWS])
        of_answers = []
        for z in thoughts:
            answer, distance, _ = thinker.answer_loss(prompt, thinker.reasoner.latents(z), batch["answers"], target)
            of_answers.append((answer + 0.25 * distance).mean())
        chain, share = 0.5 * chain_losses(thinker, batch).mean(1), torch.tensor([0.125, 0.25, 0.375, 1.0])
        share = share / share.sum()
        assert torch.allclose(last, (share * chain).sum() + share[-1] * of_answers[-1], rtol=1e-4)
        assert torch.allclose(each, (share * (chain + torch.stack(of_answers))).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "schedule, expected",
    [("none", [0, 0, 0, 1]), ("linear", [0.125, 0.25, 0.375, 1]), ("0.5, 0, 2, 1", [0.5, 0, 2, 1])],
)
def test_every_thought_weighs_what_the_schedule_says(schedule, expected):
    thinker, batch = make(schedule=schedule), batch_of()
    with torch.no_grad():
        every = chain_losses(thinker, batch).mean(1)
        out, seen = thinker(batch), thinker(batch, detail=True)
    share = torch.tensor(expected, dtype=torch.float32)
    assert torch.allclose(out.loss, (every * share).sum() / share.sum(), rtol=1e-5)
    assert torch.allclose(seen.loss, out.loss), "to look closer changes nothing"
    for i, weight in enumerate(expected):
        name = f"deep_supervision/step_{i}_loss"
        assert (name in out.metrics) == (weight > 0) and torch.allclose(seen.metrics[name], every[i])
    assert torch.equal(out.metrics["total_loss"], out.loss)


def test_a_pause_has_one_thought_whatever_the_schedule():
    """Four weights are for the four cycles that the arms beside it have."""
    thinker = make(Pause, schedule="0.5, 0, 2, 1", chain_weight=0.0, distill_weight=0.0, notes=0)
    out = thinker(batch_of(with_lm=True))
    assert torch.allclose(out.loss, out.metrics["answer_loss"])
    out.loss.backward()
    assert thinker.reasoner.vectors.grad.any()


def test_details_are_the_gradients_at_every_thought():
    out = make()(batch_of(), detail=True)
    assert len(out.intermediates) == 4
    out.loss.backward()
    assert all(z.grad is not None and z.grad.any() for z in out.intermediates)


@torch.no_grad()
def test_the_last_latent_is_right_where_its_nearest_word_is_the_answer():
    thinker, batch = make(), batch_of()
    labels = thinker.reasoner.labels(batch["step_labels"])[:, -1, 0]
    logits = torch.randn(4, 3, 4, len(WORDS))
    logits[range(4), -1, 0, labels] = 9
    thinker.reasoner.logits = lambda z: logits
    logits[1, -1, 0, (labels[1] + 1) % len(WORDS)] = 10
    assert thinker(batch).metrics["last_latent"] == 0.75
    batch["step_labels"][2, -1] = -100
    assert thinker(batch).metrics["last_latent"] == 0.5, "what is not taught is never right"


@torch.no_grad()
def test_direct_answers_are_the_last_latents():
    batch, weights = batch_of(with_lm=True), {"readout": "direct", "answer_weight": 0.7, "schedule": "none"}
    thinker = make(**weights, chain_weight=2.0)
    logits = thinker.reasoner.logits(thinker.reasoner.think(batch["states"], batch["mask"])[-1])[:, -1, 0]
    labels = [WORDS.tolist().index(token) for token in batch["step_labels"][:, -1, 0].tolist()]
    own = sum(cross_entropy(row, label) for row, label in zip(logits, labels)) / 4
    chain = float(chain_losses(thinker, batch)[-1].mean())
    assert float(thinker(batch).loss) == pytest.approx(2 * chain + 0.7 * own, rel=1e-5)
    alone = make(**weights, chain_weight=0.0)
    assert float(alone(batch).loss) == pytest.approx(0.7 * own, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"L_cycles": 2}], ids=str)
@pytest.mark.parametrize("name", ["places", "project.weight", "out.weight", "blocks.0.mixer.qkv_proj.weight"])
def test_gradients_are_finite_differences(name, options):
    """In float64; words are compared in float32, so the step is large and taken along the gradient."""
    thinker = make(**options).double()
    thinker.reasoner.words = thinker.reasoner.words.float()
    batch = batch_of()
    batch["states"] = batch["states"].double()
    parameter = dict(thinker.reasoner.named_parameters())[name]
    thinker(batch).loss.backward()
    length, kept = parameter.grad.norm(), parameter.detach().clone()
    found = []
    with torch.no_grad():
        for sign in (1, -1):
            parameter.copy_(kept + sign * 3e-3 * parameter.grad / length)
            found.append(float(thinker(batch).loss))
    assert (found[0] - found[1]) / 6e-3 == pytest.approx(float(length), rel=2e-2)


def test_gradients_come_through_the_language_model_to_every_trained_weight_and_to_none_of_its_own():
    thinker = make(chain_weight=0.0, schedule="none")
    thinker(batch_of(with_lm=True)).loss.backward()
    for name, parameter in thinker.named_parameters():
        if not name.startswith(("reasoner.reads.", "reasoner.writes.")):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert all(p.grad is None for p in LM.parameters())
    assert thinker.state_dict().keys() == {f"reasoner.{name}" for name in thinker.reasoner.state_dict()}
    assert not {p.data_ptr() for p in LM.parameters()} & {p.data_ptr() for p in thinker.parameters()}
