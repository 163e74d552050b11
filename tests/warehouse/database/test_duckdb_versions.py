"""DuckDB 1.5 and DuckDB 2 read and write the same warehouse files."""

import os
import subprocess

import duckdb
import pytest

from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.verify.verification import verify

OTHER = os.environ.get("OTHER_DUCKDB_PYTHON", "")
"""A Python whose environment holds selfrepair with the other DuckDB; set by `make test-duckdb2`."""

LOAD = """
import sys
from pathlib import Path
import duckdb
from selfrepair.warehouse.load.loader import load
print(duckdb.__version__, load(Path(sys.argv[1]), Path(sys.argv[2])).units)
"""

STORAGE_VERSION_OF_DUCKDB_1 = 64


def test_a_new_file_has_the_format_that_both_read(db):
    with open_writer(db) as con:
        con.execute("CREATE TABLE mine AS SELECT 42 AS x")
    header = db.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == STORAGE_VERSION_OF_DUCKDB_1


@pytest.mark.skipif(not OTHER, reason="needs an environment with the other DuckDB: make test-duckdb2")
@pytest.mark.parametrize("other_first", [False, True], ids=["made here", "made by the other"])
def test_each_loads_into_and_verifies_a_file_of_the_other(fabricate, db, tmp_path, other_first):
    fabricate("run-a").write(tmp_path / "a")
    fabricate("run-b", model="second-model").write(tmp_path / "b")

    def load_by_the_other(folder: str) -> None:
        found = subprocess.run(
            [OTHER, "-W", "error", "-c", LOAD, db, tmp_path / folder], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
        version, units = found.stdout.split()
        assert version.split(".")[0] != duckdb.__version__.split(".")[0]
        assert units == "2"

    if other_first:
        load_by_the_other("a")
        load(db, tmp_path / "b")
    else:
        load(db, tmp_path / "a")
        load_by_the_other("b")
    with duckdb.connect(str(db), read_only=True) as con:
        assert con.execute("SELECT run_id, count(*) FROM self_repair GROUP BY ALL ORDER BY ALL").fetchall() == [
            (1, 864),
            (2, 864),
        ]
        assert con.execute("SELECT count(DISTINCT run_id) FROM head_repair").fetchall() == [(2,)]
    assert [check for check in verify(db) if not check.ok] == []
