"""Open a warehouse file, for a moment, and say in words what stands in the way.

DuckDB lets one process write and then nobody else read. So nothing here keeps a file open longer than its `with` block,
and whoever comes second waits, and says so to the others (`write_request`).
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from shlex import quote

import duckdb

from selfrepair.warehouse import compat, files
from selfrepair.warehouse.database.address import another_file, check_place
from selfrepair.warehouse.database.format import check_format, why_not_opened
from selfrepair.warehouse.database.lake import opening as lakes
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.lake.tables import cast_tables
from selfrepair.warehouse.database.limits import CLOSED, Limits, Settings
from selfrepair.warehouse.database.migrate import check_readable, migrate
from selfrepair.warehouse.database.publication import is_publication, publication_at, refuse_to_write
from selfrepair.warehouse.database.write_request import (
    let_readers_go_first,
    request_read,
    request_write,
    withdraw_read_request,
    withdraw_write_request,
)
from selfrepair.warehouse.errors import InUseError, ResumableError, SelfRepairError, again, check_there, file_option

OnWait = Callable[[str], None]
"""Called with one sentence, once for each process that has to be waited for."""

FILE_FORMAT: Settings = {"storage_compatibility_version": "v1.0.0"}
"""Format of new files: DuckDB 2 would write one that DuckDB 1.5 cannot open. A file keeps its format whoever writes it."""

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
"""How a file system says that it has none: Linux EPERM, macOS ENOTSUP."""

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_LONGEST_PAUSE_OF_READERS_S = 0.2
_READERS_CLOSE_S = 0.2
"""Processes that only keep the file open close it for a writer within this time; it prints no notice before that."""


@contextlib.contextmanager
def open_writer(path: Path, wait_s: float = 60.0, on_wait: OnWait | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse at `path`, open for writing and at this version's schema; made if there is none.

    Waits up to `wait_s` seconds for other processes to close it. Raises InUseError when they do not, SelfRepairError when
    the folder is missing or the file is no warehouse or from a newer selfrepair, and ResumableError when it cannot be
    written: read-only, disk full. What was committed before stays.
    """
    check_folder(path)
    if isinstance(path, Lake):
        with (
            lakes.open_to_change(path, _with_spill_folder(path, CLOSED), migrate, wait_s, on_wait) as con,
            _explained(path, con),
        ):
            yield con
        return
    if not path.exists():
        _create(path)
    with connected(path, CLOSED, read_only=False, wait_s=wait_s, on_wait=on_wait) as con, _explained(path, con):
        real = Path(os.path.realpath(path))
        files.sweep(real.parent, f"{real.name}.")  # now that nobody else has the file: what is there is nobody's
        migrate(con)
        yield con


@contextlib.contextmanager
def open_reader(path: Path, wait_s: float = 10.0, on_wait: OnWait | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse at `path`, open for reading. Readers do not keep each other out.

    Waits up to `wait_s` seconds for a writer to finish. Raises InUseError when it does not, SelfRepairError when there is
    no such file, and when the file is no warehouse or has another schema than this version reads.
    """
    check_place(path)
    check_there(path)
    with (
        connected(path, Limits().settings(), read_only=True, wait_s=wait_s, on_wait=on_wait) as con,
        _explained(path, con),
    ):
        check_readable(con)
        if isinstance(path, Lake):
            cast_tables(con)
        yield con


@contextlib.contextmanager
def connected(
    path: Path, settings: Settings, *, read_only: bool, wait_s: float, on_wait: OnWait | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of `connect`, closed at the end of the block."""
    con = connect(path, settings, read_only=read_only, wait_s=wait_s, on_wait=on_wait)
    try:
        yield con
    finally:
        con.close()


def connect(
    path: Path, settings: Settings, *, read_only: bool, wait_s: float, on_wait: OnWait | None = None
) -> duckdb.DuckDBPyConnection:
    """The DuckDB file at `path`, open with `settings`, in which `CLOSED` must be; nobody has looked yet at what is in it.

    Waits and raises as `open_writer` and `open_reader` do.
    """
    if isinstance(path, Lake):
        assert read_only, "a lake is changed within `open_writer`"
        return lakes.connect_to_read(path, _with_spill_folder(path, settings))
    if not read_only:
        refuse_to_write(path)
    if (publication := publication_at(path)) is not None:
        check_format(publication.small_file)
        try:
            return publication.connect(settings)
        except duckdb.Error as error:
            raise SelfRepairError(why_not_opened(publication.small_file, error)) from error
    check_format(path)
    try:
        if not read_only:
            let_readers_go_first(path)
        return _connected_in(wait_s, path, settings, read_only=read_only, on_wait=on_wait)
    finally:
        (withdraw_read_request if read_only else withdraw_write_request)(path)


def _connected_in(
    wait_s: float, path: Path, settings: Settings, *, read_only: bool, on_wait: OnWait | None
) -> duckdb.DuckDBPyConnection:
    # By its one real name: DuckDB looks for a file's log beside the name it is given, and a link has none.
    real = os.path.realpath(path)
    settings = _with_spill_folder(path, settings)
    give_up_after_s = wait_s if read_only else max(wait_s, _READERS_CLOSE_S)
    began = time.monotonic()
    pause_s = _FIRST_PAUSE_S
    told = ""
    while True:
        try:
            return duckdb.connect(real, read_only=read_only, config=settings)
        except duckdb.Error as error:
            holder = compat.holder_of_file(error)
            if holder is None:
                raise SelfRepairError(why_not_opened(path, error)) from error
            (request_read if read_only else request_write)(path)
            waited_s = time.monotonic() - began
            left_s = give_up_after_s - waited_s
            if left_s <= 0:
                raise InUseError(
                    f"{path} is in use by {holder}, and was for {wait_s:g} seconds. Nothing was changed or lost. "
                    f"End that program, or wait until it is done, then {again()}."
                ) from error
        if on_wait and holder != told and (read_only or waited_s >= _READERS_CLOSE_S):
            on_wait(f"waiting for {holder}, which has {path} open")
            told = holder
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_OF_READERS_S if read_only else _LONGEST_PAUSE_S)


def check_folder(path: Path) -> None:
    """Raise SelfRepairError where the folder of a warehouse file is missing, or no warehouse can be there.

    DuckDB would replay the log of a file that is gone into a new one: the rows of both would be in it.
    """
    refuse_to_write(path)
    check_place(path)
    if isinstance(path, Lake) and path.kind == "postgres":
        return
    if not path.parent.is_dir():
        raise SelfRepairError(
            f"{path} cannot be created: there is no folder {path.parent}. Create it, or change "
            f"{file_option('into=') or 'the name'}."
        )
    real = Path(os.path.realpath(path))
    if (too_long := files.bytes_too_many(real)) > 0:
        raise SelfRepairError(
            f"the name {real.name[:40]}... is {too_long} bytes too long: files beside the warehouse have longer ones, such as "
            f"its log and its part files. Nothing was measured or written. {another_file()}"
        )
    log = f"{real}{files.WAL}"
    if os.path.lexists(log) and not path.exists():  # in this order: another process makes the file before its log
        raise SelfRepairError(
            f"there is a log of a file that is gone, {log}: its rows would get into a new one. Put the file back at {path}, "
            f"or move the log away (mv {quote(log)} {quote(log + '.bad')}), then {again()}."
        )


def _create(path: Path) -> None:
    # A process killed while DuckDB writes a new file leaves one that DuckDB then refuses for ever. So the file is made
    # under another name and appears at `path` whole, with no log that would have to be replayed.
    path = Path(os.path.realpath(path))
    temporary = path.parent / files.temporary_name(path.name)
    log = temporary.with_name(temporary.name + files.WAL)
    try:
        files.sweep(path.parent, f"{path.name}.")
        with contextlib.closing(duckdb.connect(str(temporary), config={**CLOSED, **FILE_FORMAT})) as con:
            migrate(con)
            con.execute("CHECKPOINT")
        assert not log.exists(), "closing a file that was checkpointed removes its log"
        with contextlib.suppress(FileExistsError):  # another process was faster
            move_to_free_name(temporary, path)
        files.sync_folder(path.parent)
    except (duckdb.Error, OSError) as error:
        raise _write_failure(path, error) from error
    finally:
        files.remove(temporary)
        files.remove(log)


def move_to_free_name(source: Path, target: Path) -> None:
    """Give a file another name in its folder. Raises FileExistsError where there is something of that name."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with _one_at_a_time(target.parent):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
            source.rename(target)


def _with_spill_folder(path: Path, settings: Settings) -> Settings:
    if "temp_directory" in settings:
        return settings
    # At the end, since DuckDB takes it before what closes it to files.
    return {**settings, "temp_directory": _spill_folder(os.path.realpath(path), os.getpid())}


@cache
def _spill_folder(real: str, pid: int) -> str:
    """Where DuckDB puts what does not fit in memory unless its settings say otherwise: beside the file, under a name that
    nobody else knows. It would follow a link in the place of the usual one, and end the process. The same for all connections
    of a process, or they could not be open at once.
    """
    return str(Path(real).with_name(files.temporary_name(Path(real).name)))


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Nobody else is in such a block for the same folder, where its file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    try:
        yield
    except duckdb.PermissionException as error:  # nothing of ours does
        raise SelfRepairError(
            f"{path} is no warehouse of selfrepair's making: a view or function in it reaches beyond the file, which was "
            f"refused ({compat.reason(error)}). {another_file()}"
        ) from error
    except duckdb.Error as error:
        if isinstance(path, Lake):
            if (told := lakes.explained(path, error)) is not None:
                raise told from error
            raise
        if is_publication(path):
            raise SelfRepairError(f"{path} cannot be read: {compat.reason(error)}. {another_file()}") from error
        if compat.is_failed_write(error):
            raise _write_failure(path, error) from error
        if altered := _altered(con):
            raise SelfRepairError(
                f"{path} was changed by a program other than selfrepair, and this fails with it "
                f"({_first_line(compat.reason(error))}): {'; '.join(altered)}. Undo that in DuckDB, or name another file"
                f"{file_option(before=' with ')}."
            ) from error
        raise


def _altered(con: duckdb.DuckDBPyConnection, most: int = 5) -> list[str]:
    """What of the file's columns and of the functions in it is not as selfrepair and DuckDB make it."""
    columns = (
        "SELECT concat_ws('.', table_name, column_name), data_type FROM system.main.duckdb_columns() "
        "INNER JOIN system.main.duckdb_tables() USING (schema_name, table_name) WHERE schema_name = 'main'"
    )
    functions = "SELECT function_name FROM system.main.duckdb_functions() WHERE {} internal"
    with contextlib.suppress(duckdb.Error):
        con.rollback()  # nothing is answered in a transaction that has failed
    found: dict[str, str] = dict(con.execute(columns).fetchall())
    hidden = con.execute(f"{functions.format('NOT')} INTERSECT {functions.format('')} ORDER BY ALL").fetchall()
    with duckdb.connect(config=CLOSED) as empty:
        migrate(empty)
        made: dict[str, str] = dict(empty.execute(columns).fetchall())
        migrations = "SELECT version FROM main.schema_migration ORDER BY ALL"
        if con.execute(migrations).fetchall() != empty.execute(migrations).fetchall():
            made = {}  # its migration is what fails
    told = [f'its macro "{name}" hides a function of DuckDB' for (name,) in hidden]
    told += [
        f"{name} is {found.get(name, 'missing')}, not {kind}" for name, kind in made.items() if found.get(name) != kind
    ]
    return told[:most]


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _write_failure(path: Path, error: Exception) -> SelfRepairError:
    if compat.is_out_of_room(error):
        step = "Free some space on that disk."
    elif compat.is_denied(error):
        step = f"Make {path.parent} writable, or name a file elsewhere{file_option(before=' with ')}."
    else:
        step = "Mend that."
    return ResumableError(
        f"{path} could not be written: {compat.reason(error)}. {step}",
        f"What was loaded before is safe. Then {again()}.",
    )
