"""Arithmetic word problems of several steps, each with its chain of thought: unlimited, seeded, split by problem.

    Emma has 12 apples. She buys 5 more. She doubles them. How many apples does Emma have?
    <think>12+5=17;17*2=34;</think>34

What is asked for is hard to see at a glance and easy to write down step by step: that is what they are for.
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

SPLITS = ("train", "valid", "test")
LARGEST = 99  # no total is larger
OPERAND = 20  # numbers added and taken away are at most this

WOMEN = ["Emma", "Ada", "Mia", "Lily", "Zoe", "Ruth", "Nora", "Ivy", "Clara", "Alice", "Eva", "Rosa"]
MEN = ["Tom", "Ben", "Max", "Leo", "Sam", "Paul", "Hugo", "Oscar", "Jack", "Noah", "Finn", "Carl"]
OBJECTS = [
    "apples",
    "pears",
    "stamps",
    "coins",
    "books",
    "cards",
    "shells",
    "marbles",
    "pens",
    "plums",
    "nuts",
    "beads",
]

# What is said of a step: {P} the person as a pronoun, {n} a number, {o} another person.
SENTENCES = {
    "+": ["{P} buys {n} more.", "{P} finds {n} more.", "{o} brings {n} more.", "{P} wins {n}."],
    "-": ["{P} gives {n} to {o}.", "{P} loses {n}.", "{P} sells {n}.", "{o} takes {n}."],
    "*": ["{P} doubles them.", "Then there are twice as many."],
}


@dataclass(frozen=True)
class Problem:
    """A story: `start` objects, and steps (operation, number) done to them one after the other.

    operations: "+" and "-" with 1 to 20, "*" with 2. words: seeds the names, the objects and the sentences.
    """

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
        said = [f"{person} has {self.start} {thing}."]
        for operation, number in self.steps:
            said.append(draw.choice(SENTENCES[operation]).format(P=pronoun, n=number, o=draw.choice(others)))
        return " ".join([*said, f"How many {thing} does {person} have?"])

    @property
    def chain(self) -> str:
        """The chain of thought: 12+5=17;17*2=34;"""
        before = [self.start, *self.totals]
        return "".join(f"{a}{op}{n}={b};" for a, (op, n), b in zip(before, self.steps, self.totals))

    @property
    def split(self) -> str:
        """The part it belongs to, by its arithmetic alone: problems that differ in words only stand on the same side."""
        text = f"{self.start} {self.steps}".encode()
        part = hashlib.sha256(text).digest()[0]
        return "test" if part < 32 else "valid" if part < 64 else "train"


def problems(split: str, seed: int, min_steps: int = 2, max_steps: int = 6) -> Iterator[Problem]:
    """Problems of one part, without end; the number of steps is uniform over min_steps to max_steps.

    Equal arguments, equal problems. No problem of one part ever occurs in another: the part is a hash of its arithmetic.

    Raises:
        UserError: a part that does not exist, or steps that are none.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    if not 1 <= min_steps <= max_steps:
        raise UserError(f"min_steps {min_steps}, max_steps {max_steps}: wanted is 1 <= min_steps <= max_steps")
    draw = random.Random(f"{split} {seed}")
    while True:
        length = draw.randint(min_steps, max_steps)
        while (problem := _draw(draw, length)).split != split:
            pass
        yield problem


def _draw(draw: random.Random, length: int) -> Problem:
    """A problem of `length` steps whose totals stay within 0 and LARGEST."""
    total = start = draw.randint(1, OPERAND)
    steps = []
    for _ in range(length):
        possible = ["+", "+"] * (total < LARGEST) + ["-", "-"] * (total > 0) + ["*"] * (0 < total <= LARGEST // 2)
        operation = draw.choice(possible)
        room = {"+": LARGEST - total, "-": total, "*": 2}[operation]
        number = 2 if operation == "*" else draw.randint(1, min(OPERAND, room))
        total = {"+": total + number, "-": total - number, "*": total * number}[operation]
        steps.append((operation, number))
    return Problem(start, tuple(steps), draw.getrandbits(32))


# --- tokens ---------------------------------------------------------------------------------------------------

SPECIAL = ("<pad>", "<bos>", "<eos>", "<think>", "</think>", "/think", "/no_think")
# As SmolLM3's template does it: the mode stands in the prompt, and no thinking is a thought already ended.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %} /no_think<think></think>"
    "{% else %} /think<think>{% endif %}{% endif %}"
)


def prompt(problem: Problem, thinking: bool) -> str:
    """What a language model is given: the question, the mode, and the beginning of its thoughts (or their end)."""
    return f"<bos>{problem.question} " + ("/think<think>" if thinking else "/no_think<think></think>")


def completion(problem: Problem, thinking: bool) -> str:
    """What it should write then."""
    return (f"{problem.chain}</think>" if thinking else "") + f"{problem.answer}<eos>"


def read_answer(text: str) -> int | None:
    """The number that a completion gives as its answer: what stands between its last `</think>`, or its beginning, and
    `<eos>` or its end; None where that is no whole number."""
    said = text.split("<eos>")[0].split("</think>")[-1].strip()
    return int(said) if re.fullmatch(r"-?\d{1,9}", said) else None


def make_tokenizer(vocab_size: int = 600, texts: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer made from problems: each of their words and numbers is one token, and any other text
    can be written too, byte by byte in the worst case. Equal arguments, equal tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?\d{1,2}| ?[A-Za-z]+|\s+|[^\sA-Za-z\d]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    corpus = (f"{p.question} {p.chain}{p.answer}" for p in islice(problems("train", 0, 2, 9), texts))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
        extra_special_tokens=list(SPECIAL[3:]), padding_side="left",
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast


def to_learn(rows: Sequence[tuple[list[int], list[int]]], pad: int, question_weight: float) -> dict[str, np.ndarray]:
    """Rows (what is given, what should be written) as {"input_ids", "labels", "weights"}, (B, T) each, padded on the right; and
    "places" (B, M), the positions whose next token has a weight, in order, and others after them where a row has fewer than M.

    Labels are the tokens themselves, and -100 after the end; weights are 1 where the model should write and
    `question_weight` in what is given. T is the longest row's length.
    """
    length = max(len(given) + len(written) for given, written in rows)
    inputs = np.full((len(rows), length), pad, np.int64)
    labels = np.full((len(rows), length), -100, np.int64)
    weights = np.zeros((len(rows), length), np.float32)
    for row, (given, written) in enumerate(rows):
        end = len(given) + len(written)
        inputs[row, :end] = labels[row, :end] = given + written
        weights[row, : len(given)], weights[row, len(given) : end] = question_weight, 1
    learned = weights[:, 1:] > 0
    places = np.argsort(~learned, axis=1, kind="stable")[:, : max(learned.sum(1).max(), 1)]
    return {"input_ids": inputs, "labels": labels, "weights": weights, "places": places}


def encode(
    tokenizer: PreTrainedTokenizerFast, found: Sequence[Problem], thinks: Sequence[bool]
) -> list[tuple[list[int], list[int]]]:
    """Each problem's tokens, (prompt, completion), with its chain where `thinks` says so."""
    before = tokenizer([prompt(p, t) for p, t in zip(found, thinks)], add_special_tokens=False)["input_ids"]
    after = tokenizer([completion(p, t) for p, t in zip(found, thinks)], add_special_tokens=False)["input_ids"]
    return list(zip(before, after))


class ReasoningBatches:
    """step -> what `to_learn` makes of problems of the training part, drawn anew each step: a pure function of (seed, step).

    thinking: which rows write their chain: "half" (every other row), "all" or "none"; the others answer at once.
    alike: all problems of a batch have the same number of steps, so that little of it is padding.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        seed: int,
        min_steps: int,
        max_steps: int,
        question_weight: float,
        thinking: str = "half",
        alike: bool = False,
    ):
        self.tokenizer, self.batch_size, self.seed, self.alike = tokenizer, batch_size, seed, alike
        self.thinks = [thinking == "all" or thinking == "half" and i % 2 == 0 for i in range(batch_size)]
        self.steps, self.question_weight = (min_steps, max_steps), question_weight

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The global batch of `step`."""
        seed, steps = self.seed * 1_000_003 + step + 1, self.steps
        if self.alike:
            steps = 2 * (random.Random(f"steps {seed}").randint(*steps),)
        drawn = islice(problems("train", seed, *steps), self.batch_size)
        rows = encode(self.tokenizer, list(drawn), self.thinks)
        return to_learn(rows, self.tokenizer.pad_token_id, self.question_weight)
