"""Files that are there whole or not at all."""

import contextlib
import errno
import glob
import itertools
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from functools import cache
from io import BufferedReader
from pathlib import Path

from selfrepair.warehouse.errors import ResumableError, SelfRepairError, again

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Of an OSError: the disk is full, or the user's share of it."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def human_bytes(n: int) -> str:
    """`n` bytes for a reader: `17 bytes`, `2.4 MB`; powers of 1000."""
    if n < 1000:
        return f"{n} bytes"
    size = float(n)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file for reading; raises OSError for anything else, such as a pipe, at which a reader would wait for ever."""
    return os.fdopen(_descriptor(path, os.O_RDONLY), "rb")


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a file of ours, such as a lock, opened or made with `flags`; raises OSError for anything else in its
    place, and for a link: whoever may write beside a warehouse could have it lead to a file of its reader's.
    """
    return _descriptor(path, flags | getattr(os, "O_NOFOLLOW", 0))


def read_own(path: Path) -> bytes:
    """All of a file of ours; raises OSError as `open_own`."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read()


def _descriptor(path: Path | str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, not a file", str(path))
    return descriptor


@contextlib.contextmanager
def needing_temporary_files() -> Iterator[None]:
    """Making a temporary file or folder: raises SelfRepairError, which says how to name a folder for it, for OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            step = "Close files that are not needed, or allow more of them (ulimit -n)."
        else:
            step = "Set TMPDIR to a folder that can be written to and has room."
        raise SelfRepairError(f"no temporary file can be made ({error}). {step}") from error


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is the few lines that Git keeps in place of a large file, as a clone without Git LFS leaves them."""
    if not path.is_file():
        return False
    with open_regular(path) as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def read_file(path: Path | str) -> bytes:
    """All of a file; raises OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to a new file and wait until the disk has it."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's list of names; a rename is not safe before."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name, then rename it to `path`: a reader sees the old file or the new one."""
    temporary = path.parent / temporary_name(path.name)
    try:
        write_file(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


WAL = ".wal"
"""What DuckDB adds to a database's name for the log of what is not yet in it."""


_PROCESS = secrets.token_hex(3)
"""Tells this process from another one of its number, as containers have it, and a killed one."""

_numbers = itertools.count(1)
_MOST_DIGITS = 10  # of a process' number, and of that of its files


def temporary_name(name: str) -> str:
    """A hidden name beside `name`, a new one each time, that tells which machine and process is writing; for `sweep`."""
    return _temporary_name(name, os.getpid(), next(_numbers))


def _temporary_name(name: str, process: int, number: int) -> str:
    return f".{name}.{_host()}.{process}-{_PROCESS}-{number}.tmp"


def bytes_too_many(path: Path) -> int:
    """By how many bytes the longest name beside `path`, that of a new file's log, is longer than its folder takes; below 0
    where it is not.
    """
    try:
        most = os.pathconf(path.parent, "PC_NAME_MAX")
    except (AttributeError, ValueError, OSError):  # Windows
        most = 255
    largest = 10**_MOST_DIGITS - 1
    return len(os.fsencode(_temporary_name(path.name, largest, largest) + WAL)) - most


def sweep(folder: Path, name: str = "") -> None:
    """Remove what killed writers of this machine left in `folder` under temporary names that begin with `name`.

    A living process' files stay, its own included, which another thread may be writing; and so do another machine's:
    nobody here can tell whether it still writes.
    """
    begins = f".{glob.escape(name)}*.tmp"
    for path in (*folder.glob(begins), *folder.glob(f"{begins}{WAL}")):
        if is_left_over(path.name.removesuffix(WAL)):
            with contextlib.suppress(OSError):  # another user's, or on a disk that is read-only by now
                remove(path)


def is_left_over(name: str) -> bool:
    """Whether a temporary name is one of a process of this machine that has ended."""
    *_, host, writer, _ = name.rsplit(".", 3)
    pid, _, of_process = writer.partition("-")  # version 0.1 had the number alone
    return host == _host() and pid.isdecimal() and not _is_living(int(pid), of_process.partition("-")[0])


def temporary_affixes() -> tuple[str, str]:
    """How the name of a temporary folder ends and begins, in the order of `tempfile`: it tells whose it is.

    At a process' first call, what killed processes of this user left in the system's folder for such files is removed.
    """
    with contextlib.suppress(OSError):  # no such folder: who makes a file in it is told
        _sweep_once(Path(tempfile.gettempdir()))
    return ".tmp", f".selfrepair.{_host()}.{os.getpid()}-{_PROCESS}-"


@cache
def _sweep_once(folder: Path) -> None:
    sweep(folder, "selfrepair.")


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; no error when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink()
    except OSError:
        if os.path.lexists(path):  # a file system that is read-only refuses before it looks
            raise


def remove_empty(folder: Path) -> None:
    """Remove a folder unless something is in it, such as what another process writes."""
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def writing(what: str, folder: Path, n_bytes: int) -> Iterator[None]:
    """Turn the system's refusals to write `what` (`n_bytes` long) into `folder` into a SelfRepairError."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise ResumableError(
                f"not enough space to write {what}: it needs {human_bytes(n_bytes)} and {folder} has "
                f"{_free(folder)}. Free some.",
                f"What was finished before is kept: {again()}, and it continues from there.",
            ) from error
        raise SelfRepairError(
            f"cannot write {what} into {folder}: {error.strerror or error}. "
            f"Choose a folder you may write to, or fix this one, then {again()}."
        ) from error


def _free(folder: Path) -> str:
    try:
        return human_bytes(shutil.disk_usage(folder).free) + " free"
    except OSError:
        return "none free"


def _host() -> str:
    return socket.gethostname().replace(".", "-") or "localhost"


def _is_living(pid: int, process: str) -> bool:
    if pid == os.getpid():
        return process == _PROCESS  # or else a killed namesake: containers hand out the same few numbers again
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
