"""The Python of the manual runs as it stands there, with fewer steps."""

import re

from tests.conftest import ROOT
from tests.puzzles.test_arc import written
from tests.puzzles.test_arc_training import task

FEWER = '"max_steps": 4, "eval_interval": 4, "checkpoint_interval": 4'


def code_of(page, which):
    """The Python blocks of a page of the manual, and the place of the one that holds `which`."""
    text = (ROOT / "book" / "manual" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    (at,) = [i for i, block in enumerate(blocks) if which in block]
    return blocks, at


def test_a_task_of_ones_own_is_trained_on(tmp_path, monkeypatch, capsys):
    blocks, at = code_of("own_puzzles", '"train_size": 0}')
    monkeypatch.chdir(tmp_path)
    fewer = f'"train_size": 0, {FEWER}, "output_dir": r"{tmp_path / "run"}"}}'
    exec("\n".join(blocks[: at + 1]).replace('"train_size": 0}', fewer), {})
    assert "test/exact_accuracy" in capsys.readouterr().out and (tmp_path / "run" / "history.jsonl").exists()


def test_arc_is_trained_on(tmp_path, monkeypatch, capsys):
    blocks, at = code_of("own_puzzles", '"ARC-AGI/data"')
    folder = tmp_path / "ARC-AGI" / "data"
    folder.mkdir(parents=True)
    for name, count in (("training", 4), ("evaluation", 2)):
        written(folder, [task(f"{name[0]}{i}", i + 50 * count) for i in range(count)], f"{name}.json")
    monkeypatch.chdir(tmp_path)
    small = f'"largest": 4, "num_aug": 2, "valid_size": 1, {FEWER}, "output_dir": r"{tmp_path / "run"}"}}'
    exec(blocks[at].replace('"largest": 10, "num_aug": 30, "valid_size": 20}', small), {})
    assert "'arc/pass@2': " in capsys.readouterr().out
