"""The parser: what padding and batch mates must not change, routing, losses against their formulas, gradients, stopping."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from trm.checkpoint import load_pretrained
from trm.halting import log_halt_probs
from trm.losses import IGNORE_INDEX
from trm.parsing import grammar
from trm.parsing.batches import Vocabulary, batch_on
from trm.parsing.evaluate import decode
from trm.parsing.model import Parser, ParserConfig, route, routing_entropy
from trm.parsing.params import Parsing
from trm.supervision import SCHEDULES, step_weights

SENTENCES = grammar.treebank(3, train=12, dev=1, test=1).train
VOCABULARY = Vocabulary.of(SENTENCES, min_count=1)
ENCODED = VOCABULARY.encode(SENTENCES)


def make(**options) -> Parser:
    torch.manual_seed(0)
    params = Parsing(hidden_size=16, num_heads=2, arc_size=12, label_size=6)
    return Parser(ParserConfig.of(params, VOCABULARY).model_copy(update=options)).eval()


def batch_of(places=range(12)):
    return batch_on(torch.device("cpu"), [ENCODED[i] for i in places])


KINDS = [{}, {"controller": "recurrent"}, {"routing": "topk", "top_k": 1}, {"block": "layers", "plain_layers": 2},
         {"block": "none"}, {"use_upos": True}, {"input_injection": True}]  # fmt: skip
HALTING = {"act_halting": True, "halting_mode": "halting"}


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_padded_sentence_is_parsed_as_it_is_alone(options):
    model = make(**options)
    together = batch_of()
    unrolled = model.unroll(together)
    trees, labels, arcs = decode(model, unrolled.states[-1], unrolled.mask)
    for i, arrays in enumerate(ENCODED):
        n = len(arrays["words"])
        alone = model.unroll(batch_of([i]))
        (tree,), (label,), own = decode(model, alone.states[-1], alone.mask)
        assert torch.allclose(alone.states[-1][0], unrolled.states[-1][i, :n], atol=1e-5)
        assert torch.allclose(own[0], arcs[i, :n, : n + 1], atol=1e-4) and arcs[i, :, n + 1 :].isneginf().all()
        assert (tree == trees[i]).all() and (label == labels[i]).all()
        assert torch.allclose(alone.halt_logits[0], unrolled.halt_logits[i], atol=1e-5)
        assert torch.allclose(alone.entropy[0], unrolled.entropy[i], atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_heads_and_labels_by_hand():
    model, total, words = make(tag_weight=0.0), 0.0, 0
    for i, sentence in enumerate(SENTENCES):
        unrolled = model.unroll(batch_of([i]))
        arcs, dependent, head = model.score(unrolled.states[-1], unrolled.mask)
        for place, (gold, name) in enumerate(zip(sentence.heads, sentence.plain_labels)):
            L = model.config.label_size
            bilinear = model.score.label.view(L, len(VOCABULARY.labels), L)
            d, h = dependent[0, place], head[0, gold]
            logits = torch.einsum("i,ikj,j->k", d, bilinear, h) + model.score.label_linear(torch.cat((d, h)))
            total -= arcs[0, place].log_softmax(-1)[gold].item()
            total -= logits.log_softmax(-1)[VOCABULARY.labels.index(name)].item()
            words += 1
    assert model.loss(batch_of()).loss.item() == pytest.approx(total / words, rel=1e-5)


def losses_by_iteration(model, batch):
    """(S, B) and words (B,), from the model's own scores, with torch's cross-entropy."""
    unrolled = model.unroll(batch)
    found = []
    for z in unrolled.states:
        arcs, dependent, head = model.score(z, unrolled.mask)
        labels = model.score.labels(dependent, head, batch["heads"])
        per_word = F.cross_entropy(arcs.mT, batch["heads"], reduction="none", ignore_index=IGNORE_INDEX)
        per_word = per_word + F.cross_entropy(labels.mT, batch["labels"], reduction="none", ignore_index=IGNORE_INDEX)
        found.append(per_word.sum(1) / unrolled.mask.sum((1, 2)))
    return torch.stack(found), unrolled.mask.sum((1, 2)), unrolled.halt_logits


@pytest.mark.parametrize("schedule", [*SCHEDULES, "0.1, 0.3, 0.6", "adaptive"])
def test_deep_supervision_weighs_every_iteration(schedule):
    model = make(deep_supervision=True, schedule=schedule, tag_weight=0.0)
    losses, words, _ = losses_by_iteration(model, batch_of())
    if schedule == "adaptive":
        weights = [*(0.5 * losses[:2] / losses.sum(0)).detach(), torch.ones(len(words))]
    else:
        weights = step_weights(schedule, 3, 0.5)
    by_hand = sum(w * x for w, x in zip(weights, losses)) / sum(weights)
    expected = (by_hand * words).sum() / words.sum()
    assert model.loss(batch_of()).loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("deep", [False, True])
def test_expected_loss_of_each_sentence_by_hand(deep):
    model = make(**HALTING, deep_supervision=deep, ponder_coef=0.3, tag_weight=0.0)
    with torch.no_grad():
        model.halt.weight.normal_()
    losses, words, logits = losses_by_iteration(model, batch_of())
    total = 0.0
    for i in range(len(ENCODED)):
        stop = [1 / (1 + math.exp(-float(h))) for h in logits[i]]
        p = [stop[0], (1 - stop[0]) * stop[1], (1 - stop[0]) * (1 - stop[1])]
        assert sum(p) == pytest.approx(1)
        expected = sum(a * float(b) for a, b in zip(p, losses[:, i]))
        if deep:
            ramp = [0.3, 0.65, 1.0]
            expected = (expected + sum(w * float(x) for w, x in zip(ramp, losses[:, i])) / sum(ramp)) / 2
        total += float(words[i]) * (expected + 0.3 * (p[0] + 2 * p[1] + 3 * p[2]))
    assert model.loss(batch_of()).loss.item() == pytest.approx(total / float(words.sum()), rel=1e-4)


def test_the_words_are_added_before_every_iteration_but_the_first():
    model, batch = make(input_injection=True), batch_of()
    mask = model._mask(batch)
    z = x = model.encoder(batch, mask)
    for t in range(3):
        summed = z + x if t else z
        z = summed / (summed.square().mean(-1, keepdim=True) + 1e-5).sqrt() if t else summed
        z = model.blocks[0](z, mask, None)[0]
    assert torch.allclose(model.unroll(batch).states[-1], z, atol=1e-5)
    plain = make().unroll(batch).states
    assert torch.equal(plain[0], model.unroll(batch).states[0]) and not torch.allclose(plain[1], z, atol=1e-2)


@pytest.mark.parametrize("controller", ["static", "recurrent"])
def test_activation_checkpointing_changes_no_number(controller):
    gradients = []
    for checkpointing in (False, True):
        model = make(deep_supervision=True, activation_checkpointing=checkpointing, controller=controller).train()
        torch.manual_seed(3)  # of dropout, which is drawn again in the backward pass
        model.loss(batch_of()).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_at_first_every_iteration_is_as_likely_to_be_the_last():
    model = make(**HALTING)
    p = log_halt_probs(model.unroll(batch_of()).halt_logits).exp()
    torch.testing.assert_close(p[:, 0], torch.full((12,), 1 / 3))
    assert model.halting_steps(model.unroll(batch_of())).tolist() == [2] * 12  # 1 - (2/3)^2 = 0.56


@pytest.mark.parametrize("options", [{}, {"controller": "recurrent"}, HALTING, {"input_injection": True}], ids=str)
def test_gradients_against_finite_differences(options):
    model = make(deep_supervision=True, dropout=0.0, inner_dropout=0.0, **options).double()
    batch = batch_of(range(3))
    model.loss(batch).loss.backward()
    draw = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if p.grad is None:
            assert name in ("halt.weight", "halt.bias")
            continue
        direction = torch.randn(p.shape, generator=draw, dtype=p.dtype) * (p.grad != 0)
        with torch.no_grad():
            found = []
            for sign in (1, -1):
                p.add_(direction, alpha=sign * 1e-6)
                found.append(model.loss(batch).loss.item())
                p.add_(direction, alpha=-sign * 1e-6)
        wanted = float((p.grad * direction).sum())
        assert (found[0] - found[1]) / 2e-6 == pytest.approx(wanted, rel=2e-3, abs=1e-6), name


def test_equal_weights_make_an_ordinary_attention():
    """With a controller that says nothing, the block is a transformer layer: torch's own attention as the judge."""
    block, z = make().blocks[0], torch.randn(2, 5, 16)
    torch.nn.init.zeros_(block.controller.head.weight)
    q, k, v = block.heads(z)
    looks = (q @ k.mT / math.sqrt(8)).softmax(-1)
    mixed = block.o_proj((looks @ v).transpose(1, 2).reshape(2, 5, 16))

    def normed(x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    half = normed(z + mixed)
    found, _, weights = block(z, torch.ones(2, 5, 1), None)
    assert torch.allclose(weights, torch.full((2, 5, 2), 0.5))
    assert torch.allclose(found, normed(half + block.mlp(half)), atol=1e-5)
    assert torch.allclose(block.attention(z[:1]), looks[0], atol=1e-6)


def test_routing():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], requires_grad=True)
    soft = route(logits, "soft", 2, 1.0, training=True)
    assert torch.allclose(soft, logits.softmax(-1))
    assert torch.allclose(route(logits, "soft", 2, 0.5, True), (2 * logits).softmax(-1))
    top = route(logits, "topk", 2, 1.0, training=True)
    assert torch.allclose(top, torch.tensor([[math.e / (math.e + 1), 1 / (math.e + 1), 0, 0]]), atol=1e-6)
    by = torch.tensor([1.0, -2.0, 3.0, 0.5])
    (gradient,) = torch.autograd.grad(top[0] @ by, logits, retain_graph=True)  # straight through: as if soft
    (as_soft,) = torch.autograd.grad(soft[0] @ by, logits)
    assert torch.allclose(gradient, as_soft) and gradient.abs().min() > 0
    assert torch.allclose(route(logits, "topk", 2, 1.0, training=False), top)
    assert torch.equal(route(logits, "gumbel", 2, 1.0, training=False), soft)
    noisy = torch.stack([route(logits, "gumbel", 2, 0.01, training=True)[0] for _ in range(4000)]).detach()
    assert torch.allclose((noisy > 0.5).float().mean(0), soft[0], atol=0.03), "its maximum is a draw from the softmax"
    assert noisy.std(0).min() > 0


def test_routing_entropy_is_that_of_the_words_alone():
    weights = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]])
    mask = torch.tensor([[[1.0], [1.0], [0.0]]])
    assert routing_entropy(weights, mask).item() == pytest.approx(math.log(2) / 2)


def test_evaluation_has_no_noise_and_training_has():
    model, batch = make(routing="gumbel"), batch_of()
    assert torch.equal(model.unroll(batch).states[-1], model.unroll(batch).states[-1])
    model.train()
    assert not torch.equal(model.unroll(batch).states[-1], model.unroll(batch).states[-1])


@pytest.mark.parametrize("mode", ["fixed", "entropy", "halting"])
@pytest.mark.parametrize("controller, injection", [("static", False), ("recurrent", False), ("recurrent", True)])
def test_a_sentence_that_stops_is_what_it_was_then(mode, controller, injection):
    """Dropping out of the batch changes nothing: the states are those of all iterations at the step where each stops."""
    model = make(halting_mode=mode, controller=controller, input_injection=injection)
    batch = batch_of()
    with torch.no_grad():
        model.halt.weight.normal_(std=2)
        model.blocks[0].controller.head.weight.mul_(20)
        model.halt.bias.sub_(model.unroll(batch).halt_logits[:, 0].median())
        unrolled = model.unroll(batch)
        threshold = float(unrolled.entropy[:, 0].median())
        model.config = model.config.model_copy(update={"entropy_threshold": threshold})
        steps = model.halting_steps(unrolled)
        final, mask, taken = model.early_exit(batch)
    assert torch.equal(taken, steps) and torch.equal(mask, unrolled.mask)
    if mode != "fixed":
        assert steps.min() < steps.max()
    states = torch.stack(unrolled.states)  # (S, B, T, D)
    wanted = states[steps - 1, torch.arange(len(steps))]
    assert torch.allclose(final * mask, wanted * mask, atol=1e-5)


def test_stopping_by_hand():
    model = make(halting_mode="halting")
    unrolled = model.unroll(batch_of(range(3)))
    unrolled.halt_logits = torch.tensor([[0.1, 0.0, 0.0], [-0.5, 0.1, 0.0], [-5.0, -5.0, 5.0]])
    taken = model.halting_steps(unrolled).tolist()
    assert taken == [1, 2, 3]  # 1 - 0.622 * 0.475 = 0.70 after the second of the second


def test_it_is_saved_with_its_words(tmp_path):
    model = Parser(make().config, {"words": list(VOCABULARY.words)}).eval()
    model.save_pretrained(tmp_path)
    again = load_pretrained(Parser, tmp_path)
    assert again.config == model.config and again.vocabulary == model.vocabulary
    assert torch.equal(model.unroll(batch_of()).states[-1], again.unroll(batch_of()).states[-1])
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".md"}


OLD = {"num_words": 99, "num_tags": 9, "num_labels": 8, "hidden_size": 16, "conv_layers": 1, "conv_width": 3, "num_heads": 2,
       "expansion": 2.0, "arc_size": 16, "label_size": 8, "dropout": 0.1, "inner_dropout": 0.1, "word_dropout": 0.1,
       "use_upos": False, "encoder": "", "encoder_layers": 4, "encoder_pool": "mean", "state_size": 0, "tag_weight": 0.2,
       "block": "pointer", "plain_layers": 0, "max_inner_iters": 3, "controller": "static", "routing": "soft", "top_k": 2,
       "temperature": 1.0, "deep_supervision": False, "schedule": "ramp", "supervision_weight": 0.5, "act_halting": False,
       "ponder_coef": 0.001, "halting_mode": "fixed", "entropy_threshold": 1.0}  # fmt: skip


def test_a_parser_that_was_saved_before_can_be_loaded(tmp_path):
    Parser(OLD).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"config": OLD, "vocabulary": None}), encoding="utf-8")
    new = {"input_injection": False, "activation_checkpointing": False}
    assert load_pretrained(Parser, tmp_path).config.model_dump() == OLD | new


def test_word_dropout_hides_words_alone():
    model = make(word_dropout=0.999, dropout=0.0, inner_dropout=0.0, tag_weight=0.0)
    batch = batch_of()
    hidden = {**batch, "words": torch.where(batch["words"] > 0, 1, 0)}
    model.train()
    torch.manual_seed(4)
    assert torch.allclose(model.unroll(batch).states[-1], model.unroll(hidden).states[-1], atol=1e-5)
