"""How large a Parquet file becomes, by its pages: its footer, which names sizes too, may say anything.

A page's own header says what it holds, and readers allocate by that. So the headers alone, a few bytes in each page, bound what
reading takes; nothing is decompressed here.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

VALUE_BYTES = 8
"""What a number takes in memory, and so does every row or value of a list, at least."""

_LONGEST_HEADER = 2**24
_FIRST_READ = 512
_DEEPEST = 16
_MOST_ELEMENTS = 1000

# Fields of a page's header and of what is in it, by their numbers in parquet.thrift.
_UNCOMPRESSED, _COMPRESSED, _N_VALUES = 2, 3, 1
_KINDS = (5, 7, 8)  # data page, dictionary, data page of version 2
_DICTIONARY = 7


@dataclass(frozen=True)
class Page:
    """A page of a column: `n_bytes` when it is decompressed, and so many values, which are 0 in a dictionary's."""

    n_bytes: int
    n_values: int


def group_bytes(file: IO[bytes], group: Any) -> int:
    """What a group of rows takes in memory at least [bytes]: of each column what its pages say, or the footer if that is more.

    `group` is pyarrow's `RowGroupMetaData`. Raises ValueError where the pages are not where the footer has them.
    """
    n_bytes = group.num_rows * VALUE_BYTES
    columns = 0
    for place in range(group.num_columns):
        column = group.column(place)
        pages = list(_pages(file, column))
        decompressed = sum(page.n_bytes for page in pages)
        n_values = max(column.num_values, sum(page.n_values for page in pages))
        columns += max(column.total_uncompressed_size, decompressed, VALUE_BYTES * n_values)
    return int(max(n_bytes, columns))


def _pages(file: IO[bytes], column: Any) -> Iterator[Page]:
    """The pages of a column's chunk, as far as a reader goes: until it has as many values as the footer says."""
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < at:
        at = column.dictionary_page_offset
    size = file.seek(0, os.SEEK_END)
    n_values = 0
    while n_values < column.num_values:
        header, length = _header(file, at, size)
        kind: dict[int, Any] = next((header[kind] for kind in _KINDS if isinstance(header.get(kind), dict)), {})
        sizes = [header.get(_COMPRESSED), header.get(_UNCOMPRESSED), kind.get(_N_VALUES, 0)]
        numbers = [one for one in sizes if isinstance(one, int) and one >= 0]
        if len(numbers) < len(sizes):
            raise ValueError(f"the page at byte {at} of column {column.path_in_schema} has no sizes")
        compressed, uncompressed, found = numbers
        page = Page(uncompressed, 0 if isinstance(header.get(_DICTIONARY), dict) else found)
        n_values += page.n_values
        yield page
        at += length + compressed


def _header(file: IO[bytes], at: int, size: int) -> tuple[dict[int, Any], int]:
    """The page header at a byte of the file, and its length."""
    n_bytes = _FIRST_READ
    while 0 <= at < size:
        file.seek(at)
        data = io.BytesIO(file.read(n_bytes))
        try:
            return _struct(data, 0), data.tell()
        except EOFError:
            if n_bytes >= min(_LONGEST_HEADER, size - at):
                break
            n_bytes *= 8
    raise ValueError(f"there is no page at byte {at}, where the footer has one")


def _struct(data: io.BytesIO, depth: int) -> dict[int, Any]:
    """A struct of Thrift's compact protocol: its fields by number, with values that are whole numbers or structs."""
    if depth > _DEEPEST:
        raise ValueError("a page's header is nested too deeply")
    found: dict[int, Any] = {}
    number = 0
    while (first := _byte(data)) != 0:
        number = number + (first >> 4) if first >> 4 else _zigzag(data)
        found[number] = _value(data, first & 0x0F, depth)
    return found


def _value(data: io.BytesIO, kind: int, depth: int) -> Any:
    match kind:
        case 1 | 2:  # true and false, which are in the field's type
            return None
        case 3:
            return _byte(data)
        case 4 | 5 | 6:
            return _zigzag(data)
        case 7:
            _skip(data, 8)
        case 8:
            _skip(data, _varint(data))
        case 9 | 10:
            first = _byte(data)
            n = _varint(data) if first >> 4 == 15 else first >> 4
            if n > _MOST_ELEMENTS:
                raise ValueError("a page's header has a list of more elements than any has")
            for _ in range(n):  # each is a byte at least, or the data ends
                _byte(data) if first & 0x0F in (1, 2) else _value(data, first & 0x0F, depth + 1)
        case 12:
            return _struct(data, depth + 1)
        case _:
            raise ValueError("a page's header cannot be read")
    return None


def _skip(data: io.BytesIO, n: int) -> None:
    if n > _LONGEST_HEADER or len(data.read(n)) < n:
        raise EOFError


def _byte(data: io.BytesIO) -> int:
    found = data.read(1)
    if not found:
        raise EOFError
    return found[0]


def _varint(data: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(data)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("a page's header cannot be read")


def _zigzag(data: io.BytesIO) -> int:
    value = _varint(data)
    return (value >> 1) ^ -(value & 1)
