"""Whether a run is being measured, and why it no longer is: a lock and a note in the run's folder of part files.

A lock is given back by the system however a process ends, and needs no clock that several machines agree on.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import ResumableError
from selfrepair.warehouse.parts.records import is_run_key

INCOMPLETE, RUNNING, STOPPED = "incomplete", "running", "stopped"

_LOCK = "measuring.lock"
_REASON = "stopped.txt"


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
        try:
            flags = os.O_APPEND | os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK  # a pipe must not be waited for
            file = locked.enter_context(os.fdopen(os.open(folder / _LOCK, flags, 0o666), "ab"))
            fcntl.flock(file, fcntl.LOCK_SH)
        except OSError:  # a file system without locks: nobody can know
            files.remove(folder / _LOCK)
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
        with (folder / _LOCK).open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Activity(RUNNING)
    except OSError:
        there = f"nothing in {folder} tells" if folder.is_dir() else f"there is no {folder}"
        return Activity(INCOMPLETE, f"{there}, so that it is unknown whether a process still measures it")
    try:
        return Activity(STOPPED, files.read_file(folder / _REASON).decode(errors="replace"))
    except OSError:
        return Activity(STOPPED, "its process was killed, or the machine went down")


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    text = error.problem if isinstance(error, ResumableError) else str(error)
    return " ".join(text.split()) or type(error).__name__
