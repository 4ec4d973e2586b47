"""Runs the points of a sweep on dask workers: on this machine by default, on any cluster by its scheduler's address.

dask carries jobs to workers, gives those of a dead worker to another, and is all there is of a scheduler. What is done
is read from the folders of the runs, so that a sweep that was killed goes on where it was.
"""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from trm.run import checkout
from trm.sweep.spec import Point, Sweep, SweepError
from trm.sweep.worker import Job, Outcome, cores, neighbours, on_worker, state


def jobs_of(sweep: Sweep, points: list[Point], time_limit: float, scale: str) -> list[Job]:
    """The jobs of all points that this machine can run; equal points make one job. time_limit: minutes of training."""
    jobs: dict[str, Job] = {}
    for point in (point for point in points if point.params is not None):
        folder = str(sweep.folder_of(point))
        about = {"sweep": sweep.name, "case": point.case, "cell": point.cell, "seed": point.seed, "scale": scale}
        values = point.params.model_dump() | ({"time_limit": time_limit} if time_limit else {})
        if values["log_with"] != "none":  # so that a table exported from the tracker names cases
            values["wandb_run_name"] = values["wandb_run_name"] or f"{point.case}/{point.cell}".rstrip("/")
        notebook = str(checkout() / "book" / f"{sweep.notebook}.ipynb")
        job = Job(f"{sweep.name}/{point.name}", folder, notebook, values, about, sweep.code)
        jobs.setdefault(folder, job)
    return list(jobs.values())


@contextmanager
def connected(jobs: int, address: str = "") -> Iterator[Any]:
    """A dask client with its workers: a LocalCluster of `jobs` processes, or those of the scheduler at `address`."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed.client").setLevel(
        logging.CRITICAL
    )  # a scheduler that dies is an outcome of every run
    dask.config.set({
        "distributed.scheduler.allowed-failures": 3, "distributed.logging.distributed": "error",
        # a run uses its worker's thread for hours, and never answers meanwhile: that is not a fault
        "distributed.scheduler.worker-ttl": None, "distributed.worker.daemon": False,
        # what dask looks at many times a second for its dashboard
        "distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "5s",
    })  # fmt: skip
    cluster = None
    if address:
        try:
            parts = urlsplit(address)
            if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
                raise ValueError("an address is such as tcp://HOST:8786")
            client = Client(address, timeout="15s", set_as_default=False)
        except Exception as error:  # dask, tornado and the network each raise their own
            why = str(error).partition("\n")[0] or type(error).__name__
            raise SweepError(f"no scheduler answers at {address} ({why}); start one with `dask scheduler`") from None
    else:
        one_each = {"threads_per_worker": 1, "processes": True, "memory_limit": 0}
        cluster = LocalCluster(n_workers=jobs, dashboard_address="127.0.0.1:0", **one_each)
        client = Client(cluster, set_as_default=False)
    try:
        yield client
    finally:  # workers of another scheduler only forget what was asked of them
        client.close(timeout=5)
        if cluster:
            cluster.close(timeout=5)


def outcomes(client: Any, jobs: list[Job], threads: int = 0) -> Iterator[Outcome]:
    """Outcomes as they come."""
    from distributed.client import FutureCancelledError

    waiting = {client.submit(on_worker, job, threads, pure=False, retries=3): job for job in jobs}
    while waiting:
        finished = [future for future in waiting if future.done()]
        for future in finished:
            job = waiting.pop(future)
            try:
                yield future.result()
            except FutureCancelledError:
                yield Outcome(job.name, "left", 0.0, "the scheduler went away; the same command goes on")
            except Exception as error:  # a worker that died too often, or a fault of the engine
                yield Outcome(job.name, "failed", 0.0, f"{type(error).__name__}: {error}".splitlines()[0])
        if not finished:
            time.sleep(0.2)


def run(
    chosen: list[tuple[Sweep, list[Point]]], scale: str, jobs: int = 1, threads: int = 0, time_limit: float = 0,
    address: str = "", fail_fast: bool = False,
) -> Counter:  # fmt: skip
    """Run all points that are not done, failed ones again; how many jobs ended in each state ("skipped": done before).

    Args:
        jobs: at a time on this machine; the scheduler at `address` has workers instead.
        threads: of each run; 0: the cores divided among them.
        time_limit: minutes of training per run.
    """
    todo = [job for sweep, points in chosen for job in jobs_of(sweep, points, time_limit, scale)]
    left = [job for job in todo if state(Path(job.folder)) != "done"]
    unavailable = [point for _, points in chosen for point in points if point.params is None]
    for point in unavailable:
        print(f"not on this machine: {point.name}: {point.unavailable}")
    counts = Counter(skipped=len(todo) - len(left), unavailable=len(unavailable))
    print(f"{len(todo)} runs: {counts['skipped']} done before, {len(left)} to do", flush=True)
    if not left:
        return counts
    if not address:  # the same whichever worker is just being started again: the rounding of sums depends on it
        threads = threads or max(cores() // jobs, 1)
    for sweep, _ in chosen:
        try:
            sweep.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=sweep.folder).close()
        except OSError as error:
            raise SweepError(f"{sweep.folder} cannot be written ({error.strerror}); --outputs names another") from None
    with (
        connected(min(jobs, len(left)), address) as client,
        tqdm(total=len(left), unit="run", disable=None) as bar,  # only on a terminal
    ):
        if not neighbours(client):
            print(f"{address} has no workers yet: waiting for `dask worker {address}`", flush=True)
        try:
            for ended, outcome in enumerate(outcomes(client, left, threads), 1):
                counts[outcome.state] += 1
                bar.update()
                line = (
                    f"[{ended}/{len(left)}] {outcome.state:7} {outcome.name}  {outcome.seconds:.0f} s  {outcome.error}"
                )
                with bar.external_write_mode():
                    print(line.rstrip(), flush=True)
                if fail_fast and outcome.state == "failed":
                    print("stopped at the first failure")
                    break
        except KeyboardInterrupt:
            if address:
                print(f"\nruns that are at work on {address} go on to their end", flush=True)
            raise
    return counts
