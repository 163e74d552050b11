"""Views in a file: there for any client, replaced and dropped with their version, never at the user's cost."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from selfrepair import Warehouse
from selfrepair.queries.catalog.relations import relations, views
from selfrepair.queries.marts import refresh as marts
from selfrepair.queries.marts.install import _is_installed, bring_up_to_date, install, install_temp, prepare_reader
from selfrepair.warehouse.database.migrate import migrate
from selfrepair.warehouse.errors import SelfRepairError
from support.loaded import loaded

STALE = "CREATE OR REPLACE VIEW main.head_repair AS SELECT 7 AS run_id"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A warehouse file with nothing but its tables."""
    path = tmp_path / "w.duckdb"
    with duckdb.connect(path) as con:
        migrate(con)
    return path


def in_file(path: Path, action: Callable[[duckdb.DuckDBPyConnection], object]) -> None:
    with duckdb.connect(path) as con:
        action(con)


def names_in(path: Path) -> set[str]:
    with duckdb.connect(path, read_only=True) as con:
        return {row[0] for row in con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}


def test_any_client_sees_views_and_comments(path: Path) -> None:
    in_file(path, install)
    assert names_in(path) == {view.name for view in views()}
    with duckdb.connect(path, read_only=True) as con:
        for view in views():
            con.execute(f"FROM {view.name}").fetchall()
            rows = con.execute(
                "SELECT comment FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = ?", [view.name]
            ).fetchall()
            assert [comment for (comment,) in rows] == [column.comment for column in relations()[view.name].columns]
        (about,) = con.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'head_repair'").fetchall()[0]
    assert about.startswith(relations()["head_repair"].summary)
    assert "Grain: run_id, ablation, population, layer, head." in about


def test_what_is_installed_is_known_when_the_file_is_opened_again(path: Path) -> None:
    in_file(path, install)
    with duckdb.connect(path, read_only=True) as con:
        assert _is_installed(con)
    in_file(path, lambda con: con.execute("COMMENT ON COLUMN head_repair.layer IS 'Mine.'"))
    with duckdb.connect(path, read_only=True) as con:
        assert not _is_installed(con)


def test_a_large_file_has_no_rules_that_would_read_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To plan them took most of the time of run_health. Once the file is small again, so are its views' exceptions."""
    db = loaded(tmp_path)
    health = "SELECT health FROM run_health"
    large = "rows not verified: nothing else is wrong; selfrepair verify reads every row"
    with duckdb.connect(db) as con:
        whole = _planned(con)
        assert con.execute(health).fetchall() == [("ok",)]
        monkeypatch.setattr("selfrepair.queries.marts.install.is_read_whole", lambda: "false")
        assert not _is_installed(con)
        install(con)
        assert _is_installed(con)
        assert _planned(con) < 0.4 * whole
        assert con.execute(health).fetchall() == [(large,)]
    assert Warehouse(db).sql(health).rows() == [(large,)]  # without installing all views anew for itself
    monkeypatch.undo()
    in_file(db, install)
    assert Warehouse(db).sql(health).rows() == [("ok",)]


def _planned(con: duckdb.DuckDBPyConnection) -> int:
    """Operators in the plan of run_health."""
    ((_, plan),) = con.execute("EXPLAIN (FORMAT json) FROM run_health").fetchall()
    return str(plan).count('"name"')


def test_while_marts_are_computed_others_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    asked = []

    def compute(con: duckdb.DuckDBPyConnection, run_id: int) -> marts.Computed:
        asked.append(Warehouse(db, wait_s=0).sql("SELECT count(*) AS n FROM measurements").item())
        return marts.Computed(run_id, (), {}, 0.0)

    monkeypatch.setattr(marts, "compute", compute)
    told: list[int] = []
    assert bring_up_to_date(db, 10, None, [1], lambda run_id, s: told.append(run_id)) == [1]
    assert asked == [864]
    assert told == []  # computed of other rows than are there now: not stored


@pytest.mark.slow
def test_installing_again_changes_nothing(path: Path) -> None:
    in_file(path, install)
    in_file(path, install)
    assert names_in(path) == {view.name for view in views()}


@pytest.mark.slow
def test_a_view_of_an_earlier_version_is_dropped_and_the_users_own_is_kept(path: Path) -> None:
    def before(con: duckdb.DuckDBPyConnection) -> None:
        install(con)
        con.execute("CREATE VIEW gone AS SELECT 1 AS x")
        con.execute("COMMENT ON VIEW gone IS 'What it was. (selfrepair view gone)'")
        con.execute('CREATE VIEW "My own" AS FROM head_repair')
        con.execute("""COMMENT ON VIEW "My own" IS 'Mine.'""")
        con.execute("CREATE VIEW copied AS SELECT 1 AS x")
        con.execute("COMMENT ON VIEW copied IS 'A renamed one. (selfrepair view gone)'")

    in_file(path, before)
    in_file(path, install)
    assert names_in(path) == {view.name for view in views()} | {"My own", "copied"}


@pytest.mark.parametrize(("noun", "name"), [("VIEW", "layer_repair"), ("TABLE", "Layer_Repair")])
def test_a_name_the_user_took_is_refused(path: Path, noun: str, name: str) -> None:
    in_file(path, lambda con: con.execute(f"CREATE {noun} {name} AS SELECT 1 AS x"))
    before = names_in(path)
    with pytest.raises(SelfRepairError) as raised:
        in_file(path, install)
    assert f"ALTER {noun} {name} RENAME TO my_{name}; and then: selfrepair load" in str(raised.value)
    assert names_in(path) == before


@pytest.mark.slow
def test_a_reader_asks_its_own_versions_views(path: Path) -> None:
    in_file(path, install)
    in_file(path, lambda con: con.execute(STALE))
    with duckdb.connect(path, read_only=True) as con:
        install_temp(con)
        assert con.execute("FROM head_repair").fetchall() == []
        assert con.execute("FROM w.main.head_repair").fetchall() == [(7,)]


def test_a_stale_view_is_replaced(path: Path) -> None:
    in_file(path, install)
    in_file(path, lambda con: con.execute(STALE + "; COMMENT ON VIEW head_repair IS '(selfrepair view head_repair)'"))
    in_file(path, install)
    with duckdb.connect(path, read_only=True) as con:
        assert con.execute("FROM head_repair").fetchall() == []


def test_a_file_attached_under_another_name_writes_heads_as_the_field_does(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{loaded(tmp_path)}' AS other (READ_ONLY)")
        labels = con.execute("SELECT DISTINCT label, layer, head FROM other.head_repair").fetchall()
    assert len(labels) == 12
    assert all(label == f"L{layer}H{head}" for label, layer, head in labels)


def test_a_macro_of_the_users_own_is_refused(path: Path) -> None:
    in_file(path, lambda con: con.execute("CREATE MACRO head_label(layer, head) AS 'mine'"))
    with pytest.raises(SelfRepairError, match="a macro 'head_label' of your own"):
        in_file(path, install)
    assert names_in(path) == set()


def test_a_macro_of_another_version_is_replaced(path: Path) -> None:
    older = (
        "CREATE MACRO clipped(x) AS x; COMMENT ON MACRO clipped IS 'Said otherwise then. (selfrepair macro clipped)'"
    )
    in_file(path, lambda con: con.execute(older))
    in_file(path, install)
    with duckdb.connect(path, read_only=True) as con:
        assert con.execute("SELECT clipped(7)").fetchall() == [(1,)]


def test_a_macro_put_in_the_place_of_ours_is_not_asked(tmp_path: Path) -> None:
    path = loaded(tmp_path)
    in_file(path, lambda con: con.execute("CREATE OR REPLACE MACRO head_label(layer, head) AS 'mine'"))
    with duckdb.connect(path, read_only=True) as con:
        assert prepare_reader(con) == []
        assert con.execute("SELECT DISTINCT label FROM head_repair WHERE layer = 1 AND head = 2").fetchall() == [
            ("L1H2",)
        ]
