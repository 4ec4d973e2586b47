"""One point of a sweep: papermill on the chapter, in a process of its own, in a folder of its own.

The folder says what became of it, and nothing else does: `metrics.json`, done; `failed.json`, failed and why;
`metrics.partial.json`, paused by its time limit; `running.json`, touched every few seconds, at work, and its owner. A run that
is cut off leaves a checkpoint, from which the next attempt continues.
"""

import contextlib
import glob
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trm.run import ROOT, source_hash, to_json, write_atomically
from trm.sweep.chapters import schema_of
from trm.sweep.lease import HEARTBEAT, IDLE, HangDetector, Lease, LeaseLost, kill_tree, read_mapping


@dataclass(frozen=True)
class Job:
    """What a worker must know of a point."""

    name: str
    folder: str
    notebook: str
    values: dict[str, Any]
    about: dict[str, Any]  # kept as point.json
    code: str = ""  # version of the sources that its folder is named after


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done, failed, paused, busy (another process is at work on it) or left (nobody knows)."""

    name: str
    state: str
    seconds: float
    error: str = ""


class KernelDied(RuntimeError):
    """The notebook's kernel was killed, or hangs: worth another attempt, from the checkpoint."""


def state(folder: Path) -> str:
    """done, running, failed, paused or queued, from what lies in the folder of a run."""
    if (folder / "metrics.json").exists():
        return "done"
    if Lease.is_held(folder):
        return "running"
    for name, kind in (("failed.json", "failed"), ("metrics.partial.json", "paused")):
        if (folder / name).exists():
            return kind
    return "queued"


def error_of(folder: Path) -> str:
    """The line that says why a run failed; empty if it did not."""
    return str(read_mapping(folder / "failed.json").get("error", ""))


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
    if not glob.glob("/dev/nvidia[0-9]*") and not os.path.exists("/dev/dxg") and sys.platform == "linux":
        return []  # spares every worker the seconds that torch takes to load
    import torch

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


def execute(job: Job, environment: dict[str, str] | None = None, kernel_attempts: int = 3) -> Outcome:
    """Run a point to its end, or until it fails; one that is complete is not run again. `environment`: variables to set.

    A kernel that dies (out of memory, killed) or hangs is started again, at most `kernel_attempts` times in all.
    """
    folder, started = Path(job.folder), time.monotonic()

    def outcome(state: str, error: str = "") -> Outcome:
        return Outcome(job.name, state, time.monotonic() - started, error)

    lease = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease = Lease.acquire(folder)
        if lease is None:
            return outcome("busy", "another process is at work on it")
        if job.code and source_hash(schema_of(Path(job.notebook).stem).COMPUTED_BY) != job.code:
            return _failed(folder, outcome("failed", "the sources changed since the sweep began; start it again"))
        for attempt in range(1, kernel_attempts + 1):
            if (folder / "metrics.json").exists():
                return outcome("done")
            (folder / "failed.json").unlink(missing_ok=True)
            try:
                code, text = _papermill(job, folder, environment or {}, lease)
            except KernelDied as error:
                if attempt == kernel_attempts:
                    return _failed(folder, outcome("failed", str(error)))
                continue
            if (folder / "metrics.json").exists():
                return outcome("done")
            if code == 0 and (folder / "metrics.partial.json").exists():
                return outcome("paused")
            return _failed(folder, outcome("failed", _reason(folder, text, code)))
    except LeaseLost:
        return outcome("busy", "another process has taken it over")
    except OSError as error:  # a full disk, a folder that cannot be written
        return _failed(folder, outcome("failed", f"{error.strerror or error}: {error.filename or folder}"))
    finally:
        if lease:
            lease.release()


def _papermill(job: Job, folder: Path, variables: dict[str, str], lease: Lease) -> tuple[int, str]:
    """Execute the notebook; (exit code, what it printed).

    Raises:
        KernelDied: the kernel was killed, or hangs. LeaseLost: the folder is another's now.
    """
    values = job.values | {"output_dir": str(folder), "resume": True}
    write_atomically(folder / "point.json", to_json(job.about, indent=2))
    write_atomically(folder / "parameters.yaml", to_json(values, indent=2))  # JSON is YAML
    command = [sys.executable, "-m", "papermill", job.notebook, str(folder / "run.ipynb"), "--no-progress-bar",
               "-f", str(folder / "parameters.yaml"), "--cwd", str(ROOT), "--start-timeout", "600"]  # fmt: skip
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
            lease.name_run(child.pid)
            hang = HangDetector(child.pid)
            while child.poll() is None:
                try:
                    child.wait(HEARTBEAT)
                except subprocess.TimeoutExpired:
                    lease.heartbeat()
                    if hang.hangs():
                        raise KernelDied(f"it did nothing for {IDLE / 60:.0f} minutes and was stopped") from None
                if os.getppid() != parent:  # whoever started this worker is gone: so should it be
                    os._exit(1)
        finally:
            kill_tree(child.pid)
            child.wait()
    with open(folder / "log.txt", errors="replace") as log:
        log.seek(begin)
        text = log.read()
    if child.returncode != 0 and "DeadKernelError" in text:
        raise KernelDied("the notebook's kernel was killed (out of memory?)")
    return child.returncode, text


def _reason(folder: Path, text: str, code: int) -> str:
    """The error in one line: from the failing cell of the notebook, else the last line that was printed."""
    for cell in read_mapping(folder / "run.ipynb").get("cells", []):
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                return f"{output['ename']}: {output['evalue']}".splitlines()[0]
    lines = [line for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines() if line.strip()]
    return lines[-1] if lines else f"papermill ended with code {code} and wrote no metrics.json"


def _failed(folder: Path, outcome: Outcome) -> Outcome:
    with contextlib.suppress(OSError):  # a full disk: still reported, and the run is tried again next time
        write_atomically(folder / "failed.json", to_json(asdict(outcome), indent=2))
    return outcome


def _die_with_parent() -> None:
    """In the child, before it starts: be killed when the worker is (Linux; elsewhere the heartbeat goes stale)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
