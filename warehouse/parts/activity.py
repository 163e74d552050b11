"""Whether a run is being measured, and why it no longer is: a lock and a note in the run's folder of part files.

A lock is given back by the system however a process ends, and needs no clock that several machines agree on.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import ResumableError
from selfrepair.warehouse.parts.records import is_run_key

INCOMPLETE, RUNNING, STOPPED = "incomplete", "running", "stopped"

_LOCK = "measuring.lock"
_REASON = "stopped.txt"
_SECOND_LOOK_S = 0.05


@dataclass(frozen=True)
class Activity:
    """What is known of a run that is not whole: running, stopped, or only that it is incomplete; and the reason."""

    status: str
    reason: str = ""


@contextlib.contextmanager
def measuring(folder: Path) -> Iterator[None]:
    """Within it, the run of this existing folder is being measured, also for those who share the folder over a network.

    Several processes may do so at once. Why it ended is kept, unless it was killed.
    """
    with contextlib.ExitStack() as locked:
        with contextlib.suppress(OSError):  # a file system without locks: nobody can know
            _lock_shared(folder / _LOCK, locked)
        files.remove(folder / _REASON)
        reason = "its process has measured its share; what is missing is a load, or another shard"
        try:
            yield
        except BaseException as error:
            reason = _reason(error)
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk; or the folder is gone, loaded by another process
                files.replace_file(folder / _REASON, reason.encode())


def activity_of_run(root: Path, run_key: str) -> Activity:
    """The `activity` in a run's folder below `root`; a key that names none, as one from a file may, is not followed."""
    if not is_run_key(run_key):
        return Activity(INCOMPLETE, f"its key {run_key!r} names no folder of part files")
    return activity(root / run_key)


def activity(folder: Path) -> Activity:
    """What is known of a run that is not whole, from its folder of part files. Changes nothing."""
    try:
        if _is_locked(folder / _LOCK):
            return Activity(RUNNING)
    except OSError:
        there = f"nothing in {folder} tells" if folder.is_dir() else f"there is no {folder}"
        return Activity(INCOMPLETE, f"{there}, so that it is unknown whether a process still measures it")
    try:
        return Activity(STOPPED, files.read_file(folder / _REASON).decode(errors="replace"))
    except OSError:
        return Activity(STOPPED, "its process was killed, or the machine went down")


def _lock_shared(path: Path, locked: contextlib.ExitStack) -> None:
    """Hold the lock until `locked` ends. Only what is no file is removed: others may hold the lock."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            files.remove(path)
    # NFS gives a shared lock of a file that is open for reading, as that of another user may be; a pipe must not be waited for
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    locked.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock. Another one that looks holds it for a moment, too: a second look decides.

    Raises OSError where that cannot be told.
    """
    with _opened(path) as file:
        for pause_s in (_SECOND_LOOK_S, 0.0):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(pause_s)
            else:
                return False
    return True


def _opened(path: Path) -> BinaryIO:
    """Open for writing, without which NFS gives no exclusive lock; only for reading where one may not write."""
    try:
        return path.open("r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return files.open_regular(path)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    text = error.problem if isinstance(error, ResumableError) else str(error)
    return " ".join(text.split()) or type(error).__name__
