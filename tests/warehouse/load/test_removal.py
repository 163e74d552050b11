"""A run is removed whole, alone, and not without a yes."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from selfrepair.warehouse.cli.commands import remove as command
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load import removal as remove
from selfrepair.warehouse.load.removal import remove_run, stored_run
from selfrepair.warehouse.parts.listing import DELIVERIES, deliveries_of
from selfrepair.warehouse.schema.tables import metadata
from selfrepair.warehouse.verify.verification import verify
from support.loaded import load_rows as load
from support.loaded import stored

OF_RUNS = [table.name for table in metadata.sorted_tables if "run_id" in table.columns]


@pytest.fixture
def two_runs(fabricate, db):
    """Two runs with all mechanisms, of two models on one data set; the first one's number is 1."""
    models = (("run-a", "gone-model"), ("run-b", "kept-model"))
    return stored(db.parent, *(fabricate(key, model=model, mechanisms=True) for key, model in models))


def broken(db):
    """Rules that do not hold: of made-up mechanisms some do not."""
    return {check.name for check in verify(db) if not check.ok}


def contents(ask, run_id):
    return {name: ask(f"FROM {name} WHERE run_id = {run_id} ORDER BY ALL") for name in OF_RUNS}


def call(*args: object, **options: str):
    return CliRunner().invoke(command, [*map(str, args)], **options)


@pytest.mark.slow
def test_all_of_a_run_goes_and_nothing_else(two_runs, ask, root):
    before, broken_before = contents(ask, 2), broken(two_runs)
    assert all(rows for name, rows in contents(ask, 1).items() if before[name])
    remove_run(two_runs, stored_run(two_runs, 1), root)
    assert not any(contents(ask, 1).values())
    assert contents(ask, 2) == before
    assert ask("SELECT name FROM models") == [("kept-model",)]
    assert len(ask("FROM datasets")) == 1
    assert broken(two_runs) == broken_before
    marts = ask(
        "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'selfrepair_marts' AND column_name = 'run_id'"
    )
    assert len(marts) > 15
    for (mart,) in marts:
        assert ask(f"SELECT count(*) FROM selfrepair_marts.{mart} WHERE run_id = 1") == [(0,)], mart
    assert ask("SELECT DISTINCT run_id FROM head_repair") == ask("SELECT DISTINCT run_id FROM self_repair") == [(2,)]


def test_units_that_other_machines_delivered_go_too(fabricate, db, root):
    """Or the next command that measures the run would find them, and it would be back."""
    parts = fabricate().write(root)
    load(db, root, keep_parts=True)
    delivered = root / DELIVERIES / deliveries_of(parts.run_key) / "unit-00000.abc"
    delivered.mkdir(parents=True)
    (delivered / "manifest.json").write_text("{}")
    remove_run(db, stored_run(db, 1), root)
    assert not root.exists()


def test_the_number_of_a_removed_run_is_never_anothers(fabricate, db, ask, root):
    """Or a link that was saved would show another run."""
    for key, model in (("run-a", "first-model"), ("run-b", "second-model")):
        fabricate(key, model=model, seed=len(model)).write(root)
        load(db, root)
    remove_run(db, stored_run(db, 2), root)
    remove_run(db, stored_run(db, 1), root)
    for key, number in (("run-c", 3), ("run-a", 4)):
        fabricate(key, model=key).write(root)
        load(db, root)
        assert ask(f"SELECT run_id, model_id FROM runs WHERE run_key = '{key}'") == [(number, number)]
    assert ask("SELECT dataset_id FROM datasets") == [(3,)]


@pytest.mark.slow
def test_measured_again_it_is_as_it_was(two_runs, fabricate, ask, root):
    without_time = "SELECT * EXCLUDE (run_id) FROM measurements WHERE run_id = {} ORDER BY ALL"
    before = ask(without_time.format(1))
    remove_run(two_runs, stored_run(two_runs, 1), root)
    fabricate("run-a", model="gone-model", mechanisms=True).write(root)
    load(two_runs, root)
    assert ask(without_time.format(3)) == before


def test_part_files_that_are_not_loaded_yet_do_not_bring_it_back(fabricate, db, root):
    fabricate("run-a").write(root, units=[0])
    load(db, root)
    fabricate("run-a").write(root, units=[1])
    fabricate("run-b").write(root)
    assert call(1, "--db", db, "--yes").output == (
        f"removed run 1 (tiny-model on tiny-text, incomplete, 432 rows)\n{db} now holds 0 runs, 0 rows\n"
    )
    load(db, root)
    assert [stored_run(db, 2).run_key] == ["run-b"]


def test_what_fails_on_the_way_leaves_every_row(two_runs, ask, root, monkeypatch):
    before = contents(ask, 1)
    monkeypatch.setattr(remove, "_SHARED", {"no_such_table": "model_id"})
    with pytest.raises(Exception, match="no_such_table"):
        remove_run(two_runs, stored_run(two_runs, 1), root)
    assert contents(ask, 1) == before


def test_part_files_that_cannot_be_removed_keep_the_rows(fabricate, db, root, ask, monkeypatch):
    fabricate("run-a").write(root)
    load(db, root, keep_parts=True)
    monkeypatch.setattr("selfrepair.warehouse.files.shutil.rmtree", lambda *_, **__: None)  # as on a read-only disk
    with pytest.raises(SelfRepairError, match=r"run-a cannot be removed, and would bring run 1 back"):
        remove_run(db, stored_run(db, 1), root)
    assert ask("SELECT count(*) FROM measurements") == [(864,)]


@pytest.mark.slow
def test_the_command_asks_first(two_runs, ask):
    before = contents(ask, 1)
    asked = call(1, "--db", two_runs, input="n\n")
    assert asked.exit_code == 1
    assert f"Remove run 1 (gone-model on tiny-text, complete, 864 rows) from {two_runs}? [y/N]" in asked.output
    assert contents(ask, 1) == before
    assert call(1, "--db", two_runs, input="y\n").output.endswith(f"{two_runs} now holds 1 run, 864 rows\n")
    assert not any(contents(ask, 1).values())


def test_a_removal_that_was_stopped_at_its_end_is_brought_into_the_file(two_runs, ask):
    remove_run(two_runs, stored_run(two_runs, 1), two_runs.with_name("none"))
    code = f"import duckdb, os; con = duckdb.connect({str(two_runs)!r}); con.execute('CREATE TABLE mine (n INT)'); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)  # as one that is killed when it has written its log
    log = two_runs.with_name(f"{two_runs.name}.wal")
    assert log.exists()
    done = CliRunner().invoke(command, ["1", "--yes", "--db", str(two_runs)], catch_exceptions=False)
    assert done.output.startswith("run 1 was removed before, and nothing of it is left")
    assert not log.exists()
    assert ask("FROM mine") == []


def test_a_run_that_is_not_there(two_runs, tmp_path, root):
    gone = stored_run(two_runs, 2)
    remove_run(two_runs, gone, root)
    with pytest.raises(
        SelfRepairError, match=rf"w\.duckdb has no run 2\. Those it has: selfrepair runs --db {two_runs}"
    ):
        stored_run(two_runs, 2)
    with pytest.raises(SelfRepairError, match=r"run 2 of .* has changed in the meantime"):
        remove_run(two_runs, gone, root)
    with pytest.raises(SelfRepairError, match="there is no warehouse at"):
        stored_run(tmp_path / "none.duckdb", 1)
