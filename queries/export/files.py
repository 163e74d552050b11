"""Answers as files: Parquet, CSV and JSON, batch by batch from DuckDB to the disk, under their name only when whole."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, Protocol, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.queries.sandbox.answer import needing_plain_types, polars_frame
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import remove, sweep, sync_folder, temporary_name

Format = Literal["parquet", "csv", "json", "jsonl"]
"""`json` is one array of objects, `jsonl` one object a line."""

FORMATS: tuple[Format, ...] = get_args(Format)

MOST_ROWS: Mapping[Format, int] = {"json": 2_000_000}
"""The longest answer of a format: a reader of a JSON array has to hold all of it."""

_FORMAT_OF: Mapping[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def format_of(path: Path, otherwise: str) -> Format:
    """The format that the suffix of `path` stands for. Raises SelfRepairError when it stands for none.

    `otherwise` is the option that the caller's command has for a file of any name.
    """
    try:
        return _FORMAT_OF[path.suffix.lower()]
    except KeyError:
        found = f"'{path.suffix}' is not one of" if path.suffix else "its name ends in none of"
        raise SelfRepairError(
            f"{path} does not say how to write it: {found} {', '.join(_FORMAT_OF)}. "
            f"Change its name, or give {otherwise}"
        ) from None


def write_rows(rows: pa.RecordBatchReader, to: IO[bytes], kind: Format) -> int:
    """Write all `rows` and return how many there are. Raises SelfRepairError when the format cannot hold so many."""
    with needing_plain_types():
        writer = _WRITERS[kind](to, rows.schema)
        n_rows = 0
        for batch in rows:
            n_rows += batch.num_rows
            if n_rows > MOST_ROWS.get(kind, n_rows):
                raise SelfRepairError(
                    f"the answer has more than {MOST_ROWS[kind]:,} rows, too many for one JSON array. "
                    "Write .jsonl or .parquet, or select fewer rows."
                )
            writer.write(batch)
        writer.close()
    return n_rows


def write_file(rows: pa.RecordBatchReader, path: Path, kind: Format) -> int:
    """Write all `rows` to `path`, where the file appears when it is whole, and return how many there are.

    A file that is there is replaced. Raises SelfRepairError when it cannot be written or `kind` cannot hold so many rows;
    nothing has changed then.
    """
    with appearing_whole(path) as temporary, temporary.open("xb") as file:
        n_rows = write_rows(rows, file, kind)
        file.flush()
        os.fsync(file.fileno())
    return n_rows


@contextmanager
def appearing_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` for a file or folder, which gets its own name at the end of the `with` block.

    After an error it is removed. Raises SelfRepairError for what the system refuses.
    """
    if not path.parent.is_dir():
        raise SelfRepairError(f"{path} cannot be written: there is no folder {path.parent}. Make it, or name another.")
    temporary = path.parent / temporary_name(path.name)
    try:
        sweep(path.parent, f"{path.name}.")
        yield temporary
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise SelfRepairError(
            f"{path} could not be written: {error.strerror or error}. The incomplete file was removed. Free some space, or "
            "name another place where you can write."
        ) from error
    finally:
        remove(temporary)


class _Writer(Protocol):
    def __init__(self, to: IO[bytes], schema: pa.Schema) -> None: ...

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


class _Parquet:
    def __init__(self, to: IO[bytes], schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(to, schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class _Csv:
    def __init__(self, to: IO[bytes], schema: pa.Schema) -> None:
        self._to = to
        to.write(polars_frame(schema.empty_table()).write_csv().encode())

    def write(self, batch: pa.RecordBatch) -> None:
        self._to.write(polars_frame(batch).write_csv(include_header=False).encode())

    def close(self) -> None:
        pass


class _JsonLines:
    def __init__(self, to: IO[bytes], schema: pa.Schema) -> None:
        self._to = to

    def write(self, batch: pa.RecordBatch) -> None:
        self._to.write(polars_frame(batch).write_ndjson().encode())

    def close(self) -> None:
        pass


class _JsonArray:
    def __init__(self, to: IO[bytes], schema: pa.Schema) -> None:
        self._to = to
        self._before = "[\n"

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            lines = polars_frame(batch).write_ndjson().rstrip("\n")  # within a line, JSON writes \n for a line's end
            self._to.write((self._before + lines.replace("\n", ",\n")).encode())
            self._before = ",\n"

    def close(self) -> None:
        self._to.write(b"[]\n" if self._before == "[\n" else b"\n]\n")


_WRITERS: Mapping[Format, type[_Writer]] = {
    "parquet": _Parquet,
    "csv": _Csv,
    "json": _JsonArray,
    "jsonl": _JsonLines,
}
