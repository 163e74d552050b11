"""Headers, comments and DuckDB say the same of every column."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.header import Column, HeaderError, View, parse_view
from selfrepair.queries.catalog.headline import CONTEXT
from selfrepair.queries.marts.install import install_temp
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema.tables import metadata

MOST_WITHOUT_HEADLINE = 15

VIEW = parse_view(
    "mine",
    """-- One row per run.
--
-- Grain: run_id
-- Paper: none
--
-- Columns:
--   n_rows BIGINT: Rows of the run [rows]

SELECT run_id, count(*) AS n_rows FROM measurements GROUP BY run_id
""",
)


def with_columns(view: View, *columns: Column) -> View:
    return replace(view, columns={column.name: column for column in columns})


def test_the_catalogue_is_what_duckdb_has(con: duckdb.DuckDBPyConnection) -> None:
    install_temp(con)
    relations = catalog.relations()
    assert relations.keys() == set(metadata.tables) | {view.name for view in catalog.views()}
    columns = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY column_index"
    real: dict[str, list[tuple[str, str]]] = {name: [] for name in relations}
    for name, *column in con.execute(columns).fetchall():
        real[name].append(tuple(column))
    for name, relation in relations.items():
        assert [(column.name, column.type) for column in relation.columns] == real[name], name
        assert relation.summary
        assert all(column.description for column in relation.columns), name


def test_every_file_of_views_is_a_view() -> None:
    files = (Path(catalog.__file__).parents[1] / "views").glob("*/*")
    assert {path.name for path in files} == {f"{view.name}.sql" for view in catalog.views()}


def test_the_names_other_parts_rely_on() -> None:
    assert {"self_repair", "head_repair", "layer_repair", "model_repair"} <= catalog.relations().keys()


def test_a_column_is_inherited_with_its_unit() -> None:
    described = catalog.catalogue([VIEW])["mine"]
    assert described.columns == (
        Column("run_id", "INTEGER", "", "The run: runs.run_id"),
        Column("n_rows", "BIGINT", "rows", "Rows of the run"),
    )


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (with_columns(VIEW), "column 'n_rows' has no description; add a line '--   n_rows BIGINT: what it means"),
        (
            with_columns(VIEW, Column("n_rows", "INTEGER", "rows", "Rows")),
            "column 'n_rows' is described as INTEGER, but the view gives BIGINT",
        ),
        (
            with_columns(VIEW, *VIEW.columns.values(), Column("n", "INTEGER", "", "N")),
            "the header names column 'n', which the view does not have; it has run_id, n_rows",
        ),
        (replace(VIEW, grain=("head",)), "the header names column 'head'"),
        (replace(VIEW, headline=("n",)), "the header names column 'n'"),
        (
            replace(VIEW, sql=VIEW.sql.replace("SELECT run_id,", "SELECT max(pos) + 1 AS run_id,")),
            "column 'run_id' is described as INTEGER, but the view gives SMALLINT",
        ),
        (replace(VIEW, sql="SELECT run_id FROM measurement"), "Table with name measurement does not exist"),
    ],
)
def test_what_a_header_gets_wrong_is_named(view: View, message: str) -> None:
    with pytest.raises(HeaderError) as raised:
        catalog.catalogue([view])
    assert str(raised.value).startswith("views/mine.sql: ")
    assert message in str(raised.value)


def test_every_wide_view_says_what_to_show_first() -> None:
    for name, relation in catalog.relations().items():
        if relation.kind == "view" and not relation.is_building_block and len(relation.columns) > MOST_WITHOUT_HEADLINE:
            shown = [column for column in relation.headline if "post_norm" not in column]  # which few models have
            assert 4 <= len(shown) <= 10, name
            assert set(CONTEXT).isdisjoint(relation.headline), name


def test_views_follow_what_they_read() -> None:
    names = [view.name for view in catalog.views()]
    for view in catalog.views():
        assert all(names.index(source) < names.index(view.name) for source in catalog.reads(view.sql, names))


def test_a_circle_is_refused() -> None:
    circle = [replace(VIEW, name="a", sql="SELECT * FROM b"), replace(VIEW, name="b", sql="SELECT * FROM a")]
    with pytest.raises(HeaderError, match=r"in a circle: [ab] -> [ab] -> [ab]"):
        catalog.in_order(circle)


def test_reading_is_seen_as_duckdb_parses_it(con: duckdb.DuckDBPyConnection) -> None:
    for view in catalog.views():
        (tree,) = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [view.sql]).fetchall()[0]
        parsed = set(_base_tables(json.loads(tree)))
        assert set(catalog.reads(view.sql, catalog.relations())) == parsed & catalog.relations().keys(), view.name


def _base_tables(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            yield node["table_name"]
        for child in node.values():
            yield from _base_tables(child)
    elif isinstance(node, list):
        for child in node:
            yield from _base_tables(child)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(SelfRepairError) as raised:
        catalog.describe("head_repare")
    assert str(raised.value).startswith("there is no table or view 'head_repare'; did you mean head_repair")
    assert str(raised.value).endswith("See: selfrepair views")
    with pytest.raises(SelfRepairError, match=r"there is no table or view 'xyzzy'\. See: selfrepair views"):
        catalog.describe("xyzzy")


def test_building_blocks_are_the_last_to_be_meant() -> None:
    known = list(catalog.relations())
    near = difflib.get_close_matches("most_repaired_head", known)
    is_block = {name: catalog.relations()[name].is_building_block for name in near}
    assert list(is_block.values()) != sorted(is_block.values())
    assert catalog.nearest("most_repaired_head", known) == sorted(near, key=lambda name: is_block[name])
