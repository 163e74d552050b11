"""The app as a user has it: served by the real command, seen by a real Chromium that watches what should not happen."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from selfrepair.app.server.serve import HOME

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

COMMAND = [sys.executable, "-c", "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')", "app"]
PAGES = sorted(path.stem for path in (HOME.parent / "app_pages").glob("[!_]*.py"))
FIRST = "overview"
"""The page that has no path of its own."""

OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 60_000
LOOK_MS = 50
"""How often it is looked whether a page is drawn. By itself Playwright looks at every frame, and has frames drawn for that."""

_WHOLE = """() => !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]')"""
"""Nothing on the page is from before, and nothing holds the place of what has not come."""


def chromium() -> Path | None:
    """The browser of this machine, if it has one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return Path(found) if found else None


def free_port() -> int:
    """A port that nobody serves at now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def accepts_without_delay(bind: Callable[..., socket.socket]) -> bool:
    """Whether what a socket that `bind` made accepts sends each message at once."""
    with bind("127.0.0.1", 0, 1) as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            return bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@contextmanager
def served(db: Path, port: int | None = None, *options: str) -> Iterator[str]:
    """`selfrepair app` over the file; its address."""
    port = port or free_port()
    with subprocess.Popen(
        [*COMMAND, "--db", str(db), "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert f":{port}" in process.stdout.readline()
            yield f"http://localhost:{port}"
        finally:
            process.terminate()


@contextmanager
def launched() -> Iterator["Browser"]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def new_context(browser: "Browser", scheme: Literal["light", "dark"] = "light") -> "BrowserContext":
    """What a visitor has of their own: cookies and whatever else pages store."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 1000}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    return context


class Watched:
    """A page of the app, and what went wrong on it: boxes with exceptions, errors of the console, requests to other hosts."""

    def __init__(
        self,
        browser: "Browser",
        address: str,
        scheme: Literal["light", "dark"] = "light",
        lent: "BrowserContext | None" = None,
    ) -> None:
        self._context = lent or new_context(browser, scheme)
        self._is_lent = lent is not None
        self.page: Page = self._context.new_page()
        self.wrong: list[str] = []
        self.address = address
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("request", self._asked)

    def open(self, path: str) -> "Page":
        """Go to a page such as `sql?sql=...` and wait until it is drawn."""
        self.page.goto(f"{self.address}/{path.removeprefix(FIRST)}")
        return self.settle()

    def at(self) -> str:
        """The page of the app that is shown."""
        return _page_of(self.page.url)

    def go(self, name: str) -> None:
        """Click the page's link in the sidebar."""
        path = "" if name == FIRST else name
        self.page.locator(f"[data-testid=stSidebar] a[href^='{path}?']").first.click()
        self._arrive(name)

    def back(self, name: str) -> None:
        """Press the browser's back button, which leads to `name`."""
        self.page.go_back()
        self._arrive(name)

    def _arrive(self, name: str) -> None:
        self.page.wait_for_url(lambda url: _page_of(url) == name)
        self.settle()

    def settle(self) -> "Page":
        """Wait until the page is drawn and check that nothing went wrong on the way."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_function(_WHOLE, polling=LOOK_MS)
        self.check()
        return self.page

    def check(self) -> None:
        """Fail for whatever went wrong up to now."""
        boxes = [box.inner_text() for box in self.page.get_by_test_id("stException").all()]
        if boxes or self.wrong:
            raise AssertionError("\n".join([self.page.url, *boxes, *self.wrong]))

    def close(self) -> None:
        """Close the page and all that belongs to it; of a context that was `lent`, only what the page has stored there."""
        if not self._is_lent:
            self._context.close()
            return
        self.page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self.page.close()
        self._context.clear_cookies()

    def _heard(self, message: "ConsoleMessage") -> None:
        # Below /sql and the like, Streamlit looks for its server there first, and finds it at / then.
        looked_for = re.search(r"/\w+/_stcore/", message.location.get("url", ""))
        if message.type == "error" and not (looked_for and "404" in message.text):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: "Request") -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname not in OWN_HOSTS:
            self.wrong.append(f"request to another host: {request.url}")


def _page_of(url: str) -> str:
    return urlsplit(url).path.strip("/") or FIRST
