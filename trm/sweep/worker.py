"""One point of a sweep: papermill on the chapter, in a process of its own, in a folder of its own.

The folder says what became of it, and nothing else does: `metrics.json`, done; `failed.json`, failed and why;
`metrics.partial.json`, paused by its time limit or an interrupt; `running.lock`, at work, and its owner. A run that is cut off
leaves a checkpoint, from which the next attempt continues. The worker itself holds `point.lock`: one worker for each point.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import torch

from trm import lock
from trm.run import source_hash, to_json, write_atomically
from trm.sweep.chapters import schema_of
from trm.sweep.notebooks import own_kernel, papermill, reason

KERNEL_ATTEMPTS = 3
POINT = "point.lock"  # marker of the worker that executes a point
ORPHAN = 20.0  # seconds for the run of a worker that died to end


@dataclass(frozen=True)
class Job:
    """What a worker must know of a point."""

    name: str
    folder: str
    notebook: str
    values: dict[str, Any]
    about: dict[str, Any]  # kept as point.json
    code: str  # version of the sources that its folder is named after


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done, failed, paused, busy (another process is at work on it) or left (nobody knows)."""

    name: str
    state: str
    seconds: float
    error: str = ""


def state(folder: Path) -> str:
    """done, running, failed, paused or queued, from what lies in the folder of a run."""
    if (folder / "metrics.json").exists():
        return "done"
    if lock.is_held(folder) or lock.is_held(folder, POINT):
        return "running"
    if (folder / "failed.json").exists():
        return "failed"
    return "paused" if (folder / "metrics.partial.json").exists() else "queued"


def on_worker(job: Job, threads: int = 0) -> Outcome:
    """`execute` with a dask worker's share of its machine: its cores divided among the workers that are there by now, and
    one GPU. threads: of the run, instead of its share."""
    from distributed import get_client, get_worker

    me = get_worker()
    names = neighbours(get_client()).get(urlsplit(me.address).hostname, [])
    rank = names.index(str(me.name)) if str(me.name) in names else zlib.crc32(str(me.name).encode())
    share = str(threads or max(cores() // max(len(names), 1), 1))
    environment = {name: share for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if visible := gpus():
        environment["CUDA_VISIBLE_DEVICES"] = visible[rank % len(visible)]
    return execute(job, environment)


def gpus() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def neighbours(client) -> dict[str, list[str]]:
    """Host -> names of its workers, one for each of their threads, as a dask client sees them now."""
    found: dict[str, list[str]] = {}
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        found.setdefault(urlsplit(address).hostname, []).extend([str(worker["name"])] * worker["nthreads"])
    return {host: sorted(names) for host, names in found.items()}


def execute(job: Job, environment: dict[str, str] | None = None) -> Outcome:
    """Run a point to its end, or until it fails; one that is complete is not run again. `environment`: variables to set."""
    folder, started = Path(job.folder), time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.hold(folder, POINT)
        ended, error = _attempts(job, folder, environment or {})
    except lock.FolderBusy as busy:
        ended, error = "busy", str(busy)
    except OSError as fault:  # a full disk, a folder that cannot be written
        ended, error = "failed", f"{fault.strerror or fault}: {fault.filename or folder}"
    finally:
        lock.release(folder, POINT)
    outcome = Outcome(job.name, ended, time.monotonic() - started, error)
    if ended == "failed":
        with contextlib.suppress(OSError):  # a full disk: still reported, and the run is tried again next time
            write_atomically(folder / "failed.json", to_json(asdict(outcome), indent=2))
    return outcome


def _attempts(job: Job, folder: Path, variables: dict[str, str]) -> tuple[str, str]:
    """State and error of a run after papermill; where it or its kernel is killed, up to `KERNEL_ATTEMPTS` times."""
    if source_hash(schema_of(Path(job.notebook).stem).COMPUTED_BY) != job.code:
        return "failed", "the sources changed since the sweep began; start it again"
    if (folder / "metrics.json").exists():
        return "done", ""
    for _ in range(KERNEL_ATTEMPTS):
        lock.hold(folder, patience=ORPHAN)  # a run that a dead worker or papermill left behind ends first
        lock.release(folder)
        for name in ("failed.json", "metrics.partial.json"):  # of an earlier attempt
            (folder / name).unlink(missing_ok=True)
        with own_kernel() as kernel:
            code, text = _papermill(job, folder, variables | kernel)
        if (folder / "metrics.json").exists():
            return "done", ""
        if (folder / "metrics.partial.json").exists():
            return "paused", ""
        if code and "FolderBusy" in text:
            return "busy", reason(folder / "run.ipynb", text, code)
        if code >= 0 and "DeadKernelError" not in text:
            return "failed", reason(folder / "run.ipynb", text, code)
    return "failed", "the notebook or its kernel was killed (out of memory?)"


def _papermill(job: Job, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Execute the notebook; (exit code, what it printed). Raises FolderBusy if the point is another's now."""
    values = job.values | {"output_dir": str(folder), "resume": True}
    write_atomically(folder / "point.json", to_json(job.about, indent=2))
    write_atomically(folder / "parameters.yaml", to_json(values, indent=2))  # JSON is YAML
    notebook = Path(job.notebook)
    command = papermill(notebook, folder / "run.ipynb", folder / "parameters.yaml", notebook.parent.parent)
    environment = os.environ | variables
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # dask sets it for its workers; it made training three times slower
    parent = os.getppid()
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        begin = log.tell()
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            **_own_group(),
        )  # fmt: skip
        try:
            while child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(2)
                lock.check(folder, POINT)
                if os.getppid() != parent:  # whoever started this worker is gone: so should it be
                    os._exit(1)
        finally:
            kill_tree(child.pid)
            child.wait()
    with open(folder / "log.txt", encoding="utf-8", errors="replace") as log:
        log.seek(begin)
        return child.returncode, log.read()


def _own_group() -> dict[str, Any]:
    """How to start a child that Ctrl-C in the terminal does not reach (the sweep stops its runs itself) and, on Linux, that is
    killed when its worker is; elsewhere the run of a dead worker ends by itself, and nobody else writes meanwhile."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True} | ({"preexec_fn": _die_with_parent} if sys.platform == "linux" else {})


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started; a kernel is a process of its own session."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=5)
