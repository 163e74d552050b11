"""Whether a run is being measured is known however its process ended, and why it ended."""

import contextlib
import errno
import fcntl
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from selfrepair.warehouse.errors import ResumableError, SelfRepairError
from selfrepair.warehouse.parts.activity import Activity, activity, activity_of_run, measuring

MEASURES = """
import pathlib, sys
from selfrepair.warehouse.parts.activity import measuring
with measuring(pathlib.Path(sys.argv[1])):
    print("measuring", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "it was interrupted"),
        (SelfRepairError("layer 3 gives NaN.\nTry another."), "layer 3 gives NaN. Try another."),
        (ResumableError("the disk is full.", "run it again"), "the disk is full."),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_error_that_ended_it_is_kept_until_it_goes_on(tmp_path, error, reason):
    with pytest.raises(type(error)), measuring(tmp_path):
        raise error
    assert activity(tmp_path) == Activity("stopped", reason)
    with measuring(tmp_path):
        assert activity(tmp_path) == Activity("running")
        with measuring(tmp_path):  # another shard
            pass
        assert activity(tmp_path) == Activity("running")
    assert activity(tmp_path).reason.startswith("its process has measured its share")


@pytest.mark.parametrize("key", ["{root}/elsewhere", "../elsewhere", "..", ".", "", "a\x1b]0;b"])
def test_a_key_that_leads_elsewhere_is_not_followed(tmp_path, key):
    (tmp_path / "parts" / "run").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path, tmp_path / "parts", tmp_path / "elsewhere"):
        (folder / "measuring.lock").touch()
    known = activity_of_run(tmp_path / "parts", key.format(root=tmp_path))
    assert (known.status, "names no folder" in known.reason, known.reason.isprintable()) == ("incomplete", True, True)


def test_a_killed_process_is_not_measuring_any_more(tmp_path, spawn):
    process = spawn(MEASURES, tmp_path)
    assert process.stdout.readline() == "measuring\n"
    assert activity(tmp_path) == Activity("running")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert activity(tmp_path) == Activity("stopped", "its process was killed, or the machine went down")


@pytest.fixture
def on_nfs(monkeypatch):
    """Locks as a client of NFS gives them: shared ones of files open for reading, exclusive ones of files open for writing."""
    lock = fcntl.flock

    def flock(file, operation):
        access = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if access == (os.O_WRONLY if operation & fcntl.LOCK_SH else os.O_RDONLY):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_run_is_known_to_be_measured_over_nfs(tmp_path, on_nfs):
    with measuring(tmp_path):
        assert activity(tmp_path) == Activity("running")
    assert activity(tmp_path).status == "stopped"


def test_whoever_cannot_lock_leaves_the_lock_of_another(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with measuring(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", refused)
            with measuring(tmp_path):
                pass
        assert activity(tmp_path) == Activity("running")


def test_two_who_look_do_not_take_each_other_for_a_process_that_measures(tmp_path, monkeypatch):
    with measuring(tmp_path):
        pass
    with (tmp_path / "measuring.lock").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as `activity` in another process
        monkeypatch.setattr(time, "sleep", lambda _: other.close())
        assert activity(tmp_path).status == "stopped"


@contextlib.contextmanager
def as_another_user():
    """Somebody who may read and not write; root may do everything, and becomes nobody."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_may_only_be_read_tells_and_locks_as_well():
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "measuring.lock").touch(0o444)
        with as_another_user():
            assert activity(folder).status == "stopped"
            with measuring(folder):
                assert activity(folder) == Activity("running")


def test_of_a_folder_that_was_never_locked_nothing_is_known(tmp_path):
    assert activity(tmp_path).status == activity(tmp_path / "nowhere").status == "incomplete"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_meanwhile_stays_removed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with measuring(folder):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert not folder.exists()
