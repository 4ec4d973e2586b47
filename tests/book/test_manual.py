"""The Python of the manual runs as it stands there, with fewer steps."""

import json
import re

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("page", ["own_puzzles"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    text = (ROOT / "book" / "manual" / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    fewer = '"max_steps": 4, "eval_interval": 4, "output_dir": r"{}"}}'
    for number, values in enumerate(('"train_size": 0}', '"num_aug": 30, "valid_size": 20}')):
        assert code.count(values) == 1
        less = values.replace("30", "1").replace("20", "1")[:-1]
        code = code.replace(values, f"{less}, {fewer.format(tmp_path / f'run{number}')}")
    for part in ("training", "evaluation"):
        (tmp_path / "ARC-AGI" / "data" / part).mkdir(parents=True)
        for name in ("a", "b"):
            pairs = [{"input": [[i, 1], [2, len(part) % 10]], "output": [[i, 3, ord(name) % 10]]} for i in range(3)]
            task = json.dumps({"train": pairs[:2], "test": pairs[2:]})
            (tmp_path / "ARC-AGI" / "data" / part / f"{part}_{name}.json").write_text(task, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    said = capsys.readouterr().out
    assert "test/exact_accuracy" in said and "arc/pass@2" in said
    assert all((tmp_path / f"run{number}" / "history.jsonl").exists() for number in range(2))
