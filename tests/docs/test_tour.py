"""The tour's outputs are what its commands print: texts to the letter, numbers but for their last digits."""

import re
from pathlib import Path

import pytest

from support.documents import TOUR, tour

pytest.importorskip("torch", reason="measuring needs the ingest extra")

NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)")
RULES = re.compile(r"[─│┌┐└┘├┤┬┴┼═╞╡╪┆╌]|-{2,}|\s")
"""What only lays out a table, and moves with the length of a number."""


def pieces(text: str) -> list[str | float]:
    """Texts and numbers in turn."""
    parts = NUMBER.split(text)
    return [float(part.replace(",", "")) if i % 2 else RULES.sub("", part) for i, part in enumerate(parts)]


def test_layout_is_no_difference_and_numbers_are() -> None:
    assert pieces("a  -1.50\n---") == pieces("a      -1.5")
    assert pieces("| 1,234 |") == ["|", 1234.0, "|"]
    assert pieces("L9H6 2.1e-05") == ["L", 9.0, "H", 6.0, "", 2.1e-05, ""]


@pytest.mark.slow
def test_the_tour_prints_what_it_says(tmp_path: Path) -> None:
    written = TOUR.read_text(encoding="utf-8")
    now = tour(written, tmp_path)
    hint = "run python tests/support/documents.py and look at the difference"
    wanted, found = pieces(written), pieces(now)
    assert [part for part in found if isinstance(part, str)] == [part for part in wanted if isinstance(part, str)], hint
    for mine, theirs in zip(found, wanted, strict=True):
        if isinstance(mine, float):
            assert mine == pytest.approx(theirs, rel=2e-3, abs=2e-3), hint
