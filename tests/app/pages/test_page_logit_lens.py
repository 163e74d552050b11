"""The page Logit lens: what it shows is what the views return, and a run without says how to measure it."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.heads.dots import head_dots
from selfrepair.app.charts.mechanisms.logit_lens import SHARES, shares_by_layer
from support.measured import WITHOUT, measured
from support.pages import opened, said

RUN = {"model": "tiny-model"}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("logit_lens"))


def page(db: Path, monkeypatch: pytest.MonkeyPatch, **link: str) -> AppTest:
    return opened("logit_lens", db, monkeypatch, **{"ablation": "zero", "population": "all", **link})


def test_every_sql_runs_as_it_stands(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch)
    assert len(app.code) == 4
    for sql in app.code:
        assert Warehouse(db).sql(sql.value).height > 0


@pytest.mark.parametrize("population", ["all", "top2", "top2_nobos"])
def test_what_is_shown_is_what_the_views_return(population: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, population=population)
    layers, _, heads, data, agreement, _ = (pl.from_pandas(frame.value) for frame in app.dataframe)
    by_layer = Warehouse(db).view("logit_lens_by_layer", **RUN)
    columns = ("layer", "mean_target_logprob", "top1_share", "top1_from_here_share", "median_rank")
    assert layers.select(columns).rows() == by_layer.select(columns).rows() != []
    known = Warehouse(db).view(
        "repair_by_logit_lens", **RUN, ablation="zero", population=population.removesuffix("_nobos")
    )
    assert known.height == heads.height == data.height == 12
    assert heads.sort("label").rows() == known.sort("label").select(heads.columns).rows()
    measures = Warehouse(db).view("measure_agreement", **RUN)
    order = ["ablation", "measure_a", "measure_b"]
    assert_frame_equal(
        agreement.sort(order), measures.select(agreement.columns).cast(dict(agreement.schema)).sort(order)
    )
    assert agreement.height == 9
    assert ("with position 0" in said(app)) == (population == "top2_nobos")


def test_a_run_without_says_what_measures_both(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, model=WITHOUT)
    logit_lens, logprobs = (code.value for code in app.code)
    assert logit_lens.startswith(f"selfrepair ingest --model {WITHOUT} ")
    assert logit_lens.endswith(f" --logit-lens --db {db}")
    assert logprobs.endswith(f" --logit-lens --logprobs --db {db}")
    assert not app.dataframe


def test_without_a_file_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("logit_lens", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")


def test_shares_are_lines_of_their_own() -> None:
    layers = pl.DataFrame({"layer": [0, 1], "n_rows": [9, 9], **{name: [0.25, 0.5] for name in SHARES}})
    spec = shares_by_layer(layers).to_dict()
    (rows,) = spec["datasets"].values()
    assert {row["name"] for row in rows} == {"In the top 10", "Top-1 correct", "Top-1 correct from here on"}
    assert spec["encoding"]["color"]["scale"]["range"] == list(SHARES.values())


def test_heads_without_one_of_the_values_have_no_dot() -> None:
    heads = pl.DataFrame(
        {
            "label": ["L0H0", "L0H1"],
            "layer": [0, 0],
            "mean_self_repair_right": [0.25, None],
            "mean_self_repair_wrong": [0.5, 0.75],
        }
    )
    spec = head_dots(heads, "repair_by_logit_lens", "mean_self_repair_right", "mean_self_repair_wrong", "").to_dict()
    _, dots, framed = spec["layer"]
    assert spec["datasets"][framed["data"]["name"]] == []
    assert [row["label"] for row in spec["datasets"][dots["data"]["name"]]] == ["L0H0"]
    assert dots["encoding"]["x"]["scale"] == dots["encoding"]["y"]["scale"]
