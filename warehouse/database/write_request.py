"""How processes that wait for a warehouse tell the others: by files next to it.

DuckDB refuses a writer at once while anyone has the file open, and readers while a writer has, and does not notify them. Who
waits to write asks those that only keep the file open to close it; who waits to read, the next writer to come after them:
loads that follow each other leave the file closed for milliseconds, which somebody who tries again and again seldom meets.
"""

import contextlib
import glob
import os
import secrets
import tempfile
import time
from pathlib import Path

from selfrepair.warehouse import files

_REQUEST_VALID_S = 5.0
"""A request that is not renewed for this long comes from a process that was killed."""

_READERS_TURN_S = 1.0
"""The longest that a writer lets readers go first: a few times as long as they pause between two tries [s]."""

_POLL_S = 0.02
_PROCESS = f"{os.getpid()}-{secrets.token_hex(3)}"


def request_write(db: Path) -> None:
    """Request the file `db` for writing, or renew the request. Does nothing where the folder is not writable."""
    _renew(_request_file(db))


def write_is_requested(db: Path) -> bool:
    """Whether a process waits to write the file `db`. Removes a request that has expired."""
    file = _request_file(db)
    try:
        renewed_at = file.lstat().st_mtime
    except OSError:
        return False
    if abs(_now(file.parent) - renewed_at) < _REQUEST_VALID_S:
        return True
    withdraw_write_request(db)
    return False


def withdraw_write_request(db: Path) -> None:
    """Withdraw the request: the file is open, or no longer needed."""
    with contextlib.suppress(OSError):
        _request_file(db).unlink(missing_ok=True)


def request_read(db: Path) -> None:
    """Request the file `db` for reading, or renew the request. Does nothing where the folder is not writable."""
    _renew(_read_request_file(db))


def withdraw_read_request(db: Path) -> None:
    """Withdraw this process' request."""
    with contextlib.suppress(OSError):
        _read_request_file(db).unlink(missing_ok=True)


def let_readers_go_first(db: Path) -> None:
    """Wait, but not for long, until all that requested the file `db` for reading have it open. Removes expired requests."""
    give_up_at = time.monotonic() + _READERS_TURN_S
    while _read_is_requested(db) and time.monotonic() < give_up_at:
        time.sleep(_POLL_S)


def _read_is_requested(db: Path) -> bool:
    file, requested = _read_request_file(db), False
    for other in file.parent.glob(f"{glob.escape(file.stem)}.*"):
        with contextlib.suppress(OSError):
            if abs(_now(file.parent) - other.lstat().st_mtime) < _REQUEST_VALID_S:
                requested = True
            else:
                other.unlink()
    return requested


def _renew(file: Path) -> None:
    """Date the file now; it is made if there is none. A link in its place, which may lead anywhere, makes way."""
    with contextlib.suppress(OSError):
        if file.is_symlink():
            file.unlink()
        descriptor = files.open_own(file, os.O_WRONLY | os.O_CREAT)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)


def _now(folder: Path) -> float:
    """The time by the clock that dates files in `folder`, which on a network is another machine's and may differ from ours."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # not writable
        return time.time()


def _read_request_file(db: Path) -> Path:
    return _request_file(db).with_suffix(f".asked.{_PROCESS}")


def _request_file(db: Path) -> Path:
    real = db.resolve()  # by whatever name each of them knows it
    return real.parent / f".{real.name}.wanted"
