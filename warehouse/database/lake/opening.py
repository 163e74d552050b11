"""A lake open in DuckDB: its tables under their usual names, and nothing within reach but its catalog and its rows.

A catalog that is a file is never changed in place: who changes the lake works on a copy beside it, which takes the catalog's
name when all is done. So readers, which open what has the name, never wait and are never waited for, and a process that is
killed leaves the lake as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from selfrepair.warehouse import compat, files
from selfrepair.warehouse.database.lake import storage
from selfrepair.warehouse.database.lake.address import Lake, is_bucket, without_password
from selfrepair.warehouse.database.lake.catalog import claim_bucket, data_to_make, is_made, recorded_data
from selfrepair.warehouse.database.lake.extensions import extensions_of, load_extensions
from selfrepair.warehouse.database.lake.lock import OnWait, only_committer
from selfrepair.warehouse.database.lake.postgres import dsn, text, unreachable
from selfrepair.warehouse.database.limits import Settings
from selfrepair.warehouse.database.transactions import LOCK
from selfrepair.warehouse.errors import ResumableError, SelfRepairError, again

NAME = "lake"
"""What the lake is called in SQL."""

ADDRESS = "selfrepair_address"
"""Variable of a connection with the lake's address, for messages."""

_LOGS = (files.WAL, "-journal", "-wal")
"""What DuckDB and SQLite write beside a file, by what they add to its name, until all is in it."""

_TYPE = {"duckdb": "", "sqlite": "sqlite:", "postgres": "postgres:"}


def connect_to_read(lake: Lake, settings: Settings) -> duckdb.DuckDBPyConnection:
    """The lake, open for reading with these settings. Raises SelfRepairError where it cannot be opened."""
    return _connected(lake, lake.catalog, recorded_data(lake), settings, read_only=True)


@contextlib.contextmanager
def open_to_change(
    lake: Lake,
    settings: Settings,
    prepare: Callable[[duckdb.DuckDBPyConnection], object],
    wait_s: float,
    on_wait: OnWait | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake, open for changes after `prepare` had it, which may make it; whoever else wants to change it waits.

    What was committed within the block counts at its end, whether that is an error or not. Raises InUseError where somebody
    else changes the lake for longer than `wait_s` seconds, and SelfRepairError where it cannot be opened or written.
    """
    with only_committer(lake, wait_s, on_wait) as held:
        if lake.kind == "postgres":
            is_new = not is_made(lake)
            data = data_to_make(lake) if is_new else recorded_data(lake)
            with contextlib.closing(_connected(lake, lake.catalog, data, settings, is_new=is_new)) as con:
                con.execute(f"SET VARIABLE {LOCK} = {text(held)}")
                prepare(con)
                yield con
            return
        is_new = not lake.exists()
        data = data_to_make(lake) if is_new else recorded_data(lake)
        with _copy_of_catalog(lake) as copy:
            con = _connected(lake, str(copy), data, settings, is_new=is_new)
            try:
                prepare(con)
                before = _snapshot(con) if lake.exists() else None
                try:
                    yield con
                finally:
                    with contextlib.suppress(duckdb.Error):
                        con.rollback()  # of a block that was left in the middle of a transaction
                    if _is_changed(con, before):
                        _put_in_place(lake, con, copy)
            finally:
                con.close()


def _connected(
    lake: Lake, catalog: str, data: str, settings: Settings, *, read_only: bool = False, is_new: bool = False
) -> duckdb.DuckDBPyConnection:
    own = dict(settings)
    is_locked = own.pop("lock_configuration", False)
    own.pop("enable_external_access", None)
    if lake.kind == "postgres":  # its extension looks for secrets on the disk: in a folder that is not there
        del own["allow_persistent_secrets"]
        own["secret_directory"] = f"{own['temp_directory']}.secrets"
    con = duckdb.connect(config=own)
    try:
        load_extensions(con, *extensions_of(lake, data))
        if is_bucket(data):
            con.execute(storage.secret(data))
            if is_new:
                claim_bucket(con, lake, data)
        paths = [] if lake.kind == "postgres" else [os.path.realpath(catalog)]
        if lake.kind == "duckdb":
            paths += [paths[0] + ending for ending in (files.WAL, f"{files.WAL}.checkpoint", f"{files.WAL}.recovery")]
        con.execute(f"SET allowed_directories = {_listed([data])}; SET allowed_paths = {_listed(paths)}")
        where = dsn(lake) if lake.kind == "postgres" else paths[0]
        only = "READ_ONLY, " if read_only else ""
        attach = (
            f"ATTACH {text(f'ducklake:{_TYPE[lake.kind]}{where}')} AS {NAME} "
            f"({only}DATA_PATH {text(data)}, OVERRIDE_DATA_PATH true)"
        )
        close = "SET enable_external_access = false"
        # A Postgres is not reached once all is closed, and has nothing that would run. A file may be anybody's.
        for statement in (attach, close) if lake.kind == "postgres" else (close, attach):
            con.execute(statement)
        con.execute("SET enable_progress_bar = false")  # on a terminal, of what writes Parquet
        con.execute(f"USE {NAME}; SET VARIABLE {ADDRESS} = {text(str(lake))}")
        if is_locked:
            con.execute("SET lock_configuration = true")
    except BaseException as error:
        con.close()
        if isinstance(error, duckdb.Error):
            raise _not_opened(lake, data, error) from None if lake.kind == "postgres" else error  # it quotes the DSN
        raise
    return con


def explained(lake: Lake, error: duckdb.Error) -> SelfRepairError | None:
    """What an error within an open lake means to its user; None: it is not about the lake."""
    if compat.is_failed_write(error) or isinstance(error, duckdb.HTTPException):
        reason = without_password(lake, compat.reason(error))
        return ResumableError(
            f"{lake} could not be read or written: {reason}. Check that its catalog and the place of its rows "
            "are there, have room and let you in.",
            f"What was loaded before is safe. Then {again()}.",
        )
    return None


def _not_opened(lake: Lake, data: str, error: duckdb.Error) -> SelfRepairError:
    if lake.kind == "postgres" and isinstance(error, duckdb.IOException):
        return unreachable(lake, error)
    reason = without_password(lake, compat.reason(error))
    return SelfRepairError(
        f"{lake} cannot be opened ({reason}). Its rows lie in {data}. Check that both are there and let you in."
    )


@contextlib.contextmanager
def _copy_of_catalog(lake: Lake) -> Iterator[Path]:
    """The path of a copy of the catalog, where there is one; removed at the end, unless it has another name by then."""
    real = Path(os.path.realpath(lake))
    copy = real.parent / files.temporary_name(real.name)
    try:
        files.sweep(real.parent, f"{real.name}.")
        if real.exists():
            if lake.kind == "sqlite":
                _settle(real)
            shutil.copyfile(real, copy)
            if (log := real.with_name(real.name + files.WAL)).exists():  # of another program, such as DuckDB's own
                shutil.copyfile(log, copy.with_name(copy.name + files.WAL))
        yield copy
    except OSError as error:
        raise _unwritten(lake, str(error)) from error
    finally:
        for ending in ("", *_LOGS, "-shm"):
            files.remove(copy.with_name(copy.name + ending))


def _settle(real: Path) -> None:
    """Have SQLite bring the log of a program that was killed into its file: it would fit no other that has the name."""
    if any(real.with_name(real.name + ending).exists() for ending in ("-journal", "-wal")):
        import sqlite3

        with contextlib.closing(sqlite3.connect(real)) as con:
            con.execute("SELECT count(*) FROM sqlite_master").fetchall()


def _put_in_place(lake: Lake, con: duckdb.DuckDBPyConnection, copy: Path) -> None:
    """Have the copy be the catalog, once all that was committed is in it. Raises ResumableError, and changes nothing, where the
    disk has no room for that.
    """
    try:
        if lake.kind == "duckdb":
            con.execute(f"CHECKPOINT __ducklake_metadata_{NAME}")
    except duckdb.Error as error:
        raise _unwritten(lake, compat.reason(error)) from error
    finally:
        con.close()
    if any(copy.with_name(copy.name + ending).exists() for ending in _LOGS):
        raise _unwritten(lake, "not all of the catalog could be written")
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    real = Path(os.path.realpath(lake))
    copy.replace(real)
    files.remove(real.with_name(real.name + files.WAL))
    files.sync_folder(real.parent)


def _unwritten(lake: Lake, why: str) -> ResumableError:
    return ResumableError(
        f"{lake} could not be written: {why}. Make its folder writable, with room for a copy of the catalog.",
        f"What was loaded before is safe. Then {again()}.",
    )


def _is_changed(con: duckdb.DuckDBPyConnection, before: object) -> bool:
    try:
        return _snapshot(con) != before
    except duckdb.Error:  # it answers nothing more after an error that is told already
        return False


def _snapshot(con: duckdb.DuckDBPyConnection) -> object:
    return con.execute(f"FROM {NAME}.current_snapshot()").fetchall()


def _listed(values: list[str]) -> str:
    return f"[{', '.join(map(text, values))}]"
