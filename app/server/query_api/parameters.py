"""What a request says: which page of which rows, and the values of columns and parameters."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from selfrepair.app.server.query_api.problems import ProblemError
from selfrepair.queries.catalog.next_step import did_you_mean, shortened
from selfrepair.queries.sandbox.served import MAX_ROWS, State

ROWS_OF_PAGE = 1_000
"""Rows of a page where no limit is given."""

LIMIT, OFFSET, AS_OF, COLUMNS, QUERY = "limit", "offset", "as_of", "columns", "q"
PAGING = (LIMIT, OFFSET, AS_OF)
"""Parameters of every address with rows."""

_LAST_OFFSET = 10**12
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """At most `limit` rows behind the first `offset`."""

    limit: int
    offset: int


def page_of(pairs: Pairs) -> Page:
    """The page that is asked for. Raises ProblemError for what is no page."""
    return Page(_number(pairs, LIMIT, ROWS_OF_PAGE, MAX_ROWS), _number(pairs, OFFSET, 0, _LAST_OFFSET))


def check_state(pairs: Pairs, state: State) -> None:
    """Raise ProblemError where the address is of another state of the file: its pages would not fit together."""
    asked = single(pairs, AS_OF)
    if asked is not None and asked != name_of(state):
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "the warehouse has changed since the first page, or this is no state of it. Begin again, without as_of and "
            "offset.",
        )


def name_of(state: State) -> str:
    """What a state of the file is called in links."""
    return sha256(repr(state).encode()).hexdigest()[:16]


def single(pairs: Pairs, name: str) -> str | None:
    """The value of a parameter that may be given once. Raises ProblemError where it is given again."""
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"{name} is given {len(values)} times; give it once.")
    return values[0] if values else None


def values_of(pairs: Pairs, *besides: str) -> dict[str, Any]:
    """All other parameters by name; one that is given several times is a list."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in PAGING or name in besides:
            continue
        if name in found:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        else:
            found[name] = value
    return found


def refuse_others(values: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise ProblemError for a parameter that the address does not have."""
    for name in values:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"there is no parameter '{shortened(name)}' here{did_you_mean(name, known)} It takes: {', '.join(known)}.",
        )


def links(path: str, pairs: Pairs, page: Page, state: State, *, has_more: bool) -> dict[str, str]:
    """The Link header to the pages around this one, of the same state of the file (RFC 8288)."""
    kept = [(name, value) for name, value in pairs if name not in PAGING]

    def link(offset: int, relation: str) -> str:
        query = urlencode([*kept, (LIMIT, page.limit), (OFFSET, offset), (AS_OF, name_of(state))])
        return f'<{path}?{query}>; rel="{relation}"'

    found = []
    if has_more and page.limit:
        found.append(link(page.offset + page.limit, "next"))
    if page.offset:
        found += [link(max(0, page.offset - page.limit), "prev"), link(0, "first")]
    return {"Link": ", ".join(found)} if found else {}


def next_page(page: Page, state: State) -> str:
    """The parameters of the page behind this one, for an address that is too long for a header."""
    return urlencode([(LIMIT, page.limit), (OFFSET, page.offset + page.limit), (AS_OF, name_of(state))])


def part_of(header: str, n_bytes: int) -> slice | None:
    """The one part of `n_bytes` that a Range header asks for (RFC 9110), None where it asks for nothing that is given in parts.

    Raises ProblemError where the answer ends before it.
    """
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", header.strip(), re.ASCII)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    begin = int(first) if first else max(0, n_bytes - int(last))
    end = min(int(last) + 1, n_bytes) if first and last else n_bytes
    if first and last and int(last) < int(first):
        return None
    if begin >= n_bytes:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"the answer has {n_bytes:,} bytes, and none of those that Range asks for. Leave Range out.",
            headers={"Content-Range": f"bytes */{n_bytes}"},
        )
    return slice(begin, end)


def _number(pairs: Pairs, name: str, default: int, most: int) -> int:
    text = single(pairs, name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) > most:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, f"{name} takes a whole number from 0 to {most:,}, not '{shortened(text)}'."
        )
    return int(text)
