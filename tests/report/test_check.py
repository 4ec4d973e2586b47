"""`trm report --check`: which chapters fail or give other numbers when they are executed again."""

import json

import jupytext
import pytest

from trm.report import html as report
from trm.report.html import Book, Executed, ReportError

STABLE, RANDOM, BROKEN = CHAPTERS = ["03_act_halting", "04_trm_train", "10_scaling_laws"]
FIRST = {"test/accuracy": 0.5, "train/seconds": 1.0}
SECOND = {
    STABLE: FIRST | {"train/seconds": 2.0},
    RANDOM: {"test/accuracy": 0.5000001, "train/seconds": 2.0, "test/steps": 3},
}
CHAPTER = """# ---
# jupyter:
#   kernelspec: {{display_name: Python 3, language: python, name: python3}}
# ---

# %% tags=["parameters"]
output_dir = ""

# %%
import json, random
from pathlib import Path

metrics = {{"a": {value}, "seconds": random.random()}}
(Path(output_dir) / "metrics.json").write_text(json.dumps(metrics))
print(f"complete: {{output_dir}}/metrics.json")
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of three empty chapters."""
    (tmp_path / "book").mkdir()
    for chapter in CHAPTERS:
        (tmp_path / "book" / f"{chapter}.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return tmp_path


@pytest.fixture
def executions(monkeypatch):
    """In place of executions: one chapter gives the same numbers again, one others, one fails the second time."""

    def execute(book, chapter, scale):
        assert scale == "smoke"
        again = book.outputs.name == "second"
        if again and chapter == BROKEN:
            raise ReportError("ValueError: why\nmore")
        folder = book.outputs / chapter
        folder.mkdir(parents=True)  # which fails where it is not fresh
        (folder / "metrics.json").write_text(json.dumps(SECOND[chapter] if again else FIRST), encoding="utf-8")
        return Executed(folder / "run.ipynb", chapter, None, "", folder)

    monkeypatch.setattr(Book, "execute", execute)


def test_each_chapter_that_fails_or_differs_is_named(repository, executions, capsys):
    for _ in range(2):  # what an earlier check left does not stand in the way
        assert report.main(["--check"], repository) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"[1/3] {STABLE}  ") and lines[0].endswith("the same 1 numbers")
        assert lines[1].startswith(f"[2/3] {RANDOM}  ") and lines[1].endswith("DIFFERENT: 2 of 2 numbers")
        assert lines[2:4] == ["    test/accuracy: 0.5 and 0.5000001", "    test/steps: - and 3"]
        assert lines[4].startswith(f"[3/3] {BROKEN}  ") and lines[4].endswith("FAILED: ValueError: why")
        assert lines[5] == "2 of 3 chapters run, 1 of 2 give the same numbers on a second run"
        assert lines[6].startswith(f"failed: {BROKEN};") and lines[7].startswith(f"different: {RANDOM};")
    assert not (repository / "outputs" / "report").exists()


def test_all_well(repository, executions, capsys):
    for chapter in (RANDOM, BROKEN):
        (repository / "book" / f"{chapter}.py").unlink()
    assert report.main(["--check"], repository) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "1 of 1 chapters run, 1 of 1 give the same numbers on a second run"
    ]


@pytest.mark.slow
def test_chapters_are_executed_and_never_shown(repository, capsys):
    (repository / "book" / f"{BROKEN}.py").unlink()
    (repository / "params").mkdir()
    for chapter, value in ((STABLE, "1 / 3"), (RANDOM, "random.random()")):
        (repository / "params" / f"{chapter[:2]}_smoke.yaml").write_text("seed: 0\n", encoding="utf-8")
        source = repository / "book" / f"{chapter}.py"
        source.write_text(CHAPTER.format(value=value), encoding="utf-8")
        jupytext.write(jupytext.read(source), source.with_suffix(".ipynb"))
    assert report.main(["--check"], repository) == 1
    said = capsys.readouterr().out
    assert "2 of 2 chapters run, 1 of 2 give" in said and f"different: {RANDOM};" in said
    assert len(list((repository / "outputs" / ".check").rglob("run.ipynb"))) == 4
    assert report.newest(repository / "outputs", CHAPTERS) == {}
