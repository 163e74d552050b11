"""Names, errors and results that are HTML, Markdown or addresses stand on every page as the text that they are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from support.browser import PAGES
from support.hostile import ADDRESS, HOSTILE, hostile, pieces, replaced
from support.pages import opened, said
from support.tiers import first_of_each

LITERAL = (
    "query_string",
    "value",
    "code_text",
    "options",
    "default",
    "placeholder",
    "format",
    "set_value",
    "raw_value",
    "raw_values",
    "spec",
    "page",
    "url",
)
"""Fields whose text the frontend shows as it is, or shows not at all."""


def markdown_of(message: Message) -> Iterator[str]:
    """The texts of an element that the frontend reads as Markdown."""
    for field, value in message.ListFields():
        if field.name in LITERAL:
            continue
        for part in value if field.is_repeated else [value]:
            if isinstance(part, Message):
                yield from markdown_of(part)
            elif isinstance(part, str):
                yield part


def texts(app: AppTest) -> list[str]:
    """All Markdown of a page."""
    found: list[str] = []

    def walk(block: Any) -> None:
        proto = getattr(block, "proto", None)
        if isinstance(proto, Message) and getattr(block, "type", "") not in ("html", "arrow_data_frame"):
            found.extend(markdown_of(proto))
        for child in getattr(block, "children", {}).values():
            walk(child)

    walk(app._tree)
    return found


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", first_of_each(7, PAGES))
def test_no_name_becomes_a_link(name: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(db.parent)
    seen = texts(opened(name, Path("w.duckdb"), monkeypatch))
    assert name == "sql" or any(HOSTILE in "".join(pieces(text)) for text in seen)
    for text in seen:
        assert not any(replaced(piece) for piece in pieces(text)), text
        assert not re.search(r"(?<!\\)!?\[x|(?<!\\)<img", text)


def test_no_command_of_a_file_is_offered(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("ingests", db, monkeypatch)
    assert [code.value for code in app.code if "evil" in code.value] == []
    assert "Repeat the command or call that began it" in said(app)


def test_an_error_and_a_wrong_link_become_no_link(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = {"sql": {"sql": f"SELECT error('{ADDRESS}')"}, "heads": {"model": HOSTILE[:90], "run": ADDRESS}}
    for page, link in links.items():
        app = opened(page, db, monkeypatch, **link)
        told = [text for text in texts(app) if "e.example" in "".join(pieces(text))]
        assert told
        assert not [piece for text in told for piece in pieces(text) if replaced(piece)]
