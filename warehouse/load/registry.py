"""The rows of models, datasets and runs: written on first sight, brought up to date after each load."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import duckdb

from selfrepair.warehouse.database.lake.tables import allowed
from selfrepair.warehouse.errors import SelfRepairError, file_option
from selfrepair.warehouse.load.names import check_name_is_free, name_to_give
from selfrepair.warehouse.parts.folder import check_version
from selfrepair.warehouse.parts.records import DatasetRecord, ModelRecord, RunRecord

_MODEL_KEY = ("name", "revision", "checkpoint", "weights_sha256", "config_sha256")
NO_COLUMNS = ("model", "dataset", "tokenizer_sha256")
"""Fields of a run's record that are no columns of runs."""

_MUST_AGREE = ("n_prompts", "n_units", "n_measurements")

_REFRESH = """
WITH
loaded AS (
    SELECT
        count(*) AS n_units,
        max(identity_error_max) AS identity_error_max,
        max(measured_at) AS measured_at
    FROM units
    WHERE run_id = $run_id
),
checked AS (
    SELECT
        count(*) AS n_cells,
        max(error_max) AS error_max,
        coalesce(sum(n_rows), 0) AS n_rows
    FROM crosschecks
    WHERE run_id = $run_id
)
UPDATE runs
SET
    identity_error_max = loaded.identity_error_max,
    crosscheck_error_max = checked.error_max,
    crosscheck_rows = checked.n_rows,
    finished_at = CASE WHEN loaded.n_units = runs.n_units THEN loaded.measured_at END,
    status = CASE
        WHEN checked.error_max > runs.crosscheck_tolerance THEN 'failed'
        WHEN loaded.n_units = runs.n_units AND checked.n_cells >= runs.n_crosschecks THEN 'complete'
        ELSE 'incomplete'
    END
FROM loaded, checked
WHERE run_id = $run_id
"""


_DATASET_OF_EARLIER_RUN = """
WITH lines AS (
    SELECT
        prompt_id,
        concat_ws(' ', token_ids::VARCHAR, document_id, nullif(runs.logit_of, 'next_token'), any_value(foil_id)) AS line
    FROM prompts
    JOIN runs USING (run_id)
    JOIN models USING (model_id)
    LEFT JOIN tokens USING (run_id, prompt_id)
    WHERE run_id = $run_id AND config_sha256 IS NULL
    GROUP BY prompt_id, token_ids, document_id, logit_of
)
SELECT datasets.* REPLACE (sha256(string_agg(sha256(line), '' ORDER BY prompt_id)) AS fingerprint)
FROM runs JOIN datasets USING (dataset_id) CROSS JOIN lines
WHERE run_id = $run_id
GROUP BY ALL
"""
"""The dataset of a run whose fingerprint may be of version 0.1, which hashed the partners, too: it is computed anew, as
`ingest.text.prompts` does. No row for a run of this version.
"""

_IS_WHOLE = """
SELECT
    n_units = (SELECT count(*) FROM units WHERE run_id = $run_id)
    AND n_crosschecks <= (SELECT count(*) FROM crosschecks WHERE run_id = $run_id)
FROM runs
WHERE run_id = $run_id
"""


class Cut(NamedTuple):
    """How a run is cut into units: how many there are, and the rows of each at most; None: by an earlier version."""

    n_units: int
    rows_in_unit: int | None


def run_id_of(con: duckdb.DuckDBPyConnection, run_key: str) -> int | None:
    """The number of the run with this key, or None."""
    rows = con.execute("SELECT run_id FROM runs WHERE run_key = ?", [run_key]).fetchall()
    return rows[0][0] if rows else None


def cut_of(run: RunRecord) -> Cut:
    """How the run was cut when it was begun."""
    return Cut(run.n_units, run.rows_in_unit)


def loaded_cut(con: duckdb.DuckDBPyConnection, run_key: str) -> Cut | None:
    """How the run with this key was cut, or None where there is no such run."""
    rows = con.execute("SELECT n_units, rows_in_unit FROM runs WHERE run_key = ?", [run_key]).fetchall()
    return Cut(*rows[0]) if rows else None


def units_in(con: duckdb.DuckDBPyConnection, run_id: int) -> set[int]:
    """Numbers of the run's loaded units."""
    return {unit for (unit,) in con.execute("SELECT unit FROM units WHERE run_id = ?", [run_id]).fetchall()}


def register(con: duckdb.DuckDBPyConnection, run: RunRecord) -> int:
    """The number of the run in this file; writes its row, its model's and its dataset's where they are missing, each with
    a number that no other row ever had.

    Call it inside a transaction. Raises SelfRepairError when the file has a run of this key with other sizes, or when
    a field breaks a table's rule.
    """
    run_id = run_id_of(con, run.run_key)
    if run_id is not None:
        _check_same(con, run_id, run)
        con.execute(
            "UPDATE runs SET command = coalesce(command, $command), checks = coalesce($checks, checks), "
            "n_crosschecks = least(n_crosschecks, $cells), run_name = coalesce(run_name, $name) WHERE run_id = $run_id",
            {
                "command": run.command,
                "checks": run.checks,
                "cells": run.n_crosschecks,
                "name": name_to_give(con, run.run_name, run.run_key),
                "run_id": run_id,
            },
        )
        return run_id
    columns = {name: value for name, value in vars(run).items() if name not in NO_COLUMNS}
    columns["run_name"] = name_to_give(con, run.run_name, run.run_key)
    try:
        return add_run(con, columns | {"status": "incomplete", "crosscheck_rows": 0}, run.model, run.dataset)
    except (duckdb.ConstraintException, duckdb.ConversionException, duckdb.InvalidInputException) as error:
        raise SelfRepairError(
            f"run {run.run_key} breaks a rule of the tables: {error}. Its run.json was altered or another version "
            "wrote it; measure again."
        ) from error


def add_run(
    con: duckdb.DuckDBPyConnection, columns: Mapping[str, Any], model: ModelRecord, dataset: DatasetRecord
) -> int:
    """Write the row of a run, with its model's and its dataset's where they are missing; its number, which no run ever had."""
    model_id = _find(con, "models", "model_id", model, _MODEL_KEY)
    if model_id is None:
        model_id = _insert(con, "models", "model_id", vars(model))
    own = {"model_id": model_id, "dataset_id": _dataset_id(con, dataset)}
    return _insert(con, "runs", "run_id", {**columns, **own})


def check_resumed(con: duckdb.DuckDBPyConnection, run: RunRecord) -> None:
    """Raise SelfRepairError where the file has a run of this key that the parts of `run` do not belong to, or another run of
    the name that it is to have. Changes nothing.
    """
    found = con.execute("SELECT run_id, run_name FROM runs WHERE run_key = ?", [run.run_key]).fetchall()
    for run_id, _ in found:
        _check_same(con, run_id, run)
    if run.run_name is not None and not any(name for _, name in found):
        check_name_is_free(con, run.run_name, run.run_key)


def refresh(con: duckdb.DuckDBPyConnection, run_id: int) -> bool:
    """Bring status, finished_at and the errors of a run in line with the units and cross-checks that are loaded.

    Returns True when nothing of the run is missing any more, whatever the cross-check says.
    """
    con.execute(_REFRESH, {"run_id": run_id})
    ((is_whole,),) = con.execute(_IS_WHOLE, {"run_id": run_id}).fetchall()
    if is_whole:
        _rename_earlier_dataset(con, run_id)
    return bool(is_whole)


def _rename_earlier_dataset(con: duckdb.DuckDBPyConnection, run_id: int) -> None:
    """Give a run that version 0.1 began the dataset of its tokens, whatever its prompts are paired with."""
    for before, *values in con.execute(_DATASET_OF_EARLIER_RUN, {"run_id": run_id}).fetchall():
        dataset_id = _dataset_id(con, DatasetRecord(*values))
        if dataset_id != before:
            con.execute("UPDATE runs SET dataset_id = ? WHERE run_id = ?", [dataset_id, run_id])
            con.execute(
                "DELETE FROM datasets WHERE dataset_id = ? AND dataset_id NOT IN (SELECT dataset_id FROM runs)",
                [before],
            )


def _dataset_id(con: duckdb.DuckDBPyConnection, dataset: DatasetRecord) -> int:
    known = _find(con, "datasets", "dataset_id", dataset, tuple(vars(dataset)))
    return _insert(con, "datasets", "dataset_id", vars(dataset)) if known is None else known


def _find(
    con: duckdb.DuckDBPyConnection, table: str, key: str, record: ModelRecord | DatasetRecord, columns: Sequence[str]
) -> int | None:
    same = " AND ".join(f"{column} IS NOT DISTINCT FROM ?" for column in columns)
    values = [getattr(record, column) for column in columns]
    rows = con.execute(f"SELECT {key} FROM {table} WHERE {same}", values).fetchall()
    return rows[0][0] if rows else None


def _insert(con: duckdb.DuckDBPyConnection, table: str, key: str, columns: Mapping[str, Any]) -> int:
    con.execute("UPDATE last_numbers SET last_number = last_number + 1 WHERE table_name = ?", [table])
    ((number,),) = con.execute("SELECT last_number FROM last_numbers WHERE table_name = ?", [table]).fetchall()
    names = ", ".join(columns)
    marks = ", ".join("?" for _ in columns)
    con.execute(
        f"INSERT INTO {table} ({key}, {names}) VALUES (?, {marks})",
        [number, *(list(value) if isinstance(value, tuple) else value for value in columns.values())],
    )
    con.execute(f"SELECT {allowed(con, table)} FROM {table} WHERE {key} = {number:d}").fetchall()
    return int(number)


def _check_same(con: duckdb.DuckDBPyConnection, run_id: int, run: RunRecord) -> None:
    software, *known = con.execute(
        f"SELECT software, {', '.join(_MUST_AGREE)} FROM runs WHERE run_id = ?", [run_id]
    ).fetchall()[0]
    check_version(run.run_key, software, run.software)
    for name, value in zip(_MUST_AGREE, known, strict=True):
        if value != getattr(run, name):
            raise SelfRepairError(
                f"run {run.run_key} is in this warehouse with {name} = {value}, and its parts say "
                f"{getattr(run, name)}. They do not belong together: load these parts into another file with "
                f"{file_option('into=') or 'another name'}."
            )
