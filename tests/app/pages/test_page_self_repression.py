"""The page of self-repression: what it shows is what the views return, and a run without says how to measure it."""

from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.heads.heatmap import HEAD_SELECTION
from selfrepair.app.charts.mechanisms.self_repression import after_against_clean, slope_map
from support.measured import WITHOUT, measured
from support.pages import opened, said

HEAD = {"model": "tiny-model", "label": "L2H1", "multiple": 3}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("self_repression"))


def page(db: Path, monkeypatch: pytest.MonkeyPatch, **link: str) -> AppTest:
    return opened("self_repression", db, monkeypatch, **{"head": "L2H1", "multiple": "3", **link})


def test_every_sql_runs_as_it_stands(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch)
    assert len(app.code) == 4
    for sql in app.code:
        assert Warehouse(db).sql(sql.value).height > 0


def test_slopes_and_rows_are_the_views(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slopes, rows, table, *_, fits = (pl.from_pandas(frame.value) for frame in page(db, monkeypatch).dataframe)
    known = Warehouse(db).view("self_repression_slope", model="tiny-model", multiple=3)
    columns = ("label", "verdict", "slope", "other_slope", "random_slope")
    assert slopes.select(columns).rows() == known.select(columns).rows() != []
    assert set(table.select(columns).rows()) == set(known.select(columns).rows())
    stored = Warehouse(db).sql("FROM self_repression WHERE layer = 2 AND head = 1 AND multiple = 3")
    places = ("added_vector", "prompt_id", "pos", "direct_effect", "direct_effect_after")
    assert sorted(rows.select(places).rows()) == sorted(stored.select(places).rows()) != []
    (own,) = fits.filter(pl.col("added_vector") == "own").to_dicts()
    (of_head,) = Warehouse(db).view("self_repression_slope", **HEAD).to_dicts()
    assert (own["slope"], own["slope_low"]) == (of_head["slope"], of_head["slope_low"])


def test_a_head_that_was_not_measured_is_told_which_were(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, head="L0H1")
    assert "L0H1 was not measured" in said(app)
    assert "Choose one in the map" in said(app)


def test_a_mangled_link_is_a_page(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, multiple="'; --", head="<b>")
    assert "multiple = 1" in app.code[0].value


def test_a_run_without_self_repression_says_what_measures_it(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, model=WITHOUT)
    (command,) = (code.value for code in app.code)
    assert command.startswith(f"selfrepair ingest --model {WITHOUT} ")
    assert command.endswith(f" --self-repression --db {db}")
    assert not app.dataframe


def test_without_a_file_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("self_repression", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")


def test_lines_are_the_fits_over_the_whole_axis() -> None:
    rows = pl.DataFrame(
        {
            "added_vector": ["own", "other"],
            "direct_effect": [0.0, 1.0],
            "direct_effect_after": [0.0, 0.5],
            "token": [" a"] * 2,
            "target": [" b"] * 2,
            "prompt_id": [0] * 2,
            "pos": [1] * 2,
        }
    )
    fits = pl.DataFrame(
        {"added_vector": ["own", "other"], "slope": [0.5, None], "slope_low": [0.4, None], "slope_high": [0.6, None],
         "intercept": [0.25, None]}
    )  # fmt: skip
    spec = after_against_clean(rows, fits).to_dict()
    low, high = spec["layer"][1]["encoding"]["x"]["scale"]["domain"]
    line = spec["datasets"][spec["layer"][-1]["data"]["name"]]
    assert [(end["added_vector"], end["x"]) for end in line] == [("own", low), ("own", high)]
    assert [end["y"] for end in line] == pytest.approx([0.25 + 0.5 * low, 0.25 + 0.5 * high])


def test_heads_with_a_verdict_have_a_sign() -> None:
    heads = pl.DataFrame(
        {
            "label": ["L1H0", "L1H1", "L1H2", "L1H3"],
            "layer": [1] * 4,
            "head": [0, 1, 2, 3],
            "slope": [0.5, 1.5, 1.0, None],
            "slope_low": [0.4, 1.4, 0.9, None],
            "slope_high": [0.6, 1.6, 1.1, None],
            "other_slope": [1.0] * 4,
            "random_slope": [1.0] * 4,
            "verdict": ["repressing", "reinforcing", "neither", None],
        }
    )
    spec = slope_map(heads, "L1H0", (0.5, 1.5)).to_dict()
    cells, _, _, signs = spec["layer"]
    assert cells["encoding"]["color"]["scale"]["domain"] == [0.5, 1.5]
    drawn = {row["label"]: row["sign"] for row in spec["datasets"][signs["data"]["name"]]}
    assert drawn == {"L1H0": "▼", "L1H1": "▲"}
    assert [param["name"] for param in spec["params"]] == [HEAD_SELECTION]
