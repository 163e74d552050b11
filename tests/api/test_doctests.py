"""What docs/python.md and the docstring of `measure` show is what happens."""

import doctest
from pathlib import Path

import pytest
import torch

from selfrepair import demo_model, measure
from support import families

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
FLAGS = doctest.ELLIPSIS | doctest.REPORT_NDIFF


def run(text: str, names: dict[str, object]) -> int:
    test = doctest.DocTestParser().get_doctest(text, names, "shown", None, None)
    failed, attempted = doctest.DocTestRunner(optionflags=FLAGS).run(test)
    assert failed == 0
    return attempted


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    assert "from selfrepair import Warehouse, measure" in text
    names: dict[str, object] = {}
    exec("from selfrepair import Warehouse, measure", names)
    assert run(text, names) > 15


def test_the_docstrings_run() -> None:
    assert run(str(measure.__doc__), {"model": families.build("gpt2", torch.float32)}) == 3
    assert run(str(demo_model.__doc__), {}) == 3
