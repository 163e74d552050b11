"""What a lake no longer needs: old snapshots, files that only they have, and files that no commit ever named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb

from selfrepair.warehouse.database.connection import OnWait, open_writer
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.lake.opening import NAME
from selfrepair.warehouse.errors import SelfRepairError, check_there


@dataclass(frozen=True)
class Cleaned:
    """How many snapshots are forgotten, and how many files of rows were removed."""

    snapshots: int
    files: int


def clean(db: Path, older_than: timedelta, wait_s: float = 60.0, on_wait: OnWait | None = None) -> Cleaned:
    """Put small files together, forget snapshots that are older, and remove files that no other snapshot has.

    Whoever reads an older snapshot at that moment may find its files gone. Raises SelfRepairError for a file, which has none.
    """
    if not isinstance(db, Lake):
        raise SelfRepairError(
            f"{db} is a file, and keeps no snapshots: there is nothing to clean. Lakes (`ducklake:...`) do."
        )
    check_there(db)
    before = f"now() - INTERVAL '{older_than.total_seconds():f} seconds'"
    with open_writer(db, wait_s, on_wait) as con:
        con.execute(f"CALL ducklake_merge_adjacent_files('{NAME}')")
        snapshots = _n_rows(con, f"CALL ducklake_expire_snapshots('{NAME}', older_than => {before})")
    # Not before the catalog counts that does without them.
    with open_writer(db, wait_s, on_wait) as con:
        n_files = _n_rows(con, f"CALL ducklake_cleanup_old_files('{NAME}', older_than => {before})")
        n_files += _n_rows(con, f"CALL ducklake_delete_orphaned_files('{NAME}', older_than => {before})")
    return Cleaned(snapshots, n_files)


def _n_rows(con: duckdb.DuckDBPyConnection, call: str) -> int:
    return len(con.execute(call).fetchall())
