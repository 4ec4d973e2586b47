"""From scores of arcs to trees: the best tree with one root (maximum spanning arborescence).

Where the best heads of the words form a tree, that is it. Otherwise the algorithm of Chu, Liu and Edmonds (1967; the package
`ufal.chu_liu_edmonds`) with a penalty on arcs from the root, so large that a second one never pays: exact.
"""

import numpy as np
from ufal.chu_liu_edmonds import chu_liu_edmonds


def best_tree(scores: np.ndarray) -> np.ndarray:
    """Heads (n,) of the single-rooted tree whose arcs have the largest sum: 0 is the root, words count from 1.

    scores: (n, n + 1) finite; row i: word i + 1 as dependent, column: its head. Arcs from a word to itself are ignored.
    """
    scores = np.array(scores, dtype=np.float64)
    n = len(scores)
    scores[np.arange(n), np.arange(1, n + 1)] = -np.inf
    heads = scores.argmax(1)
    if is_tree(heads):
        return heads
    finite = np.where(np.isfinite(scores), scores, scores[np.isfinite(scores)].min())
    finite -= finite.max(1, keepdims=True)  # loss against the best head: small numbers, the same tree
    penalty = 1 + np.abs(finite).max(1).sum()  # more than all other arcs can gain
    finite[:, 0] -= penalty
    finite[np.arange(n), np.arange(1, n + 1)] = np.nan  # no such arc
    table = np.full((n + 1, n + 1), np.nan)
    table[1:] = finite
    found, _ = chu_liu_edmonds(table)
    return np.array(found[1:])


def best_trees(scores: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """`best_tree` of each sentence of a padded batch: scores (B, T, T + 1), lengths (B,) -> B arrays (n,)."""
    return [best_tree(part[:n, : n + 1]) for part, n in zip(scores, lengths)]


def is_tree(heads: np.ndarray) -> bool:
    """Whether heads (n,), 0 for the root, form a tree with one root."""
    n = len(heads)
    if (heads == 0).sum() != 1:
        return False
    ancestor = np.concatenate([[0], heads])  # (n + 1,): jumps twice as far each time
    for _ in range(max(n, 1).bit_length()):
        ancestor = ancestor[ancestor]
    return not ancestor.any()
