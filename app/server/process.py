"""Streamlit, for as long as standard input is open: however the command that started it ends, no server is left.

Run as `python -m selfrepair.app.server.process run asgi.py --option=value`, with a pipe for standard input.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable

from streamlit import net_util
from streamlit.web.cli import main
from streamlit.web.server.starlette import starlette_server


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # what it asks the warehouse by ends the same way


def _at_once(bind: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
    """Sockets that send what they are given: the next message does not wait until the browser has told that the one before
    has come, 40 ms later. asyncio sees to that only for sockets made for TCP by name, which Streamlit's are not.
    """

    def bound(*args: object, **options: object) -> socket.socket:
        listening = bind(*args, **options)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts inherits it
        return listening

    return bound


if __name__ == "__main__":
    net_util.get_external_ip = lambda: None  # which asks a host on the internet for this machine's address
    if hasattr(starlette_server, "_bind_socket"):  # a later Streamlit may have another way
        starlette_server._bind_socket = _at_once(starlette_server._bind_socket)
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    main(prog_name="streamlit")
