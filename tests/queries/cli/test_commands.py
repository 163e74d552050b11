"""The commands that ask, as they are typed."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.describe import BLOCKS, TABLES
from selfrepair.queries.cli.export import export
from selfrepair.queries.cli.names import describe, questions, views
from selfrepair.queries.cli.printing import MOST_ROWS_ON_SCREEN
from selfrepair.queries.cli.query import ROWS_ON_SCREEN, query
from selfrepair.queries.export.files import FORMATS
from selfrepair.warehouse.errors import SelfRepairError
from support.commands import listed, run
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import stored

N_ROWS = ROWS_ON_SCREEN + 5
MAIN = "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"


@pytest.fixture(scope="module")
def db(
    tmp_path_factory: pytest.TempPathFactory,
    fill: Callable[..., None],
    one_row: Callable[..., Any],
    summarise: Callable[..., None],
) -> Path:
    """A warehouse of a few more measured rows than a table shows."""
    path = installed(tmp_path_factory.mktemp("db"))
    with duckdb.connect(path) as con:
        fill(con, [one_row(pos=pos) for pos in range(N_ROWS)])
        summarise(con)
    return path


def test_a_table_says_what_it_shows(db: Path) -> None:
    lines = run(query, "SELECT pos, direct_effect FROM self_repair ORDER BY pos", "--db", db).stdout.splitlines()
    assert lines[:3] == ["pos  direct_effect", "---  -------------", "  0         5.0000"]
    assert len(lines) == 2 + ROWS_ON_SCREEN + 2
    assert lines[-2:] == ["", f"the first {ROWS_ON_SCREEN} rows; more with --limit N"]


@pytest.mark.parametrize(
    ("limit", "said"), [("1", "the first 1 row; more with --limit N"), ("45", "45 rows"), ("99", "45 rows")]
)
def test_a_limit_is_heeded_and_said(db: Path, limit: str, said: str) -> None:
    assert run(query, "measurements", "--db", db, "--limit", limit).stdout.splitlines()[-1] == said


def test_a_first_look_at_a_wide_view_is_its_headline_over_the_top_rows(db: Path) -> None:
    said, _, header, _, first, *_, last = run(query, "head_repair", "--db", db).stdout.splitlines()
    assert said == "run_id 1, model model-1, ablation resample"  # the same in all rows
    shown = [name for name in catalog.describe("head_repair").headline if name != "mean_repair_post_norm"]
    assert header.split() == ["population", *shown]  # no model here has post-norms
    assert first.split()[0] == "top2"
    assert last == "11 of 108 columns. Others: --columns all or --columns A,B; all in a file: -o FILE"


def test_every_column_is_printed_where_all_are_asked_for(db: Path) -> None:
    result = run(query, "head_repair", "--db", db, "--columns", "all", "--param", "population=all")
    header = result.stdout.splitlines()[0]
    names = [column.name for column in catalog.describe("head_repair").columns]
    assert header.split() == [name for name in names if "post_norm" not in name]  # no model here has post-norms
    assert len(header.split()) == 108


def test_post_norm_repair_is_printed_where_a_model_has_it_or_it_is_named(tmp_path: Path) -> None:
    db = stored(tmp_path, fabricate("one", n_units=1), fabricate("two", n_units=1, model="normed", post_norms=True))
    for name in ("head_repair", "most_repaired_heads"):
        for run_id, has_it in ((1, False), (2, True)):
            shown = run(query, name, "--db", db, "--param", f"run_id={run_id}").stdout
            assert ("mean_repair_post_norm" in shown) == has_it, name
    sql = "SELECT mean_repair_post_norm FROM model_repair WHERE run_id = 1"
    assert "mean_repair_post_norm" in run(query, sql, "--db", db).stdout


def test_columns_and_rows_of_a_view_are_chosen_by_options(loaded: Path) -> None:
    args = ("--param", "head=L1H2", "--param", "model=two", "--param", "population=top2", "--columns", "ablation,label")
    rows = list(csv.DictReader(io.StringIO(run(query, "head_repair", "--db", loaded, *args, "--csv").stdout)))
    assert rows == [{"ablation": kind, "label": "L1H2"} for kind in ("resample", "mean", "zero")]
    of_question = ("--param", "head=L1H2", "--param", "run=1", "--columns", "measure,gini", "--csv")
    assert run(query, "tail_of_head", "--db", loaded, *of_question).stdout.startswith("measure,gini\n")


def test_columns_of_sql_are_written_in_it(db: Path) -> None:
    result = CliRunner().invoke(query, ["SELECT 1", "--db", str(db), "--columns", "a"])
    assert result.exit_code == 2
    assert "--columns goes with the name of a question, table or view" in result.stderr


def test_a_file_gets_every_column_in_the_format_of_its_name(db: Path, tmp_path: Path) -> None:
    path = tmp_path / "heads.csv"
    assert run(query, "head_repair", "--db", db, "-o", path).stderr == f"wrote 3 rows to {path}\n"
    assert pl.read_csv(path).columns == [column.name for column in catalog.describe("head_repair").columns]


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
    assert result.stderr == "wrote 2 rows; the others were cut off by --limit\n"


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
    assert "--csv, --json, --parquet and -o are mutually exclusive; give one." in result.stderr


def test_views_lists_everything_once_and_building_blocks_last() -> None:
    text = run(views).stdout
    names = listed(text)
    assert sorted(names) == sorted(catalog.relations())
    blocks = [relation.name for relation in catalog.relations().values() if relation.is_building_block]
    assert sorted(names[-len(blocks) :]) == sorted(blocks)
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[0] == "Self-repair:"
    assert headings[-2:] == [f"{TABLES}:", f"{BLOCKS}:"]
    assert "Building block:" not in text


def test_topics_are_the_folders_of_the_files() -> None:
    folders = {path.name for path in (Path(catalog.__file__).parents[1] / "views").iterdir()}
    headings = [line[:-1] for line in run(views).stdout.splitlines() if re.match("[^ ].*:$", line)]
    as_folders = {heading.lower().replace("-", "_").replace(" ", "_") for heading in headings[:-2]}
    assert as_folders == folders


def test_describe_tells_types_units_and_meanings() -> None:
    text = run(describe, "head_repair", "tokens").stdout
    assert text.startswith("head_repair (view): Self-repair of every ablated head")
    assert "\n\ntokens (table): One row per measured position" in text
    assert "One row for each run_id, ablation, population, layer, head. Paper: section 3" in text
    words = [line.split() for line in text.splitlines()]
    assert ["depth", "DOUBLE", "%", "How", "deep"] in [line[:5] for line in words]
    assert ["clean_entropy", "FLOAT", "nats", "Entropy"] in [line[:4] for line in words]
    assert ["ablation", "ENUM", "What"] in [line[:3] for line in words]


@pytest.mark.parametrize("name", ["head_repair", "layer_repair", "model_repair"])
def test_describe_warns_of_clipped_fractions_of_all_rows(name: str) -> None:
    clipped = [column for column in catalog.describe(name).columns if re.fullmatch("clipped_.*_fraction", column.name)]
    assert len(clipped) == 5
    assert all("unreliable in population all" in column.description for column in clipped)
    assert "unreliable in population all" in " ".join(run(describe, name).stdout.split())


@pytest.mark.parametrize("columns", ["100", "200"])
def test_descriptions_keep_to_the_screen(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for result in (
        run(describe, "tokens", "self_repair"),
        run(views),
        run(questions),
        run(questions, "strongest_rows"),
    ):
        assert max(map(len, result.stdout.splitlines())) <= int(columns)


# Export


@pytest.mark.parametrize("kind", FORMATS)
def test_export_writes_every_format(kind: str, loaded: Path, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    result = run(
        export, "SELECT label, [layer] AS layers FROM head_repair ORDER BY 1 LIMIT 2", "--db", loaded, "-o", path
    )
    assert (result.stdout, result.stderr) == ("", f"wrote 2 rows to {path}\n")
    reading: dict[str, Callable[[Path], pl.DataFrame]] = {
        "parquet": pl.read_parquet,
        "csv": pl.read_csv,
        "json": pl.read_json,
        "jsonl": pl.read_ndjson,
    }
    layers = ["[0]", "[0]"] if kind == "csv" else [[0], [0]]
    assert reading[kind](path).to_dict(as_series=False) == {"label": ["L0H0"] * 2, "layers": layers}


def test_export_answers_questions_with_a_limit_and_a_format(loaded: Path, tmp_path: Path) -> None:
    path = tmp_path / "heads.txt"
    args = ("most_repaired_heads", "--db", loaded, "-o", path, "--format", "csv", "--limit", "2")
    assert (
        run(export, *args, "--param", "model=one").stderr
        == f"wrote 2 rows to {path}; the others were cut off by --limit\n"
    )
    assert [row["model"] for row in csv.DictReader(io.StringIO(path.read_text()))] == ["one", "one"]


def test_export_takes_the_formats_that_are_written() -> None:
    (option,) = (param for param in export.params if param.name == "kind")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == FORMATS


def test_export_needs_something_to_write(loaded: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(export, ["--db", str(loaded), "-o", str(tmp_path / "a.csv")])
    assert result.exit_code == 2
    assert (
        "name what to write: a question, a table, a view or SQL. The whole warehouse: selfrepair publish"
        in result.stderr
    )


@pytest.mark.parametrize(("limit", "n_lines"), [((), 0), (("--limit", "3"), 4)])
def test_a_screen_is_not_flooded(limit: tuple[str, ...], n_lines: int, loaded: Path) -> None:
    reading, writing = pty.openpty()
    sql = f"SELECT range AS i FROM range({MOST_ROWS_ON_SCREEN + 1})"
    command = [sys.executable, "-c", MAIN, "query", sql, "--csv", "--db", str(loaded), *limit]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writing)
    printed = os.read(reading, 10_000) if n_lines else b""
    os.close(reading)
    assert len(printed.splitlines()) == n_lines
    assert (done.returncode == 1) == (n_lines == 0)
    if not n_lines:
        assert "the answer has more than 10,000 rows, too many for a screen. Give --limit N, send it" in done.stderr
        assert "selfrepair export ... -o rows.csv" in done.stderr


@pytest.mark.parametrize("command", [query, export])
def test_a_file_of_no_format_is_told_an_option_that_there_is(command: click.Command, db: Path, tmp_path: Path) -> None:
    with pytest.raises(SelfRepairError, match=r"'\.xlsx' is not one of") as raised:
        run(command, "runs", "--db", db, "-o", tmp_path / "runs.xlsx")
    (option,) = re.findall("or give (--[a-z]+) ", str(raised.value))
    assert option in {name for param in command.params for name in param.opts}


@pytest.mark.parametrize(
    "endless",
    [
        "SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b",
        "SELECT levenshtein(repeat('ab', 200000), repeat('ba', 200000))",  # one call, which DuckDB cannot interrupt
    ],
)
def test_a_query_ends_when_its_time_is_up(endless: str, db: Path) -> None:
    command = [sys.executable, "-c", MAIN, "query", endless, "--db", str(db), "--timeout", "0.5"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "the query was stopped at its time limit of 0.5 s" in found.stderr
    assert "Traceback" not in found.stderr
