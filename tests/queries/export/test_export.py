"""Files: every format holds the rows, appears whole or not at all, and a folder opens in other programs."""

import csv
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from selfrepair.queries.export import files as export
from selfrepair.queries.export.files import FORMATS, Format, format_of, write_file
from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError

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
