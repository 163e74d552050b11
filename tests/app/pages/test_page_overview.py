"""The overview: its numbers are the view's, and every state of a warehouse is a page that says what to do."""

from pathlib import Path

import polars as pl
import pytest

from selfrepair import Warehouse
from selfrepair.warehouse.database.connection import open_writer
from support.fabricate import fabricate
from support.loaded import loaded, stored
from support.pages import opened, said, tables


def test_its_numbers_are_the_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened("overview", db, monkeypatch, ablation="zero", population="all")
    (numbers,) = Warehouse(db).view("model_repair", ablation="zero", population="all").to_dicts()
    parts = ["self_repair", "repair_layernorm", "repair_attention", "repair_mlp"]
    assert [metric.value for metric in app.metric] == [f"{numbers[f'mean_{part}']:.3f}" for part in parts]
    assert all("[logits]" in metric.label for metric in app.metric)


def test_post_norm_repair_is_a_component_where_the_model_has_post_norms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="normed", post_norms=True, seed=3))
    app = opened("overview", db, monkeypatch, model="normed", part="post-norm")
    (numbers,) = Warehouse(db).view("model_repair", run_id=2, ablation="resample", population="top2").to_dicts()
    assert app.metric[4].label == "Post-norm repair [logits]"
    assert app.metric[4].value == f"{numbers['mean_repair_post_norm']:.3f}"
    (dots,) = (pl.from_pandas(table.value) for table in app.dataframe if "mean_repair_post_norm" in table.value)
    assert set(dots["run"]) == {"normed (run 2)"}
    app = opened("overview", db, monkeypatch, model="tiny-model", part="post-norm")
    assert len(app.metric) == 4
    assert "does not exist here" in said(app)
    assert not any("post_norm" in name for table in app.dataframe for name in table.value)


def test_every_run_is_listed_with_its_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3))
    with open_writer(db) as con:
        con.execute("UPDATE runs SET status = 'failed', crosscheck_error_max = 12345.5 WHERE run_id = 2")
    app = opened("overview", db, monkeypatch)
    one, other = Warehouse(db).view("run_health").to_dicts()
    first, second = tables(app)[0]
    assert (first["Run id"], first["Model"], first["Health"]) == ("1", "tiny-model", "ok")
    assert first["Rows stored [rows]"] == f"{one['rows_stored']:,}"
    assert first["Identity error max [logits]"] == f"{one['identity_error_max']:.1e}"
    assert second["Health"] == other["health"]
    assert second["Health"].startswith("failed: the cross-check disagrees by")
    assert second["Cross-check error max [logits]"] == "12,345.5000"
    data = next(table.value for table in app.dataframe if "health" in table.value.columns)
    assert sorted(data.columns) == sorted(Warehouse(db).view("run_health").columns)


def test_a_run_of_answers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    assert "6 prompts of tiny-text, L0H3 ablated throughout, complete" in said(
        opened("overview", db, monkeypatch)
    ).replace("\\", "")
    with open_writer(db) as con:
        con.execute("UPDATE runs SET logit_of = 'answer'")
    app = opened("overview", db, monkeypatch)
    assert "6 prompts of tiny-text (answer), L0H3 ablated throughout, complete" in said(app).replace("\\", "")
    assert app.selectbox(key="population").value == "all"
    assert "24 rows of each head" in said(app)
    assert "only 24 rows: fewer than 30 say little" in said(app)
    assert "Errors and intervals here are of only 3 documents: with fewer than 12 they are a rough guide" in said(app)


def test_without_a_file_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("overview", tmp_path / "none.duckdb", monkeypatch)
    assert "there is no warehouse" in said(app).replace("\\", "")
    assert "selfrepair demo" in said(app).replace("\\", "")


def test_an_empty_warehouse_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_writer(tmp_path / "w.duckdb"):
        pass
    assert "selfrepair demo" in said(opened("overview", tmp_path / "w.duckdb", monkeypatch))


def test_a_run_without_summaries_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    with open_writer(db) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    assert "selfrepair refresh" in said(opened("overview", db, monkeypatch))


def test_a_link_shows_what_it_was_copied_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3), fabricate("three", seed=5))
    link = {"model": "tiny-model", "run": "1", "ablation": "mean", "population": "top2_nobos", "part": "MLP"}
    app = opened("overview", db, monkeypatch, **link)
    assert [box.value for box in app.sidebar.selectbox] == ["tiny-model", "1", "mean", "top2_nobos"]
    assert len(app.warning) == 0


def test_a_link_with_a_run_alone_shows_it_and_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3), fabricate("three", seed=5))
    app = opened("overview", db, monkeypatch, run="2")
    assert [box.value for box in app.sidebar.selectbox][:2] == ["other-model", "2"]
    assert len(app.warning) == 0
    assert app.query_params["run"] == "2"
    app.selectbox(key="model").set_value("tiny-model").run()
    assert [box.value for box in app.sidebar.selectbox][:2] == ["tiny-model", "3"]
    assert app.query_params["run"] == "3"


def test_a_link_with_another_models_run_says_which_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3))
    app = opened("overview", db, monkeypatch, model="tiny-model", run="2")
    (warning,) = app.warning
    assert warning.value == "Run 2 of the link is a run of other\\-model; the newest run of tiny\\-model is shown."
    assert [box.value for box in app.sidebar.selectbox][:2] == ["tiny-model", "1"]
    app.selectbox(key="model").set_value("other-model").run()
    assert [box.value for box in app.sidebar.selectbox][:2] == ["other-model", "2"]
    assert len(app.warning) == 0


@pytest.mark.slow
def test_runs_of_another_kind_are_not_drawn_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", seed=3), fabricate("three", seed=5))
    with open_writer(db) as con:
        con.execute("UPDATE runs SET logit_of = 'answer' WHERE run_id = 1")

    def drawn(run: str) -> set[str]:
        app = opened("overview", db, monkeypatch, run=run)
        (frame,) = (table.value for table in app.dataframe if {"depth", "label"} <= set(table.value.columns))
        return {str(name) for name in frame["run"]}

    assert drawn("1") == {"tiny-model (run 1)"}
    assert drawn("3") == {"tiny-model (run 2)", "tiny-model (run 3)"}


def test_of_answers_all_rows_are_shown_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    assert opened("overview", db, monkeypatch).selectbox(key="population").value == "top2"
    with open_writer(db) as con:
        con.execute("UPDATE runs SET logit_of = 'answer'")
    assert opened("overview", db, monkeypatch).selectbox(key="population").value == "all"
