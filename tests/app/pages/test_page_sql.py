"""The SQL page: any SQL gets rows or a message, and what it offers to copy runs as it stands."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.quick import KINDS, drawable, first_axes, numeric_columns, quick_chart
from selfrepair.app.components import snippets
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.catalog.questions import bind, filled_in, questions, with_run
from selfrepair.queries.catalog.which_run import RUNS
from support.loaded import loaded
from support.pages import opened, said
from support.tiers import first_of_each

ODD = """SELECT
    1::DECIMAL(9, 2) AS "a.b[0]", 2::UBIGINT AS "a", 'x' AS "a_1", [1, 2] AS list, {'k': 1} AS struct, MAP {'k': 2} AS map,
    'infinity'::TIMESTAMP::VARCHAR AS never, DATE '9999-12-31' AS day, TIME '01:02:03' AS hour, INTERVAL 3 DAY AS days,
    'NaN'::DOUBLE AS nan, '-infinity'::DOUBLE AS least, NULL AS nothing, '<script>' AS "<b>html</b> | $x$ `c`",
    uuid() AS uuid, 'b'::BLOB AS bytes, TRUE AS yes, now() AS zoned, 12345678901234567890::HUGEINT % 1000 AS huge"""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loaded(tmp_path_factory.mktemp("sql"))


def linked(db: Path, monkeypatch: pytest.MonkeyPatch, sql: str, **link: str) -> AppTest:
    return opened("sql", db, monkeypatch, sql=sql, **link)


def table(app: AppTest) -> pl.DataFrame:
    """The answer's table: the first that stands below the page's lists."""
    frames = [found.value for found in app.main.dataframe if not found.key or "list of" not in str(found.key)]
    return pl.from_pandas(frames[0])


def test_a_link_shows_and_answers_its_query(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = (
        "SELECT label, mean_self_repair FROM head_repair WHERE ablation = 'zero' AND population = 'all' ORDER BY label"
    )
    app = linked(db, monkeypatch, sql)
    assert app.text_area[0].value == sql
    assert table(app).equals(Warehouse(db).sql(sql))
    assert "12 rows, 2 columns" in said(app)


@pytest.mark.parametrize("typed", ["most_repaired_heads", " most_repaired_heads ;\n"])
def test_the_name_of_a_question_opens_its_form(typed: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = linked(db, monkeypatch, "SELECT 42 AS n")
    app.text_area[0].set_value(typed)
    press(app, "Run")
    assert "rows, 1 columns" not in said(app).replace("row,", "rows,")  # the answer before has gone, and its link
    assert "sql" not in app.query_params
    for page in (app, linked(db, monkeypatch, typed)):
        assert escape_markdown(questions()["most_repaired_heads"].view.summary) in said(page)
        press(page, "Run question")
        assert not page.error
        assert "columns, in" in said(page)


def test_typed_sql_is_answered_and_put_into_the_link_and_the_history(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("sql", db, monkeypatch, beside="History")
    assert "Queries of this session" in said(app)
    app.text_area[0].set_value("SELECT 41 + 1 AS n")
    press(app, "Run")
    assert table(app).rows() == [(42,)]
    assert app.query_params["sql"] in ("SELECT 41 + 1 AS n", ["SELECT 41 + 1 AS n"])
    app.text_area[0].set_value("SELECT 2 AS n")
    press(app, "Run")
    labels = [button.label.replace("\\", "") for button in app.button]
    app.run()
    labels = [button.label.replace("\\", "") for button in app.button]
    assert labels[-2:] == ["SELECT 2 AS n", "SELECT 41 + 1 AS n"]
    app.button[-1].click().run()
    assert app.text_area[0].value == "SELECT 41 + 1 AS n"
    assert table(app).rows() == [(42,)]


def test_a_draft_is_filled_in_and_not_answered_before_run_is_pressed(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("sql", db, monkeypatch, draft="SELECT 41 + 1 AS n")
    for page in (app, app.run()):
        assert page.text_area[0].value == "SELECT 41 + 1 AS n"
        assert "was not run" in said(page)
        assert "columns, in" not in said(page)
    press(app, "Run")
    assert table(app).rows() == [(42,)]
    app.run()
    assert "draft" not in app.query_params
    assert "was not run" not in said(app)


def press(app: AppTest, label: str) -> None:
    (button,) = (button for button in app.button if button.label == label)
    button.click().run()
    assert not app.exception, app.exception


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1 +\n  FROM runs", "syntax error"),
        ("SELECT nosuch FROM runs", "nosuch"),
        ("DROP TABLE runs", "is read-only"),
        ("SELECT * FROM read_csv('/etc/passwd')", "may not be called here"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("FROM head_repairs", "did you mean head_repair"),
        ("SELECT 1/0 + sum(x) FROM (SELECT 'a'::INT AS x)", "Could not convert"),
        ("SELECT '\0'", "NUL character"),
    ],
)
def test_what_cannot_be_answered_is_a_message(
    sql: str, message: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = linked(db, monkeypatch, sql)
    assert message in app.error[0].value.replace("\\", "")


def test_an_error_shows_its_place(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = linked(db, monkeypatch, "SELECT 1 +\n  FROM runs")
    line, mark = app.code[0].value.splitlines()
    assert line == "LINE 2:   FROM runs"
    assert line[mark.index("^") :] == "FROM runs"


def test_more_rows_than_are_shown_are_said_to_be_there(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = linked(db, monkeypatch, "FROM range(10001)")
    assert "the first 10,000 rows; the query has more" in said(app).replace("\\", "")
    assert table(app).height == 10_000


def test_a_query_of_a_hundred_thousand_characters_is_answered_and_kept_out_of_the_link(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = f"SELECT count(*) AS n FROM tokens WHERE pos IN ({', '.join(map(str, range(17_000)))})"
    assert 100_000 < len(sql) < 110_000
    app = opened("sql", db, monkeypatch)
    app.text_area[0].set_value(sql)
    press(app, "Run")
    assert table(app).rows() == [(24,)]
    assert "too long for a link" in said(app)
    assert "sql" not in app.query_params
    app.text_area[0].set_value(f"SELECT {' + '.join(['1'] * 25_000)} AS n")
    press(app, "Run")
    assert "nested too deeply" in app.error[0].value


@pytest.mark.parametrize("shape", ["table", "chart"])
@pytest.mark.parametrize(
    "sql", [ODD, f"{ODD} WHERE FALSE", "SELECT 1 AS a, 2 AS a", "EXPLAIN SELECT 1", "runs", "SHOW TABLES"]
)
def test_rows_of_every_type_can_be_shown(sql: str, shape: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = linked(db, monkeypatch, sql, **{"as": shape})
    assert not app.error, app.error
    assert "columns, in" in said(app)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_any_kind_is_drawn_from_its_link(kind: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = {"as": "chart", "kind": kind, "x": "label", "y": "mean_self_repair", "colour": "ablation"}
    app = linked(db, monkeypatch, "head_repair", **link)
    (chart,) = app.get("vega_lite_chart")
    assert "logits" in chart.proto.spec or kind == "histogram"
    chosen = {box.key: box.value for box in app.selectbox}
    assert {key: value for key, value in chosen.items() if key in link} == {
        key: value for key, value in link.items() if key in chosen
    }


def test_a_view_is_described_by_its_comments(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("sql", db, monkeypatch, view="head_tail")
    (told,) = [text.value for text in app.markdown if "run\\_id" in text.value]
    wanted = Warehouse(db).describe("head_tail")
    assert len(told.split("\n\n")) == wanted.height
    for text, (name, kind, unit, meaning) in zip(told.split("\n\n"), wanted.iter_rows(), strict=True):
        head, _, below = text.partition("  \n")
        assert head == f"**{escape_markdown(name)}** :gray[{escape_markdown(f'{kind} [{unit}]' if unit else kind)}]"
        assert below == escape_markdown(meaning)
    press(app, "Query this view")
    assert app.text_area[0].value == "FROM head_tail\nLIMIT 100"


@pytest.mark.parametrize("name", first_of_each(6, questions()))
@pytest.mark.filterwarnings("ignore::selfrepair.queries.client.notices.NotMeasured")
def test_every_question_has_a_form_and_shows_its_sql(name: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("sql", db, monkeypatch, beside="Questions", question=name, head="L1H2")
    press(app, "Run question")
    assert not app.error, app.error
    shown = app.text_area[0].value
    assert shown is not None
    assert shown.startswith("-- ")
    assert "$" not in shown.partition("\n")[2]
    needed: dict[str, Any] = {key: 1 for key, parameter in questions()[name].parameters.items() if parameter.required}
    needed |= {key: 2 for key in needed if key == "head"}
    needed |= {key: "tiny-model" for key in needed if key == "model"}
    assert Warehouse(db).sql(shown).equals(Warehouse(db).question(name, **needed), null_equal=True)


def test_a_head_that_nobody_chose_is_not_asked_for(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("sql", db, monkeypatch, beside="Questions", question="strongest_rows")
    press(app, "Run question")
    assert "needs layer and head" in app.error[0].value.replace("\\", "")


def test_constants_are_written_so_that_nothing_else_is_read_from_them(db: Path) -> None:
    _, values = bind("most_repaired_heads", {"model": "it's $run_id; --"})
    assert "'it''s $run_id; --'" in filled_in("most_repaired_heads", values)
    _, values = bind("most_repaired_heads", {"run_id": 1})
    values = with_run(values, Warehouse(db).ask(RUNS).frame.to_dicts())
    assert Warehouse(db).sql(filled_in("most_repaired_heads", values)).height > 0


SNIPPETS = [
    "SELECT 'a''b' AS x, \"label\" FROM head_repair -- `$HOME` \\n \"\"\" '''\nLIMIT 2",
    "SELECT 1 AS x /*\nSQL\n*/",
    "runs",
    "SELECT '\\' AS x,\n'tab\there' AS y;",
]


@pytest.mark.parametrize("sql", SNIPPETS)
@pytest.mark.slow
def test_what_is_copied_runs_elsewhere(sql: str, db: Path, tmp_path: Path) -> None:
    place = tmp_path / "it's a folder"
    place.mkdir()
    db = Path(shutil.copy(db, place))
    wanted = Warehouse(db).sql(sql, limit=None)
    found: dict[str, Any] = {}
    exec(snippets.python(sql, db), found)
    assert found["frame"].equals(wanted, null_equal=True)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    main = "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"
    (bin_ / "selfrepair").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{main}" "$@"\n')
    read = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[2], read_only=True); "
        "print(len(con.sql(sys.stdin.read()).fetchall()))"
    )
    (bin_ / "duckdb").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{read}" "$@"\n')
    for program in bin_.iterdir():
        program.chmod(0o755)
    said = {
        name: subprocess.run(
            ["sh", "-c", f'PATH="{bin_}:$PATH"\n{snippet}'], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        for name, snippet in (("csv", snippets.selfrepair(sql, db)), ("duckdb", snippets.duckdb(sql, db)))
    }
    assert said["csv"].splitlines()[0] == ",".join(wanted.columns)
    assert said["duckdb"] == f"{wanted.height}\n"


def test_a_picture_tells_names_and_units_of_any_columns() -> None:
    frame = pl.DataFrame({"a.b": [1.5, 2.5, None, float("inf")], "c[0]": [1, 2, 3, 4], "<b>": ["x", "y", "z", "w"]})
    assert numeric_columns(frame) == ["a.b", "c[0]"]
    shown = drawable(frame, "a.b", "c[0]")
    assert shown.height == 2
    spec = quick_chart(shown, "points", "a.b", "c[0]", "<b>", {"a.b": "a.b [logits]"}).to_dict()
    encoding = spec["encoding"]
    assert [encoding[channel]["title"] for channel in ("x", "y", "color")] == ["a.b [logits]", "c[0]", "<b>"]
    assert [encoding[channel]["type"] for channel in ("x", "y", "color")] == ["quantitative", "quantitative", "nominal"]
    (rows,) = spec["datasets"].values()
    fields = [encoding[channel]["field"] for channel in ("x", "y", "color")]
    assert [tuple(row[field] for field in fields) for row in rows] == [(1.5, 1, "x"), (2.5, 2, "y")]
    assert len(encoding["tooltip"]) == 3


@pytest.mark.parametrize(
    ("columns", "axes"),
    [
        ({"run_id": [1, 1], "layer": [0, 1], "mean": [0.5, 0.25], "other": [1.5, 2.5]}, ("layer", "mean")),
        ({"run_id": [1, 1], "layer": [0, 0], "depth": [0.0, 1.0], "mean": [0.5, 0.25]}, ("depth", "mean")),
        ({"prompt_id": [1, 2], "label": ["a", "b"], "mean": [0.5, 0.25]}, ("label", "mean")),
        ({"run_id": [1, 1], "layer": [0, 0], "mean": [0.5, 0.25]}, ("layer", "mean")),
        ({"id": [1, 2], "n": [3, 4], "m": [5, 5]}, ("n", "m")),
        ({"run_id": [1, 2], "model_id": [1, 1]}, ("run_id", "model_id")),
        ({"label": ["a", "b"]}, ("label", "label")),
        ({"mean": [0.5, None]}, ("mean", "mean")),
    ],
)
def test_a_picture_begins_with_columns_that_say_something(columns: dict[str, Any], axes: tuple[str, str]) -> None:
    assert first_axes(pl.DataFrame(columns)) == axes


def test_bars_begin_at_zero_and_stand_side_by_side() -> None:
    frame = pl.DataFrame({"name": ["b", "a"], "value": [10.0, 11.0], "kind": ["x", "y"]})
    encoding = quick_chart(frame, "bars", "name", "value", "kind", {}).to_dict()["encoding"]
    assert encoding["y"]["scale"] == {"zero": True}
    assert encoding["y"]["stack"] is None
    assert encoding["x"]["sort"] is None  # as the query has them
    assert encoding["xOffset"]["field"] == encoding["color"]["field"]
