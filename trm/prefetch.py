"""Batches made ready while the device is at work."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class MadeAhead:
    """step -> make(step), while a thread makes the `depth` steps after it, up to step `end`; depth 0: no thread.

    For a `make` that is a pure function of the step, as batches are. What goes wrong in the thread is raised at the step it
    belongs to. `waited` counts the seconds that callers have waited.
    """

    def __init__(self, make: Callable[[int], Any], depth: int, end: int):
        self.make, self.depth, self.end = make, depth, end
        self.waited = 0.0
        self.pool: ThreadPoolExecutor | None = None
        self.pending: dict[int, Future] = {}

    def __call__(self, step: int) -> Any:
        """What `make` gives for `step`."""
        started = time.perf_counter()
        if self.depth:
            self.pool = self.pool or ThreadPoolExecutor(1, "batches")
            for ahead in range(step, min(step + self.depth + 1, self.end)):
                if ahead not in self.pending:
                    self.pending[ahead] = self.pool.submit(self.make, ahead)
            made = self.pending.pop(step).result()
        else:
            made = self.make(step)
        self.waited += time.perf_counter() - started
        return made

    def close(self) -> None:
        """End the thread."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.pending = None, {}
