"""Files: every format holds the rows, appears whole or not at all, and a folder opens in other programs."""

import csv
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from selfrepair.queries.catalog.describe import public
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.export import files as export
from selfrepair.queries.export.files import FORMATS, Format, format_of, write_file
from selfrepair.queries.export.folder import export_all
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import stored
from support.tiers import first_of_each

NAME = "hub/mod el=1%é"
"""A model whose name no folder can have as it is."""

FRAME = pl.DataFrame(
    {
        "a": [1, None, 3],
        "text": ['a "b",\n', "", None],
        "x": [0.5, float("nan"), None],
        "at": [datetime(2026, 1, 2, 3, 4, 5), None, None],
    }
)


def stream(frame: pl.DataFrame, rows_at_once: int = 2) -> pa.RecordBatchReader:
    table = frame.to_arrow()
    return pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=rows_at_once)))


def failing(frame: pl.DataFrame, error: BaseException) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        yield frame.to_arrow().to_batches()[0]
        raise error

    return pa.RecordBatchReader.from_batches(frame.to_arrow().schema, batches())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.parquet", "parquet"), ("a.CSV", "csv"), ("a.b.json", "json"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl")],
)
def test_the_end_of_the_name_is_the_format(name: str, kind: Format) -> None:
    assert format_of(Path(name), "") == kind


@pytest.mark.parametrize(("name", "found"), [("a.xlsx", "'.xlsx' is not one of"), ("a", "its name ends in none of")])
def test_a_name_that_says_no_format_is_refused(name: str, found: str) -> None:
    with pytest.raises(SelfRepairError) as raised:
        format_of(Path(name), "--parquet FILE")
    assert str(raised.value) == (
        f"{name} does not say how to write it: {found} .parquet, .csv, .json, .jsonl, .ndjson. "
        "Change its name, or give --parquet FILE"
    )


def test_parquet_keeps_rows_and_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert write_file(stream(FRAME), path, "parquet") == 3
    assert_frame_equal(pl.read_parquet(path), FRAME)


def test_csv_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert write_file(stream(FRAME), path, "csv") == 3
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["a"] for row in rows] == ["1", "", "3"]
    assert [row["text"] for row in rows] == ['a "b",\n', "", ""]
    assert [row["x"] for row in rows] == ["0.5", "NaN", ""]


@pytest.mark.parametrize("rows_at_once", [1, 2, 3])
def test_json_is_an_array_or_lines(rows_at_once: int, tmp_path: Path) -> None:
    for kind, path in (("json", tmp_path / "a.json"), ("jsonl", tmp_path / "a.jsonl")):
        assert write_file(stream(FRAME, rows_at_once), path, kind) == 3  # type: ignore[arg-type]
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text) if kind == "json" else list(map(json.loads, text.splitlines()))
        assert [(row["a"], row["text"], row["x"]) for row in rows] == [
            (1, 'a "b",\n', 0.5),
            (None, "", None),
            (3, None, None),
        ]


@pytest.mark.parametrize(("kind", "text"), [("csv", "a,text,x,at\n"), ("json", "[]\n"), ("jsonl", "")])
def test_no_rows_are_a_file_too(kind: Format, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert write_file(stream(FRAME.clear()), path, kind) == 0
    assert path.read_text() == text


def test_a_json_array_has_a_bound_and_lines_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST_ROWS", {"json": 2})
    path = tmp_path / "a.json"
    with pytest.raises(SelfRepairError) as raised:
        write_file(stream(FRAME), path, "json")
    assert str(raised.value) == (
        "the answer has more than 2 rows, too many for one JSON array. Write .jsonl or .parquet, or select fewer rows."
    )
    assert list(tmp_path.iterdir()) == []
    assert write_file(stream(FRAME.head(2)), path, "json") == 2
    assert write_file(stream(FRAME), tmp_path / "a.jsonl", "jsonl") == 3


@pytest.mark.parametrize("error", [SelfRepairError("out of time"), KeyboardInterrupt()])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_breaks_off_leaves_the_older_file(kind: Format, error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("older")
    with pytest.raises(type(error)):
        write_file(failing(FRAME, error), path, kind)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "older"


def test_what_the_system_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(SelfRepairError, match=r"there is no folder .*none\. Make it, or name another\."):
        write_file(stream(FRAME), tmp_path / "none" / "a.csv", "csv")
    with pytest.raises(
        SelfRepairError, match=r"could not be written: No space left on device\. The incomplete file was removed\."
    ):
        write_file(failing(FRAME, OSError(28, "No space left on device")), tmp_path / "a.csv", "csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SelfRepairError, match=r"could not be written: Is a directory"):
        write_file(stream(FRAME), tmp_path / "folder", "csv")


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    own = files.temporary_name("a.csv")  # another thread may be writing it
    ours = f"{os.getpid()}-{files._PROCESS}"
    killed = [own.replace(ours, namesake) for namesake in (f"{os.getpid()}-000000", str(os.getpid()))]
    for name in (own, *killed):
        (tmp_path / name).write_text("half")
    write_file(stream(FRAME), tmp_path / "a.csv", "csv")
    assert sorted(file.name for file in tmp_path.iterdir()) == [own, "a.csv"]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Batches are written as they come: the hundredth is asked for when the first ninety-nine are let go."""
    batch = pa.record_batch({"x": pa.array(range(50_000), pa.int64())})
    held = []

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(100):
            held.append(pa.total_allocated_bytes())
            yield pa.record_batch({"x": pa.array(range(i, i + 50_000), pa.int64())})

    rows = pa.RecordBatchReader.from_batches(batch.schema, batches())
    assert write_file(rows, tmp_path / "a.jsonl", "jsonl") == 5_000_000
    assert max(held[10:]) < max(held[:10]) + 5 * batch.nbytes


# The whole warehouse


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = {"n_units": 1, "prompts_per_unit": 2, "seq_len": 6, "mechanisms": True}
    models = (("a", "one"), ("b", NAME), ("c", NAME))
    runs = [fabricate(f"run-{key}", model=model, seed=ord(key), **size) for key, model in models]
    return stored(tmp_path_factory.mktemp("db"), *runs)


@pytest.fixture(scope="module")
def folder(db: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "folder"
    with Reader(db) as reader:
        export_all(reader, folder)
    return folder


@pytest.fixture
def con(db: Path, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The exported warehouse, opened by another program."""
    with duckdb.connect(db, read_only=True) as con:
        yield con


COMPARISONS = {
    *("reproduction_claims", "reproduction_agreement", "reproduction", "self_repression_reproduction"),
    *("co_ablation", "repair_over_training"),
}
"""Views without a row here, where no run has anything to be compared with."""

NAMES = [relation.name for relation in public(relations().values())]


def roughly(row: tuple[Any, ...]) -> str:
    """What to sort rows by whose last digits hang on the order in which threads add."""
    return repr([f"{value:.3g}" if isinstance(value, float) else value for value in row])


@pytest.mark.parametrize("name", first_of_each(4, NAMES))
@pytest.mark.slow
def test_every_table_and_view_is_there_for_other_programs(
    name: str, con: duckdb.DuckDBPyConnection, folder: Path
) -> None:
    wanted = con.execute(f"FROM {name}").fetchall()
    columns = [column.name for column in relations()[name].columns]
    by_model = "run_id" in columns
    if by_model and "model" not in columns:
        columns.append("model")
        models = "SELECT run_id, name FROM runs JOIN models USING (model_id)"
        wanted = con.execute(f"SELECT x.*, m.name FROM {name} AS x JOIN ({models}) AS m USING (run_id)").fetchall()
    files = f"{folder}/{name}/**/*.parquet"
    listed = ", ".join(f'"{column}"' for column in columns)
    found = con.execute(f"SELECT {listed} FROM read_parquet('{files}', hive_partitioning = true)").fetchall()
    assert len(found) == len(wanted)
    for mine, theirs in zip(sorted(found, key=roughly), sorted(wanted, key=roughly), strict=True):
        for value, other in zip(mine, theirs, strict=True):
            assert value == (pytest.approx(other, rel=1e-9, abs=1e-12) if isinstance(other, float) else other)
    frame = pl.read_parquet(files, hive_partitioning=by_model)
    assert set(frame.columns) == set(columns)
    assert frame.height == len(wanted)
    if by_model and name not in COMPARISONS:
        assert set(frame["model"]) == {"one", NAME}


def test_the_card_tells_runs_and_columns(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    headings = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert headings == ["Runs", "How to read the files", "Files", *NAMES]
    assert "| 2 | hub/mod el=1%é@a1b2c3 step 143000 | tiny-text/heldout@v7 | BOS in front, documents joined |" in card
    assert f"| `measurements` | {3 * 2 * 5 * 12 * 3:,} | yes | One row per run" in card
    for name in NAMES:
        for column in relations()[name].columns:
            assert f"| `{column.name}` | {column.type} | {column.unit} |" in card


def test_nothing_but_the_export_is_in_the_folder(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*NAMES, "README.md"}
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
    assert all(path.name == "data.parquet" for name in NAMES for path in (folder / name).rglob("*") if path.is_file())


def test_a_folder_with_something_in_it_is_left_alone(db: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with Reader(db) as reader:
        for taken in (tmp_path, tmp_path / "notes.txt"):
            with pytest.raises(SelfRepairError, match=r"is there already .* Name another folder, or remove that one\."):
                export_all(reader, taken)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_breaks_off_leaves_no_folder(db: Path, tmp_path: Path) -> None:
    def interrupt(name: str, n_rows: int) -> None:
        assert n_rows
        raise KeyboardInterrupt

    with Reader(db) as reader, pytest.raises(KeyboardInterrupt):
        export_all(reader, tmp_path / "folder", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_and_rows_are_counted(db: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    empty = tmp_path / "folder"
    empty.mkdir()
    with Reader(db) as reader:
        n_rows = export_all(reader, empty, lambda name, n: told.update({name: n}))
    assert list(told) == NAMES
    assert told["runs"] == 3
    assert sum(told.values()) == n_rows


def test_a_warehouse_without_runs_is_not_exported(tmp_path: Path) -> None:
    with Reader(installed(tmp_path)) as reader, pytest.raises(SelfRepairError, match="holds no run yet"):
        export_all(reader, tmp_path / "folder")
