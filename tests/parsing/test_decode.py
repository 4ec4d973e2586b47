"""The best tree against brute force over all trees."""

import itertools

import numpy as np
import pytest

from trm.parsing.decode import best_tree
from trm.parsing.treebank import tree_fault


@pytest.mark.parametrize("n", range(1, 7))
def test_no_tree_is_better(n):
    every = itertools.product(range(n + 1), repeat=n)
    trees = np.array([heads for heads in every if not tree_fault(heads)])
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


def test_long_sentences_with_scores_far_apart():
    draw = np.random.default_rng(1)
    for n in (60, 150):
        scores = draw.normal(size=(n, n + 1)).astype(np.float32) * 1e4
        found = best_tree(scores)
        assert not tree_fault(found)
        for place in draw.integers(n, size=200):  # no other head for one word makes a better tree
            other = found.copy()
            other[place] = draw.integers(n + 1)
            assert tree_fault(other) or scores[np.arange(n), other].sum() <= scores[np.arange(n), found].sum()
