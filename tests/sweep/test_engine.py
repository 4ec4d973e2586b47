"""The engine under fire: kernels, workers, the whole sweep and a scheduler's worker are really killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from trm import lock

SWEEP = """
notebook: 04_trm_train
base: {puzzle: 4x4, valid_size: 2, test_size: 2, hidden_size: 16, batch_size: 8, num_aug: 0, eval_steps: 2,
       eval_interval: 5000, log_interval: 10, checkpoint_interval: 20, max_steps: 40}
scales: {smoke: {}}
"""
SHORT, LONG, BROKEN = "short: {}", "long: {max_steps: 4000}", "broken: {data_path: /nowhere/puzzles.csv}"
PATIENCE = 240  # seconds; machines differ
pytestmark = pytest.mark.slow


def written(folder, *cases, seeds="[0]"):
    """The path of a sweep of these cases, which run in this order."""
    (folder / "s.yaml").write_text(f"{SWEEP}seeds: {seeds}\ncases:\n  " + "\n  ".join(cases), encoding="utf-8")
    return str(folder / "s.yaml")


def command(folder, *words, action="run"):
    return [sys.executable, "-m", "trm.sweep", action, *words, "--scale", "smoke", "--outputs", str(folder / "out")]


def start(folder, *words):
    log = open(folder / "sweep.log", "a", encoding="utf-8")  # noqa: SIM115
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # a process group of its own, which Ctrl-C in a terminal would go to as a whole
    quiet = {"stdout": log, "stderr": log, "env": environment}
    return subprocess.Popen(command(folder, *words), cwd=ROOT, start_new_session=True, **quiet)


def finish(folder, *words):
    """Run to the end: (exit code, what was said)."""
    done = subprocess.run(command(folder, *words), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout + done.stderr


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {PATIENCE} s"
        time.sleep(0.1)
    return found


def run_of(folder, case):
    """The folder of the run of a case."""
    abouts = (folder / "out").glob("*/*/point.json")
    return next(
        (about.parent for about in abouts if json.loads(about.read_text(encoding="utf-8"))["case"] == case), None
    )


def at_work_in(run):
    """papermill and its kernel."""
    try:
        worker = psutil.Process(lock.lease(run / "point.lock").owner.pid)
        return [process for process in worker.children(recursive=True) if "-m" in process.cmdline()]
    except (AttributeError, psutil.NoSuchProcess):
        return []


def with_checkpoint(folder, case, other_than=None):
    """papermill and kernel of a case once it has a checkpoint and is at work, by another papermill than `other_than`."""
    run = run_of(folder, case)
    found = at_work_in(run) if run and list(run.glob("checkpoints/step_*/*.json")) else []
    return found if len(found) > 1 and found[0] != other_than else []


def all_gone(processes):
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


def steps_of(run):
    lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines if "grad_norm" in line]


def test_kernel_worker_and_sweep_are_killed_and_nothing_is_lost_or_repeated(tmp_path):
    file = written(tmp_path, SHORT, LONG)
    process = start(tmp_path, file)
    papermill, kernel, *_ = wait_for("checkpoint", lambda: with_checkpoint(tmp_path, "long"))
    short, long = run_of(tmp_path, "short"), run_of(tmp_path, "long")
    first_done = (short / "metrics.json").stat().st_mtime_ns  # one job at a time, in the order of the file

    code, said = finish(tmp_path, file)  # the same again, while the first is at work: it keeps its hands off
    assert code == 3 and "1 busy" in said, said
    assert process.poll() is None and (long / "point.lock").exists()

    kernel.kill()  # dask is not asked, the worker starts it again
    papermill, *_ = wait_for("new papermill", lambda: with_checkpoint(tmp_path, "long", papermill))
    papermill.parent().kill()  # the worker: another one takes over
    working = wait_for("new worker", lambda: with_checkpoint(tmp_path, "long", papermill))
    process.kill()  # the whole sweep, without a word
    process.wait()
    wait_for("end of its children", lambda: all_gone(working))
    assert not (long / "metrics.json").exists()

    code, said = finish(tmp_path, file)
    assert code == 0, said
    assert "2 runs: 1 done before, 1 to do" in said
    assert (short / "metrics.json").stat().st_mtime_ns == first_done
    assert steps_of(long) == list(range(10, 4001, 10))  # every step once, in order
    assert "resumed at step" in (long / "run.ipynb").read_text()
    assert not (long / "running.lock").exists()


def test_a_failure_is_named_and_the_others_go_on_and_ctrl_c_says_so(tmp_path):
    file = written(tmp_path, BROKEN, LONG)
    process = start(tmp_path, file)
    working = wait_for("checkpoint", lambda: with_checkpoint(tmp_path, "long"))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert "the same command goes on" in (tmp_path / "sweep.log").read_text(encoding="utf-8")
    wait_for("end of its children", lambda: all_gone(working))

    status = subprocess.run(command(tmp_path, file, action="status"), capture_output=True, text=True, cwd=ROOT).stdout
    assert "1 failed" in status and "broken/seed0: " in status and "/nowhere/puzzles.csv: no such file" in status
    assert '"output_type": "error"' in (run_of(tmp_path, "broken") / "run.ipynb").read_text(encoding="utf-8")

    code, said = finish(tmp_path, file)
    assert code == 1 and "1 done" in said and "1 failed" in said
    assert finish(tmp_path, file, "--fail-fast")[0] == 1
    assert steps_of(run_of(tmp_path, "long")) == list(range(10, 4001, 10))


def test_a_full_disk_fails_the_run_and_loses_nothing(tmp_path):
    """A limit on the size of files stands for the full disk: nothing above 8 kB can be written."""
    file = written(tmp_path, SHORT)
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *command(tmp_path, file)]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "failed  s/short/seed0" in done.stdout, done.stdout + done.stderr
    assert not list((tmp_path / "out").glob("*/*/metrics.json"))
    assert finish(tmp_path, file)[0] == 0
    assert steps_of(run_of(tmp_path, "short")) == [10, 20, 30, 40]


@pytest.mark.skipif(not shutil.which("dask", path=Path(sys.executable).parent), reason="no dask command")
def test_a_real_scheduler_with_two_workers_one_of_which_is_killed(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask, address = str(Path(sys.executable).parent / "dask"), f"tcp://127.0.0.1:{port}"
    file = written(tmp_path, SHORT, "long: {max_steps: 300}", seeds="[0, 1]")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [dask, "scheduler", "--port", str(port), "--no-dashboard"]
    worker = [dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    helpers = [subprocess.Popen(words, cwd=ROOT, **quiet) for words in (scheduler, worker, worker)]
    try:
        process = start(tmp_path, file, "--scheduler", address)
        papermill, *_ = wait_for("checkpoint", lambda: with_checkpoint(tmp_path, "long"))
        papermill.parent().kill()
        assert process.wait(PATIENCE) == 0, (tmp_path / "sweep.log").read_text(encoding="utf-8")
        assert len(list((tmp_path / "out").glob("*/*/metrics.json"))) == 4
    finally:
        for helper in helpers:
            helper.kill()


@pytest.mark.skipif(not shutil.which("dask", path=Path(sys.executable).parent), reason="no dask command")
def test_a_scheduler_that_dies_is_told_in_one_line_per_run(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask = [str(Path(sys.executable).parent / "dask"), "scheduler", "--port", str(port), "--no-dashboard"]
    scheduler = subprocess.Popen(dask, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        words = command(tmp_path, written(tmp_path, SHORT), "--scheduler", f"tcp://127.0.0.1:{port}")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(words, cwd=ROOT, **pipes)
        while "no workers yet" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(1)
    finally:
        scheduler.kill()
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3 and not errors and "the scheduler went away" in said


def test_a_sample_of_the_suites_runs_at_smoke_scale(tmp_path):
    """The whole of both: trm sweep run scaling_research tpu_quickstart --scale smoke --jobs 2."""
    words = ["contrib07", "e2_3_attention", "--scale", "smoke", "--outputs", str(tmp_path)]
    run = [sys.executable, "-m", "trm.sweep", "run", *words, "--jobs", "2"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and "2 done" in done.stdout, done.stdout + done.stderr
    found = {
        path.parent.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in tmp_path.glob("*/*/params.json")
    }
    assert found["scaling_research"]["params"]["puzzle_tokens"] == 16
    assert found["tpu_quickstart"]["params"]["mixer"] == "attention"
    notebook = next(tmp_path.glob("tpu_quickstart/*/run.ipynb")).read_text(encoding="utf-8")
    assert '"mixer = \\"attention\\"' in notebook  # papermill's cell: the run can be read and repeated by itself
