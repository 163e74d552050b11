"""Values that columns are asked to have, as SQL."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from selfrepair.queries.catalog.quoting import identifier


def listed(wanted: Any) -> Any:
    """A list of the values that a filter allows, where it is any kind of collection; else the value itself."""
    return wanted if isinstance(wanted, str | bytes) or not hasattr(wanted, "__iter__") else list(wanted)


def conditions_of(filters: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """A condition for each filter, and the values they have as parameters."""
    conditions = []
    params: dict[str, Any] = {}
    for number, (column, wanted) in enumerate(filters.items()):
        values = wanted if isinstance(wanted, list) else [wanted]
        names = [f"filter_{number}_{i}" for i in range(len(values))]
        params |= {name: value for name, value in zip(names, values, strict=True) if value is not None}
        either = [f"{identifier(column)} = ${name}" for name in names if name in params]
        if None in values:
            either.append(f"{identifier(column)} IS NULL")
        conditions.append(f"({' OR '.join(either) or 'false'})")
    return conditions, params


def unknown_column(view: str, column: str, columns: Collection[str]) -> str:
    """One sentence or two: the view has no such column, which ones come near, and where all are described."""
    near = difflib.get_close_matches(column.lower(), columns, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(columns)}."
    return f"{view} has no column '{column}'; {hint} See: selfrepair describe {view}"
