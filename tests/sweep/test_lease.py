"""Who holds the folder of a run: real processes, of which only one may."""

import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from trm.sweep import lease
from trm.sweep.lease import Lease, LeaseLost


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (("HEARTBEAT", 0.1), ("STALE", 0.6), ("STALE_ELSEWHERE", 1.2)):
        monkeypatch.setattr(lease, name, seconds)


def a_dead_one(folder):
    child = subprocess.Popen([sys.executable, "-c", ""])
    about = {"token": "old", "host": socket.gethostname(), "pid": child.pid, "created": 0, "worker": child.pid}
    child.wait()
    (folder / "running.json").write_text(json.dumps(about), encoding="utf-8")


@contextlib.contextmanager
def beating(beat):
    """`beat` is called twenty times in a second meanwhile."""
    stop = threading.Event()

    def go():
        while not stop.wait(0.05):
            beat()

    thread = threading.Thread(target=go)
    thread.start()
    yield
    stop.set()
    thread.join()


def try_to_take(folder, barrier, found):
    barrier.wait()
    mine = Lease.acquire(folder)
    found.put(mine is not None)
    barrier.wait()  # whoever holds it lives until all have tried


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_who_come_at_once_one_gets_it(tmp_path, left_behind):
    if left_behind:
        a_dead_one(tmp_path)
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(6), context.Queue()

    def beat():  # the heartbeat of the holder, whoever it is
        with contextlib.suppress(OSError):
            os.utime(tmp_path / "running.json")

    processes = [context.Process(target=try_to_take, args=(tmp_path, barrier, found)) for _ in range(6)]
    for process in processes:
        process.start()
    with beating(beat):
        assert sorted(found.get(timeout=30) for _ in processes) == [False] * 5 + [True]
    for process in processes:
        process.join()


def test_a_living_owner_keeps_it_and_a_silent_one_loses_it(tmp_path):
    mine = Lease.acquire(tmp_path)
    with beating(mine.heartbeat):
        assert Lease.acquire(tmp_path) is None and Lease.is_held(tmp_path)
    other = Lease.acquire(tmp_path)  # no heartbeat for STALE seconds
    assert other is not None
    with pytest.raises(LeaseLost):
        mine.heartbeat()
    mine.release()
    assert (tmp_path / "running.json").exists()  # it is the other's
    other.release()
    assert not (tmp_path / "running.json").exists() and not Lease.is_held(tmp_path)


def test_a_run_left_without_its_worker_is_stopped(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    created = psutil.Process(child.pid).create_time()
    about = {"token": "old", "host": socket.gethostname(), "pid": child.pid, "created": created}
    (tmp_path / "running.json").write_text(
        json.dumps(about | {"worker": 2**22 + 1, "worker_created": 0}), encoding="utf-8"
    )
    assert Lease.acquire(tmp_path) is not None
    assert not psutil.pid_exists(child.pid)


def test_another_machine_gets_more_time(tmp_path):
    about = {"token": "theirs", "host": "elsewhere", "pid": 1, "created": 0}
    (tmp_path / "running.json").write_text(json.dumps(about), encoding="utf-8")
    started = time.monotonic()
    assert Lease.is_held(tmp_path) and Lease.acquire(tmp_path) is not None
    assert time.monotonic() - started >= 1.2
