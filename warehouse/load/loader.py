"""Load part files into the warehouse: every finished unit exactly once, wherever a process was killed."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import duckdb
import pyarrow as pa

from selfrepair.warehouse import files
from selfrepair.warehouse.database.connection import OnWait, open_reader, open_writer
from selfrepair.warehouse.database.transactions import checkpoint, transaction
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.crosschecks import append_cells, read_cells
from selfrepair.warehouse.load.names import why_unnamed
from selfrepair.warehouse.load.registry import check_resumed, refresh, register, run_id_of, units_in
from selfrepair.warehouse.load.units import CheckedUnit, append_units, by_head, check_unit, refused
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import RunStamp
from selfrepair.warehouse.parts.records import RunRecord, is_run_key

AFTER_LOAD = "selfrepair.after_load"
"""Entry points of this group are called after each load, such as to install views: with the warehouse's path, how long to wait
for others that have it open [s], and an `OnWait`.
"""

ROWS_PER_TRANSACTION = 4_000_000
"""Units share a transaction: one each would leave half-filled row groups, and takes up to three times as long. As many are
laid out together by head (`by_head`): with more of them, what asks for one prompt would have to read more.
"""

_REFUSED = (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError, SelfRepairError)
"""A part's own fault; anything else (a full disk) is the warehouse's and ends the load."""


@dataclass
class LoadReport:
    """What a load did: `rows` of measurements and `units` that were new, `crosschecks` (cells) that were new,
    `runs` (keys) that were found, `bytes` of part files read, `seconds` it took, of these `loading_s` before the entry points.
    """

    rows: int = 0
    units: int = 0
    crosschecks: int = 0
    bytes: int = 0
    seconds: float = 0.0
    loading_s: float = 0.0
    runs: list[str] = field(default_factory=list)


def load(
    db: Path,
    parts_root: Path,
    *,
    run_key: str | None = None,
    wait_s: float = 60.0,
    keep_parts: bool = False,
    keep_folder: bool = False,
    on_wait: OnWait | None = None,
    after_load: bool = True,
) -> LoadReport:
    """Load every finished unit and cross-check below `parts_root` (of one run, if `run_key` is given) into `db`.

    What is loaded already is skipped. When `db` is written whole, loaded part files are removed unless `keep_parts`, and an
    empty `parts_root` unless `keep_folder`; after an error the next load removes them. Makes `db` and brings its schema up
    to date. Waits up to `wait_s` seconds for other processes to close `db`. `on_wait` is told that it waits, and where a run
    does not get the name that it was to have.

    When all is loaded, the entry points of `AFTER_LOAD` are called unless `after_load` is False.

    Raises SelfRepairError when there is neither folder nor `db`, or `db` cannot be written. Damaged parts are named in
    one SelfRepairError after all others were loaded.
    """
    began = time.monotonic()
    report = LoadReport()
    if not parts_root.is_dir() and not db.exists():
        raise SelfRepairError(
            f"there is no folder of parts at {parts_root}, and no warehouse at {db}. selfrepair ingest makes both; "
            "parts from elsewhere: selfrepair load FOLDER"
        )
    with open_writer(db, wait_s, on_wait) as con:
        loads = [_RunLoad(con, parts, report, on_wait) for parts in _run_folders(parts_root, run_key)]
        # Each thread would leave a half-filled row group of its own; the checkpoint then merges some, and the file keeps
        # the abandoned blocks. One thread loads two million rows a second, and the same file everywhere.
        con.execute("SET threads = 1")
        for run_load in loads:
            run_load.run()
        con.execute("RESET threads")
        checkpoint(con)
    report.loading_s = time.monotonic() - began
    if after_load:
        call_entry_points(db, wait_s, on_wait)
    if not keep_parts:  # not before the last write, nor after one that failed: the file may be damaged
        for run_load in loads:
            run_load.parts.remove(run_load.loaded, is_whole=run_load.is_whole)
        if not keep_folder:
            files.remove_empty(parts_root)
    report.seconds = time.monotonic() - began
    damaged = [text for run_load in loads for text in run_load.damaged]
    if damaged:
        raise SelfRepairError(
            "\n".join([*damaged, f"Everything else was loaded: {report.units} units, {report.rows:,} rows."])
        )
    return report


def call_entry_points(db: Path, wait_s: float, on_wait: OnWait | None) -> None:
    """Call those of `AFTER_LOAD` with the closed file: what was done to the rows is safe, whatever becomes of it."""
    try:
        for entry_point in entry_points(group=AFTER_LOAD):
            entry_point.load()(db, wait_s, on_wait)
    except duckdb.Error as error:
        raise SelfRepairError(
            f"the rows are in place, but their summaries could not be made: {error}\n"
            "With more memory or room on the disk: selfrepair refresh"
        ) from error


def loaded_units(db: Path, run_key: str, wait_s: float = 60.0, resumed_as: RunRecord | None = None) -> set[int]:
    """Numbers of the units of a run that are in `db`; empty when the file or the run does not exist.

    Raises SelfRepairError as `open_reader` does, and where `db` would not take what is measured of the run `resumed_as`.
    """
    if not db.exists():
        return set()
    with open_reader(db, wait_s) as con:
        if resumed_as is not None:
            check_resumed(con, resumed_as)
        run_id = run_id_of(con, run_key)
        return set() if run_id is None else units_in(con, run_id)


def _run_folders(root: Path, run_key: str | None) -> list[PartsFolder]:
    if not root.is_dir():
        return []  # loaded and removed before
    keys = [run_key] if run_key else sorted(path.name for path in root.iterdir() if is_run_key(path.name))
    return [parts for parts in (PartsFolder(root, key) for key in keys) if parts.exists()]


class _RunLoad:
    """One run's way into the warehouse."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, parts: PartsFolder, report: LoadReport, note: OnWait | None
    ) -> None:
        self.con = con
        self.note = note
        self.parts = parts
        self.report = report
        self.damaged: list[str] = []
        self.loaded: list[Path] = []
        self.is_whole = False
        self.stamp: RunStamp | None = None

    def run(self) -> None:
        """Load what is new; `damaged` then says what could not be loaded, `loaded` which files have served."""
        try:
            with transaction(self.con):
                self.run_id = self._registered()
        except SelfRepairError as error:
            if self.parts.exists():  # or else another loader was faster, and removed it
                self.damaged.append(str(error))
            return
        self.report.runs.append(self.parts.run_key)
        done = units_in(self.con, self.run_id)
        finished = self.parts.finished_units()
        self.loaded += [self.parts.unit_path(unit) for unit in sorted(finished & done)]
        for batch, measurements in _read_ahead(self._batches(sorted(finished - done))):
            self._load_units(batch, measurements)
            del batch, measurements  # or they would stay in memory beside the next two
        for path in self.parts.finished_crosschecks():
            self._load_crosscheck(path)
        with transaction(self.con):
            self.is_whole = refresh(self.con, self.run_id)

    def _registered(self) -> int:
        """The run's number. Its record may be gone: a faster process of the very same run loaded it and cleaned up while
        this one's last files were being written.
        """
        known = None if self.parts.has_record() else run_id_of(self.con, self.parts.run_key)
        if known is not None:
            return known
        run = self.parts.run()
        if run.run_key != self.parts.run_key:
            raise SelfRepairError(
                f"{self.parts.path} has the record of run {run.run_key}: it was moved or renamed. Nothing of it was loaded. "
                f"Give the folder that name, or put back the run.json of run {self.parts.run_key}."
            )
        self.stamp = run.stamp()
        stamps = self.parts.stamps()
        if stamps and self.stamp not in stamps:  # not even the row of the run is right
            raise SelfRepairError(
                f"{self.parts.path}: every unit in it {stamps[0].difference(self.stamp)}. Nothing of it was loaded. Put back "
                f"the units and the run.json of run {run.run_key}, or delete the folder and measure the run again."
            )
        run_id = register(self.con, run)
        if self.note and (why := why_unnamed(self.con, run_id, run.run_name)):
            self.note(why)
        return run_id

    def _batches(self, units: Sequence[int]) -> Iterator[list[CheckedUnit]]:
        batch: list[CheckedUnit] = []
        for unit in units:
            try:
                batch.append(check_unit(self.parts.unit_path(unit), unit, self.parts.run_key, self.stamp))
            except SelfRepairError as error:
                self.damaged.append(str(error))
            if sum(unit.n_measurements for unit in batch) >= ROWS_PER_TRANSACTION:
                yield batch
                batch = []
        if batch:
            yield batch

    def _load_units(self, batch: Sequence[CheckedUnit], measurements: "Future[pa.Table]") -> None:
        """Load the units in one transaction or, when the tables refuse one of them, each in its own."""
        try:
            with transaction(self.con):
                append_units(self.con, self.run_id, batch, measurements.result())
        except _REFUSED as error:
            if len(batch) > 1:
                for single, of_single in _read_ahead([unit] for unit in batch):
                    self._load_units(single, of_single)
            else:
                self.damaged.append(refused(batch[0].path, error))
            return
        except (OSError, MemoryError) as error:
            raise SelfRepairError(
                f"{len(batch)} units from {batch[0].path} on could not be read: {error or 'memory ran out'}. Nothing of them "
                "was loaded, and their files are kept. Once that is fixed: selfrepair load"
            ) from error
        self.report.rows += sum(unit.n_measurements for unit in batch)
        self.report.bytes += sum(unit.n_bytes for unit in batch)
        self.report.units += len(batch)
        self.loaded += [unit.path for unit in batch]

    def _load_crosscheck(self, path: Path) -> None:
        try:
            with transaction(self.con):
                n_cells = append_cells(self.con, self.run_id, read_cells(path, self.parts.run_key, self.stamp))
        except _REFUSED as error:
            if path.exists():  # or else another loader was faster, and removed it
                self.damaged.append(
                    f"{path} does not fit the tables: {error}. Delete it and run the ingest command that made it again."
                )
            return
        self.report.crosschecks += n_cells
        self.loaded.append(path)


def _read_ahead(
    batches: Iterable[list[CheckedUnit]],
) -> Iterator[tuple[list[CheckedUnit], "Future[pa.Table]"]]:
    """Each batch with its measurements, which are read while the batch before it is loaded."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        before = None
        for batch in batches:
            read = batch, reader.submit(by_head, batch)
            if before is not None:
                yield before
            before = read
        if before is not None:
            yield before
