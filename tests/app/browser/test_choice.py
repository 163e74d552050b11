"""What was chosen holds from page to page in a real browser, and its back button goes back one step."""

import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser

from support.browser import PAGES, Watched, served
from support.fabricate import fabricate
from support.loaded import stored

pytestmark = pytest.mark.browser

LINK = {"model": "demo", "run": "1", "ablation": "zero", "population": "all", "head": "L1H2", "prompt": "3"}
BOXES = {"Model": "demo", "Run": "1", "Ablation": "zero", "Rows used": "All rows", "Head": "L1H2"}
WITHOUT_RUN, WITHOUT_HEAD = ("sql", "ingests"), ("overview",)
STRIDES = range(1, 13)
"""From each page to the one so many further on: 13 is a prime number, so each stride comes by all pages, and all pairs do."""


@pytest.fixture
def watched(browser: Browser, tmp_path: Path) -> Iterator[Watched]:
    """The app over two models, of which the older is not what is shown by default."""
    demo = fabricate("one", model="demo", mechanisms=True)
    other = fabricate("two", model="other", seed=3, n_layers=2, n_heads=2, ablations=("mean",))
    with served(stored(tmp_path, demo, other)) as address:
        page = Watched(browser, address)
        yield page
        page.check()
        page.close()


def expect_choice(watched: Watched, head: str = "L1H2") -> None:
    """The page shows the choice, and its link has it."""
    name = watched.at()
    assert dict(parse_qsl(urlsplit(watched.page.url).query)) == LINK | {"head": head}, name
    for box, value in (BOXES | {"Head": head}).items():
        if name not in WITHOUT_RUN and not (box == "Head" and name in WITHOUT_HEAD):
            shown = watched.page.get_by_role("combobox", name=box, exact=True)
            assert shown.input_value() == value, (name, box)
    assert watched.page.get_by_text("is shown instead").count() == 0, name


@pytest.mark.slow
@pytest.mark.parametrize("n_strides", [1, pytest.param(len(STRIDES), marks=pytest.mark.exhaustive)])
def test_what_a_link_says_holds_from_page_to_page_and_on_the_way_back(watched: Watched, n_strides: int) -> None:
    """To all pages and from all, by a stride that is drawn; from each to each in the exhaustive tests."""
    watched.open(f"heads?{urlencode(LINK)}")
    visited = ["heads"]
    for stride in random.sample(STRIDES, n_strides):
        for _ in PAGES:
            visited.append(PAGES[(PAGES.index(visited[-1]) + stride) % len(PAGES)])
            watched.go(visited[-1])
            expect_choice(watched)
    for name in visited[-2:-7:-1]:
        watched.back(name)
        expect_choice(watched)


def test_the_back_button_takes_back_one_choice_or_one_page(watched: Watched) -> None:
    page = watched.open(f"heads?{urlencode(LINK)}")
    page.get_by_test_id("stVegaLiteChart").first.locator(".mark-rect path[aria-label*='L2H1']").first.click()
    page.get_by_role("heading", name="L2H1", level=2).wait_for()
    watched.settle()
    expect_choice(watched, "L2H1")
    watched.go("tails")
    expect_choice(watched, "L2H1")
    watched.back("heads")
    expect_choice(watched, "L2H1")
    page.go_back()
    page.get_by_role("heading", name="L1H2", level=2).wait_for()
    watched.settle()
    expect_choice(watched)
    page.go_forward()
    page.get_by_role("heading", name="L2H1", level=2).wait_for()
    watched.settle()
    expect_choice(watched, "L2H1")
    page.get_by_test_id("stVegaLiteChart").first.locator(".mark-rect path[aria-label*='L0H1']").first.click()
    page.get_by_role("heading", name="L0H1", level=2).wait_for()
    watched.settle()
    page.go_back()  # at once, to a link that the page itself has written over
    page.get_by_role("heading", name="L2H1", level=2).wait_for()
    watched.settle()
    expect_choice(watched, "L2H1")
