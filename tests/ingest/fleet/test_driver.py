"""What the driver decides by itself, without a process: which plans agree, and when finished units are loaded."""

import queue
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.fleet import processes
from selfrepair.ingest.fleet.driver import Fleet
from selfrepair.ingest.fleet.loading import LoaderBeside
from selfrepair.ingest.fleet.messages import Order
from selfrepair.ingest.fleet.processes import Machine, WorkerProcess
from selfrepair.ingest.request.devices import parse_devices
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load import loader
from selfrepair.warehouse.load.loader import loaded_units
from support.fabricate import fabricate


class Told:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.notes = []
        self.note = self.notes.append
        self.stage = self.advance = self.worker = lambda *of, **more: None


@pytest.fixture
def planned(tmp_path):
    """A driver hears the plan of a worker; the records that it passed on."""
    seen = []
    fleet = Fleet(
        IngestRequest(model="demo"),
        Machine(parse_devices("cuda:0,cuda:1")),
        tmp_path / "w.duckdb",
        tmp_path / "parts",
        parts_to_record=None,
        progress=Told(),
        on_planned=seen.append,
    )

    def hear(name, record, rows=(5, 4)):
        message = {"record": record.to_json(), "prompts": [2, 1], "rows": list(rows), "notes": [f"note of {name}"]}
        fleet._plan(SimpleNamespace(name=name), message)
        return seen, fleet

    return hear


def test_plans_that_agree_are_one_run_on_all_their_devices(planned):
    record = fabricate().record
    planned("cuda:0", replace(record, device="H200"))
    seen, fleet = planned("cuda:1", replace(record, device="H100"))
    assert [one.device for one in seen] == ["H200"]
    assert fleet._device_names == ["H200", "H100"]
    assert fleet._progress.notes == ["note of cuda:0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record": fabricate("run-b").record}, "cuda:1 planned run run-b, and cuda:0 run run-a: the model"),
        ({"rows": (4, 5)}, "cuda:1 planned run run-a in other units than cuda:0: another process began it"),
    ],
)
def test_workers_that_plan_other_runs_are_refused(planned, change, message):
    planned("cuda:0", fabricate().record)
    with pytest.raises(SelfRepairError, match=message):
        planned("cuda:1", **{"record": fabricate().record} | change)


def test_a_worker_that_is_killed_within_a_message_is_told_as_any_other(monkeypatch):
    half = 'import os; os.write(1, b\'{"kind": "planned", "rows": [1, 2\'); os.kill(os.getpid(), 9)'
    monkeypatch.setattr(processes, "_COMMAND", [sys.executable, "-c", half])
    inbox = queue.SimpleQueue()
    (device,) = parse_devices("cpu")
    worker = WorkerProcess(device, Order({}, "cpu", 1, "w.duckdb", "parts", None), inbox, 1)
    assert inbox.get(timeout=20) == (worker, None)
    assert worker.fate() == "was killed by SIGKILL, as when memory runs out"
    worker.close()


@pytest.mark.parametrize(
    ("error", "refusals", "fate"),
    [
        ("DeviceMemoryError", [], "ended: no room on cuda:3. Use --devices cpu"),
        ("SelfRepairError", ["no room on cuda:3. Use --devices cpu."], "ended with exit code 1"),
    ],
)
def test_memory_that_runs_out_on_one_device_ends_its_worker_alone(monkeypatch, error, refusals, fate):
    code = (
        "import sys, types; from selfrepair.warehouse import errors; from selfrepair.ingest.fleet import worker\n"
        "from selfrepair.ingest import terms\n"
        f"def work(*_): raise errors.{error}(f'no room on cuda:3. Use {{terms.on_device(\"cpu\")}}.')\n"
        "sys.modules['selfrepair.ingest.fleet.work'] = types.SimpleNamespace(Work=work); worker.main()"
    )
    monkeypatch.setattr(processes, "_COMMAND", [sys.executable, "-c", code])
    inbox = queue.SimpleQueue()
    (device,) = parse_devices("cpu")
    worker = WorkerProcess(device, Order({}, "cpu", 1, "w.duckdb", "parts", None), inbox, 1)
    told = [message["text"] for _, message in iter(lambda: inbox.get(timeout=20), (worker, None))]
    assert told == refusals
    assert worker.fate() == fate
    worker.close()


def test_a_worker_has_a_line_with_the_rows_of_its_unit():
    with TerminalProgress() as progress:
        lines = []
        for at in (("loading the model",), ("unit 3", 10, 4), ("unit 3", 10, 6), ("waiting",), ("unit 7", 9)):
            progress.worker("cuda:1", *at)
            (line,) = progress._bar.tasks
            lines.append((line.description, line.total, line.completed))
    assert lines == [
        ("cuda:1: loading the model", None, 0),
        ("cuda:1: unit 3", 10, 4),
        ("cuda:1: unit 3", 10, 6),
        ("cuda:1: waiting", None, 0),
        ("cuda:1: unit 7", 9, 0),
    ]


def test_units_are_loaded_beside_the_workers_once_they_fill_a_transaction(tmp_path, monkeypatch):
    run, db, root = fabricate(n_units=3), tmp_path / "w.duckdb", tmp_path / "parts"
    rows = run.record.n_measurements // 3
    monkeypatch.setattr(loader, "ROWS_PER_TRANSACTION", 2 * rows)
    parts = run.write(root, units=[0, 1], crosscheck=False)
    beside = LoaderBeside("run-a", db, root, pytest.fail)
    try:
        beside.add(rows)
        time.sleep(0.05)
        assert parts.finished_units() == {0, 1}
        beside.add(rows)
        by = time.monotonic() + 20
        while parts.finished_units() and time.monotonic() < by:
            time.sleep(0.01)
        run.write(root, units=[2], crosscheck=False)
        beside.add(rows)
    finally:
        beside.stop()
    assert loaded_units(db, "run-a") == {0, 1}
    assert parts.finished_units() == {2}


def test_a_load_that_fails_beside_the_workers_is_told_and_left_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "ROWS_PER_TRANSACTION", 1)
    run, root, told = fabricate(), tmp_path / "parts", []
    run.write(root)
    beside = LoaderBeside("run-a", tmp_path / "no folder" / "w.duckdb", root, told.append)
    beside.add(1)
    by = time.monotonic() + 20
    while not told and time.monotonic() < by:
        time.sleep(0.01)
    beside.stop()
    assert len(told) == 1
    assert "finished units are loaded at the end, since now it fails" in told[0]
