"""`selfrepair models --json`: the models of a file, and the families that are measured."""

import json
from pathlib import Path

from click.testing import CliRunner

from selfrepair.ingest.cli.models import models
from selfrepair.ingest.models.families import families
from support.loaded import loaded


def test_models_and_families_are_listed_as_json(tmp_path: Path) -> None:
    found = CliRunner().invoke(models, ["--json", "--db", str(loaded(tmp_path))])
    (model,) = json.loads(found.stdout)
    assert (model["name"], model["n_layers"], model["n_heads"], model["runs"]) == ("tiny-model", 3, 4, 1)
    listed = json.loads(CliRunner().invoke(models, ["--supported", "--json", "--db", "nowhere.duckdb"]).stdout)
    assert [each["name"] for each in listed] == [family.name for family in families()]
    assert any(each["reason"] for each in listed)
    assert all(isinstance(each["examples"], list) for each in listed)
