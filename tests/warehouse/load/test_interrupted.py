"""Whatever stops a command, and wherever: the same command again makes the rows and summaries of one that nothing stopped."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.queries.cli.refresh import refresh
from selfrepair.queries.marts import refresh as marts
from selfrepair.warehouse.cli.commands import load, remove
from selfrepair.warehouse.load import loader
from support.contents import Contents, contents, differences
from support.kills import before
from support.loaded import load_rows
from support.tiers import every_element
from support.warm import Process

SIGNALS = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
COMMANDS = {"load": load, "refresh": refresh, "remove": remove}
STOP = """
import importlib, os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it, as nohup does
where, when, sign, *arguments = sys.argv[1:]
module, name = where.rsplit(".", 1)
module = importlib.import_module("selfrepair." + module)
found = getattr(module, name)

def stopped(*args, **kwargs):
    if when == "before":
        os.kill(os.getpid(), int(sign))
    result = found(*args, **kwargs)
    os.kill(os.getpid(), int(sign))
    return result

setattr(module, name, stopped)
sys.argv = ["selfrepair", *arguments]
from selfrepair.app.cli.main import main
main()
"""
MARTS = "queries.marts.refresh."
LOADER = "warehouse.load.loader."
MIGRATE = "warehouse.database.migrate."
REMOVAL = "warehouse.load.removal."
POINTS = {
    ("load", LOADER + "append_units"): "before",
    ("load", LOADER + "refresh"): "after",
    ("load", LOADER + "call_entry_points"): "before",
    ("load", "warehouse.files.remove"): "after",
    ("load", "queries.marts.install.install_macros"): "after",
    ("load", MARTS + "make_tables"): "before",
    ("load", MARTS + "compute"): "",
    ("load", MARTS + "store"): "",
    ("refresh", MARTS + "make_tables"): "",
    ("refresh", MARTS + "compute"): "after",
    ("refresh", MARTS + "store"): "before",
    ("remove", "warehouse.files.remove"): "before",
    ("remove", REMOVAL + "_remove_rows"): "after",
    ("remove", REMOVAL + "call_entry_points"): "",
    ("remove", MARTS + "compute"): "",
    ("remove", MARTS + "store"): "",
    ("upgrade", MIGRATE + "_apply"): "after",
    ("upgrade", MIGRATE + "write_comments"): "before",
    ("upgrade", "warehouse.database.connection.migrate"): "after",
}
"""Where which command is killed. Each function is at least once outside the exhaustive tests, at the moment that stands here,
and so is each command before one and after another.
"""

BEFORE_SUMMARIES = (LOADER + "append_units", LOADER + "refresh", "warehouse.database.")

KILLS = [
    pytest.param(*point, when, marks=() if when == quick else pytest.mark.exhaustive)
    for point, quick in POINTS.items()
    for when in ("before", "after")
]


def call(db: Path, command: list[str]) -> Any:
    return CliRunner().invoke(COMMANDS[command[0]], [*command[1:], "--db", str(db)])


_unbroken: dict[tuple[str, ...], Contents] = {}


def unbroken(command: str, db: Path, line: list[str], to: Path) -> Contents:
    """What the command makes of a copy where nothing stops it: made once, for every test begins with the same."""
    made_before = (command, *line)
    if made_before in _unbroken:
        return _unbroken[made_before]
    to.mkdir()
    for path in db.parent.glob("w.duckdb*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, to / path.name)
    result = call(to / db.name, line)
    assert result.exit_code == 0, result.output
    _unbroken[made_before] = contents(to / db.name)
    return _unbroken[made_before]


@pytest.mark.parametrize("command", ["load", "remove"])
def test_what_was_stopped_before_its_summaries_makes_them_when_repeated(command, fabricate, db, root, monkeypatch):
    fabricate(n_units=1).write(root)
    made = []

    class AfterLoad:
        def load(self) -> Callable[..., None]:
            if len(made) < 1:
                made.append("stopped")
                raise KeyboardInterrupt
            return lambda *_: made.append("made")

    if command == "remove":
        load_rows(db, root)
    monkeypatch.setattr(loader, "entry_points", lambda group: [AfterLoad()])
    line = ["load"] if command == "load" else ["remove", "1", "--yes"]
    assert call(db, line).exit_code != 0
    again = call(db, line)
    assert again.exit_code == 0, again.output
    assert made == ["stopped", "made"]
    if command == "remove":
        assert again.output == f"run 1 was removed before, and nothing of it is left\n{db} now holds 0 runs, 0 rows\n"


@pytest.mark.parametrize("error", [duckdb.IOException("Could not write file: I/O error"), KeyboardInterrupt()])
def test_parts_stay_until_the_last_write_is_done(error, fabricate, db, root, monkeypatch):
    class AfterLoad:
        def load(self) -> Callable[..., None]:
            raise error

    parts = fabricate(n_units=1).write(root)
    before = sorted(parts.path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(loader, "entry_points", lambda group: [AfterLoad()])
        assert call(db, ["load"]).exit_code != 0
    assert sorted(parts.path.rglob("*")) == before
    load_rows(db, root)
    assert not root.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "where", "when"), KILLS)
def test_a_kill_anywhere_is_finished_by_the_same_command(command, where, when, fabricate, db, root, tmp_path, spawn):
    line = before(command, db)
    if line == ["load"] and where.startswith(BEFORE_SUMMARIES) and when == POINTS[command, where]:
        line.append("--rows-only")  # summaries are made after all of this, and take most of the time
    expected = unbroken(command, db, line, tmp_path / "unbroken")
    _stop(spawn, where, when, signal.SIGKILL, db, line)
    again = call(db, line)
    assert again.exit_code == 0, again.output
    assert differences(contents(db), expected) == []


@pytest.mark.slow
@pytest.mark.parametrize(("command", "sign"), every_element(list(COMMANDS), SIGNALS))
def test_any_signal_while_summaries_are_made(command, sign, fabricate, db, root, tmp_path, spawn):
    line = before(command, db)
    expected = unbroken(command, db, line, tmp_path / "unbroken")
    _stop(spawn, MARTS + "_computed", "before", sign, db, line)
    again = call(db, line)
    assert again.exit_code == 0, again.output
    assert differences(contents(db), expected) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_no_room_while_summaries_are_made(command, fabricate, db, root, tmp_path, monkeypatch):
    def full(con: duckdb.DuckDBPyConnection, run_id: int) -> None:
        raise duckdb.IOException("Could not write all bytes to file: No space left on device")

    line = before(command, db)
    expected = unbroken(command, db, line, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr(marts, "_computed", full)
        assert call(db, line).exit_code == 1
    again = call(db, line)
    assert again.exit_code == 0, again.output
    assert differences(contents(db), expected) == []


def _stop(spawn: Callable[..., Process], where: str, when: str, sign: int, db: Path, line: list[str]) -> None:
    process = spawn(STOP, where, when, int(sign), *line, "--db", db)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-sign, 130), err
