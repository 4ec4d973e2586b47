"""The best tree against brute force over all trees, and its speed-up for what is a tree already."""

import itertools

import numpy as np
import pytest

from trm.parsing.decode import best_tree, best_trees, is_tree
from trm.parsing.treebank import tree_fault


def every_tree(n):
    return [heads for heads in itertools.product(range(n + 1), repeat=n) if not tree_fault(heads)]


@pytest.mark.parametrize("n", range(1, 7))
def test_no_tree_is_better(n):
    trees = np.array(every_tree(n))
    assert len(trees) == n ** (n - 1)  # Cayley
    draw = np.random.default_rng(n)
    for kind in range(60):
        scores = draw.normal(size=(n, n + 1)) * (1, 30)[kind % 2]
        if kind % 3 == 0:
            scores[:, 0] += 50  # every word wants to be the root
        if kind % 5 == 0:
            scores = scores.round()  # ties
        total = scores[np.arange(n), trees].sum(1)
        found = best_tree(scores)
        assert not tree_fault(found.tolist())
        assert scores[np.arange(n), found].sum() == pytest.approx(total.max())


def test_arcs_to_oneself_do_not_count_whatever_their_score():
    scores = np.array([[0.0, 99.0, 1.0], [1.0, 0.0, 99.0]])
    assert best_tree(scores).tolist() == [2, 0]


def test_trees_are_told_from_others():
    for heads in itertools.product(range(5), repeat=4):
        assert is_tree(np.array(heads)) == (not tree_fault(heads))


def test_a_padded_batch_is_its_sentences():
    draw = np.random.default_rng(0)
    scores, lengths = draw.normal(size=(5, 9, 10)).astype(np.float32), np.array([9, 1, 4, 7, 2])
    together = best_trees(scores, lengths)
    assert [len(heads) for heads in together] == lengths.tolist()
    for part, n, heads in zip(scores, lengths, together):
        assert (best_tree(part[:n, : n + 1]) == heads).all()


def test_long_sentences_with_scores_far_apart():
    draw = np.random.default_rng(1)
    for n in (60, 150):
        scores = draw.normal(size=(n, n + 1)).astype(np.float32) * 1e4
        found = best_tree(scores)
        assert is_tree(found)
        for place in draw.integers(n, size=200):  # no other head for one word makes a better tree
            other = found.copy()
            other[place] = draw.integers(n + 1)
            assert not is_tree(other) or scores[np.arange(n), other].sum() <= scores[np.arange(n), found].sum()
