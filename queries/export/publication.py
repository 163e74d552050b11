"""A warehouse as a publication (see `warehouse.database.publication`): Parquet files by run, a small DuckDB file, a card.

Everything is read through a fenced session, and summaries are read from the publication itself: nothing can be in them that
is not in its tables.
"""

import glob
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import duckdb

from selfrepair.queries.catalog.describe import public
from selfrepair.queries.catalog.quoting import identifier, literal
from selfrepair.queries.catalog.relations import Relation, relations
from selfrepair.queries.catalog.which_run import RUNS, label_of, which_run
from selfrepair.queries.export.card import About, Written, card
from selfrepair.queries.export.files import appearing_whole, write_file
from selfrepair.queries.marts.install import install
from selfrepair.queries.marts.refresh import definition, stored_tables
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse import files
from selfrepair.warehouse.database.connection import FILE_FORMAT, open_reader
from selfrepair.warehouse.database.limits import CLOSED, Settings
from selfrepair.warehouse.database.migrate import migrate, migrations
from selfrepair.warehouse.database.publication import CARD, FILES_VARIABLE, MANIFEST, SMALL_FILE, WITHHELD, manifest_of
from selfrepair.warehouse.database.transactions import registered, transaction
from selfrepair.warehouse.errors import SelfRepairError, no_run
from selfrepair.warehouse.schema import MEASURED_TABLES
from selfrepair.warehouse.verify.verification import checks

OnWritten = Callable[[str, int], None]
"""Called with the name of a table or view and the number of its rows, when its files are written."""

_SMALL_TABLES = ("models", "datasets", "runs", "units", "crosschecks", "last_numbers")
_FIRST_IN_ORDER = ("layer", "head", "ablation", "prompt_id", "pos")
_ROWS = "selfrepair_rows_to_publish"
_ONLY_HERE = re.compile(r"\..*|(?:.*[=:,@])?[/~].*|.*\\.*|.*/\.\.?(?:/.*)?|(?:s3|gs|az)://.*")
"""A word of a command that names a place on one machine."""

_SMALL_BLOCKS: Settings = {"default_block_size": 16_384}
"""Each column of each table takes a block at least, and there are thousands."""

_WITHHELD: Mapping[str, Mapping[str, str]] = {
    "prompts": {"token_ids": "list_transform(token_ids, lambda x: CAST(NULL AS INTEGER))", "text": "''"},
    "tokens": {
        **{name: f"CAST(NULL AS {kind})" for name, kind in (("token_id", "INTEGER"), ("token", "VARCHAR"))},
        **{name: f"CAST(NULL AS {kind})" for name, kind in (("target_id", "INTEGER"), ("target", "VARCHAR"))},
        "foil_id": "CASE WHEN foil_id IS NOT NULL THEN -1 END",
        "foil": "CAST(NULL AS VARCHAR)",
    },
    "datasets": {
        "name": f"'{WITHHELD}-' || dataset_id",
        "split": "CAST(NULL AS VARCHAR)",
        "revision": "CAST(NULL AS VARCHAR)",
        "fingerprint": literal(WITHHELD),
    },
    "runs": {"command": "CAST(NULL AS VARCHAR)", "note": "CAST(NULL AS VARCHAR)"},
}
"""By table and column, what is published instead of text, or of what text can be looked up by; prompts keep their lengths."""

_OF_MACHINES: Mapping[str, Mapping[str, str]] = {
    "units": dict.fromkeys(("host", "worker"), "CAST(NULL AS VARCHAR)"),
}
"""What is nobody's business elsewhere."""

_SUMMARISED = """
SELECT run_id
FROM selfrepair_marts.refreshed
INNER JOIN (SELECT run_id, count(*) AS n_units, max(loaded_at) AS last_loaded_at FROM units GROUP BY run_id)
    USING (run_id, n_units, last_loaded_at)
WHERE definition = $definition
"""


@dataclass(frozen=True)
class Options:
    """What is published, and how: `runs` by number or name, all complete ones where none is named."""

    runs: Sequence[str] = ()
    without_text: bool = False
    licence: str | None = None
    title: str | None = None


def publish(
    session: Session, folder: Path, options: Options, on_written: OnWritten = lambda name, n_rows: None
) -> list[int]:
    """Write the publication into a new `folder`; the numbers of its runs.

    The folder appears when it is whole. Raises SelfRepairError where there is something in it already, where a run is not
    complete, is damaged (see `verify`) or its summaries are not up to date, and where files cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SelfRepairError(
            f"{folder} is there already and would be mixed with this publication. Name another folder, or remove that one."
        )
    chosen = _chosen(session, options.runs)
    _refuse_damaged(session.db, chosen)
    hidden = _WITHHELD if options.without_text else {}
    with appearing_whole(folder) as temporary:
        temporary.mkdir()
        about = About(options.title, options.licence, options.without_text, version("selfrepair"), date.today())
        parquet: dict[str, list[str]] = {}
        written = []
        for name in MEASURED_TABLES:
            rows = {run_id: _write_rows(session, name, run_id, hidden.get(name, {}), temporary) for run_id in chosen}
            parquet[name] = [_place(name, run_id) for run_id, n_rows in rows.items() if n_rows]
            written.append(Written(relations()[name], sum(rows.values()), by_run=True))
            on_written(name, sum(rows.values()))
        _make_small_file(session, temporary, chosen, hidden, parquet)
        manifest = {"selfrepair": about.version, "schema": len(migrations()), "without_text": options.without_text}
        (temporary / MANIFEST).write_bytes(manifest_of(temporary, manifest))  # the folder has no name of its own yet
        with Session(temporary) as published:
            for relation in _summaries():
                n_rows = _write_summary(published, relation, temporary)
                written.append(Written(relation, n_rows, by_run=False))
                on_written(relation.name, n_rows)
            text = card(published, [one for one in written if one.n_rows], about)
        files.write_file(temporary / CARD, text.encode())
        (temporary / MANIFEST).write_bytes(manifest_of(temporary, manifest))
    return chosen


def _chosen(session: Session, named: Sequence[str]) -> list[int]:
    runs = session.rows(RUNS)
    if not runs:
        raise SelfRepairError(no_run(session.db))
    meant = [which_run(runs, None, run) for run in named] or [run for run in runs if run["status"] == "complete"]
    for run in meant:
        if run["status"] != "complete":
            raise SelfRepairError(
                f"run {label_of(run)} is {run['status']}, and only what is complete is published. See: selfrepair runs"
            )
    if not meant:
        raise SelfRepairError(f"{session.db} holds no run that is complete. See: selfrepair runs")
    chosen = sorted({int(run["run_id"]) for run in meant})
    summarised = "refreshed" in session.names() and {
        row["run_id"] for row in session.rows(_SUMMARISED, {"definition": definition()})
    }
    if missing := sorted(set(chosen) - (summarised or set())):
        raise SelfRepairError(
            f"the summaries of run {missing[0]} are missing or out of date: selfrepair refresh --db "
            f"{shlex.quote(str(session.db))}, then publish again."
        )
    return chosen


def _refuse_damaged(db: Path, run_ids: Collection[int]) -> None:
    """Whoever reads a publication trusts it unseen, and its health shows no rules that read all rows."""
    with open_reader(db) as con:
        broken = [check for check in checks(con, run_ids) if not check.ok]
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise SelfRepairError(
            f"nothing was published, since it is not so that {broken[0].name}: {broken[0].detail}{more}. See: selfrepair "
            f"verify --db {shlex.quote(str(db))}. Other runs can be published: --run RUN"
        )


def _place(table: str, run_id: int) -> str:
    return f"{table}/run_id={run_id}/rows.parquet"


def _write_rows(session: Session, table: str, run_id: int, hidden: Mapping[str, str], folder: Path) -> int:
    """The rows of a run in an order in which one head's lie together, and the same rows always make the same file."""
    columns = relations()[table].columns
    names = [column.name for column in columns]
    keys = [name for name in _FIRST_IN_ORDER if name in names]
    keys += [column.name for column in columns if column.name not in keys and column.type not in ("FLOAT", "VARCHAR")]
    keys = [f'"{name}"' for name in keys if name not in hidden and not name.endswith("_ids")]
    sql = (
        f"SELECT {_selected(relations()[table], hidden)} FROM {identifier(table)} WHERE run_id = {run_id:d} "
        f"ORDER BY {', '.join(f'{table}.{key}' for key in keys)}"
    )
    path = folder / _place(table, run_id)
    path.parent.mkdir(parents=True)
    n_rows = write_file(session.batches(sql).to_reader(), path, "parquet")
    if not n_rows:
        path.unlink()
        path.parent.rmdir()
        if not any(path.parents[1].iterdir()):
            path.parents[1].rmdir()
    return n_rows


def _selected(relation: Relation, hidden: Mapping[str, str]) -> str:
    """The columns in types that every reader of Parquet has, `datasets` among them."""
    return ", ".join(
        f"{hidden.get(one.name) or _plain(one.name, one.type)} AS {identifier(one.name)}" for one in relation.columns
    )


def _plain(name: str, kind: str) -> str:
    column = identifier(name)
    if kind.startswith("ENUM"):
        return f"CAST({column} AS VARCHAR{'[]' if kind.endswith('[]') else ''})"
    if kind.startswith(("MAP", "STRUCT")):
        return f"CAST(to_json({column}) AS VARCHAR)"
    return column


def _make_small_file(
    session: Session,
    folder: Path,
    run_ids: Sequence[int],
    hidden: Mapping[str, Mapping[str, str]],
    parquet: Mapping[str, Sequence[str]],
) -> None:
    open_to_files = {name: value for name, value in CLOSED.items() if name != "enable_external_access"}
    with closing(
        duckdb.connect(str(folder / SMALL_FILE), config={**open_to_files, **FILE_FORMAT, **_SMALL_BLOCKS})
    ) as con:
        migrate(con)
        con.execute(f"SET VARIABLE {FILES_VARIABLE} = {literal(f'{glob.escape(str(folder.absolute()))}/')}")
        with transaction(con):  # waits for the disk once
            for table in _SMALL_TABLES:
                con.execute(f"DELETE FROM {table}")
                _copy(session, con, table, _rows_of(session, table, run_ids, hidden))
            for table, names in parquet.items():
                if names:
                    _make_view(con, table, names)
        install(con)
        listed = ", ".join(map(str, run_ids))
        with transaction(con):
            for table in stored_tables():
                mart = f"selfrepair_marts.{identifier(table)}"
                _copy(session, con, mart, f"FROM {mart} WHERE run_id IN ({listed})")
        con.execute("CHECKPOINT")


def _rows_of(session: Session, table: str, run_ids: Iterable[int], hidden: Mapping[str, Mapping[str, str]]) -> str:
    replaced = {**hidden.get(table, {}), **_OF_MACHINES.get(table, {})}
    listed = ", ".join(map(str, run_ids))
    where = {
        "models": f"model_id IN (SELECT model_id FROM runs WHERE run_id IN ({listed}))",
        "datasets": f"dataset_id IN (SELECT dataset_id FROM runs WHERE run_id IN ({listed}))",
        "last_numbers": "true",
    }.get(table, f"run_id IN ({listed})")
    if table == "runs" and "command" not in replaced:
        commands = session.rows(f"SELECT DISTINCT command FROM runs WHERE run_id IN ({listed}) AND command IS NOT NULL")
        here = [literal(row["command"]) for row in commands if _names_a_place(row["command"])]
        if here:
            replaced = {**replaced, "command": f"CASE WHEN command NOT IN ({', '.join(here)}) THEN command END"}
    replace = ", ".join(f"{sql} AS {name}" for name, sql in replaced.items())
    return f"SELECT *{f' REPLACE ({replace})' if replace else ''} FROM {table} WHERE {where}"


def _names_a_place(command: str) -> bool:
    """Whether a command names a file or folder of one machine, with the user's name in it as likely as not."""
    try:
        words = shlex.split(command)
    except ValueError:
        return True
    return any(_ONLY_HERE.fullmatch(part) for word in words for part in (word, word.partition("=")[2]))


def _copy(session: Session, con: duckdb.DuckDBPyConnection, into: str, sql: str) -> None:
    with registered(con, _ROWS, session.batches(sql).to_reader()):
        con.execute(f"INSERT INTO {into} BY NAME FROM {_ROWS}")


def _make_view(con: duckdb.DuckDBPyConnection, table: str, names: Sequence[str]) -> None:
    """The Parquet files in the place of an empty table, with its columns, types and comments."""
    relation = relations()[table]
    types = dict(row[:2] for row in con.execute(f"DESCRIBE {table}").fetchall())
    columns = ", ".join(f"CAST({name} AS {_type(con, table, name, kind)}) AS {name}" for name, kind in types.items())
    listed = ", ".join(f"coalesce(getvariable('{FILES_VARIABLE}'), '') || {literal(name)}" for name in names)
    con.execute(f"DROP TABLE {table}")
    con.execute(
        f"CREATE VIEW {table} AS SELECT {columns} "
        f"FROM read_parquet([{listed}], hive_partitioning = true, hive_types = {{'run_id': INTEGER}})"
    )
    comments = [f"COMMENT ON VIEW {table} IS {literal(relation.summary)}"]
    comments += [
        f"COMMENT ON COLUMN {table}.{identifier(column.name)} IS {literal(column.comment)}"
        for column in relation.columns
    ]
    con.execute(";\n".join(comments))


def _type(con: duckdb.DuckDBPyConnection, table: str, name: str, kind: str) -> str:
    """The type of a column as SQL writes it: an ENUM by its name, so that all tables have the same one."""
    if not kind.startswith("ENUM"):
        return kind
    ((found,),) = con.execute(
        "SELECT any_value(type_name) FROM system.main.duckdb_types() WHERE logical_type = 'ENUM' AND NOT internal "
        f"AND database_name = system.main.current_database() AND labels = enum_range(NULL::{kind})"
    ).fetchall()
    return str(found)


def _summaries() -> list[Relation]:
    """Tables that are no rows of measuring, and views of them that are about more than single prompts."""
    return [
        relation
        for relation in public(relations().values())
        if relation.name not in (*MEASURED_TABLES, "schema_migration", "last_numbers")
        and not any(column.name == "prompt_id" for column in relation.columns)
    ]


def _write_summary(session: Session, relation: Relation, folder: Path) -> int:
    path = folder / relation.name / "rows.parquet"
    path.parent.mkdir()
    sql = f"SELECT {_selected(relation, {})} FROM {identifier(relation.name)} ORDER BY {', '.join(_order(relation))}"
    n_rows = write_file(session.batches(sql).to_reader(), path, "parquet")
    if not n_rows:
        files.remove(path.parent)
    return n_rows


def _order(relation: Relation) -> list[str]:
    names = [column.name for column in relation.columns]
    first = [name for name in relation.grain if name in names] or names[:1]
    return [f"{identifier(relation.name)}.{identifier(name)}" for name in first]
