"""A file that stays open between two questions: the same answers, and a load has it closed."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from selfrepair import Limits, Warehouse
from selfrepair.queries.sandbox import open_file_cache, process
from selfrepair.queries.sandbox.open_file_cache import Opened
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.database.write_request import request_write, write_is_requested
from selfrepair.warehouse.errors import SelfRepairError
from support.fabricate import fabricate
from support.loaded import loaded, stored

MODEL = "SELECT name FROM models"
LONG = 600.0


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Path]:
    yield loaded(tmp_path)
    process.end_idle()


def is_open(db: Path) -> bool:
    """Whether another process has the file open."""
    try:
        duckdb.connect(db).close()
    except duckdb.IOException as error:
        return "Conflicting lock" in str(error)
    return False


def test_without_it_the_file_is_closed_after_every_answer(db: Path) -> None:
    Warehouse(db).sql(MODEL)
    assert not is_open(db)


@pytest.mark.slow
def test_it_is_closed_after_that_time(db: Path) -> None:
    ours = Warehouse(db, keep_open_s=3.0)
    ours.sql(MODEL)
    give_up_at = time.monotonic() + 20
    assert is_open(db)
    while is_open(db):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.mark.slow
def test_a_load_comes_in_between_two_questions_of_a_page(db: Path) -> None:
    slow = "SELECT count(*) AS n FROM range(60_000_000) AS a (x) WHERE x % 7 = 3"
    ours = Warehouse(db, keep_open_s=LONG)
    ours.sql(MODEL)
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: ours.ask_all(
            [slow] * 6, timeout_s=60, on_answer=lambda answer: answers.append(answer.frame.height)
        )
    )
    asking.start()
    while not answers:
        time.sleep(0.01)
    with open_writer(db, wait_s=60):
        assert len(answers) < 6
    asking.join()
    assert answers == [1] * 6


@pytest.mark.slow
def test_readers_that_never_pause_do_not_keep_a_load_out(db: Path) -> None:
    done = threading.Event()

    def ask() -> None:
        ours = Warehouse(db, keep_open_s=LONG)
        while not done.is_set():
            ours.sql("SELECT count(*) FROM range(3_000_000)")

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        time.sleep(2)
        try:
            with open_writer(db, wait_s=15) as con:
                assert con.execute(MODEL).fetchall() == [("tiny-model",)]
        finally:
            done.set()
        for each in asked:
            each.result()


def test_it_stays_open_for_others_and_is_closed_for_a_load(db: Path) -> None:
    ours = Warehouse(db, keep_open_s=LONG)
    ours.sql(MODEL)
    time.sleep(0.5)
    assert is_open(db)
    with open_writer(db, wait_s=30) as con:
        assert con.execute(MODEL).fetchall() == [("tiny-model",)]
    assert [path.name for path in db.parent.glob(".*")] == []  # the wish is taken back
    ours.sql(MODEL)
    assert is_open(db)


def test_questions_of_one_command_have_the_file_together_for_a_while(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tmp_path / "spill", on_wait=pytest.fail, on_open=lambda: None)
    monkeypatch.setattr(open_file_cache, "_TOGETHER_S", LONG)
    reader, _ = opened.reader(db, Limits(), 1.0, None)
    request_write(db)
    opened.keep(LONG, next_within_s=LONG)
    assert opened.reader(db, Limits(), 1.0, None) == (reader, 0.0)
    monkeypatch.setattr(open_file_cache, "_TOGETHER_S", 0.0)
    request_write(db)
    opened.keep(LONG, next_within_s=LONG)
    assert opened.poll_s() is None  # closed
    with open_writer(db):
        pass


def test_a_load_that_knows_it_by_another_name_has_it_closed_too(db: Path) -> None:
    (db.parent / "elsewhere").mkdir()
    link = db.parent / "elsewhere" / "link.duckdb"
    link.symlink_to(db)
    Warehouse(link, keep_open_s=LONG).sql(MODEL)
    with open_writer(db, wait_s=30) as con:
        assert con.execute(MODEL).fetchall() == [("tiny-model",)]


def test_a_wish_of_a_process_that_was_killed_is_forgotten(db: Path) -> None:
    ours = Warehouse(db, keep_open_s=LONG)
    ours.sql(MODEL)
    request_write(db)
    ours.sql(MODEL)
    assert not is_open(db)
    for other_time in (time.time() - 60, time.time() + 60):
        request_write(db)
        os.utime(db.parent / f".{db.name}.wanted", (other_time, other_time))
        assert not write_is_requested(db)
        ours.sql(MODEL)
        assert is_open(db)
        assert [path.name for path in db.parent.glob(".*")] == []


def test_a_wish_is_heard_on_a_file_system_whose_clock_is_another(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network: a load would wait in vain."""
    ours = time.time
    request_write(db)
    monkeypatch.setattr(time, "time", lambda: ours() + 20)
    assert write_is_requested(db)


def test_what_a_load_brought_is_in_the_next_answer(db: Path) -> None:
    ours = Warehouse(db, keep_open_s=LONG)
    assert ours.sql(MODEL).item() == "tiny-model"
    with open_writer(db, wait_s=30) as con:
        con.execute("UPDATE models SET name = 'renamed'")
    assert ours.sql(MODEL).item() == "renamed"


def test_another_file_in_its_place_is_opened(db: Path, tmp_path: Path) -> None:
    ours = Warehouse(db, keep_open_s=LONG)
    assert ours.sql(MODEL).item() == "tiny-model"
    (tmp_path / "other").mkdir()
    stored(tmp_path / "other", fabricate(model="other-model")).replace(db)
    assert ours.sql(MODEL).item() == "other-model"


def test_two_files_are_not_mistaken_for_each_other(db: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    shutil.copy(db, copy)
    with open_writer(copy) as con:
        con.execute("UPDATE models SET name = 'a copy'")
    names = [Warehouse(path, keep_open_s=LONG).sql(MODEL).item() for path in (db, copy) * 3]
    assert names == ["tiny-model", "a copy"] * 3


def test_a_question_that_fails_closes_it_and_the_next_is_answered(db: Path) -> None:
    ours = Warehouse(db, keep_open_s=LONG)
    ours.sql(MODEL)
    for wrong in ("SELECT nothing FROM models", "SELECT count(*) FROM range(1000000) a, range(1000000) b"):
        with pytest.raises(SelfRepairError):
            ours.sql(wrong, timeout_s=0.5)
        assert not is_open(db)
        assert ours.sql(MODEL).item() == "tiny-model"


def test_the_time_limit_is_each_questions_own(db: Path) -> None:
    ours = Warehouse(db, keep_open_s=LONG, limits=Limits(memory_bytes=500_000_000))
    ours.sql(MODEL)  # opening the file counts, too
    ours.sql(MODEL, timeout_s=0.3)
    time.sleep(0.5)
    assert ours.sql("SELECT count(*) AS n FROM range(50_000_000)", timeout_s=60).item() == 50_000_000


def test_notes_are_told_with_every_answer(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    told: list[str] = []
    ours = Warehouse(db, keep_open_s=LONG, on_note=told.append)
    ours.sql(MODEL)
    ours.sql(MODEL)
    assert len(told) == 2
    assert told[0] == told[1]
    assert "selfrepair refresh" in told[0]
