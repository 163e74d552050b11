"""Addresses and files that must not be taken for a warehouse, or must do nothing when they are: an attacker's list, as data.

It was written before any of the code that it is tried on was read again. `SECRET` stands in a file beside the warehouse.
"""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

SECRET = "the secret of another file"

ADDRESSES: Mapping[str, str] = {
    "": "is empty",
    "  ": "is empty",
    ":memory:": "gone when it is closed",
    ":memory:named": "gone when it is closed",
    "md:": "begins with md:",
    "md:my_db": "begins with md:",
    "MD:my_db": "begins with MD:",
    "motherduck:my_db": "begins with motherduck:",
    "sqlite:w.db": "begins with sqlite:",
    "postgres:dbname=x": "begins with postgres:",
    "postgres://user@127.0.0.1:9/db": "begins with postgres:",
    "postgresql://127.0.0.1:9/db": "begins with postgresql:",
    "mysql:host=127.0.0.1": "begins with mysql:",
    "duckdb:w.duckdb": "begins with duckdb:",
    "duckdb:///w.duckdb": "begins with duckdb:",
    "ducklake:mysql:w": "not in mysql:",
    "ducklake:sqlite:": "names no catalog",
    "iceberg:w": "begins with iceberg:",
    "quack:127.0.0.1": "begins with quack:",
    "not_an_extension:w": "begins with not_an_extension:",
    "s3://?": "is no address of a publication",
    "s3a://bucket/w.duckdb": "begins with s3a:",
    "gs://bucket/w.duckdb": "begins with gs:",
    "r2://bucket/w.duckdb": "begins with r2:",
    "hf://datasets/w.duckdb": "is no address of a publication",
    "azure://container/w.duckdb": "begins with azure:",
    "abfss://container/w.duckdb": "begins with abfss:",
    "http://127.0.0.1:9/w.duckdb": "begins with http:",
    "https://127.0.0.1:9/w.duckdb": "begins with https:",
    "http:w.duckdb": "begins with http:",
    "file:w.duckdb": "begins with file:",
    "file:///tmp/w.duckdb": "begins with file:",
    "w.duckdb?access_mode=read_write": "question mark",
    "what?/w.duckdb": "question mark",
    "~/w.duckdb": "begins with ~",
    "~nobody/w.duckdb": "begins with ~",
    "w.duckdb/": "is a folder",
    ".": "is a folder",
    "..": "is a folder",
    "/": "is a folder",
    "w\0.duckdb": "NUL character",
    "w" * 300: "cannot be a file",
    "information_schema.duckdb": "the name of a schema",
    "selfrepair_marts.duckdb": "the name of a schema",
    "/dev/null": "device, pipe or socket",
    "/dev/zero": "device, pipe or socket",
}
"""What is given as a warehouse, and what its refusal says."""

ODD_PATHS = (
    "./md:w.duckdb",
    "a folder/w.duckdb",
    "a=1/layer=5/w.duckdb",
    "w",
    "main.duckdb",
    "temp.duckdb",
    "system.duckdb",
    "select.duckdb",
    "it's.duckdb",
    'w".duckdb',
    "*[a-z].duckdb",
    "w;drop.duckdb",
    "%7e.duckdb",
    "mérite 漢.duckdb",
)
"""Paths, and nothing but paths."""

Make = Callable[[Path], None]


def _write(data: bytes) -> Make:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _parquet(path: Path) -> None:
    pq.write_table(pa.table({"version": [1, 2, 3]}), path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


def _header(version: int = 64, flags: int = 0) -> Make:
    """The first block of a database of that format; DuckDB compares its checksum before anything else."""

    def write(path: Path) -> None:
        duckdb.connect(str(path)).close()
        data = bytearray(path.read_bytes())
        data[12:20] = version.to_bytes(8, "little")
        data[20:28] = flags.to_bytes(8, "little")
        data[:8] = _checksum(bytes(data[8:4096])).to_bytes(8, "little")
        path.write_bytes(data)

    return write


def _checksum(data: bytes) -> int:
    """DuckDB's own, of a block whose length is a multiple of 8."""
    found = 5381
    for at in range(0, len(data), 8):
        found ^= int.from_bytes(data[at : at + 8], "little") * 0xBF58476D1CE4E5B9 % 2**64
    return found


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_to(name: str) -> Make:
    def link(path: Path) -> None:
        path.symlink_to(path.parent / name)

    return link


def _link_to_another_file(ending: str = "") -> Make:
    """DuckDB writes its log over what a link in its place leads to."""

    def link(path: Path) -> None:
        another = path.with_name("another.txt")
        another.write_text("what nobody may write over")
        path.with_name(path.name + ending).symlink_to(another)

    return link


def _cut(path: Path) -> None:
    duckdb.connect(str(path)).close()
    path.write_bytes(path.read_bytes()[:4096])


def _zeroed(path: Path) -> None:
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE schema_migration AS SELECT 1 AS version")
    path.write_bytes(path.read_bytes()[:4096] + bytes(300_000))


def _log(make: Make) -> Make:
    """A whole database with something in the place of its log."""

    def write(path: Path) -> None:
        duckdb.connect(str(path)).close()
        make(path.with_name(path.name + ".wal"))

    return write


FILES: Mapping[str, tuple[Make, str]] = {
    "nothing in it": (_write(b""), "is empty"),
    "text": (_write(b"run_id,model\n1,gpt2\n" * 400), "not a DuckDB file: it holds .* of something else"),
    "JSON": (_write(b'{"tables": []}'), "not a DuckDB file"),
    "an archive": (_write(b"\x1f\x8b\x08\x00" + bytes(500)), "not a DuckDB file"),
    "an old pickle": (_write(b"cos\nsystem\n(S'true'\ntR."), "not a DuckDB file"),
    "SQLite": (_write(b"SQLite format 3\0" + bytes(9000)), "an SQLite database"),
    "SQLite, shorter than its header": (_write(b"SQLite format 3"), "an SQLite database"),
    "Parquet": (_parquet, "a Parquet file"),
    "the magic bytes alone": (_write(bytes(8) + b"DUCK"), "cannot be opened"),
    "the magic bytes and noise": (_write(bytes(8) + b"DUCK" + bytes(9000)), "cannot be opened"),
    "cut behind its header": (_cut, "cannot be opened"),
    "zeros behind its header": (_zeroed, "cannot be opened"),
    "encrypted": (_header(flags=1), "is encrypted"),
    "an older format": (_header(version=38), "a DuckDB whose files this one cannot read"),
    "a newer format": (_header(version=5000), "a DuckDB whose files this one cannot read"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "device, pipe or socket"),
    "a socket": (_socket, "device, pipe or socket"),
    "a link to a name with options": (
        _link_to("a?b.duckdb"),
        r"leads to .*a\?b\.duckdb, which contains a question mark",
    ),
    "a link to the name of a schema": (
        _link_to("information_schema.duckdb"),
        r"leads to .*information_schema\.duckdb, which has the name of a schema",
    ),
    "a link to itself": (_link_to_itself, "cannot be a file"),
    "a pipe for a log": (_log(os.mkfifo), "is a link or no file. Move it away"),
    "a folder for a log": (_log(Path.mkdir), "is a link or no file. Move it away"),
    "a device for a log": (_log(lambda log: log.symlink_to("/dev/zero")), "is a link or no file. Move it away"),
    "a link to another file for a log": (_log(_link_to_another_file()), "is a link or no file. Move it away"),
    "a link to what is not there for a log": (_log(_link_to("new.txt")), "is a link or no file. Move it away"),
    "a link for the log of a checkpoint": (_log(_link_to_another_file(".checkpoint")), "is a link or no file. Move it"),
}
"""What lies at the path, by what makes it and what its refusal says."""

READ = "SELECT content FROM read_text('{secret}')"
_FETCH = "(url := 'http://127.0.0.1:9/x.csv') AS TABLE SELECT * FROM read_csv(url)"  # bound when it is called
_NOT_A_TABLE = "is a view in it, and a table in every warehouse"


def _in_place_of(table: str, rows: str, schema: str = "main") -> str:
    return f"DROP TABLE IF EXISTS {schema}.{table} CASCADE; CREATE VIEW {schema}.{table} AS {rows}"


SLOW = "SELECT count(*) AS n FROM range(10000000000) AS a, range(10000000000) AS b"

STATEMENTS: Mapping[str, tuple[str, str]] = {
    "schema_migration reads a file": (
        _in_place_of("schema_migration", f"SELECT 1 AS version, content AS sha256 FROM ({READ})"),
        _NOT_A_TABLE,
    ),
    "schema_migration never ends": (_in_place_of("schema_migration", SLOW), _NOT_A_TABLE),
    "units reads a file": (_in_place_of("units", READ), _NOT_A_TABLE),
    "Runs reads a file": (
        _in_place_of('"Runs"', READ).replace('TABLE IF EXISTS main."Runs"', "TABLE runs"),
        _NOT_A_TABLE,
    ),
    "installed reads a file": (_in_place_of("installed", READ, "selfrepair_marts"), ""),
    "a mart reads a file": (_in_place_of("head_repair", READ, "selfrepair_marts"), ""),
    "duckdb_tables as a table macro": (f"CREATE MACRO duckdb_tables() AS TABLE {READ}", ""),
    "duckdb_views as a table macro": (f"CREATE MACRO duckdb_views() AS TABLE {READ}", ""),
    "duckdb_functions is on the network": (f"CREATE MACRO duckdb_functions{_FETCH}", ""),
    "duckdb_columns is on the network": (f"CREATE MACRO duckdb_columns{_FETCH}", ""),
    "duckdb_databases is on the network": (f"CREATE MACRO duckdb_databases{_FETCH}", ""),
    "duckdb_tables as a view": (f"CREATE VIEW duckdb_tables AS {READ}", ""),
    "current_database as a macro": (f"CREATE MACRO current_database() AS ({READ})", ""),
    "current_setting as a macro": (f"CREATE MACRO current_setting(name) AS ({READ})", ""),
    "json_serialize_sql as a macro": (f"CREATE MACRO json_serialize_sql(x) AS ({READ})", ""),
    "max as a macro": (f"CREATE MACRO max(x) AS ({READ})", ""),
    "count as a macro": (f"CREATE MACRO count_star() AS ({READ})", ""),
    "an operator as a macro": (f'CREATE MACRO "||"(a, b) AS ({READ})', ""),
    "another operator as a macro": (f'CREATE MACRO "+"(a, b) AS ({READ})', ""),
    "head_label as another macro": (f"CREATE OR REPLACE MACRO head_label(layer, head) AS ({READ})", ""),
    "a schema called system": ("CREATE SCHEMA w.system; CREATE VIEW w.system.duckdb_tables AS SELECT 1 AS x", ""),
    "a schema called temp": ("CREATE SCHEMA w.temp; CREATE TABLE w.temp.units AS SELECT 1 AS x", ""),
    "a default that reads a setting": ("CREATE TABLE x (i INTEGER DEFAULT current_setting('threads')::INTEGER)", ""),
    "a column that is computed": (
        "CREATE TABLE x (i INTEGER, j VARCHAR GENERATED ALWAYS AS (repeat('x', 1000000000)) VIRTUAL)",
        "",
    ),
    "a view of every name": ("CREATE VIEW main.information_schema AS SELECT 1 AS x", ""),
    "a thousand views": ("; ".join(f"CREATE VIEW v{i} AS {READ}" for i in range(1000)), ""),
    "an own view that reads a file": (f"CREATE VIEW mine AS {READ}", ""),
    "an own macro on the network": (f"CREATE MACRO mine{_FETCH}", ""),
}
"""What somebody did to a warehouse with DuckDB, and what its refusal says; '' where it opens and does nothing."""
