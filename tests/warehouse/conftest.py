from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from support.fabricate import FabricatedRun
from support.fabricate import fabricate as fabricate_run
from support.warm import Process, Server


@pytest.fixture
def fabricate() -> Callable[..., FabricatedRun]:
    """Make a small valid run: see support/fabricate.py."""
    return fabricate_run


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "w.duckdb"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "w.duckdb.parts"


@pytest.fixture
def ask(db: Path) -> Callable[..., list[tuple]]:
    """Rows of one query, by a plain DuckDB client."""

    def _ask(query: str, parameters: object = None) -> list[tuple]:
        with duckdb.connect(str(db), read_only=True) as con:
            return con.execute(query, parameters).fetchall()

    return _ask


@pytest.fixture
def spawn(warehouse_server: Server) -> Iterator[Callable[..., Process]]:
    """Start a Python script in a process of its own; all are killed at the end."""
    started: list[Process] = []

    def _spawn(script: str, *args: object) -> Process:
        started.append(warehouse_server.start(script, [str(arg) for arg in args], is_told=True))
        return started[-1]

    yield _spawn
    for process in started:
        process.kill()
        process.communicate()
