"""Tables of texts: what stands in them is text, whatever it looks like, and each text in its place."""

from collections.abc import Sequence
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from selfrepair.app.components.tables import _text
from support.pages import tables

ODD = """<b>bold</b> & "quoted" 'so' <script>alert(1)</script>"""


def drawn(columns: dict[str, list[str]], meanings: Sequence[str] = (), links: Sequence[str] = ()) -> AppTest:
    def script(columns: dict[str, list[str]], meanings: list[str], links: list[str]) -> None:
        import polars as pl

        from selfrepair.app.components.html_table import text_table

        text_table(pl.DataFrame(columns), meanings, links, to=("Text", "Where it leads"))

    app = AppTest.from_function(script, kwargs={"columns": columns, "meanings": meanings, "links": links})
    return app.run()


def test_texts_names_meanings_and_addresses_are_texts() -> None:
    app = drawn({ODD: [ODD]}, [ODD], [f"tokens?a={ODD}"])
    assert tables(app) == [[{"Text": "open", ODD: ODD}]]
    (html,) = (html.proto.body for html in app.get("html"))
    assert "<b>" not in html
    assert "<script>" not in html
    assert html.count('"quoted"') == 0


def test_without_rows_there_are_names() -> None:
    app = drawn({"one": [], "two": []})
    assert not app.exception
    assert tables(app) == [[]]


@pytest.mark.parametrize("wrong", [{"meanings": ["one"]}, {"links": ["a", "b", "c"]}])
def test_what_is_one_too_few_or_many_is_a_mistake(wrong: dict[str, list[str]]) -> None:
    app = drawn({"one": ["a", "b"], "two": ["c", "d"]}, **wrong)
    (error,) = app.exception
    assert "zip() argument" in error.value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "none"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (-0.0006, "-0.0006"),
        (0.0, "0.0000"),
        (8.7e-6, "8.7e-06"),
        (6.9e-5, "6.9e-05"),
        (-4e-5, "-4.0e-05"),
        (12345.5, "12,345.5000"),
        (float("nan"), "nan"),
        ("ok", "ok"),
    ],
)
def test_values_are_told_as_they_are_stored(value: Any, told: str) -> None:
    assert _text("run_health", "rows_stored", value) == told
