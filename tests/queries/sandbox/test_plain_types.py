"""Every type of DuckDB's through every door: a frame, a table and files have its value, or an error names the cast."""

import csv
import importlib.util
import io
import json
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.exceptions import PanicException

from selfrepair.queries.cli.text_table import text_table
from selfrepair.queries.export.files import Format, write_rows
from selfrepair.queries.sandbox.answer import needing_plain_types
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from support.empty import installed

VALUES: dict[str, tuple[Any, Any]] = {
    "1::TINYINT": (1, 1),
    "18446744073709551615::UBIGINT": (2**64 - 1, 2**64 - 1),
    "5::HUGEINT": (5, 5),
    "6::UHUGEINT": (6, 6),
    "0.5": (0.5, 0.5),
    "'nan'::DOUBLE": (None, None),
    "'12345678901234567890123456789012345678901'::BIGNUM": ("12345678901234567890123456789012345678901",) * 2,
    r"'\xAA\x00'::BLOB": (r"\xAA\x00", r"\xAA\x00"),
    "'101'::BIT": ("101", "101"),
    "'eeccb8c5-9943-b2bb-bb5e-222f4e14b687'::UUID": ("eeccb8c5-9943-b2bb-bb5e-222f4e14b687",) * 2,
    "DATE '2026-01-02'": (date(2026, 1, 2), "2026-01-02"),
    "TIME '12:34:56'": (time(12, 34, 56), "12:34:56"),
    "'12:34:56+02:30'::TIMETZ": ("12:34:56+02:30", "12:34:56+02:30"),
    "TIMESTAMP '9999-12-31 23:59:59.999999'": (datetime.max, "9999-12-31 23:59:59.999999"),
    "'2026-01-02 03:04:05'::TIMESTAMP_S": (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05"),
    "INTERVAL '1 month 2 hours'": ("1 month 02:00:00", "1 month 02:00:00"),
    "'x'::ENUM('x', 'y')": ("x", "x"),
    "NULL": (None, None),
    "union_value(num := 2)": ("2", "2"),
    "{'a': 1}::VARIANT": ("{'a': 1}", "{'a': 1}"),
    "'POINT(1 2)'::GEOMETRY": ("POINT (1 2)", "POINT (1 2)"),
    "MAP {1: 'a'}": ({1: "a"}, {"1": "a"}),
    "MAP {DATE '2026-01-02': 1}": ({date(2026, 1, 2): 1}, {"2026-01-02": 1}),
    "MAP {[1, 2]: 'a'}": ({"[1, 2]": "a"}, {"[1, 2]": "a"}),
    r"MAP {'\xAA'::BLOB: INTERVAL 1 DAY}": ({r"\xAA": "1 day"}, {r"\xAA": "1 day"}),
}
"""What a value is in a frame, and in JSON, where NaN is null."""

OUT_OF_RANGE = (
    *("'infinity'::DATE", "'-infinity'::TIMESTAMP", "'infinity'::TIMESTAMP_NS", "'infinity'::TIMESTAMPTZ"),
    *("DATE '2020-01-01' + 10000000", "'0044-03-15 (BC)'::TIMESTAMP", "'24:00:00'::TIME"),
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with Reader(installed(tmp_path_factory.mktemp("types"))) as reader:
        yield reader


def written(reader: Reader, sql: str, kind: Format) -> bytes:
    to = io.BytesIO()
    rows = reader.batches(sql, flat=kind == "csv", text_keys=kind in ("json", "jsonl"))
    assert write_rows(rows.to_reader(), to, kind) == 1
    return to.getvalue()


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_through_every_door(reader: Reader, value: str) -> None:
    in_frame, in_json = VALUES[value]
    sql = f"SELECT {value} AS v, [{value}, NULL] AS l, {{'f': [MAP {{'k': {value}}}]}} AS s"
    frame = reader.frame(sql)
    assert frame.fill_nan(None).to_dicts()[0]["v"] == in_frame
    found = frame.to_dicts()[0]
    if in_frame is not None:
        assert (found["l"], found["s"]) == ([in_frame, None], {"f": [{"k": in_frame}]})
        assert pl.read_parquet(written(reader, sql, "parquet")).to_dicts() == [found]
    expected = {"v": in_json, "l": [in_json, None], "s": {"f": [{"k": in_json}]}}
    assert json.loads(written(reader, sql, "jsonl")) == expected
    assert json.loads(written(reader, sql, "json")) == [expected]
    ((_, of_list, of_struct),) = list(csv.reader(io.StringIO(written(reader, sql, "csv").decode())))[1:]
    assert of_list.startswith("[")
    assert of_list.endswith(("null]", "NULL]"))
    assert of_struct.startswith("{")
    flat = reader.ask(sql, flat=True).frame
    assert text_table(flat).text
    if importlib.util.find_spec("streamlit"):  # which the environment of the other DuckDB lacks
        from streamlit.dataframe_util import convert_anything_to_arrow_bytes

        assert convert_anything_to_arrow_bytes(flat)


@pytest.mark.parametrize("within", ["{}", "[{}]", "{{'f': {}}}", "MAP {{{}: 1}}", "MAP {{1: [{}]}}", "array_value({})"])
@pytest.mark.parametrize("value", OUT_OF_RANGE)
def test_a_date_that_python_does_not_have_is_refused_and_has_text(reader: Reader, value: str, within: str) -> None:
    sql = f"SELECT {within.format(value)} AS v"
    for text_keys in (False, True) if within.startswith(("{}", "[")) else (False,):
        with pytest.raises(SelfRepairError, match=r'^column v has a date .* Have it as text: CAST\("v" AS VARCHAR\)$'):
            reader.batches(sql, text_keys=text_keys).to_answer()
    assert reader.frame(f'SELECT CAST("v" AS VARCHAR) AS v FROM ({sql})')["v"].item()


@pytest.mark.parametrize("rows", ["sum(hash(range)) AS v", "1 AS one, [sum(hash(range))] AS v"])
def test_a_number_of_128_bits_is_told_without_sql_that_nobody_wrote(reader: Reader, rows: str) -> None:
    with pytest.raises(SelfRepairError) as raised:
        reader.frame(f"SELECT {rows} FROM range(3000)")
    number = reader.frame("SELECT CAST(sum(hash(range)) AS VARCHAR) AS v FROM range(3000)")["v"].item()
    assert str(raised.value) == (
        f"column v has the whole number {number}, which takes more than 64 bits. "
        'Round it, CAST("v" AS DOUBLE), or have it as text: CAST("v" AS VARCHAR)'
    )


def test_a_cast_of_ones_own_is_quoted_as_it_was_written(reader: Reader) -> None:
    with pytest.raises(SelfRepairError, match=r"INT64(?s:.*)LINE 1: SELECT CAST\(x AS BIGINT\)"):
        reader.frame("SELECT CAST(x AS BIGINT) + 0::HUGEINT AS y FROM (SELECT 9223372036854775808::HUGEINT AS x)")


def test_a_panic_of_a_library_is_an_error_like_any_other() -> None:
    infinite = pl.Series([2**31 - 1], dtype=pl.Int32).cast(pl.Date)
    with pytest.raises(PanicException):
        infinite.to_list()
    with pytest.raises(SelfRepairError, match=r"cannot be given out \(.*date.*CAST"), needing_plain_types():
        infinite.to_list()


def test_fields_without_names_are_text(reader: Reader) -> None:
    sql = "SELECT row(1, 'x') AS v, [row(1, 'x')] AS l"
    assert reader.frame(sql)["v"].item() == "(1, x)"
    assert "(1, x)" in str(json.loads(written(reader, sql, "jsonl"))["l"])


@pytest.mark.slow
def test_doors_of_the_process_ask_for_what_their_format_holds(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from selfrepair.queries.cli.query import query

    db = installed(tmp_path)
    for option, expected in (("--json", '{"m":{"1":"a"}}'), ("--csv", '"{""1"":""a""}"')):
        assert expected in CliRunner().invoke(query, ["SELECT MAP {1: 'a'} AS m", option, "--db", str(db)]).stdout
