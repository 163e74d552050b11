"""Run queries in a process of their own: what one does to it, running away or out of memory, it does to nothing else.

DuckDB cannot be interrupted within one call of a function, nor held to a memory limit there: a single `levenshtein` of two
long strings runs for minutes, a single `repeat` takes what memory the machine has. A process can be ended.

The parent sends a pickled `Request`. The child answers in lines of JSON, each an object with a `kind`, and after `rows`
with an Arrow stream: `note`*, `open`, and for each query `rows`, the stream and `next`, after the last one `end` instead;
`closed` and `open` after `next` where a load had the file in between; or `error` at any place, after the stream if that has
begun. The last line says whether it takes another request: memory that
DuckDB has had is not always returned. It waits for that until its standard input ends.

`pebble` was judged against this: its pools also end a process at a deadline and keep idle ones. But its clock covers
the whole task, while here waiting for a lock is free and each query of a request has its own time; it pickles one result at
the end instead of streaming Arrow and notes; it forks from the caller or starts it anew with its `__main__`; and it has
neither the memory limits nor the check that a process is fit for the next query. What is left of it would be `_Deadline`.
"""

import atexit
import contextlib
import json
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from selfrepair.queries.sandbox.limits import Limits, confine_process, memory_in_use, spare_bytes
from selfrepair.queries.sandbox.open_file_cache import Opened
from selfrepair.queries.sandbox.query import Query
from selfrepair.queries.sandbox.reader import OnNote, Reader, out_of_memory, out_of_time
from selfrepair.warehouse.compat import without_pandas
from selfrepair.warehouse.errors import InUseError, Language, SelfRepairError, errors_in

GRACE_S = 0.5
"""How long a query may go on after it was interrupted, before its process is ended [s]."""

_IDLE_KEPT = 2
_KILLED = -9  # SIGKILL, which Windows has no name for
_LONGEST_MESSAGE = 20_000  # SELECT error(...) can be of any length
_ERRORS = {kind.__name__: kind for kind in (SelfRepairError, InUseError, RuntimeError)}
"""The errors that come back as what they were; any other is a bug, a RuntimeError with its traceback."""

_COMMAND = [sys.executable, "-P", "-m", "selfrepair.queries.sandbox.worker"]  # -P: a user's own duckdb.py is not ours


@dataclass(frozen=True)
class Request:
    """Queries to one opening of the file, with all that answering takes. `limit` is in rows of each, None: all of them, and
    `timeout_s` is each one's, too.

    `db` is absolute: the process that answers may have been started from another folder. `keep_open_s` is how long the
    file stays open after the last answer, for the next request of the same kind, unless a writer waits for it.
    """

    db: Path
    queries: tuple[Query, ...]
    limit: int | None
    timeout_s: float | None
    wait_s: float
    flat: bool
    limits: Limits
    keep_open_s: float = 0.0
    language: Language = "python"


@dataclass(frozen=True)
class Reply:
    """The rows that answer a request; `truncated`: there are more."""

    table: pa.Table
    truncated: bool


def ask(
    request: Request,
    on_note: OnNote | None = None,
    on_wait: OnNote | None = None,
    on_reply: Callable[[Reply], None] | None = None,
) -> list[Reply]:
    """Have a process answer the request, an idle one or a new one; a reply to each of its queries.

    `on_reply` is given each as it comes. Raises SelfRepairError as `Reader.batches` does.
    """
    worker = _take(request.limits)
    try:
        return worker.ask(request, on_note, on_wait, on_reply)
    finally:
        _release(worker)


class _Worker:
    """The parent's end: one process with fixed limits that answers one request at a time.

    `is_ready` says whether it can take another: not in the middle of an answer that was given up, say by Ctrl-C.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.is_ready = True
        self._folder = tempfile.mkdtemp(prefix="selfrepair-")
        self._process = subprocess.Popen(
            [*_COMMAND, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # its own reserves a gigabyte at once
        )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """End the process, whatever it is doing, and remove what it had to put on disk."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(
        self,
        request: Request,
        on_note: OnNote | None,
        on_wait: OnNote | None,
        on_reply: Callable[[Reply], None] | None,
    ) -> list[Reply]:
        try:
            text = pickle.dumps(request)
        except Exception as error:
            raise SelfRepairError(
                f"the parameters cannot be sent to the process that runs the query: {error}"
            ) from None
        assert self._process.stdin is not None
        self.is_ready = False
        replies: list[Reply] = []
        limit = _Deadline(self._process, request.timeout_s)
        try:
            self._process.stdin.write(text)
            self._process.stdin.flush()
            while len(replies) < len(request.queries):
                message = self._message()
                match message["kind"]:
                    case "wait" if on_wait:
                        on_wait(message["text"])
                    case "note" if on_note:
                        on_note(message["text"])
                    case "open":
                        limit.start()
                    case "closed":
                        limit.cancel()
                    case "rows":
                        replies.append(self._reply())
                        limit.start()
                        if on_reply:
                            on_reply(replies[-1])
                    case "error":
                        raise self._error(message)
            return replies
        except (OSError, EOFError, pa.ArrowException):
            self._process.kill()
            self._process.wait()
            if limit.is_over and request.timeout_s is not None:
                raise SelfRepairError(out_of_time(request.timeout_s)) from None
            raise SelfRepairError(_why_ended(self._process.returncode, request.limits)) from None
        finally:
            limit.cancel()

    def _reply(self) -> Reply:
        assert self._process.stdout is not None
        with pa.ipc.open_stream(self._process.stdout) as stream:
            table = stream.read_all()
        message = self._message()
        if message["kind"] == "error":
            raise self._error(message)
        self.is_ready = message.get("again", False)
        return Reply(table, message["truncated"])

    def _error(self, message: dict[str, Any]) -> Exception:
        self.is_ready = message["again"]
        return _ERRORS[message["error"]](message["text"])

    def _message(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        message: dict[str, Any] = json.loads(line)
        return message


class _Deadline:
    """Ends a process that is still at one question some time after it should have been interrupted."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float | None) -> None:
        self.is_over = False
        self._process = process
        self._timeout_s = timeout_s
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Begin anew, for the next question."""
        self.cancel()
        if self._timeout_s is not None:
            self._timer = threading.Timer(self._timeout_s + GRACE_S, self._end)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """There is nothing to wait for any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        self._process.kill()


_idle: list[_Worker] = []
_lock = threading.Lock()


def _take(limits: Limits) -> _Worker:
    with _lock:
        for worker in _idle:
            if worker.limits == limits:
                _idle.remove(worker)
                break
        else:
            return _Worker(limits)
    if worker.is_alive():
        return worker
    worker.end()
    return _Worker(limits)


def _release(worker: _Worker) -> None:
    if not (worker.is_ready and worker.is_alive()):
        worker.end()
        return
    with _lock:
        _idle.insert(0, worker)
        surplus = _idle[_IDLE_KEPT:]
        del _idle[_IDLE_KEPT:]
    for other in surplus:
        other.end()


@atexit.register
def end_idle() -> None:
    """End the processes that wait for a question; the next question starts one."""
    with _lock:
        idle = list(_idle)
        _idle.clear()
    for worker in idle:
        worker.end()


def _why_ended(return_code: int, limits: Limits) -> str:
    if return_code in (-signal.SIGABRT, _KILLED):  # by itself or by the system, for want of memory
        return out_of_memory(limits)
    return (
        f"the process that ran the query ended before it answered (exit code {return_code}): DuckDB crashed on it. "
        "Nothing in the warehouse was changed. Write the query differently."
    )


def main(folder: str) -> None:
    """The child's end: answer requests from standard input, one after the other, until there are no more."""
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
    opened = Opened(Path(folder) / "spill", lambda text: _send(out, kind="wait", text=text))
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


def _answer(request: Request, out: IO[bytes], opened: Opened) -> dict[str, Any]:
    """Send everything but the last message, and return that."""
    try:
        reader = opened.reader(request.db, request.limits, request.wait_s)
        for note in opened.notes:
            _send(out, kind="note", text=note)
        _send(out, kind="open")
        for number, query in enumerate(request.queries, start=1):
            truncated = _answer_one(query, request, reader, out)
            if number < len(request.queries):
                _send(out, kind="next", truncated=truncated)
                if opened.close_if_write_requested():
                    _send(out, kind="closed")
                    reader = opened.reader(request.db, request.limits, request.wait_s)
                    _send(out, kind="open")
        opened.keep(request.keep_open_s)
        return {"kind": "end", "truncated": truncated}
    except BaseException as error:
        opened.close(error)
        if isinstance(error, SelfRepairError):
            return _refusal(
                str(error)[:_LONGEST_MESSAGE], InUseError if isinstance(error, InUseError) else SelfRepairError
            )
        if isinstance(error, MemoryError):
            return _refusal(out_of_memory(request.limits))
        if isinstance(error, BrokenPipeError) or not isinstance(error, Exception):  # the parent has ended
            raise
        return _refusal(traceback.format_exc(), RuntimeError)


def _refusal(text: str, kind: type[Exception] = SelfRepairError) -> dict[str, Any]:
    return {"kind": "error", "text": text, "error": kind.__name__}


def _answer_one(query: Query, request: Request, reader: Reader, out: IO[bytes]) -> bool:
    """Send the rows; whether there are more of them."""
    sql, params = query.to_sql(reader)
    batches = reader.batches(
        sql,
        params,
        limit=request.limit,
        flat=request.flat,
        timeout_s=request.timeout_s,
        most_bytes=request.limits.answer_bytes,
    )
    _send(out, kind="rows")
    with pa.ipc.new_stream(out, batches.schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return batches.truncated


def _send(out: IO[bytes], **message: Any) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # two parents would read each other's answers

if __name__ == "__main__":
    main(sys.argv[1])
