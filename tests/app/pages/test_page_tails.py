"""The page of tails: its pictures are drawn from what the views return, and every state of a warehouse is a page."""

from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.heads.heatmap import HEAD_SELECTION
from selfrepair.app.charts.heads.ranks import effect_against_ablation, is_labelled
from selfrepair.app.charts.heads.tails import HEADS, hill_curves, lorenz_curves, tail_curves
from selfrepair.app.components.figure import spec_of
from selfrepair.app.wording.columns import column
from selfrepair.warehouse.database.connection import open_writer
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import loaded, stored
from support.pages import opened, said, tables

PICTURES = ["head_tail", "tail_curve", "lorenz_curve", "hill_curve", "importance_rank"]


def data(app: AppTest) -> dict[str, pl.DataFrame]:
    """What is below each picture or table, by the view that its SQL asks."""
    views = [sql.value.split("FROM ")[1].split("\n")[0] for sql in app.code]
    return dict(zip(views, (pl.from_pandas(frame.value) for frame in app.dataframe), strict=True))


def metric(app: AppTest, words: str) -> str:
    (found,) = (str(each.value) for each in app.metric if words in each.label)
    return found


def test_all_numbers_of_its_heads_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("tails", loaded(tmp_path), monkeypatch, ablation="zero", effect="abs_logit_change", head="L1H3")
    numbers = data(app)["head_tail"]
    (table,) = tables(app)
    gini = next(row for row in table if row["Number"] == "Gini [ratio]")
    assert list(gini) == ["Number", *numbers["label"], "Meaning"]
    assert [gini[label] for label in numbers["label"]] == [f"{value:.4f}" for value in numbers["gini"]]
    assert gini["Meaning"] == column("head_tail", "gini").description
    assert len(table) == numbers.width - numbers.columns.index("n_rows")


def test_every_picture_has_the_rows_that_its_sql_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened("tails", db, monkeypatch, ablation="zero", population="all", effect="abs_logit_change", head="L1H3")
    assert list(data(app)) == PICTURES
    for sql, shown in zip(app.code, data(app).values(), strict=True):
        assert shown.rows() == Warehouse(db).sql(sql.value).rows() != []


def test_numbers_are_those_of_the_chosen_head_and_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened("tails", db, monkeypatch, head="L2H1", effect="abs_self_repair", ablation="mean")
    (tail,) = Warehouse(db).view("head_tail", label="L2H1", measure="abs_self_repair", ablation="mean").to_dicts()
    assert metric(app, "Gini") == f"{tail['gini']:.3f}"
    assert metric(app, "Share top 2") == f"{tail['share_top_2']:.1%}"
    assert metric(app, "Excess kurtosis") == f"{tail['excess_kurtosis']:,.1f}"
    assert data(app)["head_tail"]["label"][0] == "L2H1"


def test_agreement_is_that_of_the_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened("tails", db, monkeypatch, population="all", ablation="zero")
    (found,) = Warehouse(db).view("rank_agreement", population="all", ablation="zero").to_dicts()
    assert metric(app, "Spearman") == f"{found['spearman']:.3f}"
    assert metric(app, "Kendall") == f"{found['kendall_tau']:.3f}"
    assert metric(app, "Top 10") == f"{found['top10_overlap']:.0%}"


def test_heads_beside_the_chosen_one_come_from_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("tails", loaded(tmp_path), monkeypatch, head="L0H2", others="L2H3")
    assert set(data(app)["tail_curve"]["label"]) == {"L0H2", "L2H3"}
    app.multiselect(key="others").set_value([]).run()
    assert set(data(app)["lorenz_curve"]["label"]) == {"L0H2"}


def test_sizes_alone_have_a_lorenz_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("tails", loaded(tmp_path), monkeypatch, effect="logit_change")
    queries = {sql.value.split("FROM ")[1].split("\n")[0]: sql.value for sql in app.code}
    assert "measure = 'abs_logit_change'" in queries["lorenz_curve"]
    assert "measure = 'logit_change'" in queries["tail_curve"]


def test_before_any_choice_the_strongest_head_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    heads = Warehouse(db).view("head_repair", ablation="resample", population="all")
    strongest = heads.sort("mean_direct_effect", descending=True)["label"].to_list()
    app = opened("tails", db, monkeypatch)
    assert app.selectbox(key="head").value == strongest[0]
    assert app.multiselect(key="others").value == [strongest[len(strongest) // 2], strongest[-1]]


def test_a_mangled_link_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("tails", loaded(tmp_path), monkeypatch, head="'; --", others="<b>", effect="gini", population="ÿ")
    assert list(data(app)) == PICTURES
    assert app.selectbox(key="effect").value == "abs_self_repair"
    assert [warning.value for warning in app.warning if "does not exist" in warning.value] == [
        warning.value for warning in app.warning
    ]
    assert len(app.warning) == 4


@pytest.mark.slow
def test_heads_too_few_to_rank_and_rows_too_few_for_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(
        tmp_path,
        fabricate(n_layers=1, n_heads=4, ablations=("mean",), n_units=1, prompts_per_unit=2, seq_len=2),
    )
    app = opened("tails", db, monkeypatch, effect="direct_effect")
    assert metric(app, "Hill 2") == "none"
    assert data(app)["importance_rank"].height == 4


def test_runs_are_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3, n_layers=2))
    for model, n_heads in (("tiny-model", 12), ("other-model", 8)):
        ranks = data(opened("tails", db, monkeypatch, model=model))["importance_rank"]
        assert (ranks.height, set(ranks["model"])) == (n_heads, {model})


def test_without_summaries_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    with open_writer(db) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    assert "selfrepair refresh" in said(opened("tails", db, monkeypatch))


def test_without_a_file_or_runs_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("tails", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")
    assert "selfrepair demo" in said(opened("tails", installed(tmp_path), monkeypatch)).replace("\\", "")


def test_tails_are_drawn_on_logarithmic_axes_from_all_rows_down() -> None:
    points = pl.DataFrame(
        {"label": ["L0H0", "L0H0"], "value": [0.5, 2.0], "n_reached": [4, 1], "reached_share": [0.4, 0.1]}
    )
    spec = tail_curves(points, ["L1H1", "L0H0"], "abs_self_repair").to_dict()
    encoding = spec["encoding"]
    assert encoding["x"]["scale"]["type"] == encoding["y"]["scale"]["type"] == "log"
    assert encoding["y"]["scale"]["domainMax"] == 1.0
    assert encoding["x"]["title"] == "Absolute self-repair [logits]"
    assert encoding["color"]["scale"] == {"range": list(HEADS)}
    assert encoding["color"]["sort"] == {"field": "place", "op": "min"}
    rows = spec["datasets"][spec["data"]["name"]]
    assert [(row["label"], row["value"]) for row in rows] == [
        ("L1H1", None),
        ("L0H0", None),
        ("L0H0", 0.5),
        ("L0H0", 2.0),
    ]
    assert [row["is_first"] for row in rows] == [True, False, False, False]
    assert [row["place"] for row in rows] == [0, 1, None, None]


def test_other_heads_are_drawn_into_the_pictures_that_are_there() -> None:
    points = pl.DataFrame(
        {
            **{"label": ["L0H0", "L0H1"], "value": [0.5, 2.0], "n_reached": [4, 1], "reached_share": [0.4, 0.1]},
            **{"lowest_share": [0.25, 0.5], "total_share": [0.125, 0.25], "n_top": [1, 2], "top_share": [0.25, 0.5]},
            **{"cut_value": [1.0, 0.5], "hill": [2.0, 9.0], "hill_se": [0.5, 0.25]},
        }
    )
    for draw in (lambda p, labels: tail_curves(p, labels, "self_repair"), lorenz_curves, hill_curves):
        one, two = spec_of(draw(points, ["L0H0"])), spec_of(draw(points[1:], ["L0H1", "L9H9", "L0H0"]))
        assert {**one, "datasets": ()} == {**two, "datasets": ()}
        assert one["datasets"].keys() == two["datasets"].keys()


def test_lorenz_curves_stand_beside_the_line_of_equal_rows() -> None:
    points = pl.DataFrame({"label": ["L0H0"] * 3, "lowest_share": [0.0, 0.5, 1.0], "total_share": [0.0, 0.1, 1.0]})
    spec = lorenz_curves(points, ["L0H0"]).to_dict()
    diagonal = spec["datasets"][spec["layer"][0]["data"]["name"]]
    assert diagonal == [{"lowest_share": 0.0, "total_share": 0.0}, {"lowest_share": 1.0, "total_share": 1.0}]


def test_the_axis_of_the_hill_plot_ends_where_indices_settle() -> None:
    points = pl.DataFrame(
        {
            "label": ["L0H0"] * 3,
            "n_top": [1, 100, 1000],
            "top_share": [0.0001, 0.01, 0.1],
            "cut_value": [3.0, 2.0, 1.0],
            "hill": [400.0, 5.0, 3.0],
            "hill_se": [400.0, 0.5, 0.1],
        }
    )
    spec = hill_curves(points, ["L0H0"]).to_dict()
    interval, limits, end, curves = spec["layer"]
    assert curves["encoding"]["y"]["scale"] == {"domainMin": 0, "nice": False}
    assert [row["limit"] for row in spec["datasets"][limits["data"]["name"]]] == [1.0, 2.0]
    assert spec["datasets"][end["data"]["name"]] == [{"end": pytest.approx(7.0)}]
    assert [row["hill"] for row in spec["datasets"][curves["data"]["name"]]] == [None, None, 5.0, 3.0]
    rows = spec["datasets"][interval["data"]["name"]]
    assert [(row["low"], row["high"]) for row in rows][:2] == [
        (0.0, pytest.approx(7.0)),
        (pytest.approx(4.02), pytest.approx(5.98)),
    ]


def ranks(moves: list[int]) -> pl.DataFrame:
    """Heads in order of direct effect, each with how far ablation moves it."""
    return pl.DataFrame(
        {
            "label": [f"L0H{i}" for i in range(len(moves))],
            "direct_effect_rank": range(1, len(moves) + 1),
            "logit_change_rank": [i + 1 + move for i, move in enumerate(moves)],
            "rank_difference": moves,
            "mean_direct_effect": [1.0 - i / 100 for i in range(len(moves))],
            "mean_logit_change": [-0.5] * len(moves),
            "mean_self_repair": [0.25] * len(moves),
            "missed_in_top10": [i < 10 < i + 1 + move for i, move in enumerate(moves)],
            "missed_in_top20": [False] * len(moves),
        }
    )


def test_heads_that_move_most_or_are_missed_have_a_name() -> None:
    heads = ranks([0, 3, *[-1] * 7, 1, -2, *[5] * 10, 0])
    assert heads.filter(pl.col("missed_in_top10"))["label"].to_list() == ["L0H9"]
    shown = heads.filter(is_labelled(heads))["label"].to_list()
    assert shown == ["L0H9", *(f"L0H{i}" for i in range(11, 21))]
    assert not is_labelled(ranks([0, 0])).any()


def test_missed_heads_differ_in_colour_and_shape_and_the_chosen_one_has_a_ring() -> None:
    heads = ranks([*[0] * 9, 4, 0])
    spec = effect_against_ablation(heads, "L0H3").to_dict()
    same, ring, _, dots = spec["layer"]
    rows = {row["label"]: row["found"] for row in spec["datasets"][dots["data"]["name"]]}
    assert [label for label, found in rows.items() if found == "missed in the top 10"] == ["L0H9"]
    assert dots["encoding"]["color"]["field"] == dots["encoding"]["shape"]["field"] == "found"
    assert [row["label"] for row in spec["datasets"][ring["data"]["name"]]] == ["L0H3"]
    assert [row["direct_effect_rank"] for row in spec["datasets"][same["data"]["name"]]] == [1, 11]
    assert [param["name"] for param in spec["params"]] == [HEAD_SELECTION]
