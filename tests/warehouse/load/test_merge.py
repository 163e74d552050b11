"""Several warehouses become one, which holds what one load of all their parts would."""

import shutil
from functools import partial
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.warehouse.cli.merge import merge as command
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.merge import merge
from selfrepair.warehouse.load.names import set_name
from support.contents import contents, differences
from support.fabricate import FabricatedRun, fabricate
from support.loaded import load_rows, stored

merge_rows = partial(merge, after_load=False)
"""Merge without making views and summaries, for tests that read none."""

ONE = fabricate("one", model="one", mechanisms=True, n_units=2)
TWO = fabricate("two", model="two", seed=7, n_units=2)


def made(db: Path, *runs: tuple[FabricatedRun, list[int]]) -> Path:
    """A warehouse with these units of runs; the cross-check comes with the last unit."""
    for run, units in runs:
        run.write(Path(f"{db}.parts"), units=units, crosscheck=units[-1] == len(run.units) - 1)
    load_rows(db, Path(f"{db}.parts"))
    shutil.rmtree(f"{db}.parts", ignore_errors=True)
    return db


def execute(db: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(db) as con:
        return con.execute(sql).fetchall()


@pytest.mark.slow
def test_a_merged_file_is_what_one_load_makes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b, c = stored(tmp_path / "a", ONE), stored(tmp_path / "b", ONE, TWO), tmp_path / "c.duckdb"
    before = [path.read_bytes() for path in (a, b)]
    said = CliRunner().invoke(command, [str(a), str(b), "-o", str(c)], catch_exceptions=False).output
    assert said.splitlines()[:-1] == [
        f"run 1 of {a} (one) is run 1: with its summaries",
        f"run 1 of {b} (one) is run 1: was there",
        f"run 2 of {b} (two) is run 2: with its summaries",
    ]
    assert differences(contents(c), contents(b)) == []
    assert [path.read_bytes() for path in (a, b)] == before
    # the summaries were copied, not made anew
    times = "SELECT run_id, refreshed_at FROM selfrepair_marts.refreshed ORDER BY run_id"
    assert execute(c, times) == [*execute(a, times), execute(b, times)[1]]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["c.duckdb"]


def test_units_of_one_run_come_together(tmp_path: Path) -> None:
    a = made(tmp_path / "a.duckdb", (ONE, [0]))
    b = made(tmp_path / "b.duckdb", (TWO, [0]), (ONE, [1]))
    merged = merge_rows([a, b], tmp_path / "c.duckdb")
    assert f"run 1 of {b} (one) is run 1: was there, and got 1 more unit" in map(str, merged)
    assert f"run 2 of {b} (two) is run 2: its rows" in map(str, merged)
    whole = made(tmp_path / "whole.duckdb", (ONE, [0, 1]), (TWO, [0]))
    assert differences(contents(tmp_path / "c.duckdb"), contents(whole)) == []
    assert execute(tmp_path / "c.duckdb", "SELECT status FROM runs ORDER BY run_id") == [("complete",), ("incomplete",)]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (
            "UPDATE measurements SET repair_mlp = repair_mlp + 1 WHERE prompt_id = 4 AND pos = 0",
            "hold other rows of measurements",
        ),
        ("DELETE FROM edge_sums WHERE unit = 1 AND layer = 0", "hold other rows of edge_sums"),
        ("UPDATE runs SET rows_in_unit = 7", "cut into other units"),
    ],
)
def test_another_measurement_of_a_run_is_refused_and_nothing_is_left(tmp_path: Path, damage: str, why: str) -> None:
    a = made(tmp_path / "a.duckdb", (ONE, [0, 1]))
    b = made(tmp_path / "b.duckdb", (TWO, [0]), (ONE, [0, 1]))
    execute(b, damage)
    with pytest.raises(
        SelfRepairError, match=f"run . of {b} and run 1 of the files before it are the same run, .*{why}"
    ):
        merge_rows([a, b], tmp_path / "c.duckdb")
    assert {path.name for path in tmp_path.iterdir()} == {"a.duckdb", "b.duckdb"}


def test_units_of_two_versions_are_not_mixed(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.duckdb", (ONE, [0])), made(tmp_path / "b.duckdb", (ONE, [1]))
    for db, version in ((a, "0.2.0"), (b, "0.3.0")):
        execute(db, f"UPDATE runs SET software = MAP {{'selfrepair': '{version}'}}")
    with pytest.raises(SelfRepairError, match=r"the same run, measured by selfrepair 0\.3\.0 and 0\.2\.0, whose rows"):
        merge_rows([a, b], tmp_path / "c.duckdb")
    assert not (tmp_path / "c.duckdb").exists()


def test_a_run_whose_cross_check_failed_in_one_of_the_files_has_failed(tmp_path: Path) -> None:
    a, b = (made(tmp_path / f"{name}.duckdb", (ONE, [0, 1])) for name in "ab")
    execute(b, "UPDATE crosschecks SET error_max = 1; UPDATE runs SET status = 'failed', crosscheck_error_max = 1")
    for sources in ([a, b], [b, a]):
        target = tmp_path / f"of {sources[0].stem}.duckdb"
        merge_rows(sources, target)
        assert execute(target, "SELECT status, crosscheck_error_max FROM runs") == [("failed", 1.0)]


def test_what_people_call_a_run_that_two_files_have_comes_from_both(tmp_path: Path) -> None:
    a, b = (made(tmp_path / f"{name}.duckdb", (ONE, [0, 1])) for name in "ab")
    execute(a, "UPDATE runs SET tags = ['paper'], note = 'first'")
    execute(b, "UPDATE runs SET tags = ['figure', 'paper'], note = 'second', run_name = 'mine', n_crosschecks = 1")
    *_, merged = merge_rows([a, b], tmp_path / "c.duckdb")
    assert str(merged).endswith("was there; it keeps its note there, which is another")
    assert execute(tmp_path / "c.duckdb", "SELECT run_name, note, tags, n_crosschecks FROM runs") == [
        ("mine", "first", ["paper", "figure"], 1)
    ]


def test_what_cannot_be_merged_is_said_first(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.duckdb", (ONE, [0])), made(tmp_path / "b.duckdb", (TWO, [0]))
    (tmp_path / "link.duckdb").symlink_to(a)
    old = made(tmp_path / "old.duckdb", (TWO, [0]))
    execute(old, "DELETE FROM schema_migration WHERE version = (SELECT max(version) FROM schema_migration)")
    for sources, target, why in (
        ([a, a], "c", "name at least two different"),
        ([a, tmp_path / "link.duckdb"], "c", "name at least two different"),
        ([a, b], "b", "is there already, and is not written over"),
        ([a, b], "none/c", "there is no folder"),
        ([a, tmp_path / "none.duckdb"], "c", "there is no warehouse at"),
        ([a, old], "c", "old.duckdb has schema .* Bring it up to date"),
        ([old, a], "c", "old.duckdb has schema .* Bring it up to date"),
    ):
        with pytest.raises(SelfRepairError, match=why):
            merge_rows(sources, tmp_path / f"{target}.duckdb")
    assert not (tmp_path / "c.duckdb").exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_a_name_that_is_taken_stays_with_the_first(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.duckdb", (ONE, [0])), made(tmp_path / "b.duckdb", (TWO, [0]))
    set_name(a, "1", "mine")
    set_name(b, "1", "Mine")
    *_, merged = merge_rows([a, b], tmp_path / "c.duckdb")
    assert str(merged).endswith("its name Mine is another run's there, or none: it has its number alone")
    assert execute(tmp_path / "c.duckdb", "SELECT run_name FROM runs ORDER BY run_id") == [("mine",), (None,)]


def test_the_name_of_somebody_s_model_does_not_act_on_a_terminal(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.duckdb", (ONE, [0])), made(tmp_path / "b.duckdb", (TWO, [0]))
    execute(b, "UPDATE models SET name = chr(27) || '[2J'")
    said = CliRunner().invoke(command, [str(a), str(b), "-o", str(tmp_path / "c.duckdb")], color=True).output
    assert "(\\x1b[2J) is run 2" in said
    assert "\x1b" not in said


def test_what_a_log_holds_is_merged_too(tmp_path: Path) -> None:
    """A file whose writer was killed has its last commits in the log beside it."""
    a, b = made(tmp_path / "a.duckdb", (ONE, [0])), made(tmp_path / "b.duckdb", (TWO, [0]))
    con = duckdb.connect(a)
    con.execute("SET checkpoint_threshold = '1GB'")
    con.execute("UPDATE runs SET note = 'in the log'")
    copies = [tmp_path / f"copy.duckdb{ending}" for ending in ("", ".wal")]
    for source, copy in zip((a, Path(f"{a}.wal")), copies, strict=True):
        copy.write_bytes(source.read_bytes())
    con.close()
    merge_rows([copies[0], b], tmp_path / "c.duckdb")
    assert execute(tmp_path / "c.duckdb", "SELECT note FROM runs ORDER BY run_id") == [("in the log",), (None,)]


def test_the_numbers_of_removed_runs_stay_theirs(tmp_path: Path) -> None:
    a = made(tmp_path / "a.duckdb", (ONE, [0]))
    b = made(tmp_path / "b.duckdb", (TWO, [0]))
    execute(a, "UPDATE last_numbers SET last_number = 5 WHERE table_name = 'runs'")
    assert [run.run_id for run in merge_rows([a, b], tmp_path / "c.duckdb")] == [1, 6]
