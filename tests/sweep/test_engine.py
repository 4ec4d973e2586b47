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

SWEEP = """
notebook: 04_trm_train
base: {puzzle: 4x4, valid_size: 2, test_size: 2, hidden_size: 16, batch_size: 8, num_aug: 0, eval_steps: 2,
       eval_interval: 5000, log_interval: 10, checkpoint_interval: 20, max_steps: 40}
cases:
  short: {}
  long: {max_steps: 700}
  broken: {data_path: /nowhere/puzzles.csv}
seeds: [0]
groups: {fine: [short, long]}
scales: {smoke: {}}
"""
PATIENCE = 240  # seconds; machines differ
pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "s.yaml").write_text(SWEEP)
    return tmp_path


def command(sweep, *words, action="run"):
    return [sys.executable, "-m", "trm.sweep", action, *words, "--scale", "smoke", "--outputs", str(sweep / "out")]


def start(sweep, *words):
    log = open(sweep / "sweep.log", "a")  # noqa: SIM115
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # a process group of its own, which Ctrl-C in a terminal would go to as a whole
    return subprocess.Popen(
        command(sweep, *words), cwd=ROOT, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def finish(sweep, *words):
    """Run to the end: (exit code, what was said)."""
    done = subprocess.run(command(sweep, *words), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout + done.stderr


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {PATIENCE} s"
        time.sleep(0.1)
    return found


def folder_of(sweep, case):
    for about in (sweep / "out").glob("*/*/point.json"):
        if json.loads(about.read_text())["case"] == case:
            return about.parent
    return None


def with_checkpoint(sweep, case):
    """The folder of a case once it has a checkpoint and is still at work."""
    folder = folder_of(sweep, case)
    ready = folder and list(folder.glob("checkpoints/step_*/*.json"))
    return folder if ready and (folder / "running.json").exists() else None


def papermill_of(folder):
    return psutil.Process(json.loads((folder / "running.json").read_text())["pid"])


def another_papermill(folder, old):
    """Whether a papermill other than `old` is at work in the folder."""
    try:
        return papermill_of(folder).pid != old.pid
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return False


def at_work_in(folder):
    """papermill and its kernel."""
    try:
        papermill = papermill_of(folder)
        return [papermill, *papermill.children(recursive=True)]
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return []


def all_gone(processes):
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


def steps_of(folder):
    return [
        json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines() if "grad_norm" in line
    ]


def test_kernel_worker_and_sweep_are_killed_and_nothing_is_lost_or_repeated(sweep):
    file = str(sweep / "s.yaml")
    text = SWEEP.replace("  broken: {data_path: /nowhere/puzzles.csv}\n", "")
    (sweep / "s.yaml").write_text(text)
    process = start(sweep, file)
    folder = wait_for("checkpoint", lambda: with_checkpoint(sweep, "long"))
    short = folder_of(sweep, "short")
    assert (short / "metrics.json").exists()  # one job at a time, in the order of the file
    first_done = (short / "metrics.json").stat().st_mtime_ns

    code, said = finish(sweep, file)  # the same again, while the first is at work: it keeps its hands off
    assert code == 3 and "1 busy" in said, said
    assert process.poll() is None and (folder / "running.json").exists()

    papermill = papermill_of(folder)
    papermill.children()[0].kill()  # the kernel: dask is not asked, the worker starts it again
    wait_for("new papermill", lambda: with_checkpoint(sweep, "long") and another_papermill(folder, papermill))

    papermill = papermill_of(folder)
    papermill.parent().kill()  # the worker: another one takes over
    wait_for("new worker", lambda: with_checkpoint(sweep, "long") and another_papermill(folder, papermill))

    working = wait_for("kernel at work", lambda: len(found := at_work_in(folder)) > 1 and found)
    process.kill()  # the whole sweep, without a word
    process.wait()
    wait_for("end of its children", lambda: all_gone(working))
    assert not (folder / "metrics.json").exists()

    code, said = finish(sweep, file)
    assert code == 0, said
    assert "2 runs: 1 done before, 1 to do" in said
    assert (short / "metrics.json").stat().st_mtime_ns == first_done
    assert steps_of(folder) == list(range(10, 701, 10))  # every step once, in order
    assert "resumed at step" in (folder / "run.ipynb").read_text()
    assert not (folder / "running.json").exists()


def test_a_failure_is_named_and_the_others_go_on_and_ctrl_c_says_so(sweep):
    text = SWEEP.replace("  short: {}\n", "").replace("  broken", "  abroken").replace("[short, long]", "[long]")
    lines = text.splitlines()
    where = next(i for i, line in enumerate(lines) if "abroken" in line)
    lines.insert(next(i for i, line in enumerate(lines) if "long:" in line), lines.pop(where))
    (sweep / "s.yaml").write_text("\n".join(lines))
    file = str(sweep / "s.yaml")
    process = start(sweep, file)
    folder = wait_for("checkpoint", lambda: with_checkpoint(sweep, "long"))
    working = at_work_in(folder)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert "the same command goes on" in (sweep / "sweep.log").read_text()
    wait_for("end of its children", lambda: working and all_gone(working))

    status = subprocess.run(command(sweep, file, action="status"), capture_output=True, text=True, cwd=ROOT).stdout
    assert "1 failed" in status and "abroken/seed0: " in status and "/nowhere/puzzles.csv: no such file" in status
    failed = folder_of(sweep, "abroken")
    assert '"output_type": "error"' in (failed / "run.ipynb").read_text()

    code, said = finish(sweep, file)
    assert code == 1 and "1 done" in said and "1 failed" in said
    assert finish(sweep, file, "--fail-fast")[0] == 1
    assert steps_of(folder) == list(range(10, 701, 10))


def test_a_full_disk_fails_the_run_and_loses_nothing(sweep):
    """A limit on the size of files stands for the full disk: nothing above 8 kB can be written."""
    file = str(sweep / "s.yaml")
    (sweep / "s.yaml").write_text(SWEEP.replace("  long: {max_steps: 700}\n", "").replace(
        "  broken: {data_path: /nowhere/puzzles.csv}\n", "").replace("[short, long]", "[short]"))  # fmt: skip
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *command(sweep, file)]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "failed  s/short/seed0" in done.stdout, done.stdout + done.stderr
    assert not list((sweep / "out").glob("*/*/metrics.json"))
    assert finish(sweep, file)[0] == 0
    assert json.loads(next((sweep / "out").glob("*/*/metrics.json")).read_text())["train/steps"] == 40


@pytest.mark.skipif(not shutil.which("dask", path=Path(sys.executable).parent), reason="no dask command")
def test_a_real_scheduler_with_two_workers_one_of_which_is_killed(sweep):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask, address = str(Path(sys.executable).parent / "dask"), f"tcp://127.0.0.1:{port}"
    text = SWEEP.replace("  broken: {data_path: /nowhere/puzzles.csv}\n", "").replace("seeds: [0]", "seeds: [0, 1]")
    (sweep / "s.yaml").write_text(text.replace("long: {max_steps: 700}", "long: {max_steps: 300}"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    helpers = [subprocess.Popen([dask, "scheduler", "--port", str(port), "--no-dashboard"], cwd=sweep, **quiet)]
    try:
        for _ in range(2):
            worker = [dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            helpers.append(subprocess.Popen(worker, cwd=ROOT, **quiet))
        process = start(sweep, str(sweep / "s.yaml"), "--scheduler", address)
        folder = wait_for("checkpoint", lambda: with_checkpoint(sweep, "long"))
        papermill_of(folder).parent().kill()
        assert process.wait(PATIENCE) == 0, (sweep / "sweep.log").read_text()
        assert len(list((sweep / "out").glob("*/*/metrics.json"))) == 4
    finally:
        for helper in helpers:
            helper.kill()


def test_a_sample_of_the_suites_runs_at_smoke_scale(tmp_path):
    """The whole of both: trm sweep run scaling_research tpu_quickstart --scale smoke --jobs 2."""
    words = ["contrib07", "e2_3_attention", "--scale", "smoke", "--outputs", str(tmp_path)]
    run = [sys.executable, "-m", "trm.sweep", "run", *words, "--jobs", "2"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and "2 done" in done.stdout, done.stdout + done.stderr
    found = {path.parent.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/*/params.json")}
    assert found["scaling_research"]["params"]["puzzle_tokens"] == 16
    assert found["tpu_quickstart"]["params"]["mixer"] == "attention"
    notebook = next(tmp_path.glob("tpu_quickstart/*/run.ipynb")).read_text()
    assert '"mixer = \\"attention\\"' in notebook  # papermill's cell: the run can be read and repeated by itself
