"""Each process that measures a run is known by its share, and so is why it ended, whatever became of the others."""

import fcntl
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.activity import Activity, activity, measuring
from selfrepair.warehouse.parts.workers import KILLED, Worker, workers

MEASURES = """
import pathlib, sys
from selfrepair.warehouse.parts.activity import measuring
with measuring(pathlib.Path(sys.argv[1]), int(sys.argv[2]), 3, "abacus"):
    print("measuring", flush=True)
    if sys.stdin.read():
        raise MemoryError
"""


def of_this_process(index: int, count: int, status: str, reason: str = "", device: str | None = None) -> Worker:
    return Worker(index, count, socket.gethostname(), os.getpid(), device, status, reason)


def fail(folder: Path, index: int, count: int, text: str) -> None:
    with pytest.raises(SelfRepairError), measuring(folder, index, count):
        raise SelfRepairError(text)


def test_why_each_ended_is_kept_beside_those_that_measure(tmp_path, spawn):
    killed = spawn(MEASURES, tmp_path, 1)
    assert killed.stdout.readline() == "measuring\n"
    fail(tmp_path, 2, 3, "the disk is\nfull.")
    with measuring(tmp_path, 3, 3, "cuda:1"):
        found = workers(tmp_path)
        assert [(one.share, one.status) for one in found] == [
            ("1/3", "running"),
            ("2/3", "stopped"),
            ("3/3", "running"),
        ]
        assert (found[0].pid, found[0].device) == (killed.pid, "abacus")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert activity(tmp_path) == Activity("running")
    host = socket.gethostname()
    assert workers(tmp_path) == [
        Worker(1, 3, host, killed.pid, "abacus", "stopped", KILLED),
        of_this_process(2, 3, "stopped", "the disk is full."),
        of_this_process(3, 3, "done", device="cuda:1"),
    ]
    assert activity(tmp_path) == Activity(
        "stopped", f"shard 1/3 on {host}: {KILLED}; shard 2/3 on {host}: the disk is full"
    )


def test_whoever_takes_over_a_share_replaces_those_who_had_it(tmp_path):
    fail(tmp_path, 1, 2, "one")
    fail(tmp_path, 2, 2, "two")
    with measuring(tmp_path, 2, 2):
        assert [(one.share, one.status) for one in workers(tmp_path)] == [("1/2", "stopped"), ("2/2", "running")]
        with measuring(tmp_path, 2, 2):  # the same share at the same time
            assert [one.share for one in workers(tmp_path)] == ["1/2", "2/2", "2/2"]
        with measuring(tmp_path, 1, 4):  # the run is shared among others now
            assert [one.share for one in workers(tmp_path)] == ["2/2", "1/4"]
    with measuring(tmp_path):
        pass
    assert workers(tmp_path) == [of_this_process(1, 1, "done")]
    assert activity(tmp_path).reason.startswith("its process has measured its share")


def test_the_reason_needs_no_room_on_the_disk(tmp_path):
    with measuring(tmp_path, 1, 2):
        (note,) = tmp_path.glob("worker-*")
        size = note.stat().st_size
    fail(tmp_path, 1, 2, "x" * 10_000)
    (note,) = tmp_path.glob("worker-*")
    assert note.stat().st_size == size
    assert set(workers(tmp_path)[0].reason) == {"x"}


def test_where_nobody_can_lock_nobody_is_said_to_be_killed(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        with measuring(tmp_path):
            assert [one.status for one in workers(tmp_path)] == ["incomplete"]
            assert workers(tmp_path)[0].reason == ""
    assert [one.status for one in workers(tmp_path)] == ["done"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 50_000, '{"locked": true}', '{"status": "x\\u001b", "index": 1}', "\x00\xff"]
)
def test_what_is_no_note_is_left_out(tmp_path, text):
    with measuring(tmp_path, 1, 2):
        pass
    (tmp_path / "worker-2-of-2.7-aa.json").write_text(text)
    (tmp_path / "worker-.json").mkdir()
    assert workers(tmp_path) == [of_this_process(1, 2, "done")]


def test_a_note_of_another_kind_breaks_nothing(tmp_path):
    note = {
        "index": 2,
        "count": 0,
        "host": ["a"],
        "pid": 7,
        "device": 3,
        "locked": True,
        "reason": {},
        "status": "done",
    }
    (tmp_path / "worker-2-of-2.7-aa.json").write_text(json.dumps(note))
    assert [(one.share, one.host, one.device) for one in workers(tmp_path)] == [("2/1", "['a']", "3")]
