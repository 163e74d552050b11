"""Ask a warehouse in a process of its own: what a query does to it, running away or out of memory, it does to nothing else.

DuckDB cannot be interrupted within one call of a function, nor held to a memory limit there: a single `levenshtein` of two
long strings runs for minutes, a single `repeat` takes what memory the machine has. A process can be ended. What it is sent and
answers: see `worker`.

`pebble` was judged against this: its pools also end a process at a deadline and keep idle ones. But its clock covers
the whole task, while here waiting for a lock is free and each query of a request has its own time; it pickles one result at
the end instead of streaming Arrow and notes; it forks from the caller or starts it anew with its `__main__`; and it has
neither the memory limits nor the check that a process is fit for the next query. What is left of it would be `_Deadline`.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfrepair.queries.sandbox.answer import Batches, OnNote, out_of_memory, out_of_time
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.errors import (
    InUseError,
    Language,
    QueryLimitError,
    SelfRepairError,
    UnknownNameError,
    UnreadableError,
)
from selfrepair.warehouse.files import needing_temporary_files, temporary_affixes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    import pyarrow as pa

    from selfrepair.queries.sandbox.query import Query

GRACE_S = 0.5
"""How long a query may go on after it was interrupted, before its process is ended [s]."""

_START_S = 20.0
"""How long a process may take until DuckDB has the file open, beside its time limit and the wait for others [s]."""

_IDLE_KEPT = 2
"""Idle processes that are kept of those with the same limits; of all together, twice as many."""

_KILLED = -9  # SIGKILL, which Windows has no name for
_ERRORS = {
    kind.__name__: kind
    for kind in (SelfRepairError, InUseError, QueryLimitError, UnknownNameError, UnreadableError, RuntimeError)
}
"""The errors that come back as what they were; any other is a bug, a RuntimeError with its traceback."""

_COMMAND = [sys.executable, "-P", "-m", "selfrepair.queries.sandbox.worker"]  # -P: a user's own duckdb.py is not ours


@dataclass(frozen=True)
class Request:
    """Queries to one opening of the file, with all that answering takes. `limit` is in rows of each, None: all of them, and
    `timeout_s` is each one's, too; opening the file counts towards the first one's.

    `db` is absolute: the process that answers may have been started from another folder. `keep_open_s` is how long the
    file stays open after the last answer, for the next request of the same kind, unless a writer waits for it, which waits
    `next_within_s` longer, though not for long: the next request is likely to come by then.
    `answer_bytes` is what the rows of one query may take, None: whatever they do. `offset` rows of each are
    left out first, and pages fit together; None: none are, and which of equal rows come first depends on `limit`.
    """

    db: Path
    queries: tuple[Query, ...]
    limit: int | None
    timeout_s: float | None
    wait_s: float
    flat: bool
    limits: Limits
    answer_bytes: int | None
    keep_open_s: float = 0.0
    language: Language = "python"
    text_keys: bool = False
    next_within_s: float = 0.0
    offset: int | None = None


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

    `on_reply` is given each as it comes. Raises SelfRepairError as `Reader.batches` does, and where the process ends.
    """
    worker = take(request.limits)
    try:
        replies = []
        for batches in worker.answers(request, on_note, on_wait):
            replies.append(Reply(batches.to_table(), batches.truncated))
            if on_reply:
                on_reply(replies[-1])
        return replies
    finally:
        release(worker)


class Worker:
    """One process with fixed limits that answers one request at a time.

    `is_ready` says whether it can take another: not in the middle of an answer that was given up, say by Ctrl-C.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.is_ready = True
        self._has_begun = False
        with needing_temporary_files():
            self._errors = tempfile.TemporaryFile(prefix="selfrepair-")  # noqa: SIM115 (open as long as the process)
            self._folder = tempfile.mkdtemp(*temporary_affixes())
        try:
            self._process = subprocess.Popen(
                [*_COMMAND, self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
                env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # its own reserves a gigabyte at once
            )
        except OSError as error:
            self._remove_files()
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                step = "End programs that are not needed, or allow more processes (ulimit -u), and ask again."
            elif error.errno in (errno.EMFILE, errno.ENFILE):
                step = "Close files that are not needed, or allow more of them (ulimit -n), and ask again."
            else:
                step = f"It needs a Python to run: mend or install the one in sys.executable, {sys.executable!r}."
            raise SelfRepairError(f"the process that runs queries cannot be started ({error}). {step}") from error

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process, whatever it is doing, and remove what it had to put on disk."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._remove_files()

    def stop(self) -> None:
        """End the process, from any thread: whoever waits for its answer gets an error, and gives it back as usual."""
        self._process.kill()
        self._process.wait()

    def answers(
        self, request: Request, on_note: OnNote | None, on_wait: OnNote | None
    ) -> Generator[Batches, None, None]:
        """The rows of each query as they come; those of one have to be read before the next is asked for."""
        try:
            text = pickle.dumps(request)
        except Exception as error:
            raise SelfRepairError(
                f"the parameters cannot be sent to the process that runs the query: {error}. "
                "Give numbers, text, dates, or lists of them."
            ) from None
        assert self._process.stdin is not None
        self.is_ready = False
        limit = _Deadline(self._process, request.timeout_s)
        n_left = len(request.queries)
        try:
            limit.start(_START_S + request.wait_s)
            with self._explained(request, limit):
                self._process.stdin.write(text)
                self._process.stdin.flush()
            while n_left:
                with self._explained(request, limit):
                    message = self._message()
                match message["kind"]:  # an error of the caller's own functions is the caller's
                    case "wait" if on_wait:
                        on_wait(message["text"])
                    case "note" if on_note:
                        on_note(message["text"])
                    case "opened" | "asked":
                        limit.start()
                    case "closed":
                        limit.start(_START_S + request.wait_s)
                    case "rows":
                        n_left -= 1
                        yield self._batches(request, limit)
                    case "error":
                        raise self._error(message)
        finally:
            limit.cancel()

    def _batches(self, request: Request, limit: _Deadline) -> Batches:
        import pyarrow as pa

        assert self._process.stdout is not None
        with self._explained(request, limit):
            stream = pa.ipc.open_stream(self._process.stdout)

        def next_batch() -> pa.RecordBatch | None:
            with self._explained(request, limit):
                return next(stream, None)

        def rows() -> Generator[pa.RecordBatch, None, bool]:
            while (batch := next_batch()) is not None:
                yield batch
            with self._explained(request, limit):
                message = self._message()
            limit.cancel()
            if message["kind"] == "error":
                raise self._error(message)
            self.is_ready = message.get("again", False)
            return bool(message["truncated"])

        return Batches(stream.schema, rows())

    @contextlib.contextmanager
    def _explained(self, request: Request, limit: _Deadline) -> Iterator[None]:
        """Writing to the process or reading from it, where that breaks off: as what became of the process."""
        try:
            yield
        except (OSError, EOFError, ValueError) as error:  # Arrow's own are among them
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)  # one that ends closes its pipes a moment before
            return_code = self._process.poll()
            self._process.kill()
            self._process.wait()
            if limit.is_over and request.timeout_s is not None:
                raise QueryLimitError(out_of_time(request.timeout_s)) from error
            if return_code in (-signal.SIGABRT, _KILLED):  # by itself or by the system, for want of memory
                raise QueryLimitError(out_of_memory(self.limits)) from error
            raise SelfRepairError(self._why_ended(return_code, error)) from error

    def _why_ended(self, return_code: int | None, error: Exception) -> str:
        """Why it answers no more; `return_code` is what it ended with by itself, None where it did not."""
        unharmed = "Nothing in the warehouse was changed."
        if return_code is None:
            return f"the answer of the process that ran the query cannot be read ({error}). {unharmed} Ask again."
        last_words = self._last_words()
        if not self._has_begun and (last_words or return_code > 0):
            return (
                f"the process that runs queries ended before it could begin (exit code {return_code}): "
                f"{last_words or 'it did not say why'}. {unharmed} Mend that, or install selfrepair anew "
                "(pip install --force-reinstall selfrepair), and ask again."
            )
        return (
            f"the process that ran the query ended before it answered (exit code {return_code}): DuckDB crashed on it. "
            f"{unharmed} Write the query differently."
        )

    def _last_words(self, most: int = 500) -> str:
        """The last line that the process wrote about its end; empty without one. To be read when it has ended."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - most))
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), "")

    def _remove_files(self) -> None:
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _error(self, message: dict[str, Any]) -> Exception:
        self.is_ready = message["again"]
        return _ERRORS.get(message["error"], SelfRepairError)(message["text"])

    def _message(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        message: dict[str, Any] = json.loads(line)
        self._has_begun = True
        return message


class _Deadline:
    """Ends a process that is still at one question some time after it should have been interrupted."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float | None) -> None:
        self.is_over = False
        self._process = process
        self._timeout_s = timeout_s
        self._timer: threading.Timer | None = None

    def start(self, more_s: float = 0.0) -> None:
        """Begin anew, for the next question, with some seconds more than it has."""
        self.cancel()
        if self._timeout_s is not None:
            self._timer = threading.Timer(self._timeout_s + GRACE_S + more_s, self._end)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """There is nothing to wait for any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        self._process.kill()


_idle: list[Worker] = []
_lock = threading.Lock()


def start_early(limits: Limits | None = None) -> None:
    """Start a process that will soon be asked, so that it is ready when the question is."""
    release(take(limits or Limits()))


def take(limits: Limits) -> Worker:
    """A process for requests with these limits, to be given back with `release`."""
    with _lock:
        for worker in _idle:
            if worker.limits == limits:
                _idle.remove(worker)
                break
        else:
            return Worker(limits)
    if worker.is_alive():
        return worker
    worker.end()
    return Worker(limits)


def release(worker: Worker) -> None:
    """Keep the process for the next request, or end it if it is not fit for one."""
    if not (worker.is_ready and worker.is_alive()):
        worker.end()
        return
    with _lock:
        _idle.insert(0, worker)
        alike = [other for other in _idle if other.limits == worker.limits]
        surplus = [*alike[_IDLE_KEPT:], *_idle[2 * _IDLE_KEPT :]]
        _idle[:] = [other for other in _idle if other not in surplus]
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # two parents would read each other's answers
