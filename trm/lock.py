"""One writer per folder: a marker file with its owner's process, host and heartbeat, by filelock."""

import contextlib
import socket
import time
from pathlib import Path

import psutil
from filelock import SoftFileLease, Timeout

from trm.errors import UserError

# Seconds without a heartbeat until an owner counts as dead whose death cannot be seen (another machine, a stopped process),
# and between heartbeats. The owner's death on this machine is seen at once.
LEASE, HEARTBEAT = 30.0, 3.0
MARKER = "running.lock"
HELD: dict[Path, SoftFileLease] = {}  # marker -> lease, of this process


class FolderBusy(UserError):
    """A folder in which another process is at work."""


def hold(folder: Path, marker: str = MARKER, patience: float = 0.5) -> None:
    """Make this process the one that writes in `folder`, until `release` or its end. A dead owner's place is taken by exactly
    one; a living one is given `patience` seconds. Does nothing where this process holds the folder, or one above it, already.

    Raises:
        FolderBusy: another process is at work there; the message says which, and since when.
    """
    path = folder / marker
    if path in HELD and HELD[path].compromise:  # it was taken over, or its marker was deleted
        release(folder, marker)
    if held_above(folder, marker):
        return
    if above := next((parent / marker for parent in folder.parents if is_held(parent, marker)), None):
        raise FolderBusy(f"{folder}: {owner(above)}")
    mine = lease(path)
    if mine.is_lock_held_by_us:  # a copy of a folder that this process holds
        path.unlink()
    try:
        mine.acquire(timeout=patience if is_held(folder, marker) else LEASE + HEARTBEAT, poll_interval=0.05)
    except Timeout:
        raise FolderBusy(f"{folder}: {owner(path)}") from None
    HELD[path] = mine


def held_above(folder: Path, marker: str = MARKER) -> Path | None:
    """The folder that this process holds: `folder` or the nearest one above it; None: none of them."""
    return next((f for f in (folder, *folder.parents) if f / marker in HELD), None)


def release(folder: Path, marker: str = MARKER) -> None:
    """Give a folder back, if this process holds it."""
    if mine := HELD.pop(folder / marker, None):
        mine.release()


def check(folder: Path, marker: str = MARKER) -> None:
    """Raises FolderBusy where another process has taken over what this one held: it had been stopped for `LEASE` seconds."""
    found = held_above(folder, marker)
    if found and HELD[found / marker].compromise:
        raise FolderBusy(f"{found} was taken over while this process stood still: {owner(found / marker)}")


def is_held(folder: Path, marker: str = MARKER) -> bool:
    """Whether a process has sent a heartbeat in `folder` lately, and is not a zombie."""
    with contextlib.suppress(OSError):
        if time.time() - (folder / marker).stat().st_mtime > 4 * HEARTBEAT:
            return False
        found = lease(folder / marker).owner
        here = found and found.hostname.partition("?")[0] == socket.gethostname()
        with contextlib.suppress(psutil.NoSuchProcess):
            return not here or psutil.Process(found.pid).status() != psutil.STATUS_ZOMBIE
    return False


def owner(path: Path) -> str:
    """Who holds a marker and since when, in words, and what to do."""
    found = lease(path).owner
    who = f"process {found.pid} on {found.hostname.partition('?')[0]}" if found else "another process"
    started = path.with_name("params.json")
    since = time.strftime(" since %Y-%m-%d %H:%M", time.localtime(started.stat().st_mtime)) if started.exists() else ""
    return f"{who} has been at work here{since}. Wait for it, stop it, or choose another output_dir"


def lease(path: Path) -> SoftFileLease:
    """The lease of a marker, held or not; its `owner` is who holds it."""
    return SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=HEARTBEAT, thread_local=False)
