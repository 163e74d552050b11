"""Whether a file is DuckDB's, by its first bytes, and why DuckDB does not open it, in words."""

import os
import stat
from pathlib import Path
from shlex import quote

import duckdb

from selfrepair.warehouse import compat, files
from selfrepair.warehouse.database.address import another_file, check_place
from selfrepair.warehouse.errors import SelfRepairError, again, file_option

_DUCKDB = slice(8, 12), b"DUCK"
_FLAGS = slice(20, 28)
_ENCRYPTED = 1
_OTHERS = {b"SQLite format 3": "an SQLite database", b"PAR1": "a Parquet file"}
"""What is often taken for a warehouse, by its first bytes. DuckDB would fetch an extension for the first."""

_LOGS = (files.WAL, f"{files.WAL}.checkpoint", f"{files.WAL}.recovery")
"""What DuckDB writes beside a file, by what it adds to the name; it would write over what a link there leads to."""


def check_format(path: Path) -> None:
    """Raise SelfRepairError for a file that is not DuckDB's, or encrypted, before DuckDB has a look at it."""
    check_place(path)
    try:
        with files.open_regular(path) as file:
            begins = file.read(_FLAGS.stop)
    except OSError:
        return  # DuckDB says why it cannot be read
    place, magic = _DUCKDB
    if begins[place] != magic:
        raise SelfRepairError(
            f"{path} is not a DuckDB file: it {_found(path, begins)}. Nothing in it was touched. {another_file()}"
        )
    if int.from_bytes(begins[_FLAGS], "little") & _ENCRYPTED:
        raise SelfRepairError(
            f"{path} is encrypted, and a warehouse is not: there is no way to give its key here. Copy it into a file "
            f"without encryption with DuckDB (ATTACH, COPY FROM DATABASE). {another_file()}"
        )
    real = path.resolve()
    for ending in _LOGS:
        log = real.with_name(real.name + ending)
        if os.path.lexists(log) and not stat.S_ISREG(log.lstat().st_mode):
            raise SelfRepairError(
                f"{log} stands where DuckDB keeps the log of {path}, and is a link or no file. Move it away."
            )


def why_not_opened(path: Path, error: duckdb.Error) -> str:
    """Why DuckDB does not open the file, and what to do."""
    if compat.is_of_another_version(error):
        return (
            f"{path} was written by a DuckDB whose files this one cannot read: pip install --upgrade duckdb ({error})"
        )
    if compat.is_denied(error):
        return (
            f"{path} is not writable: {compat.reason(error)}. Change the file's permissions, or copy it to a folder of "
            f"your own and name the copy{file_option(before=' with ')}."
        )
    if compat.is_unreplayable(error):
        log = f"{path.resolve()}{files.WAL}"
        return (
            f"{path} has a log that DuckDB cannot replay, {log}, left by a process that was ended while it wrote "
            f"({compat.reason(error)}). What was complete before is in the file itself. Move the log away (mv {quote(log)} "
            f"{quote(log + '.bad')}), then {again()}: rows that were only in the log are loaded or measured again."
        )
    return (
        f"{path} cannot be opened: {compat.reason(error)}. If the file is damaged, move it away together with its log "
        f"{path.resolve().name}{files.WAL} where there is one; then restore a copy, with the log it had, or measure again."
    )


def _found(path: Path, begins: bytes) -> str:
    for first, kind in _OTHERS.items():
        if begins.startswith(first):
            return f"is {kind}"
    size = path.stat().st_size
    return f"holds {files.human_bytes(size)} of something else" if size else "is empty"
