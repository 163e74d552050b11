"""Warehouses whose answers are worked out again from their rows."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from selfrepair.queries.sandbox.reader import Reader
from support.answers import FAILED, GIVEN, N_POSITIONS, Frame
from support.fabricate import fabricate
from support.loaded import stored


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run 1 of one model, with post-norms, runs 2 and 3 of another, the latter with given heads, and run 4, which failed."""
    size = {"n_units": 2, "prompts_per_unit": 3, "seq_len": N_POSITIONS + 1, "mechanisms": True}
    models = (("a", "one"), ("b", "two"), ("c", "two"), ("d", "failed"))
    runs = [
        fabricate(f"run-{key}", model=model, seed=seed, post_norms=model == "one", **size)
        for seed, (key, model) in enumerate(models, 1)
    ]
    path = stored(tmp_path_factory.mktemp("db"), *runs)
    with duckdb.connect(path) as con:
        con.execute("UPDATE runs SET status = 'failed' WHERE run_id = ?", [FAILED])
        con.execute("UPDATE runs SET given_heads = [] WHERE run_id <> ?", [GIVEN])
        con.execute("UPDATE runs SET dataset_id = (SELECT dataset_id FROM runs WHERE run_id = 2) WHERE run_id = 3")
        con.execute("UPDATE tokens SET clean_rank = 1 WHERE (prompt_id + pos) % 3 = 0")
    return path


@pytest.fixture(scope="module")
def rows(reader: Reader) -> Frame:
    """Every measured row, with what the warehouse does not store."""
    frame = reader.frame(
        "SELECT *, 'L' || layer || 'H' || head AS label FROM measurements JOIN tokens USING (run_id, prompt_id, pos)"
    )
    removed = (pl.col("direct_effect") - pl.col("ablated_direct_effect")).cast(pl.Float64).round(4)
    return frame.with_columns(removed.alias("removed_effect")).with_columns(
        (pl.col("logit_change").cast(pl.Float64) + pl.col("removed_effect")).round(4).alias("self_repair")
    )


@pytest.fixture(scope="module")
def reader(db: Path) -> Any:
    with Reader(db) as reader:
        yield reader
