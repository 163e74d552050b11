"""The errors that a user is meant to read, in the terms of the door through which the work was asked for.

Most code is reached both from the command line and from Python. Where what can be typed differs, a message takes the one
of two wordings that fits (`in_words`) as it is raised.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from shlex import quote
from typing import Literal

Language = Literal["shell", "python", "http", "tool"]

_language: ContextVar[Language] = ContextVar("language", default="shell")
_file_option: ContextVar[str] = ContextVar("file_option", default=f"--{'db'}")  # in other commands another


class SelfRepairError(Exception):
    """Something the user can mend: the text names what was asked, what was found and the next step.

    The command line prints it without a traceback and exits with 1.
    """


class InUseError(SelfRepairError):
    """Another program, or another connection of this one, has the warehouse file open for longer than was waited."""


class UnknownNameError(SelfRepairError):
    """There is no table, view or question of the name that was asked for."""


class QueryLimitError(SelfRepairError):
    """A query needs more time, memory or room for its rows than it may have."""


class UnreadableError(SelfRepairError):
    """The warehouse cannot be read as it is: it is not there, damaged, or of a version that this one does not know."""


class DeviceMemoryError(SelfRepairError):
    """The memory of one device does not suffice; another device's may."""


class ResumableError(SelfRepairError):
    """Work that stopped on the way, of which all that was finished is kept where the next call finds it.

    `problem` says what happened and how to mend it; the rest of the text, what is kept and how to go on.
    """

    def __init__(self, problem: str, going_on: str) -> None:
        super().__init__(f"{problem} {going_on}")
        self.problem = problem


@contextmanager
def errors_in(language: Language) -> Iterator[None]:
    """Errors raised within the block name what can be typed in this language."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def in_words(shell: str, python: str, http: str | None = None, tool: str | None = None) -> str:
    """The one that the caller can type; the shell's, where no address over HTTP, or no assistant's tool, does it."""
    match _language.get():
        case "python":
            return python
        case "http" if http is not None:
            return http
        case "tool" if tool is not None:
            return tool
        case _:
            return shell


@contextmanager
def files_given_by(option: str) -> Iterator[None]:
    """Errors raised within the block name this option where a warehouse's file is to be named; '': its place says which."""
    token = _file_option.set(option)
    try:
        yield
    finally:
        _file_option.reset(token)


def file_option(python: str = "", *, before: str = "") -> str:
    """The option that names a warehouse's file, behind `before`, or nothing where it has none; from Python, `python`."""
    option = _file_option.get()
    return in_words(f"{before}{option}" if option else "", python)


def again() -> str:
    """To do the same once more, in the middle of a sentence."""
    return in_words("run the same command again", "repeat the call")


def with_dtype(name: str) -> str:
    """How another precision is chosen: `--dtype float32` or `model.to(torch.float32)`."""
    return in_words(f"--dtype {name}", f"model.to(torch.{name})")


def check_there(db: Path) -> None:
    """Raise SelfRepairError where there is no file `db`, or a pipe or device. It is neither opened nor made."""
    if not db.exists():
        make = in_words(f"selfrepair demo --db {quote(str(db))}", f'selfrepair.measure(model, prompts, into="{db}")')
        raise SelfRepairError(f"there is no warehouse at {db}. Make one ({make}), or name another file.")
    if not (db.is_file() or db.is_dir()):
        raise SelfRepairError(f"{db} is a pipe, a socket or a device, not a file. Name another file.")


def no_run(db: Path | None = None) -> str:
    """What is said of a warehouse that holds no run, with the next step; `db` is its file where that is known."""
    if db is None:
        return (
            "this warehouse holds no run yet. Measure one (selfrepair demo), or load part files measured elsewhere "
            "(selfrepair load)."
        )
    return (
        f"{db} holds no run yet. Measure one (selfrepair demo --db {quote(str(db))}), or load part files measured "
        f"elsewhere (selfrepair load --db {quote(str(db))})."
    )
