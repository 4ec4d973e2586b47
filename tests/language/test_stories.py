"""Arithmetic word problems: answers by an independent reading of their words, splits, tokens."""

import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.errors import UserError
from trm.language import stories
from trm.language.stories import Problem, ReasoningBatches, completion, make_tokenizer, problems, prompt, read_answer


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
    for sentence in sum(stories.SENTENCES.values(), []):
        assert re.search(re.sub(r"\\{\w\\}", r"\\w+", re.escape(sentence)), text), sentence


def test_no_problem_is_in_two_parts():
    parts = {part: {(p.start, p.steps) for p in some(part, count=3000)} for part in ("train", "valid", "test")}
    assert len(set.union(*parts.values())) == sum(map(len, parts.values()))
    assert {p.split for p in some("test", seed=5, count=50)} == {"test"}
    one, two = (Problem(3, (("+", 4),), words=words) for words in (1, 2))  # the same arithmetic
    assert one.question != two.question and one.split == two.split


@pytest.mark.parametrize("asked", [("dev", 0), ("train", 0, 3, 2), ("train", 0, 0)])
def test_bad_requests(asked):
    with pytest.raises(UserError, match=f"no problems of '{asked[0]}' .* with min_steps"):
        next(problems(*asked))


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
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": thinking}
        assert tokenizer.apply_chat_template(messages, **options) == prompt(problem, thinking)


def test_batches_weigh_what_is_to_be_written(tokenizer):
    batches = ReasoningBatches(tokenizer, 6, 0, 2, 3, question_weight=0.25)
    batch = batches(4)
    places = batch.pop("places")
    assert {name: part.shape for name, part in batch.items()} == dict.fromkeys(batch, batch["input_ids"].shape)
    for row in range(6):
        real = batch["labels"][row] != -100
        following = real.sum() - 1  # with a weight on the prompt too, all that follows the first token is learned
        assert places[row, :following].tolist() == list(range(following))
        assert (batch["labels"][row][real] == batch["input_ids"][row][real]).all()
        assert (batch["weights"][row][~real] == 0).all() and set(batch["weights"][row][real]) == {0.25, 1.0}
        written = tokenizer.decode(batch["input_ids"][row][batch["weights"][row] == 1])
        asked = tokenizer.decode(batch["input_ids"][row][batch["weights"][row] == 0.25])
        assert written.endswith("<eos>") and ("</think>" in written) == (row % 2 == 0)
        assert asked.endswith("<think>" if row % 2 == 0 else "</think>")
    assert all((batches(4)[name] == batch[name]).all() for name in batch)
    assert not np.array_equal(batches(5)["input_ids"], batch["input_ids"])
