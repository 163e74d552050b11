"""One committer at a time: a lock that a process has for as long as it may change a lake.

Readers take none. Beside a file, it is a lock of the file system on an empty file; in Postgres, an advisory lock of the
catalog's database, which a connection of its own holds. Both end with the process that has them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from selfrepair.warehouse import files
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.lake.postgres import ask, postgres
from selfrepair.warehouse.errors import InUseError, SelfRepairError, again

OnWait = Callable[[str], None]

_KEY = 0x5E1F_2E9A_12
"""Of the advisory lock: one for each database, where one lake is."""

_LOCKS = (
    "SELECT pid, coalesce(client_addr::text, 'this machine') FROM pg_locks JOIN pg_stat_activity USING (pid) "
    f"WHERE locktype = 'advisory' AND granted AND classid = {_KEY >> 32} AND objid = {_KEY & 0xFFFFFFFF} "
    "AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_KEPT = "SELECT set_config('idle_in_transaction_session_timeout', '0', true)"
"""Many servers end a session whose transaction is idle for minutes, and with it the lock, while a long load still runs."""

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


@contextlib.contextmanager
def only_committer(lake: Lake, wait_s: float, on_wait: OnWait | None = None) -> Iterator[str]:
    """Nobody else changes the lake within the block, which gets SQL for Postgres that answers a row as long as the lock is
    held; empty: the lock is lost with this process alone. Raises InUseError where somebody does for longer than `wait_s`
    seconds.
    """
    with _in_postgres(lake) if lake.kind == "postgres" else _beside(lake) as (try_to, held):
        began = time.monotonic()
        pause_s, told = _FIRST_PAUSE_S, ""
        while (holder := try_to()) is not None:
            left_s = wait_s - (time.monotonic() - began)
            if left_s <= 0:
                raise InUseError(
                    f"{lake} is being changed by {holder}, and was for {wait_s:g} seconds. Nothing was changed or lost. End "
                    f"that program, or wait until it is done, then {again()}."
                )
            if on_wait and holder != told:
                on_wait(f"waiting for {holder}, which is changing {lake}")
                told = holder
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        yield held()


@contextlib.contextmanager
def _beside(lake: Lake) -> Iterator[tuple[Callable[[], str | None], Callable[[], str]]]:
    path = lock_file(lake)
    try:
        descriptor = files.open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SelfRepairError(
            f"{lake} cannot be changed: {path} cannot be written ({error.strerror}). Make its folder writable, or name a lake "
            "elsewhere."
        ) from error

    def try_to() -> str | None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 200, 0).decode(errors="replace") or "another program"
        except OSError as error:
            raise SelfRepairError(
                f"{lake} cannot be changed: the file system of {path} has no locks ({error.strerror}). Have the catalog on "
                "another disk, or in Postgres."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        return None

    try:
        yield try_to, lambda: ""
    finally:
        os.close(descriptor)


def lock_file(lake: Lake) -> Path:
    """The file beside a catalog's on which the lock is."""
    real = Path(os.path.realpath(lake))
    return real.with_name(f".{real.name}.lock")


@contextlib.contextmanager
def _in_postgres(lake: Lake) -> Iterator[tuple[Callable[[], str | None], Callable[[], str]]]:
    with postgres(lake) as con:
        con.begin()  # what a transaction's connection holds, it keeps until the end
        ask(con, _KEPT)

        def try_to() -> str | None:
            if ask(con, f"SELECT pg_try_advisory_xact_lock({_KEY})") == [(True,)]:
                return None
            with contextlib.suppress(duckdb.Error):
                for pid, address in ask(con, _LOCKS):
                    return f"a process that has session {pid} of its Postgres, from {address}"
            return "another program"

        try:
            yield try_to, lambda: f"{_LOCKS} AND pid = {ask(con, 'SELECT pg_backend_pid()')[0][0]:d}"
        finally:
            with contextlib.suppress(duckdb.Error):
                con.rollback()
