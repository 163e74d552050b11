"""Names, notes and tags of runs, as they are given and as they stand for the run's number."""

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.queries.catalog.which_run import RUNS, which_run
from selfrepair.queries.client.warehouse import Warehouse
from selfrepair.warehouse.cli import names
from selfrepair.warehouse.cli.commands import remove, runs
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.database.migrate import migrate, migrations
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.registry import check_resumed
from selfrepair.warehouse.parts.command import command_to_resume
from support.fabricate import fabricate
from support.loaded import load_rows, stored


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Runs 1 and 2, of two models."""
    return stored(tmp_path, fabricate("a", model="one"), fabricate("b", model="two"))


def call(command, *args: object) -> str:
    result = CliRunner().invoke(command, [*map(str, args)], catch_exceptions=False)
    return result.output


def test_a_name_stands_wherever_a_run_is_asked_for(db: Path) -> None:
    assert call(names.name, 2, "baseline", "--db", db) == "run 2 is called baseline\n"
    warehouse = Warehouse(db)
    for rows in (
        warehouse.view("head_repair", run="baseline"),
        warehouse.view("head_repair", run_id="baseline"),
        warehouse.view("head_repair", run=["baseline"]),
        warehouse.question("most_repaired_heads", run="baseline", ablation="mean"),
        warehouse.rows("two", layer=0, head=1, ablation="mean", run="baseline"),
    ):
        assert rows["run_id"].unique().to_list() == [2]
    both = warehouse.question("compare_runs", run=1, other_run_id="baseline", ablation="mean")
    assert both["other_run_id"].unique().to_list() == [2]
    assert warehouse.runs()["run_name"].to_list() == [None, "baseline"]
    said = call(remove, "baseline", "--yes", "--db", db)
    assert "baseline is run 2\nremoved run 2" in said
    assert "run 2 was removed before" in call(remove, 2, "--yes", "--db", db)  # as after one that was stopped


def test_an_unknown_name_is_refused_with_those_that_are_there(db: Path) -> None:
    call(names.name, 1, "baseline", "--db", db)
    warehouse = Warehouse(db)
    for ask in (
        lambda: warehouse.view("head_repair", run="basline"),
        lambda: warehouse.question("most_repaired_heads", run="basline"),
        lambda: warehouse.rows("one", layer=0, head=1, run="basline"),
    ):
        with pytest.raises(
            SelfRepairError, match=r"called 'basline'; did you mean baseline\?(?s:.*)run 1 \(baseline\): one"
        ):
            ask()
    for command in (names.name, names.note, names.tag, remove):
        with pytest.raises(SelfRepairError, match=r"no run called basline; did you mean baseline\?"):
            call(command, "basline", *(["x"] if command is not remove else []), "--db", db)
    with pytest.raises(SelfRepairError, match=r"has no run 7\. Those it has: selfrepair runs"):
        call(names.name, 7, "other", "--db", db)
    with pytest.raises(SelfRepairError, match="run 1 \\(baseline\\) is of one, not of two"):
        which_run(warehouse.ask(RUNS).frame.to_dicts(), "two", "baseline")


def test_what_a_file_of_somebody_else_says_does_not_act_on_a_terminal(db: Path) -> None:
    with duckdb.connect(db) as con:
        con.execute("UPDATE runs SET tags = ['x' || chr(27) || '[2J']")
    said = CliRunner().invoke(names.tag, ["1", "paper", "--db", str(db)], color=True).output
    assert said == "run 1 has x\\x1b[2J, paper\n"
    said = CliRunner().invoke(names.note, ["1", "\x1b]0;title\x07", "--db", str(db)], color=True).output
    assert said == "run 1: \\x1b]0;title\\x07\n"


def test_a_number_that_no_run_can_have_is_told(db: Path) -> None:
    for command in (names.note, remove):
        with pytest.raises(SelfRepairError, match=r"has no run 9{40}\. Those it has"):
            call(command, "9" * 40, *(["x"] if command is names.note else []), "--db", db)


@pytest.mark.parametrize(
    "name", ["12", "-1", "1e3", "1,000", "nan", "NULL", "--db", "", " x", "x\n", "x\x1b[2J", "n" * 101]
)
def test_what_reads_as_something_else_is_no_name(db: Path, name: str) -> None:
    with pytest.raises(SelfRepairError, match="the name of a run "):
        call(names.name, "--db", db, "--", 1, name)


def test_no_two_runs_have_a_name(db: Path) -> None:
    call(names.name, 1, "baseline", "--db", db)
    with pytest.raises(SelfRepairError, match="run 1 of this warehouse is called Baseline already"):
        call(names.name, 2, "Baseline", "--db", db)
    assert call(names.name, 1, "Baseline", "--db", db) == "run 1 is called Baseline\n"  # its own
    assert call(names.name, "Baseline", "--remove", "--db", db) == "run 1 has its number alone\n"
    assert call(names.name, 2, "Baseline", "--db", db) == "run 2 is called Baseline\n"


def test_notes_and_tags_are_shown_where_there_are_any(db: Path) -> None:
    assert not {"name", "tags", "note"} & set(call(runs, "--db", db).split())
    assert call(names.note, 1, "before [edits]", "--db", db) == "run 1: before [edits]\n"
    assert call(names.tag, 1, "paper", "figure-1", "paper", "--db", db) == "run 1 has paper, figure-1\n"
    assert call(names.tag, 1, "late", "--remove", "figure-1", "--db", db) == "run 1 has paper, late\n"
    shown = call(runs, "--db", db)
    assert "paper, late" in shown
    assert "before [edits]" in shown
    tagged = Warehouse(db).sql("SELECT run_id FROM runs WHERE list_contains(tags, 'paper')")
    assert tagged["run_id"].to_list() == [1]
    assert call(names.note, 1, "--remove", "--db", db) == "run 1 has no note\n"
    assert call(names.tag, 1, "--remove", "paper", "--remove", "late", "--db", db) == "run 1 has no tags\n"
    for wrong, why in (("two words", "one word"), ("a,b", "one word"), ("7", "cannot be '7'")):
        with pytest.raises(SelfRepairError, match=why):
            call(names.tag, 1, wrong, "--db", db)
    with pytest.raises(SelfRepairError, match="has no tag paper; it has none"):
        call(names.tag, 1, "--remove", "paper", "--db", db)
    assert "Give either a name or --remove" in call(names.name, 1, "--db", db)
    with pytest.raises(SelfRepairError, match="there is no warehouse at"):
        call(names.note, 1, "x", "--db", db.with_name("other.duckdb"))


def test_a_measured_run_brings_its_name_unless_another_has_it(tmp_path: Path) -> None:
    db, root = tmp_path / "w.duckdb", tmp_path / "w.duckdb.parts"
    first, second = (fabricate(key, model=key, n_units=2) for key in ("a", "b"))
    replace(first, record=replace(first.record, run_name="mine")).write(root, units=[0], crosscheck=False)
    load_rows(db, root)
    first.write(root, crosscheck=False)  # resumed by a command that does not say the name
    replace(second, record=replace(second.record, run_name="Mine")).write(root)
    told: list[str] = []
    load_rows(db, root, on_wait=told.append)
    assert told == [
        "run 2 was to be called Mine, as another run is by now: it has its number alone. Give it another name: "
        f"selfrepair name --db {db} 2 NEW"
    ]
    assert duckdb.connect(db).execute("SELECT run_id, run_name FROM runs ORDER BY 1").fetchall() == [
        (1, "mine"),
        (2, None),
    ]


def test_a_record_that_anybody_wrote_gives_no_run_another_s_number(tmp_path: Path) -> None:
    db, root = tmp_path / "w.duckdb", tmp_path / "w.duckdb.parts"
    told: list[str] = []
    for key, name in (("a", "2"), ("b", "\x1b[2J")):
        run = fabricate(key, model=key)
        replace(run, record=replace(run.record, run_name=name)).write(root)
        load_rows(db, root, on_wait=told.append)
    assert [text.partition(":")[0] for text in told] == [
        "run 1 was to be called '2', which is no name",
        "run 2 was to be called '\\x1b[2J', which is no name",
    ]
    with duckdb.connect(db) as con:
        assert con.execute("SELECT DISTINCT run_name FROM runs").fetchall() == [(None,)]


def test_a_name_that_is_taken_is_refused_before_measuring(db: Path) -> None:
    call(names.name, 1, "mine", "--db", db)
    one, two, new = (replace(fabricate(key).record, run_name="mine") for key in ("a", "b", "c"))
    with open_writer(db) as con:
        check_resumed(con, one)
        for record in (two, new):
            with pytest.raises(SelfRepairError, match="run 1 of this warehouse is called mine already"):
                check_resumed(con, record)
        con.execute("UPDATE runs SET run_name = 'yours' WHERE run_id = 2")
        check_resumed(con, two)  # it keeps the name that it was given since


def test_the_option_that_named_a_model_is_series_in_earlier_commands(db: Path, tmp_path: Path) -> None:
    old = "selfrepair ingest --model ./final --name mine --prompts 4"
    new = "selfrepair ingest --model ./final --series mine --prompts 4"
    assert command_to_resume(old, Path("w.duckdb")) == f"{new} --db w.duckdb"
    steps = migrations()
    (named,) = (number for number, step in enumerate(steps) if "names_of_runs" in step.name)
    with duckdb.connect(tmp_path / "earlier.duckdb") as con:
        migrate(con, steps[:named])
        con.execute(f"ATTACH '{db}' AS now (READ_ONLY)")
        con.execute("INSERT INTO models FROM now.models; INSERT INTO datasets FROM now.datasets")
        con.execute(
            "INSERT INTO runs BY NAME SELECT * EXCLUDE (run_name, note, tags) REPLACE ($old AS command) FROM now.runs",
            {"old": old},
        )
        assert migrate(con, steps[: named + 1]) == [steps[named].version]
        assert con.execute("SELECT DISTINCT command, run_name FROM runs").fetchall() == [(new, None)]
