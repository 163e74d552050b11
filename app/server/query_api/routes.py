"""The HTTP API among the routes of a Starlette application, and as an application of its own."""

import contextlib
import re
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from selfrepair.app.server.door import Door
from selfrepair.app.server.hosts import Authority
from selfrepair.app.server.query_api.endpoint import QueryApi
from selfrepair.queries.catalog.next_step import API
from selfrepair.queries.catalog.relations import relations


class Below(Route):
    """A path with whatever below it, line ends included, which Starlette's own pattern leaves to the next route."""

    def __init__(self, path: str, api: QueryApi) -> None:
        super().__init__(path, api)
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)


def routes(api: QueryApi) -> list[Route]:
    """Where the API answers, whatever the method."""
    return [Route(api.root, api), Below(f"{api.root}/{{rest:path}}", api)]


def application(db: Path, allowed: Sequence[Authority] = (), token: str | None = None) -> Starlette:
    """The API behind the app's door, without its pages."""
    api = QueryApi(db)

    @contextlib.asynccontextmanager
    async def warmed_up(_app: Starlette) -> AsyncIterator[None]:
        api.answers.start()
        threading.Thread(target=relations).start()  # what the first description would wait for
        yield
        api.answers.close()

    async def to_docs(_request: Request) -> RedirectResponse:
        return RedirectResponse(f"{API}/docs")

    return Starlette(
        routes=[Route("/", to_docs), *routes(api)],
        middleware=[Middleware(Door, allowed=allowed, token=token)],
        lifespan=warmed_up,
    )
