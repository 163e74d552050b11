"""A run with given heads finds the run without, whatever else that one measured."""

import pytest

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.ingest.runs import plan
from support import tiny

pytestmark = pytest.mark.slow


@pytest.fixture
def ingest(tmp_path, monkeypatch):
    """Measures a tiny model on a few texts; returns its warehouse."""
    monkeypatch.setattr(plan, "N_CROSSCHECKS", 2)
    model, texts = tiny.save_shaped(tmp_path / "model", 3, 2), tiny.write_texts(tmp_path / "texts.jsonl")
    common = f"--model {model} --dataset {texts} --prompts 4 --seq-len 12 --device cpu --neurons none --no-edges"

    def call(options: str = "") -> Warehouse:
        main(f"ingest {common} --db {tmp_path / 'w.duckdb'} {options}".split(), standalone_mode=False)
        return Warehouse(tmp_path / "w.duckdb")

    return call


def test_backup_heads_are_found_as_the_readme_asks_for_them(ingest):
    """The run of all ablations pairs its prompts, and the one of means does not: both are on the same dataset."""
    ingest()
    warehouse = ingest("--ablation mean --given L1H0")
    rows = warehouse.view("co_ablation", population="all")
    assert set(rows["base_run_id"]) == {1}
    assert sorted(rows["label"]) == ["L0H0", "L0H1", "L1H1", "L2H0", "L2H1"]
    assert warehouse.sql("SELECT count(*) FROM datasets").item() == 1


def test_another_pairing_is_not_compared(ingest):
    ingest("--seed 1 --ablation resample")
    warehouse = ingest("--ablation resample --given L1H0")
    with pytest.warns(UserWarning, match="the same without --given"):
        assert warehouse.view("co_ablation").is_empty()
