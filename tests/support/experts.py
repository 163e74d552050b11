"""Which experts MLPs choose and what each of them changes, at random, and the tables that sum it up."""

import numpy as np
import polars as pl

from support.random_runs import STEPS

N_EXPERTS, N_CHOSEN, NEVER_CHOSEN = 5, 2, (1, 3)
"""Routed experts of an MLP, how many a row chooses, and (layer, expert) of the one that is never chosen."""

_CELL = ["run_id", "ablation", "layer", "head"]
_ROW = [*_CELL, "prompt_id", "pos"]


def random_experts(rng: np.random.Generator, edges: pl.DataFrame) -> pl.DataFrame:
    """A row for each change of an MLP: lists over its experts, those that were chosen clean and ablated and their changes."""
    mlps = edges.filter(pl.col("target_kind") == "mlp", pl.col("population") == "all")
    mlps = mlps.select(*_ROW, "unit", mlp_layer="target_layer", change="change")
    scores = rng.random((2, mlps.height, N_EXPERTS))
    scores[:, mlps["mlp_layer"].to_numpy() == NEVER_CHOSEN[0], NEVER_CHOSEN[1]] = 2
    scores[1] = np.where(rng.random((mlps.height, 1)) < 0.6, scores[0], scores[1])
    clean, ablated = scores.argsort(axis=-1).argsort(axis=-1) < N_CHOSEN
    changes = np.where(clean | ablated, np.rint(rng.standard_t(1.6, clean.shape) * 30), 0) / STEPS
    rows = mlps.with_columns(
        clean=pl.Series(clean.tolist(), dtype=pl.List(pl.Boolean)),
        ablated=pl.Series(ablated.tolist(), dtype=pl.List(pl.Boolean)),
        changes=pl.Series(changes.tolist(), dtype=pl.List(pl.Float64)),
        weight_distance=pl.Series(np.where((clean != ablated).any(-1), 0.5, 0.125)),
        shared_change=mlps["change"] - pl.Series(changes.sum(axis=-1)),
    )
    top = edges.filter(pl.col("population") == "top2", pl.col("target_kind") == "mlp").select(_ROW).unique()
    in_top = rows.join(top, on=_ROW, how="semi", maintain_order="left")
    return pl.concat([rows.with_columns(population=pl.lit("all")), in_top.with_columns(population=pl.lit("top2"))])


_OF_MLP = [*_CELL, "unit", "population", "mlp_layer"]


def routing_sums(experts: pl.DataFrame, prompts_in_document: int) -> pl.DataFrame:
    """The rows of the table `routing_sums`."""
    rerouted, n_rows = pl.col("rerouted_rows"), pl.col("n_rows")
    document = (pl.col("prompt_id") // prompts_in_document).alias("document")
    documents = experts.group_by(*_OF_MLP, document, maintain_order=True).agg(
        pl.len().cast(pl.Int32).alias("n_rows"),
        (pl.col("clean") != pl.col("ablated")).sum().cast(pl.Int32).alias("rerouted_rows"),
        pl.col("weight_distance", "change", "shared_change").sum(),
    )
    replaced = (
        experts.explode("clean", "ablated", "changes")
        .group_by(_OF_MLP)
        .agg((pl.col("clean") & ~pl.col("ablated")).sum().cast(pl.Int32).alias("replaced_experts"))
    )
    sums = documents.group_by(_OF_MLP, maintain_order=True).agg(
        pl.lit(N_EXPERTS, pl.Int16).alias("n_experts"),
        n_rows.sum(),
        rerouted.sum(),
        (N_CHOSEN * n_rows.sum()).cast(pl.Int32).alias("chosen_experts"),
        pl.col("weight_distance", "change", "shared_change").sum(),
        pl.len().cast(pl.Int32).alias("n_clusters"),
        (n_rows * n_rows).sum().cast(pl.Float64).alias("squared_rows"),
        (n_rows * rerouted).sum().cast(pl.Float64).alias("rows_by_rerouted"),
        (rerouted * rerouted).sum().cast(pl.Float64).alias("squared_cluster_rerouted"),
        pl.lit(None, pl.Int32).alias("document_id"),
    )
    return sums.join(replaced, on=_OF_MLP, how="left", maintain_order="left")


def expert_sums(experts: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table `expert_sums`."""
    clean, ablated, change = (pl.col(name) for name in ("clean", "ablated", "changes"))
    numbered = experts.with_columns(expert=pl.lit(list(range(N_EXPERTS)), pl.List(pl.Int16)))
    return (
        numbered.explode("expert", "clean", "ablated", "changes")
        .filter(clean | ablated)
        .group_by(*_OF_MLP, "expert", maintain_order=True)
        .agg(
            clean.sum().cast(pl.Int32).alias("clean_rows"),
            ablated.sum().cast(pl.Int32).alias("ablated_rows"),
            change.sum().alias("change"),
            change.filter(clean & ablated).sum().alias("kept_change"),
        )
    )
