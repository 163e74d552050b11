import re

import pytest

from selfrepair.queries.catalog.header import Column, HeaderError, parse_view, split_unit

GOOD = """\
-- Mean of something,
-- for every head.
--
-- Grain: run_id, head
-- Headline: label,
--   depth
-- Paper: section 3
--
-- A first remark
-- over two lines.
--
-- A second one.
--
-- Columns:
--   depth DOUBLE: How deep, from
--     0 to 100 [%]
--   label VARCHAR: Name of the head

SELECT 1
-- a comment in the SQL
"""


def test_every_part_is_read() -> None:
    view = parse_view("some", GOOD)
    assert view.summary == "Mean of something, for every head."
    assert (view.grain, view.paper) == (("run_id", "head"), "section 3")
    assert view.headline == ("label", "depth")
    assert view.notes == ("A first remark over two lines.", "A second one.")
    assert view.columns == {
        "depth": Column("depth", "DOUBLE", "%", "How deep, from 0 to 100"),
        "label": Column("label", "VARCHAR", "", "Name of the head"),
    }
    assert view.sql == "SELECT 1\n-- a comment in the SQL"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-- Mean of something,\n-- for every head.\n", "", "must open with one sentence"),
        ("-- Grain: run_id, head\n", "", "has no line 'Grain: ...'"),
        ("-- Paper: section 3\n", "", "has no line 'Paper: ...'"),
        ("Paper: section 3", "Paper: section 3\n-- Author: me", "'Author:' is given twice or is not one of"),
        ("Paper: section 3", "Grain: head", "'Grain:' is given twice"),
        ("depth DOUBLE: How", "depth: How", "a column reads 'name TYPE: description [unit]', not 'depth: How deep"),
        ("label VARCHAR: Name of the head", "label VARCHAR:", "not 'label VARCHAR:'"),
        ("--   label VARCHAR", "--   depth VARCHAR", "column 'depth' is described twice"),
        ("-- Columns:", "-- Parameters:\n--   x INTEGER: X\n--\n-- Columns:", "a view takes no parameters"),
        ("--   label", "-- label", "indented by two blanks"),
        ("SELECT 1\n-- a comment in the SQL\n", "", "there is no SELECT"),
    ],
)
def test_a_wrong_header_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(HeaderError, match=rf"^views/some\.sql: .*{re.escape(message)}"):
        parse_view("some", GOOD.replace(old, new, 1))


def test_only_a_unit_at_the_end_is_one() -> None:
    assert split_unit("x[0] of it [logits]") == ("x[0] of it", "logits")
    assert split_unit("the slice x[0]") == ("the slice x[0]", "")
