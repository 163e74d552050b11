"""Read a warehouse in this process: one short, fenced, read-only connection with this version's views."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from selfrepair.queries.catalog.next_step import see_names
from selfrepair.queries.catalog.quoting import identifier
from selfrepair.queries.catalog.relations import unknown_name
from selfrepair.queries.marts.install import prepare_on_demand
from selfrepair.queries.sandbox.answer import Answer, Batches, OnNote, Params, out_of_memory, out_of_time
from selfrepair.queries.sandbox.fence import Names, Statement, checked, refuse_vain_advice
from selfrepair.queries.sandbox.interrupt import interrupted_after, interrupted_by_ctrl_c
from selfrepair.queries.sandbox.plain_types import PlainSelect, Types, plain_select, refuse_out_of_range, types_of
from selfrepair.warehouse import compat
from selfrepair.warehouse.database.address import check_place
from selfrepair.warehouse.database.connection import OnWait, connected
from selfrepair.warehouse.database.lake.address import Lake, without_password
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.database.migrate import check_readable
from selfrepair.warehouse.errors import QueryLimitError, SelfRepairError, UnknownNameError, check_there, in_words
from selfrepair.warehouse.files import needing_temporary_files, temporary_affixes

if TYPE_CHECKING:
    import polars as pl

ROWS_AT_ONCE = 100_000
_IS_DUCKDB_1 = duckdb.__version__.startswith("1.")

_NAME = re.compile(r"\s*(\w+)\s*;?\s*")


class Reader:
    """A warehouse open for reading, for as long as the `with` block lasts; keep it short, loading waits for it.

    Views are the installed code's own, whatever the file holds, and only the file can be asked: see `fence`. `on_wait` is
    told in a sentence when another process has to close the file first, `on_open` that it is open now, `on_note` of runs
    whose summaries are not up to date. While it is open, this process can open the file with the same limits only;
    `Warehouse` asks from a process of its own.

    Entering waits up to `wait_s` seconds for a load to end, then takes up to `timeout_s` seconds, and raises SelfRepairError
    when there is no such file, when it stays locked, or is no warehouse that this version can read. `opening_s` is the
    time it took without the wait [s].
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
        spill_folder: Path | None = None,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.db = db
        self.opening_s = 0.0
        self._on_wait = on_wait
        self._on_note = on_note
        self._on_open = on_open
        self._limits = limits or Limits()
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._spill_folder = spill_folder
        self._open = ExitStack()
        self._types: dict[str, Types] = {}

    def __enter__(self) -> "Reader":
        check_place(self.db)
        check_there(self.db)
        settings = self._limits.settings(self._spill_folder or _spill_folder_of(self.db))
        try:
            self._con = self._open.enter_context(
                connected(self.db, settings, read_only=True, wait_s=self._wait_s, on_wait=self._on_wait)
            )
            began = time.monotonic()
            self._on_open()
            self._open.enter_context(interrupted_by_ctrl_c(self._con))
            # What a file holds may be anybody's: a view in the place of a table runs for ever, or takes all memory.
            with self._explained(self._timeout_s), interrupted_after(self._con, self._timeout_s):
                check_readable(self._con)
                notes, self._on_demand = prepare_on_demand(self._con)
                for note in notes:
                    if self._on_note:
                        self._on_note(note)
                self._names = Names.of(self._con, self._on_demand.views)
            self.opening_s = time.monotonic() - began
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._con.interrupt()  # after Ctrl-C, closing would wait for the query's other threads
        self._open.close()

    def batches(
        self,
        query: str,
        params: Params | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
        flat: bool = False,
        text_keys: bool = False,
        timeout_s: float | None = None,
        spent_s: float = 0.0,
        most_bytes: int | None = None,
        types: Types | None = None,
    ) -> Batches:
        """Answer one SQL statement, or the name of a table or view, with at most `limit` rows of `most_bytes` together.
        Of the rows of a SELECT, the first `offset` are left out; where it is given, even 0, rows that an ORDER BY holds equal
        come in the same order whatever `limit` and `offset` are, so that pages fit together.

        `flat` turns lists, maps and structs into JSON text, for tables and CSV, `text_keys` the keys of maps into text, for
        JSON; `types` are those of the answer's columns, where they are known. After `timeout_s` seconds, of which `spent_s` are
        over, the query is interrupted.

        Raises SelfRepairError with DuckDB's message and the place in the SQL when it is wrong, with the nearest names when
        there is no table or view of that name, for values that no door has (see `plain_types`), and as the fence does (see
        `fence.checked`).
        """
        rows = self._rows(
            query,
            params,
            limit,
            offset,
            flat=flat,
            text_keys=text_keys,
            timeout_s=timeout_s,
            spent_s=spent_s,
            most_bytes=most_bytes,
            types=types,
        )
        self._open.callback(rows.close)
        schema = next(rows)
        assert isinstance(schema, pa.Schema)
        return Batches(schema, _limited(rows, limit))

    def ask(
        self,
        query: str,
        limit: int | None = None,
        *,
        params: Params | None = None,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """The rows of `batches` as one frame."""
        return self.batches(query, params, limit=limit, flat=flat, timeout_s=timeout_s).to_answer()

    def rows(self, query: str, params: Params | None = None) -> list[dict[str, Any]]:
        """All rows that answer a `query` of this package's own, as plain values by column; it is not fenced."""
        with self._explained(None):
            self._on_demand.make_for(query)
            found: list[dict[str, Any]] = _batches(self._con, query, params).read_all().to_pylist()
        return found

    def names(self) -> list[str]:
        """What can be queried by name: tables and views, the user's own among them."""
        return sorted(self._names.relations.values())

    def columns(self, name: str) -> list[str]:
        """The columns of the table or view `name`. Raises SelfRepairError with the nearest names when there is none."""
        return [column for column, _ in self.types(name)]

    def types(self, name: str) -> Types:
        """The same with their types."""
        if name not in self._types:
            with self._explained(None):
                self._on_demand.make_for(name)
                self._types[name] = types_of(self._con, self._all_of(name))
        return self._types[name]

    def frame(self, query: str, params: Params | None = None) -> "pl.DataFrame":
        """All rows that answer `query`, as by `ask`."""
        return self.ask(query, params=params).frame

    def _rows(
        self,
        query: str,
        params: Params | None,
        limit: int | None,
        offset: int | None,
        *,
        flat: bool,
        text_keys: bool,
        timeout_s: float | None,
        spent_s: float,
        most_bytes: int | None,
        types: Types | None,
    ) -> Generator[Any, None, None]:
        """First the schema of the rows, then their batches, with one row more than `limit` where there is one."""
        left_s = None if timeout_s is None else max(0.0, timeout_s - spent_s)
        with self._explained(timeout_s), interrupted_after(self._con, left_s):
            self._on_demand.make_for(query)
            statement = self._statement(query)
            select = PlainSelect(statement.text)
            limited = ""
            if statement.kind == "select":
                rows = f"FROM (\n{statement.text}\n)"
                select = plain_select(self._con, rows, params, flat=flat, text_keys=text_keys, types=types)
                limited = "" if limit is None else f"\nLIMIT {limit + 1:d}"
                if limit is not None and offset is not None:
                    # No constants: of those, DuckDB keeps only as many rows as it needs, and which of equal ones depends on it.
                    limited = f"\nLIMIT (SELECT {limit + 1:d}) OFFSET (SELECT {offset:d})"
            with select.explained():
                reader = _batches(self._con, select.sql + limited, params)
                yield reader.schema
                n_bytes = 0
                for batch in reader:
                    n_bytes += batch.nbytes
                    if most_bytes is not None and n_bytes > most_bytes:
                        raise QueryLimitError(
                            f"the answer takes more than the {most_bytes / 1e6:,.0f} MB it may have. Select fewer rows or "
                            "columns, write it to a file (selfrepair query SQL -o FILE)"
                            f"{in_words('', ', or allow more: Warehouse(limits=Limits(answer_bytes=...))')}"
                        )
                    refuse_out_of_range(batch)
                    yield batch

    @contextmanager
    def _explained(self, timeout_s: float | None) -> Iterator[None]:
        """DuckDB's errors as what the user can do."""
        try:
            yield
        except (
            duckdb.Error,
            pa.ArrowException,
            OSError,
            MemoryError,
        ) as error:  # DuckDB's own, or as they come through Arrow
            refuse_vain_advice(error)
            if compat.is_interrupted(error):
                if timeout_s is None:
                    raise
                raise QueryLimitError(out_of_time(timeout_s)) from None
            if compat.is_out_of_memory(error):
                raise QueryLimitError(f"{out_of_memory(self._limits)} ({_first_line(error)})") from None
            raise SelfRepairError(f"{_in_the_users_lines(self._without_password(error))}\n{see_names()}") from None

    def _without_password(self, error: Exception) -> str:
        told = compat.without_trace(error)
        return without_password(self.db, told) if isinstance(self.db, Lake) else told  # Postgres' own quote the DSN

    def _statement(self, query: str) -> Statement:
        if name := _NAME.fullmatch(query):
            return Statement(self._all_of(name[1]), "select")
        return checked(self._con, query, self._names)

    def _all_of(self, name: str) -> str:
        known = self._names.relations
        if name.lower() not in known:
            raise UnknownNameError(unknown_name(name, sorted(known)))
        return f"FROM {identifier(known[name.lower()])}"


def _limited(rows: Generator[Any, None, None], limit: int | None) -> Generator[pa.RecordBatch, None, bool]:
    """The batches with at most `limit` rows; returns whether there were more."""
    with closing(rows):  # DuckDB 2 answers nothing else before
        for batch in rows:
            if limit is not None and batch.num_rows > limit:
                yield batch.slice(0, limit)
                return True
            limit = None if limit is None else limit - batch.num_rows
            yield batch
    return False


def _batches(con: duckdb.DuckDBPyConnection, sql: str, params: Params | None) -> pa.RecordBatchReader:
    """The rows as they are computed: DuckDB 1 first collects all rows of `con.sql` with parameters, DuckDB 2 of `execute`."""
    if _IS_DUCKDB_1:
        return con.execute(sql, params).to_arrow_reader(ROWS_AT_ONCE)
    return con.sql(sql, params=params).to_arrow_reader(ROWS_AT_ONCE)


def _in_the_users_lines(text: str) -> str:
    """DuckDB's message with line numbers of the query as it was given: it stands one line below another's."""
    return compat.LINE.sub(lambda line: f"LINE {max(1, int(line[1]) - 1)}:", text)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


@cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder of this process alone, removed when it ends."""
    with needing_temporary_files():
        return tempfile.TemporaryDirectory(*temporary_affixes())


def _spill_folder_of(db: Path) -> Path:
    """Two databases in one folder would clash, and two connections to one must name the same folder."""
    return Path(_own_folder().name) / f"spill-{hashlib.sha256(os.fsencode(os.path.realpath(db))).hexdigest()[:16]}"
