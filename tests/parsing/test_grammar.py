"""The grammar's sentences: trees, of the kinds that are promised, and parts that share nothing."""

import numpy as np

from trm.parsing import grammar
from trm.parsing.treebank import tree_fault

BANK = grammar.treebank(0)
EVERY = [*BANK.train, *BANK.dev, *BANK.test]


def test_every_sentence_has_a_tree():
    assert [len(part) for part in (BANK.train, BANK.dev, BANK.test)] == [2000, 200, 500]
    for s in EVERY:
        assert not tree_fault(s.heads) and len(s.words) == len(s.tags) == len(s.labels)
        assert s.labels[s.heads.index(0)] == "root" and s.labels.count("root") == 1
        assert s.labels[-1] == "punct" and s.words[0][0].isupper()


def test_arcs_are_short_and_long_and_some_trees_cross():
    distances = np.array([abs(head - i) for s in EVERY for i, head in enumerate(s.heads, 1) if head])
    assert np.median(distances) <= 3 and (distances > 10).mean() > 0.03
    assert 0.15 < np.mean([not s.is_projective for s in EVERY]) < 0.5


def test_no_part_shares_a_sentence_and_seeds_differ():
    words = [s.words for s in EVERY]
    assert len(set(words)) == len(words) and BANK.shared() == {"dev": 0, "test": 0}
    assert grammar.treebank(0, 5, 1, 1).train == BANK.train[:5] != grammar.treebank(1, 5, 1, 1).train


def is_plural(word):
    return word.endswith("s") or word in grammar.PLURALS.values()


def test_verbs_agree_with_their_subjects():
    """Nouns in the plural have verbs without an s."""
    checked = 0
    for s in EVERY:
        aided = {head for head, label in zip(s.heads, s.labels) if label == "aux"}
        for noun, tag, head, label in zip(s.words, s.tags, s.heads, s.labels):
            if label == "nsubj" and tag == "NOUN" and head not in aided:
                assert s.words[head - 1].endswith("s") != is_plural(noun), " ".join(s.words)
                checked += 1
    assert checked > 1000


def test_a_clause_at_the_end_belongs_to_the_noun_that_its_verb_agrees_with():
    late = 0
    for s in EVERY:
        for i, label in enumerate(s.labels):
            if label != "acl:relcl":
                continue
            place = s.heads[i] - 1
            pronoun = next(j for j, head in enumerate(s.heads) if head == i + 1 and s.words[j] == "that")
            if s.labels[pronoun] == "nsubj":
                assert s.words[i].endswith("s") != (s.tags[place] == "NOUN" and is_plural(s.words[place]))
            late += pronoun - place > 4
    assert late > 100
