"""The page of who repairs whom: what it shows is what the views return, and a run without says how to measure it."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.heads.heatmap import HEAD_SELECTION
from selfrepair.app.charts.mechanisms.edge_graph import MAX_EDGES, MAX_OF_CHOSEN, edge_graph, largest_edges
from selfrepair.app.charts.mechanisms.edge_matrix import edge_matrix
from selfrepair.queries.marts import refresh as marts
from selfrepair.warehouse.database.connection import open_writer
from support.measured import WITHOUT, measured
from support.pages import opened, said

RUN = {"model": "tiny-model", "ablation": "mean", "population": "all"}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("edges"))


def page(db: Path, monkeypatch: pytest.MonkeyPatch, **link: str) -> AppTest:
    return opened("who_repairs", db, monkeypatch, **{"head": "L0H2", "ablation": "mean", "population": "all", **link})


def frames(app: AppTest) -> list[pl.DataFrame]:
    return [pl.from_pandas(frame.value) for frame in app.dataframe]


def test_every_sql_runs_as_it_stands(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch)
    statements = [code.value for code in app.code if code.language == "sql"]
    assert len(statements) == 9
    for sql in statements:
        assert Warehouse(db).sql(sql).height > 0


@pytest.mark.parametrize("min_change", ["0", "0.01", "0.1"])
def test_pairs_are_those_that_change_by_so_much(min_change: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = frames(page(db, monkeypatch, min_change=min_change))[0]
    every = Warehouse(db).view("who_repairs", **RUN)
    large = every.filter(pl.col("mean_change").abs() >= float(min_change))
    columns = ("label", "target_label", "mean_change")
    assert set(shown.select(columns).rows()) == set(large.select(columns).rows())
    assert 0 < shown.height <= every.height == 4 * (2 * 4 + 3) + 4 * (4 + 2) + 4
    assert shown["mean_change"].abs().is_sorted(descending=True)


def test_where_no_change_is_so_large_it_says_so(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, min_change="1")
    assert "No change is that large" in said(app)
    assert "low" in frames(app)[2].columns  # the bars hide nothing, nor do the layers before them


def test_bars_and_rows_are_of_the_chosen_head(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = frames(page(db, monkeypatch))
    bars, rows = (next(frame for frame in shown if column in frame.columns) for column in ("low", "self_repair"))
    targets = Warehouse(db).view("who_repairs", **RUN, label="L0H2")
    assert set(bars["target_label"]) == set(targets["target_label"])
    (last,) = targets.filter(pl.col("target_label") == "MLP2").to_dicts()
    (bar,) = bars.filter(pl.col("target_label") == "MLP2").to_dicts()
    assert bar["high"] == pytest.approx(last["mean_change_high"])
    of_head = Warehouse(db).view("self_repair", model="tiny-model", ablation="mean", label="L0H2")
    assert rows["self_repair"].to_list() == sorted(of_head["self_repair"], reverse=True)[: rows.height]


def test_layers_are_the_view_heads_on_the_left_and_mlps_on_the_right(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, heads, mlps, *_ = frames(page(db, monkeypatch))
    known = Warehouse(db).view("repair_matrix", **RUN)
    for shown, kind in ((heads, "head"), (mlps, "mlp")):
        wanted = known.filter(pl.col("target_kind") == kind).select(shown.columns)
        assert shown.height > 0
        assert sorted(shown.rows()) == sorted(wanted.rows())


def test_both_layer_pictures_have_the_same_colours(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charts = [json.loads(chart.proto.spec) for chart in page(db, monkeypatch).get("vega_lite_chart")]
    domains = [
        chart["encoding"]["color"]["scale"]["domain"]
        for chart in charts
        if chart.get("encoding", {}).get("x", {}).get("field") == "target_layer"
    ]
    assert len(domains) == 2
    assert domains[0] == domains[1] == [-domains[0][1], domains[0][1]]


def test_backups_are_the_view_in_order_of_score(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = frames(page(db, monkeypatch))[-1]
    known = Warehouse(db).view("backup_heads", **RUN)
    assert backups.rows() == known.select(backups.columns).rows()
    assert backups.rows() == backups.sort("score", descending=True, nulls_last=True, maintain_order=True).rows()


def test_without_position_0_is_with_it_and_says_so(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, population="top2_nobos")
    assert "population = 'top2'\n" in app.code[0].value or "population = 'top2' " in app.code[0].value
    assert "with position 0" in said(app)


def test_heads_of_the_last_layer_have_its_mlp_alone(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, head="L2H0")
    bars = next(frame for frame in frames(app) if "low" in frame.columns)
    assert bars["target_label"].to_list() == ["MLP2"]


def test_given_heads_without_the_run_to_compare_with_say_what_measures_it(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page(db, monkeypatch)
    (command,) = (code.value for code in app.code if code.language == "bash")
    assert command.startswith("selfrepair ingest --model tiny-model ")
    assert "--given" not in command
    assert "--edges" in command
    assert "against the same run without given heads" in said(app)


def test_hidden_backups_stand_below_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = measured(tmp_path)
    with open_writer(db) as con:  # the other run becomes the same one without given heads
        con.execute(
            "UPDATE runs SET given_heads = [], model_id = (SELECT model_id FROM runs WHERE run_key = 'with'),"
            " dataset_id = (SELECT dataset_id FROM runs WHERE run_key = 'with') WHERE run_key = 'without'"
        )
    (run,) = Warehouse(db).sql("SELECT run_id FROM runs WHERE run_key = 'with'")["run_id"]
    app = page(db, monkeypatch, run=str(run))
    known = Warehouse(db).sql(
        f"FROM co_ablation WHERE run_id = {run} AND ablation = 'mean' AND population = 'all' ORDER BY growth_rank"
    )
    shown = frames(app)[-1]
    assert known.height == 11
    assert shown.rows() == known.select(shown.columns).rows()


def test_rerouting_is_the_views(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch)
    assert "Re-routing" in [header.value for header in app.header]
    pairs, experts = (
        next(frame for frame in frames(app) if column in frame.columns) for column in ("rerouted_share", "expert_label")
    )
    known = Warehouse(db).view("rerouting", **RUN)
    assert set(pairs.rows()) == set(known.select(pairs.columns).rows())
    assert pairs.height == 4 * (3 + 2 + 1)
    of_head = Warehouse(db).view("expert_repair", **RUN, label="L0H2").filter(pl.col("mean_change").is_not_null())
    assert set(experts["mean_change"]) <= set(of_head["mean_change"])
    assert experts.height == min(24, of_head.height)
    assert experts["mean_change"].abs().is_sorted(descending=True)


def test_a_run_without_experts_shows_no_rerouting(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "w.duckdb"
    copy.write_bytes(db.read_bytes())
    with open_writer(copy) as con:
        con.execute("UPDATE runs SET mechanisms = list_filter(mechanisms, lambda name: name <> 'experts')")
    app = page(copy, monkeypatch)
    assert "Backup heads" in [header.value for header in app.header]
    assert "Re-routing" not in [header.value for header in app.header]


def test_a_run_without_edges_says_what_measures_them(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("who_repairs", db, monkeypatch, model=WITHOUT)
    command = app.code[0].value
    assert command.startswith(f"selfrepair ingest --model {WITHOUT} ")
    assert " --edges" in command
    assert not app.dataframe


def test_without_a_file_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("who_repairs", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")


def edges(n: int) -> pl.DataFrame:
    """`n` changes of L0H0, then n of L0H1, the largest first."""
    return pl.DataFrame(
        {
            "label": ["L0H0"] * n + ["L0H1"] * n,
            "target_label": ["L1H0", "MLP1"] * n,
            "mean_change": [(-1) ** i / (i + 1) for i in range(2 * n)],
            "standard_error": [0.5] * (2 * n),
            "share_of_effect": [0.25] * (2 * n),
            "n_rows": [9] * (2 * n),
        }
    )


def test_the_graph_has_the_largest_edges_and_those_of_the_chosen_head() -> None:
    many = edges(MAX_EDGES + 1)
    assert largest_edges(many, "L0H0").height == MAX_EDGES
    own = largest_edges(many, "L0H1")
    assert own.height == MAX_EDGES + MAX_OF_CHOSEN
    assert own.filter(pl.col("label") == "L0H1").height == MAX_OF_CHOSEN


def test_lines_go_from_the_ablated_head_to_what_changes() -> None:
    spec = edge_graph(edges(1), ["L0H0", "L0H1"], ["MLP0", "L1H0", "MLP1"], "L0H0", 2.0).to_dict()
    lines = {row["label"]: row for row in spec["datasets"][spec["layer"][0]["data"]["name"]]}
    first, second = lines["L0H0"], lines["L0H1"]
    assert (first["x"], first["y"], first["x2"], first["y2"], first["sign"]) == (0, 0, 1, 0, "repairs")
    assert (second["x"], second["y"], second["x2"], second["y2"]) == (0, 1, 1.5, 2)
    assert second["sign"] == "adds to the damage"
    assert [param["name"] for param in spec["params"]] == [HEAD_SELECTION]


def test_the_matrix_names_each_layer_once() -> None:
    spec = edge_matrix(edges(1), ["L0H0", "L0H1"], ["MLP0", "L1H0", "MLP1"], "L0H0", (-2.0, 2.0)).to_dict()
    _, cells = spec["layer"]
    assert cells["encoding"]["x"]["scale"]["domain"] == ["MLP0", "L1H0", "MLP1"]
    assert "['L1H0']" in cells["encoding"]["x"]["axis"]["labelExpr"]
    assert cells["encoding"]["color"]["scale"]["domain"] == [-2.0, 2.0]


def test_colours_and_widths_keep_their_meaning_when_small_changes_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = measured(tmp_path)
    with open_writer(db) as con:  # one change is far beyond all others, whose colours it must not take
        con.execute("UPDATE edge_sums SET change = 500 * change WHERE layer = 0 AND head = 2 AND target_kind = 'mlp'")
        marts.refresh(con, [2])

    def domains(min_change: str) -> list[Any]:
        charts = page(db, monkeypatch, min_change=min_change).get("vega_lite_chart")[:2]
        matrix, graph = (json.loads(chart.proto.spec)["layer"] for chart in charts)
        return [matrix[1]["encoding"]["color"]["scale"], graph[0]["encoding"]["strokeWidth"]["scale"]]

    assert domains("0") == domains("0.5")
