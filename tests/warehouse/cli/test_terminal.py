import re
import sys
from datetime import datetime
from decimal import Decimal

import pytest

from selfrepair.warehouse.cli.terminal import cell_text, print_records, print_table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (1234567, "1,234,567"),
        (-12, "-12"),
        (0.0, "0"),
        (0.12345678, "0.1235"),
        (-12.345678, "-12.35"),
        (99999.0, "99,999"),
        (1.0, "1.000"),
        (0.0000123, "1.2e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Decimal("2.50"), "2.500"),
        (datetime(2026, 3, 4, 5, 6, 7, 8), "2026-03-04 05:06:07"),
        (" the\n\t\x1b", " the\\n\\t\\x1b"),
        ("é 界 [/b]", "é 界 [/b]"),
        (["mean", "zero"], "mean, zero"),
        ({"torch": "2.13", "n": 1}, "torch 2.13, n 1"),
        (b"ab", "97, 98"),
    ],
)
def test_values_are_told_for_a_reader(value, text):
    assert cell_text(value) == text


def test_numbers_that_name_things_stay_bare():
    assert cell_text(50256, "token_id") == "50256"
    assert cell_text(20260101, "seed") == "20260101"
    assert cell_text(50256, "n_rows") == "50,256"


def test_elsewhere_than_on_a_terminal_tables_are_plain_and_whole(capsys):
    wide = "x" * 300
    print_table(("name", "n", "effect"), [(wide, 1234, 0.5), ("b", None, -0.25)])
    assert capsys.readouterr().out.splitlines() == [
        f"{'name':300}      n   effect",
        f"{'-' * 300}  -----  -------",
        f"{wide}  1,234   0.5000",
        f"{'b':300}      -  -0.2500",
    ]


def test_a_table_without_rows_has_its_names(capsys):
    print_table(("name", "n"), [])
    assert capsys.readouterr().out == "name  n\n----  -\n"


def test_on_a_terminal_tables_keep_to_its_width_and_take_no_cell_for_markup(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("token", "n"), [("[bold]" + "y" * 60, 1234)])
    out = capsys.readouterr().out
    assert "\x1b[1m" in out  # the names are bold
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "[bold]yyy" in plain
    assert plain.count("y") == 60
    assert "1,234" in plain
    assert max(map(len, plain.splitlines())) <= 40


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (40, [["token_text", "n"], ["the", "1,234"], ["a", "-"]]),
        (12, [["token_text", "the"], ["n", "1,234"], [], ["token_text", "a"], ["n", "-"]]),
    ],
)
def test_records_are_a_table_where_it_fits_and_blocks_where_it_does_not(capsys, monkeypatch, width, lines):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_records(("token_text", "n"), [("the", 1234), ("a", None)])
    printed = re.sub(r"\x1b\[[0-9;]*m|─+", "", capsys.readouterr().out)
    assert [words for words in map(str.split, printed.splitlines()) if words or width < 40] == lines
