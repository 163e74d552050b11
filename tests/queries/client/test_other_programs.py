"""A warehouse among other programs: who waits for whom, and what ends with whom."""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from selfrepair import Limits, Warehouse
from selfrepair.queries.marts.install import install
from selfrepair.queries.sandbox import process
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import InUseError, SelfRepairError
from support.loaded import loaded
from support.refusals import refusal

WRITE_FOR_A_WHILE = """
import sys, time
from pathlib import Path
from typing import Any
from selfrepair.warehouse.database.connection import open_writer
path, hold_s, times = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
with open_writer(path) as con:
    con.execute("CREATE TABLE steps (i INTEGER)")
    print("begun", flush=True)
for i in range(times):
    began = time.monotonic()
    with open_writer(path) as con:
        con.execute("INSERT INTO steps VALUES (?)", [i])
        time.sleep(hold_s)
    print(time.monotonic() - began, flush=True)
    time.sleep(0.4)
"""

HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""

PARENT = """
import os, sys, threading, time
from selfrepair import Warehouse
from selfrepair.queries.sandbox import process
w = Warehouse(sys.argv[1])
w.sql("SELECT 1")
print(process._idle[0]._process.pid, process._idle[0]._folder, flush=True)
if sys.argv[2] == "busy":
    threading.Thread(target=w.sql, args=["SELECT count(*) FROM range(1000000) a, range(1000000) b"], daemon=True).start()
    time.sleep(0.3)
os.kill(os.getpid(), 9)
"""

INTERRUPTED = """
import os, signal, sys, threading
from selfrepair import Warehouse
from selfrepair.queries.sandbox import process
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background is born deaf to it
w = Warehouse(sys.argv[1])
w.sql("SELECT 1")
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    w.sql("SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))")
except KeyboardInterrupt:
    print("interrupted", len(process._idle), w.sql("SELECT 7 AS x").item())
"""


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def _spawn(script: str, *args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield _spawn
    for one in started:
        one.kill()
        one.communicate()


def test_a_file_that_is_written_is_waited_for_and_its_writer_named(
    path: Path, tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    db = loaded(tmp_path)
    holder = spawn(HOLD, db)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    text = refusal(lambda: Warehouse(db, wait_s=0.2).sql("runs"))
    assert f"in use by process {holder.pid} (" in text
    assert "Nothing was changed or lost. End that program, or wait until it is done, then repeat the call." in text
    with pytest.raises(InUseError):
        Warehouse(db, wait_s=0).sql("runs")
    heard: list[str] = []

    def release(sentence: str) -> None:
        heard.append(sentence)
        holder.communicate("\n")

    assert Warehouse(db, wait_s=30).ask("runs", on_wait=release).frame.height == 1
    assert len(heard) == 1
    assert f"waiting for process {holder.pid}" in heard[0]


@pytest.mark.slow
def test_questions_are_answered_while_another_process_loads(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    db = loaded(tmp_path)
    ours = Warehouse(db, wait_s=20)
    ours.sql("SELECT 1")
    times = 6
    loader = spawn(WRITE_FOR_A_WHILE, db, 0.1, times)
    assert loader.stdout is not None
    assert loader.stdout.readline() == "begun\n"
    seen = [0]
    while seen[-1] < times:
        seen.append(ours.sql("SELECT count(*) AS n FROM steps").item())
        time.sleep(0.1)  # as anyone who reads what he asked for
    out, err = loader.communicate(timeout=30)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "no question was answered between two steps of the load"
    waits = [float(line) for line in out.split()]
    assert len(waits) == times, err
    assert max(waits) < 10


def test_a_load_waits_no_longer_than_one_query_may_take(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    ours = Warehouse(db)
    ours.sql("SELECT 1")
    told: list[str] = []
    slow = threading.Thread(
        target=lambda: told.append(
            refusal(lambda: ours.sql("SELECT levenshtein(repeat('a', 900000), repeat('b', 900000))", timeout_s=1))
        )
    )
    slow.start()
    time.sleep(0.4)
    began = time.monotonic()
    with open_writer(db, wait_s=30) as con:
        con.execute("CREATE TABLE mine AS SELECT 1 AS x")
    assert time.monotonic() - began < 1 + process.GRACE_S + 5
    slow.join()
    assert "stopped at its time limit of 1 s" in told[0]


@pytest.mark.slow
def test_several_threads_ask_at_once(ours: Warehouse) -> None:
    found: list[int] = []

    def ask(i: int) -> None:
        found.append(ours.sql("SELECT $i AS i, count(*) FROM measurements", {"i": i})["i"].item())

    threads = [threading.Thread(target=ask, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(6))


def test_a_crash_of_the_other_process_is_an_error_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Warehouse(path)
    ours.sql("SELECT 1")
    victim = process._idle[0]
    timer = threading.Timer(0.3, victim._process.send_signal, [11])
    timer.start()
    text = refusal(lambda: ours.sql("SELECT count(*) FROM range(1000000) a, range(1000000) b"))
    assert "ended before it answered (exit code -11)" in text
    assert ours.sql("SELECT 2 AS x").item() == 2
    process._idle[0]._process.kill()
    time.sleep(0.2)
    assert ours.sql("SELECT 3 AS x").item() == 3


def test_a_question_that_ran_out_of_memory_leaves_room_for_the_next(path: Path) -> None:
    ours = Warehouse(path, limits=Limits(memory_bytes=200_000_000))
    for _ in range(4):
        text = refusal(lambda: ours.sql("SELECT length(repeat('x', 1500000000))", timeout_s=20))
        assert "needs more than the 200 MB of memory it may have" in text
        assert ours.sql("SELECT 1 AS x", timeout_s=20).item() == 1


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.slow
def test_the_other_process_ends_with_its_parent(
    path: Path, spawn: Callable[..., subprocess.Popen[str]], state: str
) -> None:
    parent = spawn(PARENT, path, state)
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split()
    parent.wait(timeout=30)
    give_up_at = time.monotonic() + 10
    while is_running(int(pid)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not is_running(int(pid))
    assert not Path(folder).exists()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_ctrl_c_ends_a_query_at_once(path: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    began = time.monotonic()
    out, err = spawn(INTERRUPTED, path).communicate(timeout=50)
    assert out == "interrupted 0 7\n", err
    assert time.monotonic() - began < 30


def test_an_engine_reads_beside_everything_else_and_cannot_write(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    ours = Warehouse(db)
    engine = ours.engine()
    with engine.connect() as connection, engine.connect() as another:
        assert (
            connection.execute(sa.text("SELECT count(*) FROM head_repair")).scalar_one()
            == ours.view("head_repair").height
        )
        assert another.execute(sa.text("SELECT count(*) FROM runs")).scalar_one() == 1
        for refused in ("CREATE TABLE mine AS SELECT 1", "FROM read_text('/etc/hostname')", "SET threads = 1"):
            with pytest.raises(sa.exc.SQLAlchemyError, match=r"read-only|disabled by|been locked"):
                connection.execute(sa.text(refused))
            connection.rollback()
    with open_writer(db, wait_s=0) as con:
        con.execute("CREATE TABLE mine AS SELECT 1 AS x")
    assert pl.read_database("SELECT * FROM mine", engine).rows() == [(1,)]
    with open_writer(db, wait_s=0) as con:
        install(con)
        con.execute("CREATE OR REPLACE VIEW main.head_repair AS SELECT 7 AS run_id")
        con.execute("UPDATE selfrepair_marts.installed SET views = 'of another version'")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM head_repair")).scalar_one() > 1
    db.write_text("a recipe\n" * 2000)
    for found in ("is not a DuckDB file", "there is no warehouse"):
        with pytest.raises(SelfRepairError, match=found) as raised:
            engine.connect()
        assert "--db" not in str(raised.value)
        db.unlink(missing_ok=True)


def test_a_warehouse_can_be_sent_to_another_process(path: Path) -> None:
    ours = pickle.loads(pickle.dumps(Warehouse(path, limits=Limits(memory_bytes=500_000_000))))
    assert ours.sql("SELECT 1 AS x").item() == 1
    assert ours.limits.memory_bytes == 500_000_000
    assert os.getpid() != process._idle[0]._process.pid
