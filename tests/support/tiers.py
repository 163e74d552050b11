"""What of many cases the quick tier runs: `make test` leaves out those marked slow, `make test-all` runs all."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from hypothesis import settings


def first_of_each(n: int, cases: Iterable[Any]) -> list[Any]:
    """The cases, of which the quick tier runs the first of every `n`."""
    return [_marked(case, is_slow=number % n > 0) for number, case in enumerate(cases)]


def only(quick: Collection[str], cases: Iterable[str]) -> list[Any]:
    """The cases, of which the quick tier runs those named in `quick`; each of these must be there."""
    cases = list(cases)
    assert set(quick) <= set(cases), set(quick) - set(cases)
    return [_marked(case, is_slow=case not in quick) for case in cases]


def examples(quick: int, full: int, fuzz: int | None = None) -> settings:
    """How many examples Hypothesis tries where one takes long; `fuzz`, ten times `full`, is in a round of `make fuzz`."""
    profile = settings.get_current_profile_name()
    return settings(max_examples={"quick": quick, "fuzz": fuzz or 10 * full}.get(profile, full))


def _marked(case: Any, *, is_slow: bool) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow if is_slow else ())
