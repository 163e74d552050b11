import polars as pl
import pytest

from selfrepair.queries.cli.text_table import text_table
from selfrepair.warehouse.cli.terminal import plain_lines


def test_numbers_stand_right_and_texts_left() -> None:
    frame = pl.DataFrame({"label": ["L0H1", "L11H10"], "n_rows": [7, None], "effect": [-0.5, 12.25]})
    assert text_table(frame).text.splitlines() == [
        "label   n_rows   effect",
        "------  ------  -------",
        "L0H1         7  -0.5000",
        "L11H10       -  12.2500",
    ]


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ([0.0, -0.00001], ["0", "-1.0e-05"]),
        ([0.0, None], ["0.0000", "-"]),
        ([1.0, -0.00001], ["1.0000", "0.0000"]),
        ([2.3e-5, 1.3e-6], ["2.3e-05", "1.3e-06"]),
        ([1.5e9, 1.0], ["1,500,000,000", "1.000"]),
        ([float("nan"), float("inf"), 0.5], ["nan", "inf", "0.5000"]),
    ],
)
def test_a_column_has_one_format(values: list[float | None], cells: list[str]) -> None:
    lines = text_table(pl.DataFrame({"x": values}, schema={"x": pl.Float64})).text.splitlines()
    assert [line.strip() for line in lines[2:]] == cells


def test_texts_are_one_line_each_and_of_bounded_length() -> None:
    text = text_table(pl.DataFrame({"token": ["\n", "a\tb", "é", "x" * 61, "x" * 60]})).text
    assert [line.rstrip() for line in text.splitlines()[2:]] == ["\\n", "a\\tb", "é", "x" * 59 + "…", "x" * 60]


@pytest.mark.parametrize(("width", "shown"), [(None, 3), (13, 3), (12, 2), (8, 2), (7, 1), (1, 1)])
def test_what_does_not_fit_is_named(width: int | None, shown: int) -> None:
    frame = pl.DataFrame({"aaa": [1], "bbb": [2], "ccc": [3]})
    table = text_table(frame, width)
    assert table.text.splitlines()[0].split() == frame.columns[:shown]
    assert table.left_out == tuple(frame.columns[shown:])


def test_no_rows_is_a_heading() -> None:
    assert text_table(pl.DataFrame({"a": []})).text == "a\n-"


def test_wide_characters_take_two_places() -> None:
    frame = pl.DataFrame({"token": ["日本", "ab"], "effect": [0.5, 1.5]})
    assert text_table(frame).text.splitlines()[2:] == ["日本   0.5000", "ab     1.5000"]
    assert text_table(frame, 5).left_out == ("effect",)


def test_a_heading_of_several_lines_stands_on_the_rule() -> None:
    assert plain_lines(["head", "self-\nrepair"], [["L9H6", "0.25"]], [False, True]) == [
        "       self-",
        "head  repair",
        "----  ------",
        "L9H6    0.25",
    ]
    assert plain_lines(["a"], [["1"]], [True], rule=False) == ["a", "1"]
