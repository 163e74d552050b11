"""Streamlit, for as long as standard input is open: however the command that started it ends, no server is left.

Run as `python -m selfrepair.app.tethered run home.py --option=value`, with a pipe for standard input.
"""

import os
import sys
import threading

from streamlit import net_util
from streamlit.web.cli import main


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # what it asks the warehouse by ends the same way


if __name__ == "__main__":
    net_util.get_external_ip = lambda: None  # which asks a host on the internet for this machine's address
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    main(prog_name="streamlit")
