"""Queries for clients that are no page: each in a process with one thread, within the limits of what is served."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfrepair.queries.sandbox.process import Request, Worker, release, take
from selfrepair.queries.sandbox.query import Query, SqlQuery
from selfrepair.queries.sandbox.served import MAX_BYTES, TIME_LIMIT_S
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.errors import InUseError, Language, SelfRepairError

N_AT_ONCE = 2
"""Queries that run at the same time, each in a process with one thread: in one thread, rows always come in the same order."""

_WAIT_S = 3.0
_WAIT_WHILE_BUSY_S = 0.05
_BUSY_S = 5.0
"""For this long after a wait for a writer in vain, further questions fail at once."""

_KEEP_OPEN_S = 5.0


@dataclass(frozen=True)
class Rows:
    """The rows of one page."""

    table: pa.Table
    is_cut: bool
    notes: tuple[str, ...] = ()


class _Shared:
    """What those who ask the same file have in common: turns, and since when a writer has had it."""

    def __init__(self) -> None:
        self.turns = threading.Semaphore(N_AT_ONCE)
        self.busy_since = float("-inf")


class Asker:
    """Asks the warehouse `db`; errors name the next step in `language`."""

    def __init__(self, db: Path, language: Language) -> None:
        memory = max(Limits(n_threads=1).memory_bytes // N_AT_ONCE, 500_000_000)
        self.db = db.absolute()
        self._language = language
        self._limits = Limits(memory_bytes=memory, answer_bytes=MAX_BYTES, n_threads=1)
        self._shared = _Shared()
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._is_given_up = False

    def one(self) -> "Asker":
        """The same for a single client, who may give up without the others losing their answers."""
        one = Asker(self.db, self._language)
        one._shared = self._shared
        return one

    def give_up(self) -> None:
        """End what is being asked, which raises SelfRepairError there; nothing is asked from now on."""
        with self._lock:
            self._is_given_up = True
            for worker in self._workers:
                worker.stop()

    def ask(
        self, query: Query, limit: int, offset: int | None = None, *, flat: bool = False, text_keys: bool = False
    ) -> Rows:
        """The rows of a query, to be called in any thread; with an `offset`, of pages that fit together, however an ORDER BY
        leaves ties. Raises SelfRepairError.
        """
        with self._shared.turns:
            return self._ask(query, limit, offset, flat=flat, text_keys=text_keys)

    def _ask(self, query: Query, limit: int, offset: int | None, *, flat: bool, text_keys: bool) -> Rows:
        is_busy = time.monotonic() - self._shared.busy_since < _BUSY_S
        request = Request(
            self.db,
            (query,),
            limit,
            TIME_LIMIT_S,
            _WAIT_WHILE_BUSY_S if is_busy else _WAIT_S,
            flat,
            self._limits,
            MAX_BYTES,
            _KEEP_OPEN_S,
            self._language,
            text_keys,
            offset=offset,
        )
        notes: list[str] = []
        worker = self._taken()
        try:
            (rows,) = ((each.to_table(), each) for each in worker.answers(request, notes.append, None))
        except InUseError:
            if not is_busy:
                self._shared.busy_since = time.monotonic()
            raise
        finally:
            with self._lock:  # from here on it is another's, and must not be stopped
                self._workers.discard(worker)
            release(worker)
        self._shared.busy_since = float("-inf")
        return Rows(rows[0], rows[1].truncated, tuple(notes))

    def rows(self, sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The same of SQL, as plain values by column."""
        found: list[dict[str, Any]] = self.ask(SqlQuery(sql, params), 100_000).table.to_pylist()
        return found

    def start(self) -> None:
        """Start a process that the first question will ask."""
        release(take(self._limits))

    def _taken(self) -> Worker:
        if self._is_given_up:
            raise SelfRepairError("whoever asked has given up. Ask again.")
        worker = take(self._limits)
        with self._lock:
            self._workers.add(worker)
            if self._is_given_up:
                worker.stop()
        return worker


def as_rows(table: pa.Table, limit: int, offset: int) -> Rows:
    """One page of rows that are all there."""
    return Rows(table.slice(offset, limit), offset + limit < table.num_rows)
