"""What `selfrepair status` says to type next is the command that was typed: with the run's name, and with who measures it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.warehouse.cli.status import status
from selfrepair.warehouse.parts.activity import measuring
from selfrepair.warehouse.parts.workers import workers
from support.fabricate import fabricate

INGEST = "selfrepair ingest --model tiny-model --seed 11"


def lines(root: Path, db: Path) -> list[str]:
    return CliRunner().invoke(status, [str(root), "--db", str(db)], catch_exceptions=False).output.splitlines()


@pytest.mark.parametrize(
    "options", [["--devices", "cpu:2"], ["--ray", "local", "--ray-cpus", "1", "--parts", "s3://bucket/a folder"]]
)
def test_the_next_command_has_the_runs_name_and_who_measures(tmp_path: Path, options: list[str]) -> None:
    run, db = fabricate(n_units=2), tmp_path / "w.duckdb"
    root = Path(f"{db}.parts")
    parts = replace(run, record=replace(run.record, run_name="base line")).write(root, units=[0], crosscheck=False)
    with pytest.raises(KeyboardInterrupt), measuring(parts.path, processes=2, options=options):
        raise KeyboardInterrupt
    found = lines(root, db)
    assert found[0].startswith("run run-a, base line (tiny-model on ")
    typed = " ".join(f"'{word}'" if " " in word else word for word in options)
    assert found[-1] == f"  next      {INGEST} --db {db} --name 'base line' {typed}"


@pytest.mark.parametrize(
    "words", [["--trust-remote-code"], ["--devices", "a\x1b"], ["--devices", 7], ["rm"], "--ray", [[]]]
)
def test_only_options_that_say_who_measures_are_taken_from_a_note(tmp_path: Path, words: object) -> None:
    with measuring(tmp_path, options=["--devices", "cpu:2"]):
        (note,) = tmp_path.glob("worker-*.json")
        note.write_text(json.dumps(json.loads(note.read_text()) | {"options": words}))
        (worker,) = workers(tmp_path)
    assert worker.options == ()


def test_a_request_says_who_measures() -> None:
    assert IngestRequest(model="demo", devices="cpu:2", name="x", shard=None).who_measures() == ["--devices", "cpu:2"]
    assert IngestRequest(model="demo", ray="gpu1:6379", ray_cpus=2).who_measures() == [
        *("--ray", "gpu1:6379", "--ray-cpus", "2")
    ]
    assert IngestRequest(model="demo", name="x").who_measures() == []
