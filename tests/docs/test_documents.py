"""What the documents say of views is what their files, the installed comments and DuckDB say."""

import re
from collections.abc import Iterator

import duckdb
import pytest

from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.marts.install import install
from selfrepair.warehouse.database.migrate import migrate
from support.documents import FAMILIES, VIEWS, families_page, views_page

ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<rest>.*) \|$", re.MULTILINE)
SECTION = re.compile(r"^### (?P<name>\w+)\n(?P<text>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
HINT = "run python tests/support/documents.py"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        migrate(connection)
        yield connection


def test_documents_are_as_they_are_written_now() -> None:
    assert VIEWS.read_text(encoding="utf-8") == views_page(), HINT
    assert FAMILIES.read_text(encoding="utf-8") == families_page(), HINT


def test_the_page_begins_with_every_view_as_its_comment_has_it(con: duckdb.DuckDBPyConnection) -> None:
    install(con)
    comments = dict(con.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall())
    block = VIEWS.read_text(encoding="utf-8").partition("## Questions")[0]
    told = {row["name"]: row["rest"] for row in ROW.finditer(block)}
    views = {
        name for name, relation in relations().items() if relation.kind == "view" and not relation.is_building_block
    }
    assert told.keys() == views
    for name, summary in told.items():
        assert comments[name].startswith(summary)


def test_the_page_has_every_column_as_duckdb_describes_it(con: duckdb.DuckDBPyConnection) -> None:
    install(con)
    sections = {section["name"]: section["text"] for section in SECTION.finditer(VIEWS.read_text(encoding="utf-8"))}
    shown = {name for name, relation in relations().items() if not relation.is_building_block}
    assert sections.keys() == shown
    for name, text in sections.items():
        described = con.execute(f"DESCRIBE {name}").fetchall()
        rows = [(row["name"], row["rest"].split(" | ")[0]) for row in ROW.finditer(text)]
        assert rows == [(column, kind) for column, kind, *_ in described], name


@pytest.mark.parametrize("name", questions())
def test_the_page_has_every_question(name: str) -> None:
    told = {row["name"]: row["rest"] for row in ROW.finditer(VIEWS.read_text(encoding="utf-8"))}
    assert told[name].startswith(questions()[name].view.summary)
