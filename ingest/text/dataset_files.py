"""Read dataset files, a block or a line at a time; errors say at which line and byte a file is not text.

Text that gzip or zstd compressed is known by its first bytes, whatever the file is called.
"""

import codecs
import gzip
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import human_bytes
from selfrepair.warehouse.parts.pages import VALUE_BYTES, group_bytes

BLOCK_CHARACTERS = BLOCK_BYTES = 2**18
LONGEST_LINE = 2**26
"""In characters, with its end: a longer one is no document, and some compressed kilobytes can become one that fills the
memory.
"""

ROWS_AT_ONCE = 256
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""How files of these kinds begin."""

_ENCODING = "utf-8-sig"  # UTF-8, without the byte order mark that some editors begin a file with


def text_blocks(path: Path) -> Iterator[str]:
    """The text of a file. Raises SelfRepairError where it is not UTF-8."""
    try:
        with _open_text(path) as file:
            while block := file.read(BLOCK_CHARACTERS):
                if "\0" in block:
                    raise _not_text(path)
                yield block
    except UnicodeDecodeError as error:
        raise _not_text(path) from error


def json_lines(path: Path) -> Iterator[Any]:
    """The value of each line that is not empty. Raises SelfRepairError where a line is not JSON, too long, or not UTF-8."""
    try:
        with _open_text(path) as lines:
            for number in itertools.count(1):
                line = lines.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE:
                    raise SelfRepairError(
                        f"{path}, line {number} is longer than {LONGEST_LINE:,} characters. "
                        "Write one object a line, and a longer document as several."
                    )
                if line.strip():
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError) as error:  # or of a number that is too long
                        raise SelfRepairError(
                            f"{path}, line {number} is not JSON ({error}). "
                            'Write one object a line, such as {"text": "..."}.'
                        ) from error
    except UnicodeDecodeError as error:
        raise _not_text(path) from error


def parquet_rows(path: Path, most_bytes: int) -> Iterator[Any]:
    """Every row as a dictionary, one at a time.

    Raises ValueError or OSError where it is no Parquet file, and SelfRepairError where its footer or its pages say that a group
    of rows, decompressed, takes more than `most_bytes`, or a text is longer than `LONGEST_LINE`.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_row_groups(path, file.metadata, most_bytes)
        columns = [file.schema.column(place) for place in range(len(file.schema))]
    texts = [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL"
    ]
    # A text that many rows share is in memory once: some compressed kilobytes can hold a long one that thousands have.
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for number, row in enumerate(_rows(path, _batches(path, file, most_bytes), most_bytes)):
            for name, value in row.items():
                if isinstance(value, str) and len(value) > LONGEST_LINE:
                    raise SelfRepairError(
                        f"{path}, row {number}: `{name}` is longer than {LONGEST_LINE:,} characters. "
                        "Write a longer document as several."
                    )
            yield row


def _batches(path: Path, file: Any, most_bytes: int) -> Iterator[Any]:
    """The rows in batches; what the pages of a group say is compared with what is allowed before any is read."""
    with files.open_regular(path) as opened:
        for number in range(file.metadata.num_row_groups):
            if (n_bytes := group_bytes(opened, file.metadata.row_group(number))) > most_bytes:
                raise _too_large(path, n_bytes, most_bytes)
            yield from file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[number])


def _rows(path: Path, batches: Iterable[Any], most_bytes: int) -> Iterator[dict[str, Any]]:
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        n_bytes = sum(_n_bytes_of_shared(column) for column in columns.values() if column.type.num_fields)
        if n_bytes > most_bytes:
            raise _too_large(path, n_bytes, most_bytes)
        for place in range(batch.num_rows):
            yield {name: column[place].as_py() for name, column in columns.items()}


def _n_bytes_of_shared(array: Any) -> int:
    """What the texts within lists and the like take once each place has its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(map(_n_bytes_of_shared, array.flatten()))
    if pa.types.is_map(array.type):
        return _n_bytes_of_shared(array.keys) + _n_bytes_of_shared(array.items)
    return _n_bytes_of_shared(array.flatten()) if pa.types.is_nested(array.type) else 0


def _check_row_groups(path: Path, footer: Any, most_bytes: int) -> None:
    """A file of some kilobytes can say in a few bytes that billions of rows, or of values of one list, are the same."""
    n_bytes = footer.num_rows * VALUE_BYTES
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        n_bytes = max(
            n_bytes,
            sum(max(column.total_uncompressed_size, VALUE_BYTES * column.num_values) for column in columns),
            group.num_rows * VALUE_BYTES,
        )
    if n_bytes > most_bytes:
        raise _too_large(path, n_bytes, most_bytes)


def _too_large(path: Path, n_bytes: int, most_bytes: int) -> SelfRepairError:
    return SelfRepairError(
        f"dataset file {path} ({human_bytes(path.stat().st_size)}) takes up to {human_bytes(n_bytes)} when it is "
        f"decompressed, and {human_bytes(most_bytes)} are allowed. Write it in smaller groups of rows "
        f"(pyarrow: row_group_size=10_000), or, if you trust it, allow more: --row-group-gb {n_bytes // 10**9 + 1}"
    )


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed. Raises OSError, EOFError or zlib.error where it is damaged."""
    if _begins(path, GZIP):
        return cast(IO[bytes], gzip.open(path))
    if _begins(path, ZSTD):
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(open_bytes(path), encoding=_ENCODING)


def _begins(path: Path, *with_bytes: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(max(map(len, with_bytes))).startswith(with_bytes)


def _not_text(path: Path) -> SelfRepairError:
    line, offset, byte = _first_wrong_byte(path)
    with open_bytes(path) as file:
        begins = file.read(2)
    if _begins(path, GZIP, ZSTD):
        step = "That is of what is compressed in it. Decompress it and look there: text must be UTF-8."
    elif begins in (b"\xff\xfe", b"\xfe\xff"):
        step = f"It is UTF-16. Convert it: iconv -f UTF-16 -t UTF-8 {path.name} > new{path.suffix}"
    elif byte == 0:
        step = "Text files have no such bytes: give a file whose content matches its name."
    else:
        step = f"If it is text in Latin-1, convert it: iconv -f LATIN1 -t UTF-8 {path.name} > new{path.suffix}"
    return SelfRepairError(
        f"dataset file {path} is not UTF-8: byte 0x{byte:02x} at offset {offset:,}, line {line:,}. {step}"
    )


def _first_wrong_byte(path: Path) -> tuple[int, int, int]:
    """Its line from 1, its offset from 0, and the byte. In UTF-8, a line's end is never a part of anything else."""
    rest, offset, number = b"", 0, 1  # the part of a character with which a block ended, and where that begins
    with open_bytes(path) as file:
        while block := file.read(BLOCK_BYTES):
            data = rest + block
            place = data.find(b"\0")
            try:
                _, n_read = codecs.utf_8_decode(data)
            except UnicodeDecodeError as error:
                n_read = error.start
                place = n_read if place < 0 else min(place, n_read)
            if place >= 0:
                return number + data.count(b"\n", 0, place), offset + place, data[place]
            number += data.count(b"\n")
            rest, offset = data[n_read:], offset + n_read
    if rest:
        return number, offset, rest[0]
    raise AssertionError("a file that cannot be read as text has such a byte")
