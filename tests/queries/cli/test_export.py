"""The command that writes files."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import click
import polars as pl
import pytest
from click.testing import CliRunner

from selfrepair.queries.cli.export import export
from selfrepair.queries.export.files import FORMATS
from support.commands import run


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


def test_export_all_is_a_folder(loaded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    result = run(export, "--all", "--db", loaded, "-o", folder)
    (said,) = result.stdout.splitlines()
    assert said.startswith("wrote ")
    assert said.endswith(f" rows to {folder}; what they are: {folder / 'README.md'}")
    assert "measurements: 1,728 rows\n" in result.stderr
    assert pl.read_parquet(folder / "runs" / "**" / "*.parquet")["run_id"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "name what to write: a question, a table, a view or SQL; or give --all."),
        (("runs", "--all"), "--all writes everything as Parquet; give nothing with it but -o FOLDER."),
        (("--all", "--limit", "3"), "--all writes everything as Parquet"),
    ],
)
def test_export_needs_one_thing_to_write(args: tuple[str, ...], message: str, loaded: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(export, [*args, "--db", str(loaded), "-o", str(tmp_path / "a.csv")])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
