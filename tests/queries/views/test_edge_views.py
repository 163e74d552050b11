"""Who repairs whom, against single changes: means, spreads, shares, ranks, backup heads and the matrix of layers."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy import stats

from support.empty import with_views
from support.mechanisms import Mechanisms, as_parts_of_a_document, measured_mechanisms, mechanism_runs
from support.random_runs import FAILED, STEPS, with_repair

Fill = Callable[..., None]
Con = duckdb.DuckDBPyConnection

EXACT_STEP = 625
"""A sixteenth of a logit in steps of 1e-4: sums are exact in binary, and so targets that are equal compare as equal."""

CELL = ["run_id", "ablation", "population", "layer", "head"]
TARGET = ["target_kind", "target_layer", "target_head"]
EDGE_VIEWS = ("repair_edges", "who_repairs", "backup_heads", "repair_matrix")


@pytest.fixture(scope="module")
def runs() -> tuple[list[dict[str, Any]], Mechanisms]:
    return mechanism_runs(seed=21, step=EXACT_STEP)


@pytest.fixture(scope="module")
def filled(runs: tuple[list[dict[str, Any]], Mechanisms], fill: Fill) -> Iterator[Con]:
    rows, made = runs
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        made.insert(con)
        for view in ("head_repair", "tail_numbers"):  # computed once for all that reads them
            con.execute(f"CREATE TABLE kept_{view} AS FROM {view}")
            con.execute(f"CREATE OR REPLACE VIEW {view} AS FROM kept_{view}")
        yield con


@pytest.fixture(scope="module")
def edges(runs: tuple[list[dict[str, Any]], Mechanisms]) -> pl.DataFrame:
    """Mean, standard deviation and number of the single changes of every target, and the ablated head's own means."""
    rows, made = runs
    place = pl.struct(-pl.col("direct_effect"), "prompt_id", "pos").rank("ordinal")
    cell = ["run_id", "ablation", "layer", "head"]
    every = with_repair(rows)
    top = every.filter(place.over(cell) <= (pl.len() * 2 // 100).clip(lower_bound=1).over(cell))
    means = pl.concat(
        frame.group_by(cell)
        .agg(pl.col("direct_effect", "self_repair", "repair_attention", "repair_mlp").mean() / STEPS)
        .with_columns(population=pl.lit(population))
        for population, frame in (("all", every), ("top2", top))
    )
    return clustered(measured_mechanisms(made.edges), "prompt_id").join(means, on=CELL)


def clustered(single: pl.DataFrame, cluster: str) -> pl.DataFrame:
    """Mean, standard deviation and number of single changes, and the mean's error over clusters."""
    change, place = pl.col("change"), [*CELL, *TARGET]
    residual = (change - change.mean().over(place)).alias("residual")
    pulls = single.with_columns(residual).group_by(*place, cluster).agg(pl.col("residual").sum())
    clusters = pulls.group_by(place).agg(pl.len().alias("n_clusters"), (pl.col("residual") ** 2).sum().alias("squares"))
    numbers = single.group_by(place).agg(
        pl.len().alias("n_rows"), change.mean().alias("mean_change"), change.std(ddof=1).alias("sd")
    )
    n = pl.col("n_clusters")
    error = pl.when(n > 1).then((pl.col("squares") * n / (n - 1)).sqrt() / pl.col("n_rows")).alias("standard_error")
    joined = numbers.join(clusters, on=place, nulls_equal=True).with_columns(error)
    return joined.sort(place, nulls_last=True)


def assert_close(found: pl.Series, wanted: pl.Series, tolerance: float = 1e-9) -> None:
    assert found.is_null().equals(wanted.is_null()), found.name
    one, other = (series.drop_nulls().to_numpy().astype(float) for series in (found, wanted))
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=found.name)


def answer(con: Con, view: str, *key: str) -> pl.DataFrame:
    frame = con.sql(f"FROM {view}").pl()
    text = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    return text.sort(*(key if key else CELL), *(TARGET if not key else ()), nulls_last=True)


@pytest.mark.parametrize("view", ["repair_edges", "who_repairs"])
def test_every_pair_has_its_mean_and_spread(view: str, filled: Con, edges: pl.DataFrame) -> None:
    found = answer(filled, view).filter(pl.col("run_id") != FAILED)
    assert found.select(*CELL, *TARGET, "n_rows").rows() == edges.select(*CELL, *TARGET, "n_rows").rows()
    for name in ("mean_change", "sd"):
        assert_close(found[name], edges[name], 1e-7)
    assert set(found["run_id"]) == {1, 3}
    assert found["sd"].is_null().any()  # the top 2 % of run 3 are one row


def test_the_changes_add_up_to_what_later_layers_repair(filled: Con, edges: pl.DataFrame) -> None:
    means = edges.select(*CELL, "repair_attention", "repair_mlp").unique()
    sums = answer(filled, "who_repairs").group_by(*CELL, "target_kind").agg(pl.col("mean_change").sum())
    for kind, part in (("head", "repair_attention"), ("mlp", "repair_mlp")):
        both = sums.filter(target_kind=kind).join(means, on=CELL)
        assert both.height > 10
        assert_close(both["mean_change"], both[part])


def test_shares_errors_and_ranks(filled: Con, edges: pl.DataFrame) -> None:
    found = answer(filled, "who_repairs")
    assert_close(found["standard_error"], edges["standard_error"], 1e-7)
    assert found["n_clusters"].to_list() == edges["n_clusters"].to_list()
    half = (
        pl.Series([stats.t.ppf(0.975, n - 1) if n > 1 else None for n in edges["n_clusters"]]) * edges["standard_error"]
    )
    assert_close(found["mean_change_low"], edges["mean_change"] - half, 1e-4)
    assert_close(found["mean_change_high"], edges["mean_change"] + half, 1e-4)
    for share, of in (("share_of_effect", "direct_effect"), ("share_of_repair", "self_repair")):
        divisor = pl.when(pl.col(of).abs() > 1e-12).then(of)
        assert_close(found[share], edges.select(pl.col("mean_change") / divisor).to_series(), 1e-6)
    order = pl.struct(-pl.col("mean_change"), "target_layer", "target_kind", "target_head").rank("ordinal")
    rounded = edges.with_columns(
        order.over(CELL).alias("target_rank"), order.over(*CELL, "target_kind").alias("in_kind")
    )
    for name, mine in (("target_rank", "target_rank"), ("rank_in_kind", "in_kind")):
        assert found[name].to_list() == rounded[mine].to_list()
    names = set(found.filter(layer=0, head=1, run_id=1)["target_label"])
    assert names == {*(f"L{one}H{head}" for one in (1, 2, 3) for head in (0, 1)), *(f"MLP{one}" for one in range(4))}
    assert set(found["label"]) >= {"L0H0", "L2H1"}
    assert set(found["verdict"]) == {"not enough data"}  # of four prompts at most


def test_a_unit_that_did_not_keep_documents_apart_is_one_cluster(
    filled: Con, runs: tuple[list[dict[str, Any]], Mechanisms]
) -> None:
    filled.execute("BEGIN")
    filled.execute(
        "UPDATE edge_sums SET n_clusters = NULL, squared_rows = NULL, rows_by_change = NULL, squared_cluster_change = NULL"
    )
    found = answer(filled, "repair_edges").filter(pl.col("run_id") != FAILED)
    filled.execute("ROLLBACK")
    single = measured_mechanisms(runs[1].edges)
    wanted = clustered(single, "unit")
    assert_close(found["standard_error"], wanted["standard_error"], 1e-7)
    assert found["n_clusters"].to_list() == wanted["n_clusters"].to_list()


@pytest.mark.parametrize("parts", [[0], [0, 1]])
def test_a_document_that_lies_in_several_units_is_one_cluster(
    filled: Con, runs: tuple[list[dict[str, Any]], Mechanisms], parts: list[int]
) -> None:
    filled.execute("BEGIN")
    as_parts_of_a_document(filled, parts)
    found = answer(filled, "repair_edges").filter(pl.col("run_id") != FAILED)
    filled.execute("ROLLBACK")
    in_parts = pl.col("run_id").eq(1) & pl.col("unit").is_in(parts)
    single = measured_mechanisms(runs[1].edges)
    assert single.filter(run_id=1)["unit"].n_unique() == 2
    wanted = clustered(single.with_columns(cluster=pl.when(in_parts).then(-1).otherwise("prompt_id")), "cluster")
    for name in ("mean_change", "sd", "standard_error"):
        assert_close(found[name], wanted[name], 1e-7)
    assert found.select("n_rows", "n_clusters").rows() == wanted.select("n_rows", "n_clusters").rows()


def test_verdicts_have_a_margin_and_hold_for_all_edges_together(
    con: Con, fill: Fill, one_row: Callable[..., dict[str, Any]]
) -> None:
    """20 heads are ablated; 400 edges of 20 documents repair nobody, 20 do. For the last five heads, the margin is wide."""
    rng = np.random.default_rng(8)
    effects = np.where(np.arange(20) < 15, 2.0, 150.0)
    places = [*np.ndindex(1, 20), (1, 20)]
    fill(
        con,
        [
            one_row(layer=layer, head=head, direct_effect=2.0 if layer else effects[head], ablated_direct_effect=0.0)
            for layer, head in places
        ],
    )
    changes = rng.normal(0, 1, (20, 21, 20))
    changes[:, 20] += np.linspace(0, 3, 20)[:, None]  # the last target repairs some heads more than others
    changes[3, 20] += 2
    changes[2, 20] -= 3
    for head, target in np.ndindex(20, 21):
        values = changes[head, target]
        con.execute(
            "INSERT INTO edge_sums VALUES (1, 0, 'resample', 0, ?, 'all', 'head', 1, ?, 20, ?, ?, 20, 20, ?, ?, NULL)",
            [head, target, values.sum(), (values**2).sum(), values.sum(), (values**2).sum()],
        )
    found = con.sql("FROM who_repairs ORDER BY head, target_head").pl()
    means, margins = changes.mean(2), effects[:, None] / 100
    halves = stats.t.ppf(1 - 0.025 / 420, 19) * stats.sem(changes, axis=2)
    wanted = np.select(
        [means - halves > margins, means + halves < -margins, abs(means) + halves <= margins, halves <= margins],
        ["repairs", "adds to the damage", "neither", "unclear"],
        "not enough data",
    )
    assert found["verdict"].to_list() == wanted.ravel().tolist()
    assert set(found["verdict"]) == {"repairs", "adds to the damage", "neither", "unclear", "not enough data"}
    assert found["n_tested"].unique().to_list() == [420]
    np.testing.assert_allclose(found["margin"], np.broadcast_to(margins, means.shape).ravel())
    ts = means / stats.sem(changes, axis=2)
    assert (stats.t.sf(ts, 19)[:, :20] < 0.025).sum() > 3  # which two standard errors would have called repair
    (last,) = con.sql("FROM backup_heads WHERE target_head = 20").pl().to_dicts()
    repaired, mean = wanted[:, 20] == "repairs", means[:, 20]
    half = stats.t.ppf(0.975, 19) * stats.sem(changes[:, 20], axis=1)
    assert last["n_repaired"] == repaired.sum() > 2
    for name, values in (
        ("score", mean * repaired),
        ("score_low", (mean - half) * repaired),
        ("score_high", mean + half),
    ):
        assert last[name] == pytest.approx(np.maximum(values, 0).sum() / 20 / 2, rel=1e-4), name


def test_backups_are_counted_and_weighed_by_their_own_size(
    filled: Con, edges: pl.DataFrame, runs: tuple[list[dict[str, Any]], Mechanisms]
) -> None:
    """Verdicts are taken as they are; run 1 has too few prompts for any other than that there is not enough data."""
    group = ["run_id", "ablation", "population", "target_layer", "target_head"]
    filled.execute("BEGIN")
    filled.execute("CREATE TABLE judged AS FROM who_repairs")
    filled.execute(
        "UPDATE judged SET verdict = CASE WHEN mean_change > standard_error THEN 'repairs' "
        "WHEN mean_change < -standard_error THEN 'adds to the damage' ELSE 'unclear' END"
    )
    filled.execute("CREATE OR REPLACE VIEW who_repairs AS FROM judged")
    found = answer(filled, "backup_heads", *group)
    filled.execute("ROLLBACK")
    measured = with_repair(runs[0])
    assert found.height > 30
    for row in found.to_dicts():
        mine = edges.filter(target_kind="head", **{name: row[name] for name in group})
        error = mine["standard_error"]
        repaired, damaged = ((mine["mean_change"] * sign > error).fill_null(False) for sign in (1, -1))
        n_top3, expected = 0, 0.0
        for cell in mine.select(CELL).to_dicts():
            rivals = edges.filter(target_kind="head", **cell).sort(
                -pl.col("mean_change"), "target_layer", "target_head"
            )
            first = rivals.head(3).filter(pl.col("mean_change") > 0)
            n_top3 += first.filter(target_layer=row["target_layer"], target_head=row["target_head"]).height
            expected += min(3, rivals.height) / rivals.height
        own = measured.filter(
            run_id=row["run_id"], ablation=row["ablation"], layer=row["target_layer"], head=row["target_head"]
        )
        size = own["direct_effect"].abs().mean() / STEPS if own.height else None  # type: ignore[operator]
        change = mine["mean_change"].mean()
        repair = (mine["mean_change"] * repaired).sum() / mine.height
        half = pl.Series([float(stats.t.ppf(0.975, max(1, n - 1))) for n in mine["n_clusters"]]) * error
        low, high = ((mine["mean_change"] + sign * half).clip(lower_bound=0) for sign in (-1, 1))
        has_interval = size is not None and not error.is_null().any()
        wanted = {
            "n_ablated": mine.height,
            "n_clusters": mine["n_clusters"].max(),
            "n_repaired": repaired.sum(),
            "n_damaged": damaged.sum(),
            "n_top3": n_top3,
            "expected_top3": expected,
            "mean_change": change,
            "own_size": size,
            "relative_change": change / max(size, 1e-4) if size is not None else None,  # type: ignore[operator]
            "score": repair / max(size, 1e-4) if size is not None else None,
            "score_low": (low * repaired).sum() / mine.height / max(size, 1e-4) if has_interval else None,
            "score_high": high.sum() / mine.height / max(size, 1e-4) if has_interval else None,
        }
        for name, value in wanted.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-4, abs=1e-9)), (name, row)
        assert row["target_label"] == f"L{row['target_layer']}H{row['target_head']}"
    assert found["own_size"].is_null().any()  # L1H0 was not ablated
    assert found["n_repaired"].max() > 0  # type: ignore[operator]


def test_backups_come_in_the_order_of_their_score(filled: Con) -> None:
    scores = filled.sql(
        "SELECT score FROM backup_heads WHERE run_id = 1 AND ablation = 'mean' AND population = 'all'"
    ).pl()
    known = scores["score"].drop_nulls()
    assert known.is_sorted(descending=True)
    assert scores["score"].head(len(known)).is_not_null().all()


def test_layers_are_means_over_their_heads(filled: Con, edges: pl.DataFrame) -> None:
    cell = ["run_id", "ablation", "population", "layer", "target_kind", "target_layer"]
    heads = edges.group_by(*cell, "head", "direct_effect").agg(pl.col("mean_change").sum())
    effect = pl.col("direct_effect").sum()
    wanted = (
        heads.group_by(cell)
        .agg(
            pl.len().alias("n_heads"),
            pl.col("mean_change").mean(),
            pl.when(effect.abs() > 1e-10).then(pl.col("mean_change").sum() / effect).alias("share_of_effect"),
        )
        .sort(cell)
    )
    found = answer(filled, "repair_matrix", *cell)
    assert found.select(*cell, "n_heads").rows() == wanted.select(*cell, "n_heads").rows()
    for name in ("mean_change", "share_of_effect"):
        assert_close(found[name], wanted[name], 1e-7)
    assert (found["target_layer"] >= found["layer"]).all()
    assert set(found["n_heads"]) == {1, 2}


def test_a_backup_by_hand(con: Con, fill: Fill, one_row: Callable[..., dict[str, Any]]) -> None:
    """Two heads of layer 0 are ablated; L1H0, small itself, repairs both, and L1H1, ten times its size, one of them."""
    direct = {(0, 0): 4.0, (0, 1): -4.0, (1, 0): -0.5, (1, 1): 5.0}
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    fill(
        con,
        [
            one_row(pos=pos, layer=layer, head=head, direct_effect=direct[layer, head])
            for pos in (0, 1)
            for layer, head in places
        ],
    )
    changes = {((0, 0), 0): (0.1, 0.1), ((0, 1), 0): (0.3, 0.3), ((0, 0), 1): (0.5, 0.5), ((0, 1), 1): (-1.0, 0.9)}
    for ((layer, head), target), (one, other) in changes.items():
        con.execute(
            "INSERT INTO edge_sums VALUES (1, 0, 'resample', ?, ?, 'all', 'head', 1, ?, 12, ?, ?, 12, 12, ?, ?, NULL)",
            [
                layer,
                head,
                target,
                6 * (one + other),
                *(6 * (one**2 + other**2),),
                6 * (one + other),
                6 * (one**2 + other**2),
            ],
        )
    found = con.execute(
        "SELECT target_label, n_ablated, n_repaired, n_damaged, n_top3, expected_top3, own_size, relative_change, score "
        "FROM backup_heads"
    ).fetchall()
    assert found == [
        ("L1H0", 2, 2, 0, 2, 2, 0.5, pytest.approx(0.4), pytest.approx(0.4)),
        ("L1H1", 2, 1, 0, 1, 2, 5, pytest.approx(0.225 / 5), pytest.approx(0.05)),
    ]
    (share,) = con.execute("SELECT share_of_effect FROM repair_matrix").fetchall()
    assert share == (None,)  # 4 and -4 logits cancel


def test_no_rows_no_answer(con: Con, fill: Fill, one_row: Callable[..., Any]) -> None:
    for view in EDGE_VIEWS:
        assert con.execute(f"FROM {view}").fetchall() == []
    fill(con, [one_row()])  # a run without edges
    for view in EDGE_VIEWS:
        assert con.execute(f"FROM {view}").fetchall() == []
