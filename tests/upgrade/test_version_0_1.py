"""A warehouse and part files of version 0.1.0 open, load, answer and resume in this version.

`make_fixture.py` made the archive with 0.1.0 itself, which recorded what it answers: as packed, after a load, resumed.
"""

import math
import re
import shlex
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest

from selfrepair.queries.catalog.relations import relations, views
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.database.migrate import TEXTS_OF_VERSION_0_1, migrations
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.verify.verification import verify
from support.templates import made_once
from support.version_0_1 import RENAMED, checksums, recorded, today, todays_run, todays_value, unpacked
from support.warm import Process

MAIN = "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"
WITHOUT_REPORT = "import selfrepair.app.cli.run_report as report; report.print_report = lambda *of, **options: None; "
GONE = {"top_sums", "repair_estimates", "prompt_sums", "top_cuts", "stretch_sums"}
"""Building blocks of 0.1 that are not here, or have more rows."""

MOVED = re.compile("^(n_prompts|verdict)$|_(se|low|high)$")
"""Columns of views that mean something else today: intervals are clustered by document and allow for the cut at 2 %."""

LOADED_THEN = {"as_packed": 3, "after_load": 4}
"""Runs in the warehouse by state."""

RUNS = """
SELECT
    run_id, run_key, status, models.name AS model, models.weights_sha256, datasets.name AS dataset, datasets.packing,
    datasets.seq_len, datasets.fingerprint, n_prompts, n_units, n_measurements, ablations, given_heads, selected_heads,
    mechanisms, logit_of, seed, dtype, conventions, crosscheck_rows,
    (SELECT list(unit ORDER BY unit) FROM units WHERE units.run_id = runs.run_id) AS loaded_units
FROM runs
JOIN models USING (model_id)
JOIN datasets USING (dataset_id)
ORDER BY run_id
"""


@pytest.fixture
def packed(tmp_path):
    """The folder as 0.1.0 left it."""
    return unpacked(tmp_path)


@pytest.fixture(params=["as_packed", "after_load"])
def state(request):
    return request.param


def upgraded_in(state: str) -> Path:
    """The folder with its warehouse upgraded, and the part files loaded `after_load`; not to be changed."""

    def make(template: Path) -> None:
        folder = unpacked(template)
        (folder / "nothing").mkdir()
        parts = folder / ("nothing" if state == "as_packed" else "warehouse.duckdb.parts")
        load(folder / "warehouse.duckdb", parts)

    return made_once(f"upgraded_{state}", make) / "version_0_1_0"


@pytest.fixture
def upgraded(state) -> Path:
    return upgraded_in(state)


@pytest.fixture
def con(upgraded):
    with duckdb.connect(str(upgraded / "warehouse.duckdb"), read_only=True) as con:
        yield con


@pytest.fixture
def expected(upgraded, state):
    return recorded(upgraded)[state]


def table_rows(con) -> dict[str, int]:
    names = con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
    return {name: con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for (name,) in names}


def todays(counts: dict[str, int]) -> dict[str, int]:
    """The rows of the tables that there were, and of those that are new."""
    return counts | {"schema_migration": len(migrations()), "last_numbers": 3, "routing_sums": 0, "expert_sums": 0}


def is_same(now: object, then: object) -> bool:
    """Equal, or numbers that differ by rounding alone."""
    if isinstance(now, float) and isinstance(then, int | float):
        return math.isclose(now, then, rel_tol=1e-9, abs_tol=1e-12)
    return now == then


def test_it_asks_for_the_upgrade_and_is_left_alone(packed):
    db = packed / "warehouse.duckdb"
    before = db.read_bytes()
    with (
        pytest.raises(SelfRepairError, match=r"has schema 4 .* nothing is lost: selfrepair load --db"),
        open_reader(db),
    ):
        pass
    assert db.read_bytes() == before


def test_the_record_was_of_another_schema(expected):
    assert [step["sha256"] for step in expected["migrations"]] == list(TEXTS_OF_VERSION_0_1.values())


def test_its_tables_have_the_same_rows_under_todays_names(con, expected):
    counts = {today(name): count for name, count in expected["row_counts"].items()}
    assert table_rows(con) == todays(counts)


def test_its_runs_are_the_same(con, expected, state):
    result = con.execute(RUNS)
    names = [column[0] for column in result.description]
    found = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    then = [todays_run(run) for run in expected["runs"]]
    fingerprints = [
        (now.pop("fingerprint"), before.pop("fingerprint")) for now, before in zip(found, then, strict=True)
    ]
    assert found == then
    assert len(found) == LOADED_THEN[state]
    # A fingerprint is of tokens alone, without their partners, once all prompts are there to compute it of.
    assert [now == before for now, before in fingerprints] == [run["status"] == "incomplete" for run in found]


def test_datasets_that_differed_in_their_pairing_are_one(packed):
    """Such as those of a default ingest and of one with `--ablation mean`, which pairs nothing."""
    db = packed / "warehouse.duckdb"
    with duckdb.connect(str(db)) as con:
        (dataset,) = con.execute(
            "SELECT * REPLACE (9 AS dataset_id, 'unpaired' AS fingerprint) FROM datasets WHERE dataset_id = 1"
        ).fetchall()
        con.execute(f"INSERT INTO datasets VALUES ({', '.join('?' * len(dataset))})", dataset)
        con.execute("UPDATE runs SET dataset_id = 9 WHERE run_id = 2")
    load(db, packed / "nothing", after_load=False)
    with duckdb.connect(str(db)) as con:
        assert con.execute("SELECT run_id, dataset_id FROM runs ORDER BY run_id").fetchall() == [(1, 1), (2, 1), (3, 2)]
        ((fingerprint,),) = con.execute("SELECT fingerprint FROM datasets WHERE dataset_id = 1").fetchall()
        prompts = con.execute(
            "SELECT token_ids, document_id FROM prompts WHERE run_id = 2 ORDER BY prompt_id"
        ).fetchall()
    pytest.importorskip("torch", reason="prompts need torch")
    from selfrepair.ingest.text.prompts import Prompt, PromptSet

    assert (
        fingerprint
        == PromptSet([Prompt(tuple(row), document) for row, document in prompts], "packed", None).fingerprint()
    )


def test_its_tables_hold_the_same_values(con, expected):
    for name, of_runs in expected["checksums"].items():
        for run_id, then in of_runs.items():
            columns = [today(column) for column in then["columns"]]
            now = checksums(con, today(name), int(run_id), columns)
            assert now == {**then, "columns": dict(zip(columns, then["columns"].values(), strict=True))}, (name, run_id)


def test_its_views_have_the_same_rows(con, expected):
    counts = {today(name): count for name, count in expected["view_row_counts"].items() if name not in GONE}
    assert set(counts) <= set(relations())
    now = {name: con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in counts}
    assert now == counts


def test_its_views_answer_the_same(con, expected):
    for then in expected["answers"]:
        sql = today(then["sql"])
        result = con.execute(sql)
        moved = [MOVED.search(name) is not None for name, *_ in result.description]
        rows = result.fetchall()
        assert len(rows) == len(then["rows"]), sql
        for now, before in zip(rows, then["rows"], strict=True):
            same = map(is_same, now, map(todays_value, before))
            assert all(is_moved or is_same for is_moved, is_same in zip(moved, same, strict=True)), (sql, now, before)


def test_every_rule_holds_and_run_health_says_so(upgraded, con, tmp_path):
    shutil.copy(upgraded / "warehouse.duckdb", tmp_path)  # `con` has the other one open in another way
    assert [check for check in verify(tmp_path / "warehouse.duckdb") if not check.ok] == []
    assert con.execute("FROM broken_rules").fetchall() == []
    health = con.execute("SELECT status = 'complete', health FROM run_health").fetchall()
    assert {said for is_complete, said in health if is_complete} == {"ok"}
    assert all(said.startswith("incomplete: ") for is_complete, said in health if not is_complete)


def test_its_neurons_are_of_the_top_of_all_rows(con):
    for table in ("neuron_sums", "neuron_curves"):
        assert con.execute(f"SELECT DISTINCT population FROM {table}").fetchall() == [("top2",)]
    assert con.execute("SELECT DISTINCT in_top2, in_top2_nobos FROM neuron_changes").fetchall() == [(True, False)]


def test_no_view_or_summary_of_an_earlier_name_stays(con):
    kept = {view.name for view in views() if view.kept == "mart"}
    in_marts = {
        name
        for (name,) in con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'selfrepair_marts'"
        ).fetchall()
    }
    assert in_marts - kept == {"installed", "refreshed"}
    of_views = con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert not {name for (name,) in of_views} & set(RENAMED)
    assert not set(table_rows(con)) & set(RENAMED)


def test_part_files_are_gone_once_they_are_loaded(packed):
    parts = packed / "warehouse.duckdb.parts"
    assert load(packed / "warehouse.duckdb", parts, after_load=False).units == 4
    left = {path.parent.name for path in parts.rglob("unit-*")}
    assert left == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shares",
    [(0.2, 0.5, 0.8), pytest.param((0.05, 0.2, 0.4, 0.6, 0.8, 0.95), marks=pytest.mark.exhaustive)],
    ids=["thrice", "often"],
)
def test_a_load_killed_at_any_moment_can_be_repeated(packed, tmp_path, warehouse_server, shares):
    """Killed before, in and after the upgrade, and while units are loaded; what is there at last is what belongs there."""
    db, parts = packed / "warehouse.duckdb", packed / "warehouse.duckdb.parts"
    reference = unpacked(tmp_path / "reference")

    def start(folder: Path) -> Process:
        load = ["load", "--db", "warehouse.duckdb", "--rows-only"]
        return warehouse_server.start(f"import os; os.chdir({str(folder)!r}); {MAIN}", load)

    began = time.perf_counter()
    out, err = start(reference).communicate()
    seconds = time.perf_counter() - began
    assert "4 units" in out, err
    schemas = []
    for share in shares:
        process = start(packed)
        time.sleep(share * seconds)
        process.kill()
        process.wait()
        with duckdb.connect(str(db)) as con:
            schemas += con.execute("SELECT max(version) FROM schema_migration").fetchall()
    assert set(schemas) <= {(4,), (len(migrations()),)}
    assert schemas == sorted(schemas)
    load(db, parts)
    then = recorded(packed)["after_load"]
    with duckdb.connect(str(db), read_only=True) as con:
        counts = {today(name): count for name, count in then["row_counts"].items()}
        assert table_rows(con) == todays(counts)
    assert [check for check in verify(db) if not check.ok] == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="measures, which needs torch")
@pytest.mark.parametrize("loaded_first", [False, True])
def test_the_same_commands_measure_what_is_missing_and_nothing_else(packed, loaded_first, server):
    db = packed / "warehouse.duckdb"
    then = recorded(packed)
    if loaded_first:
        shutil.rmtree(packed)
        shutil.copytree(upgraded_in("after_load"), packed)
    for name, run in then["runs"].items():
        program, *arguments = shlex.split(run["command"])
        assert program == "selfrepair"
        process = server.start(f"import os; os.chdir({str(packed)!r}); {WITHOUT_REPORT}{MAIN}", arguments)
        out, err = process.communicate()
        assert process.returncode == 0, err
        measured = "2 units measured now" if name == "unfinished" else "nothing was left to measure"
        assert measured in out, (name, out)
        assert "did not record the model's configuration" in " ".join(err.split())
    with duckdb.connect(str(db), read_only=True) as con:
        keys = dict(con.execute("SELECT run_key, run_id FROM runs").fetchall())
        assert set(keys) == {run["run_key"] for run in then["runs"].values()}
        found = table_rows(con)
        counts = todays({today(name): count for name, count in then["after_resume"]["row_counts"].items()})
        assert 0 < found.pop("crosschecks") <= counts.pop("crosschecks")  # fewer cells are checked than 0.1 did
        assert found == counts
        unfinished = then["runs"]["unfinished"]["run_key"]
        effects = con.execute(
            "SELECT count(*), sum(direct_effect), sum(logit_change), sum(repair_mlp) FROM measurements WHERE run_id = ?",
            [keys[unfinished]],
        ).fetchall()[0]
        resumed = f"FROM neuron_sums WHERE run_id = {keys[unfinished]}"
        assert con.execute(f"SELECT DISTINCT population {resumed}").fetchall() == [("top2",)]
        assert con.execute(f"SELECT count(DISTINCT unit) {resumed}").fetchall() == [
            (3,)
        ]  # the fourth has no row of a top
    summed = then["after_resume"]["checksums"]["measurements"][str(then["runs"]["unfinished"]["run_id"])]
    assert effects[0] == summed["rows"]
    for now, name in zip(effects[1:], ("direct_effect", "logit_change", "repair_mlp"), strict=True):
        assert now == pytest.approx(summed["columns"][name][1], abs=1e-4 * effects[0])
    assert [check for check in verify(db) if not check.ok] == []
