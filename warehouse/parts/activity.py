"""Whether a run is being measured, and why it no longer is: a lock in the run's folder of part files, and notes of its workers.

A lock is given back by the system however a process ends, and needs no clock that several machines agree on.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfrepair.warehouse import files
from selfrepair.warehouse.parts.records import is_run_key
from selfrepair.warehouse.parts.workers import (
    INCOMPLETE,
    KILLED,
    RUNNING,
    STOPPED,
    are_locked,
    noted,
    why_ended,
    workers,
)

_LOCK = "measuring.lock"
_REASON_OF_ALL = "stopped.txt"
"""Why the last process ended, in folders of earlier versions."""

_SHARE_MEASURED = "its process has measured its share; what is missing is a load, or another shard"


@dataclass(frozen=True)
class Activity:
    """What is known of a run that is not whole: running, stopped, or only that it is incomplete; and the reason."""

    status: str
    reason: str = ""


@contextlib.contextmanager
def measuring(
    folder: Path,
    index: int = 1,
    count: int = 1,
    device: str | None = None,
    processes: int = 0,
    hosts: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Iterator[None]:
    """Within it, this process measures the `index`-th of `count` shares of the run of this existing folder, on `device`, or has
    so many `processes` measure it, by these `options` of its command, on the machines `hosts` where those are others; that is
    known also to those who share the folder over a network.

    Several processes may do so at once. Why each ended is kept.
    """
    with contextlib.ExitStack() as locked:
        with contextlib.suppress(OSError):  # a file system without locks: nobody can know
            _lock_shared(folder / _LOCK, locked)
        files.remove(folder / _REASON_OF_ALL)
        with noted(folder, index, count, device, processes, hosts, options):
            yield


def activity_of_run(root: Path, run_key: str) -> Activity:
    """The `activity` in a run's folder below `root`; a key that names none, as one from a file may, is not followed."""
    if not is_run_key(run_key):
        return Activity(INCOMPLETE, f"its key {run_key!r} names no folder of part files")
    return activity(root / run_key)


def activity(folder: Path) -> Activity:
    """What is known of a run that is not whole, from its folder of part files. Changes nothing."""
    (is_locked,) = are_locked([folder / _LOCK])
    if is_locked is None:
        there = f"nothing in {folder} tells" if folder.is_dir() else f"there is no {folder}"
        return Activity(INCOMPLETE, f"{there}, so that it is unknown whether a process still measures it")
    if is_locked:
        return Activity(RUNNING)
    if told := workers(folder):
        return Activity(STOPPED, why_ended(told) or _SHARE_MEASURED)
    try:
        return Activity(STOPPED, files.read_own(folder / _REASON_OF_ALL).decode(errors="replace"))
    except OSError:
        return Activity(STOPPED, KILLED)


def _lock_shared(path: Path, locked: contextlib.ExitStack) -> None:
    """Hold the lock until `locked` ends. Only what is no file is removed: others may hold the lock."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            files.remove(path)
    # NFS gives a shared lock of a file that is open for reading, as that of another user may be
    descriptor = files.open_own(path, os.O_RDONLY | os.O_CREAT)
    locked.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
