"""The run folder."""

import json

import pytest

from trm.puzzles.params import TrmTrain
from trm.run import ROOT, Run, RunError, source_hash, to_json


def make(tmp_path, **values):
    return Run(TrmTrain.create({"output_dir": str(tmp_path / "run"), **values}), "04_trm_train")


def test_metrics_come_last_and_whole(tmp_path):
    run = make(tmp_path)
    run.log({"step": 1, "a": float("nan")})
    assert json.loads((run.dir / "params.json").read_text())["params"]["seed"] == 0
    assert not (run.dir / "metrics.json").exists()
    run.finish({"b": float("inf"), "c": 2.0})
    assert json.loads((run.dir / "metrics.json").read_text()) == {"b": None, "c": 2.0}
    assert not [p for p in run.dir.iterdir() if p.name.endswith(".tmp")]


def test_a_paused_run_is_not_complete(tmp_path):
    run = make(tmp_path)
    run.finish({"a": 1}, complete=False)
    assert not (run.dir / "metrics.json").exists() and (run.dir / "metrics.partial.json").exists()


def test_a_new_run_in_a_used_folder_loses_nothing(tmp_path):
    make(tmp_path, seed=1).finish({"a": 1})
    run = make(tmp_path, seed=2)
    assert json.loads((run.dir / "earlier-1" / "metrics.json").read_text()) == {"a": 1}
    assert not (run.dir / "metrics.json").exists()


def test_resume_wants_the_same_parameters(tmp_path):
    run = make(tmp_path, lr=1e-3)
    run.log({"step": 1})
    again = make(tmp_path, lr=1e-3, resume=True, time_limit=5)
    assert again.history() == [{"step": 1}]
    with pytest.raises(RunError, match=r"lr \(was 0.001, now 0.002\)"):
        make(tmp_path, lr=2e-3, resume=True)


def test_a_run_may_go_on_under_another_backend(tmp_path, capsys):
    Run(TrmTrain.create({"output_dir": str(tmp_path), "backend": "cpu"}), "04_trm_train")
    Run(TrmTrain.create({"output_dir": str(tmp_path), "backend": "auto", "resume": True}), "04_trm_train")
    assert "another backend (was 'cpu', now 'auto')" in capsys.readouterr().out


def test_a_line_cut_off_is_left_out_and_rewind_drops_the_rest(tmp_path):
    run = make(tmp_path)
    for step in (1, 2, 3):
        run.log({"step": step})
    with open(run.dir / "history.jsonl", "a") as file:
        file.write('{"step": 4, "a"')
    assert [r["step"] for r in run.history()] == [1, 2, 3]
    run.rewind(2)
    assert (run.dir / "history.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_run_id_depends_on_results_alone(tmp_path):
    ids = {make(tmp_path / str(i), **v).id for i, v in enumerate([{}, {"log_with": "tensorboard"}, {"time_limit": 1}])}
    assert len(ids) == 1
    assert make(tmp_path / "other", seed=9).id not in ids


def test_the_default_folder_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(TrmTrain.create({"seed": 424242}), "test_chapter")
    try:
        assert run.dir == ROOT / "outputs" / "test_chapter" / run.id
    finally:
        (run.dir / "params.json").unlink()
        run.dir.rmdir()
        run.dir.parent.rmdir()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        make(tmp_path)


def test_json_has_no_nan():
    assert to_json({"a": [float("nan"), 1.5]}) == '{"a": [null, 1.5]}'


def test_the_code_version_follows_what_makes_results_and_not_what_looks_at_them(tmp_path, monkeypatch):
    files = {
        name: tmp_path / name
        for name in ("trm/model.py", "trm/plots.py", "trm/sweep/engine.py", "book/01_x.py", "book/02_y.py")
    }
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    monkeypatch.setattr("trm.run.ROOT", tmp_path)
    seen = {}
    for name, path in files.items():
        before = source_hash("01_x")
        path.write_text("2")
        seen[name] = source_hash("01_x") != before
    assert seen == {
        "trm/model.py": True,
        "trm/plots.py": False,
        "trm/sweep/engine.py": False,
        "book/01_x.py": True,
        "book/02_y.py": False,
    }
