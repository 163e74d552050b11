"""The HTTP API over a real server, and a client that asks it."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from selfrepair.app.server.query_api.routes import application


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def rows(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        found: list[dict[str, Any]] = json.loads(self.body)
        return found

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return found


class Client:
    """Asks the server at `port`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=300)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            found = connection.getresponse()
            given = {name.lower(): value for name, value in found.getheaders()}
            assert given["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in given["content-security-policy"]
            return Answer(found.status, given, found.read())


@contextmanager
def serving(db: Path, token: str | None = None) -> Iterator[Client]:
    """The API over the file, as `selfrepair serve` has it, at a port of 127.0.0.1."""
    config = uvicorn.Config(
        application(db, token=token),
        host="127.0.0.1",
        port=0,
        log_level="critical",
        h11_max_incomplete_event_size=4_000_000,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.002)
    try:
        yield Client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
