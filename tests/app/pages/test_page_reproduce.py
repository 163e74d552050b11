"""The page that lays a run beside the paper: it shows what the views return, whatever was measured."""

import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streamlit.testing.v1 import AppTest

from selfrepair import Warehouse
from selfrepair.app.charts.models.reproduction import claims_with_intervals, measured_against_published
from selfrepair.app.charts.models.training import FINAL as FINAL_WORD
from selfrepair.app.charts.models.training import over_training
from selfrepair.app.data import published as queries
from selfrepair.app.wording.columns import words
from selfrepair.queries.catalog.relations import relations
from support.pages import opened, said, tables
from support.published import EARLY, FINAL, NOT_PUBLISHED, compared

PYTHIA, SMALL = "EleutherAI/pythia-160m", "tiny-model"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("reproduce"))


def page(db: Path, monkeypatch: pytest.MonkeyPatch, **link: str) -> AppTest:
    return opened("reproduce", db, monkeypatch, **{"model": PYTHIA, "run": str(FINAL), **link})


def frames(app: AppTest) -> list[pl.DataFrame]:
    return [pl.from_pandas(frame.value) for frame in app.dataframe]


def test_every_sql_runs_as_it_stands(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch)
    assert len(app.code) == 4
    for sql in app.code:
        assert Warehouse(db).sql(sql.value).height > 0


@pytest.mark.parametrize(
    ("link", "quantity", "published_run", "population"),
    [
        ({}, "self_repair", "default", "top2"),
        ({"quantity": "repair_mlp", "published": "git-b54f6f5"}, "repair_mlp", "git-b54f6f5", "top2"),
        ({"quantity": "direct_effect", "population": "all", "published": "1_"}, "direct_effect", "1_", "all"),
        ({"population": "top2_nobos"}, "self_repair", "default", "top2"),
    ],
)
def test_heads_and_agreement_are_the_views(
    link: dict[str, str],
    quantity: str,
    published_run: str,
    population: str,
    db: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = page(db, monkeypatch, **link)
    heads, _, agreement, *_ = frames(app)  # heads and agreement below their pictures, then the table of agreement
    which = {"run_id": FINAL, "population": population, "published_run": published_run}
    known = Warehouse(db).view("reproduction", **which, quantity=quantity)
    columns = ["label", "published_value", "measured_value", "difference"]
    assert heads.select(columns).rows() == known.sort("layer", "head").select(columns).rows() != []
    middle, half_width = known["measured_value"], 2 * known["measured_value_se"]
    assert heads["low"].to_list() == pytest.approx((middle - half_width).to_list())
    assert heads["high"].to_list() == pytest.approx((middle + half_width).to_list())
    known = Warehouse(db).view("reproduction_agreement", **which)
    known = known.with_columns(pl.col("quantity").map_elements(words, pl.String)).select(agreement.columns)
    assert_frame_equal(agreement.sort("quantity"), known.cast(dict(agreement.schema)).sort("quantity"))
    assert agreement["quantity"][0] == "Direct effect"
    assert ("with position 0" in said(app)) == (link.get("population") == "top2_nobos")


def test_claims_are_the_view(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch)
    shown = next(frame for frame in frames(app) if "claim" in frame.columns)
    known = Warehouse(db).view("reproduction_claims", run_id=FINAL).sort("claim_number")
    assert_frame_equal(shown, known.select(shown.columns).cast(dict(shown.schema)))
    (table,) = tables(app)
    for row, claim in zip(table, known.to_dicts(), strict=True):
        assert row["Claim"] == words(claim["claim"])
        assert row["This run"] == f"{claim['value']:.3f}"
        assert (row["Verdict"], row["Reason"]) == (claim["verdict"], claim["reason"] or "")
        low, high, number = (claim[name] for name in ("low", "high", "published_value"))
        told = "none" if low is None else f"{low:.3f} to {high:.3f}"
        assert row["95 % interval"] == told
        told = f"above {claim['expected_above']:g}" if number is None else f"{number:.3f}"
        assert row["Paper"] == told


def test_slopes_of_self_repression_are_the_view(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Self-repression" not in [header.value for header in page(db, monkeypatch).header]
    with_self_repression = Path(shutil.copy(db, tmp_path))
    with duckdb.connect(str(with_self_repression)) as con:
        con.execute(
            f"""
            INSERT INTO selfrepair_marts.self_repression_fits BY NAME
            SELECT {FINAL} AS run_id, 11 AS layer, head, kind AS added_vector, multiple, 10 AS n_prompts, 100 AS n_rows,
                0.5 - multiple / 8 AS slope, 0.4 - multiple / 8 AS slope_low, 0.6 - multiple / 8 AS slope_high
            FROM (VALUES (0), (1)) AS heads (head), (VALUES (1), (3)) AS multiples (multiple),
                (VALUES ('own'), ('random')) AS kinds (kind)
            """
        )
    app = page(with_self_repression, monkeypatch)
    assert "Self-repression" in [header.value for header in app.header]
    shown = next(frame for frame in frames(app) if "same_side" in frame.columns)
    known = Warehouse(with_self_repression).view("self_repression_reproduction", run_id=FINAL)
    assert_frame_equal(shown, known.select(shown.columns).cast(dict(shown.schema)), check_row_order=False)
    assert set(shown["label"]) == {"L11H0"}  # of L11H1 nothing was published
    assert set(shown["multiple"]) == {1, 3}


@pytest.mark.parametrize(("of", "level"), [("all heads", "model"), ("each layer", "layer"), ("one head", "head")])
def test_checkpoints_are_the_view(of: str, level: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = {"training_of": of, "training_measure": "mean_repair_mlp", "head": "L4H7", "population": "all"}
    points = frames(page(db, monkeypatch, **link))[-1]
    known = Warehouse(db).view("repair_over_training", ablation="resample", population="all", level=level)
    known = known.filter(pl.col("label") == "L4H7") if level == "head" else known
    columns = ["run_id", "layer", "mean_repair_mlp"]
    order = ["layer", "checkpoint_place"]
    assert points.sort(order).select(columns).rows() == known.sort(order).select(columns).rows() != []
    assert set(points["run_id"]) == {EARLY, FINAL}


def test_an_early_checkpoint_is_not_compared_but_lined_up(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, run=str(EARLY))
    command, training_sql = (code.value for code in app.code)
    assert command == f"selfrepair reproduce gpt2-small --db {db}"
    assert "gpt2-medium, pythia-160m, pythia-410m" in said(app)
    assert "repair_over_training" in training_sql


def test_a_model_that_was_never_published_says_what_measures_one(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, model=SMALL, run=str(NOT_PUBLISHED))
    (reproduce,) = (code.value for code in app.code)
    assert reproduce.startswith("selfrepair reproduce gpt2-small ")
    assert "--model EleutherAI/pythia-160m --checkpoint 1000,10000,143000" in said(app)  # this one has no series
    assert not app.dataframe


def test_a_model_of_the_hub_is_told_to_measure_another_checkpoint(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = changed(db, tmp_path, f"UPDATE models SET name = 'owner/' || name WHERE name = '{SMALL}'")
    app = page(owned, monkeypatch, model=f"owner/{SMALL}", run=str(NOT_PUBLISHED))
    checkpoint = app.code[-1].value
    assert checkpoint.startswith(f"selfrepair ingest --model owner/{SMALL} --checkpoint 1000 ")


def changed(db: Path, folder: Path, *statements: str) -> Path:
    """A copy of the file in which these were run."""
    copied = Path(shutil.copy(db, folder))
    with duckdb.connect(str(copied)) as con:
        for statement in statements:
            con.execute(statement)
    return copied


@pytest.mark.parametrize(("column", "value"), [("checkpoint", "1000"), ("revision", "'step1000'")])
def test_the_checkpoint_to_measure_is_never_the_runs_own(
    column: str, value: str, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = ("UPDATE models SET checkpoint = NULL", f"UPDATE models SET {column} = {value}")
    alone = changed(db, tmp_path, *statements, f"DELETE FROM runs WHERE run_id = {FINAL}")
    app = page(alone, monkeypatch, run=str(EARLY))
    command = app.code[-1].value
    assert command.startswith(f"selfrepair ingest --model {PYTHIA} --dataset ")
    assert "this command measures the final weights" in said(app)


def test_a_revision_without_a_place_in_training_says_so(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed(db, tmp_path, "UPDATE models SET checkpoint = NULL, revision = 'v1'")
    app = page(other, monkeypatch, model=SMALL, run=str(NOT_PUBLISHED))
    assert "This run is of revision v1, which is neither the final weights nor a training step." in said(app)
    assert [code.value.split()[1] for code in app.code] == ["reproduce"]


def test_a_model_of_which_the_top_alone_was_published_is_compared(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = changed(db, tmp_path, "UPDATE models SET name = 'gpt2-medium', n_layers = 24, n_heads = 16")
    app = page(medium, monkeypatch, model="gpt2-medium", population="all")
    assert "For this model, only the top 2 % were published." in said(app)
    known = Warehouse(medium).view("reproduction", run_id=FINAL, quantity="self_repair", published_run="default")
    assert frames(app)[0]["published_value"].to_list() == known.sort("layer", "head")["published_value"].to_list() != []
    assert "were published." not in said(page(medium, monkeypatch, model="gpt2-medium", population="top2"))


def test_a_fraction_that_one_run_did_not_publish_is_said_so(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, quantity="clipped_mlp_fraction", published="git-b54f6f5")
    assert "was not published for this run of the authors" in said(app)


def test_a_mangled_link_is_a_page(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(db, monkeypatch, quantity="<b>", published="'; --", training_of="' OR 1", training_measure="x", head="H")
    assert "quantity = 'self_repair'" in app.code[0].value
    assert len(app.warning) == 5


def test_without_a_file_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "selfrepair demo" in said(opened("reproduce", tmp_path / "none.duckdb", monkeypatch)).replace("\\", "")


def test_every_published_quantity_can_be_chosen(db: Path) -> None:
    known = Warehouse(db).sql("SELECT DISTINCT quantity FROM published_quantities")["quantity"]
    assert sorted(known) == sorted(queries.QUANTITIES)
    columns = {column.name for column in relations()["head_repair"].columns}
    assert {queries.column_of(quantity) for quantity in queries.QUANTITIES} <= columns


def test_both_axes_have_one_scale_and_heads_without_a_number_no_dot() -> None:
    heads = pl.DataFrame(
        {
            "label": ["L0H0", "L0H1"],
            "layer": [0, 0],
            "published_value": [1.0, 3.0],
            "measured_value": [-1.0, None],
            "difference": [-2.0, None],
            "low": [-1.5, None],
            "high": [-0.5, None],
        }
    )
    spec = measured_against_published(heads, "self repair", " [logits]", "L0H0").to_dict()
    line, rules, dots, _ = spec["layer"]
    assert dots["encoding"]["x"]["scale"] == dots["encoding"]["y"]["scale"] == line["encoding"]["x"]["scale"]
    assert dots["encoding"]["y"]["title"] == "Measured: self repair [logits]"
    for layer in (rules, dots):
        assert [row["label"] for row in spec["datasets"][layer["data"]["name"]]] == ["L0H0"]


def test_claims_keep_their_order_and_tell_verdicts_apart(db: Path) -> None:
    claims = Warehouse(db).sql(queries.claims(FINAL))
    spec = claims_with_intervals(claims).to_dict()
    (rows,) = spec["datasets"].values()
    assert spec["layer"][0]["encoding"]["y"]["sort"] == [row["claim"] for row in rows]
    assert rows[0]["claim"] == "Late heads repaired"
    shown = spec["layer"][1]["encoding"]["color"]["legend"]["values"]
    assert set(shown) == {row["verdict"] for row in rows}


def test_final_weights_stand_at_the_end(db: Path) -> None:
    points = Warehouse(db).sql(
        queries.training(EARLY, "ablation = 'resample' AND population = 'all' AND level = 'layer'", "mean_self_repair")
    )
    spec = over_training(points, "mean_self_repair").to_dict()
    assert spec["layer"][1]["encoding"]["x"]["sort"] == ["1,000", FINAL_WORD]
    assert spec["layer"][1]["encoding"]["detail"]["field"] == "layer"
