"""The pages in a browser: drawn without an error, without a word to another host, and sent by link as they stand."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.browser import PAGES, Watched
from support.fabricate import fabricate
from support.pages import stored

HOSTILE = "<img src=http://a.example/a.png onerror=alert(1)> ![x](http://b.example/b.png) `:red[c]` $d$"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn_and_asks_no_other_host(watched: Watched, name: str) -> None:
    page = watched.open(name)
    title = page.get_by_role("heading", level=1)
    title.wait_for()
    assert page.title()
    assert title.count() == 1


def test_sql_typed_and_run_comes_back_from_its_link(watched: Watched) -> None:
    page = watched.open("sql")
    page.get_by_role("textbox", name="SQL").fill("SELECT 6 * 7 AS answer,\n       'a&b=c#d' AS text")
    page.keyboard.press("Control+Enter")
    page.get_by_text("1 row, 2 columns").wait_for()
    watched.settle()
    page.wait_for_url(re.compile("sql="))
    link = page.url.split("/")[-1]
    again = watched.open(link)
    again.get_by_text("1 row, 2 columns").wait_for()
    assert again.get_by_role("textbox", name="SQL").input_value() == "SELECT 6 * 7 AS answer,\n       'a&b=c#d' AS text"


def test_a_click_on_a_view_says_what_it_is_and_asks_it(watched: Watched) -> None:
    page = watched.open("sql?view=head_repair")
    page.get_by_text("Self-repair of every ablated head").wait_for()
    page.get_by_role("button", name="Ask it").click()
    page.get_by_text("100 rows").or_(page.get_by_text("108 rows")).first.wait_for()
    watched.settle()
    assert page.get_by_role("textbox", name="SQL").input_value() == "FROM head_repair\nLIMIT 100"


def test_names_that_are_html_or_markdown_stay_words(watch: Callable[[Path], Watched], tmp_path: Path) -> None:
    fabricate("left", model=HOSTILE, seed=4).write(tmp_path / "w.duckdb.parts", [0], crosscheck=False)
    watched = watch(stored(tmp_path, fabricate(model=HOSTILE)))
    for name in PAGES:
        page = watched.open(name)
        page.get_by_role("heading", level=1).wait_for()
        assert page.locator("img[src*='.example']").count() == 0
    watched.open("sql?sql=FROM+models&as=picture&x=name&y=n_layers")
    watched.open("overview?model=![x](http://c.example/c.png)&run=99")
    watched.page.get_by_text("which is not here").first.wait_for()
    watched.check()


def test_an_exception_box_or_a_foreign_request_is_noticed(watched: Watched) -> None:
    page = watched.open("sql")
    page.evaluate("() => fetch('http://other.example/', {mode: 'no-cors'}).catch(() => {})")
    page.wait_for_timeout(500)
    assert any("other.example" in text for text in watched.wrong)
    watched.wrong.clear()
    page.evaluate("() => { const box = document.body.appendChild(document.createElement('p'));"
                  " box.dataset.testid = 'stException'; box.textContent = 'seen'; }")  # fmt: skip
    with pytest.raises(AssertionError, match="seen"):
        watched.check()
    page.evaluate("() => document.querySelector('[data-testid=stException]').remove()")
