"""Cells that were measured a second time, on their way from their files into the table, each once."""

import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import duckdb

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import read_file
from selfrepair.warehouse.parts.manifest import RunStamp, difference, unsealed
from selfrepair.warehouse.parts.records import CrosscheckCell

_INSERT = """
INSERT INTO crosschecks (run_id, prompt_id, layer, head, ablation, n_rows, error_max)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
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

    Call it inside a transaction. Raises duckdb.Error when the table refuses a cell.
    """
    before = _count(con, run_id)
    if cells:
        con.executemany(_INSERT, [(run_id, *astuple(cell)) for cell in cells])
    return _count(con, run_id) - before


def _count(con: duckdb.DuckDBPyConnection, run_id: int) -> int:
    rows = con.execute("SELECT count(*) FROM crosschecks WHERE run_id = ?", [run_id]).fetchall()
    return int(rows[0][0])
