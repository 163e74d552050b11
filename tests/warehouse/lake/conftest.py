from collections.abc import Iterator
from pathlib import Path

import pytest

from selfrepair.warehouse.database.lake.address import Lake
from support.lakes import KINDS, lake, new_database, postgres, why_none


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Postgres for the whole session, as a DSN."""
    with postgres(tmp_path_factory.mktemp("postgres")) as dsn:
        yield dsn


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, as a DSN."""
    return new_database(server, f"t{abs(hash(request.node.nodeid))}")


@pytest.fixture(params=["duckdb", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "duckdb")])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """The address of a lake that is yet to be made, of each kind."""
    if why := why_none():
        pytest.skip(why)
    dsn = request.getfixturevalue("database") if request.param == "postgres" else ""
    return lake(tmp_path, request.param, dsn)
