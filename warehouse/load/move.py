"""A warehouse from a file into a lake, or back: every row of every table, compared by digests before any of it counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import duckdb

from selfrepair.warehouse import files
from selfrepair.warehouse.database.connection import OnWait, check_folder, move_to_free_name, open_reader, open_writer
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.lake.tables import ENUMS
from selfrepair.warehouse.database.transactions import checkpoint, registered, transaction
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import call_entry_points
from selfrepair.warehouse.schema.tables import metadata

_ARROW = "selfrepair_rows_to_move"
_ROWS_AT_ONCE = 100_000
_OWN = ("schema_migration",)
"""Tables that say what became of the file itself."""

OnTable = Callable[[str, int], None]
"""Called with each table and how many rows of it were moved."""


def move(
    source: Path,
    target: Path,
    *,
    wait_s: float = 60.0,
    on_wait: OnWait | None = None,
    on_table: OnTable = lambda table, n_rows: None,
    after_load: bool = True,
) -> None:
    """Copy all rows of the warehouse `source` into `target`, which is new or holds no run; `source` stays as it is.

    Runs, models and datasets keep their numbers. Summaries are made anew unless `after_load` is False. Raises SelfRepairError,
    with nothing moved, where `target` holds runs, and where a digest of a table differs from that of the one it came from.
    """
    if not (isinstance(source, Lake) or isinstance(target, Lake)):
        raise SelfRepairError(
            f"{source} and {target} are both files. Copy a file (cp), or put several together: selfrepair merge"
        )
    with open_reader(source, wait_s, on_wait) as con, _made_whole(target, wait_s, on_wait) as into:
        if into.execute("SELECT 1 FROM runs LIMIT 1").fetchall():
            raise SelfRepairError(f"{target} holds runs already, and nothing was moved. Name one that is new.")
        with transaction(into):
            for table in metadata.sorted_tables:
                if table.name not in _OWN:
                    on_table(table.name, _move_table(con, source, into, table.name))
        checkpoint(into)
    if after_load:
        call_entry_points(target, wait_s, on_wait)


@contextmanager
def _made_whole(target: Path, wait_s: float, on_wait: OnWait | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse at `target`, made; a file appears under its name at the end of the block, if that is no error."""
    if isinstance(target, Lake):
        with open_writer(target, wait_s, on_wait) as con:
            yield con
        return
    check_folder(target)
    if os.path.lexists(target):
        raise SelfRepairError(
            f"{target} is there already, and is not written over. Choose another name, or move it away."
        )
    real = Path(os.path.realpath(target))
    temporary = real.parent / files.temporary_name(real.name)
    try:
        files.sweep(real.parent, f"{real.name}.")
        with open_writer(temporary) as con:
            yield con
        move_to_free_name(temporary, real)
        files.sync_folder(real.parent)
    finally:
        files.remove(temporary)
        files.remove(temporary.with_name(temporary.name + files.WAL))


def _move_table(con: duckdb.DuckDBPyConnection, source: Path, into: duckdb.DuckDBPyConnection, table: str) -> int:
    columns = ", ".join(column.name for column in metadata.tables[table].columns)
    into.execute(f"DELETE FROM {table}")  # what a new warehouse begins with
    rows = con.sql(f"SELECT {columns} FROM {table}").to_arrow_reader(_ROWS_AT_ONCE)
    with registered(into, _ARROW, rows):
        into.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {_ARROW}")
    ours, theirs = _digest(into, table), _digest(con, table)
    if ours != theirs:
        raise SelfRepairError(
            f"rows of {table} did not arrive as they were ({theirs[0]:,} and {ours[0]:,}). Nothing was moved. Check what they "
            f"come from: selfrepair verify --db {quote(str(source))}"
        )
    return ours[0]


def _digest(con: duckdb.DuckDBPyConnection, table: str) -> tuple[int, str]:
    """How many rows there are, and a digest of them, whatever their order, and whether ENUMs are stored as text."""
    texts = ENUMS.get(table, {})
    columns = ", ".join(
        f"CAST({column.name} AS VARCHAR{'[]' if texts[column.name].endswith('[]') else ''}) AS {column.name}"
        if column.name in texts
        else column.name
        for column in metadata.tables[table].columns
    )
    ((n_rows, digest),) = con.execute(
        "SELECT count(*), concat_ws(' ', bit_xor(hash(new)), sum(hash(new) % 1000003)) "
        f"FROM (SELECT {columns} FROM {table}) AS new"
    ).fetchall()
    return int(n_rows), str(digest)
