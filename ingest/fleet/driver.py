"""Share a run among worker processes, one a device, and load what they measure. Without torch."""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from selfrepair.ingest.fleet.loading import LoaderBeside
from selfrepair.ingest.fleet.messages import Message, Order
from selfrepair.ingest.fleet.processes import WorkerProcess
from selfrepair.ingest.fleet.schedule import Schedule
from selfrepair.ingest.request.devices import WorkerDevice
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.runs.outcome import StoredRun, finish_run, load_measured
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import ResumableError, SelfRepairError, again
from selfrepair.warehouse.parts.activity import measuring
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import RunRecord


class FleetProgress(Protocol):
    """Receives the progress of a run: `runner.Progress`, and what each worker is at."""

    def stage(self, text: str, total: int | None = None, done: int = 0) -> None:
        """A new stage of the whole run began."""

    def advance(self, amount: int) -> None:
        """`amount` more rows, prompts or cells are done; negative where they are done again."""

    def note(self, text: str) -> None:
        """A message on a line of its own."""

    def worker(self, name: str, text: str, total: int = 0, done: int = 0) -> None:
        """What a worker is at, and how many of its unit's rows are done."""


@dataclass(frozen=True)
class PlannedRun:
    """A run as a worker planned it: prompts and rows of each unit."""

    worker: str
    record: RunRecord
    prompts: tuple[int, ...]
    rows: tuple[int, ...]

    def is_like(self, other: "PlannedRun") -> bool:
        """Whether both are the same run, cut into the same units."""
        mine, its = ((one.record.run_key, one.prompts, one.rows) for one in (self, other))
        return mine == its


class Fleet:
    """Workers that measure one run on `devices`; `on_planned` is called once its record is known.

    `parts_to_record` is the folder of part files where the recorded command has to name it.
    """

    def __init__(
        self,
        request: IngestRequest,
        devices: Sequence[WorkerDevice],
        db: Path,
        parts: Path,
        *,
        parts_to_record: Path | None,
        progress: FleetProgress,
        on_planned: Callable[[RunRecord], None],
    ) -> None:
        self.planned: PlannedRun | None = None
        self.units_measured = 0
        self._request, self._devices, self._on_planned = request, devices, on_planned
        self._db, self._parts_root, self._parts_to_record, self._progress = db, parts, parts_to_record, progress
        self._inbox: queue.SimpleQueue[tuple[WorkerProcess, Message | None]] = queue.SimpleQueue()
        self._workers: list[WorkerProcess] = []
        self._fates: list[str] = []
        self._device_names: list[str] = []
        self._activity = contextlib.ExitStack()
        self._is_active = self._is_prepared = self._is_over = False
        self._schedule = Schedule({})
        self._loader: LoaderBeside | None = None
        # Where each living worker is, after it loaded the model: one leads what is done once for the run, before or after
        # the units; others wait until there is something to join, are ready for a unit, or have one.
        self._leader: WorkerProcess | None = None
        self._waiting: list[WorkerProcess] = []
        self._ready: list[WorkerProcess] = []
        self._at: dict[WorkerProcess, _Unit] = {}

    def store(self) -> StoredRun:
        """Measure what is missing of the run, load it and say what came of it, as `stored_run.store_run` does."""
        with open_writer(self._db):  # an unwritable warehouse fails before hours of measuring, not after
            pass
        try:
            self.measure()
        except SelfRepairError:
            if self.planned:  # what was finished before is not lost
                key = self.planned.record.run_key
                load_measured(key, self._db, self._parts_root, self._progress.note, summaries=True)
            raise
        assert self.planned is not None
        return finish_run(self.planned.record, self._db, self._parts_root, self.units_measured, self._progress.note)

    def measure(self) -> None:
        """Measure what is missing of the run, and cross-check it. No worker is left when this returns or raises.

        Raises SelfRepairError as `measure_run` does, where workers plan different runs, and where no worker is left.
        """
        with self._activity, _interrupted_by_sigterm(), self._loader_stopped(), _ended(self._workers):
            n = len(self._devices)
            self._progress.stage(f"loading the model on {n} devices" if n > 1 else "loading the model")
            for device in self._devices:
                self._workers.append(
                    WorkerProcess(device, self._order(device), self._inbox, _cpu_threads(device, self._devices))
                )
                self._progress.worker(device.name, "loading the model")
            while not self._is_over:
                self._hear(*self._inbox.get())
                self._assign()

    @contextlib.contextmanager
    def _loader_stopped(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._loader:
                self._loader.stop()

    def _order(self, device: WorkerDevice) -> Order:
        return Order(
            request=asdict(self._request),
            device=device.device,
            n_workers=len(self._devices),
            db=str(self._db),
            parts=str(self._parts_root),
            parts_to_record=None if self._parts_to_record is None else str(self._parts_to_record),
        )

    def _hear(self, worker: WorkerProcess, message: Message | None) -> None:
        match message and message["kind"], message:
            case _, None:
                self._lose(worker)
            case "planned", _:
                self._plan(worker, message)
                self._waiting.append(worker)
            case "left", _:
                self._begin(message)
            case "ready", _:
                self._start_measuring(worker)
                self._ready.append(worker)
            case "measured", _:
                self._finish_unit(worker, is_new=message["is_new"])
                self._ready.append(worker)
            case "checked", _:
                self._is_over = True
            case "stage", _ if worker is self._leader:
                self._progress.stage(message["text"], message["total"], message["done"])
                self._progress.worker(worker.name, message["text"])
            case "advance", _:
                self._advance(worker, message["amount"])
            case "note", _:
                self._progress.note(f"{worker.name}: {message['text']}")
            case "refused", _:
                raise SelfRepairError(message["text"])

    def _plan(self, worker: WorkerProcess, message: Message) -> None:
        """Take the first worker's plan for the run, and that of others for a check."""
        record = RunRecord.from_json(message["record"])
        found = PlannedRun(worker.name, record, tuple(message["prompts"]), tuple(message["rows"]))
        if record.device not in self._device_names:
            self._device_names.append(record.device)
        if self.planned is None:
            self.planned = found
            for note in message["notes"]:
                self._progress.note(note)
            self._on_planned(record)
        elif not found.is_like(self.planned):
            if record.run_key == self.planned.record.run_key:
                raise SelfRepairError(
                    f"{worker.name} planned run {record.run_key} in other units than {self.planned.worker}: another process "
                    f"began it while the model was loaded. Then {again()}: it goes on in those units."
                )
            raise SelfRepairError(
                f"{worker.name} planned run {record.run_key}, and {self.planned.worker} run {self.planned.record.run_key}: "
                "the model, its tokenizer or the prompts changed while they were loaded. Once they are as they should be, "
                f"{again()}."
            )
        self._progress.worker(worker.name, "waiting")

    def _begin(self, message: Message) -> None:
        """What is left of the run, as the leading worker says."""
        assert self.planned is not None
        self._is_over = message["is_nothing"]
        self._schedule = Schedule({unit: self.planned.rows[unit] for unit in message["units"]})
        if message["is_begun"]:
            self._hold_activity()

    def _start_measuring(self, worker: WorkerProcess) -> None:
        """A worker is prepared: if it is the one that leads, the others need no longer wait."""
        if worker is not self._leader:
            return
        assert self.planned is not None
        self._leader, self._is_prepared = None, True
        self._hold_activity()
        self._loader = LoaderBeside(self.planned.record.run_key, self._db, self._parts_root, self._progress.note)
        total = sum(self.planned.rows)
        self._progress.stage("measuring", total=total, done=total - self._schedule.rows_left)

    def _hold_activity(self) -> None:
        """From now on the run's folder is there, and says that the run is being measured."""
        assert self.planned is not None
        if not self._is_active:
            folder = PartsFolder(self._parts_root, self.planned.record.run_key).path
            names = ", ".join(device.name for device in self._devices)
            self._activity.enter_context(measuring(folder, device=names, processes=len(self._devices)))
            self._is_active = True

    def _assign(self) -> None:
        """Give every worker that waits what there is to do."""
        devices = ", ".join(self._device_names)
        if not self._is_prepared:
            if self._leader is None and self._waiting:
                self._leader = self._waiting.pop(0)
                self._leader.send("lead", devices=devices)
            return
        while self._waiting:
            self._waiting.pop(0).send("join", devices=devices)
        for worker in [*self._ready]:
            number = self._schedule.hand_out(worker.name)
            if number is None:
                self._progress.worker(worker.name, "waiting")
                continue
            self._ready.remove(worker)
            self._at[worker] = _Unit(number)
            worker.send("measure", unit=number)
            self._show_unit(worker)
        if self._schedule.is_done and self._ready and self._leader is None:
            if self._loader:
                self._loader.stop()  # stored rows stay where they are while they are compared
            self._leader = self._ready.pop(0)
            self._leader.send("crosscheck")

    def _advance(self, worker: WorkerProcess, rows: int) -> None:
        if worker in self._at:
            self._at[worker].rows += rows
            self._show_unit(worker)
        self._progress.advance(rows)

    def _show_unit(self, worker: WorkerProcess) -> None:
        assert self.planned is not None
        unit = self._at[worker]
        self._progress.worker(worker.name, f"unit {unit.number}", self.planned.rows[unit.number], unit.rows)

    def _finish_unit(self, worker: WorkerProcess, *, is_new: bool) -> None:
        assert self.planned is not None
        assert self._loader is not None
        del self._at[worker]
        self.units_measured += is_new
        self._loader.add(self.planned.rows[self._schedule.finish(worker.name)])

    def _lose(self, worker: WorkerProcess) -> None:
        """A worker ended that was not told to: what it was at is another's. Raises SelfRepairError where it was the last."""
        self._workers.remove(worker)
        worker.close()
        self._fates.append(f"{worker.name} {worker.fate()}")
        for those in (self._waiting, self._ready):
            if worker in those:
                those.remove(worker)
        if worker is self._leader:
            self._leader = None
        self._schedule.lose(worker.name)
        told = f"{worker.name} (process {worker.pid}) {worker.fate()}"
        unit = self._at.pop(worker, None)
        if unit is not None:
            self._progress.advance(-unit.rows)
            told += f"; unit {unit.number} is measured again by another worker"
        self._progress.worker(worker.name, "ended")
        if not self._workers:
            raise ResumableError(
                f"no worker is left: {'; '.join(self._fates)}.",
                f"What is finished is kept: {again()}, and it goes on from there. If memory ran out, name fewer processes "
                "with --devices.",
            )
        self._progress.note(told)


@dataclass
class _Unit:
    """A unit that is being measured, and how many of its rows are."""

    number: int
    rows: int = 0


@contextlib.contextmanager
def _ended(workers: list[WorkerProcess]) -> Iterator[None]:
    """Whatever happens within, no worker is left."""
    try:
        yield
    finally:
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.wait()


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """A request to end, such as a scheduler's, is taken as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cpu_threads(device: WorkerDevice, devices: Sequence[WorkerDevice]) -> int | None:
    """Threads of a worker on the CPU, which shares the cores with others there; None: as torch has it."""
    if device.device != "cpu":
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // sum(one.device == "cpu" for one in devices))
