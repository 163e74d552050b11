"""Share a run among workers, one a device, and load what they measure. Without torch."""

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeAlias

from selfrepair.ingest.fleet.loading import LoaderBeside
from selfrepair.ingest.fleet.messages import Message, Order
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


class Worker(Protocol):
    """A worker that was started: its messages come into the inbox beside it, at its end None. `title` is its name with what
    else tells it from others.
    """

    name: str
    title: str

    def send(self, kind: str, **values: Any) -> None:
        """Send a command."""

    def close(self) -> None:
        """Tell it to end."""

    def wait(self) -> None:
        """Wait until it has ended."""

    def fate(self) -> str:
        """How it ended, in words."""


Inbox: TypeAlias = "queue.SimpleQueue[tuple[Worker, Message | None]]"


class Place(Protocol):
    """Where workers run: the devices of this machine, or the nodes of a cluster. `hosts` names its machines where they are
    others, `advice` says what helps where memory ran out.
    """

    advice: str

    @property
    def devices(self) -> Sequence[WorkerDevice]:
        """The device of each worker."""

    @property
    def hosts(self) -> Sequence[str]:
        """The workers' machines, unless that is this one."""

    def workers(self, order: Callable[[WorkerDevice], Order], inbox: Any) -> Iterable[Worker]:
        """Start the workers, one after the other."""

    def replacement(self, worker: Any, order: Callable[[WorkerDevice], Order], inbox: Any) -> "Worker | None":
        """A worker that was started in the place of one that ended; None where there is none."""

    def begin(self, record: RunRecord, prompts: Sequence[int]) -> None:
        """The run was planned, with so many prompts in each unit."""

    def carried(self, kind: str, devices: str | None = None) -> dict[str, Any]:
        """What a command of that kind carries besides; `devices` names those of all workers."""

    def finish(self) -> None:
        """The run is measured, and no worker is left."""


@dataclass(frozen=True)
class PlannedRun:
    """A run as a worker planned it: prompts and rows of each unit."""

    worker: str
    record: RunRecord
    prompts: tuple[int, ...]
    rows: tuple[int, ...]

    def difference(self, other: "PlannedRun") -> str | None:
        """What tells this run from the other worker's, in words; None where both are the same, however they are cut."""
        mine, its = self.record.stamp(), other.record.stamp()
        for what, found, wanted in (
            ("another version of selfrepair", mine.selfrepair, its.selfrepair),
            ("other weights", mine.weights_sha256, its.weights_sha256),
            ("another tokenizer", mine.tokenizer_sha256, its.tokenizer_sha256),
        ):
            if found != wanted:
                return f"{self.worker} has {what} than {other.worker}"
        if mine.run_key != its.run_key:
            return f"{self.worker} planned run {mine.run_key}, and {other.worker} run {its.run_key}"
        return None

    def is_cut_like(self, other: "PlannedRun") -> bool:
        """Whether both have the same units."""
        return (self.prompts, self.rows) == (other.prompts, other.rows)


class Fleet:
    """The workers of `place` measure one run; `on_planned` is called once its record is known.

    `parts_to_record` is the folder of part files where the recorded command has to name it; `bucket` is the one that it was
    given instead.
    """

    def __init__(
        self,
        request: IngestRequest,
        place: Place,
        db: Path,
        parts: Path,
        *,
        parts_to_record: Path | None,
        bucket: str | None = None,
        progress: FleetProgress,
        on_planned: Callable[[RunRecord], None],
    ) -> None:
        self.planned: PlannedRun | None = None
        self.units_measured = 0
        self._request, self._place, self._on_planned = request, place, on_planned
        self._options = [*request.who_measures(), *(["--parts", bucket] if bucket else [])]
        self._db, self._parts_root, self._parts_to_record, self._progress = db, parts, parts_to_record, progress
        self._inbox: Inbox = queue.SimpleQueue()
        self._workers: list[Worker] = []
        self._fates: list[str] = []
        self._device_names: list[str] = []
        self._activity = contextlib.ExitStack()
        self._is_active = self._is_prepared = self._is_over = False
        self._schedule = Schedule({})
        self._loader: LoaderBeside | None = None
        # Where each living worker is, after it loaded the model: one leads what is done once for the run, before or after
        # the units; others wait until there is something to join, are ready for a unit, or have one.
        self._leader: Worker | None = None
        self._waiting: list[Worker] = []
        self._ready: list[Worker] = []
        self._at: dict[Worker, _Unit] = {}

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
            n = len(self._place.devices)
            self._progress.stage(f"loading the model on {n} devices" if n > 1 else "loading the model")
            for worker in self._place.workers(self._order, self._inbox):
                self._workers.append(worker)
                self._progress.worker(worker.name, "loading the model")
            while not self._is_over:
                self._hear(*self._inbox.get())
                self._assign()
        self._place.finish()

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
            n_workers=len(self._place.devices),
            db=str(self._db),
            parts=str(self._parts_root),
            parts_to_record=None if self._parts_to_record is None else str(self._parts_to_record),
        )

    def _hear(self, worker: Worker, message: Message | None) -> None:
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

    def _plan(self, worker: Worker, message: Message) -> None:
        """Take the first worker's plan for the run, and that of others for a check."""
        record = RunRecord.from_json(message["record"])
        found = PlannedRun(worker.name, record, tuple(message["prompts"]), tuple(message["rows"]))
        if record.device not in self._device_names:
            self._device_names.append(record.device)
        if self.planned is None:
            self.planned = found
            self._place.begin(record, found.prompts)
            for note in message["notes"]:
                self._progress.note(note)
            self._on_planned(record)
        elif (difference := found.difference(self.planned)) is not None:
            raise SelfRepairError(
                f"{difference}: the model, its tokenizer or the prompts are not the same there, or changed while they were "
                f"loaded. Once they are as they should be, {again()}."
            )
        elif not found.is_cut_like(self.planned):
            raise SelfRepairError(
                f"{worker.name} planned run {record.run_key} in other units than {self.planned.worker}: another process began "
                f"it while the model was loaded. Then {again()}: it goes on in those units."
            )
        self._progress.worker(worker.name, "waiting")

    def _begin(self, message: Message) -> None:
        """What is left of the run, as the leading worker says."""
        assert self.planned is not None
        self._is_over = message["is_nothing"]
        self._schedule = Schedule({unit: self.planned.rows[unit] for unit in message["units"]})
        if message["is_begun"]:
            self._hold_activity()

    def _start_measuring(self, worker: Worker) -> None:
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
            devices = self._place.devices
            names = ", ".join(device.name for device in devices)
            self._activity.enter_context(
                measuring(folder, device=names, processes=len(devices), hosts=self._place.hosts, options=self._options)
            )
            self._is_active = True

    def _assign(self) -> None:
        """Give every worker that waits what there is to do."""
        devices = ", ".join(self._device_names)
        if not self._is_prepared:
            if self._leader is None and self._waiting:
                self._leader = self._waiting.pop(0)
                self._leader.send("lead", devices=devices, **self._place.carried("lead", devices))
            return
        while self._waiting:
            self._waiting.pop(0).send("join", devices=devices, **self._place.carried("join"))
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
            self._leader.send("crosscheck", **self._place.carried("crosscheck"))

    def _advance(self, worker: Worker, rows: int) -> None:
        if worker in self._at:
            self._at[worker].rows += rows
            self._show_unit(worker)
        self._progress.advance(rows)

    def _show_unit(self, worker: Worker) -> None:
        assert self.planned is not None
        unit = self._at[worker]
        self._progress.worker(worker.name, f"unit {unit.number}", self.planned.rows[unit.number], unit.rows)

    def _finish_unit(self, worker: Worker, *, is_new: bool) -> None:
        assert self.planned is not None
        assert self._loader is not None
        del self._at[worker]
        self.units_measured += is_new
        self._loader.add(self.planned.rows[self._schedule.finish(worker.name)])

    def _lose(self, worker: Worker) -> None:
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
        told = f"{worker.title} {worker.fate()}"
        unit = self._at.pop(worker, None)
        if unit is not None:
            self._progress.advance(-unit.rows)
            told += f"; unit {unit.number} is measured again"
        self._progress.worker(worker.name, "ended")
        new = self._place.replacement(worker, self._order, self._inbox)
        if new is not None:
            self._workers.append(new)
            self._progress.worker(new.name, "loading the model")
            told += (
                f"; {new.name} is started again" if new.name == worker.name else f"; {new.name} is started in its place"
            )
        if not self._workers:
            raise ResumableError(
                f"no worker is left: {'; '.join(self._fates)}.",
                f"What is finished is kept: {again()}, and it goes on from there. {self._place.advice}",
            )
        self._progress.note(told)


@dataclass
class _Unit:
    """A unit that is being measured, and how many of its rows are."""

    number: int
    rows: int = 0


@contextlib.contextmanager
def _ended(workers: list[Worker]) -> Iterator[None]:
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
