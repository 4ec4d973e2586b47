"""Sentences as arrays, and batches of like length."""

import numpy as np
import pytest

from trm.losses import IGNORE_INDEX
from trm.parsing import grammar
from trm.parsing.batches import AFFIX_ROWS, AFFIXES, UNKNOWN, LengthBatches, Vocabulary, affixes, collate, shape
from trm.parsing.treebank import Sentence

WORDS, TAGS = ("The", "cat", "the", "Cat"), ("DET", "NOUN", "DET", "NOUN")
CAT = Sentence(WORDS, TAGS, (2, 0, 4, 2), ("det", "root", "det", "nmod:poss"))
DOG = Sentence(("A", "dog"), ("DET", "X"), (2, 0), ("det", "what"))


def test_words_tags_and_labels_have_numbers():
    vocabulary = Vocabulary.of([CAT])
    assert vocabulary.words == ("cat", "the") and vocabulary.tags == ("DET", "NOUN")
    assert vocabulary.labels == ("det", "nmod", "root")
    assert Vocabulary.of([CAT], subtypes=True).labels == ("det", "nmod:poss", "root")
    (arrays,) = vocabulary.encode([CAT])
    assert arrays["words"].tolist() == [3, 2, 3, 2] and arrays["tags"].tolist() == [2, 3, 2, 3]
    assert arrays["heads"].tolist() == [2, 0, 4, 2] and arrays["labels"].tolist() == [0, 2, 0, 1]
    (other,) = vocabulary.encode([DOG])
    assert other["words"].tolist() == [UNKNOWN, UNKNOWN] and other["tags"].tolist() == [2, UNKNOWN]
    assert other["labels"].tolist() == [0, IGNORE_INDEX], "a label that training never saw cannot be learned"
    assert Vocabulary.of([CAT, DOG], min_count=1).words == ("a", "cat", "dog", "the")


def test_affixes():
    cat, at = affixes("Cat"), affixes("at")
    assert len(cat) == AFFIXES and all(0 <= row < AFFIX_ROWS for row in cat)
    assert cat[:8] == affixes("cat")[:8] and cat[8] != affixes("cat")[8]  # the shape alone tells capitals
    assert cat[3] == 0 and at[2] == 0 and at[0] != 0  # too short for four letters, for three
    assert cat[4] == at[4] and cat[5] == at[5] and cat[0] != at[0]  # the same ends, other beginnings
    assert cat[1] == affixes("car")[1] != affixes("cot")[1]


def test_shapes():
    for word, found in {"McDonald's": "XxXx'x", "2004": "d", "U.S.": "X.X.", "été": "x", "--": "-"}.items():
        assert shape(word) == found


def test_a_batch_is_padded_with_what_stands_for_nothing():
    vocabulary = Vocabulary.of([CAT, DOG], min_count=1)
    encoded = vocabulary.encode([CAT, DOG])
    encoded[0]["states"], encoded[1]["states"] = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)
    batch = collate(encoded)
    assert batch["words"].shape == (2, 4) and batch["affixes"].shape == (2, 4, AFFIXES)
    assert batch["states"].dtype == np.float32
    nothing = {"words": 0, "tags": 0, "affixes": 0, "states": 0, "heads": IGNORE_INDEX, "labels": IGNORE_INDEX}
    for name, padding in nothing.items():
        assert (batch[name][1, 2:] == padding).all() and (batch[name][0] != padding).any()


def encoded_sentences(count=300):
    sentences = grammar.treebank(1, train=count, dev=1, test=1).train
    encoded = Vocabulary.of(sentences, min_count=1).encode(sentences)
    # Heads tell who is in a batch.
    return [arrays | {"heads": np.full_like(arrays["heads"], i)} for i, arrays in enumerate(encoded)]


def members(batch):
    return batch["heads"].max(1).tolist()


@pytest.mark.parametrize("options", [{"tokens": 300}, {"tokens": 0, "size": 16}], ids=str)
def test_an_epoch_holds_every_sentence_once(options):
    encoded = encoded_sentences()
    batches = LengthBatches(encoded, seed=5, **options)
    for epoch in range(2):
        found = [batches(epoch * batches.per_epoch + i) for i in range(batches.per_epoch)]
        seen = sum((members(batch) for batch in found), [])
        assert sorted(seen) == list(range(len(encoded)))
        tokens = np.array([(batch["words"] > 0).sum() for batch in found])
        if options["tokens"]:
            assert np.abs(tokens - tokens.mean()).max() < 120 and tokens.mean() <= 300
        else:
            assert {len(batch["words"]) for batch in found} <= {15, 16}
        padding = 1 - tokens.sum() / sum(batch["words"].size for batch in found)
        assert padding < 0.2, "sentences of like length stand together"


def test_batches_are_a_function_of_seed_and_step():
    encoded = encoded_sentences()
    one, two = LengthBatches(encoded, 300, seed=1), LengthBatches(encoded, 300, seed=1)
    jump = one.per_epoch + 3
    later = members(two(jump))
    assert [members(one(i)) for i in range(jump + 1)][-1] == later
    assert members(one(3)) != later and members(LengthBatches(encoded, 300, seed=2)(3)) != members(one(3))


def test_rows_are_filled_up_and_the_sentences_are_the_same():
    """However many processes share a batch, it holds the same sentences."""
    encoded = encoded_sentences(50)
    one, four = LengthBatches(encoded, 100, seed=1), LengthBatches(encoded, 100, seed=1, multiple=4)
    for i in range(one.per_epoch):
        alone, shared = one(i), four(i)
        rows = len(alone["words"])
        assert len(shared["words"]) == -(-rows // 4) * 4 and not shared["words"][rows:].any()
        assert all((shared[name][:rows] == alone[name]).all() for name in alone)
        assert (shared["heads"][rows:] == IGNORE_INDEX).all()


@pytest.mark.parametrize(
    "lengths, tokens", [([10] * 200 + [400], 100), ([400] + [10] * 9, 50), ([3] * 7, 1), ([3], 99)]
)
def test_no_batch_is_empty_however_long_a_sentence(lengths, tokens):
    encoded = [{"words": np.ones(n, int), "heads": np.full(n, i)} for i, n in enumerate(lengths)]
    batches = LengthBatches(encoded, tokens)
    seen = sum((members(batches(i)) for i in range(batches.per_epoch)), [])
    assert sorted(seen) == list(range(len(lengths)))
