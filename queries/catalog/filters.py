"""Filters on columns, as SQL."""

from collections.abc import Collection, Mapping
from typing import Any

from selfrepair.queries.catalog.next_step import did_you_mean, see_described, shortened
from selfrepair.queries.catalog.quoting import identifier


def listed(value: Any) -> Any:
    """A list of the values that a filter allows, where it is any kind of collection; else the value itself."""
    return value if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)


def conditions_of(filters: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """A condition for each filter, and the values they have as parameters."""
    conditions = []
    params: dict[str, Any] = {}
    for number, (column, allowed) in enumerate(filters.items()):
        values = allowed if isinstance(allowed, list) else [allowed]
        names = [f"filter_{number}_{i}" for i in range(len(values))]
        params |= {name: value for name, value in zip(names, values, strict=True) if value is not None}
        either = [f"{identifier(column)} = ${name}" for name in names if name in params]
        if None in values:
            either.append(f"{identifier(column)} IS NULL")
        conditions.append(f"({' OR '.join(either) or 'false'})")
    return conditions, params


def unknown_column(view: str, column: str, columns: Collection[str]) -> str:
    """One sentence or two: the view has no such column, which ones come near, and where all are described."""
    near = did_you_mean(column, columns)
    hint = near if near != "." else f"; it has {', '.join(columns)}."
    return f"{view} has no column '{shortened(column)}'{hint} See: {see_described(view)}"
