"""Arithmetic word problems: answers by an independent reading of their words, splits, tokens."""

import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.errors import UserError
from trm.language.stories import (
    SENTENCES,
    Problem,
    ReasoningBatches,
    completion,
    make_tokenizer,
    problems,
    prompt,
    read_answer,
)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(texts=3000)


def some(part="train", seed=0, count=300, **steps):
    return list(islice(problems(part, seed, **steps), count))


def solved_from_the_words(question):
    """The answer, read from the words alone."""
    first, *sentences, asked = re.split(r"(?<=[.?]) ", question)
    total = int(re.search(r"has (\d+)", first).group(1))
    for sentence in sentences:
        number = int((re.search(r"\d+", sentence) or [0])[0])
        if "doubles" in sentence or "twice" in sentence:
            total *= 2
        elif re.search(r"buys|finds|brings|wins", sentence):
            total += number
        else:
            assert re.search(r"gives|loses|sells|takes", sentence), sentence
            total -= number
    person, thing = re.match(r"(\w+) has \d+ (\w+)\.", first).groups()
    assert asked == f"How many {thing} does {person} have?"
    return total


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_words_chain_and_answer_agree(seed):
    for problem in some(seed=seed, count=5, min_steps=1, max_steps=9):
        assert solved_from_the_words(problem.question) == problem.answer
        lines = [line for line in problem.chain.split(";") if line]
        assert len(lines) == len(problem.steps)
        before = problem.start
        for line in lines:
            left, right = line.split("=")
            assert eval(left) == int(right) and left.startswith(str(before))
            before = int(right)
            assert 0 <= before <= 99
        assert before == problem.answer


def test_a_problem_by_hand():
    problem = Problem(12, (("+", 5), ("*", 2), ("-", 4)), words=0)
    assert problem.totals == [17, 34, 30] and problem.chain == "12+5=17;17*2=34;34-4=30;"
    assert completion(problem, True) == "12+5=17;17*2=34;34-4=30;</think>30<eos>"
    assert prompt(problem, False).endswith("have? /no_think<think></think>") and completion(problem, False) == "30<eos>"


def test_every_sentence_and_length_occurs_and_equal_seeds_are_equal():
    found = some(count=2000)
    lengths = np.bincount([len(p.steps) for p in found])[2:]
    assert len(lengths) == 5 and lengths.min() > 300
    assert some(count=20) == some(count=20) and some(count=20) != some(seed=1, count=20)
    text = " ".join(p.question for p in found)
    for sentences in SENTENCES.values():
        for sentence in sentences:
            assert re.search(re.sub(r"\\{\w\\}", r"\\w+", re.escape(sentence)), text), sentence


def test_no_problem_is_in_two_parts():
    parts = {part: {(p.start, p.steps) for p in some(part, count=3000)} for part in ("train", "valid", "test")}
    assert (
        not parts["train"] & parts["test"]
        and not parts["train"] & parts["valid"]
        and not parts["valid"] & parts["test"]
    )
    assert {p.split for p in some("test", seed=5, count=50)} == {"test"}
    same_arithmetic = Problem(3, (("+", 4),), words=1), Problem(3, (("+", 4),), words=2)
    assert (
        same_arithmetic[0].question != same_arithmetic[1].question
        and same_arithmetic[0].split == same_arithmetic[1].split
    )


def test_bad_requests():
    with pytest.raises(UserError, match="no split 'dev'"):
        next(problems("dev", 0))
    with pytest.raises(UserError, match="min_steps 3, max_steps 2"):
        next(problems("train", 0, 3, 2))


@pytest.mark.parametrize(
    "text, answer",
    [
        ("1+2=3;</think>3<eos>", 3), ("7<eos>", 7), (" 12 <eos>9", 12), ("</think></think>5", 5), ("1+2=3;", None),
        ("3.5<eos>", None), ("-4<eos>", -4), ("", None), ("3 4<eos>", None), ("</think><eos>", None), ("٣<eos>", 3),
        ("9" * 30, None),
    ],
)  # fmt: skip
def test_answers_are_read_from_awkward_strings(text, answer):
    assert read_answer(text) == answer


def test_the_tokenizer_gives_words_back_and_knows_the_template(tokenizer):
    problem = some(count=1)[0]
    for text in (prompt(problem, True) + completion(problem, True), "Ünïcode, 123 dogs\n\tok 🙂"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(" /think<think>12+5=17;</think>"))
    assert tokens[1:3] == ["/think", "<think>"] and tokens[-1] == "</think>" and "17" in tokens
    assert len({len(tokenizer.encode(f"{n}")) for n in range(100)}) == 1  # numbers are one token each
    messages = [{"role": "user", "content": problem.question}]
    for thinking in (True, False):
        made = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        assert made == prompt(problem, thinking)


def test_batches_weigh_what_is_to_be_written(tokenizer):
    batches = ReasoningBatches(tokenizer, 6, 0, 2, 3, question_weight=0.25)
    batch = batches(4)
    places = batch.pop("places")
    assert {name: part.shape for name, part in batch.items()} == dict.fromkeys(batch, batch["input_ids"].shape)
    for row in range(6):  # with a weight on the prompt too, all that follows the first token is learned
        real = (batch["labels"][row] != -100).sum()
        assert places[row, : real - 1].tolist() == list(range(real - 1))
    for row in range(6):
        real = batch["labels"][row] != -100
        assert (batch["labels"][row][real] == batch["input_ids"][row][real]).all()
        assert (batch["weights"][row][~real] == 0).all() and set(batch["weights"][row][real]) == {0.25, 1.0}
        written = tokenizer.decode(batch["input_ids"][row][batch["weights"][row] == 1])
        asked = tokenizer.decode(batch["input_ids"][row][batch["weights"][row] == 0.25])
        assert written.endswith("<eos>") and ("</think>" in written) == (row % 2 == 0)
        assert asked.endswith("<think>" if row % 2 == 0 else "</think>")
    assert all((batches(4)[name] == batch[name]).all() for name in batch)
    assert (
        batches(5)["input_ids"].shape != batch["input_ids"].shape
        or (batches(5)["input_ids"] != batch["input_ids"]).any()
    )
