"""What the page of another site gets of a running app in a real browser: nothing, whatever it tries."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import PATIENCE_MS, Watched, free_port, served
from support.loaded import loaded

pytestmark = pytest.mark.browser

TOKEN = "a token/of+tests & more"
SQL = "SELECT 6 * 7 AS answer"
ATTACK = """async (app) => {
    const link = app + "/sql?sql=" + encodeURIComponent("SELECT 6 * 7 AS answer");
    const tried = (promise) => promise.then((got) => "got " + got.type, () => "refused");
    const loaded = (kind, source) => new Promise((done) => {
        const element = document.createElement(kind);
        element.onload = () => done("loaded");
        element.onerror = () => done("refused");
        element.src = source;
        document.body.append(element);
    });
    const found = {
        read: await tried(fetch(link)),
        fetched: await tried(fetch(link, {mode: "no-cors"})),
        image: await loaded("img", app + "/favicon.png"),
        script: await loaded("script", app + "/favicon.js"),
        socket: await new Promise((done) => {
            const opened = new WebSocket(app.replace("http", "ws") + "/_stcore/stream", ["streamlit"]);
            opened.onopen = () => done("open");
            opened.onerror = () => done("refused");
        }),
    };
    await loaded("iframe", link);
    const opened = window.open(link);
    await new Promise((done) => setTimeout(done, 2000));
    return {...found, opened: opened.closed ? "severed" : "reachable"};
}"""


class Elsewhere(BaseHTTPRequestHandler):
    """Another server of this machine, which guards nothing."""

    def do_GET(self) -> None:
        kind, body = {
            "/favicon.png": ("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"),
            "/favicon.js": ("text/javascript", ""),
        }.get(self.path, ("text/html", "<!doctype html><title>elsewhere</title><p data-testid=stApp>rows</p>"))
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of that page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


def page_elsewhere(browser: Browser, name: str, port: int) -> Page:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"http://{name}:{port}/")
    return page


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_elsewhere_gets_nothing(browser: Browser, address: str, elsewhere: int, name: str) -> None:
    """A page of another site, and one of the same site: of a browser, sites differ by name and not by port."""
    page = page_elsewhere(browser, name, elsewhere)
    refused = dict.fromkeys(("read", "fetched", "image", "script", "socket"), "refused")
    assert page.evaluate(ATTACK, address) == {**refused, "opened": "severed"}
    assert page.frames[1].get_by_test_id("stApp").count() == 0
    assert "answer" not in page.frames[1].locator("body").inner_text()
    page.context.close()


def test_the_same_page_gets_what_is_not_guarded(browser: Browser, elsewhere: int) -> None:
    page = page_elsewhere(browser, "127.0.0.1", elsewhere)
    found = page.evaluate(ATTACK, f"http://localhost:{elsewhere}")
    assert found == {
        **{"read": "refused", "fetched": "got opaque", "image": "loaded", "script": "loaded"},
        **{"socket": "refused", "opened": "reachable"},
    }
    assert page.frames[1].get_by_test_id("stApp").inner_text() == "rows"
    page.context.close()


def test_no_link_has_the_frontend_ask_another_server(browser: Browser, address: str) -> None:
    watched = Watched(browser, address)
    watched.open("?staticAppId=evil").get_by_role("heading", level=1).wait_for()
    watched.check()
    watched.close()


def test_sql_in_another_site_s_link_is_filled_in_and_runs_after_a_click(
    browser: Browser, address: str, elsewhere: int
) -> None:
    page = page_elsewhere(browser, "127.0.0.1", elsewhere)
    link = f"{address}/sql?sql={quote(SQL)}"
    page.evaluate("(link) => { location.href = link; }", link)
    page.get_by_text("was not run").wait_for()
    expect(page.get_by_role("textbox", name="SQL")).to_have_value(SQL)
    assert page.get_by_text("1 row").count() == 0
    page.wait_for_url(re.compile("draft="))
    page.get_by_role("button", name="Run").first.click()
    page.get_by_text("1 row, 1 columns").wait_for()
    page.wait_for_url(re.compile(r"[?&]sql="))
    assert "draft=" not in page.url
    page.goto("about:blank")
    page.goto(link)  # as typed
    page.get_by_text("1 row, 1 columns").wait_for()
    page.context.close()


def test_a_token_opens_the_app_once_and_is_in_no_link_after_that(
    browser: Browser, elsewhere: int, tmp_path: Path
) -> None:
    with served(loaded(tmp_path), free_port(), "--token", TOKEN) as address:
        root = f"http://localhost:{urlsplit(address).port}"
        page = page_elsewhere(browser, "127.0.0.1", elsewhere)
        assert "asks for its token" in (page.request.get(root).text())
        page.evaluate("(link) => { location.href = link; }", f"{root}/heads?head=L1H2&token={quote(TOKEN, safe='')}")
        page.get_by_role("heading", name="L1H2", level=2).wait_for()
        assert "token" not in page.url
        (cookie,) = [one for one in page.context.cookies() if one["name"].startswith("selfrepair")]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.goto(f"{root}/tokens?token=the")
        page.get_by_role("heading", name="Tokens", level=1).wait_for()
        page.context.close()


def test_visitors_by_several_names_of_this_machine_see_what_each_would_alone(browser: Browser, tmp_path: Path) -> None:
    with served(loaded(tmp_path), free_port(), "--host", "::", "--token", TOKEN) as address:
        port = urlsplit(address).port
        visitors = [Watched(browser, f"http://{name}:{port}") for name in ("localhost", "127.0.0.1", "[::1]")]
        for number, visitor in enumerate(visitors):
            visitor.page.goto(f"{visitor.address}/heads?head=L{number}H{number}&token={quote(TOKEN, safe='')}")
            visitor.page.get_by_role("heading", name=f"L{number}H{number}", level=2).wait_for()
            visitor.open(f"sql?sql={quote(f'SELECT {number} AS own')}&beside=History")
            visitor.page.get_by_text("1 row, 1 columns").wait_for()
        for number, visitor in enumerate(visitors):
            visitor.page.get_by_role("link", name="Heads", exact=True).click()
            visitor.page.get_by_role("heading", name="Heads", level=1).wait_for()
            visitor.page.get_by_role("link", name="SQL", exact=True).click()
            visitor.page.get_by_role("heading", name="SQL", level=1).wait_for()
            visitor.settle()
            queries = visitor.page.get_by_role("button", name=re.compile("^SELECT . AS own"))
            assert queries.all_inner_texts() == [f"SELECT {number} AS own"]
            hosts = {cookie.get("domain") for cookie in visitor.page.context.cookies()}
            assert hosts == {urlsplit(visitor.address).netloc.rpartition(":")[0]}
            visitor.check()
            visitor.close()
