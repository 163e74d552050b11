"""The driver's side of a run whose workers see neither its part files nor its warehouse, only the mailbox.

Each worker measures into a folder of its own. Beside what `messages` says, commands and answers carry:

    lead        units_done, cells_done; files
    ready       of who leads: the record as it was checked; files, means and top rows of the whole run
    join        files, the same
    measured    unit; delivery, its name in the mailbox
    crosscheck  files, the measured rows of the cells
    checked     files, the cross-check

`files` are contents by their path in the run's folder of part files.
"""

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfrepair.ingest.fleet.mailbox import LostUnitError, Mailbox
from selfrepair.ingest.fleet.messages import Message
from selfrepair.ingest.runs.stored import Cell, files_of_cells, is_whole, known_cells
from selfrepair.warehouse import files
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import RunRecord

ARRAYS = ".npy"
"""How the names of files end that the whole run shares, its means and top rows."""


class Exchange:
    """What the driver sends of a run's part files and warehouse, and brings in of what workers deliver."""

    def __init__(self, mailbox: Mailbox, parts_root: Path, db: Path, command: str) -> None:
        self._mailbox, self._root, self._db, self._command = mailbox, parts_root, db, command
        self._record: RunRecord | None = None
        self._unit_of: dict[int, int] = {}
        self._cells: list[Cell] = []

    def begin(self, record: RunRecord, prompts: Sequence[int]) -> None:
        """The run was planned, with so many prompts in each unit."""
        self._record = replace(record, command=self._command)
        units = itertools.chain.from_iterable([unit] * count for unit, count in enumerate(prompts))
        self._unit_of = dict(enumerate(units))

    def carried(self, kind: str, devices: str | None = None) -> dict[str, Any]:
        """What a command of that kind carries besides; `devices` names those of all workers."""
        match kind:
            case "lead":
                return self._lead(devices)
            case "join":
                return {"files": self._arrays()}
            case "crosscheck":
                rows = files_of_cells(self._parts, self._db, self._unit_of, self._cells)
                folder = self._parts.path
                names = {unit: self._parts.unit_path(unit).relative_to(folder) for unit in rows}
                return {"files": {f"{names[unit]}/measurements.parquet": data for unit, data in rows.items()}}
        return {}

    def take(self, message: Message) -> None:
        """Bring in what an answer carries.

        Raises LostUnitError and MailboxError as `Mailbox.fetch` does, SelfRepairError where it cannot be written here.
        """
        match message["kind"]:
            case "left":
                self._cells = message["cells"]
            case "ready" if message.get("record"):
                record = RunRecord.from_json(message["record"])
                self._record = self._parts.start(replace(record, command=self._command))
                self._write(message["files"])
            case "measured":
                try:
                    self._mailbox.fetch(message["delivery"], self._parts, self._known.stamp())
                except LostUnitError:
                    if not self._has(message["unit"]):  # else another driver of the run took it
                        raise
            case "checked":
                self._parts.start(self._known)  # another process may have loaded the run meanwhile
                self._write(message["files"])

    def finish(self) -> None:
        """The run is measured: nothing of it is left in the mailbox."""
        if self._record is not None:
            self._mailbox.remove_run(self._record.run_key)

    @property
    def _known(self) -> RunRecord:
        assert self._record is not None, "a run is planned first"
        return self._record

    @property
    def _parts(self) -> PartsFolder:
        return PartsFolder(self._root, self._known.run_key)

    def _has(self, unit: int) -> bool:
        """Whether it is in the part files or, where they were loaded meanwhile, in the warehouse."""
        return unit in self._parts.finished_units() or unit in loaded_units(self._db, self._known.run_key)

    def _lead(self, devices: str | None) -> dict[str, Any]:
        """What is done of the run, with what an earlier driver did not fetch any more."""
        self._record = replace(self._known, device=devices or self._known.device)
        parts = self._parts
        loaded = loaded_units(self._db, parts.run_key, resumed_as=self._record)
        if parts.exists():
            self._record = parts.start(self._record)
        self._sweep()
        for name in self._mailbox.deliveries(parts.run_key):
            with contextlib.suppress(LostUnitError):
                self._mailbox.fetch(name, parts, self._record.stamp())
        units = sorted(loaded | parts.finished_units())
        return {"units_done": units, "cells_done": sorted(known_cells(parts, self._db)), "files": self._arrays()}

    def _sweep(self) -> None:
        """Remove what killed drivers left of runs that were removed since, or loaded whole. Those that are begun and not whole
        have a folder of part files, or a row in the warehouse that says so.
        """
        for key in self._mailbox.runs():
            if (
                key != self._known.run_key
                and not PartsFolder(self._root, key).path.exists()
                and is_whole(self._db, key)
            ):
                self._mailbox.remove_run(key)

    def _arrays(self) -> dict[str, bytes]:
        paths = self._parts.path.glob(f"*{ARRAYS}") if self._parts.path.is_dir() else ()
        return {path.name: files.read_file(path) for path in paths if not path.name.startswith(".")}

    def _write(self, contents: dict[str, bytes]) -> None:
        for name, data in contents.items():
            with files.writing(name, self._parts.path, len(data)):
                files.replace_file(self._parts.path / name, data)
