"""What `selfrepair merge` says names its own arguments, and its temporary files are short."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from selfrepair.warehouse import files
from selfrepair.warehouse.cli.merge import merge as command
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError, file_option
from selfrepair.warehouse.load.merge import merge


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.duckdb", tmp_path / "b.duckdb"]
    for path in paths:
        with open_writer(path):
            pass
    return paths


def test_a_name_as_long_as_a_warehouses_can_be_is_merged_into(sources: list[Path], tmp_path: Path) -> None:
    room = -files.bytes_too_many(tmp_path / "x.duckdb")
    target = tmp_path / f"{'x' * (room + 1)}.duckdb"
    assert files.bytes_too_many(target) == 0
    merge(sources, target, after_load=False)
    assert {path.name for path in tmp_path.iterdir()} == {target.name, "a.duckdb", "b.duckdb"}


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        ("md:mine", "c.duckdb", "A warehouse is a file on this machine: selfrepair.duckdb"),
        ("no\nfolder?/b.duckdb", "c.duckdb", "Name another file."),
        ("b.duckdb", "md:mine", "A warehouse is a file on this machine: -o selfrepair.duckdb"),
        ("b.duckdb", "no-folder/c.duckdb", "Create it, or change -o."),
        ("b.duckdb", "information_schema.duckdb", "Name another file with -o."),
    ],
)
def test_errors_name_the_argument(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["a.duckdb", source, "-o", output])
    assert isinstance(done.exception, SelfRepairError)
    assert said in str(done.exception)
    assert "--db" not in str(done.exception)
    assert file_option() == "--db", "elsewhere it is as before"
