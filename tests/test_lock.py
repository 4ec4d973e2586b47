"""Who may write in a folder: real processes, of which only one may."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from trm import lock
from trm.lock import FolderBusy
from trm.puzzles.params import TrmTrain
from trm.run import Run

HOLD = """
import sys, time
from pathlib import Path
from trm import lock
lock.LEASE, lock.HEARTBEAT = 1.0, 0.1
lock.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 1.0)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def try_to_take(folder, barrier, found):
    barrier.wait()
    try:
        lock.hold(folder)
        found.put(True)
    except FolderBusy:
        found.put(False)
    barrier.wait()  # whoever holds it lives until all have tried


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_who_come_at_once_one_gets_it(tmp_path, left_behind, other):
    other.kill()
    other.wait()
    if not left_behind:
        (tmp_path / lock.MARKER).unlink()
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(6), context.Queue()
    processes = [context.Process(target=try_to_take, args=(tmp_path, barrier, found)) for _ in range(6)]
    for process in processes:
        process.start()
    assert sorted(found.get(timeout=30) for _ in processes) == [False] * 5 + [True]
    for process in processes:
        process.join()


def test_the_second_run_says_who_is_at_work_and_moves_nothing(tmp_path, other):
    (tmp_path / "params.json").write_text("{}")
    before = sorted(os.listdir(tmp_path))
    for resume in (False, True):
        with pytest.raises(FolderBusy, match=rf"process {other.pid} on \S+ has been at work here since 20") as said:
            Run(TrmTrain.create({"output_dir": str(tmp_path), "resume": resume}), "04_trm_train")
        assert "\n" not in str(said.value)
    assert sorted(os.listdir(tmp_path)) == before and lock.is_held(tmp_path)


def test_a_run_holds_its_folder_until_it_is_complete(tmp_path):
    params = TrmTrain.create({"output_dir": str(tmp_path)})
    run = Run(params, "04_trm_train")
    Run(params.model_copy(update={"output_dir": str(tmp_path / "arms" / "one")}), "04_trm_train").finish({})
    Run(params, "04_trm_train")  # the same notebook once more
    assert lock.is_held(tmp_path) and not (tmp_path / "arms" / "one" / lock.MARKER).exists()
    run.finish({})
    assert not lock.is_held(tmp_path) and not lock.HELD
    with pytest.raises(ValueError):
        Run(TrmTrain.create({"output_dir": str(tmp_path), "resume": True, "lr": 0.1}), "04_trm_train")
    assert not lock.HELD  # a run that does not begin holds nothing


def test_a_dead_owner_is_seen_at_once_and_a_silent_one_after_the_lease(tmp_path, other):
    other.kill()
    other.wait()
    started = time.monotonic()
    lock.hold(tmp_path)
    assert time.monotonic() - started < 1
    lock.release(tmp_path)
    marker = tmp_path / lock.MARKER
    marker.write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=theirs\nduration=1.0\n")
    with pytest.raises(FolderBusy, match="process 1 on elsewhere"):
        lock.hold(tmp_path)  # the marker is fresh
    os.utime(marker, (0, 0))
    started = time.monotonic()
    lock.hold(tmp_path)
    assert time.monotonic() - started >= 1


def test_who_stood_still_and_lost_the_folder_writes_no_more(tmp_path):
    run = Run(TrmTrain.create({"output_dir": str(tmp_path)}), "04_trm_train")
    (tmp_path / lock.MARKER).unlink()
    (tmp_path / lock.MARKER).write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=theirs\nduration=1.0\n")
    time.sleep(0.5)
    with pytest.raises(FolderBusy, match="taken over"):
        run.log({"step": 1})
    assert not (tmp_path / "history.jsonl").exists()
    (tmp_path / lock.MARKER).unlink()
    Run(run.params, "04_trm_train").log({"step": 1})  # the other has gone: the same process may begin anew


def test_a_folder_within_anothers_is_refused(tmp_path, other):
    with pytest.raises(FolderBusy, match=f"process {other.pid} "):
        lock.hold(tmp_path / "arms")


@pytest.mark.slow
def test_two_scripts_with_one_folder(tmp_path):
    words = ["-f", str(ROOT / "params" / "04_smoke.yaml"), "-p", "max_steps", "2000", "-p", "output_dir", str(tmp_path)]
    script = [sys.executable, str(ROOT / "book" / "04_trm_train.py"), *words]
    notebook = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / "book" / "04_trm_train.ipynb"),
        str(tmp_path / "second.ipynb"),
    ]
    first = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "history.jsonl").exists():
            time.sleep(0.1)
        for second in (script, [*script, "-p", "resume", "True"], [*notebook, *words]):
            done = subprocess.run(second, capture_output=True, text=True, cwd=ROOT)
            assert done.returncode and f"process {first.pid} on" in done.stderr and first.poll() is None
            assert "papermill" in second or len(done.stderr.splitlines()) == 1
        assert not list(tmp_path.glob("earlier-*"))
    finally:
        first.kill()
        first.wait()
