"""A warehouse with given measurements: the real tables, filled by hand."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import duckdb
import polars as pl
import pytest

from selfrepair.queries.marts import refresh as marts
from selfrepair.warehouse.database.migrate import migrate
from support.published import compared

Row = Mapping[str, Any]
Fill = Callable[..., None]
OneRow = Callable[..., Row]

N_LAYERS = 4


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Row]) -> None:
    con.register("new_rows", pl.DataFrame(list(rows), infer_schema_length=None))
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")
    con.unregister("new_rows")


def _run(run_id: int, status: str) -> Row:
    return {
        "run_id": run_id,
        "run_key": f"key-{run_id}",
        "model_id": 10 + run_id,
        "dataset_id": 1,
        "n_prompts": 1,
        "n_units": 1,
        "n_measurements": 1,
        "n_crosschecks": 0,
        "ablations": ["resample"],
        "given_heads": [],
        "selected_heads": ["L0H0"],
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "conventions": "none",
        "status": status,
        "crosscheck_tolerance": 1e-3,
        "crosscheck_rows": 0,
    }


def _model(run_id: int, post_norms: bool = False) -> Row:
    return {
        "model_id": 10 + run_id,
        "name": f"model-{run_id}",
        "architecture": "GPT2LMHeadModel",
        "n_layers": N_LAYERS,
        "n_heads": 2,
        "n_kv_heads": 2,
        "d_model": 8,
        "d_head": 4,
        "d_mlp": 32,
        "d_vocab": 50,
        "norm": "layernorm",
        "parallel_blocks": False,
        "n_parameters": 1000,
        "weights_sha256": "0" * 64,
        "post_norms": post_norms,
    }


def _fill(
    con: duckdb.DuckDBPyConnection,
    measurements: Iterable[Row],
    status: Mapping[int, str] | None = None,
    prompts_in_document: int = 1,
    shared: Mapping[int, tuple[int, int]] | None = None,
) -> None:
    rows = list(measurements)
    run_ids = sorted({row["run_id"] for row in rows})
    with_post_norms = {row["run_id"] for row in rows if row.get("repair_post_norm") is not None}
    _insert(con, "models", (_model(run_id, run_id in with_post_norms) for run_id in run_ids))
    runs = pl.DataFrame([_run(run_id, (status or {}).get(run_id, "complete")) for run_id in run_ids])
    con.register("new_rows", runs)
    con.execute(
        "INSERT INTO runs BY NAME "
        "SELECT *, MAP {'duckdb': '1'} AS software, TIMESTAMP '2026-01-01' AS started_at FROM new_rows"
    )
    con.unregister("new_rows")
    prompts = sorted({(row["run_id"], row["prompt_id"]) for row in rows})
    _insert(
        con,
        "prompts",
        (
            _prompt(run_id, prompt_id, prompt_id // prompts_in_document, *(shared or {}).get(prompt_id, (0, 0)))
            for run_id, prompt_id in prompts
        ),
    )
    places = sorted({(row["run_id"], row["prompt_id"], row["pos"]) for row in rows})
    _insert(con, "tokens", (_token(*place) for place in places))
    _insert(con, "measurements", rows)


def _prompt(run_id: int, prompt_id: int, document_id: int, other: int, n_shared: int) -> Row:
    """A prompt of its own number again and again, after so many tokens of another one."""
    token_ids = [other] * n_shared + [prompt_id] * (100 - n_shared)
    return {"run_id": run_id, "prompt_id": prompt_id, "document_id": document_id, "token_ids": token_ids, "text": ""}


def _token(run_id: int, prompt_id: int, pos: int) -> Row:
    return {
        "run_id": run_id,
        "prompt_id": prompt_id,
        "pos": pos,
        "token_id": pos,
        "token": f"t{pos}",
        "target_id": pos + 1,
        "target": f"t{pos + 1}",
        "clean_logit": 1.0,
        "clean_logprob": -1.0,
        "clean_rank": 1,
        "clean_entropy": 2.0,
        "clean_ln_scale": 3.0,
    }


@pytest.fixture(scope="session")
def fill() -> Fill:
    """Fills the tables of a connection: `fill(con, measurements, status={run_id: 'failed'}, prompts_in_document=2)`.

    No two prompts share a token, but with `shared={2: (0, 5)}` prompt 2 has the first five of prompt 0.
    """
    return _fill


def _one_row(**changes: Any) -> Row:
    row = {
        "run_id": 1,
        "ablation": "resample",
        "prompt_id": 0,
        "pos": 1,
        "layer": 2,
        "head": 1,
        "direct_effect": 5.0,
        "ablated_direct_effect": 1.0,
        "logit_change": -3.0,
        "repair_layernorm": 0.5,
        "repair_attention": 0.25,
        "repair_mlp": 0.375,
        "ln_scale_ratio": 1.125,
    }
    return row | changes


@pytest.fixture(scope="session")
def one_row() -> OneRow:
    """Makes a measured row, every number different, in which removed_effect = 4 and self_repair = 1 logits."""
    return _one_row


def _summarise(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "INSERT INTO units BY NAME SELECT run_id, 0 AS unit, 0 AS first_prompt, 1 AS n_prompts, count(*) AS n_measurements, "
        "0 AS identity_error_max, 'hash' AS manifest_sha256, TIMESTAMP '2026-01-02' AS measured_at, "
        "TIMESTAMP '2026-01-03' AS loaded_at FROM measurements GROUP BY run_id"
    )
    marts.refresh(con)


@pytest.fixture(scope="session")
def summarise() -> Callable[[duckdb.DuckDBPyConnection], None]:
    """Makes the marts of runs that were filled by hand, as a load leaves them: with a unit each in the ledger."""
    return _summarise


@pytest.fixture
def con() -> Iterable[duckdb.DuckDBPyConnection]:
    """An empty warehouse in memory."""
    with duckdb.connect() as connection:
        migrate(connection)
        yield connection


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A file whose runs are of models that were published, over training and others."""
    with duckdb.connect(str(compared(tmp_path_factory.mktemp("published")))) as con:
        yield con


@pytest.fixture
def changed(filed: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same file; what a test changes in it is taken back."""
    filed.execute("BEGIN")
    yield filed
    filed.execute("ROLLBACK")
