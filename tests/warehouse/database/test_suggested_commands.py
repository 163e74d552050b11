"""A command that an error suggests can be typed as it stands, whatever the path is."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.errors import SelfRepairError, no_run
from selfrepair.warehouse.files import WAL
from selfrepair.warehouse.load.removal import StoredRun, remove_run, stored_run


def read(db: Path) -> None:
    with open_reader(db):
        pass


def write(db: Path) -> None:
    with open_writer(db):
        pass


def without_tables(db: Path) -> None:
    duckdb.connect(str(db)).close()
    read(db)


def a_folder(db: Path) -> None:
    db.mkdir()
    read(db)


def a_log_alone(db: Path) -> None:
    Path(f"{db}{WAL}").touch()
    write(db)


def a_run_that_is_not_there(db: Path) -> None:
    write(db)
    stored_run(db, 7)


def a_run_that_has_changed(db: Path) -> None:
    write(db)
    remove_run(db, StoredRun(1, "run-a", "tiny-model", "texts", "complete", 1), Path(f"{db}.parts"))


def no_run_yet(db: Path) -> None:
    raise SelfRepairError(no_run(db))


@pytest.mark.parametrize(
    ("say", "suffix"),
    [
        (read, ""),
        (without_tables, ""),
        (a_folder, "/selfrepair.duckdb"),
        (a_log_alone, WAL),
        (a_run_that_is_not_there, ""),
        (a_run_that_has_changed, ""),
        (no_run_yet, ""),
    ],
)
def test_a_path_with_a_space_is_quoted(say: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    db = tmp_path / "it's a folder" / "w 1.duckdb"
    db.parent.mkdir()
    with pytest.raises(SelfRepairError) as said:
        say(db)
    paths = re.split(r"(?:--db|\(mv) ", str(said.value))[1:]
    assert paths
    assert all(path.startswith(shlex.quote(f"{db}{suffix}")) for path in paths)
