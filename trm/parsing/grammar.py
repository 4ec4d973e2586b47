"""A small treebank that a grammar writes: what chapter 05 trains on when it is given no files.

    A man meets the women today that sing .        Which child does Mira say that the old dogs near the houses follow ?

English-like sentences with their Universal Dependencies trees, without end and seeded. They hold what makes parsing more
than guessing from neighbours: a subject parted from its verb by relative clauses, phrases whose preposition says whether they
belong to the noun or to the verb, coordination, relative clauses that stand at the end and belong to the noun that their verb
agrees with, and questions whose first word belongs to the last verb. The last two are not projective.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np

from trm.parsing.treebank import PARTS, Sentence, Treebank

NOUNS = "man woman child dog cat bird king queen teacher doctor sailor farmer writer baker horse fox judge guest"
THINGS = "house tree river book table letter garden bridge window road song boat apple stone lamp hill"
PLURALS = {"man": "men", "woman": "women", "child": "children", "fox": "foxes"}
MEET = "meet see follow like help know call find watch fear"  # somebody does it to somebody
SLEEP = "sleep sing laugh arrive wait dream fall smile"  # somebody does it
SAY = "say think believe hope know claim"  # somebody does it to a sentence
ADJECTIVES = "old young small happy red tall quiet clever tired famous"
ADVERBS = "today often slowly again quietly soon gladly never"
OF_NOUNS = "of from with near behind"  # these belong to the noun before them
OF_VERBS = "during after before until despite"  # these to the verb
TIMES = "winter night war storm feast journey lesson dance"
SYLLABLES = "ba mi ro ta lu ne ka si do ve ri na po le ju sha"


@dataclass
class Node:
    """A word with what depends on it, in order: before it and after it."""

    word: str
    tag: str
    label: str = "root"
    before: list["Node"] = field(default_factory=list)
    after: list["Node"] = field(default_factory=list)
    plural: bool = False
    owner: "Node | None" = None  # head of a clause that stands away from it

    def words(self) -> list["Node"]:
        """This word and all below it, in the order of the sentence."""
        parts = [node.words() for node in self.before], [node.words() for node in self.after]
        return [*sum(parts[0], []), self, *sum(parts[1], [])]


class Grammar:
    """Writes sentences from random numbers. `depth`, where asked for, limits clauses inside clauses."""

    def __init__(self, draw: np.random.Generator):
        self.draw = draw

    def sentence(self) -> Sentence:
        """One sentence with its tree."""
        late: list[Node] = []  # relative clauses that will stand at the end
        if self.chance(0.15):
            root, order = self.question()
        else:
            root = self.clause(2, late)
            order = root.words()
        for node in late:
            order += node.words()
        end = Node("?" if order[0].word == "which" else ".", "PUNCT", "punct")
        order.append(end)
        root.after.append(end)
        place = {id(node): i for i, node in enumerate(order, 1)}
        heads = {id(root): 0}
        for node in order:
            heads |= {id(child): place[id(node)] for child in [*node.before, *node.after]}
        for node in late:
            heads[id(node)] = place[id(node.owner)]
        words = tuple(node.word.capitalize() if i == 0 else node.word for i, node in enumerate(order))
        return Sentence(
            words,
            tuple(node.tag for node in order),
            tuple(heads[id(node)] for node in order),
            tuple(node.label for node in order),
        )

    def clause(self, depth: int, late: list[Node] | None = None) -> Node:
        """Somebody does something: a verb with all that belongs to it."""
        subject = self.noun_phrase("nsubj", depth)
        verb = self.predicate(subject.plural, depth)
        verb.before.insert(0, subject)
        objects = [node for node in verb.after if node.label == "obj"]
        if late is not None and self.chance(0.35) and all(node.label != "ccomp" for node in verb.after):
            who = [subject, *objects]
            owner = who[self.draw.integers(len(who))]
            if len(who) < 2 or who[0].plural != who[1].plural:  # its verb must be able to tell
                late.append(self.relative(owner, 0, subject_only=True))
                late[-1].owner = owner
        if depth and self.chance(0.2):
            other = self.predicate(subject.plural, 0)
            other.label = "conj"
            other.before.insert(0, Node("and", "CCONJ", "cc"))
            verb.after.append(other)
        return verb

    def predicate(self, plural: bool, depth: int) -> Node:
        """A verb that agrees with its subject, its object or the sentence that is said, adverbs and phrases."""
        kind = self.draw.random()
        if kind < 0.2 and depth:
            verb = Node(inflect(self.one(SAY), plural), "VERB")
            said = self.clause(depth - 1)
            said.label = "ccomp"
            said.before.insert(0, Node("that", "SCONJ", "mark"))
            verb.after.append(said)
            return verb
        verb = Node(inflect(self.one(MEET if kind < 0.7 else SLEEP), plural), "VERB")
        if kind < 0.7:
            verb.after.append(self.noun_phrase("obj", depth))
        if self.chance(0.3):
            verb.after.append(Node(self.one(ADVERBS), "ADV", "advmod"))
        if self.chance(0.3):
            time = Node(self.one(TIMES), "NOUN", "obl")
            time.before = [Node(self.one(OF_VERBS), "ADP", "case"), Node("the", "DET", "det")]
            verb.after.append(time)
        return verb

    def noun_phrase(self, label: str, depth: int) -> Node:
        """A name, or a noun with article, adjectives, a phrase and a relative clause."""
        if self.chance(0.15):
            return Node(self.name(), "PROPN", label)
        plural = self.chance(0.4)
        stem = self.one(NOUNS if label != "nmod" else THINGS)
        noun = Node(PLURALS.get(stem, stem + "s") if plural else stem, "NOUN", label, plural=plural)
        noun.before.append(Node("the" if plural or self.chance(0.6) else "a", "DET", "det"))
        noun.before += [
            Node(self.one(ADJECTIVES), "ADJ", "amod") for _ in range(self.draw.choice(3, p=(0.6, 0.3, 0.1)))
        ]
        if self.chance(0.25):
            phrase = self.noun_phrase("nmod", 0)
            phrase.before.insert(0, Node(self.one(OF_NOUNS), "ADP", "case"))
            noun.after.append(phrase)
        if depth and self.chance(0.25):
            noun.after.append(self.relative(noun, depth - 1))
        return noun

    def relative(self, noun: Node, depth: int, subject_only: bool = False) -> Node:
        """A relative clause: "that sings", or "that the cats see" where `noun` is what is seen."""
        pronoun = Node("that", "PRON", "nsubj")
        if subject_only or self.chance(0.5):
            verb = self.predicate(noun.plural, depth)
        else:
            subject = self.noun_phrase("nsubj", depth)
            verb = Node(inflect(self.one(MEET), subject.plural), "VERB", before=[subject])
            pronoun.label = "obj"
        verb.label = "acl:relcl"
        verb.before.insert(0, pronoun)
        return verb

    def question(self) -> tuple[Node, list[Node]]:
        """ "Which child does Mira say that the dogs follow": (root, words in order)."""
        asker, seer = self.noun_phrase("nsubj", 0), self.noun_phrase("nsubj", 1)
        plural = self.chance(0.4)
        stem = self.one(NOUNS)
        asked = Node(PLURALS.get(stem, stem + "s") if plural else stem, "NOUN", "obj")
        asked.before.append(Node("which", "DET", "det"))
        inner = Node(self.one(MEET), "VERB", "ccomp", before=[Node("that", "SCONJ", "mark"), seer])
        inner.word = inflect(inner.word, seer.plural)
        root = Node(self.one(SAY), "VERB", before=[Node("do" if asker.plural else "does", "AUX", "aux"), asker])
        root.after.append(inner)
        order = [*asked.words(), *root.words()]
        inner.before.append(asked)  # its head, though it stands far off
        return root, order

    def one(self, words: str) -> str:
        """One of the words in a text."""
        return str(self.draw.choice(words.split()))

    def name(self) -> str:
        """A name that may never have occurred before."""
        return "".join(self.draw.choice(SYLLABLES.split(), self.draw.integers(2, 4))).capitalize()

    def chance(self, share: float) -> bool:
        """True in so many cases."""
        return bool(self.draw.random() < share)


def inflect(verb: str, plural: bool) -> str:
    """The present tense of a verb: "they watch", "she watches"."""
    return verb if plural else verb + ("es" if verb.endswith("ch") else "s")


def sentences(seed: int) -> Iterator[Sentence]:
    """Sentences without end, none twice; equal for equal seeds."""
    seen: set[tuple[str, ...]] = set()
    for i in count():
        sentence = Grammar(np.random.default_rng([seed, i, 0x6A3])).sentence()
        if sentence.words not in seen:
            seen.add(sentence.words)
            yield sentence


def treebank(seed: int, train: int = 2000, dev: int = 200, test: int = 500) -> Treebank:
    """A treebank of so many sentences; no part shares one with another."""
    written = sentences(seed)
    return Treebank(**{part: list(islice(written, size)) for part, size in zip(PARTS, (train, dev, test))})
