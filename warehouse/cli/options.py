"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print an array of JSON objects instead of a table.")
"""Of every command that lists something."""


def db_option(command: _F) -> _F:
    """Add `--db FILE`, handed to the command as `db: Path`; what is not the path of a file is refused before it runs."""
    return click.option(
        "--db",
        type=click.UNPROCESSED,
        callback=_path,
        envvar="SELFREPAIR_DB",
        default="selfrepair.duckdb",
        show_default=True,
        show_envvar=True,
        metavar="FILE",
        help="The warehouse, a DuckDB file.",
    )(command)


def _path(ctx: click.Context, option: click.Parameter, value: str) -> Path:
    from selfrepair.warehouse.database.address import warehouse_path

    return warehouse_path(value)
