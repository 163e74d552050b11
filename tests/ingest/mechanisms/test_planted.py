"""A model whose heads and neurons were set by hand, measured and asked as a user would: the views must name what was planted,
nothing else, and no longer once what it hangs on is 0.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.ingest.conventions import head_label
from support import planted

MAIN, BACKUP, REPRESSING = (head_label(*head) for head in (planted.MAIN, planted.BACKUP, planted.REPRESSING))
PLANTS = planted.Plants()
POPULATIONS = ("all", "top2")
OF_NEURONS = ("top2", "top2_nobos")
BACKED_UP = {f"{view} {population}": [BACKUP] for view in ("who_repairs", "backup_heads") for population in POPULATIONS}
ERASED = {f"anti_erasure {population}": [planted.ERASER] for population in OF_NEURONS}
REPRESSED = {f"self_repression_slope {multiple}": [(REPRESSING, "repressing")] for multiple in (1, 3, 5)}


def measure(folder: Path, plants: planted.Plants, *, given: bool) -> Warehouse:
    """The model measured with all its heads and, where `given`, once more without its main one."""
    db = folder / "w.duckdb"
    model, prompts = planted.save(folder / "model", plants), planted.write_prompts(folder / "prompts.jsonl")
    command = ["ingest", "--model", str(model), "--dataset", str(prompts), "--prompts", str(planted.PROMPTS)]
    command += ["--ablation", "zero", "--neurons", "last", "--self-repression", "--device", "cpu", "--db", str(db)]
    for more in ([], ["--given", MAIN]) if given else ([],):
        result = CliRunner().invoke(main, [*command, *more])
        assert result.exit_code == 0, result.output
    return Warehouse(db)


def named(warehouse: Warehouse) -> dict[str, list]:
    """Who stands out in each view of the run with all heads: how far is what the views' own columns say."""
    found: dict[str, list] = {}
    for population in POPULATIONS:
        of = {"run": 1, "population": population}
        repairers = warehouse.view("who_repairs", label=MAIN, **of).filter(pl.col("share_of_effect") > 0.5)
        # the top 2 % come from fewer than 12 documents, which is not enough for a verdict, and so for a score
        size = "score" if population == "all" else "relative_change"
        backups = warehouse.view("backup_heads", **of).filter(pl.col(size) > 0.1)
        found[f"who_repairs {population}"] = repairers["target_label"].to_list()
        found[f"backup_heads {population}"] = backups["target_label"].to_list()
    for population in OF_NEURONS:
        neurons = warehouse.view("anti_erasure", run=1, label=MAIN, population=population)
        erasing = neurons.filter(pl.col("n_anti_erasure") > 0)
        found[f"anti_erasure {population}"] = erasing["neuron"].to_list()
    for multiple in (1, 3, 5):
        verdicts = warehouse.view("self_repression_slope", run=1, multiple=multiple)
        assert set(verdicts["layer"]) == {2, 3}
        assert verdicts["verdict"].null_count() == 0
        labelled = verdicts.filter(pl.col("verdict").is_in(["repressing", "reinforcing"]))
        found[f"self_repression_slope {multiple}"] = labelled.select("label", "verdict").rows()
    return found


def nobody(views: Iterable[str]) -> dict[str, list]:
    return {view: [] for view in views}


def taken_over(warehouse: Warehouse, population: str) -> pl.DataFrame:
    """`co_ablation` with each head's growth as a share of what the main head wrote, that which grows most first."""
    (wrote,) = warehouse.view("head_repair", run=1, label=MAIN, population=population)["mean_direct_effect"]
    growth = warehouse.view("co_ablation", run=2, population=population).sort("growth_rank")
    return growth.with_columns(share=pl.col("direct_effect_growth") / wrote)


@pytest.mark.slow
def test_every_view_names_what_was_planted_and_nothing_else(tmp_path):
    warehouse = measure(tmp_path, PLANTS, given=True)
    assert named(warehouse) == BACKED_UP | ERASED | REPRESSED
    for population in POPULATIONS:
        of = {"run": 1, "population": population}
        first, second = warehouse.view("who_repairs", label=MAIN, target_rank=[1, 2], **of)["target_label"]
        assert (first, second) == (BACKUP, "MLP3")
        assert warehouse.view("backup_heads", **of)["target_label"][0] == BACKUP
        growth = taken_over(warehouse, population)
        assert growth["label"][0] == BACKUP
        assert abs(growth["base_mean_direct_effect"][0]) < 0.05 * growth["mean_direct_effect"][0]  # it was hidden
        assert growth.filter(pl.col("share") > 0.1)["label"].to_list() == [BACKUP]
    for population in OF_NEURONS:
        of = {"run": 1, "label": MAIN, "population": population}
        eraser, booster, steady = (
            warehouse.view("anti_erasure", **of, neuron=neuron).row(0, named=True)
            for neuron in (planted.ERASER, planted.BOOSTER, planted.STEADY)
        )
        assert eraser["n_anti_erasure"] == eraser["n_first"] == eraser["n_rows"] > 1
        assert eraser["mean_clean_effect"] < 0 < eraser["mean_change"]
        assert eraser["share_of_mlp"] > 1  # those beside it work against it
        assert booster["mean_clean_effect"] > 0 > booster["mean_change"]
        assert steady["mean_clean_effect"] < 0
        assert abs(steady["mean_change"]) < 0.1 * eraser["mean_change"]
        (summary,) = warehouse.view("neuron_summary", **of).to_dicts()
        assert summary["anti_erasure_share"] == pytest.approx(1)
        assert summary["neurons_for_half"] == 1


@pytest.mark.slow
def test_a_backup_that_does_not_yield_is_no_backup(tmp_path):
    warehouse = measure(tmp_path, replace(PLANTS, backup_yields=0.0), given=True)
    assert named(warehouse) == nobody(BACKED_UP) | ERASED | REPRESSED
    for population in POPULATIONS:
        assert not taken_over(warehouse, population).filter(pl.col("share") > 0.2).height


@pytest.mark.slow
def test_a_deaf_eraser_and_a_head_that_does_not_see_itself_are_not_named(tmp_path):
    warehouse = measure(tmp_path, replace(PLANTS, eraser_listens=0.0, repressing_yields=0.0), given=False)
    assert named(warehouse) == BACKED_UP | nobody(ERASED | REPRESSED)
