"""Rows in the formats of the HTTP API, and which of them a client takes."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

from selfrepair.queries.export.files import write_rows
from selfrepair.queries.sandbox.answer import needing_plain_types
from selfrepair.queries.sandbox.served import MAX_BYTES
from selfrepair.warehouse.errors import QueryLimitError

Format = Literal["json", "csv", "parquet", "arrow"]
FORMATS: tuple[Format, ...] = get_args(Format)

MEDIA_TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}


_MOST_TEXT_BYTES = 4 * MAX_BYTES
"""Of an answer as text, in which every row repeats names of columns and of fields."""


@dataclass(frozen=True)
class Shape:
    """How values have to come for a format: nested ones as text in CSV, keys of maps as text in JSON."""

    flat: bool
    text_keys: bool


def shape_of(kind: Format) -> Shape:
    """What the format cannot hold otherwise."""
    return Shape(flat=kind == "csv", text_keys=kind == "json")


def encoded(rows: pa.Table, kind: Format) -> bytes:
    """The rows in one format. Raises SelfRepairError where it cannot hold them, or they take too much room there."""
    into = io.BytesIO()
    if kind in ("json", "csv"):
        n_names = _text_bytes(rows.column_names) * rows.num_rows if kind == "json" else 0
        n_bytes = rows.nbytes + n_names + sum(_repeated_bytes(part) for each in rows.columns for part in each.chunks)
        if n_bytes > _MOST_TEXT_BYTES:
            raise QueryLimitError(
                f"as {kind.upper()} the answer takes more than the {_MOST_TEXT_BYTES / 1e6:,.0f} MB it may have. Ask for fewer "
                "rows, give columns short names, or take .arrow or .parquet."
            )
    if kind == "arrow":
        with needing_plain_types(), pa.ipc.new_stream(into, rows.schema) as stream:
            stream.write_table(rows)
    else:
        write_rows(rows.to_reader(), into, kind)
    return into.getvalue()


def _repeated_bytes(values: pa.Array) -> int:
    """About what these take as text beyond their own bytes: names of fields, and labels that are stored once."""
    kind = values.type
    if pa.types.is_struct(kind):
        fields = [kind.field(number).name for number in range(kind.num_fields)]
        return _text_bytes(fields) * len(values) + sum(map(_repeated_bytes, values.flatten()))
    if pa.types.is_map(kind):
        return _repeated_bytes(values.keys) + _repeated_bytes(values.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _repeated_bytes(values.flatten())
    if pa.types.is_dictionary(kind):
        return len(values) * max((len(str(label)) for label in values.dictionary.to_pylist()), default=0)
    return 0


def _text_bytes(names: list[str]) -> int:
    return sum(len(name.encode()) + 4 for name in names)


def split_format(name: str) -> tuple[str, Format | None]:
    """`head_repair.csv` is `head_repair` as CSV; None where no format is named."""
    stem, dot, ending = name.rpartition(".")
    found = next((kind for kind in FORMATS if dot and kind == ending), None)
    return (name, None) if found is None else (stem, found)


def accepted(header: str) -> Format | None:
    """The format that an Accept header likes best, JSON where it takes all alike; None where it takes none."""
    best: tuple[float, Format | None] = (0.0, None)
    for kind in FORMATS:
        quality = _quality(header, MEDIA_TYPES[kind].partition(";")[0])
        if quality > best[0]:
            best = quality, kind
    return best[1]


def _quality(header: str, media_type: str) -> float:
    """How much the header likes the type, from 0 to 1: by its most specific entry."""
    found: tuple[int, float] = (-1, 0.0)
    for entry in header.split(","):
        text, *parameters = (part.strip().lower() for part in entry.split(";"))
        specific = (("*/*", "*"), (f"{media_type.partition('/')[0]}/*",), (media_type,))
        rank = next((rank for rank, names in enumerate(specific) if text in names), -1)
        if rank > found[0]:
            found = rank, _weight(parameters)
    return found[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
