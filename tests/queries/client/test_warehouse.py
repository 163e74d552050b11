"""The warehouse from Python: frames, choices that are never made in silence, and errors that say what to do."""

import doctest
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from selfrepair import FewRows, OutOfDate, Truncated, Warehouse
from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.which_run import which_run
from selfrepair.queries.client import warehouse
from support.fabricate import fabricate
from support.loaded import loaded, stored
from support.refusals import refusal


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


def test_a_ranking_of_few_rows_is_a_warning(ours: Warehouse) -> None:
    """Each head's top 2 % of 24 positions is a single row, and intervals are of three documents."""
    for population, rows in (("top2", "a single row: fewer than 30 say little"), ("all", "only 24 rows")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ours.question("most_repaired_heads", population=population, at_most=3)
        assert [(warning.category, warning.filename) for warning in caught] == [(FewRows, __file__)] * 2
        assert rows in str(caught[0].message)
        assert "of only 3 documents" in str(caught[1].message)


def test_a_relative_path_is_meant_from_where_one_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Warehouse(path).runs()  # leaves a process behind that was started here
    monkeypatch.chdir(path.parent)
    assert Warehouse(path.name).runs().height == Warehouse(path).runs().height


def test_a_filter_may_be_any_collection(ours: Warehouse) -> None:
    wanted = ours.view("head_repair", run=1, layer=[0, 2])
    for layers in ((0, 2), {0: "", 2: ""}.keys(), (layer for layer in (0, 2))):
        assert ours.view("head_repair", run=1, layer=layers).equals(wanted)
