"""The demo's report against a run of two layers whose means are known."""

from pathlib import Path

import pytest

from selfrepair.app.cli.run_report import run_report
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.files import human_bytes
from selfrepair.warehouse.schema import ABLATIONS

RUN = """
INSERT INTO models VALUES
    (3, 'toy', NULL, NULL, 'GPT2LMHeadModel', 2, 1, 1, 8, 8, 32, 50, 'layernorm', false, 1000, 'sha');
INSERT INTO runs BY NAME
SELECT
    7 AS run_id, 'key' AS run_key, 3 AS model_id, 1 AS dataset_id, 5 AS n_prompts, 1 AS n_units, 60 AS n_measurements,
    1 AS n_crosschecks, ['resample', 'mean', 'zero'] AS ablations, [] AS given_heads, ['L0H0', 'L1H0'] AS selected_heads,
    0 AS seed, 'float32' AS dtype, 'cpu' AS device, 'none' AS conventions, MAP {'duckdb': '1'} AS software,
    'complete' AS status, TIMESTAMP '2026-01-01' AS started_at, 2.14e-5 AS identity_error_max,
    1e-3 AS crosscheck_tolerance, 1.26e-5 AS crosscheck_error_max, 127 AS crosscheck_rows;
"""
"""One top row for each head and ablation: the first position, where direct_effect is highest."""

ROWS = """
INSERT INTO measurements
SELECT 7, '{ablation}', 0, pos, layer, 0, {scale} * effects[1] - pos, {scale} * effects[2], {scale} * effects[3],
    {scale} * effects[4], {scale} * effects[5], {scale} * effects[6], 1
FROM range(10) AS positions (pos), (VALUES (0, [4, 1, -2, 1.25, -0.5, 0.25]), (1, [2, 0, -1.75, 0.25, 0, 0])) AS heads (
    layer, effects
)
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "my runs.duckdb"
    with open_writer(path) as con:
        con.execute(RUN)
        for scale, ablation in enumerate(ABLATIONS, start=1):
            con.execute(ROWS.format(ablation=ablation, scale=scale))
    return path


def test_the_report_is_the_runs_numbers(db: Path) -> None:
    report = run_report(db, 7)
    n_bytes = db.stat().st_size
    assert report.splitlines()[:4] == [
        "Run 7: toy, 2 heads, 5 prompts",
        f"  stored       60 rows in {db} ({human_bytes(n_bytes)}, {n_bytes / 60:,.1f} bytes a row)",
        "  identity     self-repair = LayerNorm + attention + MLPs on every row; largest error 2.1e-05 logits",
        "  cross-check  127 rows measured again through TransformerLens hooks; largest difference 1.3e-05 logits",
    ]
    lines = report.splitlines()
    assert [line.split() for line in lines if line.strip().startswith(("layer ", "0 ", "1 "))] == [
        [
            "layer",
            "[logits]",
            "[logits]",
            "[logits]",
            "[logits]",
            "[logits]",
            "[logits]",
            "[logits]",
            "[%]",
            "[%]",
            "[%]",
        ],
        ["0", "4.000", "3.000", "-2.000", "1.250", "-0.500", "0.250", "1.000", "25.0", "31.2", "25.0"],
        ["1", "2.000", "2.000", "-1.750", "0.250", "0.000", "0.000", "0.250", "12.5", "12.5", "12.5"],
    ]
    assert (
        "ablating a head of layer 0 takes 3.000 logits of direct effect from the correct token,\n"
        "and its logit changes by -2.000. The difference, 1.000, is what the rest of the model gave back"
    ) in report


def test_a_run_that_breaks_is_not_called_repaired(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE measurements SET logit_change = logit_change - 2")
    assert "The difference, 1.000, is what the rest of the model took away on top" in run_report(db, 7)


def test_the_next_steps_can_be_pasted(db: Path) -> None:
    steps = [line for line in run_report(db, 7).splitlines() if line.startswith("  selfrepair ")]
    assert len(steps) == 3
    assert sum(f"--db '{db}'" in step for step in steps) == 2


def test_other_runs_in_the_file_are_told_apart(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("INSERT INTO measurements SELECT * REPLACE (8 AS run_id) FROM measurements WHERE pos < 2")
    assert "stored       60 rows" in run_report(db, 7)
    assert "bytes a row with the 12 of other runs)" in run_report(db, 7)


def test_a_failed_run_has_no_table(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE runs SET status = 'failed'")
    report = run_report(db, 7)
    assert report.startswith("Run 7: toy")
    assert report.endswith("The run's status is failed, and no view aggregates it. See: selfrepair runs")
