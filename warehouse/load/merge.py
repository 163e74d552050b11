"""Several warehouses into one: every run once, with its summaries, and each copied row compared with where it came from."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from shlex import quote
from typing import Any

import duckdb

from selfrepair.warehouse import files
from selfrepair.warehouse.database.connection import OnWait, check_folder, move_to_free_name, open_reader, open_writer
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.database.publication import WITHHELD, is_publication
from selfrepair.warehouse.database.transactions import registered, transaction
from selfrepair.warehouse.errors import SelfRepairError, files_given_by
from selfrepair.warehouse.load.loader import call_entry_points
from selfrepair.warehouse.load.names import name_to_give
from selfrepair.warehouse.load.registry import (
    add_run,
    loaded_cut,
    refresh,
    run_id_of,
    units_in,
)
from selfrepair.warehouse.parts.records import DatasetRecord, ModelRecord
from selfrepair.warehouse.parts.version_0_1 import is_of_0_1
from selfrepair.warehouse.schema.tables import metadata

_ARROW = "selfrepair_rows_to_merge"
_ROWS_AT_ONCE = 100_000
_SUMMARIES = "selfrepair_marts"
_OWN = ("runs", "units")
"""Tables of runs that are not copied row by row: numbers in them are this file's own, or the ledger, which comes last."""

_NUMBERED = ("run_id", "model_id", "dataset_id")


@dataclass
class MergedRun:
    """What became of a run of one of the files: `run_id` in the new one, `was` in its own; units that came from there."""

    source: Path
    was: int
    run_id: int
    model: str
    n_units: int
    is_new: bool
    has_summaries: bool = False
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = ("with its summaries" if self.has_summaries else "its rows") if self.is_new else "was there"
        if not self.is_new and self.n_units:
            what = f"was there, and got {self.n_units} more {'unit' if self.n_units == 1 else 'units'}"
        return "; ".join([f"run {self.was} of {self.source} ({self.model}) is run {self.run_id}: {what}", *self.notes])


def merge(
    sources: Sequence[Path],
    target: Path,
    *,
    wait_s: float = 60.0,
    on_wait: OnWait | None = None,
    after_load: bool = True,
) -> list[MergedRun]:
    """Make the warehouse `target` of all runs of `sources`, which stay as they are; what became of each run, in order.

    A run that several of them hold is there once, with the units of all. The first file is copied as it is, and runs keep
    their numbers of it; those of the others get the next ones. Summaries are copied where those of a run are whole, and made
    for the others unless `after_load` is False. Every row that was copied is compared with the one it was copied from, by a
    digest of each table and run.

    `target` appears when it is whole. Raises SelfRepairError, and makes none, where there is such a file, where a source is no
    warehouse of this version's schema, and where two files hold other rows of the same unit, cut a run into other units, or
    measured it with different versions.
    """
    if lakes := [path for path in (*sources, target) if isinstance(path, Lake)]:
        raise SelfRepairError(
            f"{lakes[0]} is a lake, and files are merged. Have it as one: selfrepair move {quote(str(lakes[0]))} FILE.duckdb"
        )
    if len({os.path.realpath(source) for source in sources}) < 2:
        raise SelfRepairError("name at least two different warehouses to merge.")
    with files_given_by("-o"):
        check_folder(target)
    if os.path.lexists(target):
        raise SelfRepairError(
            f"{target} is there already, and is not written over. Choose another name, or move it away."
        )
    real = Path(os.path.realpath(target))
    # Files beside the temporary one have longer names yet, which a folder may not take.
    short = hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]
    temporary = real.parent / files.temporary_name(short)
    log = temporary.with_name(temporary.name + files.WAL)
    first, *others = sources
    if is_publication(first):
        raise SelfRepairError(f"{first} is a publication, of which runs are copied: name a file of your own before it.")
    try:
        files.sweep(real.parent, f"{short}.")  # what a merge left that was killed
        with files.writing(
            f"{target}", real.parent, sum(source.stat().st_size for source in sources if source.exists())
        ):
            _copy_file(first, temporary, wait_s, on_wait)
        with files_given_by("-o"), open_writer(temporary) as into:
            merged = list(_runs_of(into, first))
            for source in others:
                with files_given_by(""), open_reader(source, wait_s, on_wait) as con:
                    _check_has_text(con, source)
                    merged += _merge_one(con, source, into)
            into.execute("CHECKPOINT")
        if after_load:
            call_entry_points(temporary, wait_s, on_wait)
        move_to_free_name(temporary, real)
        files.sync_folder(real.parent)
    except FileExistsError as error:
        raise SelfRepairError(f"another program made {target} in the meantime. Choose another name.") from error
    finally:
        files.remove(temporary)
        files.remove(log)
    return merged


def _check_has_text(con: duckdb.DuckDBPyConnection, source: Path) -> None:
    if con.execute("FROM datasets WHERE fingerprint = ?", [WITHHELD]).fetchall():
        raise SelfRepairError(
            f"{source} was published without its text, and a warehouse has it. Nothing was made. Leave it out, or ask for a "
            "publication with text."
        )


def _copy_file(source: Path, target: Path, wait_s: float, on_wait: OnWait | None) -> None:
    """Copy a warehouse while nobody can write it, with what its log holds."""
    with files_given_by(""), open_reader(source, wait_s, on_wait):
        real = Path(os.path.realpath(source))
        shutil.copyfile(real, target)
        log = real.with_name(real.name + files.WAL)
        if log.exists():
            shutil.copyfile(log, target.with_name(target.name + files.WAL))


def _runs_of(con: duckdb.DuckDBPyConnection, source: Path) -> Iterator[MergedRun]:
    for run_id, model, n_units in con.execute(
        "SELECT run_id, models.name, (SELECT count(*)::INTEGER FROM units WHERE units.run_id = runs.run_id) "
        "FROM runs JOIN models USING (model_id) ORDER BY run_id"
    ).fetchall():
        yield MergedRun(source, run_id, run_id, model, n_units, is_new=True, has_summaries=_has_summaries(con, run_id))


def _merge_one(con: duckdb.DuckDBPyConnection, source: Path, into: duckdb.DuckDBPyConnection) -> Iterator[MergedRun]:
    """Bring the runs of `con`, one transaction each."""
    for run in _runs_of(con, source):
        ((run_key, run_name),) = con.execute(
            "SELECT run_key, run_name FROM runs WHERE run_id = ?", [run.was]
        ).fetchall()
        there = run_id_of(into, run_key)
        run.is_new = there is None
        with transaction(into):
            run.run_id = _add(con, run.was, into, run_name) if there is None else there
            _check_cut(con, run, into, run_key)
            if not run.is_new:
                _check_version(con, run, into)
                _join(con, run, into, run_key)
            own, has = units_in(con, run.was), units_in(into, run.run_id)
            _check_same_rows(con, run, into, own & has)
            run.n_units = len(own - has)
            _copy_units(con, run, into, own - has)
            _copy_crosschecks(con, run, into)
            refresh(into, run.run_id)
            if run.is_new:
                _copy_summaries(con, run, into)
                run.has_summaries = _has_summaries(into, run.run_id)
            if run_name and _column(into, "run_name", run.run_id) is None:
                run.notes.append(f"its name {run_name} is another run's there, or none: it has its number alone")
        yield run


def _add(con: duckdb.DuckDBPyConnection, was: int, into: duckdb.DuckDBPyConnection, run_name: str | None) -> int:
    """Write the rows of a run, its model and its dataset where they are missing; the run's number."""
    (model,) = _records(con, "models", "model_id IN (SELECT model_id FROM runs WHERE run_id = ?)", was)
    (dataset,) = _records(con, "datasets", "dataset_id IN (SELECT dataset_id FROM runs WHERE run_id = ?)", was)
    (columns,) = _records(con, "runs", "run_id = ?", was)
    columns = {name: value for name, value in columns.items() if name not in _NUMBERED}
    columns["run_name"] = name_to_give(into, run_name, columns["run_key"])
    return add_run(
        into,
        columns,
        ModelRecord(**{one.name: model[one.name] for one in fields(ModelRecord)}),
        DatasetRecord(**{one.name: dataset[one.name] for one in fields(DatasetRecord)}),
    )


def _records(con: duckdb.DuckDBPyConnection, table: str, where: str, was: int) -> list[dict[str, Any]]:
    found = con.execute(f"FROM {table} WHERE {where}", [was])
    names = [name for name, *_ in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _check_cut(con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection, run_key: str) -> None:
    ours, theirs = loaded_cut(into, run_key), loaded_cut(con, run_key)
    if ours != theirs:
        raise SelfRepairError(
            f"{_both(run)} are the same run, cut into other units, whose rows cannot be put together. Leave one out: "
            f"{_remove(run)}"
        )


def _check_version(con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection) -> None:
    """Raise SelfRepairError where two versions measured the run: a load mixes their rows as little (`folder.check_version`)."""
    ours, theirs = (_column(of, "software", number).get("selfrepair") for of, number in _in_both(con, run, into))
    if None not in (ours, theirs) and ours != theirs and not (is_of_0_1(ours) or is_of_0_1(theirs)):
        raise SelfRepairError(
            f"{_both(run)} are the same run, measured by selfrepair {theirs} and {ours}, whose rows are not mixed. Leave "
            f"one out: {_remove(run)}"
        )


def _join(con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection, run_key: str) -> None:
    """What the files say of a run beside its rows: tags of all, of the rest what the first says that says something."""
    name, note = _column(con, "run_name", run.was), _column(con, "note", run.was)
    has_name, has_note = _column(into, "run_name", run.run_id), _column(into, "note", run.run_id)
    tags = [tag for of, number in _in_both(con, run, into) for tag in _column(of, "tags", number) or ()]
    into.execute(
        "UPDATE runs SET run_name = coalesce(run_name, $name), note = coalesce(note, $note), tags = $tags, "
        "command = coalesce(command, $command), checks = coalesce(checks, $checks), "
        "n_crosschecks = least(n_crosschecks, $cells) WHERE run_id = $run_id",
        {
            "name": name_to_give(into, name, run_key),
            "note": note,
            "tags": list(dict.fromkeys(tags)) or None,
            "command": _column(con, "command", run.was),
            "checks": _column(con, "checks", run.was),
            "cells": _column(con, "n_crosschecks", run.was),
            "run_id": run.run_id,
        },
    )
    run.notes += [
        f"it keeps its {what} there, which is another"
        for what, given, kept in (("name", name, has_name), ("note", note, has_note))
        if given is not None and kept not in (None, given)
    ]


def _in_both(
    con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection
) -> tuple[tuple[duckdb.DuckDBPyConnection, int], tuple[duckdb.DuckDBPyConnection, int]]:
    return (into, run.run_id), (con, run.was)


def _column(con: duckdb.DuckDBPyConnection, name: str, run_id: int) -> Any:
    ((value,),) = con.execute(f"SELECT {name} FROM runs WHERE run_id = ?", [run_id]).fetchall()
    return value


def _check_same_rows(
    con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection, units: set[int]
) -> None:
    """Raise SelfRepairError for a unit that both files hold with other rows."""
    for table in _tables():
        ours, theirs = _digest(into, run.run_id, table, units), _digest(con, run.was, table, units)
        if ours != theirs:
            raise SelfRepairError(
                f"{_both(run)} are the same run, but hold other rows of {table} ({theirs[0]:,} and {ours[0]:,} of the same "
                f"units): measured on different devices, or changed by hand. Decide for one of them, and leave the other out: "
                f"{_remove(run)}"
            )


def _copy_units(
    con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection, units: set[int]
) -> None:
    if not units:
        return
    for table in ("units", *_tables()):  # which says what prompts a unit has
        _copy(con, run, into, table, _of_units(table, run.was, units))
        ours, theirs = _digest(into, run.run_id, table, units), _digest(con, run.was, table, units)
        if ours != theirs:
            raise SelfRepairError(
                f"rows of {table} of {run} did not arrive as they were ({theirs[0]:,} and {ours[0]:,}). Nothing was made. "
                f"Check the file: selfrepair verify --db {quote(str(run.source))}"
            )


def _copy_crosschecks(con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection) -> None:
    """Copy the cells, of those that both files have the worse error: a run that failed in one of them has failed."""
    columns = _columns("crosschecks")
    rows = con.sql(f"SELECT {columns} FROM crosschecks WHERE run_id = {run.was:d}").to_arrow_table()
    with registered(into, _ARROW, rows):
        into.execute(
            f"UPDATE crosschecks AS old SET error_max = new.error_max, n_rows = new.n_rows FROM {_ARROW} AS new "
            "WHERE old.run_id = ? AND (old.prompt_id, old.layer, old.head, old.ablation) = "
            "(new.prompt_id, new.layer, new.head, new.ablation) AND new.error_max > old.error_max",
            [run.run_id],
        )
        into.execute(
            f"INSERT INTO crosschecks (run_id, {columns}) SELECT ?, {columns} FROM {_ARROW} AS new WHERE NOT EXISTS ("
            "FROM crosschecks AS old WHERE old.run_id = ? AND (old.prompt_id, old.layer, old.head, old.ablation) = "
            "(new.prompt_id, new.layer, new.head, new.ablation))",
            [run.run_id, run.run_id],
        )


def _copy_summaries(con: duckdb.DuckDBPyConnection, run: MergedRun, into: duckdb.DuckDBPyConnection) -> None:
    """Copy a run's summaries, where both files have tables of the same columns for them: of this version, or of one earlier,
    whose summaries are then made anew. They count for as long as the ledger of units agrees with them.
    """
    ours, theirs = _summary_tables(into), _summary_tables(con)
    if ours != theirs:
        return
    for table, columns in ours.items():
        if "run_id" in columns:
            _copy(con, run, into, f"{_SUMMARIES}.{table}", "true", [name for name in columns if name != "run_id"])


def _has_summaries(con: duckdb.DuckDBPyConnection, run_id: int) -> bool:
    ledger = f"FROM {_SUMMARIES}.refreshed WHERE run_id = ?"
    return "refreshed" in _summary_tables(con) and bool(con.execute(ledger, [run_id]).fetchall())


def _copy(
    con: duckdb.DuckDBPyConnection,
    run: MergedRun,
    into: duckdb.DuckDBPyConnection,
    table: str,
    where: str,
    columns: Sequence[str] | None = None,
) -> None:
    names = _columns(table) if columns is None else ", ".join(f'"{name}"' for name in columns)
    rows = con.sql(f"SELECT {names} FROM {table} WHERE run_id = {run.was:d} AND {where}")
    with registered(into, _ARROW, rows.to_arrow_reader(_ROWS_AT_ONCE)):
        into.execute(f"INSERT INTO {table} (run_id, {names}) SELECT {run.run_id:d}, {names} FROM {_ARROW}")


def _digest(con: duckdb.DuckDBPyConnection, run_id: int, table: str, units: set[int]) -> tuple[int, str]:
    """How many rows of the run a table has in these units, and a digest of them, whatever their order."""
    ((n_rows, digest),) = con.execute(
        f"SELECT count(*), concat_ws(' ', bit_xor(hash(new)), sum(hash(new) % 1000003)) "
        f"FROM (SELECT {_columns(table)} FROM {table} WHERE run_id = {run_id:d} AND {_of_units(table, run_id, units)}) AS new"
    ).fetchall()
    return int(n_rows), str(digest)


def _of_units(table: str, run_id: int, units: set[int]) -> str:
    """The condition on a table's rows of a run that they are of these units."""
    listed = ", ".join(map(str, sorted(units))) or "NULL"
    if "unit" in metadata.tables[table].columns:
        return f"unit IN ({listed})"
    return (
        f"EXISTS (FROM units AS unit_of WHERE unit_of.run_id = {run_id:d} AND prompt_id >= first_prompt "
        f"AND prompt_id < first_prompt + n_prompts AND unit IN ({listed}))"
    )


def _tables() -> list[str]:
    """Tables that hold rows of units."""
    names = [table.name for table in metadata.sorted_tables if "run_id" in table.columns]
    return [name for name in names if name not in (*_OWN, "crosschecks")]


def _columns(table: str) -> str:
    return ", ".join(column.name for column in metadata.tables[table].columns if column.name != "run_id")


def _summary_tables(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    rows = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM system.main.duckdb_columns() WHERE schema_name = ? "
        "AND database_name = system.main.current_database() GROUP BY table_name ORDER BY table_name",
        [_SUMMARIES],
    ).fetchall()
    return dict(rows)


def _both(run: MergedRun) -> str:
    return f"run {run.was} of {run.source} and run {run.run_id} of the files before it"


def _remove(run: MergedRun) -> str:
    return f"selfrepair remove --db {quote(str(run.source))} {run.was}, in a copy of the file if you keep it"
