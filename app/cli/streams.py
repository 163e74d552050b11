"""Standard input, output and error of the command: any text can be written, and what the system refuses is said in words."""

import contextlib
import errno
import os
import sys
from io import TextIOWrapper

import click

_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF),
    *(errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What an OSError says of the place and not of this program."""


def prepare() -> None:
    """Open what the caller closed (`>&-`), and have characters that the terminal's encoding lacks written as escapes.

    A closed stream's number would otherwise be given to the next file, which then has the output in it. What is written to
    a closed standard output still fails, as `write_failure` says.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_failure(error: OSError) -> str | None:
    """What the system refused, as an error's text; None where that is a bug of this program's.

    Files are named by the error; one without a name is about standard output.
    """
    if error.errno not in _REFUSED:
        return None
    if error.errno == errno.EBADF:
        return "standard output is closed, and the output was not written. Send it to a file or another program."
    if error.filename is None:
        return f"the output could not be written: {error.strerror}. Send it elsewhere, or free some space there."
    return f"{error.filename}: {error.strerror}. Mend that, or name another place, and run the same command again."


def discard() -> None:
    """Drop what standard output still holds: Python would try to write it once more as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_error(text: str) -> None:
    """The line of an error, where standard error takes it."""
    with contextlib.suppress(OSError):
        click.echo(f"Error: {text}", err=True)
