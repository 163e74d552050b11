"""Tests run many tiny models: one thread is faster than two that wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from support import templates


@pytest.fixture(scope="session", autouse=True)
def _templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is made once in this run is shared by all its workers, whose own folders lie in one."""
    own = tmp_path_factory.getbasetemp()
    templates.share((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "templates")
