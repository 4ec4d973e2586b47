"""Treebanks: known counts of a real one, skipped lines, trees, and what is said of broken lines."""

import gzip
import lzma
from unittest.mock import Mock

import datasets
import pytest

from trm.parsing.treebank import (
    UD_ON_THE_HUB,
    Sentence,
    TreebankError,
    load_treebank,
    part_of_name,
    read_conllu,
    sentence_of_row,
)

GOOD = """# sent_id = 1
1\tShe\tshe\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\tdoesn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdoes\tdo\tVERB\tVBZ\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\tempty\tempty\tVERB\tVB\t_\t_\t_\t2:conj\t_
4\this\this\tPRON\tPRP$\t_\t2\tnmod:poss\t_\t_

1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
"""


def test_words_alone_are_read(tmp_path):
    for opener, name in ((open, "a.conllu"), (gzip.open, "a.conllu.gz"), (lzma.open, "a.conllu.xz")):
        with opener(tmp_path / name, "wt", encoding="utf-8") as file:
            file.write(GOOD)
        first, second = read_conllu(tmp_path / name)
        assert first.words == ("She", "does", "n't", "his") and first.heads == (2, 0, 2, 2)
        assert first.labels[3] == "nmod:poss" and first.plain_labels[3] == "nmod" and first.tags[0] == "PRON"
        assert second == Sentence(("Yes",), ("INTJ",), (0,), ("root",))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("\t2\tadvmod\t_\t_", "\tx\tadvmod\t_\t_", "line 5: Failed parsing field 'head'"),
        ("\t2\tadvmod\t_\t_", "\t2\tadvmod", "line 5: has 8 columns"),
        ("\t2\tadvmod", "\t_\tadvmod", "line 5: word 3 has no head"),
        ("\t2\tadvmod", "\t9\tadvmod", "lines 2 to 7: not a tree: a head is outside 0 to 4"),
        ("\t2\tadvmod", "\t0\tadvmod", "lines 2 to 7: not a tree: 2 words have the head 0"),
        ("\t2\tadvmod", "\t3\tadvmod", "lines 2 to 7: not a tree: word 3 is its own ancestor"),
        ("4\this", "5\this", "line 7: word 5 instead of word 4"),
        ("\n\n1\tYes", "\n1\tYes", "line 8: a sentence begins; an empty line is missing before it"),
    ],
)
def test_broken_lines_are_named(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    (tmp_path / "a.conllu").write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(TreebankError, match=f"a.conllu, {message}"):
        read_conllu(tmp_path / "a.conllu")


BROKEN = {
    "a.txt": (b"x", "not a .conllu file"),
    "a.conllu": (b"\n# x\n\n", "contains no sentence"),
    "b.conllu": (None, "no such file"),
    "b.conllu.xz": (lzma.compress(GOOD.encode())[:-20], "cannot be read to its end"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_none(tmp_path, name):
    content, message = BROKEN[name]
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TreebankError, match=message):
        read_conllu(tmp_path / name)


def test_a_treebank_without_its_text_is_refused(tmp_path):
    words = [line.split("\t") for line in GOOD.splitlines()]
    text = "\n".join("\t".join([c[0], "_", *c[2:]]) if c[1:] else c[0] for c in words)
    (tmp_path / "a.conllu").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(TreebankError, match="a.conllu: every word is '_'"):
        read_conllu(tmp_path / "a.conllu")


@pytest.mark.parametrize("words", ["The old dog", ["a", 3], ["a", ""], ["\ud800"]])
def test_what_is_not_words_is_refused(words):
    with pytest.raises(TreebankError):
        Sentence.of(words)


def test_crossing_arcs():
    flat = ("a",) * 4
    assert Sentence(flat, flat, (2, 0, 2, 3), flat).is_projective
    assert not Sentence(flat, flat, (3, 4, 0, 3), flat).is_projective


def test_a_real_treebank(real_data):
    """Counts of UD English EWT 2.15, as its stats.xml gives them."""
    files = {part: real_data / "ud_ewt" / f"en_ewt-ud-{part}.conllu.xz" for part in ("train", "dev", "test")}
    parts = {part: read_conllu(path) for part, path in files.items()}
    assert {part: len(found) for part, found in parts.items()} == {"train": 12544, "dev": 2001, "test": 2077}
    words = {part: sum(len(s.words) for s in found) for part, found in parts.items()}
    assert sum(words.values()) == 254_818 and words["train"] == 204_577
    assert all(len(s.words) == len(s.heads) == len(s.labels) == len(s.tags) for s in parts["test"])
    assert any(not s.is_projective for s in parts["dev"])
    assert max(load_treebank(str(real_data / "ud_ewt")).shared().values()) < 0.06 * 2000


def conllu(sentences):
    """The sentences of `flat` as CoNLL-U."""
    return "".join(f"1\t{s.words[0]}\t_\tX\t_\t_\t0\troot\t_\t_\n2\tb\t_\tX\t_\t_\t1\tdep\t_\t_\n\n" for s in sentences)


def flat(*names):
    return [Sentence((name, "b"), ("X", "X"), (0, 1), ("root", "dep")) for name in names]


def test_a_folder_has_a_file_for_each_part(tmp_path):
    for part, names in (("train", "xyz"), ("dev", "xq"), ("test", "pzy")):
        (tmp_path / f"xx_ud-{part}.conllu").write_text(conllu(flat(*names)), encoding="utf-8")
    (tmp_path / "README.md").write_text("of train and test", encoding="utf-8")
    bank = load_treebank(str(tmp_path))
    assert bank.train == flat(*"xyz") and bank.dev == flat(*"xq") and bank.test == flat(*"pzy")
    assert bank.shared() == {"dev": 1, "test": 2}
    (tmp_path / "xx_ud-dev.conllu").rename(tmp_path / "xx.conllu")
    with pytest.raises(TreebankError, match="for 'dev', there are 0 .*single file"):
        load_treebank(str(tmp_path))
    (tmp_path / "._xx-dev.conllu").write_bytes(b"\xff")  # as macOS leaves beside a file
    (tmp_path / "hi_devanagari.conllu").write_text("", encoding="utf-8")
    with pytest.raises(TreebankError, match="for 'dev', there are 0"):
        load_treebank(str(tmp_path))
    for name, word in (("valid-a", "x"), ("valid-b-1", "y")):
        (tmp_path / f"xx-{name}.conllu").write_text(conllu(flat(word)), encoding="utf-8")
    assert load_treebank(str(tmp_path)).dev == flat("x", "y")
    for path in tmp_path.glob("*valid*"):
        path.unlink()
    (tmp_path / "dev_a.conllu").write_text(conllu(flat("x")), encoding="utf-8")
    (tmp_path / "dev_b.conllu").write_text(conllu(flat("y")), encoding="utf-8")
    with pytest.raises(TreebankError, match="for 'dev', there are 2 .dev_a.conllu, dev_b.conllu"):
        load_treebank(str(tmp_path))


@pytest.mark.parametrize("name, part", [
    ("hi_devanagari-ud-train.conllu", "train"), ("LATEST-ud-dev.conllu.xz", "dev"), ("contest-train.conllu", "train"),
    ("trainbank-ud-test.conllu", "test"), ("test-suite-ud-train-a-1.conllu", "train"), ("dev_valid.conllu", "dev"),
    ("devanagari.conllu", ""), ("xx-training.conllu", "train"), ("xx-ud-train-1.conllu.gz", "train"), ("x.test", "test"),
])  # fmt: skip
def test_the_part_that_a_name_says(name, part):
    assert part_of_name(name) == part


def test_bad_sentences_can_be_left_out(tmp_path):
    for part in ("train", "dev", "test"):
        (tmp_path / f"x-{part}.conllu").write_text(conllu(flat("x", "y")) + GOOD, encoding="utf-8")
    bad = (tmp_path / "x-train.conllu").read_text(encoding="utf-8").replace("\t2\tadvmod", "\t9\tadvmod")
    (tmp_path / "x-train.conllu").write_text(bad, encoding="utf-8")
    with pytest.raises(TreebankError, match="x-train.conllu, lines 8 to 13: not a tree"):
        load_treebank(str(tmp_path))
    bank = load_treebank(str(tmp_path), skip_bad=True)
    assert [len(getattr(bank, part)) for part in ("train", "dev", "test")] == [3, 4, 4]
    assert len(bank.skipped) == 1 and "x-train.conllu, lines 8 to 13: not a tree: a head is outside" in bank.skipped[0]
    (tmp_path / "x-train.conllu").write_text(
        bad.partition("# sent_id")[2].partition("\n")[2].partition("\n1\tYes")[0], encoding="utf-8"
    )
    with pytest.raises(TreebankError, match="contains no sentence that is whole; .*not a tree"):
        load_treebank(str(tmp_path), skip_bad=True)


def test_a_test_part_alone_cannot_be_trained_on(tmp_path):
    for name in ("xx_pud-ud-test-a.conllu", "xx_pud-ud-test-b.conllu"):
        (tmp_path / name).write_text(conllu(flat("x")), encoding="utf-8")
    with pytest.raises(TreebankError, match="a test part alone .*can be judged: trm parse --model FOLDER --score FILE"):
        load_treebank(str(tmp_path))


def test_a_single_file_is_cut_and_its_parts_share_nothing(tmp_path):
    names = [f"w{i}" for i in range(18)] + ["w0", "w19"]  # one that stands at the beginning and in the last part
    (tmp_path / "all.conllu").write_text(conllu(flat(*names)), encoding="utf-8")
    bank = load_treebank(str(tmp_path / "all.conllu"))
    assert bank.train == flat(*names[:16]) and bank.dev == flat(*names[16:18]) and bank.test == flat("w19")
    assert load_treebank(str(tmp_path)) == bank
    (tmp_path / "few.conllu").write_text(conllu(flat("a", "b")), encoding="utf-8")
    with pytest.raises(TreebankError, match="2 sentences are too few"):
        load_treebank(str(tmp_path / "few.conllu"))


ROW = {
    "tokens": ["She", "doesn't", "does", "n't", "his"],
    "upos": ["PRON", "_", "VERB", "PART", "PRON"],
    "head": ["2", "None", "0", "2", "2"],
    "deprel": ["nsubj", "_", "root", "advmod", "nmod:poss"],
}


def test_rows_of_the_hub(monkeypatch):
    rows, asked = datasets.Dataset.from_list([ROW]), []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    bank = load_treebank("hub:en_ewt")
    labels = tuple(ROW["deprel"][i] for i in (0, 2, 3, 4))
    wanted = Sentence(("She", "does", "n't", "his"), ("PRON", "VERB", "PART", "PRON"), (2, 0, 2, 2), labels)
    assert bank.train == bank.dev == bank.test == [wanted]
    assert asked == [(UD_ON_THE_HUB, "en_ewt", part) for part in ("train", "validation", "test")]
    load_treebank("hub:me/mine:xx")
    assert asked[-1] == ("me/mine", "xx", "test")
    numbered = datasets.Features({"upos": datasets.Sequence(datasets.ClassLabel(names=["_", "PART", "PRON", "VERB"]))})
    assert sentence_of_row({**ROW, "upos": [2, 0, 3, 1, 2]}, numbered, "row") == wanted
    for broken, message in (
        ({**ROW, "head": ["0", "None", "0", "2", "2"]}, "row 7: not a tree: 2 words have the head 0"),
        ({"tokens": ["a"]}, "row 7: requires tokens, upos, head and deprel"),
    ):
        with pytest.raises(TreebankError, match=message):
            sentence_of_row(broken, {}, "row 7")


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", Mock(side_effect=ConnectionError("no route")))
    with pytest.raises(TreebankError, match="en_ewt, train: not readable .no route.; is there a network"):
        load_treebank("hub:en_ewt")
