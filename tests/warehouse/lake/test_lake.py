"""A lake holds what a file holds, whatever its catalog is."""

import pickle
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.database.lake.address import Lake, lake_address, parts_beside
from selfrepair.warehouse.database.lake.tables import ENUMS, TYPES, stored_type
from selfrepair.warehouse.database.limits import CLOSED
from selfrepair.warehouse.database.migrate import migrate
from selfrepair.warehouse.errors import InUseError, SelfRepairError
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.load.move import move
from selfrepair.warehouse.load.names import set_name
from selfrepair.warehouse.load.removal import remove_run, stored_run
from selfrepair.warehouse.schema.tables import metadata
from selfrepair.warehouse.verify.verification import verify
from support.contents import LEFT_OUT, differences, row_key
from support.fabricate import fabricate
from support.lakes import lake, needs_lakes
from support.loaded import load_rows


def rows_of(db: Path) -> dict[str, list[str]]:
    """All rows of the tables that hold what was measured, but for times."""
    with open_reader(db) as con:
        return {table.name: _rows(con, table) for table in metadata.sorted_tables if table.name != "schema_migration"}


def _rows(con: duckdb.DuckDBPyConnection, table: sa.Table) -> list[str]:
    names = ", ".join(column.name for column in table.columns if column.name not in ("loaded_at", "started_at"))
    return sorted(map(repr, con.execute(f"SELECT {names} FROM {table.name}").fetchall()))


def test_loads_resumes_and_removes_as_a_file_does(db: Lake, tmp_path: Path) -> None:
    run = fabricate()
    half = run.write(tmp_path / "half", units=[0], crosscheck=False).root
    whole = run.write(tmp_path / "whole").root

    assert load_rows(db, half, keep_parts=True).units == 1
    assert load_rows(db, whole, keep_parts=True).units == 1  # the other one
    assert load_rows(db, whole, keep_parts=True).units == 0

    file = tmp_path / "w.duckdb"
    load_rows(file, half)
    load_rows(file, whole)
    assert rows_of(db) == rows_of(file)
    assert [check for check in verify(db) if not check.ok] == []
    assert set_name(db, "1", "first").name == "first"

    load_rows(db, fabricate("run-b", seed=5).write(tmp_path / "b").root)
    remove_run(db, stored_run(db, 1), tmp_path / "none")
    with open_reader(db) as con:
        assert con.execute("SELECT run_id FROM runs").fetchall() == [(2,)]
        assert con.execute("SELECT DISTINCT run_id FROM measurements").fetchall() == [(2,)]


@needs_lakes
def test_one_changes_a_lake_at_a_time_and_readers_never_wait(db: Lake, tmp_path: Path) -> None:
    load_rows(db, fabricate().write(tmp_path / "parts").root)
    told: list[str] = []
    with open_writer(db) as con:
        con.execute("DELETE FROM runs")
        with pytest.raises(InUseError, match="is being changed by"), open_writer(db, 0.1, told.append):
            pass
        with open_reader(db, wait_s=0) as reader:  # committed in Postgres, and in a copy of a file
            assert len(reader.execute("SELECT run_id FROM runs").fetchall()) == (0 if db.kind == "postgres" else 1)
    assert len(told) == 1
    with open_reader(db, wait_s=0) as reader:
        assert reader.execute("FROM runs").fetchall() == []


def test_moves_into_a_lake_and_back(db: Lake, tmp_path: Path) -> None:
    file, back = tmp_path / "w.duckdb", tmp_path / "back.duckdb"
    load_rows(file, fabricate(post_norms=True).write(tmp_path / "parts").root)

    move(file, db, after_load=False)
    with pytest.raises(SelfRepairError, match="holds runs already"):
        move(file, db)
    move(db, back, after_load=False)

    assert rows_of(db) == rows_of(file)
    assert rows_of(back) == rows_of(file)
    with duckdb.connect(str(back), read_only=True) as con:
        assert con.execute("SELECT DISTINCT typeof(status) FROM runs").fetchall() == [
            ("ENUM('incomplete', 'complete', 'failed')",)
        ]


def test_an_altered_unit_is_refused_as_by_a_file(db: Lake, tmp_path: Path) -> None:
    run = fabricate()
    run.units[1].tokens["clean_rank"][0] = 0
    root = run.write(tmp_path / "parts", crosscheck=False).root

    with pytest.raises(SelfRepairError, match=r"clean_rank >= 1 does not hold"):
        load_rows(db, root)

    with open_reader(db) as con:
        assert con.execute("SELECT unit FROM units").fetchall() == [(0,)]
        assert con.execute("SELECT count(*) FROM measurements").fetchall() == [(432,)]


def test_columns_of_a_lake_are_cast_to_the_types_that_a_file_has() -> None:
    with duckdb.connect(config=CLOSED) as con:
        migrate(con)
        columns = con.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in columns:
            if stored_type(kind) != kind:
                found.setdefault(table, {})[column] = kind
        types = con.execute("SELECT type_name, labels FROM duckdb_types() WHERE NOT internal AND logical_type = 'ENUM'")
        assert found == ENUMS
        assert {name: f"ENUM({', '.join(map(repr, labels))})" for name, labels in types.fetchall()} == TYPES


@pytest.mark.slow  # the tables that views read are compared by a quick test, and what casts their columns by another
@needs_lakes
def test_views_are_those_of_a_file(tmp_path: Path) -> None:
    file, address = tmp_path / "w.duckdb", lake(tmp_path)
    root = fabricate(mechanisms=True, post_norms=True).write(tmp_path / "parts").root
    for db in (file, address):
        load(db, root, keep_parts=True)
    with Reader(file) as of_file, Reader(address) as of_lake:
        for name in relations():
            ours, theirs = of_lake.ask(name).frame, of_file.ask(name).frame
            assert ours.schema == theirs.schema, name
            lasting = [column for column in ours.columns if column not in LEFT_OUT]
            rows = [{name: sorted(frame.select(lasting).rows(), key=row_key)} for frame in (ours, theirs)]
            assert differences(*rows) == []


def test_an_address_travels_and_hides_its_password() -> None:
    given = lake_address("ducklake:postgres:host=db password='my word' dbname=rows user=me", "data")
    again = pickle.loads(pickle.dumps(given))
    assert (again.kind, again.catalog, again.data, again) == (given.kind, given.catalog, "data", given)
    assert str(given) == f"{given}" == "ducklake:postgres:host=db dbname=rows user=me"
    assert (
        str(lake_address("ducklake:postgres:postgresql://me:word@db/rows"))
        == "ducklake:postgres:postgresql://me@db/rows"
    )
    assert "my word" in given.address
    assert str(parts_beside(given)) == "rows.ducklake.parts"
    of_file = lake_address("ducklake:some/lake.db")
    assert str(of_file) == "ducklake:some/lake.db"
    assert of_file.absolute().catalog == str(Path("some/lake.db").absolute())
    assert type(of_file.parent / "x").__str__(of_file.parent / "x") == "some/x"
    assert parts_beside(of_file) == Path("some/lake.db.parts")
    for wrong in ("ducklake:", "ducklake:mysql:x", "ducklake:sqlite:"):
        with pytest.raises(SelfRepairError, match="Name one such as ducklake:"):
            warehouse_path(wrong)
    with pytest.raises(SelfRepairError, match="Leave it out, or name a lake"):
        warehouse_path("w.duckdb", "data")
