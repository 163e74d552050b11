"""The process that answers queries: requests from standard input, one after the other, until there are no more.

`process` sends a pickled `Request`. The answer is lines of JSON, each an object with a `kind`, and after `rows` an
Arrow stream: `wait`*, and `opened` where the file was not open; `note`*, and for each query `asked`, `rows`, the stream
and `next`, after the last one `end` instead; `closed` and `opened` after `next` where a load had the file in between; or
`error` at any place, after the stream if that has begun. The last line says whether it takes another request: memory that
DuckDB has had is not always returned. It waits for that until its standard input ends.
"""

import contextlib
import json
import os
import pickle
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from selfrepair.queries.marts.install import prepare
from selfrepair.queries.sandbox.answer import out_of_memory
from selfrepair.queries.sandbox.limits import confine_process, memory_in_use, spare_bytes
from selfrepair.queries.sandbox.open_file_cache import Opened
from selfrepair.queries.sandbox.process import Request
from selfrepair.queries.sandbox.query import Query, ViewQuery
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import InUseError, QueryLimitError, SelfRepairError, UnreadableError, errors_in

_LONGEST_MESSAGE = 20_000  # SELECT error(...) can be of any length
_WHY_EMPTY_S = 0.1
"""How long the file stays open after an answer without rows at least: who asked finds out why, and opening takes longer [s]."""

_BYTES_AT_ONCE = 64_000_000
"""About what is sent at once: who reads need not have room for 100,000 long texts."""


def main(folder: str) -> None:
    """Answer requests; `folder` is for what does not fit into memory, and is removed at the end."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may get between the answers
    requests: queue.SimpleQueue[Request | str] = queue.SimpleQueue()
    at_first = None

    def receive() -> None:
        try:
            while True:
                try:
                    requests.put(pickle.load(sys.stdin.buffer))
                except EOFError:
                    return
                except Exception as error:  # of a type that only the parent's own script has
                    requests.put(f"the parameters cannot be read by the process that runs the query: {error}")
        finally:  # the parent has ended, or has no more use for this process
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    opened = Opened(
        Path(folder) / "spill",
        on_wait=lambda text: _send(out, kind="wait", text=text),
        on_open=lambda: _send(out, kind="opened"),
    )
    prepare()  # while whoever asks is still at putting the question together
    while True:
        try:
            request = requests.get(timeout=opened.poll_s())
        except queue.Empty:
            opened.close_if_due()
            continue
        if isinstance(request, str):
            _send(out, **_refusal(request), again=False)
            continue
        if at_first is None:
            confine_process(request.limits)
            at_first = memory_in_use()
        with errors_in(request.language), without_pandas():
            last = _answer(request, out, opened)
        most = at_first + spare_bytes(request.limits)
        if memory_in_use() > most:
            opened.close()
        _send(out, **last, again=memory_in_use() <= most)


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """DuckDB does not find pandas, unless it is imported already: for the first parameter of a process it would import it
    to see whether that is one of its values, which takes half of the time to start.

    For one thread at a time, and for a process that has no use for pandas later on. DuckDB looks again after the block;
    pyarrow does not, where it looked for pandas within: what asked it to (`pa.array` of a list) fails with an
    AttributeError, and from then on NaN in a Series is no null, and times in nanoseconds have no value in Python.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        yield
    finally:  # whatever was imported within, and without an error over one from there
        if sys.modules.get("pandas", 0) is None:
            sys.modules.pop("pandas", None)


def _answer(request: Request, out: IO[bytes], opened: Opened) -> dict[str, Any]:
    """Send everything but the last message, and return that."""
    try:
        for number, query in enumerate(request.queries, start=1):
            reader, opening_s = _opened(opened, request)
            if number == 1:
                for note in opened.notes:
                    _send(out, kind="note", text=note)
            if not opening_s:
                _send(out, kind="asked")
            truncated, is_empty = _answer_one(query, request, opening_s, reader, out)
            if number < len(request.queries):
                _send(out, kind="next", truncated=truncated)
                if opened.close_if_write_requested():
                    _send(out, kind="closed")
        opened.keep(max(request.keep_open_s, _WHY_EMPTY_S if is_empty else 0), request.next_within_s)
        return {"kind": "end", "truncated": truncated}
    except BaseException as error:
        opened.close(error)
        if isinstance(error, SelfRepairError):
            return _refusal(str(error)[:_LONGEST_MESSAGE], type(error))
        if isinstance(error, MemoryError):
            return _refusal(out_of_memory(request.limits), QueryLimitError)
        if isinstance(error, BrokenPipeError) or not isinstance(error, Exception):  # the parent has ended
            raise
        return _refusal(traceback.format_exc(), RuntimeError)


def _opened(opened: Opened, request: Request) -> tuple[Reader, float]:
    """The open file and how long opening took [s]. Raises UnreadableError for what is wrong with the file."""
    try:
        return opened.reader(request.db, request.limits, request.wait_s, request.timeout_s)
    except (InUseError, QueryLimitError):
        raise
    except SelfRepairError as error:
        raise UnreadableError(str(error)) from error


def _refusal(text: str, kind: type[Exception] = SelfRepairError) -> dict[str, Any]:
    return {"kind": "error", "text": text, "error": kind.__name__}


def _answer_one(query: Query, request: Request, opening_s: float, reader: Reader, out: IO[bytes]) -> tuple[bool, bool]:
    """Send the rows; whether there are more of them, and whether there are none."""
    sql, params = query.to_sql(reader)
    types = query.types(reader) if isinstance(query, ViewQuery) else None
    batches = reader.batches(
        sql,
        params,
        limit=request.limit,
        offset=request.offset,
        flat=request.flat,
        text_keys=request.text_keys,
        timeout_s=request.timeout_s,
        spent_s=opening_s,
        most_bytes=request.answer_bytes,
        types=types,
    )
    n_rows = 0
    _send(out, kind="rows")
    with pa.ipc.new_stream(out, batches.schema) as stream:
        for batch in batches:
            n_rows += batch.num_rows
            n_pieces = max(1, batch.nbytes // _BYTES_AT_ONCE)
            stream.write_table(pa.Table.from_batches([batch]), max_chunksize=max(1, batch.num_rows // n_pieces))
    return batches.truncated, n_rows == 0


def _send(out: IO[bytes], **message: Any) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
