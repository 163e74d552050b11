from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy import stats
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.heads.pairs import pair_scatter
from selfrepair.app.data.choice import Choice
from selfrepair.app.data.measures import measures
from selfrepair.app.data.pair import MAX_HEADS_LISTED, Pair
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import loaded, stored
from support.pages import opened

HOME = str(Path(__file__).parents[3] / "app" / "home.py")


def page(db: Path, monkeypatch: pytest.MonkeyPatch, **link: str) -> AppTest:
    monkeypatch.setenv("SELFREPAIR_DB", str(db))
    app = AppTest.from_file(HOME, default_timeout=60).run()
    for name, value in link.items():
        app.query_params[name] = value
    return app.switch_page("app_pages/compare.py").run()


def made(folder: Path, *shapes: dict[str, Any]) -> Path:
    runs = (fabricate(f"run-{number}", seed=11 + number, **shape) for number, shape in enumerate(shapes))
    return stored(folder, *runs)


def metric(app: AppTest, words: str) -> str:
    (found,) = (metric for metric in app.metric if metric.label.startswith(words))
    return str(found.value)


def side(run_id: int, ablation: str, population: str = "top2") -> Choice:
    return Choice({"run_id": run_id}, ablation, population)


def values(
    db: Path, run_id: int, ablation: str, name: str = "mean_self_repair", population: str = "top2"
) -> pl.DataFrame:
    return Warehouse(db).sql(
        f"SELECT layer, head, {name} AS x FROM head_repair "
        f"WHERE run_id = {run_id} AND ablation = '{ablation}' AND population = '{population}'"
    )


def test_first_another_ablation_of_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = page(db, monkeypatch)
    assert not app.exception
    assert (app.selectbox(key="run_b").value, app.selectbox(key="ablation_b").value) == ("1", "mean")
    both = values(db, 1, "resample").join(values(db, 1, "mean"), on=["layer", "head"])
    assert metric(app, "Pearson") == f"{stats.pearsonr(both['x'], both['x_right']).statistic:.4f}"
    assert metric(app, "Spearman") == f"{stats.spearmanr(both['x'], both['x_right']).statistic:.4f}"
    assert metric(app, "Mean of A") == f"{both['x'].mean():.4f}"
    assert metric(app, "Mean |A - B|") == f"{(both['x'] - both['x_right']).abs().mean():.4f}"
    assert not app.info


def test_the_sides_are_never_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(loaded(tmp_path), monkeypatch, ablation_b="zero")
    assert app.selectbox(key="ablation_b").value == "zero"
    app.selectbox(key="ablation").set_value("zero").run()
    assert not app.exception
    assert "zero" not in app.selectbox(key="ablation_b").options
    assert app.selectbox(key="ablation_b").value != "zero"


@pytest.mark.parametrize("name", ["mean_self_repair", "total_fraction_of_effect", "slope", "gini"])
def test_shown_sql_gives_the_differences(name: str, tmp_path: Path) -> None:
    db = loaded(tmp_path)
    pair = Pair(measures()[name], side(1, "resample", "all"), side(1, "zero", "all"), "self_repair")
    heads, most_different = Warehouse(db).sql(pair.heads()), Warehouse(db).sql(pair.most_different())
    assert heads.height == 12
    assert (heads["value_a"] - heads["value_b"]).to_list() == heads["difference"].to_list()
    by_size = heads.sort(pl.col("difference").abs(), descending=True, maintain_order=True)
    assert most_different["label"].to_list() == by_size["label"].to_list()[:MAX_HEADS_LISTED]
    has_error = name in ("mean_self_repair", "total_fraction_of_effect")
    assert heads["difference_in_se"].null_count() == (0 if has_error else 12)


def test_differences_in_standard_errors(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    heads = Warehouse(db).sql(
        Pair(measures()["mean_self_repair"], side(1, "mean", "all"), side(1, "zero", "all"), "self_repair").heads()
    )
    one, other = (values(db, 1, ablation, "mean_self_repair_se", "all")["x"] for ablation in ("mean", "zero"))
    expected = heads["difference"] / (one**2 + other**2).sqrt()
    assert expected.null_count() == 0
    assert heads["difference_in_se"].to_list() == pytest.approx(expected.to_list())


@pytest.mark.slow
def test_other_shapes_are_compared_over_what_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = made(tmp_path, {"model": "wide"}, {"model": "<i>deep</i>", "n_layers": 4, "n_heads": 5})
    numbers = {run["model"]: str(run["run_id"]) for run in Warehouse(db).runs().to_dicts()}
    app = page(db, monkeypatch)
    app.selectbox(key="model").set_value("wide").run()
    app.selectbox(key="run_b").set_value(numbers["<i>deep</i>"]).run()
    assert not app.exception
    assert app.selectbox(key="ablation_b").value in ("resample", "mean", "zero")
    said = " ".join(info.value for info in app.info)
    assert "A has 12 heads and B has 20; compared: the 12" in said
    assert "different models" in said
    assert not any("<i>" in markdown.value for markdown in app.markdown)


def test_another_run_under_the_same_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = made(tmp_path, {"ablations": ("mean",)}, {"ablations": ("mean",)})
    app = page(db, monkeypatch)
    assert not app.exception
    chosen = {app.selectbox(key="run").value, app.selectbox(key="run_b").value}
    assert chosen == {"1", "2"}
    assert app.selectbox(key="ablation_b").value == "mean"


def test_nothing_to_compare_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(made(tmp_path, {"ablations": ("mean",)}), monkeypatch)
    assert not app.exception
    assert "selfrepair ingest" in app.info[0].value
    assert not app.metric


@pytest.mark.slow
def test_heads_that_are_all_alike_have_no_correlation(tmp_path: Path) -> None:
    db = made(tmp_path, {"n_layers": 1, "n_heads": 4})
    pair = Pair(measures()["undefined_ratios"], side(1, "mean"), side(1, "zero"), "self_repair")
    (agreement,) = Warehouse(db).sql(pair.agreement()).to_dicts()
    assert (agreement["n_compared"], agreement["mean_difference"]) == (4, 0)
    assert agreement["pearson"] is None
    assert agreement["spearman"] is None


def test_every_query_of_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    statements = {code.value for code in opened("compare", db, monkeypatch).code}
    assert len(statements) >= 3
    for statement in statements:
        assert Warehouse(db).sql(statement).height > 0


def test_a_mangled_link_shows_something_else_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(loaded(tmp_path), monkeypatch, run_b="99", ablation_b="' OR 1", measure="<b>", head="H")
    assert not app.exception
    assert len(app.warning) == 4


def test_no_file_and_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not page(tmp_path / "none.duckdb", monkeypatch).exception
    app = page(installed(tmp_path), monkeypatch)
    assert not app.exception
    assert not app.metric


def test_the_scatter_has_one_scale_for_both_sides_and_leaves_out_what_is_missing() -> None:
    pairs = pl.DataFrame(
        {
            "label": ["L0H0", "L0H1"],
            "layer": [0, 0],
            "value_a": [1.0, None],
            "value_b": [-1.0, 3.0],
            "difference": [2.0, None],
        }
    )
    spec = pair_scatter(pairs, "A", "B", " [logits]").to_dict()
    dots = spec["layer"][1]["encoding"]
    assert dots["x"]["scale"] == dots["y"]["scale"]
    assert dots["x"]["scale"]["domain"] == pytest.approx([-1.08, 1.08])
    assert [row["label"] for data in spec["datasets"].values() for row in data if "label" in row] == ["L0H0"]
