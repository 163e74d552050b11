"""The pages as one ASGI application, warmed up when it first answers."""

import contextlib
import os
import pkgutil
import runpy
import threading
from collections.abc import AsyncIterator
from importlib import import_module

import streamlit as st
from starlette.middleware import Middleware

from selfrepair.app.compat import import_pandas, warm_up_streamlit, without_browser
from selfrepair.app.data.query import prefetch, warehouse_path
from selfrepair.app.server.addresses import ALLOWED_VARIABLE, TOKEN_VARIABLE
from selfrepair.app.server.door import Door
from selfrepair.app.server.frontend import FrontendInMemory
from selfrepair.app.server.hosts import parse_allowed
from selfrepair.app.server.policy import inline_script_hashes
from selfrepair.app.server.query_api.endpoint import QueryApi
from selfrepair.app.server.query_api.routes import routes
from selfrepair.app.server.serve import BASE_PATH_VARIABLE, HOME
from selfrepair.queries.catalog.which_run import RUNS

WARM_UP_LIMIT_S = 5.0
"""How long the first answer may wait for the warm-up. A file without summaries takes longer, for its visitor, too."""


def warm_up() -> None:
    """Run the first page's script without a browser and import what the other pages need, so that no visitor waits for it.

    What fails here fails for the visitor, too: it ends this thread with a traceback, and the app is served all the same.
    """
    try:
        with without_browser():
            home = runpy.run_path(str(HOME))  # does not draw the page itself
            runpy.run_path(str(HOME.parent / "app_pages" / f"{home['FIRST']}.py"))
    finally:
        for package in ("charts", "components", "controls", "data", "wording"):
            for found in pkgutil.walk_packages([str(HOME.parent / package)], f"selfrepair.app.{package}."):
                import_module(found.name)
        warm_up_streamlit()


@contextlib.asynccontextmanager
async def _warmed_up(_app: st.App) -> AsyncIterator[None]:
    warming = threading.Thread(target=warm_up, daemon=True)
    warming.start()
    warming.join(WARM_UP_LIMIT_S)
    yield


prefetch([RUNS])  # starts the query worker, in parallel with all else
import_pandas()
base_path = os.environ.get(BASE_PATH_VARIABLE, "").strip("/")
door = Middleware(
    Door,
    allowed=parse_allowed(os.environ.get(ALLOWED_VARIABLE, "").split()),
    token=os.environ.get(TOKEN_VARIABLE) or None,
    path=base_path,
    scripts=inline_script_hashes(),
)
api = routes(QueryApi(warehouse_path(), f"/{base_path}".rstrip("/")))
app = st.App(HOME, routes=api, middleware=[door, Middleware(FrontendInMemory)], lifespan=_warmed_up)
