"""The warehouse from Python: frames, choices that are never made in silence, and errors that say what to do."""

import doctest
import inspect
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from inspect import Parameter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from selfrepair import FewRows, Limits, OutOfDate, Truncated, Warehouse
from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.which_run import which_run
from selfrepair.queries.client import warehouse
from selfrepair.queries.client.calls import WAREHOUSE
from selfrepair.queries.marts.install import install
from selfrepair.queries.sandbox import worker
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import InUseError, SelfRepairError
from support.fabricate import fabricate
from support.loaded import loaded, stored

WRITE_FOR_A_WHILE = """
import sys, time
from pathlib import Path
from typing import Any
from selfrepair.warehouse.database.connection import open_writer
path, hold_s, times = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
with open_writer(path) as con:
    con.execute("CREATE TABLE steps (i INTEGER)")
    print("begun", flush=True)
for i in range(times):
    began = time.monotonic()
    with open_writer(path) as con:
        con.execute("INSERT INTO steps VALUES (?)", [i])
        time.sleep(hold_s)
    print(time.monotonic() - began, flush=True)
    time.sleep(0.4)
"""

HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""

PARENT = """
import os, sys, threading, time
from selfrepair import Warehouse
from selfrepair.queries.sandbox import worker
w = Warehouse(sys.argv[1])
w.sql("SELECT 1")
print(worker._idle[0]._process.pid, worker._idle[0]._folder, flush=True)
if sys.argv[2] == "busy":
    threading.Thread(target=w.sql, args=["SELECT count(*) FROM range(1000000) a, range(1000000) b"], daemon=True).start()
    time.sleep(0.3)
os.kill(os.getpid(), 9)
"""

INTERRUPTED = """
import os, signal, sys, threading
from selfrepair import Warehouse
from selfrepair.queries.sandbox import worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background is born deaf to it
w = Warehouse(sys.argv[1])
w.sql("SELECT 1")
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    w.sql("SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))")
except KeyboardInterrupt:
    print("interrupted", len(worker._idle), w.sql("SELECT 7 AS x").item())
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A loaded warehouse that no test changes."""
    yield loaded(tmp_path_factory.mktemp("warehouse"))
    worker.end_idle()


@pytest.fixture(scope="module")
def ours(path: Path) -> Warehouse:
    return Warehouse(path)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Two runs of tiny-model and one of org/other-model; a third of tiny-model failed its cross-check."""
    size = {"n_units": 1, "n_layers": 2, "n_heads": 2, "ablations": ("resample",)}
    more = (("run-b", "tiny-model", 5), ("run-c", "org/other-model", 6), ("run-d", "tiny-model", 7))
    runs = [fabricate(), *(fabricate(key, model=model, seed=seed, **size) for key, model, seed in more)]
    db = stored(tmp_path_factory.mktemp("two"), *runs)
    with duckdb.connect(db) as con:
        con.execute("UPDATE runs SET status = 'failed' WHERE run_key = 'run-d'")
    return Warehouse(db)


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def _spawn(script: str, *args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield _spawn
    for process in started:
        process.kill()
        process.communicate()


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(SelfRepairError) as raised:
        ask()
    return str(raised.value)


def test_every_example_is_true(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    (path.parent / "selfrepair.duckdb").symlink_to(path)
    found = doctest.DocTestFinder(exclude_empty=False).find(warehouse.Warehouse, "Warehouse")
    globs = {"warehouse": Warehouse("selfrepair.duckdb"), "pl": pl}
    runner = doctest.DocTestRunner()
    public = {f"Warehouse.{name}" for name in vars(Warehouse) if not name.startswith("_")}
    assert public <= {test.name for test in found if test.examples}
    for test in found:
        test.globs = dict(globs)
        assert runner.run(test).failed == 0, test.name


def test_importing_the_commands_does_not_import_what_takes_long() -> None:
    code = (
        "import sys, selfrepair.queries.cli.query, selfrepair.queries.cli.export, selfrepair.queries.cli.names; "
        "print(*sorted({'duckdb', 'polars', 'pyarrow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    import selfrepair.queries

    with pytest.raises(AttributeError, match="has no attribute 'Warehous'"):
        _ = selfrepair.queries.Warehous


def test_a_cut_is_a_warning_at_the_callers_line_and_in_the_answer(ours: Warehouse) -> None:
    with pytest.warns(Truncated, match=r"truncated at 10 rows; the query has more. limit=None gives") as caught:
        assert ours.sql("FROM measurements", limit=10).height == 10
    assert [warning.filename for warning in caught] == [__file__]
    assert ours.sql("FROM measurements", limit=None).height == 864
    assert ours.sql("FROM measurements", limit=864).height == 864
    with pytest.warns(Truncated):
        assert ours.view("measurements", limit=0).height == 0


def test_types_come_through_the_other_process(ours: Warehouse) -> None:
    frame = ours.sql(
        "SELECT sum(pos) AS s, 0.5 AS d, DATE '2026-01-02' AS day, [1.5::FLOAT] AS l, {'a': 1} AS t, true AS b, NULL AS n, "
        "any_value(ablation) AS e FROM measurements"
    )
    assert frame.schema == {
        "s": pl.Int64,
        "d": pl.Float64,
        "day": pl.Date,
        "l": pl.List(pl.Float32),
        "t": pl.Struct({"a": pl.Int32}),
        "b": pl.Boolean,
        "n": pl.Int32,
        "e": pl.Categorical(),
    }
    assert frame.row(0)[1:6] == (0.5, date(2026, 1, 2), [1.5], {"a": 1}, True)
    assert ours.sql("SELECT ? AS x, ? AS y", [date(2026, 1, 2), [1, None]]).row(0) == (date(2026, 1, 2), [1, None])
    assert "cannot be sent" in refusal(lambda: ours.sql("SELECT ?", [lambda: 1]))


def test_a_view_is_narrowed_by_values_lists_and_null(ours: Warehouse) -> None:
    every = ours.sql("FROM measurements")
    some = ours.view("measurements", layer=[0, 2], head=3, ablation=("mean", "zero"))
    expected = every.filter(
        pl.col("layer").is_in([0, 2]) & (pl.col("head") == 3) & (pl.col("ablation").cast(pl.String) != "resample")
    )
    assert some.height == expected.height == 2 * 24 * 2
    assert ours.view("measurements", layer=pl.Series([1]), head=range(2), ablation="mean").height == 2 * 24
    assert ours.view("measurements", layer=[]).height == 0
    assert ours.view("runs", finished_at=None).height + ours.view("runs", status=["complete", None]).height >= 1
    assert ours.view("datasets", split=[None, "heldout"]).height == 1
    assert ours.view("datasets", split=[None, "heldout"], name="tiny-text", dataset_id=1).height == 1
    assert ours.view("datasets", split=[None, "heldout"], name="other").height == 0
    assert ours.view("datasets", split=None).height == 0


def test_heads_are_filtered_by_a_list_of_names(ours: Warehouse) -> None:
    every = ours.view("head_repair")
    some = ours.view("head_repair", head=["L1H3", "l2h0"])
    assert some.equals(every.filter(pl.col("label").is_in(["L1H3", "L2H0"])))
    assert set(some["label"]) == {"L1H3", "L2H0"}
    for wrong in ({"head": ["L1H3", 2]}, {"head": ["L1H3"], "layer": 1}):
        assert "names of heads stand for their layers, too" in refusal(
            lambda wrong=wrong: ours.view("head_repair", **wrong)
        )
    assert "'L1' is no head. Give names alone" in refusal(lambda: ours.view("head_repair", head="L1"))
    assert "parameter 'head' of question 'tail_of_head' takes one value, not a list" in refusal(
        lambda: ours.question("tail_of_head", head=["L1H3", "L2H0"])
    )


def test_what_is_misspelt_is_answered_with_what_is_near(ours: Warehouse) -> None:
    assert "no column 'modle'; did you mean model? See: warehouse.describe(\"head_repair\")" in refusal(
        lambda: ours.view("head_repair", modle="x")
    )
    assert "no table or view 'head_repairs'; did you mean head_repair" in refusal(lambda: ours.view("head_repairs"))
    assert "no table or view 'x y; drop'" in refusal(lambda: ours.view("x y; drop"))
    assert "no row of head_repair has population 'top_2'; did you mean top2" in refusal(
        lambda: ours.view("head_repair", population="top_2")
    )
    assert ours.view("tokens", token="zebra").height == 0
    assert "there is no question, table or view 'headrepair'" in refusal(lambda: ours.describe("headrepair"))
    assert "there is no question 'most_repaired'; did you mean most_repaired_heads" in refusal(
        lambda: ours.question("most_repaired")
    )


def test_a_printed_view_is_the_answer_and_holds_every_column(ours: Warehouse) -> None:
    frame = ours.view("head_repair", ablation="resample")
    with pl.Config(tbl_cols=8, tbl_width_chars=400):  # polars' own number of columns
        heading = str(frame).splitlines()[2]
    assert [name.strip() for name in heading.strip("│").split("┆")] == [
        *("label", "mean_direct_effect", "mean_logit_change", "mean_self_repair", "…"),
        *("run_id", "model", "ablation", "population"),
    ]
    assert sorted(frame.columns) == sorted(ours.sql("FROM head_repair LIMIT 0").columns)
    assert frame["population"].unique(maintain_order=True).to_list() == ["top2", "top2_nobos", "all"]


def test_columns_are_chosen_by_name_or_are_the_headline(ours: Warehouse) -> None:
    wanted = ["mean_self_repair", "label"]
    assert ours.view("head_repair", columns=wanted, head="L1H3").columns == wanted
    assert ours.view("head_repair", columns="headline", head="L1H3", population="all").columns == [
        *catalog.describe("head_repair").headline,
        *("run_id", "model", "ablation", "population"),
    ]
    assert "head_repair has no column 'labl'; did you mean label?" in refusal(
        lambda: ours.view("head_repair", columns=["labl"])
    )
    assert ours.view("head_repair", head="L1H3")["label"].unique().to_list() == ["L1H3"]
    assert ours.view("runs").columns == ours.sql("FROM runs").columns


def test_errors_speak_python_or_as_they_are_told(path: Path) -> None:
    assert refusal(lambda: Warehouse(path).sql("runz")).endswith("See: warehouse.views()")
    assert refusal(lambda: Warehouse(path, language="shell").sql("runz")).endswith("See: selfrepair views")


def test_rows_of_a_head(ours: Warehouse) -> None:
    every = ours.sql("FROM self_repair WHERE label = 'L1H3' AND ablation = 'zero' ORDER BY prompt_id, pos")
    every = every.select(ours.rows("tiny-model", 1, 3, "zero").columns)
    assert ours.rows("tiny-model", 1, 3, "zero").equals(every)
    assert ours.rows("tiny-model", head="l1h3", ablation="zero").equals(every)
    assert ours.rows(1, np.int64(1), np.int64(3), "zero").height == 24
    top = ours.rows("tiny-model", 1, 3, "zero", top=5)
    assert top.equals(every.sort("direct_effect", descending=True, maintain_order=True).head(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.rows("tiny-model", 1, 3, top=1).height == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("tiny_model", 0, 0),
            "model 'tiny_model' is not in this warehouse; did you mean tiny-model? See: warehouse.models()",
        ),
        (
            (4, 0, 0),
            "there is no run 4 in this warehouse. There are:\n  run 1: tiny-model, revision a1b2c3, step 143000, 6 ",
        ),
        (("tiny-model", 3, 0), "tiny-model has layers 0 to 2, and no layer 3."),
        (("tiny-model", 0, -1), "tiny-model has heads 0 to 3, and no head -1."),
        (("tiny-model", 0, 0, "means"), "ablation 'means': there is no such ablation; it has resample, mean, zero."),
    ],
)
def test_rows_that_are_not_there(ours: Warehouse, args: tuple[object, ...], message: str) -> None:
    assert message in refusal(lambda: ours.rows(*args))


def test_runs_of_one_model_are_named_and_never_mixed(two_runs: Warehouse) -> None:
    asked: list[Callable[..., pl.DataFrame]] = [
        lambda **run: two_runs.rows("tiny-model", 0, 1, **run),
        lambda **run: two_runs.view("head_repair", model="tiny-model", population="all", ablation="resample", **run),
        lambda **run: two_runs.view("head_repair", model=["org/other-model", "tiny-model"], **run),
        lambda **run: two_runs.question("run_checks", model="tiny-model", **run),
    ]
    for ask in asked:
        text = refusal(ask)
        assert "tiny-model has 2 runs here, and rows of different runs are not mixed" in text
        assert (
            "\n  run 1: tiny-model, revision a1b2c3, step 143000, 6 prompts of tiny-text, float32, resample+mean+z"
            in text
        )
        assert (
            "\n  run 2: tiny-model, revision a1b2c3, step 143000, 3 prompts of tiny-text, float32, resample, 4 " in text
        )
        assert "2026-03-04, complete" in text
        assert "run 4" not in text
    for ask in (asked[0], asked[1], asked[3]):
        assert ask(run=2)["run_id"].unique().to_list() == [2]
    assert two_runs.view("head_repair", model="org/other-model")["run_id"].unique().to_list() == [3]
    assert sorted(two_runs.view("head_repair", run_id=[1, 2])["run_id"].unique()) == [1, 2]
    assert "run 3 is of org/other-model, not of tiny-model" in refusal(lambda: asked[0](run=3))
    assert "there is no run 9" in refusal(lambda: two_runs.view("head_repair", run=9))
    assert "did you mean org/other-model?" in refusal(lambda: two_runs.rows("other-model", 0, 0))
    assert "run 2 was not measured with it; it has resample." in refusal(lambda: two_runs.rows(2, 0, 0, "mean"))


def test_a_failed_run_is_only_meant_by_its_number(two_runs: Warehouse) -> None:
    assert two_runs.rows(4, 0, 1).height == 12
    (failed,) = [run for run in two_runs.runs().to_dicts() if run["status"] == "failed"]
    assert "no run of tiny-model passed its cross-check" in refusal(lambda: which_run([failed], "tiny-model", None))
    assert "give its number, --param run=4" in refusal(lambda: which_run([failed], "tiny-model", None))
    assert "this warehouse holds no run yet" in refusal(lambda: which_run([], "x", None))
    assert "name a model or a run" in refusal(lambda: which_run([failed], None, None))
    assert "run 4 and run 5 were both given" in refusal(lambda: which_run([failed], 4, 5))


def test_runs_of_answers_are_told_apart(two_runs: Warehouse) -> None:
    first, second, *_ = two_runs.runs().to_dicts()
    told = refusal(lambda: which_run([first, second | {"logit_of": "answer_minus_foil"}], None, None)).splitlines()[-2:]
    assert "prompts of tiny-text, float32" in told[0]
    assert "prompts of tiny-text (answer_minus_foil), float32" in told[1]


def test_descriptions_and_lists_print_whole(ours: Warehouse) -> None:
    described = ours.describe("head_repair")
    assert described.columns == ["column", "type", "unit", "meaning"]
    assert described["column"].to_list() == ours.sql("FROM head_repair LIMIT 1").columns
    assert described.filter(pl.col("column") == "depth")["unit"].item() == "%"
    for text in (str(described), repr(described), described._repr_html_()):
        assert "…" not in text
        assert "undefined_ratios" in text
    assert described.filter(pl.col("unit") == "logits").height > 5
    assert {"head_repair", "measurements"} <= set(ours.views()["name"])


def test_a_table_of_the_users_own_is_described_by_its_comments(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    with duckdb.connect(db) as con:
        con.execute("CREATE TABLE notes AS SELECT 1 AS weight, 'a' AS word")
        con.execute("COMMENT ON COLUMN notes.weight IS 'How heavy it is [kg]'")
    assert Warehouse(db).describe("notes").rows() == [
        ("weight", "INTEGER", "kg", "How heavy it is"),
        ("word", "VARCHAR", "", ""),
    ]


def test_it_says_what_it_is(ours: Warehouse, two_runs: Warehouse, tmp_path: Path) -> None:
    assert repr(ours) == f"<Warehouse {ours.path}: run 1 of tiny-model>"
    assert "run 3 of org/other-model" in repr(two_runs)
    gone = loaded(tmp_path)
    ours = Warehouse(gone)
    gone.unlink()
    assert "there is no warehouse at" in repr(ours)


def test_the_path_is_the_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("selfrepair.duckdb", "x.duckdb", "y.duckdb"):
        Path(name).touch()
    monkeypatch.delenv("SELFREPAIR_DB", raising=False)
    assert Warehouse().path == Path("selfrepair.duckdb")
    monkeypatch.setenv("SELFREPAIR_DB", "x.duckdb")
    assert Warehouse().path == Path("x.duckdb")
    assert Warehouse("y.duckdb").path == Path("y.duckdb")


def test_files_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    def text(path: Path) -> str:
        return refusal(lambda: Warehouse(path, wait_s=0).sql("runs"))

    missing, empty, soup = (tmp_path / name for name in ("none.duckdb", "empty.duckdb", "soup.duckdb"))
    empty.touch()
    soup.write_text("a recipe\n" * 2000)
    assert refusal(lambda: Warehouse(missing)) == (
        f'there is no warehouse at {missing}. Make one (selfrepair.measure(model, prompts, into="{missing}")), or name '
        "another file."
    )
    assert not missing.exists()
    assert "is not a DuckDB file: it is empty" in text(empty)
    assert "is not a DuckDB file: it holds" in text(soup)
    assert "is a folder, not a warehouse file" in text(tmp_path)
    old, new, foreign = (loaded_as(tmp_path, name) for name in ("old", "new", "foreign"))
    with duckdb.connect(old) as con:
        con.execute("DELETE FROM schema_migration")
    with duckdb.connect(new) as con:
        con.execute(
            "UPDATE schema_migration SET version = 99 WHERE version = (SELECT max(version) FROM schema_migration)"
        )
    with duckdb.connect(foreign) as con:
        con.execute("DROP TABLE schema_migration")
    assert "Bring it up to date, nothing is lost: selfrepair load" in text(old)
    assert "a newer version wrote it" in text(new)
    assert "not a warehouse" in text(foreign)


def loaded_as(folder: Path, name: str) -> Path:
    return loaded(folder).rename(folder / f"{name}.duckdb")


def test_a_file_that_is_written_is_waited_for_and_its_writer_named(
    path: Path, tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    db = loaded(tmp_path)
    holder = spawn(HOLD, db)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    text = refusal(lambda: Warehouse(db, wait_s=0.2).sql("runs"))
    assert f"in use by process {holder.pid} (" in text
    assert "Nothing was changed or lost. End that program, or wait until it is done, then repeat the call." in text
    with pytest.raises(InUseError):
        Warehouse(db, wait_s=0).sql("runs")
    heard: list[str] = []

    def release(sentence: str) -> None:
        heard.append(sentence)
        holder.communicate("\n")

    assert Warehouse(db, wait_s=30).ask("runs", on_wait=release).frame.height == 1
    assert len(heard) == 1
    assert f"waiting for process {holder.pid}" in heard[0]


@pytest.mark.slow
def test_questions_are_answered_while_another_process_loads(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    db = loaded(tmp_path)
    ours = Warehouse(db, wait_s=20)
    ours.sql("SELECT 1")
    times = 6
    loader = spawn(WRITE_FOR_A_WHILE, db, 0.1, times)
    assert loader.stdout is not None
    assert loader.stdout.readline() == "begun\n"
    seen = [0]
    while seen[-1] < times:
        seen.append(ours.sql("SELECT count(*) AS n FROM steps").item())
        time.sleep(0.1)  # as anyone who reads what he asked for
    out, err = loader.communicate(timeout=30)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "no question was answered between two steps of the load"
    waits = [float(line) for line in out.split()]
    assert len(waits) == times, err
    assert max(waits) < 10


def test_a_load_waits_no_longer_than_one_query_may_take(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    ours = Warehouse(db)
    ours.sql("SELECT 1")
    told: list[str] = []
    slow = threading.Thread(
        target=lambda: told.append(
            refusal(lambda: ours.sql("SELECT levenshtein(repeat('a', 900000), repeat('b', 900000))", timeout_s=1))
        )
    )
    slow.start()
    time.sleep(0.4)
    began = time.monotonic()
    with open_writer(db, wait_s=30) as con:
        con.execute("CREATE TABLE mine AS SELECT 1 AS x")
    assert time.monotonic() - began < 1 + worker.GRACE_S + 5
    slow.join()
    assert "stopped at its time limit of 1 s" in told[0]


@pytest.mark.slow
def test_several_threads_ask_at_once(ours: Warehouse) -> None:
    found: list[int] = []

    def ask(i: int) -> None:
        found.append(ours.sql("SELECT $i AS i, count(*) FROM measurements", {"i": i})["i"].item())

    threads = [threading.Thread(target=ask, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(6))


def test_a_crash_of_the_other_process_is_an_error_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Warehouse(path)
    ours.sql("SELECT 1")
    victim = worker._idle[0]
    timer = threading.Timer(0.3, victim._process.send_signal, [11])
    timer.start()
    text = refusal(lambda: ours.sql("SELECT count(*) FROM range(1000000) a, range(1000000) b"))
    assert "ended before it answered (exit code -11)" in text
    assert ours.sql("SELECT 2 AS x").item() == 2
    worker._idle[0]._process.kill()
    time.sleep(0.2)
    assert ours.sql("SELECT 3 AS x").item() == 3


def test_a_question_that_ran_out_of_memory_leaves_room_for_the_next(path: Path) -> None:
    ours = Warehouse(path, limits=Limits(memory_bytes=200_000_000))
    for _ in range(4):
        text = refusal(lambda: ours.sql("SELECT length(repeat('x', 1500000000))", timeout_s=20))
        assert "needs more than the 200 MB of memory it may have" in text
        assert ours.sql("SELECT 1 AS x", timeout_s=20).item() == 1


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.slow
def test_the_other_process_ends_with_its_parent(
    path: Path, spawn: Callable[..., subprocess.Popen[str]], state: str
) -> None:
    parent = spawn(PARENT, path, state)
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split()
    parent.wait(timeout=30)
    give_up_at = time.monotonic() + 10
    while is_running(int(pid)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not is_running(int(pid))
    assert not Path(folder).exists()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_ctrl_c_ends_a_query_at_once(path: Path, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    began = time.monotonic()
    out, err = spawn(INTERRUPTED, path).communicate(timeout=50)
    assert out == "interrupted 0 7\n", err
    assert time.monotonic() - began < 30


def test_summaries_that_are_out_of_date_are_a_warning(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    with duckdb.connect(db) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    with pytest.warns(OutOfDate, match="run 1: its summaries are missing or out of date: selfrepair refresh") as caught:
        assert Warehouse(db).view("head_repair").is_empty()
    assert [warning.filename for warning in caught] == [__file__]
    heard: list[str] = []
    Warehouse(db, on_note=heard.append).sql("SELECT 1")
    assert heard == ["run 1: its summaries are missing or out of date: selfrepair refresh"]


def test_an_engine_reads_beside_everything_else_and_cannot_write(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    ours = Warehouse(db)
    engine = ours.engine()
    with engine.connect() as connection, duckdb.connect(db, read_only=True) as con:
        assert (
            connection.execute(sa.text("SELECT count(*) FROM head_repair")).scalar_one()
            == ours.view("head_repair").height
        )
        assert con.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]
        with pytest.raises(sa.exc.SQLAlchemyError, match="read-only"):
            connection.execute(sa.text("CREATE TABLE mine AS SELECT 1"))
    with open_writer(db, wait_s=0) as con:
        con.execute("CREATE TABLE mine AS SELECT 1 AS x")
    assert pl.read_database("SELECT * FROM mine", engine).rows() == [(1,)]
    with open_writer(db, wait_s=0) as con:
        install(con)
        con.execute("CREATE OR REPLACE VIEW main.head_repair AS SELECT 7 AS run_id")
        con.execute("UPDATE selfrepair_marts.installed SET views = 'of another version'")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM head_repair")).scalar_one() > 1
    db.write_text("a recipe\n" * 2000)
    for found in ("is not a DuckDB file", "there is no warehouse"):
        with pytest.raises(SelfRepairError, match=found) as raised:
            engine.connect()
        assert "--db" not in str(raised.value)
        db.unlink(missing_ok=True)


def test_a_ranking_of_few_rows_is_a_warning(ours: Warehouse) -> None:
    """Each head's top 2 % of 24 positions is a single row."""
    with pytest.warns(FewRows, match="numbers here of a single row: fewer than 30 say little") as caught:
        ours.question("most_repaired_heads", population="top2", at_most=3)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(FewRows, match="of only 24 rows"):
        ours.question("most_repaired_heads", population="all", at_most=3)


def test_a_warehouse_can_be_sent_to_another_process(path: Path) -> None:
    ours = pickle.loads(pickle.dumps(Warehouse(path, limits=Limits(memory_bytes=500_000_000))))
    assert ours.sql("SELECT 1 AS x").item() == 1
    assert ours.limits.memory_bytes == 500_000_000
    assert os.getpid() != worker._idle[0]._process.pid


def test_a_relative_path_is_meant_from_where_one_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Warehouse(path).runs()  # leaves a process behind that was started here
    monkeypatch.chdir(path.parent)
    assert Warehouse(path.name).runs().height == Warehouse(path).runs().height


def test_a_filter_may_be_any_collection(ours: Warehouse) -> None:
    wanted = ours.view("head_repair", run=1, layer=[0, 2])
    for layers in ((0, 2), {0: "", 2: ""}.keys(), (layer for layer in (0, 2))):
        assert ours.view("head_repair", run=1, layer=layers).equals(wanted)


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("not a number",))


def test_a_parameter_that_cannot_be_sent_says_so(ours: Warehouse) -> None:
    assert "the parameters cannot be read" in refusal(lambda: ours.sql("SELECT $x", {"x": Unreadable()}))
    assert "the parameters cannot be sent" in refusal(lambda: ours.sql("SELECT $x", {"x": lambda: 0}))
    assert ours.sql("SELECT 1 AS one").item() == 1


def test_rows_of_what_is_no_head_or_no_number_say_so(ours: Warehouse) -> None:
    assert "layer takes the number of a layer" in refusal(lambda: ours.rows(1, "x", 0))  # type: ignore[arg-type]
    assert "rows are those of one head" in refusal(lambda: ours.rows(1, layer=1))
    assert "top=-1 selects no rows" in refusal(lambda: ours.rows(1, 0, 0, top=-1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda ours: ours.rows("tiny-model", heads="L1H3"),
            "argument 'heads'; did you mean head? The call: warehouse.rows(",
        ),
        (
            lambda ours: ours.rows(),
            "missing a required argument: 'model'. The call: warehouse.rows(model, layer=None, ",
        ),
        (lambda ours: ours.view(5), "name takes a name, as text, not 5. The call: warehouse.view(name, /, *, run=None"),
        (lambda ours: ours.view("runs", columns=5), "columns takes names of columns, 'all' or 'headline', not 5"),
        (
            lambda ours: ours.view("head_repair", model=1),
            "model=1 is no model's name. A run is meant by its number: run=1",
        ),
        (lambda ours: ours.view("head_repair", run=1, run_id=1), "run and run_id are the same"),
        (lambda ours: ours.sql(5), "query takes SQL or a name, as text, not 5"),
        (lambda ours: ours.sql("runs", limit="5"), "limit takes a number of rows, from 0, or None, not '5'"),
        (lambda ours: ours.sql("runs", timeout_s="5"), "timeout_s takes seconds, or None, not '5'"),
        (lambda ours: ours.sql("SELECT $x", 5), "params takes values by name, or a list of values, not 5"),
        (lambda ours: ours.ask_all("runs"), "queries takes a list of texts, not 'runs'"),
        (lambda ours: ours.describe(), "The call: warehouse.describe(name)"),
        (
            lambda ours: ours.question("run_checks", 1),
            "too many positional arguments. The call: warehouse.question(name",
        ),
        (lambda ours: ours.runs("tiny-model"), "too many positional arguments. The call: warehouse.runs()"),
        (
            lambda ours: Warehouse(ours.path, limit=5),
            "did you mean limits? The call: Warehouse(path=None, *, limits=None",
        ),
        (lambda ours: Warehouse(5), "path takes the path of a file, not 5"),
    ],
)
def test_a_wrong_call_is_told_the_right_one(ours: Warehouse, call: Callable[[Warehouse], object], message: str) -> None:
    assert message in refusal(lambda: call(ours))


def test_every_argument_says_what_it_takes() -> None:
    methods = [one for name, one in vars(Warehouse).items() if inspect.isfunction(one) and not name.startswith("_")]
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    for method in (*methods, Warehouse.__init__):
        assert hasattr(method, "__wrapped__"), method
        found = {name for name, one in inspect.signature(method).parameters.items() if one.kind in named} - {"self"}
        assert found <= WAREHOUSE.keys()
