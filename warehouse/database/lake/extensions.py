"""DuckDB's extensions for lakes, from the wheels of the extra `lake` or as DuckDB itself has installed them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from selfrepair.warehouse import compat
from selfrepair.warehouse.database.lake.address import Lake, is_bucket
from selfrepair.warehouse.errors import SelfRepairError

_OF_CATALOG = {"duckdb": (), "sqlite": ("sqlite_scanner",), "postgres": ("postgres_scanner",)}


def load_extensions(con: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Load extensions into a database that may still read files. Raises SelfRepairError that says how to get a missing one."""
    for name in names:
        path = _in_wheel(name)
        try:
            con.load_extension(str(path) if path else name)
        except duckdb.Error as error:
            raise SelfRepairError(
                f"DuckDB {duckdb.__version__} has no extension {name}, which this lake needs ({_first_line(error)}). Either "
                "install those that come as packages, with the DuckDB that they are for: pip install 'selfrepair[lake]'; or "
                f"have DuckDB fetch its own: python -c \"import duckdb; duckdb.sql('INSTALL {name}')\""
            ) from error


def extensions_of(lake: Lake, data: str) -> tuple[str, ...]:
    """The extensions that a lake needs whose rows lie in `data`."""
    return ("ducklake", *_OF_CATALOG[lake.kind], *(("httpfs",) if is_bucket(data) else ()))


def _first_line(error: Exception) -> str:
    return compat.reason(error).partition("\n")[0]


def _in_wheel(name: str) -> Path | None:
    """The extension's file for this DuckDB in the package that brings it; None: it is not installed, or for another one."""
    found = importlib.util.find_spec(f"duckdb_extension_{name}")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in Path(folder).rglob(f"{name}.duckdb_extension"):
            return path
    return None
