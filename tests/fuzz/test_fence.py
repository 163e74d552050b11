"""Whatever is asked for, an answer or a SelfRepairError comes back, and nothing outside of the file is read or written."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfrepair import Limits
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from support.loaded import loaded
from support.tiers import examples

HIDDEN = "hidden-7f3a"
FILE = "FOLDER/secret.csv"
"""FOLDER stands for the one in which the warehouse lies."""

_NAMES = (
    *("runs", "main.runs", "w.main.runs", '"RUNS"', "self_repair", "head_repair", "range(3)"),
    *("unnest([1, 2])", "x", "y"),
    *("duckdb_tables()", "duckdb_settings()", "duckdb_secrets()", "duckdb_databases", "pg_settings", "sqlite_master"),
    *("information_schema.tables", "pragma_database_list", "duckdb_logs", "(VALUES (1))", "os"),
    *("frame", "(SHOW TABLES)"),
)
_READERS = (
    *("read_csv", "read_text", "read_blob", "read_json", "read_parquet", "parquet_schema", "sniff_csv"),
    *("glob", "query"),
    *("query_table", "READ_TEXT", "system.main.read_text", '"read_text"', "arrow_scan"),
    *("pragma_table_info", "my_macro"),
)
_FUNCTIONS = (
    *("getenv", "current_setting", "read_text", "count", "max", "lower", "json_serialize_sql"),
    *("list_transform", "unnest"),
    *("combine", "finalize", "to_json", "nextval", "getvariable", "error", "try", "typeof"),
    *("json_execute_serialized_sql",),
)
_TYPES = (
    "INTEGER",
    "VARCHAR[]",
    "INTEGER[0]",
    "INTEGER[3]",
    "DECIMAL(99, 1)",
    "MAP(INTEGER)",
    "BLOB",
    "JSON",
    "FOO",
    "BIT",
)
_ODD = (
    "/* x */",
    "--\n",
    "--\r",
    "\u00a0",
    "\u200b",
    "\ufeff",
    ";",
    "\\",
    "$$",
    "'",
    '"',
    "\0",
    "\ud800",
    "{",
    ")",
    "\U0001f4a5",
)

_NEVER_SAID = ("site-packages", "this is a SELECT statement", "SET max_", "INSTALL spatial", "INSTALL inet")
"""Paths of the installation, and what DuckDB advises that cannot be done here."""

literals = st.sampled_from(
    (f"'{FILE}'", "'FZ_SECRET'", "'/etc/hostname'", "'a'", "1", "NULL", "-1", "1e400", "[1]", "{'a': 1}")
)


def _extended(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    expressions = st.one_of(
        literals,
        st.sampled_from(("*", "run_id", "COLUMNS('.*')", "$1", "?", "#1", "DEFAULT")),
        st.builds("({})".format, inner),
        st.builds("EXISTS ({})".format, inner),
        st.builds("{}({})".format, st.sampled_from(_FUNCTIONS), literals),
        st.builds("list_transform([1], lambda x: ({}))".format, inner),
        st.builds("{}::{}".format, literals, st.sampled_from(_TYPES)),
        st.builds("{}.{}()".format, literals, st.sampled_from(_FUNCTIONS)),
    )
    sources = st.one_of(
        st.sampled_from(_NAMES),
        st.sampled_from((f"'{FILE}'", f'"{FILE}"', "'FOLDER/*'", "'https://127.0.0.1:9/x.csv'", "'FOLDER/w.duckdb'")),
        st.builds("{}({})".format, st.sampled_from(_READERS), literals),
        st.builds("({}) AS t".format, inner),
        st.builds("LATERAL ({})".format, inner),
    )
    joined = st.one_of(
        sources,
        st.builds(
            "{} {} {}".format,
            sources,
            st.sampled_from((",", "CROSS JOIN", "POSITIONAL JOIN", "NATURAL JOIN", "UNION ALL FROM", "EXCEPT FROM")),
            sources,
        ),
    )
    return st.one_of(
        st.builds("SELECT {} FROM {}".format, expressions, joined),
        st.builds("SELECT {}".format, expressions),
        st.builds("FROM {}".format, joined),
        st.builds("SELECT * FROM {} ORDER BY {}".format, joined, expressions),
        st.builds("WITH x AS ({}) FROM x".format, inner),
        st.builds(f"WITH \"{FILE}\" AS ({{}}) FROM '{FILE}'".format, inner),
        st.builds("WITH RECURSIVE x AS ({} UNION ALL FROM x) FROM x LIMIT 3".format, inner),
        st.builds("{} UNION ALL {}".format, inner, inner),
        st.builds("PIVOT ({}) ON run_id USING count(*)".format, inner),
        st.builds("SUMMARIZE {}".format, joined),
        st.builds("DESCRIBE {}".format, inner),
        st.builds("SHOW {}".format, joined),
        st.builds("TABLE {}".format, joined),
    )


queries = st.recursive(
    st.sampled_from(("SELECT 1", "FROM runs", f"FROM '{FILE}'", "VALUES (1)")), _extended, max_leaves=5
)
statements = st.one_of(
    queries,
    st.builds(
        "{} {}".format,
        st.sampled_from(
            (
                *("EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN (FORMAT json)", "PREPARE p AS", "EXECUTE"),
                *("CALL", "PRAGMA", "SET"),
                *("CREATE TEMP TABLE t AS", "CREATE MACRO m() AS TABLE", "ATTACH", "INSTALL", "LOAD"),
                *("IMPORT DATABASE",),
                *("INSERT INTO runs", "EXPLAIN ANALYZE INSERT INTO runs", "SELECT 1;", "FROM runs;"),
                *("BEGIN;", "EXPORT"),
            )
        ),
        queries,
    ),
    st.builds(
        "{}COPY ({}) TO 'FOLDER/out.csv'".format, st.sampled_from(("", "EXPLAIN ANALYZE ", "SELECT 1; ")), queries
    ),
    st.builds("WITH x AS (COPY ({}) TO 'FOLDER/out.csv') FROM x".format, queries),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A statement, or one with something odd in it, cut off, or with a part of another."""
    text = draw(statements)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(_ODD)) + text[at + draw(st.integers(0, 2)) :]
    return text


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("fuzz")
    db = loaded(folder)
    (folder / "secret.csv").write_text(f"a,b\n1,{HIDDEN}\n")
    os.environ["FZ_SECRET"] = HIDDEN
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with Reader(db, limits=Limits(memory_bytes=400_000_000, spill_bytes=1_000_000, n_threads=1)) as reader:
        yield reader
    del os.environ["FZ_SECRET"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@example("SELECT 1::INTEGER[0]")
@example("SELECT 1::MAP(INTEGER)")
@example("EXPLAIN ANALYZE PRAGMA database_list")
@example("SELECT host(inet '127.0.0.1')")
@example("SELECT " + "[" * 5_000 + "]" * 5_000)
@given(mutated())
@examples(quick=60, full=200)
def test_a_statement_is_answered_or_refused_and_reads_nothing_else(reader: Reader, statement: str) -> None:
    text = statement.replace("FOLDER", str(Path(reader.db).parent))
    try:
        said = str(reader.batches(text, limit=20, timeout_s=5).to_table().to_pydict())
    except SelfRepairError as error:
        said = str(error)
    assert not any(words in said for words in (HIDDEN, *_NEVER_SAID)), said
