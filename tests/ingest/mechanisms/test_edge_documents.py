"""Errors of edges and of re-routing are by document, however a run is cut into units."""

from dataclasses import replace
from functools import cache

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from selfrepair.ingest.models.in_memory import share_model
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.mechanism_columns import mechanism_columns
from selfrepair.ingest.runs.plan import RunPlan, Unit, plan_run
from selfrepair.ingest.runs.runner import _inputs, find_top_rows
from selfrepair.ingest.text.prompts import Prompt, PromptSet
from selfrepair.ingest.text.sources import Source
from selfrepair.queries.catalog.macros import create_temp_macros
from selfrepair.queries.catalog.relations import views
from selfrepair.warehouse.database.migrate import migrate
from selfrepair.warehouse.parts.arrow import part_table
from support import sweep

DOCUMENTS = [4, 5, 6, 4, 7, 5, 8, 4]  # three of them interleaved
REPEATED = 6
"""The prompt that says what the second one says: it counts with document 5."""

CLUSTERS = [4, 5, 6, 4, 7, 5, 5, 4]
NUMBERS = ("mean_change", "standard_error", "n_rows", "n_clusters")


@cache
def measured() -> tuple[RunPlan, Measurer]:
    """A run of two heads in one layer of a model with experts."""
    rng = np.random.default_rng(4)
    rows = [(0, *rng.integers(2, 40, 7)) for _ in DOCUMENTS]
    rows[REPEATED] = (*rows[1][:-1], 41)
    prompts = [Prompt(tuple(map(int, tokens)), document) for tokens, document in zip(rows, DOCUMENTS, strict=True)]
    settings = RunSettings(["zero"], [(0, 0), (0, 1)], mechanisms=Mechanisms(edges=True, experts=True))
    model = share_model(sweep.build("qwen2_moe").to(torch.float32))
    plan = plan_run(model, Source("prompts", None, None, iter(())), PromptSet(prompts, "none", None), settings)
    measurer = Measurer(plan.model.adapter, settings, batch_size=8)
    measurer.top_rows = find_top_rows(plan, measurer)
    return plan, measurer


def errors(sizes: list[int]) -> dict[str, pl.DataFrame]:
    """What `repair_edges` and `routing_totals` come to where units have so many prompts."""
    plan, measurer = measured()
    firsts = [sum(sizes[:n]) for n in range(len(sizes))]
    units = tuple(Unit(n, first, size) for n, (first, size) in enumerate(zip(firsts, sizes, strict=True)))
    plan = replace(plan, units=units)
    with duckdb.connect() as con:
        migrate(con)
        create_temp_macros(con)
        for unit in units:
            found = mechanism_columns(plan, unit, measurer.measure(*_inputs(plan, unit), unit.prompt_ids))
            for name in ("edge_sums", "routing_sums"):
                con.register("rows_of_unit", part_table(name, found[name]))
                con.execute(f"INSERT INTO {name} BY NAME SELECT 1 AS run_id, * FROM rows_of_unit")
        assert con.sql("SELECT count(DISTINCT unit) FROM edge_sums").fetchall() == [(len(sizes),)]
        wanted = [view for view in views() if view.name in ("repair_edges", "routing_totals")]
        return {view.name: con.sql(view.sql).pl() for view in wanted}


@pytest.mark.parametrize("sizes", [[4, 4], [3, 3, 2], [1] * 8])
def test_how_a_run_is_cut_changes_no_error(sizes: list[int]) -> None:
    whole, cut = errors([8]), errors(sizes)
    for name, frame in whole.items():
        assert_frame_equal(cut[name], frame, check_exact=False, abs_tol=1e-6)


def test_errors_are_those_of_the_documents() -> None:
    plan, measurer = measured()
    assert plan.prompts.clusters() == CLUSTERS
    found = errors([1] * 8)["repair_edges"].filter(pl.col("population") == "all")
    assert set(found["n_clusters"]) == {4}
    sums = measurer.measure(*_inputs(plan, plan.units[0]), range(8)).edges.prompt_sums[:, 0, :, :, 0].double()
    target = plan.model.adapter.n_layers * plan.model.adapter.n_heads  # the first MLP
    for head in (0, 1):
        by_cluster = [
            (len(mine), sums[head, mine, target].sum())
            for cluster in sorted(set(CLUSTERS))
            for mine in [[n for n, one in enumerate(CLUSTERS) if one == cluster]]
        ]
        rows, changes = np.array([7 * n for n, _ in by_cluster]), np.array([float(change) for _, change in by_cluster])
        mean = changes.sum() / rows.sum()
        error = np.sqrt(4 / 3 * ((changes - mean * rows) ** 2).sum()) / rows.sum()
        (edge,) = found.filter(head=head, target_kind="mlp", target_layer=0).select(NUMBERS).rows()
        assert edge == pytest.approx((mean, error, 56, 4), rel=1e-4)
