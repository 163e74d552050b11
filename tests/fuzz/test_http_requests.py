"""Requests to the HTTP API that nobody wrote; `make schemathesis` makes many more."""

from pathlib import Path

import pytest

from support.http_requests import requested
from support.loaded import loaded


@pytest.mark.slow
def test_answers_are_as_the_openapi_document_has_them(tmp_path: Path) -> None:
    few = ("--max-examples", "1", "--phases", "fuzzing", "--include-path-regex", r"^/(runs|sql)")
    done = requested(loaded(tmp_path), tmp_path, *few)
    assert done.returncode == 0, done.stdout[-5_000:]
