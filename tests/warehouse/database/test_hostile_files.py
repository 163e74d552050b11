"""What is no warehouse is refused before DuckDB has it, and a file that somebody else made does nothing when it is opened."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from selfrepair import Warehouse
from selfrepair.queries.marts.install import prepare_reader
from selfrepair.queries.sandbox import process
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.errors import SelfRepairError
from support.hostile_files import ADDRESSES, FILES, ODD_PATHS, SECRET, STATEMENTS
from support.loaded import loaded


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield Path(loaded(tmp_path_factory.mktemp("hostile")))
    process.end_idle()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("address", "said"), ADDRESSES.items(), ids=repr)
def test_what_is_no_path_of_a_file_is_refused_by_name(address: str, said: str, here: Path) -> None:
    for refused in (
        warehouse_path,
        Warehouse,
        lambda text: opened(open_reader, text),
        lambda text: opened(open_writer, text),
    ):
        with pytest.raises(SelfRepairError, match=said):
            refused(address)
    assert list(here.iterdir()) == []


def opened(open_it: object, address: str) -> None:
    with open_it(warehouse_path(address)):
        pass


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_is_a_path(path: str, here: Path) -> None:
    (here / path).parent.mkdir(parents=True, exist_ok=True)
    with open_writer(warehouse_path(path)) as con:
        con.execute("CREATE TABLE mine AS SELECT 42 AS x")
    with open_reader(warehouse_path(path)) as con:
        assert con.execute("FROM mine").fetchall() == [(42,)]
    assert [file.name for file in (here / path).parent.iterdir()] == [Path(path).name]


@pytest.mark.parametrize("what", FILES)
def test_what_is_no_warehouse_is_refused_and_left_as_it_is(what: str, here: Path) -> None:
    make, said = FILES[what]
    path = here / "w.duckdb"
    make(path)
    before = [(file.name, file.read_bytes() if file.is_file() else b"") for file in sorted(here.iterdir())]
    for open_it in (open_reader, open_writer):
        with pytest.raises(SelfRepairError, match=said) as refusal, open_it(path):
            pass
        assert "extension" not in str(refusal.value)
    assert before == [(file.name, file.read_bytes() if file.is_file() else b"") for file in sorted(here.iterdir())]


@pytest.mark.parametrize(
    "what",
    [what if number % 8 == 0 else pytest.param(what, marks=pytest.mark.slow) for number, what in enumerate(STATEMENTS)],
)
def test_a_file_of_somebody_else_does_nothing_when_it_is_opened(what: str, template: Path, here: Path) -> None:
    sql, said = STATEMENTS[what]
    (here / "secret.txt").write_text(SECRET)
    path = here / "w.duckdb"
    shutil.copy(template, path)
    with duckdb.connect(str(path), config={"autoinstall_known_extensions": False}) as con:
        for statement in sql.split("; "):
            con.execute(statement.format(secret=here / "secret.txt"))
    told = []
    for use in (reads, writes, asks):
        try:
            told.append(use(path))
        except SelfRepairError as error:
            told.append(str(error))
    assert SECRET not in "\n".join(told)
    assert "automatically install" not in "\n".join(told)
    if said:
        assert all(re.search(said, one) for one in told), told


def test_the_same_files_read_others_where_nothing_keeps_them_from_it(template: Path, here: Path) -> None:
    """Or else the test above would say nothing."""
    (here / "secret.txt").write_text(SECRET)
    for what, query in (("an own view that reads a file", "FROM mine"), ("units reads a file", "FROM units")):
        path = here / f"{what}.duckdb"
        shutil.copy(template, path)
        with duckdb.connect(str(path)) as con:
            for statement in STATEMENTS[what][0].split("; "):
                con.execute(statement.format(secret=here / "secret.txt"))
            assert con.execute(query).fetchall() == [(SECRET,)]


@pytest.mark.parametrize(
    ("change", "query", "said"),
    [
        (
            "CREATE MACRO list(x) AS 1",
            "SELECT list(DISTINCT run_id) FROM runs",
            'its macro "list" hides a function of DuckDB',
        ),
        (
            "ALTER TABLE tokens DROP foil",
            "SELECT foil FROM tokens",
            r"tokens\.foil is missing, not VARCHAR\. Undo that",
        ),
    ],
)
def test_what_fails_on_a_file_that_was_changed_says_what_was(
    change: str, query: str, said: str, template: Path, here: Path
) -> None:
    path = here / "w.duckdb"
    shutil.copy(template, path)
    with duckdb.connect(str(path)) as con:
        con.execute(change)
    with (
        pytest.raises(SelfRepairError, match=f"w.duckdb was changed by a program other .*{said}"),
        open_writer(path) as con,
    ):
        con.execute(f"BEGIN; {query}")
    with pytest.raises(duckdb.CatalogException), open_reader(template) as con:  # a mistake of ours stays one
        con.execute("FROM nothing")


def reads(path: Path) -> str:
    with open_reader(path) as con:
        prepare_reader(con)
        return str(con.execute("SELECT * FROM main.runs").fetchall())


def writes(path: Path) -> str:
    with open_writer(path) as con:
        return str(con.execute("SELECT * FROM main.units").fetchall())


def asks(path: Path) -> str:
    ours = Warehouse(path, on_note=lambda text: None)
    told = []
    for query in (
        "FROM runs",
        "FROM head_repair",
        "SELECT label FROM self_repair",
        "FROM mine",
        "FROM duckdb_tables()",
    ):
        try:
            told.append(str(ours.ask(query, limit=10, timeout_s=10).frame.to_dicts()))
        except SelfRepairError as error:
            told.append(str(error))
    return "\n".join(told)
