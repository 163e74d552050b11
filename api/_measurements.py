"""What `measure` returns: the rows of one run as polars frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from selfrepair.queries.catalog.macros import create_temp_macros
from selfrepair.queries.catalog.relations import views

_VIEWS = ("repair_rows", "repeated_rows", "self_repair")
"""The view that is read, and those it is made of."""


@dataclass(frozen=True, repr=False)
class Measurements:
    """One run. Frames have the columns of the warehouse's tables of the same names without `run_id`; docs/views.md says what
    each means. Effects are in logits, rounded to 1e-4.

    `measurements` has a row for each ablation, layer, head, prompt and position; `tokens` for each prompt and position;
    `prompts` for each prompt, in order of length, `document_id` being its index in what was passed. `self_repair` has the
    rows of `measurements` with tokens, `removed_effect` and `self_repair`. `mechanisms` holds the tables of the mechanisms
    that were measured, by name. `identity_error_max` is the largest |self-repair - (LayerNorm + attention + MLPs)| and
    `crosscheck_error_max` the largest difference from the `crosscheck_rows` rows that were measured again by
    plain forwards with hooks [logits].
    """

    model: str
    weights_sha256: str
    run_key: str
    identity_error_max: float
    crosscheck_error_max: float
    crosscheck_rows: int
    measurements: pl.DataFrame
    tokens: pl.DataFrame
    prompts: pl.DataFrame
    self_repair: pl.DataFrame
    mechanisms: Mapping[str, pl.DataFrame]

    def __repr__(self) -> str:
        n_prompts = self.prompts.height
        return (
            f"<Measurements of {self.model}: {self.measurements.height:,} rows, {n_prompts:,} prompts, identity within "
            f"{self.identity_error_max:.1e}, {self.crosscheck_rows:,} rows cross-checked within "
            f"{self.crosscheck_error_max:.1e} logits>"
        )


def read_measurements(db: Path, mechanism_tables: tuple[str, ...]) -> Measurements:
    """The only run of the file `db`; of the tables of mechanisms those that have rows."""
    with duckdb.connect(str(db), read_only=True) as con:
        create_temp_macros(con)
        for view in views():
            if view.name in _VIEWS:
                con.execute(f"CREATE TEMP VIEW {view.name} AS\n{view.sql}")

        def frame(name: str) -> pl.DataFrame:
            return con.sql(f"SELECT * EXCLUDE (run_id) FROM {name}").pl()

        (run,) = (
            con.sql(
                "SELECT name AS model, weights_sha256, run_key, identity_error_max, crosscheck_error_max, crosscheck_rows "
                "FROM runs INNER JOIN models USING (model_id)"
            )
            .pl()
            .to_dicts()
        )
        found = {name: frame(name) for name in mechanism_tables}
        return Measurements(
            **run,
            measurements=frame("measurements"),
            tokens=frame("tokens"),
            prompts=frame("prompts"),
            self_repair=frame("self_repair"),
            mechanisms={name: table for name, table in found.items() if not table.is_empty()},
        )
