"""Views over rows that a test puts in: none is kept as a mart."""

from collections.abc import Iterator

import duckdb
import pytest

from support.empty import with_views


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty warehouse in memory with every view."""
    with with_views() as connection:
        yield connection
