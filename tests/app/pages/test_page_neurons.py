"""The page of neurons: what it shows is what the views return, and a run without neurons says how to read them."""

import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.mechanisms.neuron_curves import exceedance_curves
from selfrepair.app.charts.mechanisms.neuron_effects import clean_against_ablated
from selfrepair.app.data.neurons import EXCEEDED
from support.measured import WITHOUT, measured
from support.pages import opened, said

MLP = {"model": "tiny-model", "ablation": "zero", "label": "L1H3", "mlp_layer": 1}
CELL = MLP | {"population": "top2"}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("neurons"))


@pytest.fixture
def app(db: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    return opened("neurons", db, monkeypatch, head="L1H3", ablation="zero", mlp="1")


def metric(app: AppTest, words: str) -> str:
    (found,) = (str(each.value) for each in app.metric if words in each.label)
    return found


def test_every_sql_runs_as_it_stands(app: AppTest, db: Path) -> None:
    assert len(app.code) == 6
    for sql in app.code:
        assert Warehouse(db).sql(sql.value).height > 0


def test_numbers_are_those_of_the_chosen_head_and_mlp(app: AppTest, db: Path) -> None:
    (summary,) = Warehouse(db).view("neuron_summary", **CELL).to_dicts()
    assert metric(app, "Mean change") == f"{summary['mean_change']:.4f}"
    assert metric(app, "Share of effect") == f"{summary['share_of_effect']:.1%}"
    assert metric(app, "Anti-erasure") == f"{summary['anti_erasure_share']:.1%}"
    assert metric(app, "Neurons that hold 50 %") == str(summary["neurons_for_half"])


def test_curve_and_table_are_the_views(app: AppTest, db: Path) -> None:
    curve, _, effects, neurons, *_ = (pl.from_pandas(frame.value) for frame in app.dataframe)
    sparsity = Warehouse(db).view("neuron_sparsity", **CELL)
    assert curve.select("nth", *EXCEEDED).rows() == sparsity.select("nth", *EXCEEDED).rows()
    top = Warehouse(db).view("neuron_top_rows", **MLP, in_top2=True)
    assert set(effects.select("prompt_id", "pos", "neuron", "change").rows()) == set(
        top.select("prompt_id", "pos", "neuron", "change").rows()
    )
    known = Warehouse(db).view("anti_erasure", **CELL)
    assert set(neurons["neuron"]) == set(known["neuron"])
    assert neurons["n_anti_erasure"].to_list() == sorted(known["n_anti_erasure"], reverse=True)


def test_rows_after_position_0_are_those_of_the_sidebar(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = {"head": "L1H3", "ablation": "zero", "mlp": "1"}
    app = opened("neurons", db, monkeypatch, **link, population="top2_nobos")
    (summary,) = Warehouse(db).view("neuron_summary", **MLP, population="top2_nobos").to_dicts()
    assert metric(app, "Mean change") == f"{summary['mean_change']:.4f}"
    assert f"the head's top 2 %, without position 0 ({summary['n_rows']:,} rows)." in said(app)
    assert all("top2_nobos" in sql.value for sql in app.code)
    _, _, effects, *_ = (pl.from_pandas(frame.value) for frame in app.dataframe)
    assert effects["pos"].min() > 0  # type: ignore[operator]
    with_all = said(opened("neurons", db, monkeypatch, **link, population="all"))
    assert "top 2 % by direct effect" in with_all
    assert "regardless of the rows selected in the sidebar" in with_all


def test_a_run_of_an_earlier_version_says_what_measures_the_rows_after_position_0(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Path(shutil.copy(db, tmp_path))
    with duckdb.connect(earlier) as con:
        for view in ("neuron_totals", "neuron_curve_totals", "neuron_uses", "neuron_repeats"):
            con.execute(f"DELETE FROM selfrepair_marts.{view} WHERE population = 'top2_nobos'")
    app = opened("neurons", earlier, monkeypatch, head="L1H3", ablation="zero", population="top2_nobos")
    command = app.code[0].value
    assert command.startswith(f"selfrepair remove 2 --db {earlier}\nselfrepair ingest --model tiny-model ")
    assert "not in this run, which an earlier version measured. Top 2 % by direct effect is shown instead" in said(app)
    assert len(app.metric) == 5


def test_rows_of_the_chosen_neuron_come_with_their_text(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Warehouse(db).view("neuron_top_rows", **MLP, in_top2=True)
    neuron = stored["neuron"].max()
    app = opened("neurons", db, monkeypatch, head="L1H3", ablation="zero", mlp="1", neuron=str(neuron))
    assert app.selectbox(key="neuron").value == str(neuron)
    (rows,) = (pl.from_pandas(frame.value) for frame in app.dataframe if "see" in frame.value)
    expected = stored.filter(pl.col("neuron") == neuron).sort(pl.col("change").abs(), descending=True)
    assert rows["change"].to_list() == expected["change"].to_list()
    assert rows["see"][0].endswith(f"prompt={expected['prompt_id'][0]}&pinned={expected['pos'][0]}")
    assert [text.split("·")[-1] for text in rows["context"]] == [text.strip() for text in expected["token"]]


def test_before_any_choice_it_is_the_last_mlp_and_the_neuron_that_erases_less(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened("neurons", db, monkeypatch, head="L0H0", neuron="'; --", mlp="<b>")
    assert app.selectbox(key="mlp").options == ["0", "1", "2"]
    assert app.selectbox(key="mlp").value == "2"
    assert app.selectbox(key="neuron").value == app.selectbox(key="neuron").options[0]


def test_a_run_without_neurons_says_what_reads_them(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("neurons", db, monkeypatch, model=WITHOUT)
    (command,) = (code.value for code in app.code)
    assert command.startswith(f"selfrepair ingest --model {WITHOUT} ")
    assert "--neurons last" in command
    assert f"--db {db}" in command
    assert "did not measure the neurons" in said(app)
    assert not app.dataframe


def test_without_a_file_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("neurons", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")


def test_lines_are_named_by_the_share_they_exceed() -> None:
    curve = pl.DataFrame({"nth": [1, 2], "n_rows": [9, 9], **{name: [0.5, 0.25] for name in EXCEEDED}})
    scale = exceedance_curves(curve, EXCEEDED).to_dict()["encoding"]["color"]["scale"]
    assert scale["domain"] == ["50 %", "10 %", "5 %", "2.5 %", "1 %"]


def test_the_chosen_neuron_has_a_colour_of_its_own() -> None:
    rows = pl.DataFrame(
        {
            "neuron": [3, 5, 5, 8],
            "rank": [1, 2, 1, 2],
            "token": [" a"] * 4,
            "target": [" b"] * 4,
            "clean_effect": [-0.5, -0.25, 0.5, 0.5],
            "ablated_effect": [-0.25, 0.0, 0.25, 0.75],
            "change": [0.25, 0.25, -0.25, 0.25],
            "is_anti_erasure": [True, True, False, False],
            "direct_effect": [1.0] * 4,
            "prompt_id": [0] * 4,
            "pos": [1] * 4,
        }
    )
    spec = clean_against_ablated(rows, 5).to_dict()
    dots = spec["datasets"][spec["layer"][-1]["data"]["name"]]
    assert [(dot["neuron"], dot["kind"]) for dot in dots] == [
        (3, "anti-erasure"),
        (8, "other changes"),
        (5, "neuron 5"),
        (5, "neuron 5"),
    ]
