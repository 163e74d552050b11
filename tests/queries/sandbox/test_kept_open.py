"""What an answer costs beside its rows: the file is opened once, and a view is looked at once."""

import io
from pathlib import Path

import pytest

from selfrepair.queries.sandbox import worker
from selfrepair.queries.sandbox.open_file_cache import Opened
from selfrepair.queries.sandbox.process import Request
from selfrepair.queries.sandbox.query import Query, SqlQuery, ViewQuery
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.database.limits import Limits


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "w.duckdb"
    with open_writer(path) as con:
        con.execute("CREATE TABLE mine AS SELECT 1::HUGEINT AS wide, [2::HUGEINT] AS several, 'x' AS word")
    return path


def answered(opened: Opened, db: Path, query: Query) -> dict[str, object]:
    request = Request(db, (query,), None, 60.0, 0.0, False, Limits(), None)
    return worker._answer(request, io.BytesIO(), opened)


def test_the_file_stays_open_after_no_rows_until_the_question_why_is_answered(db: Path, tmp_path: Path) -> None:
    openings: list[None] = []
    opened = Opened(tmp_path / "spill", on_wait=lambda text: None, on_open=lambda: openings.append(None))
    try:
        assert answered(opened, db, ViewQuery("mine", {"word": "y"}))["kind"] == "end"
        assert opened.poll_s() is not None
        assert answered(opened, db, SqlQuery("SELECT 1 AS one"))["kind"] == "end"
        assert len(openings) == 1
        assert opened.poll_s() is None, "an answer with rows closes it"
    finally:
        opened.close()


def test_a_views_types_are_looked_up_once_and_are_plain(db: Path) -> None:
    from selfrepair.queries.sandbox.reader import Reader

    query = ViewQuery("mine", {}, columns=["several", "wide"])
    with Reader(db) as reader:
        sql, params = query.to_sql(reader)
        types = query.types(reader)
        assert types == [("several", "HUGEINT[]"), ("wide", "HUGEINT")]
        assert reader.types("mine") is reader.types("mine")
        rows = reader.batches(sql, params, types=types).to_table()
        assert rows.to_pylist() == [{"several": [2], "wide": 1}]
        assert rows.equals(reader.batches(sql, params).to_table())
