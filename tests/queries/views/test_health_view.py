"""run_health: what is loaded and stored of a run, and what it says is wrong."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfrepair.queries.marts import refresh as marts
from support.loaded import loaded

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection


@pytest.fixture
def healthy(tmp_path: Path) -> Iterator[Con]:
    """A file of one run with its summaries, open for writing."""
    with duckdb.connect(loaded(tmp_path)) as con:
        yield con


def health(con: Con) -> dict[int, str]:
    return dict(con.execute("SELECT run_id, health FROM run_health").fetchall())


def test_a_healthy_run(healthy: Con) -> None:
    """In one head's row the ablated direct effect is 0, and the parts of another's miss its self-repair by 2e-4."""
    healthy.execute("""
        UPDATE measurements
        SET logit_change = logit_change + direct_effect, direct_effect = 0
        WHERE prompt_id = 1 AND pos = 2 AND layer = 1 AND head = 0
    """)
    healthy.execute("""
        UPDATE measurements
        SET repair_mlp = repair_mlp + 0.0002
        WHERE prompt_id = 1 AND pos = 2 AND layer = 1 AND head = 1 AND ablation = 'mean'
    """)
    marts.refresh(healthy, [1])
    cursor = healthy.execute("FROM run_health")
    names = [column[0] for column in cursor.description]
    assert [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] == [
        {
            "run_id": 1,
            "run_name": None,
            "model": "tiny-model",
            "status": "complete",
            "health": "ok",
            "rows_expected": 864,
            "rows_loaded": 864,
            "rows_stored": 864,
            "rows_summarised": 864,
            "identity_error_max": 1.25e-5,
            "stored_identity_error": 2e-4,
            "crosscheck_error_max": 3.5e-5,
            "crosscheck_tolerance": 2e-3,
            "crosscheck_rows": 12,
            "share_undefined_ratios": 3 / 864,
            "has_summaries": True,
            "n_other_runs": 0,
            "settings_differ": None,
        }
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "DELETE FROM crosschecks WHERE layer < 2; UPDATE runs SET status = 'incomplete', crosscheck_rows = 4, "
            "crosscheck_error_max = (SELECT error_max FROM crosschecks)",
            "unchecked: the cross-check is not all loaded; selfrepair runs says why and how to continue",
        ),
        (
            "DELETE FROM measurements",
            "damaged: 0 rows are stored, 864 were loaded, 864 are expected; see selfrepair verify",
        ),
        (
            "DELETE FROM measurements WHERE pos = 3",
            "damaged: 648 rows are stored, 864 were loaded, 864 are expected; see selfrepair verify",
        ),
        (
            "UPDATE runs SET n_measurements = 1234567",
            "damaged: not so: runs with all their units have all their rows (run 1: 864 rows of 6 prompts; expected 1234567 "
            "of 6); see selfrepair verify",
        ),
        (
            "UPDATE measurements SET repair_mlp = repair_mlp + 0.5 WHERE prompt_id = 0 AND layer = 2; DELETE FROM models",
            "damaged: not so: runs have a model (run 1 of model 1: no such row in models), and 1 more; see selfrepair verify",
        ),
        ("DELETE FROM selfrepair_marts.refreshed", "not summarised: the views have no numbers of this run; "),
        (
            "DELETE FROM selfrepair_marts.identity_errors WHERE layer = 2",
            "out of date: the summaries are of 576 rows, 864 are stored; run selfrepair refresh --run 1",
        ),
        (
            "UPDATE selfrepair_marts.identity_errors SET stored_identity_excess = 1.5 WHERE layer = 2",
            "out of date: the summaries are of rows that were damaged and no longer are; run selfrepair refresh --run 1",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(healthy: Con, change: str, said: str) -> None:
    healthy.execute(change)
    assert health(healthy)[1].startswith(said)


def test_summaries_are_looked_for_in_the_marts(healthy: Con) -> None:
    numbers = "SELECT has_summaries, rows_summarised, rows_stored FROM run_health"
    assert healthy.execute(numbers).fetchall() == [(True, 864, 864)]
    healthy.execute("DELETE FROM selfrepair_marts.refreshed")
    assert healthy.execute(numbers).fetchall() == [(False, None, 864)]


@pytest.fixture
def alike(con: Con, fill: Fill, one_row: OneRow) -> Con:
    """Runs 1 to 3 of one model, alike in all settings; run 4 of another model."""
    fill(con, [one_row(run_id=run_id) for run_id in (1, 2, 3, 4)])
    con.execute("UPDATE models SET name = 'same', config_sha256 = 'same' WHERE model_id <= 13")
    for dataset_id in (1, 2):
        con.execute(
            "INSERT INTO datasets VALUES (?, 'texts', NULL, NULL, 'packed', 128, ?)", [dataset_id, f"{dataset_id}"]
        )
    con.execute("UPDATE runs SET dataset_id = 2 WHERE run_id = 2")  # other prompts of the same kind
    return con


SETTINGS = {
    "weights": "UPDATE models SET weights_sha256 = 'other' WHERE model_id = 13",
    "configuration": "UPDATE models SET config_sha256 = 'other' WHERE model_id = 13",
    "dtype": "UPDATE runs SET dtype = 'bfloat16' WHERE run_id = 3",
    "conventions": "UPDATE runs SET conventions = 'other' WHERE run_id = 3",
    "given_heads": "UPDATE runs SET given_heads = ['L0H0'] WHERE run_id = 3",
    "logit_of": "UPDATE runs SET logit_of = 'answer' WHERE run_id = 3",
    "dataset": "UPDATE datasets SET split = 'test' WHERE dataset_id = 2",
    "seq_len": "UPDATE datasets SET seq_len = 64 WHERE dataset_id = 2",
    "software": "UPDATE runs SET software = MAP {'duckdb': '2'} WHERE run_id = 3",
    "device": "UPDATE runs SET device = 'GPU' WHERE run_id = 3",
}


def comparisons(con: Con) -> list[tuple[Any, ...]]:
    return con.execute("SELECT n_other_runs, settings_differ FROM run_health ORDER BY run_id").fetchall()


def test_runs_that_are_alike(alike: Con) -> None:
    assert comparisons(alike) == [(2, None)] * 3 + [(0, None)]


@pytest.mark.parametrize(("setting", "change"), SETTINGS.items())
def test_the_setting_that_differs_is_named(alike: Con, setting: str, change: str) -> None:
    alike.execute(change)
    assert comparisons(alike) == [(2, setting)] * 3 + [(0, None)]


def test_a_configuration_that_was_not_recorded_is_no_difference(alike: Con) -> None:
    """Runs of version 0.1 are rows of models of their own."""
    alike.execute("UPDATE models SET config_sha256 = NULL WHERE model_id = 13")
    assert comparisons(alike) == [(2, None)] * 3 + [(0, None)]


def test_all_settings_that_differ_are_named(alike: Con) -> None:
    for change in SETTINGS.values():
        alike.execute(change)
    assert comparisons(alike) == [(2, ", ".join(SETTINGS))] * 3 + [(0, None)]


def test_a_failed_run_is_compared_but_not_with(alike: Con) -> None:
    alike.execute("UPDATE runs SET dtype = 'bfloat16', status = 'failed' WHERE run_id = 3")
    assert comparisons(alike) == [(1, None), (1, None), (2, "dtype"), (0, None)]


def test_no_runs_no_answer(con: Con) -> None:
    assert con.execute("FROM run_health").fetchall() == []
