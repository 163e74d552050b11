"""The tables inside a unit's part files: their Arrow types, the rounding of effects, their bytes as Parquet."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from selfrepair.warehouse import schema
from selfrepair.warehouse.errors import SelfRepairError, with_dtype
from selfrepair.warehouse.schema.tables import metadata

Columns: TypeAlias = Mapping[str, Any] | pa.Table
"""A `pyarrow.Table`, or arrays of equal length by column name."""

_STEPS_PER_LOGIT = float(round(1 / schema.EFFECT_STEP))
_FACTOR = pa.scalar(1e2, pa.float32())
_FRACTION = pa.scalar(1e-6, pa.float32())
_EXACT_STEPS = 2**24 / 100

_ARROW_TYPES: dict[type[Any], pa.DataType] = {
    sa.REAL: pa.float32(),
    sa.Integer: pa.int32(),
    sa.SmallInteger: pa.int16(),
    sa.String: pa.string(),
    sa.Boolean: pa.bool_(),
    sa.ARRAY: pa.list_(pa.int32()),
    sa.Double: pa.float64(),
    sa.Enum: pa.dictionary(pa.int8(), pa.string()),
}


def part_schema(name: str) -> pa.Schema:
    """The Arrow schema of table `name` in a part file: the warehouse table's columns but `run_id`, none nullable
    unless the table's is.
    """
    columns = [column for column in metadata.tables[name].columns if column.name != "run_id"]
    return pa.schema([pa.field(c.name, _ARROW_TYPES[type(c.type)], nullable=bool(c.nullable)) for c in columns])


def part_table(name: str, columns: Columns) -> pa.Table:
    """`columns` as table `name` of a part file, effects rounded to `schema.EFFECT_STEP`.

    Raises SelfRepairError for missing or unknown columns, values that do not fit the column's type, NULL where none
    may be, and effects that are not finite.
    """
    wanted = part_schema(name)
    given = columns.column_names if isinstance(columns, pa.Table) else list(columns)
    if set(given) != set(wanted.names):
        raise SelfRepairError(
            f"part table {name} needs the columns {', '.join(wanted.names)}; "
            f"it was given {', '.join(map(str, given)) or 'none'}"
        )
    try:
        return pa.table([_column(name, columns[field.name], field) for field in wanted], schema=wanted)
    except pa.ArrowException as error:
        raise SelfRepairError(f"part table {name} is inconsistent: {error}") from error


def parquet_bytes(table: pa.Table) -> memoryview:
    """The table as a Parquet file in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=122_880,
        compression="zstd",
        compression_level=1,
        use_dictionary=[field.name for field in table.schema if not pa.types.is_floating(field.type)],
        write_statistics=False,
        store_schema=False,
    )
    return memoryview(sink.getvalue())


def _column(table: str, values: Any, field: pa.Field) -> pa.Array:
    what = f"{table}.{field.name}"
    try:
        array = _arrow(values, field, _kinds(table, field.name))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SelfRepairError(f"{what} cannot be read as {field.type}: {error}") from error
    if array.null_count and not field.nullable:
        raise SelfRepairError(f"{what} has {array.null_count} empty values of {len(array)}; it may have none")
    if (table, field.name) in schema.ROUNDED:
        array = _rounded(array)
    if pa.types.is_floating(field.type):
        n_bad = len(array) - array.null_count - (pc.sum(pc.is_finite(array), min_count=0).as_py() or 0)
        if n_bad:
            raise SelfRepairError(
                f"{what} has {n_bad} values of {len(array)} that are not finite. Nothing of this unit was kept. "
                f"Activations overflowed: measure with {with_dtype('float32')}."
            )
    return array


def _kinds(table: str, column: str) -> list[str]:
    """The names that a column of a fixed set of names may hold; empty for any other."""
    return list(getattr(metadata.tables[table].columns[column].type, "enums", []))


def _arrow(values: Any, field: pa.Field, kinds: list[str]) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(field.type):
        return _coded(values, field, kinds)
    if isinstance(values, pa.Array):
        return values.cast(field.type)
    if pa.types.is_list(field.type):
        values = list(values)  # a 2-d numpy array is one array for each row
    return pa.array(values, field.type)


def _coded(values: Any, field: pa.Field, kinds: list[str]) -> pa.DictionaryArray:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    names = pa.array(kinds)
    if not pa.types.is_integer(array.type):
        found = array.cast(pa.string())
        array = pc.index_in(found, names)
        if array.null_count:
            unknown = pc.unique(found.filter(pc.is_null(array))).to_pylist()
            raise ValueError(f"{unknown} is not one of {', '.join(kinds)}")
    return pa.DictionaryArray.from_arrays(array.cast(field.type.index_type), names)


def _rounded(array: pa.Array) -> pa.Array:
    """The values rounded to `schema.EFFECT_STEP`, as the floats that DuckDB's ALP compression gives back to the bit.

    ALP decodes a decimal of four places as two products (exponent 6, factor 2), which in one row of 25 is not the float
    nearest to the decimal but its neighbour. Storing that neighbour costs nothing; an exception costs 1.4 bytes a row.
    Beyond 16.7 logits the products lose a digit, and the nearest float is the better one.
    """
    steps = pc.round(pc.multiply(array.cast(pa.float64()), _STEPS_PER_LOGIT))
    nearest = pc.divide(steps, _STEPS_PER_LOGIT).cast(pa.float32())
    decoded = pc.multiply(pc.multiply(steps.cast(pa.float32()), _FACTOR), _FRACTION)
    rounded = pc.if_else(pc.less(pc.abs(steps), _EXACT_STEPS), decoded, nearest)
    return pc.add(rounded, pa.scalar(0.0, pa.float32()))  # -0.0, which is no decimal, becomes 0.0
