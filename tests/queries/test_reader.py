"""Questions to a warehouse file: names and SQL, plain polars types, and errors that say what to do."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from selfrepair.queries.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.migrate import migrate

Fill = Callable[..., None]
HELP = "Tables and views: selfrepair views. Their columns: selfrepair describe NAME"


@pytest.fixture
def reader(tmp_path: Path, fill: Fill, one_row: Callable[..., Any]) -> Iterator[Reader]:
    """A warehouse of three measured rows, with a table and a view of the user's own."""
    path = tmp_path / "w.duckdb"
    with duckdb.connect(path) as con:
        migrate(con)
        fill(con, [one_row(pos=pos) for pos in range(3)])
        con.execute('CREATE TABLE "Notes" AS SELECT 1 AS n')
        con.execute("CREATE VIEW mine AS SELECT 2 AS n")
    with Reader(path) as reader:
        yield reader


def test_a_name_gives_its_rows(reader: Reader) -> None:
    assert reader.frame("layer_repair")["n_rows"].to_list() == [3, 1]
    assert reader.frame(" models;\n")["name"].to_list() == ["model-1"]
    assert reader.frame("notes").to_dicts() == [{"n": 1}]
    assert reader.frame("mine").to_dicts() == [{"n": 2}]


def test_sql_gives_its_rows(reader: Reader) -> None:
    query = "SELECT label, self_repair FROM self_repair WHERE pos = 1 -- one row\n;"
    assert reader.frame(query).to_dicts() == [{"label": "L2H1", "self_repair": 1.0}]


@pytest.mark.parametrize(("limit", "height"), [(None, 3), (0, 0), (2, 2), (3, 3), (4, 3)])
def test_a_limit_cuts_the_rows_and_not_the_count(reader: Reader, limit: int | None, height: int) -> None:
    answer = reader.ask("SELECT pos FROM measurements ORDER BY pos DESC", limit)
    assert answer.frame["pos"].to_list() == [2, 1, 0][:height]
    assert answer.n_rows == 3


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
        ("SET threads = 1", "the statement is no question, and a warehouse is only read here; ask with SELECT."),
        ("DELETE FROM runs", "the statement is no question"),
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
    with pytest.raises(SelfRepairError, match=r"is no question.*ask with SELECT"):
        reader.ask(statement.format(file=tmp_path / "leak.csv"))
    assert not (tmp_path / "leak.csv").exists()
