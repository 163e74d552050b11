"""Who gets in: every rule of the door, on requests as they come over the wire, and as an ASGI server hands them on."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfrepair.app.server.addresses import own_names
from selfrepair.app.server.door import Door
from selfrepair.app.server.hosts import parse_allowed
from selfrepair.app.server.policy import inline_script_hashes
from selfrepair.warehouse.errors import SelfRepairError

TOKEN = "a token of tests"
ROWS = b"rows of the warehouse"
OTHER = 9

_SOCKET = (
    "Connection: Upgrade\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n"
    "Sec-WebSocket-Extensions: permessage-deflate"
)


async def warehouse(scope: Scope, receive: Receive, send: Send) -> None:
    """What is behind the door: tells its rows to whoever gets in."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    headers = [(b"X-Frame-Options", b"ALLOWALL"), (b"content-length", str(len(ROWS)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else ROWS})


def attacks() -> list[str]:
    text = Path(__file__).with_name("attacks.txt").read_text(encoding="utf-8")
    paragraphs = re.split(r"\n{2,}", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    return [paragraph.strip() for paragraph in paragraphs]


async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
    """What fails, or turns sockets away."""
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    raise RuntimeError(scope["path"])


@contextmanager
def serving(app: ASGIApp) -> Iterator[int]:
    """The door before `app` and behind the server that Streamlit has, at a port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, lifespan="off", log_level="critical", ws="websockets-sansio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the warehouse is served behind the door."""
    with serving(Door(warehouse)) as found:
        yield found


def on_the_wire(request: str, port: int) -> bytes:
    """The whole answer to a request of attacks.txt."""
    first, *headers = request.replace("{port}", str(port)).replace("{other}", str(OTHER)).split("\n")
    if not first.endswith("HTTP/1.0"):
        first += " HTTP/1.1"
        if not any(header.startswith("Host:") for header in headers):
            headers.insert(0, f"Host: localhost:{port}")
    if "Upgrade: websocket" in headers:
        headers += _SOCKET.split("\n")
    else:
        headers.append("Connection: close")
    lines = [line.replace(r"\x00", "\0") for line in (first, *headers, "", "")]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while b"\r\n\r\n" not in answer or b" 101 " not in answer[:20]:
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    return answer


def test_every_attack_is_refused_and_says_what_to_do(port: int) -> None:
    known = attacks()
    assert len(known) == len(set(known)) > 100
    for attack in known:
        answer = on_the_wire(attack, port)
        assert re.match(rb"HTTP/1.1 (400|403) ", answer), (attack, answer)
        assert ROWS not in answer
        if b" 403 " in answer[:20]:  # 400 is the server's own
            head, _, text = answer.partition(b"\r\n\r\n")
            assert b"frame-ancestors 'none'" in head
            assert re.fullmatch(r"selfrepair: [^\n]{20,250}\n", text.decode()) or attack.startswith("HEAD"), attack


SERVED = [
    "GET /sql?sql=SELECT+1",
    "GET /\nHost: LocalHost:{port}",
    "GET /\nHost: 127.0.0.1:{port}",
    "GET /\nHost: 127.0.0.2:{port}",
    "GET /\nHost: [::1]:{port}",
    "GET /\nHost: [0:0:0:0:0:0:0:1]:{port}",
    "GET /\nHost: [::ffff:127.0.0.1]:{port}",
    "GET / HTTP/1.0\nHost: localhost:{port}",
    "GET /\nOrigin: http://localhost:{port}",
    "GET /\nHost: 127.0.0.1:{port}\nOrigin: http://127.0.0.1:{port}",
    "GET /static/a.js\nSec-Fetch-Site: same-origin\nSec-Fetch-Mode: cors\nSec-Fetch-Dest: script",
    "GET /sql?sql=SELECT+1\nSec-Fetch-Site: none\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
    "GET /sql?sql=SELECT+1\nSec-Fetch-Site: same-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
    "GET /heads?head=L1H2\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
]


def test_the_app_s_own_pages_and_plain_links_get_in(port: int) -> None:
    for request in SERVED:
        assert on_the_wire(request, port).endswith(ROWS), request
    own = "GET /_stcore/stream\nUpgrade: websocket\nOrigin: http://localhost:{port}"
    assert on_the_wire(own, port).startswith(b"HTTP/1.1 101 ")


def asked(door: Door, path: str = "/", *headers: tuple[str, str], **scope: Any) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of the answer to a request at localhost:80 that came in at 127.0.0.1."""
    path, _, query = path.partition("?")
    given = dict(headers)
    given.setdefault("host", "localhost")
    request = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "server": ("127.0.0.1", 80),
        **scope,
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    with ThreadPoolExecutor(1) as thread:  # a browser that another test holds open has a loop in this one
        thread.submit(asyncio.run, door(request, receive, send)).result()
    names = [name for name, _ in sent[0].get("headers", [])]
    assert len(names) == len(set(names))
    found = {name.decode(): value.decode() for name, value in sent[0].get("headers", [])}
    return sent[0].get("status", 0), found, sent[-1].get("body", b"").decode()


FOREIGN = (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))


def test_every_answer_forbids_frames_and_foreign_content_and_overrides_what_the_app_says() -> None:
    for answer in (asked(Door(warehouse)), asked(Door(warehouse), "/", ("host", "evil.example"))):
        headers = answer[1]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    of_the_app = Door(warehouse, scripts=inline_script_hashes())
    policy = dict(
        part.split(" ", 1)
        for part in asked(of_the_app, "/", ("host", "localhost:80"))[1]["content-security-policy"].split("; ")
    )  # of a page
    assert policy["frame-ancestors"] == policy["object-src"] == policy["form-action"] == "'none'"
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://localhost:80 wss://localhost:80"
    assert "connect-src 'self';" in asked(Door(warehouse), "/", ("host", "[::1]"))[1]["content-security-policy"]
    assert policy["img-src"] == "'self' data: blob:"
    assert re.fullmatch(r"'self' blob:( 'sha256-[\w+/]+=')+", policy["script-src"])  # neither inline nor eval


def test_what_fails_behind_the_door_is_answered_with_the_same_headers() -> None:
    upgrade = "Upgrade: websocket\nOrigin: http://localhost:{port}"
    with serving(Starlette(middleware=[Middleware(Door)], routes=[Mount("/", breaking)])) as port:
        for request, status in (
            ("GET /broken", b"500"),
            ("POST /broken\nContent-Length: 3", b"500"),
            (f"GET /broken\n{upgrade}", b"500"),
            (f"GET /refused\n{upgrade}", b"403"),
        ):
            head, _, text = on_the_wire(request, port).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status), request
            for header in (b"x-frame-options: DENY", b"nosniff", b"no-referrer", b"frame-ancestors 'none'"):
                assert header.lower() in head.lower(), (request, head)
            assert re.fullmatch(rb"selfrepair: [^\n]+\n", text), text


@pytest.mark.parametrize(
    ("link", "other"),
    [
        ("/sql?sql=FROM+runs&as=chart", {"draft": "FROM runs", "as": "chart"}),
        ("/sql?s%71l=FROM%20runs", {"draft": "FROM runs"}),
        ("/?sql=1&draft=2", {"draft": "1"}),
        ("/sql??sql=1", {"draft": "1"}),
        ("/sql/?head=L1H2&sql=%C3%A9%0A%22%3Cb%3E", {"head": "L1H2", "draft": 'é\n"<b>'}),
    ],
)
def test_sql_in_a_link_of_another_site_is_filled_in_and_not_run(link: str, other: dict[str, str]) -> None:
    status, headers, text = asked(Door(warehouse), link, *FOREIGN)
    assert (status, text) == (200, "")
    assert dict(parse_qsl(headers["refresh"].removeprefix("0; url=?"))) == other
    assert asked(Door(warehouse), link)[2] == ROWS.decode()


def test_no_link_shows_a_page_of_another_server_under_the_app_s_name() -> None:
    for link in ("/?staticAppId=evil", "/heads?head=L1H2&staticAppId=evil", "/??static%41ppId=evil"):
        assert "static" not in asked(Door(warehouse), link)[1]["refresh"]


LAN = ("192.168.1.5", 80)


def test_other_machines_need_a_token_wherever_the_server_was_told_to_listen() -> None:
    host = ("host", "192.168.1.5")
    status, _, text = asked(Door(warehouse), "/", host, server=LAN)
    assert (status, "--token auto" in text) == (403, True)
    open_door = Door(warehouse, token=TOKEN)
    assert asked(open_door, "/", host, server=LAN)[0] == 403
    assert asked(open_door, f"/?token={TOKEN.replace(' ', '+')}", host, server=LAN)[0] == 200
    assert "does not answer to 10.0.0.9" in asked(open_door, "/", ("host", "10.0.0.9"), server=LAN)[2]
    for server in (None, ("/run/app.sock", None)):
        assert asked(open_door, server=server)[0] == 403


def test_a_token_comes_by_the_link_once_and_then_by_a_cookie_of_this_port() -> None:
    door = Door(warehouse, token=TOKEN, path="sub")
    assert asked(door)[0] == 403
    for wrong in ("", TOKEN[:-1], TOKEN + "x", "é", "%ED%A0%80", "%00"):
        status, headers, text = asked(door, f"/?token={wrong}")
        assert (status, "set-cookie" in headers, "?token=" in text) == (403, False, True)
    link = f"/tokens?head=L1H2&token=the&token={TOKEN.replace(' ', '%20')}"
    status, headers, text = asked(door, link)
    assert (status, text, headers["refresh"]) == (200, "", "0; url=?head=L1H2&token=the")
    assert headers["cache-control"] == "no-store"
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert attributes == ["Path=/sub", "HttpOnly", "SameSite=Strict"]
    assert cookie.startswith("selfrepair-80=")
    assert TOKEN not in cookie
    assert asked(door, link, ("host", "localhost:80"), scheme="https")[1]["set-cookie"].endswith("; Secure")
    assert asked(door, "/", ("cookie", f"a=b; {cookie}; c=d"))[2] == ROWS.decode()
    assert asked(door, "/tokens?token=the", ("cookie", f"selfrepair-80=old; {cookie}"))[2] == ROWS.decode()
    for other in (cookie[:-1], cookie.replace("80=", "81="), f"selfrepair-80={TOKEN}", f"x{cookie}", "selfrepair-80"):
        assert asked(door, "/", ("cookie", other))[0] == 403
    elsewhere = asked(
        door, "/", ("host", "localhost:81"), ("cookie", cookie.replace("80=", "81=")), server=("127.0.0.1", 81)
    )
    assert elsewhere[0] == 403  # of another app with the same token
    _, headers, _ = asked(door, f"/sql?sql=1&token={TOKEN.replace(' ', '+')}", *FOREIGN)
    assert headers["refresh"] == "0; url=?draft=1"


def test_a_socket_shows_the_cookie_too() -> None:
    door = Door(warehouse, token=TOKEN)
    cookie = asked(door, f"/?token={TOKEN.replace(' ', '+')}")[1]["set-cookie"].partition(";")[0]
    socket_at = {"type": "websocket", "scheme": "ws", "extensions": {"websocket.http.response": {}}}
    own = ("origin", "http://localhost")
    link = f"/_stcore/stream?token={TOKEN.replace(' ', '+')}"
    assert asked(door, "/_stcore/stream", own, **socket_at)[0] == 403
    assert asked(door, link, own, **socket_at)[0] == 403
    assert asked(door, "/_stcore/stream", own, ("cookie", cookie), **socket_at)[0] == 0  # accepted
    assert (
        asked(door, "/_stcore/stream", own, type="websocket", scheme="ws")[0] == 0
    )  # closed, by a server without texts


PROXY = Door(warehouse, allowed=parse_allowed(["lab.example.org", "Lab.example.org:8443", "localhost:9000", "fd00::1"]))


@pytest.mark.parametrize(
    ("host", "origin", "gets_in"),
    [
        ("lab.example.org", None, True),
        ("LAB.example.org:80", "http://lab.example.org", True),
        ("lab.example.org", "https://lab.example.org", True),  # the proxy has the certificate
        ("localhost", "https://lab.example.org", True),  # the proxy writes its own Host
        ("lab.example.org:8443", "https://lab.example.org:8443", True),
        ("localhost:9000", "http://localhost:9000", True),
        ("[fd00::1]", "http://[fd00:0::1]", True),
        ("lab.example.org:9999", None, False),
        ("www.lab.example.org", None, False),
        ("lab.example.org.", None, False),
        ("localhost:9001", None, False),
        ("lab.example.org", "https://lab.example.org:9999", False),
        ("lab.example.org", "https://evil.example", False),
        ("lab.example.org", "null", False),
        ("localhost", "http://localhost:9001", False),
    ],
)
def test_a_proxy_s_name_is_allowed_with_its_port(host: str, origin: str | None, *, gets_in: bool) -> None:
    headers = [("host", host), *([] if origin is None else [("origin", origin)])]
    assert asked(PROXY, "/", *headers)[0] == (200 if gets_in else 403)


def reaches(own_port: int, host: str, origin: str) -> bool:
    """Whether a page of `origin` opens a socket of an app that runs with --host labbox at this port."""
    door = Door(warehouse, allowed=parse_allowed(own_names("labbox", own_port)), token=TOKEN)
    at = {"server": ("192.168.1.5", own_port)}
    cookie = asked(door, f"/?token={TOKEN.replace(' ', '+')}", ("host", host), **at)[1]["set-cookie"].partition(";")[0]
    upgrade = {"type": "websocket", "scheme": "ws", "extensions": {"websocket.http.response": {}}}
    headers = (("host", host), ("origin", origin), ("cookie", cookie))
    return asked(door, "/_stcore/stream", *headers, **upgrade, **at)[0] == 0


def test_another_server_of_the_machine_at_a_usual_port_is_another_site() -> None:
    assert reaches(8501, "labbox:8501", "http://labbox:8501")
    for elsewhere in ("http://labbox", "https://labbox", "https://labbox:443", "http://labbox:8502"):
        assert not reaches(8501, "labbox:8501", elsewhere)
    assert reaches(80, "labbox", "http://labbox")
    assert reaches(80, "labbox:80", "http://labbox")
    assert not reaches(80, "labbox", "https://labbox")
    assert own_names("fd00::1", 8501) == ["[fd00::1]:8501"]
    assert own_names("localhost", 8501) == own_names("no such host", 8501) == []


def test_a_refusal_names_the_option_that_lets_the_name_in() -> None:
    text = asked(Door(warehouse), "/", ("host", "lab.example.org:8443"))[2]
    assert text.endswith("Open it at http://127.0.0.1:80, or start it with --allow-host lab.example.org:8443\n")
    elsewhere = asked(Door(warehouse, path="lab/a"), "/", ("host", "x"), scheme="https", server=("fd00:0::5", 8501))[2]
    assert "Open it at https://[fd00::5]:8501/lab/a, or" in elsewhere
    parse_allowed([text.split()[-1]])
    for wrong in ("https://lab.example.org", "*", "*.example.org", "a b", "", "lab:0", "127.1"):
        with pytest.raises(SelfRepairError, match="Try: --allow-host"):
            parse_allowed([wrong])
