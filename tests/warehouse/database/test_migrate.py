import signal

import duckdb
import pytest

from selfrepair.warehouse.database.migrate import Migration, check_readable, migrate, migrations
from selfrepair.warehouse.errors import SelfRepairError

NEWEST = len(migrations())

KILLED = """
import os, signal, sys
import duckdb
from selfrepair.warehouse.database.migrate import migrate

class Killed:
    def __init__(self, con):
        self.con = con

    def __getattr__(self, name):
        if name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(self.con, name)

    def execute(self, query, *values):
        if query == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.con.execute(query, *values)

migrate(Killed(duckdb.connect(sys.argv[1])))
"""
"""Migrate a file, and be killed before the first statement or method of this name."""


@pytest.fixture
def con(tmp_path):
    with duckdb.connect(str(tmp_path / "w.duckdb")) as con:
        yield con


def versions(con):
    return [version for (version,) in con.execute("SELECT version FROM schema_migration ORDER BY 1").fetchall()]


def test_a_new_file_goes_through_every_migration_once(con):
    assert migrate(con) == [step.version for step in migrations()]
    assert migrate(con) == []
    assert con.execute("SELECT version, name, sha256 FROM schema_migration").fetchall() == [
        (step.version, step.name, step.sha256) for step in migrations()
    ]
    check_readable(con)


def test_only_missing_migrations_run(con):
    migrate(con)
    steps = (*migrations(), Migration(len(migrations()) + 1, "0999_extra.sql", "CREATE TABLE extra (x INTEGER);"))
    assert migrate(con, steps) == [steps[-1].version]
    assert con.execute("SELECT count(*) FROM extra").fetchall() == [(0,)]


def test_a_file_of_the_first_schema_keeps_its_runs(con, tmp_path):
    migrate(con, migrations()[:1])
    con.execute(
        """
        INSERT INTO runs
        SELECT 1, 'old', 1, 1, 1, 1, 1, 0, ['mean'], [], ['L0H0'], 0, 'float32', 'cpu', 'c', MAP {}, 'running', now(),
            NULL, NULL, 0.1, NULL, 0
        """
    )
    assert migrate(con) == [step.version for step in migrations()[1:]]
    assert con.execute("SELECT run_key, mechanisms FROM runs").fetchall() == [("old", None)]


def test_a_migration_that_fails_leaves_nothing_behind(con):
    migrate(con)
    broken = "CREATE TABLE half (x INTEGER); INSERT INTO half VALUES ('no number');"
    steps = (*migrations(), Migration(len(migrations()) + 1, "0999_broken.sql", broken))
    with pytest.raises(duckdb.ConversionException):
        migrate(con, steps)
    assert versions(con) == [step.version for step in migrations()]
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'").fetchall() == [(0,)]


@pytest.mark.parametrize("before", [0, 1, NEWEST - 1])
@pytest.mark.parametrize(("killed_before", "is_done"), [("commit", False), ("RESET checkpoint_threshold", True)])
@pytest.mark.slow
def test_whoever_is_killed_while_migrating_leaves_a_file_that_opens(db, spawn, before, killed_before, is_done):
    with duckdb.connect(str(db)) as con:
        migrate(con, migrations()[:before])
    assert spawn(KILLED, db, killed_before).wait(60) == -signal.SIGKILL
    with duckdb.connect(str(db)) as con:
        if before or is_done:
            assert versions(con) == list(range(1, 1 + (NEWEST if is_done else before)))
        assert migrate(con) == ([] if is_done else list(range(before + 1, NEWEST + 1)))
        check_readable(con)


def test_a_newer_file_is_refused_and_left_alone(con):
    migrate(con)
    con.execute("INSERT INTO schema_migration VALUES (99, '0099_future.sql', 'x', '2030-01-01')")
    for open_it in (migrate, check_readable):
        with pytest.raises(
            SelfRepairError, match=rf"w\.duckdb has schema 99 .* up to {NEWEST}: .*pip install --upgrade"
        ):
            open_it(con)


def test_reading_an_older_file_names_the_command_that_upgrades_it(con):
    migrate(con)
    steps = (*migrations(), Migration(NEWEST + 1, "0999_more.sql", "CREATE TABLE more (x INTEGER);"))
    said = rf"has schema {NEWEST} and .* reads schema {NEWEST + 1}\. .*selfrepair load --db .*w\.duckdb"
    with pytest.raises(SelfRepairError, match=said):
        check_readable(con, steps)
    assert versions(con) == list(range(1, NEWEST + 1))


def test_reading_an_empty_file_says_so(con):
    with pytest.raises(SelfRepairError, match="has no tables"):
        check_readable(con)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ("CREATE TABLE customers (x INTEGER)", "it holds customers and"),
        ("CREATE VIEW customers AS SELECT 1 AS x", "it holds customers and"),
        ("CREATE SCHEMA other; CREATE TABLE other.customers (x INTEGER)", "it holds customers and"),
        (
            "CREATE SCHEMA other; CREATE TABLE other.schema_migration (version INTEGER)",
            r"no table main\.schema_migration",
        ),
        ("CREATE TABLE schema_migration (name VARCHAR)", "its table schema_migration is of another kind"),
        ("CREATE TABLE schema_migration AS SELECT 'v1' AS version, 'x' AS sha256", "is of another kind"),
        ("CREATE TABLE Schema_Migration AS SELECT '2 A' AS version, 'x' AS sha256", "is of another kind"),
    ],
)
def test_somebody_elses_file_is_refused_and_left_alone(con, theirs, said):
    con.execute(theirs)
    for open_it in (migrate, check_readable):
        with pytest.raises(SelfRepairError, match=f"not a warehouse: .*{said}"):
            open_it(con)
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'models'").fetchall() == [(0,)]


def test_a_file_of_another_build_is_refused(con):
    migrate(con)
    con.execute("UPDATE schema_migration SET sha256 = 'other' WHERE version = 1")
    with pytest.raises(SelfRepairError, match=r"another build of selfrepair: its migration 0001_tables\.sql"):
        migrate(con)


def test_a_file_that_went_through_no_first_migration_is_of_another_build(con):
    migrate(con)
    con.execute("DELETE FROM schema_migration WHERE version = 1")
    with pytest.raises(SelfRepairError, match=r"another build of selfrepair: its migration 0001_tables\.sql"):
        migrate(con)


def test_migrations_must_be_numbered_without_gaps(tmp_path):
    (tmp_path / "0001_one.sql").write_text("SELECT 1;")
    (tmp_path / "0003_three.sql").write_text("SELECT 3;")
    with pytest.raises(ValueError, match=r"0001_one\.sql, 0003_three\.sql"):
        migrations(tmp_path)


@pytest.fixture
def with_rows(tmp_path):
    """Two steps, the second with the rows of a table beside it; a quote in the path."""
    folder = tmp_path / "it's" / "migrations"
    (folder.parent / "filled").mkdir(parents=True)
    folder.mkdir()
    (folder / "0001_ledger.sql").write_text(migrations()[0].sql)
    (folder / "0002_filled.sql").write_text("CREATE TABLE sizes (name VARCHAR NOT NULL, size DOUBLE, count INTEGER);")
    (folder.parent / "filled" / "sizes.csv").write_text('name,size,count\n"a, b",0.25,\nc,,3\n')
    return folder


def test_a_step_brings_the_rows_beside_it(con, with_rows):
    assert migrate(con, migrations(with_rows)) == [1, 2]
    assert con.execute("FROM sizes").fetchall() == [("a, b", 0.25, None), ("c", None, 3)]
    assert migrate(con, migrations(with_rows)) == []


def test_rows_are_part_of_what_a_file_went_through(con, with_rows):
    migrate(con, migrations(with_rows))
    migrations.cache_clear()
    (with_rows.parent / "filled" / "sizes.csv").write_text("name,size,count\nc,1,3\n")
    with pytest.raises(SelfRepairError, match=r"another build of selfrepair: its migration 0002_filled\.sql"):
        migrate(con, migrations(with_rows))


def test_rows_that_do_not_fit_leave_nothing_behind(con, with_rows):
    (with_rows.parent / "filled" / "sizes.csv").write_text("name,size,count\nc,large,3\n")
    migrate(con, migrations(with_rows)[:1])
    with pytest.raises(duckdb.ConversionException):
        migrate(con, migrations(with_rows))
    assert versions(con) == [1]
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'sizes'").fetchall() == [(0,)]


def test_a_table_of_the_users_own_under_a_new_name_is_named_and_kept(con):
    migrate(con, migrations()[:4])
    con.execute("CREATE TABLE logit_lens AS SELECT 7 AS mine")
    with pytest.raises(SelfRepairError, match=r"logit_lens.*already exists.*rename it.*Nothing was changed"):
        migrate(con)
    assert con.execute("FROM logit_lens").fetchall() == [(7,)]
    assert versions(con) == [1, 2, 3, 4]
    con.execute("ALTER TABLE logit_lens RENAME TO my_logit_lens")
    assert migrate(con) == [step.version for step in migrations()[4:]]
