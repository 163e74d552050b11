"""What docs/security.md promises is held by tests that exist."""

import re

from support.documents import ROOT


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and line != "| promise | held by |"]
    assert len(rows) >= 12
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+|test_\w+)`", row.rpartition("|")[0].rpartition("|")[2]) or ["the same"]
        assert named != ["the same"] or "the same" in row, row
        for name in named:
            assert (ROOT / name).is_file() if "/" in name else name == "the same" or f"def {name}(" in tests, name
