"""Clicks on the pages of the mechanisms, over a warehouse that has them."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from support.browser import Watched, served
from support.measured import measured

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the app is served over a run with all mechanisms."""
    with served(measured(tmp_path_factory.mktemp("served"))) as address:
        yield address


@pytest.fixture
def watched(browser: Browser, address: str) -> Iterator[Watched]:
    page = Watched(browser, address)
    yield page
    page.check()
    page.close()


def test_a_click_on_a_head_of_the_graph_chooses_it_and_stays_in_the_link(watched: Watched) -> None:
    page = watched.open("who_repairs?population=all&head=L0H2&min_change=0")
    page.get_by_role("heading", name="L0H2", level=2).wait_for()
    marks = page.get_by_test_id("stVegaLiteChart").nth(1).locator("path[aria-label*='L1H1']")
    marks.first.click(force=True)
    chosen = page.get_by_role("heading", level=2).filter(has_text=re.compile("L1H[0-3]"))
    chosen.first.wait_for()
    watched.settle()
    page.wait_for_url(re.compile("head=L1H"))
    label = chosen.first.inner_text().strip()
    again = watched.open(page.url.split("/")[-1])
    again.get_by_role("heading", name=label, level=2).wait_for()


@pytest.mark.parametrize("name", ["neurons", "self_repression", "logit_lens"])
def test_a_page_with_its_mechanism_draws_pictures_and_leads_on(watched: Watched, name: str) -> None:
    page = watched.open(f"{name}?population=all")
    page.get_by_test_id("stVegaLiteChart").first.locator("svg, canvas").first.wait_for()
    watched.settle()
    page.get_by_role("link", name="Who repairs whom").click()
    page.get_by_role("heading", name="Who repairs whom", level=1).wait_for()
