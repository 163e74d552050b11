"""What pages ask: once of the same file, with its last answer while a load has it, and never in a load's way."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from selfrepair.app.data import answers as asking
from selfrepair.app.data.cache import Kept
from selfrepair.queries.sandbox.reader import Answer
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
    real = asking.Warehouse.ask_all

    def noted(self: asking.Warehouse, queries: list[str], **options: Any) -> list[Answer]:
        found.append(queries)
        return real(self, queries, **options)

    monkeypatch.setattr(asking.Warehouse, "ask_all", noted)
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
    first = asking.answered(MODELS, 10)
    assert asking.answered(MODELS, 10) is first
    assert openings == [[MODELS]]
    with open_writer(db) as con:
        con.execute("UPDATE models SET name = 'renamed'")
    assert asking.answered(MODELS, 10).frame["name"].to_list() == ["renamed"]


def test_what_is_asked_ahead_is_at_hand(db: Path, openings: list[list[str]]) -> None:
    asking.ask_ahead([MODELS, "FROM runs", MODELS])
    assert asking.answered(MODELS, asking.MOST_ROWS).frame.height == 1
    assert asking.answered("FROM runs", asking.MOST_ROWS).frame.height == 1
    assert openings == [[MODELS, "FROM runs"]]


def test_what_is_asked_ahead_in_vain_is_asked_again_where_it_is_wanted(db: Path) -> None:
    asking.ask_ahead([MODELS, "FROM nothing_of_that_name", "FROM datasets"])
    assert asking.answered("FROM datasets", asking.MOST_ROWS).frame.height == 1
    with pytest.raises(SelfRepairError, match="nothing_of_that_name"):
        asking.answered("FROM nothing_of_that_name", asking.MOST_ROWS)
    assert not asking._coming


def test_pages_opened_at_once_ask_a_question_once(db: Path, openings: list[list[str]]) -> None:
    slow = "SELECT count(*) AS n FROM range(30_000_000) AS a (x) WHERE x % 7 = 3"
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: asking.ask_ahead([slow, MODELS]), range(4)):
            pass
        heights = list(
            pool.map(lambda query: asking.answered(query, asking.MOST_ROWS).frame.height, [slow, MODELS] * 2)
        )
    assert heights == [1] * 4
    assert sorted(itertools.chain(*openings)) == sorted([slow, MODELS])


def test_a_load_waits_a_moment_at_most(db: Path) -> None:
    asking.answered("SELECT count(*) FROM measurements", 10)
    with open_writer(db, wait_s=asking._KEEP_OPEN_S / 2) as con:
        assert con.execute("SELECT 1").fetchone() == (1,)


def test_while_a_load_has_the_file_the_last_answer_is_shown_and_said_to_be_old(db: Path) -> None:
    before = asking.answered(MODELS, 10)
    with held_by_another_process(db):
        shown = asking.answered(MODELS, 10)
        assert shown.frame.equals(before.frame)
        assert "w.duckdb is not to be read just now" in shown.stale
        assert shown.stale.endswith("What is shown is from before.")
        began = time.monotonic()
        with pytest.raises(asking.BusyError, match="not to be read just now: waiting for process"):
            asking.answered("SELECT 1 AS never_asked_before", 10)
        assert time.monotonic() - began < asking._WAIT_S / 2  # one wait is enough for a whole page
    now = asking.answered(MODELS, 10)
    assert (now.frame["name"].to_list(), now.stale) == (["TINY-MODEL"], "")


def test_another_file_in_its_place_is_another_warehouse(db: Path, tmp_path: Path) -> None:
    assert asking.answered(MODELS, 10).frame["name"].to_list() == ["tiny-model"]
    (tmp_path / "other").mkdir()
    stored(tmp_path / "other", fabricate(model="other-model")).replace(db)
    assert asking.answered(MODELS, 10).frame["name"].to_list() == ["other-model"]


def test_a_warehouse_of_a_newer_selfrepair_is_said_to_be_one(db: Path) -> None:
    asking.answered(MODELS, 10)
    with open_writer(db) as con:
        con.execute(
            "INSERT INTO schema_migration SELECT 99, 'from_the_future', sha256, applied_at FROM schema_migration LIMIT 1"
        )
    with pytest.raises(SelfRepairError, match="newer"):
        asking.answered(MODELS, 10)


def test_an_answer_too_large_for_a_browser_is_refused(db: Path) -> None:
    with pytest.raises(SelfRepairError, match="more than the 64 MB it may have"):
        asking.answered("SELECT repeat('x', 100_000) FROM range(1000)", 10_000)


def test_rows_beyond_the_limit_are_cut_and_lists_are_text(db: Path) -> None:
    rows = asking.answered("SELECT [1, 2] AS list FROM range(20)", 10, flat=True)
    assert (rows.frame.height, rows.truncated) == (10, True)
    assert rows.frame["list"].unique().to_list() == ["[1,2]"]


def test_kept_values_go_when_there_is_no_room_the_unused_first() -> None:
    kept = Kept[pl.DataFrame | str](10)
    kept.put("a", "one", 4)
    kept.put("b", "two", 4)
    assert kept.get("a") == "one"
    kept.put("c", "three", 4)
    assert [kept.get(key) for key in "abc"] == ["one", None, "three"]
    kept.put("a", "anew", 6)
    assert [kept.get(key) for key in "ac"] == ["anew", "three"]
    kept.put("large", "four", 11)
    assert [kept.get(key) for key in ("a", "c", "large")] == [None, None, None]
