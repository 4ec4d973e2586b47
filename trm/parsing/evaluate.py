"""Trees from a parser in evaluation mode: attachment scores by iteration and by length of arc, parsing speed.

UAS and LAS are those of the CoNLL 2018 evaluation on gold tokens: the share of all words, punctuation included, whose head
(and whose label without its subtype) is right.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from trm import stats
from trm.errors import UserError
from trm.halting import Rule
from trm.losses import pad
from trm.parsing.batches import Vocabulary, batch_on, length_batches
from trm.parsing.decode import best_tree
from trm.parsing.model import Parser, Unrolled
from trm.parsing.treebank import Sentence
from trm.parsing.word_states import WordStates

# The longest arcs of each kind, in words.
ARC_LENGTHS = {"root": 0, "1": 1, "2": 2, "3 to 4": 4, "5 to 8": 8, "9 to 16": 16, "17+": np.inf}


@torch.no_grad()
def decode(model: Parser, z: Tensor, mask: Tensor) -> tuple[list[np.ndarray], list[np.ndarray], Tensor]:
    """The best single-rooted tree of each sentence from its states z (B, T, D): heads (n,) and label ids (n,), each a list
    of B; and the scores of the arcs (B, T, T + 1)."""
    arcs, dependent, head = model.score(z, mask)
    lengths = mask.sum((1, 2)).long().tolist()
    trees = [best_tree(part[:n, : n + 1]) for part, n in zip(arcs.float().cpu().numpy(), lengths)]
    heads = torch.from_numpy(pad(trees, 0)).to(z.device)
    scores = model.score.labels(dependent, head, heads)  # (B, T, labels)
    names = model.vocabulary["labels"] if model.vocabulary else ()
    is_root = torch.tensor([name.partition(":")[0] == "root" for name in names], device=z.device)
    if is_root.any():  # its label, and of no other word
        scores = scores.masked_fill((heads == 0).unsqueeze(-1) != is_root, float("-inf"))
    labels = scores.argmax(-1).cpu().numpy()
    return trees, [row[:n] for row, n in zip(labels, lengths)], arcs


@torch.no_grad()
def parse(model: Parser, sentences: Sequence[Sentence]) -> list[Sentence]:
    """`sentences` (such as `Sentence.of(words)`) with the heads and labels that the model predicts, with early exit. One
    without words stays as it is."""
    try:
        vocabulary, c = Vocabulary(**model.vocabulary), model.config
        sizes = len(vocabulary.words) + 2, len(vocabulary.tags) + 2, len(vocabulary.labels)
        if sizes != (c.num_words, c.num_tags, c.num_labels):
            raise ValueError("its sizes are not those of the weights")
    except (TypeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"the parser's vocabulary is not whole ({why}); load a parser that chapter 05 saved") from None
    parsed = [s if isinstance(s, Sentence) else Sentence.of(s) for s in sentences]
    filled = [i for i, s in enumerate(parsed) if s.words]
    encoded = vocabulary.encode([parsed[i] for i in filled])
    if c.state_size:
        states = WordStates(c.encoder, c.encoder_layers, c.encoder_pool, str(model.device))
        states.add_to(encoded, [parsed[i] for i in filled])
    for indices, batch in length_batches(encoded, model.device):
        z, mask, _ = model.early_exit(batch)
        for i, heads, labels in zip(indices, *decode(model, z, mask)[:2]):
            names, i = tuple(vocabulary.labels[label] for label in labels), filled[i]
            parsed[i] = replace(parsed[i], heads=tuple(heads.tolist()), labels=names)
    return parsed


def _plain_labels(model: Parser) -> np.ndarray:
    """Names of the labels without their subtypes, by id."""
    return np.array([name.partition(":")[0] for name in model.vocabulary["labels"]])


@torch.no_grad()
def attachment_scores(model: Parser, sentences: list[Sentence], encoded: list[dict], part: str) -> dict[str, float]:
    """<part>/uas, las and mean_steps, as `Evaluation.metrics` has them, with early exit: in the time of parsing alone."""
    plain = _plain_labels(model)
    words = heads_right = labels_right = taken = 0
    for indices, batch in length_batches(encoded, model.device):
        z, mask, steps = model.early_exit(batch)
        taken += int(steps.sum())
        for i, heads, labels in zip(indices, *decode(model, z, mask)[:2]):
            right = heads == np.array(sentences[i].heads)
            words += len(right)
            heads_right += right.sum()
            labels_right += (right & (plain[labels] == np.array(sentences[i].plain_labels))).sum()
    found = {"uas": heads_right / words, "las": labels_right / words, "mean_steps": taken / len(encoded)}
    return {f"{part}/{name}": float(value) for name, value in found.items()}


@dataclass(frozen=True)
class Evaluation:
    """A parser on N sentences with W words, after each of S iterations."""

    sentence: np.ndarray  # (W,) index of each word's sentence
    distance: np.ndarray  # (W,) from a word to its head, in words; 0 for the root
    label: np.ndarray  # (W,) str: its label in the gold tree, without the subtype
    head_right: np.ndarray  # (S, W) bool
    label_right: np.ndarray  # (S, W) bool: head and label
    loss: np.ndarray  # (S, W) cross-entropy of the head, nats
    entropy: np.ndarray  # (N, S) of the controller's weights, nats
    steps: np.ndarray  # (N,) iterations until the model stops

    @property
    def at_exit(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each word's head, and its head and label, are right when its sentence stops: (W,) bool each."""
        last = self.steps[self.sentence] - 1
        word = np.arange(len(last))
        return self.head_right[last, word], self.label_right[last, word]

    def stopping(self, rule: Rule) -> Self:
        """The same where each sentence stops by a rule on the entropy."""
        return replace(self, steps=rule.steps(torch.from_numpy(self.entropy)).numpy())

    def by_sentence(self) -> pd.DataFrame:
        """Right heads and words of each sentence when it stops: columns sentence, right, words."""
        heads, _ = self.at_exit
        counts = {"right": np.bincount(self.sentence, heads), "words": np.bincount(self.sentence)}
        return pd.DataFrame(counts).astype(int).rename_axis("sentence").reset_index()

    def by_distance(self) -> pd.DataFrame:
        """UAS by length of the gold arc when a sentence stops: columns arc (of `ARC_LENGTHS`), words, uas."""
        kinds = np.array(list(ARC_LENGTHS))[np.searchsorted(list(ARC_LENGTHS.values()), self.distance)]
        found = self._grouped(kinds)
        return found.reindex([arc for arc in ARC_LENGTHS if arc in found.index]).rename_axis("arc").reset_index()

    def by_label(self) -> pd.DataFrame:
        """UAS by label of the gold arc when a sentence stops: columns label, words, uas, the most frequent first."""
        return self._grouped(self.label).sort_values("words", ascending=False).rename_axis("label").reset_index()

    def _grouped(self, kinds: np.ndarray) -> pd.DataFrame:
        return pd.Series(self.at_exit[0]).groupby(kinds).agg(words="size", uas="mean")

    def metrics(self, part: str) -> dict[str, float | list[float]]:
        """<part>/uas and las when sentences stop, also without punctuation; by iteration; mean iterations taken."""
        heads, labels = self.at_exit
        words = self.label != "punct"
        means = {"uas": heads, "las": labels, "uas_no_punct": heads[words], "las_no_punct": labels[words]}
        found = {f"{part}/{name}": float(value.mean()) for name, value in means.items()}
        by_iteration = {"uas": self.head_right, "las": self.label_right, "loss": self.loss}
        for name, value in (by_iteration | {"routing_entropy": self.entropy.T}).items():
            found[f"{part}/{name}_per_iteration"] = value.mean(1).tolist()
        return found | {f"{part}/mean_steps": float(self.steps.mean())}


def entropy_threshold(found: Evaluation, tolerance: float, candidates: int = 200) -> float:
    """The threshold of `Rule("entropy", ...)` that takes the fewest iterations among those whose UAS is at most `tolerance`
    below that of all iterations; -1, which never stops, where none is. Candidates are quantiles of the entropies of all
    iterations but the last."""
    whole, best, fewest = found.head_right[-1].mean(), -1.0, float(found.head_right.shape[0])
    early = found.entropy[:, :-1]  # where a sentence can stop before the end
    for threshold in (
        np.unique(np.quantile(early, np.linspace(0, 1, candidates), method="higher")) if early.size else ()
    ):
        stopped = found.stopping(Rule("entropy", float(threshold)))
        if stopped.at_exit[0].mean() >= whole - tolerance and stopped.steps.mean() < fewest:
            best, fewest = float(threshold), stopped.steps.mean()
    return best


@torch.no_grad()
def evaluate(model: Parser, sentences: Sequence[Sentence], encoded: Sequence[dict]) -> Evaluation:
    """The parser's trees after every iteration compared with the gold trees. encoded: arrays of the sentences."""
    plain, S = _plain_labels(model), model.num_iterations
    head_right, label_right, losses = ([None] * len(sentences) for _ in range(3))
    entropy, steps = np.zeros((len(sentences), S), np.float32), np.zeros(len(sentences), int)
    for indices, batch in length_batches(encoded, model.device):
        unrolled = model.unroll(batch)
        entropy[indices] = unrolled.entropy.float().cpu().numpy()
        steps[indices] = model.halting_steps(unrolled).cpu().numpy()
        decoded = [decode(model, z, unrolled.mask) for z in unrolled.states]
        loss = [F.cross_entropy(arcs.mT, batch["heads"], reduction="none").cpu().numpy() for _, _, arcs in decoded]
        for row, i in enumerate(indices):
            gold = np.array(sentences[i].heads)
            head_right[i] = np.stack([trees[row] for trees, _, _ in decoded]) == gold  # (S, n)
            names = plain[np.stack([labels[row] for _, labels, _ in decoded])]
            label_right[i] = head_right[i] & (names == np.array(sentences[i].plain_labels))
            losses[i] = np.stack([part[row, : len(gold)] for part in loss])
    heads = np.concatenate([np.array(s.heads) for s in sentences])
    position = np.concatenate([np.arange(1, len(s.words) + 1) for s in sentences])
    return Evaluation(
        sentence=np.repeat(np.arange(len(sentences)), [len(s.words) for s in sentences]),
        distance=np.where(heads == 0, 0, np.abs(heads - position)),
        label=np.concatenate([np.array(s.plain_labels) for s in sentences]),
        head_right=np.concatenate(head_right, 1),
        label_right=np.concatenate(label_right, 1),
        loss=np.concatenate(losses, 1),
        entropy=entropy,
        steps=steps,
    )


def sentence_interval(sentences: pd.DataFrame, arm: str, baseline: str, resamples: int, coverage: float) -> tuple:
    """Bootstrap interval (low, high) of the difference in UAS of two arms over test sentences, of the seeds that both have.

    sentences: arm, seed, sentence, right, words; a row per run and sentence (`Evaluation.by_sentence`).
    """
    words = sentences.groupby("sentence")["words"].first().to_numpy()
    right = sentences.pivot_table(index="sentence", columns=["arm", "seed"], values="right")
    gain = (right[arm] - right[baseline]).dropna(axis=1).mean(1).to_numpy()  # seeds of one arm alone are dropped
    return stats.bootstrap_ci(lambda counts: (counts @ gain) / (counts @ words), len(words), resamples, coverage)


def attention_of_heads(model: Parser, unrolled: Unrolled) -> Iterator[Tensor]:
    """Attention of each head in each iteration on the one sentence of a batch: S of (N, T, T)."""
    z = unrolled.encoded
    for t, after in enumerate(unrolled.states):
        yield model.blocks[0].attention(model.injected(z, unrolled.encoded if t else None))
        z = after


@torch.no_grad()
def heads_table(model: Parser, sentences: Sequence[Sentence], encoded: Sequence[dict]) -> pd.DataFrame:
    """What the heads of a parser that routes do, over all words: a row per iteration and head with its `weight` by the
    controller, its attention to the word's own head in the gold tree, `to_head`, and the mean distance that it looks, `reach`,
    in words. Words whose head is the root count for weight and reach alone."""
    S, N = model.num_iterations, model.config.num_heads
    weight, to_head, reach = (torch.zeros(S, N, dtype=torch.float64) for _ in range(3))
    words = governed = 0
    for sentence, arrays in zip(sentences, encoded):
        unrolled = model.unroll(batch_on(model.device, [arrays]))
        n, gold = len(sentence.words), torch.tensor(sentence.heads)
        inner = (gold > 0).nonzero().flatten()
        distance = (torch.arange(n)[:, None] - torch.arange(n)).abs().float()
        for t, looked in enumerate(attention_of_heads(model, unrolled)):
            looked = looked.cpu()
            weight[t] += unrolled.weights[t][0].sum(0).cpu()
            to_head[t] += looked[:, inner, gold[inner] - 1].sum(-1)
            reach[t] += (looked * distance).sum((1, 2))
        words, governed = words + n, governed + len(inner)
    index = pd.MultiIndex.from_product([range(1, S + 1), range(1, N + 1)], names=["iteration", "head"])
    columns = {"weight": weight / words, "to_head": to_head / max(governed, 1), "reach": reach / words}
    return pd.DataFrame({name: value.flatten().numpy() for name, value in columns.items()}, index).reset_index()


@dataclass(frozen=True)
class Trace:
    """What a parser computes in S iterations on a sentence of n words."""

    trees: list[tuple[list[int], list[str]]]  # heads and labels
    weights: np.ndarray  # (S, n, N) of the controller
    attention: np.ndarray  # (S, n, n) of the heads, weighted by the controller


@torch.no_grad()
def trace(model: Parser, arrays: dict[str, np.ndarray]) -> Trace:
    """Every iteration of a parser that routes, on the arrays of one sentence."""
    unrolled = model.eval().unroll(batch_on(model.device, [arrays]))
    trees, attention = [], []
    for looked, z, weights in zip(attention_of_heads(model, unrolled), unrolled.states, unrolled.weights):
        (heads,), (ids,), _ = decode(model, z, unrolled.mask)
        trees.append((heads.tolist(), [model.vocabulary["labels"][i] for i in ids]))
        attention.append(torch.einsum("tn,nts->ts", weights[0], looked))
    return Trace(trees, torch.cat(unrolled.weights).cpu().numpy(), torch.stack(attention).cpu().numpy())


@torch.no_grad()
def speed(model: Parser, encoded: Sequence[dict], batch_size: int = 64, rounds: int = 3) -> dict[str, float]:
    """Sentences per second in batches of similar length, and the time of scoring and decoding over that of the rest (embedding,
    convolutions, iterations). Best of `rounds`."""
    order = np.argsort([len(arrays["words"]) for arrays in encoded], kind="stable")
    parts = np.array_split(order, max(round(len(order) / batch_size), 1))
    batches = [batch_on(model.device, [encoded[i] for i in part]) for part in parts]
    encoder = decoder = float("inf")
    for _ in range(rounds):
        seconds = [0.0, 0.0]
        for batch in batches:
            started = time.perf_counter()
            z, mask, _ = model.early_exit(batch)
            if z.is_cuda:
                torch.cuda.synchronize()
            encoded_at = time.perf_counter()
            decode(model, z, mask)
            seconds[0] += encoded_at - started
            seconds[1] += time.perf_counter() - encoded_at
        encoder = min(encoder, seconds[0])
        decoder = min(decoder, seconds[1])
    rate = len(encoded) / (encoder + decoder)
    return {"parse/sentences_per_second": rate, "parse/decoding_over_encoder": decoder / encoder}
