"""Small warehouses that no test changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfrepair import Warehouse
from selfrepair.queries.sandbox import process
from support.loaded import loaded


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A loaded warehouse that no test changes."""
    yield loaded(tmp_path_factory.mktemp("warehouse"))
    process.end_idle()


@pytest.fixture(scope="module")
def ours(path: Path) -> Warehouse:
    return Warehouse(path)
