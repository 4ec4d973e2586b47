"""The generated sentences in free word order: trees in which a modifier agrees with a word that so many arcs lead to."""

from collections import Counter

import numpy as np
import pytest

from trm.parsing.agreement import CHAINS, CLASSES, LINKS, SOURCE, treebank
from trm.parsing.params import Parsing
from trm.parsing.train import load_data
from trm.parsing.treebank import TreebankError, tree_fault

BANKS = {hops: treebank(str(hops), 200, 5, 20) for hops in range(LINKS)}


@pytest.mark.parametrize("hops", range(LINKS))
def test_a_modifier_finds_its_head_over_so_many_arcs(hops):
    """From the particle that shows a modifier's class, `hops` links backwards stands the modifier's head."""
    for s in BANKS[hops].train:
        assert not tree_fault(s.heads)
        labels = Counter(s.labels)
        assert labels == {"root": 1, "amod": CHAINS, "case": CHAINS, "obl": CHAINS, "nmod": CHAINS * (LINKS - 1)}
        for i, label in enumerate(s.labels):
            if label != "amod":
                continue
            at, steps = s.heads[i], 0
            while not any(h == at and name == "case" for h, name in zip(s.heads, s.labels)):
                at, steps = s.heads[at - 1], steps + 1
            particle = next(j for j, (h, name) in enumerate(zip(s.heads, s.labels)) if h == at and name == "case")
            assert steps == hops and s.words[particle] == s.words[i].removeprefix("an") and s.words[particle] in CLASSES
            assert particle == at  # right after its word: places are counted from 1


def test_syllables_alone_link_the_words_of_a_chain():
    """The head of a chain's word is the only word that begins with the syllable that it ends with."""
    for s in BANKS[2].train:
        nouns = {i: word for i, (word, tag) in enumerate(zip(s.words, s.tags), 1) if tag == "NOUN"}
        for i, word in nouns.items():
            follows = [j for j, other in nouns.items() if other[:2] == word[-2:] and other[2] == "k"]
            assert follows == ([s.heads[i - 1]] if s.labels[i - 1] == "nmod" else [])


def test_word_order_tells_nothing_and_arcs_cross():
    gaps = np.array([h - i for s in BANKS[1].train for i, h in enumerate(s.heads, 1) if s.labels[i - 1] == "amod"])
    assert abs(gaps.mean()) < 1 and np.abs(gaps).mean() > 8
    assert not any(s.is_projective for s in BANKS[1].train)


def test_parts_share_nothing_and_a_name_chooses_the_hops():
    assert BANKS[0].shared() == {"dev": 0, "test": 0} and treebank("3", 5, 1, 1).train == BANKS[3].train[:5]
    data = load_data(Parsing.create({"conllu_dir": SOURCE + "1", "train_size": 10}))
    assert set(data.treebank.train) < set(treebank("1").train) and len(data.treebank.train) == 10
    for wrong in ("4", "-1", "", "two"):
        with pytest.raises(TreebankError, match="0 to 3"):
            treebank(wrong)
