"""Lakes of each kind of catalog for tests, and the Postgres that one of them needs, where this machine has one."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.lake.extensions import load_extensions
from selfrepair.warehouse.errors import SelfRepairError
from support.contents import LEFT_OUT, Contents, row_key

KINDS = ("duckdb", "sqlite", "postgres")
_BINARIES = ("/usr/lib/postgresql/15/bin", "/usr/local/bin", "/usr/bin")


def why_none(*extensions: str) -> str:
    """Why no lake can be made here; an empty text: it can."""
    try:
        with duckdb.connect() as con:
            load_extensions(con, "ducklake", *extensions)
    except SelfRepairError as error:
        return str(error)
    return ""


needs_lakes = pytest.mark.skipif(bool(why_none()), reason="DuckDB has no extension ducklake here")


def lake(folder: Path, kind: str = "duckdb", dsn: str = "") -> Lake:
    """The address of a lake in `folder`."""
    catalog = dsn if kind == "postgres" else str(folder / f"lake.{kind}")
    address = warehouse_path(f"ducklake:{kind}:{catalog}", str(folder / "rows"))
    assert isinstance(address, Lake)
    return address


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A Postgres server of its own, as the DSN of its first database; skips the test where there is none."""
    binaries = next((Path(path) for path in _BINARIES if (Path(path) / "initdb").exists()), None)
    if binaries is None:
        pytest.skip("there is no Postgres on this machine (initdb)")
    if missing := why_none("postgres_scanner"):
        pytest.skip(missing)
    home = Path(tempfile.mkdtemp(prefix="selfrepair-postgres-"))
    as_user = _as_user(home)
    try:
        data = home / "data"
        run = subprocess.run(
            [*as_user, str(binaries / "initdb"), "-D", str(data), "-U", "lake", "-A", "trust", "--no-sync", "-E", "UTF8"],
            capture_output=True, text=True, check=False, cwd=home,
        )  # fmt: skip
        if run.returncode:
            pytest.skip(f"initdb does not run here: {run.stderr[-300:]}")
        port = _free_port()
        options = [
            "-F",
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            str(home),
            "-c",
            "max_connections=60",
            "-c",
            "shared_buffers=16MB",
        ]
        server = subprocess.Popen(
            [*as_user, str(binaries / "postgres"), "-D", str(data), *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home,
        )  # fmt: skip
        try:
            yield _when_up(server, f"host=127.0.0.1 port={port} user=lake dbname=postgres")
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def lake_contents(db: Path) -> Contents:
    """All rows of a lake's tables and summaries, but for times and what hashes them, as `contents` has a file's."""
    with open_reader(db) as con:
        tables = con.execute(
            "SELECT schema_name || '.' || table_name, list(column_name) FROM duckdb_columns() "
            "WHERE database_name = current_database() GROUP BY ALL"
        ).fetchall()
        found = {}
        for table, columns in tables:
            lasting = [name for name in columns if name not in LEFT_OUT]
            found[table] = sorted(con.execute(f"SELECT {', '.join(lasting)} FROM {table}").fetchall(), key=row_key)
        return found


def unknown_files(db: Path, folder: Path) -> int:
    """How many Parquet files of the lake's folder no snapshot of it has."""
    with open_writer(db) as con:
        known = set()
        for schema, table in con.execute(
            "SELECT DISTINCT schema_name, table_name FROM duckdb_columns() WHERE database_name = current_database()"
        ).fetchall():
            listed = con.execute(
                f"SELECT data_file, delete_file FROM ducklake_list_files('lake', '{table}', schema => '{schema}')"
            )
            known |= {Path(name).name for row in listed.fetchall() for name in row if name}
    rows = {path.name for path in folder.rglob("*.parquet") if f"{path.parent}".count(".files")}
    return len(rows - known)


def new_database(dsn: str, name: str) -> str:
    """Make a database on the server; its DSN."""
    with duckdb.connect() as con:
        load_extensions(con, "postgres_scanner")
        con.execute(f"ATTACH '{dsn}' AS pg (TYPE postgres)")
        con.execute(f"CALL postgres_execute('pg', 'CREATE DATABASE {name}', use_transaction => false)")
    return dsn.replace("dbname=postgres", f"dbname={name}")


def _when_up(server: "subprocess.Popen[bytes]", dsn: str) -> str:
    by = time.monotonic() + 60
    while True:
        try:
            with duckdb.connect() as con:
                load_extensions(con, "postgres_scanner")
                con.execute(f"ATTACH '{dsn}' AS pg (TYPE postgres, READ_ONLY)")
            return dsn
        except duckdb.Error:
            if server.poll() is not None or time.monotonic() > by:
                raise
            time.sleep(0.1)


def _as_user(home: Path) -> list[str]:
    """Postgres refuses to run as root: the words before its command that make it another user's."""
    if os.geteuid() != 0:
        return []
    user = next((user for name in ("postgres", "nobody") for user in pwd.getpwall() if user.pw_name == name), None)
    if user is None or shutil.which("setpriv") is None:
        pytest.skip("Postgres does not run as root, and there is no other user (setpriv, postgres)")
    os.chown(home, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
