"""Attachment scores against a second implementation, written from the definition, and what a parser says of sentences."""

import numpy as np
import pytest
import torch

from trm.parsing import evaluate as parsing
from trm.parsing import grammar
from trm.parsing.evaluate import Evaluation, batches_of, evaluate, parse, speed, trace
from trm.parsing.params import Parsing
from trm.parsing.train import Data, make_parser, with_halting
from trm.parsing.treebank import Sentence, tree_fault
from trm.parsing.words import Vocabulary

BANK = grammar.treebank(2, train=60, dev=1, test=40)
VOCABULARY = Vocabulary.of(BANK.train, min_count=1)
SMALL = dict(hidden_size=16, num_heads=2, arc_size=12, label_size=6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoded = {"train": VOCABULARY.encode(BANK.train)}
    parser = make_parser(Parsing.create(SMALL), Data(BANK, VOCABULARY, encoded))
    optimizer = torch.optim.AdamW(parser.parameters(), lr=1e-2)
    for _ in range(15):  # so that it is neither right nor wrong everywhere
        _, batch = next(batches_of(encoded["train"], parser.device, 10_000))
        parser.loss(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return parser.eval()


def test_the_scores_are_those_of_the_trees_that_it_parses(model):
    """Counted word by word from parsed sentences, labels compared up to the colon, as the CoNLL 2018 evaluation does."""
    found = evaluate(model, BANK.test)
    counts = {"words": 0, "heads": 0, "both": 0, "no_punct": 0, "heads_no_punct": 0}
    for gold, said in zip(BANK.test, parse(model, BANK.test)):
        assert not tree_fault(said.heads) and said.words == gold.words
        for i in range(len(gold.words)):
            head = gold.heads[i] == said.heads[i]
            counts["words"] += 1
            counts["heads"] += head
            counts["both"] += head and gold.labels[i].split(":")[0] == said.labels[i].split(":")[0]
            counts["no_punct"] += gold.labels[i] != "punct"
            counts["heads_no_punct"] += gold.labels[i] != "punct" and head
    metrics = found.metrics("test")
    assert 0.1 < metrics["test/las"] < metrics["test/uas"] < 0.95
    assert metrics["test/uas"] == pytest.approx(counts["heads"] / counts["words"])
    assert metrics["test/las"] == pytest.approx(counts["both"] / counts["words"])
    assert metrics["test/uas_no_punct"] == pytest.approx(counts["heads_no_punct"] / counts["no_punct"])
    assert metrics["test/uas_per_iteration"][-1] == metrics["test/uas"] and len(metrics["test/uas_per_iteration"]) == 3
    quick = parsing.attachment(model, BANK.test, VOCABULARY.encode(BANK.test), "test")
    assert quick == {name: pytest.approx(metrics[name]) for name in ("test/uas", "test/las", "test/mean_steps")}
    assert found.by_sentence()[:, 0].tolist() == [len(s.words) for s in BANK.test]
    assert found.by_sentence()[:, 1].sum() == counts["heads"]


def test_by_length_of_arc(model):
    found = evaluate(model, BANK.test)
    rows = found.by_distance()
    assert sum(row["words"] for row in rows) == sum(len(s.words) for s in BANK.test)
    assert rows[0]["arc"] == "root" and rows[0]["words"] == len(BANK.test)
    assert all(row["uas"] == row["uas_3"] for row in rows), "this model takes all its iterations"
    distances = [abs(h - i) for s in BANK.test for i, h in enumerate(s.heads, 1) if h]
    assert next(row for row in rows if row["arc"] == "3 to 4")["words"] == sum(d in (3, 4) for d in distances)
    assert [row["arc"] for row in rows] == ["root", "1", "2", "3 to 4", "5 to 8", "9 to 16", "17+"]


def test_a_hand_worked_evaluation():
    found = Evaluation(
        sentence=np.array([0, 0, 1]),
        distance=np.array([1, 0, 0]),
        punctuation=np.array([True, False, False]),
        head_right=np.array([[True, False, False], [False, True, True]]),
        label_right=np.array([[True, False, False], [False, True, False]]),
        loss=np.ones((2, 3)),
        entropy=np.zeros((2, 2)),
        steps=np.array([1, 2]),
    )
    heads, labels = found.halted
    assert heads.tolist() == [True, False, True] and labels.tolist() == [True, False, False]
    metrics = found.metrics("x")
    assert (
        metrics["x/uas"] == pytest.approx(2 / 3) and metrics["x/uas_no_punct"] == 0.5 and metrics["x/mean_steps"] == 1.5
    )
    assert metrics["x/uas_per_iteration"] == pytest.approx([1 / 3, 2 / 3])


def test_the_cross_entropy_is_of_the_right_head(model):
    found = evaluate(model, BANK.test[:1])
    _, batch = next(batches_of(VOCABULARY.encode(BANK.test[:1]), model.device))
    thoughts = model.think(batch)
    arcs = model.score(thoughts.states[-1], thoughts.mask)[0][0].detach()
    wanted = [-arcs[i].log_softmax(-1)[head].item() for i, head in enumerate(BANK.test[0].heads)]
    assert found.loss[-1] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("mode", ["entropy", "halting"])
def test_where_a_sentence_stops_is_where_its_tree_comes_from(model, mode):
    """The trees of `parse`, which stops early, are those of `evaluate`, which does not, at each sentence's own step."""
    middle = float(np.median(evaluate(model, BANK.test).entropy[:, 0]))
    stopping = with_halting(model, mode, middle)
    with torch.no_grad():
        before = model.halt.bias.clone()
        model.halt.bias.fill_(-0.2)
    found = evaluate(stopping, BANK.test)
    said = parse(stopping, BANK.test)
    right = [head == own for s, p in zip(BANK.test, said) for head, own in zip(s.heads, p.heads)]
    assert found.halted[0].tolist() == right
    if mode == "entropy":
        assert 1 < found.steps.mean() < 3
    with torch.no_grad():
        model.halt.bias.copy_(before)
    assert model.config.halting_mode == "fixed", "the model itself is as it was"


def test_batches_hold_every_sentence_once_within_their_bound():
    encoded = VOCABULARY.encode(BANK.test)
    seen = []
    for places, batch in batches_of(encoded, torch.device("cpu"), 200):
        assert batch["words"].numel() <= 200 or len(places) == 1
        seen += places.tolist()
    assert sorted(seen) == list(range(len(encoded)))


def test_a_trace_of_one_sentence(model):
    one = BANK.test[0]
    seen = trace(model, one)
    n = len(one.words)
    assert seen.weights.shape == (3, n, 2) and np.allclose(seen.weights.sum(-1), 1, atol=1e-5)
    assert seen.attention.shape == (3, n, n) and np.allclose(seen.attention.sum(-1), 1, atol=1e-5)
    (said,) = parse(model, [one])
    assert seen.trees[-1] == (list(said.heads), list(said.labels))


def test_words_alone_can_be_parsed(model):
    words = ("Zorp", "sees", "the", "cats", ".")
    (said,) = parse(model, [Sentence.of(words)])
    assert said.words == words and not tree_fault(said.heads) and set(said.labels) <= set(VOCABULARY.labels)


def test_speed_counts_both_parts(model):
    found = speed(model, VOCABULARY.encode(BANK.test), batch_size=16, rounds=1)
    assert found["parse/sentences_per_second"] > 0 and found["parse/decoding_over_encoder"] > 0
