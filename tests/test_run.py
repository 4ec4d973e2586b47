"""The run folder."""

import json
import re

import pytest

from trm import lock
from trm.puzzles.params import TrmTrain
from trm.run import ROOT, Run, RunError, import_closure, source_hash, to_json
from trm.sweep.chapters import CHAPTERS, schema_of


def make(tmp_path, **values):
    return Run(TrmTrain.create({"output_dir": str(tmp_path / "run"), **values}), "04_trm_train")


def test_metrics_come_last_and_whole(tmp_path):
    run = make(tmp_path)
    run.log({"step": 1, "a": float("nan")})
    about = json.loads((run.dir / "params.json").read_text(encoding="utf-8"))
    assert about["params"]["seed"] == 0 and about["code"] == source_hash("trm.puzzles.train")
    assert re.fullmatch(r"([0-9a-f]{12}\+?)?", about["commit"])
    assert not (run.dir / "metrics.json").exists()
    run.finish({"b": float("inf"), "c": 2.0})
    assert json.loads((run.dir / "metrics.json").read_text(encoding="utf-8")) == {"b": None, "c": 2.0}
    assert not [p for p in run.dir.iterdir() if p.name.endswith(".tmp")]


def test_a_paused_run_is_not_complete(tmp_path):
    run = make(tmp_path)
    run.finish({"a": 1}, complete=False)
    assert not (run.dir / "metrics.json").exists() and (run.dir / "metrics.partial.json").exists()


def test_a_new_run_in_a_used_folder_loses_nothing(tmp_path):
    make(tmp_path, seed=1).finish({"a": 1})
    run = make(tmp_path, seed=2)
    assert json.loads((run.dir / "earlier-1" / "metrics.json").read_text(encoding="utf-8")) == {"a": 1}
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
    with open(run.dir / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "a"')
    assert [r["step"] for r in run.history()] == [1, 2, 3]
    run.rewind(2)
    assert (run.dir / "history.jsonl").read_text(encoding="utf-8") == '{"step": 1}\n{"step": 2}\n'


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
        lock.release(run.dir)
        (run.dir / "params.json").unlink()
        run.dir.rmdir()
        run.dir.parent.rmdir()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("a file", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be written"):
        make(tmp_path)


def test_the_time_limit_is_shared_by_all_trainings_of_a_run(tmp_path, monkeypatch):
    run = make(tmp_path)
    monkeypatch.setattr("trm.run.time.monotonic", lambda: run.started + 120)
    assert run.minutes_left(5) == pytest.approx(3) and run.minutes_left(1) == 1e-4 and run.minutes_left(0) == 0


def test_json_has_no_nan():
    assert to_json({"a": [float("nan"), 1.5]}) == '{"a": [null, 1.5]}'


def test_the_code_version_follows_the_imports_of_what_computes(tmp_path):
    (tmp_path / "trm" / "one").mkdir(parents=True)
    sources = {
        "trm/__init__.py": "",
        "trm/core.py": "",
        "trm/plots.py": "",
        "trm/one/__init__.py": "",
        "trm/one/train.py": "from trm import core\nfrom trm.one import model\nfrom trm.one.figures import draw\nimport os",
        "trm/one/model.py": "def late():\n    from trm.late import x",
        "trm/one/figures.py": "from trm import plots",
        "trm/late.py": "",
        "trm/two.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    changes = set()
    for name in sources:
        before = source_hash("trm.one.train", tmp_path)
        (tmp_path / name).write_text(sources[name] + "\n# another", encoding="utf-8")
        if source_hash("trm.one.train", tmp_path) != before:
            changes.add(name)
    unchanged = {"trm/plots.py", "trm/one/figures.py", "trm/two.py"}
    assert changes == set(sources) - unchanged


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_another_system_is_no_part_of_a_chapters_code_version(chapter):
    own = schema_of(chapter)
    files = {path.relative_to(ROOT).as_posix() for path in import_closure(own.COMPUTED_BY).values()}
    recursive = chapter[:2] in ("02", "03", "04", "06", "07", "08")
    assert ("trm/recursion.py" in files) >= recursive
    assert (chapter[:2] == "08") >= any(name.startswith("trm/grpo/") for name in files)
    assert not any(part in name for name in files for part in ("/figures", "trm/sweep", "trm/report", "plots"))
    if chapter == "04_trm_train":
        assert not any(
            f"trm/{system}/" in name for name in files for system in ("parsing", "language", "latent", "grpo")
        )
