"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print an array of JSON objects instead of a table.")
"""Of every command that lists something."""


def db_option(command: _F) -> _F:
    """Add `--db FILE`, handed to the command as `db: Path`; what is neither the path of a file nor the address of a lake is
    refused before it runs. `--data`, where a lake's rows lie, becomes part of the address.
    """
    command = click.option(
        "--data",
        is_eager=True,  # before --db, which reads it
        expose_value=False,
        callback=_keep_data,
        metavar="FOLDER|s3://...",
        help="Where the rows of a new lake go.  [default: $SELFREPAIR_DATA, or <catalog>.files]",
    )(command)
    return click.option(
        "--db",
        type=click.UNPROCESSED,
        callback=_path,
        envvar="SELFREPAIR_DB",
        default="selfrepair.duckdb",
        show_default=True,
        show_envvar=True,
        metavar="FILE|ducklake:...",
        help="The warehouse: a DuckDB file, or a lake, ducklake:[sqlite:]FILE or ducklake:postgres:DSN.",
    )(command)


_DATA = "selfrepair.data"


def _keep_data(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    ctx.meta[_DATA] = value


def _path(ctx: click.Context, option: click.Parameter, value: str) -> Path:
    from selfrepair.warehouse.database.address import warehouse_path

    return warehouse_path(value, ctx.meta.get(_DATA))
