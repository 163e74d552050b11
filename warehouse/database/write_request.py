"""How a process that wants to write a warehouse asks those that only keep it open to close it: by a file next to it.

DuckDB refuses a writer at once while anyone has the file open, and does not notify them.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path

_REQUEST_VALID_S = 5.0
"""A request that is not renewed for this long comes from a process that was killed."""


def request_write(db: Path) -> None:
    """Request the file `db` for writing, or renew the request. Does nothing where the folder is not writable."""
    with contextlib.suppress(OSError):
        _request_file(db).touch()


def write_is_requested(db: Path) -> bool:
    """Whether a process waits to write the file `db`. Removes a request that has expired."""
    file = _request_file(db)
    try:
        renewed_at = file.stat().st_mtime
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


def _now(folder: Path) -> float:
    """The time by the clock that dates files in `folder`, which on a network is another machine's and may differ from ours."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:  # not writable
        return time.time()


def _request_file(db: Path) -> Path:
    real = db.resolve()  # by whatever name each of them knows it
    return real.parent / f".{real.name}.wanted"
