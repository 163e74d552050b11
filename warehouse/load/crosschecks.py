"""Cells that were measured a second time, on their way from their files into the table, each once."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import duckdb
import pyarrow as pa

from selfrepair.warehouse.database.lake.tables import allowed
from selfrepair.warehouse.database.transactions import registered
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import read_file
from selfrepair.warehouse.parts.manifest import RunStamp, difference, unsealed
from selfrepair.warehouse.parts.records import CrosscheckCell

_ARROW = "selfrepair_cells_to_append"
_INSERT = f"""
INSERT INTO crosschecks (run_id, prompt_id, layer, head, ablation, n_rows, error_max)
SELECT $run_id, prompt_id, layer, head, ablation, n_rows, error_max FROM {_ARROW} AS cells
WHERE {{allowed}} AND NOT EXISTS (
    FROM crosschecks AS known WHERE known.run_id = $run_id
    AND (known.prompt_id, known.layer, known.head, known.ablation) = (cells.prompt_id, cells.layer, cells.head, cells.ablation)
)
"""


def read_cells(path: Path, run_key: str, stamp: RunStamp | None = None) -> list[CrosscheckCell]:
    """The cells of a cross-check file; SelfRepairError when it was altered, or is of another run than that of the key and
    stamp.
    """
    try:
        text = read_file(path).decode()
        found = {"run": None, "cells": json.loads(text)} if text.startswith("[") else unsealed(text)
        cells = [CrosscheckCell(**cell) for cell in found["cells"]]
        own = RunStamp(**found["run"]) if found["run"] else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SelfRepairError(f"it cannot be read as a list of cells ({error})") from error
    if different := difference(own, run_key, stamp):
        raise SelfRepairError(f"it {different}")
    return cells


def append_cells(con: duckdb.DuckDBPyConnection, run_id: int, cells: Sequence[CrosscheckCell]) -> int:
    """Append the cells that are not there yet; returns how many. A cell that is there keeps its first result.

    Call it inside a transaction. Raises SelfRepairError or duckdb.Error when the table refuses a cell.
    """
    before = _count(con, run_id)
    if cells:
        try:
            first = {(cell.prompt_id, cell.layer, cell.head, cell.ablation): asdict(cell) for cell in reversed(cells)}
            rows = pa.Table.from_pylist(list(reversed(first.values())))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise SelfRepairError(f"its cells are no numbers and ablations: {error}") from error
        with registered(con, _ARROW, rows):
            con.execute(_INSERT.format(allowed=allowed(con, "crosschecks")), {"run_id": run_id})
    return _count(con, run_id) - before


def _count(con: duckdb.DuckDBPyConnection, run_id: int) -> int:
    rows = con.execute("SELECT count(*) FROM crosschecks WHERE run_id = ?", [run_id]).fetchall()
    return int(rows[0][0])
