"""Queries of pages: SQL in, polars frames out, cached as long as the warehouse file is unchanged."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import streamlit as st
from cachetools import LRUCache

from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.client.warehouse import Warehouse
from selfrepair.queries.sandbox.answer import Answer
from selfrepair.queries.sandbox.served import MAX_BYTES, MAX_ROWS, TIME_LIMIT_S, State, file_state
from selfrepair.warehouse.database.lake.address import PREFIX, lake_address
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.database.publication import is_publication
from selfrepair.warehouse.errors import InUseError, SelfRepairError

_PREFETCH_LIMIT_S = 5.0
"""A prefetched query that takes longer is cancelled and run again when the page needs it."""

_WAIT_S = 3.0
_WAIT_WHILE_BUSY_S = 0.05
_BUSY_S = 5.0
"""For this long after a wait in vain, further queries fail at once: a page has many, and one wait is enough."""

_KEEP_OPEN_S = 5.0
"""How long after a query the file stays open for the next one, unless a load needs it."""

_REPEAT_TOAST_S = 10.0
_CACHE_BYTES = 256_000_000
_ENTRY_BYTES = 4_096  # of a small result: its query and Python's own objects

Key = tuple[str, str, int, bool]
"""File, query, row limit, and whether lists are written as text."""


@dataclass(frozen=True)
class Rows:
    """The result of a query that took `seconds`. `truncated`: there are more rows than the limit; `notes`: what the user has
    to know. `stale` is a sentence where the file could not be read and these rows are from an earlier query, else empty.
    """

    frame: pl.DataFrame
    truncated: bool
    notes: tuple[str, ...] = field(default=())
    seconds: float = 0.0
    stale: str = ""


class BusyError(SelfRepairError):
    """Another process has the file open for writing, for longer than a page waits."""


@dataclass(frozen=True)
class _Entry:
    """A cached result, the state of the file it was read from, and its size."""

    stamp: State
    rows: Rows
    n_bytes: int


_cache: LRUCache[Key, _Entry] = LRUCache(_CACHE_BYTES, getsizeof=lambda entry: entry.n_bytes)
_cache_lock = threading.Lock()

_in_flight: dict[tuple[Key, State], threading.Event] = {}
"""Queries that are being prefetched."""

_in_flight_lock = threading.Lock()

_busy_since: dict[str, float] = {}
"""When a query last waited in vain for each file [s, time.monotonic]."""


def warehouse_path() -> Path:
    """The file or lake that the app shows: `$SELFREPAIR_DB`, else selfrepair.duckdb in the working directory."""
    db = os.environ.get("SELFREPAIR_DB") or "selfrepair.duckdb"
    return lake_address(db) if db.startswith(PREFIX) else Path(db)


def file_to_measure_into() -> Path:
    """The same for commands that write, and the default where what is shown is a publication, which is only read."""
    path = warehouse_path()
    return Path("selfrepair.duckdb") if is_publication(path) else path


def query_frame(query: str, limit: int = MAX_ROWS) -> pl.DataFrame:
    """At most `limit` rows of a page's own query.

    While a load has the file, the last result is shown and the page says so. Without any result the page ends with an
    error message.
    """
    try:
        rows = query_rows(query, limit)
    except SelfRepairError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        st.stop()
    notify(rows)
    if rows.truncated:
        st.caption(f"The first {limit:,} rows; there are more.")
    return rows.frame


def query_rows(query: str, limit: int, *, flat: bool = False) -> Rows:
    """The result of SQL that a user wrote; raises SelfRepairError. `flat`: lists and maps as JSON text."""
    path = warehouse_path()
    key, stamp = (str(path), query, limit, flat), file_state(path)
    if (prefetching := _in_flight.get((key, stamp))) is not None:
        prefetching.wait()
    cached = _cached(key)
    if cached is not None and cached.stamp == stamp:
        return cached.rows
    try:
        (rows,) = _query(path, [query], limit, flat=flat)
    except BusyError as busy:
        if cached is None:
            raise
        return replace(cached.rows, stale=f"{busy} These numbers are from before.")
    _store(key, stamp, rows)
    return rows


def prefetch(queries: Iterable[str]) -> None:
    """Start these queries in the background, opening the file once for all of them; `query_frame` waits for its own.

    A page waits least when they are in the order in which it needs them.
    """
    path = warehouse_path()
    stamp = file_state(path)
    keys = [(str(path), query, MAX_ROWS, False) for query in dict.fromkeys(queries)]
    missing = [key for key in keys if (cached := _cached(key)) is None or cached.stamp != stamp]
    with _in_flight_lock:  # leave out what another visitor's page is prefetching
        missing = [key for key in missing if (key, stamp) not in _in_flight]
        _in_flight.update({(key, stamp): threading.Event() for key in missing})
    if missing:
        threading.Thread(target=_fetch, args=(path, missing, stamp), daemon=True).start()


def notify(rows: Rows) -> None:
    """Show the notes of a result once, and every few seconds that it is stale."""
    for note in rows.notes:
        _toast_every(float("inf"), note)
    if rows.stale:
        _toast_every(_REPEAT_TOAST_S, rows.stale)


def _fetch(path: Path, keys: Sequence[Key], stamp: State) -> None:
    left = list(keys)

    def take(rows: Rows) -> None:
        key = left.pop(0)
        _store(key, stamp, rows)
        _in_flight.pop((key, stamp)).set()

    queries = [query for _, query, _, _ in keys]
    try:
        with contextlib.suppress(SelfRepairError):  # `query_frame` meets it again, where it can be shown
            _query(path, queries, MAX_ROWS, flat=False, timeout_s=_PREFETCH_LIMIT_S, on_rows=take)
    finally:
        for key in left:
            _in_flight.pop((key, stamp)).set()


def _query(
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
    results: list[Rows] = []
    is_busy = time.monotonic() - _busy_since.get(str(path), float("-inf")) < _BUSY_S
    warehouse = Warehouse(
        path,
        limits=Limits(answer_bytes=MAX_BYTES),
        wait_s=_WAIT_WHILE_BUSY_S if is_busy else _WAIT_S,
        keep_open_s=_KEEP_OPEN_S,
        on_note=notes.append,
        language="shell",
    )
    began = time.perf_counter()

    def take(answer: Answer) -> None:
        results.append(Rows(answer.frame, answer.truncated, tuple(notes), time.perf_counter() - began))
        if on_rows:
            on_rows(results[-1])

    try:
        warehouse.ask_all(
            queries, limit=limit, timeout_s=timeout_s, flat=flat, on_wait=waited_for.append, on_answer=take
        )
    except InUseError as error:
        if not waited_for:
            raise
        if not is_busy:
            _busy_since[str(path)] = time.monotonic()
        raise BusyError(f"{path.name} cannot be read right now: {waited_for[-1]}.") from error
    _busy_since.pop(str(path), None)
    return results


def _cached(key: Key) -> _Entry | None:
    with _cache_lock:
        return _cache.get(key)


def _store(key: Key, stamp: State, rows: Rows) -> None:
    n_bytes = int(rows.frame.estimated_size()) + 2 * len(key[1]) + _ENTRY_BYTES
    with _cache_lock, contextlib.suppress(ValueError):  # larger than the whole cache
        _cache[key] = _Entry(stamp, rows, n_bytes)


def _toast_every(seconds: float, text: str) -> None:
    shown_at: dict[str, float] = st.session_state.setdefault("toasts shown at", {})
    now = time.monotonic()
    if now - shown_at.get(text, float("-inf")) >= seconds:
        shown_at[text] = now
        st.toast(escape_markdown(text), icon=":material/info:")
