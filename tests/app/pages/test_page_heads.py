import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
from streamlit.elements.lib import policies
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.heads.heatmap import HEAD_SELECTION, head_map
from selfrepair.app.charts.style import color_domain as color_domain_module
from selfrepair.app.controls import head_click
from selfrepair.app.data import heads as head_queries
from selfrepair.app.data.measures import EFFECTS, measures
from selfrepair.app.wording.columns import column
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import loaded, stored
from support.pages import opened, said, tables
from support.tiers import first_of_each

HOME = str(Path(__file__).parents[3] / "app" / "home.py")
HEAD = "run_id = 1 AND ablation = 'resample' AND layer = 1 AND head = 2"


def page(db: Path, monkeypatch: pytest.MonkeyPatch, population: str = "top2", **link: str) -> AppTest:
    monkeypatch.setenv("SELFREPAIR_DB", str(db))
    app = AppTest.from_file(HOME, default_timeout=60).run()
    for name, value in link.items():
        app.query_params[name] = value
    app.switch_page("app_pages/heads.py").run()
    return app.selectbox(key="population").set_value(population).run() if population != "top2" else app


def made(folder: Path, **shape: Any) -> Path:
    return stored(folder, fabricate(**shape))


def value_of(app: AppTest, words: str) -> str:
    (found,) = (metric for metric in app.metric if metric.label.startswith(words))
    return str(found.value)


def test_the_page_shows_what_the_views_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = page(db, monkeypatch, head="L1H2", population="all")
    assert not app.exception
    (row,) = Warehouse(db).sql(f"FROM head_repair WHERE {HEAD} AND population = 'all'").to_dicts()
    assert app.header[0].value == "L1H2"
    assert value_of(app, "Mean self-repair") == f"{row['mean_self_repair']:.4f}"
    assert value_of(app, "Self-repair / direct") == f"{row['total_fraction_of_effect']:.1%}"
    (noise,) = Warehouse(db).sql(f"FROM head_noise WHERE {HEAD}").to_dicts()
    facts = {row["Number"]: (row["Value"], row["Meaning"]) for table in tables(app) for row in table if "Number" in row}
    slope = column("head_noise", "slope")
    assert facts["Slope [logits per logit]"] == (f"{noise['slope']:.4f}", slope.description)


def test_its_strongest_rows_are_told_and_open_their_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = page(db, monkeypatch, head="L1H2")
    top = Warehouse(db).sql(head_queries.top_rows(HEAD, head_queries.TOP_ROW_COLUMNS))
    (html,) = (html.proto.body for html in app.get("html") if 'target="_blank"' in html.proto.body)
    links = [dict(parse_qsl(urlsplit(unescape(link)).query)) for link in re.findall('href="([^"]*)"', html)]
    assert [(link["prompt"], link["pinned"]) for link in links] == [
        (str(prompt), str(pos)) for prompt, pos in top.select("prompt_id", "pos").iter_rows()
    ]
    assert {link["head"] for link in links} == {"L1H2"}
    told = next(table for table in tables(app) if "Effect rank" in table[0])
    assert [row["Direct effect [logits]"] for row in told] == [f"{value:.4f}" for value in top["direct_effect"]]


def test_every_query_of_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    statements = [code.value for code in opened("heads", db, monkeypatch).code]
    assert len(statements) >= 9
    for statement in statements:
        assert Warehouse(db).sql(statement).height > 0


@pytest.mark.parametrize("name", first_of_each(6, measures()))
def test_every_measure_can_be_mapped(name: str, shared: Path) -> None:
    measure = measures()[name]
    effect = " AND measure = 'self_repair'" if measure.view == "head_tail" else ""
    population = " AND population = 'all'" if measure.view == "head_repair" else ""
    frame = Warehouse(shared).sql(
        f"SELECT layer, head, label, {name} FROM {measure.view} WHERE run_id = 1 AND ablation = 'zero'{effect}{population}"
    )
    assert frame.height == 12
    cells, _ = head_map(frame, name, words=measure.title, centre=measure.centre).to_dict()["layer"]
    low, high = cells["encoding"]["color"]["scale"]["domain"]
    values = frame[name].drop_nulls()
    assert low < high
    assert values.is_between(low, high).sum() >= 0.9 * values.len()
    if measure.centre is not None:
        assert (low + high) / 2 == pytest.approx(measure.centre)
    else:
        assert values.len() == 0 or values.min() >= 0


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loaded(tmp_path_factory.mktemp("heads"))


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_tail_is_drawn_above_zero_only(effect: str, shared: Path) -> None:
    curve = Warehouse(shared).sql(head_queries.tail_curve(HEAD, effect))
    assert curve.height > 0
    assert curve["value"].min() > 0


def test_bins_hold_every_prompt_once_and_never_both_signs(shared: Path) -> None:
    bins = Warehouse(shared).sql(head_queries.prompt_bins(HEAD))
    means = Warehouse(shared).sql(f"SELECT mean_self_repair FROM prompt_repair WHERE {HEAD}")["mean_self_repair"]
    assert bins["n_prompts"].sum() == means.len() == 6
    for low, high, n_prompts in bins.rows():
        assert ((means >= low) & (means < high)).sum() == n_prompts
        assert low >= 0 or high <= 1e-12


@pytest.mark.parametrize("of_effect", [False, True])
def test_parts_add_up_to_the_total(of_effect: bool, shared: Path) -> None:
    columns = {part: column for part, column in head_queries.PARTS.items() if part != "post-norm"}
    parts = Warehouse(shared).sql(head_queries.parts(HEAD, "all", columns, of_effect=of_effect))
    value = dict(parts.select("part", "value").iter_rows())
    assert list(value) == ["total", "LayerNorm", "attention", "MLP"]
    assert value["total"] == pytest.approx(value["LayerNorm"] + value["attention"] + value["MLP"], abs=2e-4)
    assert ((parts["low"] < parts["value"]) & (parts["value"] < parts["high"])).all()


def test_post_norm_repair_is_shown_where_the_model_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="normed", post_norms=True, seed=3))
    for model, has_it in (("normed", True), ("tiny-model", False)):
        app = opened("heads", db, monkeypatch, model=model, population="all", unit="fraction of direct effect")
        (parts,) = (pl.from_pandas(table.value) for table in app.dataframe if "part" in table.value)
        names = ["total", "LayerNorm", "attention", "MLP", *(["post-norm"] if has_it else [])]
        assert parts["part"].to_list() == names
        assert parts["value"][0] == pytest.approx(parts["value"][1:].sum(), abs=3e-4)
        assert ("Mean post-norm repair" in app.selectbox(key="measure").options) == has_it
        assert any("repair_post_norm" in table.value for table in app.dataframe) == has_it
    app = opened("heads", db, monkeypatch, model="normed", measure="clipped_post_norm_fraction")
    assert app.selectbox(key="measure").value == "clipped_post_norm_fraction"


def test_sampled_rows_are_rows_of_the_head(shared: Path) -> None:
    drawn = Warehouse(shared).sql(head_queries.sampled_rows(HEAD))
    whole = Warehouse(shared).sql(f"SELECT {', '.join(drawn.columns)} FROM self_repair WHERE {HEAD}")
    assert drawn.sort("prompt_id", "pos").equals(whole.sort("prompt_id", "pos"))  # fewer than are drawn at most


@pytest.mark.parametrize(
    "shape",
    [
        {"n_units": 1, "prompts_per_unit": 1, "ablations": ("zero",)},
        {"n_layers": 1, "n_heads": 3, "n_units": 1},
        {"seq_len": 2},
    ],
    ids=["one prompt, one ablation", "one layer", "only first positions"],
)
@pytest.mark.parametrize("population", first_of_each(2, ["top2", "top2_nobos"]))
@pytest.mark.slow
def test_odd_runs(shape: dict[str, Any], population: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(made(tmp_path, **shape), monkeypatch, population=population)
    assert not app.exception
    assert app.header[0].value.startswith("L")
    if shape == {"seq_len": 2} and population == "top2_nobos":
        assert "no rows" in app.info[0].value


def test_a_mangled_link_shows_something_else_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(loaded(tmp_path), monkeypatch, head="L99H<b>", measure="DROP TABLE", effect="'", unit="yards")
    assert not app.exception
    assert len(app.warning) == 4
    assert app.selectbox(key="measure").value == "mean_self_repair"


def test_no_file_and_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not page(tmp_path / "none.duckdb", monkeypatch).exception
    app = page(installed(tmp_path), monkeypatch)
    assert not app.exception
    assert not app.header


def test_a_click_chooses_the_head_and_one_beside_all_heads_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {"head": "L0H0"}
    monkeypatch.setattr(head_click, "choose", state.__setitem__)

    def selected(*labels: str) -> dict[str, Any]:
        return {"selection": {HEAD_SELECTION: [{"label": label} for label in labels]}}

    head_click.select_clicked([], selected())
    assert state == {"head": "L0H0"}
    for before, after, clicked in (
        ([], ["L2H3"], "L2H3"),
        (["L2H3"], ["L2H3", "L0H1"], "L0H1"),
        (["L2H3", "L0H1"], ["L0H1"], "L2H3"),  # once more on the first one, which takes it out
        (["L0H1"], [], "L0H1"),
        (["L9H9", "L9H8"], ["L1H1"], "L1H1"),  # a page that has forgotten what was clicked before
    ):
        head_click.select_clicked(before, selected(*after))
        assert state == {"head": clicked}


def test_a_click_leaves_no_warning_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> None:
        import polars as pl
        import streamlit as st

        from selfrepair.app.controls import head, head_click
        from selfrepair.app.data import chosen

        clicked = {"selection": {"cell": [{"label": "L0H0"}]}}
        chosen.place_notices()
        st.button("click", on_click=head_click.select_clicked, args=([], clicked))
        head.choose_head(pl.DataFrame({"label": ["L0H0", "L0H1"], "mean_direct_effect": [0.5, 2.0]}))

    monkeypatch.setattr(policies, "_shown_default_value_warning", False)
    warned: list[Any] = []
    monkeypatch.setattr(policies, "_LOGGER", SimpleNamespace(warning=lambda *told, **_: warned.append(told)))
    app = AppTest.from_function(script).run()
    assert app.selectbox(key="head").value == "L0H1"
    app.button[0].click().run()
    assert app.selectbox(key="head").value == "L0H0"
    assert warned == []


@pytest.mark.parametrize(("name", "maps"), [("heads", 1), ("compare", 3)])
def test_the_page_tells_of_heads_beyond_the_colours(
    name: str, maps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(color_domain_module, "color_domain", lambda columns, centre: (-1e-6, 1e-6))
    told = said(opened(name, loaded(tmp_path), monkeypatch)).splitlines()
    assert told.count("Colours saturate at ±1e-06 [logits]; 12 heads are beyond.") == maps


def test_what_stands_below_a_picture_is_made_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(loaded(tmp_path), monkeypatch)
    n_tables = len(app.dataframe)
    assert not app.get("download_button")
    assert not app.code
    app.session_state["head_map data"] = True
    app.run()
    assert len(app.dataframe) == n_tables + 1
    assert len(app.code) == 1
    files = app.get("download_button")
    assert [button.label for button in files] == ["CSV", "Parquet", "SVG", "PNG"]
    assert all(button.proto.ignore_rerun for button in files)  # the page drawn anew would take the others' files away
    assert not app.exception
