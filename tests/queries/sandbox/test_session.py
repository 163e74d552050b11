"""Questions of the command line: to a process of their own, whatever becomes of it, and within the time they have."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from selfrepair import Limits, Warehouse
from selfrepair.queries.sandbox import process
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.errors import SelfRepairError
from support.loaded import loaded

ENDLESS = "SELECT count(*) AS n FROM range(10000000000) AS a, range(10000000000) AS b"
ONE_CALL = "SELECT levenshtein(repeat('ab', 400000), repeat('ba', 400000)) AS n"  # which DuckDB cannot interrupt

WITHOUT_DUCKDB = """
import sys
sys.modules["duckdb"] = None
from selfrepair.app.cli.main import main
for arguments in (
    ["query", "SELECT count(*) AS n FROM measurements"],
    ["query", "head_repair", "--param", "head=L1H3", "--param", "model=tiny-model", "--limit", "1"],
    ["query", "head_repair", "--csv", "--limit", "1"],
    ["export", "runs", "-o", sys.argv[2]],
):
    main([*arguments, "--db", sys.argv[1]], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A loaded warehouse that no test changes."""
    yield Path(loaded(tmp_path_factory.mktemp("session")))
    process.end_idle()


def test_rows_come_as_they_are_computed_and_the_process_stays(db: Path) -> None:
    with Session(db) as session:
        worker = session._worker
        batches = session.batches("SELECT i, i // 2 AS half FROM range(450000) AS t(i) ORDER BY i")
        sizes = [batch.num_rows for batch in batches]
        assert sum(sizes) == 450_000
        assert max(sizes) <= 100_000
        assert not batches.truncated
        assert session.ask("FROM measurements", 3).truncated
        assert session.columns("models")[:2] == ["model_id", "name"]
        assert {"runs", "head_repair"} <= set(session.names())
        assert session.rows("SELECT $x AS x", {"x": [1, None]}) == [{"x": [1, None]}]
        with pytest.raises(SelfRepairError, match="may not be called here"):
            session.rows("SELECT getenv('HOME')")
        assert session._worker is worker


def test_a_large_row_is_sent_by_itself(db: Path) -> None:
    with Session(db) as session:
        sizes = [batch.num_rows for batch in session.batches("SELECT repeat('x', 3000000) AS x FROM range(100)")]
    assert sum(sizes) == 100
    assert max(sizes) <= 25


def test_an_answer_that_is_given_up_does_not_stand_in_the_way_of_the_next(db: Path) -> None:
    with Session(db) as session:
        next(iter(session.batches("SELECT i FROM range(1000000) AS t(i)")))
        assert session.rows("SELECT 7 AS x") == [{"x": 7}]


def test_a_crash_of_duckdb_is_said(db: Path) -> None:
    with Session(db) as session:
        session.rows("SELECT 1")
        threading.Timer(0.2, os.kill, [session._worker._process.pid, signal.SIGSEGV]).start()
        with pytest.raises(
            SelfRepairError, match=r"\(exit code -11\): DuckDB crashed on it.*Write the query differently"
        ):
            session.rows(ENDLESS)
        assert session.rows("SELECT 7 AS x") == [{"x": 7}]


def test_memory_that_duckdb_does_not_count_is_limited_all_the_same(db: Path) -> None:
    with (
        Session(db, limits=Limits(memory_bytes=200_000_000)) as session,
        pytest.raises(SelfRepairError, match="of memory"),
    ):
        session.rows("SELECT length(string_agg(repeat('x', 50000000), '')) AS n FROM range(40)")


@pytest.mark.slow
def test_the_command_line_itself_opens_nothing_with_duckdb(db: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_DUCKDB, str(db), str(tmp_path / "runs.csv")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    assert "864" in found.stdout
    assert "L1H3" in found.stdout
    assert "tiny-model" in (tmp_path / "runs.csv").read_text() or "complete" in (tmp_path / "runs.csv").read_text()


@pytest.mark.parametrize("slow", [ENDLESS, pytest.param(ONE_CALL, marks=pytest.mark.slow)])
def test_opening_counts_towards_the_time_limit(slow: str, tmp_path: Path) -> None:
    path = Path(loaded(tmp_path))
    with duckdb.connect(str(path)) as con:
        con.execute("ALTER TABLE selfrepair_marts.installed RENAME TO before")
        con.execute(
            f"CREATE VIEW selfrepair_marts.installed AS SELECT * REPLACE (views || n AS views) "
            f"FROM selfrepair_marts.before, ({slow})"
        )
    began = time.monotonic()
    with pytest.raises(SelfRepairError, match=r"stopped at its time limit of 0\.5 s"):
        Warehouse(path).sql("SELECT 1", timeout_s=0.5)
    assert time.monotonic() - began < 15
