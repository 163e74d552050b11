"""Take one run out of a warehouse, with all that is of it alone."""

import os
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import duckdb

from selfrepair.warehouse import files
from selfrepair.warehouse.database.connection import OnWait, open_reader, open_writer
from selfrepair.warehouse.database.transactions import checkpoint, transaction
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import call_entry_points
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.schema.tables import metadata

_SHARED = {"models": "model_id", "datasets": "dataset_id"}
"""Tables that several runs may refer to, by the column that does."""


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies in a file; `n_measurements` are the rows of it that are loaded."""

    run_id: int
    run_key: str
    model: str
    dataset: str
    status: str
    n_measurements: int


def stored_run(db: Path, run_id: int, wait_s: float = 10.0, on_wait: OnWait | None = None) -> StoredRun:
    """The run of that number. Raises SelfRepairError where there is none."""
    with open_reader(db, wait_s, on_wait) as con:
        found = con.execute(
            "SELECT run_id, run_key, models.name, datasets.name, status, "
            "(SELECT coalesce(sum(n_measurements), 0)::BIGINT FROM units WHERE units.run_id = runs.run_id) "
            "FROM runs JOIN models USING (model_id) JOIN datasets USING (dataset_id) WHERE run_id = ?",
            [run_id],
        ).fetchall()
    if not found:
        raise SelfRepairError(f"{db} has no run {run_id}. Those it has: selfrepair runs --db {quote(str(db))}")
    return StoredRun(*found[0])


def was_removed(db: Path, run_id: int, wait_s: float = 10.0, on_wait: OnWait | None = None) -> bool:
    """Whether a run of that number was in the file and is no longer: a number is never given twice."""
    with open_reader(db, wait_s, on_wait) as con:
        found = con.execute(
            "SELECT 1 FROM last_numbers WHERE table_name = 'runs' AND $run_id BETWEEN 1 AND last_number "
            "AND $run_id NOT IN (SELECT run_id FROM runs)",
            {"run_id": run_id},
        ).fetchall()
    return bool(found)


def remove_run(db: Path, run: StoredRun, parts_root: Path, wait_s: float = 60.0, on_wait: OnWait | None = None) -> None:
    """Remove the run's rows from every table, its summaries, its part files, and its model and data set where no other run
    has them. Other runs that have no summaries yet get them now.

    The part files go first: of what is left when this is interrupted, nothing comes back with the next load, and the same
    call removes the rest. Raises SelfRepairError, with all rows in place, when `db` cannot be written or the number is
    another run's by now.
    """
    with open_writer(db, wait_s, on_wait) as con:
        if con.execute("SELECT run_key FROM runs WHERE run_id = ?", [run.run_id]).fetchall() != [(run.run_key,)]:
            raise SelfRepairError(
                f"run {run.run_id} of {db} has changed in the meantime. Check again: selfrepair runs --db {quote(str(db))}"
            )
        parts = PartsFolder(parts_root, run.run_key)
        parts.remove([], is_whole=True)
        files.remove_empty(parts_root)
        if parts.exists():
            raise SelfRepairError(
                f"{parts.path} cannot be removed, and would bring run {run.run_id} back. Remove it, then run this again; "
                "nothing was changed."
            )
        with transaction(con):
            _remove_rows(con, run.run_id)
    call_entry_points(db, wait_s, on_wait)


def finish_removal(db: Path, wait_s: float = 60.0, on_wait: OnWait | None = None) -> None:
    """Do what is left of a removal that was stopped when all rows were gone: its log goes into the file, where closing had no
    time for that, and summaries are brought up to date.
    """
    real = Path(os.path.realpath(db))
    if real.with_name(real.name + files.WAL).exists():
        with open_writer(db, wait_s, on_wait) as con:
            checkpoint(con)
    call_entry_points(db, wait_s, on_wait)


def _remove_rows(con: duckdb.DuckDBPyConnection, run_id: int) -> None:
    for table in metadata.sorted_tables:
        if "run_id" in table.columns:
            con.execute(f"DELETE FROM {table.name} WHERE run_id = ?", [run_id])
    for table_name, key in _SHARED.items():
        con.execute(f"DELETE FROM {table_name} WHERE {key} NOT IN (SELECT {key} FROM runs)")
