"""Queries of pages: run once for the same file, stale results while a load has it, and never in a load's way."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cachetools import LRUCache

from selfrepair.app.data import query
from selfrepair.queries.sandbox.answer import Answer
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
from support.fabricate import fabricate
from support.loaded import loaded, stored

MODELS = "SELECT name FROM models"
HOLD = (
    "import sys; from pathlib import Path; from selfrepair.warehouse.database.connection import open_writer\n"
    "with open_writer(Path(sys.argv[1])) as con:\n"
    "    con.execute('UPDATE models SET name = upper(name)')\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = loaded(tmp_path)
    monkeypatch.setenv("SELFREPAIR_DB", str(path))
    return path


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The questions of every opening of the file so far."""
    found: list[list[str]] = []
    real = query.Warehouse.ask_all

    def noted(self: query.Warehouse, queries: list[str], **options: Any) -> list[Answer]:
        found.append(queries)
        return real(self, queries, **options)

    monkeypatch.setattr(query.Warehouse, "ask_all", noted)
    return found


@contextmanager
def held_by_another_process(db: Path) -> Iterator[None]:
    """As while a load writes."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(db)], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def test_an_answer_is_kept_as_long_as_the_file_is_the_same(db: Path, openings: list[list[str]]) -> None:
    first = query.query_rows(MODELS, 10)
    assert query.query_rows(MODELS, 10) is first
    assert openings == [[MODELS]]
    with open_writer(db) as con:
        con.execute("UPDATE models SET name = 'renamed'")
    assert query.query_rows(MODELS, 10).frame["name"].to_list() == ["renamed"]


def test_what_is_asked_ahead_is_at_hand(db: Path, openings: list[list[str]]) -> None:
    query.prefetch([MODELS, "FROM runs", MODELS])
    assert query.query_rows(MODELS, query.MAX_ROWS).frame.height == 1
    assert query.query_rows("FROM runs", query.MAX_ROWS).frame.height == 1
    assert openings == [[MODELS, "FROM runs"]]


def test_what_is_asked_ahead_in_vain_is_asked_again_where_it_is_wanted(db: Path) -> None:
    query.prefetch([MODELS, "FROM nothing_of_that_name", "FROM datasets"])
    assert query.query_rows("FROM datasets", query.MAX_ROWS).frame.height == 1
    with pytest.raises(SelfRepairError, match="nothing_of_that_name"):
        query.query_rows("FROM nothing_of_that_name", query.MAX_ROWS)
    assert not query._in_flight


def test_pages_opened_at_once_ask_a_question_once(db: Path, openings: list[list[str]]) -> None:
    slow = "SELECT count(*) AS n FROM range(30_000_000) AS a (x) WHERE x % 7 = 3"
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: query.prefetch([slow, MODELS]), range(4)):
            pass
        heights = list(pool.map(lambda sql: query.query_rows(sql, query.MAX_ROWS).frame.height, [slow, MODELS] * 2))
    assert heights == [1] * 4
    assert sorted(itertools.chain(*openings)) == sorted([slow, MODELS])


def test_a_load_waits_a_moment_at_most(db: Path) -> None:
    query.query_rows("SELECT count(*) FROM measurements", 10)
    with open_writer(db, wait_s=query._KEEP_OPEN_S / 2) as con:
        assert con.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.slow
def test_while_a_load_has_the_file_the_last_answer_is_shown_and_said_to_be_old(db: Path) -> None:
    before = query.query_rows(MODELS, 10)
    with held_by_another_process(db):
        shown = query.query_rows(MODELS, 10)
        assert shown.frame.equals(before.frame)
        assert "w.duckdb cannot be read right now" in shown.stale
        assert shown.stale.endswith("These numbers are from before.")
        began = time.monotonic()
        with pytest.raises(query.BusyError, match="cannot be read right now: waiting for process"):
            query.query_rows("SELECT 1 AS never_asked_before", 10)
        assert time.monotonic() - began < query._WAIT_S / 2  # one wait is enough for a whole page
    now = query.query_rows(MODELS, 10)
    assert (now.frame["name"].to_list(), now.stale) == (["TINY-MODEL"], "")


def test_another_file_in_its_place_is_another_warehouse(db: Path, tmp_path: Path) -> None:
    assert query.query_rows(MODELS, 10).frame["name"].to_list() == ["tiny-model"]
    (tmp_path / "other").mkdir()
    stored(tmp_path / "other", fabricate(model="other-model")).replace(db)
    assert query.query_rows(MODELS, 10).frame["name"].to_list() == ["other-model"]


def test_a_warehouse_of_a_newer_selfrepair_is_said_to_be_one(db: Path) -> None:
    query.query_rows(MODELS, 10)
    with open_writer(db) as con:
        con.execute(
            "INSERT INTO schema_migration SELECT 99, 'from_the_future', sha256, applied_at FROM schema_migration LIMIT 1"
        )
    with pytest.raises(SelfRepairError, match="newer"):
        query.query_rows(MODELS, 10)


def test_an_answer_too_large_for_a_browser_is_refused(db: Path) -> None:
    with pytest.raises(SelfRepairError, match="more than the 64 MB it may have"):
        query.query_rows("SELECT repeat('x', 100_000) FROM range(1000)", 10_000)


def test_rows_beyond_the_limit_are_cut_and_lists_are_text(db: Path) -> None:
    rows = query.query_rows("SELECT [1, 2] AS list FROM range(20)", 10, flat=True)
    assert (rows.frame.height, rows.truncated) == (10, True)
    assert rows.frame["list"].unique().to_list() == ["[1,2]"]


def test_the_cache_keeps_to_its_size_and_drops_the_results_unused_for_longest(
    db: Path, openings: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: LRUCache[query.Key, query._Entry] = LRUCache(3 * query._ENTRY_BYTES, getsizeof=lambda entry: entry.n_bytes)
    monkeypatch.setattr(query, "_cache", entries)
    one, two, three = ("SELECT 1 AS x", "SELECT 2 AS x", "SELECT 3 AS x")
    for sql in (one, two, one, three):  # room for two
        query.query_rows(sql, 10)
    assert [key[1] for key in entries] == [one, three]
    large = f"SELECT repeat('x', {4 * query._ENTRY_BYTES}) AS x"
    assert query.query_rows(large, 10).frame.height == 1
    assert [key[1] for key in entries] == [one, three]
    assert openings == [[one], [two], [three], [large]]
