"""The one loader beside the workers: finished units go into the warehouse while others are measured."""

import contextlib
import threading
from pathlib import Path

from selfrepair.ingest.runs.outcome import Note, load_measured
from selfrepair.warehouse.errors import InUseError, SelfRepairError
from selfrepair.warehouse.load import loader

_WAIT_S = 5.0
"""How long it waits for another program that has the warehouse open: later will do."""


class LoaderBeside:
    """Loads what is finished of a run whenever that fills a transaction: smaller ones would leave a larger and slower file.

    What is left at the end, and the summaries, is the final load's.
    """

    def __init__(self, run_key: str, db: Path, parts: Path, note: Note) -> None:
        self._run_key, self._db, self._parts, self._note = run_key, db, parts, note
        self._rows = 0
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, rows: int) -> None:
        """A unit of so many rows is finished."""
        with self._changed:
            self._rows += rows
            self._changed.notify()

    def stop(self) -> None:
        """Load no more; returns when a load that has begun is over."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._has_enough():
            try:
                with contextlib.suppress(InUseError):
                    load_measured(
                        self._run_key, self._db, self._parts, lambda text: None, summaries=False, wait_s=_WAIT_S
                    )
            except SelfRepairError as error:  # the final load says it again, if it is still so
                self._note(f"finished units are loaded at the end, since now it fails: {error}")
                return

    def _has_enough(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._rows >= loader.ROWS_PER_TRANSACTION)
            self._rows = 0
            return not self._is_over
