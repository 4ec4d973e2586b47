"""Tables of a sweep: runs by their parameters, states, and tables from elsewhere."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from trm.errors import UserError
from trm.run import write_atomically
from trm.sweep import worker
from trm.sweep.cli import main
from trm.sweep.engine import jobs_of
from trm.sweep.spec import read_sweep
from trm.sweep.table import not_listed, own_tables, results, short, statuses, write_table

SWEEP = """
notebook: 04_trm_train
cases: {a: {}, b: {lr: 0.001}, same: {}}
seeds: [0, 1]
scales: {smoke: {base: {max_steps: 2}}}
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "s.yaml").write_text(SWEEP, encoding="utf-8")
    return read_sweep(tmp_path / "s.yaml").model_copy(update={"outputs": tmp_path / "out"})


def complete(folder, params, accuracy, code="c0"):
    folder.mkdir(parents=True)
    about = {"run_id": folder.name, "code": code, "params": params.model_dump()}
    write_atomically(folder / "params.json", json.dumps(about))
    write_atomically(folder / "metrics.json", json.dumps({"test/exact_accuracy": accuracy}))


def test_a_row_for_every_point_that_has_a_run_and_equal_points_share_one(sweep):
    points = sweep.points("smoke")
    a0, a1, b0 = points[0], points[1], points[2]
    complete(sweep.folder_of(a0), a0.params, 0.5, sweep.code)
    complete(sweep.folder_of(a1), a1.params, 0.7, sweep.code)
    complete(sweep.folder / "made-by-older-code", b0.params, 0.25, "older")
    table = results(sweep, points)
    assert list(table["case"]) == ["a", "a", "b", "same", "same"] and list(table["seed"]) == [0, 1, 0, 0, 1]
    assert list(table["test/exact_accuracy"]) == [0.5, 0.7, 0.25, 0.5, 0.7]
    assert table["run_id"].nunique() == 3 and list(table["code"]).count("older") == 1
    assert table["lr"].tolist() == [0.004, 0.004, 0.001, 0.004, 0.004]
    said = short(table).set_index("case")
    assert said.loc["a"].tolist()[2:] == [2, 0.6, 0.1414]  # runs, mean, deviation
    assert sorted(row["state"] for row in statuses(sweep, points)) == ["done"] * 4 + ["queued"] * 2
    assert len(jobs_of(sweep, points, 0, "smoke")) == 4  # a and same are one job a seed


def test_the_runs_own_tables_together(sweep, tmp_path):
    points = sweep.points("smoke")
    for point, accuracy in ((points[0], 0.5), (points[1], 0.7)):
        complete(sweep.folder_of(point), point.params, accuracy)
    assert own_tables(sweep, points).empty
    (sweep.folder_of(points[0]) / "table.csv").write_text("arm,seed,mse\nx,0,0.5\ny,3,0.25\n", encoding="utf-8")
    (sweep.folder_of(points[1]) / "table.csv").write_text("arm,seed,mse\nx,1,0.75\n", encoding="utf-8")
    rows = own_tables(sweep, sweep.points("smoke", ["a"]))
    assert list(rows.columns) == ["sweep", "case", "cell", "seed", "config", "arm", "mse"]
    assert rows[["seed", "arm", "mse"]].values.tolist() == [[0, "x", 0.5], [3, "y", 0.25], [1, "x", 0.75]]
    (sweep.folder_of(points[1]) / "curves.csv").write_text(
        "arm,seed,step,mse\nx,1,10,0.5\nx,1,20,0.25\n", encoding="utf-8"
    )
    words = ["results", str(tmp_path / "s.yaml"), "--scale", "smoke", "--outputs", str(tmp_path / "out")]
    assert main([*words, "--rows", str(tmp_path / "c.parquet"), "--table", "curves"]) == 0
    assert pd.read_parquet(tmp_path / "c.parquet")["step"].tolist() == [10, 20] * 2  # of a and of same
    assert main([*words, "--rows", str(tmp_path / "c.csv"), "--table", "sentences"]) == 2
    (sweep.folder_of(points[1]) / "table.csv").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="table.csv is damaged"):
        own_tables(sweep, points)


def test_status_and_results_name_the_scale_and_others_that_have_runs(sweep, capsys):
    words = [str(sweep.path), "--outputs", str(sweep.outputs), "--scale"]
    point = sweep.points("smoke")[0]
    folder = sweep.outputs / "s" / sweep.folder_of(point).name
    complete(folder, point.params, 0.5)
    (folder / "point.json").write_text('{"scale": "smoke"}')
    sweep.path.write_text(SWEEP.replace("scales: {", "scales: {laptop: {}, "))
    assert main(["status", *words, "laptop"]) == 0
    said = capsys.readouterr().out
    assert "s at scale laptop: 6 queued" in said and "runs at scale smoke too" in said
    assert main(["status", *words, "smoke"]) == 0
    assert "too" not in capsys.readouterr().out
    assert main(["results", *words, "laptop"]) == 2 and "no complete runs at scale laptop" in capsys.readouterr().err


def test_points_that_stand_in_a_table_are_skipped(sweep, tmp_path, capsys):
    points, path = sweep.points("smoke"), tmp_path / "made.csv"
    a0, a1, b0, b1, same0, same1 = points
    for point in (a0, b1):
        complete(sweep.folder / f"{point.case}-elsewhere", point.params, 0.5, "older")
    table = results(sweep, [a0, b1])
    write_table(path, table)
    assert not_listed(points, path) == [a1, b0, same1]  # by config and seed: `same` is `a` under another name
    words = [str(tmp_path / "s.yaml"), "--scale", "smoke", "--outputs", str(tmp_path / "new"), "--table", str(path)]
    assert main(["run", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "3 of 6 points stand in" in said and "a/seed1" in said and "a/seed0" not in said
    for name, message in (("seed,mse\n0,1\n", "no column config; write it"), ("config\n0\n", "no column seed")):
        path.write_text(name, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            not_listed(points, path)


def test_what_lies_in_a_folder_says_the_state(sweep):
    points = sweep.points("smoke", ["b"])
    folder = sweep.folder_of(points[0])
    sweep.folder.mkdir(parents=True)
    folder.write_text("", encoding="utf-8")  # a file in the place of a folder
    assert statuses(sweep, points)[0]["state"] == "queued"
    folder.unlink()
    folder.mkdir()
    (folder / "params.json").write_text("{", encoding="utf-8")  # cut off by a crash
    (folder / "metrics.partial.json").write_text("{}", encoding="utf-8")
    assert statuses(sweep, points)[0]["state"] == "paused" and results(sweep, points).empty
    (folder / "failed.json").write_text(json.dumps({"error": "ValueError: why"}), encoding="utf-8")
    assert statuses(sweep, points)[0] == {"point": "b/seed0", "state": "failed", "error": "ValueError: why"}
    (folder / "running.lock").write_text("{}", encoding="utf-8")
    assert statuses(sweep, points)[0]["state"] == "running"
    (folder / "metrics.json").write_text("{}", encoding="utf-8")
    assert statuses(sweep, points)[0] == {"point": "b/seed0", "state": "done", "error": ""}


def test_runs_of_a_sweep_are_called_after_their_case_in_a_tracker(sweep):
    point = sweep.points("smoke", ["b"])[0]
    for given, name in (
        ({}, ""),
        ({"log_with": "tensorboard"}, "b"),
        ({"log_with": "tensorboard", "wandb_run_name": "x"}, "x"),
    ):
        (job,) = jobs_of(sweep, [replace(point, params=point.params.model_copy(update=given))], 0, "smoke")
        assert job.values["wandb_run_name"] == name


@pytest.mark.parametrize("name", ["metrics.json", "params.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"params": 3}', "\xff"])
def test_a_damaged_run_is_named(sweep, name, content):
    points = sweep.points("smoke", ["a"])
    folder = sweep.folder_of(points[0])
    folder.mkdir(parents=True)
    for file, text in (("metrics.json", "{}"), ("params.json", content)) if name[0] == "p" else ((name, content),):
        (folder / file).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=rf"{folder.name}/\w+.json is damaged.*run again"):
        results(sweep, points)


@pytest.mark.parametrize(
    "name, visible, threads, gpu",
    [("0", "", "2", "0"), ("1", "", "2", "1"), ("1", "4,7", "2", "7"), ("stranger", "", "2", None)],
)
def test_a_worker_takes_its_share_of_cores_and_one_gpu(monkeypatch, name, visible, threads, gpu):
    me = type("Worker", (), {"address": "tcp://10.0.0.1:1234", "name": name})
    seen = {}
    monkeypatch.setattr("distributed.get_worker", lambda: me)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(worker, "cores", lambda: 4)
    monkeypatch.setattr(worker, "execute", lambda job, environment: seen.update(environment))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    workers = {f"tcp://10.0.0.{host}:{n}": {"name": n, "nthreads": 1} for host, n in ((1, 0), (1, 1), (2, 2))}
    client = type("Client", (), {"scheduler_info": lambda self, n_workers: {"workers": workers}})
    monkeypatch.setattr("distributed.get_client", client)
    worker.on_worker(None)
    assert seen["OMP_NUM_THREADS"] == threads  # four cores, two workers on this host
    assert seen["CUDA_VISIBLE_DEVICES"] == gpu if gpu else seen["CUDA_VISIBLE_DEVICES"] in "01"
    worker.on_worker(None, threads=1)
    assert seen["OMP_NUM_THREADS"] == "1"
