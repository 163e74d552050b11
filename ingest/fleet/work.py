"""What a worker does: the steps of `runner.measure_run`, each when the driver says so."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.engine.memory import keep_freed_memory
from selfrepair.ingest.fleet.messages import Message, Order
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.selection import Shard, parse_batch_size
from selfrepair.ingest.runs.crosscheck import choose_crosschecks
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.requested import make_plan
from selfrepair.ingest.runs.runner import (
    Done,
    check_and_start,
    crosscheck_run,
    measure_unit,
    n_rows,
    prepared_measurer,
    what_is_left,
)
from selfrepair.ingest.runs.stored import Cell
from selfrepair.warehouse.load.registry import Cut
from selfrepair.warehouse.parts.folder import PartsFolder

ADVANCE_EVERY_S = 0.2
"""Progress within a unit is told no more often, unless another time is given."""

_ALL = Shard(1, 1)


class Send(Protocol):
    """Sends the driver a message."""

    def __call__(self, kind: str, **values: Any) -> None:
        """Send it."""


class Work:
    """A run on one device: planned when it is made, then measured by command. It is the `runner.Progress` of what it does."""

    def __init__(self, order: Order, send: Send, advance_every_s: float = ADVANCE_EVERY_S) -> None:
        self._send, self._advance_every_s = send, advance_every_s
        self._db, self._parts_root = Path(order.db), Path(order.parts)
        self._measurer: Measurer | None = None
        self._done, self._told_at = 0, 0.0
        keep_freed_memory()
        request = IngestRequest(**order.request)
        self._batch_size = parse_batch_size(request.batch_size)
        recorded = None if order.parts_to_record is None else Path(order.parts_to_record)
        plan = make_plan(request, recorded, order.n_workers, device_name=order.device)
        notes = [*plan.model.notes, *plan.prompts.notes]
        self._called = order.called
        cuts = None if order.cuts is None else {key: Cut(*cut) for key, cut in order.cuts.items()}
        self._plan = as_begun(plan, self._parts_root, self._db, notes.append, told=cuts)
        self._parts = PartsFolder(self._parts_root, self._plan.record.run_key)
        send(
            "planned",
            record=self._plan.record.to_json(),
            prompts=[unit.count for unit in self._plan.units],
            rows=[n_rows(self._plan, unit) for unit in self._plan.units],
            notes=notes,
        )

    def do(self, command: Message) -> None:
        """Do as the driver says, and answer."""
        match command["kind"]:
            case "lead":
                self._lead(command["devices"], command.get("units_done", ()), command.get("cells_done", ()))
            case "join":
                self._record(command["devices"])
                self._parts.start(self._plan.record)
                self._prepare()
            case "measure":
                unit = self._plan.units[command["unit"]]
                is_new = measure_unit(self._plan, self._prepared(), self._parts, unit, self.advance, self._called)
                self._tell_done()
                self._send("measured", is_new=is_new)
            case "crosscheck":
                cells = choose_crosschecks(self._plan)
                crosscheck_run(self._plan, self._prepared(), self._parts, self._db, _ALL, cells, self)
                self._tell_done()
                self._send("checked")

    def _lead(self, devices: str, units_done: Sequence[int], cells_done: Sequence[Cell]) -> None:
        """`units_done` and `cells_done` are those of a run whose part files and warehouse are another machine's."""
        self._record(devices)
        done = Done(units_done, [(prompt, HeadAblation(layer, head, way)) for prompt, layer, head, way in cells_done])
        left = what_is_left(self._plan, self._parts, self._db, _ALL, done)
        units = [unit.number for unit in left.units]
        cells = [(prompt, ablated.layer, ablated.head, ablated.ablation) for prompt, ablated in left.cells]
        is_begun = self._parts.exists()
        self._send("left", units=units, is_nothing=left.is_nothing, is_begun=is_begun, cells=cells)
        if not left.is_nothing:
            self._plan = check_and_start(self._plan, self._parts, self)
            self._prepare()

    def _record(self, devices: str) -> None:
        """Have the run's record name the devices of all workers."""
        self._plan = replace(self._plan, record=replace(self._plan.record, device=devices))

    def _prepare(self) -> None:
        self._measurer = prepared_measurer(self._plan, self._parts, self._batch_size, self)
        self._tell_done()
        self._send("ready")

    def _prepared(self) -> Measurer:
        assert self._measurer is not None, "a worker leads or joins first"
        return self._measurer

    def stage(self, text: str, total: int | None = None, done: int = 0) -> None:
        """A stage of what is done once for the whole run."""
        self._tell_done()
        self._send("stage", text=text, total=total, done=done)

    def advance(self, amount: int) -> None:
        """So many more are done; they are told together with others."""
        self._done += amount
        if time.monotonic() - self._told_at >= self._advance_every_s:
            self._tell_done()

    def note(self, text: str) -> None:
        """A message on a line of its own."""
        self._send("note", text=text)

    def _tell_done(self) -> None:
        if self._done:
            self._send("advance", amount=self._done)
        self._done, self._told_at = 0, time.monotonic()
