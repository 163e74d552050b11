"""Self-repair over training: what is lined up, in what order, and what is not."""

import duckdb
import pytest

from support.published import EARLY, FINAL, STEP

Con = duckdb.DuckDBPyConnection


def points(con: Con) -> list[tuple]:
    return con.execute(
        "SELECT DISTINCT series_id, ablation, checkpoint_place, run_id, checkpoint FROM repair_over_training ORDER BY ALL"
    ).fetchall()


LINED_UP = [(EARLY, "resample", 1, EARLY, STEP), (EARLY, "resample", 2, FINAL, None)]


def test_checkpoints_of_one_model_are_lined_up_and_the_final_weights_come_last(filed: Con) -> None:
    """The small model has a single checkpoint, and that is no series."""
    assert points(filed) == LINED_UP


def test_the_numbers_are_those_of_the_levels(filed: Con) -> None:
    numbers = "population, level, layer, head, mean_self_repair, mean_self_repair_se, clipped_mlp_fraction, n_rows"
    found = filed.execute(f"SELECT run_id, {numbers} FROM repair_over_training ORDER BY ALL").fetchall()
    known = filed.execute(
        f"SELECT run_id, {numbers} FROM repair_means WHERE run_id IN ({EARLY}, {FINAL}) AND ablation = 'resample' ORDER BY ALL"
    ).fetchall()
    assert found == known
    assert len(found) == 2 * 3 * (144 + 12 + 1)
    of_heads = filed.execute(
        "SELECT DISTINCT label FROM repair_over_training WHERE level = 'head' AND layer = 11"
    ).fetchall()
    assert ("L11H3",) in of_heads
    assert filed.execute("SELECT DISTINCT label FROM repair_over_training WHERE level = 'model'").fetchall() == [
        (None,)
    ]


OF_FINAL = f"WHERE model_id = (SELECT model_id FROM runs WHERE run_id = {FINAL})"


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE runs SET given_heads = ['L0H1'] WHERE run_id = {FINAL}",
        f"UPDATE runs SET selected_heads = ['L0H1'] WHERE run_id = {FINAL}",
        f"UPDATE runs SET seed = 99 WHERE run_id = {FINAL}",
        f"UPDATE runs SET dtype = 'bfloat16' WHERE run_id = {FINAL}",
        f"UPDATE runs SET conventions = 'others' WHERE run_id = {FINAL}",
        f"UPDATE runs SET status = 'failed' WHERE run_id = {FINAL}",
        f"UPDATE models SET name = 'another' {OF_FINAL}",
        f"UPDATE models SET revision = 'another' {OF_FINAL}",
        f"UPDATE models SET n_layers = 13 {OF_FINAL}",
        f"UPDATE runs SET dataset_id = (SELECT max(dataset_id) FROM datasets) WHERE run_id = {FINAL}",
    ],
)
def test_what_was_measured_in_another_way_is_not_lined_up(changed: Con, change: str) -> None:
    assert points(changed) == LINED_UP
    changed.execute(change)
    assert points(changed) == []


def test_a_revision_that_names_a_step_is_one(changed: Con) -> None:
    changed.execute(f"UPDATE models SET revision = 'step64' {OF_FINAL}")
    assert points(changed) == [(EARLY, "resample", 1, FINAL, 64), (EARLY, "resample", 2, EARLY, STEP)]


def test_the_main_revision_is_the_final_weights(changed: Con) -> None:
    changed.execute(f"UPDATE models SET revision = 'main' {OF_FINAL}")
    assert points(changed) == LINED_UP


def test_of_two_runs_of_a_checkpoint_the_last_whole_one_counts(changed: Con) -> None:
    again = 99
    changed.execute(
        f"INSERT INTO models SELECT * REPLACE ({again} AS model_id, {STEP} AS checkpoint) FROM models {OF_FINAL}"
    )
    changed.execute(
        f"INSERT INTO runs SELECT * REPLACE ({again} AS run_id, 'again' AS run_key, {again} AS model_id) FROM runs "
        f"WHERE run_id = {FINAL}"
    )
    for table in ("units", "selfrepair_marts.refreshed", "selfrepair_marts.repair_means"):
        changed.execute(f"INSERT INTO {table} SELECT * REPLACE ({again} AS run_id) FROM {table} WHERE run_id = {FINAL}")
    final = (EARLY, "resample", 2, FINAL, None)
    assert points(changed) == [(EARLY, "resample", 1, again, STEP), final]
    changed.execute(f"UPDATE runs SET status = 'incomplete' WHERE run_id = {again}")
    assert points(changed) == [(EARLY, "resample", 1, EARLY, STEP), final]
