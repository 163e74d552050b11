"""The types of an answer: those that Arrow, polars, Parquet, CSV and JSON all hold with the same values.

DuckDB has more. A column of another type, or a list, map or struct of them, is cast: whole numbers of 128 bits to 64,
DECIMAL to DOUBLE, the rest (BLOB, BIT, INTERVAL, TIMETZ, UNION, VARIANT, ...) to text. What a cast cannot give is an error
that names the column and the cast to write instead, never another value.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import duckdb
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from selfrepair.queries.catalog.quoting import identifier
from selfrepair.queries.sandbox.answer import Params
from selfrepair.warehouse import compat
from selfrepair.warehouse.errors import SelfRepairError

_KEPT = frozenset(
    {
        *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
        *("float", "double", "varchar", "uuid", "enum", "date", "time", "time_ns"),
        *("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"),
    }
)
"""DuckDB's ids of the types that stay as they are."""

_CAST_TO: Mapping[str, str] = {
    "decimal": "DOUBLE",  # a literal such as 0.5
    "hugeint": "BIGINT",  # every sum of integers
    "uhugeint": "BIGINT",
    "null": "INTEGER",  # a bare NULL in DuckDB 2; an INTEGER in DuckDB 1
}
"""What the others become that do not become text."""

_NESTED = frozenset({"list", "array", "struct", "map", "union"})
_IS_WIDE = re.compile(r"\bU?HUGEINT\b")

_DAY_S = 86_400
_FIRST_S, _LAST_S = -719_162 * _DAY_S, 2_932_897 * _DAY_S - 1  # 0001-01-01 and the end of 9999-12-31
_IN_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LAST_FINITE = 2**63 - 2  # above it stands for infinity

Types: TypeAlias = Sequence[tuple[str, str]]
"""Columns and DuckDB's names of their types."""


@dataclass(frozen=True)
class PlainSelect:
    """A SELECT with plain types; `wide` are its columns whose whole numbers had 128 bits."""

    sql: str
    wide: tuple[str, ...] = ()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """DuckDB's error over a number of more than 64 bits, in words: it quotes SQL that nobody wrote."""
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            number = compat.number_too_wide(error)
            if number is None or not self.wide:
                raise
            columns = f"column {self.wide[0]}" if len(self.wide) == 1 else f"one of the columns {', '.join(self.wide)}"
            column = identifier(self.wide[0])
            raise SelfRepairError(
                f"{columns} has the whole number {number}, which takes more than 64 bits. Round it, "
                f"CAST({column} AS DOUBLE), or have it as text: CAST({column} AS VARCHAR)"
            ) from None


def types_of(con: duckdb.DuckDBPyConnection, rows: str, params: Params | None = None) -> Types:
    """The columns of `rows`, a FROM clause with these parameters, with DuckDB's names of their types."""
    return [(name, text) for name, text, *_ in con.execute(f"DESCRIBE {rows}", params).fetchall()]


def plain_select(
    con: duckdb.DuckDBPyConnection,
    rows: str,
    params: Params | None,
    *,
    flat: bool,
    text_keys: bool,
    types: Types | None = None,
) -> PlainSelect:
    """The SELECT of `rows`, a FROM clause with these parameters, with plain types. Raises SelfRepairError where one has none.
    `types` are those of its columns, where they are known: to find them takes as long as a part of the answer.

    `flat` turns lists, maps, structs and unions into JSON text, `text_keys` the keys of maps into text, as JSON needs them.
    """
    casts, wide = [], []
    for name, text in types_of(con, rows, params) if types is None else types:
        kind, column = _parsed(con, name, text), identifier(name)
        plain = "VARCHAR" if kind is None else _plain(kind, text_keys=text_keys)
        if flat and kind is not None and kind.id in _NESTED:
            casts.append(f"CAST(to_json({column}) AS VARCHAR) AS {column}")
        elif plain != str(kind):
            casts.append(f"CAST({column} AS {plain}) AS {column}")
            if _IS_WIDE.search(text):
                wide.append(name)
    return PlainSelect(f"SELECT * REPLACE ({', '.join(casts)}) {rows}" if casts else rows, tuple(wide))


def _parsed(con: duckdb.DuckDBPyConnection, name: str, text: str) -> DuckDBPyType | None:
    """The type of column `name`; None for what cannot be parsed, such as DuckDB 1's STRUCT without names."""
    try:
        return con.type(text)
    except duckdb.Error:
        if "AGGREGATE_STATE" in text:
            raise SelfRepairError(
                f"column {name} has unfinished sums ({text}). Leave out EXPORT_STATE to have the finished ones."
            ) from None
        return None


def _plain(kind: DuckDBPyType, *, text_keys: bool) -> str:
    """The plain type that `kind` becomes."""
    match kind.id:
        case "list" | "array":
            ((_, item),) = _parts(kind)
            return f"{_plain(item, text_keys=text_keys)}[{kind.children[1][1] if kind.id == 'array' else ''}]"
        case "struct" if all(name for name, _ in kind.children):
            fields = [f"{identifier(name)} {_plain(field, text_keys=text_keys)}" for name, field in _parts(kind)]
            return f"STRUCT({', '.join(fields)})"
        case "map":
            (_, key), (_, value) = _parts(kind)
            plain_key = "VARCHAR" if text_keys or key.id in _NESTED else _plain(key, text_keys=False)
            return f"MAP({plain_key}, {_plain(value, text_keys=text_keys)})"
        case name if name in _KEPT:
            return str(kind)
        case name:
            return _CAST_TO.get(name, "VARCHAR")


def _parts(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """The types within another, by name."""
    return [(name, part) for name, part in kind.children if isinstance(part, DuckDBPyType)]


def refuse_out_of_range(batch: pa.RecordBatch) -> None:
    """Raise SelfRepairError for dates and times that are none in Python, in a column or within its lists and maps: polars
    panics over some, and gives others as NULL.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if _is_out_of_range(column):
            raise SelfRepairError(
                f"column {name} has a date that is infinite or outside the years 1 to 9999, or the time 24:00. Have it as "
                f"text: CAST({identifier(name)} AS VARCHAR)"
            )


def _is_out_of_range(column: pa.Array) -> bool:
    kind = column.type
    if pa.types.is_date32(kind):
        return _has_beyond(column.view(pa.int32()), _FIRST_S // _DAY_S, _LAST_S // _DAY_S)
    if pa.types.is_timestamp(kind):
        ticks = _IN_SECOND[kind.unit]
        last = min((_LAST_S + 1) * ticks - 1, _LAST_FINITE)
        return _has_beyond(column.view(pa.int64()), max(_FIRST_S * ticks, -_LAST_FINITE), last)
    if pa.types.is_time64(kind):
        return _has_beyond(column.view(pa.int64()), 0, _DAY_S * _IN_SECOND[kind.unit] - 1)
    if pa.types.is_map(kind):
        return _is_out_of_range(column.keys) or _is_out_of_range(column.items)
    if pa.types.is_nested(kind):  # a list's items, or a struct's fields
        parts = column.flatten()
        return any(map(_is_out_of_range, parts if pa.types.is_struct(kind) else [parts]))
    return False


def _has_beyond(numbers: pa.Array, first: int, last: int) -> bool:
    """Whether one is outside these bounds. `pyarrow.compute` would do it, and takes as long to import as an answer."""
    return any(number is not None and not first <= number <= last for number in numbers.to_pylist())
