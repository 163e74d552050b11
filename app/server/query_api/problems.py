"""Errors of the HTTP API: JSON problems (RFC 9457) with a status, what is wrong, and the next step."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from selfrepair.warehouse.errors import (
    InUseError,
    QueryLimitError,
    SelfRepairError,
    UnknownNameError,
    UnreadableError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 3
"""When a client is told to ask again, where the warehouse is being written or too many ask [s]."""


class ProblemError(Exception):
    """An answer that is an error. `step` is the path to read next; `headers` are sent with it."""

    def __init__(self, status: int, detail: str, step: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.step = step
        self.headers = dict(headers or {})


def problem_of(error: SelfRepairError, step: str, *, is_of_path: bool) -> ProblemError:
    """What an error of a question means to the client; `is_of_path`: the name that was asked for stands in the path."""
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    match error:
        case InUseError() | UnreadableError():
            return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=retry)
        case QueryLimitError():
            return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), step)
        case UnknownNameError() if is_of_path:
            return ProblemError(HTTPStatus.NOT_FOUND, str(error), step)
        case _:
            return ProblemError(HTTPStatus.BAD_REQUEST, str(error), step)


def problem_body(status: int, detail: str, step: str = "") -> bytes:
    """The problem as JSON."""
    told: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
    }
    return json.dumps(told | ({"next": step} if step else {})).encode() + b"\n"


def response_of(problem: ProblemError) -> Response:
    """The problem as an answer, which nobody keeps."""
    return Response(
        problem_body(problem.status, problem.detail, problem.step),
        problem.status,
        headers={**problem.headers, "Cache-Control": "no-store"},
        media_type=MEDIA_TYPE,
    )
