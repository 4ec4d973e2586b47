"""Ctrl-C, JupyterLab's square and SIGTERM: the first asks for a pause, the second stops at once."""

import signal
import threading
from types import FrameType


class Interrupts:
    """A context in which the first interrupt only sets `asked`. It does so in the main thread alone; elsewhere, as in a
    server, signals are not this process's to catch."""

    def __init__(self):
        self.asked = False
        self.before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True  # no word here: a print may be what was interrupted
