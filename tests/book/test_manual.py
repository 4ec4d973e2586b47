"""The Python of the manual runs as it stands there, with fewer steps."""

import re

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("page", ["own_puzzles"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    text = (ROOT / "book" / "manual" / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    assert code.count('"train_size": 0}') == 1
    fewer = f'"train_size": 0, "max_steps": 4, "eval_interval": 4, "output_dir": r"{tmp_path / "run"}"}}'
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"train_size": 0}', fewer), {})
    assert "test/exact_accuracy" in capsys.readouterr().out and (tmp_path / "run" / "history.jsonl").exists()
