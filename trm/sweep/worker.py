"""One point of a sweep: papermill on the chapter, in a process of its own, in a folder of its own.

The folder says what became of it, and nothing else does: `metrics.json`, done; `failed.json`, failed and why;
`metrics.partial.json`, paused by its time limit; `running.json`, touched every few seconds, at work. What is cut off
leaves a checkpoint, from which the next attempt goes on.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from trm.run import to_json, write_atomically

HEARTBEAT, STALE = 2.0, 15.0  # seconds between signs of life, and without one until a run counts as cut off


@dataclass(frozen=True)
class Job:
    """What a worker must know of a point."""

    name: str
    folder: str
    notebook: str
    values: dict[str, Any]
    about: dict[str, Any]  # kept as point.json


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done, failed, paused or busy (another process is at work on it)."""

    name: str
    state: str
    seconds: float
    error: str = ""


class KernelDied(RuntimeError):
    """The notebook's kernel was killed: worth another attempt, from the checkpoint."""


def state(folder: Path) -> str:
    """done, running, failed, paused or queued, from what lies in the folder of a run."""
    if (folder / "metrics.json").exists():
        return "done"
    try:
        if time.time() - (folder / "running.json").stat().st_mtime < STALE:
            return "running"
    except FileNotFoundError:
        pass
    for name, kind in (("failed.json", "failed"), ("metrics.partial.json", "paused")):
        if (folder / name).exists():
            return kind
    return "queued"


def error_of(folder: Path) -> str:
    """The line that says why a run failed; empty if it did not."""
    try:
        return json.loads((folder / "failed.json").read_text())["error"]
    except (OSError, ValueError, KeyError):
        return ""


def execute(job: Job, environment: dict[str, str] | None = None, kernel_attempts: int = 3) -> Outcome:
    """Run a point to its end, or until it fails; one that is complete is not run again. `environment`: variables to set.

    A kernel that dies (out of memory, killed) is started again, at most `kernel_attempts` times in all.
    """
    folder, started = Path(job.folder), time.monotonic()

    def outcome(state: str, error: str = "") -> Outcome:
        return Outcome(job.name, state, time.monotonic() - started, error)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _take_over(folder):
            return outcome("busy", "another process is at work on it")
        for attempt in range(1, kernel_attempts + 1):
            if (folder / "metrics.json").exists():
                return outcome("done")
            try:
                code, text = _papermill(job, folder, environment or {})
            except KernelDied as error:
                if attempt == kernel_attempts:
                    return _failed(folder, outcome("failed", str(error)))
                continue
            if (folder / "metrics.json").exists():
                (folder / "failed.json").unlink(missing_ok=True)
                return outcome("done")
            if code == 0 and (folder / "metrics.partial.json").exists():
                return outcome("paused")
            return _failed(folder, outcome("failed", _reason(folder, text, code)))
    except OSError as error:  # a full disk, a folder that cannot be written
        return _failed(folder, outcome("failed", f"{error.strerror or error}: {error.filename or folder}"))
    finally:
        (folder / "running.json").unlink(missing_ok=True)


def _papermill(job: Job, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Execute the notebook; (exit code, what it printed)."""
    values = job.values | {"output_dir": str(folder), "resume": True}
    write_atomically(folder / "point.json", to_json(job.about, indent=2))
    write_atomically(folder / "parameters.yaml", to_json(values, indent=2))  # JSON is YAML
    command = [sys.executable, "-m", "papermill", job.notebook, str(folder / "run.ipynb"), "--no-progress-bar",
               "-f", str(folder / "parameters.yaml"), "--cwd", str(folder), "--start-timeout", "600"]  # fmt: skip
    environment = os.environ | variables
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # dask sets it for its workers; it made training three times slower
    parent = os.getppid()
    with open(folder / "log.txt", "a") as log:
        begin = log.tell()
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent, start_new_session=True,  # Ctrl-C is for the sweep, which then stops its runs
        )  # fmt: skip
        try:
            about = {"pid": child.pid, "created": psutil.Process(child.pid).create_time(), "host": socket.gethostname()}
            write_atomically(folder / "running.json", to_json(about))
            while child.poll() is None:
                try:
                    child.wait(HEARTBEAT)
                except subprocess.TimeoutExpired:
                    os.utime(folder / "running.json")
                if os.getppid() != parent:  # whoever started this worker is gone: so should it be
                    os._exit(1)
        finally:
            _kill_tree(child.pid)
            child.wait()
    with open(folder / "log.txt", errors="replace") as log:
        log.seek(begin)
        text = log.read()
    if child.returncode != 0 and "DeadKernelError" in text:
        raise KernelDied("the notebook's kernel was killed (out of memory?)")
    return child.returncode, text


def _reason(folder: Path, text: str, code: int) -> str:
    """The error in one line: from the failing cell of the notebook, else the last line that was printed."""
    try:
        notebook = json.loads((folder / "run.ipynb").read_text())
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                if output["output_type"] == "error":
                    return f"{output['ename']}: {output['evalue']}".splitlines()[0]
    except (OSError, ValueError, KeyError):
        pass
    lines = [line for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines() if line.strip()]
    return lines[-1] if lines else f"papermill ended with code {code} and wrote no metrics.json"


def _failed(folder: Path, outcome: Outcome) -> Outcome:
    with contextlib.suppress(OSError):  # a full disk: still reported, and the run is tried again next time
        write_atomically(folder / "failed.json", to_json(asdict(outcome), indent=2))
    return outcome


def _take_over(folder: Path) -> bool:
    """Whether this process may work in `folder`; what a dead process left running there is stopped first."""
    marker = folder / "running.json"
    try:
        about = json.loads(marker.read_text())
        age = time.time() - marker.stat().st_mtime
    except (OSError, ValueError):
        return True
    if about["host"] == socket.gethostname():
        try:
            left = psutil.Process(about["pid"])
            alive = abs(left.create_time() - about["created"]) < 1 and left.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            alive = False
        if alive and age < STALE:
            return False  # its worker lives and cares for it
        if alive:
            _kill_tree(about["pid"])
    elif age < STALE:
        return False
    marker.unlink(missing_ok=True)
    return True


def _kill_tree(pid: int) -> None:
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


def _die_with_parent() -> None:
    """In the child, before it starts: be killed when the worker is (Linux; elsewhere the heartbeat goes stale)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
