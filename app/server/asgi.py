"""The pages as one ASGI application, ready for its first visitor when it answers."""

import contextlib
import logging
import pkgutil
import runpy
import threading
from collections.abc import AsyncIterator
from importlib import import_module

import streamlit as st
from starlette.middleware import Middleware
from streamlit import env_util

from selfrepair.app.data.answers import ask_ahead
from selfrepair.app.server.frontend import FrontendInMemory
from selfrepair.app.server.serve import HOME
from selfrepair.queries.catalog.which_run import RUNS

READY_IN_S = 5.0
"""How long answering may wait for that. A file without summaries takes longer, and then its visitor does, too."""


def draw_for_nobody() -> None:
    """Run the first page's script, and import what the others do: what a visitor would wait for is then at hand."""
    logging.disable(logging.WARNING)  # that there is no browser
    try:
        with contextlib.suppress(Exception):  # the page will say it
            frame = runpy.run_path(str(HOME))  # leaves the page itself to a browser
            runpy.run_path(str(HOME.parent / "app_pages" / f"{frame['FIRST']}.py"))
    finally:
        logging.disable(logging.NOTSET)
    with contextlib.suppress(Exception):
        for package in ("charts", "components", "controls", "data", "wording"):
            for found in pkgutil.walk_packages([str(HOME.parent / package)], f"selfrepair.app.{package}."):
                import_module(found.name)
    env_util.is_repl()  # looks up the file of every module, the first time


@contextlib.asynccontextmanager
async def _readied(_app: st.App) -> AsyncIterator[None]:
    drawing = threading.Thread(target=draw_for_nobody, daemon=True)
    drawing.start()
    drawing.join(READY_IN_S)
    yield


ask_ahead([RUNS])  # the process that asks starts while all else does
app = st.App(HOME, middleware=[Middleware(FrontendInMemory)], lifespan=_readied)
