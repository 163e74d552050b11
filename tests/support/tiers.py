"""Which of many cases a tier runs: `make test` leaves out those marked slow, `make test-all` those marked exhaustive, and
`make test-exhaustive` runs these.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import settings


def first_of_each(n: int, cases: Iterable[Any]) -> list[Any]:
    """The cases, of which the quick tier runs the first of every `n`."""
    return [_marked(case, "slow", number % n > 0) for number, case in enumerate(cases)]


def only(quick: Collection[str], cases: Iterable[str]) -> list[Any]:
    """The cases, of which the quick tier runs those named in `quick`; each of these must be there."""
    cases = list(cases)
    assert set(quick) <= set(cases), set(quick) - set(cases)
    return [_marked(case, "slow", case not in quick) for case in cases]


def every_element(*lists: Sequence[Any]) -> list[Any]:
    """All combinations of an element of each list, those marked exhaustive that are not needed to have each element once."""
    longest = max(map(len, lists))
    needed = {tuple(number % len(of) for of in lists) for number in range(longest)}
    numbers = itertools.product(*(range(len(of)) for of in lists))
    return [
        _marked(tuple(of[number] for of, number in zip(lists, case, strict=True)), "exhaustive", case not in needed)
        for case in numbers
    ]


def examples(quick: int, full: int, fuzz: int | None = None) -> settings:
    """How many examples Hypothesis tries where one takes long; `fuzz`, ten times `full`, is in a round of `make fuzz`."""
    profile = settings.get_current_profile_name()
    return settings(max_examples={"quick": quick, "fuzz": fuzz or 10 * full}.get(profile, full))


def _marked(case: Any, mark: str, is_marked: bool) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=getattr(pytest.mark, mark) if is_marked else ())
