"""Processes at work in the folders of runs: which one holds a folder, and whether it lives."""

import contextlib
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from trm.run import to_json, write_atomically

HEARTBEAT, STALE = 2.0, 15.0  # seconds between heartbeats, and without one until a run counts as dead
STALE_ELSEWHERE = 120.0  # the same where a shared disk carries the heartbeat from another machine


class LeaseLost(RuntimeError):
    """Another process has taken over the folder."""


class Lease:
    """running.json: that a process is at work in a folder, and which. Only one process can hold it."""

    def __init__(self, folder: Path):
        self.path = folder / "running.json"
        self.owner = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "worker": os.getpid()}
        self.owner["worker_created"] = psutil.Process().create_time()

    @classmethod
    def acquire(cls, folder: Path) -> "Lease | None":
        """Take over a folder unless a living process works in it; a run that a dead worker left behind is stopped first.
        Where death is not certain, wait `STALE` (`STALE_ELSEWHERE`) seconds for a heartbeat."""
        lease = cls(folder)
        while not lease._create():
            owner = read_mapping(lease.path)
            alive = _is_alive(owner, "pid", "created") or _is_alive(owner, "worker", "worker_created")
            if (alive or not _is_here(owner)) and _has_heartbeat(lease.path, owner):
                return None
            with _locked(folder):
                if read_mapping(lease.path) == owner:
                    if _is_here(owner) and _is_alive(owner, "pid", "created"):
                        kill_tree(owner["pid"])
                    lease.path.unlink(missing_ok=True)
                elif lease.path.exists():
                    return None  # another was faster
        return lease

    def _create(self) -> bool:
        with (
            contextlib.suppress(FileExistsError),
            _locked(self.path.parent),
            open(self.path, "x", encoding="utf-8") as file,
        ):
            file.write(to_json(self.owner))
            return True
        return False

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Whether a process has sent a heartbeat in `folder` lately."""
        path = folder / "running.json"
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return False
        return age < STALE or (age < STALE_ELSEWHERE and not _is_here(read_mapping(path)))

    def name_run(self, pid: int) -> None:
        """Name the process that is at work."""
        self.owner |= {"pid": pid, "created": psutil.Process(pid).create_time()}
        write_atomically(self.path, to_json(self.owner))

    def heartbeat(self) -> None:
        """Show that the owner lives; raises LeaseLost if another process has the folder now."""
        if read_mapping(self.path).get("token", self.owner["token"]) != self.owner["token"]:
            raise LeaseLost
        with contextlib.suppress(OSError):  # a disk that does not answer once is not a reason to stop
            os.utime(self.path)

    def release(self) -> None:
        """Give the folder back, if it is still this process's."""
        if read_mapping(self.path).get("token") == self.owner["token"]:
            self.path.unlink(missing_ok=True)


def _has_heartbeat(path: Path, owner: dict[str, Any]) -> bool:
    """Wait until the file changes: True; or has not changed for too long, or is gone: False."""
    end = time.monotonic() + (STALE if _is_here(owner) or not owner else STALE_ELSEWHERE)
    with contextlib.suppress(FileNotFoundError):
        seen = path.stat().st_mtime_ns
        while time.monotonic() < end:
            time.sleep(HEARTBEAT / 2)
            if path.stat().st_mtime_ns != seen:
                return True
    return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time, of this machine, and of all where the disk can lock."""
    with open(folder / ".running.lock", "w", encoding="utf-8") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON mapping; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_here(owner: dict[str, Any]) -> bool:
    return owner.get("host") == socket.gethostname()


def _is_alive(owner: dict[str, Any], pid: str, created: str) -> bool:
    """Whether the process of this machine that `owner` names under `pid` still lives."""
    try:
        found = psutil.Process(owner[pid])
        return abs(found.create_time() - owner[created]) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started; a kernel is a process of its own session."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=5)
