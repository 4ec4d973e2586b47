"""Arithmetic word problems of several steps, each with its chain of thought: unlimited, seeded, split by problem.

Emma has 12 apples. She buys 5 more. She doubles them. How many apples does Emma have?
<think>12+5=17;17*2=34;</think>34
"""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trm.errors import UserError
from trm.losses import IGNORE_INDEX, pad

SPLITS = ("train", "valid", "test")
LARGEST = 99  # largest total
OPERAND = 20  # largest number that is added or subtracted

WOMEN = ["Emma", "Ada", "Mia", "Lily", "Zoe", "Ruth", "Nora", "Ivy", "Clara", "Alice", "Eva", "Rosa"]
MEN = ["Tom", "Ben", "Max", "Leo", "Sam", "Paul", "Hugo", "Oscar", "Jack", "Noah", "Finn", "Carl"]
OBJECTS = [
    "apples", "pears", "stamps", "coins", "books", "cards", "shells", "marbles", "pens", "plums", "nuts", "beads",
]  # fmt: skip

# Sentences of a step: {P} the pronoun of the person, {n} the number, {o} another person.
SENTENCES = {
    "+": ["{P} buys {n} more.", "{P} finds {n} more.", "{o} brings {n} more.", "{P} wins {n}."],
    "-": ["{P} gives {n} to {o}.", "{P} loses {n}.", "{P} sells {n}.", "{o} takes {n}."],
    "*": ["{P} doubles them.", "Then there are twice as many."],
}


@dataclass(frozen=True)
class Problem:
    """A story of `start` objects and steps (operation, number): "+" or "-" with 1 to 20, or "*" with 2; `words`: its seed."""

    start: int
    steps: tuple[tuple[str, int], ...]
    words: int

    @cached_property
    def totals(self) -> list[int]:
        """The number of objects after each step."""
        totals, total = [], self.start
        for operation, number in self.steps:
            total = {"+": total + number, "-": total - number, "*": total * number}[operation]
            totals.append(total)
        return totals

    @property
    def answer(self) -> int:
        """The number of objects in the end."""
        return self.totals[-1]

    @cached_property
    def question(self) -> str:
        """The story and the question, in words."""
        draw = random.Random(self.words)
        people, pronoun = draw.choice([(WOMEN, "She"), (MEN, "He")])
        person, thing = draw.choice(people), draw.choice(OBJECTS)
        others = [name for name in WOMEN + MEN if name != person]
        sentences = [f"{person} has {self.start} {thing}."]
        for operation, number in self.steps:
            sentences.append(draw.choice(SENTENCES[operation]).format(P=pronoun, n=number, o=draw.choice(others)))
        return " ".join([*sentences, f"How many {thing} does {person} have?"])

    @property
    def chain(self) -> str:
        """The chain of thought: 12+5=17;17*2=34;"""
        before = [self.start, *self.totals]
        return "".join(f"{a}{op}{n}={b};" for a, (op, n), b in zip(before, self.steps, self.totals))

    @property
    def split(self) -> str:
        """Its part, a hash of the arithmetic alone: problems that differ only in words are in the same part."""
        text = f"{self.start} {self.steps}".encode()
        part = hashlib.sha256(text).digest()[0]
        return "test" if part < 32 else "valid" if part < 64 else "train"


def problems(split: str, seed: int, min_steps: int = 2, max_steps: int = 6) -> Iterator[Problem]:
    """An endless stream of problems of one part, the same for equal arguments; their number of steps is uniform from
    min_steps to max_steps. No problem occurs in two parts (`Problem.split`)."""
    if split not in SPLITS or not 1 <= min_steps <= max_steps:
        raise UserError(
            f"no problems of {split!r} ({', '.join(SPLITS)}) with min_steps {min_steps}, max_steps {max_steps}"
        )
    draw = random.Random(f"{split} {seed}")
    while True:
        length = draw.randint(min_steps, max_steps)
        while (problem := _draw(draw, length)).split != split:
            pass
        yield problem


def _draw(draw: random.Random, length: int) -> Problem:
    """A problem of `length` steps whose totals stay from 0 to LARGEST."""
    total = start = draw.randint(1, OPERAND)
    steps = []
    for _ in range(length):
        possible = ["+", "+"] * (total < LARGEST) + ["-", "-"] * (total > 0) + ["*"] * (0 < total <= LARGEST // 2)
        operation = draw.choice(possible)
        limit = {"+": LARGEST - total, "-": total, "*": 2}[operation]
        number = 2 if operation == "*" else draw.randint(1, min(OPERAND, limit))
        total = {"+": total + number, "-": total - number, "*": total * number}[operation]
        steps.append((operation, number))
    return Problem(start, tuple(steps), draw.getrandbits(32))


SPECIAL = ("<pad>", "<bos>", "<eos>", "<think>", "</think>", "/think", "/no_think")
# As in SmolLM3: the mode is in the prompt; without thinking the chain is empty.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %} /no_think<think></think>"
    "{% else %} /think<think>{% endif %}{% endif %}"
)


def prompt(problem: Problem, thinking: bool) -> str:
    """The prompt: question, mode, and the token that opens the chain of thought (or an empty chain)."""
    return f"<bos>{problem.question} " + ("/think<think>" if thinking else "/no_think<think></think>")


def completion(problem: Problem, thinking: bool) -> str:
    """The target completion: the chain where `thinking`, and the answer."""
    return (f"{problem.chain}</think>" if thinking else "") + f"{problem.answer}<eos>"


def read_answer(text: str) -> int | None:
    """The answer in a completion: the whole number after the last `</think>`, up to `<eos>`; None where there is none."""
    answer = text.split("<eos>")[0].split("</think>")[-1].strip()
    return int(answer) if re.fullmatch(r"-?\d{1,9}", answer) else None


def make_tokenizer(texts: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts` problems: each of their words and numbers is one token."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?\d{1,2}| ?[A-Za-z]+|\s+|[^\sA-Za-z\d]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    corpus = (f"{p.question} {p.chain}{p.answer}" for p in islice(problems("train", 0, 2, 9), texts))
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=list(SPECIAL), **options)
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left",
        extra_special_tokens=list(SPECIAL[3:]), chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def to_learn(rows: Sequence[tuple[list[int], list[int]]], pad_id: int, question_weight: float) -> dict[str, np.ndarray]:
    """Arrays for training on rows (prompt, completion) of token ids, padded on the right to the longest row.

    input_ids, labels (`IGNORE_INDEX` after the end), weights (1 in the completion, `question_weight` in the prompt): (B, T);
    places (B, M): the positions whose next token has a weight, in order, and others after them in a row with fewer than M.
    """
    tokens = [prompt_ids + completion_ids for prompt_ids, completion_ids in rows]
    weights = [[question_weight] * len(given) + [1] * len(written) for given, written in rows]
    weights = pad(weights, 0).astype(np.float32)
    learned = weights[:, 1:] > 0
    places = np.argsort(~learned, axis=1, kind="stable")[:, : max(learned.sum(1).max(), 1)]
    return {"input_ids": pad(tokens, pad_id), "labels": pad(tokens, IGNORE_INDEX), "weights": weights, "places": places}


def encode(tokenizer, some: Sequence[Problem], thinking: Sequence[bool]) -> list[tuple[list[int], list[int]]]:
    """(prompt, completion) of each problem as token ids, with its chain where `thinking` is true."""
    texts = ([of(p, t) for p, t in zip(some, thinking)] for of in (prompt, completion))
    return list(zip(*(tokenizer(part, add_special_tokens=False)["input_ids"] for part in texts)))


@dataclass(frozen=True)
class ReasoningBatches:
    """step -> arrays (`to_learn`) of new problems of the training part: a pure function of (seed, step).

    thinking: rows with their chain: "half" (every other), "all" or "none". alike: all problems of a batch have as many steps.
    """

    tokenizer: PreTrainedTokenizerFast
    batch_size: int
    seed: int
    min_steps: int
    max_steps: int
    question_weight: float
    thinking: str = "half"
    alike: bool = False

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The global batch of `step`."""
        seed, steps = self.seed * 1_000_003 + step + 1, (self.min_steps, self.max_steps)
        if self.alike:
            steps = 2 * (random.Random(f"steps {seed}").randint(*steps),)
        drawn = list(islice(problems("train", seed, *steps), self.batch_size))
        thinking = [self.thinking == "all" or self.thinking == "half" and i % 2 == 0 for i in range(self.batch_size)]
        rows = encode(self.tokenizer, drawn, thinking)
        return to_learn(rows, self.tokenizer.pad_token_id, self.question_weight)
