"""Two models of one name in a warehouse: the second is told, and can have a name of its own."""

from dataclasses import replace

import duckdb
import pytest
import torch

from selfrepair.ingest.cli import report
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.runs.outcome import has_namesake
from selfrepair.warehouse.load.loader import load
from support import tiny
from support.fabricate import fabricate


@pytest.mark.usefixtures("without_summaries")
def test_a_model_of_the_same_name_is_found(tmp_path):
    run, db = fabricate(n_units=1), tmp_path / "w.duckdb"
    model = run.record.model
    assert not has_namesake(db, model)
    load(db, run.write(tmp_path / "parts").path.parent)
    assert not has_namesake(db, model)
    assert has_namesake(db, replace(model, weights_sha256="others"))
    assert not has_namesake(db, replace(model, weights_sha256="others", checkpoint=1000))
    duckdb.connect(str(tmp_path / "empty.duckdb")).close()
    assert not has_namesake(tmp_path / "empty.duckdb", model)


def test_a_folder_can_have_another_name(tmp_path):
    folder = tiny.save(tmp_path / "one" / "final")
    named = [
        load_model(str(folder), precision=PRECISIONS["float32"], device=torch.device("cpu"), called=called).record.name
        for called in (None, "mine")
    ]
    assert named == ["final", "mine"]
    assert report._longer_name(str(folder)) == "one-final"
