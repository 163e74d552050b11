"""The app's pages by subject: each file is listed once, and no heading reads like a page."""

import ast
from typing import Any

from selfrepair.app.server.serve import HOME
from support.browser import PAGES


def listed() -> dict[str, dict[str, tuple[str, str]]]:
    """`PAGES` of home.py, which to import is to draw it."""
    for node in ast.parse(HOME.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PAGES":
            found: Any = ast.literal_eval(node.value)
            return found
    raise AssertionError("home.py has no PAGES")


def test_every_page_is_listed_once() -> None:
    assert sorted(name for pages in listed().values() for name in pages) == PAGES


def test_headings_titles_and_icons_are_told_apart() -> None:
    titles = [title for pages in listed().values() for title, _ in pages.values()]
    icons = [icon for pages in listed().values() for _, icon in pages.values()]
    assert len({*titles, *listed()}) == len(titles) + len(listed())
    assert len(set(icons)) == len(icons)
