"""Several questions to one warehouse, each of which may depend on the answers before it, in a process of their own."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from selfrepair.queries.sandbox.answer import Answer, Batches, OnNote, Params
from selfrepair.queries.sandbox.process import Request, release, take
from selfrepair.queries.sandbox.query import ColumnsQuery, NamesQuery, Query, SqlQuery
from selfrepair.warehouse.database.address import check_place
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.errors import check_there

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from types import TracebackType

    import polars as pl
    import pyarrow as pa

    from selfrepair.warehouse.database.connection import OnWait

_KEEP_OPEN_S = 5.0
_NEXT_WITHIN_S = 0.3


class Session:
    """A warehouse that is read by one process for as long as the `with` block lasts: for commands, in which a question is put
    together from what the file holds. It is asked as a `Reader` is, and held to the same limits.

    Entering raises SelfRepairError where there is no file; each question raises what opening and reading it may. Between two
    questions a load can have the file, unless they follow each other within `_NEXT_WITHIN_S` seconds.
    """

    def __init__(
        self,
        db: Path,
        on_wait: OnWait | None = None,
        on_note: OnNote | None = None,
        *,
        limits: Limits | None = None,
        wait_s: float = 10.0,
        timeout_s: float | None = None,
    ) -> None:
        self.db = db
        self._on_wait = on_wait
        self._on_note = on_note
        self._limits = limits or Limits()
        self._wait_s = wait_s
        self._timeout_s = timeout_s

    def __enter__(self) -> Session:
        check_place(self.db)
        check_there(self.db)
        self._worker = take(self._limits)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release(self._worker)

    def batches(
        self,
        query: str | Query,
        params: Params | None = None,
        *,
        limit: int | None = None,
        flat: bool = False,
        text_keys: bool = False,
        timeout_s: float | None = None,
        answer_bytes: int | None = None,
    ) -> Batches:
        """The rows of one SQL statement, or of a table or view by name, as `Reader.batches` has them. To be read before the
        next question is asked. `timeout_s` is the session's by default.
        """
        if not self._worker.is_ready:  # the last answer was given up
            release(self._worker)
            self._worker = take(self._limits)
        request = Request(
            self.db.absolute(),
            (SqlQuery(query, params) if isinstance(query, str) else query,),
            limit,
            self._timeout_s if timeout_s is None else timeout_s,
            self._wait_s,
            flat,
            self._limits,
            answer_bytes,
            _KEEP_OPEN_S,
            "shell",
            text_keys,
            _NEXT_WITHIN_S,
        )
        answers = self._worker.answers(request, self._on_note, self._on_wait)
        batches = next(answers)
        self._on_note = None  # notes are the file's, and said once

        def rows() -> Generator[pa.RecordBatch, None, bool]:
            with closing(answers):
                yield from batches
                return batches.truncated

        return Batches(batches.schema, rows())

    def ask(
        self,
        query: str | Query,
        limit: int | None = None,
        *,
        params: Params | None = None,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """The rows as one frame; no more of them than an answer may have."""
        return self.batches(
            query, params, limit=limit, flat=flat, timeout_s=timeout_s, answer_bytes=self._limits.answer_bytes
        ).to_answer()

    def frame(self, query: str, params: Params | None = None) -> pl.DataFrame:
        """All rows that answer `query`, as by `ask`."""
        return self.ask(query, params=params).frame

    def rows(self, query: str | Query, params: Params | None = None) -> list[dict[str, Any]]:
        """All rows that answer a query, as plain values by column."""
        found: list[dict[str, Any]] = (
            self.batches(query, params, answer_bytes=self._limits.answer_bytes).to_table().to_pylist()
        )
        return found

    def names(self) -> list[str]:
        """What can be queried by name: tables and views, the user's own among them."""
        return [row["name"] for row in self.rows(NamesQuery())]

    def columns(self, name: str) -> list[str]:
        """The columns of the table or view `name`. Raises SelfRepairError with the nearest names when there is none."""
        return [row["name"] for row in self.rows(ColumnsQuery(name))]
