"""A published warehouse, read where it lies: Parquet files by run, and a small DuckDB file with the rest and views over them.

    FOLDER/README.md                                  a card for people, the hub's viewer and `datasets`
    FOLDER/warehouse.duckdb                           runs, summaries, all views; measured rows as views of the Parquet files
    FOLDER/measurements/run_id=1/rows.parquet         rows of one table and run
    FOLDER/head_repair/rows.parquet                   a summary
    FOLDER/selfrepair-publication.json                written last: every other file with its size and SHA-256

A publication elsewhere (see `remote`) is a folder of the user's cache that holds the small files, and the address of the
others. Either way it is opened read-only, and its own files are all that can be read.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError, in_words

if TYPE_CHECKING:
    import duckdb

    from selfrepair.warehouse.database.limits import Settings

MANIFEST = "selfrepair-publication.json"
SMALL_FILE = "warehouse.duckdb"
CARD = "README.md"
FORMAT = 1

FILES_VARIABLE = "selfrepair_files"
"""DuckDB's variable that the views put before the names of Parquet files; NULL: they lie in the working directory."""

WITHHELD = "withheld"
"""Fingerprint of data sets whose text is not published."""

_NAME = re.compile(r"(?!.*(?:^|/)\.)[\w.=-]+(?:/[\w.=-]+)*", re.ASCII)
LONGEST_MANIFEST = 50_000_000
"""More is read of none [bytes]."""


@dataclass(frozen=True)
class Entry:
    """A file of a publication: its size [bytes] and the SHA-256 of what is in it, in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Publication:
    """What the manifest in `folder` says. `origin` is the address of Parquet files that do not lie there, else empty."""

    folder: Path
    entries: Mapping[str, Entry]
    origin: str = ""

    @property
    def small_file(self) -> Path:
        """The DuckDB file."""
        return self.folder / SMALL_FILE

    def parquet(self) -> dict[str, Entry]:
        """The Parquet files."""
        return {name: entry for name, entry in self.entries.items() if name.endswith(".parquet")}

    def connect(self, settings: Settings) -> duckdb.DuckDBPyConnection:
        """A connection to the small file with `settings`, in which `CLOSED` must be, and the Parquet files for its views.
        Nobody has looked yet at what is in any of them.

        Raises SelfRepairError where a file is not as the manifest says, and duckdb.Error.
        """
        import duckdb

        if not self.origin:
            self._check_whole()
        locks = {"enable_external_access", "lock_configuration"}
        rest = {name: value for name, value in settings.items() if name not in locks}
        if "temp_directory" not in rest:  # not beside the file: the folder may be anybody's, and read-only
            rest["temp_directory"] = str(Path(tempfile.gettempdir()) / files.temporary_name("selfrepair"))
        where = "publication://" if self.origin else f"{self.folder.absolute()}/"
        small = str(self.small_file.resolve())  # DuckDB looks for a log beside that
        if os.path.lexists(log := f"{small}{files.WAL}"):
            raise SelfRepairError(
                f"{self.folder} is not as it was published: another program has {SMALL_FILE} open for writing, or left a log "
                f"of changes to it, {log}. End that program and remove the log, or copy the publication again."
            )
        readable = [f"{prefix}{name}" for name in self.parquet() for prefix in {where, glob.escape(where)}]
        readable += [small + ending for ending in ("", files.WAL, f"{files.WAL}.checkpoint", f"{files.WAL}.recovery")]
        con = duckdb.connect(config=rest)
        try:
            if self.origin:
                from selfrepair.warehouse.database.remote_files import filesystem

                con.register_filesystem(filesystem(self.origin, self.parquet()))
            con.execute(f"SET allowed_paths = [{', '.join(map(_literal, readable))}]")
            con.execute("SET enable_external_access = false")
            if settings.get("lock_configuration"):
                con.execute("SET lock_configuration = true")
            con.execute(f"ATTACH {_literal(small)} AS warehouse (READ_ONLY)")
            con.execute("USE warehouse")
            con.execute(f"SET VARIABLE {FILES_VARIABLE} = {_literal(glob.escape(where))}")
        except BaseException:
            con.close()
            raise
        return con

    def _check_whole(self) -> None:
        real = self.folder.resolve()
        places = (real, real.parents[1] / "blobs") if len(real.parents) > 1 else (real,)  # the hub's cache has links
        for name, entry in self.entries.items():
            path = self.folder / name
            try:
                found = path.stat()
                target = path.resolve(strict=True)
            except (OSError, RuntimeError):
                raise self._half(f"{name} is missing") from None
            if not stat.S_ISREG(found.st_mode) or not any(target.is_relative_to(place) for place in places):
                raise SelfRepairError(
                    f"{self.folder} is no publication of selfrepair's making: {name} in it is no file, or leads out of it. "
                    "Nothing was read. Ask for a copy without links."
                )
            if found.st_size != entry.size:
                raise self._half(f"{name} has {found.st_size:,} of {entry.size:,} bytes")

    def _half(self, what: str) -> SelfRepairError:
        return half_published(str(self.folder), what)

    def damaged(self) -> list[str]:
        """Names of the files here whose bytes are not those that were published. Reads all of them."""
        found = []
        for name, entry in self.entries.items():
            path = self.folder / name
            if (not self.origin or path.exists()) and sha256_of(path) != entry.sha256:
                found.append(name)
        return found


def publication_at(path: Path) -> Publication | None:
    """The publication in the folder `path`; None where there is none. Raises SelfRepairError for a manifest that is none."""
    if not is_publication(path):
        return None
    from selfrepair.warehouse.database.remote import origin_of

    with files.open_regular(path / MANIFEST) as file:
        text = file.read(LONGEST_MANIFEST + 1)
    return Publication(path, read_manifest(text, str(path)), origin_of(path))


def is_publication(path: Path) -> bool:
    """Whether `path` is a folder with a manifest."""
    with contextlib.suppress(OSError, ValueError):
        return (path / MANIFEST).is_file()
    return False


def found_at(text: str) -> Path | None:
    """The folder of the publication that was meant by `text`: one here, its small file, or an address (see `remote`), whose
    small files are fetched. None where it is none.
    """
    from selfrepair.warehouse.database import remote

    if text.startswith(remote.SCHEMES):
        return remote.fetch(text)
    path = Path(text)
    if is_publication(path):
        return path
    return path.parent if path.name == SMALL_FILE and is_publication(path.parent) else None


def is_opened_as_publication(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether `Publication.connect` made the connection: no file can set a variable."""
    ((is_set,),) = con.execute(f"SELECT getvariable('{FILES_VARIABLE}') IS NOT NULL").fetchall()
    return bool(is_set)


def refuse_to_write(path: Path) -> None:
    """Raise SelfRepairError where `path` is a publication."""
    if not is_publication(path):
        return
    raise SelfRepairError(
        f"{address_of(path)} is a publication, which is only read. Name a file of your own"
        f"{in_words(': --db selfrepair.duckdb', '')}. To change what is published, change the warehouse that it was made of, "
        "and publish that again: selfrepair publish"
    )


def address_of(path: Path) -> str:
    """By what name others can open it, too: the address of a publication that lies elsewhere, else the path itself."""
    from selfrepair.warehouse.database.remote import origin_of

    return (origin_of(path) if is_publication(path) else "") or str(path)


def read_manifest(text: bytes, where: str) -> dict[str, Entry]:
    """The files that a manifest lists. Raises SelfRepairError where it is none, or one of a later version."""
    try:
        found: Any = json.loads(text) if len(text) <= LONGEST_MANIFEST else None
        version = found["selfrepair_publication"]
        entries = {
            str(name): Entry(int(one["size"]), str(one["sha256"]))
            for name, one in found["files"].items()
            if version == FORMAT
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise SelfRepairError(
            f"{where} is no publication of selfrepair's making: its {MANIFEST} cannot be read. Publish it again."
        ) from None
    if version != FORMAT:
        raise SelfRepairError(f"{where} was published by a newer selfrepair. Upgrade: pip install --upgrade selfrepair")
    if wrong := [name for name in (*entries, SMALL_FILE) if not _NAME.fullmatch(name) or name not in entries]:
        raise SelfRepairError(
            f"{where} is no publication of selfrepair's making: its {MANIFEST} lists '{wrong[0][:80]}', or lacks it. Publish "
            "it again."
        )
    return entries


def manifest_of(folder: Path, about: Mapping[str, Any]) -> bytes:
    """The manifest of all files in `folder`, with what else is to be said `about` them."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    entries = {
        name: asdict(Entry((folder / name).stat().st_size, sha256_of(folder / name)))
        for name in names
        if name != MANIFEST
    }
    return (json.dumps({"selfrepair_publication": FORMAT, **about, "files": entries}, indent=1) + "\n").encode()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with files.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def half_published(where: str, what: str) -> SelfRepairError:
    """The error of a publication of which something is missing."""
    return SelfRepairError(
        f"{where} holds a publication that is not whole: {what}. An upload or a copy of it has not ended, or was broken off. "
        "Give the same command (selfrepair publish) again, which goes on from there, or copy it again."
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
