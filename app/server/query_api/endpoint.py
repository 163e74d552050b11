"""The HTTP API as one ASGI application: addresses, methods, formats, caches, errors."""

import json
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from selfrepair.app.server.asking import Asker, Rows
from selfrepair.app.server.door import is_from_another_site
from selfrepair.app.server.query_api import contents
from selfrepair.app.server.query_api.answers import Answers, Body, GoneError, told
from selfrepair.app.server.query_api.formats import (
    FORMATS,
    MEDIA_TYPES,
    Format,
    accepted,
    encoded,
    shape_of,
    split_format,
)
from selfrepair.app.server.query_api.openapi import document
from selfrepair.app.server.query_api.page import shown
from selfrepair.app.server.query_api.parameters import (
    PAGING,
    QUERY,
    Page,
    check_state,
    links,
    next_page,
    page_of,
    part_of,
    refuse_others,
    single,
    values_of,
)
from selfrepair.app.server.query_api.problems import ProblemError, problem_of, response_of
from selfrepair.queries.catalog.next_step import API, shortened
from selfrepair.queries.client.notices import few_in_table
from selfrepair.queries.sandbox.fence import LONGEST_QUERY
from selfrepair.queries.sandbox.served import file_state
from selfrepair.warehouse.errors import SelfRepairError, errors_in

Make = Callable[[Asker, Page, Format], Rows]
_SQL_TYPES = ("", "application/sql", "text/plain")
_REVALIDATE = "private, no-cache"
_LONGEST_LINK = 8_000
"""Characters of the header Link: clients refuse long ones."""

_OF_THE_MOMENT = re.compile(
    r"\b(?:(?:random|now|today|age|uuid(?:v\d)?|gen_random_uuid|get_current_\w+|transaction_timestamp)\s*\("
    r"|(?:current_(?:date|time)\w*|localtime\w*|tablesample|using\s+sample)\b)",
    re.IGNORECASE,
)
"""What makes SQL answer differently though the file is the same; it may stand in a name, which costs a client its ETag."""


class QueryApi:
    """ASGI application that answers below `API` from the warehouse `db`; `prefix` is what stands before that in a path."""

    def __init__(self, db: Path, prefix: str = "") -> None:
        self.answers = Answers(db)
        self._db = db.absolute()
        self.root = f"{prefix}{API}"
        self._version = version("selfrepair")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong is a JSON problem."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ProblemError as problem:
            response = response_of(self._placed(problem))
        except (ClientDisconnect, GoneError):
            return
        except Exception:
            traceback.print_exc(file=sys.stderr)
            text = "the server failed at this; the reason is in the terminal in which it runs. Please report it."
            response = response_of(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, text))
        if request.method == "HEAD" or response.status_code == HTTPStatus.NOT_MODIFIED:
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = str(request.scope["path"]).removeprefix(self.root).strip("/")
        what, _, name = path.partition("/")
        if name:
            kind = None
        else:
            what, kind = split_format(what)
        methods = ["GET", "HEAD", "OPTIONS", *(["POST"] if what == "sql" and not name else [])]
        if path in ("openapi.json", "docs", ""):
            what = path
        elif name and what in contents.NAMED:
            name, kind = split_format(name)
        elif name or what not in (*contents.LISTINGS, "sql"):
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"there is no address '{shortened(path)}' here. All of them: {API}/docs",
                f"{API}/docs",
            )
        allow = ", ".join(methods)
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allow})
        if request.method not in methods:
            raise ProblemError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{request.method} is not for this address, which only reads. Use {allow}.",
                headers={"Allow": allow},
            )
        if what in ("openapi.json", "docs", ""):
            return await self._about(what, request)
        if what == "sql":
            return await self._sql(request, kind)
        return await self._rows(request, what, name, kind)

    async def _about(self, what: str, request: Request) -> Response:
        refuse_others(values_of(request.query_params.multi_items()), ["none"])
        if what == "docs":
            text = await run_in_threadpool(lambda: shown(document(self.root)))
            return Response(text, media_type="text/html", headers={"Cache-Control": _REVALIDATE})
        if what:
            found: dict[str, Any] = await run_in_threadpool(document, self.root)
        else:
            addresses = {name: f"{self.root}/{name}" for name in (*contents.LISTINGS, "sql", "docs", "openapi.json")}
            found = {"selfrepair": self._version, "warehouse": self._db.name, "addresses": addresses}
        return Response(json.dumps(found), media_type="application/json", headers={"Cache-Control": _REVALIDATE})

    async def _sql(self, request: Request, kind: Format | None) -> Response:
        if is_from_another_site(request.scope):
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "a link on another site may not run SQL here. Type or paste the address instead.",
            )
        pairs = request.query_params.multi_items()
        given = single(pairs, QUERY)
        if request.method == "POST":
            if given is not None:
                raise ProblemError(HTTPStatus.BAD_REQUEST, f"SQL stands in the body or in {QUERY}; give one of them.")
            given = await _body(request)
        if not given or not given.strip():
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                f"give SQL or the name of a view: {API}/sql?{QUERY}=SELECT ..., or as the body of a POST.",
                f"{API}/docs",
            )
        if len(given) > LONGEST_QUERY:
            too_long = (
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE if request.method == "POST" else HTTPStatus.REQUEST_URI_TOO_LONG
            )
            raise ProblemError(
                too_long,
                f"the SQL has {len(given):,} characters, and may have {LONGEST_QUERY:,}. Ask in parts, or name what repeats: "
                "WITH part AS (...)",
            )
        query = contents.sql_query(given, values_of(pairs, QUERY))

        def make(asker: Asker, page: Page, kind: Format) -> Rows:
            shape = shape_of(kind)
            return asker.ask(query, page.limit, page.offset, flat=shape.flat, text_keys=shape.text_keys)

        body = given if request.method == "POST" else ""
        return await self._respond(request, kind, "sql", "", make, body, is_lasting=not _OF_THE_MOMENT.search(given))

    async def _rows(self, request: Request, what: str, name: str, kind: Format | None) -> Response:
        values = values_of(request.query_params.multi_items())
        if not name or what == "describe":
            refuse_others(values, PAGING)

        def make(asker: Asker, page: Page, kind: Format) -> Rows:
            if not name:
                return contents.listed(asker, what, page, shape_of(kind))
            if what == "describe":
                return contents.description(asker, name, page)
            query, shape = contents.query_of(what, name, values), shape_of(kind)
            return asker.ask(query, page.limit, page.offset, flat=shape.flat, text_keys=shape.text_keys)

        return await self._respond(request, kind, what, name, make)

    async def _respond(
        self,
        request: Request,
        kind: Format | None,
        what: str,
        name: str,
        make: Make,
        body: str = "",
        *,
        is_lasting: bool = True,
    ) -> Response:
        """Rows as the client wants them, from the kept answers where there are; 304 where it has these already.

        `is_lasting`: they are the same as long as the file is.
        """
        headers = {"Cache-Control": _REVALIDATE} if kind else {"Cache-Control": _REVALIDATE, "Vary": "Accept"}
        kind = kind or _negotiated(request)
        pairs = request.query_params.multi_items()
        page, state = page_of(pairs), file_state(self._db)
        check_state(pairs, state)
        given = repr(sorted(values_of(pairs).items(), key=repr))  # lists of values have no hash
        key = (state, self._version, what, name, kind, page, given, body)
        tag = f'"{sha256(repr(key).encode(errors="surrogatepass")).hexdigest()[:32]}"'
        if is_lasting:
            headers["ETag"] = tag
        if is_lasting and request.method != "POST" and tag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        try:
            found = await self.answers.body(
                tag,
                partial(_made, make=make, page=page, kind=kind),
                lambda: is_lasting and file_state(self._db) == state,
                partial(_gone, request),
            )
        except SelfRepairError as error:
            raise problem_of(error, contents.step_of(what, name), is_of_path=bool(name)) from error
        if (now := file_state(self._db)) != state:  # it may be of either
            check_state(pairs, now)
            headers.pop("ETag", None)
        around, notes = links(quote(request.scope["path"]), pairs, page, state, has_more=found.is_cut), found.notes
        if len(around.get("Link", "")) > _LONGEST_LINK:
            around = {}
            if found.is_cut:
                notes = (f"There are more rows: ask again with {next_page(page, state)}.", *notes)
        headers |= around
        if notes:
            headers["Selfrepair-Note"] = told(notes)
        if kind != "json":
            headers["Content-Disposition"] = f'attachment; filename="{_file_name(name or what)}.{kind}"'
        headers |= {"Accept-Ranges": "bytes", "Content-Type": MEDIA_TYPES[kind]}
        content, asked = found.content, request.headers
        if request.method == "GET" and "range" in asked and asked.get("if-range", tag) == headers.get("ETag"):
            part = part_of(asked["range"], len(content))
            if part is not None:
                headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(content)}"
                return Response(content[part], HTTPStatus.PARTIAL_CONTENT, headers=headers)
        return Response(content, headers=headers)

    def _placed(self, problem: ProblemError) -> ProblemError:
        """The problem with addresses as they are here, below the app's own path."""
        detail, step = (text.replace(API, self.root) for text in (problem.detail, problem.step))
        return ProblemError(problem.status, detail, step, problem.headers)


def _made(asker: Asker, *, make: Make, page: Page, kind: Format) -> Body:
    with errors_in("http"):
        rows = make(asker, page, kind)
        return Body(encoded(rows.table, kind), rows.is_cut, (*rows.notes, *few_in_table(rows.table)))


async def _gone(request: Request) -> None:
    """Wait until the client closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _negotiated(request: Request) -> Format:
    header = ",".join(request.headers.getlist("accept")) or "*/*"
    kind = accepted(header)
    if kind is None:
        offered = ", ".join(MEDIA_TYPES[each].partition(";")[0] for each in FORMATS)
        raise ProblemError(
            HTTPStatus.NOT_ACCEPTABLE,
            f"rows do not come as '{shortened(header)}', but as {offered}. End the address with .json, .csv, .parquet or "
            ".arrow, or leave Accept out.",
        )
    return kind


async def _body(request: Request) -> str:
    """The SQL in a body. Raises ProblemError where it is too long, or no text."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _SQL_TYPES:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"SQL comes as application/sql or text/plain, not as '{shortened(media_type)}'. Set Content-Type.",
        )
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > 4 * LONGEST_QUERY:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has more than the {LONGEST_QUERY:,} characters of the longest SQL.",
            )
    try:
        return read.decode()
    except UnicodeDecodeError:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is no UTF-8 text. Send SQL as UTF-8.") from None


def _file_name(name: str) -> str:
    return "".join(each if each.isascii() and (each.isalnum() or each in "_-") else "_" for each in name)[:100]
