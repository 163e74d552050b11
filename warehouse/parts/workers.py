"""Who measures a run, and why others ended: a note for each process in the run's folder of part files.

Its process holds a lock of the note, which the system gives back however the process ends, and writes the end into it. No
clock is asked: those of several machines need not agree.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import ResumableError

INCOMPLETE, RUNNING, STOPPED, DONE = "incomplete", "running", "stopped", "done"
"""What a process does: nobody can tell, it measures, it ended before its share was measured, or after."""

KILLED = "its process was killed, or the machine went down"

_NOTE = re.compile(r"worker-\d+-of-\d+\.[^/]+\.json")
_OPTIONS = [f"--{name}" for name in ("devices", "ray", "ray-cpus", "parts")]
_BYTES = 4096
"""Size of a note from its beginning: its end is written over blanks, so that a full disk has room for the reason."""

_LONGEST_REASON = 1500
_SECOND_LOOK_S = 0.05


@dataclass(frozen=True)
class Worker:
    """A process that measures the `index`-th of `count` shares of a run, or did: of an ended one, `reason` says why. It may
    have `processes` others measure, on a device each, of the machines `hosts` where those are others; 0: it measures itself.
    `options` of its command said so.
    """

    index: int
    count: int
    host: str
    pid: int
    device: str | None
    status: str
    reason: str = ""
    processes: int = 0
    hosts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def share(self) -> str:
        """`2/3`."""
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """As `MeasuredBy.worker` in the manifests of its units."""
        return f"{self.host}:{self.pid}"


@contextlib.contextmanager
def noted(
    folder: Path,
    index: int,
    count: int,
    device: str | None,
    processes: int,
    hosts: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Iterator[None]:
    """Within it, this process has a note in the existing `folder` that it measures that share; then how it ended.

    Notes of earlier processes that had the same share, or shared the run among another number, go: others do their work now.
    """
    note: BinaryIO | None = None
    said = {"index": index, "count": count, "host": socket.gethostname(), "pid": os.getpid(), "device": device}
    said |= {"processes": processes, "hosts": [*hosts], "options": [*options]}
    with contextlib.suppress(OSError):  # a disk that is full or read-only: nobody will know
        _remove_ended(folder, index, count)
        note = _written(folder, said)
    status, reason = DONE, ""
    try:
        yield
    except BaseException as error:
        status, reason = STOPPED, reason_of(error)
        raise
    finally:
        if note is not None:
            with note, contextlib.suppress(OSError):
                note.seek(0)
                note.write(_padded({**said, "status": status, "reason": reason[:_LONGEST_REASON]}))
                note.flush()
                os.fsync(note.fileno())


def workers(folder: Path) -> list[Worker]:
    """Those who have a note in a run's folder, by share. Changes nothing; what is no note is left out."""
    found = [(path, worker) for path in _notes(folder) if (worker := _read(path)) is not None]
    unended = [path for path, worker in found if worker.status == RUNNING]
    locked = dict(zip(unended, are_locked(unended), strict=True))
    told = [_with_lock(worker, locked[path]) if path in locked else worker for path, worker in found]
    return sorted(told, key=lambda worker: (worker.count, worker.index, worker.host, worker.pid))


def why_ended(told: Sequence[Worker]) -> str:
    """Why those who have ended did, each that did not measure its share; empty where all did."""
    failed = [worker for worker in told if worker.reason]
    if len(told) == 1:
        return failed[0].reason if failed else ""
    named = [f"shard {worker.share} on {worker.host}: {worker.reason.rstrip('.')}" for worker in failed]
    return "; ".join([*named[:5], *([f"and {len(named) - 5} more"] if len(named) > 5 else [])])


def reason_of(error: BaseException) -> str:
    """An error in a line."""
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    text = error.problem if isinstance(error, ResumableError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def are_locked(paths: Sequence[Path]) -> list[bool | None]:
    """Whether a process holds the lock of each file; None where that cannot be told.

    Another one that looks holds it for a moment, too: a second look decides.
    """
    found = [_is_locked(path) for path in paths]
    if any(found):
        time.sleep(_SECOND_LOOK_S)
        found = [_is_locked(path) if is_locked else is_locked for path, is_locked in zip(paths, found, strict=True)]
    return found


def _is_locked(path: Path) -> bool | None:
    try:
        with _opened(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _opened(path: Path) -> BinaryIO:
    """Open for writing, without which NFS gives no exclusive lock; only for reading where one may not write."""
    try:
        return os.fdopen(files.open_own(path, os.O_RDWR), "r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.fdopen(files.open_own(path, os.O_RDONLY), "rb")


def _notes(folder: Path) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith("worker-")]
    except OSError:
        return []
    return sorted(folder / name for name in names if _NOTE.fullmatch(name))


def _read(path: Path) -> Worker | None:
    """What a note says; `running` where its end is not in it, and `incomplete` where it never had the lock."""
    try:
        found = json.loads(files.read_own(path))
        status = found.get("status") or (RUNNING if found["locked"] else INCOMPLETE)
        if status not in (DONE, STOPPED, RUNNING, INCOMPLETE):
            return None
        return Worker(
            index=int(found["index"]),
            count=max(1, int(found["count"])),
            host=str(found["host"]),
            pid=int(found["pid"]),
            device=None if found["device"] is None else str(found["device"]),
            status=status,
            reason=str(found.get("reason", "")),
            processes=int(found.get("processes", 0)),
            hosts=tuple(str(host) for host in found.get("hosts", ())),
            options=_of_command(found.get("options", ())),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _of_command(words: Sequence[object]) -> tuple[str, ...]:
    """Words of a note that may stand in a command to be copied: anybody may have written it."""
    texts = tuple(word for word in words if isinstance(word, str) and word.isprintable())
    is_known = all(word in _OPTIONS for word in texts if word.startswith("-"))
    return texts if is_known and texts[:1] and texts[0] in _OPTIONS and len(texts) == len(words) else ()


def _with_lock(worker: Worker, is_locked: bool | None) -> Worker:
    if is_locked:
        return worker
    status, reason = (INCOMPLETE, "") if is_locked is None else (STOPPED, KILLED)
    return replace(worker, status=status, reason=reason)


def _remove_ended(folder: Path, index: int, count: int) -> None:
    paths = [path for path in _notes(folder) if path.is_file()]
    for path, is_locked in zip(paths, are_locked(paths), strict=True):
        worker = _read(path)
        if is_locked is False and (worker is None or worker.count != count or worker.index == index):
            files.remove(path)


def _written(folder: Path, said: dict[str, object]) -> BinaryIO:
    """The note, which appears whole and locked."""
    final = folder / f"worker-{said['index']}-of-{said['count']}.{said['pid']}-{secrets.token_hex(4)}.json"
    temporary = folder / files.temporary_name(final.name)
    note = temporary.open("x+b")
    try:
        is_locked = True
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks
            is_locked = False
        said["locked"] = is_locked
        note.write(_padded(said))
        note.flush()
        temporary.rename(final)
    except OSError:
        note.close()
        files.remove(temporary)
        raise
    return note


def _padded(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode().ljust(_BYTES)
