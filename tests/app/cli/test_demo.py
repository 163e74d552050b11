"""`selfrepair demo` as a user runs it first: the bundled model, a new file, no network."""

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.app.cli.run_report import run_report
from selfrepair.queries.catalog.relations import views

pytest.importorskip("torch", reason="measuring needs the ingest extra")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "demo.duckdb"


def run_demo(db: Path) -> str:
    result = CliRunner().invoke(main, ["demo", "--prompts", "2", "--db", str(db)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_the_demo_measures_once_and_reports_the_same_again(db: Path) -> None:
    first = run_demo(db)
    report = first[first.index("Self-repair by component and layer") :]
    with duckdb.connect(db, read_only=True) as con:
        (n_rows, n_runs), *_ = con.execute("SELECT count(*), count(DISTINCT run_id) FROM measurements").fetchall()
        (n_layers, n_heads), *_ = con.execute("SELECT n_layers, n_heads FROM models").fetchall()
        installed = con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert (n_rows, n_runs) == (n_layers * n_heads * 2 * 127 * 3, 1)
    assert f"stored       {n_rows:,} rows in {db}" in first
    assert first.count(f"{n_rows:,} rows") == 1  # by the report alone
    assert {name for (name,) in installed} == {view.name for view in views()}

    again = run_demo(db)
    assert again.endswith(report)
    with duckdb.connect(db, read_only=True) as con:
        assert con.execute("SELECT count(*) FROM measurements").fetchall() == [(n_rows,)]


@pytest.mark.slow
def test_an_ingest_ends_with_the_same_report(db: Path) -> None:
    typed = ["--model", "demo", "--prompts", "2", "--ablation", "mean", "--layers", "1", "--db", str(db)]
    done = CliRunner().invoke(main, ["ingest", *typed, "--neurons", "none", "--no-edges"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"\n\n{run_report(db, 2)}\n")
    assert "mean ablation: a head's output is replaced by its mean output over all prompts" in done.stdout
    dry = CliRunner().invoke(main, ["ingest", *typed, "--dry-run"], catch_exceptions=False)
    assert "Self-repair by component" not in dry.stdout
