"""Bring a warehouse file to the tables this version of selfrepair knows: numbered steps, forward only.

Each step is one file of `migrations/` and is recorded in `schema_migration`. The steps that are missing and the comments
of `schema` are written in one transaction. A step that brings rows has them in a folder beside `migrations/` under its
own name: `0004_published.sql` fills the table `x` from `published/x.csv`.
"""

import contextlib
import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import duckdb

from selfrepair.warehouse.database.address import another_file
from selfrepair.warehouse.database.comments import write_comments
from selfrepair.warehouse.database.lake.opening import ADDRESS
from selfrepair.warehouse.database.lake.tables import copy_rows, make_tables
from selfrepair.warehouse.database.limits import CLOSED
from selfrepair.warehouse.database.publication import is_opened_as_publication
from selfrepair.warehouse.database.transactions import is_lake, registered, transaction
from selfrepair.warehouse.errors import SelfRepairError, again, file_option
from selfrepair.warehouse.schema import MEASURED_TABLES

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDER = Path(__file__).parents[1] / "migrations"
_NAMES = """
SELECT table_name, schema_name = 'main' AS is_in_main, false AS is_view FROM system.main.duckdb_tables()
WHERE database_name = system.main.current_database() AND NOT temporary
UNION ALL
SELECT view_name, schema_name = 'main', true FROM system.main.duckdb_views()
WHERE database_name = system.main.current_database() AND NOT temporary AND NOT internal
"""
"""Functions by their full names, here and wherever a file's contents are looked at: it may hold others of the short ones."""

_NAMES_OF_LAKE = """
SELECT DISTINCT table_name, schema_name = 'main' AS is_in_main, table_name IN (
    SELECT view_name FROM system.main.duckdb_views() WHERE database_name = system.main.current_database()
) AS is_view
FROM system.main.duckdb_columns() WHERE database_name = system.main.current_database()
"""
"""`duckdb_tables` would look up how many rows each table of a lake has."""

_APPLIED = "SELECT version::INTEGER AS version, sha256 FROM main.schema_migration WHERE version > 0 ORDER BY version"
_PATH = (
    f"SELECT coalesce(getvariable('{ADDRESS}'), path) FROM system.main.duckdb_databases() "
    "WHERE database_name = system.main.current_database()"
)

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_TABLE = re.compile(r"CREATE TABLE (\w+)")
_READ_CSV = """
SELECT * FROM read_csv('{path}', all_varchar = true, header = true, delim = ',', quote = '"', escape = '"', nullstr = '')
"""
_ROWS = "selfrepair_rows_of_migration"

TEXTS_OF_VERSION_0_1 = {
    "0001_tables.sql": "8fb777894259eeb4db6c674704a76c1f9dd6239e2ebcd80feca0d5976ba63650",
    "0002_mechanisms.sql": "0b3c2cb8cf3c7f6b1d3ef781c9c48320f59138ef6c05c2756e6cd5735a804a9e",
    "0003_targets.sql": "b45343b598a2206f1dbc34d29883f4b1469afb40b1d574b4895e3f325b75f0eb",
    "0004_published.sql": "352074a65c8371a92db7187a0aeccedf4230a8cbef238668aef669bae92d287b",
}
"""SHA-256 of migrations as version 0.1 had them: with the comments of their tables, which `schema` alone has now."""

_EARLIER_TEXTS = {"0013_names_of_runs.sql": "fdf85d79bfcb0bc478dd2a33934526048fe85b6f5e5556250df58c5cdb99aa85"}
"""Likewise of one that also changed words within quotes."""


@dataclass(frozen=True)
class Migration:
    """One step: its number, its file's name, its SQL, and the CSV files whose rows go into the tables of their names."""

    version: int
    name: str
    sql: str
    rows: tuple[Path, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the SQL text, and of names and bytes of the CSV files where there are some, in hexadecimal."""
        digest = hashlib.sha256(self.sql.encode())
        for path in self.rows:
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()


@cache
def migrations(folder: Path = _FOLDER) -> tuple[Migration, ...]:
    """Every migration in order. Raises ValueError when the numbers are not 1, 2, 3, ..."""
    found = [
        Migration(
            int(match[1]),
            path.name,
            path.read_text(encoding="utf-8"),
            tuple(sorted((folder.parent / match[2]).glob("*.csv"))),
        )
        for path in sorted(folder.iterdir())
        if (match := _FILE_NAME.fullmatch(path.name))
    ]
    if [step.version for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered 1, 2, 3, ...: {', '.join(step.name for step in found)}")
    return tuple(found)


def migrate(con: duckdb.DuckDBPyConnection, steps: tuple[Migration, ...] | None = None) -> list[int]:
    """Apply the migrations the file has not been through; returns their numbers, empty when it was up to date.

    Raises SelfRepairError when the file is from a newer selfrepair, holds somebody else's tables, or went through
    another text of a migration than this version has.
    """
    steps = migrations() if steps is None else steps
    applied = _applied(con)
    _refuse_newer(con, applied, steps)
    for step in steps[: len(applied)]:
        earlier = TEXTS_OF_VERSION_0_1.get(step.name, _EARLIER_TEXTS.get(step.name))
        if applied.get(step.version) not in (step.sha256, earlier):
            raise SelfRepairError(
                f"{_file(con)} was made by another build of selfrepair: its migration {step.name} had a different text. "
                f"Load into a new file ({file_option('into=') or 'another name'}), or use the build that made this one."
            )
    missing = steps[len(applied) :]
    if is_lake(con):
        _migrate_lake(con, missing)
        return [step.version for step in missing]
    file = _file(con)  # DuckDB 2 answers nothing more in a transaction that failed
    with _commit_in_the_file(con), transaction(con):
        for step in missing:
            try:
                _apply(con, step)
            except duckdb.CatalogException as error:
                raise SelfRepairError(
                    f"{file} cannot be brought up to date: {str(error).splitlines()[0]} It is your own: rename it "
                    f"(ALTER TABLE ... RENAME TO ...), then {again()}. Nothing was changed."
                ) from error
        if len(steps) == len(migrations()):  # the tables are those that `schema` describes
            write_comments(con)
    return [step.version for step in missing]


def _migrate_lake(con: duckdb.DuckDBPyConnection, missing: Sequence[Migration]) -> None:
    """Give a lake the tables and columns that it has not: lakes are younger than all that was ever renamed or removed."""
    if missing:
        with duckdb.connect(config=CLOSED) as model, transaction(con):
            migrate(model)
            make_tables(con, model)
            model.execute(f"DELETE FROM schema_migration WHERE version < {missing[0].version:d}")
            copy_rows(model, con, "schema_migration")
            write_comments(con)
        return
    with transaction(con):
        write_comments(con)


def check_readable(con: duckdb.DuckDBPyConnection, steps: tuple[Migration, ...] | None = None) -> None:
    """Raise SelfRepairError unless the file's tables are the ones this version knows. Changes nothing."""
    steps = migrations() if steps is None else steps
    applied = _applied(con)
    _refuse_newer(con, applied, steps)
    if len(applied) < len(steps):
        found = f"schema {len(applied)}" if applied else "no tables"
        if is_opened_as_publication(con):
            raise SelfRepairError(
                f"{_file(con)} has {found} and this selfrepair reads schema {len(steps)}: an earlier version published it. "
                "Publish it again with this one, or read it with that one."
            )
        raise SelfRepairError(
            f"{_file(con)} has {found} and this selfrepair reads schema {len(steps)}. "
            f"Bring it up to date, nothing is lost: selfrepair load --db {quote(_file(con))}"
        )


@contextlib.contextmanager
def _commit_in_the_file(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Have a commit write the file itself and no log beside it: after a kill, DuckDB cannot replay a log in which a table
    with a CHECK is created and then commented on.
    """
    con.execute("SET checkpoint_threshold = '0 bytes'")
    try:
        yield
    finally:
        con.execute("RESET checkpoint_threshold")


def _apply(con: duckdb.DuckDBPyConnection, step: Migration) -> None:
    con.execute(step.sql)
    for path in step.rows:
        _insert_rows(con, path)
    con.execute(  # no parameters: for the first one DuckDB imports pandas, where that is installed
        "INSERT INTO schema_migration (version, name, sha256, applied_at) "
        f"VALUES ({step.version:d}, '{step.name}', '{step.sha256}', current_timestamp AT TIME ZONE 'UTC')"
    )


def _insert_rows(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """The rows of a CSV file into the table of its name."""
    with registered(con, _ROWS, _rows_of(path)):
        con.execute(f"INSERT INTO {path.stem} FROM {_ROWS}")


@cache
def _rows_of(path: Path) -> "pa.Table":
    """The rows of a CSV file. A database of its own reads it: a warehouse's reads no files."""
    sql = _READ_CSV.format(path=glob.escape(str(path)).replace("'", "''"))
    with duckdb.connect() as reader:
        return reader.sql(sql).to_arrow_table()


def _applied(con: duckdb.DuckDBPyConnection) -> dict[int, str]:
    found = con.execute(_NAMES_OF_LAKE if is_lake(con) else _NAMES).fetchall()
    names = {name for name, _, _ in found}
    in_main = {name.lower(): is_view for name, is_in_main, is_view in found if is_in_main}
    ours = {name for step in migrations() for name in _TABLE.findall(step.sql)}
    may_pose = MEASURED_TABLES if is_opened_as_publication(con) else ()
    if posing := sorted(name for name, is_view in in_main.items() if is_view and name in ours and name not in may_pose):
        raise SelfRepairError(
            f"{_file(con)} is not a warehouse: {posing[0]} is a view in it, and a table in every warehouse. Nothing in it "
            f"was run or touched. {another_file()}"
        )
    if "schema_migration" not in in_main:
        if names:
            raise SelfRepairError(
                f"{_file(con)} is a DuckDB file, but not a warehouse: it holds {_some(names)} and no table "
                f"main.schema_migration. Nothing in it was touched. {another_file()}"
            )
        return {}
    try:
        rows = con.execute(_APPLIED).fetchall()
    except (duckdb.BinderException, duckdb.ConversionException) as error:
        raise SelfRepairError(
            f"{_file(con)} is a DuckDB file, but not a warehouse: its table schema_migration is of another kind. Nothing in it "
            f"was touched. {another_file()}"
        ) from error
    return dict(rows)


def _refuse_newer(con: duckdb.DuckDBPyConnection, applied: dict[int, str], steps: tuple[Migration, ...]) -> None:
    newest = max(applied, default=0)
    if newest > len(steps):
        raise SelfRepairError(
            f"{_file(con)} has schema {newest} and this selfrepair knows schemas up to {len(steps)}: a newer version "
            "wrote it. Nothing in it was touched. Upgrade: pip install --upgrade selfrepair"
        )


def _file(con: duckdb.DuckDBPyConnection) -> str:
    rows = con.execute(_PATH).fetchall()
    return str(rows[0][0] or "the database in memory")


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more tables" if len(listed) > 5 else "")
