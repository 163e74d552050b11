"""The app's door: which requests are let in, and what every answer forbids the browser.

Any web page can send requests to a server on the machine of its reader. It must neither read nor frame the app, nor have
it run SQL; docs/security.md says what is promised.
"""

import hmac
from collections.abc import Iterable, Sequence
from hashlib import sha256
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfrepair.app.server.hosts import (
    Address,
    Authority,
    admits_host,
    admits_origin,
    authority,
    host_header,
    is_loopback,
)
from selfrepair.app.server.policy import content_policy
from selfrepair.app.server.query_api.problems import MEDIA_TYPE, problem_body
from selfrepair.queries.catalog.next_step import API

TOKEN, SQL, DRAFT = "token", "sql", "draft"
"""Parameters of links: what opens the app, SQL that is run, and SQL that is only filled in."""

_ELSEWHERE = "staticAppId"
"""A parameter for which the frontend would show a page of Streamlit's servers instead of ours."""

_HEADERS = {
    b"x-frame-options": b"DENY",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


class RefusedError(Exception):
    """A request that is not let in; the text says what to do."""


class Door:
    """ASGI middleware for http and websocket; every check is of the request alone, so that it needs no state.

    `allowed`: hosts beside loopback and the address that the request came in at; `token`: what a visitor has to know;
    `scripts`: hashes of those that stand in the app's own page.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed: Sequence[Authority] = (),
        token: str | None = None,
        path: str = "",
        scripts: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._token = token
        self._path = f"/{path}"
        self._scripts = scripts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, refuse it with a line of text, or send the browser to the same page by another link."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            arrived_at = _arrived_at(scope)
            asked = self._check_names(scope, arrived_at)
            is_foreign = _check_fetch(scope)
            self._check_token(scope, arrived_at)
        except RefusedError as refused:
            await self._refuse(scope, send, str(refused))
            return
        headers = self._headers(asked)
        if scope["type"] == "http" and (link := self._other_link(scope, is_foreign)) is not None:
            if not _is_of_api(scope, self._path) or _is_for_reader(scope):
                await self._redirect(scope, send, link, headers, arrived_at[1])
                return
            scope = {
                **scope,
                "query_string": link.removeprefix("?").encode(),
            }  # a program follows no page to another link
        is_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_begun
            is_refused = message["type"] == "websocket.close" and not is_begun
            is_begun = True
            if is_refused:
                await _answer(scope, send, HTTPStatus.FORBIDDEN, "selfrepair: there is no such connection\n", headers)
                return
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                kept = [(name, value) for name, value in message["headers"] if bytes(name).lower() not in headers]
                message = {**message, "headers": [*kept, *headers.items()]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:  # a server's own answer to it would have none of these headers
            if not is_begun:
                text = "selfrepair: the app failed at this; the reason is in the terminal in which it runs\n"
                await _answer(scope, send, HTTPStatus.INTERNAL_SERVER_ERROR, text, self._headers(None))
            raise

    def _check_names(self, scope: Scope, arrived_at: Address) -> Authority:
        """The Host, which is one of the app's own; an Origin is one of these, too."""
        path = scope["path"]
        if not path.startswith("/"):
            raise RefusedError("the address must be a path, such as /sql.")
        hosts = _values(scope, b"host")
        asked = authority(hosts[0]) if len(hosts) == 1 else None
        if asked is None:
            raise RefusedError("the request must name one host, such as localhost.")
        if not admits_host(asked, self._allowed, scope["scheme"], arrived_at):
            is_encrypted = scope["scheme"] in ("https", "wss")
            here = f"{'https' if is_encrypted else 'http'}://{host_header(arrived_at)}{self._path.rstrip('/')}"
            raise RefusedError(
                f"this app does not answer to {hosts[0]}. Open it at {here}, or start it with --allow-host {hosts[0]}"
            )
        origins = _values(scope, b"origin")
        if scope["type"] == "websocket" and not origins:
            raise RefusedError("a connection must say which page it comes from (Origin).")
        if len(origins) > 1 or not all(
            admits_origin(origin, asked, self._allowed, scope["scheme"], arrived_at[1]) for origin in origins
        ):
            raise RefusedError(
                "another site may not ask this app. If that is its own address behind a proxy, start it with "
                "--allow-host NAME"
            )
        return asked

    def _check_token(self, scope: Scope, arrived_at: Address) -> None:
        """A visitor shows the token by the cookie of this port or by the link, a program by a header that no page can set."""
        if self._token is None:
            if not is_loopback(arrived_at[0]):
                raise RefusedError("other machines are let in with a token only. Start the app with --token auto")
            return
        name = _cookie_name(arrived_at[1])
        shown = [value for header in _values(scope, b"cookie") for value in _cookies(header, name)]
        if any(_is_same(value, self._cookie_value(arrived_at[1])) for value in shown):
            return
        if scope["type"] == "http" and self._is_token_in([*_query(scope), *_bearer(scope)]):
            return
        if _is_of_api(scope, self._path):
            raise RefusedError("this address asks for the app's token. Send the header Authorization: Bearer TOKEN")
        raise RefusedError(
            "this app asks for its token. Open the link that `selfrepair app` printed, which ends with ?token=...; if "
            "you did before, this link came from another site: press Enter in the address bar"
        )

    def _other_link(self, scope: Scope, is_foreign: bool) -> str | None:
        """The link to the same page without the token, and with SQL that came from another site not run; None: as it is."""
        query = _query(scope)
        kept = [pair for pair in query if not (self._is_token_in([pair]) or pair[0].lstrip("?") == _ELSEWHERE)]
        if is_foreign and any(name.lstrip("?") == SQL for name, _ in kept):
            kept = [(DRAFT if name.lstrip("?") == SQL else name, value) for name, value in kept if name != DRAFT]
        return None if kept == query else f"?{urlencode(kept)}"

    async def _refuse(self, scope: Scope, send: Send, text: str) -> None:
        """Refuse with a line of text, or with a JSON problem where the address is one of the HTTP API."""
        status, headers = HTTPStatus.FORBIDDEN, self._headers(None)
        if _is_of_api(scope, self._path):
            body = problem_body(status, text).decode()
            await _answer(scope, send, status, body, headers, MEDIA_TYPE.encode())
        else:
            await _answer(scope, send, status, f"selfrepair: {text}\n", headers)

    async def _redirect(self, scope: Scope, send: Send, link: str, headers: dict[bytes, bytes], port: int) -> None:
        """Send the browser to `link`; with the token's cookie where the token came.

        By a page, not by a status: a redirect of a link in another site's page still is that site's request, for which a
        browser keeps the cookie back.
        """
        extra = headers | {b"refresh": f"0; url={link}".encode(), b"cache-control": b"no-store"}
        if self._is_token_in(_query(scope)):
            secure = "; Secure" if scope["scheme"] == "https" else ""
            cookie = f"{_cookie_name(port)}={self._cookie_value(port)}; Path={self._path}; HttpOnly; SameSite=Strict"
            extra[b"set-cookie"] = f"{cookie}{secure}".encode()
        await _answer(scope, send, HTTPStatus.OK, "", extra)

    def _headers(self, asked: Authority | None) -> dict[bytes, bytes]:
        return _HEADERS | {b"content-security-policy": content_policy(self._scripts, asked).encode()}

    def _is_token_in(self, query: Iterable[tuple[str, str]]) -> bool:
        token = self._token
        return token is not None and any(name == TOKEN and _is_same(value, token) for name, value in query)

    def _cookie_value(self, port: int) -> str:
        """Does not tell the token, and is no good for another app with the same one."""
        return hmac.new((self._token or "").encode(), f"{port}{self._path}".encode(), sha256).hexdigest()


def _arrived_at(scope: Scope) -> Address:
    server = scope.get("server")
    if server is None or server[1] is None:
        raise RefusedError("the app must listen on a port.")
    return server[0], server[1]


def _check_fetch(scope: Scope) -> bool:
    """Whether a page of another site sent the browser here, which it may only do in the reader's sight.

    Browsers say so in headers that no page can set. Pages of other ports of this machine are of the same site: their links
    may run SQL.
    """
    site, mode, dest = (_values(scope, b"sec-fetch-" + name) for name in (b"site", b"mode", b"dest"))
    if not site or site in (["same-origin"], ["none"]):
        return False
    is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    if not (is_read and mode == ["navigate"] and dest == ["document"]):
        raise RefusedError(
            "another site may link to this app, and not load, frame or ask it. Open it in a tab of its own"
        )
    return site != ["same-site"]


def is_from_another_site(scope: Scope) -> bool:
    """Whether a link on another site led here; the request has passed the door."""
    try:
        return _check_fetch(scope)
    except RefusedError:
        return True


def _is_of_api(scope: Scope, path: str) -> bool:
    return scope["type"] == "http" and str(scope["path"]).startswith(f"{path.rstrip('/')}{API}")


def _is_for_reader(scope: Scope) -> bool:
    """Whether a browser asks for a page that its reader will see."""
    return any("text/html" in value.lower() for value in _values(scope, b"accept"))


def _bearer(scope: Scope) -> list[tuple[str, str]]:
    """Tokens of the request's Authorization headers, as parameters of links have them."""
    pairs = (value.partition(" ") for value in _values(scope, b"authorization"))
    return [(TOKEN, token.strip()) for kind, _, token in pairs if kind.lower() == "bearer"]


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True, encoding="utf-8")


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if bytes(key).lower() == name]


def _cookie_name(port: int) -> str:
    return f"selfrepair-{port}"


def _cookies(header: str, name: str) -> list[str]:
    """Values of the cookies called `name`; browsers may send several, of other paths."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return [value for key, _, value in pairs if key == name]


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


async def _answer(
    scope: Scope,
    send: Send,
    status: int,
    text: str,
    headers: dict[bytes, bytes],
    media_type: bytes = b"text/plain; charset=utf-8",
) -> None:
    """Answer with a text; a websocket that cannot be answered so is closed before it opens."""
    body = text.encode()
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": text.strip()[:100]})
            return
        kind = "websocket.http.response"
    content = {b"content-type": media_type, b"content-length": str(len(body)).encode()}
    await send({"type": f"{kind}.start", "status": int(status), "headers": [*(headers | content).items()]})
    is_head = scope.get("method") == "HEAD"
    await send({"type": f"{kind}.body", "body": b"" if is_head else body})
