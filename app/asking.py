"""What pages ask the warehouse: SQL in, frames out, the same question answered once as long as the file is the same."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import streamlit as st

from selfrepair.queries import Warehouse
from selfrepair.warehouse.errors import SelfRepairError

MOST_ROWS = 10_000
"""Rows that a page sends to the browser at most."""

TIME_LIMIT_S = 30.0
_WAIT_S = 3.0

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Rows:
    """What answers a query. `truncated`: there are more rows than the page asked for; `notes`: what to tell the user."""

    frame: pl.DataFrame
    truncated: bool
    notes: tuple[str, ...] = field(default=())


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
        last = _last_answers().get((str(warehouse_path()), query, limit))
        if last is None:
            st.error(str(error), icon=":material/error:")
            st.stop()
        _tell(f"{str(error).splitlines()[0]} What is shown is from before.")
        return last.frame
    for note in rows.notes:
        _tell(note)
    if rows.truncated:
        st.caption(f"The first {limit:,} rows; there are more.")
    return rows.frame


def answered(query: str, limit: int) -> Rows:
    """The same with errors as SelfRepairError, for SQL that a user wrote."""
    path = warehouse_path()
    rows = _answered(str(path), _stamp(path), query, limit)
    _last_answers()[str(path), query, limit] = rows
    return rows


@st.cache_data(max_entries=300, show_spinner=False)
def _answered(path: str, stamp: Stamp, query: str, limit: int) -> Rows:
    notes: list[str] = []
    answer = Warehouse(path, wait_s=_WAIT_S, on_note=notes.append).ask(query, limit=limit, timeout_s=TIME_LIMIT_S)
    return Rows(answer.frame, answer.truncated, tuple(notes))


@st.cache_resource
def _last_answers() -> dict[tuple[str, str, int], Rows]:
    return {}


def _stamp(path: Path) -> Stamp:
    """Changes when the file does: another load, or another file in its place."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _tell(text: str) -> None:
    st.toast(text, icon=":material/info:")
