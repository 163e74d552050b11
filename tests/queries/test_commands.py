"""`query`, `views` and `describe` as they are typed."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import duckdb
import polars as pl
import pytest
from click.testing import CliRunner, Result

from selfrepair.queries import catalog
from selfrepair.queries.commands import ROWS_ON_SCREEN, describe, query, views
from selfrepair.warehouse.migrate import migrate

N_ROWS = ROWS_ON_SCREEN + 5


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory, fill: Callable[..., None], one_row: Callable[..., Any]) -> Path:
    """A warehouse of a few more measured rows than a table shows."""
    path = tmp_path_factory.mktemp("db") / "w.duckdb"
    with duckdb.connect(path) as con:
        migrate(con)
        fill(con, [one_row(pos=pos) for pos in range(N_ROWS)])
    return path


def run(command: click.Command, *args: str | Path, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(command, [str(arg) for arg in args], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_a_table_says_what_it_shows(db: Path) -> None:
    lines = run(query, "SELECT pos, direct_effect FROM self_repair ORDER BY pos", "--db", db).stdout.splitlines()
    assert lines[:3] == ["pos  direct_effect", "---  -------------", "  0         5.0000"]
    assert len(lines) == 2 + ROWS_ON_SCREEN + 2
    assert lines[-2:] == ["", f"showing {ROWS_ON_SCREEN} of {N_ROWS} rows; more with --limit N"]


@pytest.mark.parametrize(
    ("limit", "said"), [("1", f"showing 1 of {N_ROWS} rows; more with --limit N"), ("99", "45 rows")]
)
def test_a_limit_is_heeded_and_said(db: Path, limit: str, said: str) -> None:
    assert run(query, "measurements", "--db", db, "--limit", limit).stdout.splitlines()[-1] == said


def test_every_column_is_printed_where_there_is_no_terminal(db: Path) -> None:
    names = run(query, "head_repair", "--db", db).stdout.splitlines()[0].split()
    assert names == [column.name for column in catalog.describe("head_repair").columns]


def test_csv_is_nothing_but_csv(db: Path) -> None:
    result = run(query, "SELECT pos, [label] AS labels FROM self_repair ORDER BY pos", "--db", db, "--csv")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows == [["pos", "labels"], *([str(pos), '["L2H1"]'] for pos in range(N_ROWS))]
    assert result.stderr == ""


def test_csv_of_no_rows_is_a_heading(db: Path) -> None:
    assert run(query, "SELECT pos FROM measurements WHERE pos < 0", "--db", db, "--csv").stdout == "pos\n"


def test_json_is_an_array_of_rows(db: Path) -> None:
    result = run(query, "SELECT count(*) AS n, sum(pos) AS s, ['x'] AS l FROM measurements", "--db", db, "--json")
    assert json.loads(result.stdout) == [{"n": N_ROWS, "s": sum(range(N_ROWS)), "l": ["x"]}]


def test_what_a_limit_cuts_is_said_beside_the_data(db: Path) -> None:
    result = run(query, "SELECT pos FROM measurements ORDER BY pos", "--db", db, "--csv", "--limit", "2")
    assert result.stdout == "pos\n0\n1\n"
    assert result.stderr == f"showing 2 of {N_ROWS} rows; more with --limit N\n"


def test_parquet_holds_all_rows_and_types(db: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("an older file")
    result = run(query, "self_repair", "--db", db, "--parquet", path)
    assert (result.stdout, result.stderr) == ("", f"wrote {N_ROWS} rows to {path}\n")
    frame = pl.read_parquet(path)
    assert frame.height == N_ROWS
    assert frame.columns == [column.name for column in catalog.describe("self_repair").columns]
    assert frame.schema["self_repair"] == pl.Float32


def test_a_query_can_come_from_standard_input(db: Path) -> None:
    assert run(query, "-", "--db", db, "--csv", stdin="SELECT 1 AS a;\n").stdout == "a\n1\n"


def test_one_format_at_a_time(db: Path) -> None:
    result = CliRunner().invoke(query, ["runs", "--db", str(db), "--csv", "--json"])
    assert result.exit_code == 2
    assert "--csv, --json and --parquet exclude each other; give one." in result.stderr


def test_views_lists_everything_once() -> None:
    listed = run(views).stdout.splitlines()
    names = [line.split()[0] for line in listed if line.startswith("  ") and not line.startswith("   ")]
    assert sorted(names) == sorted(catalog.relations())
    assert names.index("head_repair") < names.index("head_sums") < names.index("runs")


def test_describe_tells_types_units_and_meanings() -> None:
    text = run(describe, "head_repair", "tokens").stdout
    assert text.startswith("head_repair (view): Self-repair of every ablated head")
    assert "\n\ntokens (table): One row per measured position" in text
    assert "One row for each run_id, ablation, population, layer, head. Paper: section 3" in text
    words = [line.split() for line in text.splitlines()]
    assert ["depth", "DOUBLE", "%", "How", "deep"] in [line[:5] for line in words]
    assert ["clean_entropy", "FLOAT", "nats", "Entropy"] in [line[:4] for line in words]


@pytest.mark.parametrize("columns", ["100", "200"])
def test_descriptions_keep_to_the_screen(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for result in (run(describe, "tokens", "self_repair"), run(views)):
        assert max(map(len, result.stdout.splitlines())) <= int(columns)
