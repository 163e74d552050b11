"""Whether a run is being measured is known however its process ended, and why it ended."""

import signal

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
