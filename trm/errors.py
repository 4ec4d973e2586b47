"""Errors for people: one clear message, no traceback, in a notebook, under papermill and in a script alike."""

import sys


class UserError(ValueError):
    """Something that the person who runs a chapter can fix; the message says what and how."""

    def _render_traceback_(self) -> list[str]:  # asked for by IPython instead of the traceback
        return [f"{type(self).__name__}: {self}"]


def show_user_errors_plainly() -> None:
    """In a script, print a `UserError` as its message alone and exit with 1; any other error keeps its traceback. Characters
    that the terminal's encoding lacks are printed as escapes."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    before = sys.excepthook

    def hook(kind, error, traceback):
        if isinstance(error, UserError):
            print(f"{kind.__name__}: {error}", file=sys.stderr)
        else:
            before(kind, error, traceback)

    sys.excepthook = hook
