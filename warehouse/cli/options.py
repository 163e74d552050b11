"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def db_option(command: _F) -> _F:
    """Add `--db FILE`, handed to the command as `db: Path`."""
    return click.option(
        "--db",
        type=click.Path(path_type=Path),
        envvar="SELFREPAIR_DB",
        default="selfrepair.duckdb",
        show_default=True,
        show_envvar=True,
        metavar="FILE",
        help="The warehouse, a DuckDB file.",
    )(command)
