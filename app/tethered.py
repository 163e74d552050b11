"""Streamlit, for as long as standard input is open: however the command that started it ends, no server is left.

Run as `python -m selfrepair.app.tethered run home.py --option=value`, with a pipe for standard input.
"""

import contextlib
import os
import sys
import threading
from importlib import import_module

import polars as pl
from streamlit import env_util, net_util
from streamlit.web.cli import main

from selfrepair.app.asking.answers import MOST_ROWS, answered
from selfrepair.queries.catalog import relations
from selfrepair.queries.which_run import RUNS


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # what it asks the warehouse by ends the same way


def _get_ready() -> None:
    """What the first page would wait for: modules, the meaning of every column, a process that asks, a first chart."""
    threading.Thread(target=_ask_once, daemon=True).start()
    for module in ("pandas", "streamlit.emojis", "selfrepair.app.choosing.choice"):
        import_module(module)
    relations()
    figure_1, figure = (import_module(f"selfrepair.app.{name}") for name in ("charts.figure_1", "showing.figure"))
    columns = dict.fromkeys(("run", "label", "depth", "mean_self_repair"), "")
    figure.spec_of(figure_1.by_depth(pl.DataFrame(columns), pl.DataFrame(columns), "mean_self_repair"))
    env_util.is_repl()  # looks up the file of every module, the first time


def _ask_once() -> None:
    with contextlib.suppress(Exception):  # the page will say it
        answered(RUNS, MOST_ROWS)


if __name__ == "__main__":
    net_util.get_external_ip = lambda: None  # which asks a host on the internet for this machine's address
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    _get_ready()
    main(prog_name="streamlit")
