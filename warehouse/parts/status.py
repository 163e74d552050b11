"""How far the runs of a warehouse and of a folder of part files are: what is missing, who measures it, how long that takes.

Only read, while others measure and load. Times that are left come from the seconds that units took, never from stamps: the
clocks of several machines need not agree.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from selfrepair.warehouse.database.lake.address import parts_beside
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts import listing
from selfrepair.warehouse.parts.activity import activity
from selfrepair.warehouse.parts.command import command_to_resume
from selfrepair.warehouse.parts.manifest import Manifest, MeasuredBy
from selfrepair.warehouse.parts.records import is_run_key
from selfrepair.warehouse.parts.workers import DONE, INCOMPLETE, RUNNING, Worker, workers

COMPLETE, FAILED, MEASURED = "complete", "failed", "measured"
"""Beside what a worker can be, so can a run: in the warehouse and cross-checked, with a cross-check that failed, or measured
and not loaded.
"""

_RUNS = """
SELECT
    CAST(run_id AS INTEGER), run_key, models.name, datasets.name, runs.n_prompts, runs.n_units, CAST(n_measurements AS BIGINT),
    CAST(n_crosschecks AS INTEGER), status, command, crosscheck_error_max, crosscheck_tolerance, run_name
FROM runs JOIN models USING (model_id) JOIN datasets USING (dataset_id)
ORDER BY run_id
"""
_UNITS = """
SELECT run_id, unit, CAST(n_measurements AS BIGINT), measured_at, host, device, worker, seconds FROM units
"""
_UNKNOWN = "the ingest command or call that began it"
_CELLS = "SELECT run_id, prompt_id, layer, head, CAST(ablation AS VARCHAR) FROM crosschecks"


@dataclass(frozen=True)
class FinishedUnit:
    """A finished unit: its rows of measurements, when it was finished by its machine's clock (UTC), and by whom."""

    rows: int
    at: datetime
    by: MeasuredBy | None


@dataclass(frozen=True)
class TimeLeft:
    """`rows_per_s` is the pace of those who measure, `seconds_left` what they need for the units that are theirs; None where
    nobody measures. `seconds_of_one` is what one process would need for all that is missing. None where no unit tells.
    """

    rows_per_s: float | None = None
    seconds_left: float | None = None
    seconds_of_one: float | None = None


@dataclass(frozen=True)
class Measurer:
    """Who measured `units` units, or measures: one process, or all that are over and left no note of one device. `shard` is
    `2/3`, `seconds` the time of a unit on average; `reason` says why a process ended before its share was measured.
    """

    shard: str | None
    host: str | None
    device: str | None
    status: str
    units: int
    seconds: float | None
    reason: str = ""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is. Of its `n_units` units, `loaded` are in the warehouse, `in_parts` in part files alone and good, and
    `missing` are neither; `by_shard` counts the missing ones, where the run is shared, and `silent` are shards of these that
    never wrote into the folder. `cells` of `n_cells` are cross-checked, `cells_in_parts` of them in part files alone. `last` is
    the latest unit by its machine's own clock. `why` says in words why the run is not whole, `next` what to type.
    """

    run_key: str
    run_id: int | None
    run_name: str | None
    model: str
    dataset: str
    n_prompts: int
    status: str
    n_units: int
    loaded: int
    in_parts: int
    missing: tuple[int, ...]
    by_shard: Mapping[str, int]
    silent: tuple[str, ...]
    cells: int
    cells_in_parts: int
    n_cells: int
    by: tuple[Measurer, ...]
    last: tuple[int, str | None, datetime] | None
    time: TimeLeft
    damaged: tuple[str, ...] = ()
    why: str = ""
    next: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all of it is in the warehouse, whatever its cross-check says."""
        return self.loaded == self.n_units and self.cells - self.cells_in_parts >= self.n_cells


def statuses(
    root: Path, db: Path, run_keys: Sequence[str] | None = None, wait_s: float = 0.0
) -> tuple[list[RunStatus], list[str]]:
    """The runs in `db` and below `root`, or those of `run_keys`, with a line for each thing that cannot be read; for `db` it
    waits `wait_s` seconds at most.
    """
    notes: list[str] = []
    stored: dict[str, _Run] = {}
    if db.exists():
        try:
            stored = {run.run_key: run for run in _stored(db, wait_s)}
        except SelfRepairError as error:
            notes.append(f"What is loaded is not counted: {error}")
    found = []
    for key in [*stored, *(key for key in listing.run_keys(root) if key not in stored)]:
        if run_keys is not None and key not in run_keys:
            continue
        folder = root / key if is_run_key(key) else None
        run = stored.get(key)
        if run is None and folder is not None and (folder / listing.RUN).exists():
            try:
                run = _recorded(folder)
            except SelfRepairError as error:
                notes.append(str(error))
        if run is not None:
            found.append(_status(run, folder, root, db))
    return found, notes


def time_left(n_rows: int, n_units: int, units: Mapping[int, FinishedUnit], known: Sequence[Worker]) -> TimeLeft:
    """How long a run of `n_rows` in `n_units` still takes, of which `units` are finished, from the seconds that they took.

    Those who measure (`known`, the others are left out) have their shards' units, each at its own pace.
    """
    paces = _paces(units)
    if None not in paces:
        return TimeLeft()
    missing = [unit for unit in range(n_units) if unit not in units]
    rows_of_unit = (n_rows - sum(unit.rows for unit in units.values())) / len(missing) if missing else 0.0
    together: dict[tuple[int, int], float] = defaultdict(float)
    for worker in known:
        if worker.status == RUNNING:
            together[worker.index, worker.count] += paces.get(worker.name, paces[None]) * max(1, worker.processes)
    left = [
        sum(unit % count == index - 1 for unit in missing) * rows_of_unit / pace
        for (index, count), pace in together.items()
    ]
    return TimeLeft(
        sum(together.values()) if together else None,
        max(left) if left else None,
        len(missing) * rows_of_unit / paces[None] if missing else None,
    )


def why_failed(run_id: int, error: float, allowed: float, db: Path) -> str:
    """What is said of a run whose cross-check failed: errors in logits."""
    return (
        f"run {run_id} is failed: its cross-check differs by {error:.2g} logits ({allowed:.2g} are allowed), and summaries "
        "leave it out. Measure it with --dtype float64, and remove this one: "
        f"selfrepair remove {run_id} --db {shlex.quote(str(db))}"
    )


@dataclass(frozen=True)
class _Run:
    """What the warehouse or a record says of a run; `units` and `cells` are loaded."""

    run_id: int | None
    run_key: str
    model: str
    dataset: str
    n_prompts: int
    n_units: int
    rows: int
    n_cells: int
    status: str = INCOMPLETE
    command: str | None = None
    error: float | None = None
    allowed: float | None = None
    run_name: str | None = None
    units: dict[int, FinishedUnit] = field(default_factory=dict)
    cells: set[tuple[int, int, int, str]] = field(default_factory=set)


def _stored(db: Path, wait_s: float) -> list[_Run]:
    from selfrepair.warehouse.database.connection import open_reader  # a third of a second, where there is no file

    with open_reader(db, wait_s) as con:
        found = {row[0]: _Run(*row) for row in con.execute(_RUNS).fetchall()}
        for run_id, unit, rows, at, host, device, worker, seconds in con.execute(_UNITS).fetchall():
            by = None if worker is None else MeasuredBy(host, device, worker, seconds)
            found[run_id].units[unit] = FinishedUnit(rows, at, by)
        for run_id, *cell in con.execute(_CELLS).fetchall():
            found[run_id].cells.add(tuple(cell))
    return list(found.values())


def _recorded(folder: Path) -> _Run:
    run = listing.record(folder)
    return _Run(
        None,
        run.run_key,
        run.model.name,
        run.dataset.name,
        run.n_prompts,
        run.n_units,
        run.n_measurements,
        run.n_crosschecks,
        command=run.command,
        run_name=run.run_name,
    )


def _status(run: _Run, folder: Path | None, root: Path, db: Path) -> RunStatus:
    read, damaged = listing.manifests(folder) if folder else ({}, [])
    in_parts = {unit: finished_unit(manifest) for unit, manifest in read.items() if unit not in run.units}
    units = in_parts | run.units
    known = workers(folder) if folder and folder.is_dir() else []
    missing = tuple(unit for unit in range(run.n_units) if unit not in units)
    cells = run.cells | (listing.crosschecked(folder) if folder else set())
    missing_of = _missing_of(missing, known)
    status = RunStatus(
        run_key=run.run_key,
        run_id=run.run_id,
        run_name=run.run_name,
        model=run.model,
        dataset=run.dataset,
        n_prompts=run.n_prompts,
        status=run.status,
        n_units=run.n_units,
        loaded=len(run.units),
        in_parts=len(in_parts),
        missing=missing,
        by_shard={shard: len(of_shard) for shard, of_shard in missing_of.items()},
        silent=tuple(shard for shard in missing_of if shard not in {worker.share for worker in known}),
        cells=len(cells),
        cells_in_parts=len(cells - run.cells),
        n_cells=run.n_cells,
        by=tuple(_measurers(units, known)),
        last=_last(units),
        time=time_left(run.rows, run.n_units, units, known),
        damaged=tuple(damaged),
    )
    return _with_next(status, run, known, folder, root, db)


def _with_next(
    status: RunStatus, run: _Run, known: Sequence[Worker], folder: Path | None, root: Path, db: Path
) -> RunStatus:
    """The status with what it comes to in a word, why, and what to type next."""
    running = [worker for worker in known if worker.status == RUNNING]
    again = _command(run, status, root, db)
    options = next((worker.options for worker in reversed(known) if worker.options), ())
    as_before = shlex.join([*shlex.split(again), *options]) if again != _UNKNOWN else again
    load = f"selfrepair load {shlex.quote(str(root))} --db {shlex.quote(str(db))}"
    if run.status == FAILED and run.run_id is not None and run.error is not None and run.allowed is not None:
        return replace(status, why=why_failed(run.run_id, run.error, run.allowed, db))
    if status.is_whole:
        return replace(status, status=COMPLETE)
    now = activity(folder) if folder else None
    if running or (now and now.status == RUNNING):
        idle = [shard for shard in status.by_shard if shard not in {worker.share for worker in running}]
        return replace(status, status=RUNNING, next=tuple(f"{again} --shard {shard}" for shard in idle))
    if not status.missing and status.cells >= status.n_cells:
        return replace(status, status=MEASURED, next=(load,))
    why = now.reason if now else f"its key {run.run_key!r} names no folder of part files"
    shards = tuple(f"{again} --shard {shard}" for shard in status.by_shard)  # they load nothing
    return replace(
        status, status=now.status if now else INCOMPLETE, why=why, next=(*shards, load) if shards else (as_before,)
    )


def _command(run: _Run, status: RunStatus, root: Path, db: Path) -> str:
    """The recorded command, with this warehouse, the run's name, and this folder of part files if it is not the usual one."""
    again = command_to_resume(run.command, db)
    if again is None:
        return _UNKNOWN
    words = shlex.split(again)
    if run.run_name is not None and run.run_name.isprintable():
        words += ["--name", run.run_name]
    if (root / status.run_key).is_dir():
        if "--parts" in words:
            at = words.index("--parts")
            del words[at : at + 2]
        if root.absolute() != parts_beside(db).absolute():
            words += ["--parts", str(root)]
    return shlex.join(words)


def finished_unit(manifest: Manifest) -> FinishedUnit:
    """What a manifest of `listing.manifests` says."""
    return FinishedUnit(manifest.files["measurements.parquet"].rows, manifest.measured_at, manifest.by)


def _missing_of(missing: Sequence[int], known: Sequence[Worker]) -> dict[str, list[int]]:
    """The missing units of each shard that has some; empty where the run is not shared, as far as its workers say."""
    counts = Counter(worker.count for worker in known)
    if not counts or (count := max(counts, key=lambda n: (counts[n], n))) == 1:
        return {}
    found = defaultdict(list)
    for unit in missing:
        found[f"{unit % count + 1}/{count}"].append(unit)
    return dict(sorted(found.items(), key=lambda one: int(one[0].partition("/")[0])))


def _paces(units: Mapping[int, FinishedUnit]) -> dict[str | None, float]:
    """Rows per second of each process, by its name, and of all together under None: what one of them does on average."""
    rows: Counter[str | None] = Counter()
    seconds: dict[str | None, float] = defaultdict(float)
    for unit in units.values():
        if unit.by is not None and unit.by.seconds > 0 and unit.rows > 0:
            for name in (unit.by.worker, None):
                rows[name] += unit.rows
                seconds[name] += unit.by.seconds
    return {name: rows[name] / seconds[name] for name in rows}


def _measurers(units: Mapping[int, FinishedUnit], known: Sequence[Worker]) -> Iterator[Measurer]:
    seconds: dict[str | None, list[float]] = defaultdict(list)
    where: dict[str | None, tuple[str | None, str | None]] = {None: (None, None)}
    for unit in units.values():
        name = unit.by.worker if unit.by else None
        seconds[name].append(unit.by.seconds if unit.by else 0.0)
        if unit.by:
            where[name] = unit.by.host, unit.by.device
    for worker in known:
        of_worker = seconds.pop(worker.name, [])
        if worker.status == RUNNING and _hosts_led(worker) & {host for host, _ in where.values()}:
            continue  # its processes are told below, by device
        yield Measurer(
            worker.share if worker.count > 1 else None,
            worker.host,
            worker.device,
            worker.status,
            len(of_worker),
            _mean(of_worker),
            worker.reason,
        )
    others: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    for name, of_worker in seconds.items():
        others[where[name]] += of_worker
    leading = {host for worker in known if worker.status == RUNNING for host in _hosts_led(worker)}
    for (host, device), of_device in sorted(others.items(), key=str):
        status = RUNNING if host in leading else DONE
        yield Measurer(None, host, device, status, len(of_device), _mean(of_device) if host else None)


def _hosts_led(worker: Worker) -> set[str | None]:
    """The machines on which a process has others measure."""
    return {*(worker.hosts or (worker.host,))} if worker.processes else set()


def _mean(seconds: Sequence[float]) -> float | None:
    return sum(seconds) / len(seconds) if seconds else None


def _last(units: Mapping[int, FinishedUnit]) -> tuple[int, str | None, datetime] | None:
    if not units:
        return None
    number, unit = max(units.items(), key=lambda one: one[1].at)
    return number, unit.by.host if unit.by else None, unit.at
