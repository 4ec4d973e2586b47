"""`trm parse`: what goes in, what comes out, and what is said of bad input."""

import io
import lzma
import re
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from trm.cli import main
from trm.parsing import grammar
from trm.parsing.batches import Vocabulary
from trm.parsing.command import LONGEST, SHIPPED, tree_lines
from trm.parsing.evaluate import parse
from trm.parsing.model import Parser, ParserConfig
from trm.parsing.params import Parsing
from trm.parsing.treebank import Sentence, read_conllu, tree_fault

BANK = grammar.treebank(3, train=30, dev=1, test=4)
GIVEN = """# sent_id = 7
# text = They don't bark
1\tThey\tthey\tPRON\t_\tCase=Nom\t4\tnsubj\t4:nsubj\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tX=1
2\tdo\tdo\tAUX\t_\t_\t_\t_\t_\t_
3\tn't\tnot\tPART\t_\t_\t_\t_\t_\t_
3.1\tever\t_\t_\t_\t_\t_\t_\t_\t_
4\tbark\tbark\tVERB\t_\t_\t_\t_\t_\t_

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    vocabulary = Vocabulary.of(BANK.train, min_count=1)
    params = Parsing(hidden_size=16, num_heads=2, arc_size=12, label_size=6)
    folder = tmp_path_factory.mktemp("parser")
    kept = {"words": vocabulary.words, "tags": vocabulary.tags, "labels": vocabulary.labels, "subtypes": False}
    Parser(ParserConfig.of(params, vocabulary), kept).save_pretrained(folder)
    return str(folder)


def run(*words):
    return main(["parse", *words])


def test_sentences_become_conllu(folder, capsys, tmp_path):
    texts = [" ".join(s.words) for s in BANK.test]
    assert run("--model", folder, *texts) == 0
    said = capsys.readouterr().out
    (tmp_path / "out.conllu").write_text(said, encoding="utf-8")
    parsed = read_conllu(tmp_path / "out.conllu")
    assert [s.words for s in parsed] == [s.words for s in BANK.test] and f"# text = {texts[0]}" in said
    for s in parsed:
        assert not tree_fault(s.heads) and [head == 0 for head in s.heads] == [label == "root" for label in s.labels]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n\n", encoding="utf-8")
    assert run("--model", folder, str(tmp_path / "in.txt")) == 0 and capsys.readouterr().out == said


def test_conllu_keeps_all_but_heads_and_labels(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(GIVEN + "1\tYes\t_\tINTJ\t_\t_\t_\t_\t_\t_\n"))
    assert run("--model", folder) == 0
    first, second = capsys.readouterr().out.rstrip("\n").split("\n\n")
    for old, new in zip(GIVEN.strip().splitlines(), first.splitlines(), strict=True):
        old, new = old.split("\t"), new.split("\t")
        if old[0].isdigit():
            assert new[6].isdigit() and new[7] != "_"
            old[6:8] = new[6:8] = "", ""
        assert old == new
    assert second.split("\t")[6:8] == ["0", "root"]


def test_trees_and_scores(folder, capsys, tmp_path):
    sentence = Sentence(tuple("abcd"), ("X",) * 4, (2, 0, 4, 2), ("det", "root", "amod", "obj"))
    assert tree_lines(sentence).splitlines() == ["b  (root)", "├─ a  (det)", "└─ d  (obj)", "   └─ c  (amod)"]
    path = tmp_path / "gold.conllu"
    rows = [
        "\n".join(f"{i}\t{w}\t_\t{t}\t_\t_\t{h}\t{label}\t_\t_"
                  for i, (w, t, h, label) in enumerate(zip(s.words, s.tags, s.heads, s.labels), 1))
        for s in BANK.test
    ]  # fmt: skip
    path.write_text("\n\n".join(rows) + "\n", encoding="utf-8")
    assert run("--model", folder, "--score", str(path)) == 0
    said = capsys.readouterr().out
    parsed = parse(Parser.from_pretrained(folder).eval(), BANK.test)
    pairs = [
        (a, b)
        for s, p in zip(BANK.test, parsed)
        for a, b in zip(zip(s.heads, s.plain_labels), zip(p.heads, p.plain_labels))
    ]
    uas, las = (sum(pair) / len(pairs) for pair in zip(*((a[0] == b[0], a == b) for a, b in pairs)))
    assert said == f"{len(pairs)} words: UAS {uas:.2%}, LAS {las:.2%}\n"
    assert run("--model", folder, "--tree", "the dog") == 0 and "(root)" in capsys.readouterr().out


@pytest.mark.parametrize("words", [1, 2, 600])
def test_sentences_of_any_length(folder, capsys, words):
    assert run("--model", folder, " ".join(["dog"] * words)) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == words + 1


def test_a_deep_tree_is_drawn():
    n = 3000
    chain = Sentence(("a",) * n, ("X",) * n, tuple(range(n)), ("dep",) * n)
    assert len(tree_lines(chain).splitlines()) == n


@pytest.mark.parametrize("text, message", [
    ("", "nothing to parse"),
    ("# only = a comment\n\n", "nothing to parse"),
    ("1\t \t_\t_\t_\t_\t_\t_\t_\t_\n", "stdin, line 1: ' ' in a sentence is not a word"),
    ("x\ta" + "\t_" * 8 + "\n", "stdin, line 1: 'x' is not the number of a word"),
    (GIVEN.rstrip() + "\n1\tYes" + "\t_" * 8, "stdin, line 9: a sentence begins; an empty line is missing"),
    ("dog " * (LONGEST + 1), f"stdin, line 1: {LONGEST + 1} words; at most {LONGEST}"),
    (GIVEN.replace("\tX=1", ""), "stdin, line 4: has 9 columns; 10 are required"),
    (GIVEN.replace("\n4\tbark", "\n5\tbark"), "stdin, line 8: word 5 instead of word 4; renumber it"),
])  # fmt: skip
def test_bad_input_is_one_line(folder, capsys, monkeypatch, text, message):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run("--model", folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert message in said


def test_the_parser_that_ships_knows_english_and_is_small(capsys):
    assert run("The old dog sleeps under the table .") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [row[6] for row in rows] == list("33407744") and [row[7] for row in rows][2:4] == ["nsubj", "root"]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 13e6


@pytest.mark.slow
def test_the_parser_that_ships_is_as_good_as_its_card_says(real_data, capsys, tmp_path):
    packed = real_data / "ud_ewt" / "en_ewt-ud-test.conllu.xz"
    (tmp_path / "test.conllu").write_bytes(lzma.decompress(packed.read_bytes()))
    assert run("--score", str(tmp_path / "test.conllu")) == 0
    uas, las = (float(n) for n in re.findall(r"([0-9.]+)%", capsys.readouterr().out))
    for said in (SHIPPED / "README.md", ROOT / "README.md"):
        told = [
            float(n) for n in re.search(r"UAS ([0-9.]+) %, LAS ([0-9.]+) %", said.read_text(encoding="utf-8")).groups()
        ]
        assert told == pytest.approx([uas, las], abs=0.06)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_600_words_take_less_than_a_gigabyte():
    """By the peak of the process itself: what getrusage says holds the memory of its parent, too."""
    code = "import sys; from trm.cli import main; main(['parse', 'dog ' * 600]); "
    code += "print(open('/proc/self/status').read(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(re.search(r"VmHWM:\s+([0-9]+) kB", done.stderr)[1]) < 1e6


def test_faults_of_models_and_of_heads_to_score_are_told(folder, capsys, tmp_path):
    assert run("--model", str(tmp_path), "the dog") == 1 and str(tmp_path) in capsys.readouterr().err
    assert run("--model", folder, "--score", "the dog") == 1
    assert "sentence 1: cannot be scored: a word has no head" in capsys.readouterr().err
    for heads, labels, fault in (("21", "ab", "0 words have the head 0"), ("01", "a_", "no label (column 8)")):
        rows = [f"{i}\tw\t_\t_\t_\t_\t{head}\t{label}\t_\t_" for i, (head, label) in enumerate(zip(heads, labels), 1)]
        (tmp_path / "x.conllu").write_text("\n".join(rows), encoding="utf-8")
        assert run("--model", folder, "--score", str(tmp_path / "x.conllu")) == 1 and fault in capsys.readouterr().err
    assert run("--model", folder, "missing.conllu") == 1 and "missing.conllu: no such file" in capsys.readouterr().err
