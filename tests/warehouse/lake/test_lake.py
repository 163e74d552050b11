"""A lake holds what a file holds, whatever its catalog is."""

from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.errors import InUseError, SelfRepairError
from selfrepair.warehouse.load.move import move
from selfrepair.warehouse.load.names import set_name
from selfrepair.warehouse.load.removal import remove_run, stored_run
from selfrepair.warehouse.schema.tables import metadata
from selfrepair.warehouse.verify.verification import verify
from support.fabricate import fabricate
from support.lakes import needs_lakes
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
