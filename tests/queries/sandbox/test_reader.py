"""Questions to a warehouse file: names and SQL, plain polars types, and errors that say what to do."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from selfrepair.queries.marts import refresh as marts
from selfrepair.queries.sandbox.limits import Limits
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from support.empty import installed
from support.loaded import loaded

Fill = Callable[..., None]
HELP = "Tables and views: selfrepair views. Their columns: selfrepair describe NAME"


@pytest.fixture(scope="module")
def db(
    tmp_path_factory: pytest.TempPathFactory,
    fill: Fill,
    one_row: Callable[..., Any],
    summarise: Callable[..., None],
) -> Path:
    """A warehouse of three measured rows, with a table and a view of the user's own; nobody writes it."""
    path = installed(tmp_path_factory.mktemp("three-rows"))
    with duckdb.connect(path) as con:
        fill(con, [one_row(pos=pos) for pos in range(3)])
        summarise(con)
        con.execute('CREATE TABLE "Notes" AS SELECT 1 AS n')
        con.execute("CREATE VIEW mine AS SELECT 2 AS n")
    return path


@pytest.fixture
def reader(db: Path) -> Iterator[Reader]:
    with Reader(db) as reader:
        yield reader


def test_a_name_gives_its_rows(reader: Reader) -> None:
    assert reader.frame("layer_repair")["n_rows"].to_list() == [1, 1, 3]
    assert reader.frame(" models;\n")["name"].to_list() == ["model-1"]
    assert reader.frame("notes").to_dicts() == [{"n": 1}]
    assert reader.frame("mine").to_dicts() == [{"n": 2}]


def test_sql_gives_its_rows(reader: Reader) -> None:
    query = "SELECT label, self_repair FROM self_repair WHERE pos = 1 -- one row\n;"
    assert reader.frame(query).to_dicts() == [{"label": "L2H1", "self_repair": 1.0}]


@pytest.mark.parametrize(("limit", "height"), [(None, 3), (0, 0), (2, 2), (3, 3), (4, 3)])
def test_a_limit_cuts_the_rows_and_says_so(reader: Reader, limit: int | None, height: int) -> None:
    answer = reader.ask("SELECT pos FROM measurements ORDER BY pos DESC", limit)
    assert answer.frame["pos"].to_list() == [2, 1, 0][:height]
    assert answer.truncated == (height < 3)


def test_types_are_those_that_polars_and_json_can_use(reader: Reader) -> None:
    frame = reader.frame(
        "SELECT sum(pos) AS s, 0.5 AS d, INTERVAL 2 HOURS AS i, [pos] AS l FROM measurements GROUP BY pos"
    )
    assert frame.schema == {"s": pl.Int64, "d": pl.Float64, "i": pl.String, "l": pl.List(pl.Int16)}
    assert frame.row(0)[1:3] == (0.5, "02:00:00")


def test_flat_answers_have_json_in_place_of_lists(reader: Reader) -> None:
    frame = reader.ask("SELECT ablations, software, started_at FROM runs", flat=True).frame
    assert frame.row(0) == ('["resample"]', '{"duckdb":"1"}', datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nothing FROM runs", 'Binder Error: Referenced column "nothing" not found'),
        ("SELEC 1", "Parser Error: syntax error at or near"),
        ("SELECT 1; SELECT 2", "the query has 2 statements; it takes one"),
        ("-- nothing", "the query has nothing to answer"),
        (
            "SET threads = 1",
            "only SELECT is allowed, and this is a SET statement: access to the warehouse is read-only.",
        ),
        ("DELETE FROM runs", "only SELECT is allowed, and this is a DELETE statement"),
        ("FROM head_repairs", "there is no table or view 'head_repairs'; did you mean head_repair"),
        ("SELECT CAST(token AS INTEGER) FROM tokens", "Conversion Error: Could not convert string 't0' to INT32"),
        ("head_repairs", "there is no table or view 'head_repairs'; did you mean head_repair"),
        ("Mines", "there is no table or view 'Mines'; did you mean mine or notes? See: selfrepair views"),
    ],
)
def test_a_bad_question_is_answered_in_words(reader: Reader, query: str, message: str) -> None:
    with pytest.raises(SelfRepairError) as raised:
        reader.ask(query)
    assert message in str(raised.value)
    if "Error:" in message:
        assert str(raised.value).endswith(HELP)


def test_sql_does_not_see_this_process(reader: Reader) -> None:
    secret = pl.DataFrame({"n": [1]})
    with pytest.raises(SelfRepairError, match="secret"):
        reader.ask("SELECT * FROM secret")
    assert secret.height == 1


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SelfRepairError, match="selfrepair demo"), Reader(tmp_path / "none.duckdb"):
        pass


@pytest.mark.parametrize("statement", ["COPY runs TO '{file}'", "SET threads = 1", "CREATE TEMP TABLE t AS SELECT 1"])
def test_what_is_no_question_does_not_run(reader: Reader, tmp_path: Path, statement: str) -> None:
    with pytest.raises(SelfRepairError, match="only SELECT is allowed"):
        reader.ask(statement.format(file=tmp_path / "leak.csv"))
    assert not (tmp_path / "leak.csv").exists()


def test_parameters_are_values_by_name_or_in_order(reader: Reader) -> None:
    assert reader.frame("SELECT $a + $b AS c", {"a": 1, "b": 2.5}).item() == 3.5
    assert reader.frame("FROM measurements WHERE pos IN (SELECT unnest(?)) AND layer = ?", [[0, 2], 2]).height == 2
    with pytest.raises(SelfRepairError, match=r"not provided.*: a"):
        reader.ask("SELECT $a", params={})
    with pytest.raises(SelfRepairError, match=r"excess parameters: b|Expected 0, got 1"):
        reader.ask("SELECT 1", params={"b": 1})


def test_columns_of_one_name_are_told_apart(reader: Reader) -> None:
    assert reader.frame("SELECT 1 AS a, 0.5 AS a, [2] AS A").row(0, named=True) == {"a": 1, "a_1": 0.5, "A_2": [2]}


def test_rows_come_in_batches_as_they_are_asked_for(reader: Reader) -> None:
    batches = reader.batches("FROM range(250000)", limit=200_000)
    heights = [batch.num_rows for batch in batches]
    assert max(heights) <= 100_000
    assert sum(heights) == 200_000
    assert batches.truncated
    stream = reader.batches("FROM range(100000000000)").to_reader()
    assert stream.read_next_batch().num_rows > 0


def test_an_error_on_the_way_is_told_in_the_same_words(reader: Reader) -> None:
    batches = reader.batches("SELECT\nCAST(if(range = 900000, 'x', '1') AS INTEGER) FROM range(1000000)")
    with pytest.raises(SelfRepairError, match=r"Could not convert string 'x' to INT32\n\nLINE 2: CAST"):
        batches.to_reader().read_all()


def test_rows_that_take_too_much_room_are_refused(reader: Reader) -> None:
    with pytest.raises(SelfRepairError, match=r"more than the 1 MB it may have. Select fewer rows"):
        list(reader.batches("FROM range(1000000)", most_bytes=1_000_000))


@pytest.mark.parametrize(
    "query", ["SELECT count(*) FROM range(1000000) a, range(1000000) b", "FROM range(10000000000)"]
)
def test_a_query_is_interrupted_at_its_time_limit(reader: Reader, query: str) -> None:
    began = time.monotonic()
    with pytest.raises(SelfRepairError, match=r"stopped at its time limit of 0.2 s. Narrow it down"):
        for _ in reader.batches(query, timeout_s=0.2):
            pass
    assert time.monotonic() - began < 5
    assert reader.frame("SELECT 1").item() == 1


def test_leaving_in_the_middle_of_an_answer_closes_the_file(tmp_path: Path) -> None:
    path = loaded(tmp_path)
    with Reader(path) as reader:
        rows = iter(reader.batches("FROM range(10000000)", timeout_s=60))  # held on to, as a caller may
        assert next(rows).num_rows > 0
        assert "time limit" in {thread.name for thread in threading.enumerate()}
    assert list(rows) == []
    assert "time limit" not in {thread.name for thread in threading.enumerate()}
    with duckdb.connect(path) as con:  # for writing, which a connection that is left open would not allow
        assert con.execute("CREATE TABLE mine AS SELECT 1 AS x").fetchall() == [(1,)]


def test_readers_of_one_process_share_the_file(tmp_path: Path) -> None:
    path = loaded(tmp_path)
    with Reader(path) as one, Reader(path) as other:
        assert one.frame("runs").height == other.frame("runs").height == 1
        with pytest.raises(SelfRepairError, match="may not be called"):
            other.ask("FROM read_text('/etc/passwd')")
    with duckdb.connect(path) as con:
        assert con.execute("SELECT current_setting('enable_external_access')").fetchall() == [(True,)]


def test_settings_are_as_the_limits_say(tmp_path: Path) -> None:
    path = loaded(tmp_path)
    with Reader(path, limits=Limits(memory_bytes=1_000_000_000, spill_bytes=3_000_000_000, n_threads=2)) as reader:
        row = reader._con.execute(
            "SELECT current_setting('memory_limit'), current_setting('max_temp_directory_size'), "
            "current_setting('threads'), current_setting('enable_external_access'), current_setting('temp_directory')"
        ).fetchall()[0]
    assert row[:4] == ("953.6 MiB", "2.7 GiB", 2, False)
    assert str(tmp_path) not in row[4]


def test_default_limits_are_those_of_this_machine() -> None:
    limits = Limits()
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    assert limits.memory_bytes == min(4_000_000_000, half)
    assert limits.answer_bytes == limits.memory_bytes // 4
    assert 1 <= limits.n_threads <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"memory_bytes": 1}, "memory_bytes takes 200_000_000 or more, which DuckDB needs, not 1"),
        ({"memory_bytes": 0}, "memory_bytes takes 200_000_000 or more"),
        ({"memory_bytes": -1}, "memory_bytes takes a whole number from 0, not -1"),
        ({"spill_bytes": -1}, "spill_bytes takes a whole number from 0, not -1"),
        ({"answer_bytes": -5}, "answer_bytes takes a whole number from 0, not -5"),
        ({"n_threads": -1}, "n_threads takes a whole number from 0, not -1"),
        ({"memory_bytes": "1GB"}, "memory_bytes takes a whole number, such as memory_bytes=2_000_000_000, not '1GB'"),
        (
            {"spill_bytes": 1e9},
            "spill_bytes takes a whole number, such as spill_bytes=20_000_000_000, not 1000000000.0",
        ),
        ({"n_threads": None}, "n_threads takes a whole number, such as n_threads=4, not None"),
        ({"n_threads": True}, "n_threads takes a whole number, such as n_threads=4, not True"),
    ],
)
def test_limits_say_what_they_take(wrong: dict[str, Any], message: str) -> None:
    kind = TypeError if "such as" in message else ValueError
    with pytest.raises(kind, match=message):
        Limits(**wrong)


def test_runs_whose_summaries_are_missing_are_named(tmp_path: Path) -> None:
    path = loaded(tmp_path)
    heard: list[str] = []
    with Reader(path, on_note=heard.append):
        assert heard == []
    with duckdb.connect(path) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
        assert marts.unsummarised(con) == [1]
    with Reader(path, on_note=heard.append) as reader:
        assert reader.frame("head_repair").is_empty()
    assert heard == ["run 1: its summaries are missing or out of date: selfrepair refresh"]
