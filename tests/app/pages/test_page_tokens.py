"""The page of tokens: what it draws is what the rows say, and every state of a warehouse is a page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.components.token_view import Field, largest, token_data
from selfrepair.app.data.tokens import (
    EFFECTS,
    effect_size,
    heads_at_position,
    prompt_rows,
    rows_with_token,
    top_rows,
    where_label,
)
from selfrepair.app.server.serve import HOME
from selfrepair.app.wording.whitespace import possible_texts, show_whitespace
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.load.loader import load
from support.fabricate import fabricate
from support.loaded import loaded, stored

HOSTILE = ["<script>alert(1)</script>", " the", "\n", "\t", "\ufffd", "\u202eabc", "*a* [b](http://c.example/d)"]
HEAD = "run_id = 1 AND ablation = 'resample' AND layer = {layer} AND head = {head}"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens the page over a file, with what stands in the link."""

    def opened(path: Path | None = None, **link: str) -> AppTest:
        monkeypatch.setenv("SELFREPAIR_DB", str(path or loaded(tmp_path)))
        app = AppTest.from_file(str(HOME), default_timeout=60)
        for name, value in link.items():
            app.query_params[name] = value
        app.switch_page("app_pages/tokens.py").run()
        assert not app.exception, app.exception
        return app

    return opened


def drawn(app: AppTest) -> dict[str, Any]:
    """What the component has been given."""
    (component,) = app.get("bidi_component")
    found: dict[str, Any] = json.loads(component.proto.json)
    return found


def tables(app: AppTest) -> list[pl.DataFrame]:
    """The page's tables, without the plain ones from which data can be downloaded."""
    own = [table for table in app.dataframe if json.loads(table.proto.columns).keys() - {"_index"}]
    return [pl.from_pandas(table.value) for table in own]


def table_with(app: AppTest, column: str) -> pl.DataFrame:
    return next(frame for frame in tables(app) if column in frame.columns)


def test_post_norm_repair_colours_tokens_of_a_model_that_has_it(page: Any, tmp_path: Path) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="normed", post_norms=True, seed=3))
    app = page(db, model="normed", head="L1H2", prompt="4", colour="repair_post_norm", pinned="2")
    rows = Warehouse(db).sql(
        f"FROM self_repair WHERE {HEAD.format(layer=1, head=2).replace('run_id = 1', 'run_id = 2')} AND prompt_id = 4"
    )
    assert "repair_post_norm" in table_with(app, "label").columns
    assert table_with(app, "repair_post_norm")["repair_post_norm"][0] in rows["repair_post_norm"].to_list()
    app = page(db, model="tiny-model", pinned="2", colour="repair_post_norm")
    assert app.selectbox(key="colour").value == "self_repair"
    assert not any("repair_post_norm" in frame.columns for frame in tables(app))


def test_every_token_has_the_number_of_the_row_that_predicts_it(page: Any, tmp_path: Path) -> None:
    given = drawn(page(head="L1H2", prompt="4", colour="repair_mlp"))
    rows = Warehouse(tmp_path / "w.duckdb").sql(
        f"FROM self_repair WHERE {HEAD.format(layer=1, head=2)} AND prompt_id = 4 ORDER BY pos"
    )
    assert given["tokens"] == [*rows["token"], rows["target"][-1]]
    assert given["row_of"] == [None, 0, 1, 2, 3]
    titles = [field["title"] for field in given["fields"] if field["shown"]]
    assert titles == ["MLP repair"]
    index = [field["title"] for field in given["fields"]].index("MLP repair")
    assert given["numbers"][index] == [f"{value:.4f}" for value in rows["repair_mlp"]]
    most = rows["repair_mlp"].cast(pl.Float64).abs().max()
    assert given["shades"] == pytest.approx((rows["repair_mlp"] / most).to_list(), abs=1e-6)
    assert given["legend"]["title"] == "MLP repair [logits]"


def test_a_colour_can_be_on_the_token_that_is_read(page: Any) -> None:
    given = drawn(page(coloured="source token"))
    assert given["row_of"] == [0, 1, 2, 3, None]
    assert not given["by_target"]


def test_with_a_fixed_value_colours_are_full_there_and_beyond(page: Any, tmp_path: Path) -> None:
    given = drawn(page(scale="fixed value", max_logits="0.5", head="L0H0", colour="direct_effect"))
    rows = Warehouse(tmp_path / "w.duckdb").sql(
        f"SELECT direct_effect / 0.5 AS shade FROM self_repair WHERE {HEAD.format(layer=0, head=0)} AND prompt_id = 0 "
        "ORDER BY pos"
    )
    assert given["shades"] == pytest.approx(rows["shade"].clip(-1, 1).to_list(), abs=1e-6)
    assert given["legend"]["ends"] == ["-0.5", "0.5"]


def test_the_scale_ratio_has_no_colour_at_1(page: Any) -> None:
    given = drawn(page(colour="ln_scale_ratio"))
    assert given["legend"]["neutral"] == "1"
    numbers = next(numbers for numbers, field in zip(given["numbers"], given["fields"], strict=True) if field["shown"])
    for number, shade in zip(numbers, given["shades"], strict=True):
        assert (float(number) > 1) == (shade > 0)


def test_pinned_tokens_are_compared_in_the_order_of_pinning(page: Any, tmp_path: Path) -> None:
    app = page(head="L1H2", prompt="2", pinned="3,1")
    assert drawn(app)["pinned"] == [3, 1]
    compared = table_with(app, "clean_rank")
    effects = [name for name in EFFECTS if name != "repair_post_norm"]  # this model has no post-norms
    expected = Warehouse(tmp_path / "w.duckdb").sql(prompt_rows(HEAD.format(layer=1, head=2), 2, [3, 1], effects))
    assert compared["pos"].to_list() == [3, 1]
    assert compared.drop("token", "target").rows() == expected.drop("token", "target").rows()
    assert compared["target"].to_list() == [show_whitespace(text) for text in expected["target"]]


def test_the_heads_of_the_newest_pinned_token_are_listed(page: Any, tmp_path: Path) -> None:
    app = page(prompt="2", pinned="3,1", colour="logit_change")
    assert app.selectbox(key="at").value == "1"
    listed = table_with(app, "label")
    expected = Warehouse(tmp_path / "w.duckdb").sql(
        "SELECT label, logit_change FROM self_repair "
        "WHERE run_id = 1 AND ablation = 'resample' AND prompt_id = 2 AND pos = 1 ORDER BY abs(logit_change) DESC"
    )
    assert listed.height == 12
    assert listed.select("label", "logit_change").rows() == expected.rows()
    app.selectbox(key="at").set_value("3").run()
    other = table_with(app, "label")
    assert other["logit_change"].to_list() != listed["logit_change"].to_list()


def test_next_and_previous_step_through_the_prompts_and_unpin(page: Any) -> None:
    app = page(pinned="1")
    assert app.button(key="previous prompt").disabled
    app.button(key="next prompt").click().run()
    assert app.number_input(key="prompt").value == 1
    assert drawn(app)["pinned"] == []
    app.number_input(key="prompt").set_value(5).run()
    assert app.button(key="next prompt").disabled
    app.button(key="previous prompt").click().run()
    assert app.number_input(key="prompt").value == 4


def test_unpin_all(page: Any) -> None:
    app = page(pinned="1,2")
    next(button for button in app.button if button.label == "Unpin all").click().run()
    assert app.text_input(key="pinned").value == ""
    assert "Pinned tokens" not in [heading.value for heading in app.subheader]


@pytest.mark.parametrize(
    ("find", "population", "order"),
    [
        ("strongest", "top2", "direct_effect DESC"),
        ("most repaired", "all", "self_repair DESC"),
        ("made worse", "all", "self_repair"),
    ],
)
def test_rows_to_go_to(page: Any, tmp_path: Path, find: str, population: str, order: str) -> None:
    app = page(head="L2H1", find=find)
    if population == "all":
        app.selectbox(key="population").set_value("all").run()
    shown = table_with(app, "context")
    expected = Warehouse(tmp_path / "w.duckdb").sql(
        f"SELECT prompt_id, pos, direct_effect, self_repair FROM population_rows WHERE {HEAD.format(layer=2, head=1)} "
        f"AND population = '{population}' ORDER BY {order} LIMIT 20"
    )
    assert shown.select(expected.columns).rows() == expected.rows()
    assert shown.height == (1 if population == "top2" else 20)


def test_rows_with_a_token(page: Any, tmp_path: Path) -> None:
    app = page(head="L2H1", find="with a token")
    warehouse = Warehouse(tmp_path / "w.duckdb")
    target = warehouse.sql("SELECT target FROM tokens ORDER BY target_id DESC LIMIT 1").item()
    app.text_input(key="token").set_value(show_whitespace(target)).run()
    shown = table_with(app, "context")
    assert set(shown["target"]) == {show_whitespace(target)}
    expected = warehouse.sql("SELECT prompt_id, pos FROM tokens WHERE target = $t", {"t": target})
    assert sorted(shown.select("prompt_id", "pos").rows()) == sorted(expected.rows())
    app.text_input(key="token").set_value("no such'; token").run()
    assert any("No such token" in info.value for info in app.info)


def test_a_link_that_asks_for_what_is_not_there_shows_something_and_says_so(page: Any) -> None:
    app = page(prompt="999", pinned="77,1,x", colour="nonsense", at="-", max_logits="-3", coloured="never", find="?")
    assert app.number_input(key="prompt").value == 0
    assert any("prompts 0 to 5" in warning.value for warning in app.warning)
    assert len(drawn(app)["tokens"]) == 5


def test_positions_that_the_prompt_does_not_have_are_named(page: Any) -> None:
    app = page(pinned="77,1,x")
    assert drawn(app)["pinned"] == [1]
    assert any("77 cannot be pinned" in warning.value for warning in app.warning)


def test_what_is_no_position_is_named_and_the_rest_is_pinned(page: Any) -> None:
    app = page(pinned="3,abc -1")
    assert drawn(app)["pinned"] == [3]
    (warning,) = app.warning
    assert warning.value == r"Pinned positions are whole numbers such as 3,17; ignored: abc\, \-1"
    app.text_input(key="pinned").set_value("3; 1").run()
    assert drawn(app)["pinned"] == [3, 1]
    assert not app.warning


def test_hostile_tokens_reach_the_browser_as_data_alone(page: Any, tmp_path: Path) -> None:
    run = fabricate(n_units=1, seq_len=len(HOSTILE) + 1, prompts_per_unit=2)
    for unit in run.units:
        unit.tokens["token"] = HOSTILE * 2
        unit.tokens["target"] = [*HOSTILE[1:], "end"] * 2
    app = page(stored(tmp_path, run), pinned="0,2,5")
    assert drawn(app)["tokens"] == [*HOSTILE, "end"]
    written = "".join(each.value for kind in ("markdown", "caption", "subheader") for each in app.get(kind))
    assert "<script" not in written
    assert "c.example" not in written
    compared = table_with(app, "clean_rank")
    assert compared["token"].to_list() == ["<script>alert(1)</script>", "⏎", "[U+202E]abc"]


@pytest.mark.slow
def test_runs_of_two_models_with_other_prompts_heads_and_ablations(page: Any, tmp_path: Path) -> None:
    small = fabricate(
        "b", model="small", n_units=1, prompts_per_unit=2, n_layers=1, n_heads=4, ablations=("zero",), seed=5
    )
    path = stored(tmp_path, fabricate(), small)
    app = page(path, prompt="5", head="L2H3", model="tiny-model")
    assert app.number_input(key="prompt").value == 5
    app.selectbox(key="model").set_value("small").run()
    assert not app.exception
    assert app.number_input(key="prompt").value <= 1
    rows = Warehouse(path).sql(
        f"SELECT self_repair FROM self_repair WHERE model = 'small' AND label = '{app.selectbox(key='head').value}' "
        f"AND prompt_id = {app.number_input(key='prompt').value} ORDER BY pos"
    )
    numbers = next(
        numbers for numbers, field in zip(drawn(app)["numbers"], drawn(app)["fields"], strict=True) if field["shown"]
    )
    assert numbers == [f"{value:.4f}" for value in rows["self_repair"]]


def test_a_run_without_summaries_shows_its_tokens_and_what_to_do(page: Any, tmp_path: Path) -> None:
    path = loaded(tmp_path)
    with duckdb.connect(str(path)) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    app = page(path)
    assert len(drawn(app)["tokens"]) == 5
    assert any("selfrepair refresh" in info.value for info in app.info)


def test_prompts_that_are_not_loaded_yet_are_stepped_over(page: Any, tmp_path: Path) -> None:
    run = fabricate(n_units=3)
    run.write(tmp_path / "parts", units=[0, 2], crosscheck=False)
    load(tmp_path / "w.duckdb", tmp_path / "parts")
    app = page(tmp_path / "w.duckdb", prompt="2")
    app.button(key="next prompt").click().run()
    assert app.number_input(key="prompt").value == 6
    app.number_input(key="prompt").set_value(4).run()
    assert any("Prompt 4 is not loaded" in info.value for info in app.info)


def test_no_file_and_an_empty_one(page: Any, tmp_path: Path) -> None:
    app = page(tmp_path / "none.duckdb")
    assert app.error or app.info
    assert not app.get("bidi_component")
    path = loaded(tmp_path).rename(tmp_path / "w 1.duckdb")
    with duckdb.connect(str(path)) as con:
        for table in ("measurements", "tokens", "prompts", "units", "crosschecks", "runs", "models", "datasets"):
            con.execute(f"DELETE FROM {table}")
    app = page(path)
    (said,) = (info.value for info in app.info if "has no runs yet" in info.value)
    assert f"selfrepair demo --db '{path}'\n" in said


def test_a_row_of_nothing_but_neutral_values_has_no_colour() -> None:
    rows = pl.DataFrame({"pos": [0, 1], "token": ["a", "b"], "target": ["b", "c"], "x": [0.0, None], "n": [1, 12_345]})
    x, n = Field("x", "X", "logits"), Field("n", "N", "rank")
    given = token_data(rows, [x, n], x, largest(rows["x"], 0.0), by_target=True, pinned=[])
    assert given["shades"] == [0.0, None]
    assert given["numbers"] == [["0.0000", "NULL"], ["1", "12,345"]]
    assert largest(pl.Series([], dtype=pl.Float32), 0.0) == 1.0
    assert largest(pl.Series([0.75, 1.5]), 1.0) == 0.5


def test_signs_for_what_is_not_seen() -> None:
    assert show_whitespace(" a\n\tb\r\u202e\ufffd") == "·a⏎⇥b[U+000D][U+202E]\ufffd"
    assert possible_texts("·the⏎") == ["·the⏎", " the\n"]
    assert possible_texts("the") == ["the"]


def test_queries_run_as_they_stand_and_quote_what_a_user_types(tmp_path: Path) -> None:
    warehouse = Warehouse(loaded(tmp_path))
    where = where_label("run_id = 1 AND ablation = 'mean'", "L2H3")
    assert where == "run_id = 1 AND ablation = 'mean' AND layer = 2 AND head = 3"
    assert warehouse.sql(prompt_rows(where, 3)).height == 4
    assert warehouse.sql(heads_at_position("run_id = 1 AND ablation = 'mean'", 3, 1, "ln_scale_ratio")).height == 12
    assert warehouse.sql(top_rows(f"{where} AND population = 'all'", "self_repair", 7)).height == 7
    assert warehouse.sql(rows_with_token(where, "target", ["a' OR 'b", "%"], False, "repair_mlp", 9)).is_empty()
    in_part = warehouse.sql(rows_with_token(where, "token", ["t"], False, "repair_mlp", 9))
    assert in_part["repair_mlp"].abs().is_sorted(descending=True)
    assert in_part.height == 9
    assert effect_size("ln_scale_ratio") == "abs(ln_scale_ratio - 1)"


def test_the_text_before_a_found_row_ends_with_the_token_that_is_read(tmp_path: Path) -> None:
    warehouse = Warehouse(loaded(tmp_path))
    where = where_label("run_id = 1 AND ablation = 'zero' AND population = 'all'", "L0H1")
    for row in warehouse.sql(top_rows(where, "direct_effect DESC", 24)).to_dicts():
        tokens = warehouse.view("tokens", prompt_id=row["prompt_id"]).filter(pl.col("pos") <= row["pos"]).sort("pos")
        assert row["context"] == "".join(tokens["token"])
        assert row["target"] == tokens["target"][-1]


@pytest.mark.slow
def test_a_prompt_of_one_prediction(page: Any, tmp_path: Path) -> None:
    run = fabricate(n_units=1, prompts_per_unit=2, seq_len=2)
    record = replace(run.record, n_prompts=2)
    app = page(stored(tmp_path, replace(run, record=record)))
    assert drawn(app)["row_of"] == [None, 0]


def test_of_an_answer_the_whole_prompt_is_shown(page: Any, tmp_path: Path) -> None:
    db = loaded(tmp_path)
    with open_writer(db) as con:
        con.execute("UPDATE runs SET logit_of = 'answer'")
        ((text,),) = con.execute("SELECT text FROM prompts WHERE prompt_id = 4").fetchall()
    assert text in [code.value for code in page(db, head="L1H2", prompt="4").code]
