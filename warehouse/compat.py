"""What DuckDB and Arrow say in the text of an error alone, in one place: their classes do not tell these cases apart.

`TESTED_VERSIONS` has the versions in which the texts were last read; a test holds what is installed to be among them, so that
an upgrade leads here. Texts that come from the operating system are those of its C library.
"""

import errno
import os
import re

import duckdb
import pyarrow as pa

from selfrepair.warehouse.files import NO_ROOM

TESTED_VERSIONS = {"duckdb": ("1.5.5", "1.5.6", "2.0.1"), "pyarrow": ("26.0.1",)}

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
_EXTENSION = re.compile(r"Please try installing and loading the (\w+) extension")
LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)
"""The place in the SQL that DuckDB's errors name."""

_TOO_WIDE = re.compile(r"Type U?INT128 with value (-?\d+) can't be cast .* destination type INT64")
_TRACE = re.compile(r"\n\n(?:Stack Trace:|This error signals an assertion failure within DuckDB)")
_LOCKED = re.compile(r"Conflicting lock is held|being used by another process")  # Linux and macOS; Windows


def holder_of_file(error: duckdb.Error) -> str | None:
    """Who has the file that could not be opened, for a sentence; None where that is not what `error` is about (duckdb)."""
    text = str(error)
    if isinstance(error, duckdb.ConnectionException):
        return f"process {os.getpid()} (this one)" if "same database file with a different config" in text else None
    if not isinstance(error, duckdb.IOException):
        return None
    if match := _HOLDER.search(text):
        return f"process {match['pid']} ({match['program']})"
    return "another program" if _LOCKED.search(text) else None  # one that cannot be seen from here, as from a container


def is_unreplayable(error: duckdb.Error) -> bool:
    """Whether the log beside the file cannot be brought into it (duckdb)."""
    return "replaying WAL" in str(error)


def is_of_another_version(error: duckdb.Error) -> bool:
    """Whether the file is of a DuckDB with another format (duckdb)."""
    return _says(error, "database file with version number", "database file with storage version number")


def is_denied(error: Exception) -> bool:
    """Whether the system does not let the file be read or written: its permissions, or a disk that is read-only (duckdb)."""
    if isinstance(error, OSError):
        return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return _says(error, "Permission denied", "Read-only file system")


def is_out_of_room(error: Exception) -> bool:
    """Whether the disk is full (duckdb)."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return _says(error, "No space left", "quota exceeded")


def is_failed_write(error: duckdb.Error) -> bool:
    """Whether the file could not be written, not even at the commit, whose class is that of any transaction (duckdb)."""
    if isinstance(error, duckdb.TransactionException):
        return _says(error, "Failed to commit")
    return isinstance(error, duckdb.IOException | duckdb.FatalException)


def is_too_deep(error: Exception) -> bool:
    """Whether SQL is nested deeper than DuckDB lets it be, or its parser has room for (duckdb)."""
    return _says(error, "Max expression depth limit", "Parser Error: memory exhausted")


def needed_extension(error: duckdb.Error) -> str | None:
    """The extension that has the function, type or setting that was not found; None where none has it (duckdb)."""
    found = _EXTENSION.search(str(error))
    return found[1] if found else None


def is_interrupted(error: Exception) -> bool:
    """Whether a query was interrupted: while rows are fetched through Arrow, DuckDB's error has a class of Arrow's (both)."""
    return isinstance(error, duckdb.InterruptException) or (_is_arrows(error) and _says(error, "INTERRUPT Error"))


def is_out_of_memory(error: Exception) -> bool:
    """Whether a query needs more memory than it may have; through Arrow as in `is_interrupted` (both)."""
    if isinstance(error, duckdb.OutOfMemoryException | MemoryError):
        return True
    return _is_arrows(error) and _says(error, "Out of Memory Error")


def number_too_wide(error: Exception) -> str | None:
    """The whole number that a cast to 64 bits in the first line of the SQL could not take; None for other errors (both)."""
    found = _TOO_WIDE.search(str(error))
    line = LINE.search(str(error))
    return found[1] if found and (line is None or line[1] == "1") else None


def without_trace(error: Exception) -> str:
    """The text without what DuckDB adds to an internal error: where in its library it arose, with the paths of this
    installation, and that its authors want to hear of it (duckdb).
    """
    return _TRACE.split(str(error), maxsplit=1)[0].rstrip()


def reason(error: Exception) -> str:
    """The text without the class that DuckDB begins it with, without a trace and without a full stop (duckdb)."""
    return re.sub(r"^[A-Za-z]+ Error: ", "", without_trace(error)).strip().rstrip(".")


def _is_arrows(error: Exception) -> bool:
    return isinstance(error, OSError | pa.ArrowException)


def _says(error: Exception, *texts: str) -> bool:
    return any(text in str(error) for text in texts)
