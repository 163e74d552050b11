"""An answer without rows says which option would have measured what it is about."""

import re
import shutil
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair import NotMeasured, Warehouse
from selfrepair.app.cli.main import main
from selfrepair.queries.client.unmeasured import ADDED_BY
from selfrepair.warehouse.schema import MECHANISM_TABLES
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import loaded, stored


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without mechanisms."""
    return loaded(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one ablation: that of model a has mechanisms, that of model b has none."""
    size = {"n_units": 1, "n_layers": 2, "n_heads": 2, "ablations": ("mean",)}
    runs = (fabricate(name, model=name, seed=seed, mechanisms=seed == 0, **size) for seed, name in enumerate("ab"))
    return stored(tmp_path_factory.mktemp("both"), *runs)


def told(db: Path, *asked: str) -> str:
    done = CliRunner().invoke(main, ["query", *asked, "--db", str(db)])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_table_of_a_mechanism_has_an_option() -> None:
    assert set(ADDED_BY) == set(MECHANISM_TABLES)


def test_what_is_asked_of_every_table_needs_none(db: Path) -> None:
    assert "selfrepair ingest" not in told(db, "FROM run_health WHERE status = 'failed'")


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        (("who_repairs",), "--edges"),
        (("neuron_changes",), "--neurons last"),
        (("FROM logit_lens_by_layer",), "--logit-lens"),
        (("measure_agreement",), "--logprobs"),
        (("self_repression_slope",), "--self-repression"),
        (("who_repairs_head", "--param", "layer=1", "--param", "head=2"), "--edges"),
    ],
)
def test_what_was_not_measured_is_said_with_its_option(db: Path, asked: tuple[str, ...], option: str) -> None:
    output = told(db, *asked)
    assert re.search(r"^0 rows", output, re.MULTILINE)
    assert f"No run of this file has measured it: selfrepair ingest {option} does" in output


@pytest.mark.parametrize(
    ("asked", "need"),
    [
        (
            "hidden_backups",
            "has given heads and, beside it, a complete run in the same precision without them: selfrepair ingest --given HEAD",
        ),
        ("repair_over_training", "belongs to a series of checkpoints: selfrepair ingest --model"),
        ("reproduction", "is of a model of the paper: selfrepair reproduce gpt2-small measures one."),
    ],
)
def test_what_a_view_needs_of_a_run_is_said(db: Path, asked: str, need: str) -> None:
    assert f"No run of this file {need}" in told(db, asked)


def test_in_python_it_is_a_warning(db: Path) -> None:
    ours = Warehouse(db)
    with pytest.warns(NotMeasured, match="No run of this file has given heads and, beside it,") as caught:
        assert ours.question("hidden_backups").is_empty()
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(NotMeasured, match="No run of this file has measured it: selfrepair ingest --edges does"):
        ours.sql("SELECT label FROM who_repairs WHERE layer = 1")


def test_it_is_said_beside_csv_and_files(db: Path, tmp_path: Path) -> None:
    for to in (("--csv",), ("-o", str(tmp_path / "a.csv"))):
        done = CliRunner().invoke(main, ["query", "who_repairs", *to, "--db", str(db)])
        assert "No run of this file has measured it" in done.stderr
        assert "No run" not in done.stdout


def test_a_run_that_lacks_it_beside_one_that_has_it(both: Path) -> None:
    lacking = told(both, "who_repairs", "--param", "model=b")
    assert "None of the runs asked for has measured it: selfrepair ingest --edges" in lacking
    assert "asked for" not in told(both, "who_repairs", "--param", "model=a", "--param", "layer=77")
    one_ablation = told(both, "ablations_that_disagree", "--param", "model=b")
    assert (
        "None of the runs asked for has several ablation types: selfrepair ingest --ablation resample" in one_ablation
    )


def test_neurons_that_an_earlier_version_did_not_read(both: Path, tmp_path: Path) -> None:
    asked = ("neuron_summary", "--param", "population=top2_nobos")
    assert "version 0.1" not in told(both, *asked, "--param", "layer=77")
    earlier = Path(shutil.copy(both, tmp_path))
    with duckdb.connect(earlier) as con:
        for table in ("main.neuron_sums", "selfrepair_marts.neuron_totals"):
            con.execute(f"DELETE FROM {table} WHERE population = 'top2_nobos'")
    assert (
        "No run of this file has neurons of the rows after position 0: version 0.1 read neurons in the top 2 % of all rows "
        "alone. To have both, remove the run with selfrepair remove"
    ) in " ".join(told(earlier, *asked).split())
    assert "rows after position 0" not in told(earlier, *asked[:2], "population=top2")


def test_a_failed_run_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    path = loaded(tmp_path)
    with duckdb.connect(path) as con:
        con.execute("UPDATE runs SET status = 'failed'")
    assert "Views leave out runs whose cross-check failed, and there is no other" in told(path, "head_repair")


def test_a_file_without_runs_says_how_to_get_one(tmp_path: Path) -> None:
    path = installed(tmp_path)
    for asked in ("head_repair", "most_repaired_heads", "SELECT 1 FROM runs"):
        assert f"{path} holds no run yet. Measure one (selfrepair demo --db {path}), or load" in told(path, asked)
    with pytest.warns(NotMeasured, match="holds no run yet"):
        Warehouse(path).view("head_repair")


def test_other_empty_answers_say_no_more(db: Path, both: Path) -> None:
    assert "No run of this file" not in told(db, "FROM measurements WHERE layer = 99")
    assert "No run of this file" not in told(both, "FROM who_repairs WHERE layer = 99")
