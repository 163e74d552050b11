"""Read dataset files, a block or a line at a time; errors say at which line and byte a file is not text.

Text that gzip or zstd compressed is known by its first bytes, whatever the file is called.
"""

import codecs
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from selfrepair.warehouse.errors import SelfRepairError

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


def parquet_rows(path: Path) -> Iterator[Any]:
    """Every row as a dictionary. Raises ValueError or OSError where it is no Parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            yield from batch.to_pylist()


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
