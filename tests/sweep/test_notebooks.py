"""Executing notebooks: by this Python, and in one line why it failed."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from trm.sweep import notebooks, worker
from trm.sweep.engine import jobs_of
from trm.sweep.spec import read_sweep


def python_of(name="python3"):
    return KernelSpecManager().get_kernel_spec(name).argv[0]


@pytest.mark.parametrize("others", ["", "/elsewhere/jupyter"])
def test_the_kernel_is_this_python(broken_kernel, monkeypatch, others):
    monkeypatch.setenv("JUPYTER_PATH", others)
    assert python_of() == "/gone/bin/python"
    with notebooks.own_kernel() as variables:
        monkeypatch.setenv("JUPYTER_PATH", variables["JUPYTER_PATH"])
        assert python_of() == sys.executable
        folder, _, rest = variables["JUPYTER_PATH"].partition(os.pathsep)
        assert rest == others and Path(folder).is_dir()
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_point_runs_under_a_users_broken_kernelspec_in_a_folder_with_spaces_and_umlauts(broken_kernel, tmp_path):
    folder = tmp_path / "Läufe von {Jörg} & $HOME"
    folder.mkdir()
    (folder / "s.yaml").write_text(
        "notebook: 04_trm_train\nbase: {puzzle: 4x4, valid_size: 2, test_size: 2, hidden_size: 16, batch_size: 8, "
        "eval_steps: 2, max_steps: 2}\n"
    )
    sweep = read_sweep(folder / "s.yaml").model_copy(update={"outputs": folder})
    (job,) = jobs_of(sweep, sweep.points("smoke"), 0, "smoke")
    outcome = worker.execute(job)
    assert (outcome.state, outcome.error) == ("done", "")


def test_a_point_that_was_paused_and_now_fails_has_failed(tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text("notebook: 04_trm_train\nbase: {puzzle: 4x4}\n", encoding="utf-8")
    sweep = read_sweep(tmp_path / "s.yaml").model_copy(update={"outputs": tmp_path})
    (job,) = jobs_of(sweep, sweep.points("smoke"), 0, "smoke")
    Path(job.folder).mkdir(parents=True)
    (Path(job.folder) / "metrics.partial.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(worker, "_papermill", lambda *given: (1, "ValueError: why"))
    outcome = worker.execute(job)
    assert (outcome.state, outcome.error) == ("failed", "ValueError: why")


ERROR = {"cells": [{"outputs": [{"output_type": "error", "ename": "ValueError", "evalue": "why\nmore"}]}]}


@pytest.mark.parametrize(
    "notebook, text, free, found",
    [
        (ERROR, "Traceback", 2**40, "ValueError: why"),
        ({}, "first\n\x1b[31mlast\x1b[0m\n\n", 2**40, "last"),
        ({}, "", 2**40, "code 7"),
        ({}, "OSError: [Errno 28] No space left on device\n  File", 2**40, "is full; free some space"),
        (ERROR, "Traceb", 0, "is full; free some space"),
    ],
)
def test_the_reason_of_a_failure(tmp_path, monkeypatch, notebook, text, free, found):
    (tmp_path / "run.ipynb").write_text(json.dumps(notebook))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    why = notebooks.reason(tmp_path / "run.ipynb", text, 7)
    assert found in why and "\n" not in why
