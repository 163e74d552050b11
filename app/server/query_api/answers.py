"""Answers to HTTP requests: asked of the worker processes, encoded, and kept while the file is unchanged."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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


class Answers:
    """Asks the warehouse `db` for whoever comes by HTTP. It belongs to the server's one event loop."""

    def __init__(self, db: Path) -> None:
        self.asker = Asker(db, "http")
        self._threads = ThreadPoolExecutor(N_AT_ONCE, "queries over HTTP")
        self._kept: OrderedDict[Hashable, Body] = OrderedDict()
        self._n_bytes = 0
        self._making: dict[Hashable, asyncio.Task[Body]] = {}

    async def body(self, key: Hashable, make: Callable[[], Body], is_still: Callable[[], bool]) -> Body:
        """The answer called `key`, which holds the file's state: the kept one, or what `make` returns in a thread.

        It is kept if the state `is_still` the same then. Who asks for what is being made waits for that. Raises ProblemError
        where too many wait, and what `make` raises.
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
            making = self._making[key] = asyncio.create_task(self._make(key, make, is_still))
        return await asyncio.shield(making)

    async def _make(self, key: Hashable, make: Callable[[], Body], is_still: Callable[[], bool]) -> Body:
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._threads, make)
        finally:
            del self._making[key]
        size = len(body.content) + _ENTRY_BYTES
        if size <= _CACHE_BYTES // 4 and is_still():
            self._kept[key] = body
            self._n_bytes += size
            while self._n_bytes > _CACHE_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._n_bytes -= len(oldest.content) + _ENTRY_BYTES
        return body

    def start(self) -> None:
        """Start a process that the first question will ask."""
        self._threads.submit(self.asker.start)

    def close(self) -> None:
        """End what is still being asked."""
        self.asker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def told(notes: Sequence[str]) -> str:
    """Sentences as the value of a header."""
    text = " ".join(" ".join(notes).split())
    return text.encode("ascii", "replace").decode()[:1_000]
