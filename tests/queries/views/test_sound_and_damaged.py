"""`selfrepair verify` and run_health are of one opinion about every file: the same rules, asked in two places."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.queries.catalog.relations import views
from selfrepair.warehouse.load.removal import remove_run, stored_run
from selfrepair.warehouse.schema import MECHANISM_TABLES
from selfrepair.warehouse.schema.tables import metadata
from selfrepair.warehouse.verify.rules import MECHANISM_NUMBERS, MOST_READ, rules
from selfrepair.warehouse.verify.verification import checks
from support.empty import installed
from support.fabricate import FabricatedRun, fabricate
from support.loaded import load_rows, stored
from support.tiers import first_of_each

ONE_ROW = "WHERE prompt_id = 1 AND pos = 2 AND layer = 1 AND head = 0 AND ablation = 'mean'"
ONE_ROW_IS = "prompt_id = 1 AND pos = 2 AND layer = 1 AND head = 0 AND ablation = 'mean'"


def without_constraints(table: str, column: str, value: str, where: str) -> str:
    """The table with a value that it refuses, as a program that copies it could leave it."""
    return (
        f"CREATE OR REPLACE TABLE {table} AS SELECT * REPLACE (if({where}, {value}, {column}) AS {column}) FROM {table}"
    )


DAMAGED = {
    "a part is changed": f"UPDATE measurements SET repair_mlp = repair_mlp + 0.0014 {ONE_ROW}",
    "rows are missing": "DELETE FROM measurements WHERE prompt_id = 4 AND layer = 0",
    "an ablation is missing": "DELETE FROM measurements WHERE ablation = 'mean'",
    "rows are doubled": f"""
        INSERT INTO measurements FROM measurements {ONE_ROW};
        UPDATE units SET n_measurements = n_measurements + 1 WHERE unit = 0;
        UPDATE runs SET n_measurements = n_measurements + 1
    """,
    "a row stands in for another": f"""
        DELETE FROM measurements WHERE prompt_id = 2 AND pos = 2 AND layer = 1 AND head = 0 AND ablation = 'mean';
        INSERT INTO measurements FROM measurements {ONE_ROW}
    """,
    "an effect is NaN": without_constraints("measurements", "ln_scale_ratio", "'nan'", ONE_ROW_IS),
    "an effect is infinite": without_constraints("measurements", "direct_effect", "'inf'", ONE_ROW_IS),
    "an effect is NULL": without_constraints("measurements", "repair_mlp", "NULL", ONE_ROW_IS),
    "a head is NULL": without_constraints("measurements", "head", "NULL", ONE_ROW_IS),
    "a clean logit is NULL": without_constraints("tokens", "clean_logit", "NULL", "prompt_id = 1 AND pos = 2"),
    "the ledger counts other rows": "UPDATE units SET n_measurements = n_measurements + 1 WHERE unit = 0",
    "a prompt is missing": "DELETE FROM prompts WHERE prompt_id = 3",
    "a token is missing": "DELETE FROM tokens WHERE prompt_id = 3 AND pos = 1",
    "a target is another": "UPDATE tokens SET target_id = target_id + 1 WHERE prompt_id = 3 AND pos = 1",
    "a prompt has other tokens": without_constraints("prompts", "token_ids", "[1, 2, 3, 4, 5]", "prompt_id = 3"),
    "a head does not exist": "UPDATE measurements SET head = 7 WHERE head = 3 AND layer = 0",
    "the run's identity error is another": "UPDATE runs SET identity_error_max = 1e-9",
    "the identity failed when measured": """
        UPDATE units SET identity_error_max = 0.002;
        UPDATE runs SET identity_error_max = 0.002
    """,
    "the cross-check disagrees unnoticed": "UPDATE crosschecks SET error_max = 0.25",
    "the cross-check is no number": without_constraints("crosschecks", "error_max", "NULL", "layer = 0"),
    "edges do not add up": "UPDATE edge_sums SET change = change + 5 WHERE population = 'all' AND target_layer = 2",
    "edges of a unit are missing": "DELETE FROM edge_sums WHERE unit = 1",
    "experts do not add up": "UPDATE expert_sums SET change = change + 5 WHERE expert = 2",
    "what is always on is another": "UPDATE routing_sums SET shared_change = shared_change + 5 WHERE mlp_layer = 2",
    "experts of a head are missing": "DELETE FROM expert_sums WHERE layer = 1 AND head = 2",
    "routing of a head is missing": "DELETE FROM routing_sums WHERE layer = 1 AND head = 2",
    "routing of a unit is missing": "DELETE FROM routing_sums WHERE unit = 1",
    "more rows are rerouted than there are": "UPDATE routing_sums SET rerouted_rows = n_rows + 1",
    "an expert is chosen too often": "UPDATE expert_sums SET clean_rows = clean_rows + 1 WHERE expert = 0",
    "neurons do not add up": "UPDATE neuron_sums SET change = change + 5 WHERE mlp_layer = 2",
    "neurons after position 0 do not add up": "UPDATE neuron_sums SET change = change + 5 WHERE population = 'top2_nobos'",
    "neurons at position 0 are after it": "UPDATE neuron_changes SET in_top2_nobos = true",
    "neurons are in no top": "UPDATE neuron_changes SET (in_top2, in_top2_nobos) = ROW(false, false) WHERE rank = 3",
    "neurons of a head are missing": "DELETE FROM neuron_sums WHERE layer = 1 AND head = 2",
    "a kept neuron is missing": "DELETE FROM neuron_changes WHERE rank = 1",
    "a change of log-probability is missing": f"DELETE FROM logprob_changes {ONE_ROW}",
    "the logit lens is another": "UPDATE logit_lens SET logprob = logprob + 0.5 WHERE layer = 2 AND pos = 1",
    "self-repression of a prompt is missing": "DELETE FROM self_repression_sums WHERE prompt_id = 4",
    "self-repression is missing": "DELETE FROM self_repression_sums",
    "self-repression is NaN": "UPDATE self_repression_sums SET sum_xy = 'nan' WHERE prompt_id = 4",
    "the model has fewer heads": "UPDATE models SET n_heads = 2",
    "the model is missing": "DELETE FROM models",
    "a unit of no run": "INSERT INTO units SELECT * REPLACE (7 AS run_id) FROM units",
}
"""What is done to a sound file, by what it is."""


SOUND = {
    "nothing is done": "",
    "a row moves by what rounding explains": f"UPDATE measurements SET repair_mlp = repair_mlp + 0.0003 {ONE_ROW}",
    "one row has no direct effect": """
        UPDATE measurements
        SET logit_change = logit_change + direct_effect, direct_effect = 0
        WHERE prompt_id = 1 AND pos = 2 AND layer = 1 AND head = 0
    """,
    "the cross-check is not all loaded": """
        DELETE FROM crosschecks WHERE layer = 0;
        UPDATE runs
        SET
            (status, crosscheck_error_max, crosscheck_rows)
            = ROW('incomplete', (SELECT max(error_max) FROM crosschecks), (SELECT sum(n_rows) FROM crosschecks))
    """,
    "a run has not begun": """
        INSERT INTO runs
        SELECT
            * REPLACE (
                2 AS run_id, 'another' AS run_key, 'incomplete' AS status, NULL AS finished_at,
                NULL AS identity_error_max, NULL AS crosscheck_error_max, 0 AS crosscheck_rows
            )
        FROM runs
    """,
    "summaries are gone": "DELETE FROM selfrepair_marts.refreshed",
    "the settings of the run are not known": "UPDATE runs SET logit_of = NULL",
}
"""What leaves a file sound."""

Con = duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Con]:
    """A warehouse of one run with all mechanisms, open for writing: what a test does to it is undone."""
    with duckdb.connect(stored(tmp_path_factory.mktemp("sound"), fabricate(mechanisms=True))) as con:
        # what is drawn at random is not what the model predicts
        con.execute("""
            UPDATE logit_lens AS l
            SET logprob = t.clean_logprob, rank = t.clean_rank
            FROM tokens AS t
            WHERE l.layer = 2 AND (t.prompt_id, t.pos) = (l.prompt_id, l.pos)
        """)
        yield con


@pytest.fixture
def con(sound: Con) -> Iterator[Con]:
    sound.execute("BEGIN")
    yield sound
    sound.execute("ROLLBACK")


def judged(con: Con) -> tuple[bool, list[str]]:
    """Whether verify calls the file sound, where run_health says the same; and what that says of each run."""
    broken = {check.name for check in checks(con) if not check.ok}
    found = con.execute("SELECT DISTINCT rule FROM broken_rules").fetchall()
    said = [health for (health,) in con.execute("SELECT health FROM run_health").fetchall()]
    assert broken == {rule for (rule,) in found}
    assert said
    assert any(health.startswith(("damaged", "failed")) for health in said) == bool(broken), said
    return not broken, said


def is_sound(con: Con) -> bool:
    """What both say."""
    return judged(con)[0]


@pytest.mark.parametrize("damage", first_of_each(4, DAMAGED))
def test_damage_is_seen_by_both(con: Con, damage: str) -> None:
    con.execute(DAMAGED[damage])
    sound, said = judged(con)
    assert not sound
    assert "ok" not in said


@pytest.mark.parametrize("table", MECHANISM_NUMBERS)
def test_no_number_of_a_mechanism_may_be_nan(con: Con, table: str) -> None:
    _, numbers, optional = MECHANISM_NUMBERS[table]
    columns = metadata.tables[table].columns
    of_schema = {c.name: bool(c.nullable) for c in columns if isinstance(c.type, (sa.REAL, sa.Double))}
    assert dict.fromkeys(numbers, False) | dict.fromkeys(optional, True) == of_schema
    (rule,) = (rule for rule in rules() if rule.name == "numbers of mechanisms are finite")
    assert con.execute(rule.sql).fetchall() == []
    con.execute(f"CREATE TEMP TABLE one_row AS FROM {table} LIMIT 1")
    for name in of_schema:
        con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * REPLACE ('nan'::DOUBLE AS {name}) FROM one_row")
        assert len(con.execute(rule.sql).fetchall()) == 1, name


def test_heads_of_the_last_layer_have_no_edges_in_parallel_blocks(con: Con) -> None:
    (rule,) = (rule for rule in rules() if rule.name == "mechanisms cover every unit")
    con.execute("UPDATE runs SET mechanisms = ['edges'], selected_heads = ['L2H0', 'L2H3']")
    con.execute("DELETE FROM edge_sums")
    assert len(con.execute(rule.sql).fetchall()) == 1  # with the MLP after it, there is an edge to that
    con.execute("UPDATE models SET parallel_blocks = true")
    assert con.execute(rule.sql).fetchall() == []
    con.execute("UPDATE runs SET selected_heads = ['L1H0', 'L2H3']")
    assert len(con.execute(rule.sql).fetchall()) == 1


@pytest.mark.parametrize("change", first_of_each(3, SOUND))
def test_both_leave_alone_what_is_sound(con: Con, change: str) -> None:
    con.execute(SOUND[change])
    assert is_sound(con)


@pytest.mark.parametrize(
    ("large", "error", "expected"),
    [(1, 1e-3, True), (1, 2e-3, False), (50, 2e-3, False), (1000, 8e-3, True), (1000, 0.02, False), (1e4, 0.05, True)],
)
def test_an_error_is_judged_by_the_size_of_the_effects(con: Con, large: float, error: float, expected: bool) -> None:
    """Rounding grows with the numbers: an error that damage alone explains at 1 logit is none at ten thousand."""
    con.execute("UPDATE runs SET mechanisms = []")
    for table in MECHANISM_TABLES:
        con.execute(f"DELETE FROM {table}")
    # the parts move together, and R with them, but for the error
    con.execute(
        "UPDATE measurements SET repair_mlp = repair_mlp + $1, logit_change = logit_change + $1 + $2", [large, error]
    )
    for table in ("units", "runs"):
        con.execute(f"UPDATE {table} SET identity_error_max = $1", [error])
    assert is_sound(con) == expected


def answers(run: FabricatedRun) -> FabricatedRun:
    """The same run with effects at the last position of each prompt alone."""
    units = []
    for unit in run.units:
        of_last = [
            {name: np.asarray(values)[columns["pos"] == columns["pos"].max()] for name, values in columns.items()}
            for columns in (unit.measurements, unit.tokens)
        ]
        units.append(replace(unit, measurements=of_last[0], tokens=of_last[1]))
    n_rows = sum(len(unit.measurements["pos"]) for unit in units)
    record = replace(run.record, logit_of="answer", n_measurements=n_rows)
    return FabricatedRun(record, units, [replace(cell, n_rows=1) for cell in run.cells])


def disagreeing(run: FabricatedRun) -> FabricatedRun:
    """The same run with a cross-check that fails."""
    return replace(run, cells=[replace(cell, error_max=0.5) for cell in run.cells])


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A file with all views and no run."""
    return installed(tmp_path)


def load(db: Path, run: FabricatedRun, units: list[int] | None = None) -> None:
    load_rows(db, run.write(db.parent / "parts", units, crosscheck=units is None).root)


def health_of(db: Path) -> list[str]:
    return Warehouse(db, on_note=lambda text: None).question("run_checks")["health"].to_list()


@pytest.mark.parametrize(
    ("run", "units", "said"),
    [
        (answers(fabricate()), None, "not summarised"),
        (fabricate(ablations=("mean",), parallel_blocks=True), None, "not summarised"),
        (fabricate(mechanisms=True), [], "empty"),
        (fabricate(), [0], "incomplete"),
        (disagreeing(fabricate()), None, "failed"),
    ],
    ids=["answers", "means", "no unit", "one unit", "failed"],
)
def test_they_agree_on_what_was_loaded(db: Path, run: FabricatedRun, units: list[int] | None, said: str) -> None:
    load(db, run, units)
    with duckdb.connect(db) as con:
        assert is_sound(con) == (said != "failed")
        ((health,),) = con.execute("SELECT health FROM run_health").fetchall()
    assert health.startswith(f"{said}: ")


def test_the_damaged_one_of_two_runs_is_named(db: Path) -> None:
    for run in (fabricate(), fabricate("run-b", model="other-model", seed=5)):
        load(db, run)
    done = CliRunner().invoke(main, ["verify", "--db", str(db)])
    assert done.exit_code == 0
    assert not any(health.startswith("damaged") for health in health_of(db))
    with duckdb.connect(db) as con:
        con.execute("UPDATE tokens SET target_id = -1 WHERE run_id = 2 AND prompt_id = 5 AND pos = 2")
    done = CliRunner().invoke(main, ["verify", "--db", str(db)])
    assert done.exit_code == 1
    assert re.search(
        r"^tokens and targets match the prompt +NO +1 violation, such as run 2, prompt 5", done.output, re.M
    )
    first, second = health_of(db)
    assert not first.startswith("damaged")
    assert second == (
        "damaged: not so: tokens and targets match the prompt (run 2, prompt 5, position 2); see selfrepair verify"
    )


@pytest.mark.slow
def test_they_agree_on_the_run_that_is_left(db: Path) -> None:
    for run in (fabricate(), fabricate("run-b", model="other-model", seed=5)):
        load(db, run)
    remove_run(db, stored_run(db, 1), db.parent / "parts")
    with duckdb.connect(db) as con:
        assert is_sound(con)
        assert con.execute("SELECT run_id, health FROM run_health").fetchall() == [(2, "ok")]


def test_rows_too_many_to_read_are_not_called_sound(con: Con) -> None:
    """What reads every row is left to verify; what is quick to see is seen."""
    for name in ("broken_rules", "run_health"):
        (view,) = (view for view in views() if view.name == name)
        assert f"<= {MOST_READ}" in view.sql
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {view.sql.replace(f'<= {MOST_READ}', '<= 863')}")
    health = "SELECT health FROM run_health"
    expected = "rows not verified: nothing else is wrong; selfrepair verify reads every row"
    assert con.execute(health).fetchall() == [(expected,)]
    con.execute(DAMAGED["a part is changed"])
    assert con.execute(health).fetchall() == [(expected,)]
    con.execute(DAMAGED["a token is missing"])
    ((said,),) = con.execute(health).fetchall()
    assert said == (
        "damaged: not so: each prompt has all its tokens (run 1, prompt 3: 3 rows of tokens for 5 tokens); "
        "see selfrepair verify"
    )
