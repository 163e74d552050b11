"""The fence around SQL: one statement that reads the warehouse, and nothing that reaches beyond its file.

DuckDB itself is kept from files, network and extensions (see `limits`). That leaves what it would still do: read
the warehouse's own file as bytes, tell settings and paths, take addresses in memory for tables. So a statement's syntax
tree is searched before anything runs: tables must be there, table functions must be listed here, and other functions must
not be.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from selfrepair.queries.catalog.next_step import see_names
from selfrepair.queries.catalog.relations import unknown_name
from selfrepair.warehouse import compat
from selfrepair.warehouse.database.transactions import is_lake
from selfrepair.warehouse.errors import SelfRepairError, UnknownNameError

LONGEST_QUERY = 200_000
"""Characters a query may have."""

TABLE_FUNCTIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_functions",
        "duckdb_indexes",
        "duckdb_keywords",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "icu_calendar_names",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)
"""Functions a query may read as a table; the file's own macros may be read too."""

SYSTEM_VIEWS = frozenset(
    {
        *("duckdb_columns", "duckdb_constraints", "duckdb_indexes", "duckdb_schemas", "duckdb_tables", "duckdb_types"),
        *("duckdb_views", "sqlite_master", "sqlite_schema"),
        *("character_sets", "check_constraints", "columns", "constraint_column_usage", "constraint_table_usage"),
        *("key_column_usage", "referential_constraints", "schemata", "tables", "table_constraints", "views"),
    }
)
"""DuckDB's own views that say what a file holds, those of information_schema among them."""

REFUSED_FUNCTIONS = frozenset(
    {
        # take any values for DuckDB's own structures
        *("combine", "combine_aggr", "finalize", "to_aggregate_state", "variant_bytes_to_variant"),
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id", "txid_current"),
        *("current_setting", "getenv", "getvariable", "nextval", "currval", "setval", "setseed", "set_config"),
        *("json_execute_serialized_sql", "json_serialize_plan", "query", "query_table", "which_secret"),
        *("parse_duckdb_log_message", "pg_get_expr", "pg_get_viewdef", "pg_sleep", "sleep_ms", "stats", "write_log"),
    }
)
"""Functions that tell or change more than the rows they are given, or only wait."""

_REFUSED_KINDS = re.compile(r"(__|read_|write_|copy_|file_|http_|load_|pragma_|python_|get_?env|arrow_|pandas_).*")
"""Names of functions that no version of DuckDB has or will have for rows alone."""

_SHOWN = frozenset({"databases", "tables", "__show_tables_expanded"})
"""What SHOW may list, beside the columns of a table."""

_SPACE = r"(?:\s|--[^\n\r]*[\n\r]|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)"
_OPTION = rf"(?:ANALYZE|FORMAT{_SPACE}+\w+)"
# DuckDB says that a statement is EXPLAIN (`extract_statements`), not where the explained one begins in its text.
_EXPLAIN = re.compile(
    rf"{_SPACE}*EXPLAIN(?={_SPACE}|\()(?:{_SPACE}+(?P<analyze>ANALYZE)(?={_SPACE}|\())?"
    rf"(?:{_SPACE}*\({_SPACE}*(?P<options>{_OPTION}(?:{_SPACE}*,{_SPACE}*{_OPTION})*){_SPACE}*\))?",
    re.IGNORECASE,
)
_TYPES = "INTEGER, DECIMAL(9, 4), INTEGER[], INTEGER[3], STRUCT(a INTEGER), MAP(INTEGER, VARCHAR)"
_TOO_DEEP = "the query is nested too deeply. Give its parts names: WITH part AS (...)"
_DYNAMIC_PIVOT = re.compile(r"\bPIVOT(_WIDER)?\b", re.IGNORECASE)
_MOST_SEMICOLONS = 10
_MOST_PARTS_OF_A_NAME = 100
_READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Parts of a syntax tree that answer rows and change nothing."""

_TABLES = "SELECT table_name, false FROM system.main.duckdb_tables()"
_TABLES_OF_LAKE = (  # `duckdb_tables` would look up how many rows each has
    "SELECT DISTINCT table_name, false FROM system.main.duckdb_columns() "
    "WHERE database_name = system.main.current_database()"
)
_VIEWS = "UNION ALL SELECT view_name, internal FROM system.main.duckdb_views()"

Node = dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """One statement that may run: its text without a closing semicolon, and whether rows or a plan answer it. In a plan's
    the lines are one further down than in the query.
    """

    text: str
    kind: Literal["select", "explain"]


@dataclass(frozen=True)
class Names:
    """What can be named in the file that a connection has open: its tables and views, the connection's own among them, by
    their lower-case form, and the lower-case names of DuckDB's own views. No statement that is allowed changes it.
    """

    relations: Mapping[str, str]
    system: frozenset[str]

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, on_demand: Collection[str] = ()) -> "Names":
        """Those of this connection's file, and of views that are made on demand."""
        rows = con.execute(f"{_TABLES_OF_LAKE if is_lake(con) else _TABLES} {_VIEWS}").fetchall()
        rows += [(name, False) for name in on_demand]
        return cls(
            {name.lower(): name for name, internal in rows if not internal},
            SYSTEM_VIEWS | {name.lower() for name, internal in rows if internal},
        )


def checked(con: duckdb.DuckDBPyConnection, query: str, names: Names) -> Statement:
    """The one statement of `query`, if it is allowed on the warehouse that `con` has open, which holds `names`;
    nothing of it runs.

    Raises SelfRepairError saying what is wrong: SQL that DuckDB cannot read, several statements or none, one that does
    not read, a table that is not there (with the nearest names), a function that is refused.
    """
    _refuse_odd_text(query)
    explain = _EXPLAIN.match(query)
    text = query[explain.end() :] if explain else query
    try:
        trees = _trees(con, text)
        if len(trees) != 1:
            found = "nothing to answer" if not trees else f"{len(trees)} statements"
            raise SelfRepairError(f"the query has {found}; it takes one SQL statement or name. {see_names()}")
        _refuse_reaching_out(con, trees[0], names)
        text = _without_semicolon(con, text, trees)
    except RecursionError:
        raise SelfRepairError(_TOO_DEEP) from None
    if explain is None:
        return Statement(text, "select")
    # Put together anew, so that what runs is what was searched, whatever the text before it looks like to DuckDB.
    options = ", ".join(option for option in explain.group("analyze", "options") if option)
    lines = "\n" * (1 + explain.group().count("\n"))
    return Statement(f"EXPLAIN {f'({options})' if options else ''}{lines}{text}", "explain")


def refuse_vain_advice(error: Exception) -> None:
    """Raise SelfRepairError for what DuckDB would answer with advice that cannot be followed here: its next step is SET, or
    INSTALL and LOAD.
    """
    if compat.is_too_deep(error):
        raise SelfRepairError(_TOO_DEEP) from None
    if isinstance(error, duckdb.Error) and (extension := compat.needed_extension(error)):
        raise SelfRepairError(
            f"{str(error).partition(', but it exists')[0]}; DuckDB's {extension} extension has it, and extensions are not "
            f"loaded here. For that, open the file with DuckDB yourself. {see_names()}"
        ) from None


def _refuse_odd_text(query: str) -> None:
    if len(query) > LONGEST_QUERY:
        raise SelfRepairError(
            f"the query has {len(query):,} characters and may have {LONGEST_QUERY:,}. "
            "Give long lists of values as a parameter: WHERE prompt_id IN (SELECT unnest($ids))"
        )
    if "\0" in query:
        raise SelfRepairError("the query contains a NUL character, which SQL cannot have. Remove it.")
    if not query.isascii():
        try:
            query.encode()
        except UnicodeEncodeError as error:
            raise SelfRepairError(
                f"the query is not valid text: character {error.start} is half of a pair. Remove it."
            ) from None


def _trees(con: duckdb.DuckDBPyConnection, text: str) -> list[Node]:
    """The syntax tree of every statement in `text`; raises unless all of them are SELECTs."""
    found = _serialized(con, text)
    if not found["error"]:
        statements: list[Node] = found["statements"]
        return statements
    if found["error_type"] == "parser":
        try:
            con.extract_statements(text)  # says the same with the line and the place in it
        except duckdb.Error as error:
            refuse_vain_advice(error)
            raise SelfRepairError(f"{error}\n{see_names()}") from None
        raise SelfRepairError(f"Parser Error: {found['error_message']}\n{see_names()}")
    try:
        parsed = con.extract_statements(text)
    except duckdb.Error:  # it already looks for what PRAGMA and IMPORT name
        raise _not_select("UTILITY") from None
    if found["error_type"] == "serialization":  # what is left of a type that cannot be, such as INTEGER[0]
        raise SelfRepairError(f"a type in the query is none. Types are such as {_TYPES}. {see_names()}")
    if _DYNAMIC_PIVOT.search(text) and duckdb.ExpectedResultType.QUERY_RESULT in parsed[-1].expected_result_type:
        raise SelfRepairError(
            "PIVOT without a list of values runs as two statements, and one is allowed. "
            "Name the values: PIVOT ... ON ablation IN ('resample', 'mean', 'zero') USING ..."
        )
    kind = _kind(parsed[0])
    raise _not_select("PRAGMA" if kind == "SELECT" else kind)  # DuckDB 1 calls those SELECT that answer rows


def _kind(statement: duckdb.Statement) -> str:
    """The statement's type in capitals; DuckDB's Python module has no name for some, such as UPDATE EXTENSIONS."""
    try:
        name = statement.type.name
    except ValueError:
        name = ""
    return name if name.isidentifier() else "UTILITY"


def _not_select(kind: str) -> SelfRepairError:
    article = "an" if kind[0] in "AEIOU" else "a"
    return SelfRepairError(
        f"only SELECT is allowed, and this is {article} {kind} statement: access to the warehouse is read-only. "
        "To change a file, open a copy of it with DuckDB."
    )


def _serialized(con: duckdb.DuckDBPyConnection, text: str) -> Node:
    # The function's full name: a file could hold a macro of the same short one.
    (answer,) = con.execute("SELECT system.main.json_serialize_sql(?)", [text]).fetchall()
    found: Node = json.loads(answer[0])
    return found


def _without_semicolon(con: duckdb.DuckDBPyConnection, text: str, trees: list[Node]) -> str:
    """The same statement, cut before its closing semicolon and what comments follow it."""
    text = text.rstrip().rstrip(";")
    for _ in range(_MOST_SEMICOLONS):
        cut = text.rfind(";")
        if cut < 0:
            return text
        shorter = _serialized(con, text[:cut])
        if shorter["error"] or shorter["statements"] != trees:
            return text  # it stands in a string or a name
        text = text[:cut].rstrip().rstrip(";")
    raise SelfRepairError("the query ends in a row of semicolons. Keep one of them, or none.")


def _refuse_reaching_out(con: duckdb.DuckDBPyConnection, tree: Node, names: Names) -> None:
    relations, table_functions, functions = set(), set(), set()
    named_here = set()
    for node in _nodes(tree):
        match node:
            case {"type": "BASE_TABLE", "table_name": str(name)}:
                _refuse_catalog(node)
                relations.add(name)
            case {"type": "TABLE_FUNCTION", "function": {"function_name": str(name)}}:
                table_functions.add(name.lower())
            case {"type": "SHOW_REF", "show_type": "SHOW", "table_name": str(name)}:  # DuckDB 2's of a table
                _refuse_catalog(node)
                relations.add(name)
            case {"type": "SHOW_REF", "table_name": str(name)} if name.strip('"') not in (*_SHOWN, ""):
                raise SelfRepairError(f"SHOW {name} is not answered here; SHOW TABLES and DESCRIBE are. {see_names()}")
            case {"query_node": {"type": str(kind)}} if kind not in _READING:  # DuckDB 2 writes in a WITH, too
                raise _not_select(kind.removesuffix("_QUERY_NODE"))
            case {"column_names": [*parts]} if len(parts) > _MOST_PARTS_OF_A_NAME:
                raise RecursionError
            case {"function_name": str(name)}:
                functions.add(name.lower())
            case {"cte_map": {"map": [*entries]}}:
                named_here |= {entry["key"].lower() for entry in entries}
    _refuse_borrowed_names(named_here, names)
    for name in sorted(functions | table_functions):
        if name in REFUSED_FUNCTIONS or _REFUSED_KINDS.fullmatch(name):
            raise _refused(name)
    if not table_functions <= TABLE_FUNCTIONS:
        for name in sorted(table_functions - TABLE_FUNCTIONS - _macros_of_file(con)):
            raise _refused(name)
    _refuse_unknown({name for name in relations if name.lower() not in named_here | SYSTEM_VIEWS}, names)


def _refuse_catalog(node: Node) -> None:
    """The tables in which DuckLake keeps a lake's catalog are not the warehouse's."""
    for part in (node.get("catalog_name"), node.get("schema_name")):
        if str(part or "").lower().startswith("__ducklake"):
            raise SelfRepairError(f"{part} is the lake's own catalog, which is not asked here. {see_names()}")


def _refuse_borrowed_names(named_here: set[str], names: Names) -> None:
    """A part of a query may not be called what would elsewhere in it be a system view, or a path."""
    for name in sorted(named_here):
        if name in names.system or re.search(r"[/\\.:*]", name):
            raise SelfRepairError(
                f'WITH "{name}" uses a name that already means something else here; choose another one.'
            )


def _macros_of_file(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Names of the macros that the file's owner put into it."""
    rows = con.execute(
        "SELECT DISTINCT lower(function_name) FROM system.main.duckdb_functions() WHERE NOT internal"
    ).fetchall()
    return {name for (name,) in rows}


def _nodes(tree: Node) -> Iterator[Node]:
    """Every object of a syntax tree; the one within a TABLE_FUNCTION that holds its name is not given out again."""
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            yield item
            children = item
            if item.get("type") == "TABLE_FUNCTION":
                children = {**item, "function": [*item["function"].values()]}
            waiting += children.values()


def _refused(function: str) -> SelfRepairError:
    return SelfRepairError(
        f"{function}() may not be called here: a query reads the tables and views of this one file, and no other files, "
        f"no network, no settings, no SQL in strings. For that, open the file with DuckDB yourself. {see_names()}"
    )


def _refuse_unknown(named: set[str], names: Names) -> None:
    known = names.relations
    for name in sorted(named):
        if name.lower() in known:
            continue
        if re.search(r"[/\\.:*]", name):
            raise SelfRepairError(
                f"'{name}' is not a table or view, and files cannot be read here: a query reads only the warehouse. "
                f"{see_names()}"
            )
        raise UnknownNameError(unknown_name(name, sorted(known)))
