"""What a first visitor waits for: all that can be done before is done, and the frontend comes as it is, at once."""

import os
import subprocess
import sys
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from streamlit import file_util
from streamlit.web.server.starlette import starlette_server

from support.browser import accepts_without_delay
from support.loaded import loaded
from support.tiers import first_of_each

DRAW = """
import asyncio
from streamlit.testing.v1 import AppTest
from selfrepair.app.server import asgi
from selfrepair.app.data import query
from selfrepair.app.server.serve import HOME

if __name__ == "__main__":
    asked = []
    real = query.Warehouse.ask_all
    def noted(self, queries, **options):
        asked.extend(queries)
        return real(self, queries, **options)
    query.Warehouse.ask_all = noted
    async def start():
        async with asgi.app._user_lifespan(asgi.app):
            pass
    asyncio.run(start())
    before = len(asked)
    page = AppTest.from_file(str(HOME), default_timeout=60).run()
    titles = [title.replace(' ', '_') for title in page.title.values]
    print(before, len(asked), titles, len(page.exception), len(page.info), len(page.error))
"""


SLOW = """
import asyncio, time
from selfrepair.app.server import asgi
asgi.warm_up, asgi.WARM_UP_LIMIT_S = lambda: time.sleep(3_600), 0.1
async def start():
    async with asgi.app._user_lifespan(asgi.app):
        print("answers")
asyncio.run(start())
"""

SERVER_PROCESS = """
import runpy, streamlit.web.cli
from streamlit.web.server.starlette import starlette_server
from support.browser import accepts_without_delay
streamlit.web.cli.main = lambda **_: print(accepts_without_delay(starlette_server._bind_socket))
runpy.run_module("selfrepair.app.server.process", run_name="__main__")
"""


def drawn(db: Path, tmp_path: Path) -> list[str]:
    """What `DRAW` prints over the file: questions before and after the first visit, and what the visitor saw."""
    script = tmp_path / "draw.py"
    script.write_text(DRAW)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"SELFREPAIR_DB": str(db), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "missing ScriptRunContext" not in line]  # AppTest's own
    return [*done.stdout.splitlines(), *said]


@pytest.mark.slow
def test_the_first_page_has_nothing_left_to_ask(tmp_path: Path) -> None:
    (line,) = drawn(loaded(tmp_path), tmp_path)
    before, after, *seen = line.split()
    assert int(before) >= 4  # the page's; which runs there are is asked when the module is imported
    assert after == before
    assert seen == ["['How_much_does_this_model_self-repair?']", "0", "0", "0"]


@pytest.mark.parametrize("content", first_of_each(3, [b"no warehouse", b"", None]))
def test_a_file_that_cannot_be_shown_is_said_by_the_page_alone(content: bytes | None, tmp_path: Path) -> None:
    db = tmp_path / "w.duckdb"
    if content is not None:
        db.write_bytes(content)
    (line,) = drawn(db, tmp_path)
    _, _, *seen, exceptions, infos, errors = line.split()
    assert (seen, exceptions) == (["[]"], "0")
    assert int(infos) + int(errors) == 1


def test_a_first_page_that_takes_long_is_not_waited_for(tmp_path: Path) -> None:
    env = {**os.environ, "SELFREPAIR_DB": str(tmp_path / "none.duckdb")}
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout == "answers\n", done.stderr


@pytest.mark.slow
def test_the_frontend_comes_as_it_lies_on_the_disk_and_for_good(address: str) -> None:
    root = Path(file_util.get_static_dir())
    files = [path for kind in ("js", "css", "media") for path in sorted(root.glob(f"static/{kind}/*"))[:40]]
    assert len(files) > 40
    kinds = {".js": ("text/javascript", "application/javascript"), ".css": "text/css", ".woff2": "font/woff2"}
    for path in files:
        status, headers, body = got(address, f"/{path.relative_to(root).as_posix()}")
        assert (status, body) == (200, path.read_bytes()), path.name
        assert headers["cache-control"] == "public, immutable, max-age=31536000"
        assert headers["content-type"].startswith(kinds.get(path.suffix, ""))
        assert "etag" not in headers  # from memory: Streamlit, which reads it from the disk, says when it was written


@pytest.mark.parametrize(
    "path", ["/static/js/../../../__init__.py", "/static/js/..%2f..%2f..%2f__init__.py", "/static//etc/passwd"]
)
def test_nothing_beside_the_frontend_is_served(path: str, address: str) -> None:
    status, _, body = got(address, path)
    assert status in (400, 404) or b"<title>Streamlit</title>" in body


def test_messages_do_not_wait_for_each_other() -> None:
    """Streamlit's own sockets let them wait; should that end, what mends it here can go."""
    assert not accepts_without_delay(starlette_server._bind_socket)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    reading, writing = os.pipe()  # stays open, so that the process ends by itself
    done = subprocess.run(
        [sys.executable, "-c", SERVER_PROCESS], stdin=reading, capture_output=True, text=True, env=env, timeout=60
    )
    os.close(reading)
    os.close(writing)
    assert done.stdout == "True\n", done.stderr


def got(address: str, path: str) -> tuple[int, Message, bytes]:
    """Status, headers and body of what is there."""
    with closing(HTTPConnection(urlsplit(address).netloc)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
