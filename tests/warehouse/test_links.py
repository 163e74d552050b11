"""Links in the places of files that selfrepair makes beside a warehouse and among part files: nothing they lead to changes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from selfrepair.warehouse.database.connection import connected
from selfrepair.warehouse.database.limits import CLOSED
from selfrepair.warehouse.database.write_request import (
    let_readers_go_first,
    request_read,
    request_write,
    withdraw_read_request,
    withdraw_write_request,
    write_is_requested,
)
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.parts.activity import RUNNING, activity, measuring
from selfrepair.warehouse.parts.workers import STOPPED, workers
from support.fabricate import fabricate

PRECIOUS = "{a file of somebody's}"
Link = Callable[[Path], None]


@pytest.fixture(params=["a file", "nothing"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Link]:
    """Puts a link in a place, and checks in the end that it led to what it does now."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = elsewhere / "file"
    if request.param == "a file":
        file.write_text(PRECIOUS)
        os.utime(file, (1, 1))
    before = _seen(elsewhere)

    def put(path: Path) -> None:
        path.symlink_to(file)

    yield put
    assert _seen(elsewhere) == before


def _seen(folder: Path) -> list[tuple[str, str, float]]:
    return [(path.name, path.read_text(), path.stat().st_mtime) for path in sorted(folder.iterdir())]


def test_requests_are_made_in_the_place_of_links(link: Link, tmp_path: Path) -> None:
    db = tmp_path / "w.duckdb"
    request_read(db)
    (asked,) = set(tmp_path.iterdir()) - {tmp_path / "elsewhere"}
    asked.unlink()
    for path in (tmp_path / ".w.duckdb.wanted", asked):
        link(path)
    request_write(db)
    request_read(db)
    assert write_is_requested(db)
    assert [path.is_symlink() for path in (tmp_path / ".w.duckdb.wanted", asked)] == [False, False]
    withdraw_write_request(db)
    withdraw_read_request(db)
    let_readers_go_first(db)
    assert not write_is_requested(db)


def test_every_file_of_a_run_is_made_in_the_place_of_links(link: Link, tmp_path: Path) -> None:
    run, root = fabricate(), tmp_path / "parts"
    with measuring(run.write(tmp_path / "first").path):
        names = [path.name for path in (tmp_path / "first" / "run-a").iterdir()]
    assert {"run.json", "measuring.lock", "crosscheck-0-of-1.json", "unit-00000"} < set(names)
    assert any(name.startswith("worker-1-of-1.") for name in names)
    folder = root / "run-a"
    folder.mkdir(parents=True)
    for name in (*names, "stopped.txt", "pairs.npy"):
        link(folder / name)
    assert PRECIOUS not in activity(folder).reason  # which status shows, and the app
    assert workers(folder) == []
    if (folder / "run.json").exists():  # which is read for a record, and is none
        with pytest.raises(SelfRepairError, match=r"run\.json: the record of a run is not JSON"):
            run.write(root)
        (folder / "run.json").unlink()
    with measuring(folder):
        run.write(root).write_array("pairs.npy", np.arange(3))
        assert activity(folder).status == RUNNING
    assert activity(folder).status == STOPPED
    assert [path.name for path in folder.iterdir() if path.is_symlink() and not path.name.startswith("worker-")] == []
    load(tmp_path / "w.duckdb", root, after_load=False)
    assert not root.exists()


def test_a_link_in_the_place_of_duckdb_s_temporary_folder_is_not_followed(tmp_path: Path) -> None:
    db = tmp_path / "w.duckdb"
    load(db, fabricate().write(tmp_path / "parts").root, after_load=False)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.duckdb.tmp").symlink_to(folder)
    settings = {**CLOSED, "memory_limit": "25MB", "threads": 1}
    with connected(db, settings, read_only=False, wait_s=1, on_wait=None) as con:
        con.execute("CREATE TEMP TABLE t AS SELECT hash(i) AS a, hash(i + 1) AS b FROM range(1500000) AS r(i)")
        made = [path for path in tmp_path.glob(".w.duckdb.*.tmp") if any(path.iterdir())]
        assert len(made) == 1
    assert not made[0].exists()
    assert list(folder.iterdir()) == []
