"""A warehouse that may stay open between two questions: opening it takes longer than most of them."""

import time
from collections.abc import Callable
from pathlib import Path

from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.database.connection import OnWait
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.database.publication import MANIFEST, is_publication
from selfrepair.warehouse.database.write_request import write_is_requested

POLL_S = 0.05
"""How often to check whether a writer waits for the file [s]."""

_WRITER_TURN_S = 0.6
"""How long a waiting writer is given to open the file: a little longer than it pauses between two tries [s]."""


_TOGETHER_S = 1.0
"""The longest that a file stays open with a waiting writer because questions follow each other [s]."""


class Opened:
    """The file of the last query, while it stays open. `notes` are its reader's notes, for every answer.

    `on_wait` is called with a sentence about the process that opening waits for, `on_open` when the wait is over. While
    waiting for something else, call `close_if_due` every `poll_s` seconds.
    """

    def __init__(self, spill_folder: Path, on_wait: OnWait, on_open: Callable[[], None]) -> None:
        self.notes: list[str] = []
        self._spill_folder = spill_folder
        self._on_wait = on_wait
        self._on_open = on_open
        self._reader: Reader | None = None
        self._db = Path()
        self._file: tuple[object, ...] = ()
        self._opened_at = self._until = self._yield_from = 0.0

    def reader(self, db: Path, limits: Limits, wait_s: float, timeout_s: float | None) -> tuple[Reader, float]:
        """The file `db`, open, and how long opening it took, 0 if it was: it is opened anew where another one was, or another
        file is in its place now [s].
        """
        file = (db, limits, *_identity(db))  # of before: what changes while it is opened is opened again next time
        if self._reader is None or self._file != file:
            self.close()
            self.notes = []
            _wait_for_writer(db)
            reader = Reader(
                db,
                self._on_wait,
                self.notes.append,
                limits=limits,
                wait_s=wait_s,
                timeout_s=timeout_s,
                spill_folder=self._spill_folder,
                on_open=self._on_open,
            )
            self._reader, self._db, self._file = reader.__enter__(), db, file
            self._opened_at = self._yield_from = time.monotonic()
            return self._reader, reader.opening_s
        return self._reader, 0.0

    def keep(self, seconds: float, next_within_s: float = 0.0) -> None:
        """Leave it open for some time from now on, if no writer waits for it. Where the next question of the same command comes
        within `next_within_s`, a writer waits until then, but no longer than `_TOGETHER_S` from its opening: each question
        would wait for a load of its own where one follows the other.
        """
        now = time.monotonic()
        self._until = now + seconds
        self._yield_from = min(now + next_within_s, self._opened_at + _TOGETHER_S)
        self.close_if_due()

    def poll_s(self) -> float | None:
        """Time until the next check is needed [s]; None: the file is not open."""
        return None if self._reader is None else POLL_S

    def close_if_due(self) -> None:
        """Close it if its time is over, or a writer waits for it."""
        if time.monotonic() >= self._until:
            self.close()
        else:
            self.close_if_write_requested()

    def close_if_write_requested(self) -> bool:
        """Close it if a writer waits for it; returns whether."""
        if self._reader is None or time.monotonic() < self._yield_from or not write_is_requested(self._db):
            return False
        self.close()
        return True

    def close(self, error: BaseException | None = None) -> None:
        """Close it now; after an `error`, whatever the question was about is given up."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _wait_for_writer(db: Path) -> None:
    """Give a waiting writer time: readers in close succession would keep it out for ever."""
    give_up_at = time.monotonic() + _WRITER_TURN_S
    while write_is_requested(db) and time.monotonic() < give_up_at:
        time.sleep(POLL_S)


def _identity(db: Path) -> tuple[int, ...]:
    """Changes when another file is put in the place of this one."""
    try:
        found = (db / MANIFEST if is_publication(db) else db).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
