"""From scores of arcs to trees: the best tree with one root (maximum spanning arborescence).

Where the best heads of the words form a tree, that is it. Otherwise the algorithm of Chu, Liu and Edmonds (1967; the package
`ufal.chu_liu_edmonds`) with a penalty on arcs from the root, so large that a second one never pays: exact.
"""

import numpy as np
from ufal.chu_liu_edmonds import chu_liu_edmonds

from trm.parsing.treebank import tree_fault


def best_tree(scores: np.ndarray) -> np.ndarray:
    """Heads (n,) of the single-rooted tree whose arcs have the largest sum: 0 is the root, words count from 1.

    scores: (n, n + 1) finite; row i: word i + 1 as dependent, column: its head. Arcs from a word to itself are ignored.
    """
    scores = np.array(scores, dtype=np.float64)
    n = len(scores)
    itself = np.arange(n), np.arange(1, n + 1)
    scores[itself] = -np.inf
    heads = scores.argmax(1)
    if not tree_fault(heads):
        return heads
    table = np.full((n + 1, n + 1), np.nan)
    table[1:] = scores - scores.max(1, keepdims=True)  # loss against the best head: small numbers, the same tree
    table[1:][itself] = np.nan  # no such arc
    table[1:, 0] += np.nanmin(table[1:], 1).sum() - 1  # costs more than all other arcs can gain
    found, _ = chu_liu_edmonds(table)
    return np.array(found[1:])
