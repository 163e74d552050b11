"""Re-routing and the experts' parts of repair, against the single rows that they sum up."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.empty import with_views
from support.experts import N_CHOSEN, N_EXPERTS, NEVER_CHOSEN
from support.mechanisms import Mechanisms, as_parts_of_a_document, measured_mechanisms, mechanism_runs
from support.random_runs import FAILED

Con = duckdb.DuckDBPyConnection
MLP = ["run_id", "ablation", "population", "layer", "head", "mlp_layer"]


@pytest.fixture(scope="module")
def runs() -> tuple[list[dict[str, Any]], Mechanisms]:
    return mechanism_runs(seed=23)


@pytest.fixture(scope="module")
def filled(runs: tuple[list[dict[str, Any]], Mechanisms], fill: Callable[..., None]) -> Iterator[Con]:
    rows, made = runs
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        made.insert(con)
        yield con


@pytest.fixture(scope="module")
def single(runs: tuple[list[dict[str, Any]], Mechanisms]) -> pl.DataFrame:
    return measured_mechanisms(runs[1].experts)


def answer(con: Con, view: str, columns: list[str], *more: str) -> pl.DataFrame:
    found = con.sql(f"SELECT {', '.join([*MLP, *more, *columns])} FROM {view}").pl()
    return found.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).sort(*MLP, *more)


def test_rerouting_has_the_means_of_the_rows(filled: Con, single: pl.DataFrame) -> None:
    rerouted = (pl.col("clean") != pl.col("ablated")).cast(pl.Float64)
    clean, ablated, change = (pl.col(name).explode() for name in ("clean", "ablated", "changes"))
    n = pl.len()
    wanted = (
        single.group_by(MLP)
        .agg(
            n.cast(pl.Int64).alias("n_rows"),
            rerouted.mean().alias("rerouted_share"),
            ((clean & ~ablated).sum() / n).alias("mean_replaced_experts"),
            ((clean & ~ablated).sum() / n / N_CHOSEN).alias("replaced_share"),
            pl.col("weight_distance").mean().alias("mean_weight_distance"),
            pl.col("change").mean().alias("mean_change"),
            (change.filter(clean != ablated).sum() / n).alias("mean_rerouted_change"),
            (change.filter(clean & ablated).sum() / n).alias("mean_kept_change"),
            pl.col("shared_change").mean().alias("mean_shared_change"),
        )
        .sort(MLP)
    )
    found = answer(filled, "rerouting", wanted.columns[len(MLP) :])
    assert_frame_equal(found, wanted, rel_tol=1e-9, abs_tol=1e-9, check_dtypes=False)
    assert 0.05 < found["rerouted_share"].mean() < 0.95  # type: ignore[operator]


def errors(single: pl.DataFrame, cluster: str) -> pl.DataFrame:
    """The error of the share of re-routed rows over clusters, and how many there are."""
    rerouted = (pl.col("clean") != pl.col("ablated")).cast(pl.Float64)
    pulls = single.with_columns(residual=rerouted - rerouted.mean().over(MLP))
    pulls = pulls.group_by(*MLP, cluster).agg(pl.col("residual").sum(), pl.len().alias("n"))
    n = pl.len().cast(pl.Float64)
    error = ((pl.col("residual") ** 2).sum() * n / (n - 1)).sqrt() / pl.col("n").sum()
    shares = (pl.when(n > 1).then(error).alias("rerouted_share_se"), n.alias("n_clusters"))
    return pulls.group_by(MLP).agg(*shares).sort(MLP)


def test_the_interval_of_the_share_is_clustered(filled: Con, single: pl.DataFrame) -> None:
    found = answer(filled, "rerouting", ["rerouted_share_se", "n_clusters"])
    assert_frame_equal(found, errors(single, "prompt_id"), abs_tol=1e-9, check_dtypes=False)
    ends = filled.sql("SELECT min(rerouted_share_low), max(rerouted_share_high) FROM rerouting").fetchall()[0]
    assert ends[0] >= 0
    assert ends[1] <= 1


@pytest.mark.parametrize("parts", [[0], [0, 1]])
def test_a_document_that_lies_in_several_units_is_one_cluster(
    filled: Con, single: pl.DataFrame, parts: list[int]
) -> None:
    errors_of = ["rerouted_share_se", "n_clusters"]
    others = [
        "rerouted_share",
        "mean_replaced_experts",
        "mean_weight_distance",
        "mean_change",
        "mean_shared_change",
        "n_rows",
    ]
    before = answer(filled, "rerouting", others)
    filled.execute("BEGIN")
    as_parts_of_a_document(filled, parts)
    found = answer(filled, "rerouting", [*errors_of, *others])
    filled.execute("ROLLBACK")
    in_parts = pl.col("run_id").eq(1) & pl.col("unit").is_in(parts)
    wanted = errors(single.with_columns(cluster=pl.when(in_parts).then(-1).otherwise("prompt_id")), "cluster")
    assert_frame_equal(found.select(wanted.columns), wanted, abs_tol=1e-9, check_dtypes=False)
    assert_frame_equal(found.drop(errors_of), before, abs_tol=1e-12)


def test_every_expert_has_a_row_and_those_never_chosen_no_mean(filled: Con, single: pl.DataFrame) -> None:
    clean, ablated, change = (pl.col(name) for name in ("clean", "ablated", "changes"))
    numbered = single.with_columns(expert=pl.lit(list(range(N_EXPERTS)))).explode(
        "expert", "clean", "ablated", "changes"
    )
    is_chosen, n = (clean | ablated).any(), pl.len()
    of_mlp = single.group_by(MLP).agg(pl.col("change").sum().alias("of_mlp"))
    wanted = (
        numbered.group_by(*MLP, "expert")
        .agg(
            n.cast(pl.Int64).alias("n_rows"),
            clean.sum().alias("clean_rows"),
            ablated.sum().alias("ablated_rows"),
            pl.when(is_chosen).then(change.sum() / n).alias("mean_change"),
            pl.when(is_chosen).then(change.filter(clean != ablated).sum() / n).alias("mean_rerouted_change"),
            pl.when(is_chosen).then(change.filter(clean & ablated).sum() / n).alias("mean_kept_change"),
        )
        .sort(*MLP, "expert")
    )
    found = answer(filled, "expert_repair", [*wanted.columns[len(MLP) + 1 :], "share_of_mlp", "expert_rank"], "expert")
    assert_frame_equal(
        found.drop("share_of_mlp", "expert_rank"), wanted, rel_tol=1e-9, abs_tol=1e-9, check_dtypes=False
    )
    layer, expert = NEVER_CHOSEN
    never = found.filter(pl.col("mlp_layer") == layer, pl.col("expert") == expert)
    assert never.height > 0
    assert set(never["clean_rows"]) == set(never["ablated_rows"]) == {0}
    assert never["mean_change"].null_count() == never["share_of_mlp"].null_count() == never.height
    shares = found.join(of_mlp, on=MLP).filter(pl.col("of_mlp").abs() > 1e-6, pl.col("mean_change").is_not_null())
    assert shares["share_of_mlp"].to_list() == pytest.approx(
        (shares["mean_change"] * shares["n_rows"] / shares["of_mlp"]).to_list(), rel=1e-6
    )
    for _, group in found.group_by(MLP):
        ranked = group.sort("expert_rank")
        assert ranked["expert_rank"].to_list() == list(range(1, N_EXPERTS + 1))
        assert ranked["mean_change"].is_sorted(descending=True, nulls_last=True)


def test_runs_without_experts_and_failed_ones_have_no_rows(filled: Con) -> None:
    for view in ("rerouting", "expert_repair"):
        found = {run for (run,) in filled.sql(f"SELECT DISTINCT run_id FROM {view}").fetchall()}
        assert found == {1, 3}
