"""What is said of a process that cannot be started, ends by itself or cannot be understood, and whose errors are whose."""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from selfrepair import Warehouse
from selfrepair.queries.sandbox import process
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.errors import SelfRepairError
from support.loaded import loaded


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loaded warehouse that no test changes."""
    return Path(loaded(tmp_path_factory.mktemp("process")))


@pytest.fixture(autouse=True)
def none_idle() -> Iterator[None]:
    process.end_idle()
    yield
    process.end_idle()


def ask(db: Path) -> object:
    return Warehouse(db).sql("SELECT 1")


def test_an_error_of_the_callers_own_function_stays_that(db: Path) -> None:
    def on_closed_stderr(text: str) -> None:
        raise BrokenPipeError(32, "Broken pipe", text)

    with duckdb.connect(db), Session(db, on_wait=on_closed_stderr) as session:
        with pytest.raises(BrokenPipeError, match="Broken pipe"):
            session.rows("SELECT 1")
        assert session._worker.is_alive()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "raise ModuleNotFoundError('No module named duckdb')",
            r"before it could begin \(exit code 1\): ModuleNotFoundError: No module named duckdb\. .*ask again",
        ),
        ("raise SystemExit(3)", r"before it could begin \(exit code 3\): it did not say why\. .*ask again"),
        ("import os; os.kill(os.getpid(), 9)", "of memory it may have"),
        ("import os; os.kill(os.getpid(), 11)", r"\(exit code -11\): DuckDB crashed on it"),
        ("import time; print('no JSON', flush=True); time.sleep(9)", r"cannot be read \(Expecting value.*Ask again"),
    ],
)
def test_why_a_process_does_not_answer(db: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-S", "-c", program])
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    with pytest.raises(SelfRepairError, match=said):
        ask(db)


def test_without_a_temporary_folder_it_is_said_how_to_name_one(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(SelfRepairError, match=r"no temporary file can be made \(.*nowhere.*Set TMPDIR to a folder"):
        ask(db)


def test_where_no_more_files_can_be_open_that_is_said() -> None:
    tempfile.gettempdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(SelfRepairError, match=r"Too many open files.*Close files that are not needed"):
            process.Worker(Limits())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_parameters_that_are_nested_too_deeply_are_not_sent(db: Path) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(SelfRepairError, match=r"parameters cannot be sent .*recursion.*Give numbers, text"):
        Warehouse(db).sql("SELECT $1", [nested])


def test_a_process_that_the_system_does_not_start_leaves_no_files(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(process, "_COMMAND", [str(tmp_path / "no-python")])
    with pytest.raises(SelfRepairError, match=r"cannot be started \(.*no-python.*install the one in sys\.executable"):
        ask(db)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_parameter_is_read_without_pandas_whose_absence_hides_no_error() -> None:
    code = (
        "import sys, duckdb\n"
        "from selfrepair.queries.sandbox.worker import without_pandas\n"
        "with without_pandas():\n"
        "    found = duckdb.execute('SELECT ?', ['x']).fetchall()\n"
        "print(found, 'pandas' in sys.modules)\n"
        "try:\n"
        "    with without_pandas():\n"
        "        del sys.modules['pandas']\n"
        "        raise ValueError('the real one')\n"
        "except ValueError as error:\n"
        "    print(error, 'pandas' in sys.modules)\n"
        "with without_pandas():\n"
        "    sys.modules['pandas'] = sys\n"
        "print('pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[('x',)] False\nthe real one False\nTrue\n"


def test_what_a_killed_process_left_for_temporary_files_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = (
        "import os, tempfile; from selfrepair.warehouse.files import temporary_affixes; "
        f"os.mkdir(tempfile.mkdtemp(*temporary_affixes(), {str(tmp_path)!r}) + '/spill'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    worker = process.Worker(Limits())
    (own,) = tmp_path.iterdir()
    assert own != left
    worker.end()
    assert list(tmp_path.iterdir()) == []
