"""`--json` of every command that lists something."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.cli import names
from selfrepair.warehouse.cli import commands, status
from selfrepair.warehouse.cli.terminal import print_json
from selfrepair.warehouse.load.names import set_name
from selfrepair.warehouse.schema.tables import metadata
from support.loaded import loaded


def printed(command: click.Command, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(command, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = loaded(tmp_path_factory.mktemp("listed"))
    set_name(found, "1", "baseline")
    return found


def test_runs_have_the_columns_of_the_tables(db: Path) -> None:
    (run,) = printed(commands.runs, "--db", str(db))
    assert {column.name for column in metadata.tables["runs"].columns} <= run.keys()
    assert (run["run_id"], run["run_name"], run["model"], run["n_measurements_loaded"]) == (
        1,
        "baseline",
        "tiny-model",
        864,
    )
    assert run["ablations"] == ["resample", "mean", "zero"]
    assert datetime.fromisoformat(run["started_at"])
    (how_far,) = printed(status.status, "--db", str(db))
    assert how_far["run_id"] == 1


def test_rules_are_listed_and_a_broken_one_is_an_exit_code(db: Path) -> None:
    rules = printed(commands.verify, "--db", str(db))
    assert rules
    assert {(rule["holds"], bool(rule["detail"])) for rule in rules} == {(True, True)}


def test_names_and_descriptions_are_the_catalogue_s() -> None:
    assert {row["name"] for row in printed(names.views)} == relations().keys()
    assert {row["name"] for row in printed(names.questions)} == questions().keys()
    view, question = printed(names.describe, "head_repair", "tail_of_head")
    assert [each["column"] for each in view["columns"]] == [each.name for each in relations()["head_repair"].columns]
    assert [each["parameter"] for each in question["parameters"]] == list(questions()["tail_of_head"].parameters)
    assert printed(names.questions, "tail_of_head") == [question]


def test_values_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(
        [{"a": float("nan"), "b": [float("inf")], "c": {1: datetime(2026, 1, 2)}, "d": Path("x"), "e": "\x1b[31m"}]
    )
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert json.loads(text) == [{"a": None, "b": [None], "c": {"1": "2026-01-02T00:00:00"}, "d": "x", "e": "\x1b[31m"}]
    print_json([])
    assert json.loads(capsys.readouterr().out) == []
