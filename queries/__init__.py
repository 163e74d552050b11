"""Ask: the tables of the warehouse become views and data frames.

>>> from selfrepair.queries import Warehouse
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfrepair.queries.limits import Limits
    from selfrepair.queries.warehouse import OutOfDate, Truncated, Warehouse

__all__ = ["Limits", "OutOfDate", "Truncated", "Warehouse"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only then: DuckDB and polars take longer than `selfrepair --help`."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    module = "limits" if name == "Limits" else "warehouse"
    return getattr(import_module(f"selfrepair.queries.{module}"), name)
