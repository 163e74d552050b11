"""What SQL can and cannot reach: every hostile statement is refused in words or stopped in time, and nothing is touched."""

import contextlib
import hashlib
import re
import resource
import runpy
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import duckdb
import polars as pl
import psutil
import pytest

from selfrepair import Limits, Warehouse
from selfrepair.queries.sandbox import process
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from support.loaded import loaded
from support.tiers import first_of_each

GIVEN = {
    name: value
    for file in ("hostile_statements.py", "allowed_statements.py")
    for name, value in runpy.run_path(str(Path(__file__).with_name(file))).items()
}
REFUSED: list[tuple[str, str]] = [
    *((query, GIVEN["FUNCTION"]) for query in GIVEN["READS_FILES"] + GIVEN["CALLS_FUNCTIONS"]),
    *((query, GIVEN["FILES"]) for query in GIVEN["NAMES_FILES"]),
    *((query, "|".join([GIVEN["ONLY_SELECT"], "Name the values: PIVOT"])) for query in GIVEN["NOT_QUESTIONS"]),
    *GIVEN["OTHERWISE_REFUSED"],
]
LIMITS = Limits(memory_bytes=400_000_000, spill_bytes=200_000_000, n_threads=2)
TIME_LIMIT_S = 0.4
MOST_MEMORY_KB = 1_300_000


class Place:
    """A warehouse, a file beside it that nobody may read, and a folder in which nothing may appear."""

    def __init__(self, folder: Path) -> None:
        self.db = loaded(folder)
        self.secret = folder / "secret.csv"
        self.secret.write_text("a,b\n1,hidden\n")
        self.folder = folder / "out"
        self.folder.mkdir()
        self.before = self.state()

    def state(self) -> list[tuple[str, str]]:
        """Every file and what it holds."""
        files = sorted(path for path in self.db.parent.rglob("*") if path.is_file())
        return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]

    def filled(self, query: str) -> str:
        names = ("db", "secret", "folder")
        known = any(f"{{{name}}}" in query for name in names) or "{{" in query
        return query.format(**{name: getattr(self, name) for name in names}) if known else query


class MemoryOfChildren(threading.Thread):
    """The most that any process which this one started has had in memory while this watched [kB].

    `getrusage` cannot say it: a child starts with the most that its parent ever had.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most_kb = 0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            for child in psutil.Process().children():
                with contextlib.suppress(OSError):
                    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text())
                    self.most_kb = max(self.most_kb, int(peak[1]) if peak else 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    yield place
    assert place.state() == place.before
    process.end_idle()


@pytest.fixture(scope="module")
def reader(place: Place) -> Iterator[Reader]:
    with Reader(place.db, limits=LIMITS) as reader:
        yield reader


def refusal(ask: Any, query: str) -> str:
    with pytest.raises(SelfRepairError) as raised:
        ask(query)
    return str(raised.value)


def test_there_are_many() -> None:
    hostile = [query for query, _ in REFUSED] + GIVEN["TOO_MUCH"]
    assert len(set(hostile)) == len(hostile) >= 150


@pytest.mark.parametrize(("query", "message"), REFUSED, ids=lambda text: repr(text)[:60])
def test_what_reaches_out_is_refused_in_words(place: Place, reader: Reader, query: str, message: str) -> None:
    secret_frame = pl.DataFrame({"a": ["hidden"]})
    text = refusal(reader.ask, place.filled(query))
    assert re.search(message, text), text
    assert secret_frame["a"].item() not in text


@pytest.mark.parametrize(("query", "message"), REFUSED[::15], ids=lambda text: repr(text)[:60])
def test_it_is_refused_in_the_process_that_answers_too(place: Place, query: str, message: str) -> None:
    text = refusal(Warehouse(place.db, limits=LIMITS).sql, place.filled(query))
    assert re.search(message, text), text
    assert "hidden" not in text


@pytest.mark.parametrize("query", first_of_each(4, GIVEN["TOO_MUCH"]), ids=lambda text: repr(text)[:60])
@pytest.mark.slow
def test_what_is_too_much_is_stopped_in_time(place: Place, query: str) -> None:
    warehouse = Warehouse(place.db, limits=LIMITS)
    warehouse.sql("SELECT 1")  # so that the time to start a process is not the query's
    own_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with MemoryOfChildren() as memory:
        text = refusal(lambda query: warehouse.sql(query, timeout_s=TIME_LIMIT_S, limit=None), query)
    assert time.monotonic() - began < TIME_LIMIT_S + process.GRACE_S + 10
    assert re.search(GIVEN["STOPPED"], text), text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own_before < 200_000  # kB
    assert 0 < memory.most_kb < MOST_MEMORY_KB


@pytest.mark.skipif(not duckdb.__version__.startswith("1."), reason="DuckDB 2 answers it")
def test_a_crash_of_duckdb_is_an_error_and_the_next_query_is_answered(place: Place) -> None:
    warehouse = Warehouse(place.db, limits=LIMITS)
    with pytest.raises(SelfRepairError, match="DuckDB crashed on it"):
        warehouse.sql("SELECT json_structure(repeat('[', 100000) || repeat(']', 100000))")
    assert warehouse.sql("SELECT 1 AS x").item() == 1


def test_nothing_was_touched(place: Place) -> None:
    assert place.state() == place.before


@pytest.mark.parametrize("query", GIVEN["HARMLESS"], ids=lambda text: repr(text)[:60])
def test_what_only_reads_is_answered(place: Place, reader: Reader, query: str) -> None:
    here = reader.frame(place.filled(query))
    assert here.width > 0
    there = Warehouse(place.db, limits=LIMITS).sql(place.filled(query))
    assert there.columns == here.columns


def test_what_a_statement_may_read_is_a_macro_of_the_file_too(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    with duckdb.connect(db) as con:
        con.execute("CREATE MACRO my_runs() AS TABLE SELECT run_id FROM runs")
        con.execute("CREATE MACRO json_serialize_sql(x) AS 'mine'")
    assert Warehouse(db).sql("FROM my_runs()").rows() == [(1,)]
    with pytest.raises(SelfRepairError, match="may not be called"):
        Warehouse(db).sql("FROM read_text('/etc/passwd')")


@pytest.mark.slow
def test_what_does_not_fit_in_memory_goes_to_a_folder_that_is_gone_afterwards(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = Limits(memory_bytes=200_000_000, n_threads=1)
    query = (
        "SELECT max(x) FROM (SELECT hash(range) AS x, repeat('x', 50) AS s FROM range(4000000) ORDER BY s, x OFFSET 1)"
    )
    assert Warehouse(place.db, limits=limits).sql(query).height == 1
    spill = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert spill == []
    process.end_idle()
    assert list(tmp_path.iterdir()) == []


def test_a_position_is_that_in_the_text_that_was_given(reader: Reader) -> None:
    text = refusal(reader.ask, "SELECT run_id,\n  nothing\nFROM runs")
    assert "LINE 2:   nothing\n" in text
    assert 'Referenced column "nothing" not found' in text
    assert "LINE 3: FRO runs" in refusal(reader.ask, "SELECT run_id,\n  1\nFRO runs x y")
    assert "LINE 2: WHERE CAST(token AS INTEGER) = 1" in refusal(
        reader.ask, "FROM tokens\nWHERE CAST(token AS INTEGER) = 1"
    )
