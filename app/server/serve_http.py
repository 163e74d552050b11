"""`selfrepair serve`: the HTTP API alone, without Streamlit."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfrepair.app.cli.failures import EXTRAS
from selfrepair.app.server.addresses import (
    ALL_ADDRESSES,
    LONGEST_HEAD,
    address_here,
    check_address,
    checked_token,
    link,
    own_names,
    server_options,
)
from selfrepair.app.server.hosts import parse_allowed
from selfrepair.queries.catalog.next_step import API
from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.errors import check_there

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

_LAST_ANSWERS_S = 1
"""How long answers may take that are on their way when the server is to stop [s]."""


@click.command()
@db_option
@server_options(port=8502)
def serve(db: Path, port: int, host: str, token: str | None, allowed: tuple[str, ...]) -> None:
    """Answer queries over HTTP, for any client.

    Tables, views, questions and SQL at addresses, as JSON, CSV, Parquet or Arrow; /api/v1/docs lists them. Serves until
    interrupted. The warehouse is opened read-only, and released to a load between queries. `selfrepair app` has the same
    addresses beside its pages.

    \b
      curl 'http://localhost:8502/api/v1/views/head_repair.csv?population=top2'
    """  # noqa: D301 - click knows the character
    for package in EXTRAS["http"]:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    check_there(db)
    addresses = check_address(host, port)
    token = checked_token(token, host, addresses, "serve")
    names = parse_allowed([*allowed, *own_names(host, port)])

    docs = f"{API.strip('/')}/docs"

    at = host if host in ALL_ADDRESSES else address_here(host, addresses)

    def say() -> None:
        here = address_here(host, addresses) if token else host
        click.echo(f"{db} at {link(here, port, docs, token)} (Ctrl-C to stop)")
        if host in ALL_ADDRESSES:
            click.echo(f"From other machines: {link(socket.gethostname(), port, docs, token)}")

    from selfrepair.app.server.query_api.routes import application

    run(application(db, names, token), at, port, say)
    click.echo("\nStopped.", err=True)


def run(application: ASGIApp, host: str, port: int, on_start: Callable[[], object]) -> None:
    """Serve until Ctrl-C; `on_start` is called when requests are answered."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_start()

    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )
    try:
        Server(config).run()
    except KeyboardInterrupt:  # raised again when the server has stopped
        return
