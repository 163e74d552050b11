"""The paper's own numbers as they are shipped: whole, consistent, the same in every new file."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.database import migrate as module
from selfrepair.warehouse.database.migrate import migrate, migrations
from selfrepair.warehouse.schema.tables import metadata

FOLDER = Path(module.__file__).parents[1] / "published"
TABLES = {"published_head_repair": "published_head_repair", "published_self_repression": "published_feedback"}
"""Tables by name, with the file that brings their rows: migration 5 renamed one after its file was read."""

RENAMED = {
    "feedback": "added_vector",
    "strength": "multiple",
    "mean_fed_effect": "mean_direct_effect_after",
    "top10_mean_fed_effect": "top10_mean_direct_effect_after",
}

ROUNDING = 6 * 0.5e-6
"""What six numbers, each rounded to 1e-6, can miss a sum by [logits]."""


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        migrate(con)
        yield con


def test_every_table_has_the_rows_of_its_file(con: duckdb.DuckDBPyConnection) -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(TABLES.values())
    for table, file in TABLES.items():
        with (FOLDER / f"{file}.csv").open(newline="", encoding="utf-8") as lines:
            rows = list(csv.reader(lines))
        names = [RENAMED.get(name, name) for name in rows[0]]
        assert names == [column.name for column in metadata.tables[table].columns]
        stored = con.execute(f"FROM {table}").fetchall()
        assert len(stored) == len(rows) - 1
        for row, written in zip(stored, rows[1:], strict=True):
            assert [
                None if text == "" else type(value)(text) for value, text in zip(row, written, strict=True)
            ] == list(row)


def test_heads_are_all_there(con: duckdb.DuckDBPyConnection) -> None:
    counted = con.execute(
        """
        SELECT published_model, population, published_run, count(*), count(clipped_layernorm_fraction),
            count(clipped_attention_fraction), count(clipped_mlp_fraction)
        FROM published_head_repair GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    assert counted == [
        ("gpt2-medium", "top2", "default", 384, 384, 384, 384),
        ("gpt2-small", "all", "1.0_", 144, 0, 0, 0),
        ("gpt2-small", "top2", "default", 144, 144, 144, 144),
        ("pythia-160m", "all", "1.0_", 144, 0, 0, 0),
        ("pythia-160m", "all", "1_", 144, 0, 0, 0),
        ("pythia-160m", "top2", "default", 144, 144, 144, 144),
        ("pythia-160m", "top2", "git-b54f6f5", 144, 0, 0, 0),
        ("pythia-410m", "top2", "default", 384, 384, 384, 384),
    ]


def test_self_repair_is_the_sum_of_its_parts(con: duckdb.DuckDBPyConnection) -> None:
    ((largest, n_exact),) = con.execute(
        """
        WITH errors AS (
            SELECT abs(
                logit_change - ablated_direct_effect + direct_effect - repair_layernorm - repair_attention - repair_mlp
            ) AS error
            FROM published_head_repair
        )
        SELECT max(error), count(*) FILTER (error < 5e-7) FROM errors
        """
    ).fetchall()
    assert 0 < largest <= ROUNDING
    assert n_exact > 800


def test_what_has_to_be_zero_is(con: duckdb.DuckDBPyConnection) -> None:
    found = con.execute(
        """
        SELECT DISTINCT published_model, repair_attention, repair_mlp = 0
        FROM published_head_repair
        WHERE layer = CASE WHEN published_model IN ('gpt2-small', 'pythia-160m') THEN 11 ELSE 23 END ORDER BY ALL
        """
    ).fetchall()
    parallel = [("pythia-160m", 0.0, True), ("pythia-410m", 0.0, True)]
    assert found == [("gpt2-medium", 0.0, False), ("gpt2-small", 0.0, False), *parallel]


def test_feedback_names_one_head_or_says_how_many(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute(
        "SELECT receiver, layer, head, n_receivers, added_vector FROM published_self_repression"
    ).fetchall()
    for receiver, layer, head, n_receivers, _ in rows:
        assert (layer is None) == (head is None) == (n_receivers > 1) == (receiver == "each_top_head")
    assert Counter(added_vector for *_, added_vector in rows) == {"own": 320, "other": 320, "random": 320}


def test_hub_names_are_one_a_model(con: duckdb.DuckDBPyConnection) -> None:
    names = con.execute(
        """
        SELECT DISTINCT published_model, hub_name FROM published_head_repair
        UNION SELECT DISTINCT published_model, hub_name FROM published_self_repression
        """
    ).fetchall()
    assert len(names) == len(dict(names)) == len({hub_name for _, hub_name in names}) == 13
    assert all(hub_name == hub_name.lower() for _, hub_name in names)
    assert dict(names)["gpt2-small"] == "gpt2"
    assert dict(names)["gpt-neo-125M"] == "gpt-neo-125m"


def test_a_file_from_before_gets_them_once(tmp_path: Path) -> None:
    (step,) = [step for step in migrations() if step.rows]
    with duckdb.connect(str(tmp_path / "w.duckdb")) as con:
        migrate(con, migrations()[: step.version - 1])
        migrate(con)
        migrate(con)
        assert con.execute("SELECT count(*) FROM published_head_repair").fetchall() == [(1632,)]
        assert con.execute("SELECT count(*) FROM published_self_repression").fetchall() == [(960,)]
