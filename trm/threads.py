"""How many threads a step computes with, chosen by timing.

OpenMP's threads spin where they wait for each other. On a machine with nothing else to do that is fast; with one other busy
process each of a step's many small operations waits for a thread that does not run, and a step takes twenty times as long.
One thread is a quarter slower on a quiet machine and unharmed on a busy one. So the trainer tries another number now and then.
"""

import time

import torch

TRIES, CLEAR = 3, 2.0  # steps with each of two numbers, in turn; fewer where one takes so many times as long
FIRST, OFTEN, SELDOM = 2, 5.0, 60.0  # steps before the first look; seconds between looks at first, and at most
SHARE = 0.03  # of the time, which looks may cost


class Threads:
    """Call `before_step` and `after_step` around each step. Numbers tried: the most (torch's, thus OMP_NUM_THREADS) and its
    halves down to 1; the rounding of sums may depend on them."""

    chosen = most = 0  # of the process: what was chosen last, and how many torch had before

    def __init__(self, active: bool):
        now = torch.get_num_threads()
        if now != Threads.chosen:
            Threads.most = now
        self.choices = [Threads.most >> i for i in range(Threads.most.bit_length())] if active else [now]  # most ... 1
        self.at = self.choices.index(now) if now in self.choices else 0
        self.trial: dict[int, list[float]] = {}  # position in choices -> seconds of its steps
        self.pause, self.next_look, self.down = OFTEN, 0.0, True
        self.steps = 0
        self.usual = float("inf")  # seconds of a step, at the last look

    def before_step(self) -> None:
        """Set the number for the coming step."""
        self.started = time.perf_counter()
        if len(self.choices) > 1:
            self._set(self._next() if self.trial else self.at)

    def after_step(self) -> None:
        """Note how long it took, and begin or end a look at another number."""
        took, self.steps = time.perf_counter() - self.started, self.steps + 1
        if len(self.choices) == 1 or self.steps <= FIRST:
            return
        now = time.perf_counter()
        if self.trial:
            self.trial[self._next()].append(took)
            best = {at: min(times) for at, times in self.trial.items() if times}
            clear = max(best.values()) > CLEAR * min(best.values())
            if clear or all(len(times) == TRIES for times in self.trial.values()):
                self._judge(best, now)
        elif now >= self.next_look or took > CLEAR * self.usual and self.at + 1 < len(self.choices):
            others = [at for at in (self.at + 1, self.at - 1) if 0 <= at < len(self.choices)]
            self.trial = {self.at: [], others[0 if self.down else -1]: []}
            self.down = not self.down

    def _next(self) -> int:
        """The position with fewer steps."""
        return min(self.trial, key=lambda at: len(self.trial[at]))

    def _judge(self, best: dict[int, float], now: float) -> None:
        """Take the number with the fastest step; the longer it wins, and the more a look costs, the later the next."""
        winner = min(best, key=best.get)
        cost = sum(sum(times) for at, times in self.trial.items() if at != winner)
        self.pause = OFTEN if winner != self.at else min(2 * self.pause, SELDOM)
        self.next_look = now + max(self.pause, cost / SHARE)
        self.at, self.usual, self.trial = winner, best[winner], {}
        self._set(winner)

    def _set(self, at: int) -> None:
        if torch.get_num_threads() != self.choices[at]:
            torch.set_num_threads(self.choices[at])
        Threads.chosen = self.choices[at]
