"""Units, means and the cross-check of a run go between a driver and workers that see none of its files, without Ray."""

import errno
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from selfrepair.ingest.fleet.actor import Actor
from selfrepair.ingest.fleet.exchange import Exchange
from selfrepair.ingest.fleet.mailbox import LostUnitError, Mailbox, MailboxError
from selfrepair.ingest.fleet.messages import Order
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.runs.outcome import finish_run
from selfrepair.ingest.runs.requested import make_plan
from selfrepair.ingest.runs.stored import all_cuts
from selfrepair.ingest.runs.stored_run import store_run
from selfrepair.warehouse.errors import ResumableError, SelfRepairError
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import RunRecord
from support.fabricate import fabricate
from support.fleets import assert_same_run

REQUEST = IngestRequest(
    model="demo", n_prompts=5, seq_len=12, packing="document", ablation="mean", layers="4-5", crosscheck=3, device="cpu"
)


class Told:
    """A progress that nobody reads."""

    stage = advance = note = staticmethod(lambda *of, **more: None)


class Driver:
    """Sends an actor commands and waits for their answers, as the driver and Ray do."""

    def __init__(self, mailbox: Mailbox, parts: Path, db: Path):
        self.exchange = Exchange(mailbox, parts, db, REQUEST.command())
        self.actor = Actor()
        cuts = {key: tuple(cut) for key, cut in all_cuts(parts, db).items()}
        order = Order(asdict(REQUEST), "cpu", 2, "no.duckdb", "no parts", None, cuts)
        self.actor.start(asdict(order), mailbox.address, str(Path.cwd()), None)
        self.waiting = []
        self.planned = self.answer("planned")
        self.record = RunRecord.from_json(self.planned["record"])
        self.exchange.begin(self.record, self.planned["prompts"])

    def answer(self, kind: str) -> dict:
        while True:
            self.waiting = self.waiting or self.actor.receive()
            message = self.waiting.pop(0)
            assert message["kind"] in (kind, "stage", "advance", "note"), message
            self.exchange.take(message)
            if message["kind"] == kind:
                return message

    def do(self, kind: str, answer: str, **values) -> dict:
        self.actor.send({"kind": kind, **values, **self.exchange.carried(kind, "cpu")})
        return self.answer(answer)


@pytest.mark.slow
@pytest.mark.usefixtures("without_summaries")
def test_two_drivers_one_after_the_other_store_what_one_process_does(tmp_path, monkeypatch):
    mailbox, parts, db = Mailbox(f"file://{tmp_path / 'bucket'}"), tmp_path / "parts", tmp_path / "w.duckdb"
    monkeypatch.chdir(tmp_path)

    first = Driver(mailbox, parts, db)
    left = first.do("lead", "left", devices="cpu")
    assert left["units"] == [0, 1, 2, 3, 4]
    first.answer("ready")
    first.do("measure", "measured", unit=3)
    first.actor.send({"kind": "measure", "unit": 1})
    by = time.monotonic() + 600
    while not mailbox.deliveries(first.record.run_key):  # the driver is killed before it fetches this
        assert time.monotonic() < by
        time.sleep(0.01)

    second = Driver(mailbox, parts, db)
    assert second.planned["rows"] == first.planned["rows"]
    assert second.do("lead", "left", devices="cpu")["units"] == [0, 2, 4]
    second.answer("ready")
    for unit in (4, 0, 2):
        second.do("measure", "measured", unit=unit)
    second.do("crosscheck", "checked")
    run = finish_run(second.record, db, parts, 3, pytest.fail)
    assert run.status == "complete"
    assert run.crosscheck_rows == 33
    second.exchange.finish()
    assert mailbox.deliveries(first.record.run_key) == []

    third = Driver(mailbox, parts, db)
    assert third.do("lead", "left", devices="cpu")["is_nothing"]
    alone = tmp_path / "alone.duckdb"
    store_run(make_plan(REQUEST), alone, tmp_path / "alone", batch_size=None, progress=Told())
    assert_same_run(db, alone)


@pytest.fixture
def delivered(tmp_path):
    """A mailbox with a unit of a run, its name there, and the run's record."""
    run = fabricate(n_units=2)
    parts = run.write(tmp_path / "node", units=[1], crosscheck=False)
    mailbox = Mailbox(str(tmp_path / "mail"))
    return mailbox, mailbox.deliver(parts, 1), run.record


def test_a_delivery_is_fetched_once_and_whole(delivered, tmp_path):
    mailbox, name, record = delivered
    mine = PartsFolder(tmp_path / "mine", record.run_key)
    assert mailbox.deliveries(record.run_key) == [name]
    assert mailbox.fetch(name, mine, record.stamp()) == 1
    assert mine.finished_units() == {1}
    for file in (tmp_path / "node" / record.run_key / "unit-00001").iterdir():
        assert (mine.unit_path(1) / file.name).read_bytes() == file.read_bytes()
    assert mailbox.deliveries(record.run_key) == []
    with pytest.raises(LostUnitError, match="did not arrive whole"):
        mailbox.fetch(name, mine, record.stamp())


def test_a_folder_of_part_files_may_be_the_mailbox_and_loses_none(tmp_path):
    run = fabricate(n_units=2)
    shared = run.write(tmp_path / "shared")
    before = sorted(path.relative_to(shared.path) for path in shared.path.rglob("*"))
    mailbox = Mailbox(f"file://{tmp_path / 'shared'}")
    exchange = Exchange(mailbox, tmp_path / "mine", tmp_path / "w.duckdb", "selfrepair ingest")
    exchange.begin(run.record, [1, 1])
    name = mailbox.deliver(shared, 1)
    assert mailbox.deliveries(run.record.run_key) == [name]
    assert exchange.carried("lead", "cpu")["units_done"] == [1]
    exchange.finish()
    assert sorted(path.relative_to(shared.path) for path in shared.path.rglob("*")) == before
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [run.record.run_key]


def test_a_delivery_that_another_driver_took_is_no_loss(delivered, tmp_path):
    mailbox, name, record = delivered
    one, other = (Exchange(mailbox, tmp_path / "mine", tmp_path / "w.duckdb", "selfrepair ingest") for _ in range(2))
    for exchange in (one, other):
        exchange.begin(record, [1, 1])
    PartsFolder(tmp_path / "mine", record.run_key).start(record)
    assert other.carried("lead", "cpu")["units_done"] == [1]
    one.take({"kind": "measured", "unit": 1, "delivery": name})
    with pytest.raises(LostUnitError, match="did not arrive whole"):
        one.take({"kind": "measured", "unit": 0, "delivery": "unit-00000.of-nobody"})


def test_a_delivery_that_is_cut_short_altered_or_of_other_weights_is_none(delivered, tmp_path):
    mailbox, name, record = delivered
    mine = PartsFolder(tmp_path / "mine", record.run_key)
    other = RunRecord.from_json(record.to_json().replace(record.model.weights_sha256, "0" * 64))
    with pytest.raises(LostUnitError, match="was measured with other weights"):
        mailbox.fetch(name, mine, other.stamp())
    tokens = tmp_path / "mail" / f".{record.run_key}.ray" / name / "tokens.parquet"
    tokens.write_bytes(tokens.read_bytes()[:-1])
    with pytest.raises(LostUnitError, match=r"tokens\.parquet is not as its manifest says"):
        mailbox.fetch(name, mine, record.stamp())
    (tokens.parent / "manifest.json").unlink()
    assert mailbox.deliveries(record.run_key) == []
    assert mine.finished_units() == set()


def test_a_folder_that_others_do_not_see_and_one_that_nobody_may_write_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("selfrepair.ingest.fleet.mailbox._SEEN_WITHIN_S", 0)
    here, there = Mailbox(str(tmp_path / "here")), Mailbox(str(tmp_path / "there"))
    sign = here.sign()
    assert here.sees(sign)
    assert not there.sees(sign)
    greeting = Actor().greet(here.address, sign)
    assert greeting["sees"]
    assert here.sees(greeting["sign"])
    (tmp_path / "file").write_text("no folder")
    unwritable = Mailbox(f"file://{tmp_path / 'file'}/bucket")
    with pytest.raises(MailboxError, match=r"cannot write to file://.*Every node and this machine need to write there"):
        unwritable.sign()
    assert "cannot read file://" in Actor().greet(unwritable.address, sign)["error"]
    with pytest.raises(
        SelfRepairError, match=r"nothing://x is no address of a folder or bucket \(ValueError: Protocol"
    ):
        Mailbox("nothing://x")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ResumableError("the disk is full.", "Again."), ("ended", "the disk is full.")),
        (ResumableError("it failed.", "Again."), ("refused", "it failed. Again.")),
        (MailboxError("no bucket."), ("ended", "no bucket.")),
        (SelfRepairError("no such model."), ("refused", "no such model.")),
        (ValueError("a\nbug"), ("ended", "bug")),
    ],
)
def test_what_ends_a_worker_alone_and_what_the_run(error, told, monkeypatch):
    if "full" in str(error):
        error.__cause__ = OSError(errno.ENOSPC, "no space")

    def fail(*of):
        raise error

    monkeypatch.setattr(Actor, "_measure", fail)
    actor = Actor()
    actor._work(Order({}, "cpu", 1, "", "", None), "", str(Path.cwd()), None)
    (message,) = actor.receive()
    assert (message["kind"], message["text"]) == told
