"""Trees from a parser: parsing, attachment scores by iteration and by length of arc, and what stopping early saves.

UAS and LAS are those of the CoNLL 2018 evaluation on gold tokens: the share of all words, punctuation included, whose head
(and whose label without its subtype) is right.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trm.parsing.decode import best_trees
from trm.parsing.pointer import Parser
from trm.parsing.treebank import Sentence
from trm.parsing.word_states import WordStates
from trm.parsing.words import Vocabulary, collate

# How far a word's head is, in words, both ends in; 0: it is the root.
ARC_LENGTHS = {
    "root": (0, 0),
    "1": (1, 1),
    "2": (2, 2),
    "3 to 4": (3, 4),
    "5 to 8": (5, 8),
    "9 to 16": (9, 16),
    "17+": (17, np.inf),
}


def vocabulary_of(model: Parser) -> Vocabulary:
    """The vocabulary that a parser was saved with."""
    return Vocabulary(**{k: tuple(v) if isinstance(v, list) else v for k, v in model.vocabulary.items()})


def batch_on(device: torch.device, encoded: Sequence[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """One padded batch (B, T, ...) of the arrays of B sentences, on `device`."""
    return {name: torch.from_numpy(value).to(device) for name, value in collate(encoded).items()}


def batches_of(encoded: Sequence[dict], device: torch.device, tokens: int = 4000) -> Iterator[tuple[np.ndarray, dict]]:
    """Batches of at most about `tokens` tokens of like length: (places of the sentences, arrays on the device)."""
    lengths = np.array([len(arrays["words"]) for arrays in encoded])
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= tokens:
            end += 1
        yield order[start:end], batch_on(device, [encoded[i] for i in order[start:end]])
        start = end


@torch.no_grad()
def decode(model: Parser, z: Tensor, mask: Tensor) -> tuple[list[np.ndarray], list[np.ndarray], Tensor]:
    """The best single-rooted tree of each sentence by its states z (B, T, D): heads (n,) and numbers of labels (n,), each a
    list of B; and the scores of the arcs (B, T, T + 1)."""
    arcs, dependent, head = model.score(z, mask)
    lengths = mask.sum((1, 2)).long().tolist()
    trees = best_trees(arcs.float().cpu().numpy(), np.array(lengths))
    heads = torch.zeros(z.shape[:2], dtype=torch.long)
    for row, tree in zip(heads, trees):
        row[: len(tree)] = torch.from_numpy(tree)
    labels = model.score.labels(dependent, head, heads.to(z.device)).argmax(-1).cpu().numpy()
    return trees, [row[:n] for row, n in zip(labels, lengths)], arcs


def encode(model: Parser, sentences: Sequence[Sentence]) -> list[dict[str, np.ndarray]]:
    """The arrays of sentences as the model reads them, with the states of its pretrained encoder where it has one."""
    encoded = vocabulary_of(model).encode(sentences)
    c = model.config
    if c.state_size:
        states = WordStates(c.encoder, c.encoder_layers, c.encoder_pool, str(model.device))
        for arrays, found in zip(encoded, states(sentences)):
            arrays["states"] = found
    return encoded


@torch.no_grad()
def answers(model: Parser, encoded: Sequence[dict]) -> Iterator[tuple[int, np.ndarray, np.ndarray, int]]:
    """Of each sentence, in some order: its place, heads (n,), numbers of labels (n,), iterations taken; the model stops as its
    `halting_mode` says, and what comes after is not computed."""
    training = model.training
    model.eval()
    for places, batch in batches_of(encoded, model.device):
        z, mask, steps = model.settle(batch)
        yield from zip(places.tolist(), *decode(model, z, mask)[:2], steps.tolist())
    model.train(training)


def parse(model: Parser, sentences: Sequence[Sentence]) -> list[Sentence]:
    """`sentences` with the heads and labels that the model gives their words."""
    vocabulary = vocabulary_of(model)
    parsed = list(sentences)
    for place, heads, labels, _ in answers(model, encode(model, sentences)):
        names = tuple(vocabulary.labels[i] for i in labels)
        parsed[place] = Sentence(sentences[place].words, sentences[place].tags, tuple(heads.tolist()), names)
    return parsed


def _plain(vocabulary: Vocabulary) -> np.ndarray:
    """Names of the vocabulary's labels without their subtypes, by number."""
    return np.array([name.partition(":")[0] for name in vocabulary.labels])


def attachment(model: Parser, sentences: Sequence[Sentence], encoded: Sequence[dict], part: str) -> dict[str, float]:
    """<part>/uas, las and mean_steps, as `Evaluation.metrics` has them, in the time that parsing takes."""
    names_of = _plain(vocabulary_of(model))
    words = heads_right = labels_right = taken = 0
    for place, heads, labels, steps in answers(model, encoded):
        right = heads == np.array(sentences[place].heads)
        words += len(right)
        heads_right += right.sum()
        labels_right += (right & (names_of[labels] == np.array(sentences[place].plain_labels))).sum()
        taken += steps
    found = {"uas": heads_right / words, "las": labels_right / words, "mean_steps": taken / len(encoded)}
    return {f"{part}/{name}": float(value) for name, value in found.items()}


@dataclass(frozen=True)
class Evaluation:
    """A parser on N sentences with W words, after each of S iterations."""

    sentence: np.ndarray  # (W,) which sentence a word belongs to
    distance: np.ndarray  # (W,) from a word to its head, in words; 0 for the root
    punctuation: np.ndarray  # (W,) bool
    head_right: np.ndarray  # (S, W) bool
    label_right: np.ndarray  # (S, W) bool: head and label
    loss: np.ndarray  # (S, W) cross-entropy of the head, nats
    entropy: np.ndarray  # (N, S) of the controller's weights, nats
    steps: np.ndarray  # (N,) iterations until the model stops

    def uas(self, words: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Share of the words with the right head, after each iteration: (S,)."""
        return self.head_right[:, words].mean(1)

    def las(self, words: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Share of the words with the right head and label, after each iteration: (S,)."""
        return self.label_right[:, words].mean(1)

    @property
    def halted(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each word's head, and its head and label, are right when its sentence stops: (W,) bool each."""
        last = self.steps[self.sentence] - 1
        word = np.arange(len(last))
        return self.head_right[last, word], self.label_right[last, word]

    def by_sentence(self) -> np.ndarray:
        """Words, right heads and right labels of each sentence when it stops: (N, 3)."""
        heads, labels = self.halted
        counts = [np.bincount(self.sentence, weights) for weights in (np.ones(len(heads)), heads, labels)]
        return np.stack(counts, 1)

    def by_distance(self) -> list[dict[str, float]]:
        """UAS by the length of the gold arc, a row for each of `ARC_LENGTHS` that there is: where the model stops (`uas`), and
        after each iteration (`uas_1`, ...)."""
        rows, (heads, _) = [], self.halted
        for name, (low, high) in ARC_LENGTHS.items():
            words = (self.distance >= low) & (self.distance <= high)
            if words.any():
                row = {"arc": name, "words": int(words.sum()), "uas": float(heads[words].mean())}
                rows.append(row | {f"uas_{i}": float(value) for i, value in enumerate(self.uas(words), 1)})
        return rows

    def metrics(self, part: str) -> dict[str, float | list[float]]:
        """<part>/uas and las where the model stops, also without punctuation; by iteration; mean iterations taken."""
        heads, labels = self.halted
        words = ~self.punctuation
        found = {f"{part}/uas": heads.mean(), f"{part}/las": labels.mean()}
        found |= {f"{part}/uas_no_punct": heads[words].mean(), f"{part}/las_no_punct": labels[words].mean()}
        found = {name: float(value) for name, value in found.items()}
        found |= {f"{part}/uas_per_iteration": self.uas().tolist(), f"{part}/las_per_iteration": self.las().tolist()}
        found |= {f"{part}/loss_per_iteration": self.loss.mean(1).tolist()}
        found |= {f"{part}/routing_entropy_per_iteration": self.entropy.mean(0).tolist()}
        return found | {f"{part}/mean_steps": float(self.steps.mean())}


@torch.no_grad()
def evaluate(model: Parser, sentences: Sequence[Sentence], encoded: Sequence[dict] | None = None) -> Evaluation:
    """The parser's trees for `sentences` against theirs, after every iteration. encoded: their arrays, if at hand."""
    vocabulary = vocabulary_of(model)
    encoded = encoded or encode(model, sentences)
    names_of = _plain(vocabulary)
    S = model.num_iterations
    head_right, label_right, losses = ([None] * len(sentences) for _ in range(3))
    entropy, steps = np.zeros((len(sentences), S), np.float32), np.zeros(len(sentences), int)
    training = model.training
    model.eval()
    for places, batch in batches_of(encoded, model.device):
        thoughts = model.think(batch)
        entropy[places] = thoughts.entropy.float().cpu().numpy()
        steps[places] = model.steps(thoughts).cpu().numpy()
        decoded = [decode(model, z, thoughts.mask) for z in thoughts.states]
        loss = [F.cross_entropy(arcs.mT, batch["heads"], reduction="none").cpu().numpy() for _, _, arcs in decoded]
        for row, place in enumerate(places):
            gold = np.array(sentences[place].heads)
            heads = np.stack([trees[row] for trees, _, _ in decoded]) == gold  # (S, n)
            names = names_of[np.stack([labels[row] for _, labels, _ in decoded])]
            head_right[place], label_right[place] = heads, heads & (names == np.array(sentences[place].plain_labels))
            losses[place] = np.stack([part[row, : len(gold)] for part in loss])
    model.train(training)
    heads = np.concatenate([np.array(s.heads) for s in sentences])
    position = np.concatenate([np.arange(1, len(s.words) + 1) for s in sentences])
    return Evaluation(
        sentence=np.repeat(np.arange(len(sentences)), [len(s.words) for s in sentences]),
        distance=np.where(heads == 0, 0, np.abs(heads - position)),
        punctuation=np.concatenate([np.array(s.plain_labels) == "punct" for s in sentences]),
        head_right=np.concatenate(head_right, 1),
        label_right=np.concatenate(label_right, 1),
        loss=np.concatenate(losses, 1),
        entropy=entropy,
        steps=steps,
    )


@dataclass(frozen=True)
class Trace:
    """What a parser thought of one sentence of n words in each of its S iterations."""

    trees: list[tuple[list[int], list[str]]]  # heads and labels
    weights: np.ndarray  # (S, n, N) of the controller
    attention: np.ndarray  # (S, n, n) of the heads, as they are weighted


@torch.no_grad()
def trace(model: Parser, sentence: Sentence, arrays: dict | None = None) -> Trace:
    """Every iteration of a parser that routes, on one sentence. arrays: those of the sentence, if at hand."""
    vocabulary = vocabulary_of(model)
    thoughts = model.eval().think(batch_on(model.device, [arrays or encode(model, [sentence])[0]]))
    trees, looks = [], []
    for before, z, weights in zip([thoughts.encoded, *thoughts.states], thoughts.states, thoughts.weights):
        (heads,), (labels,), _ = decode(model, z, thoughts.mask)
        trees.append((heads.tolist(), [vocabulary.labels[i] for i in labels]))
        looks.append(torch.einsum("tn,nts->ts", weights[0], model.blocks[0].attention(before)))
    stacked = (torch.stack(parts).cpu().numpy() for parts in ([w[0] for w in thoughts.weights], looks))
    return Trace(trees, *stacked)


@torch.no_grad()
def speed(model: Parser, encoded: Sequence[dict], batch_size: int = 64, rounds: int = 3) -> dict[str, float]:
    """Sentences a second in batches of `batch_size` of like length, and what share of the encoder's time (embedding,
    convolutions, iterations) scoring and decoding take. Best of `rounds`."""
    lengths = [len(arrays["words"]) for arrays in encoded]
    order = np.argsort(lengths, kind="stable")
    batches = [
        batch_on(model.device, [encoded[i] for i in part])
        for part in np.array_split(order, max(round(len(order) / batch_size), 1))
    ]
    training = model.training
    model.eval()
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        seconds = [0.0, 0.0]
        for batch in batches:
            started = time.perf_counter()
            z, mask, _ = model.settle(batch)
            if z.is_cuda:
                torch.cuda.synchronize()
            thought = time.perf_counter()
            decode(model, z, mask)
            seconds[0] += thought - started
            seconds[1] += time.perf_counter() - thought
        best = [min(pair) for pair in zip(best, seconds)]
    model.train(training)
    rate = len(encoded) / sum(best)
    return {"parse/sentences_per_second": rate, "parse/decoding_over_encoder": best[1] / best[0]}
