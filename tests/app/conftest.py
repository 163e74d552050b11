"""A browser for the tests of pages, where this machine has one; and no page draws what Vega-Lite does not know."""

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from selfrepair.app.components import figure
from support.browser import Watched, chromium, launched, new_context, served
from support.loaded import loaded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


_compared: set[str] = set()
"""Charts of this process, without their data, that Vega-Lite knows: comparing takes as long as all else on a page."""


@pytest.fixture(autouse=True)
def every_chart_is_one_of_vega_lite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages leave out what is done here: compare every chart that they draw with Vega-Lite's schema."""
    real = figure.spec_of

    def compared(chart: figure.Picture, *theme: str) -> dict[str, Any]:
        spec = real(chart, *theme)
        without_data = json.dumps({**spec, "datasets": None}, sort_keys=True)
        if without_data not in _compared:
            chart.to_dict()
            _compared.add(without_data)
        return spec

    monkeypatch.setattr(figure, "spec_of", compared)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A Chromium; without one the test is skipped."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install 'selfrepair[dev]'")
    if chromium() is None:
        pytest.skip("this machine has no chromium to look at pages with: apt-get install chromium")
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def visitor(browser: "Browser") -> "BrowserContext":
    """What pages are opened in one after the other: Streamlit's scripts, megabytes of them, are read once for all."""
    return new_context(browser)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the app is served over a small warehouse: one run of tiny-model."""
    with served(loaded(tmp_path_factory.mktemp("served"))) as address:
        yield address


@pytest.fixture
def watched(browser: "Browser", address: str, visitor: "BrowserContext") -> Iterator[Watched]:
    """An empty page of that app, which is checked once more when the test is done."""
    page = Watched(browser, address, lent=visitor)
    yield page
    page.check()
    page.close()


@pytest.fixture
def watch(browser: "Browser") -> Iterator[Callable[[Path], Watched]]:
    """Serves another warehouse for the time of the test, and opens an empty page of it."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def over(db: Path) -> Watched:
            page = Watched(browser, stack.enter_context(served(db)))
            stack.callback(page.close)
            return page

        yield over
