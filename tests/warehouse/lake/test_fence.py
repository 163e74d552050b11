"""What a lake's reader reaches: its catalog, its rows, and nothing else, whatever the catalog says."""

from pathlib import Path

import duckdb
import pytest

from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.errors import SelfRepairError
from support.fabricate import fabricate
from support.lakes import lake, needs_lakes
from support.loaded import load_rows

pytestmark = needs_lakes


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("lake")
    address = lake(folder)
    load_rows(address, fabricate().write(folder / "parts").root)
    (folder / "beside.csv").write_text("a\n1\n")
    return address


def test_files_beside_it_stay_closed(db: Lake) -> None:
    beside = Path(db).with_name("beside.csv")
    with Reader(db) as reader:
        for query in (
            f"FROM read_csv('{beside}')",
            f"COPY (SELECT 1) TO '{beside.parent / 'new.csv'}'",
            f"ATTACH '{beside.parent / 'new.duckdb'}'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            "DELETE FROM lake.main.runs",
        ):
            with pytest.raises(duckdb.Error, match=r"disabled|locked|read-only|cannot|can not"):
                reader._con.execute(query)  # where the statement fence would not stand before it


@pytest.mark.parametrize(
    "query",
    [
        "FROM __ducklake_metadata_lake.ducklake_metadata",
        "FROM __ducklake_metadata_lake.main.ducklake_data_file",
        "DESCRIBE __ducklake_metadata_lake.ducklake_data_file",
        "FROM ducklake_metadata",
        "FROM lake.snapshots()",
        "FROM ducklake_list_files('lake', 'runs')",
        "DELETE FROM runs",
    ],
)
def test_the_catalog_is_not_asked(db: Lake, query: str) -> None:
    with Reader(db) as reader, pytest.raises(SelfRepairError):
        reader.ask(query)


def test_views_are_there_for_whoever_lists_or_names_them(db: Lake) -> None:
    with Reader(db) as reader:
        assert "head_repair" in reader.names()
        assert "label" in reader.columns("self_repair")
        assert reader.ask("SELECT label FROM Self_Repair ORDER BY 1 LIMIT 1").frame["label"].item() == "L0H0"
        assert reader.ask("SELECT head_label(1, 2) AS label").frame["label"].item() == "L1H2"


@pytest.mark.parametrize("place", ["/", "/usr", "..", "gone"])
def test_a_catalog_that_would_open_more_is_refused(db: Lake, tmp_path: Path, place: str) -> None:
    copy = lake(tmp_path)
    Path(copy).write_bytes(Path(db).read_bytes())
    with duckdb.connect(str(Path(copy))) as con:
        con.execute("UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'", [place])
    unnamed = Lake.of("duckdb", copy.catalog)
    with pytest.raises(SelfRepairError, match="not the folder of a lake"), open_reader(unnamed):
        pass


def test_what_is_no_lake_is_said_with_the_next_step(db: Lake, tmp_path: Path) -> None:
    for address, said in (
        (lake(tmp_path), "there is no warehouse at ducklake:.*Make one"),
        (Lake.of("duckdb", str(Path(db).with_name("beside.csv"))), "is not a DuckDB file"),
        (Lake.of("sqlite", str(Path(db))), "is not an SQLite file"),
    ):
        with pytest.raises(SelfRepairError, match=said), open_reader(address):
            pass
    duckdb.connect(str(tmp_path / "w.duckdb")).close()
    with (
        pytest.raises(SelfRepairError, match="not the catalog of a lake"),
        open_reader(Lake.of("duckdb", str(tmp_path / "w.duckdb"))),
    ):
        pass


def test_a_lake_of_a_newer_version_is_refused_and_stays(db: Lake, tmp_path: Path) -> None:
    newer = lake(tmp_path)
    Path(newer).write_bytes(Path(db).read_bytes())
    with duckdb.connect() as con:
        from selfrepair.warehouse.database.lake.extensions import load_extensions

        load_extensions(con, "ducklake")
        con.execute(f"ATTACH 'ducklake:{newer.catalog}' AS lake")
        con.execute("INSERT INTO lake.schema_migration VALUES (9999, '9999_later.sql', 'x', now()::TIMESTAMP)")
    later = Lake.of("duckdb", newer.catalog)
    before = Path(newer).read_bytes()
    for _ in range(2):
        with pytest.raises(SelfRepairError, match=r"has schema 9999 .* Upgrade: pip install"), open_reader(later):
            pass
    with pytest.raises(SelfRepairError, match="a newer version wrote it"):
        load_rows(later, fabricate("run-b").write(tmp_path / "parts").root)
    assert Path(newer).read_bytes() == before
