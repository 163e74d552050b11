"""Query: the tables of the warehouse become views and data frames.

>>> from selfrepair.queries import Warehouse
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfrepair.queries.client.warehouse import OutOfDate, Truncated, Warehouse
    from selfrepair.queries.sandbox.limits import Limits

__all__ = ["Limits", "OutOfDate", "Truncated", "Warehouse"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: DuckDB and polars take longer than `selfrepair --help`."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    module = "sandbox.limits" if name == "Limits" else "client.warehouse"
    return getattr(import_module(f"selfrepair.queries.{module}"), name)
