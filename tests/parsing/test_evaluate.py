"""Attachment scores against a second implementation, written from the definition; early exit; speed."""

import copy
from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

from trm.errors import UserError
from trm.halting import Rule
from trm.parsing import evaluate as evaluate_module
from trm.parsing import grammar
from trm.parsing.batches import Vocabulary, batch_on, length_batches
from trm.parsing.evaluate import (
    Evaluation,
    attachment_scores,
    attention_of_heads,
    decode,
    entropy_threshold,
    evaluate,
    heads_table,
    sentence_interval,
    speed,
    trace,
)
from trm.parsing.params import Parsing
from trm.parsing.train import Data, make_parser, with_halting
from trm.parsing.treebank import Sentence, tree_fault

BANK = grammar.treebank(2, train=60, dev=1, test=40)
VOCABULARY = Vocabulary.of(BANK.train, min_count=1)
ENCODED = VOCABULARY.encode(BANK.test)
SMALL = dict(hidden_size=16, num_heads=2, arc_size=12, label_size=6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoded = {"train": VOCABULARY.encode(BANK.train)}
    parser = make_parser(Parsing.create(SMALL), Data(BANK, VOCABULARY, encoded))
    optimizer = torch.optim.AdamW(parser.parameters(), lr=1e-2)
    for _ in range(15):  # so that it is neither right nor wrong everywhere
        _, batch = next(length_batches(encoded["train"], parser.device, 10_000))
        parser.loss(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return parser.eval()


@torch.no_grad()
def parse(model):
    """(heads, names of the labels) of each test sentence, with early exit."""
    found = {}
    for places, batch in length_batches(ENCODED, model.device, 200):
        assert batch["words"].numel() <= 200 or len(places) == 1
        z, mask, _ = model.early_exit(batch)
        found |= dict(zip(places, zip(*decode(model, z, mask)[:2])))
    return [(heads, [VOCABULARY.labels[k] for k in labels]) for _, (heads, labels) in sorted(found.items())]


def test_sentences_of_ones_own_are_parsed(model):
    found = evaluate_module.parse(model, [Sentence.of(s.words) for s in BANK.test])
    assert [(s.heads, s.labels) for s in found] == [(tuple(heads), tuple(labels)) for heads, labels in parse(model)]
    assert [s.words for s in found] == [s.words for s in BANK.test]
    empty, one = evaluate_module.parse(model, [Sentence.of([]), BANK.test[0].words])
    assert empty == Sentence.of([]) and one == found[0]
    assert evaluate_module.parse(model, []) == []
    with pytest.raises(UserError, match="give a list of words"):
        evaluate_module.parse(model, ["The old dog"])
    for words in (None, ["a", 3], VOCABULARY.words[1:]):
        broken = Mock(vocabulary=model.vocabulary | {"words": words}, config=model.config)
        with pytest.raises(UserError, match="vocabulary is not whole"):
            evaluate_module.parse(broken, [["a"]])


def test_the_scores_are_those_of_the_trees_that_it_parses(model):
    """Counted word by word from parsed sentences, labels compared up to the colon, as the CoNLL 2018 evaluation does."""
    found = evaluate(model, BANK.test, ENCODED)
    counts = {"words": 0, "heads": 0, "both": 0, "no_punct": 0, "heads_no_punct": 0}
    for gold, (heads, labels) in zip(BANK.test, parse(model), strict=True):
        assert not tree_fault(heads) and len(heads) == len(gold.words)
        for i in range(len(gold.words)):
            head = gold.heads[i] == heads[i]
            counts["words"] += 1
            counts["heads"] += head
            counts["both"] += head and gold.labels[i].split(":")[0] == labels[i].split(":")[0]
            counts["no_punct"] += gold.labels[i] != "punct"
            counts["heads_no_punct"] += gold.labels[i] != "punct" and head
    metrics = found.metrics("test")
    assert 0.1 < metrics["test/las"] < metrics["test/uas"] < 0.95
    assert metrics["test/uas"] == pytest.approx(counts["heads"] / counts["words"])
    assert metrics["test/las"] == pytest.approx(counts["both"] / counts["words"])
    assert metrics["test/uas_no_punct"] == pytest.approx(counts["heads_no_punct"] / counts["no_punct"])
    assert metrics["test/uas_per_iteration"][-1] == metrics["test/uas"] and len(metrics["test/uas_per_iteration"]) == 3
    quick = attachment_scores(model, BANK.test, ENCODED, "test")
    assert quick == {name: pytest.approx(metrics[name]) for name in ("test/uas", "test/las", "test/mean_steps")}
    by_sentence = found.by_sentence()
    assert by_sentence["words"].tolist() == [len(s.words) for s in BANK.test]
    assert by_sentence["right"].sum() == counts["heads"] and (by_sentence["right"] <= by_sentence["words"]).all()


def test_by_length_of_arc(model):
    found = evaluate(model, BANK.test, ENCODED)
    rows = found.by_distance().set_index("arc")
    assert list(rows.index) == ["root", "1", "2", "3 to 4", "5 to 8", "9 to 16", "17+"]
    assert rows["words"].sum() == sum(len(s.words) for s in BANK.test) and rows.loc["root", "words"] == len(BANK.test)
    distances = [abs(h - i) for s in BANK.test for i, h in enumerate(s.heads, 1) if h]
    assert rows.loc["3 to 4", "words"] == sum(d in (3, 4) for d in distances)
    assert (rows["uas"] * rows["words"]).sum() / rows["words"].sum() == pytest.approx(found.metrics("x")["x/uas"])


def test_by_label_of_the_gold_arc(model):
    found = evaluate(model, BANK.test, ENCODED)
    rows = found.by_label().set_index("label")
    gold = [label for s in BANK.test for label in s.plain_labels]
    assert rows["words"].to_dict() == dict(Counter(gold)) and rows["words"].is_monotonic_decreasing
    right = found.head_right[-1][np.array(gold) == "punct"]
    assert rows.loc["punct", "uas"] == pytest.approx(right.mean())


def test_a_hand_worked_evaluation():
    found = Evaluation(
        sentence=np.array([0, 0, 1]),
        distance=np.array([1, 0, 0]),
        label=np.array(["punct", "nsubj", "root"]),
        head_right=np.array([[True, False, False], [False, True, True]]),
        label_right=np.array([[True, False, False], [False, True, False]]),
        loss=np.ones((2, 3)),
        entropy=np.zeros((2, 2)),
        steps=np.array([1, 2]),
    )
    heads, labels = found.at_exit
    assert heads.tolist() == [True, False, True] and labels.tolist() == [True, False, False]
    metrics = found.metrics("x")
    assert metrics["x/uas"] == pytest.approx(2 / 3)
    assert metrics["x/uas_no_punct"] == 0.5 and metrics["x/mean_steps"] == 1.5
    assert metrics["x/uas_per_iteration"] == pytest.approx([1 / 3, 2 / 3])


def test_the_cross_entropy_is_of_the_right_head(model):
    found = evaluate(model, BANK.test[:1], ENCODED[:1])
    _, batch = next(length_batches(ENCODED[:1], model.device))
    unrolled = model.unroll(batch)
    arcs = model.score(unrolled.states[-1], unrolled.mask)[0][0].detach()
    wanted = [-arcs[i].log_softmax(-1)[head].item() for i, head in enumerate(BANK.test[0].heads)]
    assert found.loss[-1] == pytest.approx(wanted, rel=1e-4)


def test_the_threshold_of_entropy_by_hand():
    """Ten words in ten sentences. Sentence i stops after the first iteration from a threshold of i; from 5 on, wrongly."""
    right = np.stack([np.arange(10) < 5, np.arange(10) < 9])
    one, none = np.zeros(10, bool), np.ones((2, 10))
    entropy = np.stack([np.arange(10.0), np.zeros(10)], 1)
    found = Evaluation(np.arange(10), np.ones(10), one, right, right, none, entropy, np.full(10, 2))
    for tolerance, mean_steps in ((0.0, 1.5), (0.1, 1.4), (0.39, 1.2), (0.4, 1.0)):
        stopped = found.stopping(Rule("entropy", entropy_threshold(found, tolerance, candidates=10)))
        assert stopped.steps.mean() == pytest.approx(mean_steps), tolerance
        assert stopped.at_exit[0].mean() >= 0.9 - tolerance - 1e-9
    better_late = Evaluation(
        np.arange(10), np.ones(10), one, np.stack([one, ~one]), right, none, entropy + 1, np.full(10, 2)
    )
    for early in (better_late, replace(better_late, entropy=np.zeros((10, 2)))):  # of one head the entropy is 0
        assert entropy_threshold(early, 0.0) == -1 and early.stopping(Rule("entropy", -1.0)).steps.mean() == 2


def test_what_the_heads_do_against_loops(model):
    table = heads_table(model, BANK.test[:3], ENCODED[:3]).set_index(["iteration", "head"])
    assert len(table) == 3 * 2 and table["weight"].groupby("iteration").sum().to_numpy() == pytest.approx(np.ones(3))
    looked = [list(attention_of_heads(model, model.unroll(batch_on(model.device, [a])))) for a in ENCODED[:3]]
    to_head, reach, governed, words = 0.0, 0.0, 0, 0
    for sentence, by_iteration in zip(BANK.test, looked):
        for i, head in enumerate(sentence.heads):
            words += 1
            governed += head > 0
            to_head += float(by_iteration[1][0, i, head - 1].detach()) if head else 0.0
            reach += sum(float(by_iteration[1][0, i, j].detach()) * abs(i - j) for j in range(len(sentence.words)))
    assert table.loc[(2, 1), "to_head"] == pytest.approx(to_head / governed, rel=1e-4)
    assert table.loc[(2, 1), "reach"] == pytest.approx(reach / words, rel=1e-4)


@pytest.mark.parametrize("mode", ["entropy", "halting"])
def test_where_a_sentence_stops_is_where_its_tree_comes_from(model, mode):
    """The trees of early exit are those of `evaluate`, which computes all iterations, at each sentence's own step."""
    middle = float(np.median(evaluate(model, BANK.test, ENCODED).entropy[:, 0]))
    stopping = with_halting(copy.deepcopy(model), mode, middle)
    with torch.no_grad():
        stopping.halt.bias.fill_(-0.2)
    found = evaluate(stopping, BANK.test, ENCODED)
    right = [gold == own for s, (heads, _) in zip(BANK.test, parse(stopping)) for gold, own in zip(s.heads, heads)]
    assert found.at_exit[0].tolist() == right
    if mode == "entropy":
        assert 1 < found.steps.mean() < 3
    assert model.config.halting_mode == "fixed", "the model itself is as it was"


def test_a_trace_of_one_sentence(model):
    seen, n = trace(model, ENCODED[0]), len(BANK.test[0].words)
    assert seen.weights.shape == (3, n, 2) and np.allclose(seen.weights.sum(-1), 1, atol=1e-5)
    assert seen.attention.shape == (3, n, n) and np.allclose(seen.attention.sum(-1), 1, atol=1e-5)
    heads, labels = parse(model)[0]
    assert seen.trees[-1] == (heads.tolist(), labels)


def test_speed_counts_both_parts(model):
    found = speed(model, ENCODED, batch_size=16, rounds=1)
    assert found["parse/sentences_per_second"] > 0 and found["parse/decoding_over_encoder"] > 0


def made_sentences(shares, seeds=range(3), sentences=400):
    """A table of right heads per sentence; the same sentences are hard for every arm: arm -> UAS."""
    words = np.random.default_rng(0).integers(3, 30, sentences)
    of_word, rows = np.repeat(np.arange(sentences), words), []
    for seed in seeds:
        hard = np.random.default_rng([seed, 7]).random(words.sum())
        for arm, share in shares.items():
            table = {"sentence": range(sentences), "right": np.bincount(of_word, hard < share), "words": words}
            rows.append(pd.DataFrame(table).assign(arm=arm, seed=seed))
    return pd.concat(rows)


def test_the_interval_over_sentences_against_its_normal_limit():
    """For many sentences the bootstrap of a ratio has the spread of the delta method; seeds of one arm alone do not count."""
    rows = made_sentences({"one_iteration": 0.8, "standard": 0.82})
    low, high = sentence_interval(rows, "standard", "one_iteration", 4000, 0.95)
    right = rows.groupby(["arm", "sentence"])["right"].mean()
    gain = (right["standard"] - right["one_iteration"]).to_numpy()
    words = rows.groupby("sentence")["words"].first().to_numpy()
    share = gain.sum() / words.sum()
    spread = np.sqrt(((gain - share * words) ** 2).sum()) / words.sum()
    assert (low + high) / 2 == pytest.approx(share, abs=0.1 * spread)
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    more = pd.concat([rows, made_sentences({"standard": 0.1}, seeds=[9])])
    assert sentence_interval(more, "standard", "one_iteration", 4000, 0.95) == (low, high)
