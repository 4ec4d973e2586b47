"""Runs the points of a sweep on dask workers: on this machine by default, on any cluster by its scheduler's address.

dask carries jobs to workers, gives those of a dead worker to another, and is all there is of a scheduler. What is done
is read from the folders of the runs, so that a sweep that was killed goes on where it was.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from trm.sweep.spec import Point, Sweep, SweepError
from trm.sweep.worker import Job, Outcome, neighbours, on_worker, state


def jobs_of(sweep: Sweep, points: list[Point], time_limit: float, scale: str) -> list[Job]:
    """The jobs of all points that this machine can run; equal points make one job. time_limit: minutes of training."""
    jobs: dict[str, Job] = {}
    for point in points:
        if point.params is None:
            continue
        folder = str(sweep.folder_of(point))
        about = {"sweep": sweep.name, "case": point.case, "cell": point.cell, "seed": point.seed, "scale": scale}
        values = point.params.model_dump() | ({"time_limit": time_limit} if time_limit else {})
        name = f"{sweep.name}/{point.name}"
        jobs.setdefault(folder, Job(name, folder, str(sweep.chapter), values, about, sweep.code))
    return list(jobs.values())


class Pool:
    """A dask client with its workers: a LocalCluster of `jobs` processes, or those of the scheduler at `address`.

    Raises:
        SweepError: `address` is none, or nothing answers there.
    """

    def __init__(self, jobs: int, address: str = ""):
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"distributed.scheduler.allowed-failures": 3, "distributed.logging.distributed": "error"})
        # a run uses its worker's thread for hours, and never answers meanwhile: that is no fault
        dask.config.set({"distributed.scheduler.worker-ttl": None, "distributed.worker.daemon": False})
        # and what dask looks at many times a second for its dashboard is not wanted
        dask.config.set({"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s",
                         "distributed.admin.system-monitor.interval": "5s"})  # fmt: skip
        self.cluster = None
        if address:
            try:
                parts = urlsplit(address)
                if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
                    raise ValueError("an address is such as tcp://HOST:8786")
                self.client = Client(address, timeout="15s", set_as_default=False)
            except Exception as error:  # dask, tornado and the network each raise their own
                why = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise SweepError(
                    f"no scheduler answers at {address} ({why}); start one with `dask scheduler`"
                ) from None
        else:
            self.cluster = LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", memory_limit=0,
            )  # fmt: skip
            self.client = Client(self.cluster, set_as_default=False)

    def workers(self) -> int:
        """How many jobs can run at a time by now."""
        return sum(map(len, neighbours(self.client).values()))

    def outcomes(self, jobs: list[Job], threads: int = 0) -> Iterator[Outcome]:
        """Outcomes as they come."""
        from distributed.client import FutureCancelledError

        waiting = {self.client.submit(on_worker, job, threads, pure=False, retries=3): job for job in jobs}
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

    def close(self) -> None:
        """Stop the workers of this machine; those of another scheduler only forget what was asked of them."""
        self.client.close(timeout=5)
        if self.cluster:
            self.cluster.close(timeout=5)


def run(
    chosen: list[tuple[Sweep, list[Point]]],
    scale: str,
    jobs: int = 1,
    threads: int = 0,
    time_limit: float = 0,
    address: str = "",
    fail_fast: bool = False,
) -> Counter:
    """Run all points that are not done; returns how many jobs ended in each state, "skipped" being done before.

    Failed ones are tried again, as what failed may have been fixed. At most `jobs` at a time on this machine, or as many as
    the scheduler at `address` has workers, with `threads` each (0: the cores divided among them). `time_limit`: minutes of
    training per run.

    Raises:
        SweepError: the folder for the runs cannot be written, or no scheduler answers.
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
    for sweep, _ in chosen:
        try:
            sweep.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=sweep.folder):
                pass
        except OSError as error:
            raise SweepError(f"{sweep.folder} cannot be written ({error.strerror}); --outputs names another") from None
    pool = Pool(min(jobs, len(left)), address)
    if not pool.workers():
        print(f"{address} has no workers yet: waiting for `dask worker {address}`", flush=True)
    bar = tqdm(total=len(left), unit="run", disable=None)  # only on a terminal
    ended = 0
    try:
        for outcome in pool.outcomes(left, threads):
            counts[outcome.state] += 1
            bar.update()
            ended += 1
            line = f"[{ended}/{len(left)}] {outcome.state:7} {outcome.name}  {outcome.seconds:.0f} s  {outcome.error}".rstrip()
            with bar.external_write_mode():
                print(line, flush=True)
            if fail_fast and outcome.state == "failed":
                print("stopped at the first failure")
                break
    except KeyboardInterrupt:
        if address:
            print(f"\nruns that are at work on {address} go on to their end", flush=True)
        raise
    finally:
        bar.close()
        pool.close()
    return counts
