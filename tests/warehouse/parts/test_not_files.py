"""Pipes and links that lead nowhere in the place of files: an error at once, and nobody waits at them."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from selfrepair.app.data.part_files import unloaded_runs
from selfrepair.warehouse.errors import SelfRepairError, check_there
from selfrepair.warehouse.load.crosschecks import read_cells
from selfrepair.warehouse.load.units import check_unit
from selfrepair.warehouse.parts.activity import INCOMPLETE, RUNNING, STOPPED, activity, measuring
from selfrepair.warehouse.parts.folder import PartsFolder
from support.fabricate import fabricate

PLACES: list[Callable[[Path], None]] = [os.mkfifo, lambda path: path.symlink_to(path.name), lambda path: path.mkdir()]


@contextmanager
def at_once() -> Iterator[None]:
    """The block fails where it waits at a pipe."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=PLACES, ids=["pipe", "link to itself", "folder"])
def put(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Puts it in the place of a file."""

    def replace(path: Path) -> Path:
        path.unlink(missing_ok=True)
        request.param(path)
        return path

    return replace


def test_part_files_that_are_none_are_named_and_not_waited_for(put: Callable[[Path], Path], tmp_path: Path) -> None:
    parts = fabricate().write(tmp_path)
    unit = parts.unit_path(0)
    (parts.path / "measuring.lock").touch()
    put(parts.path / "stopped.txt")
    put(parts.path / "pairs.npy")
    file = put(unit / "measurements.parquet")
    with at_once():
        assert activity(parts.path).status == STOPPED
        assert parts.array("pairs.npy") is None
        with pytest.raises(SelfRepairError, match=f"{file} "):
            check_unit(unit, 0, parts.run_key)
        with pytest.raises(SelfRepairError, match=f"{unit / 'manifest.json'} cannot be read"):
            check_unit(put(unit / "manifest.json").parent, 0, parts.run_key)
        assert parts.finished_units() == {1}
        with pytest.raises(SelfRepairError, match="cannot be read"):
            read_cells(put(parts.crosscheck_path(0, 1)), parts.run_key)
        put(parts.path / "run.json")
        with pytest.raises(SelfRepairError, match=f"{parts.path / 'run.json'} cannot be read"):
            parts.run()
        found, errors = unloaded_runs(tmp_path)
        assert (found, len(errors)) == ({}, 1)


def test_a_lock_that_is_none_gives_way_to_one(put: Callable[[Path], Path], tmp_path: Path) -> None:
    lock = put(tmp_path / "measuring.lock")
    with at_once():
        assert activity(tmp_path).status == INCOMPLETE
        with measuring(tmp_path):
            assert activity(tmp_path).status == RUNNING
    assert lock.is_file()
    assert "has measured its share" in activity(tmp_path).reason


def test_a_warehouse_that_is_none_is_not_opened(put: Callable[[Path], Path], tmp_path: Path) -> None:
    path = put(tmp_path / "w.duckdb")
    with at_once():
        if path.is_dir():
            check_there(path)  # opening it names a file in the folder
            return
        with pytest.raises(SelfRepairError, match=f"{path}.*name another file.|{path} is a pipe"):
            check_there(path)


def test_parts_below_a_link_to_itself_are_none(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    root.symlink_to("parts")
    with at_once():
        assert unloaded_runs(root) == ({}, [])
        assert not PartsFolder(root, "run-a").exists()
