"""The server process: Streamlit, for as long as standard input is open, so that no server outlives its command.

Run as `python -m selfrepair.app.server.process run asgi.py --option=value`, with a pipe for standard input.
"""

import os
import sys
import threading

from selfrepair.app import compat
from selfrepair.app.server.addresses import LONGEST_HEAD


def _exit_when_stdin_closes() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # the worker that runs queries ends the same way


if __name__ == "__main__":
    compat.skip_external_ip()
    compat.send_without_delay()
    compat.take_long_links(LONGEST_HEAD)
    threading.Thread(target=_exit_when_stdin_closes, daemon=True).start()
    compat.run_streamlit()
