"""Answers to HTTP requests: asked of the worker processes, encoded, and kept while the file is unchanged."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfrepair.app.server.asking import N_AT_ONCE, Asker
from selfrepair.app.server.query_api.problems import RETRY_AFTER_S, ProblemError

MOST_WAITING = 256
"""Different questions that may wait for their turn; who asks more is sent away."""

_CACHE_BYTES = 128_000_000
_ENTRY_BYTES = 2_000  # of a small answer: its key and Python's own objects


@dataclass(frozen=True)
class Body:
    """An encoded answer. `is_cut`: there are more rows; `notes`: sentences about the warehouse that matter for reading it."""

    content: bytes
    is_cut: bool = False
    notes: tuple[str, ...] = ()


Make = Callable[[Asker], Body]


class GoneError(Exception):
    """The client has gone before its answer was there."""


class _Making:
    """An answer that is being made for some clients, until the last of them has gone."""

    def __init__(self, asker: Asker, made: Future[Body]) -> None:
        self.asker = asker
        self.n_waiting = 0
        self.made = made
        self.answer = asyncio.wrap_future(made)
        self.answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # if nobody waits for it

    def give_up(self) -> None:
        if not self.made.cancel():  # a thread is at it
            self.asker.give_up()


class Answers:
    """Asks the warehouse `db` for whoever comes by HTTP. It belongs to the server's one event loop."""

    def __init__(self, db: Path) -> None:
        self.asker = Asker(db, "http")
        self._threads = ThreadPoolExecutor(N_AT_ONCE, "queries over HTTP")
        self._kept: OrderedDict[Hashable, Body] = OrderedDict()
        self._n_bytes = 0
        self._making: dict[Hashable, _Making] = {}

    async def body(
        self, key: Hashable, make: Make, is_still: Callable[[], bool], until_gone: Callable[[], Awaitable[None]]
    ) -> Body:
        """The answer called `key`, which stands for the file's state, too: the kept one, or what `make` returns in a thread.

        It is kept if the state `is_still` the same then. Who asks for what is being made waits for that; once every client who
        did so is gone, which is when `until_gone` returns, its query ends. Raises GoneError then, ProblemError where too many
        wait, and what `make` raises.
        """
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= MOST_WAITING:
                raise ProblemError(
                    503,
                    f"{MOST_WAITING} other questions wait for an answer. Ask again in a few seconds.",
                    headers={"Retry-After": str(RETRY_AFTER_S)},
                )
            one = self.asker.one()
            making = self._making[key] = _Making(one, self._threads.submit(make, one))
        gone = asyncio.ensure_future(until_gone())
        making.n_waiting += 1
        try:
            both: set[asyncio.Future[Any]] = {making.answer, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not making.answer.done():
                raise GoneError
            body = making.answer.result()
        finally:
            gone.cancel()
            making.n_waiting -= 1
            if (making.answer.done() or not making.n_waiting) and self._making.get(key) is making:
                del self._making[key]
            if not making.n_waiting:
                making.give_up()
        if is_still():
            self._keep(key, body)
        return body

    def _keep(self, key: Hashable, body: Body) -> None:
        size = len(body.content) + _ENTRY_BYTES
        if size > _CACHE_BYTES // 4 or key in self._kept:
            return
        self._kept[key] = body
        self._n_bytes += size
        while self._n_bytes > _CACHE_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._n_bytes -= len(oldest.content) + _ENTRY_BYTES

    def start(self) -> None:
        """Start a process that the first question will ask."""
        self._threads.submit(self.asker.start)

    def close(self) -> None:
        """End what is still being asked."""
        for making in self._making.values():
            making.give_up()
        self._threads.shutdown(wait=False, cancel_futures=True)


def told(notes: Sequence[str]) -> str:
    """Sentences as the value of a header."""
    text = " ".join(" ".join(notes).split()).encode("ascii", "replace").decode()
    return "".join(each if each.isprintable() else "?" for each in text)[:1_000]
