"""How a process that wants to write a warehouse has those that only keep it open close it: it says so beside the file.

DuckDB refuses a writer at once while anybody has the file open, and tells nobody of it.
"""

import contextlib
import time
from pathlib import Path

_FRESH_S = 5.0
"""A wish that is not said again for so long is that of a process that was killed."""


def want(db: Path) -> None:
    """Say, or say again, that the file `db` is wanted for writing. Where nothing can be written, nothing is said."""
    with contextlib.suppress(OSError):
        _sign(db).touch()


def is_wanted(db: Path) -> bool:
    """Whether somebody waits to write the file `db`. Takes away a wish that nobody has any more."""
    try:
        said_at = _sign(db).stat().st_mtime
    except OSError:
        return False
    if abs(time.time() - said_at) < _FRESH_S:
        return True
    want_no_more(db)
    return False


def want_no_more(db: Path) -> None:
    """Take the wish back: the file is open, or no longer waited for."""
    with contextlib.suppress(OSError):
        _sign(db).unlink(missing_ok=True)


def _sign(db: Path) -> Path:
    real = db.resolve()  # by whatever name each of them knows it
    return real.parent / f".{real.name}.wanted"
