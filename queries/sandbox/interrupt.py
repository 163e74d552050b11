"""Stop what DuckDB is at: at a time limit, and on Ctrl-C, which DuckDB by itself does not always hear."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

_PAUSE_S = 0.05


@contextmanager
def interrupted_after(con: duckdb.DuckDBPyConnection, timeout_s: float | None) -> Iterator[None]:
    """Interrupt what runs on the connection after `timeout_s` seconds, again and again until the block is left."""
    if timeout_s is None:
        yield
        return
    done = threading.Event()

    def interrupt() -> None:
        if not done.wait(timeout_s):
            _interrupt_until(done, con)

    thread = threading.Thread(target=interrupt, name="time limit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def interrupted_by_ctrl_c(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupt what runs on the connection when Ctrl-C is pressed, so that Python can raise its KeyboardInterrupt.

    Python hears of a signal between two of its instructions, and a query is one. DuckDB looks for signals while it waits
    for its other threads, not while it does a piece of the work itself. Does nothing but in the main thread, which alone
    receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals, sent = socket.socketpair()
    sent.setblocking(False)
    done = threading.Event()

    def interrupt() -> None:
        while number := signals.recv(1):
            if number[0] == signal.SIGINT:
                _interrupt_until(done, con)

    thread = threading.Thread(target=interrupt, name="Ctrl-C", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        sent.close()
        thread.join()
        signals.close()


def _interrupt_until(done: threading.Event, con: duckdb.DuckDBPyConnection) -> None:
    """One interruption may fall between two of a block's statements."""
    while not done.is_set():
        try:
            con.interrupt()
        except duckdb.ConnectionException:  # closed
            return
        done.wait(_PAUSE_S)
