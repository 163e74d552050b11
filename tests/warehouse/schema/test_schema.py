"""The metadata describes exactly the tables that the migrations make."""

import re

import duckdb
import pytest
import sqlalchemy as sa

from selfrepair.warehouse import schema
from selfrepair.warehouse.database.migrate import migrate
from selfrepair.warehouse.schema.tables import metadata

CATALOG = {
    "tables": "SELECT table_name, comment FROM duckdb_tables() ORDER BY ALL",
    "columns": """
        SELECT table_name, column_index, column_name, data_type, is_nullable, column_default, comment
        FROM duckdb_columns() WHERE NOT internal ORDER BY ALL
    """,
    "constraints": """
        SELECT table_name, constraint_type, constraint_text, constraint_column_names
        FROM duckdb_constraints() ORDER BY ALL
    """,
    "types": """
        SELECT type_name, enum_range(NULL::ablation_kind), enum_range(NULL::run_status), enum_range(NULL::target_kind),
            enum_range(NULL::edge_population), enum_range(NULL::neuron_population),
            enum_range(NULL::added_vector_kind)
        FROM duckdb_types() WHERE NOT internal AND logical_type = 'ENUM' ORDER BY ALL
    """,
}


def catalog(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple]]:
    return {what: con.execute(query).fetchall() for what, query in CATALOG.items()}


@pytest.fixture
def migrated():
    with duckdb.connect() as con:
        migrate(con)
        yield con


@pytest.fixture
def described(tmp_path):
    engine = sa.create_engine(f"duckdb:///{tmp_path / 'described.duckdb'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    with duckdb.connect(str(tmp_path / "described.duckdb")) as con:
        yield con


def test_migrations_make_what_the_metadata_describes(migrated, described):
    for what in CATALOG:
        assert catalog(migrated)[what] == catalog(described)[what], what


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("tables", "CREATE TABLE extra (x INTEGER)"),
        ("tables", "COMMENT ON TABLE tokens IS 'other'"),
        ("columns", "ALTER TABLE tokens ADD COLUMN extra INTEGER"),
        ("columns", "ALTER TABLE measurements ALTER layer TYPE INTEGER"),
        ("columns", "ALTER TABLE measurements ALTER layer DROP NOT NULL"),
        ("columns", "COMMENT ON COLUMN tokens.pos IS 'other'"),
        ("constraints", "CREATE OR REPLACE TABLE models AS FROM models"),
        ("types", "CREATE TYPE mood AS ENUM ('good')"),
    ],
)
def test_the_comparison_sees_any_drift(migrated, what, change):
    before = catalog(migrated)
    migrated.execute(change)
    assert catalog(migrated)[what] != before[what]


def test_tables_are_the_designed_ones():
    assert set(metadata.tables) == {
        *("models", "datasets", "runs", "prompts", "tokens", "measurements"),
        *("crosschecks", "units", "last_numbers"),
        *("neuron_changes", "neuron_curves", "neuron_sums", "edge_sums", "logit_lens", "logprob_changes"),
        *("routing_sums", "expert_sums", "self_repression", "self_repression_sums"),
        *("published_head_repair", "published_self_repression", "schema_migration"),
    }


@pytest.mark.parametrize("table", metadata.tables.values(), ids=lambda table: table.name)
def test_every_table_and_column_says_what_it_is(table):
    assert table.comment
    assert table.comment.endswith(".")
    for column in table.columns:
        assert column.comment, column.name
        assert column.comment[0].isupper() or column.name == "status", column.comment


@pytest.mark.parametrize("name", schema.EFFECTS)
def test_effects_have_a_unit_and_a_sign(name):
    comment = metadata.tables["measurements"].c[name].comment
    assert re.search(r"\[(logits|ratio)\]$", comment)
    assert re.search(r"[<>] [01]: ", comment)


def test_every_float_has_a_unit():
    floats = [
        column for table in metadata.tables.values() for column in table.columns if isinstance(column.type, sa.Float)
    ]
    assert len(floats) == 8 + 4 + 3 + 2 + 3 + 4 + 5 + 2 + 5 + 2 + 3 + 8 + 9 + 9 + 6 + 2
    for column in floats:
        assert re.search(r"\[[^]]+\]$", column.comment), column


def test_all_but_tables_of_many_rows_have_a_primary_key():
    without = {table.name for table in metadata.tables.values() if not table.primary_key.columns}
    assert without == {
        *("measurements", "neuron_changes", "neuron_curves", "neuron_sums", "edge_sums", "logit_lens"),
        *("routing_sums", "expert_sums", "logprob_changes", "self_repression", "self_repression_sums"),
    }
