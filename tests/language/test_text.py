"""Texts from files: documents, parts, sequences, and what is said of a broken line."""

import gzip
import json
import lzma
from itertools import islice

import numpy as np
import pytest

from trm.errors import UserError
from trm.language.stories import completion, make_tokenizer, problems, prompt
from trm.language.text import documents, part_of, read_sequences, sequences, shuffled


def test_works_and_paragraphs(tmp_path):
    (tmp_path / "a.txt").write_text("### one\nA line.\n\nAnother.\n### two\nB.\n", encoding="utf-8")
    assert list(documents(str(tmp_path / "a.txt"))) == [["A line.\n\nAnother.\n"], ["B.\n"]]
    (tmp_path / "b.txt").write_text("A line.\nsame.\n\n\nB.\n", encoding="utf-8")
    assert list(documents(str(tmp_path / "b.txt"))) == [["A line.\nsame.\n"], ["B.\n"]]


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    for name, text, found in (
        ("a.txt", "### one\nA.\n### two\nB.\n", ["A.\n", "B.\n"]),
        ("a.jsonl", '{"text": "x"}', ["x"]),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert list(documents(str(tmp_path / name))) == [[text] for text in found]


@pytest.mark.parametrize("opener, ending", [(open, ""), (gzip.open, ".gz"), (lzma.open, ".xz")])
def test_lines_of_json(tmp_path, opener, ending):
    path = tmp_path / f"a.jsonl{ending}"
    texts = ["one", ["two", " ", "three"], [{"role": "user", "content": "four"}, {"content": "five"}]]
    with opener(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps({"text": text}) for text in texts) + "\n\n")
    assert list(documents(str(path))) == [["one"], ["two", "three"], ["four\nfive"]]
    path.unlink()
    with opener(path, "wt", encoding="utf-8") as file:
        file.write('{"question": "q", "answer": "a"}\n')
    assert list(documents(str(path))) == [["q"]] and list(documents(str(path), "answer")) == [["a"]]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "a.jsonl, line 2: is not JSON"),
        ("a.jsonl", '{"body": "x"}\n', "line 1: no field text nor question nor generations; it has body"),
        ("a.jsonl", '{"text": 3}\n', "line 1: the field text is not a text"),
        ("a.jsonl", "[1, 2]\n", "line 1: is not an object with fields"),
        ("a.jsonl", "\n", "holds no text"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.csv", "x", r"give a .txt or .jsonl file"),
        ("a.txt.xz", "no xz", "cannot be read to its end"),
        ("a.txt", None, "a.txt: no such file"),
        ("a.jsonl", r'{"text": "\ud800"}', "line 1: holds one half of a surrogate pair"),
        ("a.jsonl", "[" * 9**5, "line 1: is not JSON"),
        ("a.jsonl", f'{{"text": {"1" * 5000}}}', "line 1: is not JSON"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        list(documents(str(tmp_path / name)))


def test_parts_share_no_document():
    texts = [[f"document {i % 37}", f"and its other text, {i % 37}"] for i in range(60)]
    parts = {part: list(part_of(iter(texts), part)) for part in ("train", "valid", "test")}
    every = sum(parts.values(), [])
    assert len(every) == len(set(every)) == 2 * 37
    assert [len(parts[part]) for part in ("train", "valid", "test")] == [62, 6, 6]  # 37 is 3 * 10 + 7
    for found in parts.values():  # the texts of a document stay together
        assert {t.split()[-1] for t in found[::2]} == {t.split()[-1] for t in found[1::2]}


def test_sequences_take_from_each_text_in_turn():
    encode = lambda text: [int(c) for c in text]  # noqa: E731
    texts = ["1" * 40, "2" * 25, "3" * 5, "4" * 12]
    found = sequences(iter(texts), encode, length=10, count=7)
    assert [(ids[0], len(ids)) for ids in found] == [(1, 10), (2, 10), (4, 10), (1, 10), (2, 10), (1, 10), (1, 10)]
    assert len(sequences(iter(texts), encode, 10, 3)) == 3


def test_real_texts(real_data):
    books = list(documents(str(real_data / "text" / "gutenberg17.txt.xz")))
    assert len(books) == 17 and sum(len(text) for (text,) in books) > 7_000_000


def test_every_sequence_comes_once_an_epoch():
    epoch = [shuffled(10, 4, seed=1, step=step) for step in range(3)]  # two rows of the last batch come again
    assert sorted(set(np.concatenate(epoch))) == list(range(10)) and len(set(np.concatenate(epoch)[:10])) == 10
    assert not np.array_equal(np.concatenate(epoch), np.concatenate([shuffled(10, 4, 1, step) for step in range(3, 6)]))
    assert np.array_equal(shuffled(10, 4, 1, 2), epoch[2]) and len(shuffled(3, 8, 0, 5)) == 8


def test_sequences_of_a_file_by_part(tmp_path):
    class Characters:
        def encode(self, text, add_special_tokens=True, verbose=True):
            return [1] * add_special_tokens + [ord(c) for c in text]

    path, counts = tmp_path / "a.txt", {"train": 9, "valid": 9, "test": 9}
    path.write_text("\n\n".join(f"Document {i} of a file." for i in range(10)), encoding="utf-8")
    found = read_sequences(Characters(), str(path), counts, 50)
    assert {part: len(ids) for part, ids in found.items()} == {"train": 8, "valid": 1, "test": 1}
    assert found["test"][0][0] == 1 and "".join(map(chr, found["test"][0][1:])) == "Document 9 of a file."
    path.write_text("\n\n".join(f"Here is document {i} of a few." for i in range(3)), encoding="utf-8")
    with pytest.raises(UserError, match="no sequence of 8 tokens for valid; give at least ten"):
        read_sequences(Characters(), str(path), counts, 50)
    with pytest.raises(UserError, match="with another give text_path"):
        read_sequences(Characters(), "", counts, 50)


def test_stories_are_sequences_too():
    tokenizer, drawn = make_tokenizer(texts=500), list(islice(problems("train", 3), 5))
    for thinking in (False, True):
        found = read_sequences(tokenizer, "", {"train": 5}, 99, seed=3, thinking=thinking)["train"]
        expected = [prompt(p, thinking) + completion(p, thinking) for p in drawn]
        assert [tokenizer.decode(ids) for ids in found] == expected
