"""A disk that is full at every single write: one message, nothing lost, and the same numbers once there is room again.

    python -m tests.campaigns.full_disk [--only 04] [--every 1]

Each chapter runs at smoke scale in this process, as a script, again and again: in the n-th run the n-th write in the run's
folder fails half-way with "No space left on device", for n = 1, 2, ... to the last (`--every k`: each k-th). Then the same
command with `resume` runs undisturbed, and its numbers must be those of an undisturbed run.
"""

import argparse
import builtins
import contextlib
import errno
import io
import os
import runpy
import sys
import tempfile
from pathlib import Path
from unittest import mock

import safetensors.torch

from tests.campaigns.kills import CHAPTERS, ROOT, Broken, compare, numbers
from trm import checkpoint, lock
from trm.errors import UserError


class Disk:
    """Counts the files that are opened to be written below `folder`; the `full_at`-th gets no room."""

    def __init__(self, folder: Path, full_at: int = 0):
        self.folder, self.full_at, self.count = str(folder), full_at, 0
        self.open = builtins.open

    def full(self, path) -> bool:
        """Count a write; whether it is the one that fails."""
        if not str(path).startswith(self.folder) or str(path).endswith((".lock", "said.txt")):
            return False
        self.count += 1
        return self.count == self.full_at

    def opens(self, path, mode="r", *args, **kwargs):
        """In place of `open`."""
        file = self.open(path, mode, *args, **kwargs)
        if set(mode) & set("wax") and isinstance(path, str | os.PathLike) and self.full(path):
            write = file.write

            def half(text):
                write(text[: len(text) // 2])
                file.flush()
                raise OSError(errno.ENOSPC, "No space left on device", str(path))

            file = Half(file, half)
        return file

    def save_file(self, tensors, path, *args, **kwargs):
        """In place of `safetensors.torch.save_file`."""
        SAVE(tensors, path, *args, **kwargs)
        if self.full(path):
            os.truncate(path, os.path.getsize(path) // 2)
            raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")


class Half:
    """A file whose writes stop half-way."""

    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


SAVE = safetensors.torch.save_file


def run(script: Path, flags: list[str], disk: Disk) -> str:
    """Execute a chapter as a script; the message it ended with, "" where it ended well."""
    argv, hook = sys.argv, sys.excepthook
    sys.argv = [str(script), *flags]
    try:
        with (
            mock.patch.object(builtins, "open", disk.opens), mock.patch.object(io, "open", disk.opens),
            mock.patch.object(safetensors.torch, "save_file", disk.save_file),
            mock.patch.object(checkpoint, "save_file", disk.save_file),
            contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()),
        ):  # fmt: skip
            runpy.run_path(str(script), run_name="__main__")
        return ""
    except UserError as error:
        return str(error)
    finally:
        sys.argv, sys.excepthook = argv, hook
        for marker in list(lock.HELD):
            lock.release(marker.parent, marker.name)


def chapter(number: str, every: int, folder: Path) -> str:
    """Fill the disk at each write of a chapter; returns what happened in a line."""
    script = next((ROOT / "book").glob(f"{number}_*.py"))
    flags = ["-f", str(ROOT / "params" / f"{number}_smoke.yaml"), "-p", "output_dir"]
    whole = Disk(folder / "whole")
    run(script, [*flags, str(folder / "whole")], whole)
    expected, faults, full = numbers(folder / "whole"), [], 0
    tried = range(1, whole.count + 1, every)
    for at in tried:
        target = folder / f"full-{at}"
        try:
            disk = Disk(target, at)
            said = run(script, [*flags, str(target)], disk)
            if disk.count < at:
                continue  # a checkpoint by time was one more write in the whole run
            full += 1
            if not said:
                raise Broken("it went on as if nothing had happened")
            if "No space left" not in said or len(said.splitlines()) > 1:
                raise Broken(f"it said {said!r}")
            if (target / "metrics.json").exists():
                raise Broken("the run counts as complete")
            run(script, [*flags, str(target), "-p", "resume", "True"], Disk(target))
            compare(expected, numbers(target), number)
        except Exception as error:  # whatever a full disk brings about
            faults.append(f"BROKEN chapter {number}, write {at}: {type(error).__name__}: {error}")
    return "\n".join([f"chapter {number}: full at {full} of {whole.count} writes, {len(faults)} faults", *faults])


def campaign(only: list[str], every: int) -> list[str]:
    """Every chapter; prints a line each."""
    lines = []
    for number in only or CHAPTERS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            lines.append(chapter(number, every, Path(folder).resolve()))
            print(lines[-1], flush=True)
    return lines


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="chapters such as 04")
    parser.add_argument("--every", type=int, default=1, help="fail at each k-th write only")
    options = parser.parse_args()
    return int(any("BROKEN" in line for line in campaign(options.only, options.every)))


if __name__ == "__main__":
    sys.exit(main())
