"""Streamlit, for as long as standard input is open: however the command that started it ends, no server is left.

Run as `python -m selfrepair.app.tethered run home.py --option=value`, with a pipe for standard input.
"""

import contextlib
import os
import sys
import threading
from importlib import import_module

from streamlit import net_util
from streamlit.web.cli import main

from selfrepair.app.asking.answers import MOST_BYTES, warehouse_path
from selfrepair.queries import Warehouse
from selfrepair.queries.catalog import relations
from selfrepair.queries.limits import Limits


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # what it asks the warehouse by ends the same way


def _get_ready() -> None:
    """What the first page would wait for: modules, the meaning of every column, and a process that asks."""
    for module in (
        "pandas",
        "selfrepair.app.choosing.choice",
        "selfrepair.app.showing.figure",
        "selfrepair.app.charts.figure_1",
    ):
        import_module(module)
    relations()
    with contextlib.suppress(Exception):  # the page will say it
        Warehouse(warehouse_path(), limits=Limits(answer_bytes=MOST_BYTES), wait_s=0, on_note=lambda note: None).runs()


if __name__ == "__main__":
    net_util.get_external_ip = lambda: None  # which asks a host on the internet for this machine's address
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    _get_ready()
    main(prog_name="streamlit")
