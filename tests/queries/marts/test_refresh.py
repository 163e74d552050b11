"""Marts hold what their views come to, for every run, and never anything out of date."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from selfrepair.queries.catalog.relations import reads, relations, views
from selfrepair.queries.marts import refresh as marts
from selfrepair.queries.marts.install import install, prepare_reader
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.schema.tables import metadata
from support.empty import compute, installed
from support.fabricate import FabricatedRun, fabricate
from support.loaded import stored

MARTS = [view for view in views() if view.kept == "mart"]
Con = duckdb.DuckDBPyConnection


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "w.duckdb"


@pytest.fixture
def first() -> FabricatedRun:
    return fabricate("run-a", n_units=3, prompts_per_unit=4, seq_len=9, mechanisms=True)


def load_run(db: Path, run: FabricatedRun, units: list[int] | None = None) -> None:
    parts = db.parent / "parts"
    run.write(parts, units)
    if not db.exists():
        installed(parts).rename(db)
    load(db, parts)


def in_file(db: Path, action: Callable[[Con], Any]) -> Any:
    with duckdb.connect(db) as con:
        return action(con)


def rows_of(con: Con, relation: str, grain: tuple[str, ...]) -> pl.DataFrame:
    return con.sql(f"FROM {relation}").pl().sort(grain, nulls_last=True)


def assert_marts_equal_their_views(db: Path) -> None:
    with duckdb.connect(db) as stored, stored.cursor() as live:
        compute(live, *(view.name for view in MARTS))
        for view in MARTS:
            found, expected = rows_of(stored, f"main.{view.name}", view.grain), rows_of(live, view.name, view.grain)
            assert_frame_equal(found, expected, rel_tol=1e-6, abs_tol=1e-8)  # sums in another order, some as FLOAT
            # thresholds are of edges that are told from 0, and four documents tell none; no prompt repeats another
            assert not expected.is_empty() or view.name == "repeated_rows", view.name


def refreshed(db: Path) -> dict[int, Any]:
    query = "SELECT run_id, refreshed_at FROM selfrepair_marts.refreshed"
    return in_file(db, lambda con: dict(con.execute(query).fetchall()))


@pytest.mark.slow
def test_a_mart_holds_what_its_view_comes_to_and_only_the_run_that_changed_is_computed_again(
    db: Path, first: FabricatedRun
) -> None:
    stored(db.parent, first)
    before = refreshed(db)
    second = fabricate("run-b", model="other-model", seed=5, n_units=3, n_heads=2, ablations=("mean",))
    load_run(db, second, units=[0])
    halfway = refreshed(db)
    load_run(db, second, units=[1, 2])
    after = refreshed(db)
    assert halfway[1] == after[1] == before[1]
    assert after[2] > halfway[2]
    assert_marts_equal_their_views(db)
    assert in_file(db, marts.unsummarised) == []


@pytest.mark.slow
def test_rows_loaded_without_a_refresh_are_absent_until_it_comes(db: Path, first: FabricatedRun) -> None:
    load_run(db, first, units=[0])

    def add_a_unit(con: Con) -> None:  # as a load that was killed before its end
        con.execute("INSERT INTO units SELECT * REPLACE (1 AS unit, now()::TIMESTAMP AS loaded_at) FROM units")
        con.execute("UPDATE measurements SET direct_effect = direct_effect + 1")

    in_file(db, add_a_unit)
    with duckdb.connect(db, read_only=True) as con:
        assert prepare_reader(con) == ["run 1: its summaries are missing or out of date: selfrepair refresh"]
        for view in MARTS:
            assert con.execute(f"FROM {view.name}").fetchall() == [], view.name
    assert in_file(db, marts.refresh) == [1]
    assert_marts_equal_their_views(db)


@pytest.mark.slow
def test_a_refresh_that_fails_changes_nothing(db: Path, first: FabricatedRun) -> None:
    stored(db.parent, first)
    last = MARTS[-1].name
    in_file(db, lambda con: con.execute(f"ALTER TABLE selfrepair_marts.{last} RENAME COLUMN run_id TO gone"))
    others = {
        view.name: in_file(db, lambda con, v=view: con.execute(f"FROM selfrepair_marts.{v.name}").fetchall())
        for view in MARTS
    }
    with pytest.raises(duckdb.Error):
        in_file(db, lambda con: marts.refresh(con, [1]))
    for name, rows in others.items():
        assert in_file(db, lambda con, n=name: con.execute(f"FROM selfrepair_marts.{n}").fetchall()) == rows


@pytest.mark.slow
def test_marts_of_another_version_are_made_anew(db: Path, first: FabricatedRun) -> None:
    stored(db.parent, first)

    def grow_old(con: Con) -> None:
        con.execute("UPDATE selfrepair_marts.refreshed SET definition = 'older'")
        con.execute("UPDATE selfrepair_marts.installed SET views = 'older', marts = 'older'")
        con.execute("DROP TABLE selfrepair_marts.top_cuts")
        con.execute("CREATE TABLE selfrepair_marts.top_cuts (run_id INTEGER, another VARCHAR)")
        con.execute("CREATE TABLE selfrepair_marts.gone (run_id INTEGER)")

    in_file(db, grow_old)
    with duckdb.connect(db, read_only=True) as con:  # until then a reader computes what it is asked
        (note,) = prepare_reader(con)
        assert note.startswith("this file holds no summaries of this version")
        assert note.endswith("selfrepair refresh")
        assert con.execute("SELECT count(*) FROM head_repair").fetchall()[0][0] > 0
    in_file(db, install)
    assert in_file(db, marts.refresh) == [1]
    assert_marts_equal_their_views(db)
    tables = in_file(
        db,
        lambda con: con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'selfrepair_marts'"
        ).fetchall(),
    )
    assert {name for (name,) in tables} == {"refreshed", "installed", *(view.name for view in MARTS)}


@pytest.mark.slow
def test_what_is_stored_of_a_run_that_is_gone_goes_too(db: Path, first: FabricatedRun) -> None:
    stored(db.parent, first)
    in_file(db, lambda con: con.execute("DELETE FROM units"))
    assert in_file(db, marts.refresh) == []
    for view in MARTS:
        assert in_file(db, lambda con, v=view: con.execute(f"FROM selfrepair_marts.{v.name}").fetchall()) == []


def test_a_reader_of_an_up_to_date_file_makes_no_views(db: Path, first: FabricatedRun) -> None:
    stored(db.parent, first)
    with duckdb.connect(db, read_only=True) as con:
        assert prepare_reader(con) == []
        assert con.execute("SELECT view_name FROM duckdb_views() WHERE temporary AND NOT internal").fetchall() == []


def test_a_reader_asks_its_own_views_where_the_file_has_others_by_now(db: Path, first: FabricatedRun) -> None:
    stored(db.parent, first)
    in_file(db, lambda con: con.execute("CREATE OR REPLACE VIEW head_repair AS SELECT 7 AS run_id"))
    with duckdb.connect(db, read_only=True) as con:
        assert prepare_reader(con) == []
        assert {run_id for (run_id,) in con.execute("SELECT run_id FROM head_repair").fetchall()} == {1}


@pytest.mark.slow
def test_a_file_of_any_name_and_a_schema_of_the_users_own(tmp_path: Path, first: FabricatedRun) -> None:
    db = tmp_path / "marts.duckdb"
    load_run(db, first)
    with duckdb.connect(db) as con:
        con.execute("CREATE SCHEMA marts.marts; CREATE TABLE marts.marts.mine AS SELECT 1 AS x")
    load_run(db, fabricate("run-b", model="other-model", seed=5))
    assert in_file(db, lambda con: con.execute("FROM marts.marts.mine").fetchall()) == [(1,)]
    assert_marts_equal_their_views(db)


def test_a_failed_run_leaves_the_views_without_a_refresh(db: Path, first: FabricatedRun) -> None:
    stored(db.parent, first)
    in_file(db, lambda con: con.execute("UPDATE runs SET status = 'failed'"))
    assert in_file(db, lambda con: con.execute("FROM head_repair").fetchall()) == []


def test_marts_read_nothing_that_changes_without_a_load() -> None:
    tables = set(metadata.tables).difference(marts._NARROWED)
    assert {view.name: found for view in marts._needed() if (found := reads(view.sql, tables))} == {}


def test_marts_name_their_run() -> None:
    for view in views():
        if view.kept == "mart":
            assert "run_id" in {column.name for column in relations()[view.name].columns}
