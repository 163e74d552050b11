"""Wherever a first load is cut off, the file opens and the same load again makes it what it would have been.

A kill keeps what was written before it. So the files as they are at a moment, copied, are what a kill then leaves.
"""

import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfrepair.warehouse import files
from selfrepair.warehouse.database import connection
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load import loader
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.verify.verification import verify
from support.contents import Contents, contents, differences

MARTS = ("head_repair", "model_repair", "tail_curve")


class Watched:
    """A connection that tells of every call before it is made."""

    def __init__(self, con: duckdb.DuckDBPyConnection, on_call: Callable[[str], None]) -> None:
        self._con = con
        self._on_call = on_call

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._con, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._on_call(name)
            return found(*args, **kwargs)

        return call


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch, db: Path, root: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Do something and get, for every so many calls of a connection's that have one of these names, a folder with what a kill
    at that moment leaves. The seed of the run says which is the first.
    """

    def watch(do: Callable[[], object], *calls: str, every: int = 1) -> list[Path]:
        left: list[Path] = []
        numbers = itertools.count(random.randrange(every))

        def keep(name: str) -> None:
            if name not in calls or (number := next(numbers)) % every:
                return
            left.append(tmp_path / f"at {number} {name}")
            left[-1].mkdir()
            for path in [*db.parent.glob("*w.duckdb*")]:
                if path.is_dir():
                    shutil.copytree(path, left[-1] / path.name)
                else:
                    shutil.copy(path, left[-1] / path.name.replace(files._PROCESS, "000000"))  # a process that is gone

        connect = duckdb.connect

        def watched(*file: str, **settings: Any) -> Any:
            con = connect(*file, **settings)
            return Watched(con, keep) if file else con  # part files are read in memory

        with monkeypatch.context() as patch:
            patch.setattr(connection.duckdb, "connect", watched)
            do()
        return left

    return watch


@pytest.fixture
def unbroken(fabricate, root: Path, tmp_path: Path) -> Contents:
    (tmp_path / "unbroken").mkdir()
    fabricate().write(root)
    shutil.copytree(root, tmp_path / "unbroken" / "parts")
    load(tmp_path / "unbroken" / "w.duckdb", tmp_path / "unbroken" / "parts")
    return contents(tmp_path / "unbroken" / "w.duckdb")


def test_a_first_load_that_is_cut_off_leaves_a_file_that_opens(fabricate, moments, db, root):
    fabricate(n_units=1).write(root)
    left = moments(lambda: load(db, root, after_load=False), "commit", "close")
    assert len(left) > 5
    for folder in left:
        path = folder / db.name
        if path.exists():
            with open_reader(path) as con:
                assert len(con.execute("SELECT count(*) FROM units").fetchall()) == 1
        with open_writer(path) as con:
            ((n_units,),) = con.execute("SELECT count(*) FROM units").fetchall()
        assert n_units or (folder / root.name).exists()
        assert [file.name for file in sorted(folder.iterdir())] == [db.name, root.name]


@pytest.mark.slow
@pytest.mark.parametrize("every", [211, pytest.param(29, marks=pytest.mark.exhaustive)])
def test_a_load_that_is_cut_off_anywhere_comes_to_the_same_when_repeated(
    fabricate, moments, db, root, unbroken, monkeypatch, every
):
    monkeypatch.setattr(loader, "ROWS_PER_TRANSACTION", 1)
    left = moments(lambda: load(db, root), "execute", "commit", "begin", "close", "register", every=every)
    assert left
    for folder in left:
        load(folder / db.name, folder / root.name)
        assert differences(contents(folder / db.name), unbroken) == [], folder
        with open_reader(folder / db.name) as con:  # summaries are shown as long as they are of the loaded units
            assert all(con.execute(f"FROM {mart}").fetchone() for mart in MARTS)
        assert all(check.ok for check in verify(folder / db.name))
        assert [file.name for file in folder.iterdir()] == [db.name]


@pytest.mark.parametrize("what", ["damaged", "of another file"])
def test_a_log_that_cannot_be_replayed_is_moved_away_and_nothing_is_lost(what, fabricate, moments, db, root):
    fabricate(n_units=1).write(root)
    folder = moments(lambda: load(db, root, after_load=False), "commit")[-1]
    path = folder / db.name
    log = path.with_name(path.name + files.WAL)
    if what == "damaged":
        log.write_bytes(bytes([*log.read_bytes()[:60], 7, 7, 7, 7, *log.read_bytes()[64:]]))
    else:
        with duckdb.connect(str(folder / "other")) as con:
            con.execute("CREATE TABLE units AS SELECT 1 AS x")
            shutil.copy(folder / "other.wal", log)
    before = path.read_bytes()
    for open_it in (open_reader, open_writer):
        with (
            pytest.raises(
                SelfRepairError,
                match=rf"cannot replay, {log}.*Move the log away \(mv '{log}' '{log}\.bad'\), .*loaded or measured again",
            ),
            open_it(path),
        ):
            pass
    assert path.read_bytes() == before
    log.rename(log.with_suffix(".bad"))
    load(path, folder / root.name, after_load=False)
    with open_reader(path) as con:
        assert con.execute("SELECT count(*) FROM measurements").fetchall() == [(432,)]


@pytest.mark.parametrize("name", ["w.duckdb", "link.duckdb"])
def test_a_log_of_a_file_that_is_gone_is_not_replayed_into_a_new_one(name, fabricate, moments, db, root):
    fabricate(n_units=1).write(root)
    folder = moments(lambda: load(db, root, after_load=False), "commit")[-1]
    (folder / db.name).rename(folder / "away.duckdb")
    log = (folder / db.name).with_suffix(f".duckdb{files.WAL}")
    assert log.exists()
    if name != db.name:
        (folder / name).symlink_to(db.name)
    shutil.rmtree(folder / root.name)
    fabricate("run-b", n_units=1).write(folder / root.name)
    with pytest.raises(
        SelfRepairError, match=rf"a log of a file that is gone, {log}: .*\(mv '{log}' '{log}\.bad'\), then"
    ):
        load(folder / name, folder / root.name, after_load=False)
    log.rename(f"{log}.bad")
    load(folder / name, folder / root.name, after_load=False)
    with open_reader(folder / db.name) as con:
        assert con.execute("SELECT run_key FROM runs").fetchall() == [("run-b",)]
