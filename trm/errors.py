"""Errors for people: one clear message, no traceback, in a notebook, under papermill and in a script alike."""

import contextlib
import sys


class UserError(ValueError):
    """Something that the person who runs a chapter can fix; the message says what and how."""

    def _render_traceback_(self) -> list[str]:  # asked for by IPython instead of the traceback
        return [f"{type(self).__name__}: {self}"]


def print_in_any_encoding() -> None:
    """From now on print what the terminal's encoding lacks, such as ± in ASCII, as "?"."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # one that is replaced may have no encoding
            stream.reconfigure(errors="replace")


def show_user_errors_plainly() -> None:
    """In a script, print a `UserError` as its message alone and exit with 1; any other error keeps its traceback."""
    print_in_any_encoding()
    before = sys.excepthook

    def hook(kind, error, traceback):
        if isinstance(error, UserError):
            print(f"{kind.__name__}: {error}", file=sys.stderr)
        else:
            before(kind, error, traceback)

    sys.excepthook = hook
