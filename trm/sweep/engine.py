"""Runs the points of a sweep on dask workers: on this machine by default, on any cluster by its scheduler's address.

dask carries jobs to workers, gives those of a dead worker to another, and is all there is of a scheduler. What is done
is read from the folders of the runs, so that a sweep that was killed goes on where it was.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from trm.sweep.definition import Point, Sweep, SweepError
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

    def outcomes(self, jobs: list[Job], threads: int = 0) -> Iterator[Outcome | None]:
        """Outcomes as they come; None about five times a second while there is nothing new, for a display."""
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
                yield None

    def close(self) -> None:
        """Stop the workers of this machine; those of another scheduler only forget what was asked of them."""
        self.client.close(timeout=5)
        if self.cluster:
            self.cluster.close(timeout=5)


class Display:
    """A table of a sweep at work: a row for every run that ends; on a terminal its last row changes every second."""

    HEAD = f"{'done':>5} {'failed':>6} {'running':>7} {'queued':>6} {'left':>8}   last run"

    def __init__(self, jobs: int, workers: int, stream=None):
        self.jobs, self.workers, self.stream = jobs, workers, stream or sys.stdout
        self.counts, self.seconds = Counter(), []
        self.live, self.shown = self.stream.isatty(), 0.0
        print(self.HEAD, file=self.stream, flush=True)

    def ended(self, outcome: Outcome) -> None:
        """Count an outcome and add its row."""
        self.counts[outcome.state] += 1
        if outcome.state == "done":
            self.seconds.append(outcome.seconds)
        said = f"{outcome.state:7} {outcome.name}  {outcome.seconds:.0f} s  {outcome.error}".rstrip()
        print(("\r\x1b[K" if self.live else "") + self.row(said), file=self.stream, flush=True)

    def tick(self) -> None:
        """Renew the last row, on a terminal."""
        if self.live and time.monotonic() - self.shown > 1:
            self.shown = time.monotonic()
            print("\r\x1b[K" + self.row("..."), end="", file=self.stream, flush=True)

    def row(self, said: str) -> str:
        """Counts, the time left by the mean of the runs so far, and `said`."""
        ended = self.counts.total()
        running = min(self.workers, self.jobs - ended)
        queued = self.jobs - ended - running
        left = "?"
        if self.seconds:
            seconds = (queued + running / 2) * sum(self.seconds) / len(self.seconds) / self.workers
            left = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
        done = self.counts["done"]
        failed = self.counts["failed"]
        return f"{done:5} {failed:6} {running:7} {queued:6} {left:>8}   {said}"


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

    Failed ones are tried again: what failed may have been mended. At most `jobs` at a time on this machine, or as many as
    the scheduler at `address` has workers, with `threads` each (0: the cores divided among them). `time_limit`: minutes of
    training, a run.

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
    workers, asked = pool.workers(), time.monotonic()
    if not workers:
        print(f"{address} has no workers yet: waiting for `dask worker {address}`", flush=True)
    display = Display(len(left), workers or 1)
    try:
        for outcome in pool.outcomes(left, threads):
            if outcome is None:
                if address and time.monotonic() - asked > 10:  # workers may come and go
                    display.workers, asked = pool.workers() or 1, time.monotonic()
                display.tick()
                continue
            display.ended(outcome)
            counts[outcome.state] += 1
            if fail_fast and outcome.state == "failed":
                print("stopped at the first failure")
                break
    except KeyboardInterrupt:
        if address:
            print(f"\nruns that are at work on {address} go on to their end", flush=True)
        raise
    finally:
        pool.close()
    return counts
