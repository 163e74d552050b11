"""What pages ask the warehouse: SQL in, frames out, the same question answered once as long as the file is the same."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import streamlit as st

from selfrepair.app.data.cache import Kept
from selfrepair.app.wording.escape import plain
from selfrepair.queries import Warehouse
from selfrepair.queries.sandbox.limits import Limits
from selfrepair.queries.sandbox.reader import Answer
from selfrepair.warehouse.errors import SelfRepairError

MOST_ROWS = 10_000
"""Rows that a page sends to the browser at most."""

MOST_BYTES = 64_000_000
"""Bytes that these rows may have, however long their texts."""

TIME_LIMIT_S = 30.0
_AHEAD_LIMIT_S = 5.0
"""Longer than this a question is not waited for before it is its turn."""

_WAIT_S = 3.0
_WAIT_AGAIN_S = 0.05
_BUSY_S = 5.0
"""How long after waiting in vain no other question waits for the file; a page has many."""

_KEEP_OPEN_S = 5.0
"""How long after an answer the file stays open for the next question, unless a load wants it."""

_TOLD_AGAIN_S = 10.0
_KEPT_BYTES = 256_000_000
_KEPT_ROW_BYTES = 4_096  # of an answer with few rows: its query, and what Python itself takes

Stamp = tuple[int, ...]
Key = tuple[str, str, int, bool]
"""File, query, limit, and whether lists are written as text."""


@dataclass(frozen=True)
class Rows:
    """What answers a query, after `seconds`. `truncated`: there are more rows than the page asked for; `notes`: what to tell
    the user. `stale` is not empty where the file could not be asked and this is its last answer: it says so.
    """

    frame: pl.DataFrame
    truncated: bool
    notes: tuple[str, ...] = field(default=())
    seconds: float = 0.0
    stale: str = ""


class BusyError(SelfRepairError):
    """Another process has the file open for writing: a load that takes longer than a page waits."""


_kept = Kept[tuple[Stamp, Rows]](_KEPT_BYTES)
_coming: dict[tuple[Key, Stamp], threading.Event] = {}
"""Questions that are being asked ahead."""

_claiming = threading.Lock()

_busy_since: dict[str, float] = {}
"""When each file was last waited for in vain [s, time.monotonic]."""


def warehouse_path() -> Path:
    """The file that the app shows: `$SELFREPAIR_DB`, else selfrepair.duckdb where it was started."""
    return Path(os.environ.get("SELFREPAIR_DB", "selfrepair.duckdb"))


def ask(query: str, limit: int = MOST_ROWS) -> pl.DataFrame:
    """The rows that answer a page's own query, at most `limit`.

    While a load has the file, the last answer is shown and the page says so. Ends the page with a message when there is
    no answer.
    """
    try:
        rows = answered(query, limit)
    except SelfRepairError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.stop()
    tell(rows)
    if rows.truncated:
        st.caption(f"The first {limit:,} rows; there are more.")
    return rows.frame


def answered(query: str, limit: int, *, flat: bool = False) -> Rows:
    """The same with errors as SelfRepairError, for SQL that a user wrote. `flat`: lists and maps as JSON text."""
    path = warehouse_path()
    key, stamp = (str(path), query, limit, flat), _stamp(path)
    if (coming := _coming.get((key, stamp))) is not None:
        coming.wait()
    found = _kept.get(key)
    if found is not None and found[0] == stamp:
        return found[1]
    try:
        (rows,) = _asked(path, [query], limit, flat=flat)
    except BusyError as busy:
        if found is None:
            raise
        return replace(found[1], stale=f"{busy} What is shown is from before.")
    _keep(key, stamp, rows)
    return rows


def ask_ahead(queries: Iterable[str]) -> None:
    """Begin to ask these, the file being opened once for all of them, while the page draws; `ask` waits for its own.

    In the order in which `ask` will want them the page waits least.
    """
    path = warehouse_path()
    stamp = _stamp(path)
    keys = [(str(path), query, MOST_ROWS, False) for query in dict.fromkeys(queries)]
    missing = [key for key in keys if (found := _kept.get(key)) is None or found[0] != stamp]
    with _claiming:  # those that somebody else's page is asking just now come anyway
        missing = [key for key in missing if (key, stamp) not in _coming]
        _coming.update({(key, stamp): threading.Event() for key in missing})
    if missing:
        threading.Thread(target=_fetch, args=(path, missing, stamp), daemon=True).start()


def _fetch(path: Path, keys: Sequence[Key], stamp: Stamp) -> None:
    left = list(keys)

    def take(rows: Rows) -> None:
        key = left.pop(0)
        _keep(key, stamp, rows)
        _coming.pop((key, stamp)).set()

    try:
        with contextlib.suppress(SelfRepairError):  # `ask` meets it again, where it belongs
            _asked(
                path, [query for _, query, _, _ in keys], MOST_ROWS, flat=False, timeout_s=_AHEAD_LIMIT_S, on_rows=take
            )
    finally:
        for key in left:
            _coming.pop((key, stamp)).set()


def tell(rows: Rows) -> None:
    """Say what has to be known about the rows: a note once, and every few seconds that they are from before."""
    for note in rows.notes:
        _tell_once_in(float("inf"), note)
    if rows.stale:
        _tell_once_in(_TOLD_AGAIN_S, rows.stale)


def _asked(
    path: Path,
    queries: Sequence[str],
    limit: int,
    *,
    flat: bool,
    timeout_s: float = TIME_LIMIT_S,
    on_rows: Callable[[Rows], None] | None = None,
) -> list[Rows]:
    waited_for: list[str] = []
    notes: list[str] = []
    found: list[Rows] = []
    is_busy = time.monotonic() - _busy_since.get(str(path), float("-inf")) < _BUSY_S
    warehouse = Warehouse(
        path,
        limits=Limits(answer_bytes=MOST_BYTES),
        wait_s=_WAIT_AGAIN_S if is_busy else _WAIT_S,
        keep_open_s=_KEEP_OPEN_S,
        on_note=notes.append,
        language="shell",
    )
    began = time.perf_counter()

    def take(answer: Answer) -> None:
        found.append(Rows(answer.frame, answer.truncated, tuple(notes), time.perf_counter() - began))
        if on_rows:
            on_rows(found[-1])

    try:
        warehouse.ask_all(
            queries, limit=limit, timeout_s=timeout_s, flat=flat, on_wait=waited_for.append, on_answer=take
        )
    except SelfRepairError as error:
        if not waited_for or " is in use by " not in str(error):
            raise
        if not is_busy:
            _busy_since[str(path)] = time.monotonic()
        raise BusyError(f"{path.name} is not to be read just now: {waited_for[-1]}.") from error
    _busy_since.pop(str(path), None)
    return found


def _keep(key: Key, stamp: Stamp, rows: Rows) -> None:
    _kept.put(key, (stamp, rows), int(rows.frame.estimated_size()) + 2 * len(key[1]) + _KEPT_ROW_BYTES)


def _stamp(path: Path) -> Stamp:
    """Changes when the file does: another load, or another file in its place."""
    stamp: Stamp = ()
    for part in (path, path.with_name(path.name + ".wal")):
        try:
            found = part.stat()
        except OSError:
            stamp += (0, 0, 0)
        else:
            stamp += (found.st_ino, found.st_size, found.st_mtime_ns)
    return stamp


def _tell_once_in(seconds: float, text: str) -> None:
    told: dict[str, float] = st.session_state.setdefault("told", {})
    now = time.monotonic()
    if now - told.get(text, float("-inf")) >= seconds:
        told[text] = now
        st.toast(plain(text), icon=":material/info:")
