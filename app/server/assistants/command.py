"""`selfrepair mcp`: serve tools to an assistant over standard input and output."""

from pathlib import Path

import click

from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.errors import check_there


@click.command()
@db_option
def mcp(db: Path) -> None:
    """Let an AI assistant query the warehouse (Model Context Protocol).

    The assistant's program starts this command and speaks with it over standard input and output. Its tools list runs, tables
    and questions, describe columns, ask questions, run SQL within the usual limits, and draw figures. They only read.

    \b
      claude mcp add selfrepair -- selfrepair mcp --db /absolute/path/selfrepair.duckdb
    """  # noqa: D301 - click knows the character
    check_there(db)
    from selfrepair.app.server.assistants.tools import server_of

    server_of(db).run("stdio")
