"""What part files and the warehouse have of runs, for those who measure them elsewhere: how they are cut, which cells are
cross-checked, and the measured rows of cells. Without torch.
"""

import contextlib
import glob
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from selfrepair.ingest.conventions import EFFECTS
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.crosschecks import read_cells
from selfrepair.warehouse.load.registry import Cut, cut_of, loaded_cut
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.listing import run_keys
from selfrepair.warehouse.parts.records import CrosscheckCell
from selfrepair.warehouse.parts.version_0_1 import completed

Cell: TypeAlias = tuple[int, int, int, str]
"""`prompt_id`, layer, head, ablation."""

_WAIT_S = 60.0


def all_cuts(parts_root: Path, db: Path) -> dict[str, Cut]:
    """How each run is cut, as far as that is known. Raises SelfRepairError as `open_reader` does."""
    found: dict[str, Cut] = {}
    if db.exists():
        with open_reader(db, wait_s=_WAIT_S) as con:
            keys = [key for (key,) in con.execute("SELECT run_key FROM runs").fetchall()]
            found = {key: cut for key in keys if (cut := loaded_cut(con, key)) is not None}
    for key in run_keys(parts_root):
        with contextlib.suppress(SelfRepairError):  # its record is lost or damaged
            found[key] = cut_of(PartsFolder(parts_root, key).run())
    return found


def is_whole(db: Path, run_key: str) -> bool:
    """Whether nothing of the run is left to measure: all of it is in the warehouse, or the warehouse knows no such run."""
    if not db.exists():
        return True
    with open_reader(db, wait_s=_WAIT_S) as con:
        found = con.execute("SELECT status FROM runs WHERE run_key = ?", [run_key]).fetchall()
    return not found or found[0][0] != "incomplete"


def known_cells(parts: PartsFolder, db: Path) -> set[Cell]:
    """The cells that were cross-checked: those of the part files, of whatever shards, and of the warehouse."""
    known: list[CrosscheckCell] = []
    for path in parts.finished_crosschecks():
        with contextlib.suppress(SelfRepairError):  # it is damaged: its cells are measured again
            known += read_cells(path, parts.run_key)
    found = {(cell.prompt_id, cell.layer, cell.head, cell.ablation) for cell in known}
    if not db.exists():
        return found
    with open_reader(db, wait_s=_WAIT_S) as connection:
        rows = connection.execute(
            """
            SELECT prompt_id, layer, head, CAST(ablation AS VARCHAR)
            FROM crosschecks JOIN runs USING (run_id) WHERE run_key = $run_key
            """,
            {"run_key": parts.run_key},
        ).fetchall()
    return found | {(prompt, layer, head, ablation) for prompt, layer, head, ablation in rows}


def files_of_cells(parts: PartsFolder, db: Path, unit_of: Mapping[int, int], cells: Iterable[Cell]) -> dict[int, bytes]:
    """For each unit with some of the cells, a measurements.parquet of their rows alone; `unit_of` has each prompt's unit."""
    of_unit: dict[int, list[Cell]] = defaultdict(list)
    for cell in cells:
        of_unit[unit_of[cell[0]]].append(cell)
    found: dict[int, bytes] = {}
    with duckdb.connect() as con:
        for unit, rows in rows_of_cells(con, parts, db, of_unit).items():
            file = io.BytesIO()
            pq.write_table(rows, file)
            found[unit] = file.getvalue()
    return found


def rows_of_cells(
    con: duckdb.DuckDBPyConnection, parts: PartsFolder, db: Path, of_unit: Mapping[int, Iterable[Cell]]
) -> dict[int, pa.Table]:
    """The stored rows of cells, by their unit: in the order of the cells, each cell's by pos. From the part files, which any
    `con` can read, or from the warehouse once they are loaded. A model without post-norms has 0 of their part.
    """
    found: dict[int, pa.Table] = {}
    for unit, cells in of_unit.items():
        path = parts.unit_path(unit) / "measurements.parquet"
        # The folder's name is nobody's pattern, and a name such as layer=5 brings no column.
        file = completed("measurements", "read_parquet($file, hive_partitioning = false)")
        try:
            found[unit] = _rows(con, cells, file, file=glob.escape(str(path)))
        except duckdb.IOException:  # it is loaded, perhaps just now
            if path.exists():
                raise
    loaded = of_unit.keys() - found.keys()
    if loaded:
        with open_reader(db, wait_s=_WAIT_S) as connection:
            of_run = "(SELECT * FROM measurements WHERE run_id = (SELECT run_id FROM runs WHERE run_key = $run_key))"
            found |= {unit: _rows(connection, of_unit[unit], of_run, run_key=parts.run_key) for unit in sorted(loaded)}
    return found


def _rows(con: duckdb.DuckDBPyConnection, cells: Iterable[Cell], source: str, **values: str) -> pa.Table:
    """The rows of the cells in a table or in part files."""
    # NULL, or no such column in part files of earlier versions: the model has no post-norms
    effects = [name if name != "repair_post_norm" else f"coalesce({name}, 0) AS {name}" for name in EFFECTS]
    columns = ("prompt_id", "layer", "head", "CAST(ablation AS VARCHAR) AS ablation", "pos", *effects)
    names = ("prompt", "layer", "head", "ablation")
    tables: list[pa.Table] = []
    for cell in cells:
        query = con.sql(
            f"SELECT {', '.join(columns)} FROM {source} "
            "WHERE prompt_id = $prompt AND layer = $layer AND head = $head AND ablation = $ablation ORDER BY pos",
            params={**values, **dict(zip(names, cell, strict=True))},
        )
        tables.append(query.to_arrow_table())
    return pa.concat_tables(tables)
