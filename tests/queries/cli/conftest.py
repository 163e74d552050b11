"""A warehouse as loading leaves it."""

from pathlib import Path

import pytest

from support.fabricate import fabricate
from support.loaded import stored


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse as loading leaves it: two runs, of two models."""
    runs = [fabricate(key, model=key, seed=len(key + key[0])) for key in ("one", "two")]
    return stored(tmp_path_factory.mktemp("loaded"), *runs)
