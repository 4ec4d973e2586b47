"""Processes at work in the folders of runs: which one holds a folder, whether it lives, whether it hangs."""

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

HEARTBEAT, STALE = 2.0, 15.0  # seconds between signs of life, and without one until a run counts as cut off
STALE_ELSEWHERE = 120.0  # the same where a shared disk carries the sign from another machine
IDLE, IDLE_SHARE = 600.0, 0.005  # seconds, and share of a core: a run that uses less for so long hangs


class Lost(RuntimeError):
    """Another process has taken over the folder."""


class Marker:
    """running.json: that a process is at work in a folder, and which. Only one process can hold it."""

    def __init__(self, path: Path):
        self.path = path
        self.about = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "worker": os.getpid(),
                      "worker_created": psutil.Process().create_time()}  # fmt: skip

    @classmethod
    def take(cls, folder: Path) -> "Marker | None":
        """Take over a folder, if nobody lives who works in it; what a dead process left running there is stopped first.

        Where it cannot be told at once (another machine, or a process that gives no sign), this waits until the marker has
        changed, or has not for `STALE` seconds (`STALE_ELSEWHERE`).
        """
        mine, path = cls(folder / "running.json"), folder / "running.json"
        seen, since = None, time.monotonic()
        while True:
            with contextlib.suppress(FileExistsError), _alone(folder), open(path, "x") as file:
                file.write(to_json(mine.about))
                return mine
            about = read_mapping(path)
            try:
                changed = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # released just now
            here = about.get("host") == socket.gethostname()
            if not (here and _gone(about)):
                if seen is not None and changed != seen:
                    return None
                seen = changed
                if time.monotonic() - since < (STALE if here or not about else STALE_ELSEWHERE):
                    time.sleep(HEARTBEAT / 2)
                    continue
            with _alone(folder):
                if read_mapping(path) != about:
                    if path.exists():
                        return None  # another was faster, and this is its marker
                    continue
                if here and _alive(about, "pid", "created"):
                    kill_tree(about["pid"])
                path.unlink(missing_ok=True)

    @staticmethod
    def held(folder: Path) -> bool:
        """Whether a process has given a sign of life in `folder` of late."""
        path = folder / "running.json"
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return False
        return age < STALE or age < STALE_ELSEWHERE and read_mapping(path).get("host") != socket.gethostname()

    def name(self, pid: int) -> None:
        """Name the process that is at work."""
        self.about |= {"pid": pid, "created": psutil.Process(pid).create_time()}
        write_atomically(self.path, to_json(self.about))

    def beat(self) -> None:
        """Give a sign of life. A disk that does not answer for once is no reason to stop.

        Raises:
            Lost: another process has the folder now.
        """
        token = read_mapping(self.path).get("token", self.about["token"])
        if token != self.about["token"]:
            raise Lost
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Give the folder back, if it is still this process's."""
        if read_mapping(self.path).get("token") == self.about["token"]:
            self.path.unlink(missing_ok=True)


class IdleWatch:
    """Whether a process and all that it started have used next to no processor for `IDLE` seconds: then they wait for each
    other. (A front end of notebooks can lose the end of a cell: jupyter/nbclient#312.)"""

    def __init__(self, pid: int):
        self.pid, self.used = pid, 0.0
        self.since = self.asked = time.monotonic()

    def hangs(self) -> bool:
        """Ask as often as you like; it looks forty times in `IDLE` seconds."""
        if time.monotonic() - self.asked < IDLE / 40:
            return False
        self.asked, used = time.monotonic(), 0.0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            for member in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = member.cpu_times()
                    used += times.user + times.system
        waited = time.monotonic() - self.since
        if used - self.used > IDLE_SHARE * IDLE or used < self.used:
            self.used, self.since = used, time.monotonic()
            return False
        return waited > IDLE


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time, of this machine, and of all where the disk can lock."""
    with open(folder / ".running.lock", "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON mapping; empty where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(about: dict[str, Any], pid: str, created: str) -> bool:
    """Whether the process of this machine that a marker names so still lives."""
    try:
        found = psutil.Process(about[pid])
        return abs(found.create_time() - about[created]) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _gone(about: dict[str, Any]) -> bool:
    """Whether neither the run nor its worker, both of this machine, lives."""
    return bool(about) and not _alive(about, "pid", "created") and not _alive(about, "worker", "worker_created")


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started; a kernel is a process of its own session."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)
