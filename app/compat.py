"""Everything that the app uses of other packages' private interfaces, in one place.

`TESTED_VERSIONS` has the version in which each was last seen to work; a test compares it with what is installed, so that
an upgrade leads here. Packages are imported where they are used: the server process does without Altair, charts without
the server.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NoReturn

TESTED_VERSIONS = {"altair": "6.3.0", "streamlit": "1.67.0"}

_WARN_OF_NO_BROWSER = (
    "streamlit",
    "streamlit.runtime.scriptrunner_utils.script_run_context",
    "streamlit.runtime.state.session_state_proxy",
)


def skip_schema_checks() -> None:
    """Have Altair not compare every part of a chart with Vega-Lite's schema as it is made."""
    from altair.utils.schemapi import disable_debug_mode

    disable_debug_mode()


def frontend_folder() -> Path:
    """The folder of Streamlit's frontend."""
    from streamlit import file_util

    return Path(file_util.get_static_dir())


def warm_up_streamlit() -> None:
    """Do what Streamlit does only at its first script: look up the file of every module."""
    from streamlit import env_util

    env_util.is_repl()


@contextlib.contextmanager
def without_browser() -> Iterator[None]:
    """Run a page's script in this thread with no browser that asks for it, to its end or to its `st.stop`.

    Without one, Streamlit's `st.stop` returns, and what follows fails; and it warns at every element that there is none.
    """
    import streamlit as st
    from streamlit.runtime.scriptrunner import StopException

    this_thread, loggers = threading.get_ident(), [logging.getLogger(name) for name in _WARN_OF_NO_BROWSER]
    stop = st.stop
    stop_for_visitor: Callable[[], object] = stop

    def is_shown(record: logging.LogRecord) -> bool:
        return record.thread != this_thread or record.levelno > logging.WARNING

    def stop_everywhere() -> NoReturn:
        stop_for_visitor()  # whose script may run meanwhile; without a browser it returns
        raise StopException

    for logger in loggers:
        logger.addFilter(is_shown)
    st.stop = stop_everywhere
    try:
        with contextlib.suppress(StopException):
            yield
    finally:
        st.stop = stop
        for logger in loggers:
            logger.removeFilter(is_shown)


def import_pandas() -> None:
    """Import what Streamlit imports once it shows a table, before there are threads: Altair takes it from `sys.modules`, and
    fails with one that another thread has imported half.
    """
    import_module("pandas")


def skip_external_ip() -> None:
    """Have Streamlit not ask a host on the internet for this machine's address."""
    from streamlit import net_util

    net_util.get_external_ip = lambda: None


def send_without_delay() -> None:
    """Have the server's sockets send every message at once.

    By default a message waits until the browser has acknowledged the one before, 40 ms later. asyncio turns that off only
    for sockets whose protocol is TCP by name, and Streamlit's is not. A version without `_bind_socket` is left as it is.
    """
    from streamlit.web.server.starlette import starlette_server

    if hasattr(starlette_server, "_bind_socket"):
        starlette_server._bind_socket = _without_delay(starlette_server._bind_socket)


def take_long_links(n_bytes: int) -> None:
    """Have the server read first lines and headers of up to `n_bytes`: beyond 64 KB it would close the connection, and the
    HTTP API could not say that SQL is too long. A version without `_get_uvicorn_config_kwargs` is left as it is.
    """
    from streamlit.web.server.starlette import starlette_server

    settings = getattr(starlette_server, "_get_uvicorn_config_kwargs", None)
    if settings is not None:
        starlette_server._get_uvicorn_config_kwargs = lambda: {
            **settings(),
            "h11_max_incomplete_event_size": n_bytes,
        }


def is_history_navigation() -> bool:
    """Whether the page runs because of the browser's back or forward button."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def run_streamlit() -> None:
    """Streamlit's command line, with the arguments of this process."""
    from streamlit.web import cli

    cli.main(prog_name="streamlit")


def _without_delay(bind: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
    def bind_without_delay(*args: object, **options: object) -> socket.socket:
        listening = bind(*args, **options)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        return listening

    return bind_without_delay
