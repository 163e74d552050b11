"""What replaces a lost worker of Ray, and what becomes of what killed drivers and workers left: without a cluster."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from selfrepair.ingest.fleet.driver import Fleet
from selfrepair.ingest.fleet.exchange import Exchange
from selfrepair.ingest.fleet.mailbox import Mailbox, place_of
from selfrepair.ingest.fleet.processes import Machine
from selfrepair.ingest.fleet.ray_cluster import RayCluster, Spot, _spot_instead
from selfrepair.ingest.request.devices import parse_devices
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import load
from support.fabricate import fabricate


def spot(name: str, node: str) -> Spot:
    return Spot(name, node, name, 0, 1, None)


A, B, OTHER_B, C = spot("a", "1"), spot("b 1", "2"), spot("b 2", "2"), spot("c", "3")


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([A, B, C], A),  # its node is there: in the same place
        ([B, C], C),  # a node that came
        ([B], None),  # no room
        ([B, OTHER_B], OTHER_B),
        ([spot("b 1", "3")], replace(spot("b 1", "3"), name="b 1, again")),
    ],
)
def test_a_lost_worker_goes_where_there_is_room(there: list[Spot], found: Spot | None) -> None:
    assert _spot_instead(A, [A, B], there) == found


def test_only_so_many_are_replaced_and_none_that_ended_by_itself(tmp_path, monkeypatch) -> None:
    nodes = [{"NodeManagerHostname": "a", "NodeID": "1", "Alive": True, "Resources": {"CPU": 1.0}}]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: nodes))
    cluster = RayCluster("local", 1, Mailbox(str(tmp_path)))
    cluster._spots, cluster._left = [A], 2
    monkeypatch.setattr(cluster, "_start", lambda spot, order, inbox: spot)
    lost = SimpleNamespace(spot=A, was_lost=True)
    assert cluster.replacement(SimpleNamespace(spot=A, was_lost=False), None, None) is None
    assert [cluster.replacement(lost, None, None) for _ in range(3)] == [A, A, None]


def test_the_driver_goes_on_with_the_worker_that_replaces_its_last(tmp_path) -> None:
    notes: list[str] = []
    progress = SimpleNamespace(note=notes.append, worker=lambda *of: None, advance=lambda rows: None)
    place = Machine(parse_devices("cuda:0"))
    fleet = Fleet(
        IngestRequest(model="demo"),
        place,
        tmp_path / "w.duckdb",
        tmp_path / "parts",
        parts_to_record=None,
        progress=progress,
        on_planned=lambda record: None,
    )
    first, second = (
        SimpleNamespace(name=name, title=name, close=lambda: None, fate=lambda: "was killed") for name in ("a", "b")
    )
    fleet._workers = [first]
    place.replacement = lambda worker, order, inbox: second if worker is first else None
    fleet._lose(first)
    assert fleet._workers == [second]
    assert notes == ["a was killed; b is started in its place"]
    with pytest.raises(SelfRepairError, match="no worker is left: a was killed; b was killed"):
        fleet._lose(second)


def test_two_warehouses_in_one_bucket_leave_each_others_deliveries(tmp_path) -> None:
    bucket = f"file://{tmp_path / 'bucket'}"
    run = fabricate(n_units=2)
    parts = run.write(tmp_path / "node", units=[1], crosscheck=False)
    mine, theirs = (Mailbox(place_of(bucket, tmp_path / name)) for name in ("mine.duckdb", "theirs.duckdb"))
    name = mine.deliver(parts, 1)
    assert mine.runs() == [run.record.run_key]
    assert mine.deliveries(run.record.run_key) == [name]
    assert theirs.deliveries(run.record.run_key) == theirs.runs() == []
    assert place_of(bucket, tmp_path / "mine.duckdb") == place_of(f"{bucket}/", tmp_path / "x" / ".." / "mine.duckdb")


def test_the_next_driver_sweeps_what_killed_ones_left(tmp_path: Path) -> None:
    """Of a run that was removed, and of one that is whole; what is left to fetch of one that is not stays."""
    mailbox, db = Mailbox(str(tmp_path / "mail")), tmp_path / "w.duckdb"
    runs = {name: fabricate(name, n_units=2) for name in ("run-a", "run-removed", "run-whole", "run-begun")}
    for name, run in runs.items():
        mailbox.deliver(run.write(tmp_path / "node", units=[1], crosscheck=False), 1)
        if name in ("run-whole", "run-begun"):
            run.write(tmp_path / name, units=[0, 1] if name == "run-whole" else [0], crosscheck=name == "run-whole")
            load(db, tmp_path / name, after_load=False)
    exchange = Exchange(mailbox, tmp_path / "parts", db, "selfrepair ingest")
    exchange.begin(runs["run-a"].record, [1, 1])
    exchange.carried("lead", "cpu")
    assert mailbox.runs() == ["run-a", "run-begun"]
    assert mailbox.deliveries("run-a") == [], "its own was fetched"


def test_signs_of_killed_processes_are_swept(tmp_path: Path) -> None:
    code = f"from selfrepair.ingest.fleet.mailbox import Mailbox; print(Mailbox({str(tmp_path)!r}).sign()[0])"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    mailbox = Mailbox(str(tmp_path))
    own, _ = mailbox.sign()
    assert {path.name for path in tmp_path.iterdir()} == {own, dead}
    mailbox.sweep_signs()
    assert [path.name for path in tmp_path.iterdir()] == [own]
