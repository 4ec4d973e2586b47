"""A treebank in free word order whose difficulty is a number: over how many arcs a word must look to find its head.

A sentence is `CHAINS` chains of `LINKS` words in random order. A word names its head, the next of its chain, by a syllable that
both share ("mikalu" is the head of "rokami"). One word of a chain is followed by a particle with the chain's class ("vo"), and
a modifier of that class ("anvo") depends on the chain's first word. To find it, a parser must carry the class from the word
that shows it to the first word of the chain, `hops` arcs away; all sentences have the same length and arcs, whatever `hops` is.
"""

from itertools import count, islice

import numpy as np

from trm.parsing.treebank import PARTS, Sentence, Treebank, TreebankError

CHAINS, LINKS = 4, 4  # of a sentence; words of a chain beside modifier and particle
SYLLABLES = [c + v for c in "bdgklmnt" for v in "aiu"]  # what links two words
CLASSES = [c + v for c in "vwz" for v in "aeo"]  # what a modifier and a particle share
SOURCE = "agreement:"  # and the number of hops: what `conllu_dir` names


def sentence(draw: np.random.Generator, hops: int) -> Sentence:
    """One sentence: a tree whose root is a verb, on which the last words of the chains depend."""
    syllables = iter(draw.permutation(SYLLABLES))
    words: dict[tuple[int, int], list[tuple[str, str, str, tuple | None]]] = {
        (-1, 0): [("holds", "VERB", "root", None)]
    }
    for chain, shown in enumerate(draw.permutation(CLASSES)[:CHAINS]):
        words[chain, -1] = [("an" + shown, "ADJ", "amod", (chain, 0))]
        begins = next(syllables)
        for link in range(LINKS):
            ends = next(syllables)
            last = link == LINKS - 1
            head = (-1, 0) if last else (chain, link + 1)
            words[chain, link] = [(f"{begins}{'' if link else 'x'}ka{ends}", "NOUN", "obl" if last else "nmod", head)]
            if link == hops:
                words[chain, link].append((shown, "PART", "case", (chain, link)))
            begins = ends
    order = [list(words)[i] for i in draw.permutation(len(words))]
    place, end = {}, 1
    for key in order:
        place[key], end = end, end + len(words[key])
    rows = [(word, tag, place[head] if head else 0, label) for key in order for word, tag, label, head in words[key]]
    return Sentence(*zip(*rows))


def treebank(hops: str, train: int = 4000, dev: int = 200, test: int = 500) -> Treebank:
    """A treebank of so many sentences, always the same. TreebankError: a number of hops that a chain has no room for."""
    if hops not in map(str, range(LINKS)):
        raise TreebankError(
            f"parameter 'conllu_dir' = '{SOURCE}{hops}': after the colon stands a number, 0 to {LINKS - 1}"
        )
    written = (sentence(np.random.default_rng([int(hops), i, 0xA62]), int(hops)) for i in count())
    return Treebank(**{part: list(islice(written, size)) for part, size in zip(PARTS, (train, dev, test))})
