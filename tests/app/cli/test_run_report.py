"""The report at the end of demo and ingest, on a run of two layers whose means are known."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.app.cli.run_report import print_report, run_report
from selfrepair.queries.marts import refresh as marts
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.files import human_bytes
from selfrepair.warehouse.schema import ABLATIONS
from support.empty import installed
from support.templates import copied

RUN = """
INSERT INTO models VALUES
    (3, 'toy', NULL, NULL, 'GPT2LMHeadModel', 2, 1, 1, 8, 8, 32, 50, 'layernorm', false, 1000, 'sha', NULL, false);
INSERT INTO datasets VALUES (1, 'tiny-text', 'heldout', NULL, 'packed', 11, 'sha');
INSERT INTO runs BY NAME
SELECT
    7 AS run_id, 'key' AS run_key, 3 AS model_id, 1 AS dataset_id, 5 AS n_prompts, 1 AS n_units, 60 AS n_measurements,
    1 AS n_crosschecks, ['resample', 'mean', 'zero'] AS ablations, [] AS given_heads, ['L0H0', 'L1H0'] AS selected_heads,
    0 AS seed, 'float32' AS dtype, 'cpu' AS device, 'none' AS conventions, MAP {'duckdb': '1'} AS software,
    'complete' AS status, TIMESTAMP '2026-01-01' AS started_at, 2.14e-5 AS identity_error_max,
    1e-3 AS crosscheck_tolerance, 1.26e-5 AS crosscheck_error_max, 127 AS crosscheck_rows;
"""
UNIT = """
INSERT INTO units BY NAME
SELECT
    7 AS run_id, 0 AS unit, 0 AS first_prompt, 1 AS n_prompts, 60 AS n_measurements, 0 AS identity_error_max,
    'hash' AS manifest_sha256, TIMESTAMP '2026-01-01' AS measured_at, TIMESTAMP '2026-01-01' AS loaded_at
"""
PROMPT = "INSERT INTO prompts VALUES (7, 0, 0, NULL, [0], '')"
"""One top row for each head and ablation: the first position, where direct_effect is highest."""

ROWS = """
INSERT INTO measurements
SELECT 7, '{ablation}', 0, pos, layer, 0, {scale} * effects[1] - pos, {scale} * effects[2], {scale} * effects[3],
    {scale} * effects[4], {scale} * effects[5], {scale} * effects[6], 1, NULL
FROM range(10) AS positions (pos), (VALUES (0, [4, 1, -2, 1.25, -0.5, 0.25]), (1, [2, 0, -1.75, 0.25, 0, 0])) AS heads (
    layer, effects
)
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    def make(folder: Path) -> None:
        with open_writer(installed(folder)) as con:
            con.execute(RUN)
            con.execute(PROMPT)
            con.execute(UNIT)
            for scale, ablation in enumerate(ABLATIONS, start=1):
                con.execute(ROWS.format(ablation=ablation, scale=scale))
            marts.refresh(con)

    return copied(tmp_path, "two-layers", make).rename(tmp_path / "my runs.duckdb")


def test_the_report_is_the_runs_numbers(db: Path) -> None:
    report = run_report(db, 7)
    n_bytes = db.stat().st_size
    assert report.splitlines()[:4] == [
        "Run 7: toy, 2 heads, 5 prompts",
        f"  stored       60 rows in {db} ({human_bytes(n_bytes)}, {n_bytes / 60:,.1f} bytes per row)",
        "  identity     self-repair = LayerNorm + attention + MLP repair in every row; largest error 2.1e-05 logits",
        "  cross-check  127 rows measured again by plain forwards with hooks; largest difference 1.3e-05 logits",
    ]
    lines = report.splitlines()
    assert [line.split() for line in lines if line.strip().startswith(("0 ", "1 "))] == [
        ["0", "4.000", "3.000", "-2.000", "1.250", "-0.500", "0.250", "1.000", "25.0", "31.2", "25.0"],
        ["1", "2.000", "2.000", "-1.750", "0.250", "0.000", "0.000", "0.250", "12.5", "12.5", "12.5"],
    ]
    assert headings(report) == [
        "layer",
        "direct effect",
        "drop in direct effect",
        "change in logit",
        "LayerNorm repair",
        "attention repair",
        "MLP repair",
        "self- repair",
        "self-repair / direct effect [%]",
        "LayerNorm, clipped [%]",
        "total, clipped [%]",
    ]
    assert "Means in logits; rows used: top 2 % by direct effect (direct logit attribution)" in report
    assert (
        "ablating a head of layer 0 lowers its direct effect on the correct token's logit by 3.000\n"
        "and changes that logit by -2.000. The difference, 1.000, is self-repair"
    ) in report
    of_any_run = [line for line in lines[2:] if "--db" not in line]
    assert max(map(len, of_any_run)) <= 106  # fits into the README, indented


def test_a_model_with_post_norms_has_a_column_more(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE models SET post_norms = true")
        con.execute("UPDATE measurements SET repair_post_norm = 0.75, logit_change = logit_change + 0.75")
        marts.refresh(con, [7])
    report = run_report(db, 7)
    assert "  identity     self-repair = LayerNorm + attention + MLP + post-norm repair in every row;" in report
    assert headings(report)[6:9] == ["MLP repair", "post-norm repair", "self- repair"]
    (first,) = (line.split() for line in report.splitlines() if line.strip().startswith("0 "))
    assert first[6:9] == ["0.250", "0.750", "1.750"]


def headings(report: str) -> list[str]:
    """The headings of the table, each in one line."""
    lines = report.splitlines()
    first_row = next(number for number, line in enumerate(lines) if line.strip().startswith("0 "))
    above = lines[first_row - 3 : first_row]
    ends = [match.end() for match in re.finditer(r"\S+", lines[first_row])]
    starts = [0, *ends[:-1]]
    return [
        " ".join(filter(None, (line[start:end].strip() for line in above)))
        for start, end in zip(starts, ends, strict=True)
    ]


def test_a_run_without_resample_ablation_reports_the_one_it_has(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE runs SET ablations = ['zero']")
        con.execute("DELETE FROM measurements WHERE ablation <> 'zero'")
        marts.refresh(con, [7])
    report = run_report(db, 7)
    assert "zero ablation: a head's output is replaced by zero\n" in report
    assert "selfrepair query most_repaired_heads --param run_id=7 --param ablation=zero --db" in report


def test_a_run_of_answers_reports_all_rows(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE runs SET logit_of = 'answer'")
    report = run_report(db, 7)
    assert "rows used: all, 10 of each head\n" in report
    assert "There are numbers here of only 10 rows: fewer than 30 say little." in report


def test_without_a_run_or_a_readable_file_there_is_no_report(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(None, db=db, dry_run=True)
    assert capsys.readouterr() == ("", "")
    print_report(1, db=tmp_path / "gone.duckdb")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("The run is stored; its summary cannot be shown: there is no warehouse at")


def test_a_run_that_breaks_is_not_called_repaired(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE measurements SET logit_change = logit_change - 2")
        marts.refresh(con, [7])
    assert "The difference, 1.000, is added damage: no layer shows self-repair here." in run_report(db, 7)


def test_the_next_steps_can_be_pasted(db: Path) -> None:
    steps = [line for line in run_report(db, 7).splitlines() if line.startswith("  selfrepair ")]
    assert len(steps) == 3
    assert sum(f"--db '{db}'" in step for step in steps) == 2
    query, *args = shlex.split(steps[0])[1:]
    done = CliRunner().invoke(main, [query, *args])
    assert (done.exit_code, "L0H0" in done.output) == (0, True), done.output


@pytest.mark.slow
def test_other_runs_in_the_file_are_told_apart(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("INSERT INTO measurements SELECT * REPLACE (8 AS run_id) FROM measurements WHERE pos < 2")
    assert "stored       60 rows" in run_report(db, 7)
    assert "bytes per row, including 12 rows of other runs)" in run_report(db, 7)


def test_a_failed_run_has_no_table(db: Path) -> None:
    with open_writer(db) as con:
        con.execute("UPDATE runs SET status = 'failed'")
    report = run_report(db, 7)
    assert report.startswith("Run 7: toy")
    assert report.endswith("Run 7 is failed and has no summaries. See: selfrepair runs")
