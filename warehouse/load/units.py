"""Part files on their way into the tables: they must be what their manifest says."""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selfrepair.warehouse import files
from selfrepair.warehouse.database.lake.tables import allowed, check_keys
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.database.transactions import registered
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts import version_0_1
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest, RunStamp, difference
from selfrepair.warehouse.parts.pages import group_bytes
from selfrepair.warehouse.schema import MECHANISM_TABLES, PART_TABLES
from selfrepair.warehouse.schema.tables import metadata

_MEASUREMENTS = "measurements.parquet"
_ARROW = "selfrepair_rows_of_units"
_ROWS_AT_ONCE = 100_000
_LEDGER = (
    *(
        "run_id",
        "unit",
        "first_prompt",
        "n_prompts",
        "n_measurements",
        "identity_error_max",
        "manifest_sha256",
        "measured_at",
    ),
    *("document_id", "host", "device", "worker", "seconds", "loaded_at"),
)
_LATER = set(version_0_1.ADDED["measurements"])
"""Columns of measurements that part files of earlier versions do not have."""


@dataclass(frozen=True)
class CheckedUnit:
    """A unit's folder whose files have the sizes, rows and SHA-256 their manifest gives."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def n_measurements(self) -> int:
        """Rows of measurements [rows]."""
        return self.manifest.files[_MEASUREMENTS].rows

    @property
    def n_bytes(self) -> int:
        """Size of the part files [bytes]."""
        return sum(file.bytes for file in self.manifest.files.values())


def check_unit(path: Path, unit: int, run_key: str, stamp: RunStamp | None = None) -> CheckedUnit:
    """Compare the files of `unit`, in the folder `path`, with their manifest, and this with the run's key and stamp.

    Raises SelfRepairError that names the first file that is missing, shortened or altered, or says what is another run's.
    """
    try:
        text = files.read_file(path / MANIFEST)
        manifest = Manifest.from_json(text.decode())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, MANIFEST, f"cannot be read as a manifest: {error}") from error
    if not _files(PART_TABLES) <= set(manifest.files) <= _files((*PART_TABLES, *MECHANISM_TABLES, *version_0_1.TABLES)):
        raise _damaged(path, MANIFEST, f"lists the files {', '.join(sorted(manifest.files)) or 'none'}")
    if manifest.unit != unit:
        raise _damaged(path, MANIFEST, f"is of unit {manifest.unit}")
    if found := difference(manifest.run, run_key, stamp):
        raise SelfRepairError(
            f"{path} {found}. Nothing of this unit was loaded. Put back the folder or run.json that belongs here, or "
            f"delete {path} and run the ingest command of run {run_key} again: it measures what is missing."
        )
    for name, file in manifest.files.items():
        try:
            n_bytes = (path / name).stat().st_size
            digest = _sha256(path / name)
        except OSError as error:
            raise _damaged(path, name, f"cannot be read: {error.strerror}") from error
        if n_bytes != file.bytes:
            raise _damaged(path, name, f"is {n_bytes:,} bytes long and was written with {file.bytes:,}")
        if digest != file.sha256:
            raise _damaged(path, name, "was altered after it was written: its SHA-256 differs from the manifest's")
        if why := _why_unreadable(path / name, file.rows):
            raise _damaged(path, name, why)
    return CheckedUnit(path, manifest, hashlib.sha256(text).hexdigest())


def _why_unreadable(path: Path, n_rows: int) -> str | None:
    """Why a part file is not to be read though it is as it was written, by its footer and its pages; None: it is."""
    most_bytes = Limits().memory_bytes
    try:
        with files.open_regular(path) as opened, pq.ParquetFile(opened) as file:
            footer = file.metadata
            if footer.num_rows != n_rows:
                return f"has {footer.num_rows:,} rows by its footer and {n_rows:,} by the manifest"
            n_bytes = sum(group_bytes(opened, footer.row_group(number)) for number in range(footer.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"cannot be read: {error}"
    if n_bytes > most_bytes:
        return (
            f"takes up to {files.human_bytes(n_bytes)} when it is decompressed, and {files.human_bytes(most_bytes)} are "
            "allowed"
        )
    return None


def by_head(units: Sequence[CheckedUnit]) -> pa.Table:
    """The measurements of all `units`, one head's rows of every unit beside each other.

    Each unit is ordered by layer and head already, so that its rows are only laid out anew, in slices, and not copied. What
    asks for one head then reads a few blocks of the warehouse instead of some of every unit's. Raises SelfRepairError for
    files that are no such table; OSError and MemoryError say nothing about the files.
    """
    slices: dict[int, list[pa.Table]] = {}
    try:
        for unit in units:
            with pq.ParquetFile(unit.path / _MEASUREMENTS, read_dictionary=["ablation"]) as file:
                rows = file.read(use_threads=False)  # the load's own work goes on beside it
            for name in _LATER - set(rows.column_names):
                rows = rows.append_column(name, pa.nulls(len(rows), pa.float32()))
            heads = _numbers_of_heads(rows)
            if np.any(np.diff(heads) < 0):
                order = np.argsort(heads, kind="stable")
                rows, heads = rows.take(order), heads[order]
            starts = np.flatnonzero(np.diff(heads, prepend=-1))
            for start, length in zip(starts, np.diff(starts, append=len(heads)), strict=True):
                slices.setdefault(int(heads[start]), []).append(rows.slice(start, length))
        return pa.concat_tables([part for head in sorted(slices) for part in slices[head]])
    except MemoryError:  # Arrow's is an ArrowException, too
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Arrow's own is about what it read
            raise
        raise SelfRepairError(f"{_MEASUREMENTS} cannot be read: {error}") from error


def append_units(
    con: duckdb.DuckDBPyConnection, run_id: int, units: Sequence[CheckedUnit], measurements: pa.Table
) -> None:
    """Append the rows of `units`, whose `measurements` are those of `by_head`, and their rows in the ledger.

    Call it inside a transaction: all of it counts or nothing. Raises SelfRepairError when a table took another number
    of rows than the manifests say, and duckdb.Error when it refused them.
    """
    with duckdb.connect(config={"threads": 1}) as parts:  # the warehouse is kept from all files but its own
        for name in (*PART_TABLES, *MECHANISM_TABLES, *version_0_1.TABLES):
            table = version_0_1.TABLES.get(name, name)
            file = f"{name}.parquet"
            bring = [unit for unit in units if file in unit.manifest.files]
            if not bring:
                continue
            read = measurements if file == _MEASUREMENTS else _read(parts, name, [unit.path / file for unit in bring])
            rows = _insert(con, run_id, table, read)
            wanted = sum(unit.manifest.files[file].rows for unit in bring)
            if rows != wanted:
                raise SelfRepairError(f"{table} took {rows:,} rows, and the manifests say {wanted:,}")
    marks = ", ".join(f"({', '.join('?' * (len(_LEDGER) - 1))}, current_timestamp AT TIME ZONE 'UTC')" for _ in units)
    con.execute(
        f"INSERT INTO units ({', '.join(_LEDGER)}) VALUES {marks}",  # in a lake, each statement would be a file of its own
        [
            value
            for unit in units
            for value in (
                run_id,
                unit.manifest.unit,
                unit.manifest.first_prompt,
                unit.manifest.n_prompts,
                unit.n_measurements,
                unit.manifest.identity_error_max,
                unit.manifest_sha256,
                unit.manifest.measured_at,
                unit.manifest.document_id,
                *(astuple(unit.manifest.by) if unit.manifest.by else (None,) * 4),
            )
        ],
    )
    check_keys(con, "units", run_id)


def refused(path: Path, error: Exception) -> str:
    """What to tell the user when the tables do not take the unit in the folder `path`."""
    return str(_damaged(path, "", f"does not fit the tables: {error}"))


def _read(parts: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path]) -> pa.RecordBatchReader:
    """The rows of the part files called `name`, as they are read, with the columns of their table."""
    # The folder's name is nobody's pattern, and a name such as pos=3 brings no column.
    listed = ", ".join("'" + glob.escape(str(path)).replace("'", "''") + "'" for path in paths)
    source = f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
    earlier = version_0_1.COLUMNS if name in version_0_1.TABLES else {}
    columns = [f"{earlier.get(column, column)} AS {column}" for column in _columns(version_0_1.TABLES.get(name, name))]
    sql = f"SELECT {', '.join(columns)} FROM {version_0_1.completed(name, source)}"
    return parts.sql(sql).to_arrow_reader(_ROWS_AT_ONCE)


def _insert(con: duckdb.DuckDBPyConnection, run_id: int, table: str, rows: pa.Table | pa.RecordBatchReader) -> int:
    """Append rows of the run to `table`; returns how many there were."""
    columns = ", ".join(_columns(table))
    with registered(con, _ARROW, rows):
        sql = f"INSERT INTO {table} (run_id, {columns}) SELECT {run_id:d}, {columns} FROM {_ARROW} WHERE {allowed(con, table)}"
        ((n_rows,),) = con.execute(sql).fetchall()
    check_keys(con, table, run_id)
    return int(n_rows)


def _columns(table: str) -> list[str]:
    return [column.name for column in metadata.tables[table].columns if column.name != "run_id"]


def _files(tables: Sequence[str]) -> set[str]:
    return {f"{table}.parquet" for table in tables}


def _numbers_of_heads(rows: pa.Table) -> NDArray[np.int64]:
    """A number for each row that grows with its layer and, within a layer, with its head."""
    layer, head = (np.asarray(rows[name]).astype(np.int64) for name in ("layer", "head"))
    return layer * 2**16 + head


def _sha256(path: Path) -> str:
    with files.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, name: str, what: str) -> SelfRepairError:
    return SelfRepairError(
        f"{path / name} {what.rstrip('.')}. Nothing of this unit was loaded. Delete the folder {path} and run the "
        "ingest command that made it again: it measures what is missing."
    )
