"""The README stays on a page, and its output block is laid out as the demo prints it."""

import re
from pathlib import Path

from support.documents import ROOT
from support.loaded import loaded

README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- demo -->\n```text\n(?P<text>.*?)```\n<!-- /demo -->", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( [kMG]?B)?")


def layout(text: str) -> list[str]:
    """Lines with their numbers masked and spaces joined, equal ones that follow each other once."""
    lines = [" ".join(NUMBER.sub("#", line).split()) for line in text.strip().splitlines()]
    return [line for line, before in zip(lines, ["", *lines], strict=False) if line != before]


def test_layout_forgets_numbers_and_nothing_else() -> None:
    assert layout("  0  1.5\n  1  -2,000.25\nstored 73.7 MB") == ["# #", "stored #"]
    assert layout("effect [%]") != layout("effect [logits]")


def test_the_output_block_begins_as_the_demo_does(tmp_path: Path) -> None:
    from selfrepair.app.cli.run_report import run_report

    db = loaded(tmp_path)
    printed = layout(run_report(db, 1).replace(str(db), "selfrepair.duckdb").replace("tiny-model", "demo"))
    block = BLOCK.search(README.read_text(encoding="utf-8"))
    assert block
    printed = [line for line in printed if not line.startswith("There are numbers here of")]  # the demo has enough
    written = layout(block["text"])
    assert any("layer" in line for line in written)
    assert written == printed[: len(written)], "paste what make demo prints"


def test_it_fits_on_a_page() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 110] == []


def test_the_first_screen_names_the_paper_and_the_commands() -> None:
    first = " ".join(README.read_text(encoding="utf-8").partition("<!-- demo -->")[0].split())
    for words in (
        "Cody Rushing and Neel Nanda",
        "Explorations of Self-Repair in Language Models",
        "arXiv 2402.15390",
        "Python >= 3.11",
        "make demo",
        "make test",
    ):
        assert words in first
