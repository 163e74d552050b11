"""How a DuckLake is addressed: `ducklake:FILE`, `ducklake:sqlite:FILE` or `ducklake:postgres:DSN`.

The address names the catalog. The folder or bucket of its Parquet files is recorded in there when the lake is made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from selfrepair.warehouse.errors import SelfRepairError, in_words

PREFIX = "ducklake:"
DATA_VARIABLE = "SELFREPAIR_DATA"
"""Environment variable with the folder or bucket of a lake that is made, where `--data` is not given."""

Kind = Literal["duckdb", "sqlite", "postgres"]

_KINDS: dict[str, Kind] = {"sqlite:": "sqlite", "postgres:": "postgres", "duckdb:": "duckdb", "": "duckdb"}
_PASSWORD = re.compile(r"\bpassword\s*=\s*(?:'(?:[^'\\]|\\.)*'|\S+)\s*|(?<=://)([^:/@\s]*):[^@/\s]*(?=@)")
_DATABASE = re.compile(r"\bdbname\s*=\s*'?([\w.-]+)|://[^/?]*/([\w.-]+)")
_OTHER_CATALOG = re.compile(r"[A-Za-z][\w+.-]+:")


class Lake(type(Path())):  # type: ignore[misc]
    """The address of a lake, which stands wherever the path of a warehouse file does.

    As a path it is that of its catalog's file; a catalog in Postgres has none, and its path is then a name in the working
    directory, beside which part files are kept. Its text is the address, without a password. `data` is the folder or bucket
    of its rows, where that was given. What is derived from it, such as its folder, is a path and no more.
    """

    kind: Kind = "duckdb"
    catalog: str = ""
    data: str | None = None

    @classmethod
    def of(cls, kind: Kind, catalog: str, data: str | None = None) -> Lake:
        """The lake whose catalog that is, a path or a DSN."""
        lake = cls(_name_of_database(catalog) if kind == "postgres" else catalog)
        lake.kind, lake.catalog, lake.data = kind, catalog, data
        return lake

    def __fspath__(self) -> str:
        return super().__str__()  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return _PASSWORD.sub(r"\1", self.address).strip() if self.catalog else super().__str__()

    def __repr__(self) -> str:
        return f"Lake({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not self.catalog:
            return bool(super().__eq__(other))
        return isinstance(other, Lake) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __reduce__(self) -> Any:
        return (Lake.of, self._fields()) if self.catalog else (Path, (os.fspath(self),))

    def _fields(self) -> tuple[Kind, str, str | None]:
        return self.kind, self.catalog, self.data

    @property
    def address(self) -> str:
        """All of the address, for another process; it may hold a password."""
        between = "" if self.kind == "duckdb" else f"{self.kind}:"
        return f"{PREFIX}{between}{self.catalog}"

    def absolute(self) -> Lake:
        """The same lake for a process that is in another folder."""
        data = self.data if self.data is None or is_bucket(self.data) else str(Path(self.data).absolute())
        return Lake.of(self.kind, self.catalog if self.kind == "postgres" else str(Path(self).absolute()), data)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether the lake was made. Raises SelfRepairError where its Postgres cannot be reached."""
        if self.kind == "postgres" and self.catalog:
            from selfrepair.warehouse.database.lake.catalog import is_made

            return is_made(self)
        return Path(self).exists()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is there, and no pipe or device."""
        return self.exists() if self.kind == "postgres" else Path(self).is_file()


def lake_address(text: str, data: str | None = None) -> Lake:
    """The lake of an address. Raises SelfRepairError where it is none."""
    rest = text.removeprefix(PREFIX)
    prefix = next((prefix for prefix in _KINDS if rest.startswith(prefix)), "")
    kind, catalog = _KINDS[prefix], rest.removeprefix(prefix)
    if not prefix and (found := _OTHER_CATALOG.match(rest)):
        raise SelfRepairError(
            f"{text}: a lake's catalog is a DuckDB file, or in sqlite: or postgres:, not in {found[0]} {_examples()}"
        )
    if not catalog.strip():
        raise SelfRepairError(f"{text} names no catalog. {_examples()}")
    return Lake.of(kind, catalog, (data or "").strip() or None)


def full_address(db: Path) -> str:
    """What names the warehouse in another process' environment: all of a lake's address."""
    return db.address if isinstance(db, Lake) and db.catalog else str(db)


def attached(lake: Lake) -> str:
    """SQL with which any DuckDB client has the lake's tables; views are selfrepair's own."""
    address = str(lake).replace("'", "''")
    return f"INSTALL ducklake; ATTACH '{address}' AS lake (READ_ONLY); USE lake;"


def parts_beside(db: Path) -> Path:
    """The folder of the part files of a warehouse, where none was named."""
    return Path(f"{os.fspath(db)}.parts")


def is_bucket(data: str) -> bool:
    """Whether a folder of data lies in object storage."""
    return "://" in data


def _name_of_database(dsn: str) -> str:
    found = _DATABASE.search(dsn)
    return f"{(found[1] or found[2]) if found else 'postgres'}.ducklake"


def _examples() -> str:
    examples = "ducklake:lake.ducklake, ducklake:sqlite:lake.sqlite or 'ducklake:postgres:dbname=lake host=...'"
    return f"Name one such as {examples}{in_words(' with --db', '')}."
