"""Every command that takes a warehouse refuses what is none, before it does anything."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from selfrepair.app.cli.main import SECTIONS, main

ARGUMENTS = {
    "ingest": ["--model", "no-such-model", "--dataset", "none.txt"],
    "reproduce": ["gpt2-small"],
    "remove": ["1", "--yes"],
    "query": ["SELECT 1"],
    "export": ["runs", "-o", "runs.csv"],
}
COMMANDS = [name for section in SECTIONS.values() for name in section]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("address", [":memory:", "md:mine"])
def test_an_address_is_refused_by_every_command(
    command: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = Path(f"{address}.parts")
    parts.mkdir()
    found = CliRunner().invoke(main, [command, *ARGUMENTS.get(command, []), "--db", address])
    if "No such option" in found.output:
        assert command in ("bench", "describe", "merge", "move", "prompts", "questions", "views")
        return
    assert found.exit_code == 1, found.output
    assert f"Error: {address} is not the path of a file" in found.output
    assert (
        f"A warehouse is a file on this machine: --db selfrepair.duckdb. A file that is called so: --db ./{address}"
        in (found.output)
    )
    assert list(tmp_path.iterdir()) == [parts.absolute()]


@pytest.mark.parametrize(
    "words",
    [
        *(["merge", *files] for files in ([":memory:", "a", "-o", "b"], ["a", "md:mine", "-o", "b"])),
        ["merge", "a", "b", "-o", "md:mine"],
        *(["move", *files] for files in ([":memory:", "ducklake:b"], ["ducklake:a", "md:mine"])),
    ],
)
def test_so_is_one_among_several(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 1
    assert "--db" not in found.output
    assert "is not the path of a file" in found.output
    assert list(tmp_path.iterdir()) == []


def test_so_is_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFREPAIR_DB", "gs://bucket/w.duckdb")
    found = CliRunner().invoke(main, ["runs"])
    assert found.exit_code == 1
    assert "gs://bucket/w.duckdb is not the path of a file" in found.output
