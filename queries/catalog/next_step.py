"""The next step that an error ends with, in the caller's language: a command line, Python, HTTP or an assistant's tools.

Errors of catalog, fence and worker reach `selfrepair query`, `Warehouse` and the HTTP API, and name what can be typed there.
"""

import difflib
from collections.abc import Iterable
from typing import Literal

from selfrepair.warehouse.errors import in_words

API = "/api/v1"
"""Where the HTTP API begins, in the paths of all its addresses."""

_LONGEST_SHOWN = 100


def argument(name: str, value: object) -> str:
    """`--param layer=9` or `layer=9`."""
    return in_words(f"--param {name}={value}", f"{name}={value!r}", f"{name}={value}", f"{name}={value!r}")


def see(what: Literal["views", "questions", "models", "runs"]) -> str:
    """Where all of them are listed: `selfrepair views`, `warehouse.views()`, `/api/v1/views` or a tool."""
    address = f"{API}/tables/models" if what == "models" else f"{API}/{what}"
    tool = {"views": "list_tables", "questions": "list_questions"}.get(what, "list_runs")
    return in_words(f"selfrepair {what}", f"warehouse.{what}()", address, f"the tool {tool}")


def see_described(name: str) -> str:
    """Where a table, view or question is described: `selfrepair describe NAME` or `warehouse.describe("NAME")`."""
    return in_words(
        f"selfrepair describe {name}",
        f'warehouse.describe("{name}")',
        f"{API}/describe/{name}",
        f'the tool describe, name="{name}"',
    )


def see_names() -> str:
    """Where the names that SQL can use are listed and described."""
    return f"Tables and views: {see('views')}. Their columns: {see_described('NAME')}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not there: the likeliest of the `known` ones, or a full stop."""
    near = difflib.get_close_matches(shortened(name).lower(), known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else "."


def shortened(name: str) -> str:
    """What was asked for, as an error repeats it: a name can be of any length."""
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
