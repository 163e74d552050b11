"""Which file a user means by a warehouse: a path is a path, unless it is the address of a lake (`lake.address`).

DuckDB takes some texts for more than a path: `:memory:` for a database that is gone when it is closed, `md:name` for a
service, `sqlite:name` for an extension that it fetches, `name?option` for a name with options. None of these holds a
warehouse, so each is refused by name before anything is measured, loaded or removed.
"""

import errno
import os
import re
import stat
from pathlib import Path
from shlex import quote

from selfrepair.warehouse.database import publication
from selfrepair.warehouse.database.lake.address import PREFIX, Lake, lake_address
from selfrepair.warehouse.errors import SelfRepairError, file_option, in_words

_PREFIX = re.compile(r":memory:|[A-Za-z][\w+.-]+:")  # two letters at least: C: is a drive
_NAMES_OF_DUCKDB = frozenset({"information_schema", "selfrepair_marts"})
"""A file's name up to its first dot is what SQL calls the database; these also name schemas within it."""


def warehouse_path(given: str | os.PathLike[str], data: str | None = None) -> Path:
    """The path that was given; of a publication (an address, too), its folder; or the lake (`ducklake:...`), whose rows lie in
    `data` where that is said. Raises SelfRepairError where it is none of them, or a path at which there can be no warehouse.

    A name that looks like an address of DuckDB's is refused; written as `./md:name` it is the path of a file.
    """
    if isinstance(given, Lake) and given.catalog:
        return given
    text = os.fspath(given)
    if not text.strip():
        raise SelfRepairError(f"the warehouse's name is empty. Name a file: {_named('selfrepair.duckdb')}")
    if "\0" in text:
        raise SelfRepairError(f"{text!r} contains a NUL character, which no path can have. {another_file()}")
    if text.startswith(PREFIX):
        lake = lake_address(text, data)
        check_place(lake)
        return lake
    if data is not None:
        raise SelfRepairError(
            f"{in_words('--data', 'data')} says where the rows of a lake lie, and {text} is a file. Leave it out, or name a "
            f"lake: {_named('ducklake:FILE')}"
        )
    if (folder := publication.found_at(text)) is not None:
        check_place(folder)
        return folder
    if found := _PREFIX.match(text):
        raise SelfRepairError(
            f"{text} is not the path of a file: DuckDB takes what begins with {found[0]} for "
            f"{_meaning(found[0])}. A warehouse is a file on this machine: {_named('selfrepair.duckdb')}. A file that is "
            f"called so: {_named(f'./{text}')}"
        )
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.name in ("", ".", ".."):
        raise SelfRepairError(f"{text} is a folder, not a warehouse file. {_file_in(path)}")
    if path.parts[0].startswith("~") and not Path(path.parts[0]).exists():
        raise SelfRepairError(f"{text} begins with ~, which the shell did not replace. Give the path in full.")
    if _PREFIX.match(str(path)):
        path = path.absolute()
    check_place(path)
    return path


def check_place(path: Path) -> None:
    """Raise SelfRepairError where no warehouse can be at `path`, whether there is something or not. Opens nothing."""
    if isinstance(path, Lake) and path.catalog:
        if path.kind != "postgres":
            check_place(Path(path))
        return
    if _PREFIX.match(str(path)):  # a Path that did not come through `warehouse_path`
        warehouse_path(str(path))
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise SelfRepairError(f"{path} cannot be a file: {error.strerror}. {another_file()}") from None
        mode = None  # not there, or not to be seen: opening it says so
    for name in dict.fromkeys((path.absolute(), Path(os.path.realpath(path)))):  # DuckDB is given the real one
        said = str(path) if name == path.absolute() else f"{path} leads to {name}, which"
        if not _is_text(str(name)):
            raise SelfRepairError(
                f"{os.fsencode(name)!r} is no text in UTF-8, which DuckDB needs of a name. Rename the file or its folder; if "
                "the terminal shows the name as it is meant, set a locale of UTF-8 (export LC_ALL=C.UTF-8)."
            )
        if "?" in str(name):
            raise SelfRepairError(
                f"{said} contains a question mark, behind which DuckDB reads options. {another_file()}"
            )
        if name.name.partition(".")[0].lower() in _NAMES_OF_DUCKDB:
            raise SelfRepairError(
                f"{said} has the name of a schema within it, and SQL could not tell the two. {another_file()}"
            )
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        if publication.is_publication(path):
            return
        if (path / publication.SMALL_FILE).exists():
            raise publication.half_published(str(path), f"{publication.MANIFEST}, which is written last, is missing")
        raise SelfRepairError(f"{path} is a folder, not a warehouse file. {_file_in(path)}")
    if not stat.S_ISREG(mode):
        raise SelfRepairError(
            f"{path} is a device, pipe or socket, not a file. Nothing was read from it. {another_file()}"
        )


def _is_text(name: str) -> bool:
    """Whether a name is text, and has no bytes that Python keeps in surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _meaning(prefix: str) -> str:
    if prefix == ":memory:":
        return "a database in memory, which is gone when it is closed"
    return "the name of an extension, or an address on a network"


def another_file() -> str:
    """The next step where a file is somebody else's."""
    return f"Name another file{file_option(before=' with ')}."


def _file_in(folder: Path) -> str:
    return f"Name a file in it: {_named(str(folder / 'selfrepair.duckdb'))}"


def _named(file: str) -> str:
    return in_words(f"{file_option()} {quote(file)}".lstrip(), file)
