"""Self-repair of language models: measure a model, ask a warehouse. What `__all__` names is public, all else is private.

>>> from selfrepair import Warehouse, measure
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfrepair._demo_model import demo_model
    from selfrepair._measure import measure
    from selfrepair._measurements import Measurements
    from selfrepair.queries.client.notices import FewRows, NotMeasured, OutOfDate, SpecialTokensInText, Truncated
    from selfrepair.queries.client.warehouse import Warehouse
    from selfrepair.warehouse.database.limits import Limits
    from selfrepair.warehouse.errors import SelfRepairError

    __version__: str

__all__ = [
    "FewRows",
    "Limits",
    "Measurements",
    "NotMeasured",
    "OutOfDate",
    "SelfRepairError",
    "SpecialTokensInText",
    "Truncated",
    "Warehouse",
    "__version__",
    "demo_model",
    "measure",
]

_MODULES = {
    "FewRows": "queries.client.notices",
    "Limits": "warehouse.database.limits",
    "Measurements": "_measurements",
    "NotMeasured": "queries.client.notices",
    "OutOfDate": "queries.client.notices",
    "SelfRepairError": "warehouse.errors",
    "SpecialTokensInText": "queries.client.notices",
    "Truncated": "queries.client.notices",
    "Warehouse": "queries.client.warehouse",
    "demo_model": "_demo_model",
    "measure": "_measure",
}


def __getattr__(name: str) -> Any:
    """Import what is used, and only then: DuckDB, polars and torch take longer than `selfrepair --help`."""
    if name == "__version__":
        return import_module("importlib.metadata").version("selfrepair")
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        return getattr(import_module(f"selfrepair.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        from selfrepair.app.cli.failures import extra_of, install_line

        extra = extra_of(error.name or "")
        if extra is None:
            raise
        raise ImportError(
            f"selfrepair.{name} needs the package '{error.name}', which is not installed. Install it: {install_line(extra)}"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
