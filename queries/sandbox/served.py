"""What is served to others, by pages, over HTTP and to assistants: how much of an answer, and of which state of the file."""

import time
from pathlib import Path

from selfrepair.warehouse.database.lake.address import Lake

MAX_ROWS = 10_000
"""Rows that are sent at once at most."""

MAX_BYTES = 64_000_000
"""Bytes that these rows may take."""

TIME_LIMIT_S = 30.0
"""How long a query may run [s]."""

State = tuple[int, ...]

_LAKE_UNCHANGED_S = 5.0
"""For how long answers of a lake are given again whose Postgres does not say that it has changed [s]."""


def file_state(path: Path) -> State:
    """Changes when the file does: after another load, or with another file in its place."""
    if isinstance(path, Lake) and path.kind == "postgres":
        return (int(time.monotonic() / _LAKE_UNCHANGED_S),)
    state: State = ()
    for part in (path, path.with_name(path.name + ".wal")):
        try:
            status = part.stat()
        except OSError:
            state += (0, 0, 0)
        else:
            state += (status.st_ino, status.st_size, status.st_mtime_ns)
    return state
