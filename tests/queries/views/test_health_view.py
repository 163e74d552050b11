"""run_health: what is loaded and stored of a run, and what it says is wrong."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfrepair.queries.marts import refresh as marts
from selfrepair.warehouse.verify.verification import verify
from support.empty import with_marts
from support.loaded import loaded

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection

N_ROWS = 3


def add_unit(con: Con, run_id: int, n_rows: int = N_ROWS) -> None:
    con.execute(
        "INSERT INTO units SELECT ?, 0, 0, 1, ?, 2e-5, 'hash', TIMESTAMP '2026-01-02', TIMESTAMP '2026-01-03'",
        [run_id, n_rows],
    )


def fill_healthy(con: Con, fill: Fill, one_row: OneRow) -> None:
    """Run 1: three rows and nothing wrong; one has direct effect 0, one of another head is 2e-4 off the identity."""
    exact = {"repair_layernorm": 0.5, "repair_attention": 0.25, "repair_mlp": 0.25}
    rows = [
        one_row(pos=1, **exact),
        one_row(pos=2, **exact | {"repair_mlp": 0.2502}),
        one_row(pos=3, head=0, **exact, direct_effect=0.0, ablated_direct_effect=-4.0),
    ]
    fill(con, rows)
    add_unit(con, 1)
    con.execute(
        "UPDATE runs SET n_measurements = 3, identity_error_max = 2e-5, crosscheck_error_max = 4e-5, crosscheck_rows = 9"
    )


@pytest.fixture
def healthy(con: Con, fill: Fill, one_row: OneRow) -> Con:
    fill_healthy(con, fill, one_row)
    return con


@pytest.fixture
def installed(fill: Fill, one_row: OneRow) -> Iterator[Con]:
    """The same rows below views that read marts, which are not filled yet."""
    with with_marts() as con:
        fill_healthy(con, fill, one_row)
        yield con


def health(con: Con) -> dict[int, str]:
    return dict(con.execute("SELECT run_id, health FROM run_health").fetchall())


def test_a_healthy_run(healthy: Con) -> None:
    cursor = healthy.execute("FROM run_health")
    names = [column[0] for column in cursor.description]
    assert [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] == [
        {
            "run_id": 1,
            "model": "model-1",
            "status": "complete",
            "health": "ok",
            "rows_expected": 3,
            "rows_loaded": 3,
            "rows_stored": 3,
            "rows_summarised": 3,
            "identity_error_max": 2e-5,
            "stored_identity_error": 2e-4,
            "crosscheck_error_max": 4e-5,
            "crosscheck_tolerance": 1e-3,
            "crosscheck_rows": 9,
            "share_undefined_ratios": pytest.approx(1 / 3),
            "has_summaries": True,
            "n_other_runs": 0,
            "settings_differ": None,
        }
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE runs SET status = 'failed', crosscheck_error_max = 0.25, n_measurements = 5",
            "failed: the cross-check disagrees by 0.25 logits, 0.001 are allowed; summaries leave this run out",
        ),
        ("DELETE FROM units", "empty: nothing is loaded; selfrepair runs says why and how to continue"),
        (
            "UPDATE runs SET status = 'incomplete', n_measurements = 1234567, crosscheck_error_max = NULL",
            "incomplete: 3 of 1,234,567 rows are loaded; selfrepair runs says why and how to continue",
        ),
        ("UPDATE runs SET status = 'incomplete'", "unchecked: the cross-check is not all loaded; "),
        ("UPDATE runs SET crosscheck_error_max = NULL", "unchecked: the cross-check is not all loaded; "),
        (
            "DELETE FROM measurements",
            "damaged: 0 rows are stored, 3 were loaded, 3 are expected; see selfrepair verify",
        ),
        (
            "DELETE FROM measurements WHERE pos = 3",
            "damaged: 2 rows are stored, 3 were loaded, 3 are expected; see selfrepair verify",
        ),
        (
            "UPDATE runs SET n_measurements = 2",
            "damaged: 3 rows are stored, 3 were loaded, 2 are expected; see selfrepair verify",
        ),
        (
            "UPDATE measurements SET repair_mlp = repair_mlp + 0.0024",
            "damaged: the parts of a stored row miss its self-repair by 2 times what rounding explains; "
            "see selfrepair verify",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(healthy: Con, change: str, said: str) -> None:
    healthy.execute(change)
    assert health(healthy)[1].startswith(said)


def test_rounding_is_no_damage(healthy: Con) -> None:
    """Six numbers rounded to 1e-4 can be 3e-4 off together."""
    healthy.execute("UPDATE measurements SET repair_mlp = repair_mlp + 0.0001")
    assert healthy.execute("SELECT stored_identity_error, health FROM run_health").fetchall() == [(3e-4, "ok")]


def test_summaries_are_looked_for_in_the_marts(installed: Con) -> None:
    numbers = "SELECT has_summaries, rows_summarised, rows_stored FROM run_health"
    assert installed.execute(numbers).fetchall() == [(False, None, 3)]
    assert health(installed)[1].startswith(
        "not summarised: the views have no numbers of this run; run selfrepair refresh"
    )
    marts.refresh(installed)
    assert installed.execute(numbers).fetchall() == [(True, 3, 3)]
    assert health(installed)[1] == "ok"


def test_rows_changed_by_hand_are_told_from_their_summaries(installed: Con) -> None:
    marts.refresh(installed)
    installed.execute("INSERT INTO measurements SELECT * REPLACE (pos + 10 AS pos) FROM measurements WHERE pos = 3")
    installed.execute("UPDATE units SET n_measurements = 4")
    installed.execute("UPDATE runs SET n_measurements = 4")
    expected = "out of date: the summaries are of 3 rows, 4 are stored; run selfrepair refresh --run 1"
    assert health(installed)[1] == expected


def test_every_run_is_there(con: Con, fill: Fill, one_row: OneRow) -> None:
    statuses = {1: "complete", 2: "failed", 3: "incomplete", 4: "incomplete"}
    fill(con, [one_row(run_id=run_id) for run_id in statuses], status=statuses)
    con.execute("DELETE FROM measurements WHERE run_id = 4")
    assert con.execute("SELECT run_id, status FROM run_health").fetchall() == list(statuses.items())
    said = health(con)
    assert said[2].startswith("failed: the cross-check disagrees; ")
    assert [said[run_id].partition(":")[0] for run_id in (1, 3, 4)] == ["empty"] * 3


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


@pytest.mark.parametrize(
    ("large", "error", "is_sound"),
    [(1, 1e-3, True), (1, 2e-3, False), (50, 2e-3, False), (1000, 8e-3, True), (1000, 0.02, False), (1e4, 0.05, True)],
)
def test_it_agrees_with_verify_on_the_identity(tmp_path: Path, large: float, error: float, is_sound: bool) -> None:
    """Rounding grows with the numbers: an error that damage alone explains at 1 logit is none at ten thousand."""
    db = loaded(tmp_path)
    with duckdb.connect(db) as con:
        # the parts move together, and R with them, but for the error
        con.execute(
            "UPDATE measurements SET repair_mlp = repair_mlp + $1, logit_change = logit_change + $1 + $2",
            [large, error],
        )
        con.execute("UPDATE units SET identity_error_max = $1", [error])
        marts.refresh(con, [1])
        ((health,),) = con.execute("SELECT health FROM run_health").fetchall()
    broken = {check.name for check in verify(db) if not check.ok and "identity" in check.name}
    assert (health == "ok") == is_sound, health
    assert (not broken) == is_sound, broken
