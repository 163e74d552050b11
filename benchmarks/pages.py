"""Time the pages in a real browser: `python -m benchmarks.pages WAREHOUSE`, such as the one `benchmarks.warehouse` made.

Turns to every page from another one, opens it anew, then works every control on it that chooses something, and a click on
a heat map, a token and a prompt: how long from the click to the last change of what is drawn. What the mouse does by lying
where it is, a hover over a picture that comes to be under it, is none; nor is the table that a grid keeps for those who hear
it: what a grid draws on its canvas is not seen at all. The server's memory is that of all its processes.

An empty page of Streamlit's stands first: what this machine takes to load the frontend and draw nothing, to compare with.
"""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil
from rich.console import Console
from rich.table import Table

from tests.support.browser import FIRST, LOOK_MS, PAGES, Watched, free_port, launched, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

QUIET_MS = 700
"""For how long nothing may change before a page counts as drawn; not part of its time."""

_WATCH = """() => {
    const apart = '[data-testid="stStatusWidget"], [data-testid="stToolbar"], canvas > *';
    const isDrawn = (change) => {
        const at = change.target.closest ? change.target : change.target.parentElement;
        return at && !at.closest(apart) && !(at.tagName === 'CANVAS' && change.type === 'childList');
    };
    new MutationObserver((changes) => {
        if (changes.some(isDrawn)) {
            window.lastChange = performance.now();
        }
    }).observe(document.querySelector('[data-testid="stApp"]'), {subtree: true, childList: true, attributes: true});
    window.lastChange = performance.now();
}"""
_QUIET = f"""() => performance.now() - window.lastChange > {QUIET_MS}
    && document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    && !document.querySelector('[data-stale="true"]')"""

Timed = tuple[str, str, float]
"""A page, what was done on it, and the milliseconds until it was drawn."""


@click.command()
@click.argument("db", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--page", "names", multiple=True, type=click.Choice(PAGES), help="Only this page; may be given again.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too."
)
def main(db: Path, names: tuple[str, ...], json_file: Path | None) -> None:
    """Time every page and control over DB."""
    figures: list[Timed] = []
    with launched() as browser, _empty() as address:
        figures.append(("", "an empty page, to compare with", _first_ms(browser, address)))
    with launched() as browser, served(db) as address:
        figures.append(("overview", "first page of a fresh server", _first_ms(browser, address)))
        for name in names or PAGES:
            for timed in (_page_change, _page):
                watched = Watched(browser, address)
                figures += [(name, what, ms) for what, ms in timed(watched, name)]
                watched.check()
                watched.close()
        memory_mb = _memory_mb()
    _print(figures, memory_mb)
    if json_file:
        json_file.write_text(json.dumps({"ms": figures, "server_mb": memory_mb}, indent=1) + "\n")


@contextlib.contextmanager
def _empty() -> Iterator[str]:
    """Streamlit by itself with a page of one line; its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "empty.py"
        page.write_text("import streamlit as st\n\nst.title('Empty')\n")
        options = ["--server.headless=true", "--browser.gatherUsageStats=false", f"--server.port={port}"]
        with subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(page), "--server.address=localhost", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                while process.poll() is None:
                    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
                        break
                    time.sleep(0.1)
                yield f"http://localhost:{port}"
            finally:
                process.kill()


def _first_ms(browser: "Browser", address: str) -> float:
    """Milliseconds until the first page stands in a browser that has nothing of it yet."""
    began = time.perf_counter()
    watched = Watched(browser, address)
    watched.open("overview")
    taken = 1e3 * (time.perf_counter() - began)
    watched.close()
    return taken


def _page_change(watched: Watched, name: str) -> Iterator[tuple[str, float]]:
    """From another page, in the sidebar."""
    page = watched.open("sql" if name == FIRST else FIRST)
    page.evaluate(_WATCH)
    page.wait_for_function(_QUIET, polling=LOOK_MS)
    at = "" if name == FIRST else name
    yield "turn to", _until_drawn(page, page.locator(f'[data-testid="stSidebarNavLink"][href$="/{at}"]').click)


def _page(watched: Watched, name: str) -> Iterator[tuple[str, float]]:
    began = time.perf_counter()
    page = watched.open(name)
    yield "open", 1e3 * (time.perf_counter() - began)
    page.evaluate(_WATCH)
    page.wait_for_function(_QUIET, polling=LOOK_MS)
    for what, work in _clicks(page, name):
        yield what, _until_drawn(page, work)
    for number in range(page.get_by_test_id("stSelectbox").count()):
        box = page.get_by_test_id("stSelectbox").nth(number)
        label = box.locator("label").inner_text()
        for option in _other_option(page, box):
            yield f"choose {label}", _until_drawn(page, option.click)
    for number in range(page.get_by_test_id("stButtonGroup").count()):
        group = page.get_by_test_id("stButtonGroup").nth(number)
        label = group.locator("label").inner_text() if group.locator("label").count() else "a panel"
        for button in group.get_by_role("radio", checked=False).all()[:1]:
            yield f"choose {label}", _until_drawn(page, button.click)


def _clicks(page: "Page", name: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a page has to be clicked beside its widgets."""
    if name in ("heads", "compare"):
        yield "click a cell", page.locator('[data-testid="stVegaLiteChart"] .mark-rect path').nth(50).click
    if name == "tokens":
        yield "lock a token", page.locator(".token").nth(40).click
        yield "next prompt", page.get_by_role("button", name="Next").click
    if name == "sql":
        yield "run", page.get_by_role("button", name="Run").click


def _other_option(page: "Page", box: "Locator") -> Iterator["Locator"]:
    """An option of a select box that is not chosen, its list being open; none where there is one alone."""
    if box.locator("input").is_disabled():
        return
    box.locator("input").click()
    options = page.get_by_role("option")
    options.first.wait_for()
    others = [option for option in options.all() if option.get_attribute("aria-selected") != "true"]
    if others:
        yield others[-1]
    else:
        page.keyboard.press("Escape")


def _until_drawn(page: "Page", work: Callable[[], object]) -> float:
    """Milliseconds from the work to the last change that follows it."""
    began = page.evaluate("() => (window.lastChange = performance.now())")
    work()
    page.wait_for_function(_QUIET, polling=LOOK_MS)
    return float(page.evaluate("() => window.lastChange")) - float(began)


def _memory_mb() -> float:
    """Memory of the app's processes [MB]; what several of them share counts once."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
            if any("selfrepair" in word for word in process.cmdline()):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.uss) / 1e6  # only Linux knows what is shared
    return total


def _print(figures: list[Timed], memory_mb: float) -> None:
    table = Table("page", "what", title="from a click to a drawn page", title_justify="left")
    table.add_column("ms", justify="right")
    for name, what, ms in figures:
        table.add_row(name, what, f"{ms:,.0f}")
    Console().print(table)
    changes = [ms for _, what, ms in figures if not what.startswith(("an empty", "first", "turn", "open"))]
    turns = [ms for _, what, ms in figures if what.startswith("turn")]
    for noun, times in (("changes of a page", changes), ("turns to a page", turns)):
        click.echo(f"{len(times)} {noun}: median {statistics.median(times):,.0f} ms, longest {max(times):,.0f} ms")
    click.echo(f"server {memory_mb:,.0f} MB")


if __name__ == "__main__":
    main()
