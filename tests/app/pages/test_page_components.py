"""The page Components: its pictures are drawn from what the views return, and every state of a warehouse is a page."""

import math
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.models.frozen_layernorm import free_against_frozen
from selfrepair.app.charts.models.layernorm_histogram import ratio_histograms, with_empty_bins
from selfrepair.app.charts.models.repair_parts import stacked_parts
from selfrepair.app.charts.models.sensitivity import DEFINITIONS, sensitivity_grid
from selfrepair.app.charts.style.palette import ABLATIONS, PARTS
from selfrepair.warehouse.database.connection import open_writer
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import loaded, stored
from support.pages import opened, said

LOGITS = {"LayerNorm": "mean_repair_layernorm", "attention": "mean_repair_attention", "MLP": "mean_repair_mlp"}
PICTURES = ["layer_repair", "frozen_layernorm", "layernorm_histogram", "repair_sensitivity", "repair_by_token"]


def data(app: AppTest) -> dict[str, pl.DataFrame]:
    """What is below each picture, by the view that its SQL asks."""
    views = [sql.value.split("FROM ")[1].split("\n")[0] for sql in app.code]
    return dict(zip(views, (pl.from_pandas(frame.value) for frame in app.dataframe), strict=True))


def test_every_picture_has_the_rows_that_its_sql_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened("components", db, monkeypatch, ablation="zero", population="all")
    assert list(data(app)) == PICTURES
    for sql, shown in zip(app.code, data(app).values(), strict=True):
        assert shown.rows() == Warehouse(db).sql(sql.value).rows() != []


def test_layers_are_those_of_the_ablation_and_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened(
        "components", db, monkeypatch, ablation="mean", population="top2_nobos", unit="fraction of direct effect"
    )
    view = Warehouse(db).view("layer_repair", ablation="mean", population="top2_nobos").sort("layer")
    columns = ["layer", "total_fraction_of_effect", "layernorm_fraction_of_effect", "mlp_fraction_of_effect"]
    assert data(app)["layer_repair"].select(columns).rows() == view.select(columns).rows()


@pytest.mark.parametrize("level", ["model", "head"])
def test_shares_above_1_are_the_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    db = loaded(tmp_path)
    link = {"level": "one head", "head": "L2H1"} if level == "head" else {}
    app = opened("components", db, monkeypatch, population="all", **link)
    which = {"level": level} | ({"label": "L2H1"} if level == "head" else {})
    ratios = Warehouse(db).view("layernorm_ratio", population="all", **which)
    wanted = {row["ablation"]: f"{row['share_above_1']:.1%}" for row in ratios.to_dicts()}
    assert {metric.label.partition(":")[0]: metric.value for metric in app.metric} == wanted
    assert len(set(wanted.values())) > 1


def test_one_head_is_told_from_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    of_all = data(opened("components", db, monkeypatch))
    of_one = data(opened("components", db, monkeypatch, level="one head", head="L1H2", fraction_of="MLP"))
    for view in ("layernorm_histogram", "repair_sensitivity", "repair_by_token"):
        assert sum(of_all[view]["n_rows"]) > sum(of_one[view]["n_rows"]), view
    (paper,) = Warehouse(db).view(
        "repair_sensitivity",
        ablation="resample",
        label="L1H2",
        part="mlp",
        top_percent=2,
        with_first=True,
        clipped=True,
        average="mean of ratios",
    )["fraction"]
    shown = of_one["repair_sensitivity"].row(by_predicate=_PAPER, named=True)
    assert shown["fraction"] == pytest.approx(paper)


_PAPER = (
    (pl.col("top_percent") == 2)
    & (pl.col("average") == "mean of ratios")
    & pl.col("clipped").eq(True)
    & pl.col("with_first").eq(True)
)


def test_kinds_of_target_by_the_dimension_of_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    shown = data(opened("components", db, monkeypatch, dimension="position", population="all"))["repair_by_token"]
    view = Warehouse(db).view(
        "repair_by_token", ablation="resample", population="all", level="model", dimension="position"
    )
    assert shown["bucket"].to_list() == view.sort("bucket_order")["bucket"].to_list() == ["0", "1-3"]


def test_post_norm_repair_is_in_every_picture_of_a_model_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="normed", post_norms=True, seed=3))
    shown = data(opened("components", db, monkeypatch, model="normed", population="all", fraction_of="post-norm"))
    layers = shown["layer_repair"]
    parts = [*LOGITS.values(), "mean_repair_post_norm"]
    assert layers.select(pl.sum_horizontal(parts)).to_series().to_list() == pytest.approx(
        layers["mean_self_repair"].to_list(), abs=3e-4
    )
    assert layers["mean_repair_post_norm"].abs().min() > 0.01
    assert shown["repair_by_token"]["mean_repair_post_norm"].null_count() == 0
    (papers,) = shown["repair_sensitivity"].filter(_PAPER)["fraction"]
    (of_run,) = Warehouse(db).view("model_repair", run_id=2, ablation="resample", population="top2").to_dicts()
    assert papers == pytest.approx(of_run["clipped_post_norm_fraction"], rel=1e-6)
    app = opened("components", db, monkeypatch, model="tiny-model", fraction_of="post-norm")
    assert "does not exist here" in said(app)
    assert not any("post_norm" in name for frame in data(app).values() for name in frame.columns)


def test_a_mangled_link_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("components", loaded(tmp_path), monkeypatch, level="x", head="L99H1'", dimension="", fraction_of="ÿ")
    assert list(data(app)) == PICTURES
    assert "does not exist here" in said(app)


@pytest.mark.slow
def test_a_run_with_one_head_and_one_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate(n_layers=1, n_heads=4, ablations=("mean",), n_units=1, prompts_per_unit=2))
    app = opened("components", db, monkeypatch, level="one head")
    assert [metric.label.partition(":")[0] for metric in app.metric] == ["mean"]
    assert data(app)["layer_repair"]["layer"].to_list() == [0]


def test_runs_are_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3, n_layers=2))
    for model, n_layers in (("tiny-model", 3), ("other-model", 2)):
        app = opened("components", db, monkeypatch, model=model)
        assert data(app)["layer_repair"]["layer"].to_list() == list(range(n_layers))


def test_without_summaries_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    with open_writer(db) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    assert "selfrepair refresh" in said(opened("components", db, monkeypatch))


def test_without_a_file_or_runs_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("components", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")
    assert "selfrepair demo" in said(opened("components", installed(tmp_path), monkeypatch)).replace("\\", "")


def test_stacks_hold_every_part_and_its_sign() -> None:
    frame = pl.DataFrame(
        {
            "layer": [0, 1],
            "mean_self_repair": [0.25, -0.5],
            "mean_repair_layernorm": [0.5, 0.125],
            "mean_repair_attention": [-0.25, -0.125],
            "mean_repair_mlp": [0.0, -0.5],
            "n_rows": [3, 4],
        }
    )
    chart = stacked_parts(
        frame, "layer_repair", LOGITS, "mean_self_repair", x="layer", x_title="Layer", order="layer", more=["n_rows"]
    )
    spec = chart.to_dict()
    bars, totals = spec["layer"][0], spec["layer"][2]
    rows = spec["datasets"][bars["data"]["name"]]
    assert {(row["layer"], row["part"]): row["value"] for row in rows} == {
        (0, "LayerNorm"): 0.5,
        (0, "attention"): -0.25,
        (0, "MLP"): 0.0,
        (1, "LayerNorm"): 0.125,
        (1, "attention"): -0.125,
        (1, "MLP"): -0.5,
    }
    assert bars["encoding"]["y"]["stack"] == "zero"
    colours = {part: PARTS[part] for part in LOGITS}
    assert bars["encoding"]["color"]["scale"] == {"domain": list(colours), "range": list(colours.values())}
    assert totals["encoding"]["y"]["field"] == "mean_self_repair"


def test_a_stack_with_post_norm_repair_has_a_colour_more() -> None:
    parts = {**LOGITS, "post-norm": "mean_repair_post_norm"}
    frame = pl.DataFrame({"layer": [0], "mean_self_repair": [0.5], **dict.fromkeys(parts.values(), 0.125)})
    spec = stacked_parts(
        frame, "layer_repair", parts, "mean_self_repair", x="layer", x_title="Layer", order="layer"
    ).to_dict()
    bars = spec["layer"][0]
    assert bars["encoding"]["color"]["scale"] == {"domain": list(PARTS), "range": list(PARTS.values())}
    assert [row["part"] for row in spec["datasets"][bars["data"]["name"]]] == list(PARTS)


def test_bins_without_rows_are_drawn_as_such() -> None:
    bins = pl.DataFrame(
        {
            "ablation": ["mean", "mean", "zero"],
            "bin_low": [0.99, 1.005, 1.0],
            "bin_high": [0.995, 1.01, 1.005],
            "n_rows": [3, 1, 4],
            "bin_share": [0.75, 0.25, 1.0],
        }
    )
    filled = with_empty_bins(bins)
    mean = filled.filter(pl.col("ablation") == "mean")
    assert mean["bin_low"].to_list() == pytest.approx([0.985, 0.99, 0.995, 1.0, 1.005, 1.01])
    assert mean["n_rows"].to_list() == [0, 3, 0, 0, 1, 0]
    assert filled.group_by("ablation").agg(pl.col("bin_share").sum())["bin_share"].to_list() == [1.0, 1.0]
    outlines, one, hovered = ratio_histograms(bins).to_dict()["layer"]
    assert outlines["encoding"]["color"]["scale"] == {
        "domain": ["mean", "zero"],
        "range": [ABLATIONS["mean"], ABLATIONS["zero"]],
    }
    assert [tip["field"] for tip in hovered["encoding"]["tooltip"]] == ["bin_low", "bin_high", "mean", "zero"]
    assert one["encoding"]["x"]["field"] == "one"


def test_the_paper_s_own_cell_has_a_frame() -> None:
    cells = pl.DataFrame(
        [
            {
                "average": average,
                "clipped": clipped,
                "with_first": first,
                "top_percent": top,
                "fraction": None if top == 100 else -0.3,
                "n_rows": 5,
                "undefined_ratios": 1,
            }
            for average in ("mean of ratios", "ratio of means")
            for clipped in (True, False)
            for first in (True, False)
            for top in (2.0, 100.0)
        ]
    )
    spec = sensitivity_grid(cells).to_dict()
    rows = next(iter(spec["datasets"].values()))
    assert [(row["definition"], row["top_percent"]) for row in rows if row["paper"]] == [(DEFINITIONS[0], 2.0)]
    assert {row["definition"] for row in rows} == set(DEFINITIONS)
    low, centre, high = spec["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert (centre, low) == (0, -high)


def test_the_diagonal_spans_all_heads() -> None:
    heads = pl.DataFrame(
        {
            "label": ["L0H0", "L0H1"],
            "layer": [0, 0],
            "n_rows": [4, 4],
            "mean_logit_change": [-2.0, 0.5],
            "mean_frozen_logit_change": [-3.0, None],
            "mean_repair_layernorm": [1.0, 0.1],
            "larger_frozen_share": [0.5, 0.25],
        }
    )
    spec = free_against_frozen(heads).to_dict()
    diagonal = spec["datasets"][spec["layer"][0]["data"]["name"]]
    assert [(point["x"], point["y"]) for point in diagonal] == [(-3.0, -3.0), (0.5, 0.5)]
    assert all(math.isfinite(point["x"]) for point in diagonal)
