"""The next step that an error ends with, in the caller's language: a command line or Python.

Errors of catalog, fence and worker reach both `selfrepair query` and `Warehouse`, and name what can be typed there.
"""

import difflib
from collections.abc import Iterable
from typing import Literal

from selfrepair.warehouse.errors import in_words


def argument(name: str, value: object) -> str:
    """`--param layer=9` or `layer=9`."""
    return in_words(f"--param {name}={value}", f"{name}={value!r}")


def see(what: Literal["views", "questions", "models", "runs"]) -> str:
    """Where all of them are listed: `selfrepair views` or `warehouse.views()`."""
    return in_words(f"selfrepair {what}", f"warehouse.{what}()")


def see_described(name: str) -> str:
    """Where a table, view or question is described: `selfrepair describe NAME` or `warehouse.describe("NAME")`."""
    return in_words(f"selfrepair describe {name}", f'warehouse.describe("{name}")')


def see_names() -> str:
    """Where the names that SQL can use are listed and described."""
    return f"Tables and views: {see('views')}. Their columns: {see_described('NAME')}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not there: the likeliest of the `known` ones, or a full stop."""
    near = difflib.get_close_matches(name.lower(), known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else "."
