"""Parquet files whose footer says less than their pages hold: refused by the pages' headers before any is decompressed."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfrepair.ingest.text.dataset_files import parquet_rows
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load import units
from selfrepair.warehouse.load.units import check_unit
from selfrepair.warehouse.parts.manifest import Manifest
from selfrepair.warehouse.parts.pages import group_bytes
from support.fabricate import fabricate

TEXT = "x" * 3_000_000


def varint(value: int, length: int) -> bytes:
    """A whole number as Thrift's compact protocol has it, in so many bytes."""
    zigzag = value << 1
    found = bytearray(zigzag >> (7 * place) & 0x7F | 0x80 for place in range(length))
    found[-1] &= 0x7F
    return bytes(found)


def with_lie(path: Path, true: int, said: int) -> None:
    """The footer says `said` wherever it said `true`; the length of the number stays."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    body, footer, end = data[: -8 - length], data[-8 - length : -8], data[-8:]
    size = next(size for size in range(1, 10) if true << 1 < 128**size)
    assert varint(true, size) in footer
    path.write_bytes(body + footer.replace(varint(true, size), varint(said, size)) + end)


def group_of(path: Path) -> int:
    with path.open("rb") as file:
        return group_bytes(file, pq.ParquetFile(path).metadata.row_group(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"data_page_version": "2.0", "use_dictionary": False},
        {"compression": "zstd", "data_page_size": 100, "write_page_index": True},
        {"compression": "none", "write_statistics": False},
    ],
)
def test_pages_have_what_an_honest_footer_says(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.parquet"
    columns = {"text": ["a", "b" * 70, None] * 300, "tokens": [[1, 2], [], [3]] * 300, "x": np.arange(900)}
    pq.write_table(pa.table(columns), path, **options)
    footer = pq.ParquetFile(path).metadata.row_group(0)
    said = sum(max(footer.column(i).total_uncompressed_size, 8 * footer.column(i).num_values) for i in range(3))
    assert group_of(path) == max(said, 7200)


def test_a_dataset_file_is_refused_by_its_pages_where_the_footer_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [TEXT]}), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 10_000
    with_lie(path, pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size, 700)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size == 700
    with pytest.raises(SelfRepairError, match=r"takes up to 3\.0 MB when it is decompressed, and 1\.0 MB are allowed"):
        next(parquet_rows(path, 1_000_000))
    assert [len(row["text"]) for row in parquet_rows(path, 4_000_000)] == [len(TEXT)]


def test_values_that_a_footer_hides_count_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"tokens": [[7] * 200_000]}), path)
    honest = group_of(path)
    with_lie(path, 200_000, 3)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).num_values == 3
    assert group_of(path) == honest >= 1_600_000


def test_pages_that_are_not_where_the_footer_has_them_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a" * 100, "b"] * 50}), path, use_dictionary=False, compression="none")
    data = path.read_bytes()
    for damage in (b"\0" * 200, b"\xff" * 200, b"\x1c" * 200, bytes(range(200))):
        path.write_bytes(data[:4] + damage + data[204:])
        with pytest.raises(ValueError, match="page"):
            group_of(path)


def lying(change: Callable[[Path], int], folder: Path) -> Path:
    """A unit with a file that was changed so, and a manifest to it."""
    file = folder / "tokens.parquet"
    n_rows = change(file)
    manifest = Manifest.from_json((folder / "manifest.json").read_text())
    said = replace(manifest.files[file.name], sha256=sha256(file.read_bytes()).hexdigest(), bytes=file.stat().st_size)
    files = {**manifest.files, file.name: replace(said, rows=n_rows)}
    (folder / "manifest.json").write_text(replace(manifest, files=files).to_json())
    return folder


def more_rows(path: Path) -> int:
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    return table.num_rows


def long_texts(path: Path) -> int:
    table = pq.read_table(path)
    place = table.schema.get_field_index("token")
    table = table.set_column(place, "token", pa.array([TEXT] * len(table)))
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    size = pq.ParquetFile(path).metadata.row_group(0).column(place).total_uncompressed_size
    with_lie(path, size, 900)
    return table.num_rows


def no_parquet(path: Path) -> int:
    path.write_bytes(b"PAR1 of another time")
    return 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (more_rows, r"has 24 rows by its footer and 12 by the manifest"),
        (long_texts, r"takes up to 36\.0 MB when it is decompressed, and 1\.0 MB are allowed"),
        (no_parquet, r"cannot be read: "),
    ],
)
def test_a_part_file_that_is_not_what_its_manifest_says_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], int], why: str
) -> None:
    unit = fabricate().write(tmp_path).unit_path(0)
    check_unit(unit, 0, "run-a")
    lying(change, unit)
    monkeypatch.setattr(units, "Limits", type("Small", (), {"memory_bytes": 1_000_000}))
    with pytest.raises(SelfRepairError, match=f"{re.escape(str(unit / 'tokens.parquet'))} {why}"):
        check_unit(unit, 0, "run-a")
    assert json.loads((unit / "manifest.json").read_text())["unit"] == 0
