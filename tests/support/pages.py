"""Pages as Streamlit's own test runner sees them: what is drawn, without a browser."""

import re
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from selfrepair.app.server.serve import HOME

# For each test a new runner reads what all installed packages say of themselves: longer than most pages take.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

_TABLE = re.compile(r"<table.*</table>", re.DOTALL)
_SCRIPTS = [path.read_text(encoding="utf-8") for path in (HOME.parent / "app_pages").glob("*.py")]
DATA = sorted({f"{name} data" for script in _SCRIPTS for name in re.findall(r'\bname="(\w+)"', script)})
"""The keys of what opens below pictures and tables and shows their data."""


def opened(name: str, db: Path, monkeypatch: pytest.MonkeyPatch, **link: str) -> AppTest:
    """The page `name` over the file `db`, opened by a link with these parameters; no exception stands on it.

    The data below every picture are open: they tell what is drawn.
    """
    monkeypatch.setenv("SELFREPAIR_DB", str(db))
    app = AppTest.from_file(str(HOME), default_timeout=120)
    for key in DATA:
        app.session_state[key] = True
    for key, value in link.items():
        app.query_params[key] = value
    app.switch_page(f"app_pages/{name}.py").run()
    assert not app.exception, app.exception
    return app


def tables(app: AppTest) -> list[list[dict[str, str]]]:
    """What stands in the page's tables of sentences: a row's texts by the names above them."""
    found = []
    for html in app.get("html"):
        if table := _TABLE.search(html.proto.body):
            head, body = ET.fromstring(table[0])
            names = ["".join(cell.itertext()) for cell in head[0]]
            found.append([dict(zip(names, ("".join(cell.itertext()) for cell in row), strict=True)) for row in body])
    return found


def said(app: AppTest) -> str:
    """All that the page says in messages, captions, text and code."""
    elements: list[Any] = [*app.error, *app.warning, *app.info, *app.caption, *app.markdown, *app.code]
    return "\n".join(element.value for element in elements)
