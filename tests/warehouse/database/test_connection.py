"""Opening a warehouse file: every way it can go wrong ends with the next step."""

import errno
import itertools
import os
import shutil
import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse import files
from selfrepair.warehouse.database import connection, write_request
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.errors import InUseError, ResumableError, SelfRepairError

HOLD = """
import sys
from pathlib import Path
from selfrepair.warehouse.database.connection import open_reader, open_writer
opened = open_writer if sys.argv[2] == "writer" else open_reader
with opened(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.readline()
"""

UNPRIVILEGED = """
import os, sys
from pathlib import Path
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
import selfrepair.warehouse.schema.tables  # while Python's own folder may be read
if os.geteuid() == 0:
    os.setuid(65534)
try:
    with open_writer(Path(sys.argv[1])) as con:
        con.execute("CREATE TABLE t AS SELECT 1 AS x")
except SelfRepairError as error:
    print(error)
"""

SMALL_DISK = """
import resource, sys
from pathlib import Path
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
path = Path(sys.argv[1])
with open_writer(path) as con:
    con.execute("CREATE TABLE numbers AS SELECT 1::DOUBLE AS x")
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))
try:
    with open_writer(path) as con:
        con.execute("INSERT INTO numbers SELECT random() FROM range(2_000_000)")
except SelfRepairError as error:
    print(error)
"""


@pytest.fixture
def made(db: Path) -> Path:
    with open_writer(db):
        pass
    return db


@pytest.fixture
def shared_folder():
    """A folder that other users can reach, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_writer_makes_the_file_whole_and_leaves_nothing_else(db):
    with open_writer(db) as con:
        con.execute("CREATE TABLE mine AS SELECT 42 AS x")
    with open_reader(db) as con:
        assert con.execute("FROM mine").fetchall() == [(42,)]
    assert [path.name for path in db.parent.iterdir()] == [db.name]


def test_a_reader_cannot_write(made):
    with open_reader(made) as con, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        con.execute("CREATE TABLE mine (x INTEGER)")


def test_a_missing_file_cannot_be_read(db):
    with (
        pytest.raises(SelfRepairError, match=r"there is no warehouse at .*w\.duckdb.*selfrepair demo --db"),
        open_reader(db),
    ):
        pass
    assert not db.exists()


def test_a_missing_folder(tmp_path):
    with (
        pytest.raises(SelfRepairError, match=r"there is no folder .*nowhere\. Create it"),
        open_writer(tmp_path / "nowhere" / "w"),
    ):
        pass


def test_a_folder_is_no_file(tmp_path):
    for opened in (open_reader, open_writer):
        with pytest.raises(SelfRepairError, match=r"is a folder.*--db .*selfrepair\.duckdb"), opened(tmp_path):
            pass


@pytest.mark.parametrize(
    ("content", "found"), [("a recipe for soup\n" * 300, "holds 5.4 kB of something else"), ("", "it is empty")]
)
def test_a_file_of_another_kind_is_left_alone(db, content, found):
    db.write_text(content)
    for opened in (open_reader, open_writer):
        with pytest.raises(SelfRepairError, match=f"is not a DuckDB file: .*{found}"), opened(db):
            pass
    assert db.read_text() == content


def test_a_foreign_duckdb_file_is_left_alone(db):
    with duckdb.connect(str(db)) as con:
        con.execute("CREATE TABLE customers AS SELECT 7 AS x")
    for opened in (open_reader, open_writer):
        with pytest.raises(SelfRepairError, match=r"holds customers.*--db"), opened(db):
            pass
    with duckdb.connect(str(db)) as con:
        assert con.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("customers",)]


def test_an_empty_duckdb_file_becomes_a_warehouse(db):
    duckdb.connect(str(db)).close()
    with open_writer(db) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]


def test_a_damaged_file_says_what_to_do(made):
    data = bytearray(made.read_bytes())
    data[12_300:12_600] = b"x" * 300
    made.write_bytes(data)
    with pytest.raises(SelfRepairError, match=r"cannot be opened: .*restore a copy"), open_reader(made):
        pass


@pytest.mark.parametrize("holder", ["writer", "reader"])
def test_a_writer_waits_for_another_process_and_names_it(made, spawn, holder):
    other = spawn(HOLD, made, holder)
    assert other.stdout.readline() == "open\n"
    heard = []

    def release(text: str) -> None:
        heard.append(text)
        other.stdin.write("\n")
        other.stdin.flush()

    with open_writer(made, wait_s=30, on_wait=release) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]
    assert len(heard) == 1
    assert f"waiting for process {other.pid} (" in heard[0]


def test_waiting_has_an_end(made, spawn):
    other = spawn(HOLD, made, "writer")
    assert other.stdout.readline() == "open\n"
    for opened in (open_reader, open_writer):
        began = time.monotonic()
        with (
            pytest.raises(InUseError, match=rf"in use by process {other.pid} \(.*0\.2 seconds\. Nothing was"),
            opened(made, wait_s=0.2),
        ):
            pass
        assert 0.2 <= time.monotonic() - began < 5


def test_readers_do_not_keep_each_other_out(made, spawn):
    other = spawn(HOLD, made, "reader")
    assert other.stdout.readline() == "open\n"
    with open_reader(made, wait_s=0) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]


def test_the_same_process_can_be_the_one_to_wait_for(made):
    with (
        open_reader(made),
        pytest.raises(InUseError, match=rf"process {os.getpid()} \(this one\)"),
        open_writer(made, wait_s=0),
    ):
        pass


@pytest.mark.parametrize("what", ["file", "folder", "new file"])
def test_what_may_not_be_written(shared_folder, spawn, what):
    path = shared_folder / "w.duckdb"
    if what != "new file":
        with open_writer(path):
            pass
        path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH if what == "file" else 0o666)
    shared_folder.chmod(0o755 if what == "file" else 0o555)
    before = {entry.name: entry.stat().st_size for entry in shared_folder.iterdir()}
    said, _ = spawn(UNPRIVILEGED, path).communicate(timeout=60)
    assert said.count("\n") == 1
    assert str(path) in said
    assert "ermission" in said
    assert "--db" in said
    assert {entry.name: entry.stat().st_size for entry in shared_folder.iterdir()} == before


def test_a_disk_that_takes_no_more_loses_nothing(db, spawn):
    said, errors = spawn(SMALL_DISK, db).communicate(timeout=60)
    assert "w.duckdb could not be written: Could not write file" in said, errors
    assert "What was loaded before is safe." in said
    with open_writer(db) as con:
        assert con.execute("FROM numbers").fetchall() == [(1.0,)]


def test_a_full_disk_asks_for_room(made):
    with pytest.raises(ResumableError, match="Free some space on that disk"), open_writer(made):
        raise duckdb.IOException('IO Error: Could not write file "w.duckdb": No space left on device')


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP], ids=["Linux", "macOS"])
def test_without_hard_links_nobody_s_file_is_overwritten(db, monkeypatch, number):
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    (db.parent / "mine").write_bytes(b"mine")
    connection.move_to_free_name(db.parent / "mine", db)
    (db.parent / "other").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        connection.move_to_free_name(db.parent / "other", db)
    assert db.read_bytes() == b"mine"
    assert (db.parent / "other").exists()


def test_without_hard_links_one_waits_for_the_other(db, monkeypatch):
    """What the other one puts there while it is waited for is seen."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "link", refused)
    (db.parent / "mine").write_bytes(b"mine")
    with ThreadPoolExecutor(1) as threads:
        with connection._one_at_a_time(db.parent):
            moved = threads.submit(connection.move_to_free_name, db.parent / "mine", db)
            time.sleep(0.05)
            assert not moved.done()
            db.write_bytes(b"other")
        assert isinstance(moved.exception(10), FileExistsError)
    assert db.read_bytes() == b"other"


def test_threads_that_make_the_same_file_do_not_meet(db):
    """Each finds its own temporary file, which none of the others sweeps away."""
    with ThreadPoolExecutor(4) as threads:
        for made in [threads.submit(connection._create, db) for _ in range(4)]:
            made.result()
    with open_reader(db) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]
    assert [path.name for path in db.parent.iterdir()] == [db.name]


def test_a_name_with_no_room_for_those_of_the_files_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_numbers", itertools.count(1))  # however many this process has written
    with pytest.raises(SelfRepairError, match=r"the name w{40}\.\.\. is \d+ bytes too long: .*Nothing was measured"):
        connection.check_folder(tmp_path / ("w" * 253))
    with pytest.raises(SelfRepairError, match="bytes too long"):
        connection.check_folder(tmp_path / ("漢" * 80))
    too_many = files.bytes_too_many(tmp_path / "w")
    names = [files.temporary_name("w") for _ in range(1000)]  # they become longer, and what is refused does not
    assert len(names[-1]) > len(names[0])
    assert files.bytes_too_many(tmp_path / "w") == too_many
    longest = tmp_path / ("w" * (253 - files.bytes_too_many(tmp_path / ("w" * 253))))
    with open_writer(longest):
        pass
    assert longest.exists()


def test_a_writer_lets_those_who_wait_to_read_go_first(made, spawn):
    """Loads that follow each other leave the file closed for moments, which no reader meets by chance."""
    with open_writer(made):
        waiting = spawn(HOLD, made, "reader")
        give_up_at = time.monotonic() + 30
        while not write_request._read_is_requested(made):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
    told = []
    with pytest.raises(InUseError), open_writer(made, wait_s=0.1, on_wait=told.append):
        pass
    assert waiting.stdout.readline() == "open\n"
    assert not write_request._read_is_requested(made)


def test_a_reader_that_was_killed_is_not_waited_for(made):
    write_request.request_read(made)
    (request,) = made.parent.glob(".*.asked.*")
    os.utime(request, (0, 0))
    assert not write_request._read_is_requested(made)
    assert not request.exists()
